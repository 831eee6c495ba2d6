"""Sparse rows as SciPy stores them: what is zero takes no memory, a batch becomes dense in the kernels, row by row."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class SparseRows:
    """Compressed sparse rows in the form of the kernels.

    A slice shares the memory; indices copy what those rows store; ``np.asarray`` makes them dense.

    Parameters
    ----------
    values : ndarray of float32 or float64
        What is stored, row after row; what is stored twice is added up.
    columns : ndarray of int32 or int64
        Of each value; in any order within a row.
    starts : ndarray of the same dtype, one longer than there are rows
        Where each row begins among the values.
    width : int
        Number of columns.
    """

    def __init__(self, values: Array, columns: Array, starts: Array, width: int) -> None:
        self.values, self.columns, self.starts = values, columns, starts
        self.shape = len(starts) - 1, width

    @classmethod
    def of(cls, matrix: Any, dtype: np.dtype[Any]) -> SparseRows:
        """Take over a SciPy matrix or array, in any of its formats, of two dimensions; values in `dtype`."""
        rows = matrix.tocsr()
        wide = np.int32 if rows.indices.dtype == rows.indptr.dtype == np.int32 else np.int64
        with np.errstate(over="ignore"):
            values = np.require(rows.data, dtype, ["C", "A"])
        columns, starts = (np.require(part, wide, ["C", "A"]) for part in (rows.indices, rows.indptr))
        return cls(values, columns, starts, int(matrix.shape[1]))

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the values."""
        return self.values.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> SparseRows:
        width = self.shape[1]
        if isinstance(rows, slice) and rows.step not in (None, 1):
            rows = np.arange(len(self))[rows]
        if isinstance(rows, slice):
            first, end, _ = rows.indices(len(self))
            return SparseRows(
                self.values, self.columns, self.starts[first : max(first, end) + 1], width
            )  # fmt: skip
        begin, stored_in = self.starts[rows], np.diff(self.starts)[rows]
        starts = np.zeros(len(rows) + 1, self.starts.dtype)
        np.cumsum(stored_in, out=starts[1:])
        stored = np.arange(starts[-1]) + np.repeat(begin - starts[:-1], stored_in)
        return SparseRows(self.values[stored], self.columns[stored], starts, width)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        dense = np.zeros(self.shape, self.dtype)
        stored = slice(self.starts[0], self.starts[-1])
        np.add.at(dense, (self._rows(), self.columns[stored]), self.values[stored])
        return dense if dtype is None else dense.astype(dtype)

    def _rows(self) -> Array:
        return np.repeat(np.arange(len(self)), np.diff(self.starts))

    def not_finite(self) -> tuple[int, int] | None:
        """Return row and column of the first stored value that is NaN or infinite."""
        stored = slice(self.starts[0], self.starts[-1])
        wrong = ~np.isfinite(self.values[stored])
        if not wrong.any():
            return None
        at = int(wrong.argmax())
        row = int(np.searchsorted(self.starts, self.starts[0] + at, side="right")) - 1
        return row, int(self.columns[stored][at])
