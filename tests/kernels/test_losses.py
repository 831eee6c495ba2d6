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


def run(loss, output, target, scale=1.0):
    """Losses and gradient; the losses do not depend on whether the gradient is asked for."""
    losses, again, grad = np.empty(len(output)), np.empty(len(output)), np.full_like(output, 7)
    getattr(kernels, loss)(output, target, losses, grad, scale)
    getattr(kernels, loss)(output, target, again, None, scale)
    assert_array_equal(losses, again)
    return losses, grad


def twin(loss, output, target, scale=1.0):
    losses, grad = np.empty(len(output)), np.empty(output.shape, np.longdouble)
    getattr(reference, loss)(output.astype(np.longdouble), target, losses, grad, scale)
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
        losses, [np.log(2), inf, inf, nan, nan, twin("cross_entropy", x[5:], [2])[0][0]], rtol=1e-6
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
        losses, grad = run("squared_error", o, t, 1 / 3)
        exact, exact_grad = twin("squared_error", o, t, 1 / 3)
        assert_allclose(losses, exact, rtol=1e-14)
        assert_allclose(grad, exact_grad, rtol=4 * np.finfo(dtype).eps)


def test_squared_error_outside_the_range_of_float32():
    far, largest = np.float32(1e20), np.finfo("f4").max
    losses, grad = run("squared_error", np.array([[far], [largest]]), np.array([[-far], [-largest]]), 0.25)
    assert_allclose(losses, [4 * float(far) ** 2, 4 * float(largest) ** 2], rtol=1e-15)
    assert_array_equal(grad, [[far], [largest]])


@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy", "squared_error"])
def test_gradient_is_the_slope_of_the_loss(rng, loss):
    x, step = draw(rng, np.float64, 10, 13, 1.5), 1e-6
    target = rng.integers(0, 13, 10) if loss == "cross_entropy" else rng.random((10, 13))
    _, grad = run(loss, x, target)
    for column in range(13):
        shift = step * (np.arange(13) == column)
        slope = (run(loss, x + shift, target)[0] - run(loss, x - shift, target)[0]) / (2 * step)
        assert_allclose(grad[:, column], slope, rtol=1e-7, atol=1e-8)
