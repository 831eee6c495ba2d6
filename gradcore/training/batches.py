"""Which rows make which step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradcore.streams import SPLIT, stream


@dataclass(frozen=True)
class Batches:
    """How the rows of an epoch are cut into steps.

    The last batch has what is left over. Where a batch of a single row cannot be used (batch norm has no variance
    there) a single last row joins the batch before it.

    Attributes
    ----------
    rows : int
        Rows of an epoch.
    size : int
        Rows of a step.
    merge_single : bool
        Whether a batch of one row is to be avoided.
    """

    rows: int
    size: int
    merge_single: bool

    @property
    def merged(self) -> bool:
        """Whether the last batch has one row more than the others."""
        return self.merge_single and self.rows > self.size and self.rows % self.size == 1

    @property
    def largest(self) -> int:
        """The most rows of a step."""
        return self.size + self.merged

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return -(-self.rows // self.size) - self.merged

    def sizes(self) -> NDArray[np.int64]:
        """Rows of each step."""
        sizes = np.full(self.steps, self.size, np.int64)
        sizes[-1] = self.rows - self.size * (self.steps - 1)
        return sizes


def split(
    rows: int,
    fraction: float,
    seed: int,
    *,
    labels: NDArray[Any] | None = None,
    name: str = "validation_fraction",
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw the rows to train on and those held out, each in ascending order; with labels as many of each as there are.

    Without labels, classes of about equal size are unequal in both parts, and opposite: what is the largest class of
    one is rare in the other, so that always answering it scores below chance.
    """
    held_out = max(1, round(rows * fraction)) if fraction else 0
    if held_out >= rows and fraction:
        raise ValueError(f"{name}={fraction} of {rows} rows leaves none to train on")
    random = stream(seed, SPLIT)
    drawn = random.permutation(rows)
    chosen = np.arange(held_out)
    if labels is not None and held_out:  # every so many rows of them, class by class
        drawn = drawn[np.argsort(labels[drawn], kind="stable")]
        chosen = (chosen * rows + random.integers(rows)) // held_out
    return np.sort(np.delete(drawn, chosen)), np.sort(drawn[chosen])
