"""The trials of a prescription as a matplotlib figure, for papers and slides; the page draws its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcore.diagnosis.words import capital, score_label
from gradcore.figures import new_axes
from gradcore.prescription import words
from gradcore.prescription.comparison import HARMED, HELPED

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from gradcore.prescription.result import Prescription

_COLOURS = {HELPED: "#0a6b4f", HARMED: "#b23c17"}
_MARKS = {HELPED: "^", HARMED: "v"}
_GREY = "#5c5851"

# Rows that can be read in a figure of the usual size.
_SHOWN = 16


def plot_trials(prescription: Prescription, ax: Axes | None = None) -> Axes:
    """Draw a row for each trial, the control first: a mark for each seed, a stroke at the mean.

    The thin line is the interval of the difference, laid around the mean: it proves something where it does not reach
    the control's mean on the same seeds.
    """
    axes = new_axes() if ax is None else ax
    trials = [trial for trial in prescription.trials if trial.results][:_SHOWN]
    for row, trial in enumerate(trials):
        colour = _COLOURS.get(trial.verdict, _GREY)
        axes.plot(
            trial.scores, [row] * len(trial.scores), _MARKS.get(trial.verdict, "o"), color=colour, alpha=0.6,
            markeredgewidth=0, clip_on=False,
        )  # fmt: skip
        axes.plot([trial.mean] * 2, [row - 0.35, row + 0.35], color=colour, linewidth=2)
        if trial.comparison is not None and trial.comparison.pairs > 2:
            # two pairs tell next to nothing: theirs would cross the whole figure
            control = trial.mean - trial.comparison.difference
            ends = [control + end for end in trial.comparison.interval]
            axes.plot(ends, [row + 0.35] * 2, color=colour, linewidth=1, solid_capstyle="butt")
        axes.annotate(
            trial.verdict or "as it is", (1, row), (6, 0), xycoords=("axes fraction", "data"),
            textcoords="offset points", va="center", fontsize="small", color=colour,
        )  # fmt: skip
    axes.axvline(prescription.control.mean, color=_GREY, linestyle=":", linewidth=1)
    axes.set_yticks(range(len(trials)), [trial.name for trial in trials])
    axes.set_ylim(len(trials) - 0.4, -0.6)
    axes.set_xlim(min([0.0, *(score for trial in trials for score in trial.scores)]), 1.0)
    axes.set_xlabel(f"test {score_label(prescription.score)}")
    title = words.headline(prescription)
    axes.set_title(capital(title), fontsize="medium", loc="left")
    return axes
