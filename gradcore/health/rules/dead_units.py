"""Dead units: no row of the data gives them a slope, so nothing moves them again."""

from __future__ import annotations

import math
from functools import cache

import numpy as np

from gradcore import kernels
from gradcore.health.evidence import Evidence
from gradcore.health.faults import Fault

# Chance of crying wolf over a whole network.
RISK = 1e-6


def rule(evidence: Evidence) -> Fault | None:
    """Fire when a whole layer is dead, or when far more units are than a fair coin would make.

    With symmetric initial weights and zero biases a unit's pre-activation is as likely to be negative as positive.
    In a deep ReLU stack all examples come to point the same way, so that up to half of the units are dead at birth and
    the network trains all the same (Lu et al., "Dying ReLU and initialization", 2019).  The bound is the number of
    tails that n fair tosses exceed with a chance of 1e-6 over all layers.  A layer dead as a whole stops every gradient
    below it.
    """
    if evidence.learned:
        return None
    ledger = evidence.books.ledger
    table, flat, rows = ledger.plan.table, ledger.records["flat"], ledger.rows
    ops = np.flatnonzero(table["kind"] == kernels.OP_KINDS["activation"])
    ops = ops[ops < len(table) - 1]
    dead_layer = evidence.dead_layer
    if dead_layer is not None:
        # a dead layer makes constants of all above it: theirs is no sickness of their own
        ops = ops[ops <= dead_layer]
    found: dict[int, tuple[int, int]] = {}
    for op in map(int, ops):
        units = int(table["columns_out"][op])
        bound = fair_coin_bound(units, RISK / len(ops))
        # dead units are flat on every row: a batch with fewer flat elements needs no closer look
        if op == dead_layer or (bound < units and flat[op] > bound * rows):
            dead, _ = evidence.dead_at(op)
            if op == dead_layer or dead > bound:
                found[op] = (dead, units)
    if not found:
        return None
    dense = evidence.books.layers.op
    first = min(found)
    dead, units = found[first]
    return Fault(
        "dead_units",
        "serious" if dead_layer is None else "fatal",
        ops=tuple(ledger.plan.names[op] for op in sorted(found)),
        evidence={
            "dead": {ledger.plan.names[op]: list(found[op]) for op in sorted(found)},
            "largest_share": max(d / n for d, n in found.values()),
            "first_dead_layer": None if dead_layer is None else int(np.searchsorted(dense, dead_layer)),
            "first_layer": int(np.searchsorted(dense, first)),
            "narrowness": float(np.sum(1 / evidence.books.layers.units[:-1])),
            "layers": len(dense),
        },
    )


@cache
def fair_coin_bound(tosses: int, risk: float) -> int:
    """Return the smallest k such that more than k tails in n fair tosses have at most this chance.

    Examples
    --------
    >>> fair_coin_bound(64, 1e-6)
    50
    """
    tail, k = 0.0, tosses
    while k > 0:
        tail += math.comb(tosses, k) / 2.0**tosses if tosses < 1000 else _normal_step(tosses, k)
        if tail > risk:
            break
        k -= 1
    return k


def _normal_step(tosses: int, k: int) -> float:
    """Binomial probability by logarithms, where the integers grow too large."""
    log = math.lgamma(tosses + 1) - math.lgamma(k + 1) - math.lgamma(tosses - k + 1) - tosses * math.log(2)
    return math.exp(log)
