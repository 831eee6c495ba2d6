"""Expectations of an activation under a Gaussian: what every map of the theory is made of.

Pre-activations of a wide layer are Gaussian, so all that theory needs of a function f are numbers such as E f(z) and
E f(z₁) f(z₂).  The rule below is exact to about 1e-12 for every activation and every scale: it splits the line
at the kinks and makes its panels ever smaller towards the place where a bounded function turns into a step.
"""

from __future__ import annotations

import math
from functools import cache, lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gradcore import kernels
from gradcore.activations import ActivationInfo

Array = npt.NDArray[np.float64]

# The Gaussian beyond 10 standard deviations holds 1e-23 of the mass.
_REACH = 10.0
_PANELS = np.array([0.0, 1.0, 1.75, 2.5, 3.5, 5.0, 7.0, _REACH])
_PANELS = np.concatenate([-_PANELS[:0:-1], _PANELS])
# Distances from a centre: each panel three times as wide as the one before, as far as pole-to-panel ratios want.
_CLOSE = 1e-6 * 4.0 ** np.arange(10)
_CLOSE = np.concatenate([-_CLOSE[::-1], [0.0], _CLOSE])

# Hermite coefficients kept; what lies beyond is one term of their mean order.
ORDERS = 24


@cache
def _legendre() -> tuple[Array, Array]:
    nodes, weights = np.polynomial.legendre.leggauss(10)
    return (nodes + 1) / 2, weights / 2


def gauss(centres: Array, splits: Array) -> tuple[Array, Array]:
    """Return nodes and weights of ``E g(x)``, x ~ N(0, 1).

    Parameters
    ----------
    centres, splits : ndarray, shape (..., any number)
        Where panels shrink geometrically, and where they end.  Leading axes give one rule each.

    Returns
    -------
    nodes, weights : ndarray, shape (..., nodes)
    """
    around = (centres[..., None] + _CLOSE).reshape(*centres.shape[:-1], -1)
    ends = np.concatenate(
        [np.broadcast_to(_PANELS, (*centres.shape[:-1], len(_PANELS))), around, splits], axis=-1
    )
    ends = np.sort(np.clip(ends, -_REACH, _REACH), axis=-1)
    if ends.ndim == 1:
        ends = np.unique(ends)
    unit, share = _legendre()
    width = np.diff(ends)[..., None]
    nodes = ends[..., :-1, None] + width * unit
    weights = width * share * np.exp(-0.5 * nodes * nodes) / math.sqrt(2 * math.pi)
    shape = (*nodes.shape[:-2], -1)
    return nodes.reshape(shape), weights.reshape(shape)


@lru_cache(maxsize=64)
def rule(centre: float, splits: tuple[float, ...] = ()) -> tuple[Array, Array, Array]:
    """Return nodes, weights and weighted Hermite polynomials h_1 … h_K (orthonormal, one per row) of one rule."""
    nodes, weights = gauss(np.array([centre]), np.array(splits))
    polynomials = np.empty((ORDERS + 1, len(nodes)))
    polynomials[0], polynomials[1] = 1.0, nodes
    for k in range(1, ORDERS):
        # √(k+1) h_{k+1} = x h_k − √k h_{k−1}
        polynomials[k + 1] = (nodes * polynomials[k] - math.sqrt(k) * polynomials[k - 1]) / math.sqrt(k + 1)
    return nodes, weights, polynomials[1:] * weights


def function_and_slope(info: ActivationInfo, parameter: float, z: Array) -> tuple[Array, Array]:
    """Return f(z) and f'(z) of the kernels."""
    flat = np.ascontiguousarray(z, np.float64).reshape(-1)
    value, slope = np.empty_like(flat), np.empty_like(flat)
    kernels.activation(info.code, parameter, flat, value, slope)
    return value.reshape(z.shape), slope.reshape(z.shape)


class Moments(NamedTuple):
    """What theory needs of f at z ~ N(mean, std²).

    Parameters
    ----------
    mean, rms : float
        E f(z) and √(E f(z)²).
    slope_mean, slope_rms : float
        The same of f'.
    std : float
        Standard deviation of f(z).
    orders, shares : ndarray
        The variance of f(z) by Hermite order: with ``f(z) = Σ a_k h_k(x)``, the shares are ``a_k² / Σ a_k²``, k ≥ 1.
    """

    mean: float
    rms: float
    slope_mean: float
    slope_rms: float
    std: float
    orders: Array
    shares: Array

    def difference(self, t: Array) -> Array:
        """Return ``√(½ E (f(z₁) − f(z₂))²)`` where z₁ and z₂ have the correlation 1 − t.

        That is ``std √(Σ shares (1 − (1 − t)^k))``: the correlation map (Poole et al. 2016, eq. 5) by Mehler's
        formula, written so that examples which are almost equal lose no digit.
        """
        missing = -np.expm1(self.orders * np.log1p(-np.minimum(t, 1.0))[:, None])
        if t.max() > 1:  # negative correlation: only powers of odd order are negative
            odd = np.where(self.orders % 2 == 1, 1.0, np.where(self.orders % 2 == 0, -1.0, 0.0))
            missing = np.where(t[:, None] > 1, 1 + odd * np.abs(1 - t[:, None]) ** self.orders, missing)
        return np.asarray(self.std * np.sqrt(missing @ self.shares))


_ORDERS = np.arange(1.0, ORDERS + 1)
_LOG_FACTORIAL = np.cumsum(np.log(_ORDERS))
_ONE = np.ones(1)


def moments(info: ActivationInfo, parameter: float, mean: float, std: float) -> Moments:
    """Return the moments of an activation at z ~ N(mean, std²)."""
    if info.name == "exponential":
        return _exponential(mean, std)
    centre = -mean / std if std > 0 else 0.0
    splits = tuple((kink - mean) / std for kink in info.kinks if kink) if std > 0 else ()
    nodes, weights, polynomials = rule(centre if abs(centre) < _REACH else _REACH, splits)
    value, slope = function_and_slope(info, parameter, mean + std * nodes)
    largest = float(np.abs(value).max())
    # squares of what is in proportion to the largest value cannot underflow
    relative = value / largest if largest > 0 else value
    first = float(weights @ relative)
    slope_rms = math.sqrt(weights @ (slope * slope))
    linear = std * slope_rms
    size = largest * math.sqrt(weights @ (relative * relative))
    if linear < 1e-12 * largest:
        # so narrow that f(z) − f(mean) is rounding: f is linear there
        return Moments(largest * first, size, float(weights @ slope), slope_rms, linear, _ONE, _ONE)
    centred = relative - first
    variance = float(weights @ (centred * centred))
    shares = (polynomials @ relative) ** 2 / variance if variance > 0 else np.zeros(ORDERS)
    spread = largest * math.sqrt(variance)
    slope_share = (linear / spread) ** 2 if variance > 0 else 0.0
    orders, shares = _with_tail(shares, slope_share)
    return Moments(largest * first, size, float(weights @ slope), slope_rms, spread, orders, shares)


def _with_tail(shares: Array, mean_order: float) -> tuple[Array, Array]:
    """Add the orders that were not kept as one: what is missing of Σ shares = 1 and of Σ k shares = mean_order.

    (Σ k a_k² = std² E f'², so both ends of the correlation map are exact: value and slope at 1.)
    """
    tail = 1 - float(shares.sum())
    if tail < 1e-9:
        return _ORDERS, shares
    order = max(ORDERS + 1.0, (mean_order - float(_ORDERS @ shares)) / tail)
    return np.append(_ORDERS, order), np.append(shares, tail)


def _exponential(mean: float, std: float) -> Moments:
    """Closed forms of exp: its second moment sits at 2 std, beyond the reach of any fixed rule.

    exp(mean + std x) = exp(mean + std²/2) Σ std^k / √k! h_k(x)
    """
    variance = std * std
    with np.errstate(over="ignore"):
        first, size = float(np.exp(mean + variance / 2)), float(np.exp(mean + variance))
    spread = size * math.sqrt(-math.expm1(-variance))
    if not std > 1e-12:
        return Moments(first, size, first, size, size * std, _ONE, _ONE)
    # Poisson's probabilities, given that k > 0
    shares = np.exp(2 * _ORDERS * math.log(std) - _LOG_FACTORIAL - variance) / -math.expm1(-variance)
    orders, shares = _with_tail(shares, variance / -math.expm1(-variance))
    return Moments(first, size, first, size, spread, orders, shares)


def product(info: ActivationInfo, parameter: float, std: float, c: float, slopes: bool = False) -> float:
    """Return ``E f(z₁) f(z₂)`` (of the slopes: ``E f'(z₁) f'(z₂)``) for variances std² and correlation c.

    Given z₁ = m the other is N(c m, (1 − c²) std²): a rule inside a rule, the outer one finer where the inner
    average of a kink is a smooth step of width √(1 − c²) std.
    """

    def of(z: Array) -> Array:
        return function_and_slope(info, parameter, z)[slopes]

    kinks = np.array(info.kinks or (0.0,))
    rest = math.sqrt((1 - c) * (1 + c)) * std
    if rest == 0 or abs(c) < 1e-300:
        nodes, weights = gauss(np.zeros(1), kinks / std)
        if rest == 0:
            return float(weights @ (of(std * nodes) * of(c * std * nodes)))
        return float(weights @ of(std * nodes)) ** 2
    nodes, weights = gauss(kinks / (c * std), kinks / std)
    given = c * std * nodes[:, None]
    y, inner = gauss(-given / rest, (kinks - given) / rest)
    conditional = (of(given + rest * y) * inner).sum(axis=1)
    return float((weights * of(std * nodes)) @ conditional)
