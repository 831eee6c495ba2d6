"""Scores row by row: how much of a score is the luck of the rows that happened to be tested."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from gradcore.diagnosis.recipe import Data
from gradcore.losses import Loss
from gradcore.network import Network
from gradcore.prescription.comparison import t_probability
from gradcore.prescription.measured import Result
from gradcore.scores import right, values_of

Array = npt.NDArray[np.float64]

# Rows whose scores are kept one by one.
ROWS = 1000


def worst_score(loss: Loss) -> float:
    """Return the score that counts for one that is worse, or no number."""
    return 0.0 if loss.classification else -1.0


def row_scores(net: Network, data: Data) -> tuple[float, ...]:
    """Return the score of single rows to test with: right or wrong, or one less the squared error over the variance."""
    assert net.loss is not None
    chosen, worst = _chosen(data), worst_score(net.loss)
    scores = _scores(values_of(net.forward(data.X_test[chosen]), net.loss), data, net.loss)
    if not scores.mean() >= worst:  # as the score of them all
        scores = np.maximum(scores, worst)
    return tuple(np.nan_to_num(scores, nan=worst).round(4).tolist())


def constant_row_scores(data: Data, loss: Loss) -> Array:
    """Return the same for a network that always answers the largest class, or the mean.

    Of all rows: where classes are about equal, one that happens to be the largest of those to train on is for that
    reason rare among those to test with.
    """
    y = np.concatenate([data.y, data.y_test])
    if loss.name == "cross_entropy":
        outputs = np.bincount(y) if y.ndim == 1 else y.mean(axis=0, dtype=np.float64)
    else:
        outputs = y.mean(axis=0, dtype=np.float64) - (0.5 if loss.classification else 0.0)
    return _scores(np.broadcast_to(outputs, (len(_chosen(data)), len(outputs))), data, loss)


def luck(pairs: Sequence[tuple[Result, Result]], rows: int) -> float:
    """Return the standard error that the mean difference of pairs has because other rows might have been tested.

    Both of a pair are scored on the same rows, of which there are so many: the spread of their differences from row to
    row tells it.
    """
    differences = np.mean([np.subtract(treated.rows, control.rows) for treated, control in pairs], axis=0)
    return _spread(differences) / math.sqrt(rows)


def by_heart(results: Sequence[Result], constant: Array) -> float:
    """Return the chance of scores so far above those of a constant for networks that have learnt nothing of use.

    Student's t over the rows, one-sided: whatever was learnt by heart, given the networks the rows to test with are
    independent of each other.
    """
    gained = np.mean([result.rows for result in results], axis=0) - constant
    if len(gained) < 2:
        return 1.0
    return 1 - t_probability(float(gained.mean()) * math.sqrt(len(gained)) / _spread(gained), len(gained) - 1)


def _spread(differences: Array) -> float:
    """Return the standard deviation from row to row; some that all differ alike are not sure: as if one did not."""
    least = 1 / math.sqrt(len(differences))
    return max(float(differences.std(ddof=1)), least) if len(differences) > 1 else least


def _chosen(data: Data) -> npt.NDArray[np.int64]:
    rows = len(data.X_test)
    return np.unique(np.linspace(0, rows - 1, min(rows, ROWS)).astype(np.int64))


def _scores(outputs: npt.NDArray[np.floating], data: Data, loss: Loss) -> Array:
    y = data.y_test[_chosen(data)]
    with np.errstate(all="ignore"):
        if loss.classification:
            scores: Array = right(outputs, y, loss).reshape(len(y), -1).mean(axis=1)
            return scores
        errors, variance = (y.astype(np.float64) - outputs) ** 2, data.y_test.astype(np.float64).var(axis=0)
        # (of a column that does not vary it is 1 if met exactly, else 0)
        errors = np.divide(errors, variance, out=np.where(errors > 0, 1.0, errors), where=variance > 0)
        scores = (1 - errors).mean(axis=1)
        return scores
