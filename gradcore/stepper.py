"""Stepper: single training steps for loops of your own, with as little as possible around the compiled step."""

from __future__ import annotations

import math
import threading
import warnings
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradcore import kernels
from gradcore.errors import GradcoreWarning
from gradcore.health.probe import Ring
from gradcore.losses import Loss, check_weights, resolve as resolve_loss
from gradcore.optimizers import Optimizer
from gradcore.threads import resolve_threads
from gradcore.training.data import as_inputs, check_rows
from gradcore.training.faults import NonFinite
from gradcore.training.locate import locate_nonfinite
from gradcore.training.loop import check_batch_norm, has_batch_norm, product_flop
from gradcore.training.run import LAST_LEDGERS
from gradcore.training.settings import step_settings
from gradcore.training.targets import encode

if TYPE_CHECKING:
    from gradcore.health.ledger import Ledger
    from gradcore.health.probe import Probe
    from gradcore.network import Network

Array = NDArray[Any]

LEDGERS = 256  # that a stepper keeps

_BOOKS = kernels.MODES["light"] | kernels.MODES["full"]


class Stepper:
    """Makes training steps on a network; see `Network.stepper`.

    ``stepper(X, y)`` is one step and returns its loss. For a loss of your own: ``outputs = stepper.forward(X)``, then
    ``stepper.backward(output_grad)`` with any dL/d(output) updates the network.

    X and y in the network's dtype (y of labels: int64 class indices) go to the kernels as they are. NaN in them is not
    looked for: it makes a gradient that is not finite, and such a step is not applied: the network keeps the last good
    weights.

    Attributes
    ----------
    steps : int
        Number of applied steps.
    faults : list of NonFinite
        The first step that was not applied, located. It is also warned of, once.
    ledgers : sequence of Ledger
        With ``probe=``: those of the last 256 probed steps, oldest first, each made when it is read.
    seed : int
        Of dropout.
    """

    def __init__(
        self,
        net: Network,
        *,
        batch_size: int,
        loss: str = "auto",
        optimizer: str | Optimizer = "adam",
        clip_norm: float | None = None,
        clip_value: float | None = None,
        clip_adaptive: float | None = None,
        probe: Probe | None = None,
        threads: int | Literal["auto"] = "auto",
        seed: int | None = None,
    ) -> None:
        settings = step_settings(optimizer, batch_size, clip_norm, clip_value, clip_adaptive, probe, seed)
        self._net, self._settings = net, settings
        self._threads = resolve_threads(threads, product_flop(net, settings.batch_size))
        self._lock: threading.Lock = net._training_lock
        self._dtype, self._columns, self._outputs = net.dtype, net.input_size, net.output_size
        self._hyper, self.seed = settings.hyper, settings.seed
        self._mode = kernels.MODES["batch_statistics"] | kernels.MODES["drop"] | kernels.MODES["update"]
        self._needs_two = has_batch_norm(net)
        self._order = np.arange(settings.batch_size)
        self._value, self._norm = np.zeros(1), np.zeros(1)
        self.steps = 0
        self.faults: list[NonFinite] = []
        self._seen = 0
        self._pending: Array | None = None
        self._pending_mode = 0
        self._ring = None if settings.probe is None else Ring(net.plan, settings.probe, LEDGERS)
        if settings.probe is not None:
            self._mode |= kernels.MODES[settings.probe.level]
        self._loss: Loss | None = None
        self._direct = False  # whether y may go to the kernels as it is
        self._target_kind = (self._dtype, 2)
        self._executor: Any = None
        self._version = -1
        self._closed = False
        if loss != "auto":
            self._build(resolve_loss(loss))

    def __call__(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Make one training step and return the loss of this batch before it.

        Parameters
        ----------
        X : array_like, shape (rows, input_size), at most `batch_size` rows
        y : array_like
            Class indices from 0 for cross_entropy; else numbers, shape (rows, output_size).
        sample_weight : array_like, shape (rows,), optional
            How often each row counts, as for `Network.fit`.

        Returns
        -------
        float
            Not finite where the step was not applied.

        Raises
        ------
        ValueError, TypeError
            Data that do not fit; nothing has changed then.
        RuntimeError
            Closed, or the network is being trained by somebody else.
        """
        net, lock = self._net, self._lock
        if (
            sample_weight is not None
            or not self._direct
            or type(X) is not np.ndarray
            or type(y) is not np.ndarray
            or self._version != net._version
            or lock.locked()
            or (self._needs_two and len(X) == 1)
        ):
            return self._careful_step(X, y, sample_weight)
        executor = self._executor
        loss: float | None = None
        with lock:  # (of C: a Ctrl-C cannot come between taking it and the block that gives it back)
            if self._version == net._version:  # (whoever held it before may have trained)
                self._pending = None
                self._version = net._version = self._version + 1
                try:
                    loss = executor.step(X, y, self.steps + 1, self._seen)
                except ValueError:  # memory that is not contiguous
                    pass
                finally:  # a Ctrl-C during the step is raised after it: what was applied is booked
                    self.steps += executor.applied
        if loss is None:  # these arrays are not exactly what the kernels take
            return self._careful_step(X, y)
        self._seen += 1
        if self._ring is not None or not executor.applied:
            self._book(loss, len(X), y, not executor.applied)
        return loss

    def _careful_step(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        if type(X) is not np.ndarray or X.dtype != self._dtype or not X.flags.aligned:
            X = np.require(as_inputs(X, self._columns, self._dtype, finite=False), requirements="A")
        if not self._direct or type(y) is not np.ndarray or (y.dtype, y.ndim) != self._target_kind:
            y = self._targets(y)
        y = np.require(y, requirements=["C", "A"])
        weights = None if sample_weight is None else check_weights("sample_weight", sample_weight, len(X))
        rows = len(X)
        if rows != len(y) or not 0 < rows <= self._settings.batch_size:
            self._refuse(X, y)
        if rows == 1 and self._needs_two:
            check_batch_norm(self._net, rows)
        self._refuse_if_training()
        with self._lock:
            if self._version != self._net._version:
                self._refresh()
            executor = self._executor
            executor.bind(X, y, weights)
            self._pending = None
            self._version = self._net._version = self._net._version + 1
            try:
                _, status = executor.train(
                    self._order, 0, rows, rows, mode=self._mode, hyper=self._hyper, seed=self.seed,
                    step=self.steps + 1, losses=self._value, norms=self._norm, seen=self._seen,
                )  # fmt: skip
            finally:
                self.steps += executor.applied
        loss = self._value.item()
        self._seen += 1
        self._book(loss, rows, y, bool(status), weights)
        return loss

    def _book(self, loss: float, rows: int, y: Array, failed: bool, weights: Array | None = None) -> None:
        if self._ring is not None and self._seen % self._ring.probe.every == 0:
            self._ring.book_step(self._seen, loss, rows)
        if failed:
            self._fault(rows, y, weights)

    def forward(self, X: ArrayLike) -> Array:
        """Make the first half of a step: return the outputs of one batch in training mode (dropout, batch statistics).

        Parameters
        ----------
        X : array_like, shape (rows, input_size), at most `batch_size` rows

        Returns
        -------
        ndarray, shape (rows, output_size)
        """
        if type(X) is not np.ndarray or X.dtype != self._dtype or not X.flags.aligned:
            X = np.require(as_inputs(X, self._columns, self._dtype, finite=False), requirements="A")
        rows = len(X)
        if not 0 < rows <= self._settings.batch_size:
            self._refuse(X, X)
        if rows == 1 and self._needs_two:
            check_batch_norm(self._net, rows)
        if self._executor is None:
            self._build(self._loss)
        mode = self._mode if self._ring is None else self._mode_of_step()
        outputs = np.empty((rows, self._outputs), self._dtype)
        self._refuse_if_training()
        with self._lock:
            if self._version != self._net._version:
                self._refresh()
            self._executor.forward_batch(X, outputs, mode=mode, seed=self.seed, step=self.steps + 1)
        self._pending, self._pending_mode = X, mode
        return outputs

    def backward(self, output_grad: ArrayLike) -> float:
        """Make the second half of a step: from dL/d(output) to the update.

        Parameters
        ----------
        output_grad : array_like, shape (rows, output_size)
            Of the batch that `forward` was called with.

        Returns
        -------
        float
            The gradient's norm before clipping; not finite where the step was not applied.

        Raises
        ------
        RuntimeError
            No `forward` before it, or the parameters have changed in between.
        """
        if self._pending is None:
            raise RuntimeError("call forward before backward, once for each backward")
        if self._version != self._net._version:
            self._pending = None
            raise RuntimeError("the parameters have changed since forward: call forward again")
        rows = len(self._pending)
        d_output: Any = output_grad
        if (
            type(d_output) is not np.ndarray
            or d_output.dtype != self._dtype
            or d_output.shape != (rows, self._outputs)
            or not (d_output.flags.c_contiguous and d_output.flags.aligned)
        ):
            d_output = self._output_grad(output_grad, rows)
        self._refuse_if_training()
        with self._lock:
            X, self._pending = self._pending, None
            self._version = self._net._version = self._net._version + 1
            try:
                norm, status = self._executor.backward_batch(
                    d_output, mode=self._pending_mode, hyper=self._hyper, seed=self.seed,
                    step=self.steps + 1,
                )  # fmt: skip
            finally:
                self.steps += self._executor.applied
        self._seen += 1
        if self._ring is not None and self._pending_mode & _BOOKS:
            self._ring.book_step(self._seen, math.nan, rows, self._executor.records)
        if status:
            self._executor.bind(X, None)
            self._fault(rows, None)
        return float(norm)

    @property
    def ledger(self) -> Ledger:
        """The books of the last probed step.

        Raises
        ------
        RuntimeError
            No step was probed: ``probe=`` was not given, or its first step is still to come.
        """
        if not self.ledgers:
            hint = (
                "no step was probed yet"
                if self._settings.probe
                else "net.stepper(..., probe=Probe()) keeps one"
            )
            raise RuntimeError(f"there is no ledger: {hint}")
        return self.ledgers[-1]

    @property
    def ledgers(self) -> Sequence[Ledger]:
        """The books of the last probed steps, oldest first."""
        return () if self._ring is None else self._ring

    def close(self) -> None:
        """Free the workspace and end the threads; the network stays as it is."""
        self._closed, self._executor, self._pending, self._version = True, None, None, -1

    def __enter__(self) -> Stepper:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # -- off the hot path

    def _targets(self, y: ArrayLike) -> Array:
        """Convert targets; the first ones choose the loss where that is "auto"."""
        chosen: Loss | str = "auto" if self._loss is None else self._loss
        net = self._net
        known = self._loss is not None and net.classes_ is not None
        targets = encode(y, chosen, net.output_size, self._dtype, classes=net.classes_, known=known)
        if self._loss is None:
            self._build(targets.loss)
        if targets.classes is not None and net.classes_ is not targets.classes:
            net.classes_ = targets.classes
            self._direct = self._takes_indices()
        return targets.values

    def _takes_indices(self) -> bool:
        """Tell whether y needs no coding: numbers, or labels that are the indices of the outputs."""
        classes = self._net.classes_
        labels = self._loss is not None and self._loss.name == "cross_entropy"
        return not labels or classes is None or np.array_equal(classes, np.arange(self._net.output_size))

    def _build(self, loss: Loss | None) -> None:
        if self._closed:
            raise RuntimeError("this stepper is closed")
        net = self._net
        self._loss = loss
        labels = loss is not None and loss.name == "cross_entropy"
        self._target_kind = (np.dtype(np.int64), 1) if labels else (self._dtype, 2)
        self._executor = net.executor(
            self._settings.batch_size, loss=loss, optimizer=self._settings.optimizer, threads=self._threads
        )
        self._version = net._version
        if self._ring is not None:
            self._executor.book_into(self._ring.records, self._ring.probe.every)
        if loss is not None:
            net.loss = loss
            self._executor.arm(mode=self._mode, hyper=self._hyper, seed=self.seed)
            self._direct = self._takes_indices()

    def _refresh(self) -> None:
        if self._closed:
            raise RuntimeError("this stepper is closed")
        self._executor.transpose_weights()
        self._version = self._net._version

    def _refuse(self, X: Array, y: Array) -> None:
        check_rows(X, y)
        raise ValueError(
            f"this stepper takes at most {self._settings.batch_size} rows (its batch_size), got {len(X)}"
        )

    def _refuse_if_training(self) -> None:
        if self._lock.locked():
            raise RuntimeError("this network is being trained by somebody else; train net.copy()")

    def _output_grad(self, output_grad: ArrayLike, rows: int) -> Array:
        d_output = as_inputs(output_grad, self._outputs, self._dtype, name="output_grad", finite=False)
        if len(d_output) != rows:
            raise ValueError(f"output_grad has {len(d_output)} rows, the batch has {rows}")
        return np.require(d_output, requirements=["C", "A"])

    def _mode_of_step(self) -> int:
        probe = self._settings.probe
        return self._mode if probe is None or (self._seen + 1) % probe.every == 0 else self._mode & ~_BOOKS

    def _fault(self, rows: int, y: Array | None, weights: Array | None = None) -> None:
        if self.faults:
            return
        fault = locate_nonfinite(
            self._executor, self._net, self._order[:rows], mode=self._mode, seed=self.seed, step=self.steps + 1,
            loss=self._loss, targets=y, weights=weights, hyper=self._hyper, report_as=(self._seen, 0),
            ledgers=() if self._ring is None else self._ring.last(LAST_LEDGERS),
        )  # fmt: skip
        self.faults.append(fault)
        kept = f"it was not applied, the network keeps the weights after {fault.good_step} applied steps"
        warnings.warn(f"non-finite step: {kept}. {fault}", GradcoreWarning, stacklevel=3)
