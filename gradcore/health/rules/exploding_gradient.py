"""Exploding: one step of the optimizer overshoots, because the backward gain is far too large."""

from __future__ import annotations

import math

import numpy as np

from gradcore.health.evidence import SIGMAS, Evidence
from gradcore.health.faults import Fault
from gradcore.optimizers import SGD


def rule(evidence: Evidence) -> Fault | None:
    """Fire when the gain exceeds that of the healthy counterpart by more than chance *and* a step overshoots.

    Chance: the log of an end-to-end gain is a sum over the layers whose variance theory gives from the widths and
    activations (`gradcore.health.theory.gain_variance`); four standard deviations of both networks are allowed.

    Overshoot: a plain step of rate lr changes the loss, to first order, by lr ‖g‖²; more than the whole loss cannot
    be meant (Polyak 1963).  Adam moves every weight by about lr whatever the gradient; outputs then move by lr times
    the excess gain relative to where a healthy network's would, and past a tenth of a unit, ten steps are enough to
    change the delta itself.
    """
    books = evidence.books
    # a counterpart's gain is at least 1, at its output: without this there is no need to look at it
    if not books.finite or not books.largest_gain > SIGMAS * books.spread:
        return None
    healthy = evidence.healthy
    if healthy is not None and not healthy.finite:
        return None
    usual, scatter = (0.0, 0.0) if healthy is None else (healthy.largest_gain, healthy.spread)
    excess = books.largest_gain - usual
    if not excess > 0 or not excess > (chance := SIGMAS * math.hypot(books.spread, scatter)):
        return None
    records = books.ledger.records[:-1]
    norms = np.concatenate([records["weight_gradient"]["norm"], records["bias_gradient"]])
    norm = math.hypot(*norms[norms > 0])
    if isinstance(evidence.optimizer, SGD):
        overshoot = evidence.optimizer.lr * norm * norm / evidence.loss if evidence.loss > 0 else 0.0
        bound = 1.0
    else:
        overshoot = evidence.optimizer.lr * 10.0 ** min(excess, 300.0)
        bound = 0.1
    if not overshoot > bound:
        return None
    layers, ledger = books.layers, books.ledger
    top = ledger.records["d_output"]["norm"][-2]
    where = np.flatnonzero(layers.delta > 10.0 ** (chance + usual) * top)
    return Fault(
        "exploding_gradient",
        "fatal",
        ops=tuple(ledger.plan.names[op] for op in layers.op[where]),
        evidence={
            "end_to_end_log10": ledger.end_to_end_log10,
            "healthy_end_to_end_log10": math.nan if healthy is None else healthy.ledger.end_to_end_log10,
            "largest_gain_log10": books.largest_gain,
            "excess_log10": excess,
            "chance_log10": chance,
            "overshoot": overshoot,
            "gradient_norm": norm,
            "split": ledger.split(),
            "grown_layers": [int(i) + 1 for i in where],
            "layers": len(layers),
        },
    )
