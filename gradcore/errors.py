"""What gradcore says when something is wrong, and the checks of single arguments that say it."""

from __future__ import annotations

import math
import operator
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, SupportsFloat

_MOST_NAMES = 30


class GradcoreWarning(UserWarning):
    """Something that a user should know and that did not stop the call."""


class FaultError(RuntimeError):
    """Training met a fault and was asked to raise (``on_fault="raise"``).

    Attributes
    ----------
    fault : object
        The fault: what happened, at which step, in which op.
    """

    def __init__(self, message: str, fault: Any = None) -> None:
        super().__init__(message)
        self.fault = fault


def unknown_name(what: str, name: object, known: Iterable[str]) -> ValueError:
    """Make the error for a name that is not in the list, with the nearest ones that are.

    Examples
    --------
    >>> unknown_name("activation", "tnah", ["relu", "selu", "tanh"])
    ValueError("unknown activation 'tnah'; did you mean 'tanh'? Known: relu, selu, tanh")
    """
    import difflib  # costs a tenth of the import of gradcore and is rarely needed

    names = [str(k) for k in known]
    folded = {n.lower(): n for n in names}
    near = [repr(folded[n]) for n in difflib.get_close_matches(str(name).lower(), folded, n=3, cutoff=0.5)]
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    more = f", … ({len(names)} in all)" if len(names) > _MOST_NAMES else ""
    return ValueError(f"unknown {what} {name!r}; {hint}Known: {', '.join(names[:_MOST_NAMES])}{more}")


def check_number(name: str, value: SupportsFloat) -> float:
    """Return `value` as a float that is not NaN; bool, text and arrays are refused."""
    if isinstance(value, (bool, str, bytes)) or getattr(value, "shape", ()) != ():
        raise TypeError(f"{name} must be a number, got {value!r}")
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number, got {value!r}") from None
    except OverflowError:
        raise ValueError(f"{name} is too large for a float: {value!r}") from None
    if math.isnan(number):
        raise ValueError(f"{name} must be a number, got NaN")
    return number


def check_finite(name: str, value: SupportsFloat) -> float:
    """Return `value` as a finite float."""
    number = check_number(name, value)
    if math.isinf(number):
        raise ValueError(f"{name} must be finite, got {number}")
    return number


def check_positive(name: str, value: SupportsFloat) -> float:
    """Return `value` as a finite float above zero."""
    number = check_finite(name, value)
    if number <= 0:
        raise ValueError(f"{name} must be greater than 0, got {number}")
    return number


def check_non_negative(name: str, value: SupportsFloat, *, allow_inf: bool = False) -> float:
    """Return `value` as a float of at least zero; infinity only where it means "no limit"."""
    number = check_number(name, value) if allow_inf else check_finite(name, value)
    if number < 0:
        raise ValueError(f"{name} must be at least 0, got {number}")
    return number


def check_fraction(name: str, value: SupportsFloat) -> float:
    """Return `value` as a float in [0, 1)."""
    number = check_number(name, value)
    if not 0 <= number < 1:
        raise ValueError(f"{name} must be at least 0 and less than 1, got {number}")
    return number


def check_integer(name: str, value: Any, *, minimum: int | None = 1) -> int:
    """Return `value` as an int of at least `minimum`; bool and floats are refused."""
    if isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {value!r}") from None
    if minimum is not None and number < minimum:
        raise ValueError(f"{name} must be at least {minimum}, got {number}")
    return number


def check_flag(name: str, value: Any) -> bool:
    """Return `value`, which must be True or False."""
    if value is not True and value is not False:
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def users_level() -> int:
    """Stack level, as `warnings.warn` counts it, of the line outside of gradcore that the caller was called from."""
    package, frame, level = str(Path(__file__).parent), sys._getframe(1), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith(package):
        frame, level = frame.f_back, level + 1
    return level


def check_path(name: str, value: Any) -> Path:
    """Return `value`, text or a path object, as a path; numbers (open would take them for open files) are refused."""
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError(f"{name} must be the path of a file, such as 'file.json', got {value!r}")
    if not os.fspath(value):
        raise ValueError(f"{name} is empty; write the path of a file, such as 'file.json'")
    return Path(value)
