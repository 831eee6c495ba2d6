"""Tables in files: CSV with a header, or NPZ arrays.  Whatever is wrong is named by line and column."""

from __future__ import annotations

import csv
import zlib
from collections.abc import Sequence
from os import PathLike, fspath
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradcore.errors import unknown_name


class Table(NamedTuple):
    """Features X (rows, columns) in float64; targets y as int64, float64 or strings; the names of both."""

    X: NDArray[np.float64]
    y: NDArray[Any]
    features: tuple[str, ...]
    target: str


def load_table(path: str | PathLike[str], target: str | None = None) -> Table:
    r"""Read features and targets from a CSV or an NPZ file.

    Parameters
    ----------
    path : path
        A text file in UTF-8 whose first line names the columns (separated by comma, semicolon or tab), or an
        ``.npz`` file of plain arrays (pickled objects are refused).
    target : str, optional
        The column, or the array, to predict; in an NPZ file ``"y"`` unless given.  The features are all other
        columns, or the array ``"X"`` or else the only other one (rows of more dimensions are flattened).

    Returns
    -------
    Table
        A target column of integers becomes int64, one of numbers float64, any other strings.

    Raises
    ------
    OSError
        The file cannot be opened.
    ValueError
        No such target (the nearest names are given), no rows, ragged rows, a feature that is empty or not a
        number, or a file that is neither; line and column are named.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp(), "points.csv")
    >>> _ = path.write_text("a,b,kind\n1,2,good\n3,4.5,bad\n")
    >>> table = load_table(path, "kind")
    >>> table.X.tolist(), table.y.tolist(), table.features
    ([[1.0, 2.0], [3.0, 4.5]], ['good', 'bad'], ('a', 'b'))
    """
    name = fspath(path)
    with open(name, "rb") as file:
        is_zip = file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")
    return _load_npz(name, "y" if target is None else target) if is_zip else _load_csv(name, target)


def _load_csv(path: str, target: str | None) -> Table:
    header: list[str] = []
    rows: list[list[str]] = []
    lines: list[int] = []  # where each row begins; a quoted cell may hold line ends
    with open(path, encoding="utf-8-sig", newline="") as file:
        try:
            delimiter = _delimiter(file.readline())
            file.seek(0)
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            line = 1
            for cells in reader:
                if cells and not header:
                    header = [cell.strip() for cell in cells]
                elif cells:
                    if len(cells) != len(header):
                        raise ValueError(
                            f"{path}, line {line}: {len(cells)} cells, but the header names {len(header)}"
                        )
                    rows.append(cells)
                    lines.append(line)
                line = reader.line_num + 1
        except csv.Error as error:
            raise ValueError(f"{path}, line {reader.line_num}: {error}") from None
        except UnicodeDecodeError:
            raise ValueError(f"{path} is not a text file in UTF-8") from None
    if not header:
        raise ValueError(f"{path} is empty")
    if all(_as_number(cell) is not None for cell in header):
        raise ValueError(f"{path}, line 1: it should name the columns, but holds only numbers; add a header")
    if not rows:
        raise ValueError(f"{path} has a header and no rows")
    if target is None:
        raise ValueError(f"{path}: name the target, one of the columns {', '.join(header)}")
    if header.count(target) > 1:
        raise ValueError(f"{path}, line 1: {header.count(target)} columns are called {target!r}")
    if target not in header:
        raise unknown_name(f"column of {path}:", target, header)
    if len(header) == 1:
        raise ValueError(f"{path} has no column besides the target {target!r}")

    t = header.index(target)
    X = np.empty((len(rows), len(header) - 1))
    y: list[str] = []
    for i, cells in enumerate(rows):
        label = cells.pop(t).strip()
        if not label:
            raise ValueError(f"{path}, line {lines[i]}, column {target!r}: the target is missing")
        y.append(label)
        try:
            X[i] = [_number(cell) for cell in cells]
        except ValueError:
            raise _bad_cell(f"{path}, line {lines[i]}", header[:t] + header[t + 1 :], cells) from None
    return Table(X, _targets(y), tuple(header[:t] + header[t + 1 :]), target)


def _delimiter(header: str) -> str:
    return max(",;\t", key=header.count)


def _number(cell: str) -> float:
    if "_" in cell:  # Python reads 1_000
        raise ValueError
    return float(cell)


def _as_number(cell: str) -> float | None:
    try:
        return _number(cell)
    except ValueError:
        return None


def _bad_cell(place: str, names: Sequence[str], cells: Sequence[str]) -> ValueError:
    name, cell = next((n, c) for n, c in zip(names, cells, strict=True) if _as_number(c) is None)
    if not cell.strip():
        return ValueError(f"{place}, column {name!r}: the cell is empty; fill it or drop the row")
    if _as_number(cell.replace(",", ".", 1)) is not None:
        return ValueError(f"{place}, column {name!r}: {cell!r} has a decimal comma; write a point")
    return ValueError(f"{place}, column {name!r}: {cell!r} is not a number; drop the column or encode it")


def _targets(labels: list[str]) -> NDArray[Any]:
    if any("_" in label for label in labels):
        return np.array(labels)
    for kind in (int, float):
        try:
            return np.array([kind(label) for label in labels], np.int64 if kind is int else np.float64)
        except (ValueError, OverflowError):
            pass
    return np.array(labels)


def _load_npz(path: str, target: str) -> Table:
    from zipfile import BadZipFile  # a slow import that only this needs

    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
            arrays = list(file.files)
            others = [a for a in arrays if a != target]
            name = "X" if "X" in others else others[0] if len(others) == 1 else None
            wanted = {a: file[a] for a in (name, target) if a in arrays}
    except (ValueError, BadZipFile, zlib.error, EOFError) as error:
        raise ValueError(f"{path} is not an NPZ file of plain arrays: {error}") from None
    if target not in wanted:
        raise unknown_name(f"array of {path}:", target, arrays)
    if name is None:
        raise ValueError(
            f"{path}: an array 'X' beside {target!r} is missing; found {', '.join(others) or 'none'}"
        )
    X, y = wanted[name], wanted[target]
    if X.dtype.kind not in "biuf" or y.dtype.kind not in "biufU":
        raise ValueError(
            f"{path}: features must be numbers and targets numbers or strings, not {X.dtype} and {y.dtype}"
        )
    if X.size == 0 or y.ndim == 0 or X.ndim == 0:
        raise ValueError(f"{path}: there is nothing to learn from {name} {X.shape} and {target} {y.shape}")
    if len(X) != len(y):
        raise ValueError(f"{path}: {name} has {len(X)} rows, {target} has {len(y)}; they must agree")
    X = np.ascontiguousarray(X.reshape(len(X), -1), np.float64)
    return Table(X, y, tuple(f"{name}[{i}]" for i in range(X.shape[1])), target)
