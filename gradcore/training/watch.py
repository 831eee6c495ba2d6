"""The rules of the diagnosis on the ledger of a training step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gradcore.optimizers import Optimizer
from gradcore.training.data import Rows

if TYPE_CHECKING:
    from gradcore.health.facts import Facts
    from gradcore.health.faults import Fault
    from gradcore.health.ledger import Ledger
    from gradcore.network import Network

# Before that a network that starts slowly looks like one that is stuck.
TRACED_STEPS = 200


def check_ledger(
    ledger: Ledger,
    net: Network,
    *,
    optimizer: Optimizer,
    constant_loss: float,
    X: Rows,
    batch_size: int,
    regression: bool,
    losses: NDArray[np.float64],
    facts: Facts,
    least_loss: float = 0.0,
) -> list[Fault]:
    """Return what the rules find in the ledger of a training step, the most severe first.

    There is no healthy counterpart to compare with, and no batch to run again. A light ledger has not what symptoms and
    their weight are read from: only the rules that are certain look at it.

    Parameters
    ----------
    ledger : Ledger
    net : Network
        As the step left it.
    optimizer : Optimizer
    constant_loss : float
        Of the best constant predictor.
    X : ndarray or SparseRows
        All rows: dead is a unit on all of them.
    batch_size : int
    regression : bool
        Whether the targets are numbers.
    losses : ndarray
        Of the steps so far.
    facts : Facts
        Of the data.
    least_loss : float
        From where losses are counted.
    """
    from gradcore.health.evidence import Books, Evidence, Trace
    from gradcore.health.rules import certain, check

    # steps that are not finite are told of where they happen
    told = len(losses) >= TRACED_STEPS and np.isfinite(losses).all()
    evidence = Evidence(
        books=Books(ledger),
        optimizer=optimizer,
        constant_loss=max(constant_loss - least_loss, 0.0),
        least_loss=least_loss,
        weights=net._parameters.of_units,
        dead_units=lambda op: net._count_dead(X, op),
        facts=facts,
        batch_size=batch_size,
        regression=regression,
        trace=Trace(losses, np.full(len(losses), np.nan), 1, constant_loss, least_loss=least_loss)
        if told
        else None,
    )
    # where all targets are alike there is nothing to learn, and no chance to read
    return (
        check(evidence, foresee=False)
        if ledger.level == "full" and evidence.constant_loss > 0
        else certain(evidence)
    )
