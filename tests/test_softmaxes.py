import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp

from gradcore.softmaxes import softmax

INF, NAN = np.inf, np.nan
every_dtype = pytest.mark.parametrize("dtype", ["f4", "f8"])


VALUES = [0.0, -0.0, 1.0, 1000.0, -1000.0, 1e38, -1e38, 1e-45]


@pytest.mark.parametrize("n", [1, 2, 3, 7, 8, 16, 100])
@pytest.mark.parametrize(
    ("dtype", "value"), [("f4", v) for v in VALUES] + [("f8", v) for v in [*VALUES, 1e308, -1e308]]
)
def test_equal_entries_share_equally_whatever_their_value(dtype, n, value):
    result = softmax(np.full((3, n), value, dtype))
    np.testing.assert_array_equal(result, np.full((3, n), np.dtype(dtype).type(1) / n, dtype))


@every_dtype
def test_far_apart_entries_neither_overflow_nor_warn(dtype):
    np.testing.assert_array_equal(softmax(np.array([1000, 0, -1000], dtype)), [1, 0, 0])
    np.testing.assert_array_equal(softmax(np.array([1e38, 3e38], dtype)), [0, 1])
    np.testing.assert_array_equal(softmax(np.array([-3e38, 3e38], dtype)), [0, 1])


@every_dtype
@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ([-INF, 0, 0], [0, 0.5, 0.5]),
        ([-INF, -INF, 5], [0, 0, 1]),
        ([INF, 0, -INF], [1, 0, 0]),
        ([INF, 0, INF], [0.5, 0, 0.5]),
        ([-INF, -INF, -INF], [NAN] * 3),
        ([NAN, 0, 1], [NAN] * 3),
        ([0, INF, NAN], [NAN] * 3),
    ],
)
def test_infinities_and_nan_stay_in_their_row(dtype, row, expected):
    rows = np.array([[0, 0, 0], row, [1, 1, 1]], dtype)
    third = np.dtype(dtype).type(1) / 3
    np.testing.assert_array_equal(softmax(rows), np.array([[third] * 3, expected, [third] * 3], dtype))
    np.testing.assert_array_equal(softmax(rows.T, axis=0), softmax(rows).T)


@every_dtype
@given(data=st.data())
def test_probabilities(dtype, data):
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=3, max_side=6))
    width = 32 if dtype == "f4" else 64
    x = data.draw(hnp.arrays(dtype, shape, elements=st.floats(-1e4, 1e4, width=width)))
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    y = softmax(x, axis)
    wide = x.astype("f8")
    e = np.exp(wide - wide.max(axis=axis, keepdims=True))
    # rounding x - max costs up to eps times the distance, which is at most 150 where the result is not tiny
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(y, e / e.sum(axis=axis, keepdims=True), rtol=120 * eps, atol=2e-38)
    np.testing.assert_allclose(y.sum(axis=axis), 1, rtol=8 * eps)
    assert y.dtype == x.dtype


@every_dtype
@given(shift=st.integers(-1000, 1000), row=st.lists(st.integers(-50, 50), min_size=1, max_size=20))
def test_an_exact_shift_changes_nothing(dtype, shift, row):
    x = np.array(row, dtype)
    np.testing.assert_array_equal(softmax(x + np.array(shift, dtype)), softmax(x))


def test_axes():
    x = np.random.default_rng(0).normal(size=(2, 3, 4))
    for axis in (0, 1, 2, -1, -3):
        np.testing.assert_allclose(softmax(x, axis).sum(axis=axis), 1)
        expected = np.apply_along_axis(softmax, axis, x)
        np.testing.assert_array_equal(softmax(x, axis=axis), expected)
        out = np.empty_like(x)
        assert softmax(x, axis, out=out) is out
        np.testing.assert_array_equal(out, expected)
        inside = x.copy()
        softmax(inside, axis, out=inside)
        np.testing.assert_array_equal(inside, expected)
    for axis in (3, -4):
        with pytest.raises(np.exceptions.AxisError):
            softmax(x, axis)
    for axis in (None, 0.0, True, (0, 1)):
        with pytest.raises(TypeError, match="axis"):
            softmax(x, axis)


def test_a_number_has_no_axis():
    with pytest.raises(np.exceptions.AxisError):
        softmax(1.0)


@pytest.mark.parametrize("shape", [(3, 0), (0, 5), (0,), (2, 0, 3)])
def test_empty_arrays_give_empty_arrays(shape):
    for axis in range(len(shape)):
        assert softmax(np.zeros(shape, "f4"), axis).shape == shape


def test_an_axis_of_one_is_certain():
    np.testing.assert_array_equal(softmax([[5.0], [-1e300], [0.0]]), 1)


def test_other_dtypes():
    assert softmax([1, 2]).dtype == np.float64
    assert softmax([True, False]).dtype == np.float64
    half = softmax(np.float16([60000, 60000, -60000]))
    assert half.dtype == np.float16
    np.testing.assert_array_equal(half, [0.5, 0.5, 0])
