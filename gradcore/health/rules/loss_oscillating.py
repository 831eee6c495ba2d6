"""Loss oscillating: what was learned is lost again, over and over."""

from __future__ import annotations

from gradcore.health.evidence import Evidence
from gradcore.health.faults import Fault


def rule(evidence: Evidence) -> Fault | None:
    """Fire when the loss of real steps climbs back by a fifth of the constant predictor's, beyond noise.

    A fifth is the bar of the word *trains*: a swing of that size undoes what counts as training
    (`gradcore.health.loss_curve.classify`).
    """
    sign = evidence.loss_sign
    if sign != "oscillating":
        return None
    return Fault("loss_oscillating", "serious", evidence=dict(sign.evidence))
