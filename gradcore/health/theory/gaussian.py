"""Expectations of an activation under a Gaussian: what every map of the theory is made of.

Pre-activations of a wide layer are Gaussian, so all that theory needs of a function f are numbers such as E f(z) and
E f(z₁) f(z₂).  The rule below is exact to about 1e-10 for every activation and every scale: it splits the line
at the kinks and makes its panels ever smaller towards the place where a bounded function turns into a step.
"""

from __future__ import annotations

import math
from functools import cache, lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gradcore import activations, kernels
from gradcore.activations import ActivationInfo

Array = npt.NDArray[np.float64]

# The Gaussian beyond 10 standard deviations holds 1e-23 of the mass.
_REACH = 10.0
_PANELS = np.array([0.0, 1.0, 1.75, 2.5, 3.5, 5.0, 7.0, _REACH])
_PANELS = np.concatenate([-_PANELS[:0:-1], _PANELS])
# Hermite coefficients kept; what lies beyond is summed up.
ORDERS = 24


@cache
def _legendre() -> tuple[Array, Array]:
    nodes, weights = np.polynomial.legendre.leggauss(12)
    return (nodes + 1) / 2, weights / 2


def levels_for(scale: float) -> int:
    """Number of times that panels shrink by 4 towards a centre, for features of width 1 / scale there."""
    return max(5, min(40, math.ceil(math.log(scale) / math.log(4)))) if scale > 1 else 5


def gauss(centres: Array, splits: Array, levels: int) -> tuple[Array, Array]:
    """Return nodes and weights of ``E g(x)``, x ~ N(0, 1).

    Parameters
    ----------
    centres, splits : ndarray, shape (..., any number)
        Where panels shrink geometrically, and where they end.  Leading axes give one rule each.
    levels : int
        How often they shrink, by 4.

    Returns
    -------
    nodes, weights : ndarray, shape (..., nodes)
    """
    close = 4.0 ** -np.arange(1.0, levels + 1)
    close = np.concatenate([-close, [0.0], close])
    around = (centres[..., None] + close).reshape(*centres.shape[:-1], -1)
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
def rule(centre: float, splits: tuple[float, ...], levels: int) -> tuple[Array, Array, Array]:
    """Return nodes, weights and weighted Hermite polynomials h_1 … h_K (orthonormal, one per row) of one rule."""
    nodes, weights = gauss(np.array([centre]), np.array(splits), levels)
    polynomials = np.empty((ORDERS + 1, len(nodes)))
    polynomials[0], polynomials[1] = 1.0, nodes
    for k in range(1, ORDERS):
        # √(k+1) h_{k+1} = x h_k − √k h_{k−1}
        polynomials[k + 1] = (nodes * polynomials[k] - math.sqrt(k) * polynomials[k - 1]) / math.sqrt(k + 1)
    return nodes, weights, polynomials[1:] * weights


def function_of_one(activation: str) -> tuple[ActivationInfo, float]:
    """Find an activation by its spec, and refuse the one that is no function of one number."""
    info, parameter = activations.resolve(activation)
    if info.name == "softmax":
        raise ValueError("the theory is for functions of one number; softmax takes a row")
    return info, parameter


def function_and_slope(info: ActivationInfo, parameter: float, z: Array) -> tuple[Array, Array]:
    """Return f(z) and f'(z) of the kernels; z is contiguous."""
    value, slope = np.empty_like(z), np.empty_like(z)
    kernels.activation(info.code, parameter, z.reshape(-1), value.reshape(-1), slope.reshape(-1))
    return value, slope


class Moments(NamedTuple):
    """What theory needs of f at z ~ N(mean, std²).

    Parameters
    ----------
    mean, rms, std : float
        E f(z), √(E f(z)²) and the standard deviation of f(z).
    slope_mean, slope_rms : float
        Of f'(z).
    beyond : ndarray
        The variance of f(z) by Hermite order, as shares that lie beyond order 0, 1, 2, …: with ``f(z) = Σ a_k h_k(x)``
        the share of order k is ``a_k² / Σ a_k²``, k ≥ 1.
    tail, tail_orders : ndarray
        What lies beyond the orders kept: shares and orders of a few representatives.
    """

    mean: float
    rms: float
    std: float
    slope_mean: float
    slope_rms: float
    beyond: Array
    tail: Array
    tail_orders: Array

    def difference(self, t: Array) -> Array:
        """Return ``√(½ E (f(z₁) − f(z₂))²)`` where z₁ and z₂ have the correlation ρ = 1 − t.

        This is the correlation map (Poole et al. 2016, eq. 5) by Mehler's formula, ``std² Σ shares (1 − ρ^k)``, with
        1 − ρ^k = t (1 + ρ + … + ρ^(k−1)), so that examples which are almost equal lose no digit.
        """
        powers = np.empty((len(self.beyond), len(t)))
        powers[0], powers[1:] = t, 1 - t
        missing = self.beyond.dot(np.multiply.accumulate(powers, axis=0, out=powers))
        if len(self.tail):
            # orders that high are gone unless the two are almost equal
            with np.errstate(divide="ignore"):
                log_rho = np.log1p(-np.minimum(t, 1.0))
            missing -= self.tail.dot(np.expm1(self.tail_orders[:, None] * log_rho))
        return np.asarray(self.std * np.sqrt(missing))


_ORDERS = np.arange(1.0, ORDERS + 1)
_LOG_FACTORIAL = np.cumsum(np.log(_ORDERS))
_NOTHING = np.empty(0)
_LINEAR = (np.ones(1), _NOTHING, _NOTHING)
_DOUBLINGS = np.arange(10.0)


def moments(info: ActivationInfo, parameter: float, mean: float, std: float) -> Moments:
    """Return the moments of an activation at z ~ N(mean, std²)."""
    if info.name == "exponential":
        return _exponential(mean, std)
    centre = 0.0
    splits: tuple[float, ...] = ()
    if std > 0:
        centre = max(-_REACH, min(_REACH, -mean / std))
        splits = tuple((kink - mean) / std for kink in info.kinks if kink)
    nodes, weights, polynomials = rule(centre, splits, levels_for(std))
    value, slope = function_and_slope(info, parameter, mean + std * nodes)
    slope_rms = math.sqrt(weights.dot(slope * slope))
    size = math.sqrt(weights.dot(value * value))
    unit = 1.0
    if not 1e-140 < size < 1e140:  # squares leave the range: in proportion to the largest value they cannot
        unit = float(np.abs(value).max()) or 1.0
        value /= unit
        size = math.sqrt(weights.dot(value * value))
    first, linear = float(weights.dot(value)), std * slope_rms / unit
    if linear < 1e-12 * size:
        # so narrow that f(z) − f(mean) is rounding: f is linear there
        return Moments(
            unit * first, unit * size, unit * linear, float(weights.dot(slope)), slope_rms, *_LINEAR
        )
    centred = value - first
    variance = float(weights.dot(centred * centred))
    shares = polynomials.dot(centred) ** 2 / variance if variance > 0 else np.zeros(ORDERS)
    deviation = math.sqrt(variance)
    mean_order = min(linear / deviation, 1e100) ** 2 if variance > 0 else 0.0
    return Moments(
        unit * first, unit * size, unit * deviation, float(weights.dot(slope)), slope_rms,
        *_by_order(shares, mean_order),
    )  # fmt: skip


def _by_order(shares: Array, mean_order: float) -> tuple[Array, Array, Array]:
    """Return the shares beyond each order, and a tail for what the orders kept leave of Σ shares = 1.

    Coefficients of a kink or a step fall like a power of the order, so the shares of each doubling of the order are a
    geometric series, whose ratio the last doubling that was kept tells.  The last share stands for all beyond it, at
    the order that makes the mean right: Σ k a_k² = std² E f'², so both ends of the correlation map are exact, its
    value, and its slope at 1.
    """
    left = 1 - float(shares.sum())
    beyond = np.cumsum(shares[::-1])[::-1]
    if left < 1e-6:
        return beyond, _NOTHING, _NOTHING
    ratio = left / (left + float(beyond[ORDERS // 2]))
    rest, orders = left * ratio**_DOUBLINGS, math.sqrt(2) * (ORDERS + 1) * 2**_DOUBLINGS
    tail = (1 - ratio) * rest
    weight = mean_order - float(_ORDERS.dot(shares)) - np.cumsum(tail * orders) + tail * orders
    lumped = weight / rest
    # a series cut short by smoothness ends where its mean order is reached
    last = max(int(np.count_nonzero(np.logical_and.accumulate(lumped >= orders))) - 1, 0)
    tail[last], orders[last] = rest[last], max(lumped[last], ORDERS + 1.0)
    return beyond, tail[: last + 1], orders[: last + 1]


def _exponential(mean: float, std: float) -> Moments:
    """Closed forms of exp: its second moment sits at 2 std, beyond the reach of any fixed rule.

    exp(mean + std x) = exp(mean + std²/2) Σ std^k / √k! h_k(x)
    """
    variance = std * std
    with np.errstate(over="ignore"):
        first, size = float(np.exp(mean + variance / 2)), float(np.exp(mean + variance))
    spread = size * math.sqrt(-math.expm1(-variance))
    if not std > 1e-12:
        return Moments(first, size, size * std, first, size, *_LINEAR)
    # Poisson's probabilities, given that k > 0
    shares = np.exp(2 * _ORDERS * math.log(std) - _LOG_FACTORIAL - variance) / -math.expm1(-variance)
    return Moments(first, size, spread, first, size, *_by_order(shares, variance / -math.expm1(-variance)))


def product(info: ActivationInfo, parameter: float, std: float, c: float, slopes: bool = False) -> float:
    """Return ``E f(z₁) f(z₂)`` (of the slopes: ``E f'(z₁) f'(z₂)``) for variances std² and correlation c.

    Given z₁ = m the other is N(c m, (1 − c²) std²): a rule inside a rule, the outer one finer where the inner
    average of a kink is a smooth step of width √(1 − c²) std.  Exponentials, again, have a closed form.
    """
    if info.name == "exponential":
        with np.errstate(over="ignore"):
            return float(np.exp(std * std * (1 + c)))

    def of(z: Array) -> Array:
        return function_and_slope(info, parameter, z)[slopes]

    kinks = np.array(info.kinks or (0.0,))
    rest = math.sqrt((1 - c) * (1 + c)) * std
    if rest == 0 or abs(c) < 1e-300:
        nodes, weights = gauss(np.zeros(1), kinks / std, levels_for(std))
        if rest == 0:
            return float(weights.dot(of(std * nodes) * of(c * std * nodes)))
        return float(weights.dot(of(std * nodes))) ** 2
    nodes, weights = gauss(kinks / (c * std), kinks / std, levels_for(abs(c) * std * max(1.0, 1 / rest)))
    given = c * std * nodes[:, None]
    y, inner = gauss(-given / rest, (kinks - given) / rest, levels_for(rest))
    conditional = (of(given + rest * y) * inner).sum(axis=1)
    return float((weights * of(std * nodes)).dot(conditional))
