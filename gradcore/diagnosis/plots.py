"""The curves of a diagnosis as a matplotlib figure, for papers and slides; the page draws its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradcore.diagnosis.curves import bands, curves
from gradcore.diagnosis.words import headline, healthy_headline, seeds
from gradcore.figures import new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from gradcore.diagnosis.diagnose import Diagnosis

_COLOURS = {"now": "#b23c17", "changed": "#0a6b4f", "predicted": "#5c5851"}
_WIDTHS = {"gradient": 2.4, "signal": 1.2}


def plot_curves(diagnosis: Diagnosis, ax: Axes | None = None) -> Axes:
    """Draw gradient and signal over the layers, on a scale of decades.

    What is zero lies on the lower edge; what is no number, and a signal that is only rounding, is left away.
    """
    axes = new_axes() if ax is None else ax
    from matplotlib.ticker import MaxNLocator

    found = curves(diagnosis)
    values = np.concatenate([curve.log10 for curve in found])
    values = values[np.isfinite(values)]
    below = [band for band in bands(diagnosis) if len(values) and values.min() < band.log10 + 9]
    low, high = min([*values, *(band.log10 for band in below), -3.0]), max([*values, 0.0])
    low, high = low - 0.08 * (high - low), high + 0.08 * (high - low)
    for curve in found:
        # another depth is drawn over the same width
        layers = np.linspace(1, len(diagnosis.books.layers), len(curve.log10))
        axes.plot(
            layers, np.where(np.isneginf(curve.log10), low, curve.log10), label=curve.name,
            color=_COLOURS[curve.of], linewidth=_WIDTHS[curve.what],
            linestyle=(0, (4, 3)) if curve.of == "predicted" else "-",
            marker="." if len(curve.log10) <= 30 and curve.of != "predicted" else None,
        )  # fmt: skip
    for band in below:
        axes.axhspan(low, band.log10, color=_COLOURS["now"], alpha=0.07, linewidth=0, zorder=0)
        axes.annotate(
            band.name, (1, band.log10), (-4, -3), xycoords=("axes fraction", "data"), textcoords="offset points",
            ha="right", va="top", fontsize="small", color=_COLOURS["predicted"],
        )  # fmt: skip
    axes.set_ylim(low, high)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter(lambda decades, _: f"$10^{{{decades:.0f}}}$")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("layer")
    axes.set_title(_title(diagnosis))
    axes.legend(frameon=False, fontsize="small", ncols=2)
    return axes


def _title(diagnosis: Diagnosis) -> str:
    if diagnosis.healthy:
        return f"Healthy: {healthy_headline(diagnosis)}"
    first = diagnosis.faults[0]
    return f"{first.title.capitalize()}: {headline(first)} ({seeds(first.seeds)})"
