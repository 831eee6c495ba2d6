"""How long: the seconds or steps that a prescription may take, and how long each training can be for that."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from gradcore.errors import check_positive

# Steps of one training: so many that sound networks of the usual sizes are past the steep part of their course …
STEPS = 1500

# … three times as many with batches of a few rows …
FEW_ROWS, FEW_ROWS_STEPS = 8, 3

# … and so few that sickness and health still differ.
FEWEST_STEPS = 300

# Multiplications per second and core, before anything was measured.
FIRST_SPEED = 2e9

_UNITS = {"": 1.0, "s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


class Budget:
    """What may be spent, what was, and how fast it goes.

    Parameters
    ----------
    text : str or float
        Seconds, such as ``"30s"``, ``"2min"``, 30; or steps of training in all: ``"20000 steps"``.
    rows : int
        To train on.
    epochs : int or None
        Of one training; None: about 1500 steps, fewer where the budget is short.
    """

    def __init__(self, text: str | float, rows: int, epochs: int | None) -> None:
        self.seconds, self.steps = parse_budget(text)
        self.rows, self.fixed_epochs = rows, epochs
        self.steps_of_one = STEPS
        self.begin = time.perf_counter()
        self.spent_steps = 0
        self.speed = FIRST_SPEED  # multiplications per second, all threads together
        self.setup = 0.0  # seconds that every training costs beside its steps
        self.until = 1.0  # share that may be spent now

    @property
    def left(self) -> float:
        """Share of the budget that is left for now."""
        used = (time.perf_counter() - self.begin) / self.seconds
        return self.until - max(used, self.spent_steps / self.steps)

    def epochs(self, batch_size: int) -> int:
        """Epochs of one training with batches of this size."""
        if self.fixed_epochs is not None:
            return self.fixed_epochs
        steps = self.steps_of_one * (FEW_ROWS_STEPS if batch_size < FEW_ROWS else 1)
        return max(2, math.ceil(steps * min(batch_size, self.rows) / self.rows))

    def plan(self, works: Sequence[float], counts: Sequence[float]) -> None:
        """Choose how long a training is, for these works of one step and numbers of trainings."""
        if self.fixed_epochs is not None:
            return
        work = sum(work * count for work, count in zip(works, counts, strict=True))
        seconds = self.left * min(self.seconds, 1e9) - self.setup * sum(counts)
        affordable = min(seconds * self.speed / work, self.steps / sum(counts))
        self.steps_of_one = int(max(FEWEST_STEPS, min(STEPS, affordable)))

    def affordable(self, work: float, steps: int) -> float:
        """Return how often so much work in so many steps fits into what is left for now."""
        left = self.left
        if left <= 0:
            return 0.0
        return left * min(min(self.seconds, 1e9) * self.speed / work, self.steps / steps)

    def next_stretch(self, works: Sequence[float], steps: Sequence[int], seconds: float, threads: int) -> int:
        """Return how many of the next trainings to make before looking at the clock again; 0: the budget is spent.

        Of each the work and the steps are given.
        """
        if self.left <= 0:
            return 0
        limit, work, taken = min(seconds, max(0.05, self.left * self.seconds)) * self.speed, 0.0, 0
        for number, (own, count) in enumerate(zip(works, steps, strict=True)):
            work, taken = work + own, taken + count
            # (how many steps are allowed must not depend on the threads)
            if (work > limit and number >= threads) or (taken > self.left * self.steps and number):
                return number
        return len(works)

    def measure(self, short: float, long: float, less: float, more: float, trainings: int) -> None:
        """Take the speed from the seconds of short and of long trainings, and from their work."""
        self.speed = (more - less) / max(long - short, 1e-6)
        self.setup = max(0.0, short - less / self.speed) / trainings

    @contextmanager
    def spending(self, work: float, steps: int, trainings: int) -> Iterator[None]:
        """Book what is done inside, and how fast it went."""
        start = time.perf_counter()
        yield
        elapsed = time.perf_counter() - start - self.setup * trainings
        self.speed = work / max(elapsed, 0.1 * work / self.speed)
        self.spent_steps += steps


def parse_budget(text: str | float) -> tuple[float, float]:
    """Read a budget: seconds and steps, infinite where it does not say.

    Examples
    --------
    >>> parse_budget("2min"), parse_budget(1.5), parse_budget("20000 steps")
    ((120.0, inf), (1.5, inf), (inf, 20000.0))
    """
    if not isinstance(text, str):
        return check_positive("budget", text), math.inf
    found = re.fullmatch(r"\s*([0-9.]+(?:e[0-9]+)?)\s*([a-z]*)\s*", text.lower())
    if found is not None:
        try:
            number = check_positive("budget", float(found[1]))
        except ValueError:
            number = math.nan
        if found[2] in ("step", "steps") and number > 0:
            return math.inf, number
        if found[2] in _UNITS and number > 0:
            return number * _UNITS[found[2]], math.inf
    raise ValueError(f'budget must be seconds or steps, such as "30s", "2min" or "20000 steps", got {text!r}')
