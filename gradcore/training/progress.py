"""The progress bar of a fit: drawn on stderr, from the training thread, only when somebody may be looking."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any, Literal

PATIENCE = 0.5  # seconds before "auto" shows anything
REFRESH = 0.1  # seconds between two drawings


class ProgressBar:
    """A rich progress bar that appears late, or never.

    Parameters
    ----------
    show : bool or "auto"
        "auto": on a terminal, once the training has run for half a second.
    total : int or None
        Steps of the whole, where they are known.
    parts : int
        Epochs, or whatever `unit` says, that it consists of.
    """

    def __init__(
        self, show: bool | Literal["auto"], total: int | None, parts: int, unit: str = "epoch"
    ) -> None:
        self.total: int | None = total
        self.parts, self._unit = parts, unit
        self._wanted = show is True or (show == "auto" and sys.stderr is not None and sys.stderr.isatty())
        self._optional = show == "auto"
        self._due = time.perf_counter() + (PATIENCE if self._optional else 0.0)
        self._bar: Any = None
        self._task: Any = None

    def update(self, step: int, part: int, values: Mapping[str, float]) -> None:
        """Draw the state after `step` steps in all, in part number `part` (from 0), if it is time to."""
        if not self._wanted or (now := time.perf_counter()) < self._due:
            return
        self._due = now + REFRESH
        if self._bar is None and not self._open():
            return
        text = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
        self._bar.update(
            self._task,
            total=self.total,
            completed=step,
            part=f"{self._unit} {part + 1}/{self.parts}",
            text=text,
        )
        self._bar.refresh()

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _open(self) -> bool:
        try:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
        except ImportError:
            self._wanted = False
            if self._optional:
                return False
            raise
        part, text = TextColumn("{task.fields[part]}"), TextColumn("{task.fields[text]}")
        # no refresh thread: the training loop comes by often enough
        console = Console(stderr=True)
        columns = (part, BarColumn(), TimeRemainingColumn(), text)
        self._bar = Progress(*columns, console=console, auto_refresh=False, transient=self._optional)
        self._task = self._bar.add_task("", total=self.total, part="", text="")
        self._bar.start()
        return True
