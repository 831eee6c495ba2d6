"""Epochs and ledgers for TensorBoard."""

from __future__ import annotations

import math
import os
import time
from typing import TYPE_CHECKING, Any

from gradcore.errors import check_path
from gradcore.training.callbacks import Callback, Logs

if TYPE_CHECKING:
    from gradcore.health.ledger import Ledger


class TensorBoard(Callback):
    """Write curves that ``tensorboard --logdir`` shows: the values of every epoch, and the books of every probed step.

    ``epoch/loss`` and the like are what the history gets. With ``fit(probe=…)`` there are ``step/loss`` and, for every
    op, ``backward_gain/03_tanh_2``, ``signal/…`` (of its output) and ``delta/…`` (norm of dL/d(output)). All are drawn
    over the steps. What is not finite is left out.

    Parameters
    ----------
    log_dir : str or path
        TensorBoard tells trainings apart by their directories: give each its own. A training that goes on from a
        checkpoint goes on in the same one; what it makes again is hidden.

    Raises
    ------
    ImportError
        When the training begins: tensorboardX, which writes the files, is not installed.

    Examples
    --------
    >>> from gradcore import Probe, mlp
    >>> board = TensorBoard("runs/first")
    >>> net = mlp([2, 4, 1], activation="tanh", seed=0)
    >>> history = net.fit(
    ...     [[0.0, 1.0], [1.0, 0.0]], [0.5, -0.5], callbacks=[board], probe=Probe(every=10)
    ... )  # doctest: +SKIP
    """

    def __init__(self, log_dir: str | os.PathLike[str]) -> None:
        self.log_dir = check_path("log_dir", log_dir)
        self._writer: Any = None

    def on_train_begin(self, logs: Logs) -> None:
        """Open a file in the directory."""
        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            raise ImportError(
                "TensorBoard needs tensorboardX: pip install 'gradcore[tensorboard]'"
            ) from error
        done = self.history.curve.steps
        self._writer = SummaryWriter(
            str(self.log_dir),
            purge_step=done + 1 if done else None,
            filename_suffix=f".{time.time_ns()}",  # its own names are the same within one second
        )

    def on_train_end(self, logs: Logs) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Write the values of the epoch."""
        self._write({f"epoch/{name}": value for name, value in logs.items()}, self.history.curve.steps)

    def on_probe(self, step: int, ledger: Ledger) -> None:
        """Write the books."""
        values = {"step/loss": ledger.loss}
        for number, entry in enumerate(ledger.entries):
            name = f"{number:02d}_{entry.name.replace(' ', '_')}"
            values[f"backward_gain/{name}"] = entry.backward_gain
            values[f"signal/{name}"] = entry.output.signal
            values[f"delta/{name}"] = entry.d_output.norm
        self._write(values, step)

    def _write(self, values: dict[str, float], step: int) -> None:
        for name, value in values.items():
            if math.isfinite(value):
                self._writer.add_scalar(name, value, step)
        self._writer.flush()
