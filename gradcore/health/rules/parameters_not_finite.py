"""Parameters that are not finite: nothing that is computed with them is."""

from __future__ import annotations

from gradcore.health.evidence import Evidence
from gradcore.health.faults import Fault

CERTAIN = True


def rule(evidence: Evidence) -> Fault | None:
    """Fire when some weight, bias, gamma or beta is NaN or infinite before anything is computed.

    gradcore applies no step that would make such parameters: they were put there, or another library made them.
    """
    spoilt = evidence.spoilt_parameters
    return evidence.fault_of_parameters(spoilt, says="NaN or infinity") if spoilt else None
