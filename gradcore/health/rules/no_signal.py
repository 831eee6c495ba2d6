"""No signal: nothing in the inputs tells the targets apart."""

from __future__ import annotations

from gradcore.health.evidence import Evidence
from gradcore.health.faults import Fault

CERTAIN = True

# Shares of the targets' variance above this are signal without a test.
PLAIN = 0.1


def rule(evidence: Evidence) -> Fault | None:
    """Fire when all rows are the same, or when a permutation test finds no connection between inputs and targets.

    A network can still learn such targets by heart, and its gradients look healthy; nothing that it learns holds for
    new rows.  The test (`gradcore.health.facts.has_signal`) sees lines and neighbourhoods, not parities.
    """
    facts = evidence.facts
    if facts.rows < 2:
        return None
    same = not evidence.books.ledger.records["output"]["signal"][-1] > 0
    if not same and (max(facts.linear, facts.smooth) > PLAIN or evidence.has_signal() is not False):
        return None
    return Fault(
        "invalid_data",
        "fatal" if same else "serious",
        causes=("no_signal_in_data",),
        evidence={"same_rows": same, "linear": facts.linear, "smooth": facts.smooth, "rows": facts.rows},
    )
