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
    if not books.finite or evidence.dead_layer is not None:
        return None
    records, table = ledger.records, ledger.plan.table
    if not records["d_output"]["norm"][len(table) - 1] > 0:
        return None
    layers = books.layers
    folds, elements = records["d_output"][layers.op], ledger.rows * layers.units
    found = []
    for i in np.flatnonzero(folds["subnormals"] + folds["zeros"] > 0.5 * elements):
        by_design = _zeros_by_design(records, table, int(layers.op[i]))
        tiny = folds["subnormals"][i] + max(0.0, folds["zeros"][i] - by_design)
        if tiny > 0.5 * (elements[i] - by_design) > 0:
            found.append(int(i))
    # A zero that was not born small: an output layer of zeros sends nothing down, and trains on.
    if not found or not _shrinks_into(layers.delta, found[-1], float(np.finfo(ledger.dtype).tiny)):
        return None
    names = ledger.plan.names
    return Fault(
        "underflow",
        "fatal",
        ops=tuple(names[layers.op[i]] for i in found),
        evidence={
            "dtype": ledger.dtype.name,
            "limit": float(np.finfo(ledger.dtype).tiny),
            "layers_underflowed": [i + 1 for i in found],
            "delta_above": float(layers.delta[found[-1] + 1]),
            "layers": len(layers),
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
