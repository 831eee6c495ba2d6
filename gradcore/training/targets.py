"""What a network is trained towards: labels become class indices, numbers stay numbers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradcore.losses import (
    ClassWeight,
    Loss,
    check_probabilities,
    check_weights,
    resolve as resolve_loss,
    weights_of_rows,
)
from gradcore.training.data import Array, as_labels_or_values, as_numeric, to_real


@dataclass(frozen=True)
class Targets:
    """Targets as the kernels take them.

    Attributes
    ----------
    values : ndarray
        Class indices, int64, shape (rows,), for cross-entropy of labels; else reals, shape (rows, columns),
        C-contiguous: of cross-entropy the probabilities of all classes.
    loss : Loss
    classes : ndarray or None
        The user's labels, sorted; index i of the outputs stands for classes[i]. None: y held numbers.
    weights : ndarray of float64, shape (rows,), or None
        How often each row counts; None: once.
    """

    values: Array
    loss: Loss
    classes: Array | None
    weights: NDArray[np.float64] | None = None

    def of_rows(self, rows: NDArray[np.int64]) -> Targets:
        """Return the targets of some rows."""
        weights = None if self.weights is None else self.weights[rows]
        return replace(self, values=self.values[rows], weights=weights)

    def with_class_weight(self, class_weight: ClassWeight, rows: NDArray[np.int64] | None = None) -> Targets:
        """Return the same with each row counted so much more often as its label says.

        Parameters
        ----------
        class_weight : mapping from label to weight, array_like of one weight for each class, "balanced", or None
        rows : ndarray of int64, optional
            Those that "balanced" counts; None: all.
        """
        if class_weight is None:
            return self
        if self.classes is None:
            raise ValueError("class_weight needs one label in each row of y; give sample_weight instead")
        codes = self.values if self.values.ndim == 1 else (self.values[:, 0] > 0.5).astype(np.int64)
        once = np.ones(len(codes)) if self.weights is None else self.weights
        counted = once if rows is None else np.bincount(rows, minlength=len(codes)) * once
        weights = once * weights_of_rows(class_weight, self.classes, codes, counted)
        return replace(self, weights=check_weights("class_weight times sample_weight", weights, len(codes)))


def encode(
    y: Any,
    loss: str | Loss,
    outputs: int,
    dtype: np.dtype[Any],
    *,
    classes: Array | None = None,
    known: bool = False,
    sample_weight: Any = None,
) -> Targets:
    """Check targets and bring them into the form of the kernels.

    Parameters
    ----------
    y : array_like, shape (rows,), (rows, 1) or (rows, outputs)
        Labels of any kind for a classification loss (for cross-entropy also the probabilities of all classes), else
        numbers; gaussian_nll: half as many columns as outputs.
    loss : str or Loss
        ``"auto"``: as `gradcore.losses.resolve` says.
    outputs : int
        Of the network.
    dtype : dtype
        Of the network.
    classes : ndarray, optional
        The coding to keep where the labels allow it (that of an earlier fit).
    known : bool
        Labels must all be in `classes` (validation data): any other is an error.
    sample_weight : array_like, shape (rows,), optional
        How often each row counts.

    Raises
    ------
    ValueError, TypeError
        What is wrong, in which row, and what to do.
    """
    array = as_labels_or_values(y)
    if not len(array):
        raise ValueError("y is empty: at least one row is needed")
    chosen = loss if isinstance(loss, Loss) else resolve_loss(loss, array, outputs)
    targets = _encoded(array, chosen, outputs, dtype, classes, known)
    if sample_weight is None:
        return targets
    return replace(targets, weights=check_weights("sample_weight", sample_weight, len(array)))


def _encoded(
    array: Array, chosen: Loss, outputs: int, dtype: np.dtype[Any], classes: Array | None, known: bool
) -> Targets:
    if chosen.name == "cross_entropy" and _is_shares(array, outputs):
        return Targets(
            check_probabilities(_values(array, outputs, dtype, chosen.name), outputs), chosen, None
        )
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
    columns, odd = divmod(outputs, chosen.info.outputs)
    if odd:
        raise ValueError(
            f"{chosen.name} needs two outputs for each target (all means, then all logarithms of variances); "
            f"the network has {outputs}"
        )
    values = _values(array, columns, dtype, chosen.name)
    if chosen.name == "poisson" and (values < 0).any():
        row, column = (int(i) for i in np.argwhere(values < 0)[0])
        raise ValueError(
            f"poisson needs targets of at least 0; y has {values[row, column]} at row {row}, column {column}"
        )
    return Targets(values, chosen, None)


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


def _is_shares(y: Array, outputs: int) -> bool:
    """A number for each class: floats, or the zeros and ones of one-hot rows."""
    if y.ndim != 2 or not 1 < outputs == y.shape[1]:
        return False
    return y.dtype.kind in "bf" or (y.dtype.kind in "iu" and bool(np.isin(y, (0, 1)).all()))


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
        has = f"outputs for {outputs} targets" if loss == "gaussian_nll" else f"{outputs} outputs"
        raise ValueError(f"y has {matrix.shape[1]} columns, the network has {has}{hint}")
    return np.ascontiguousarray(to_real("y", matrix, dtype))
