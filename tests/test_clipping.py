import math
import warnings

import numpy as np
import pytest
from hypothesis import example, given, strategies as st

from gradcore.clipping import clip_grad_adaptive_, clip_grad_norm_, clip_grad_value_, grad_norm
from gradcore.errors import GradcoreWarning

every_dtype = pytest.mark.parametrize("dtype", ["f4", "f8"])
NAN, INF = math.nan, math.inf


def gradients(dtype="f4", seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype(dtype) for shape in [(4, 3), (4,), (0,), (), (2, 3, 5)]]


def norm_of(arrays, p=2.0):
    flat = np.concatenate([np.ravel(a).astype("f8") for a in arrays])
    return float(np.linalg.norm(flat, p))


@every_dtype
@pytest.mark.parametrize("p", [1, 2, 3.5, 0.5, INF, "inf"])
def test_scaling_to_the_limit(dtype, p):
    grads = gradients(dtype)
    before = [g.copy() for g in grads]
    norm = norm_of(before, float(p))
    limit = norm / 3
    assert clip_grad_norm_(grads, limit, p) == pytest.approx(norm, rel=1e-12)
    after = norm_of(grads, float(p))
    eps = np.finfo(dtype).eps
    assert limit * (1 - 4 * eps) <= after <= limit * (1 + 1e-15)
    for g, b in zip(grads, before, strict=True):
        np.testing.assert_allclose(g, b / 3, rtol=4 * eps)


@every_dtype
def test_a_norm_up_to_the_limit_changes_no_bit(dtype):
    grads = gradients(dtype)
    before = [g.tobytes() for g in grads]
    norm = grad_norm(grads)
    for limit in (norm, 2 * norm, INF):
        assert clip_grad_norm_(grads, limit) == norm
        assert [g.tobytes() for g in grads] == before


@every_dtype
@given(seed=st.integers(0, 10_000), exponent=st.integers(-12, 12), share=st.floats(0.001, 0.999))
@example(seed=12, exponent=11, share=0.3567167690043158)
def test_clipping_twice_is_clipping_once(dtype, seed, exponent, share):
    grads = gradients(dtype, seed)
    for g in grads:
        g *= 10.0**exponent
    limit = share * grad_norm(grads)
    clip_grad_norm_(grads, limit)
    once = [g.tobytes() for g in grads]
    assert grad_norm(grads) <= limit
    clip_grad_norm_(grads, limit)
    assert [g.tobytes() for g in grads] == once


@every_dtype
def test_the_limit_holds_for_a_million_elements(dtype):
    g = np.random.default_rng(0).normal(size=1_000_000).astype(dtype)
    clip_grad_norm_(g, 1.0)
    norm = math.sqrt(math.fsum(g.astype("f8") ** 2))  # exact: a BLAS loses more digits than are allowed here
    assert 1 - 4 * np.finfo(dtype).eps <= norm <= 1 + 1e-14


@pytest.mark.parametrize(
    ("dtype", "values", "limit"),
    [
        ("f4", [1e20, 1e20], 1.0),
        ("f4", [3e38, -3e38, 3e38], 2.0),
        ("f4", [1e-30, 1e-30], 1e-31),
        ("f4", [1e30, 1e30], 1e-20),
        ("f8", [1e200, 1e200], 1.0),
        ("f8", [1e-200, 3e-200], 1e-201),
        ("f8", [1e300, 2e300], 1e-300),
        ("f8", [1.7e308, 1.7e308, 1e300], 1.0),
        ("f8", [1.7e308, 1.7e308], 1.5e308),
    ],
)
def test_extremes_keep_their_direction_and_never_become_zero(dtype, values, limit):
    g = np.array(values, dtype)
    exact = np.longdouble(g)
    norm = np.sqrt(np.sum((exact / abs(exact).max()) ** 2)) * abs(exact).max()
    with np.errstate(over="ignore"):
        assert clip_grad_norm_(g, limit) == pytest.approx(float(norm), rel=1e-14)
    np.testing.assert_allclose(np.longdouble(g), exact / norm * limit, rtol=float(4 * np.finfo(dtype).eps))


@every_dtype
@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_a_gradient_that_is_not_finite_is_named_and_nothing_is_changed(dtype, bad):
    grads = gradients(dtype)
    grads[4][1, 2, 3] = bad
    before = [g.tobytes() for g in grads]
    with pytest.warns(GradcoreWarning, match=r"gradient 4 is -?(nan|inf) at index \(1, 2, 3\)"):
        norm = clip_grad_norm_(grads, 1.0)
    assert not math.isfinite(norm)
    assert math.isnan(norm) == math.isnan(bad)
    with pytest.raises(ValueError, match=r"gradient 4 is -?(nan|inf) at index \(1, 2, 3\)"):
        clip_grad_norm_(grads, 1.0, error_if_nonfinite=True)
    assert [g.tobytes() for g in grads] == before


def test_a_mapping_names_its_gradients():
    grads = {"0.weight": np.ones((2, 2)), "0.bias": np.array([NAN])}
    with pytest.warns(GradcoreWarning, match=r"gradient '0.bias' is nan at index \(0,\)"):
        clip_grad_norm_(grads, 1.0)
    grads["0.bias"][0] = 0
    assert clip_grad_norm_(grads, 1.0) == 2
    np.testing.assert_allclose(grads["0.weight"], 0.5)


def test_zero_limit_makes_zeros():
    g = np.array([3.0, -4.0])
    assert clip_grad_norm_(g, 0) == 5
    np.testing.assert_array_equal(g, 0)


@pytest.mark.parametrize("max_norm", [-1, NAN, -INF])
def test_a_limit_that_cannot_be(max_norm):
    g = np.array([3.0, 4.0])
    with pytest.raises(ValueError, match="max_norm"):
        clip_grad_norm_(g, max_norm)
    with pytest.raises(ValueError, match="clip_value"):
        clip_grad_value_(g, max_norm)
    np.testing.assert_array_equal(g, [3, 4])


@pytest.mark.parametrize("p", [0, -1, NAN, -INF])
def test_a_norm_type_that_cannot_be(p):
    with pytest.raises(ValueError, match="norm_type"):
        grad_norm(np.ones(2), p)


@pytest.mark.parametrize("p", ["two", None])
def test_a_norm_type_that_is_no_number(p):
    with pytest.raises(TypeError, match="norm_type"):
        grad_norm(np.ones(2), p)


def test_one_array_and_one_listing_of_a_generator():
    g = np.array([3.0, 4.0])
    assert clip_grad_norm_(g, 1.0) == 5
    grads = gradients()
    listed = []
    clip_grad_norm_((listed.append(i) or g for i, g in enumerate(grads)), 0.5)
    assert listed == [0, 1, 2, 3, 4]
    assert norm_of(grads) == pytest.approx(0.5, rel=1e-6)


@pytest.mark.parametrize("grads", [[], iter([]), [None, None], {}])
def test_no_gradient_is_zero_with_a_warning(grads):
    with pytest.warns(GradcoreWarning, match="no gradient"):
        assert clip_grad_norm_(grads, 1.0) == 0.0


def test_empty_arrays_are_gradients_of_norm_zero():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert clip_grad_norm_([np.zeros((0, 3)), np.zeros(0, "f4")], 1.0) == 0.0


def test_none_is_skipped():
    g = np.array([3.0, 4.0])
    assert clip_grad_norm_([None, g, None], 1.0) == 5


def test_an_array_listed_twice_counts_once():
    g = np.array([3.0, 4.0])
    assert clip_grad_norm_([g, g, g[:]], 1.0) == 5
    np.testing.assert_allclose(g, [0.6, 0.8])
    assert grad_norm([g, g]) == pytest.approx(1)


@pytest.mark.parametrize(
    "pick",
    [
        lambda m: (m[:6], m[4:]),
        lambda m: (m, m[::-1]),
        lambda m: (m[:4].reshape(2, 2), m[:4]),
        lambda m: (m[2:3], m),
    ],
)
def test_views_that_overlap_are_refused(pick):
    memory = np.arange(8.0)
    with pytest.raises(ValueError, match="overlap"):
        clip_grad_norm_(list(pick(memory)), 1.0)
    with pytest.raises(ValueError, match="overlap"):
        clip_grad_value_(pick(memory), 1.0)
    np.testing.assert_array_equal(memory, np.arange(8.0))


def test_views_of_one_block_that_do_not_overlap_work():
    memory = np.arange(12.0)
    expected = memory / np.linalg.norm(memory)
    clip_grad_norm_([memory[4:8], memory[::2][4:], memory[:4], memory[9::2]], 1.0)
    np.testing.assert_allclose(memory, expected)


def test_one_read_only_array_among_ten_stops_all():
    grads = [np.full(3, 10.0) for _ in range(10)]
    grads[6].flags.writeable = False
    with pytest.raises(ValueError, match="gradient 6 is read-only"):
        clip_grad_norm_(grads, 1.0)
    with pytest.raises(ValueError, match="gradient 6 is read-only"):
        clip_grad_value_(grads, 1.0)
    assert all((g == 10).all() for g in grads)
    assert grad_norm(grads) == pytest.approx(10 * math.sqrt(30))


@pytest.mark.parametrize(
    "wrong", [np.ones(2, int), [1.0, 2.0], "ab", np.ma.ones(2), np.ones(2, complex), 3.0]
)
def test_what_is_not_a_gradient_stops_all(wrong):
    g = np.array([3.0, 4.0])
    with pytest.raises(TypeError, match="gradient 1"):
        clip_grad_norm_([g, wrong], 1.0)
    np.testing.assert_array_equal(g, [3, 4])


def test_neither_an_array_nor_a_list():
    with pytest.raises(TypeError, match="iterable of arrays"):
        clip_grad_norm_(3.0, 1.0)


def every_layout(dtype):
    base = np.random.default_rng(5).normal(size=(4, 6)).astype(dtype)
    wide = np.zeros((8, 12), dtype)
    record = np.zeros((4, 6), np.dtype([("pad", "u1"), ("x", dtype)]))
    for view in (
        base.copy(), np.asfortranarray(base), wide[::2, ::-2], record["x"],
        base.astype(np.dtype(dtype).newbyteorder(">")), base.T.copy().T[::-1],
    ):  # fmt: skip
        view[...] = base
        yield view


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
@pytest.mark.parametrize("layout", range(6))
def test_every_layout_and_dtype(dtype, layout):
    g = [*every_layout(dtype)][layout]
    plain = g.astype(dtype)
    assert grad_norm(g) == pytest.approx(norm_of([plain]), rel=1e-12)
    clip_grad_norm_(g, 1.0)
    clip_grad_norm_(plain, 1.0)
    np.testing.assert_allclose(g, plain, rtol=4 * float(np.finfo(dtype).eps))
    assert norm_of([g]) <= 1
    clip_grad_value_(g, 0.1)
    np.testing.assert_array_equal(g, np.clip(g, -0.1, 0.1))


def test_mixed_dtypes_and_layouts_share_one_norm():
    grads = [np.full((2, 3), 2, "f4"), np.full((3, 2), 3, "f8").T, np.full(4, 1, "f2")]
    norm = math.sqrt(6 * 4 + 6 * 9 + 4)
    assert clip_grad_norm_(grads, 1.0) == pytest.approx(norm, rel=1e-14)
    np.testing.assert_allclose(grads[1], 3 / norm, rtol=1e-6)
    np.testing.assert_allclose(grads[2], 1 / norm, rtol=1e-2)
    assert norm_of(grads) <= 1


@every_dtype
def test_clipping_by_value(dtype):
    g = np.array([NAN, INF, -INF, 5, -5, 1, -1, 0.25, 0, -0.0], dtype)
    assert clip_grad_value_(g, 1.0) is None
    np.testing.assert_array_equal(g, np.array([NAN, 1, -1, 1, -1, 1, -1, 0.25, 0, -0.0], dtype))
    before = g.tobytes()
    clip_grad_value_(g, INF)
    assert g.tobytes() == before
    clip_grad_value_(g, 0)
    np.testing.assert_array_equal(g, [NAN] + [0] * 9)


def test_a_value_beyond_the_dtype_is_its_largest():
    for dtype in ("f2", "f4"):
        g = np.array([INF, -INF, 1], dtype)
        clip_grad_value_(g, 1e300)
        np.testing.assert_array_equal(g, [np.finfo(dtype).max, np.finfo(dtype).min, 1])


def test_agreement_with_pytorch():
    torch = pytest.importorskip("torch")
    grads = gradients("f8")
    tensors = [torch.nn.Parameter(torch.zeros(g.shape, dtype=torch.float64)) for g in grads]
    for t, g in zip(tensors, grads, strict=True):
        t.grad = torch.tensor(g.copy())
    assert clip_grad_norm_(grads, 1.0) == pytest.approx(
        float(torch.nn.utils.clip_grad_norm_(tensors, 1.0)), rel=1e-12
    )
    for t, g in zip(tensors, grads, strict=True):
        np.testing.assert_allclose(g, t.grad.numpy(), rtol=1e-6)  # PyTorch adds 1e-6 to the norm


# --- adaptive


def adaptive(g, w, factor=0.01, eps=1e-3):
    """What the paper says, one unit after the other, in float64; and the number of clipped units."""
    result, count = g.astype("f8"), 0
    for row, weights in zip(
        result.reshape(len(g) if g.ndim > 1 else 1, -1),
        w.astype("f8").reshape(len(g) if g.ndim > 1 else 1, -1),
        strict=True,
    ):
        bound, norm = factor * max(np.linalg.norm(weights), eps), np.linalg.norm(row)
        if norm > bound:
            row *= bound / norm
            count += 1
    return result, count


@every_dtype
@pytest.mark.parametrize("shape", [(40, 7), (40,), (), (1, 5), (5, 1), (6, 2, 3)])
def test_each_unit_has_its_own_bound(dtype, shape):
    rng = np.random.default_rng(1)
    g = np.asarray(10.0 ** rng.uniform(-6, 2, shape) * rng.choice([-1, 1], shape), dtype)
    w = np.asarray(rng.normal(size=shape) * 10.0 ** rng.uniform(-6, 2, shape), dtype)
    before = g.copy()
    expected, count = adaptive(g, w, 0.3)
    assert clip_grad_adaptive_(g, w, 0.3) == count
    np.testing.assert_allclose(g, expected, rtol=8 * np.finfo(dtype).eps)
    if shape == (40, 7):
        assert 0 < count < 40
        kept = np.linalg.norm(before, axis=1) <= 0.3 * np.maximum(np.linalg.norm(w, axis=1), 1e-3)
        assert g[kept].tobytes() == before[kept].tobytes()


@every_dtype
@given(seed=st.integers(0, 10_000), exponent=st.integers(-4, 12), factor=st.floats(1e-3, 10))
def test_adaptive_clipping_twice_is_clipping_once(dtype, seed, exponent, factor):
    grads, params = gradients(dtype, seed), gradients(dtype, seed + 1)
    for g in grads:
        g *= 10.0**exponent
    clip_grad_adaptive_(grads, params, factor)
    once = [g.tobytes() for g in grads]
    assert clip_grad_adaptive_(grads, params, factor) == 0
    assert [g.tobytes() for g in grads] == once


def test_parameters_of_zero_can_begin():
    g = np.array([3.0, 4.0])
    assert clip_grad_adaptive_(g, np.zeros(2), 0.1, eps=0.5) == 1
    np.testing.assert_allclose(g, [0.03, 0.04])


@pytest.mark.parametrize(
    ("dtype", "g", "w"),
    [
        ("f4", [3e38, 3e38], [1e-30, 1e-30]),
        ("f8", [1.7e308, 1.7e308], [1.0, 1.0]),
        ("f8", [1.7e308, 1e300], [1e200, 1e-300]),
        ("f8", [1e-200, 3e-200], [1e-250, 0.0]),
        ("f8", [1e300, 1e300], [1.7e308, 1.7e308]),
    ],
)
def test_adaptive_clipping_of_extremes(dtype, g, w):
    wide_g, wide_w = np.array(g, np.longdouble), np.array(w, np.longdouble)
    bound = np.longdouble(0.01) * max(np.sqrt((wide_w**2).sum()), np.longdouble(1e-3))
    norm = np.sqrt((wide_g**2).sum())
    got = np.array(g, dtype)
    assert clip_grad_adaptive_(got, np.array(w, dtype)) == int(norm > bound)
    np.testing.assert_allclose(got, wide_g * min(1, bound / norm), rtol=float(8 * np.finfo(dtype).eps))


@every_dtype
@pytest.mark.parametrize("bad", [NAN, INF, -INF])
@pytest.mark.parametrize("where", ["gradient", "parameter"])
def test_adaptive_clipping_changes_nothing_where_something_is_not_finite(dtype, bad, where):
    grads, params = gradients(dtype), gradients(dtype, 1)
    (grads if where == "gradient" else params)[4][1, 2, 3] = bad
    before = [g.tobytes() for g in grads]
    named = rf"{where} 4 is -?(nan|inf) at index \(1, 2, 3\); no gradient was changed"
    with pytest.warns(GradcoreWarning, match=named):
        assert clip_grad_adaptive_(grads, params, 1e-6) == 0
    with pytest.raises(ValueError, match=named):
        clip_grad_adaptive_(grads, params, 1e-6, error_if_nonfinite=True)
    assert [g.tobytes() for g in grads] == before


ROWS, COLUMN = np.full((2, 3), 5.0), np.full(2, 5.0)


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ([ROWS], ValueError, "2 gradients but 1 parameters"),
        ([ROWS, COLUMN, COLUMN], ValueError, "2 gradients but 3 parameters"),
        ([ROWS, COLUMN[:1]], ValueError, r"parameter 1 has shape \(1,\), its gradient \(2,\)"),
        ([ROWS, [5.0, 5.0]], TypeError, "parameter 1 must be a NumPy array"),
        ([ROWS, COLUMN.astype(int)], TypeError, "parameter 1 must hold float"),
        (ROWS, TypeError, "single array"),
        ({"a": ROWS, "b": COLUMN}, TypeError, "single mapping"),
        (5.0, TypeError, "params must be an array"),
    ],
)
def test_gradients_and_parameters_that_do_not_match(params, error, message):
    grads = [ROWS.copy(), COLUMN.copy()]
    with pytest.raises(error, match=message):
        clip_grad_adaptive_(grads, params, 1e-6)
    assert all((g == 5).all() for g in grads)


def test_a_mapping_pairs_by_name():
    grads = {"b": COLUMN.copy(), "a": ROWS.copy(), "c": None}
    assert clip_grad_adaptive_(grads, {"a": 1e6 * ROWS, "b": COLUMN, "d": ROWS}, 0.1) == 1
    np.testing.assert_allclose(grads["b"], 0.5)
    np.testing.assert_array_equal(grads["a"], 5)
    with pytest.raises(ValueError, match="params has nothing under 'b'"):
        clip_grad_adaptive_(grads, {"a": ROWS})


def test_generators_none_and_arrays_listed_twice():
    g = np.array([3.0, 4.0])
    grads, params = (x for x in [None, g, g]), (x for x in ["not looked at", g.copy(), g.copy()])
    assert clip_grad_adaptive_(grads, params, 0.1) == 1
    np.testing.assert_allclose(g, [0.3, 0.4])
    with pytest.warns(GradcoreWarning, match="no gradient"):
        assert clip_grad_adaptive_([], []) == 0
    assert (
        clip_grad_adaptive_([np.zeros((0, 3)), np.zeros((3, 0))], [np.zeros((0, 3)), np.zeros((3, 0))]) == 0
    )


def test_parameters_are_only_read():
    w = np.full((2, 3), 5.0)
    w.flags.writeable = False
    g = w.copy()
    assert clip_grad_adaptive_(g, w) == 2
    with pytest.raises(ValueError, match="the gradient is read-only"):
        clip_grad_adaptive_(w, w)


@pytest.mark.parametrize("bad", [-1, NAN, -INF, 0])
def test_factors_that_cannot_be(bad):
    g = np.array([3.0, 4.0])
    if bad:
        with pytest.raises(ValueError, match="clip_factor"):
            clip_grad_adaptive_(g, g.copy(), bad)
    with pytest.raises(ValueError, match="eps"):
        clip_grad_adaptive_(g, g.copy(), eps=bad)
    np.testing.assert_array_equal(g, [3, 4])
    assert clip_grad_adaptive_(g, g.copy(), INF) == 0
    assert clip_grad_adaptive_(g, g.copy(), 0) == 1
    np.testing.assert_array_equal(g, 0)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
@pytest.mark.parametrize("layout", range(6))
def test_adaptive_clipping_of_every_layout_and_dtype(dtype, layout):
    g = [*every_layout(dtype)][layout]
    plain, w = g.astype(dtype), np.asfortranarray(np.random.default_rng(6).normal(size=g.shape))
    assert clip_grad_adaptive_(g, w, 0.8) == clip_grad_adaptive_(plain, w, 0.8)
    assert plain.astype("f8").tolist() == g.astype("f8").tolist()
    np.testing.assert_allclose(
        g, adaptive(next(every_layout(dtype)), w, 0.8)[0], rtol=8 * float(np.finfo(dtype).eps)
    )
