"""A figure to draw into, for everything that plots; matplotlib is imported when something is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def new_axes() -> Axes:
    """Return the axes of a new figure.

    Raises
    ------
    ImportError
        matplotlib is not installed.
    """
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError("plot needs matplotlib: pip install 'gradcore[plot]'") from error
    _, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    return axes
