"""A learning rate that falls when a value has stopped improving."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gradcore.errors import check_integer, check_non_negative, check_positive
from gradcore.training.callbacks import Logs, Monitor


class ReduceOnPlateau(Monitor):
    """Multiply the learning rate by `factor` when a value has not improved for `patience` epochs.

    Parameters and numbers are those of Keras' ReduceLROnPlateau, whose name is an alias. PyTorch's scheduler of that
    name counts one epoch longer (its patience is this one's minus 1, its cooldown too) and compares by a relative
    threshold unless ``threshold_mode="abs"``.

    Parameters
    ----------
    monitor : str
        A name in ``history.history``. Accuracy and r2 improve upwards, everything else downwards.
    factor : float
        Greater than 0 and less than 1.
    patience : int
        Epochs without improvement before the rate falls.
    min_delta : float
        What counts as an improvement.
    cooldown : int
        Epochs after a reduction before those without improvement are counted again.
    min_lr : float
        The rate does not fall below it.

    Notes
    -----
    The rate of every epoch is in ``history.history["lr"]``. With a schedule, both act: its factors multiply this rate.

    Examples
    --------
    >>> import numpy as np
    >>> from gradcore import mlp
    >>> X = np.linspace(-1, 1, 64)[:, None]
    >>> net = mlp([1, 8, 1], activation="tanh", seed=0)
    >>> plateau = ReduceOnPlateau("loss", factor=0.5, patience=2, min_delta=0.05)
    >>> history = net.fit(X, X[:, 0] ** 2, epochs=8, optimizer="sgd(0.1)", callbacks=[plateau], seed=0)
    >>> history.history["lr"]
    [0.1, 0.1, 0.1, 0.1, 0.05, 0.05, 0.025, 0.025]
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ) -> None:
        self.factor = check_positive("factor", factor)
        if self.factor >= 1:
            raise ValueError(f"factor must be less than 1, got {factor}: the rate is multiplied by it")
        self.patience = check_integer("patience", patience, minimum=0)
        self.cooldown = check_integer("cooldown", cooldown, minimum=0)
        self.min_lr = check_non_negative("min_lr", min_lr)
        super().__init__(monitor, min_delta)

    def _forget(self) -> None:
        super()._forget()
        self._since, self._cooling = 0, 0

    def on_train_begin(self, logs: Logs) -> None:
        """Forget an earlier training, check that the value will exist, and have the rate recorded."""
        super().on_train_begin(logs)
        self.history.record_rate(float(self.network.learning_rate or 0.0))

    def get_state(self) -> dict[str, Any]:
        """What it has counted so far."""
        return super().get_state() | {"since": self._since, "cooling": self._cooling}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        super().set_state(state)
        self._since, self._cooling = state["since"], state["cooling"]

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Compare with the best so far; the order of the lines is Keras'."""
        if self._cooling:
            self._cooling -= 1
            self._since = 0
        if self.improves(epoch, logs):
            self._since = 0
            return
        if self._cooling:
            return
        self._since += 1
        rate = self.network.learning_rate
        assert rate is not None, "hooks are called during a fit"
        if self._since >= self.patience and rate > self.min_lr:
            self.network.learning_rate = max(rate * self.factor, self.min_lr)
            self._since, self._cooling = 0, self.cooldown
