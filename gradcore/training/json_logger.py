"""Epochs and ledgers as JSON lines, while the training runs."""

from __future__ import annotations

import json
import math
import os
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from gradcore.errors import check_flag, check_path
from gradcore.training.callbacks import Callback, Logs

if TYPE_CHECKING:
    from gradcore.health.ledger import Ledger


class JSONLogger(Callback):
    """Write a line of JSON after every epoch and for every probed ledger, flushed at once.

    ``{"event": "epoch", "epoch": 0, "step": 45, "loss": …}`` has what the history gets, ``{"event": "ledger", "step":
    10, …}`` is `Ledger.to_dict`. JSON has no NaN and no infinity: such a value is null, and ``"nonfinite"`` of the
    same line tells which of them it was, by its path: ``{"nan": ["val_loss"], "inf": ["entries.3.output.max_abs"]}``.
    A fold that was not booked at all (a light ledger books less) is null without that.

    Parameters
    ----------
    path : str or path
        Opened, and emptied, when the training begins; its directory must exist.
    append : bool
        Keep what is in it, and write behind that.

    Examples
    --------
    >>> import json, tempfile
    >>> from pathlib import Path
    >>> from gradcore import Probe, mlp
    >>> path = Path(tempfile.mkdtemp(), "training.jsonl")
    >>> net = mlp([2, 4, 1], activation="tanh", seed=0)
    >>> history = net.fit(
    ...     [[0.0, 1.0], [1.0, 0.0]], [0.5, -0.5], epochs=2, callbacks=[JSONLogger(path)], probe=Probe(every=2), seed=0
    ... )
    >>> [json.loads(line)["event"] for line in path.read_text().splitlines()]
    ['epoch', 'ledger', 'epoch']
    """

    def __init__(self, path: str | os.PathLike[str], append: bool = False) -> None:
        self.path, self.append = check_path("path", path), check_flag("append", append)
        self._file: TextIO | None = None

    def on_train_begin(self, logs: Logs) -> None:
        """Open the file."""
        resumed = self.history.steps > 0 and self.path.exists()
        if resumed:
            self._keep_what_was_done()
        self._file = self.path.open("a" if self.append or resumed else "w", encoding="utf-8")

    def _keep_what_was_done(self) -> None:
        """Cut off the lines of steps that this training, which goes on from a checkpoint, makes again."""
        whole = self.path.read_text("utf-8")
        lines = whole.splitlines(keepends=True)
        while lines and not self._was_done(lines[-1]):
            lines.pop()
        if len(kept := "".join(lines)) < len(whole):
            self.path.write_text(kept, "utf-8")

    def _was_done(self, line: str) -> bool:
        if not line.endswith("\n"):  # of a process that was killed while it wrote
            return False
        found = json.loads(line)
        if found["event"] == "epoch":
            return bool(found["epoch"] < len(self.history.epochs))
        return bool(found["step"] <= self.history.curve.steps)

    def on_train_end(self, logs: Logs) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Write the values of the epoch."""
        self._write({"event": "epoch", "epoch": epoch, "step": self.history.steps, **logs})

    def on_probe(self, step: int, ledger: Ledger) -> None:
        """Write the ledger."""
        self._write({"event": "ledger", **ledger.to_dict()})

    def _write(self, line: dict[str, Any]) -> None:
        assert self._file is not None, "hooks are called between on_train_begin and on_train_end"
        self._file.write(json.dumps(strict(line), allow_nan=False, ensure_ascii=False) + "\n")
        self._file.flush()


def strict(values: dict[str, Any]) -> dict[str, Any]:
    """Return a copy that JSON can hold: null for what is not finite, and under ``"nonfinite"`` where that was.

    Examples
    --------
    >>> strict({"loss": math.inf, "gains": [1.0, math.nan]})
    {'loss': None, 'gains': [1.0, None], 'nonfinite': {'inf': ['loss'], 'nan': ['gains.1']}}
    """
    found: dict[str, list[str]] = {}
    plain: dict[str, Any] = _plain(values, "", found)
    return plain | ({"nonfinite": found} if found else {})


def _plain(value: Any, path: str, found: dict[str, list[str]]) -> Any:
    if isinstance(value, dict):
        inner = value.values()
        # a fold of which nothing is known, not even how many NaN
        if value and all(isinstance(v, float) and math.isnan(v) for v in inner) and "nans" in value:
            return None
        return {str(key): _plain(v, f"{path}.{key}" if path else str(key), found) for key, v in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(v, f"{path}.{i}", found) for i, v in enumerate(value)]
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        if math.isfinite(value):
            return float(value)
        found.setdefault(str(float(value)), []).append(path)
        return None
    return value
