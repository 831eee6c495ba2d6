"""The readable twin of the compiled kernels: the same network steps in plain NumPy.

It is the oracle of the tests and the opponent in the benchmarks. Every kernel of the compiled door has a twin
of the same name and arguments here, on plain (rows, columns) arrays, and `Executor` runs a plan one op after
the other, with the constructor and the methods of the compiled one. It reads plans compiled with ``tile=1``:
a panel is then one column, and every matrix of an arena an ordinary strided view.

Sums over many numbers (losses, norms, batch statistics, bias gradients) are float64, as in the kernels.
"""

from collections.abc import Callable, Mapping, Sequence
from math import erfc, inf, nan, sqrt
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from gradcore import kernels

Array = NDArray[np.floating[Any]]
Integers = NDArray[np.int64]
Doubles = NDArray[np.float64]

DONE, NONFINITE = 0, 1  # Status in types.pxd


def _name(codes: Mapping[str, int], code: int) -> str:
    return next(name for name, number in codes.items() if number == code)


def _switches(mode: int) -> set[str]:
    return {name for name, bit in kernels.MODES.items() if mode & bit}


# --- dense ----------------------------------------------------------------------------------------


def matmul(a: Array, b: Array, *, transpose_a: bool = False) -> Array:
    """a · b, or aᵀ · b."""
    return (a.T if transpose_a else a) @ b


def dense_forward(x: Array, weight: Array, bias: Array | None) -> Array:
    """x · weightᵀ + bias, for x (rows, inputs) and weight (units, inputs)."""
    z: Array = x @ weight.T
    return z if bias is None else z + bias


def dense_backward(d_output: Array, x: Array, weight: Array) -> tuple[Array, Array, Array]:
    """dL/dx, dL/dweight and dL/dbias."""
    return d_output @ weight, d_output.T @ x, d_output.sum(axis=0, dtype=np.float64)


# --- activations: value and slope f′(z) -----------------------------------------------------------
# Slopes come from z, not from the value: 1 - tanh² is 44 % off at 17. A NaN takes no branch of `piecewise`
# and so stays NaN in both.

SELU_SCALE = 1.0507009873554804934193349852946
SELU_ALPHA = 1.6732632423543772848170429916717
Pair = tuple[Array, Array]


def piecewise(z: Array, positive: Array | float, otherwise: Array | float) -> Array:
    """`positive` where z > 0, `otherwise` where z <= 0, NaN where z is NaN."""
    return np.where(z > 0, positive, np.where(z <= 0, otherwise, z)).astype(z.dtype)


def identity(z: Array, parameter: float) -> Pair:
    """z."""
    return z.copy(), piecewise(z, 1, 1)


def sigmoid(z: Array, parameter: float) -> Pair:
    """1 / (1 + e^-z), never through the exponential of a positive number."""
    e = np.exp(-np.abs(z))
    return piecewise(z, 1 / (1 + e), e / (1 + e)), e / (1 + e) ** 2


def tanh(z: Array, parameter: float) -> Pair:
    """(e^z - e^-z) / (e^z + e^-z); its slope is 1 / cosh²."""
    e = np.exp(-2 * np.abs(z))
    return np.tanh(z), 4 * e / (1 + e) ** 2


def relu(z: Array, parameter: float) -> Pair:
    """max(z, 0); slope 0 at 0."""
    return np.maximum(z, 0), piecewise(z, 1, 0)


def leaky_relu(z: Array, negative_slope: float) -> Pair:
    """z or negative_slope · z."""
    below = z * negative_slope if negative_slope else np.zeros_like(z)  # not 0 · -inf
    return piecewise(z, z, below), piecewise(z, 1, negative_slope)


def elu(z: Array, alpha: float) -> Pair:
    """z or alpha · (e^z - 1) (Clevert et al. 2016)."""
    below = np.minimum(z, 0)
    return piecewise(z, z, alpha * np.expm1(below)), piecewise(z, 1, alpha * np.exp(below))


def selu(z: Array, parameter: float) -> Pair:
    """The self-normalising multiple of elu (Klambauer et al. 2017)."""
    value, slope = elu(z, SELU_ALPHA)
    return (SELU_SCALE * value).astype(z.dtype), (SELU_SCALE * slope).astype(z.dtype)


def gelu(z: Array, parameter: float) -> Pair:
    """z · Φ(z), Φ the normal distribution function: the exact form (Hendrycks and Gimpel 2016)."""
    c = np.clip(z.astype(np.float64), -40, 40)  # Φ is 0 or 1 outside, and inf · 0 must not make a NaN
    distribution = np.array([erfc(-v / sqrt(2)) / 2 for v in c.ravel()]).reshape(c.shape)
    density = np.exp(-c * c / 2) / sqrt(2 * np.pi)
    return np.where(z > 40, z, c * distribution).astype(z.dtype), (distribution + c * density).astype(z.dtype)


def exponential(z: Array, parameter: float) -> Pair:
    """e^z."""
    e = np.exp(z)
    return e, e


def gelu_tanh(z: Array, parameter: float) -> Pair:
    """z · σ(y), y = 2 √(2/π) (z + 0.044715 z³) (Hendrycks and Gimpel 2016)."""
    c = np.clip(z.astype(np.float64), -40, 40)  # σ is 0 or 1 outside
    y = sqrt(8 / np.pi) * (c + 0.044715 * c**3)
    chance, flank = sigmoid(y, 0)
    slope = chance + c * sqrt(8 / np.pi) * (1 + 3 * 0.044715 * c * c) * flank
    return np.where(z > 40, z, c * chance).astype(z.dtype), slope.astype(z.dtype)


def silu(z: Array, parameter: float) -> Pair:
    """z · σ(z) (Elfwing et al. 2018)."""
    c = np.clip(z.astype(np.float64), -800, 800)  # σ is 0 or 1 outside
    chance, flank = sigmoid(c, 0)
    return np.where(z > 800, z, c * chance).astype(z.dtype), (chance + c * flank).astype(z.dtype)


def mish(z: Array, parameter: float) -> Pair:
    """z · t, t = tanh(log(1 + e^z)) (Misra 2020)."""
    c = np.clip(z.astype(np.float64), -800, 800)
    t, flank = tanh(softplus(c, 0)[0], 0)
    return np.where(z > 800, z, c * t).astype(z.dtype), (t + c * flank * sigmoid(c, 0)[0]).astype(z.dtype)


def softplus(z: Array, parameter: float) -> Pair:
    """log(1 + e^z)."""
    return np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z))), sigmoid(z, 0)[0]


def log_sigmoid(z: Array, parameter: float) -> Pair:
    """log σ(z)."""
    value, slope = softplus(-z, 0)
    return -value, slope


def softsign(z: Array, parameter: float) -> Pair:
    """z / (1 + abs(z)) (Bergstra et al. 2009)."""
    size = 1 + np.abs(z)
    return np.where(np.isinf(z), np.sign(z), z / size).astype(z.dtype), 1 / size**2


def relu6(z: Array, parameter: float) -> Pair:
    """min(max(z, 0), 6); slope 0 at 0 and 6 (Krizhevsky 2010)."""
    return np.clip(z, 0, 6), piecewise(z, piecewise(z - 6, 0, 1), 0) * (z != 6)


def hard_tanh(z: Array, parameter: float) -> Pair:
    """min(max(z, -1), 1); slope 0 at -1 and 1 (Collobert 2004)."""
    return np.clip(z, -1, 1), piecewise(np.abs(z) - 1, 0, 1) * (np.abs(z) != 1)


def hard_sigmoid(z: Array, parameter: float) -> Pair:
    """min(max(z + 3, 0), 6) / 6; slope 0 at -3 and 3 (Howard et al. 2019)."""
    return np.clip(z + 3, 0, 6) / 6, piecewise(np.abs(z) - 3, 0, 1 / 6) * (np.abs(z) != 3)


def hard_silu(z: Array, parameter: float) -> Pair:
    """z min(max(z + 3, 0), 6) / 6; slope 0 at -3, 1 at 3 (Howard et al. 2019)."""
    value = np.where(z >= 3, z, np.where(z <= -3, 0, z * (z + 3) / 6)).astype(z.dtype)
    return value, np.where(z >= 3, 1, np.where(z <= -3, 0, (2 * z + 3) / 6)).astype(z.dtype)


def celu(z: Array, alpha: float) -> Pair:
    """z or alpha · (e^(z / alpha) - 1) (Barron 2017); ReLU where alpha rounds to zero."""
    if z.dtype.type(alpha) == 0:
        return relu(z, 0)
    below = np.minimum(z, 0) / z.dtype.type(alpha)
    return piecewise(z, z, alpha * np.expm1(below)), piecewise(z, 1, np.exp(below))


ACTIVATIONS: dict[str, Callable[[Array, float], Pair]] = {
    f.__name__: f
    for f in (
        identity, sigmoid, tanh, relu, leaky_relu, selu, elu, gelu, exponential, gelu_tanh, silu, mish, softplus,
        log_sigmoid, softsign, relu6, hard_tanh, hard_sigmoid, hard_silu, celu,
    )
}  # fmt: skip


def largest_slope(name: str, parameter: float) -> float:
    """The largest abs(f′(z)) of an activation; the exponential, which has none, counts as 1."""
    fixed = {
        "sigmoid": 0.25, "selu": SELU_SCALE * SELU_ALPHA, "gelu": 1.1289041451851548, "gelu_tanh": 1.1289930686587718,
        "silu": 1.0998393201288669, "mish": 1.088498161251728, "hard_sigmoid": 1 / 6, "hard_silu": 1.5,
    }  # fmt: skip
    return max(1.0, abs(parameter)) if name in ("elu", "leaky_relu") else fixed.get(name, 1.0)


@np.errstate(all="ignore")
def activation(code: int, parameter: float, z: Array, a: Array, slope: Array | None = None) -> Array:
    """Value into `a` and slope into `slope` of the activation with this code."""
    value, derivative = ACTIVATIONS[_name(kernels.ACTIVATION_CODES, code)](z, parameter)
    a[...] = value
    if slope is not None:
        slope[...] = derivative
    return a


# --- softmax and losses ---------------------------------------------------------------------------


def shifted(x: Array) -> Array:
    """Each row minus its maximum, which entries at +inf share; a row of -inf or with a NaN becomes NaN."""
    largest = x.max(axis=1, keepdims=True)
    infinite: Array = np.where(x == inf, 0, -inf).astype(x.dtype)
    return np.where(largest == inf, infinite, x - largest)


@np.errstate(all="ignore")
def softmax(x: Array, out: Array) -> Array:
    """e^x over its sum along each row."""
    e = np.exp(shifted(x))
    out[...] = e / e.sum(axis=1, keepdims=True)
    return out


def softmax_backward(y: Array, d_y: Array, out: Array) -> Array:
    """dL/dx from dL/dy and y = softmax(x)."""
    out[...] = y * (d_y - (d_y * y).sum(axis=1, keepdims=True))
    return out


Loss = tuple[Array, Array]  # losses, summed over the columns of each row, and gradient


def cross_entropy(logits: Array, targets: NDArray[Any], parameter: float) -> Loss:
    """-Σ q log softmax(logits), q an indicator of the label or a row of probabilities. Never the log of one."""
    z, q = shifted(logits), targets
    if targets.ndim == 1:
        q = np.zeros(logits.shape)
        q[np.arange(len(z)), targets] = 1
    mass = q.sum(axis=1, dtype=np.float64)
    cost = np.where(q == 0, 0, q * -np.where(z == 0, 0, z).astype(np.float64)).sum(axis=1)
    p: Array = softmax(logits, np.empty_like(logits))
    return cost + mass * np.log(np.exp(z).sum(axis=1, dtype=np.float64)), p * mass[:, None] - q


def binary_cross_entropy(logits: Array, targets: Array, parameter: float) -> Loss:
    """-t log σ(z) - (1-t) log(1-σ(z)); gradient σ(z) - t."""
    z = logits.astype(np.float64)
    losses = np.maximum(z, 0) - z * targets + np.log1p(np.exp(-np.abs(z)))
    return losses.sum(axis=1), sigmoid(logits, 0)[0] - targets


def squared_error(output: Array, targets: Array, parameter: float) -> Loss:
    """(output - target)²; gradient twice the difference."""
    error = output.astype(np.float64) - targets
    return (error**2).sum(axis=1), 2 * error


def absolute_error(output: Array, targets: Array, parameter: float) -> Loss:
    """|output - target|; gradient its sign, 0 at 0."""
    error = output.astype(np.float64) - targets
    return np.abs(error).sum(axis=1), np.sign(error)


def huber(output: Array, targets: Array, delta: float) -> Loss:
    """½ e² for |e| <= delta, else delta · (|e| - ½ delta) (Huber 1964); gradient e, bounded by ±delta."""
    error = output.astype(np.float64) - targets
    size = np.abs(error)
    losses = np.where(size <= delta, error**2 / 2, delta * (size - delta / 2))
    return losses.sum(axis=1), np.clip(error, -delta, delta)


def poisson(output: Array, targets: Array, parameter: float) -> Loss:
    """-log of the probability of the count t at rate e^o, without log t!; gradient e^o - t."""
    o = output.astype(np.float64)
    return (np.exp(o) - targets * o).sum(axis=1), np.exp(o) - targets


def quantile(output: Array, targets: Array, q: float) -> Loss:
    """The pinball loss, least at the q-quantile (Koenker and Bassett 1978); gradient 0 at the target."""
    error = output.astype(np.float64) - targets
    slope = np.where(error > 0, 1 - q, np.where(error < 0, -q, error))
    return (slope * error).sum(axis=1), slope


def gaussian_nll(output: Array, targets: Array, parameter: float) -> Loss:
    """-log of the normal density, without ½ log 2π; the outputs are means, then logarithms of variances."""
    mean, spread = np.split(output.astype(np.float64), 2, axis=1)
    error, precision = mean - targets, np.exp(-spread)
    losses = (spread + error**2 * precision) / 2
    return losses.sum(axis=1), np.concatenate([error * precision, (1 - error**2 * precision) / 2], axis=1)


LOSSES: dict[str, Callable[[Array, Any, float], Loss]] = {
    "mean_squared_error": squared_error,
    "mean_absolute_error": absolute_error,
} | {f.__name__: f for f in (cross_entropy, binary_cross_entropy, huber, poisson, quantile, gaussian_nll)}


@np.errstate(all="ignore")
def row_losses(
    loss: int,
    output: Array,
    targets: NDArray[Any],
    losses: Doubles,
    grad: Array | None,
    scale: float,
    *,
    parameter: float = 0.0,
    weights: Doubles | None = None,
) -> None:
    """Losses and gradient of the loss with this code, times the weights of the rows; weight 0 leaves nothing."""
    losses[:], gradient = LOSSES[_name(kernels.LOSS_CODES, loss)](output, targets, parameter)
    counted = np.ones(len(output)) if weights is None else weights
    losses[:] = np.where(counted == 0, 0, losses * counted)
    if grad is not None:
        grad[...] = np.where(counted[:, None] == 0, 0, gradient * (scale * counted[:, None]))


def smoothed(targets: NDArray[Any], classes: int, smoothing: float) -> Array:
    """Rows of probabilities: 1 - smoothing of the label or row, the rest in equal shares (Szegedy et al. 2016)."""
    q = np.eye(classes)[targets] if targets.ndim == 1 else targets
    return q * (1 - smoothing) + smoothing / classes


# --- batch norm (Ioffe and Szegedy 2015) and layer norm (Ba, Kiros and Hinton 2016) ----------------
# Normalised is (x - mean) · inverse + shift: the shift makes up for the rounding of the mean to the dtype.


@np.errstate(all="ignore")
def _statistics(x: Array, eps: float, axis: int) -> tuple[Array, Array, Array, Array]:
    """Mean, (biased) variance, 1 / sqrt(variance + eps) and shift along an axis, in two passes."""
    wide = x.astype(np.float64)
    first = wide.take([0], axis)
    difference = (wide - first).mean(axis=axis, keepdims=True)
    mean = (first + difference).astype(x.dtype)
    rest = difference - (mean - first)
    deviations = wide - mean - rest
    variance = (deviations**2).mean(axis=axis) - deviations.mean(axis=axis) ** 2
    variance = np.maximum(variance, 0)
    inverse = np.where(variance + eps == 0, 0, 1 / np.sqrt(variance + eps))
    if axis == 1:
        inverse = np.where(np.isinf(variance), nan, inverse)
    shift = -rest.squeeze(axis) * inverse
    return mean.squeeze(axis), variance.astype(x.dtype), inverse.astype(x.dtype), shift.astype(x.dtype)


def batch_norm_statistics(x: Array, eps: float) -> tuple[Array, Array, Array, Array]:
    """Mean, biased variance, 1 / sqrt(variance + eps) and shift of each column."""
    return _statistics(x, eps, 0)


@np.errstate(all="ignore")
def batch_norm_forward(
    x: Array, mean: Array, inverse: Array, shift: Array, gamma: Array, beta: Array, out: Array
) -> Array:
    """gamma · ((x - mean) · inverse + shift) + beta."""
    out[...] = gamma * ((x - mean) * inverse + shift) + beta
    return out


@np.errstate(all="ignore")
def batch_norm_backward(
    d_y: Array, x: Array, mean: Array, inverse: Array, shift: Array, gamma: Array,
    d_x: Array, d_gamma: Array, d_beta: Array, batch_statistics: bool,
) -> None:  # fmt: skip
    """dL/dx, dL/dgamma, dL/dbeta; with `batch_statistics` also through mean and variance."""
    normal = (x - mean) * inverse + shift
    sum_d, sum_d_normal = d_y.sum(axis=0, dtype=np.float64), (d_y * normal).sum(axis=0, dtype=np.float64)
    through_statistics = (sum_d + normal * sum_d_normal) / len(x) if batch_statistics else 0
    d_x[...] = gamma * inverse * (d_y - through_statistics)
    d_gamma[...], d_beta[...] = sum_d_normal, sum_d


@np.errstate(all="ignore")
def layer_norm_forward(
    x: Array, gamma: Array, beta: Array, out: Array, eps: float
) -> tuple[Array, Array, Array]:
    """gamma · normalised + beta; mean, inverse and shift of each row."""
    mean, _, inverse, shift = _statistics(x, eps, 1)
    out[...] = gamma * ((x - mean[:, None]) * inverse[:, None] + shift[:, None]) + beta
    return mean, inverse, shift


@np.errstate(all="ignore")
def layer_norm_backward(
    d_y: Array, x: Array, mean: Array, inverse: Array, shift: Array, gamma: Array,
    d_x: Array, d_gamma: Array, d_beta: Array,
) -> None:  # fmt: skip
    """dL/dx, also through mean and variance of each row, dL/dgamma and dL/dbeta."""
    normal = (x - mean[:, None]) * inverse[:, None] + shift[:, None]
    d_gamma[...], d_beta[...] = (
        (d_y * normal).sum(axis=0, dtype=np.float64),
        d_y.sum(axis=0, dtype=np.float64),
    )
    g = gamma * d_y
    means = [a.mean(axis=1, keepdims=True, dtype=np.float64) for a in (g, g * normal)]
    d_x[...] = inverse[:, None] * (g - means[0] - normal * means[1])


def update_running(
    running_mean: Array, running_variance: Array, mean: Array, variance: Array, rows: int, momentum: float
) -> None:
    """Move the running statistics towards this batch's; the variance without its bias, as in PyTorch."""
    running_mean += momentum * (mean - running_mean)
    running_variance += momentum * (variance * (rows / max(rows - 1, 1)) - running_variance)


# --- dropout: Philox 4×32 with 10 rounds (Salmon et al. 2011) -------------------------------------

Words = NDArray[np.uint64]  # 32-bit words; the other half is room for products


def philox(counter: tuple[Words, ...], key: tuple[int, int]) -> tuple[Words, ...]:
    """Four random words for each counter of four words."""
    a, b, c, d = counter
    low, high = np.uint64(0xFFFFFFFF), np.uint64(32)
    for turn in range(10):
        k0 = np.uint64((key[0] + turn * 0x9E3779B9) & 0xFFFFFFFF)
        k1 = np.uint64((key[1] + turn * 0xBB67AE85) & 0xFFFFFFFF)
        p, q = a * np.uint64(0xD2511F53), c * np.uint64(0xCD9E8D57)
        a, b, c, d = (q >> high) ^ b ^ k0, q & low, (p >> high) ^ d ^ k1, p & low
    return a, b, c, d


def dropout(x: Array, out: Array, slope: Array, rate: float, seed: int, step: int, op: int) -> Array:
    """Keep an element, times 1 / (1 - rate), where its word is at least rate · 2³²; else 0.

    The word depends on place, op, step and seed alone: counter (column // 4, row, op, step), word column % 4.
    """
    rows, columns = x.shape
    row, group = np.indices((rows, -(-columns // 4)), dtype=np.uint64)
    counter = group, row, np.full_like(row, op), np.full_like(row, step & 0xFFFFFFFF)
    words = philox(counter, (seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF))
    word = np.stack(words, axis=-1).reshape(rows, -1)[:, :columns]
    kept = word >= rate * 2.0**32
    slope[...] = np.where(kept, 1 / (1 - rate), 0)
    out[...] = x * slope
    return out


# --- what one pass over a matrix finds ------------------------------------------------------------


@np.errstate(all="ignore")
def safe_norm(x: Array) -> float:
    """Frobenius norm in float64, of multiples of the largest magnitude so that no square overflows."""
    magnitudes = np.abs(x.astype(np.float64))
    largest = float(magnitudes.max(initial=0))
    if largest == 0 or not np.isfinite(largest):
        return largest
    return largest * sqrt(float(((magnitudes / largest) ** 2).sum()))


@np.errstate(all="ignore")
def sum_squares(x: Array) -> tuple[float, float]:
    """Sum of squares in float64, and the largest magnitude (NaN left out)."""
    return float((x.astype(np.float64) ** 2).sum()), float(np.fmax.reduce(np.abs(x), axis=None, initial=0))


@np.errstate(all="ignore")
def dot(a: Array, b: Array) -> float:
    """Sum of products in float64."""
    return float((a.astype(np.float64) * b).sum())


def count_flat(slope: Array, bound: float) -> int:
    """How many slopes are below the bound in magnitude."""
    return int((np.abs(slope) < bound).sum())


@np.errstate(all="ignore")
def fold(x: Array, *, full: bool = True, signal: bool = True) -> Any:
    """The fields of types.pxd's Fold for a (rows, columns) array; the extremes leave NaN out.

    What the compiled kernel finds on its quick way, when not `full`, is the same.
    """
    magnitudes = np.abs(x)
    max_abs = float(np.fmax.reduce(magnitudes, axis=None, initial=0))
    min_abs = float(magnitudes[magnitudes > 0].min(initial=inf)) if max_abs else 0.0
    spread = nan
    if signal and len(x) > 1:
        spread = safe_norm(x - x.mean(axis=0, dtype=np.float64)) / sqrt(x.size)
    subnormal = (magnitudes > 0) & (magnitudes < np.finfo(x.dtype).smallest_normal)
    counts = (float(found.sum()) for found in (x == 0, subnormal, np.isinf(x), np.isnan(x)))
    return np.array([(safe_norm(x), spread, max_abs, min_abs, *counts)], kernels.FOLD_DTYPE)[0]


# --- clipping and optimizers: in place; `measure` asks for the sum of squares of the update -------


def clip_by_value(x: Array, bound: float) -> None:
    """Clamp every element to [-bound, bound]."""
    np.clip(x, -bound, bound, out=x)


def scale_by(x: Array, factor: float) -> None:
    """Multiply every element, rounding once."""
    x[...] = x * np.float64(factor)


def clipped(g: Array, hyper: Mapping[str, float], scale: float) -> Array:
    """The gradient an optimizer sees: clamped to clip_value or, without that bound, scaled to clip_norm."""
    bound = hyper.get("clip_value", inf)
    return np.clip(g, -bound, bound) if bound < inf else (g * np.float64(scale)).astype(g.dtype)


def clip_adaptive(g: Array, w: Array, factor: float) -> Array:
    """A copy in which no row's norm is above factor · max(norm of the row of w, 1e-3) (Brock et al. 2021)."""
    clipped = g.copy()
    for row, weights in zip(np.atleast_2d(clipped), np.atleast_2d(w), strict=True):
        bound, norm = factor * max(safe_norm(weights), 1e-3), safe_norm(row)
        if norm > bound:
            scale_by(row, bound / norm)
    return clipped


def penalty(p: Array, hyper: Mapping[str, float]) -> Array | float:
    """Gradient of l1 · Σ|p|, which is part of the loss for every optimizer."""
    return hyper.get("l1", 0.0) * np.sign(p)


@np.errstate(all="ignore")
def optimizer_step(
    p: Array, g: Array, slots: Sequence[Array], hyper: Mapping[str, float], scale: float, step: int
) -> None:
    """One step, in PyTorch's form, in place; the sources are in optimizers.pxd."""
    name = _name(kernels.OPTIMIZER_CODES, int(hyper["optimizer"]))
    lr, decay, momentum = hyper["lr"], hyper.get("weight_decay", 0.0), hyper.get("momentum", 0.0)
    beta1, beta2, eps = (hyper.get(key, 0.0) for key in ("beta1", "beta2", "eps"))
    g, sign = clipped(g, hyper, scale), penalty(p, hyper)
    if name in ("adamw", "lion"):
        p *= 1 - lr * decay
    else:
        g = g + decay * p
    g = g + sign
    if name in ("adam", "adamw"):
        m, v = slots
        m[...] = beta1 * m + (1 - beta1) * g
        v[...] = beta2 * v + (1 - beta2) * g * g
        p -= lr / (1 - beta1**step) * m / (np.sqrt(v) / sqrt(1 - beta2**step) + eps)
    elif name == "adagrad":
        slots[0][...] = slots[0] + g * g
        p -= lr / (1 + (step - 1) * hyper.get("lr_decay", 0.0)) * g / (np.sqrt(slots[0]) + eps)
    elif name == "lion":
        p -= lr * np.sign(beta1 * slots[0] + (1 - beta1) * g)
        slots[0][...] = beta2 * slots[0] + (1 - beta2) * g
    else:
        if name == "rmsprop":
            slots[0][...] = beta2 * slots[0] + (1 - beta2) * g * g
            g = g / (np.sqrt(slots[0]) + eps)
        if momentum:
            v = slots[-1]
            v[...] = momentum * v + g
            g = g + momentum * v if hyper.get("nesterov") else v
        p -= lr * g


# --- the executor ---------------------------------------------------------------------------------


class Executor:
    """Runs a plan compiled with tile=1; arguments and methods as in the compiled Executor.

    `transposed`, `saved` and `threads` are workspace and workers of the compiled one: NumPy needs neither.
    """

    def __init__(
        self,
        table: NDArray[np.void],
        *,
        dtype: DTypeLike,
        capacity: int,
        columns_in: int,
        columns_out: int,
        parameters: Array,
        state: Array,
        gradients: Array | None,
        slots: tuple[Array, ...],
        transposed: Array | None,
        saved: Array | None,
        activation_columns: int,
        delta_columns: int,
        loss: int,
        loss_scale: int,
        loss_parameter: float = 0.0,
        threads: int = 1,
    ) -> None:
        self.ops = [
            SimpleNamespace(**dict(zip(table.dtype.names or (), op.item(), strict=True))) for op in table
        ]
        for op in self.ops:
            op.kind = _name(kernels.OP_KINDS, op.kind)
            op.activation = _name(kernels.ACTIVATION_CODES, op.code)
        self.capacity, self.columns_in, self.columns_out = capacity, columns_in, columns_out
        self.parameters, self.state, self.gradients, self.slots = parameters, state, gradients, slots
        self.activations = np.zeros(activation_columns * capacity, dtype)
        self.deltas = np.zeros(delta_columns * capacity, dtype)
        self.loss, self.mean_loss = _name(kernels.LOSS_CODES, loss), loss_scale == 0
        self.loss_parameter = loss_parameter
        self.records = np.zeros(len(table) + 1, kernels.RECORD_DTYPE)
        self.rows = 0
        self.mode: set[str] = set()
        self.ring: NDArray[np.void] | None = None
        self.every, self.applied = 1, 0
        self.outcome: tuple[int, int] | None = None

    def book_into(self, ring: NDArray[np.void], every: int) -> None:
        """Let `train` book only the steps whose number `every` divides, the j-th of them in ring[(j - 1) % slots]."""
        self.ring, self.every = ring, every

    def transpose_weights(self) -> None:
        """Nothing to do: NumPy transposes by strides."""

    def forward(self, X: Array, out: Array, *, mode: int = 0) -> None:
        """Raw outputs of any number of rows into `out`, in chunks of `capacity`."""
        for start in range(0, len(X), self.capacity):
            chunk = slice(start, start + self.capacity)
            self.forward_batch(X[chunk], out[chunk], mode=mode, seed=0, step=0)

    def quick(self, X: Any, answer: int) -> None:
        """No short cut here: the long way is the readable one."""

    def quick_input_gradients(self, X: Any, d_output: Any) -> None:
        """No short cut here either."""

    def input_gradients(self, X: Array, d_output: Array, out: Array) -> None:
        """dL/dX of any number of rows into `out` from dL/d(output), in inference mode, in chunks of `capacity`."""
        mode = kernels.MODES["input_gradient"]
        for start in range(0, len(X), self.capacity):
            chunk = slice(start, start + self.capacity)
            outputs = np.empty((len(X[chunk]), self.columns_out), X.dtype)
            self.forward_batch(X[chunk], outputs, mode=mode, seed=0, step=0)
            with np.errstate(all="ignore"):
                self._backward(d_output[chunk])
            out[chunk] = self._delta(0, self.columns_in)

    def bind(self, X: Array, targets: NDArray[Any] | None, weights: Doubles | None = None) -> None:
        """Name the data that `train` and `observe` take their rows from."""
        self.X, self.targets, self.weights, self.applied = X, targets, weights, 0

    def train(
        self,
        order: Integers,
        first_row: int,
        rows_end: int,
        batch_size: int,
        *,
        mode: int,
        hyper: Mapping[str, float],
        seed: int,
        step: int,
        losses: Doubles,
        norms: Doubles,
        seen: int = 0,
    ) -> tuple[int, int]:
        """One step for each batch of order[first_row:rows_end]; stops after a step that was not applied."""
        done, status = 0, DONE
        unbooked = mode & ~(kernels.MODES["light"] | kernels.MODES["full"])
        for start in range(first_row, rows_end, batch_size):
            rows = order[start : min(start + batch_size, rows_end)]
            number = seen + done + 1
            booked = self.ring is None or number % self.every == 0
            losses[done] = self.observe(rows, mode=mode if booked else unbooked, seed=seed, step=step + done)
            self.mode.add("update")
            norms[done], status = self._update(hyper, step + done, losses[done])
            if self.ring is not None and booked:
                self.ring[(number // self.every - 1) % len(self.ring)] = self.records
            done += 1
            if status != DONE:
                break
        self.applied = done - (status != DONE)
        return done, status

    def arm(self, *, mode: int, hyper: Mapping[str, float], seed: int) -> None:
        """Nothing to get ready: there are no quick single steps here."""

    def step(self, X: Array, y: Array, number: int, seen: int = 0) -> None:
        """None: use `bind` and `train`."""

    def begin(
        self,
        rows: Integers,
        batch_size: int,
        *,
        merge_single: bool,
        shuffle: bool,
        seed: int,
        number: int,
        epoch: int = 0,
        at: int = 0,
    ) -> None:
        """Begin a course: epochs over these rows, each in a new order unless `shuffle` is off; from row `at` of one."""
        self.course = SimpleNamespace(
            rows=np.array(rows), size=batch_size, merge_single=merge_single, shuffle=shuffle, seed=seed,
            number=number, epoch=epoch, at=at, order=np.array(rows),
        )  # fmt: skip
        if at:
            self._draw_order()

    def _draw_order(self) -> None:
        c = self.course
        if c.shuffle:
            key = np.array([c.seed, c.number + c.epoch], np.uint64)
            c.order = c.rows[np.random.Generator(np.random.Philox(key=key)).permutation(len(c.rows))]

    def prepare(
        self,
        steps: int,
        *,
        mode: int,
        hyper: Mapping[str, float],
        seed: int,
        step: int,
        losses: Doubles,
        norms: Doubles,
        seen: int = 0,
        rates: Doubles | None = None,
        weights: Doubles | None = None,
    ) -> None:
        """Get the next steps of the course ready for `run`."""
        self.applied, self.outcome = 0, None
        self.prepared = SimpleNamespace(
            steps=steps, mode=mode, hyper=dict(hyper), seed=seed, step=step, losses=losses, norms=norms, seen=seen,
            rates=np.ones(steps) if rates is None else rates, weights=np.ones(steps) if weights is None else weights,
        )  # fmt: skip

    def run(self, *, alone: bool = False) -> tuple[int, int]:
        """Run what was prepared; stops after a step that was not applied."""
        c, p, done, status = self.course, self.prepared, 0, DONE
        while done < p.steps and status == DONE:
            if c.at == 0:
                self._draw_order()
            end = min(c.at + c.size, len(c.rows))
            end += c.merge_single and end + 1 == len(c.rows)
            self.last_rows = c.order[c.at : end]
            hyper = p.hyper | {"lr": p.hyper["lr"] * p.rates[done]}
            p.weights[done] = end - c.at if self.weights is None else self.weights[self.last_rows].sum()
            _, status = self.train(
                self.last_rows, 0, end - c.at, end - c.at, mode=p.mode, hyper=hyper, seed=p.seed, step=p.step + done,
                losses=p.losses[done:], norms=p.norms[done:], seen=p.seen + done,
            )  # fmt: skip
            done += 1
            c.at, c.epoch = (end, c.epoch) if end < len(c.rows) else (0, c.epoch + 1)
        self.applied = done - (status != DONE)
        self.outcome = done, status
        return done, status

    @np.errstate(all="ignore")
    def observe(
        self,
        rows: Integers,
        *,
        mode: int,
        seed: int,
        step: int,
        stop: int = -1,
        backward: bool = True,
        until: int = 0,
    ) -> float:
        """Loss of one batch, and its gradients unless `backward` is off; nothing is updated.

        With `stop` only ops[0..stop] run, forward, with `until` backward ends after that op; the result is NaN then.
        """
        self._begin(self.X[rows], mode)
        self._forward(seed, step, stop)
        if stop >= 0 or self.targets is None or self.loss == "no_loss":
            return nan
        targets, weights = (
            self.targets[rows],
            np.ones(self.rows) if self.weights is None else self.weights[rows],
        )
        if self.loss == "cross_entropy" and self.loss_parameter:
            targets = smoothed(targets, self.columns_out, self.loss_parameter).astype(self.X.dtype)
        terms = weights.sum() * (1 if self.loss == "cross_entropy" else targets.shape[1])
        scale = 1.0 if not self.mean_loss else 1 / terms if terms else 0.0
        losses, gradient = np.empty(self.rows), np.empty_like(self._output())
        row_losses(
            kernels.LOSS_CODES[self.loss], self._output(), targets, losses, gradient, scale,
            parameter=self.loss_parameter, weights=weights,
        )  # fmt: skip
        if backward:
            self._backward(gradient, until)
        return nan if until else float(losses.sum()) * scale

    @np.errstate(all="ignore")
    def forward_batch(self, X: Array, out: Array, *, mode: int, seed: int, step: int) -> None:
        """First half of a step with the caller's own loss: the outputs of one batch into `out`."""
        self._begin(X, mode)
        self._forward(seed, step)
        out[...] = self._output()

    @np.errstate(all="ignore")
    def backward_batch(
        self, d_output: Array, *, mode: int, hyper: Mapping[str, float], seed: int, step: int
    ) -> tuple[float, int]:
        """Second half, from dL/d(output): gradients and, when `mode` has it, the update; (norm, status)."""
        self.mode = _switches(mode)
        self._backward(d_output)
        norm, status = self._update(hyper, step)
        self.applied = int("update" in self.mode and status == DONE)
        return norm, status

    # --- views of the arenas for the batch in work

    def _activation(self, slot: int, columns: int) -> Array:
        return self.activations.reshape(-1, self.capacity)[slot : slot + columns, : self.rows].T

    def _delta(self, slot: int, columns: int) -> Array:
        return self.deltas.reshape(-1, self.capacity)[slot : slot + columns, : self.rows].T

    def _output(self) -> Array:
        return self._activation(self.ops[-1].output, self.columns_out)

    def _weight(self, op: SimpleNamespace, arena: Array) -> Array:
        """Weights (units, inputs) of a dense op, gamma (columns,) of a norm."""
        if op.kind != "dense":
            return arena[op.weight : op.weight + op.columns_out]
        shape = op.columns_out, op.columns_in
        return arena[op.weight : op.weight + op.columns_out * op.columns_in].reshape(shape)

    def _bias(self, op: SimpleNamespace, arena: Array) -> Array:
        """Bias of a dense op, beta of a norm."""
        return arena[op.bias : op.bias + op.columns_out]

    def _running(self, op: SimpleNamespace) -> Array:
        return self.state[op.state : op.state + 2 * op.columns_out].reshape(2, op.columns_out)

    def _projection(self, fork: int) -> SimpleNamespace | None:
        """Return the dense op on the skip of a residual block."""
        op = self.ops[fork + 1]
        return op if op.kind == "dense" and op.partner >= 0 else None

    def _skip_delta(self, fork: int, op: SimpleNamespace) -> Array:
        skip = self._projection(fork)
        slot = skip.d_input if skip else self.ops[op.partner].d_output
        return self._delta(slot, op.columns_in)

    # --- the books

    def _booking(self) -> bool:
        return "light" in self.mode or "full" in self.mode

    def _book(self, index: int, field: str, matrix: Array, *, signal: bool = False) -> None:
        if self._booking():
            self.records[field][index] = fold(matrix, full="full" in self.mode, signal=signal)

    def _books_slot(self, slot: int) -> bool:
        """Slot 0 is dL/d(input of the network), which the compiled twin computes only when asked to."""
        return self._booking() and (slot > 0 or "input_gradient" in self.mode)

    def _book_delta(self, index: int, field: str, slot: int, columns: int) -> None:
        if self._books_slot(slot):
            self._book(index, field, self._delta(slot, columns))

    def _book_fork(self, index: int, op: SimpleNamespace) -> None:
        """The gradient reaches the input of a block by two ways: their norms and the cosine between them."""
        if self._books_slot(op.d_input):
            skip = self._skip_delta(index, op)
            branch = self._delta(op.d_output, op.columns_in)
            book = self.records[op.partner : op.partner + 1]
            book["skip"], book["branch"] = safe_norm(skip), safe_norm(branch)
            book["cosine"] = dot(skip, branch) / book["skip"] / book["branch"]

    def _book_parameters(self, index: int, op: SimpleNamespace, gradients: Array) -> None:
        if self._booking() and op.weight >= 0:
            self._book(index, "weight_gradient", np.atleast_2d(self._weight(op, gradients)))
            if op.bias >= 0:
                self.records["bias_gradient"][index] = safe_norm(self._bias(op, gradients))
            if "full" in self.mode:
                self.records["weight"][index] = safe_norm(self._weight(op, self.parameters))
                if op.kind == "dense" and op.bias >= 0:
                    mean = self._activation(op.input, op.columns_in).mean(axis=0)
                    centred = self._weight(op, gradients) - np.outer(self._bias(op, gradients), mean)
                    self.records["usable"][index] = safe_norm(centred)

    # --- one step

    def _begin(self, X: Array, mode: int) -> None:
        self.mode = _switches(mode)
        self.rows, X = len(X), np.asarray(X, self.activations.dtype)
        if self._booking():
            self.records.view(np.float64)[:] = nan
        self._activation(0, self.columns_in)[...] = X
        self._book(-1, "output", X, signal=True)

    def _forward(self, seed: int, step: int, stop: int = -1) -> None:
        for index, op in enumerate(self.ops if stop < 0 else self.ops[: stop + 1]):
            x, y = self._activation(op.input, op.columns_in), self._activation(op.output, op.columns_out)
            if op.kind == "dense":
                bias = self._bias(op, self.parameters) if op.bias >= 0 else None
                y[...] = dense_forward(x, self._weight(op, self.parameters), bias)
            elif op.kind == "activation" and op.activation == "softmax":
                softmax(x, y)
            elif op.kind == "activation":
                y[...], op.slope = ACTIVATIONS[op.activation](x, op.parameter)
                if "full" in self.mode:
                    bound = 0.01 * largest_slope(op.activation, op.parameter)
                    self.records["flat"][index] = count_flat(op.slope, bound)
            elif op.kind == "batch_norm":
                op.mean, op.variance, op.inverse, op.shift = batch_norm_statistics(x, op.eps)
                if "batch_statistics" not in self.mode:
                    op.mean, op.variance = self._running(op).copy()
                    op.inverse, op.shift = 1 / np.sqrt(op.variance + op.eps), np.zeros_like(op.mean)
                gamma, beta = self._weight(op, self.parameters), self._bias(op, self.parameters)
                batch_norm_forward(x, op.mean, op.inverse, op.shift, gamma, beta, y)
            elif op.kind == "layer_norm":
                gamma, beta = self._weight(op, self.parameters), self._bias(op, self.parameters)
                op.mean, op.inverse, op.shift = layer_norm_forward(x, gamma, beta, y, op.eps)
            elif op.kind == "dropout":
                op.slope = np.empty_like(x)
                dropout(x, y, op.slope, op.parameter if "drop" in self.mode else 0.0, seed, step, index)
            elif op.kind == "join":
                skip = self._projection(op.partner)
                slot = skip.output if skip else self.ops[op.partner].input
                y[...] = self._activation(slot, op.columns_in) + op.parameter * x
            self._book(index, "output", y, signal=True)

    def _backward(self, d_output: Array, until: int = 0) -> None:
        assert self.gradients is not None
        self._delta(self.ops[-1].d_output, self.columns_out)[...] = d_output
        for index, op in reversed(list(enumerate(self.ops))[until:]):
            x, y = self._activation(op.input, op.columns_in), self._activation(op.output, op.columns_out)
            d_x, d_y = self._delta(op.d_input, op.columns_in), self._delta(op.d_output, op.columns_out)
            self._book_delta(index, "d_output", op.d_output, op.columns_out)
            if op.kind == "dense":
                weight = self._weight(op, self.parameters)
                d_input, self._weight(op, self.gradients)[...], d_bias = dense_backward(d_y, x, weight)
                if op.bias >= 0:
                    self._bias(op, self.gradients)[:] = d_bias
                d_x[...] = d_input
            elif op.kind == "activation" and op.activation == "softmax":
                softmax_backward(y, d_y, d_x)
            elif op.kind in ("activation", "dropout"):
                d_x[...] = op.slope * d_y
            elif op.kind == "batch_norm":
                d_gamma, d_beta = self._weight(op, self.gradients), self._bias(op, self.gradients)
                gamma, from_batch = self._weight(op, self.parameters), "batch_statistics" in self.mode
                statistics = op.mean, op.inverse, op.shift
                batch_norm_backward(d_y, x, *statistics, gamma, d_x, d_gamma, d_beta, from_batch)
            elif op.kind == "layer_norm":
                d_gamma, d_beta = self._weight(op, self.gradients), self._bias(op, self.gradients)
                statistics, gamma = (op.mean, op.inverse, op.shift), self._weight(op, self.parameters)
                layer_norm_backward(d_y, x, *statistics, gamma, d_x, d_gamma, d_beta)
            elif op.kind == "join":
                d_x[...] = op.parameter * d_y
            elif op.kind == "fork":
                self._book_fork(index, op)
                d_x += self._skip_delta(index, op)
            # (a projection of the network's input has a slot of its own for what nobody may want)
            of_data = op.kind == "dense" and op.partner >= 0 and op.input == 0
            if not of_data or "input_gradient" in self.mode:
                self._book_delta(index, "d_input", op.d_input, op.columns_in)
            self._book_parameters(index, op, self.gradients)

    @np.errstate(all="ignore")
    def _update(self, hyper: Mapping[str, float], step: int, loss: float = 0.0) -> tuple[float, int]:
        """Norm of all gradients; where all stays finite and `mode` says so, new parameters and statistics."""
        assert self.gradients is not None
        norm = safe_norm(self.gradients)
        if not np.isfinite(norm) or not np.isfinite(loss):
            return norm, NONFINITE
        if "update" not in self.mode:
            return norm, DONE
        before, gradients = self.parameters.copy(), self._clipped(hyper)
        kept = [(arena, arena.copy()) for arena in (self.parameters, self.state, *self.slots)]
        scale = min(1.0, hyper.get("clip_norm", inf) / norm) if norm > 0 else 1.0
        self._optimize(gradients, hyper, scale, step)
        for index, op in enumerate(self.ops):
            if op.kind == "batch_norm" and "batch_statistics" in self.mode:
                mean, variance = self._running(op)
                update_running(mean, variance, op.mean, op.variance, self.rows, op.momentum)
            if op.weight >= 0 and "full" in self.mode:
                change = self._weight(op, self.parameters) - self._weight(op, before)
                self.records["update"][index] = safe_norm(change)
        if not all(np.isfinite(arena).all() for arena, _ in kept):
            for arena, values in kept:
                arena[...] = values
            self.records["update"] = nan
            return norm, NONFINITE
        return norm, DONE

    def _optimize(self, gradients: Array, hyper: Mapping[str, float], scale: float, step: int) -> None:
        """Step parameter by parameter: some kinds are exempt from weight decay and l1."""
        exempt = int(hyper.get("exempt", 0))
        for op in self.ops:
            for part, place in ((self._weight, op.weight), (self._bias, op.bias)):
                if place < 0:
                    continue
                kind = 0 if op.kind == "dense" and part == self._weight else kernels.EXEMPT["norm"]
                if op.kind == "dense" and part == self._bias:
                    kind = kernels.EXEMPT["bias"]
                its = {**hyper, "weight_decay": 0.0, "l1": 0.0} if kind & exempt else hyper
                slots = [part(op, slot) for slot in self.slots]
                optimizer_step(part(op, self.parameters), part(op, gradients), slots, its, scale, step)

    def _clipped(self, hyper: Mapping[str, float]) -> Array:
        """The gradients after adaptive clipping, which leaves the output layer alone."""
        assert self.gradients is not None
        factor = hyper.get("clip_adaptive", inf)
        if factor == inf:
            return self.gradients
        gradients = self.gradients.copy()
        output = max(i for i, op in enumerate(self.ops) if op.kind == "dense")
        for index, op in enumerate(self.ops):
            if op.weight >= 0 and index != output:
                for part in (self._weight, self._bias) if op.bias >= 0 else (self._weight,):
                    part(op, gradients)[...] = clip_adaptive(
                        part(op, gradients), part(op, self.parameters), factor
                    )
        return gradients
