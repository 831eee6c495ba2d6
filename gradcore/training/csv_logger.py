"""Epochs as rows of a CSV file, while the training runs."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from typing import TextIO

from gradcore.errors import check_flag, check_path
from gradcore.files import write_atomically
from gradcore.training.callbacks import Callback, Logs


class CSVLogger(Callback):
    """Write a row after every epoch, flushed at once: the epoch, then what the history gets.

    The first row names the columns; they are those of the first epoch. Numbers are written so that reading them gives
    the same bits; what is not finite is ``nan``, ``inf`` or ``-inf``, as NumPy and pandas read it. After a training
    that was killed the file has a row for every completed epoch.

    Parameters
    ----------
    path : str or path
        Opened, and emptied, when the training begins; its directory must exist.
    append : bool
        Keep what is in it, and write behind that; the columns must be the same.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from gradcore import mlp
    >>> path = Path(tempfile.mkdtemp(), "training.csv")
    >>> net = mlp([2, 4, 1], activation="tanh", seed=0)
    >>> history = net.fit([[0.0, 1.0], [1.0, 0.0]], [0.5, -0.5], epochs=2, callbacks=[CSVLogger(path)], seed=0)
    >>> print(path.read_text())
    epoch,loss,gradient_norm,gradient_norm_max,skipped_steps
    0,...
    1,...
    """

    def __init__(self, path: str | os.PathLike[str], append: bool = False) -> None:
        self.path, self.append = check_path("path", path), check_flag("append", append)
        self._file: TextIO | None = None
        self._columns: list[str] = []
        self._continues = False

    def on_train_begin(self, logs: Logs) -> None:
        """Open the file."""
        self._columns = []
        if self.append and self.path.exists():
            self._columns = self._continue()
        # (which columns there are is known after the first epoch: other callbacks may add some)
        self._continues = bool(self._columns)
        self._file = self.path.open("a" if self.append else "w", encoding="utf-8", newline="")
        if not self.append:  # a training that goes on from a checkpoint: the rows that it has already
            history = self.history
            for row, epoch in enumerate(history.epochs):
                self._write(epoch, {name: values[row] for name, values in history.history.items()})

    def on_train_end(self, logs: Logs) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Write the values of the epoch."""
        self._write(epoch, logs)

    def _write(self, epoch: int, values: Mapping[str, float]) -> None:
        assert self._file is not None, "hooks are called between on_train_begin and on_train_end"
        lines = csv.writer(self._file, lineterminator="\n")
        if self._continues and set(self._columns) != values.keys():
            raise ValueError(
                f"{self.path} has the columns {', '.join(self._columns)}, this training has "
                f"{', '.join(sorted(values))}: write to another file, or leave append out"
            )
        self._continues = False
        if not self._columns:
            self._columns = list(self.history.history)
            lines.writerow(["epoch", *self._columns])
        lines.writerow([epoch, *(repr(float(values[name])) for name in self._columns)])
        self._file.flush()

    def _continue(self) -> list[str]:
        """Return the columns of the file, without rows that this training will write again and without half a row."""
        whole = self.path.read_text("utf-8")
        lines = whole.splitlines(keepends=True)
        while lines and not lines[-1].endswith("\n"):  # of a process that was killed while it wrote
            lines.pop()
        if lines and not lines[0].startswith("epoch,"):
            raise ValueError(
                f"{self.path} is not a log of this kind (it begins {lines[0].strip()[:40]!r}): write to another file, "
                "or leave append out"
            )
        if self.history.curve.steps:  # a training that goes on from a checkpoint
            last = self.history.epochs[-1] if self.history.epochs else -1
            while len(lines) > 1 and int(lines[-1].partition(",")[0]) > last:
                lines.pop()
        if len(kept := "".join(lines)) < len(whole):
            write_atomically(self.path, [kept.encode()])
        if not lines:
            return []
        return next(csv.reader(lines[:1]))[1:]
