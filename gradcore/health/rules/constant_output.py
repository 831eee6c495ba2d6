"""Constant output: the output activation passes no gradient at all, whatever the examples."""

from __future__ import annotations

from gradcore import kernels
from gradcore.health.evidence import Evidence
from gradcore.health.faults import Fault

CERTAIN = True


def rule(evidence: Evidence) -> Fault | None:
    """Fire when the loss asks for a change and the output activation turns it into exactly nothing.

    A softmax over one unit is 1 for every example, and its slope exactly zero; so is that of an output ReLU that is
    off on every row.  Nothing vanishes little by little here: the output does not fit its loss.
    """
    ledger = evidence.books.ledger
    table, records = ledger.plan.table, ledger.records
    last = len(table) - 1
    if table["kind"][last] != kernels.OP_KINDS["activation"]:
        return None
    asked, passed = records["d_output"]["norm"][last], evidence.books.layers.delta[-1]
    if not (asked > 0 and passed == 0):
        return None
    return Fault(
        "constant_output",
        "fatal",
        ops=(ledger.plan.names[last],),
        causes=("output_loss_pair",),
        evidence={
            "asked": float(asked),
            "output": ledger.plan.names[last],
            "layers": len(evidence.books.layers),
        },
    )
