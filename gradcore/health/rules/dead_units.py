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
    """Fire when far more units are dead than a fair coin would make.

    With symmetric initial weights and zero biases a unit's pre-activation is as likely to be negative as positive.
    In a deep ReLU stack all examples come to point the same way, so that up to half of the units are dead at birth and
    the network trains all the same (Lu et al., "Dying ReLU and initialization", 2019).  The bound is the number of
    tails that n fair tosses exceed with a chance of 1e-6 over all layers.  Layers that are dead as a whole are the
    business of the rule next door.
    """
    if evidence.dead_layer is not None:
        return None
    ledger = evidence.books.ledger
    table, flat, rows = ledger.plan.table, ledger.records["flat"], ledger.rows
    ops = np.flatnonzero(table["kind"][:-1] == kernels.OP_KINDS["activation"])
    found: dict[int, tuple[int, int]] = {}
    for op in map(int, ops):
        units = int(table["columns_out"][op])
        bound = fair_coin_bound(units, RISK / len(ops))
        # dead units are flat on every row: a batch with fewer flat elements needs no closer look
        if bound < units and flat[op] > bound * rows:
            dead, _ = evidence.dead_at(op)
            if dead > bound:
                found[op] = (dead, units)
    return dead_units_fault(evidence, found) if found else None


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


def dead_units_fault(evidence: Evidence, found: dict[int, tuple[int, int]], *, layer: bool = False) -> Fault:
    """Return the fault: `found` tells by op how many units are dead, and of how many."""
    names, dense = evidence.books.ledger.plan.names, evidence.books.layers.op
    first = int(np.searchsorted(dense, min(found)))
    return Fault(
        "dead_units",
        "fatal" if layer else "serious",
        ops=tuple(names[op] for op in sorted(found)),
        evidence={
            "dead": {names[op]: list(found[op]) for op in sorted(found)},
            "largest_share": max(d / n for d, n in found.values()),
            "first_dead_layer": first if layer else None,
            "first_layer": first,
            "narrowness": float(np.sum(1 / evidence.books.layers.units[:-1])),
            "layers": len(dense),
        },
    )
