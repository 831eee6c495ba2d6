"""One network under the rules: its books on one batch and, where asked for, some real steps on a copy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy.typing as npt

from gradcore.diagnosis.observe import Batch, count_dead, observe, watch
from gradcore.health.evidence import Books, Evidence, Trace
from gradcore.health.faults import Fault
from gradcore.health.rules import check
from gradcore.network import Network
from gradcore.optimizers import Optimizer


@dataclass(frozen=True)
class Setting:
    """What a network is examined on and trained with.

    Parameters
    ----------
    data, batch : Batch
        All rows, and those of the one batch.
    optimizer : Optimizer
    steps, batch_size : int
        Real steps to watch, and their rows.
    seed : int
    """

    data: Batch
    batch: Batch
    optimizer: Optimizer
    steps: int
    batch_size: int
    seed: int


@dataclass(frozen=True)
class Reference:
    """The healthy counterpart: its books, and its trace where steps were asked for."""

    books: Books
    trace: Trace | None


def reference(net: Network, setting: Setting) -> Reference:
    """Look at the healthy counterpart."""
    books = observe(net, setting.batch, seed=setting.seed)
    return Reference(books, _watch(net, setting) if setting.steps else None)


def examine(
    net: Network, setting: Setting, healthy: Reference, books: Books | None = None
) -> tuple[Evidence, list[Fault]]:
    """Apply the rules to the network as it is and, where steps were asked for, to what they make of it.

    `books` are those of the network on the batch, where they are known already.
    """
    evidence = Evidence(
        books=observe(net, setting.batch, seed=setting.seed) if books is None else books,
        healthy=healthy.books,
        optimizer=setting.optimizer,
        constant_loss=setting.batch.constant_loss(),
        weights=_reader(net),
        dead_units=_dead_counter(net, setting.data),
        regression=not setting.batch.loss.classification,
    )
    if not setting.steps:
        return evidence, check(evidence)
    trained = net.copy()
    trace = _watch(trained, setting, copied=True)
    evidence = replace(evidence, trace=trace, healthy_trace=healthy.trace)
    faults = {fault.kind: fault for fault in check(evidence)}
    after = replace(
        evidence, books=observe(trained, setting.batch, seed=setting.seed), weights=_reader(trained),
        dead_units=_dead_counter(trained, setting.data), trace=None, healthy_trace=None, _dead={},
    )  # fmt: skip
    for fault in check(after):
        late = replace(fault, evidence={**fault.evidence, "after_steps": setting.steps})
        faults.setdefault(fault.kind, late)
    return evidence, sorted(faults.values(), key=lambda fault: fault.rank)


def _watch(net: Network, setting: Setting, *, copied: bool = False) -> Trace:
    return watch(
        net if copied else net.copy(), setting.data, setting.optimizer, steps=setting.steps,
        batch_size=setting.batch_size, seed=setting.seed,
    )  # fmt: skip


def _dead_counter(net: Network, data: Batch) -> Callable[[int], tuple[int, int]]:
    return lambda op: count_dead(net, data, op)


def _reader(net: Network) -> Callable[[str], npt.NDArray[Any]]:
    parameters = net._parameters
    return lambda name: parameters.read(parameters.arena, parameters.slots[name])
