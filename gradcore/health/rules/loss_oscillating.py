"""Loss oscillating: what was learned is lost again, over and over."""

from __future__ import annotations

import numpy as np

from gradcore.health.evidence import SIGMAS, Evidence
from gradcore.health.faults import Fault


def rule(evidence: Evidence) -> Fault | None:
    """Fire when the loss climbs back by a fifth of the constant predictor's, and noise does not explain it.

    A fifth is the bar of the word *trains*: a swing of that size undoes what counts as training.  Averages over windows
    take the mini-batch noise out; what is left of it, four standard errors, is allowed.  The first quarter is let off:
    losses jump while the scale of the outputs settles.
    """
    windows = evidence.trace.windows() if evidence.trace is not None else None
    if windows is None:
        return None
    means, errors = (values[len(values) // 4 :] for values in windows)
    climb = means[None, :] - means[:, None]
    allowed = SIGMAS * np.hypot(errors[None, :], errors[:, None])
    later = np.triu(np.ones(climb.shape, bool), 1)
    swings = later & (climb > allowed) & (climb > 0.2 * evidence.constant_loss)
    # rising at the end is divergence, a swing comes down again
    back = swings.any(axis=0) & (np.minimum.accumulate(means[::-1])[::-1] < means - allowed.max(axis=0))
    if not back.any():
        return None
    return Fault(
        "loss_oscillating",
        "serious",
        evidence={
            "largest_swing": float(climb[swings].max()),
            "noise": float(allowed.max()),
            "constant_loss": evidence.constant_loss,
            "batch_steps": len(evidence.trace.losses) if evidence.trace is not None else 0,
        },
    )
