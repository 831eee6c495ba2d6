"""Gaussian expectations against adaptive quadrature and closed forms."""

import math

import numpy as np
import pytest
from mpmath import mp

from gradcore import activations
from gradcore.health.theory.gaussian import moments, product

NAMES = sorted(activations.REGISTRY)
# wide enough for kinks anywhere at a half-integer, whoever registers the next activation
KINKS = np.arange(-6, 6.5, 0.5)


def expected(g, mean, std):
    """E g(z), z ~ N(mean, std²), by mpmath."""
    ends = np.unique([-12, *np.clip((KINKS - mean) / std, -12, 12), -4, 0, 4, 12])
    if std > 5:  # what is narrow in z is very narrow in x
        ends = np.unique([*ends, *(np.array([-40, -20, 20, 40]) / std)])
    return float(
        mp.quad(
            lambda x: g(mean + std * float(x)) * mp.npdf(x), list(ends), method="gauss-legendre", maxdegree=4
        )
    )


PLACES = [(0.0, 1.0), (0.0, 0.03), (0.6, 2.5), (-1.5, 0.4), (0.0, 50.0)]
# squares of exponentials of large inputs lie beyond adaptive quadrature; their closed form has a test of its own
CASES = [(name, *place) for name in NAMES for place in PLACES if name != "exponential" or place[1] <= 1]


@pytest.mark.parametrize(("name", "mean", "std"), CASES)
def test_moments_are_those_of_adaptive_quadrature(name, mean, std):
    info, parameter = activations.resolve(name)
    f = getattr(activations, name)
    slope = getattr(activations, f"{name}_backward")
    found = moments(info, parameter, mean, std)
    size = expected(lambda z: float(f(z)) ** 2, mean, std)
    assert found.rms**2 == pytest.approx(size, rel=1e-10)
    assert found.mean == pytest.approx(
        expected(lambda z: float(f(z)), mean, std), abs=1e-10 * math.sqrt(size)
    )
    assert found.std**2 == pytest.approx(found.rms**2 - found.mean**2, abs=1e-13 * size)
    assert found.slope_rms**2 == pytest.approx(
        expected(lambda z: float(slope(1.0, z)) ** 2, mean, std), rel=1e-9
    )
    assert found.slope_mean == pytest.approx(
        expected(lambda z: float(slope(1.0, z)), mean, std), abs=1e-9 * found.slope_rms
    )


def test_exponentials_of_any_size():
    found = moments(*activations.resolve("exponential"), 0.5, 6.0)
    assert found.mean == pytest.approx(math.exp(0.5 + 18), rel=1e-13)
    assert found.rms == pytest.approx(math.exp(0.5 + 36), rel=1e-13)
    # E exp(z1) exp(z2) = exp(std² (1 + c)) for means of zero
    found = moments(*activations.resolve("exponential"), 0.0, 2.0)
    (difference,) = found.difference(np.array([0.3]))
    assert difference**2 == pytest.approx(math.exp(8) - math.exp(4 * 1.7), rel=1e-6)
    assert moments(*activations.resolve("exponential"), 0.5, 40.0).rms == math.inf


@pytest.mark.parametrize("std", [1e-200, 1e-30, 1e-9, 1e-3])
@pytest.mark.parametrize("name", ["tanh", "sigmoid", "relu"])
def test_tiny_inputs_lose_nothing(name, std):
    info, parameter = activations.resolve(name)
    found = moments(info, parameter, 0.0, std)
    slope = {"tanh": 1.0, "sigmoid": 0.25, "relu": 0.5}[name]
    spread = {"relu": math.sqrt(0.5 - 1 / (2 * math.pi))}.get(name, slope)
    assert found.std == pytest.approx(spread * std, rel=1e-5)
    # examples that are almost equal: std² E f'² of what their inputs differ by
    (difference,) = found.difference(np.array([1e-14]))
    assert difference == pytest.approx(found.slope_rms * std * 1e-7, rel=1e-5)


def arc_cosine(c):
    """E relu(x) relu(y) of unit variance: Cho & Saul, "Kernel methods for deep learning" (2009)."""
    return (math.sqrt(1 - c * c) + c * (math.pi - math.acos(c))) / (2 * math.pi)


@pytest.mark.parametrize("c", [-1.0, -0.9, -0.2, 0.0, 0.3, 0.9, 0.9999, 1 - 1e-9, 1.0])
def test_products_of_relus_are_the_arc_cosine_kernel(c):
    relu = activations.resolve("relu")
    assert product(*relu, 3.0, c) == pytest.approx(9 * arc_cosine(c), abs=1e-11)
    slopes = (math.pi - math.acos(c)) / (2 * math.pi)
    assert product(*relu, 3.0, c, slopes=True) == pytest.approx(slopes, abs=1e-8)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "exponential"])
@pytest.mark.parametrize("c", [-0.4, 0.5, 0.99, 1 - 1e-6])
def test_the_fast_map_of_predictions_agrees_with_the_exact_one(name, c):
    info, parameter = activations.resolve(name)
    # the shares of kinks away from 0 fall off less evenly, and the tail is extrapolated from them
    apart = any(info.kinks) or name == "softsign"
    for std in (0.1, 1.0, 4.0):
        found = moments(info, parameter, 0.0, std)
        (difference,) = found.difference(np.array([1 - c]))
        exact = found.rms**2 - product(info, parameter, std, c)
        assert difference**2 == pytest.approx(exact, rel=6e-2 if apart else 6e-3, abs=1e-14 * found.rms**2)


def test_products_against_the_trapezoidal_rule():
    # which is exact to the last digits for analytic functions
    c, std, step = 0.7, 1.5, 0.05
    x = np.arange(-9, 9, step)
    density = np.exp(-x * x / 2) / math.sqrt(2 * math.pi) * step
    first, second = np.tanh(std * x), np.tanh(std * (c * x[:, None] + math.sqrt(1 - c * c) * x))
    exact = (density * first) @ second @ density
    assert product(*activations.resolve("tanh"), std, c) == pytest.approx(exact, abs=1e-12)
