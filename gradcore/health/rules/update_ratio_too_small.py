"""Update ratio too small: gradients are there, and the steps are too short to get anywhere."""

from __future__ import annotations

import numpy as np

from gradcore.health.evidence import Evidence
from gradcore.health.faults import Fault
from gradcore.health.measures import END

# Steps of the word *trains*, as in the calibration of the chance.
STEPS = 1000
# Learning speeds up once features form.
GRANTED = 10


def rule(evidence: Evidence) -> Fault | None:
    """Fire when a thousand steps, to first order, cannot bring the loss down by the fifth that counts as training.

    To first order a plain step lowers the loss by lr ‖g‖² and one of Adam by lr ‖g‖₁, of the usable gradient; a
    thousand of them are worth a thousand times that.  Learning speeds up once features form: ten times is granted, and
    the weights may not move by a tenth of their size in that time.  Starved gradients are the vanishing rule's affair.
    """
    books, measures = evidence.books, evidence.measures
    if not books.finite or evidence.shrinks or evidence.dead_layer is not None:
        return None
    if not -END < measures["progress"] or not books.layers.delta[-1] > 0:
        return None
    promised, moved = STEPS * 10 ** measures["progress"], STEPS * 10 ** measures["relative"]
    if not (promised < 0.2 * GRANTED and moved < 0.1):
        return None
    return Fault(
        "update_ratio_too_small",
        "fatal",
        ops=tuple(books.ledger.plan.names[op] for op in books.layers.op),
        evidence={
            "promised_share": promised,
            "weights_move": moved,
            "steps": STEPS,
            "rate": evidence.optimizer.lr,
            "largest_usable_gradient": float(np.max(books.usable)),
            "layers": len(books.layers),
        },
    )
