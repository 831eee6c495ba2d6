"""Inputs and targets from the outside world, checked: what is wrong is said with its row and column."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gradcore.training.frames import Frame
from gradcore.training.sparse import SparseRows

Array = NDArray[Any]

# Values checked at a time: bounds the memory that looking at a large array takes.
CHUNK = 1 << 20


class Rows(Protocol):
    """Inputs that the kernels read: an array of any layout and any real dtype of this machine, or `SparseRows`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and columns."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> Any: ...


def as_numeric(name: str, values: Any) -> Array:
    """Return `values` as an array of booleans, integers or floats, whatever container it comes in.

    Raises
    ------
    TypeError
        Text, complex numbers, dates, objects that are no numbers.
    ValueError
        Ragged rows; a masked array with masked entries.
    """
    array = _as_array(name, values)
    if array.ndim == 0 and hasattr(values, "__iter__"):
        raise TypeError(
            f"{name} is no array but {type(values).__name__}; batches (X, y) are given to fit alone, without y"
        )
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

    For what needs them as one array of that dtype; where the kernels read them, `as_given` spares the copy.

    Parameters
    ----------
    X : array_like, shape (rows, columns)
        Any layout and any numeric dtype, data frames, sparse matrices.
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
    given = as_given(X, columns, dtype, name=name, finite=finite)
    return to_real(name, np.asarray(given), dtype, finite=False)


def as_given(X: Any, columns: int, dtype: np.dtype[Any], *, name: str = "X", finite: bool = True) -> Rows:
    """Check the inputs of a network and leave them where they are: its kernels convert rows as they need them.

    Parameters are those of `as_inputs`. Looking for NaN and infinity is one pass in bounded memory, of a memory map as
    well; integers have none.

    Returns
    -------
    ndarray or SparseRows, shape (rows, columns)
        The caller's own memory. Only what kernels cannot read is copied in `dtype`: the other byte order, misaligned
        arrays, objects, data frames whose columns do not lie as a matrix; of sparse matrices that are not CSR, or not
        of `dtype`, what they store.
    """
    frame, text = Frame.of(X), None
    if hasattr(X, "tocsr"):
        return _sparse(name, X, columns, dtype, finite)
    if frame is not None and len(X.shape) == 2:
        _check_width(name, len(frame.names), columns)
        array, text = frame.matrix(name, dtype, missing=not finite), _named_in(frame)
    else:
        array = as_numeric(name, X)
    if array.ndim != 2:
        hint = f"; one row is {name}[None, :], one column {name}[:, None]" if array.ndim == 1 else ""
        if frame is not None:
            hint = f"; a series is one column: {name}.to_frame()"
        raise ValueError(f"{name} must have two dimensions (rows, columns), got shape {array.shape}{hint}")
    _check_width(name, array.shape[1], columns)
    if finite:
        check_finite(name, array, dtype, text)
    readable = array.dtype.isnative and array.dtype.itemsize <= 8 and array.flags.aligned
    return array if readable else to_real(name, array, dtype, finite=False)


def _check_width(name: str, width: int, columns: int) -> None:
    if width != columns:
        raise ValueError(f"{name} has {width} columns, the network takes {columns}")


def _sparse(name: str, matrix: Any, columns: int, dtype: np.dtype[Any], finite: bool) -> SparseRows:
    if len(matrix.shape) != 2:
        raise ValueError(f"{name} must have two dimensions (rows, columns), got shape {matrix.shape}")
    if np.dtype(matrix.dtype).kind not in "buif":
        raise TypeError(
            f"{name} must hold numbers, got dtype {matrix.dtype}; encode anything else as numbers first"
        )
    _check_width(name, matrix.shape[1], columns)
    rows = SparseRows.of(matrix, dtype)
    wrong = rows.not_finite() if finite else None
    if wrong is not None:
        _refuse(name, matrix.tocsr()[wrong], dtype, _named_by_number(*wrong))
    return rows


class Selected:
    """Some rows of inputs, which are copied piece by piece, when they are read."""

    def __init__(self, X: Rows, rows: NDArray[np.int64]) -> None:
        self.X, self.rows = X, rows
        self.shape = len(rows), X.shape[1]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: Any) -> Any:
        return self.X[self.rows[rows]]


def dense(X: Rows, rows: Any, dtype: np.dtype[Any]) -> Array:
    """Return some rows of inputs as an array of `dtype`."""
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(X[rows], dtype)


def _named_by_number(row: int, column: int) -> str:
    return f"row {row}, column {column}"


def _named_in(frame: Frame) -> Callable[[int, int], str]:
    return lambda row, column: f"{frame.row_named(row)}, column {frame.names[column]!r}"


def check_finite(
    name: str,
    array: Array,
    dtype: np.dtype[Any],
    named: Callable[[int, int], str] | None = None,
) -> None:
    """Raise for NaN and infinity in a matrix, also for those that a conversion to `dtype` would make."""
    if array.dtype.kind not in "fO":
        return  # (the largest uint64 is far from the largest float32)
    rows = max(1, CHUNK // max(1, array.shape[1]))
    for first in range(0, len(array), rows):
        given = array[first : first + rows]
        with np.errstate(over="ignore", invalid="ignore"):
            part = given if given.dtype.itemsize <= dtype.itemsize else given.astype(dtype)
        if not np.isfinite(part).all():
            row, column = (int(i) for i in np.argwhere(~np.isfinite(part))[0])
            _refuse(name, given[row, column], dtype, (named or _named_by_number)(first + row, column))


def _refuse(name: str, value: Any, dtype: np.dtype[Any], where: str) -> None:
    if np.isfinite(value):
        raise ValueError(
            f"{name} has {value} at {where}: too large for {dtype}; scale it down or use dtype='float64'"
        )
    raise ValueError(f"{name} has {value} at {where}; remove or replace such rows")


def to_real(name: str, array: Array, dtype: np.dtype[Any], *, finite: bool = True) -> Array:
    """Convert a matrix to `dtype`, refusing NaN and infinity (also those that the conversion would make)."""
    if finite:
        check_finite(name, array, dtype)
    if array.dtype == dtype and array.flags.aligned:
        return array
    with np.errstate(over="ignore", invalid="ignore"):
        return array.astype(dtype, order="C")


def check_rows(X: Rows | Array, y: Array) -> None:
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
    frame = Frame.of(y)
    array = _as_array("y", y) if frame is None else frame.labels("y")
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
    if hasattr(values, "detach") and hasattr(values, "numpy"):
        return _of_tensor(values)
    if isinstance(values, np.ma.MaskedArray):
        if np.ma.getmaskarray(values).any():
            raise ValueError(f"{name} has masked entries; fill or remove them first")
        values = values.data
    try:
        return np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{name} cannot be read as an array ({error}); are all rows equally long?") from None


def _of_tensor(tensor: Any) -> Array:
    """PyTorch's numbers; of bfloat16, which NumPy does not know, as float32."""
    tensor = tensor.detach().cpu()
    return np.asarray((tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy())


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
