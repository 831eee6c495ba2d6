"""Activation functions, their derivatives, and the one table (`REGISTRY`) the rest of gradcore knows them by.

``f(x, *, out=None)`` is applied element by element to an array of any shape, strides and byte order; x is the
pre-activation.  ``f_backward(grad_output, x, *, out=None)`` is dL/dx for dL/df = grad_output of the same
shape. float32 and float64 are computed as they are, float16 in float32, integers and bool in float64.  `out`
(of the result's shape and dtype) may be an input itself.  NaN and infinities flow as IEEE 754 says, without a
warning. Other dtypes and masked arrays raise TypeError; an `out` of another shape, read-only or partly
overlapping an input raises ValueError; nothing is written then.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from gradcore import kernels
from gradcore.arrays import (
    Array,
    as_kernel_array,
    as_real,
    check_out,
    deliver,
    kernel_dtype,
    kernel_out,
    result_dtype,
)
from gradcore.errors import check_finite, unknown_name
from gradcore.spec import parse_spec

SELU_SCALE = 1.0507009873554804934193349852946
SELU_ALPHA = 1.6732632423543772848170429916717


def _no_arguments(parameter: float) -> tuple[float, ...]:
    return ()


@dataclass(frozen=True)
class ActivationInfo:
    """What gradcore knows about one activation.

    Attributes
    ----------
    name, aliases : str, tuple of str
    formula : str
    parameter_name, default : str or None, float
        The one parameter it may have, such as ``negative_slope``, and its default.
    init : str
        The initializer that ``init="auto"`` means for a dense layer in front of it …
    init_arguments : callable
        … and that initializer's arguments, from the activation's parameter.
    bounded : bool
        The outputs lie in a bounded interval (such a unit saturates; one that is not goes inactive).
    max_slope : float
        Largest absolute derivative, at the default parameter.
    kinks : tuple of float
        Where the function is not smooth: integrals are split there.
    """

    name: str
    formula: str
    init: str
    bounded: bool
    max_slope: float
    kinks: tuple[float, ...] = ()
    parameter_name: str | None = None
    default: float = 0.0
    aliases: tuple[str, ...] = ()
    init_arguments: Callable[[float], tuple[float, ...]] = _no_arguments

    @property
    def code(self) -> int:
        """The number by which the kernels know it."""
        return kernels.ACTIVATION_CODES[self.name]


def _elu_second_moment(alpha: float) -> tuple[float, ...]:
    # E elu(z)^2 for z ~ N(0, 1): 1/2 from the right half, and from the left half
    # alpha^2 E[(e^z - 1)^2; z < 0] = alpha^2 (e^2 Phi(-2) - 2 e^(1/2) Phi(-1) + 1/2), completing the squares.
    left = math.exp(2) * math.erfc(math.sqrt(2)) / 2 - math.exp(0.5) * math.erfc(math.sqrt(0.5)) + 0.5
    return (0.5 + alpha * alpha * left,)


def _gelu_second_moment(parameter: float) -> tuple[float, ...]:
    # E z^2 Phi(z)^2 = E[Phi^2] + 2 E[z phi Phi] by Stein's lemma, = 1/3 + E[phi^2] by the lemma again.
    return (1 / 3 + 1 / (2 * math.pi * math.sqrt(3)),)


REGISTRY: dict[str, ActivationInfo] = {
    info.name: info
    for info in (
        ActivationInfo("identity", "z", "glorot_normal", False, 1.0, aliases=("linear",)),
        ActivationInfo("sigmoid", "1 / (1 + exp(-z))", "glorot_normal", True, 0.25, aliases=("logistic",)),
        ActivationInfo("tanh", "(exp(z) - exp(-z)) / (exp(z) + exp(-z))", "glorot_normal", True, 1.0),
        ActivationInfo("relu", "max(z, 0)", "he_normal", False, 1.0, kinks=(0.0,)),
        ActivationInfo(
            "leaky_relu", "z if z > 0 else negative_slope z", "he_normal", False, 1.0, kinks=(0.0,),
            parameter_name="negative_slope", default=0.01, init_arguments=lambda slope: (slope,),
        ),
        ActivationInfo(
            "selu", "scale z if z > 0 else scale alpha (exp(z) - 1)", "lecun_normal", False, SELU_SCALE *
            SELU_ALPHA, kinks=(0.0,)
        ),
        ActivationInfo(
            "elu", "z if z > 0 else alpha (exp(z) - 1)", "moment_normal", False, 1.0, kinks=(0.0,),
            parameter_name="alpha", default=1.0, init_arguments=_elu_second_moment,
        ),
        ActivationInfo(
            # the slope is largest at sqrt(2): Phi(sqrt(2)) + sqrt(2) phi(sqrt(2))
            "gelu", "z Phi(z)", "moment_normal", False, (1 + math.erf(1)) / 2 + math.exp(-1) /
            math.sqrt(math.pi), init_arguments=_gelu_second_moment,
        ),
        # No initial weights keep a deep stack of exponentials in balance; as an output it wants what identity
        # wants.
        ActivationInfo("exponential", "exp(z)", "glorot_normal", False, math.inf, aliases=("exp",)),
    )
}  # fmt: skip

# Over a row, not element by element: a layer, but no function of this module.
SOFTMAX = ActivationInfo("softmax", "exp(z) / sum(exp(z))", "glorot_normal", True, 0.25)

_BY_NAME: dict[str, ActivationInfo] = {
    name: info for info in (*REGISTRY.values(), SOFTMAX) for name in (info.name, *info.aliases)
}


def resolve(spec: str) -> tuple[ActivationInfo, float]:
    """Find an activation by name, alias or spec.

    Parameters
    ----------
    spec : str
        Such as ``"relu"``, ``"logistic"``, ``"leaky_relu(0.2)"``.

    Returns
    -------
    info : ActivationInfo
    parameter : float
        0.0 where the activation has none.

    Raises
    ------
    ValueError
        Unknown name (the nearest known ones are named) or arguments that it does not take.

    Examples
    --------
    >>> info, negative_slope = resolve("leaky_relu(0.2)")
    >>> info.name, negative_slope
    ('leaky_relu', 0.2)
    """
    parsed = parse_spec(spec)
    info = _BY_NAME.get(parsed.name)
    if info is None:
        raise unknown_name("activation", parsed.name, (*REGISTRY, SOFTMAX.name))
    keyword = info.parameter_name
    if len(parsed.args) + len(parsed.kwargs) > (keyword is not None) or not set(parsed.kwargs) <= {keyword}:
        takes = "no argument" if keyword is None else f"one argument, {keyword}={info.default}"
        raise ValueError(f"{parsed}: {info.name} takes {takes}")
    given = (*parsed.args, *parsed.kwargs.values())
    return info, check_finite(f"{info.name}'s {keyword}", given[0]) if given else info.default


def _forward(name: str, x: ArrayLike, out: Array | None, parameter: float = 0.0) -> Any:
    source = as_real(x)
    dtype = result_dtype(source)
    if out is not None:
        check_out(out, source.shape, dtype, source)
    z = as_kernel_array(source, kernel_dtype(dtype))
    a = kernel_out(out, z.shape, z.dtype)
    kernels.activation(REGISTRY[name].code, parameter, z.reshape(-1), a.reshape(-1))
    return deliver(a, out, dtype)


def _backward(
    name: str, grad_output: ArrayLike, x: ArrayLike, out: Array | None, parameter: float = 0.0
) -> Any:
    source, grad = as_real(x), as_real(grad_output, "grad_output")
    if grad.shape != source.shape:
        raise ValueError(f"grad_output has shape {grad.shape}, x has {source.shape}; they must agree")
    dtype = result_dtype(source, grad)
    if out is not None:
        check_out(out, source.shape, dtype, source, grad)
    z = as_kernel_array(source, kernel_dtype(dtype))
    slope = np.empty_like(z)
    kernels.activation(
        REGISTRY[name].code, parameter, z.reshape(-1), np.empty(z.size, z.dtype), slope.reshape(-1)
    )
    with np.errstate(all="ignore"):
        d_x = np.multiply(as_kernel_array(grad, z.dtype), slope, out=slope)
    return deliver(d_x, out, dtype)


def identity(x: ArrayLike, *, out: Array | None = None) -> Any:
    """Return z itself.

    Examples
    --------
    >>> identity([-1.0, 2.0])
    array([-1.,  2.])
    """
    return _forward("identity", x, out)


def identity_backward(grad_output: ArrayLike, x: ArrayLike, *, out: Array | None = None) -> Any:
    """grad_output times the derivative: 1.

    Examples
    --------
    >>> identity_backward([3.0], [7.0])
    array([3.])
    """
    return _backward("identity", grad_output, x, out)


def sigmoid(x: ArrayLike, *, out: Array | None = None) -> Any:
    """The logistic function 1 / (1 + exp(-z)), right to the last bits in both tails.

    Examples
    --------
    >>> sigmoid(0.0)
    np.float64(0.5)
    """
    return _forward("sigmoid", x, out)


def sigmoid_backward(grad_output: ArrayLike, x: ArrayLike, *, out: Array | None = None) -> Any:
    """grad_output times the derivative: sigmoid(x) (1 - sigmoid(x)), at most 1/4.

    Examples
    --------
    >>> sigmoid_backward(1.0, 0.0)
    np.float64(0.25)
    """
    return _backward("sigmoid", grad_output, x, out)


def tanh(x: ArrayLike, *, out: Array | None = None) -> Any:
    """The hyperbolic tangent.

    Examples
    --------
    >>> tanh(0.0)
    np.float64(0.0)
    """
    return _forward("tanh", x, out)


def tanh_backward(grad_output: ArrayLike, x: ArrayLike, *, out: Array | None = None) -> Any:
    """grad_output times the derivative: 1 - tanh(x)².

    Examples
    --------
    >>> tanh_backward(1.0, 0.0)
    np.float64(1.0)
    """
    return _backward("tanh", grad_output, x, out)


def relu(x: ArrayLike, *, out: Array | None = None) -> Any:
    """max(z, 0).

    Source: Nair & Hinton, "Rectified Linear Units Improve Restricted Boltzmann Machines" (2010).

    Examples
    --------
    >>> relu([-1.0, 2.0])
    array([0., 2.])
    """
    return _forward("relu", x, out)


def relu_backward(grad_output: ArrayLike, x: ArrayLike, *, out: Array | None = None) -> Any:
    """grad_output times the derivative: 1 above zero, 0 at zero and below.

    Examples
    --------
    >>> relu_backward([3.0, 3.0], [0.0, 1.0])
    array([0., 3.])
    """
    return _backward("relu", grad_output, x, out)


def leaky_relu(x: ArrayLike, negative_slope: float = 0.01, *, out: Array | None = None) -> Any:
    """Return z above zero, negative_slope z elsewhere.

    Source: Maas, Hannun & Ng, "Rectifier Nonlinearities Improve Neural Network Acoustic Models" (2013).

    Examples
    --------
    >>> leaky_relu([-1.0, 2.0], 0.1)
    array([-0.1,  2. ])
    """
    return _forward("leaky_relu", x, out, check_finite("negative_slope", negative_slope))


def leaky_relu_backward(
    grad_output: ArrayLike, x: ArrayLike, negative_slope: float = 0.01, *, out: Array | None = None
) -> Any:
    """grad_output times the derivative: 1 above zero, negative_slope at zero and below.

    Examples
    --------
    >>> leaky_relu_backward([3.0, 3.0], [-1.0, 1.0], 0.5)
    array([1.5, 3. ])
    """
    return _backward("leaky_relu", grad_output, x, out, check_finite("negative_slope", negative_slope))


def elu(x: ArrayLike, alpha: float = 1.0, *, out: Array | None = None) -> Any:
    """Return z above zero, alpha (exp(z) - 1) elsewhere.

    Source: Clevert, Unterthiner & Hochreiter, "Fast and Accurate Deep Network Learning by ELUs" (2016).

    Examples
    --------
    >>> elu([-np.inf, 2.0])
    array([-1.,  2.])
    """
    return _forward("elu", x, out, check_finite("alpha", alpha))


def elu_backward(
    grad_output: ArrayLike, x: ArrayLike, alpha: float = 1.0, *, out: Array | None = None
) -> Any:
    """grad_output times the derivative: 1 above zero, alpha exp(x) at zero and below.

    Examples
    --------
    >>> elu_backward([3.0, 3.0], [0.0, 1.0], 2.0)
    array([6., 3.])
    """
    return _backward("elu", grad_output, x, out, check_finite("alpha", alpha))


def selu(x: ArrayLike, *, out: Array | None = None) -> Any:
    """1.0507 times ELU with alpha = 1.6733, which keeps zero mean and unit variance.

    Source: Klambauer, Unterthiner, Mayr & Hochreiter, "Self-Normalizing Neural Networks" (2017).

    Examples
    --------
    >>> selu(0.0)
    np.float64(0.0)
    """
    return _forward("selu", x, out)


def selu_backward(grad_output: ArrayLike, x: ArrayLike, *, out: Array | None = None) -> Any:
    """grad_output times the derivative: scale above zero, scale alpha exp(x) at zero and below.

    Examples
    --------
    >>> bool(selu_backward(1.0, 1.0) == SELU_SCALE)
    True
    """
    return _backward("selu", grad_output, x, out)


def gelu(x: ArrayLike, *, out: Array | None = None) -> Any:
    """Return z Phi(z), Phi the normal distribution function (exact, not the tanh approximation).

    Source: Hendrycks & Gimpel, "Gaussian Error Linear Units" (2016).

    Examples
    --------
    >>> gelu([-1.0, 1.0]).round(4)
    array([-0.1587,  0.8413])
    """
    return _forward("gelu", x, out)


def gelu_backward(grad_output: ArrayLike, x: ArrayLike, *, out: Array | None = None) -> Any:
    """grad_output times the derivative: Phi(x) + x phi(x).

    Examples
    --------
    >>> gelu_backward(1.0, 0.0)
    np.float64(0.5)
    """
    return _backward("gelu", grad_output, x, out)


def exponential(x: ArrayLike, *, out: Array | None = None) -> Any:
    """exp(z).

    Examples
    --------
    >>> exponential(0.0)
    np.float64(1.0)
    """
    return _forward("exponential", x, out)


def exponential_backward(grad_output: ArrayLike, x: ArrayLike, *, out: Array | None = None) -> Any:
    """grad_output times the derivative: exp(x).

    Examples
    --------
    >>> exponential_backward(2.0, 0.0)
    np.float64(2.0)
    """
    return _backward("exponential", grad_output, x, out)
