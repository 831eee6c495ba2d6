"""Symmetric weights: the units of a layer are copies of each other and stay so."""

from __future__ import annotations

from gradcore import kernels
from gradcore.health.evidence import Evidence
from gradcore.health.faults import Fault


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
    weights = evidence.weights()
    names = {slot.op: name for name, slot in ledger.plan.parameter_names.items() if slot.kind == "weight"}
    matrices = [weights[names[int(op)]] for op in dense]
    found = [
        i
        for i in range(len(matrices) - 1)
        if len(matrices[i]) > 1
        and matrices[i + 1].shape[1] == len(matrices[i])
        and bool((matrices[i] == matrices[i][:1]).all() and (matrices[i + 1] == matrices[i + 1][:, :1]).all())
    ]
    if not found:
        return None
    return Fault(
        "symmetric_weights",
        "fatal",
        ops=tuple(ledger.plan.names[dense[i]] for i in found),
        causes=("symmetric_initial_weights",),
        evidence={"symmetric_layers": [i + 1 for i in found], "layers": len(dense)},
    )
