"""Initial weights: where the factors of a deep product start.

Every function is ``f(shape, ..., *, rng=None, dtype="float32")``, but for `lsuv_`, which starts a whole network.
Weights are (units, inputs), so ``fan_out = shape[0]`` and ``fan_in = shape[1]``.  `rng` is a NumPy Generator or a
seed (which starts a counter-based one, Philox).  Numbers are drawn in float64 and rounded: the same seed means the same
weights in both dtypes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from gradcore.activations import ActivationInfo
from gradcore.errors import check_finite, check_integer, check_non_negative, check_positive, unknown_name
from gradcore.spec import Spec, parse_spec

if TYPE_CHECKING:
    from gradcore.network import Network

Rng = np.random.Generator | int | None
Shape = int | tuple[int, ...]
Weights = NDArray[Any]


def generator(rng: Rng) -> np.random.Generator:
    """Return `rng` itself if it is a Generator, else a counter-based one started from the seed."""
    if isinstance(rng, np.random.Generator):
        return rng
    seed = None if rng is None else check_integer("rng", rng, minimum=0)
    return np.random.Generator(np.random.Philox(seed))


def _check_shape(shape: Shape) -> tuple[int, ...]:
    sizes = (shape,) if isinstance(shape, int) else tuple(shape)
    return tuple(check_integer("shape", n, minimum=0) for n in sizes)


def _check_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    chosen = np.dtype(dtype)
    if chosen not in (np.float32, np.float64):
        raise TypeError(f"dtype must be float32 or float64, got {chosen}")
    return chosen


def _fans(shape: Shape) -> tuple[int, int]:
    sizes = _check_shape(shape)
    if len(sizes) != 2:
        raise ValueError(f"this initializer needs the shape (units, inputs), got {sizes}")
    return sizes[1], sizes[0]


def zeros(shape: Shape, *, rng: Rng = None, dtype: DTypeLike = "float32") -> Weights:
    """All zeros: the usual bias; as weights it makes all units alike for ever.

    Examples
    --------
    >>> zeros((1, 3))
    array([[0., 0., 0.]], dtype=float32)
    """
    return np.zeros(_check_shape(shape), _check_dtype(dtype))


def ones(shape: Shape, *, rng: Rng = None, dtype: DTypeLike = "float32") -> Weights:
    """All ones.

    Examples
    --------
    >>> ones((1, 3))
    array([[1., 1., 1.]], dtype=float32)
    """
    return np.ones(_check_shape(shape), _check_dtype(dtype))


def constant(shape: Shape, value: float, *, rng: Rng = None, dtype: DTypeLike = "float32") -> Weights:
    """Fill with one `value`; as weights it makes all units alike for ever.

    Examples
    --------
    >>> constant((1, 3), 0.5)
    array([[0.5, 0.5, 0.5]], dtype=float32)
    """
    return np.full(_check_shape(shape), check_finite("value", value), _check_dtype(dtype))


def identity(shape: Shape, gain: float = 1.0, *, rng: Rng = None, dtype: DTypeLike = "float32") -> Weights:
    """`gain` on the main diagonal, zero elsewhere: the chain s·I of the textbooks.

    Examples
    --------
    >>> identity((2, 2), 1.5)
    array([[1.5, 0. ],
           [0. , 1.5]], dtype=float32)
    """
    fan_in, fan_out = _fans(shape)
    return np.asarray(check_finite("gain", gain) * np.eye(fan_out, fan_in), _check_dtype(dtype))


def normal(
    shape: Shape,
    std: float = 0.05,
    mean: float = 0.0,
    *,
    rng: Rng = None,
    dtype: DTypeLike = "float32",
) -> Weights:
    """Normal numbers of the given standard deviation; its default is Keras's.

    Examples
    --------
    >>> normal((64, 64), 0.01, rng=0).shape
    (64, 64)
    """
    std, mean, chosen = check_non_negative("std", std), check_finite("mean", mean), _check_dtype(dtype)
    return (mean + std * generator(rng).standard_normal(_check_shape(shape))).astype(chosen)


def uniform(
    shape: Shape,
    low: float = 0.05,
    high: float | None = None,
    *,
    rng: Rng = None,
    dtype: DTypeLike = "float32",
) -> Weights:
    """Uniform numbers in [low, high); one value alone means [-value, value), and its default is Keras's.

    Examples
    --------
    >>> bool(abs(uniform((64, 64), 0.05, rng=0)).max() <= 0.05)
    True
    """
    if high is None:
        high = check_non_negative("the bound of uniform", low)
        low = -high
    low, high, chosen = check_finite("low", low), check_finite("high", high), _check_dtype(dtype)
    if low > high:
        raise ValueError(f"low must not be above high, got {low} and {high}")
    # low + (high - low) u would overflow where the bounds are far apart
    u = generator(rng).random(_check_shape(shape))
    return (low * (1 - u) + high * u).astype(chosen)


def truncated_normal(
    shape: Shape,
    std: float = 0.05,
    mean: float = 0.0,
    *,
    rng: Rng = None,
    dtype: DTypeLike = "float32",
) -> Weights:
    """Normal numbers, those more than two `std` from the mean drawn again (so their spread is 0.88 `std`).

    Examples
    --------
    >>> bool(abs(truncated_normal((64, 64), 0.01, rng=0)).max() <= 0.02)
    True
    """
    std, mean, chosen = check_non_negative("std", std), check_finite("mean", mean), _check_dtype(dtype)
    source = generator(rng)
    z = source.standard_normal(_check_shape(shape))
    while (outside := np.abs(z) > 2).any():
        z[outside] = source.standard_normal(int(outside.sum()))
    return (mean + std * z).astype(chosen)


def moment_normal(
    shape: Shape, second_moment: float, *, rng: Rng = None, dtype: DTypeLike = "float32"
) -> Weights:
    """Normal with variance 1 / (fan_in E f(z)²), z ~ N(0, 1), for an activation f of that second moment.

    Keeps unit pre-activations at unit variance from layer to layer whatever follows them: the rule of He et
    al. (2015), whose ReLU has E f² = 1/2, for any activation.

    Examples
    --------
    >>> moment_normal((64, 64), 0.645, rng=0).shape
    (64, 64)
    """
    fan_in, _ = _fans(shape)
    return normal(
        shape,
        1 / math.sqrt(max(fan_in, 1) * check_positive("second_moment", second_moment)),
        rng=rng,
        dtype=dtype,
    )


def glorot_normal(
    shape: Shape, gain: float = 1.0, *, rng: Rng = None, dtype: DTypeLike = "float32"
) -> Weights:
    """Normal with variance gain² · 2 / (fan_in + fan_out).

    Source: Glorot & Bengio, "Understanding the difficulty of training deep feedforward neural networks"
    (2010).

    Examples
    --------
    >>> glorot_normal((64, 64), rng=0).shape
    (64, 64)
    """
    return normal(
        shape,
        check_non_negative("gain", gain) * math.sqrt(2 / max(sum(_fans(shape)), 1)),
        rng=rng,
        dtype=dtype,
    )


def glorot_uniform(
    shape: Shape, gain: float = 1.0, *, rng: Rng = None, dtype: DTypeLike = "float32"
) -> Weights:
    """Uniform in ±gain · sqrt(6 / (fan_in + fan_out)): the variance of `glorot_normal`.

    Source: Glorot & Bengio (2010), equation 16.

    Examples
    --------
    >>> bool(abs(glorot_uniform((64, 64), rng=0)).max() <= (6 / 128) ** 0.5)
    True
    """
    return uniform(
        shape,
        check_non_negative("gain", gain) * math.sqrt(6 / max(sum(_fans(shape)), 1)),
        rng=rng,
        dtype=dtype,
    )


def he_normal(
    shape: Shape, negative_slope: float = 0.0, *, rng: Rng = None, dtype: DTypeLike = "float32"
) -> Weights:
    """Normal with variance 2 / ((1 + negative_slope²) fan_in), for ReLU and leaky ReLU.

    Source: He, Zhang, Ren & Sun, "Delving Deep into Rectifiers" (2015), equations 10 and 15.

    Examples
    --------
    >>> he_normal((64, 64), rng=0).shape
    (64, 64)
    """
    return normal(shape, _he_std(shape, negative_slope), rng=rng, dtype=dtype)


def he_uniform(
    shape: Shape, negative_slope: float = 0.0, *, rng: Rng = None, dtype: DTypeLike = "float32"
) -> Weights:
    """Uniform with the variance of `he_normal`: ±sqrt(6 / ((1 + negative_slope²) fan_in)).

    Examples
    --------
    >>> bool(abs(he_uniform((64, 64), rng=0)).max() <= (6 / 64) ** 0.5)
    True
    """
    return uniform(shape, math.sqrt(3) * _he_std(shape, negative_slope), rng=rng, dtype=dtype)


def _he_std(shape: Shape, negative_slope: float) -> float:
    fan_in, _ = _fans(shape)
    slope = check_finite("negative_slope", negative_slope)
    return math.sqrt(2 / (1 + slope * slope) / max(fan_in, 1))


def lecun_normal(shape: Shape, *, rng: Rng = None, dtype: DTypeLike = "float32") -> Weights:
    """Normal with variance 1 / fan_in, what SELU is made for.

    Source: LeCun, Bottou, Orr & Müller, "Efficient BackProp" (1998), section 4.6; Klambauer et al. (2017).

    Examples
    --------
    >>> lecun_normal((64, 64), rng=0).shape
    (64, 64)
    """
    return normal(shape, 1 / math.sqrt(max(_fans(shape)[0], 1)), rng=rng, dtype=dtype)


def lecun_uniform(shape: Shape, *, rng: Rng = None, dtype: DTypeLike = "float32") -> Weights:
    """Uniform in ±sqrt(3 / fan_in): the variance of `lecun_normal`.

    Examples
    --------
    >>> bool(abs(lecun_uniform((64, 64), rng=0)).max() <= (3 / 64) ** 0.5)
    True
    """
    return uniform(shape, math.sqrt(3 / max(_fans(shape)[0], 1)), rng=rng, dtype=dtype)


def orthogonal(shape: Shape, gain: float = 1.0, *, rng: Rng = None, dtype: DTypeLike = "float32") -> Weights:
    """`gain` times a random matrix with orthonormal rows (or columns, where those are fewer).

    The QR factor of a normal matrix, with the signs of R's diagonal moved into Q so that every orthogonal
    matrix is equally likely.  Sources: Saxe, McClelland & Ganguli (2014); Mezzadri, "How to generate random
    matrices from the classical compact groups" (2007).

    Examples
    --------
    >>> w = orthogonal((8, 8), rng=0, dtype="float64")
    >>> bool(abs(w @ w.T - np.eye(8)).max() < 1e-14)
    True
    """
    fan_in, fan_out = _fans(shape)
    gain, chosen = check_finite("gain", gain), _check_dtype(dtype)
    tall = generator(rng).standard_normal((max(fan_in, fan_out), min(fan_in, fan_out)))
    q, r = np.linalg.qr(tall)
    q *= np.copysign(1.0, np.diagonal(r))
    return np.ascontiguousarray(gain * (q if fan_out >= fan_in else q.T), chosen)


def lsuv_(
    net: Network,
    X: ArrayLike,
    *,
    tolerance: float = 0.1,
    max_iterations: int = 10,
    orthogonal: bool = True,
    rows: int = 1024,
    seed: int | None = None,
) -> dict[str, float]:
    """Start a network at unit variance, layer by layer, as its own data see it (LSUV).

    Every dense layer, residual branches included, gets orthonormal weights and zero biases. Then, from the first to
    the last, its weights are divided by the standard deviation of its pre-activations over all rows and units, until
    that is 1. Source: Mishkin & Matas, "All you need is a good init" (2016).

    Parameters
    ----------
    net : Network
        Changed in place; norm keeps its parameters. Any activation, either dtype.
    X : array_like, shape (rows, input_size)
        The data to be trained on, or a large batch of them.
    tolerance : float
        How far from 1 a standard deviation may end.
    max_iterations : int
        Most rescalings of one layer; without biases one is enough but for rounding.
    orthogonal : bool
        False: keep the directions of the present weights. Biases become zero all the same.
    rows : int
        Most rows to measure on, spread evenly over X.
    seed : int, optional
        Of the orthonormal weights; None: that of the network.

    Returns
    -------
    dict of str to float
        By the name of the weight: the factor it was multiplied with in the end.

    Raises
    ------
    ValueError
        A layer puts out zero, or something not finite, on every row, so that no factor helps; it is named and nothing
        has changed then. Data or settings that cannot be.

    Warns
    -----
    GradcoreWarning
        Layers that are not within the tolerance after `max_iterations`.

    See Also
    --------
    gradcore.pretrain_autoencoder : Where unit variance is not enough.

    Notes
    -----
    The variance counts what the rows have in common, too. Sigmoid layers hand on numbers around 0.5 that hardly
    differ between rows: the variance is then that of the 0.5 times the weights, it becomes 1, and the signal dies all
    the same. Batch norm or `gradcore.pretrain_autoencoder`, which take the mean away, help there; with batch norm
    behind it the factor of a layer changes nothing but the size of a step relative to the weights.

    Examples
    --------
    >>> import numpy as np
    >>> from gradcore import mlp
    >>> X = 100 * np.random.default_rng(0).normal(size=(256, 20))
    >>> net = mlp([20, 30, 30, 2], seed=0)
    >>> factors = lsuv_(net, X)
    >>> sorted(factors)
    ['0.weight', '2.weight', '4.weight']
    >>> z = X @ net.get_parameters()["0.weight"].T
    >>> bool(abs(z.std() - 1) < 0.1)
    True
    """
    # needs executors and checked data, which lie above this module
    from gradcore.unit_variance import start_at_unit_variance

    return start_at_unit_variance(
        net,
        X,
        tolerance=tolerance,
        max_iterations=max_iterations,
        orthogonal=orthogonal,
        rows=rows,
        seed=seed,
    )


_FUNCTIONS: tuple[Callable[..., Weights], ...] = (
    zeros, ones, constant, identity, normal, uniform, truncated_normal, moment_normal, glorot_uniform,
    glorot_normal, he_uniform, he_normal, lecun_uniform, lecun_normal, orthogonal,
)  # fmt: skip

REGISTRY: dict[str, Callable[..., Weights]] = {f.__name__: f for f in _FUNCTIONS}

_BY_NAME: dict[str, Callable[..., Weights]] = {
    **REGISTRY,
    "xavier_uniform": glorot_uniform,
    "xavier_normal": glorot_normal,
    "kaiming_uniform": he_uniform,
    "kaiming_normal": he_normal,
}


@dataclass(frozen=True)
class Initializer:
    """An initializer with its arguments: call it with a shape; ``str()`` is the spec that names it."""

    function: Callable[..., Weights]
    spec: Spec

    def __str__(self) -> str:
        return str(self.spec)

    def __call__(self, shape: Shape, *, rng: Rng, dtype: DTypeLike = "float32") -> Weights:
        """Draw an array; a function of the user's must return finite numbers of that shape."""
        arguments = self.spec.kwargs
        values = np.asarray(self.function(shape, *self.spec.args, rng=rng, dtype=dtype, **arguments))
        if values.shape != _check_shape(shape):
            raise ValueError(f"initializer {self} returned shape {values.shape} for shape {shape}")
        with np.errstate(over="ignore"):
            weights = values.astype(_check_dtype(dtype), copy=False)
        if not np.isfinite(weights).all():
            raise ValueError(f"initializer {self} returned values that are not finite in {np.dtype(dtype)}")
        return weights


def resolve(spec: str | Callable[..., Weights]) -> Initializer:
    """Find an initializer by name, alias or spec, or take a function ``f(shape, *, rng, dtype)``.

    ``"auto"`` depends on what follows the layer: see `auto_for`.

    Raises
    ------
    ValueError
        Unknown name (the nearest known ones are named) or arguments that it does not take.

    Examples
    --------
    >>> resolve("normal(0.01)")((3, 2), rng=0).shape
    (3, 2)
    """
    if callable(spec):
        if isinstance(spec, Initializer):
            return spec
        return Initializer(spec, Spec(getattr(spec, "__name__", repr(spec))))
    if not isinstance(spec, str):
        raise TypeError(
            f"expected the name of an initializer such as 'normal(0.01)', or a function, got {spec!r}"
        )
    return _resolve_text(spec)


@lru_cache(maxsize=256)
def _resolve_text(text: str) -> Initializer:
    """Read a spec; kept, because a deep network asks for the same one at every layer."""
    parsed = parse_spec(text)
    function = _BY_NAME.get(parsed.name)
    if function is None:
        raise unknown_name("initializer", parsed.name, REGISTRY)
    bound = parsed.bind(function, (1, 1), rng=0, dtype="float64")
    function(*bound.args, **bound.kwargs)  # bad values are named here, not when the network is built
    return Initializer(function, Spec(function.__name__, parsed.args, parsed.kwargs))


def auto_for(activation: ActivationInfo | None, parameter: float | None = None) -> Initializer:
    """Return what ``init="auto"`` means in front of `activation` (None: the output of the network).

    ReLU, leaky ReLU and ReLU6 get He's weights, SELU LeCun's, what is bounded, identity and the output Glorot's; ELU,
    CELU, GELU, SiLU, mish and softplus the variance that keeps unit pre-activations at unit variance (`moment_normal`).

    Examples
    --------
    >>> from gradcore.activations import resolve as activation
    >>> str(auto_for(*activation("relu"))), str(auto_for(None))
    ('he_normal', 'glorot_normal')
    """
    if activation is None:
        return resolve("glorot_normal")
    arguments = activation.init_arguments(activation.default if parameter is None else parameter)
    return resolve(str(Spec(activation.init, arguments)))
