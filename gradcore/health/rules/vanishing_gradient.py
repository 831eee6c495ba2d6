"""Vanishing: no layer receives an update that can tell examples apart."""

from __future__ import annotations

import math

import numpy as np

from gradcore.health.evidence import Evidence
from gradcore.health.faults import Fault

# The gradient falls by about this much while the network learns the constant predictor, its first and easiest step.
ROOM = 10.0

# With a plain step, progress is proportional to the gradient: this many times slower than the healthy counterpart.
SLOWER = 100.0


def rule(evidence: Evidence) -> Fault | None:
    """Fire when the best-fed layer is starved.

    A network can do with some starved layers as long as one layer both sees different examples and receives an update
    that depends on them.  The quantity is therefore the *largest* usable gradient over the layers: the centred weight
    gradient, in which a decayed forward signal and a decayed delta both count.  (The gain from end to end alone is a
    poor judge: tanh stacks of gain 1e-3 train well with Adam.)

    Adam divides by the size of the gradient, so that only what its epsilon swallows is lost (Kingma & Ba 2015,
    algorithm 1): the bound is ten times that epsilon.  Without such a division progress is proportional to the relative
    update, and the bound is a hundredth of what the healthy counterpart receives from the same optimizer.

    A symptom is looked at only where training is in doubt; there, a signal or a delta that falls over the depth by more
    than the widths explain, to below a hundredth, is vanishing as well.
    """
    books, healthy = evidence.books, evidence.healthy
    # An output that passes nothing on, or a loss that asks for nothing, is no vanishing.
    if not books.finite or evidence.dead_layer is not None or not books.layers.delta[-1] > 0:
        return None
    if healthy is not None and not healthy.finite:
        return None
    eps = evidence.dead_zone
    if eps is not None:
        best, reference = books.usable.max(), math.nan if healthy is None else healthy.usable.max()
        bound = ROOM * eps
    elif healthy is not None:
        best = evidence.relative_update(books).max()
        reference = evidence.relative_update(healthy).max()
        bound = reference / SLOWER
    else:
        return None
    if not (best < bound or evidence.shrinks):
        return None
    layers, ledger = books.layers, books.ledger
    starved, lost = evidence.starved(), layers.lost(ledger.dtype)
    names = ledger.plan.names
    where = np.flatnonzero(starved if starved.any() else np.ones(len(layers), bool))
    return Fault(
        "vanishing_gradient",
        "fatal",
        ops=tuple(names[op] for op in layers.op[where]),
        evidence={
            "end_to_end_log10": ledger.end_to_end_log10,
            "healthy_end_to_end_log10": math.nan if healthy is None else healthy.ledger.end_to_end_log10,
            "split": ledger.split(),
            "largest_usable_gradient" if eps is not None else "largest_relative_update": float(best),
            "bound": float(bound),
            "healthy_reference": float(reference),
            "ratio": float(reference / best) if best > 0 else math.inf,
            "starved_layers": [int(i) + 1 for i in np.flatnonzero(starved)],
            "first_lost_layer": int(np.argmax(lost)) + 1 if lost.any() else None,
            "dead_zone": eps,
            "in_dead_zone": int(np.count_nonzero(layers.gradient < eps)) if eps is not None else 0,
            "layers": len(layers),
        },
    )
