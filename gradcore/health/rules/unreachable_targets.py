"""Unreachable targets: the output activation cannot come near what it is to predict."""

from __future__ import annotations

from gradcore.health.evidence import Evidence
from gradcore.health.faults import Fault

CERTAIN = True


def rule(evidence: Evidence) -> Fault | None:
    """Fire when the best outputs within the activation's bounds are hardly better than the best constant.

    Hardly: by less than the fifth that counts as training.  A tanh output cannot predict prices, nor a ReLU returns
    below zero; under a cross-entropy a sigmoid output has no logits to tell many classes apart with.
    """
    constant = evidence.constant_loss
    if not (constant > 0 and evidence.reachable_loss > 0.8 * constant):
        return None
    ledger = evidence.books.ledger
    return Fault(
        "constant_output",
        "fatal",
        ops=(ledger.plan.names[-1],),
        causes=("output_loss_pair",),
        evidence={
            "output": ledger.plan.names[-1],
            "reachable_loss": evidence.reachable_loss,
            "constant_loss": constant,
            "layers": len(evidence.books.layers),
        },
    )
