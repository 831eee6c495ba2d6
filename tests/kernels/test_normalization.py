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


def backward(d_y, x, mean, inverse, gamma, batch_statistics, module=kernels):
    out = np.empty_like(x), np.empty_like(gamma), np.empty_like(gamma)
    module.batch_norm_backward(d_y, x, mean, inverse, gamma, *out, batch_statistics)
    return out


def test_statistics(rng, dtype):
    for rows, columns in sizes(dtype):
        x = draw(rng, dtype, rows, columns)[0]
        exact = reference.batch_norm_statistics(x.astype(np.float64), 1e-5)
        tolerance = np.finfo(dtype).eps + 1e-13
        for got, want in zip(kernels.batch_norm_statistics(x, 1e-5), exact, strict=True):
            assert got.dtype == dtype
            assert_allclose(got, want, rtol=tolerance)


@pytest.mark.parametrize("offset", [1e4, 1e8, 1e12])
def test_variance_beside_a_large_mean(rng, offset):
    x = offset + 1e-3 * rng.standard_normal((50, 5))
    mean, variance, _ = kernels.batch_norm_statistics(x, 1e-5)
    assert_allclose(mean, offset + (x - offset).mean(axis=0), rtol=3e-16)
    assert_allclose(variance, (x - offset).var(axis=0), rtol=1e-13)  # x - offset is exact


def test_float32_statistics_are_those_of_double(rng):
    x = (1e8 + 1e3 * rng.standard_normal((200, 5))).astype("f4")
    mean, variance, _ = kernels.batch_norm_statistics(x, 1e-5)
    assert_array_equal(mean, x.mean(axis=0, dtype=np.float64).astype("f4"))
    assert_allclose(variance, x.var(axis=0, dtype=np.float64), rtol=1e-7)


@pytest.mark.parametrize("value", [0.0, 0.1, -1e8, 1e30])
@pytest.mark.parametrize("eps", [1e-5, 0.0])
def test_constant_column(dtype, value, eps):
    x, one = np.full((7, 3), value, dtype), np.ones(3, dtype)
    mean, variance, inverse = kernels.batch_norm_statistics(x, eps)
    assert_array_equal(mean, x[0])
    assert_array_equal(variance, [0, 0, 0])
    # without variance and eps there is nothing to divide by: beta, not NaN
    assert_array_equal(
        kernels.batch_norm_forward(x, mean, inverse, one, 2 * one, np.empty_like(x)), np.full_like(x, 2)
    )


def test_what_is_not_finite_stays_in_its_column(rng, dtype):
    x, d_y, gamma, beta = draw(rng, dtype, 20, 21)
    x[3, 1], x[0, 20] = np.nan, np.inf
    sick = np.isin(np.arange(21), [1, 20])
    mean, variance, inverse = kernels.batch_norm_statistics(x, 1e-5)
    y = kernels.batch_norm_forward(x, mean, inverse, gamma, beta, np.empty_like(x))
    d_x, d_gamma, _ = backward(d_y, x, mean, inverse, gamma, True)
    for got in (variance, inverse, d_gamma, *y, *d_x):
        assert_array_equal(np.isnan(got), sick)


def test_forward(rng, dtype):
    for rows, columns in sizes(dtype):
        x, _, gamma, beta = draw(rng, dtype, rows, columns)
        mean, _, inverse = kernels.batch_norm_statistics(x, 1e-5)
        out = np.empty(x.shape)
        exact = reference.batch_norm_forward(x.astype(np.float64), mean, inverse, gamma, beta, out)
        got = kernels.batch_norm_forward(x, mean, inverse, gamma, beta, np.empty_like(x))
        size = np.abs((x - mean) * inverse * gamma) + np.abs(beta)
        assert np.all(np.abs(got - exact) <= 3 * np.finfo(dtype).eps * size)


@pytest.mark.parametrize("batch_statistics", [True, False])
def test_backward(rng, dtype, batch_statistics):
    for rows, columns in sizes(dtype):
        x, d_y, gamma, _ = draw(rng, dtype, rows, columns)
        mean, _, inverse = kernels.batch_norm_statistics(x, 1e-5)
        got = backward(d_y, x, mean, inverse, gamma, batch_statistics)
        wide = [a.astype(np.float64) for a in (d_y, x, mean, inverse, gamma)]
        exact = backward(*wide, batch_statistics, reference)
        # few rows leave little of d_x: what rounding takes is measured by what it is the difference of
        size = np.abs(d_y).max(axis=0)
        for g, e, of in zip(
            got, exact, (np.abs(gamma * inverse) * size, rows * size, rows * size), strict=True
        ):
            assert np.all(np.abs(g - e) <= 8 * np.finfo(dtype).eps * of)
        again = np.empty_like(gamma), np.empty_like(gamma)
        kernels.batch_norm_backward(d_y, x, mean, inverse, gamma, d_y, *again, batch_statistics)
        assert_array_equal(d_y, got[0])


def test_gradient_is_the_slope(rng):
    x, d_y, gamma, beta = draw(rng, np.float64, 6, 5)

    def value(x, gamma, beta):
        mean, _, inverse = kernels.batch_norm_statistics(x, 1e-3)
        return (d_y * kernels.batch_norm_forward(x, mean, inverse, gamma, beta, np.empty_like(x))).sum()

    mean, _, inverse = kernels.batch_norm_statistics(x, 1e-3)
    for which, gradient in enumerate(backward(d_y, x, mean, inverse, gamma, True)):
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
