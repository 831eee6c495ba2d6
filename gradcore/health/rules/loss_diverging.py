"""Loss diverging: the loss grows, past what knowing nothing would cost."""

from __future__ import annotations

from gradcore.health.evidence import SIGMAS, Evidence
from gradcore.health.faults import Fault


def rule(evidence: Evidence) -> Fault | None:
    """Fire when the loss ends rising, above its start by more than noise, and above the constant predictor's.

    The constant predictor is the natural zero of the scale: a network that does worse has learned something wrong.  A
    bump at the start is not enough: the last window must still lie above the one in the middle.
    """
    windows = evidence.trace.windows() if evidence.trace is not None else None
    if windows is None:
        return None
    means, errors = windows
    first, middle, last = means[0], means[len(means) // 2], means[-1]
    noise = SIGMAS * (errors[0] ** 2 + errors[-1] ** 2) ** 0.5
    if not (last > first + noise and last > evidence.constant_loss and last > middle):
        return None
    return Fault(
        "loss_diverging",
        "fatal",
        evidence={
            "first_loss": float(first),
            "last_loss": float(last),
            "noise": float(noise),
            "constant_loss": evidence.constant_loss,
        },
    )
