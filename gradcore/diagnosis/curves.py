"""The curves of a diagnosis over the layers: gradient and signal, now, changed and predicted, and what lies below."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from gradcore.diagnosis.words import short
from gradcore.health.evidence import Books

if TYPE_CHECKING:
    from gradcore.diagnosis.arrays import ArraysDiagnosis
    from gradcore.diagnosis.diagnose import Diagnosis

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """One number per layer.

    Attributes
    ----------
    what : "gradient" or "signal"
        rms of the elements of the weight gradient; rms of what differs between examples.
    of : "now", "changed" or "predicted"
    log10 : ndarray, one element per layer
        Minus infinity is a zero; NaN is no number, and a signal that is only rounding.
    """

    what: str
    of: str
    log10: Array

    @property
    def name(self) -> str:
        """How the curve is called in a legend."""
        return f"{self.what}, {self.of}"


@dataclass(frozen=True)
class Band:
    """All below a bound, where numbers are of no use any more."""

    name: str
    log10: float


def curves(diagnosis: Diagnosis) -> list[Curve]:
    """Return the curves of a diagnosis: now first, then what is predicted for it, then changed."""
    changed = changed_books(diagnosis)
    return [
        *_measured(diagnosis.books, "now"), *_predicted(diagnosis),
        *(_measured(changed, "changed") if changed is not None else []),
    ]  # fmt: skip


def changed_books(diagnosis: Diagnosis) -> Books | None:
    """Return the books of the changed network; None where one batch looks the same (another rate, an optimizer)."""
    best = diagnosis.best
    differs = best is not None and (best.change.rebuilds or best.change.changes_data)
    return diagnosis.changed if differs else None


def bands(diagnosis: Diagnosis) -> list[Band]:
    """Return what lies below the curves, the highest bound first."""
    dtype, optimizer = diagnosis.ledger.dtype, diagnosis.optimizer
    found = [Band(f"{dtype.name} underflow", math.log10(float(np.finfo(dtype).tiny)))]
    if (eps := getattr(optimizer, "eps", 0.0)) > 0:
        found.insert(0, Band(f"below {type(optimizer).__name__}’s eps {short(eps)}", math.log10(eps)))
    return found


def _measured(books: Books, of: str) -> list[Curve]:
    layers = books.layers
    signal = np.where(layers.lost(books.ledger.dtype), np.nan, layers.output_signal)
    with np.errstate(divide="ignore"):
        return [Curve("gradient", of, np.log10(layers.gradient)), Curve("signal", of, np.log10(signal))]


def _predicted(diagnosis: Diagnosis | ArraysDiagnosis) -> list[Curve]:
    """Write the theory's deltas as weight gradients, where it can be relied on.

    ``rms(dW) ∝ ‖delta‖ · rms(input) / √units`` while examples do not cancel out.  Theory says how deltas change from
    layer to layer, not how large they are: the last layer's gradient is the measured one.
    """
    prediction, layers = diagnosis.prediction, diagnosis.books.layers
    if prediction is None:
        return []
    with np.errstate(divide="ignore", invalid="ignore"):
        shape = prediction.delta_log10 + np.log10(layers.input_scale / np.sqrt(layers.units))
        gradient = shape - shape[-1] + np.log10(layers.gradient[-1])
    # what theory predicts below the smallest number of the dtype becomes zero
    least = math.log10(float(np.finfo(diagnosis.ledger.dtype).smallest_subnormal))
    return [
        Curve(
            what,
            "predicted",
            np.where(prediction.valid_layers, np.where(log10 < least, -np.inf, log10), np.nan),
        )
        for what, log10 in (("gradient", gradient), ("signal", prediction.signal_log10))
    ]


def grouped(count: int, most: int) -> list[npt.NDArray[np.int64]]:
    """Cut the numbers below `count` into at most `most` neighbourhoods of about the same size.

    Examples
    --------
    >>> [group.tolist() for group in grouped(5, 3)]
    [[0, 1], [2, 3], [4]]
    """
    return list(np.array_split(np.arange(count), min(count, most)))


def together(values: Array, groups: Sequence[npt.NDArray[np.int64]]) -> Array:
    """Return the mean of what is finite in each group; of a group without, its first value."""
    result = []
    for group in groups:
        part = values[group]
        finite = part[np.isfinite(part)]
        result.append(float(finite.mean()) if len(finite) else float(part[0]))
    return np.array(result)
