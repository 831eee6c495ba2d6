"""Overflow: a number of the forward or backward pass left the range of the dtype."""

from __future__ import annotations

import math

import numpy as np

from gradcore.health.evidence import Evidence
from gradcore.health.faults import Fault


def rule(evidence: Evidence) -> Fault | None:
    """Fire on the first infinity or NaN, in the order in which a step computes.

    No bound is needed: the inputs were checked to be finite, so that whatever is not was born in the network.
    """
    ledger = evidence.books.ledger
    records, names = ledger.records, ledger.plan.names
    last = len(names)
    for op in range(last):
        if _spoilt(records["output"][op]):
            return _fault(evidence, op, "forward", "output", float(records["output"]["max_abs"][op - 1]))
    if not math.isfinite(ledger.loss):
        return _fault(evidence, last - 1, "forward", "loss", float(records["output"]["max_abs"][last - 1]))
    for op in reversed(range(last)):
        for what in ("d_output", "weight_gradient", "d_input"):
            if _spoilt(records[what][op]):
                return _fault(evidence, op, "backward", what, float(records["d_output"]["max_abs"][op]))
    return None


def _spoilt(fold: np.void) -> bool:
    return bool(fold["infs"] > 0 or fold["nans"] > 0 or np.isinf(fold["max_abs"]))


def _fault(evidence: Evidence, op: int, which: str, what: str, before: float) -> Fault:
    ledger = evidence.books.ledger
    fold = ledger.records["output" if what in ("output", "loss") else what][op]
    return Fault(
        "overflow",
        "fatal",
        ops=(ledger.plan.names[op],),
        evidence={
            "pass": which,
            "what": what,
            "dtype": ledger.dtype.name,
            "largest_operand": before,
            "limit": float(np.finfo(ledger.dtype).max),
            "infinities": float(fold["infs"]),
            "nans": float(fold["nans"]),
            "layer": int(np.searchsorted(evidence.books.layers.op, op, side="right")),
            "layers": len(evidence.books.layers),
        },
    )
