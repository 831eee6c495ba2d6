"""Saturated activations: most of a bounded layer passes no gradient."""

from __future__ import annotations

import numpy as np

from gradcore import kernels
from gradcore.activations import REGISTRY
from gradcore.health.evidence import Evidence
from gradcore.health.faults import Fault

_BOUNDED = {info.code for info in REGISTRY.values() if info.bounded}


def rule(evidence: Evidence) -> Fault | None:
    """Fire when more than half of a bounded activation's elements are saturated.

    Saturated: abs(slope) below 1 % of the function's largest.  In a majority of elements the layer is then a step
    function, whose slope says nothing about where to go (Glorot & Bengio 2010, section 3).
    """
    ledger = evidence.books.ledger
    if not evidence.books.finite:
        return None
    table, rows = ledger.plan.table, ledger.rows
    ops = [
        int(op)
        for op in np.flatnonzero(table["kind"] == kernels.OP_KINDS["activation"])
        # the last op is an output, whose saturation is the loss's affair
        if int(table["code"][op]) in _BOUNDED and op < len(table) - 1
    ]
    shares = {op: float(ledger.records["flat"][op]) / (rows * int(table["columns_out"][op])) for op in ops}
    found = [op for op in ops if shares[op] > 0.5]
    if not found:
        return None
    dense = evidence.books.layers.op
    return Fault(
        "saturated_activations",
        "serious",
        ops=tuple(ledger.plan.names[op] for op in found),
        evidence={
            "largest_share": max(shares.values()),
            "saturated_layers": [int(np.searchsorted(dense, op)) for op in found],
            "largest_pre_activation": max(float(ledger.records["output"]["max_abs"][op - 1]) for op in found),
            "layers": len(dense),
        },
    )
