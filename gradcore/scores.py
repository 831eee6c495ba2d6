"""From raw outputs to answers: labels, probabilities, and how good they are."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradcore import activations, kernels
from gradcore.losses import Loss
from gradcore.softmaxes import softmax
from gradcore.training.targets import Targets

Array = NDArray[Any]


_VALUES, _LARGEST, _ABOVE_ZERO = (kernels.ANSWERS[name] for name in ("values", "largest", "above_zero"))


def answer_of(loss: Loss | None) -> int | None:
    """Return what predict answers with after training on a loss, of `kernels.ANSWERS`; None: something made of them."""
    if loss is None or not loss.classification:
        return None if _transforms(loss) else _VALUES
    return _LARGEST if loss.name == "cross_entropy" else _ABOVE_ZERO


def labels_of(outputs: Array, loss: Loss | None, classes: Array | None) -> Array:
    """Return the label that each row of outputs stands for; without a loss of labels the values.

    `Executor.quick` in kernels/door.pyx gives the same, before `classes`, for a few rows.
    """
    if loss is None or not loss.classification:
        values = values_of(outputs, loss)
        return values[:, 0] if values.shape[1] == 1 else values
    if answer_of(loss) == _LARGEST:
        codes: Array = outputs.argmax(axis=1)
        return codes if classes is None else classes[codes]
    above = (outputs > 0).astype(np.int64)
    above = above[:, 0] if outputs.shape[1] == 1 else above
    return above if classes is None else classes[above]


def _transforms(loss: Loss | None) -> bool:
    return loss is not None and (loss.name == "poisson" or loss.info.outputs == 2)


def values_of(outputs: Array, loss: Loss | None) -> Array:
    """Return the numbers that outputs stand for: rates after poisson, means after gaussian_nll, else themselves."""
    if loss is not None and loss.name == "poisson":
        with np.errstate(over="ignore"):
            return np.exp(outputs)
    return outputs[:, : outputs.shape[1] // 2] if loss is not None and loss.info.outputs == 2 else outputs


def probabilities_of(outputs: Array, loss: Loss | None, last_activation: str | None) -> Array:
    """Return the probability of each class; before any training the number of outputs says which loss is meant."""
    if loss is not None and not loss.classification:
        raise ValueError(
            f"this network was trained towards numbers ({loss.name}): it has no classes; use predict"
        )
    binary = outputs.shape[1] == 1 if loss is None else loss.name == "binary_cross_entropy"
    if not binary:
        return outputs if last_activation == "softmax" else softmax(outputs)
    ones = outputs if last_activation == "sigmoid" and loss is None else activations.sigmoid(outputs)
    return np.concatenate([1 - ones, ones], axis=1) if outputs.shape[1] == 1 else ones


def scores(outputs: Array, targets: Targets) -> dict[str, float]:
    """Return the loss and the accuracy (labels) or the coefficient of determination (numbers)."""
    loss, y, weights = targets.loss, targets.values, targets.weights
    result = {"loss": loss.value(outputs, y, weights)}
    if weights is not None and not weights.any():
        weights = None  # nothing counts: no score is better than another
    if loss.classification:
        result["accuracy"] = float(np.mean(np.average(right(outputs, y, loss), axis=0, weights=weights)))
    else:
        result["r2"] = _determination(values_of(outputs, loss), y, weights)
    return result


def right(outputs: Array, y: Array, loss: Loss) -> NDArray[np.bool_]:
    """Tell which answers are right: one for each row, or with binary cross-entropy for each row and output."""
    answers: NDArray[np.bool_]
    if loss.name == "cross_entropy":
        answers = outputs.argmax(axis=1) == (y if y.ndim == 1 else y.argmax(axis=1))
    else:
        answers = (outputs > 0) == (y > 0.5)
    return answers


def score_name(loss: Loss) -> str:
    """Return the name of the score that goes with a loss."""
    return "accuracy" if loss.classification else "r2"


def _determination(outputs: Array, y: Array, weights: Array | None = None) -> float:
    """Mean over the outputs of 1 - residual / total; a constant target counts 1 if met exactly, else 0."""
    truth = y.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        residual = np.average(np.square(truth - outputs), axis=0, weights=weights)
        total = np.average(
            np.square(truth - np.average(truth, axis=0, weights=weights)), axis=0, weights=weights
        )
        ratio = np.divide(residual, total, out=np.where(residual > 0, 1.0, residual), where=total > 0)
    return float(np.mean(1 - ratio))
