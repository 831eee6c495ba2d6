"""Loss diverging: the loss grows, past what knowing nothing would cost."""

from __future__ import annotations

from gradcore.health.evidence import Evidence
from gradcore.health.faults import Fault

# Measured, not foreseen: of networks that train with every seed 3 in 1000 diverge at first.
CERTAIN = True


def rule(evidence: Evidence) -> Fault | None:
    """Fire when the real steps end above their start, above the middle and above the constant predictor.

    The constant predictor is the natural zero of the scale: a network that does worse has learned something wrong.
    What counts as above is told by `gradcore.health.loss_curve.classify`, which allows for the noise of batches.
    """
    sign = evidence.loss_sign
    if sign != "diverging":
        return None
    return Fault("loss_diverging", "fatal", evidence=dict(sign.evidence))
