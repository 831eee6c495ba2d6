"""Loss NaN: a step met a loss or a gradient that is not a number."""

from __future__ import annotations

import numpy as np

from gradcore.health.evidence import Evidence
from gradcore.health.faults import Fault

CERTAIN = True


def rule(evidence: Evidence) -> Fault | None:
    """Fire when a real step was not finite: such a step cannot be applied, so no bound is needed."""
    trace = evidence.trace
    if trace is None or not (trace.skipped or not np.isfinite(trace.losses).all()):
        return None
    bad = ~(np.isfinite(trace.losses) & np.isfinite(trace.norms))
    return Fault(
        "loss_nan",
        "fatal",
        evidence={
            "first_step": int(np.argmax(bad)) + 1 if bad.any() else None,
            "skipped_steps": trace.skipped,
            "steps": len(trace.losses),
        },
    )
