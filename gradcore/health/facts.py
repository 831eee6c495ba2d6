"""Facts of the data that no network changes: how many rows there are, and how much of the targets the inputs tell.

Every row is predicted from all others: by the mean of the targets nearby (Nadaraya 1964, Watson 1964: weights
``exp(-d² / (b median d²))`` with three bandwidths b), and along the one line of inputs that goes with the targets (the
direction of the first gradient step of a linear model).  That costs one product of matrices each and trains nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gradcore import kernels

Array = npt.NDArray[np.float64]

BANDWIDTHS = (1.0, 0.25, 0.06)

# Rows outside the largest class below which nothing can be said.
RARE = 25

# Shuffles of the targets that a real connection must beat, every one.
SHUFFLES = 40


@dataclass(frozen=True)
class Facts:
    """What is known of the data.

    Parameters
    ----------
    rows : int
    linear, smooth : float
        Shares of the targets' variance that a line and the rows nearby tell, at most 1; about 0: none.
    """

    rows: int
    linear: float
    smooth: float


# Of data that nobody has shown.
UNKNOWN = Facts(1, 0.0, 0.0)


def facts(X: npt.NDArray[np.floating], targets: npt.NDArray[np.generic], rows: int) -> Facts:
    """Return the facts, found from some rows.

    Parameters
    ----------
    X : ndarray, shape (sample, columns)
    targets : ndarray
        Labels (integers), shape (sample,), or numbers, shape (sample, outputs).
    rows : int
        Of all the data.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(128, 3))
    >>> found = facts(X, X[:, :1] + X[:, 1:2], 128)
    >>> found.linear > 0.9, found.smooth > 0.5
    (True, True)
    """
    sample = _Sample.of(X, targets)
    return Facts(rows, 0.0, 0.0) if sample is None else Facts(rows, *sample.told(sample.targets))


def has_signal(
    X: npt.NDArray[np.floating], targets: npt.NDArray[np.generic], *, seed: int = 0
) -> bool | None:
    """Tell whether the inputs say anything about the targets; None for too few rows to tell.

    The shares of `facts` are compared with those of the same targets in another order: a permutation test
    (Fisher 1935), at a level of 1 in 41.  A connection that neither a line nor neighbours see (parity of many bits)
    is not seen.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 3))
    >>> has_signal(X, X[:, :1] ** 2), has_signal(X, rng.normal(size=(200, 1)))
    (True, False)
    """
    sample = _Sample.of(X, targets)
    if sample is None or len(X) < 100 or _rarest(targets) < RARE:
        return None
    rng = np.random.default_rng(seed)
    shuffled = [max(sample.told(rng.permutation(sample.targets))) for _ in range(SHUFFLES)]
    return max(sample.told(sample.targets)) > max(shuffled)


def _rarest(targets: npt.NDArray[np.generic]) -> int:
    """Return how many rows are not of the largest class; all of them where the targets are numbers."""
    if targets.dtype.kind not in "iu":
        return len(targets)
    return len(targets) - int(np.bincount(targets.ravel().astype(np.int64)).max(initial=0))


@dataclass(frozen=True)
class _Sample:
    """Kernels between the rows, without the diagonal; targets of mean 0."""

    inner: Array
    near: tuple[Array, ...]
    targets: Array

    @classmethod
    def of(cls, X: npt.NDArray[np.floating], targets: npt.NDArray[np.generic]) -> _Sample | None:
        inputs, y = X.astype(np.float64), _centred(targets)
        if len(X) < 8 or not np.isfinite(inputs).all() or not np.isfinite(y).all() or not y.any():
            return None
        # squares of what is large or small beyond measure leave the range
        inputs = inputs / np.maximum(np.abs(inputs).max(axis=0), 1e-300)
        deviation = inputs.std(axis=0)
        inputs = (inputs - inputs.mean(axis=0)) / np.where(deviation > 0, deviation, 1.0)
        # not NumPy's product: for one this small, waking the threads of a BLAS takes longer
        inner = kernels.matmul(inputs, np.ascontiguousarray(inputs.T))
        squares = np.diag(inner).copy()
        distance = np.maximum(0.0, squares[:, None] + squares - 2 * inner)
        median = float(np.median(distance))
        near = [
            np.exp(distance / (-width * median)) if median > 0 else np.ones_like(distance)
            for width in BANDWIDTHS
        ]
        for kernel in (inner, *near):
            np.fill_diagonal(kernel, 0.0)
        return cls(inner, tuple(k / np.maximum(k.sum(axis=1), 1e-300)[:, None] for k in near), y)

    def told(self, y: Array) -> tuple[float, float]:
        """Return the shares that a line and the neighbours tell."""
        total = float((y**2).sum())
        along = kernels.matmul(self.inner, y)
        size = float((along**2).sum())
        cosine = float((along * y).sum()) / math.sqrt(size * total) if size > 0 else 0.0
        errors = [float(((kernels.matmul(near, y) - y) ** 2).sum()) for near in self.near]
        return cosine * abs(cosine), 1 - min(errors) / total


def _centred(targets: npt.NDArray[np.generic]) -> Array:
    if targets.dtype.kind in "iu":
        labels, codes = np.unique(targets, return_inverse=True)
        y: Array = np.eye(len(labels))[codes.ravel()]
    else:
        y = np.asarray(targets, np.float64).reshape(len(targets), -1)
        largest = float(np.abs(y).max(initial=0.0))
        y = y / largest if 0 < largest < math.inf else y
    centred: Array = y - y.mean(axis=0)
    return centred
