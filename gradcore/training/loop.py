"""The training loop: stretches of compiled steps, and between them everything that needs Python."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gradcore import kernels
from gradcore.errors import FaultError, GradcoreWarning, check_flag, check_fraction, check_integer
from gradcore.health.loss_curve import constant_loss
from gradcore.health.probe import Ring
from gradcore.optimizers import Optimizer
from gradcore.scores import score_name, scores
from gradcore.threads import resolve_threads
from gradcore.training.batches import Batches, order_of, split
from gradcore.training.callbacks import Callback, has_batch_hooks, has_probe_hook
from gradcore.training.data import Array, as_inputs, check_rows
from gradcore.training.faults import NonFinite
from gradcore.training.history import History
from gradcore.training.locate import locate_nonfinite
from gradcore.training.progress import ProgressBar
from gradcore.training.settings import StepSettings, check_on_fault, check_progress, step_settings
from gradcore.training.targets import Targets, encode
from gradcore.training.watch import check_ledger

if TYPE_CHECKING:
    from gradcore.health.facts import Facts
    from gradcore.health.faults import Fault
    from gradcore.health.ledger import Ledger
    from gradcore.network import Network

STRETCH = 0.04  # seconds of compiled steps between two visits to Python
LOCATED_FAULTS = 10  # each costs several steps; a training that goes wrong tends to go wrong at every step
LAST_LEDGERS = 8  # that a fault keeps
CHECKING = 0.03  # share of the time that looking at ledgers may take where a warning is all that comes of it
FACTS_ROWS = 128  # that tell what is known of the data


def fit(
    net: Network,
    X: Any,
    y: Any,
    *,
    loss: str,
    optimizer: str | Optimizer,
    epochs: int,
    batch_size: int,
    validation_data: tuple[Any, Any] | None,
    validation_fraction: float,
    clip_norm: float | None,
    clip_value: float | None,
    shuffle: bool,
    callbacks: Sequence[Callback],
    probe: Any,
    on_fault: str | Callable[[Any], Any],
    progress: Any,
    threads: Any,
    seed: int | None,
) -> History:
    """Train `net`; the arguments and what happens are told at `Network.fit`."""
    with net._training():
        settings = step_settings(optimizer, batch_size, clip_norm, clip_value, probe, seed)
        epochs = check_integer("epochs", epochs, minimum=0)
        shuffle, on_fault = check_flag("shuffle", shuffle), check_on_fault(on_fault)
        progress = check_progress(progress)
        hooks = check_callbacks(callbacks)
        fraction = check_fraction("validation_fraction", validation_fraction)
        if validation_data is not None and fraction:
            raise ValueError("give validation_data or validation_fraction, not both")

        X = as_inputs(X, net.input_size, net.dtype)
        targets = encode(y, loss, net.output_size, net.dtype, classes=net.classes_)
        check_rows(X, targets.values)
        rows, held_out = split(len(X), fraction, settings.seed) if fraction else (np.arange(len(X)), None)
        validation = _validation(net, validation_data, targets)
        if held_out is not None:
            validation = X[held_out], replace(targets, values=targets.values[held_out])
        batches = Batches(len(rows), min(settings.batch_size, len(rows)), merge_single=has_batch_norm(net))
        check_batch_norm(net, batches.size)
        workers = resolve_threads(threads, product_flop(net, batches.size))
        run = _Run(
            net, settings, batches, X, targets, rows, validation, workers, hooks, on_fault, shuffle, epochs
        )
        return run.train(progress)


def has_batch_norm(net: Network) -> bool:
    """Tell whether some op normalises by the batch."""
    return bool((net.plan.table["kind"] == kernels.OP_KINDS["batch_norm"]).any())


def check_batch_norm(net: Network, rows: int) -> None:
    """Raise for a training batch that has no variance to normalise by."""
    if rows == 1 and has_batch_norm(net):
        raise ValueError(
            "batch norm cannot train on batches of one row: they have no variance; use at least 2 rows"
        )


def product_flop(net: Network, rows: int) -> float:
    """Return the floating-point operations of the average matrix product of one step."""
    dense = net.plan.table[net.plan.table["kind"] == kernels.OP_KINDS["dense"]]
    return float(2.0 * rows * np.mean(dense["columns_in"] * dense["columns_out"])) if len(dense) else 0.0


def check_callbacks(callbacks: Any) -> list[Callback]:
    """Return one callback, or several, as a list."""
    if isinstance(callbacks, Callback):
        return [callbacks]
    hooks = list(callbacks)
    for hook in hooks:
        if not isinstance(hook, Callback):
            raise TypeError(f"callbacks must be instances of gradcore.callbacks.Callback, got {hook!r}")
    return hooks


def _validation(net: Network, data: Any, trained: Targets) -> tuple[Array, Targets] | None:
    if data is None:
        return None
    try:
        inputs, labels = data
    except (TypeError, ValueError):
        raise ValueError("validation_data must be a pair (X, y)") from None
    try:
        X = as_inputs(inputs, net.input_size, net.dtype)
        targets = encode(
            labels,
            trained.loss,
            net.output_size,
            net.dtype,
            classes=trained.classes,
            known=trained.classes is not None,
        )
        check_rows(X, targets.values)
    except (TypeError, ValueError) as error:
        raise type(error)(f"validation_data: {error}") from None
    return X, targets


def users_level() -> int:
    """Stack level, as `warnings.warn` counts it, of the line outside of gradcore that the caller was called from."""
    package, frame, level = str(Path(__file__).parents[1]), sys._getframe(1), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith(package):
        frame, level = frame.f_back, level + 1
    return level


class _Run:
    """One training run."""

    def __init__(
        self,
        net: Network,
        settings: StepSettings,
        batches: Batches,
        X: Array,
        targets: Targets,
        rows: NDArray[np.int64],
        validation: tuple[Array, Targets] | None,
        threads: int,
        callbacks: list[Callback],
        on_fault: str | Callable[[Any], Any],
        shuffle: bool,
        epochs: int,
    ) -> None:
        self.net, self.settings, self.batches = net, settings, batches
        self.targets, self.rows, self.validation = targets, rows, validation
        self.callbacks, self.on_fault, self.shuffle, self.epochs = callbacks, on_fault, shuffle, epochs
        self.batch_hooks = [callback for callback in callbacks if has_batch_hooks(callback)]
        self.probe_hooks = [callback for callback in callbacks if has_probe_hook(callback)]
        self.executor = net.executor(
            batches.largest, loss=targets.loss, optimizer=settings.optimizer, threads=threads
        )
        self.X = X
        self.executor.bind(X, targets.values)
        self.version = net._version
        self.mode = kernels.MODES["batch_statistics"] | kernels.MODES["drop"]
        self.history = History(
            str(targets.loss), repr(settings.optimizer), batches.size, threads, settings.seed,
            history={name: [] for name in self._names()},
            constant_loss=constant_loss(targets.loss.name, targets.values[rows]),
        )  # fmt: skip
        self.losses, self.norms = np.zeros(batches.steps), np.zeros(batches.steps)
        self.ring: Ring | None = None
        if settings.probe is not None:
            self.ring = Ring(net.plan, settings.probe, epochs * batches.steps // settings.probe.every)
            self.history.ledgers = self.ring
            self.executor.book_into(self.ring.records, settings.probe.every)
        self.seen = 0  # steps so far, those not applied included
        self.pace = 1  # steps of the next stretch
        self.ended = False
        self.skipped_in_epoch = 0
        self.located = 0
        self.skipped: set[int] = set()  # numbers of probed steps that were not applied
        self.next_check = 0.0  # time
        self.warned: set[str] = set()
        self.watches = settings.probe is not None and on_fault != "ignore"

    def _names(self) -> list[str]:
        names = ["loss", "gradient_norm", "gradient_norm_max", "skipped_steps"]
        return names + ["val_loss", f"val_{score_name(self.targets.loss)}"] * (self.validation is not None)

    def train(self, progress: Any) -> History:
        """Run all epochs; whatever ends them, the history stays with the network."""
        net, start = self.net, time.perf_counter()
        before = net.history, net.loss, net.classes_
        net.history, net.loss, net.classes_ = self.history, self.targets.loss, self.targets.classes
        net.stop_training = False
        begun = False
        self.bar = ProgressBar(progress, self.epochs, self.batches.steps)
        try:
            for callback in self.callbacks:
                callback.network, callback.history = net, self.history
                callback.on_train_begin({})
            begun = True
            for epoch in range(self.epochs):
                self._epoch(epoch)
                if self.ended or net.stop_training:
                    self.history.stopped = self.history.stopped or "a callback asked for it"
                    break
            if self.watches and self.on_fault == "warn":
                self._check_newest()
        except BaseException as error:
            if not begun:
                net.history, net.loss, net.classes_ = before
            interrupted = isinstance(error, KeyboardInterrupt)
            self.history.stopped = self.history.stopped or (
                "interrupted" if interrupted else type(error).__name__
            )
            raise
        finally:
            self.bar.close()
            self.history.seconds = time.perf_counter() - start
            if begun:
                self._end()
        return self.history

    def _end(self) -> None:
        """Call every on_train_end, also where one of them fails."""
        failures = []
        for callback in self.callbacks:
            try:
                callback.on_train_end(self._last())
            except Exception as error:
                failures.append(error)
        if failures:
            raise failures[0]

    def _last(self) -> dict[str, float]:
        return {name: values[-1] for name, values in self.history.history.items() if values}

    def _epoch(self, epoch: int) -> None:
        for callback in self.callbacks:
            callback.on_epoch_begin(epoch, {})
        order = order_of(self.rows, shuffle=self.shuffle, seed=self.settings.seed, epoch=epoch)
        self.skipped_in_epoch, done = 0, 0
        for first, end, size in self.batches.stretches():
            while first < end:
                steps = self._run_stretch(order, first, end, size, done, epoch)
                first, done = first + steps * size, done + steps
                self.bar.update(self.seen, epoch, self._last())
                if self.ended or ((self.batch_hooks or self.probe_hooks) and self.net.stop_training):
                    return
        values = self._epoch_values(done)
        self.history.append(epoch, values)
        for callback in self.callbacks:
            callback.on_epoch_end(epoch, dict(values))
        if self.skipped_in_epoch == done and self.on_fault == "warn":
            self.ended, self.history.stopped = True, "no step of the last epoch could be applied"

    def _run_stretch(
        self, order: NDArray[np.int64], first: int, end: int, size: int, done: int, epoch: int
    ) -> int:
        """Run some steps in one compiled call; return how many."""
        probe, steps, mode = self.settings.probe, self.pace, self.mode | kernels.MODES["update"]
        if probe is not None:
            mode |= kernels.MODES[probe.level]
            if self.probe_hooks or (
                self.watches and self.on_fault != "warn"
            ):  # who acts, acts right after the step
                steps = min(steps, probe.every - self.seen % probe.every)
        if self.batch_hooks:
            steps = 1
            for callback in self.batch_hooks:
                callback.on_train_batch_begin(done, {})
        self._refresh()
        stop = min(end, first + steps * size)
        losses, norms = self.losses[done:], self.norms[done:]
        start = time.perf_counter()
        self.version = self.net._version = self.net._version + 1
        try:
            count, status = self.executor.train(
                order, first, stop, size, mode=mode, hyper=self.settings.hyper, seed=self.settings.seed,
                step=self.history.steps + 1, losses=losses, norms=norms, seen=self.seen,
            )  # fmt: skip
        finally:  # a Ctrl-C during the steps is raised after them: what was applied is booked
            self.history.steps += self.executor.applied
        elapsed = time.perf_counter() - start
        # at most eight times as many as last time: one quick stretch proves little
        self.pace = max(1, min(int(count * STRETCH / max(elapsed, 1e-9)), 8 * count))
        sizes = np.minimum(size, stop - first - size * np.arange(count))
        whole = self.targets.loss.reduction == "sum"
        curve = losses[:count] / sizes if whole else losses[:count].copy()
        if status:
            curve[-1] = np.nan
        self.history.curve.extend(curve)
        self.seen += count
        if self.ring is not None:
            self.ring.book(self.seen - count, losses[:count], sizes)
        if status:
            bad = first + (count - 1) * size
            self._fault(order[bad : min(bad + size, end)], epoch)
            norms[count - 1] = np.nan
        self._probed(self.seen - int(count))
        for callback in self.batch_hooks:
            callback.on_train_batch_end(done, {"loss": float(losses[0]), "gradient_norm": float(norms[0])})
        return int(count)

    def _refresh(self) -> None:
        """Take over what a callback wrote into the parameters."""
        if self.version != self.net._version:
            self.executor.transpose_weights()
            self.version = self.net._version

    def _fault(self, rows: NDArray[np.int64], epoch: int) -> None:
        """Book a step that was not applied, and do what `on_fault` says."""
        self.skipped_in_epoch += 1
        if self.ring is not None and self.seen % self.ring.probe.every == 0:
            self.skipped.add(self.seen)
        self.located += 1
        if self.located > LOCATED_FAULTS and self.on_fault in ("warn", "ignore"):
            return
        fault = locate_nonfinite(
            self.executor, self.net, rows, mode=self.mode, seed=self.settings.seed, step=self.history.steps + 1,
            loss=self.targets.loss, targets=self.targets.values, hyper=self.settings.hyper,
            report_as=(self.seen, epoch), ledgers=() if self.ring is None else self.ring.last(LAST_LEDGERS),
        )  # fmt: skip
        if self.located <= LOCATED_FAULTS:
            self.history.faults.append(fault)
        kept = f"it was not applied, the network keeps the weights after {fault.good_step} applied steps"
        self._act(fault, "non-finite value", f"non-finite step: {kept}. {fault}", fault.step)

    def _act(self, fault: NonFinite | Fault, kind: str, message: str, step: int) -> None:
        """Do what `on_fault` says; a kind of fault is warned of once."""
        decision = self.on_fault(fault) if callable(self.on_fault) else self.on_fault
        if decision == "raise":
            raise FaultError(message, fault)
        if decision == "stop":
            self.ended, self.history.stopped = True, f"{kind} at step {step}"
        elif self.on_fault == "warn" and kind not in self.warned:
            self.warned.add(kind)
            warnings.warn(f"{message}; training goes on", GradcoreWarning, stacklevel=users_level())

    def _probed(self, seen: int) -> None:
        """Show the ledgers of the steps after the first `seen` to the callbacks and to the rules."""
        if self.ring is None:
            return
        acts = self.watches and self.on_fault != "warn"
        for ledger in self.ring.since(seen) if self.probe_hooks or acts else ():
            for callback in self.probe_hooks:
                callback.on_probe(int(ledger.step or 0), ledger)
            if acts:
                self._check(ledger)
        if self.watches and not acts and time.perf_counter() > self.next_check:
            self._check_newest()

    def _check_newest(self) -> None:
        """Look at the last ledger only: a sickness stays, and a warning can wait."""
        start = time.perf_counter()
        if self.ring:
            self._check(self.ring[-1])
        now = time.perf_counter()
        self.next_check = now + max(STRETCH, (now - start) / CHECKING)

    def _check(self, ledger: Ledger) -> None:
        step = int(ledger.step or 0)
        if step in self.skipped:  # it has been told of
            return
        faults = check_ledger(
            ledger, self.net, optimizer=self.settings.optimizer, constant_loss=self._constant_loss(ledger.rows),
            X=self.X, batch_size=self.batches.size, regression=not self.targets.loss.classification,
            losses=self.history.curve.values, facts=self._facts,
        )  # fmt: skip
        for fault in faults:
            self._book(fault, step)

    def _book(self, fault: Fault, step: int) -> None:
        """Keep the first fault of each kind, and do what `on_fault` says."""
        fault = replace(fault, evidence={**fault.evidence, "step": step})
        if fault.kind not in {getattr(known, "kind", None) for known in self.history.faults}:
            self.history.faults.append(fault)
        where = f" in {', '.join(fault.ops[:3])}{' …' * (len(fault.ops) > 3)}" if fault.ops else ""
        self._act(fault, fault.kind, f"{fault.title} at step {step}{where}; gradcore.diagnose says why", step)

    def _constant_loss(self, rows: int) -> float:
        # a sum grows with the rows
        whole = self.targets.loss.reduction == "sum"
        per_row = self.targets.loss.name == "cross_entropy"
        terms = rows * (1 if per_row else self.net.output_size)
        return self.history.constant_loss * (terms if whole else 1)

    @cached_property
    def _facts(self) -> Facts:
        from gradcore.health.facts import facts

        some = self.rows[:: max(1, len(self.rows) // FACTS_ROWS)][:FACTS_ROWS]
        return facts(self.X[some], self.targets.values[some], len(self.rows))

    def _epoch_values(self, done: int) -> dict[str, float]:
        norms, sizes = self.norms[:done], self.batches.sizes()[:done]
        applied = np.isfinite(norms)
        losses = self.losses[:done][applied]
        values = {"loss": np.nan, "gradient_norm": np.nan, "gradient_norm_max": np.nan}
        if len(losses):
            whole = self.targets.loss.reduction == "sum"
            values["loss"] = losses.sum() if whole else np.average(losses, weights=sizes[applied])
            values["gradient_norm"], values["gradient_norm_max"] = (
                np.median(norms[applied]),
                norms[applied].max(),
            )
        values["skipped_steps"] = self.skipped_in_epoch
        if self.validation is not None:
            X, targets = self.validation
            values |= {f"val_{name}": value for name, value in scores(self.net._forward(X), targets).items()}
        return {name: float(value) for name, value in values.items()}
