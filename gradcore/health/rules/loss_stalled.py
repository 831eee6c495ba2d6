"""Loss stalled: large and unchanging, where the healthy counterpart has moved on."""

from __future__ import annotations

from gradcore.health.evidence import SIGMAS, Evidence
from gradcore.health.faults import Fault


def rule(evidence: Evidence) -> Fault | None:
    """Fire when the loss stays at the constant predictor's while the same steps take the counterpart past it.

    Large and unchanging is told from small and converged by the constant predictor, and from "too few steps to tell" by
    the healthy counterpart: only where it gets 20 % of the way in the same steps (the bar of the word *trains*) and
    the network does not get a quarter of that is the network to blame.
    """
    trace, healthy = evidence.trace, evidence.healthy_trace
    if trace is None or healthy is None:
        return None
    ours, theirs = trace.windows(), healthy.windows()
    if ours is None or theirs is None:
        return None
    constant = evidence.constant_loss
    (means, errors), last, reference = ours, ours[0][-1], theirs[0][-1]
    if not (
        reference < 0.8 * constant and last > 0.95 * constant - SIGMAS * errors[-1] and last > 0.8 * constant
    ):
        return None
    if last > means[0] + SIGMAS * errors.max():
        return None
    return Fault(
        "loss_stalled",
        "fatal",
        evidence={
            "first_loss": float(means[0]),
            "last_loss": float(last),
            "healthy_last_loss": float(reference),
            "constant_loss": constant,
            "steps": len(trace.losses),
        },
    )
