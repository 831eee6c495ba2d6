"""Weights that are not finite: nothing that is computed with them is."""

from __future__ import annotations

from gradcore.health.evidence import Evidence
from gradcore.health.faults import Fault

CERTAIN = True


def rule(evidence: Evidence) -> Fault | None:
    """Fire when some weight is NaN or infinite before anything is computed.

    gradcore applies no step that would make such weights: they were put there, or another library made them.
    """
    spoilt = evidence.spoilt_layers
    if not spoilt:
        return None
    names, ops = evidence.books.ledger.plan.names, evidence.books.layers.op
    return Fault(
        "invalid_data",
        "fatal",
        ops=tuple(names[ops[i]] for i in spoilt),
        causes=("invalid_data",),
        evidence={"spoilt_layers": [i + 1 for i in spoilt], "layers": len(ops)},
    )
