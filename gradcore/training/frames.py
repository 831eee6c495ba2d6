"""Data frames of pandas and polars, told from arrays by what made them: neither library is imported here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Library = Literal["pandas", "polars"]


def library_of(values: Any) -> Library | None:
    """Return which library made a data frame or a column of one; None for anything else."""
    if type(values) is np.ndarray:  # what most data are
        return None
    for base in type(values).__mro__:
        maker = base.__module__.partition(".")[0]
        if base.__name__ in ("DataFrame", "Series") and maker in ("pandas", "polars"):
            return maker  # type: ignore[return-value]
    return None


@dataclass(frozen=True)
class Frame:
    """A data frame, whichever library made it: columns by position, rows and columns by name."""

    frame: Any
    library: Library

    @classmethod
    def of(cls, values: Any) -> Frame | None:
        """Return a data frame (a series: of one column) as such; None for anything else."""
        library = library_of(values)
        if library is None:
            return None
        return cls(values if len(values.shape) == 2 else values.to_frame(), library)

    @property
    def names(self) -> list[Any]:
        """The names of the columns."""
        return list(self.frame.columns)

    def column(self, number: int) -> Any:
        """Return one column as a series."""
        return self.frame.iloc[:, number] if self.library == "pandas" else self.frame.to_series(number)

    def row_named(self, row: int) -> str:
        """Return a row as its label, and its number where that is another."""
        if self.library == "polars":
            return f"row {row}"
        label = self.frame.index[row]
        label = label.item() if isinstance(label, np.generic) else label
        return f"row {label!r}" if label == row else f"row {label!r} (number {row})"

    def matrix(self, name: str, dtype: np.dtype[Any], *, missing: bool) -> Array:
        """Return the columns as a matrix: in the frame's own memory where it lies as one, else a copy in `dtype`.

        Parameters
        ----------
        name : str
            Of the argument, for messages.
        dtype : dtype
            Of the copy.
        missing : bool
            Whether missing values become NaN; else they are refused.

        Raises
        ------
        TypeError
            A column of text, categories, dates; it is named, and what to do.
        ValueError
            A missing value, named by row and column.
        """
        kinds = [self._numeric(name, number) for number in range(len(self.names))]
        if self.library == "pandas" and len(set(kinds)) == 1 and isinstance(kinds[0], np.dtype):
            array: Array = self.frame.to_numpy()
            if array.dtype == kinds[0] and array.dtype.kind != "O":
                return array
        result = np.empty((len(self.frame), len(kinds)), dtype)
        for number, kind in enumerate(kinds):
            column = self.column(number)
            if not isinstance(kind, np.dtype) or kind.kind == "O":
                self._refuse_missing(name, number, allowed=missing)
                column = self._floats(name, number)
            with np.errstate(over="ignore"):
                result[:, number] = column
        return result

    def labels(self, name: str) -> Array:
        """Return what may be targets: numbers as numbers, anything else as objects; a missing value is refused."""
        for number in range(len(self.names)):
            self._refuse_missing(name, number, allowed=False)
        columns = [self._plain(number) for number in range(len(self.names))]
        return columns[0] if len(columns) == 1 else np.column_stack(columns)

    def _plain(self, number: int) -> Array:
        column, kind = self.column(number), self._kind(number)
        if not isinstance(kind, np.dtype) and kind in "biuf":
            # nullable numbers come as objects; without a missing one they are of the dtype they name
            return np.asarray(column.to_numpy().tolist())
        return np.asarray(column)

    def _kind(self, number: int) -> Any:
        """Return the NumPy dtype of a column; of one that NumPy does not know the letter of its kind."""
        dtype = self.column(number).dtype
        if self.library == "pandas":
            return dtype if isinstance(dtype, np.dtype) else getattr(dtype, "kind", "O")
        if str(dtype) == "Boolean":
            return "b"
        return "f" if dtype.is_float() else "i" if dtype.is_integer() else "f" if dtype.is_numeric() else "O"

    def _numeric(self, name: str, number: int) -> Any:
        """Return what `_kind` says of a column of numbers; any other raises."""
        kind, label = self._kind(number), self.names[number]
        letter = kind.kind if isinstance(kind, np.dtype) else kind
        dtype = self.column(number).dtype
        if letter in "biuf" or (letter == "O" and isinstance(kind, np.dtype)):
            return kind
        if letter in "mM" or str(dtype).startswith(("Date", "Time", "Duration")):
            advice = "turn it into numbers, such as days since the first of them"
        elif letter == "c":
            advice = "give real and imaginary part a column each"
        else:
            one_hot = (
                f"pandas.get_dummies({name}, columns=[{label!r}])"
                if self.library == "pandas"
                else f"{name}.to_dummies([{label!r}])"
            )
            advice = f"encode it as numbers, with {one_hot} for example, or drop it"
        raise TypeError(f"{name}: column {label!r} holds no numbers (dtype {dtype}); {advice}")

    def _floats(self, name: str, number: int) -> Array:
        column = self.column(number)
        try:
            if self.library == "polars":
                return np.asarray(column.cast(float).to_numpy())
            return np.asarray(column.to_numpy(dtype=np.float64, na_value=np.nan))
        except (TypeError, ValueError) as error:
            raise TypeError(f"{name}: column {self.names[number]!r} must hold numbers: {error}") from None

    def _refuse_missing(self, name: str, number: int, *, allowed: bool) -> None:
        column = self.column(number)
        missing = np.asarray(column.isna() if self.library == "pandas" else column.is_null(), bool)
        if missing.any() and not allowed:
            row = int(missing.argmax())
            raise ValueError(
                f"{name} has no value at {self.row_named(row)}, column {self.names[number]!r}; "
                "fill or remove such rows"
            )
