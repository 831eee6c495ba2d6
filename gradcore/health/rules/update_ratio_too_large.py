"""Update ratio too large: one plain step replaces the weights instead of improving them."""

from __future__ import annotations

import math

import numpy as np

from gradcore.health.evidence import Evidence
from gradcore.health.faults import Fault
from gradcore.optimizers import SGD


def rule(evidence: Evidence) -> Fault | None:
    """Fire when a step is larger than the weights it changes *and* promises more than the whole loss.

    The update ratio lr ‖g‖ / ‖W‖ has its natural bound at 1.  To first order the step lowers the loss by lr ‖g‖²; a
    promise of more than there is to gain means that the step leaves the region in which the gradient says anything.
    Adam and AdamW bound their steps themselves.  (An excess of backward gain is the business of the exploding rule.)
    """
    books, optimizer = evidence.books, evidence.optimizer
    if not books.finite or not isinstance(optimizer, SGD) or not evidence.loss > 0:
        return None
    records, layers = books.ledger.records, books.layers
    norms = records["weight_gradient"]["norm"][layers.op]
    ratio = optimizer.lr * norms / np.where(layers.weight_norm > 0, layers.weight_norm, np.inf)
    everything = np.concatenate([norms, records["bias_gradient"][layers.op]])
    promise = optimizer.lr * math.hypot(*everything[everything > 0]) ** 2 / evidence.loss
    if not (ratio.max(initial=0.0) > 1 and promise > 1):
        return None
    where = np.flatnonzero(ratio > 1)
    return Fault(
        "update_ratio_too_large",
        "fatal",
        ops=tuple(books.ledger.plan.names[op] for op in layers.op[where]),
        evidence={
            "largest_ratio": float(ratio.max()),
            "promise": float(promise),
            "large_layers": [int(i) + 1 for i in where],
            "layers": len(layers),
        },
    )
