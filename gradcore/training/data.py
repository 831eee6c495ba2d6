"""Inputs and targets from the outside world, checked: what is wrong is said with its row and column."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

# Values converted and checked at a time: bounds the memory that a large array of another dtype needs on the way.
CHUNK = 1 << 20


def as_numeric(name: str, values: Any) -> Array:
    """Return `values` as an array of booleans, integers or floats, whatever container it comes in.

    Raises
    ------
    TypeError
        Text, complex numbers, dates, objects that are no numbers, sparse matrices.
    ValueError
        Ragged rows; a masked array with masked entries.
    """
    array = _as_array(name, values)
    if array.dtype.kind == "O":
        # a data frame of mixed columns comes as objects
        try:
            return array.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise TypeError(f"{name} must hold numbers: {error}") from None
    if array.dtype.kind not in "buif":
        raise TypeError(
            f"{name} must hold numbers, got dtype {array.dtype}; encode anything else as numbers first"
        )
    return array


def as_inputs(X: Any, columns: int, dtype: np.dtype[Any], *, name: str = "X", finite: bool = True) -> Array:
    """Check the inputs of a network and convert them to its dtype; what already fits is not copied.

    Parameters
    ----------
    X : array_like, shape (rows, columns)
        Any layout and any numeric dtype; data frames by their array interface; memory maps stay on disk.
    columns : int
    dtype : dtype
        Of the network.
    finite : bool
        Refuse NaN and infinity.

    Returns
    -------
    ndarray, shape (rows, columns)
        Of `dtype`; the caller's own memory where it was of that dtype already.
    """
    array = as_numeric(name, X)
    if array.ndim != 2:
        hint = f"; one row is {name}[None, :], one column {name}[:, None]" if array.ndim == 1 else ""
        raise ValueError(f"{name} must have two dimensions (rows, columns), got shape {array.shape}{hint}")
    if array.shape[1] != columns:
        raise ValueError(f"{name} has {array.shape[1]} columns, the network takes {columns}")
    return to_real(name, array, dtype, finite=finite)


def to_real(name: str, array: Array, dtype: np.dtype[Any], *, finite: bool = True) -> Array:
    """Convert a matrix to `dtype`, refusing NaN and infinity (also those that the conversion would make)."""
    keep = array.dtype == dtype and array.flags.aligned
    result = array if keep else np.empty(array.shape, dtype)
    rows = max(1, CHUNK // max(1, array.shape[1]))
    for first in range(0, len(array), rows):
        part = array[first : first + rows]
        if not keep:
            with np.errstate(over="ignore", invalid="ignore"):
                result[first : first + rows] = part
        if finite and not np.isfinite(result[first : first + rows]).all():
            row, column = (int(i) for i in np.argwhere(~np.isfinite(result[first : first + rows]))[0])
            value = part[row, column]
            where = f"{name} has {value} at row {first + row}, column {column}"
            if np.isfinite(value):
                raise ValueError(f"{where}: too large for {dtype}; scale it down or use dtype='float64'")
            raise ValueError(f"{where}; remove or replace such rows")
    return result


def check_rows(X: Array, y: Array) -> None:
    """Raise unless X and y have the same number of rows, at least one."""
    if len(X) != len(y):
        raise ValueError(f"X has {len(X)} rows and y has {len(y)}: one target per row is needed")
    if not len(X):
        raise ValueError("X and y are empty: at least one row is needed")


def as_rows(rows: Any, count: int) -> NDArray[np.int64]:
    """Return which of `count` rows are meant: indices, or a mask with one True or False for each row.

    Examples
    --------
    >>> as_rows([True, False, True], 3).tolist(), as_rows([2, 2], 3).tolist()
    ([0, 2], [2, 2])
    """
    array = _as_array("rows", rows)
    if array.dtype.kind == "b" and array.shape == (count,):
        array = np.flatnonzero(array)
    elif array.dtype.kind == "b":
        raise ValueError(
            f"rows is a mask of shape {array.shape}, the data have {count} rows: one value for each"
        )
    if array.size and array.dtype.kind not in "iu":
        raise TypeError(f"rows must be indices (integers) or a mask (booleans), got {array.dtype}")
    if array.ndim != 1 or not array.size or array.min() < 0 or array.max() >= count:
        raise ValueError(f"rows must be indices from 0 to {count - 1}, at least one")
    return array.astype(np.int64)


def as_labels_or_values(y: Any) -> Array:
    """Return targets as an array of text, booleans, integers or floats with one or two dimensions."""
    array = _as_array("y", y)
    if array.dtype.kind == "O":
        array = _plain_objects(array)
    if array.dtype.kind not in "buifUS":
        raise TypeError(f"y must hold labels or numbers, got dtype {array.dtype}")
    if array.ndim not in (1, 2):
        raise ValueError(f"y must have one or two dimensions, got shape {array.shape}")
    return array


def _as_array(name: str, values: Any) -> Array:
    if values is None:
        raise TypeError(f"{name} is None; an array is needed: rows of numbers, or one target per row")
    if hasattr(values, "toarray"):
        raise TypeError(f"{name} is sparse; pass {name}.toarray()")
    if isinstance(values, np.ma.MaskedArray):
        if np.ma.getmaskarray(values).any():
            raise ValueError(f"{name} has masked entries; fill or remove them first")
        values = values.data
    try:
        return np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{name} cannot be read as an array ({error}); are all rows equally long?") from None


def _plain_objects(y: Array) -> Array:
    """Objects that are all text or all numbers become arrays of text or numbers."""
    missing = [i for i, value in enumerate(y.ravel()) if value is None]
    if missing:
        raise ValueError(f"y has no value (None) at row {missing[0] // max(1, y[:1].size)}")
    if all(isinstance(value, str) for value in y.flat):
        return y.astype(str)
    if any(isinstance(value, str) for value in y.flat):
        raise TypeError("y mixes text and numbers: make all labels text, or all numbers")
    try:
        return np.asarray(y.tolist())
    except ValueError:
        raise TypeError("y must hold labels or numbers") from None
