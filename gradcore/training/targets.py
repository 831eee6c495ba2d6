"""What a network is trained towards: labels become class indices, numbers stay numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradcore.losses import Loss, resolve as resolve_loss
from gradcore.training.data import Array, as_labels_or_values, as_numeric, to_real


@dataclass(frozen=True)
class Targets:
    """Targets as the kernels take them.

    Attributes
    ----------
    values : ndarray
        Class indices, int64, shape (rows,), for cross-entropy; else reals, shape (rows, outputs), C-contiguous.
    loss : Loss
    classes : ndarray or None
        The user's labels, sorted; index i of the outputs stands for classes[i]. None: y held numbers.
    """

    values: Array
    loss: Loss
    classes: Array | None


def encode(
    y: Any,
    loss: str | Loss,
    outputs: int,
    dtype: np.dtype[Any],
    *,
    classes: Array | None = None,
    known: bool = False,
) -> Targets:
    """Check targets and bring them into the form of the kernels.

    Parameters
    ----------
    y : array_like, shape (rows,), (rows, 1) or (rows, outputs)
        Labels of any kind for a classification loss, else numbers.
    loss : str or Loss
        ``"auto"``: labels (integers, booleans, text) mean cross-entropy, with one output binary cross-entropy;
        floats mean the mean squared error.
    outputs : int
        Of the network.
    dtype : dtype
        Of the network.
    classes : ndarray, optional
        The coding to keep where the labels allow it (that of an earlier fit).
    known : bool
        Labels must all be in `classes` (validation data): any other is an error.

    Raises
    ------
    ValueError, TypeError
        What is wrong, in which row, and what to do.
    """
    array = as_labels_or_values(y)
    if not len(array):
        raise ValueError("y is empty: at least one row is needed")
    chosen = loss if isinstance(loss, Loss) else resolve_loss(loss, array, outputs)
    if chosen.name == "cross_entropy":
        labels = _one_column(array, outputs)
        if outputs < 2:
            raise ValueError(
                "cross_entropy needs one output per class; with one output use 'binary_cross_entropy'"
            )
        codes, classes = _encode_labels(labels, outputs, classes, known)
        return Targets(codes, chosen, classes)
    if chosen.name == "binary_cross_entropy":
        return _binary(array, chosen, outputs, dtype, classes, known)
    return Targets(_values(array, outputs, dtype, chosen.name), chosen, None)


def is_classification(loss: Loss | None) -> bool:
    """Tell whether `loss` is one of labels."""
    return loss is not None and loss.name in ("cross_entropy", "binary_cross_entropy")


def _binary(
    y: Array, loss: Loss, outputs: int, dtype: np.dtype[Any], classes: Array | None, known: bool
) -> Targets:
    if outputs > 1 or _is_probability(y):
        values = _values(y, outputs, dtype, loss.name)
        outside = np.argwhere((values < 0) | (values > 1))
        if len(outside):
            row, column = (int(i) for i in outside[0])
            raise ValueError(
                f"binary_cross_entropy needs targets from 0 to 1; "
                f"y has {values[row, column]} at row {row}, column {column}"
            )
        return Targets(values, loss, None)
    codes, classes = _encode_labels(_one_column(y, 1), 2, classes, known)
    return Targets(np.ascontiguousarray(codes[:, None].astype(dtype)), loss, classes)


def _is_probability(y: Array) -> bool:
    """Floats that are not just the labels 0.0 and 1.0 (or some other pair)."""
    return y.dtype.kind == "f" and bool(np.any((y > 0) & (y < 1)))


def _one_column(y: Array, outputs: int) -> Array:
    if y.ndim == 2 and y.shape[1] != 1:
        hint = "; one-hot rows become labels by y.argmax(axis=1)" if y.shape[1] == outputs else ""
        raise ValueError(f"labels must have shape (rows,) or (rows, 1), got {y.shape}{hint}")
    labels = y.reshape(-1)
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        row = int(np.argmin(np.isfinite(labels)))
        raise ValueError(f"y has {labels[row]} at row {row}; remove or replace such rows")
    return labels


def _encode_labels(
    labels: Array, outputs: int, classes: Array | None, known: bool
) -> tuple[NDArray[np.int64], Array]:
    if classes is not None:
        codes, unseen = _codes(labels, classes)
        if unseen is None:
            return codes, classes
        if known:
            raise ValueError(
                f"label {labels[unseen].item()!r} at row {unseen} was not among those trained on: {_shown(classes)}"
            )
    present = np.unique(labels)
    if labels.dtype.kind in "iu" and len(present) and 0 <= present[0] and present[-1] < outputs:
        # indices already: a class that happens to be absent from the data keeps its output
        return labels.astype(np.int64), np.arange(outputs, dtype=labels.dtype)
    if len(present) > outputs:
        raise ValueError(
            f"y has {len(present)} different labels {_shown(present)}, the network tells {outputs} classes apart"
            + ("; for regression make y float" if labels.dtype.kind in "iu" else "")
        )
    if len(present) < outputs:
        raise ValueError(
            f"y has {len(present)} different labels {_shown(present)}, the network tells {outputs} classes apart: "
            f"which output is which? Give labels 0 to {outputs - 1}, or a network with one output per label"
        )
    codes, _ = _codes(labels, present)
    return codes, present


def _codes(labels: Array, classes: Array) -> tuple[NDArray[np.int64], int | None]:
    """Return the index of each label in the sorted `classes`, and the first row whose label is not there."""
    if (labels.dtype.kind in "US") != (classes.dtype.kind in "US"):
        return np.zeros(len(labels), np.int64), 0 if len(labels) else None
    codes = np.minimum(np.searchsorted(classes, labels), len(classes) - 1).astype(np.int64)
    wrong = classes[codes] != labels
    return codes, int(np.argmax(wrong)) if wrong.any() else None


def _shown(labels: Array) -> str:
    shown = [repr(label) for label in labels[:8].tolist()]
    return "[" + ", ".join(shown + ["…"] * (len(labels) > 8)) + "]"


def _values(y: Array, outputs: int, dtype: np.dtype[Any], loss: str) -> Array:
    if y.dtype.kind not in "buif":
        raise ValueError(
            f"{loss} needs numbers as targets, y holds {y.dtype}; for labels use loss='cross_entropy'"
        )
    matrix = as_numeric("y", y)
    matrix = matrix[:, None] if matrix.ndim == 1 else matrix
    if matrix.shape[1] != outputs:
        hint = "; labels of classes are integers, booleans or text" if matrix.shape[1] == 1 else ""
        raise ValueError(f"y has {matrix.shape[1]} columns, the network has {outputs} outputs{hint}")
    return np.ascontiguousarray(to_real("y", matrix, dtype))
