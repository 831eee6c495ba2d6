"""Probe: ask a training for its ledgers; and the ring that keeps the last of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from gradcore import kernels
from gradcore.health.ledger import Ledger

if TYPE_CHECKING:
    from gradcore.plan import Plan

BUDGET = 64 << 20  # bytes of a ring


@dataclass(frozen=True)
class Probe:
    """Ask ``fit`` or a stepper for the ledger during training.

    The kernels write the books of a probed step into the next place of a ring made before the training; nothing is
    allocated, and a `Ledger` object is made only where somebody reads it. ``history.ledgers`` holds the last ones
    that fit into 64 MB. Every one goes to the callbacks that have an ``on_probe`` hook (`JSONLogger` is one) and,
    unless ``on_fault="ignore"``, past the rules of the diagnosis.

    Parameters
    ----------
    every : int
        Keep the ledger of every ``every``-th step.
    level : "light" or "full"
        ``"light"`` books norms and extremes and is cheap enough for every step; ``"full"`` counts everything.

    Examples
    --------
    >>> Probe(every=10).level
    'light'
    >>> from gradcore import mlp
    >>> net = mlp([2, 8, 1], activation="tanh", seed=0)
    >>> history = net.fit([[0.0, 1.0], [1.0, 0.0]], [0.5, -0.5], epochs=30, probe=Probe(every=10), seed=0)
    >>> [ledger.step for ledger in history.ledgers]
    [10, 20, 30]
    """

    every: int = 1
    level: str = "light"

    def __post_init__(self) -> None:
        if isinstance(self.every, bool) or not isinstance(self.every, int | np.integer):
            raise TypeError(
                f"Probe(every=…) must be an integer, got {self.every!r}; say every=1 for each step"
            )
        if self.every < 1:
            raise ValueError(f"Probe(every=…) must be at least 1, got {self.every}")
        if self.level not in ("light", "full"):
            raise ValueError(f"Probe(level=…) must be 'light' or 'full', got {self.level!r}")


class Ring(Sequence[Ledger]):
    """The ledgers of the last probed steps, oldest first; each is made when it is read.

    Parameters
    ----------
    plan : Plan
    probe : Probe
    capacity : int
        The most there can be; it is cut to what fits into 64 MB (at least one).

    Attributes
    ----------
    records : structured array, shape (slots, ops + 1)
        Step number n is booked at ``n // every - 1``, modulo the slots.
    """

    def __init__(self, plan: Plan, probe: Probe, capacity: int) -> None:
        ops = len(plan.table) + 1
        slots = max(1, min(capacity, BUDGET // (ops * kernels.RECORD_DTYPE.itemsize)))
        self.plan, self.probe = plan, probe
        self.records: NDArray[np.void] = np.empty((slots, ops), kernels.RECORD_DTYPE)
        self._losses, self._rows = np.empty(slots), np.empty(slots, np.int64)
        self._booked = 0  # since the beginning
        self._first = 0  # of them were booked into another ring

    def begin_after(self, seen: int) -> None:
        """Begin with the steps after the first `seen`: of those before nothing is here."""
        self._booked = self._first = seen // self.probe.every

    def book(self, seen: int, losses: NDArray[np.float64], rows: NDArray[np.int64]) -> None:
        """Take note of the steps after the first `seen`: loss and rows of each, probed or not."""
        every = self.probe.every
        first = every - seen % every - 1
        if first < len(losses):
            booked = seen // every + np.arange(len(range(first, len(losses), every)))
            slots = booked % len(self.records)
            self._losses[slots], self._rows[slots] = losses[first::every], rows[first::every]
            self._booked = int(booked[-1]) + 1

    def book_step(self, number: int, loss: float, rows: int, records: NDArray[np.void] | None = None) -> None:
        """Take note of one probed step, and of its records where they were written elsewhere."""
        booked = number // self.probe.every
        slot = (booked - 1) % len(self.records)
        self._losses[slot], self._rows[slot], self._booked = loss, rows, booked
        if records is not None:
            self.records[slot] = records

    def since(self, seen: int, *, newest: bool = False) -> list[Ledger]:
        """Return those of the steps after the first `seen` that are still here, or only the last of them."""
        new = min(len(self), self._booked - seen // self.probe.every)
        return self[len(self) - (min(new, 1) if newest else new) :]

    def last(self, count: int) -> tuple[Ledger, ...]:
        """Return the last ledgers, at most `count`, as they are now."""
        return tuple(self[i] for i in range(max(0, len(self) - count), len(self)))

    def __len__(self) -> int:
        return min(self._booked - self._first, len(self.records))

    @overload
    def __getitem__(self, index: int) -> Ledger: ...
    @overload
    def __getitem__(self, index: slice) -> list[Ledger]: ...
    def __getitem__(self, index: int | slice) -> Ledger | list[Ledger]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        at = range(self._booked - len(self), self._booked)[index]
        slot = at % len(self.records)
        return Ledger(
            self.plan, self.records[slot], float(self._losses[slot]), level=self.probe.level,
            rows=int(self._rows[slot]), step=(at + 1) * self.probe.every,
        )  # fmt: skip

    def __iter__(self) -> Iterator[Ledger]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        return f"<{len(self)} ledgers, every {self.probe.every} steps, {self.probe.level}>"

    def __getstate__(self) -> dict[str, Any]:
        # what was never written is not carried along
        whole = self._first > 0 or len(self) == len(self.records)
        return self.__dict__ | ({} if whole else {"records": self.records[: len(self)]})
