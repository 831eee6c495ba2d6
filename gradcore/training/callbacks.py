"""Hooks into a fit, named as in Keras."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gradcore.errors import check_flag, check_integer, check_non_negative

if TYPE_CHECKING:
    from gradcore.health.ledger import Ledger
    from gradcore.network import Network
    from gradcore.training.history import History
    from gradcore.training.run import Run

Logs = Mapping[str, float]


class Callback:
    """Override the hooks you need.

    `network` and `history` are set before the first hook is called. ``self.network.stop_training = True`` ends the
    training after the epoch (from a batch hook or ``on_probe``: after the step). ``self.network.learning_rate = 0.01``
    holds from the next step on, before the factor of a schedule; the history then has an ``"lr"`` column.
    ``self.network.set_parameters`` is allowed. Without an overridden batch hook many steps run in one compiled call.

    Attributes
    ----------
    network : Network
        The network that is being trained.
    history : History
        Its history so far.

    Examples
    --------
    >>> class Stop(Callback):
    ...     def on_epoch_end(self, epoch, logs):
    ...         self.network.stop_training = logs["loss"] < 0.1
    """

    network: Network
    history: History

    def on_train_begin(self, logs: Logs) -> None:
        """Before the first step."""

    def on_train_end(self, logs: Logs) -> None:
        """After the last step, also where the training ended by an error or Ctrl-C."""

    def on_epoch_begin(self, epoch: int, logs: Logs) -> None:
        """Before the first step of an epoch, counted from 0."""

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """After an epoch; `logs` has the values that the history gets."""

    def on_train_batch_begin(self, batch: int, logs: Logs) -> None:
        """Before a step; `batch` counts from 0 in each epoch."""

    def on_train_batch_end(self, batch: int, logs: Logs) -> None:
        """After a step; `logs` has ``loss`` and ``gradient_norm``, not finite where the step was not applied."""

    def on_probe(self, step: int, ledger: Ledger) -> None:
        """After a step that ``probe=`` asked the ledger of, before its ``on_train_batch_end``; steps count from 1.

        A step that was not applied counts, and its ledger has the infinities and NaN that were in it. Only a callback
        that overrides this is called, and only then does the training come back to Python for every such step.
        """

    def get_state(self) -> dict[str, Any]:
        """Return what a checkpoint is to keep of this callback: numbers, text, None, and arrays, by name."""
        return {}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take over what `get_state` returned; called after ``on_train_begin`` by ``fit(resume=…)``."""

    # -- of gradcore's own

    _steps_between: int | None = None

    def _complete(self, run: Run, *, last: bool) -> None:
        """Act when every callback's ``on_epoch_end`` was called; `last`: the training ends."""

    def _step(self, run: Run) -> None:
        """Act after every `_steps_between` steps, within an epoch."""


def has_batch_hooks(callback: Callback) -> bool:
    """Tell whether a callback wants to be called at every step."""
    return _overrides(callback, "on_train_batch_begin") or _overrides(callback, "on_train_batch_end")


def has_probe_hook(callback: Callback) -> bool:
    """Tell whether a callback wants the ledgers."""
    return _overrides(callback, "on_probe")


def _overrides(callback: Callback, hook: str) -> bool:
    return getattr(type(callback), hook) is not getattr(Callback, hook)


class Monitor(Callback):
    """What callbacks share that watch one value of the history for improvement; a NaN never is one.

    Parameters
    ----------
    monitor : str
        A name in ``history.history``. Accuracy and r2 improve upwards, everything else downwards.
    min_delta : float
        An improvement is a value better than the best by more than this.

    Attributes
    ----------
    best : float
        NaN before the first value that is a number.
    best_epoch : int or None

    Examples
    --------
    >>> Monitor("val_accuracy").sign
    -1
    """

    def __init__(self, monitor: str, min_delta: float = 0.0) -> None:
        self.monitor, self.min_delta = monitor, check_non_negative("min_delta", min_delta)
        self.sign = -1 if monitor.endswith(("accuracy", "r2")) else 1
        self._forget()

    def _forget(self) -> None:
        self.best = math.nan
        self.best_epoch: int | None = None

    def on_train_begin(self, logs: Logs) -> None:
        """Forget an earlier training, and check that the value will exist."""
        self._forget()
        known = self.history.history
        if self.monitor not in known:
            needs_data = self.monitor.startswith("val_")
            hint = "; fit needs validation_data or validation_fraction for it" if needs_data else ""
            raise ValueError(
                f"{type(self).__name__} watches {self.monitor!r}, which this training does not have{hint}. "
                f"It has: {', '.join(known)}"
            )

    def improves(self, epoch: int, logs: Logs) -> bool:
        """Tell whether the value of an epoch is better than the best so far, and keep it if so."""
        value = logs[self.monitor]
        # (against a best that is NaN, every number is better)
        if math.isnan(value) or self.sign * value >= self.sign * self.best - self.min_delta:
            return False
        self.best, self.best_epoch = value, epoch
        return True

    def get_state(self) -> dict[str, Any]:
        """The best so far, and what it is the best of."""
        return {"monitor": self.monitor, "best": self.best, "best_epoch": self.best_epoch}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        if state["monitor"] != self.monitor:
            raise ValueError(
                f"{type(self).__name__} of the checkpoint watches {state['monitor']!r}, this one {self.monitor!r}"
            )
        self.best, self.best_epoch = state["best"], state["best_epoch"]


class EarlyStopping(Monitor):
    """End the training when a value has stopped improving.

    Parameters
    ----------
    monitor : str
        A name in ``history.history``. Accuracy and r2 improve upwards, everything else downwards.
    patience : int
        Epochs without improvement before it ends.
    min_delta : float
        What counts as an improvement.
    restore_best_weights : bool
        At the end, whatever ended it (patience, the last epoch, an error, Ctrl-C), go back to the best epoch's
        parameters and running statistics. A NaN is never the best.

    Attributes
    ----------
    best : float
        NaN before the first value that is a number.
    best_epoch : int or None

    Examples
    --------
    >>> EarlyStopping("val_accuracy", patience=3).sign
    -1
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        patience: int = 10,
        min_delta: float = 0.0,
        restore_best_weights: bool = True,
    ) -> None:
        self.patience = check_integer("patience", patience, minimum=0)
        self.restore_best_weights = check_flag("restore_best_weights", restore_best_weights)
        super().__init__(monitor, min_delta)

    def _forget(self) -> None:
        super()._forget()
        self._since = 0
        self._snapshot: Any = None

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Compare with the best so far."""
        if self.improves(epoch, logs):
            self._since = 0
            if self.restore_best_weights:
                self._snapshot = self.network._snapshot()
            return
        self._since += 1
        if self._since >= max(self.patience, 1):
            self.network.stop_training = True
            best = f"{self.best:.6g} (epoch {self.best_epoch})"
            self.history.stopped = f"no better {self.monitor} than {best} for {self._since} epochs"

    def get_state(self) -> dict[str, Any]:
        """The best so far, with its weights."""
        state = super().get_state() | {"since": self._since}
        if self._snapshot is not None:
            weights = self.network._parameters.named(*self._snapshot)
            state |= {f"best/{name}": array for name, array in weights.items()}
        return state

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        super().set_state(state)
        self._since = state["since"]
        weights = {name[5:]: array for name, array in state.items() if name.startswith("best/")}
        if weights and self.restore_best_weights:
            self._snapshot = self.network._parameters.arenas(weights)

    def on_train_end(self, logs: Logs) -> None:
        """Go back to the best epoch."""
        if self._snapshot is not None:
            self.network._restore(self._snapshot)
            self._snapshot = None
