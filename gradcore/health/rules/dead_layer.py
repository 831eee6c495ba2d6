"""Dead layer: no row of the data gives any of its units a slope, so nothing below it is ever moved again."""

from __future__ import annotations

from gradcore.health.evidence import Evidence
from gradcore.health.faults import Fault
from gradcore.health.rules.dead_units import dead_units_fault

CERTAIN = True


def rule(evidence: Evidence) -> Fault | None:
    """Fire when a whole layer outside residual blocks is dead over all the data.

    No bound is needed: its output is the same for every example, so that no layer above can tell them apart, and no
    gradient passes to the layers below.  (In a residual block the skip goes on.)
    """
    op = evidence.dead_layer
    return None if op is None else dead_units_fault(evidence, {op: evidence.dead_at(op)}, layer=True)
