"""The table that ``print(net.summary())`` shows."""

from __future__ import annotations

import numpy as np

from gradcore import kernels
from gradcore.optimizers import Optimizer
from gradcore.plan import Plan

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def summary(plan: Plan, batch_size: int, optimizer: Optimizer) -> str:
    """Return the ops of a plan with their shapes and parameters, then what training takes in memory."""
    counts = [0] * len(plan.table)
    for slot in plan.parameter_names.values():
        counts[slot.op] += slot.columns * (slot.rows if slot.kind == "weight" else 1)
    rows = [("op", "output", "parameters")]
    for name, op, count in zip(plan.names, plan.table, counts, strict=True):
        rows.append((name, f"(rows, {int(op['columns_out'])})", f"{count:,}" if count else ""))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}".rstrip() for a, b, c in rows]
    lines.insert(1, "─" * (sum(widths) + 4))
    memory = training_memory(plan, batch_size, optimizer.n_slots)
    return "\n".join([
        *lines,
        "─" * (sum(widths) + 4),
        f"{sum(counts):,} parameters, {_size(memory['parameters'])} in {np.dtype(plan.dtype)}",
        f"training at batch size {batch_size} with {optimizer.name}: {_size(sum(memory.values()))} beside the data",
        "  " + ", ".join(f"{name} {_size(size)}" for name, size in memory.items() if size),
    ])  # fmt: skip


def training_memory(plan: Plan, batch_size: int, slots: int) -> dict[str, int]:
    """Return the bytes that training takes beside the data and 16 bytes for each of their rows.

    Parameters
    ----------
    plan : Plan
    batch_size : int
    slots : int
        Arrays that the optimizer keeps per parameter.

    Examples
    --------
    >>> from gradcore import mlp
    >>> memory = training_memory(mlp([64, 32, 10], seed=0).plan, 32, slots=2)
    >>> memory["optimizer"] == 2 * memory["gradients"]
    True
    """
    item, tile = np.dtype(plan.dtype).itemsize, plan.tile
    parameters = plan.parameter_size * item
    targets = batch_size * (-(-plan.columns_out // tile) * tile * item + 3 * 8)  # with label, weight and loss
    return {
        "parameters": parameters + plan.state_size * item,
        "gradients": parameters,
        "optimizer": slots * parameters,
        "transposed weights": plan.transposed_size * item,
        "activations": (plan.activation_columns * batch_size + plan.saved_size) * item + targets,
        "deltas": plan.delta_columns * batch_size * item,
        "books": _units(plan) * 8 * (UNIT_FIELDS + 2 * tile) + plan.table.nbytes + RECORDS * len(plan.table),
    }


# 8-byte numbers that the kernels keep about each unit, a share of the parameters for one thread: `Unit` of program.pxd
# and the arrays beside it.
UNIT_FIELDS = 15
UNIT_ROWS = 128  # of a panel of weights
RECORDS = kernels.RECORD_DTYPE.itemsize


def _units(plan: Plan) -> int:
    rows = max(plan.tile, UNIT_ROWS // plan.tile * plan.tile)
    return sum(
        -(-slot.columns // plan.tile) * -(-slot.rows // rows) if slot.kind == "weight" else 1
        for slot in plan.parameter_names.values()
    )


def _size(count: float) -> str:
    for unit in _UNITS[:-1]:
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} {_UNITS[-1]}"
