"""How many threads a run gets: what the caller said, else the process-wide setting, else what the work deserves."""

from __future__ import annotations

import os
import warnings

from gradcore.errors import GradcoreWarning, check_integer, users_level

MOST_THREADS = 1024

# A thread must have this much of one matrix product for itself.  Below, meeting at the barriers after each op can
# cost more than the share saves: 4 layers of 128 units at 32 rows (0.5 MFLOP a product) take three times as long on
# two threads where another job wants the second core, and gain little where none does.
SHARE_FLOP = 1e6

# Where the training itself can try whether a second thread helps, this much of a product is worth the trial: 50 layers
# of 64 units at 32 rows (0.26 MFLOP) gain half again as much speed on an idle machine.
TRIED_SHARE_FLOP = 1e5

_chosen: int | None = None


def set_threads(n: int | str) -> None:
    """Set the number of threads for every fit and stepper that does not say otherwise.

    Parameters
    ----------
    n : int or "auto"
        1 to 1024, or ``"auto"``: as many as the work of one step deserves, at most one per core. The start value
        comes from the environment variable ``GRADCORE_THREADS``. Results are the same bits on any number.

    Raises
    ------
    ValueError, TypeError
        Anything else; the setting is unchanged.

    Examples
    --------
    >>> set_threads(1)
    >>> set_threads("auto")
    """
    global _chosen
    # 0: the caller asked for "auto", which beats the environment
    _chosen = _parse("n", n) or 0


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def resolve_threads(threads: int | str, product_flop: float) -> int:
    """Turn the argument `threads` into a number.

    Parameters
    ----------
    threads : int or "auto"
    product_flop : float
        Floating-point operations of a typical matrix product of one step.
    """
    number = _parse("threads", threads) or _default()
    if number:
        return number
    return max(1, min(cores(), int(min(product_flop / SHARE_FLOP, MOST_THREADS))))


def is_open(threads: int | str) -> bool:
    """Tell whether neither the caller nor the process-wide setting names a number.

    Examples
    --------
    >>> is_open(2)
    False
    """
    return not (_parse("threads", threads) or _default())


def worth_a_try(product_flop: float) -> int:
    """Return the most threads that may help, for work that can find out which number does.

    Examples
    --------
    >>> worth_a_try(1e4)
    1
    """
    return max(1, min(cores(), int(min(product_flop / TRIED_SHARE_FLOP, MOST_THREADS))))


def _parse(name: str, threads: int | str) -> int | None:
    if isinstance(threads, str):
        if threads == "auto":
            return None
        raise ValueError(f"{name} must be an integer or 'auto', got {threads!r}")
    number = check_integer(name, threads, minimum=1)
    if number > MOST_THREADS:
        raise ValueError(f"{name} must be at most {MOST_THREADS}, got {number}")
    return number


def _default() -> int | None:
    if _chosen is not None:
        return _chosen or None
    text = os.environ.get("GRADCORE_THREADS", "auto").strip()
    if text in ("", "auto"):
        return None
    # a wrong setting of the environment must not stop a training run that does not depend on it
    try:
        number = int(text)
    except ValueError:
        number = 0
    if 1 <= number <= MOST_THREADS:
        return number
    warnings.warn(
        f"GRADCORE_THREADS={text!r} is not an integer from 1 to {MOST_THREADS}; using 'auto'",
        GradcoreWarning,
        stacklevel=users_level(),
    )
    return None
