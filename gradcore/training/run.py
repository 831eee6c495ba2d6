"""One training from its first step to its last: stretches of compiled steps, and between them what needs Python."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gradcore import kernels
from gradcore.errors import FaultError, GradcoreWarning, check_non_negative, users_level
from gradcore.health.loss_curve import constant_loss, least_loss
from gradcore.health.probe import Ring
from gradcore.scores import score_name, scores
from gradcore.streams import ORDER
from gradcore.training.batches import Batches
from gradcore.training.callbacks import Callback, has_batch_hooks, has_probe_hook
from gradcore.training.crew import STRETCH
from gradcore.training.data import Array, Rows, dense
from gradcore.training.faults import NonFinite
from gradcore.training.history import History
from gradcore.training.locate import locate_nonfinite
from gradcore.training.progress import ProgressBar
from gradcore.training.settings import StepSettings
from gradcore.training.targets import Targets
from gradcore.training.watch import check_ledger

if TYPE_CHECKING:
    from gradcore.health.facts import Facts
    from gradcore.health.faults import Fault
    from gradcore.health.ledger import Ledger
    from gradcore.network import Network
    from gradcore.training.checkpoint import Saved

BLOCK = 1 << 16  # steps whose losses and norms are kept until the values of their epochs are taken
LOCATED_FAULTS = 10  # each costs several steps; a training that goes wrong tends to go wrong at every step
LAST_LEDGERS = 8  # that a fault keeps
CHECKING = 0.03  # share of the time that looking at ledgers may take where a warning is all that comes of it
FACTS_ROWS = 128  # that tell what is known of the data


@dataclass(frozen=True)
class Data:
    """What one training is made with, checked and in the form of the kernels.

    Attributes
    ----------
    X : ndarray or SparseRows, shape (rows, inputs)
        As they were given.
    targets : Targets
    rows : ndarray of int64
        Those to train on.
    validation : (inputs, Targets) or None
    outputs : int or None
        Of the network.
    """

    X: Rows
    targets: Targets
    rows: NDArray[np.int64]
    validation: tuple[Rows, Targets] | None = None
    outputs: int | None = None

    @cached_property
    def constant_loss(self) -> float:
        """Loss of the best constant predictor, the mean over the rows."""
        return self._of_targets(constant_loss)

    @cached_property
    def least_loss(self) -> float:
        """From where losses are counted (`gradcore.health.loss_curve.least_loss`)."""
        return self._of_targets(least_loss)

    def _of_targets(self, function: Callable[..., float]) -> float:
        targets = self.targets.of_rows(self.rows)
        return function(targets.loss, targets.values, weights=targets.weights, outputs=self.outputs)

    @cached_property
    def facts(self) -> Facts:
        """What is known of the rows without any network."""
        from gradcore.health.facts import facts

        some = self.rows[:: max(1, len(self.rows) // FACTS_ROWS)][:FACTS_ROWS]
        return facts(dense(self.X, some, np.dtype(np.float64)), self.targets.values[some], len(self.rows))


@dataclass(frozen=True)
class Conduct:
    """How a training goes about it, beside the settings of a step: the arguments of `fit` of these names."""

    epochs: int
    shuffle: bool = True
    callbacks: tuple[Callback, ...] = ()
    on_fault: str | Callable[[Any], Any] = "warn"
    threads: int = 1
    choose: bool = False  # whether a stretch may be made alone where that is quicker


class Run:
    """One training of one network, as a course of stretches.

    ``for executor in run.course(...)`` brings it to its end; each time round, the caller runs what is prepared in the
    executor, alone or beside others, and may set `pace`, the most steps of the next stretch.
    """

    def __init__(
        self, net: Network, settings: StepSettings, batches: Batches, data: Data, conduct: Conduct
    ) -> None:
        self.net, self.settings, self.batches, self.data, self.conduct = net, settings, batches, data, conduct
        self.targets, callbacks = data.targets, conduct.callbacks
        self.batch_hooks = [callback for callback in callbacks if has_batch_hooks(callback)]
        self.probe_hooks = [callback for callback in callbacks if has_probe_hook(callback)]
        self.stations = [every for callback in callbacks if (every := callback._steps_between) is not None]
        self.executor = net.executor(
            batches.largest, loss=self.targets.loss, optimizer=settings.optimizer, threads=conduct.threads
        )
        self.executor.bind(data.X, self.targets.values, self.targets.weights)
        self.first_order = ORDER << 32
        self.executor.begin(
            data.rows, batches.size, merge_single=batches.merge_single, shuffle=conduct.shuffle,
            seed=settings.seed, number=self.first_order,
        )  # fmt: skip
        self.saved: Saved | None = None
        self.version = net._version
        self.hyper = settings.hyper  # with the present learning rate
        self.mode = kernels.MODES["batch_statistics"] | kernels.MODES["drop"]
        self.history = History(
            str(self.targets.loss), repr(settings.optimizer), batches.size, conduct.threads, settings.seed,
            history={name: [] for name in self._names()}, constant_loss=data.constant_loss,
            least_loss=data.least_loss,
        )  # fmt: skip
        # whatever acts at the end of an epoch needs every epoch to end in Python
        stops = bool(callbacks) or data.validation is not None
        self.block = 1 if stops else max(1, min(conduct.epochs, BLOCK // batches.steps))
        self.losses, self.norms = np.zeros((2, self.block * batches.steps))
        # how many rows each step counts for; with weights the kernels say it
        self.counts = np.tile(batches.sizes().astype(np.float64), self.block)
        self.ring: Ring | None = None
        if settings.probe is not None:
            self.ring = Ring(net.plan, settings.probe, self.steps // settings.probe.every)
            self.history.ledgers = self.ring
            self.executor.book_into(self.ring.records, settings.probe.every)
        self.seen = 0  # steps so far, those not applied included
        self.pace = 1
        self.ended = False
        self.located = 0
        self.skipped: set[int] = set()  # numbers of probed steps that were not applied
        self.next_check = 0.0  # time
        self.warned: set[str] = set()
        self.watches = settings.probe is not None and conduct.on_fault != "ignore"

    def _names(self) -> list[str]:
        names = ["loss", "gradient_norm", "gradient_norm_max", "skipped_steps"]
        if self.settings.hyper["clip_norm"] < math.inf:
            names += ["gradient_norm_clipped", "clipped_steps"]
        if self.settings.schedule is not None:
            names.append("lr")
        if self.data.validation is not None:
            names += ["val_loss", f"val_{score_name(self.targets.loss)}"]
        return names

    @property
    def steps(self) -> int:
        """Steps of the whole training."""
        return self.conduct.epochs * self.batches.steps

    @property
    def seconds(self) -> float:
        """Time that the training has taken so far, the time before it was resumed included."""
        return time.perf_counter() - self.start

    @cached_property
    def fingerprints(self) -> dict[str, Any]:
        """What tells its data from others, for checkpoints."""
        from gradcore.training.checkpoint import fingerprints_of

        return fingerprints_of(self)

    def resume(self, saved: Saved) -> None:
        """Go on from a checkpoint, if it is one of this training; the network follows when the course begins."""
        saved.check(self)
        saved.restore(self)
        self.saved = saved

    def course(self, progress: Any = False) -> Generator[Any, None, None]:
        """Yield the executor each time steps are prepared in it; whatever ends it, the history stays with the net."""
        net = self.net
        self.start = time.perf_counter() - self.history.seconds
        before = net.history, net.loss, net.classes_
        weights = None if self.saved is None else net._snapshot()
        net.history, net.loss, net.classes_ = self.history, self.targets.loss, self.targets.classes
        net.stop_training, net.learning_rate = False, self.hyper["lr"]
        begun = False
        self.bar = ProgressBar(progress, self.steps, self.conduct.epochs)
        present: list[Callback] = []
        try:
            if self.saved is not None:
                net.set_parameters(self.saved.parameters)
            for callback in self.conduct.callbacks:
                callback.network, callback.history = net, self.history
                callback.on_train_begin({})
                present.append(callback)
            if self.saved is not None:
                self.saved.restore_callbacks(self)
            begun = True
            yield from self._epochs()
            if self.watches and self.conduct.on_fault == "warn":
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
            self.history.seconds = self.seconds
            try:
                self._end(present)
            finally:
                if not begun and weights is not None:
                    net._restore(weights)

    def _end(self, present: list[Callback]) -> None:
        """Call on_train_end of all that have begun, also where one of them fails."""
        failures = []
        for callback in present:
            try:
                callback.on_train_end(self._last())
            except BaseException as error:  # a second Ctrl-C too
                failures.append(error)
        if failures:
            raise failures[0]

    def _last(self) -> dict[str, float]:
        return {name: values[-1] for name, values in self.history.history.items() if values}

    def _epochs(self) -> Generator[Any, None, None]:
        per_epoch, epoch = self.batches.steps, self.seen // self.batches.steps
        if self.history.stopped:  # a checkpoint of a training that had come to its end
            return
        while epoch < self.conduct.epochs:
            if self.seen == epoch * per_epoch:
                for callback in self.conduct.callbacks:
                    callback.on_epoch_begin(epoch, {})
            yield from self._stretch()
            self.bar.update(self.seen, min(epoch, self.conduct.epochs - 1), self._last())
            if self.ended or ((self.batch_hooks or self.probe_hooks) and self.net.stop_training):
                self.history.stopped = self.history.stopped or "a callback asked for it"
                return
            for callback in self.conduct.callbacks if self.seen % per_epoch else ():
                if callback._steps_between is not None and self.seen % callback._steps_between == 0:
                    callback._step(self)
            if epoch < self.seen // per_epoch:
                self._close(epoch, epoch := self.seen // per_epoch)
                if self.ended or self.net.stop_training:
                    self.history.stopped = self.history.stopped or "a callback asked for it"
                    return

    def _close(self, first: int, end: int) -> None:
        """Book the values of epochs that are complete; where anything acts at the end of one, it is one."""
        for epoch, values in zip(range(first, end), self._values(first, end), strict=True):
            self.history.append(epoch, values)
        for callback in self.conduct.callbacks:
            callback.on_epoch_end(epoch, dict(values))
        if values["skipped_steps"] == self.batches.steps and self.conduct.on_fault == "warn":
            self.ended, self.history.stopped = True, "no step of the last epoch could be applied"
        last = self.ended or self.net.stop_training or end == self.conduct.epochs
        for callback in self.conduct.callbacks:
            callback._complete(self, last=last)

    def _room(self) -> tuple[int, int]:
        """Return where the losses and norms of the next steps go, and how many steps may be made at once."""
        room = self.block * self.batches.steps  # a whole number of epochs
        done = self.seen % room
        return done, min(self.pace, room - done, self.steps - self.seen)

    def _place(self, step: int) -> tuple[int, int]:
        """Return the epoch of a step and its number therein, all counted from 0."""
        return divmod(step, self.batches.steps)

    def _stretch(self) -> Generator[Any, None, None]:
        """Prepare some steps, have them run, and book them."""
        probe, mode = self.settings.probe, self.mode | kernels.MODES["update"]
        done, steps = self._room()
        if probe is not None:
            mode |= kernels.MODES[probe.level]
            if self.probe_hooks or (
                self.watches and self.conduct.on_fault != "warn"
            ):  # who acts, acts right after the step
                steps = min(steps, probe.every - self.seen % probe.every)
        for every in self.stations:
            steps = min(steps, every - self.seen % every)
        _, batch = self._place(self.seen)
        if self.batch_hooks:
            steps = 1
            for callback in self.batch_hooks:
                callback.on_train_batch_begin(batch, {})
        self._refresh()
        losses, norms, counts = self.losses[done:], self.norms[done:], self.counts[done:]
        self.version = self.net._version = self.net._version + 1
        self.executor.prepare(
            steps, mode=mode, hyper=self.hyper, seed=self.settings.seed, step=self.history.steps + 1,
            losses=losses, norms=norms, seen=self.seen, rates=self._rates(steps),
            weights=None if self.targets.weights is None else counts,
        )  # fmt: skip
        try:
            yield self.executor
        finally:  # a Ctrl-C during the steps is raised after them: what was applied is booked
            count, status, sizes = self._count(losses, counts)
        if self.ring is not None:
            self.ring.book(self.seen - count, losses[:count], sizes)
        if status:
            self._fault(self.executor.last_rows)
            norms[count - 1] = np.nan
        self._probed(self.seen - count)
        for callback in self.batch_hooks:
            callback.on_train_batch_end(batch, {"loss": float(losses[0]), "gradient_norm": float(norms[0])})

    def _count(self, losses: Array, counts: Array) -> tuple[int, int, NDArray[np.int64]]:
        """Book the steps that were made: how many, how the last of them ended, and the rows of each."""
        executor = self.executor
        count, status = executor.outcome or (0, 0)  # None: it was not run
        sizes = self._sizes(self.seen, count)
        curve = losses[:count].copy()
        if self.targets.loss.reduction == "sum":
            curve /= np.where(counts[:count] > 0, counts[:count], 1.0)
        if status:
            curve[-1] = np.nan
        self.seen += count
        self.history.steps += executor.applied
        self.history.curve.extend(curve)
        return count, status, sizes

    def _rates(self, steps: int) -> Array | None:
        """Factors on the learning rate of the next steps."""
        schedule = self.settings.schedule
        return None if schedule is None else schedule.factors(self.seen + 1, steps, self.steps)

    def _sizes(self, first: int, count: int) -> NDArray[np.int64]:
        """Rows of some steps, those after the first `first`."""
        return self._rows_of_steps[np.arange(first, first + count) % self.batches.steps]

    @cached_property
    def _rows_of_steps(self) -> NDArray[np.int64]:
        return self.batches.sizes()

    def _refresh(self) -> None:
        """Take over what a callback wrote into the parameters, and another learning rate."""
        rate = check_non_negative("network.learning_rate", self.net.learning_rate)  # type: ignore[arg-type]
        if rate != self.hyper["lr"]:
            self.history.record_rate(self.hyper["lr"])
            self.hyper = self.hyper | {"lr": rate}
        if self.version != self.net._version:
            self.executor.transpose_weights()
            self.version = self.net._version

    def _fault(self, rows: NDArray[np.int64]) -> None:
        """Book a step that was not applied, and do what `on_fault` says."""
        if self.ring is not None and self.seen % self.ring.probe.every == 0:
            self.skipped.add(self.seen)
        self.located += 1
        if self.located > LOCATED_FAULTS and self.conduct.on_fault in ("warn", "ignore"):
            return
        fault = locate_nonfinite(
            self.executor, self.net, rows, mode=self.mode, seed=self.settings.seed, step=self.history.steps + 1,
            loss=self.targets.loss, targets=self.targets.values, weights=self.targets.weights, hyper=self.hyper,
            report_as=(self.seen, self._place(self.seen - 1)[0]),
            ledgers=() if self.ring is None else self.ring.last(LAST_LEDGERS),
        )  # fmt: skip
        if self.located <= LOCATED_FAULTS:
            self.history.faults.append(fault)
        kept = f"it was not applied, the network keeps the weights after {fault.good_step} applied steps"
        self._act(fault, "non-finite value", f"non-finite step: {kept}. {fault}", fault.step)

    def _act(self, fault: NonFinite | Fault, kind: str, message: str, step: int) -> None:
        """Do what `on_fault` says; a kind of fault is warned of once."""
        decision = self.conduct.on_fault(fault) if callable(self.conduct.on_fault) else self.conduct.on_fault
        if decision == "raise":
            raise FaultError(message, fault)
        if decision == "stop":
            self.ended, self.history.stopped = True, f"{kind} at step {step}"
        elif self.conduct.on_fault == "warn" and kind not in self.warned:
            self.warned.add(kind)
            warnings.warn(f"{message}; training goes on", GradcoreWarning, stacklevel=users_level())

    def _probed(self, seen: int) -> None:
        """Show the ledgers of the steps after the first `seen` to the callbacks and to the rules."""
        if self.ring is None:
            return
        acts = self.watches and self.conduct.on_fault != "warn"
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
        terms = self._terms(ledger.rows)
        faults = check_ledger(
            ledger, self.net, optimizer=self.settings.optimizer,
            constant_loss=self.history.constant_loss * terms, least_loss=self.history.least_loss * terms,
            X=self.data.X, batch_size=self.batches.size, regression=self.targets.loss.scalable,
            losses=self.history.curve.values, facts=self.data.facts,
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

    def _terms(self, rows: int) -> float:
        """How often the loss of so many rows has the mean in it."""
        # a sum grows with the rows
        if self.targets.loss.reduction != "sum":
            return 1.0
        weights = self.targets.weights
        each = 1.0 if weights is None else float(weights[self.data.rows].mean())
        return rows * each * self.targets.loss.terms(self.targets.values)

    def _values(self, first: int, end: int) -> list[dict[str, float]]:
        """Return what the history gets for each of some complete epochs."""
        shape, at = (end - first, self.batches.steps), first % self.block * self.batches.steps
        losses, norms, counts = (
            values[at : at + shape[0] * shape[1]].reshape(shape)
            for values in (self.losses, self.norms, self.counts)
        )
        applied = np.isfinite(norms)
        skipped = shape[1] - np.count_nonzero(applied, axis=1)
        whole = self.targets.loss.reduction == "sum"
        with np.errstate(all="ignore"), warnings.catch_warnings():
            if skipped.any():
                warnings.simplefilter("ignore", RuntimeWarning)  # of epochs without any applied step
                sizes = np.where(applied, counts, 0.0)
                sums = np.where(applied, losses if whole else losses * sizes, 0.0).sum(axis=1)
                means = np.where(skipped < shape[1], sums if whole else sums / _some(sizes), np.nan)
                medians, largest = np.nanmedian(norms, axis=1), np.fmax.reduce(norms, axis=1)
            else:
                means = (losses if whole else losses * counts / _some(counts)[:, None]).sum(axis=1)
                medians, largest = np.median(norms, axis=1), norms.max(axis=1)
        columns = {
            "loss": means, "gradient_norm": medians, "gradient_norm_max": largest, "skipped_steps": skipped,
            **self._clipping(norms), **self._rates_of_epochs(first, end),
        }  # fmt: skip
        rows = zip(*(values.astype(float).tolist() for values in columns.values()), strict=True)
        found = [dict(zip(columns, row, strict=True)) for row in rows]
        if self.data.validation is not None:
            X, targets = self.data.validation
            found[-1] |= {
                f"val_{name}": value for name, value in scores(self.net._forward(X), targets).items()
            }
        return found

    def _clipping(self, norms: Array) -> dict[str, Array]:
        """Return what the bound on the norm did in some epochs; a step that was not applied has no finite norm."""
        bound = self.hyper["clip_norm"]
        if bound == math.inf:
            return {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of epochs without any applied step
            after = np.nanmedian(np.minimum(norms, bound), axis=1)
        return {"gradient_norm_clipped": after, "clipped_steps": np.count_nonzero(norms > bound, axis=1)}

    def _rates_of_epochs(self, first: int, end: int) -> dict[str, Array]:
        """Return the learning rate of the last step of some epochs, where it changes."""
        if "lr" not in self.history.history:
            return {}
        rates = np.full(end - first, self.hyper["lr"])
        if self.settings.schedule is not None:
            steps, at = self.batches.steps, first * self.batches.steps
            factors = self.settings.schedule.factors(at + 1, len(rates) * steps, self.steps)
            rates *= factors[steps - 1 :: steps]
        return {"lr": rates}


def _some(counts: Array) -> Array:
    """Return the sum of each row of counts; 1 for 0, so that nothing divided by nothing is nothing."""
    sums: Array = counts.sum(axis=1)
    return np.where(sums > 0, sums, 1.0)
