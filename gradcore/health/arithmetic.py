"""The arithmetic's own share: which zeros, subnormals and infinities of an op its rounding made.

A zero may be right: relu(-1), a dropped element, an exact cancellation. To tell, the op is computed again from the same
operands in a wider type (float64 for float32; for float64 the platform's long double, whose exponent has 15 bits), in
which none of its products leaves the range. The standard model of rounding (Higham, "Accuracy and Stability of
Numerical Algorithms", 2002, sections 2.2 and 3.1) bounds the error of k operations by ``k u Σ abs(terms)``, u half the
machine epsilon, unless something under- or overflowed. So:

- an underflow was born where the result is zero or subnormal and further from the exact one than that bound;
- an overflow was born where the result is not finite and the exact one is.

The share is ``‖computed‖ / ‖exact‖``: 1 where rounding took nothing, 0 where everything underflowed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gradcore import kernels
from gradcore.health.replay import Replay
from gradcore.kernels import reference

Array = npt.NDArray[Any]

_KINDS = {code: name for name, code in kernels.OP_KINDS.items()}

# Roundings inside one element of a function that is right to 4 ULP, or of a short formula.
_FEW = 8
# Where every activation has left its kinks behind: on each side it is then zero everywhere or nowhere.
_BEYOND_KINKS = 8.0


@dataclass(frozen=True)
class ArithmeticShare:
    """What rounding did to one result of one op.

    Attributes
    ----------
    op : int
        Index in the plan; of a residual block that of its join.
    name : str
    what : "output", "dL/d(input)", "dL/d(branch output)" or "weight gradient"
    elements : int
    underflows, overflows : int
        Elements that became zero or subnormal, or not finite, here though the exact result is not.
    share : float
        ‖computed‖ / ‖exact‖; NaN where both are zero.
    """

    op: int
    name: str
    what: str
    elements: int
    underflows: int
    overflows: int
    share: float

    @property
    def born(self) -> bool:
        """Whether anything under- or overflowed here."""
        return self.underflows > 0 or self.overflows > 0

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain numbers and strings."""
        return asdict(self)

    def __str__(self) -> str:
        counts = ((self.underflows, "underflow"), (self.overflows, "overflow"))
        born = " and ".join(f"{n} {kind}{'s' * (n > 1)}" for n, kind in counts if n) or "nothing"
        return f"{self.what}: {born} born here, of {self.elements}; computed/exact {self.share:.3g}"


class Exact(NamedTuple):
    """The exact result in the wider type, and the error that rounding without under- and overflow can make."""

    value: Array
    bound: Array


def wider(dtype: npt.DTypeLike) -> np.dtype[Any]:
    """Return the type to compute in, with room for the products of two numbers of `dtype`.

    Raises
    ------
    RuntimeError
        The platform has none for float64.
    """
    if np.dtype(dtype) == np.float32:
        return np.dtype(np.float64)
    if np.finfo(np.longdouble).maxexp < 2 * np.finfo(np.float64).maxexp:
        raise RuntimeError(
            "exact=True needs a type wider than float64, and long double is not on this platform; "
            "use a float32 network"
        )
    return np.dtype(np.longdouble)


def arithmetic_shares(replay: Replay, records: npt.NDArray[np.void]) -> tuple[ArithmeticShare, ...]:
    """Compute every result whose counters fired (zeros, subnormals, infinities, NaN) again, and compare.

    Parameters
    ----------
    replay : Replay
    records : structured array
        The books of the same batch, at level "full".
    """
    return tuple(_shares(_Ops(replay), records))


def _shares(ops: _Ops, records: npt.NDArray[np.void]) -> Iterator[ArithmeticShare]:
    table, names = ops.replay.plan.table, ops.replay.plan.names
    with np.errstate(all="ignore"):
        for op in range(len(table)):
            kind = _KINDS[int(table["kind"][op])]
            at = int(table["partner"][op]) if kind == "fork" else op
            if kind != "fork" and _fired(records["output"][op]):
                yield _compare(at, names[at], "output", ops.replay.output(op), _FORWARD[kind](ops, op))
            if _fired(records["d_input"][op]):
                what = "dL/d(branch output)" if kind == "join" else "dL/d(input)"
                yield _compare(at, names[at], what, ops.replay.d_input(op), _BACKWARD[kind](ops, op))
            if table["weight"][op] >= 0 and _fired(records["weight_gradient"][op]):
                computed = ops.replay.weight_gradient(op)
                yield _compare(at, names[at], "weight gradient", computed, _GRADIENT[kind](ops, op))


def _fired(fold: Any) -> bool:
    return any(fold[counter] > 0 for counter in ("zeros", "subnormals", "infs", "nans"))


def _compare(op: int, name: str, what: str, computed: Array, exact: Exact) -> ArithmeticShare:
    tiny = np.abs(computed) < np.finfo(computed.dtype).smallest_normal
    wide = computed.astype(exact.value.dtype)
    underflows = tiny & (np.abs(wide - exact.value) > exact.bound)
    overflows = ~np.isfinite(computed) & np.isfinite(exact.value)
    # of multiples of the largest exact magnitude: squares leave the range of the wider type too
    largest = np.abs(exact.value).max()
    share = math.nan
    if 0 < largest < np.inf:
        share = float(_norm(wide / largest) / _norm(exact.value / largest))
    return ArithmeticShare(op, name, what, computed.size, int(underflows.sum()), int(overflows.sum()), share)


def _norm(x: Array) -> Any:
    return np.sqrt(np.square(x).sum())


class _Ops:
    """The operands of every op, in the wider type."""

    def __init__(self, replay: Replay) -> None:
        self.replay = replay
        self.table = replay.plan.table
        self.wide = wider(replay.plan.dtype)
        self.u = self.wide.type(np.finfo(replay.plan.dtype).eps) / 2

    def x(self, op: int) -> Array:
        return self.replay.input(op).astype(self.wide)

    def d(self, op: int) -> Array:
        return self.replay.d_output(op).astype(self.wide)

    def weight(self, op: int) -> Array:
        return self.replay.weight(op).astype(self.wide)

    def bias(self, op: int) -> Array:
        bias = self.replay.bias(op)
        return (
            np.zeros((1, int(self.table["columns_out"][op])), self.wide)
            if bias is None
            else bias.astype(self.wide)
        )

    def parameter(self, op: int) -> Any:
        # as the kernels see it
        return self.wide.type(np.dtype(self.replay.plan.dtype).type(self.table["parameter"][op]))

    def kept(self, op: int) -> Array:
        """What dropout multiplied by: 0 or 1 / (1 - rate), exactly."""
        slope = self.replay.slope(op)
        factor = 1 / (1 - self.wide.type(self.table["parameter"][op]))
        return np.where(slope == 0, 0, np.where(slope == 1, 1, factor))

    def is_softmax(self, op: int) -> bool:
        return int(self.table["code"][op]) == kernels.ACTIVATION_CODES["softmax"]

    def activation(self, op: int) -> tuple[Array, Array]:
        """Value and slope; the wider type's smallest or largest number where it leaves its range too."""
        function = reference.ACTIVATIONS[kernels.ACTIVATION_NAMES[int(self.table["code"][op])]]
        z, parameter = self.x(op), float(self.parameter(op))
        near = function(np.clip(z, -_BEYOND_KINKS, _BEYOND_KINKS), parameter)
        value, slope = function(z, parameter)
        return self.in_range(value, z, near[0]), self.in_range(slope, z, near[1])

    def in_range(self, result: Array, operands: Array, nonzero: Array) -> Array:
        info, finite = np.finfo(self.wide), np.isfinite(operands)
        result = np.where(finite & (result == 0) & (nonzero != 0), info.smallest_subnormal, result)
        return np.where(finite & np.isinf(result), info.max, result)

    def norm(self, op: int, axis: int) -> tuple[Array, Array, Array]:
        """Normalised input, 1 / deviation, and a bound of abs(normalised input) before the mean was taken off."""
        x = self.x(op)
        mean = x.mean(axis=axis, keepdims=True)
        variance = np.square(x - mean).mean(axis=axis, keepdims=True) + self.wide.type(self.table["eps"][op])
        inverse = np.where(variance > 0, 1 / np.sqrt(variance), 0)
        return (x - mean) * inverse, inverse, (np.abs(x) + np.abs(mean)) * inverse

    def softmax(self, op: int) -> tuple[Array, Array]:
        """Value and the number of roundings in it: those of the shifted argument count with its size."""
        x = self.x(op)
        shifted = reference.shifted(x)
        e = np.exp(shifted)
        value = self.in_range(e / e.sum(axis=1, keepdims=True), x, np.isfinite(shifted))
        return value, _FEW + x.shape[1] + np.where(np.isfinite(shifted), np.abs(shifted), 0)


# -- each op: forward, backward, gradient of its weights


def _dense_forward(ops: _Ops, op: int) -> Exact:
    x, weight, bias = ops.x(op), ops.weight(op), ops.bias(op)
    terms = np.abs(x) @ np.abs(weight) + np.abs(bias)
    return Exact(x @ weight + bias, (len(weight) + 1) * ops.u * terms)


def _dense_backward(ops: _Ops, op: int) -> Exact:
    d, weight = ops.d(op), ops.weight(op).T
    return Exact(d @ weight, len(weight) * ops.u * (np.abs(d) @ np.abs(weight)))


def _dense_gradient(ops: _Ops, op: int) -> Exact:
    x, d = ops.x(op).T, ops.d(op)
    return Exact(x @ d, len(d) * ops.u * (np.abs(x) @ np.abs(d)))


def _activation_forward(ops: _Ops, op: int) -> Exact:
    if ops.is_softmax(op):
        value, roundings = ops.softmax(op)
        return Exact(value, roundings * ops.u * value)
    value, _ = ops.activation(op)
    return Exact(value, _FEW * ops.u * np.abs(value))


def _activation_backward(ops: _Ops, op: int) -> Exact:
    d = ops.d(op)
    if ops.is_softmax(op):
        value, roundings = ops.softmax(op)
        terms = value * (np.abs(d) + (value * np.abs(d)).sum(axis=1, keepdims=True))
        return Exact(value * (d - (value * d).sum(axis=1, keepdims=True)), roundings * ops.u * terms)
    _, slope = ops.activation(op)
    product = ops.in_range(slope * d, d, (slope != 0) & (d != 0))
    return Exact(product, _FEW * ops.u * np.abs(product))


def _norm_forward(ops: _Ops, op: int, *, axis: int) -> Exact:
    normal, _, spread = ops.norm(op, axis)
    gamma, beta = ops.weight(op), ops.bias(op)
    return Exact(gamma * normal + beta, _FEW * ops.u * (np.abs(gamma) * spread + np.abs(beta)))


def _batch_norm_backward(ops: _Ops, op: int) -> Exact:
    normal, inverse, spread = ops.norm(op, 0)
    d, gamma, n = ops.d(op), ops.weight(op), ops.replay.rows
    size = np.abs(d)
    value = gamma * inverse * (d - d.sum(axis=0) / n - normal * (d * normal).sum(axis=0) / n)
    terms = np.abs(gamma) * inverse * (size + size.sum(axis=0) / n + spread * (size * spread).sum(axis=0) / n)
    return Exact(value, _FEW * ops.u * terms)


def _layer_norm_backward(ops: _Ops, op: int) -> Exact:
    normal, inverse, spread = ops.norm(op, 1)
    g = ops.d(op) * ops.weight(op)
    size = np.abs(g)
    of_g, of_product = g.mean(axis=1, keepdims=True), (g * normal).mean(axis=1, keepdims=True)
    sizes = size.mean(axis=1, keepdims=True), (size * spread).mean(axis=1, keepdims=True)
    terms = inverse * (size + sizes[0] + spread * sizes[1])
    return Exact(inverse * (g - of_g - normal * of_product), _FEW * ops.u * terms)


def _norm_gradient(ops: _Ops, op: int, *, axis: int) -> Exact:
    normal, _, spread = ops.norm(op, axis)
    d = ops.d(op)
    value, terms = (d * normal).sum(axis=0), (np.abs(d) * spread).sum(axis=0)
    return Exact(value[None, :], _FEW * ops.u * terms[None, :])


def _dropout_forward(ops: _Ops, op: int) -> Exact:
    value = ops.kept(op) * ops.x(op)
    return Exact(value, _FEW * ops.u * np.abs(value))


def _dropout_backward(ops: _Ops, op: int) -> Exact:
    value = ops.kept(op) * ops.d(op)
    return Exact(value, _FEW * ops.u * np.abs(value))


def _join_forward(ops: _Ops, op: int) -> Exact:
    fork = int(ops.table["partner"][op])
    projection = ops.replay.plan.skip(fork)
    skip = ops.x(fork) if projection is None else ops.replay.output(projection).astype(ops.wide)
    branch = ops.parameter(op) * ops.x(op)
    return Exact(skip + branch, _FEW * ops.u * (np.abs(skip) + np.abs(branch)))


def _join_backward(ops: _Ops, op: int) -> Exact:
    value = ops.parameter(op) * ops.d(op)
    return Exact(value, _FEW * ops.u * np.abs(value))


def _fork_backward(ops: _Ops, op: int) -> Exact:
    projection = ops.replay.plan.skip(op)
    skip = ops.d(int(ops.table["partner"][op]))
    if projection is not None:
        skip = ops.replay.d_input(projection).astype(ops.wide)
    branch = ops.replay.d_input(ops.replay.plan.branch_start(op)).astype(ops.wide)
    return Exact(skip + branch, _FEW * ops.u * (np.abs(skip) + np.abs(branch)))


_Formula = Callable[[_Ops, int], Exact]

# A fork copies in the forward pass; only what has weights has a gradient of them.
_FORWARD: dict[str, _Formula] = {
    "dense": _dense_forward,
    "activation": _activation_forward,
    "batch_norm": partial(_norm_forward, axis=0),
    "layer_norm": partial(_norm_forward, axis=1),
    "dropout": _dropout_forward,
    "join": _join_forward,
}
_BACKWARD: dict[str, _Formula] = {
    "dense": _dense_backward,
    "activation": _activation_backward,
    "batch_norm": _batch_norm_backward,
    "layer_norm": _layer_norm_backward,
    "dropout": _dropout_backward,
    "fork": _fork_backward,
    "join": _join_backward,
}
_GRADIENT: dict[str, _Formula] = {
    "dense": _dense_gradient,
    "batch_norm": partial(_norm_gradient, axis=0),
    "layer_norm": partial(_norm_gradient, axis=1),
}
