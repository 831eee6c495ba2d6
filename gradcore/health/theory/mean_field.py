"""Mean-field theory of wide random networks: the maps of variance and correlation, their fixed points, the phase.

For a layer ``z = W f(z_before) + b`` whose weights are independent with variance ``weight_std² / fan_in`` and whose
biases have the variance ``bias_std²``, the pre-activations of a wide network are Gaussian; their variance q and the
correlation c of two examples follow one-dimensional maps (Poole et al. 2016; Schoenholz et al. 2017).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from gradcore.errors import check_non_negative, check_number
from gradcore.health.theory.gaussian import function_of_one, moments, product

# Squares of what float64 can hold: fixed points are looked for between these variances.
_SMALLEST, _LARGEST = 1e-30, 1e30


def _standard_deviation(name: str, value: float) -> float:
    checked = check_non_negative(name, value)
    if checked > (largest := math.sqrt(_LARGEST)):
        raise ValueError(f"{name} must be at most {largest:.0e}, got {checked:g}")
    return checked


def _variance(q: float) -> float:
    """Return q, or the variance next to it that the limits at 0 and infinity are read at."""
    return min(max(check_non_negative("q", q, allow_inf=True), _SMALLEST), _LARGEST)


def variance_map(activation: str, q: float, weight_std: float, bias_std: float = 0.0) -> float:
    """Return the variance of the next layer's pre-activations, ``σ_w² E f(√q x)² + σ_b²``, x ~ N(0, 1).

    Infinite where float64 ends.

    Source: Poole et al., "Exponential expressivity in deep neural networks through transient chaos" (2016), eq. 3.

    Examples
    --------
    >>> round(variance_map("relu", 3.0, math.sqrt(2)), 12)
    3.0
    """
    weight_std, bias_std = (
        _standard_deviation("weight_std", weight_std),
        _standard_deviation("bias_std", bias_std),
    )
    function, spread = function_of_one(activation), math.sqrt(check_non_negative("q", q))
    size = weight_std * moments(*function, 0.0, spread).rms if weight_std else 0.0
    return size * size + bias_std**2  # a power would raise where this is infinite


def correlation_map(activation: str, q: float, c: float, weight_std: float, bias_std: float = 0.0) -> float:
    """Return the correlation of two examples one layer on, both of variance q and of correlation c now.

    At q = 0 and beyond what float64 can square: the limit; 1 where nothing is left of either.

    Source: Poole et al. (2016), eq. 5.

    Examples
    --------
    >>> correlation_map("sigmoid", 1.0, 0.5, 1.0) > 0.9
    True
    """
    q, c = _variance(q), check_number("c", c)
    if not -1 <= c <= 1:
        raise ValueError(f"c is a correlation, from -1 to 1, got {c:g}")
    following = variance_map(activation, q, weight_std, bias_std)
    if following == 0 or weight_std == 0:
        return 1.0
    if following == math.inf:  # only exponentials get there: exp(q (1 + c)) / exp(2 q)
        return math.exp(-q * (1 - c))
    expected = product(*function_of_one(activation), math.sqrt(q), c)
    return (weight_std**2 * expected + bias_std**2) / following


def chi(activation: str, q: float, weight_std: float) -> float:
    """Return the mean squared backward gain of a wide layer, ``σ_w² E f'(√q x)²``: above 1 gradients explode.

    Source: Schoenholz et al., "Deep information propagation" (2017), eq. 8.

    Examples
    --------
    >>> round(chi("relu", 1.0, math.sqrt(2)), 12)
    1.0
    """
    weight_std = _standard_deviation("weight_std", weight_std)
    function, spread = function_of_one(activation), math.sqrt(check_non_negative("q", q))
    size = weight_std * moments(*function, 0.0, spread).slope_rms if weight_std else 0.0
    return size * size


@dataclass(frozen=True)
class MeanField:
    """Where deep in a wide network its signals end up.

    Attributes
    ----------
    q_star : float
        Variance of the pre-activations that unit-variance inputs lead to; 0 and infinity are possible.
    c_star : float
        Correlation that two different examples end up with; 1: they become the same.
    chi : float
        Mean squared backward gain per layer at ``q_star``.
    depth_scale : float
        Layers over which the correlation gets a factor e closer to ``c_star``, ``1 / |log(slope of the map at c*)|``
        (ξ_c of Schoenholz et al. 2017): networks of more than about six times that depth do not train.
    phase : "ordered", "critical" or "chaotic"
        Whether ``chi`` is below, at or above 1: gradients vanish, keep their size, explode.
    """

    q_star: float
    c_star: float
    chi: float
    depth_scale: float
    phase: Literal["ordered", "critical", "chaotic"]


def mean_field(activation: str, weight_std: float, bias_std: float = 0.0) -> MeanField:
    """Return the fixed points of the maps of variance and correlation.

    Parameters
    ----------
    activation : str
    weight_std, bias_std : float
        From 0 to 1e15.  Weights have the variance ``weight_std² / fan_in``, biases ``bias_std²``.

    Returns
    -------
    MeanField

    Raises
    ------
    ValueError, TypeError
        An unknown activation or softmax; a standard deviation that is no number from 0 to 1e15.

    Notes
    -----
    ``q_star`` is the first fixed point on the way from the first layer's variance, ``weight_std² + bias_std²``: the
    map is monotone, so that iterating it leads there.  The ReLU family and identity scale with their input, and have
    ``q_star`` 0 (chi < 1, no bias), ``bias_std² / (1 - chi)`` (chi < 1), any (chi = 1, no bias: then it is the first
    layer's variance) or infinity.  Their examples become alike (identity: keep their correlation) in every phase, ever
    more slowly: the depth scale is infinite where the map touches the diagonal.

    Source: Poole et al. (2016); Schoenholz et al. (2017), eq. 9 for the depth scale.

    Examples
    --------
    >>> mean_field("relu", math.sqrt(2)).phase
    'critical'
    >>> mean_field("tanh", 1.0, 0.1).phase, mean_field("tanh", 3.0).phase
    ('ordered', 'chaotic')
    """
    weight_std, bias_std = (
        _standard_deviation("weight_std", weight_std),
        _standard_deviation("bias_std", bias_std),
    )
    info, _ = function_of_one(activation)
    with np.errstate(over="ignore"):
        q = _variance_fixed_point(activation, weight_std, bias_std)
        if q == math.inf and info.name == "exponential":
            # any two examples that differ at all differ in everything after one layer
            return MeanField(math.inf, 0.0, math.inf, 0.0, "chaotic")
        # at 0 and infinity: the limit of the ratios
        at = _variance(q)
        gain = chi(activation, at, weight_std)
        c, slope = _correlation_fixed_point(activation, at, weight_std, bias_std if q > 0 else 0.0)
    distance = math.log(slope) if slope > 0 else -math.inf
    depth = 1 / abs(distance) if abs(distance) > _CRITICAL else math.inf
    phase: Literal["ordered", "critical", "chaotic"] = "ordered" if gain < 1 else "chaotic"
    return MeanField(q, c, gain, depth, "critical" if abs(gain - 1) <= _CRITICAL else phase)


_ROUNDING = 1e-13
# The quadrature is exact to about 1e-12, and a fixed point costs some digits more.
_CRITICAL = 1e-9


def _variance_fixed_point(activation: str, weight_std: float, bias_std: float) -> float:
    """Follow the sign of log(map(q) / q) from the first layer's variance until it changes, then bisect."""

    def climb(log_q: float) -> float:
        q = math.exp(log_q)
        following = variance_map(activation, q, weight_std, bias_std)
        if following == 0:
            return -math.inf
        return math.log(following) - log_q if following < math.inf else math.inf

    # the square of what is very small is zero
    here = 2 * math.log(math.hypot(weight_std, bias_std)) if weight_std or bias_std else -math.inf
    if here == -math.inf:
        return 0.0
    direction = climb(here)
    if abs(direction) < _ROUNDING:
        return math.exp(here)
    step = math.copysign(0.25, direction)
    while here > math.log(_SMALLEST) if step < 0 else here < math.log(_LARGEST):
        following = climb(here + step)
        # less than rounding is no change of sign: maps that approach the diagonal at 0 or infinity do that
        if following * direction < 0 and abs(following) > _ROUNDING:
            return math.exp(_bisect(climb, here, here + step))
        here += step
    return math.inf if step > 0 else 0.0


def _correlation_fixed_point(
    activation: str, q: float, weight_std: float, bias_std: float
) -> tuple[float, float]:
    """Return c* and the slope of the map there.

    The map is a power series in c with non-negative coefficients, hence convex: with a slope of at most 1 at c = 1 that
    is the only fixed point, otherwise there is one more, below.
    """
    info, parameter = function_of_one(activation)
    variance = variance_map(activation, q, weight_std, bias_std)

    def slope(c: float) -> float:
        expected = product(info, parameter, math.sqrt(q), c, slopes=True)
        return weight_std**2 * q * expected / variance

    at_one = slope(1.0) if variance > 0 else 0.0
    if at_one <= 1 + _CRITICAL:
        return 1.0, at_one

    def above(c: float) -> float:
        return correlation_map(activation, q, c, weight_std, bias_std) - c

    low, high = 0.0, 1.0
    if above(low) <= 1e-15:
        return 0.0, slope(0.0)
    while above(high := (1 + high) / 2 if high < 1 else 0.5) > 0:
        low = high
    c = _bisect(above, low, high)
    return c, slope(c)


def _bisect(function: Callable[[float], float], a: float, b: float) -> float:
    """Return a root between a and b, where the signs differ, to the last digits (Illinois' regula falsi)."""
    fa, fb = function(a), function(b)
    for _ in range(200):
        if fa == 0 or abs(b - a) <= 1e-15 * max(abs(a), abs(b)):
            return a
        if fb == 0:
            return b
        secant = b - fb * (b - a) / (fb - fa)
        c = secant if math.isfinite(secant) and min(a, b) < secant < max(a, b) else (a + b) / 2
        fc = function(c)
        if fc * fb < 0:
            a, fa = b, fb
        else:
            fa /= 2
        b, fb = c, fc
    raise ArithmeticError(f"no fixed point found between {a} and {b}")
