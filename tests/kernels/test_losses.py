"""Softmax and the losses: against their twins in longer precision, where the exact answer is known, at infinity."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from gradcore import kernels
from gradcore.kernels import reference


def widths(dtype):
    """Columns on both sides of the register and the panel."""
    tile = kernels.tile_width(dtype)
    return [1, 2, tile // 2, tile // 2 + 1, tile - 1, tile, tile + 1, 2 * tile, 3 * tile + 2]


def draw(rng, dtype, rows, columns, scale=4.0):
    return (scale * rng.standard_normal((rows, columns))).astype(dtype)


def softmax(x):
    return kernels.softmax(x, np.full_like(x, 7))


def run(loss, output, target, scale=1.0, parameter=0.0, weights=None):
    """Losses and gradient; the losses do not depend on whether the gradient is asked for."""
    losses, again, grad = np.empty(len(output)), np.empty(len(output)), np.full_like(output, 7)
    how = {"parameter": parameter, "weights": weights}
    kernels.row_losses(kernels.LOSS_CODES[loss], output, target, losses, grad, scale, **how)
    kernels.row_losses(kernels.LOSS_CODES[loss], output, target, again, None, scale, **how)
    assert_array_equal(losses, again)
    return losses, grad


def twin(loss, output, target, scale=1.0, parameter=0.0, weights=None):
    losses, grad = np.empty(len(output)), np.empty(output.shape, np.longdouble)
    exact = target if np.ndim(target) == 1 else target.astype(np.longdouble)
    reference.row_losses(
        kernels.LOSS_CODES[loss], output.astype(np.longdouble), exact, losses, grad, scale, parameter=parameter,
        weights=weights,
    )  # fmt: skip
    return losses, grad


# --- softmax ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 8, 19])
def test_softmax(rng, dtype, rows):
    for columns in widths(dtype):
        x = draw(rng, dtype, rows, columns)
        exact = reference.softmax(x.astype(np.longdouble), np.empty(x.shape, np.longdouble))
        # x - max is rounded, and e^(d + error) is off by that error
        distance = x.max(axis=1, keepdims=True) - x
        assert np.all(np.abs(softmax(x) - exact) <= np.finfo(dtype).eps * (3 + distance) * exact)


@pytest.mark.parametrize("size", ["zero", "one", "max", "-max", "subnormal"])
def test_softmax_of_equal_entries_is_one_over_n(dtype, size):
    finfo = np.finfo(dtype)
    value = {"zero": 0, "one": 1, "max": finfo.max, "-max": finfo.min, "subnormal": finfo.smallest_subnormal}[
        size
    ]
    for columns in [*widths(dtype), 1000]:
        got = softmax(np.full((3, columns), value, dtype))
        assert_array_equal(got, np.full((3, columns), dtype.type(1) / dtype.type(columns)))


@pytest.mark.parametrize("padding", [0, 40])
def test_softmax_of_infinite_entries(dtype, padding):
    inf, nan = np.inf, np.nan
    rows = {
        (-inf, 0, 0): (0, 0.5, 0.5),
        (inf, 0, inf): (0.5, 0, 0.5),
        (inf, -inf, 0): (1, 0, 0),
        (-inf, -inf, -inf): (nan, nan, nan),
        (1, nan, 2): (nan, nan, nan),
        (inf, nan, -inf): (nan, nan, nan),
        (np.finfo(dtype).max, np.finfo(dtype).min, -inf): (1, 0, 0),
    }
    x = np.full((len(rows), padding + 3), -inf, dtype)
    x[:, padding:] = list(rows)
    want = np.zeros_like(x)
    want[:, padding:] = list(rows.values())
    want[np.isnan(want).any(axis=1)] = nan
    assert_array_equal(softmax(x), want)
    assert_array_equal(softmax(x[:, ::-1].copy()), want[:, ::-1])


def test_softmax_far_below_the_maximum_keeps_subnormal_results(dtype):
    smallest = np.log(np.finfo(dtype).smallest_subnormal)
    got = softmax(np.array([[0, smallest + 2, smallest - 5]], dtype))
    assert_array_equal(got > 0, [[True, True, False]])


def test_softmax_in_place(rng, dtype):
    x = draw(rng, dtype, 9, 37)
    want = softmax(x)
    assert kernels.softmax(x, x) is x
    assert_array_equal(x, want)


def test_softmax_backward(rng, dtype):
    for columns in widths(dtype):
        y, d_y = softmax(draw(rng, dtype, 11, columns)), draw(rng, dtype, 11, columns)
        exact = reference.softmax_backward(y.astype(np.longdouble), d_y, np.empty(y.shape, np.longdouble))
        got = kernels.softmax_backward(y, d_y, np.empty_like(y))
        assert np.all(
            np.abs(got - exact) <= 3 * np.finfo(dtype).eps * y * np.abs(d_y).max(axis=1, keepdims=True)
        )
        assert kernels.softmax_backward(y, d_y, d_y) is d_y
        assert_array_equal(d_y, got)


def test_softmax_backward_keeps_nan_in_its_row(rng, dtype):
    y, d_y = softmax(draw(rng, dtype, 10, 21)), draw(rng, dtype, 10, 21)
    d_y[4, 20] = np.nan
    got = kernels.softmax_backward(y, d_y, np.empty_like(y))
    assert_array_equal(np.isnan(got).all(axis=1), np.arange(10) == 4)
    assert np.isfinite(np.delete(got, 4, axis=0)).all()


# --- cross-entropy ----------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1.0, 1 / 3])
def test_cross_entropy(rng, dtype, scale):
    eps = np.finfo(dtype).eps
    for columns in widths(dtype):
        x, labels = draw(rng, dtype, 19, columns), rng.integers(0, columns, 19)
        losses, grad = run("cross_entropy", x, labels, scale)
        exact, exact_grad = twin("cross_entropy", x, labels, scale)
        assert_allclose(losses, exact, rtol=4 * eps, atol=4 * eps)
        assert_allclose(grad, exact_grad, rtol=32 * eps, atol=eps * scale)
        assert_allclose(grad.sum(axis=1, dtype=np.longdouble), 0, atol=2 * columns**0.5 * eps)


@pytest.mark.parametrize("columns", [3, 40])
def test_cross_entropy_far_from_the_label(dtype, columns):
    x = np.full((3, columns), -np.inf, dtype)
    x[0, [0, -1]] = 0, 1e4
    x[1, [0, -1]] = np.finfo(dtype).min / 4, np.finfo(dtype).max / 4
    x[2, [0, -1]] = -1e4, 0
    losses, grad = run("cross_entropy", x, np.array([0, 0, columns - 1]))
    assert_array_equal(losses, [1e4, float(np.finfo(dtype).max) / 2, 0])
    assert_array_equal(grad[:2, 0], [-1, -1])
    assert_array_equal(grad[:2, -1], [1, 1])


def test_cross_entropy_gradient_of_a_certain_label():
    # p rounds to 1 in float32; p - 1 does not round to 0
    _, grad = run("cross_entropy", np.array([[0, 20]], "f4"), np.array([1]))
    assert_allclose(grad, [[np.exp(-20), -np.exp(-20)]], rtol=1e-6)


def test_cross_entropy_at_infinity(dtype):
    inf, nan = np.inf, np.nan
    x = np.array(
        [[inf, 0, inf], [inf, 0, 1], [0, -inf, 0], [-inf, -inf, -inf], [0, nan, 1], [0, 1, 2]], dtype
    )
    losses, grad = run("cross_entropy", x, np.array([0, 1, 1, 1, 0, 2]))
    assert_allclose(
        losses, [np.log(2), inf, inf, nan, nan, twin("cross_entropy", x[5:], np.array([2]))[0][0]], rtol=1e-6
    )
    assert_array_equal(grad[:3], [[-0.5, 0, 0.5], [1, -1, 0], [0.5, -1, 0.5]])
    assert_array_equal(np.isnan(grad).any(axis=1), [0, 0, 0, 1, 1, 0])


# --- binary cross-entropy and squared error -----------------------------------------------------------


@pytest.mark.parametrize("scale", [1.0, 1 / 3])
def test_binary_cross_entropy(rng, dtype, scale):
    eps = np.finfo(dtype).eps
    for columns in widths(dtype):
        z, t = draw(rng, dtype, 19, columns, 6), rng.random((19, columns)).astype(dtype)
        t[::2] = t[::2] > 0.5
        losses, grad = run("binary_cross_entropy", z, t, scale)
        exact, exact_grad = twin("binary_cross_entropy", z, t, scale)
        assert_allclose(losses, exact, rtol=4 * eps, atol=1e-14)  # the twin subtracts z t from z
        assert_allclose(grad, exact_grad, rtol=4 * eps, atol=2 * eps * scale)


def test_binary_cross_entropy_of_the_certain(dtype):
    z = np.array([[30, -30, 1e4, -1e4, 1e4, np.inf, -np.inf, np.inf, np.nan]], dtype).T
    t = np.array([[1, 0, 1, 0, 0, 1, 0, 0, 0]], dtype).T
    losses, grad = run("binary_cross_entropy", z, t)
    small = np.exp(-30)
    assert_allclose(losses, [small, small, 0, 0, 1e4, 0, 0, np.inf, np.nan], rtol=1e-6)
    assert_allclose(grad[:, 0], [-small, small, 0, 0, 1, 0, 0, 1, np.nan], rtol=1e-6)


def test_squared_error(rng, dtype):
    for columns in widths(dtype):
        o, t = draw(rng, dtype, 19, columns), draw(rng, dtype, 19, columns)
        losses, grad = run("mean_squared_error", o, t, 1 / 3)
        exact, exact_grad = twin("mean_squared_error", o, t, 1 / 3)
        assert_allclose(losses, exact, rtol=1e-14)
        assert_allclose(grad, exact_grad, rtol=4 * np.finfo(dtype).eps)


def test_squared_error_outside_the_range_of_float32():
    far, largest = np.float32(1e20), np.finfo("f4").max
    losses, grad = run(
        "mean_squared_error", np.array([[far], [largest]]), np.array([[-far], [-largest]]), 0.25
    )
    assert_allclose(losses, [4 * float(far) ** 2, 4 * float(largest) ** 2], rtol=1e-15)
    assert_array_equal(grad, [[far], [largest]])


# --- the others ---------------------------------------------------------------------------------------

# of each loss: its parameter, targets, and what makes outputs of standard normal numbers
OTHERS = {
    "mean_absolute_error": 0.0,
    "huber": 0.75,
    "poisson": 0.0,
    "quantile": 0.9,
    "gaussian_nll": 0.0,
}
EVERY = {"cross_entropy": 0.0, "binary_cross_entropy": 0.0, "mean_squared_error": 0.0, **OTHERS}


def targets_for(loss, rng, dtype, rows, columns):
    if loss == "cross_entropy":
        return rng.dirichlet(np.ones(columns), rows).astype(dtype)
    if loss == "binary_cross_entropy":
        return rng.random((rows, columns)).astype(dtype)
    if loss == "poisson":
        return rng.poisson(2.0, (rows, columns)).astype(dtype)
    return draw(rng, dtype, rows, columns // 2 if loss == "gaussian_nll" else columns, 2)


@pytest.mark.parametrize("scale", [1.0, 1 / 3])
@pytest.mark.parametrize("loss", ["cross_entropy", *OTHERS])
def test_against_the_twin(rng, dtype, loss, scale):
    eps = np.finfo(dtype).eps
    for columns in widths(dtype):
        columns += columns % 2 if loss == "gaussian_nll" else 0
        o, t = draw(rng, dtype, 19, columns, 2), targets_for(loss, rng, dtype, 19, columns)
        losses, grad = run(loss, o, t, scale, EVERY[loss])
        exact, exact_grad = twin(loss, o, t, scale, EVERY[loss])
        # the rate of float32 outputs is a square: 2 ULP of each of the two terms
        size = np.abs(exact) + (
            np.exp(o.astype("f8")).sum(axis=1) if loss == "poisson" else np.abs(o).sum(axis=1)
        )
        assert np.all(np.abs(losses - exact) <= 4 * eps * size + 1e-14)
        bound = np.abs(exact_grad) + (scale * np.exp(o.astype("f8")) if loss == "poisson" else 0)
        if loss in ("cross_entropy", "gaussian_nll"):
            bound += scale
        assert np.all(np.abs(grad - exact_grad) <= 4 * eps * bound)


def test_against_mpmath(rng):
    """Single elements in 50 digits, by the formulas of losses.pxd."""
    mp = pytest.importorskip("mpmath")
    with mp.workdps(50):
        for o, t in rng.normal(size=(50, 2)) * 5:
            t = abs(round(t, 1))
            e = mp.mpf(o) - mp.mpf(t)
            huber = e**2 / 2 if abs(e) <= 0.75 else mp.mpf(0.75) * (abs(e) - mp.mpf(0.75) / 2)
            formulas = {
                "mean_absolute_error": abs(e),
                "huber": huber,
                "poisson": mp.exp(o) - mp.mpf(t) * mp.mpf(o),
                "quantile": max(-mp.mpf(0.9) * e, (1 - mp.mpf(0.9)) * e),
            }
            for loss, exact in formulas.items():
                found = run(loss, np.array([[o]]), np.array([[t]]), 1.0, OTHERS[loss])[0][0]
                assert abs(found - exact) <= 1e-14 * (abs(exact) + mp.exp(min(o, 0)) + abs(t * o))
            s = rng.normal() * 3
            exact = (mp.mpf(s) + e**2 * mp.exp(-mp.mpf(s))) / 2
            found = run("gaussian_nll", np.array([[o, s]]), np.array([[t]]))[0][0]
            assert abs(found - exact) <= 1e-14 * (abs(exact) + abs(s))


def test_kinks(dtype):
    o, t = np.array([[2, 1, 0]], dtype), np.array([[1, 1, 1]], dtype)
    assert_array_equal(run("mean_absolute_error", o, t)[1], [[1, 0, -1]])
    assert_array_equal(run("quantile", o, t, 1.0, 0.75)[1], [[0.25, 0, -0.75]])
    below = np.nextafter(np.array(0.5, dtype), np.array(0, dtype))
    above = np.nextafter(np.array(0.5, dtype), np.array(1, dtype))
    o = np.array([[0.5, -0.5, below, above, 3]], dtype)
    assert_array_equal(run("huber", o, np.zeros_like(o), 1.0, 0.5)[1], [[0.5, -0.5, below, 0.5, 0.5]])
    assert run("huber", o[:, :1], np.zeros_like(o[:, :1]), 1.0, 0.5)[0] == 0.125


@pytest.mark.parametrize("loss", EVERY)
def test_nan_stays_in_its_row(rng, dtype, loss):
    o, t = draw(rng, dtype, 3, 4), targets_for(loss, rng, dtype, 3, 4)
    o[1, 1] = np.nan
    losses, grad = run(loss, o, t, 1.0, EVERY[loss])
    assert_array_equal(np.isnan(losses), [False, True, False])
    assert_array_equal(np.isnan(grad).any(axis=1), [False, True, False])


def test_infinite_outputs(dtype):
    inf = np.inf
    o, zero = np.array([[inf, -inf]], dtype).T, np.zeros((2, 1), dtype)
    cases = {
        ("mean_absolute_error", 0.0, 0): ([inf, inf], [1, -1]),
        ("huber", 2.0, 0): ([inf, inf], [2, -2]),
        ("quantile", 0.75, 0): ([inf, inf], [0.25, -0.75]),
        ("poisson", 0.0, 0): ([inf, 0], [inf, 0]),
        ("poisson", 0.0, 1): ([inf, inf], [inf, -1]),
    }
    for (loss, parameter, target), (exact, slope) in cases.items():
        losses, grad = run(loss, o, zero + dtype.type(target), 1.0, parameter)
        assert_array_equal(losses, exact)
        assert_array_equal(grad[:, 0], slope)
    # a mean that is met exactly costs half its log variance, however small that is
    losses, grad = run("gaussian_nll", np.array([[1, -2000]], dtype), np.ones((1, 1), dtype))
    assert losses.tolist() == [-1000]
    assert grad.tolist() == [[0, 0.5]]


def test_outside_the_range_of_float32():
    """Losses are sums in double, and gradients overflow no sooner than they do after scaling."""
    far = np.array([[3e38]], "f4")
    losses, grad = run("mean_absolute_error", far, -far, 1e-3)
    assert_allclose(losses, [2 * float(far[0, 0])])
    assert_allclose(grad, [[1e-3]])
    losses, grad = run("huber", far, -far, 1e-38, 1e38)
    assert_allclose(losses, 1e38 * (2 * float(far[0, 0]) - 0.5e38), rtol=1e-6)
    assert_allclose(grad, [[1.0]], rtol=1e-6)
    losses, grad = run("poisson", np.array([[150.0]], "f4"), np.array([[1.0]], "f4"), 1e-50)
    assert_allclose(losses, [np.exp(150.0)], rtol=1e-6)
    assert_allclose(grad, [[np.exp(150.0) * 1e-50]], rtol=1e-6)
    losses, grad = run("gaussian_nll", np.array([[1e30, 100.0]], "f4"), np.zeros((1, 1), "f4"), 1e-20)
    assert_allclose(losses, [50 + 0.5e60 * np.exp(-100)], rtol=1e-6)
    assert_allclose(grad[0, 0], 1e10 * np.exp(-100.0), rtol=1e-5)


def test_soft_cross_entropy_of_certain_rows_is_that_of_labels(rng, dtype):
    for columns in widths(dtype):
        z, labels = draw(rng, dtype, 19, columns), rng.integers(0, columns, 19)
        hard, soft = (run("cross_entropy", z, t) for t in (labels, np.eye(columns, dtype=dtype)[labels]))
        eps = np.finfo(dtype).eps
        assert_allclose(soft[0], hard[0], rtol=1e-14, atol=1e-15)
        assert_allclose(soft[1], hard[1], rtol=4 * eps, atol=2 * eps)


def test_soft_cross_entropy_at_infinity(dtype):
    inf = np.inf
    z = np.array([[0, -inf, 0], [inf, 0, 1], [inf, inf, 0], [0, 0, -inf]], dtype)
    q = np.array([[0.5, 0, 0.5], [1, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5]], dtype)
    losses, grad = run("cross_entropy", z, q)
    assert_allclose(losses, [np.log(2), 0, np.log(2), inf], rtol=1e-6)
    assert_allclose(grad[:3], [[0, 0, 0], [0, 0, 0], [0, 0, 0]], atol=1e-7)
    assert not np.isnan(grad).any()


# --- weights, gradients -------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", EVERY)
def test_weights(rng, dtype, loss):
    o, t = draw(rng, dtype, 19, 20), targets_for(loss, rng, dtype, 19, 20)
    weights = rng.integers(0, 3, 19) * 1.5
    losses, grad = run(loss, o, t, 0.25, EVERY[loss], weights)
    plain, plain_grad = run(loss, o, t, 0.25, EVERY[loss])
    exact, exact_grad = twin(loss, o, t, 0.25, EVERY[loss], weights)
    assert_array_equal(losses, plain * weights)
    eps = np.finfo(dtype).eps
    assert_allclose(grad, plain_grad * weights[:, None], rtol=4 * eps, atol=eps)
    assert_allclose(losses, exact, rtol=1e-5 if dtype == np.float32 else 1e-13, atol=1e-13)
    assert_allclose(
        grad,
        exact_grad,
        rtol=1e-4 if dtype == np.float32 else 1e-12,
        atol=1e-6 if dtype == np.float32 else 1e-14,
    )


@pytest.mark.parametrize("loss", EVERY)
def test_a_row_of_weight_0_is_absent_whatever_it_holds(rng, dtype, loss):
    o, t = draw(rng, dtype, 3, 2), targets_for(loss, rng, dtype, 3, 2)
    o[1] = np.nan
    losses, grad = run(loss, o, t, 1.0, EVERY[loss], np.array([1.0, 0.0, 1.0]))
    assert losses[1] == 0
    assert_array_equal(grad[1], 0)
    assert np.isfinite(losses).all()
    assert np.isfinite(grad).all()


def test_labels_can_be_weighted(rng, dtype):
    z, labels, weights = draw(rng, dtype, 19, 7), rng.integers(0, 7, 19), rng.random(19)
    losses, grad = run("cross_entropy", z, labels, 0.5, weights=weights)
    plain, plain_grad = run("cross_entropy", z, labels, 0.5)
    assert_array_equal(losses, plain * weights)
    assert_allclose(grad, plain_grad * weights[:, None], rtol=4 * np.finfo(dtype).eps)


def test_what_the_door_refuses():
    z, losses = np.zeros((2, 3)), np.zeros(2)
    with pytest.raises(ValueError, match="not the code of a loss"):
        kernels.row_losses(kernels.LOSS_CODES["no_loss"], z, z, losses, None, 1.0)
    with pytest.raises(ValueError, match="as many means as logarithms"):
        kernels.row_losses(kernels.LOSS_CODES["gaussian_nll"], z, z, losses, None, 1.0)
    with pytest.raises(ValueError, match="row 1 has class 3, but there are 3 outputs"):
        kernels.row_losses(kernels.LOSS_CODES["cross_entropy"], z, np.array([0, 3]), losses, None, 1.0)
    with pytest.raises(ValueError, match="weights: expected 2 elements"):
        kernels.row_losses(kernels.LOSS_CODES["huber"], z, z, losses, None, 1.0, weights=np.ones(3))


@pytest.mark.parametrize("loss", ["labels", *EVERY])
def test_gradient_is_the_slope_of_the_loss(rng, loss):
    x, step = draw(rng, np.float64, 10, 14, 1.5), 1e-6
    target = rng.integers(0, 14, 10)
    if loss == "labels":
        loss = "cross_entropy"
    else:
        target = targets_for(loss, rng, np.float64, 10, 14)
    _, grad = run(loss, x, target, 1.0, EVERY[loss])
    for column in range(14):
        shift = step * (np.arange(14) == column)
        above, below = (run(loss, x + sign * shift, target, 1.0, EVERY[loss])[0] for sign in (1, -1))
        assert_allclose(grad[:, column], (above - below) / (2 * step), rtol=1e-7, atol=2e-8)
