"""The one route of arrays, driven through every public function that uses it."""

import array

import numpy as np
import pytest
from hypothesis import given, strategies as st
from numpy.lib.stride_tricks import as_strided

from gradcore import arrays
from gradcore.activations import sigmoid, tanh_backward
from gradcore.softmaxes import softmax

FUNCTIONS = {
    "sigmoid": sigmoid,
    "tanh_backward": lambda x, out=None: tanh_backward(x, x, out=out),
    "softmax": softmax,
}
every_function = pytest.mark.parametrize("f", FUNCTIONS.values(), ids=FUNCTIONS.keys())


def layouts(x):
    """The values of x in every memory layout that NumPy can hand over."""
    n, m = x.shape
    wide = np.empty((2 * n, 3 * m), x.dtype)
    wide[::2, ::3] = x
    record = np.zeros((n, m), np.dtype([("pad", "u1"), ("x", x.dtype)]))
    record["x"] = x
    read_only = x.copy()
    read_only.flags.writeable = False
    return {
        "contiguous": x.copy(),
        "fortran": np.asfortranarray(x),
        "strided": wide[::2, ::3],
        "negative": x[::-1, ::-1].copy()[::-1, ::-1],
        "transposed": x.T.copy().T,
        "misaligned": record["x"],
        "big-endian": x.astype(x.dtype.newbyteorder(">")),
        "read-only": read_only,
    }


LAYOUTS = list(layouts(np.zeros((1, 1))))


@every_function
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_layout_of_the_input_does_not_matter(f, dtype, layout):
    x = np.random.default_rng(1).normal(size=(5, 7)).astype(dtype)
    given = layouts(x)[layout]
    before = given.tobytes()
    result = f(given)
    assert result.dtype == np.dtype(dtype)
    assert result.dtype.isnative
    np.testing.assert_array_equal(result, f(x))
    assert given.tobytes() == before


@every_function
@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name not in ("read-only", "big-endian")])
def test_the_layout_of_the_output_does_not_matter(f, layout):
    x = np.random.default_rng(1).normal(size=(5, 7)).astype("f4")
    out = layouts(np.zeros_like(x))[layout]
    assert f(x, out=out) is out
    np.testing.assert_array_equal(out, f(x))


@every_function
@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name not in ("read-only", "big-endian")])
def test_the_output_may_be_the_input(f, layout):
    x = np.random.default_rng(1).normal(size=(5, 7)).astype("f4")
    given = layouts(x)[layout]
    assert f(given, out=given) is given
    np.testing.assert_array_equal(given, f(x))


def test_the_output_may_be_the_incoming_gradient():
    g, x = np.random.default_rng(1).normal(size=(2, 9))
    expected = tanh_backward(g, x)
    np.testing.assert_array_equal(tanh_backward(g, x, out=g), expected)


@every_function
def test_a_broadcast_input_works(f):
    x = np.broadcast_to(np.float64([[1.0], [2.0]]), (2, 5))
    np.testing.assert_array_equal(f(x), f(x.copy()))


def bad_outputs(x):
    buffer = np.zeros(x.size + 1, x.dtype)
    read_only = np.zeros_like(x)
    read_only.flags.writeable = False
    return {
        "read-only": (read_only, ValueError, "read-only"),
        "dtype": (np.zeros(x.shape, "f4" if x.dtype == "f8" else "f8"), TypeError, "dtype"),
        "byte order": (np.zeros(x.shape, x.dtype.newbyteorder(">")), TypeError, "dtype"),
        "shape": (np.zeros((*x.shape, 1), x.dtype), ValueError, "shape"),
        "self-overlap": (as_strided(buffer, x.shape, (0,) * x.ndim), ValueError, "overlaps itself"),
        "list": ([0.0], TypeError, "NumPy array"),
        "masked": (np.ma.zeros(x.shape, x.dtype), TypeError, "NumPy array"),
    }


@every_function
@pytest.mark.parametrize("case", bad_outputs(np.zeros(3)))
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_an_output_that_cannot_take_the_result_stays_as_it_is(f, case, dtype):
    x = np.ones((3, 4), dtype)
    out, error, match = bad_outputs(x)[case]
    before = bytes(np.ascontiguousarray(out).tobytes())
    with pytest.raises(error, match=match):
        f(x, out=out)
    assert np.ascontiguousarray(out).tobytes() == before
    np.testing.assert_array_equal(x, np.ones((3, 4)))


@every_function
@pytest.mark.parametrize(("source", "target"), [((0, 8), (1, 9)), ((1, 9), (0, 8)), ((0, 8), (7, 15))])
def test_an_output_that_partly_overlaps_the_input_is_refused(f, source, target):
    memory = np.arange(16.0)
    with pytest.raises(ValueError, match="partly overlaps"):
        f(memory[slice(*source)], out=memory[slice(*target)])
    with pytest.raises(ValueError, match="partly overlaps"):
        f(memory[:8], out=memory[7::-1])
    np.testing.assert_array_equal(memory, np.arange(16.0))


def test_interleaved_views_do_not_overlap():
    memory = np.arange(16.0)
    expected = sigmoid(memory[::2])
    np.testing.assert_array_equal(sigmoid(memory[::2], out=memory[1::2]), expected)


@every_function
@pytest.mark.parametrize(
    ("given", "dtype"),
    [
        (np.array([1, 2], "i1"), "f8"),
        (np.array([1, 2], "u8"), "f8"),
        (np.array([True, False]), "f8"),
        ([1, 2], "f8"),
        ([1.0, 2.0], "f8"),
        (array.array("f", [1.0, 2.0]), "f4"),
        (memoryview(array.array("d", [1.0, 2.0])), "f8"),
        (np.float16([1, 2]), "f2"),
    ],
)
def test_what_is_like_an_array_works(f, given, dtype):
    result = f(given)
    assert result.dtype == np.dtype(dtype)
    np.testing.assert_allclose(result, f(np.asarray(given, "f8")), rtol=2e-3)


@every_function
@pytest.mark.parametrize(
    "given",
    [np.array([1j]), np.array(["a"]), np.array([None]), None, b"12", "12", np.array(["2020"], "M8[Y]"), {}],
)
def test_what_is_not_real_is_refused_by_its_dtype(f, given):
    with pytest.raises(TypeError, match=str(np.asarray(given).dtype).replace("[", r"\[")):
        f(given)


@every_function
def test_a_masked_array_does_not_lose_its_mask_silently(f):
    with pytest.raises(TypeError, match="masked"):
        f(np.ma.masked_array([1.0, 2.0], [True, False]))


def test_a_subclass_gives_a_plain_array():
    class Tagged(np.ndarray):
        pass

    assert type(sigmoid(np.zeros(3).view(Tagged))) is np.ndarray


def test_what_an_array_like_raises_passes_through():
    class Broken:
        def __array__(self, dtype=None, copy=None):
            raise RuntimeError("lost")

    with pytest.raises(RuntimeError, match="lost"):
        sigmoid(Broken())


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (0, 5), (1,), (2, 1, 3)])
def test_every_shape_keeps_its_shape(shape):
    x = np.zeros(shape)
    assert sigmoid(x).shape == shape
    assert np.all(sigmoid(x) == 0.5)
    out = np.empty(shape)
    assert sigmoid(x, out=out) is out
    assert np.all(out == 0.5)


def test_a_number_gives_a_number():
    assert sigmoid(0) == 0.5
    assert isinstance(sigmoid(0.0), np.float64)
    assert isinstance(sigmoid(np.float32(0)), np.float32)


@pytest.mark.parametrize("n", [*range(1, 66), 1000])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_every_size_around_the_vector_width_at_every_offset(n, dtype):
    whole = np.random.default_rng(n).normal(size=n + 16).astype(dtype)
    expected = (1 / (1 + np.exp(-whole.astype("f8")))).astype(dtype)
    for start in range(0, 17, 1 if n < 20 else 5):
        out = np.full(n + 16, 7, dtype)
        sigmoid(whole[start : start + n], out=out[start : start + n])
        tolerance = 4 * np.finfo(dtype).eps
        np.testing.assert_allclose(out[start : start + n], expected[start : start + n], rtol=tolerance)
        assert np.all(out[:start] == 7)
        assert np.all(out[start + n :] == 7)


def test_backward_needs_one_shape_and_finds_one_dtype():
    with pytest.raises(ValueError, match=r"grad_output has shape \(2,\), x has \(3,\)"):
        tanh_backward(np.zeros(2), np.zeros(3))
    with pytest.raises(TypeError, match="grad_output"):
        tanh_backward(np.array(["a"]), np.zeros(1))
    assert tanh_backward(np.zeros(2, "f4"), np.zeros(2, "f8")).dtype == np.float64
    assert tanh_backward(np.zeros(2, "f2"), np.zeros(2, "f4")).dtype == np.float32


@st.composite
def views(draw):
    """Two random views of one small block of memory, and which elements each covers."""
    memory = np.arange(60.0)
    pair = []
    for _ in range(2):
        view = memory.reshape(draw(st.sampled_from([(60,), (6, 10), (3, 4, 5)])))
        for axis in range(view.ndim):
            start = draw(st.integers(0, view.shape[axis] - 1))
            step = draw(st.sampled_from([1, 2, 3, -1, -2]))
            view = view[(slice(None),) * axis + (slice(start, None, step),)]
        pair.append(view.transpose(draw(st.permutations(range(view.ndim)))))
    return pair


@given(views())
def test_overlap_is_sharing_an_element(pair):
    a, b = pair
    assert arrays.overlaps(a, b) == bool(set(a.ravel()) & set(b.ravel()))
    assert not arrays.overlaps_itself(a)
    low, high = arrays.memory_bounds(a)
    start = a.base.__array_interface__["data"][0]
    assert low == start + 8 * a.min()
    assert high == start + 8 * a.max() + 8
