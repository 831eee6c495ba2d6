"""Learning rate zero: no step changes anything."""

from __future__ import annotations

from gradcore.health.evidence import Evidence
from gradcore.health.faults import Fault

CERTAIN = True


def rule(evidence: Evidence) -> Fault | None:
    """Fire when the learning rate is exactly zero: every update is a multiple of it, weight decay included.

    Nothing else matters before that is changed, so that nothing else is told.
    """
    if evidence.optimizer.lr != 0:
        return None
    books = evidence.books
    return Fault(
        "update_ratio_too_small",
        "fatal",
        ops=tuple(books.ledger.plan.names[op] for op in books.layers.op),
        causes=("learning_rate",),
        advice="a learning rate greater than 0",
        evidence={"rate": 0.0, "layers": len(books.layers)},
    )
