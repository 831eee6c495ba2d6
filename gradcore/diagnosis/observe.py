"""One batch through one network, without changing it: the books the rules read."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from gradcore import kernels
from gradcore.health.evidence import Books, Trace
from gradcore.health.facts import has_signal
from gradcore.health.ledger import Ledger
from gradcore.health.loss_curve import constant_loss, least_loss
from gradcore.losses import Loss
from gradcore.network import Network
from gradcore.optimizers import Optimizer
from gradcore.streams import ORDER, stream
from gradcore.training.data import dense

Array = npt.NDArray[Any]

# Rows that the test for signal looks at.
SAMPLE = 500

_TRAINING = kernels.MODES["batch_statistics"] | kernels.MODES["drop"]


@dataclass(frozen=True)
class Batch:
    """Checked inputs and encoded targets of some rows; inputs as they were given, or in the network's dtype."""

    X: Any
    targets: Array
    loss: Loss
    outputs: int | None = None

    def __len__(self) -> int:
        return len(self.X)

    def rows(self, chosen: npt.NDArray[np.int64], dtype: np.dtype[Any]) -> Batch:
        """Return some of the rows, inputs in `dtype`."""
        return replace(
            self, X=dense(self.X, chosen, dtype), targets=np.ascontiguousarray(self.targets[chosen])
        )

    def standardised(self, *, inputs: bool = True, targets: bool = False) -> Batch:
        """Return the batch with every column of X, of y, at mean 0 and standard deviation 1 (constant columns at 0)."""
        return replace(
            self,
            X=_standardised(self.X) if inputs else self.X,
            targets=_standardised(self.targets) if targets else self.targets,
        )

    def first(self, count: int) -> Batch:
        """Return the first rows."""
        return replace(self, X=self.X[:count], targets=self.targets[:count])

    def sample(self, count: int) -> tuple[Array, Array]:
        """Return inputs and targets of some rows, spread evenly over all."""
        rows = np.linspace(0, len(self) - 1, min(count, len(self))).astype(np.int64)
        return dense(self.X, rows, np.dtype(np.float64)), self.targets[rows]

    @cached_property
    def constant_loss(self) -> float:
        """The loss of the best constant predictor on these rows."""
        return self._of_targets(constant_loss)

    @cached_property
    def least_loss(self) -> float:
        """From where losses are counted."""
        return self._of_targets(least_loss)

    def _of_targets(self, function: Callable[..., float]) -> float:
        return function(self.loss, self.targets, outputs=self.outputs, reduction=self.loss.reduction)

    @cached_property
    def has_signal(self) -> bool | None:
        """Whether the inputs say anything about the targets; the test is made once, whatever is tried on the rows."""
        return has_signal(*self.sample(SAMPLE))

    def reachable_loss(self, low: float, high: float, outputs: int) -> float:
        """Return the least loss that outputs between two bounds can have on these rows."""
        mean = replace(self.loss, reduction="mean")
        if self.loss.name == "gaussian_nll" or (
            self.loss.name == "cross_entropy" and (self.targets.ndim == 2 or self.loss.parameter)
        ):
            return self.least_loss  # no bounds of single outputs tell
        if self.loss.name == "cross_entropy":
            value = math.log1p((outputs - 1) * math.exp(low - high))
        else:
            targets = self.targets.astype(np.float64)
            if self.loss.name == "binary_cross_entropy":
                # softplus(z) - t z is convex: least at its root log(t / (1 - t)), or at the nearer bound
                with np.errstate(divide="ignore"):
                    z = np.clip(np.log(targets) - np.log1p(-targets), low, high)
                losses = np.logaddexp(0.0, z) - targets * np.where(np.isfinite(z), z, 0.0)
                value = float(np.mean(np.where(np.isfinite(z), losses, 0.0)))
            elif self.loss.name == "poisson":
                with np.errstate(divide="ignore"):
                    value = mean.value(np.clip(np.log(targets), low, high), targets)
            else:
                value = mean.value(np.clip(targets, low, high), targets)
        terms = len(self) * self.loss.terms(self.targets)
        return value * terms if self.loss.reduction == "sum" else value


def _standardised(values: Array) -> Array:
    exact = values.astype(np.float64)
    # squares of what is large or small beyond measure leave the range
    exact = exact / np.maximum(np.abs(exact).max(axis=0), 1e-300)
    deviation = exact.std(axis=0)
    scaled: Array = (exact - exact.mean(axis=0)) / np.where(deviation > 0, deviation, 1.0)
    scaled = scaled.astype(values.dtype)
    return scaled


def observe(net: Network, batch: Batch, *, level: str = "full", seed: int = 0) -> Books:
    """Run one batch forward and backward in training mode, dropout included, and return the books."""
    executor = net.executor(len(batch), loss=batch.loss)
    executor.bind(batch.X, batch.targets)
    loss = executor.observe(np.arange(len(batch)), mode=_TRAINING | kernels.MODES[level], seed=seed, step=1)
    ledger = Ledger(net.plan, executor.records, float(loss), level=level, rows=len(batch))
    return Books(ledger)


def watch(
    net: Network,
    data: Batch,
    optimizer: Optimizer,
    *,
    steps: int,
    batch_size: int,
    seed: int,
    ledgers: int = 0,
) -> Trace:
    """Train `net` (a copy: it changes) for some real steps and return their losses and gradient norms.

    At most `ledgers` of the steps, at equal distances, are booked as well.
    """
    size = min(batch_size, len(data))
    per_epoch = max(1, len(data) // size)
    executor = net.executor(size, loss=data.loss, optimizer=optimizer)
    executor.bind(data.X, data.targets)
    losses, norms = np.full(steps, np.nan), np.full(steps, np.nan)
    hyper = {"clip_norm": np.inf, "clip_value": np.inf} | optimizer.hyper()
    mode, every = _TRAINING | kernels.MODES["update"], -(-steps // max(1, ledgers))
    ring = np.zeros((steps // every if ledgers else 0, len(net.plan.table) + 1), kernels.RECORD_DTYPE)
    if len(ring):
        mode |= kernels.MODES["light"]
        executor.book_into(ring, every)
    taken = skipped = epoch = 0
    while taken < steps:
        order = stream(seed, ORDER, epoch).permutation(len(data)).astype(np.int64)
        at = 0
        while at < per_epoch and taken < steps:
            wanted = min(per_epoch - at, steps - taken)
            done, status = executor.train(
                order, at * size, (at + wanted) * size, size, mode=mode, hyper=hyper, seed=seed,
                step=taken - skipped + 1, losses=losses[taken : taken + wanted], norms=norms[taken : taken + wanted],
                seen=taken,
            )  # fmt: skip
            taken, at, skipped = taken + done, at + done, skipped + bool(status)
        epoch += 1
    share = size / len(data) if data.loss.reduction == "sum" else 1.0
    constant, least = data.constant_loss * share, data.least_loss * share
    booked = []
    for number, records in zip(range(every, steps + 1, every), ring, strict=False):
        layers = Ledger(net.plan, records, losses[number - 1], level="light", rows=size).layers()
        booked.append((number, layers.delta, layers.gradient))
    return Trace(losses, norms, per_epoch, constant, skipped, tuple(booked), least)
