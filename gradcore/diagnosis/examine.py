"""One network under the rules: its books on one batch and, where asked for, some real steps on a copy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np

from gradcore import kernels
from gradcore.activations import REGISTRY, SOFTMAX
from gradcore.diagnosis.changes import Change
from gradcore.diagnosis.observe import Batch, observe, watch
from gradcore.diagnosis.variants import Variants
from gradcore.health.evidence import DOUBT, Books, Evidence, Trace
from gradcore.health.facts import Facts
from gradcore.health.loss_curve import HORIZON
from gradcore.network import Network
from gradcore.optimizers import Optimizer

# Rows that the healthy counterpart is looked at with.
ROWS = 32

# Steps after which what a network knows is there, or gone; the first of Adam alone may jump.
SOME = 10

# Ledgers that are kept of the real steps.
LEDGERS = 60


# What an output activation can make, by its code.
OUTPUT_BOUNDS = {info.code: info.outputs for info in (*REGISTRY.values(), SOFTMAX)}


@dataclass(frozen=True)
class Setting:
    """What a network is examined on and trained with.

    Parameters
    ----------
    data, batch : Batch
        All rows, and those of the one batch.
    facts : Facts
        Of the data.
    optimizer : Optimizer
    steps, batch_size : int
        Real steps to watch, and their rows.
    seed : int
    """

    data: Batch
    batch: Batch
    facts: Facts
    optimizer: Optimizer
    steps: int
    batch_size: int
    seed: int

    @property
    def constant_loss(self) -> float:
        """Loss of the best constant predictor on the batch; that of all rows where the batch has one class only.

        Counted from the least.
        """
        data, batch = self.data, self.batch
        if (own := batch.constant_loss - batch.least_loss) > 0:
            return own
        whole = max(data.constant_loss - data.least_loss, 0.0)
        return whole * (len(batch) / len(data) if data.loss.reduction == "sum" else 1.0)

    def changed(self, change: Change) -> Setting:
        """Return the setting with what the change says of data, loss and optimizer."""
        return replace(
            self,
            batch=change.data(self.batch),
            data=change.data(self.data) if self.steps else self.data,
            optimizer=change.optimizer_for(self.optimizer),
            batch_size=change.batch_size or self.batch_size,
        )

    def few(self, rows: int) -> Setting:
        """Return the setting with the first rows of the batch only."""
        return replace(self, batch=self.batch.first(rows)) if len(self.batch) > rows else self


class Reference:
    """The healthy counterpart; its books are made once, when they are first asked for."""

    def __init__(self, variants: Variants, setting: Setting) -> None:
        self._variants, self._setting = variants, setting

    def __call__(self) -> Books:
        """Its books on a few rows: bounds that come from them are wide."""
        return self._books

    @cached_property
    def _books(self) -> Books:
        return observe(self._variants.counterpart(), self._setting.few(ROWS).batch, seed=self._setting.seed)


def examine(
    net: Network, setting: Setting, healthy: Reference | None, books: Books | None = None
) -> Evidence:
    """Return what the rules look at: the network as it is and, where steps were asked for, what they make of it.

    `books` are those of the network on the batch, where they are known already.
    """
    evidence = Evidence(
        books=observe(net, setting.batch, seed=setting.seed) if books is None else books,
        optimizer=setting.optimizer,
        constant_loss=setting.constant_loss,
        weights=net._parameters.of_units,
        dead_units=partial(net._count_dead, setting.data.X),
        counterpart=healthy,
        facts=setting.facts,
        has_signal=partial(getattr, setting.data, "has_signal"),
        batch_size=min(setting.batch_size, len(setting.data)),
        regression=setting.batch.loss.scalable,
        reachable_loss=_reachable_loss(net, setting.batch),
        least_loss=setting.batch.least_loss,
    )
    if 0 < np.count_nonzero(evidence.books.layers.weight == 0) < len(evidence.books.layers):
        begun, batch = net.copy(), setting.batch
        watch(begun, batch, setting.optimizer, steps=1, batch_size=len(batch), seed=setting.seed)
        evidence = replace(evidence, begun=_now(evidence, begun, setting))
    if setting.steps:
        trained = net.copy()
        # the ledgers of the steps are for the one who reads about this network, not for the alternatives to it
        trace = _watch(trained, setting, ledgers=0 if healthy is None else LEDGERS)
        evidence = replace(evidence, trace=trace, after=_now(evidence, trained, setting))
    elif evidence.ahead and evidence.chance < DOUBT:
        evidence = replace(evidence, fleeting=_forgets(evidence, net, setting))
    # one dense layer trains in no time, and the chance is that of networks which have hidden ones
    if healthy is not None and len(net.plan.table) == 1 and evidence.doubtful:
        evidence = replace(evidence, proven=_trains(evidence, net, setting))
    return evidence


def _forgets(evidence: Evidence, net: Network, setting: Setting) -> bool:
    """Whether steps on the batch, by this optimizer, undo that the network is ahead of the constant predictor."""
    trained, batch = net.copy(), setting.batch
    trace = watch(trained, batch, setting.optimizer, steps=SOME, batch_size=len(batch), seed=setting.seed)
    # a step that is not finite is not applied
    return trace.skipped > 0 or not _now(evidence, trained, setting).ahead


def _trains(evidence: Evidence, net: Network, setting: Setting) -> bool:
    """Whether a thousand real steps take the network past the constant predictor."""
    trained = net.copy()
    _watch(trained, replace(setting, steps=HORIZON))
    return _now(evidence, trained, setting).ahead


def _reachable_loss(net: Network, batch: Batch) -> float:
    """Return the least loss that the output activation allows."""
    last = net.plan.table[-1]
    if int(last["kind"]) != kernels.OP_KINDS["activation"]:
        return 0.0
    # of softmax only the bounds of each output are used: enough to see what cannot be reached
    low, high = OUTPUT_BOUNDS.get(int(last["code"]), (-np.inf, np.inf))
    if not np.isfinite([low, high]).any():
        return 0.0
    return max(batch.reachable_loss(low, high, net.output_size) - batch.least_loss, 0.0)


def _now(evidence: Evidence, net: Network, setting: Setting) -> Evidence:
    """Return the evidence of what training has made of the network."""
    return replace(
        evidence, books=observe(net, setting.batch, seed=setting.seed), weights=net._parameters.of_units,
        dead_units=partial(net._count_dead, setting.data.X), begun=None, _dead={},
    )  # fmt: skip


def _watch(net: Network, setting: Setting, *, ledgers: int = 0) -> Trace:
    return watch(
        net, setting.data, setting.optimizer, steps=setting.steps, batch_size=setting.batch_size, seed=setting.seed,
        ledgers=ledgers,
    )  # fmt: skip
