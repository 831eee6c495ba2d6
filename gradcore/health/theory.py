"""What theory expects of gains: the maps of variance and correlation, and the spread that finite widths add.

For a layer ``z = W f(z_before) + b`` whose weights are independent with variance ``weight_std² / fan_in``, the
pre-activations of a wide network are Gaussian; their variance q and the correlation c of two examples follow
one-dimensional maps (Poole et al. 2016; Schoenholz et al. 2017).  All expectations are Gauss-Hermite sums.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from gradcore import activations

Array = npt.NDArray[np.float64]

# An even number of nodes has none at zero and splits the line in equal halves, so that the kink of a ReLU costs
# nothing: E relu(z)² = 1/2 exactly.
_NODES = 200


@cache
def _gauss_hermite() -> tuple[Array, Array]:
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    return nodes, weights / math.sqrt(2 * math.pi)


def _function(activation: str) -> Callable[[Any], Any]:
    info, parameter = activations.resolve(activation)
    function: Callable[..., Any] = getattr(activations, info.name)
    arguments = {} if info.parameter_name is None else {info.parameter_name: parameter}
    return lambda z: function(z, **arguments)


def _slope(activation: str) -> Callable[[Any], Any]:
    info, parameter = activations.resolve(activation)
    backward = getattr(activations, f"{info.name}_backward")
    arguments = {} if info.parameter_name is None else {info.parameter_name: parameter}
    return lambda z: backward(np.ones_like(z), z, **arguments)


def variance_map(activation: str, q: float, weight_std: float, bias_std: float = 0.0) -> float:
    """Return the variance of the next layer's pre-activations, ``σ_w² E f(√q x)² + σ_b²``, x ~ N(0, 1).

    Source: Poole et al., "Exponential expressivity in deep neural networks through transient chaos" (2016), eq. 3.

    Examples
    --------
    >>> round(variance_map("relu", 3.0, math.sqrt(2)), 12)
    3.0
    """
    nodes, weights = _gauss_hermite()
    values = _function(activation)(math.sqrt(q) * nodes)
    return weight_std**2 * float(weights @ values**2) + bias_std**2


def correlation_map(activation: str, q: float, c: float, weight_std: float, bias_std: float = 0.0) -> float:
    """Return the correlation of two examples one layer on, both of variance q and of correlation c now.

    Source: Poole et al. (2016), eq. 5.

    Examples
    --------
    >>> correlation_map("sigmoid", 1.0, 0.5, 1.0) > 0.9
    True
    """
    nodes, weights = _gauss_hermite()
    function, scale = _function(activation), math.sqrt(q)
    first = function(scale * nodes)
    rest = math.sqrt(max(0.0, 1 - c * c))
    second = function(scale * (c * nodes[:, None] + rest * nodes[None, :]))
    covariance = weight_std**2 * float((weights * first) @ (second @ weights)) + bias_std**2
    return covariance / variance_map(activation, q, weight_std, bias_std)


def chi(activation: str, q: float, weight_std: float) -> float:
    """Return the mean squared backward gain of a wide layer, ``σ_w² E f'(√q x)²``: above 1 gradients explode.

    Source: Schoenholz et al., "Deep information propagation" (2017), eq. 8.

    Examples
    --------
    >>> round(chi("relu", 1.0, math.sqrt(2)), 12)
    1.0
    """
    nodes, weights = _gauss_hermite()
    return weight_std**2 * float(weights @ _slope(activation)(math.sqrt(q) * nodes) ** 2)


@cache
def _slope_moments(activation: str, log_scale: int) -> float:
    nodes, weights = _gauss_hermite()
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        squares = _slope(activation)(2.0**log_scale * nodes) ** 2
        second, fourth = float(weights @ squares), float(weights @ squares**2)
    return fourth / second**2 if 0 < second and fourth < math.inf else math.inf


def gain_variance(activation: str, scale: float, width: int) -> float:
    """Return the variance of the natural log of a layer's squared backward gain that its finite width adds.

    The squared gain is a mean over `width` units of ``g² f'(z)²`` with Gaussian g, so its relative variance is
    ``(3 κ - 1) / width`` with ``κ = E f'⁴ / (E f'²)²``; for ReLU that is the 5 / width of Hanin & Nica, "Products of
    many large random matrices and gradients in deep neural networks" (2018), for a linear layer 2 / width.

    Parameters
    ----------
    activation : str
    scale : float
        rms of the pre-activations.
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
    # the moments vary slowly with the scale: whole powers of two are close enough for a bound, and cached
    exponent = round(math.log2(scale)) if 0 < scale < math.inf else 0
    kurtosis = _slope_moments(activation, max(-20, min(20, exponent)))
    return (3 * kurtosis - 1) / width if math.isfinite(kurtosis) else math.inf
