"""Labels read off the delta of the outputs, where nobody tells the loss.

Under softmax and cross-entropy delta is ``s (p - e_t)``, under sigmoid and binary cross-entropy ``s (p - t)``, with p
from the outputs, labels t and one scale s for all rows: 1/rows for a mean, times whatever the loop multiplies its loss
with.  Every element of a batch depends on one number then: that they all fit is no chance, and labels and loss follow.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gradcore import losses, softmaxes
from gradcore.activations import sigmoid
from gradcore.health.loss_curve import constant_loss

Array = npt.NDArray[np.floating]

# Elements below which a fit could be chance.
FEW = 8


class Labels(NamedTuple):
    """Labels as they are encoded for `loss`, the loss of the batch and of the best constant predictor."""

    name: str
    targets: npt.NDArray[np.generic]
    loss: float
    constant_loss: float


def labels_from(outputs: Array, delta: Array) -> Labels | None:
    """Return the labels and the loss; None where the delta is not that of a cross-entropy.

    Examples
    --------
    >>> z, y = np.random.default_rng(0).normal(size=(6, 3)), np.array([0, 1, 2, 2, 1, 0])
    >>> loss, delta = losses.cross_entropy(z, y, return_grad=True)
    >>> found = labels_from(z, delta)
    >>> found.targets, bool(np.isclose(found.loss, loss))
    (array([0, 1, 2, 2, 1, 0]), True)
    """
    if outputs.shape != delta.shape or outputs.ndim != 2 or outputs.size < FEW:
        return None
    z, d = outputs.astype(np.float64), delta.astype(np.float64)
    if not (np.isfinite(z).all() and np.isfinite(d).all() and d.any()):
        return None
    if z.shape[1] > 1:
        p = softmaxes.softmax(z)
        # only the label's element is negative; where none is, the label is sure already
        labels = np.where((d < 0).any(axis=1), d.argmin(axis=1), p.argmax(axis=1))
        scale = _scale(d, p - np.eye(z.shape[1])[labels], outputs.dtype)
        if scale is not None:
            total = scale * losses.cross_entropy(z, labels, reduction="sum")
            constant = scale * constant_loss("cross_entropy", labels, reduction="sum")
            return Labels("cross_entropy", labels, total, constant)
    p = sigmoid(z)
    values = np.where(d == 0, p > 0.5, d < 0).astype(np.float64)
    scale = _scale(d, p - values, outputs.dtype)
    if scale is None:
        return None
    total = scale * losses.binary_cross_entropy(z, values, reduction="sum")
    constant = scale * constant_loss("binary_cross_entropy", values, reduction="sum")
    return Labels("binary_cross_entropy", values, total, constant)


def _scale(delta: Array, unit: Array, dtype: np.dtype[np.floating]) -> float | None:
    """Return the number that makes `unit` delta, to the rounding of `dtype`; None where there is none."""
    square = float(np.vdot(unit, unit))
    scale = float(np.vdot(unit, delta)) / square if square > 0 else 0.0
    bound = 100 * float(np.finfo(dtype).eps)
    fits = scale > 0 and bool(np.abs(delta - scale * unit).max() <= bound * scale)
    return scale if fits else None
