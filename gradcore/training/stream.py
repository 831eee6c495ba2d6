"""Training on batches that come from outside: a list of them, a DataLoader, any iterable; an epoch is one pass over it.

Each batch is one step. Nothing is kept of it but a sample, by which what concerns all rows is judged.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gradcore.losses import Loss, resolve as resolve_loss
from gradcore.training.batches import Batches
from gradcore.training.checkpoint import Checkpoint
from gradcore.training.data import Array, Rows, as_given, as_labels_or_values, check_rows
from gradcore.training.frames import library_of
from gradcore.training.loop import check_batch_norm, product_flop, validation, with_threads
from gradcore.training.run import Conduct, Data, Run
from gradcore.training.settings import StepSettings
from gradcore.training.targets import Targets, encode

if TYPE_CHECKING:
    from gradcore.health.ledger import Ledger
    from gradcore.network import Network

SAMPLED_ROWS = 1024  # of X, which stand for all where a rule looks at all the data
SAMPLED_TARGETS = 1 << 16  # rows whose targets tell what knowing nothing costs
UNKNOWN = 1 << 40  # steps of a training whose length nobody knows


def new_stream(
    net: Network,
    settings: StepSettings,
    batches: Any,
    loss: str,
    validation_data: tuple[Any, Any] | None,
    conduct: Conduct,
    threads: int | str,
) -> StreamRun:
    """Return a training on batches that is ready to begin; the first batch has been looked at."""
    source = _Source(net, batches, loss)
    if source.once and conduct.epochs > 1:
        raise ValueError(
            f"X is a {type(batches).__name__}, which can be gone through once, and epochs={conduct.epochs}: "
            "give epochs=1, a list of batches, or an object whose __iter__ begins anew (a DataLoader does)"
        )
    schedule = settings.schedule
    if schedule is not None and source.length is None and schedule.needs_total:
        raise ValueError(
            f"{schedule!r} needs to know how many steps there are, and X has no len(): give X a __len__ (batches of "
            "an epoch), or a schedule whose lengths are steps, such as 'warmup(500)'"
        )
    for callback in conduct.callbacks:
        if isinstance(callback, Checkpoint):
            raise ValueError(
                "Checkpoint needs arrays X and y: a training on an iterable of batches cannot be resumed; net.save in "
                "a callback of yours keeps the network"
            )
    X, targets = source.first
    check_batch_norm(net, len(X))
    held_out = None if validation_data is None else validation(net, validation_data, targets)
    data = Data(X, targets, np.arange(len(X)), held_out, net.output_size)
    return StreamRun(net, settings, source, data, with_threads(conduct, threads, product_flop(net, len(X))))


class _Source:
    """The batches, checked and in the form of the kernels; the first one chooses loss and coding for all."""

    def __init__(self, net: Network, batches: Any, loss: str) -> None:
        if hasattr(batches, "__array__") or hasattr(batches, "tocsr") or library_of(batches) is not None:
            raise TypeError("y is missing: fit(X, y); only an iterable of batches (X, y) is given without it")
        try:
            self._begun: Iterator[Any] | None = iter(batches)
        except TypeError:
            raise TypeError(
                f"X without y must be an iterable of batches (X, y), got {type(batches).__name__}"
            ) from None
        self.net, self.batches = net, batches
        self.once = self._begun is batches
        self.length = _length(batches)
        first = next(self._begun, None)
        if first is None:
            raise ValueError("X gives no batch: at least one (X, y) is needed")
        self._first = first
        self.loss: str | Loss = loss
        self.classes: Array | None = None
        self.first = self._checked(first, 0, 0, begin=True)

    def epoch(self, number: int) -> Iterator[tuple[Rows, Targets]]:
        """Go through the batches of one epoch."""
        if self._begun is not None:
            coming: Iterator[Any] = chain([self._first], self._begun)
            self._first = self._begun = None
        else:
            coming = iter(self.batches)
        for at, batch in enumerate(coming):
            yield self._checked(batch, number, at)

    def _checked(self, batch: Any, epoch: int, at: int, *, begin: bool = False) -> tuple[Rows, Targets]:
        net = self.net
        if not isinstance(batch, (tuple, list)) or len(batch) != 2:
            what = f"{len(batch)} things" if isinstance(batch, (tuple, list)) else type(batch).__name__
            raise TypeError(f"batch {at} of epoch {epoch}: expected a pair (X, y), got {what}")
        try:
            X = as_given(batch[0], net.input_size, net.dtype)
            labels = as_labels_or_values(batch[1])
            if begin:
                self.loss = resolve_loss(self.loss, labels, net.output_size)
                self.classes = self._coding(labels, self.loss)
            known = self.classes is not None
            targets = encode(labels, self.loss, net.output_size, net.dtype, classes=self.classes, known=known)
            check_rows(X, targets.values)
        except (TypeError, ValueError) as error:
            hint = ""
            if "not among those trained on" in str(error):
                hint = "; the labels of an iterable are the indices of the outputs, from 0, or those of an earlier fit"
            raise type(error)(f"batch {at} of epoch {epoch}: {error}{hint}") from None
        return X, targets

    def _coding(self, labels: Array, loss: Loss) -> Array | None:
        """Return the labels that there may be: those of an earlier training, else the indices of the outputs."""
        outputs = self.net.output_size
        if not loss.classification or (labels.ndim == 2 and labels.shape[1] > 1):
            return None
        if self.net.classes_ is not None:
            return self.net.classes_
        count = max(outputs, 2)
        if labels.dtype.kind in "US":
            raise ValueError(
                "y is text: which output stands for which label is not known before all batches have been seen; "
                f"give the indices of the outputs, 0 to {count - 1}"
            )
        if labels.dtype.kind == "b" and count == 2:
            return np.array([False, True])
        return np.arange(count, dtype=np.int64 if labels.dtype.kind == "b" else labels.dtype)


def _length(batches: Any) -> int | None:
    try:
        return len(batches)
    except TypeError:  # (a DataLoader of an iterable data set has __len__, which raises)
        return None


@dataclass(frozen=True)
class _Passed(Batches):
    """The batches of the epoch that has been gone through."""

    count: int = 1

    @property
    def steps(self) -> int:
        """Steps of that epoch."""
        return self.count


class _Sample:
    """Some rows that stand for all: the first that came."""

    def __init__(self) -> None:
        self.X: list[Array] = []
        self.targets: list[Array] = []
        self.rows = self.told = 0

    @property
    def complete(self) -> bool:
        """Whether there is no room for more."""
        return self.rows >= SAMPLED_ROWS and self.told >= SAMPLED_TARGETS

    def add(self, X: Rows, targets: Array) -> None:
        """Keep copies of what there is room for: the memory of a batch may be that of the next one."""
        if self.rows < SAMPLED_ROWS:
            self.X.append(np.array(X[: SAMPLED_ROWS - self.rows]))
            self.rows += len(self.X[-1])
        if self.told < SAMPLED_TARGETS:
            self.targets.append(targets[: SAMPLED_TARGETS - self.told].copy())
            self.told += len(self.targets[-1])

    def data(self, like: Data) -> Data:
        """Return the sample as data to train on."""
        targets = np.concatenate(self.targets)
        rows = np.arange(self.rows)
        return replace(
            like, X=np.concatenate(self.X), targets=replace(like.targets, values=targets), rows=rows
        )


class StreamRun(Run):
    """One training on batches as they come: each is bound, one step is made with it, and it is forgotten.

    `batches` tells of the last epoch that was gone through, `data` is a sample.
    """

    def __init__(
        self, net: Network, settings: StepSettings, source: _Source, first: Data, conduct: Conduct
    ) -> None:
        self.source = source
        self.epoch = self.at = 0  # the present step: its epoch and its number therein
        self.rows: list[int] = []  # of the steps of this epoch
        super().__init__(net, settings, _Passed(len(first.X), len(first.X), False), first, conduct)
        self.block = 1
        self.sample: _Sample | None = _Sample()

    @property
    def steps(self) -> int:
        """Steps of the whole training; UNKNOWN where nobody knows."""
        return UNKNOWN if self.source.length is None else self.source.length * self.conduct.epochs

    def _epochs(self) -> Generator[Any, None, None]:
        self.bar.total = None if self.source.length is None else self.steps
        for epoch in range(self.conduct.epochs):
            self.epoch, self.at, self.rows = epoch, 0, []
            for callback in self.conduct.callbacks:
                callback.on_epoch_begin(epoch, {})
            for X, targets in self.source.epoch(epoch):
                self._take(X, targets)
                yield from self._stretch()
                self.at += 1
                self.bar.update(self.seen, epoch, self._last())
                if self._over(bool(self.batch_hooks or self.probe_hooks)):
                    return
            if not self.at:
                raise ValueError(f"X gave no batch in epoch {epoch}: can it be gone through again?")
            self._keep()
            self.batches = _Passed(sum(self.rows), max(self.rows), False, self.at)
            self._close(epoch, epoch + 1)
            if self._over(True):
                return

    def _over(self, asked: bool) -> bool:
        over = self.ended or (asked and self.net.stop_training)
        if over:
            self.history.stopped = self.history.stopped or "a callback asked for it"
        return over

    def _take(self, X: Rows, targets: Targets) -> None:
        """Let the next step be made with this batch."""
        rows = len(X)
        check_batch_norm(self.net, rows)
        if rows > self.executor.capacity:
            self._grow(rows)
        self.executor.bind(X, targets.values)
        self.executor.begin(
            np.arange(rows), rows, merge_single=False, shuffle=False, seed=self.settings.seed, number=0
        )
        self.targets = targets
        self.rows.append(rows)
        self._make_room()
        if self.sample is not None:
            self.sample.add(X, targets.values)
            if self.sample.complete:
                self._keep()

    def _keep(self) -> None:
        """Judge by the sample from now on: it is complete, or has all rows."""
        if self.sample is not None:
            self.data, self.sample = self.sample.data(self.data), None
            told = replace(self.data, rows=np.arange(len(self.data.targets.values)))
            self.history.constant_loss, self.history.least_loss = told.constant_loss, told.least_loss

    def _grow(self, rows: int) -> None:
        """Go on in a workspace of more rows, with the same state of the optimizer."""
        old, settings = self.executor, self.settings
        self.executor = self.net.executor(
            rows, loss=self.targets.loss, optimizer=settings.optimizer, threads=self.conduct.threads
        )
        for new, kept in zip(self.executor.slots, old.slots, strict=True):
            new[...] = kept
        if self.ring is not None:
            self.executor.book_into(self.ring.records, self.ring.probe.every)

    def _make_room(self) -> None:
        """Let the next step have a place among those of its epoch."""
        if self.at >= len(self.losses):
            more = np.zeros((3, max(256, 2 * len(self.losses))))
            more[:, : len(self.losses)] = self.losses, self.norms, self.counts
            self.losses, self.norms, self.counts = more
        self.counts[self.at] = self.rows[-1]

    def _room(self) -> tuple[int, int]:
        return self.at, 1

    def _place(self, step: int) -> tuple[int, int]:
        return self.epoch, self.at

    def _sizes(self, first: int, count: int) -> NDArray[np.int64]:
        return np.array(self.rows[-1:] * count, np.int64)

    @property
    def _rows_of_steps(self) -> NDArray[np.int64]:
        return np.array(self.rows, np.int64)

    def _values(self, first: int, end: int) -> list[dict[str, float]]:
        # the losses of one epoch lie at the beginning
        return super()._values(0, 1)

    def _rates_of_epochs(self, first: int, end: int) -> dict[str, Array]:
        if "lr" not in self.history.history:
            return {}
        schedule = self.settings.schedule
        factor = 1.0 if schedule is None else schedule.factors(self.seen, 1, self.steps)[0]
        return {"lr": np.array([self.hyper["lr"] * factor])}

    def _check(self, ledger: Ledger) -> None:
        # what is dead on a few rows may live on others
        if self.sample is None:
            super()._check(ledger)
