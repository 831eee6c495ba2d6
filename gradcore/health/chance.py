"""The chance that a network trains, read from its measures: boosted trees, fitted to networks that were really trained.

"Trains" is the word of the design: within about a thousand steps the loss ends at least a fifth of the way from the
constant predictor to the best that is known.  The trees (Friedman, "Greedy function approximation: a gradient boosting
machine", 2001) and their calibration come from ``bench/blind``, which draws networks at random, trains them and keeps
some apart to judge by; ``docs/diagnosis.md`` says how good they are.  One forest reads a single batch before any
training, the other also what some real steps did.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Forest:
    """Trees over named measures; a sum of leaves is the log of the odds.

    Parameters
    ----------
    names : tuple of str
        Of the measures, in the order that `feature` counts.
    feature, threshold, left, right, value : ndarray, shape (trees, nodes)
        Node i goes left where measure `feature` ≤ `threshold`; a leaf goes to itself.
    depth : int
    slope, offset : float
        Of the calibration: log odds = slope · sum + offset.
    """

    names: tuple[str, ...]
    feature: Array
    threshold: Array
    left: Array
    right: Array
    value: Array
    depth: int
    slope: float
    offset: float

    def log_odds(self, measures: Mapping[str, float]) -> float:
        """Return the log of the odds that a network with these measures trains."""
        x = np.array([measures[name] for name in self.names])
        trees = np.arange(len(self.feature))
        node = np.zeros(len(self.feature), np.intp)
        for _ in range(self.depth):
            below = x[self.feature[trees, node]] <= self.threshold[trees, node]
            node = np.where(below, self.left[trees, node], self.right[trees, node])
        return self.slope * float(self.value[trees, node].sum()) + self.offset


@cache
def forest(name: str) -> Forest:
    """Return the forest ``"before"`` or ``"after"`` some steps, which are packaged beside this file."""
    with (files(__package__) / "chance.npz").open("rb") as file, np.load(file) as stored:
        parts = {key.partition(".")[2]: stored[key] for key in stored.files if key.startswith(f"{name}.")}
    return Forest(
        names=tuple(parts["names"].tolist()),
        feature=parts["feature"].astype(np.intp),
        threshold=parts["threshold"].astype(np.float64),
        left=parts["left"].astype(np.intp),
        right=parts["right"].astype(np.intp),
        value=parts["value"].astype(np.float64),
        depth=int(parts["depth"]),
        slope=float(parts["slope"]),
        offset=float(parts["offset"]),
    )


def chance(measures: Mapping[str, float]) -> float:
    """Return the chance of training.

    Parameters
    ----------
    measures : mapping
        As `gradcore.health.measures.measures` makes them; with those of real steps the forest that reads them is asked.
    """
    log_odds = forest("after" if "seen_steps" in measures else "before").log_odds(measures)
    return 1 / (1 + math.exp(-max(-500.0, min(500.0, log_odds))))
