"""Overflow: a number of the forward or backward pass left the range of the dtype."""

from __future__ import annotations

import math

import numpy as np

from gradcore.health.evidence import Evidence
from gradcore.health.faults import Fault

CERTAIN = True


def rule(evidence: Evidence) -> Fault | None:
    """Fire on the first infinity or NaN, in the order in which a step computes.

    No bound is needed: the inputs were checked to be finite, so that whatever is not was born in the network.
    """
    ledger = evidence.books.ledger
    records = ledger.records
    if evidence.spoilt_parameters:
        return None  # they came in from outside: the business of the rule about them
    last = len(ledger.plan.names) - 1
    spoilt = np.flatnonzero(_spoilt(records["output"][:-1]))
    if len(spoilt):
        first = int(spoilt[0])
        return _fault(evidence, first, "forward", "output", float(records["output"]["max_abs"][first - 1]))
    if evidence.loss_known and not math.isfinite(ledger.loss):
        return _fault(evidence, last, "forward", "loss", float(records["output"]["max_abs"][last]))
    bad = {what: _spoilt(records[what][:-1]) for what in ("d_output", "weight_gradient", "d_input")}
    anywhere = np.flatnonzero(np.logical_or.reduce(list(bad.values())))
    if not len(anywhere):
        return None
    op = int(anywhere[-1])
    what = next(what for what, where in bad.items() if where[op])
    return _fault(evidence, op, "backward", what, float(records["d_output"]["max_abs"][op]))


def _spoilt(folds: np.ndarray) -> np.ndarray:
    return np.asarray((folds["infs"] > 0) | (folds["nans"] > 0) | np.isinf(folds["max_abs"]))


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
