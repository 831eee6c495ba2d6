"""What a finite width adds to the theory of wide layers: scatter, and layers that are dead at birth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import numpy as np

from gradcore import activations
from gradcore.errors import check_integer
from gradcore.health.theory.gaussian import function_and_slope, function_of_one, gauss, levels_for


@cache
def _slope_kurtosis(activation: str, log_scale: int) -> float:
    info, parameter = function_of_one(activation)
    if info.name == "exponential":
        # f'² = exp(2 std x): E f'⁴ / (E f'²)² = exp(8 std² − 4 std²)
        exponent = 4 * 4.0**log_scale
        return math.exp(exponent) if exponent < 700 else math.inf
    scale = 2.0**log_scale
    nodes, weights = gauss(np.zeros(1), np.array(info.kinks) / scale, levels_for(scale))
    _, slopes = function_and_slope(info, parameter, scale * nodes)
    squares = slopes**2
    second, fourth = float(weights @ squares), float(weights @ squares**2)
    return fourth / second**2 if second**2 > 0 else math.inf


def gain_variance(activation: str, scale: float, width: int) -> float:
    """Return the variance of the natural log of a layer's squared backward gain that its finite width adds.

    The squared gain is a mean over `width` units of ``g² f'(z)²`` with Gaussian g, so its relative variance is
    ``(3 κ - 1) / width`` with ``κ = E f'⁴ / (E f'²)²``; for ReLU that is the 5 / width of Hanin & Nica, "Products of
    many large random matrices and gradients in deep neural networks" (2018), for a linear layer 2 / width.

    Parameters
    ----------
    activation : str
    scale : float
        rms of the pre-activations; at zero, and where it is no number, that of scale 1 is returned.
    width : int

    Returns
    -------
    float
        Infinite where the moments are: no law of large numbers holds then (exponentials of large inputs).

    Examples
    --------
    >>> round(gain_variance("relu", 1.0, 50), 6)
    0.1
    """
    width = check_integer("width", width)
    # the moments vary slowly with the scale: whole powers of two are close enough for a bound, and cached
    exponent = round(math.log2(scale)) if 0 < scale < math.inf else 0
    kurtosis = _slope_kurtosis(activation, max(-20, min(20, exponent)))
    return (3 * kurtosis - 1) / width if math.isfinite(kurtosis) else math.inf


@cache
def dead_below(activation: str) -> float:
    """Return the edge below which the activation is flat (0 for ReLU), minus infinity where there is none."""
    info, parameter = activations.resolve(activation)
    edge = min(info.kinks, default=-math.inf)
    z = edge - np.geomspace(1e-6, 1e6, 100)
    _, slopes = function_and_slope(info, parameter, z)
    return edge if info.kinks and not slopes.any() else -math.inf


def dead_layer_chance(widths: Sequence[int], off: float | Sequence[float] = 0.5) -> float:
    """Return the chance that some ReLU layer is off on all data: ``1 − Π (1 − off^width)`` over these layers.

    A unit whose weights and bias are drawn symmetrically is off on one example with probability 1/2.  It is off on
    all of them with the same probability where the data lie in one direction, and with less elsewhere: an upper
    bound, which deep networks approach because their examples become alike.

    Parameters
    ----------
    widths : sequence of int
    off : float or sequence of float
        Chance of one unit of each layer to be off on one example.

    Notes
    -----
    Source: Lu, Shin, Su & Karniadakis, "Dying ReLU and initialization" (2020); that the bound becomes tight: Rister &
    Rubin, "Probabilistic bounds on neuron death in deep rectifier networks" (2020).

    Examples
    --------
    >>> round(dead_layer_chance(20 * [4]), 3), dead_layer_chance(20 * [128]) < 1e-36
    (0.725, True)
    """
    units = np.array([check_integer(f"widths[{i}]", width) for i, width in enumerate(widths)], float)
    chances = np.asarray(off, float)
    if chances.shape not in ((), units.shape) or not ((chances >= 0) & (chances <= 1)).all():
        raise ValueError(
            f"off must be a chance from 0 to 1, or one for each of the {len(units)} layers, got {off}"
        )
    with np.errstate(divide="ignore"):  # a layer that is off for certain
        alive = np.log1p(-(chances**units))
    return abs(math.expm1(float(alive.sum())))
