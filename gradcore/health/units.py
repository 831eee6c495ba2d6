"""Unit by unit: which units are dead on all the data, and the books of every unit of one op."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gradcore import activations, kernels
from gradcore.errors import unknown_name
from gradcore.health.ledger import count
from gradcore.kernels import reference

if TYPE_CHECKING:
    from gradcore.health.replay import Replay
    from gradcore.plan import Plan

Array = npt.NDArray[np.float64]

_DENSE, _ACTIVATION, _FORK, _JOIN = (
    kernels.OP_KINDS[name] for name in ("dense", "activation", "fork", "join")
)

# Rows of a table; the rest is in to_dict.
_SHOWN = 40


def op_named(plan: Plan, name: str) -> int:
    """Return the index of an op by its name; a residual block's is that of its join."""
    names = {n: op for op, n in enumerate(plan.names) if plan.table["kind"][op] != _FORK}
    if name not in names:
        raise unknown_name("op", name, names)
    return names[name]


def largest_slope(plan: Plan, op: int) -> float:
    """Return the largest abs(f′) of an activation op, infinite for the exponential; NaN for softmax, over rows."""
    name = kernels.ACTIVATION_NAMES[int(plan.table["code"][op])]
    info = activations.REGISTRY.get(name)
    if info is None or math.isinf(info.max_slope):
        return math.nan if info is None else math.inf
    return reference.largest_slope(name, float(plan.table["parameter"][op]))


def dead_units(
    executor: Any, plan: Plan, rows: int, ops: Iterable[int] | None = None
) -> dict[int, npt.NDArray[np.bool_]]:
    """Find the units whose slope is zero, to rounding, on every row of the data: abs(f′) ≤ eps · largest.

    One pass over the data serves all ops; it ends at the last unit that is seen alive. Batch norm uses the statistics
    of each chunk, dropout drops nothing, and a slope of NaN counts as alive.

    Parameters
    ----------
    executor : Executor
        With the data bound; its capacity is the largest chunk.
    plan : Plan
        That of the executor.
    rows : int
        Of the data.
    ops : iterable of int, optional
        Activation ops to look at; None: all of them.

    Returns
    -------
    dict of int to ndarray of bool
        By op, for each unit whether it is dead. Softmax, whose slope is no property of one unit, is left out.
    """
    wanted = np.flatnonzero(plan.table["kind"] == _ACTIVATION).tolist() if ops is None else list(ops)
    bounds: dict[int, float] = {}
    for op in wanted:
        largest = largest_slope(plan, op)
        if not math.isnan(largest):
            # a function without a largest slope is dead only where the slope is zero
            bounds[op] = 0.0 if math.isinf(largest) else float(np.finfo(plan.dtype).eps) * largest
    dead = {op: np.ones(int(plan.table["columns_out"][op]), bool) for op in bounds}
    undecided = sorted(bounds)
    # equal chunks: the statistics of a last chunk of three rows would be nobody's
    for chunk in np.array_split(np.arange(rows), -(-rows // executor.capacity)):
        if not undecided:
            break
        executor.observe(
            chunk, mode=kernels.MODES["batch_statistics"], seed=0, step=1, stop=undecided[-1], backward=False
        )
        for op in undecided:
            slope = kernels.untile_slot(
                executor.deltas, int(plan.table["d_input"][op]), executor.capacity, len(chunk), len(dead[op])
            )
            dead[op] &= (np.abs(slope) <= bounds[op]).all(axis=0)
        undecided = [op for op in undecided if dead[op].any()]
    return dead


@dataclass(frozen=True)
class UnitLedger:
    """The books of one op unit by unit, over one batch. Every array has one element per unit.

    Attributes
    ----------
    mean, scale, signal : ndarray
        Of the unit's output: mean, rms, and rms after subtracting the mean (NaN for one row).
    flat_fraction : ndarray
        Rows on which an activation's abs(f′) is below 1 % of its largest; NaN for other ops and where there is none.
    delta : ndarray
        rms of dL/d(output).
    gradient : ndarray
        Norm of the gradient of the unit's weights and bias, in the dense op of its layer; NaN where a block or another
        op comes between.
    dead : ndarray of bool or None
        Whether the activation's slope is zero, to rounding, on *all* the data; None for other ops.
    """

    op: int
    name: str
    rows: int
    mean: Array
    scale: Array
    signal: Array
    flat_fraction: Array
    delta: Array
    gradient: Array
    dead: npt.NDArray[np.bool_] | None

    def __len__(self) -> int:
        return len(self.mean)

    def to_dict(self) -> dict[str, Any]:
        """Return the books as plain numbers, strings and lists."""
        return {
            name: value.tolist() if isinstance(value, np.ndarray) else value
            for name, value in self.__dict__.items()
        }

    def __str__(self) -> str:
        columns = ("mean", "scale", "signal", "flat", "delta", "gradient")
        arrays = (self.mean, self.scale, self.signal, self.flat_fraction, self.delta, self.gradient)
        head = f"{'unit':>6}" + "".join(f"{name:>10}" for name in columns)
        dead = "" if self.dead is None else f", {int(self.dead.sum())} dead on all the data"
        lines = [
            f"{self.name}: {count(len(self), 'unit')}{dead}; {count(self.rows, 'row')}",
            head,
            "-" * len(head),
        ]
        for unit, values in enumerate(zip(*arrays, strict=True)):
            if unit == _SHOWN:
                lines.append(f"… {count(len(self) - _SHOWN, 'more unit')}; to_dict() has all")
                break
            cells = "".join(f"{'-' if math.isnan(x) else format(x, '.3g'):>10}" for x in values)
            lines.append(
                f"{unit:>6}{cells}" + ("  dead" if self.dead is not None and self.dead[unit] else "")
            )
        return "\n".join(lines)


def unit_ledger(replay: Replay, op: int, dead: npt.NDArray[np.bool_] | None) -> UnitLedger:
    """Return the books of one op unit by unit.

    Parameters
    ----------
    replay : Replay
        The batch.
    op : int
    dead : ndarray of bool or None
        What `dead_units` says.
    """
    output = replay.output(op).astype(np.float64)
    with np.errstate(all="ignore"):
        mean, scale, signal = _moments(output)
        _, delta, _ = _moments(replay.d_output(op).astype(np.float64))
        return UnitLedger(
            op, replay.plan.names[op], replay.rows, mean, scale, signal, _flat(replay, op), delta,
            _gradient(replay, op), dead,
        )  # fmt: skip


def _moments(x: Array) -> tuple[Array, Array, Array]:
    """Mean, rms and rms about the mean of each column, of multiples of its largest: no square leaves the range."""
    largest = np.abs(x).max(axis=0)
    unit = np.where((largest > 0) & np.isfinite(largest), largest, 1.0)
    scaled = x / unit
    mean = scaled.mean(axis=0)
    spread = np.sqrt(np.square(scaled - mean).mean(axis=0)) if len(x) > 1 else np.full(x.shape[1], np.nan)
    return mean * unit, np.sqrt(np.square(scaled).mean(axis=0)) * unit, spread * unit


def _flat(replay: Replay, op: int) -> Array:
    largest = largest_slope(replay.plan, op) if replay.plan.table["kind"][op] == _ACTIVATION else math.nan
    if not math.isfinite(largest):
        return np.full(int(replay.plan.table["columns_out"][op]), np.nan)
    return np.asarray((np.abs(replay.slope(op)) < 0.01 * largest).mean(axis=0))


def _gradient(replay: Replay, op: int) -> Array:
    kinds = replay.plan.table["kind"]
    source = op
    while source >= 0 and kinds[source] not in (_DENSE, _FORK, _JOIN):
        source = int(replay.plan.before[source])
    if source < 0 or kinds[source] != _DENSE:
        return np.full(int(replay.plan.table["columns_out"][op]), np.nan)
    bias = replay.bias_gradient(source)
    parts = [replay.weight_gradient(source)] + ([] if bias is None else [bias])
    gradient = np.vstack(parts).astype(np.float64)
    _, rms, _ = _moments(gradient)
    return rms * math.sqrt(len(gradient))
