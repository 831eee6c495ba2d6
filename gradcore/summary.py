"""The table that ``print(net.summary())`` shows."""

from __future__ import annotations

import numpy as np

from gradcore.plan import Plan

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def summary(plan: Plan, batch_size: int) -> str:
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
    item = np.dtype(plan.dtype).itemsize
    parameters = plan.parameter_size * item
    workspace = (plan.activation_columns + plan.delta_columns) * batch_size * item
    return "\n".join([
        *lines,
        "─" * (sum(widths) + 4),
        f"{sum(counts):,} parameters, {_size(parameters)} in {np.dtype(plan.dtype)}",
        f"training at batch size {batch_size}: {_size(workspace)} of activations and deltas, "
        f"{_size(parameters)} of gradients, the same for each array of the optimizer",
    ])  # fmt: skip


def _size(count: float) -> str:
    for unit in _UNITS[:-1]:
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} {_UNITS[-1]}"
