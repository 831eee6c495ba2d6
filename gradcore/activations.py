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
from gradcore.errors import check_finite, check_positive, unknown_name
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
        Flat on both sides of where pre-activations begin: such a unit saturates; one that is not goes inactive.
    max_slope : float
        Largest absolute derivative, at the default parameter.
    kinks : tuple of float
        Where the function is not smooth: integrals are split there.
    outputs : tuple of float
        Least and largest output, whatever the parameter.
    rectifier : bool
        Hands on one side nearly as it is and holds the other back.
    check : callable
        Given the parameter's name and value, returns the value or raises ValueError.
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
    outputs: tuple[float, float] = (-math.inf, math.inf)
    rectifier: bool = False
    check: Callable[[str, Any], float] = check_finite

    @property
    def code(self) -> int:
        """The number by which the kernels know it."""
        return kernels.ACTIVATION_CODES[self.name]


def _left_exponential(t: float) -> float:
    # E[exp(t z); z < 0] for z ~ N(0, 1), by completing the square: exp(t²/2) Φ(-t), and its asymptotic series
    if t < 30:
        return math.exp(t * t / 2) * math.erfc(t / math.sqrt(2)) / 2
    return (1 - 1 / (t * t)) / (t * math.sqrt(2 * math.pi))


def _elu_second_moment(alpha: float) -> tuple[float, ...]:
    # 1/2 from the right half, and alpha² E[(e^z - 1)²; z < 0] from the left
    return (0.5 + alpha * alpha * (_left_exponential(2) - 2 * _left_exponential(1) + 0.5),)


def _celu_second_moment(alpha: float) -> tuple[float, ...]:
    if alpha > 1000:  # where the three terms cancel: nearly the identity, z + z² / (2 alpha)
        return (1 - math.sqrt(2 / math.pi) / alpha,)
    return (0.5 + alpha * alpha * (_left_exponential(2 / alpha) - 2 * _left_exponential(1 / alpha) + 0.5),)


def _second_moment(name: str) -> Callable[[float], tuple[float, ...]]:
    """Return the function that integrates f(z)², z ~ N(0, 1), for an f smooth between whole numbers."""

    def integrate(parameter: float) -> tuple[float, ...]:
        nodes, weights = np.polynomial.legendre.leggauss(16)
        z = (np.arange(-12, 12)[:, None] + (nodes + 1) / 2).reshape(-1)
        value = np.empty_like(z)
        kernels.activation(kernels.ACTIVATION_CODES[name], parameter, z, value)
        mass = np.tile(weights / 2, 24) * np.exp(-z * z / 2) / math.sqrt(2 * math.pi)
        return (float(mass.dot(value * value)),)

    return integrate


def _gelu_second_moment(parameter: float) -> tuple[float, ...]:
    # E z^2 Phi(z)^2 = E[Phi^2] + 2 E[z phi Phi] by Stein's lemma, = 1/3 + E[phi^2] by the lemma again.
    return (1 / 3 + 1 / (2 * math.pi * math.sqrt(3)),)


_POSITIVE = (0.0, math.inf)

REGISTRY: dict[str, ActivationInfo] = {
    info.name: info
    for info in (
        ActivationInfo("identity", "z", "glorot_normal", False, 1.0, aliases=("linear",)),
        ActivationInfo(
            "sigmoid", "1 / (1 + exp(-z))", "glorot_normal", True, 0.25, aliases=("logistic",), outputs=(0.0, 1.0),
        ),
        ActivationInfo(
            "log_sigmoid", "-log(1 + exp(-z))", "moment_normal", False, 1.0, aliases=("logsigmoid",),
            init_arguments=_second_moment("log_sigmoid"), outputs=(-math.inf, 0.0), rectifier=True,
        ),
        ActivationInfo(
            "hard_sigmoid", "min(max(z + 3, 0), 6) / 6", "glorot_normal", True, 1 / 6, kinks=(-3.0, 3.0),
            aliases=("hardsigmoid",), outputs=(0.0, 1.0),
        ),
        ActivationInfo(
            "tanh", "(exp(z) - exp(-z)) / (exp(z) + exp(-z))", "glorot_normal", True, 1.0, outputs=(-1.0, 1.0),
        ),
        ActivationInfo(
            "hard_tanh", "min(max(z, -1), 1)", "glorot_normal", True, 1.0, kinks=(-1.0, 1.0), aliases=("hardtanh",),
            outputs=(-1.0, 1.0),
        ),
        ActivationInfo("softsign", "z / (1 + abs(z))", "glorot_normal", True, 1.0, kinks=(0.0,), outputs=(-1.0, 1.0)),
        ActivationInfo(
            "softplus", "log(1 + exp(z))", "moment_normal", False, 1.0, init_arguments=_second_moment("softplus"),
            outputs=_POSITIVE, rectifier=True,
        ),
        ActivationInfo(
            "relu", "max(z, 0)", "he_normal", False, 1.0, kinks=(0.0,), outputs=_POSITIVE, rectifier=True,
        ),
        ActivationInfo(
            # not bounded in the sense meant: what is flat for half of all pre-activations is inactive, not saturated
            "relu6", "min(max(z, 0), 6)", "he_normal", False, 1.0, kinks=(0.0, 6.0), outputs=(0.0, 6.0),
            rectifier=True,
        ),
        ActivationInfo(
            "leaky_relu", "z if z > 0 else negative_slope z", "he_normal", False, 1.0, kinks=(0.0,),
            parameter_name="negative_slope", default=0.01, init_arguments=lambda slope: (slope,), rectifier=True,
        ),
        ActivationInfo(
            "elu", "z if z > 0 else alpha (exp(z) - 1)", "moment_normal", False, 1.0, kinks=(0.0,),
            parameter_name="alpha", default=1.0, init_arguments=_elu_second_moment, rectifier=True,
        ),
        ActivationInfo(
            "selu", "scale z if z > 0 else scale alpha (exp(z) - 1)", "lecun_normal", False, SELU_SCALE *
            SELU_ALPHA, kinks=(0.0,), outputs=(-1.7580994, math.inf), rectifier=True,
        ),
        ActivationInfo(
            "celu", "z if z > 0 else alpha (exp(z / alpha) - 1)", "moment_normal", False, 1.0, kinks=(0.0,),
            parameter_name="alpha", default=1.0, init_arguments=_celu_second_moment, rectifier=True,
            check=check_positive,
        ),
        ActivationInfo(
            # the slope is largest at sqrt(2): Phi(sqrt(2)) + sqrt(2) phi(sqrt(2))
            "gelu", "z Phi(z)", "moment_normal", False, (1 + math.erf(1)) / 2 + math.exp(-1) /
            math.sqrt(math.pi), init_arguments=_gelu_second_moment, outputs=(-0.16997121, math.inf), rectifier=True,
        ),
        ActivationInfo(
            "gelu_tanh", "z (1 + tanh(sqrt(2 / pi) (z + 0.044715 z³))) / 2", "moment_normal", False,
            1.1289930686587718, init_arguments=_second_moment("gelu_tanh"), outputs=(-0.17004076, math.inf),
            rectifier=True,
        ),
        ActivationInfo(
            "silu", "z / (1 + exp(-z))", "moment_normal", False, 1.0998393201288669, aliases=("swish",),
            init_arguments=_second_moment("silu"), outputs=(-0.27846455, math.inf), rectifier=True,
        ),
        ActivationInfo(
            "hard_silu", "z min(max(z + 3, 0), 6) / 6", "moment_normal", False, 1.5, kinks=(-3.0, 3.0),
            aliases=("hard_swish", "hardswish"), init_arguments=_second_moment("hard_silu"),
            outputs=(-0.375, math.inf), rectifier=True,
        ),
        ActivationInfo(
            "mish", "z tanh(log(1 + exp(z)))", "moment_normal", False, 1.088498161251728,
            init_arguments=_second_moment("mish"), outputs=(-0.30884342, math.inf), rectifier=True,
        ),
        # No initial weights keep a deep stack of exponentials in balance; as an output it wants what identity
        # wants.
        ActivationInfo(
            "exponential", "exp(z)", "glorot_normal", False, math.inf, aliases=("exp",), outputs=_POSITIVE,
        ),
    )
}  # fmt: skip

# Over a row, not element by element: a layer, but no function of this module.
SOFTMAX = ActivationInfo("softmax", "exp(z) / sum(exp(z))", "glorot_normal", True, 0.25, outputs=(0.0, 1.0))

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
    return info, info.check(f"{info.name}'s {keyword}", given[0]) if given else info.default


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


def log_sigmoid(x: ArrayLike, *, out: Array | None = None) -> Any:
    """-log(1 + exp(-z)), the logarithm of `sigmoid`; right to the last bits where that rounds to 1.

    Examples
    --------
    >>> log_sigmoid([-1000.0, 0.0, 50.0])
    array([-1.00000000e+03, -6.93147181e-01, -1.92874985e-22])
    """
    return _forward("log_sigmoid", x, out)


def log_sigmoid_backward(grad_output: ArrayLike, x: ArrayLike, *, out: Array | None = None) -> Any:
    """grad_output times the derivative: sigmoid(-x).

    Examples
    --------
    >>> log_sigmoid_backward(1.0, 0.0)
    np.float64(0.5)
    """
    return _backward("log_sigmoid", grad_output, x, out)


def hard_sigmoid(x: ArrayLike, *, out: Array | None = None) -> Any:
    """min(max(z + 3, 0), 6) / 6, a sigmoid of three straight lines.

    Source: Howard et al., "Searching for MobileNetV3" (2019).

    Examples
    --------
    >>> hard_sigmoid([-4.0, 0.0, 1.5])
    array([0.  , 0.5 , 0.75])
    """
    return _forward("hard_sigmoid", x, out)


def hard_sigmoid_backward(grad_output: ArrayLike, x: ArrayLike, *, out: Array | None = None) -> Any:
    """grad_output times the derivative: 1/6 for -3 < x < 3, 0 elsewhere.

    Examples
    --------
    >>> hard_sigmoid_backward([6.0, 6.0], [0.0, 3.0])
    array([1., 0.])
    """
    return _backward("hard_sigmoid", grad_output, x, out)


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


def hard_tanh(x: ArrayLike, *, out: Array | None = None) -> Any:
    """min(max(z, -1), 1).

    Source: Collobert, "Large Scale Machine Learning" (2004).

    Examples
    --------
    >>> hard_tanh([-3.0, 0.5, 3.0])
    array([-1. ,  0.5,  1. ])
    """
    return _forward("hard_tanh", x, out)


def hard_tanh_backward(grad_output: ArrayLike, x: ArrayLike, *, out: Array | None = None) -> Any:
    """grad_output times the derivative: 1 for -1 < x < 1, 0 elsewhere.

    Examples
    --------
    >>> hard_tanh_backward([3.0, 3.0], [0.5, 1.0])
    array([3., 0.])
    """
    return _backward("hard_tanh", grad_output, x, out)


def softsign(x: ArrayLike, *, out: Array | None = None) -> Any:
    """z / (1 + abs(z)): bounded as tanh is, but its slope falls like a power.

    Source: Bergstra, Desjardins, Lamblin & Bengio, "Quadratic Polynomials Learn Better Image Features" (2009).

    Examples
    --------
    >>> softsign([-np.inf, 1.0])
    array([-1. ,  0.5])
    """
    return _forward("softsign", x, out)


def softsign_backward(grad_output: ArrayLike, x: ArrayLike, *, out: Array | None = None) -> Any:
    """grad_output times the derivative: 1 / (1 + abs(x))².

    Examples
    --------
    >>> softsign_backward(1.0, 1.0)
    np.float64(0.25)
    """
    return _backward("softsign", grad_output, x, out)


def softplus(x: ArrayLike, *, out: Array | None = None) -> Any:
    """log(1 + exp(z)), a smooth ReLU.

    Source: Dugas, Bengio, Bélisle, Nadeau & Garcia, "Incorporating Second-Order Functional Knowledge for Better
    Option Pricing" (2001).

    Examples
    --------
    >>> softplus([-800.0, 0.0, 800.0])
    array([0.00000000e+00, 6.93147181e-01, 8.00000000e+02])
    """
    return _forward("softplus", x, out)


def softplus_backward(grad_output: ArrayLike, x: ArrayLike, *, out: Array | None = None) -> Any:
    """grad_output times the derivative: sigmoid(x).

    Examples
    --------
    >>> softplus_backward(1.0, 0.0)
    np.float64(0.5)
    """
    return _backward("softplus", grad_output, x, out)


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


def relu6(x: ArrayLike, *, out: Array | None = None) -> Any:
    """min(max(z, 0), 6).

    Source: Krizhevsky, "Convolutional Deep Belief Networks on CIFAR-10" (2010).

    Examples
    --------
    >>> relu6([-1.0, 2.0, 9.0])
    array([0., 2., 6.])
    """
    return _forward("relu6", x, out)


def relu6_backward(grad_output: ArrayLike, x: ArrayLike, *, out: Array | None = None) -> Any:
    """grad_output times the derivative: 1 for 0 < x < 6, 0 elsewhere.

    Examples
    --------
    >>> relu6_backward([3.0, 3.0, 3.0], [0.0, 1.0, 6.0])
    array([0., 3., 0.])
    """
    return _backward("relu6", grad_output, x, out)


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


def celu(x: ArrayLike, alpha: float = 1.0, *, out: Array | None = None) -> Any:
    """Return z above zero, alpha (exp(z / alpha) - 1) elsewhere: an ELU whose slope has no jump; alpha > 0.

    Source: Barron, "Continuously Differentiable Exponential Linear Units" (2017).

    Examples
    --------
    >>> celu([-np.inf, 2.0], 0.5)
    array([-0.5,  2. ])
    """
    return _forward("celu", x, out, check_positive("alpha", alpha))


def celu_backward(
    grad_output: ArrayLike, x: ArrayLike, alpha: float = 1.0, *, out: Array | None = None
) -> Any:
    """grad_output times the derivative: 1 above zero, exp(x / alpha) at zero and below.

    Examples
    --------
    >>> celu_backward([3.0, 3.0], [0.0, 1.0])
    array([3., 3.])
    """
    return _backward("celu", grad_output, x, out, check_positive("alpha", alpha))


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


def gelu_tanh(x: ArrayLike, *, out: Array | None = None) -> Any:
    """Return z (1 + tanh(sqrt(2 / pi) (z + 0.044715 z³))) / 2, which `gelu` is approximated by.

    For networks trained with it elsewhere: here `gelu` itself costs about the same. Minus infinity gives -0.0.
    Source: Hendrycks & Gimpel, "Gaussian Error Linear Units" (2016).

    Examples
    --------
    >>> gelu_tanh([-1.0, 1.0]).round(4)
    array([-0.1588,  0.8412])
    """
    return _forward("gelu_tanh", x, out)


def gelu_tanh_backward(grad_output: ArrayLike, x: ArrayLike, *, out: Array | None = None) -> Any:
    """grad_output times the derivative: s + x y' s (1 - s) with y = sqrt(8 / pi) (x + 0.044715 x³), s = sigmoid(y).

    Examples
    --------
    >>> gelu_tanh_backward(1.0, 0.0)
    np.float64(0.5)
    """
    return _backward("gelu_tanh", grad_output, x, out)


def silu(x: ArrayLike, *, out: Array | None = None) -> Any:
    """z / (1 + exp(-z)), also called swish. Minus infinity gives -0.0.

    Sources: Elfwing, Uchibe & Doya, "Sigmoid-Weighted Linear Units" (2018); Ramachandran, Zoph & Le, "Searching for
    Activation Functions" (2018).

    Examples
    --------
    >>> silu([-1.0, 1.0]).round(4)
    array([-0.2689,  0.7311])
    """
    return _forward("silu", x, out)


def silu_backward(grad_output: ArrayLike, x: ArrayLike, *, out: Array | None = None) -> Any:
    """grad_output times the derivative: s (1 + x (1 - s)) with s = sigmoid(x).

    Examples
    --------
    >>> silu_backward(1.0, 0.0)
    np.float64(0.5)
    """
    return _backward("silu", grad_output, x, out)


def hard_silu(x: ArrayLike, *, out: Array | None = None) -> Any:
    """z min(max(z + 3, 0), 6) / 6, also called hard swish.

    Source: Howard et al., "Searching for MobileNetV3" (2019).

    Examples
    --------
    >>> hard_silu([-4.0, 1.5, 4.0])
    array([-0.   ,  1.125,  4.   ])
    """
    return _forward("hard_silu", x, out)


def hard_silu_backward(grad_output: ArrayLike, x: ArrayLike, *, out: Array | None = None) -> Any:
    """grad_output times the derivative: (2 x + 3) / 6 for -3 < x < 3, 0 below, 1 above.

    Examples
    --------
    >>> hard_silu_backward([2.0, 2.0], [0.0, 3.0])
    array([1., 2.])
    """
    return _backward("hard_silu", grad_output, x, out)


def mish(x: ArrayLike, *, out: Array | None = None) -> Any:
    """z tanh(log(1 + exp(z))). Minus infinity gives -0.0.

    Source: Misra, "Mish: A Self Regularized Non-Monotonic Activation Function" (2020).

    Examples
    --------
    >>> mish([-1.0, 1.0]).round(4)
    array([-0.3034,  0.8651])
    """
    return _forward("mish", x, out)


def mish_backward(grad_output: ArrayLike, x: ArrayLike, *, out: Array | None = None) -> Any:
    """grad_output times the derivative: t + x sigmoid(x) (1 - t²) with t = tanh(log(1 + exp(x))).

    Examples
    --------
    >>> mish_backward(1.0, 0.0).round(4)
    np.float64(0.6)
    """
    return _backward("mish", grad_output, x, out)


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
