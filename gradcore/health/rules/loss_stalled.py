"""Loss stalled: large and unchanging."""

from __future__ import annotations

from gradcore.health.evidence import Evidence
from gradcore.health.faults import Fault


def rule(evidence: Evidence) -> Fault | None:
    """Fire when the loss of real steps stays at the constant predictor's and does not move.

    Large and unchanging is told from small and converged by the constant predictor, and from "too few steps to tell" by
    the noise (`gradcore.health.loss_curve.classify`).  That a slow start is no stall is the chance's to say, which has
    seen networks that start slowly.
    """
    sign = evidence.loss_sign
    if sign != "stalled":
        return None
    return Fault("loss_stalled", "fatal", evidence=dict(sign.evidence))
