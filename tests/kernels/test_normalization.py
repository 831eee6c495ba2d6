"""Batch norm against its twin, against differences, and where sums lose their digits."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from gradcore import kernels
from gradcore.kernels import reference


def sizes(dtype):
    tile = kernels.tile_width(dtype)
    return [(1, 3), (2, tile), (33, tile + 1), (70, 2 * tile + 3)]


def draw(rng, dtype, rows, columns):
    """x, gradient, gamma, beta."""
    x, d_y = rng.standard_normal((2, rows, columns))
    gamma, beta = rng.standard_normal((2, columns))
    return [a.astype(dtype) for a in (3 * x + 5, d_y, gamma, beta)]


def backward(d_y, x, mean, inverse, shift, gamma, batch_statistics, module=kernels):
    out = np.empty_like(x), np.empty_like(gamma), np.empty_like(gamma)
    module.batch_norm_backward(d_y, x, mean, inverse, shift, gamma, *out, batch_statistics)
    return out


def test_statistics(rng, dtype):
    for rows, columns in sizes(dtype):
        x = draw(rng, dtype, rows, columns)[0]
        exact = reference.batch_norm_statistics(x.astype(np.float64), 1e-5)
        tolerance = np.finfo(dtype).eps + 1e-13
        for got, want in zip(kernels.batch_norm_statistics(x, 1e-5)[:3], exact[:3], strict=True):
            assert got.dtype == dtype
            assert_allclose(got, want, rtol=tolerance)


@pytest.mark.parametrize("offset", [1e4, 1e8, 1e12])
def test_variance_beside_a_large_mean(rng, offset):
    x = offset + 1e-3 * rng.standard_normal((50, 5))
    mean, variance, *_ = kernels.batch_norm_statistics(x, 1e-5)
    assert_allclose(mean, offset + (x - offset).mean(axis=0), rtol=3e-16)
    assert_allclose(variance, (x - offset).var(axis=0), rtol=1e-13)  # x - offset is exact


def test_float32_statistics_are_those_of_double(rng):
    x = (1e8 + 1e3 * rng.standard_normal((200, 5))).astype("f4")
    mean, variance, *_ = kernels.batch_norm_statistics(x, 1e-5)
    assert_array_equal(mean, x.mean(axis=0, dtype=np.float64).astype("f4"))
    assert_allclose(variance, x.var(axis=0, dtype=np.float64), rtol=1e-7)


@pytest.mark.parametrize("value", [0.0, 0.1, -1e8, 1e30])
@pytest.mark.parametrize("eps", [1e-5, 0.0])
def test_constant_column(dtype, value, eps):
    x, one = np.full((7, 3), value, dtype), np.ones(3, dtype)
    mean, variance, inverse, shift = kernels.batch_norm_statistics(x, eps)
    assert_array_equal(mean, x[0])
    assert_array_equal(variance, [0, 0, 0])
    # without variance and eps there is nothing to divide by: beta, not NaN
    assert_array_equal(
        kernels.batch_norm_forward(x, mean, inverse, shift, one, 2 * one, np.empty_like(x)),
        np.full_like(x, 2),
    )


def test_what_is_not_finite_stays_in_its_column(rng, dtype):
    x, d_y, gamma, beta = draw(rng, dtype, 20, 21)
    x[3, 1], x[0, 20] = np.nan, np.inf
    sick = np.isin(np.arange(21), [1, 20])
    mean, variance, inverse, shift = kernels.batch_norm_statistics(x, 1e-5)
    y = kernels.batch_norm_forward(x, mean, inverse, shift, gamma, beta, np.empty_like(x))
    d_x, d_gamma, _ = backward(d_y, x, mean, inverse, shift, gamma, True)
    for got in (variance, inverse, d_gamma, *y, *d_x):
        assert_array_equal(np.isnan(got), sick)


def test_forward(rng, dtype):
    for rows, columns in sizes(dtype):
        x, _, gamma, beta = draw(rng, dtype, rows, columns)
        mean, _, inverse, shift = kernels.batch_norm_statistics(x, 1e-5)
        out = np.empty(x.shape)
        exact = reference.batch_norm_forward(x.astype(np.float64), mean, inverse, shift, gamma, beta, out)
        got = kernels.batch_norm_forward(x, mean, inverse, shift, gamma, beta, np.empty_like(x))
        size = np.abs((x - mean) * inverse * gamma) + np.abs(beta)
        assert np.all(np.abs(got - exact) <= 3 * np.finfo(dtype).eps * size)


@pytest.mark.parametrize("batch_statistics", [True, False])
def test_backward(rng, dtype, batch_statistics):
    for rows, columns in sizes(dtype):
        x, d_y, gamma, _ = draw(rng, dtype, rows, columns)
        mean, _, inverse, shift = kernels.batch_norm_statistics(x, 1e-5)
        got = backward(d_y, x, mean, inverse, shift, gamma, batch_statistics)
        wide = [a.astype(np.float64) for a in (d_y, x, mean, inverse, shift, gamma)]
        exact = backward(*wide, batch_statistics, reference)
        # few rows leave little of d_x: what rounding takes is measured by what it is the difference of
        size = np.abs(d_y).max(axis=0)
        for g, e, of in zip(
            got, exact, (np.abs(gamma * inverse) * size, rows * size, rows * size), strict=True
        ):
            assert np.all(np.abs(g - e) <= 8 * np.finfo(dtype).eps * of)
        again = np.empty_like(gamma), np.empty_like(gamma)
        kernels.batch_norm_backward(d_y, x, mean, inverse, shift, gamma, d_y, *again, batch_statistics)
        assert_array_equal(d_y, got[0])


def test_gradient_is_the_slope(rng):
    x, d_y, gamma, beta = draw(rng, np.float64, 6, 5)

    def value(x, gamma, beta):
        mean, _, inverse, shift = kernels.batch_norm_statistics(x, 1e-3)
        return (
            d_y * kernels.batch_norm_forward(x, mean, inverse, shift, gamma, beta, np.empty_like(x))
        ).sum()

    mean, _, inverse, shift = kernels.batch_norm_statistics(x, 1e-3)
    for which, gradient in enumerate(backward(d_y, x, mean, inverse, shift, gamma, True)):
        for place in np.ndindex(gradient.shape):
            up, down = [x.copy(), gamma.copy(), beta.copy()], [x.copy(), gamma.copy(), beta.copy()]
            up[which][place] += 1e-6
            down[which][place] -= 1e-6
            assert gradient[place] == pytest.approx((value(*up) - value(*down)) / 2e-6, rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("rows", [1, 2, 32])
def test_update_running(rng, dtype, rows):
    running_mean, running_variance, mean, variance = (rng.random(19).astype(dtype) for _ in range(4))
    want = running_mean.astype(np.float64), running_variance.astype(np.float64)
    reference.update_running(*want, mean.astype(np.float64), variance.astype(np.float64), rows, 0.1)
    kernels.update_running(running_mean, running_variance, mean, variance, rows, 0.1)
    assert_allclose(running_mean, want[0], rtol=np.finfo(dtype).eps)
    assert_allclose(running_variance, want[1], rtol=np.finfo(dtype).eps)


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_a_mean_of_1e8_keeps_its_digits(rng, norm):
    # float32 tells numbers apart by 8 there, so the mean itself would be off by up to 4
    x = np.float32(1e8) + np.float32(8) * rng.integers(-2, 3, (40, 30)).astype("f4")
    one, zero = np.ones(30, "f4"), np.zeros(30, "f4")
    y, wide = np.empty_like(x), x.astype(np.float64)
    axis = 0 if norm == "batch" else 1
    exact = (wide - wide.mean(axis, keepdims=True)) / wide.std(axis, keepdims=True)
    if norm == "batch":
        mean, _, inverse, shift = kernels.batch_norm_statistics(x, 1e-5)
        kernels.batch_norm_forward(x, mean, inverse, shift, one, zero, y)
    else:
        kernels.layer_norm_forward(x, one, zero, y, 1e-5)
    assert_allclose(y, exact, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_values_of_1e30(rng, norm):
    x = (1e30 * rng.standard_normal((20, 20))).astype("f4")
    one, zero = np.ones(20, "f4"), np.zeros(20, "f4")
    y, wide = np.empty_like(x), x.astype(np.float64)
    axis = 0 if norm == "batch" else 1
    if norm == "batch":
        mean, _, inverse, shift = kernels.batch_norm_statistics(x, 1e-5)
        kernels.batch_norm_forward(x, mean, inverse, shift, one, zero, y)
    else:
        kernels.layer_norm_forward(x, one, zero, y, 1e-5)
    assert_allclose(
        y, (wide - wide.mean(axis, keepdims=True)) / wide.std(axis, keepdims=True), rtol=1e-4, atol=1e-6
    )


def test_squares_beyond_double_are_nan_and_not_beta():
    x = np.array([[1e200, -1e200], [-1e200, 1e200]])
    one, y = np.ones(2), np.empty((2, 2))
    kernels.layer_norm_forward(x, one, one, y, 1e-5)
    assert np.isnan(y).all()


def test_sums_that_fit_though_their_blocks_do_not():
    # both rows' products are beyond float32, their sum is not
    d = np.full((2, 1), 3e38, "f4")
    d_gamma, d_beta, d_x = (np.empty(1, "f4"), np.empty(1, "f4"), np.empty((2, 1), "f4"))
    x, one, zero = np.array([[2.0], [-1.5]], "f4"), np.ones(1, "f4"), np.zeros(1, "f4")
    kernels.batch_norm_backward(d, x, zero, one, zero, one, d_x, d_gamma, d_beta, True)
    assert d_gamma[0] == pytest.approx(1.5e38, rel=1e-6)
    assert np.isinf(d_beta[0])


# ------------------------------------------------------------------ layer norm


def layer_backward(d_y, x, statistics, gamma, module=kernels):
    out = np.empty_like(x), np.empty_like(gamma), np.empty_like(gamma)
    module.layer_norm_backward(d_y, x, *statistics, gamma, *out)
    return out


def layer_sizes(dtype):
    # blocks of 32 rows, panels of one tile, and what is left over of both
    return [(1, 1), (3, 1), *sizes(dtype), (32, 2), (100, 7 * kernels.tile_width(dtype) - 1)]


def test_layer_forward(rng, dtype):
    for rows, columns in layer_sizes(dtype):
        x, _, gamma, beta = draw(rng, dtype, rows, columns)
        got, want = np.empty_like(x), np.empty(x.shape)
        found = kernels.layer_norm_forward(x, gamma, beta, got, 1e-5)
        wide = [a.astype(np.float64) for a in (x, gamma, beta)]
        mean, inverse, _ = reference.layer_norm_forward(*wide, want, 1e-5)
        eps = np.finfo(dtype).eps
        assert_allclose(found[0], mean, rtol=2 * eps, atol=2 * eps * np.abs(x).max())
        assert_allclose(found[1], inverse, rtol=eps + 1e-13)
        size = np.abs((x - found[0][:, None]) * found[1][:, None] * gamma) + np.abs(beta)
        assert np.all(np.abs(got - want) <= 4 * eps * (size + np.abs(gamma)))
        again = x.copy()
        kernels.layer_norm_forward(again, gamma, beta, again, 1e-5)
        assert_array_equal(again, got)


def test_layer_backward(rng, dtype):
    for rows, columns in layer_sizes(dtype):
        x, d_y, gamma, beta = draw(rng, dtype, rows, columns)
        statistics = kernels.layer_norm_forward(x, gamma, beta, np.empty_like(x), 1e-5)
        got = layer_backward(d_y, x, statistics, gamma)
        wide = [a.astype(np.float64) for a in (d_y, x)]
        exact = layer_backward(
            *wide, [s.astype(np.float64) for s in statistics], gamma.astype(np.float64), reference
        )
        largest = np.abs(gamma * d_y).max(axis=1, keepdims=True) * statistics[1][:, None]
        of_columns = rows * np.abs(d_y).max(axis=0)
        for g, e, of in zip(got, exact, (largest, of_columns, of_columns), strict=True):
            assert np.all(np.abs(g - e) <= 16 * np.finfo(dtype).eps * of)
        again = np.empty_like(gamma), np.empty_like(gamma)
        kernels.layer_norm_backward(d_y, x, *statistics, gamma, d_y, *again)
        assert_array_equal(d_y, got[0])


def test_layer_gradient_is_the_slope(rng):
    x, d_y, gamma, beta = draw(rng, np.float64, 4, 11)

    def value(x, gamma, beta):
        y = np.empty_like(x)
        kernels.layer_norm_forward(x, gamma, beta, y, 1e-3)
        return (d_y * y).sum()

    statistics = kernels.layer_norm_forward(x, gamma, beta, np.empty_like(x), 1e-3)
    for which, gradient in enumerate(layer_backward(d_y, x, statistics, gamma)):
        for place in np.ndindex(gradient.shape):
            up, down = [x.copy(), gamma.copy(), beta.copy()], [x.copy(), gamma.copy(), beta.copy()]
            up[which][place] += 1e-6
            down[which][place] -= 1e-6
            assert gradient[place] == pytest.approx((value(*up) - value(*down)) / 2e-6, rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("offset", [1e4, 1e8, 1e12])
def test_layer_variance_beside_a_large_mean(rng, offset):
    x = offset + 1e-3 * rng.standard_normal((5, 50))
    one, zero = np.ones(50), np.zeros(50)
    mean, inverse, _ = kernels.layer_norm_forward(x, one, zero, np.empty_like(x), 1e-12)
    assert_allclose(mean, offset + (x - offset).mean(axis=1), rtol=3e-16)
    assert_allclose(inverse, 1 / np.sqrt((x - offset).var(axis=1) + 1e-12), rtol=1e-13)


def test_a_first_value_far_from_the_others(rng, dtype):
    # the sums go about it, and must not lose the others' digits
    x = rng.standard_normal((3, 2000)).astype(dtype)
    x[:, 0] = 1e5
    exact = 1 / np.sqrt(x.astype(np.float64).var(axis=1))
    _, inverse, _ = kernels.layer_norm_forward(
        x, np.ones_like(x[0]), np.zeros_like(x[0]), np.empty_like(x), 1e-30
    )
    assert_allclose(inverse, exact, rtol=np.finfo(dtype).eps + 1e-13)


@pytest.mark.parametrize("value", [0.0, 0.1, -1e8, 1e30])
@pytest.mark.parametrize("eps", [1e-5, 0.0])
def test_constant_row_gives_beta(dtype, value, eps):
    x, beta = np.full((3, 21), value, dtype), np.arange(21, dtype=dtype)
    got = np.empty_like(x)
    mean, inverse, shift = kernels.layer_norm_forward(x, np.ones_like(beta), beta, got, eps)
    assert_array_equal(mean, x[:, 0])
    assert_array_equal(got, np.broadcast_to(beta, got.shape))
    if eps == 0.0:
        assert_array_equal(inverse, [0, 0, 0])
        d_x, d_gamma, _ = layer_backward(np.ones_like(x), x, (mean, inverse, shift), np.ones_like(beta))
        assert not d_x.any()
        assert not d_gamma.any()


def test_what_is_not_finite_stays_in_its_row(rng, dtype):
    x, d_y, gamma, beta = draw(rng, dtype, 40, 21)
    x[3, 1], x[39, 20], x[35, 0] = np.nan, np.inf, -np.inf
    sick = np.isin(np.arange(40), [3, 35, 39])
    y = np.empty_like(x)
    statistics = kernels.layer_norm_forward(x, gamma, beta, y, 1e-5)
    d_x, d_gamma, d_beta = layer_backward(d_y, x, statistics, gamma)
    for got in (*y.T, *d_x.T):
        assert_array_equal(np.isnan(got), sick)
    assert np.isnan(d_gamma).all()
    assert np.isfinite(d_beta).all()
