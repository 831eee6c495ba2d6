"""Parameters that are too large: beside them nothing else counts, and no training brings them back."""

from __future__ import annotations

import numpy as np

from gradcore.health.evidence import Evidence
from gradcore.health.faults import Fault
from gradcore.health.loss_curve import BAR
from gradcore.health.rules.update_ratio_too_small import GRANTED, STEPS

CERTAIN = True


def rule(evidence: Evidence) -> Fault | None:
    """Fire when a bias, gamma or beta outweighs all inputs of its layer, and the loss cannot come down from there.

    To first order a step lowers the loss by lr ‖g‖² (Adam: lr ‖g‖₁). Where ten times a thousand of them end above the
    constant predictor, or where the outputs of all examples agree to rounding beside a parameter that outweighs its
    inputs by more than the dtype has digits, it is that parameter. (One unit that large of many that are bounded does
    no harm.)
    """
    books = evidence.books
    if books.ledger.step is not None:
        return None  # training made them: that is told of its steps
    if not (books.finite and evidence.loss_known and evidence.constant_loss > 0 and evidence.loss > 0):
        return None
    large = evidence.outweighing_parameters(1.0)
    if not large:
        return None
    promised = GRANTED * STEPS * 10 ** evidence.measures["promise"]
    excess = 1 - evidence.constant_loss / evidence.loss
    if not (excess > BAR and promised < excess):
        digits = 1 / float(np.finfo(books.ledger.dtype).eps)
        large = evidence.outweighing_parameters(digits) if books.layers.lost(books.ledger.dtype)[-1] else ()
    return (
        evidence.fault_of_parameters(large, says="values beside which nothing else counts") if large else None
    )
