"""Symmetric weights: the units of a layer are copies of each other and stay so."""

from __future__ import annotations

from gradcore import kernels
from gradcore.health.evidence import Evidence
from gradcore.health.faults import Fault

CERTAIN = True


def rule(evidence: Evidence) -> Fault | None:
    """Fire when all units of a hidden layer have the same incoming *and* the same outgoing weights.

    Such units compute the same and receive the same gradient for ever: the layer is one unit wide (Goodfellow, Bengio &
    Courville, "Deep Learning", section 8.4).  Either set alone breaks the symmetry: a zero output layer trains on.  So
    does dropout, which treats the copies differently.
    """
    ledger = evidence.books.ledger
    table, dense = ledger.plan.table, evidence.books.layers.op
    if (table["kind"] == kernels.OP_KINDS["dropout"]).any():
        return None
    names = evidence.weight_names
    found = []
    for i in range(len(dense) - 1):
        if not {int(dense[i]), int(dense[i + 1])} <= names.keys():
            continue  # weights that nobody has shown
        twins = evidence.weights(names[int(dense[i])], 2)
        if len(twins) < 2 or not (twins[0] == twins[1]).all():
            continue
        incoming = evidence.weights(names[int(dense[i])])
        if (incoming == incoming[:1]).all():
            outgoing = evidence.weights(names[int(dense[i + 1])])
            if outgoing.shape[1] == len(incoming) and (outgoing == outgoing[:, :1]).all():
                found.append(i)
    if not found:
        return None
    return Fault(
        "symmetric_weights",
        "fatal",
        ops=tuple(ledger.plan.names[dense[i]] for i in found),
        causes=("symmetric_initial_weights",),
        evidence={"symmetric_layers": [i + 1 for i in found], "layers": len(dense)},
    )
