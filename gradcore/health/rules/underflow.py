"""Underflow: deltas too small for the dtype, which are rounded to zero or lose their digits."""

from __future__ import annotations

import numpy as np

from gradcore import kernels
from gradcore.health.evidence import Evidence
from gradcore.health.faults import Fault


def rule(evidence: Evidence) -> Fault | None:
    """Fire when most elements of a delta that ought to be there are zero or subnormal.

    Zeros by design do not count: an inactive unit's delta is zero because its slope is, and so is everything below a
    layer of dead units.  The rest must have been normal numbers before they were multiplied.  Counted, not estimated;
    "most" because a few lost elements change nothing.  With a loss of zero there is no delta to lose.
    """
    books = evidence.books
    ledger = books.ledger
    if not books.finite or evidence.learned or evidence.dead_layers:
        return None
    records, table = ledger.records, ledger.plan.table
    if not records["d_output"]["norm"][len(table) - 1] > 0:
        return None
    found: list[int] = []
    for i, op in enumerate(books.layers.op):
        fold = records["d_output"][op]
        elements = ledger.rows * int(table["columns_out"][op])
        expected = elements - _zeros_by_design(ledger.records, table, int(op))
        tiny = fold["subnormals"] + max(0.0, fold["zeros"] - (elements - expected))
        if expected > 0 and tiny > 0.5 * expected:
            found.append(i)
    # A zero that was not born small: an output layer of zeros sends nothing down, and trains on.
    if not found or not _shrinks_into(books.layers.delta, found[-1], float(np.finfo(ledger.dtype).tiny)):
        return None
    names = ledger.plan.names
    return Fault(
        "underflow",
        "fatal",
        ops=tuple(names[books.layers.op[i]] for i in found),
        evidence={
            "dtype": ledger.dtype.name,
            "limit": float(np.finfo(ledger.dtype).tiny),
            "layers_underflowed": [i + 1 for i in found],
            "delta_above": float(books.layers.delta[found[-1] + 1]),
            "layers": len(books.layers),
        },
    )


def _zeros_by_design(records: np.ndarray, table: np.ndarray, op: int) -> float:
    """Elements whose delta is zero because the slope of the activation after `op` is."""
    for after in range(op + 1, len(table)):
        kind = table["kind"][after]
        if kind == kernels.OP_KINDS["activation"]:
            return float(np.nan_to_num(records["flat"][after]))
        if kind in (kernels.OP_KINDS["dense"], kernels.OP_KINDS["join"]):
            break
    return 0.0


def _shrinks_into(delta: np.ndarray, layer: int, tiny: float) -> bool:
    """Whether the delta above `layer` had itself come within reach of the smallest normal number."""
    above = delta[layer + 1] if layer + 1 < len(delta) else np.inf
    return bool(0 < above < tiny / np.finfo(np.float32).eps ** 2)
