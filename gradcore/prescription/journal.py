"""The journal of a prescription: a line of JSON for every training, from which an interrupted one goes on."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from gradcore.diagnosis.recipe import Data, Recipe
from gradcore.prescription.measured import Result

VERSION = 1

# Of the first line, whatever the prescription.
BEGIN = b'{"journal": "gradcore-prescription", '


class Journal:
    """Results of trainings in a file; those that are there already are not made again.

    Parameters
    ----------
    path : str or path
        A file that is not there yet, or the journal of the same prescription.
    subject : mapping
        What must be the same for results to count: network, data, split, length of a training.

    Raises
    ------
    ValueError
        The file is of another prescription, or is no journal.
    OSError
        It cannot be read or written.
    """

    def __init__(self, path: str | os.PathLike[str], subject: Mapping[str, Any]) -> None:
        self.path, self.known = Path(path), {}
        self.steps: int | None = None  # of a training, as the first call chose them
        head = {"journal": "gradcore-prescription", "version": VERSION, **subject}
        lines = self._lines()
        if lines:
            different = sorted(key for key in {*head, *lines[0]} if head.get(key) != lines[0].get(key))
            if different:
                raise ValueError(
                    f"{path} is the journal of another prescription: {', '.join(different)} differ; "
                    "give another path, or remove the file"
                )
            rows = None
            for number, line in enumerate(lines[1:], start=2):
                try:
                    if "steps" in line:
                        self.steps = int(line["steps"])
                        continue
                    values: dict[str, Any] = {
                        name: float(line[name]) for name in ("score", "loss", "test_loss", "seconds")
                    }
                    values["rows"] = tuple(float(score) for score in line["rows"])
                    rows = len(values["rows"]) if rows is None else rows
                    if len(values["rows"]) != rows:
                        raise ValueError
                    self.known[line["recipe"], line["epochs"], line["seed"]] = Result(**values)
                except (KeyError, TypeError, ValueError):
                    raise ValueError(
                        f"line {number} of {path} is no result of a training; remove that line, or give another path"
                    ) from None
        self._file: TextIO = self.path.open("a", encoding="utf-8")
        if not lines:
            self._write(head)

    def _lines(self) -> list[dict[str, Any]]:
        if not self.path.exists():
            return []
        content = self.path.read_bytes()
        whole, end, rest = content.rpartition(b"\n")
        try:
            lines = [json.loads(line) for line in whole.splitlines()]
            if not BEGIN.startswith(content[: len(BEGIN)]):
                raise ValueError
        except ValueError:
            raise ValueError(f"{self.path} is no journal of a prescription; give another path") from None
        if rest:  # a kill came in the middle of a line
            self.path.write_bytes(whole + end)
        return lines

    def settle(self, steps: int) -> int:
        """Return how long a training is: as in the first call, whose results count for that length only."""
        if self.steps is None:
            self.steps = steps
            self._write({"steps": steps})
        return self.steps

    def find(self, recipe: Recipe, epochs: int, seed: int) -> Result | None:
        """Return what an earlier call found, or None."""
        return self.known.get((_key(recipe), epochs, seed))

    def add(self, recipe: Recipe, epochs: int, seed: int, result: Result) -> None:
        """Write a result, at once."""
        self._write({"recipe": _key(recipe), "epochs": epochs, "seed": seed, **_strict(vars(result))})

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, line: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(line, allow_nan=False) + "\n")
        self._file.flush()


def _key(recipe: Recipe) -> str:
    text = json.dumps(recipe.config, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def fingerprint(data: Data) -> str:
    """Return a text that other data have not."""
    found = hashlib.sha256()
    for array in (data.X, data.y, data.X_test, data.y_test):
        found.update(f"{array.shape}{array.dtype}".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()[:16]


def _strict(values: Mapping[str, Any]) -> dict[str, Any]:
    # JSON has no infinity
    return {
        name: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }
