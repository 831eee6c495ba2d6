"""Gradients against differences of the function itself, element by element and with their sign.

Central differences of fourth order in float64,

    f'(x) = (f(x-2h) - 8 f(x-h) + 8 f(x+h) - f(x+2h)) / 12h + O(h^4),

with a fixed step and fixed tolerances: a tolerance that follows the data hides what it should find. The function
must be smooth within two steps of x: keep inputs away from the kinks of relu and its family.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

STEP = 1e-3
RELATIVE, ABSOLUTE = 1e-7, 1e-9

Array = NDArray[np.float64]


def numeric_gradient(function: Callable[[Array], float], x: Array, *, step: float = STEP) -> Array:
    """Differences of a scalar function along every element of x."""
    gradient = np.empty(x.shape)
    for index in np.ndindex(x.shape):
        moved = x.copy()

        def at(steps: int, moved: Array = moved, index: tuple[int, ...] = index) -> float:
            moved[index] = x[index] + steps * step
            return function(moved)

        gradient[index] = (at(-2) - 8 * at(-1) + 8 * at(1) - at(2)) / (12 * step)
    return gradient


def check_gradient(
    function: Callable[[Array], float],
    x: NDArray[Any],
    gradient: NDArray[Any],
    *,
    name: str = "gradient",
    step: float = STEP,
) -> None:
    """Raise AssertionError, naming the worst element, unless `gradient` is that of `function` at x."""
    for given, what in ((x, "x"), (gradient, name)):
        if given.dtype != np.float64:
            raise TypeError(f"{what} is {given.dtype}; differences tell nothing below float64")
    if gradient.shape != x.shape:
        raise AssertionError(f"{name} has shape {gradient.shape}, x has {x.shape}")
    numeric = numeric_gradient(function, x, step=step)
    excess = np.abs(gradient - numeric) - (ABSOLUTE + RELATIVE * np.abs(numeric))
    if not (excess <= 0).all():
        worst = np.unravel_index(int(np.argmax(np.where(np.isnan(excess), np.inf, excess))), x.shape)
        place = tuple(int(i) for i in worst)
        raise AssertionError(
            f"{name}{list(place)} is {gradient[worst]!r}, differences say {numeric[worst]!r}"
        )
