"""The figure: every trial with its seeds, told apart by mark and word."""

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure

matplotlib.use("Agg")


def test_draws_the_scores_of_every_trial(prescriptions):
    found = prescriptions["cured"]
    axes = Figure().subplots()
    assert found.plot(axes) is axes
    trials = [trial for trial in found.trials if trial.results]
    marks = [line for line in axes.get_lines() if line.get_linestyle() == "None"]
    for line, trial in zip(marks, trials, strict=True):
        np.testing.assert_array_equal(line.get_xdata(), trial.scores)
        assert line.get_marker() == {"helped": "^", "harmed": "v"}.get(trial.verdict, "o")
    assert [text.get_text() for text in axes.get_yticklabels()] == [trial.name for trial in trials]
    assert {text.get_text() for text in axes.texts} == {trial.verdict or "as it is" for trial in trials}
    assert found.best.name[1:] in axes.get_title(loc="left")


def test_intervals_lie_around_the_mean_where_there_are_more_than_two_pairs(prescriptions):
    found = prescriptions["cured"]
    axes = Figure().subplots()
    found.plot(axes)
    drawn = [
        line for line in axes.get_lines() if line.get_linewidth() == 1 and len(set(line.get_ydata())) == 1
    ]
    trials = [trial for trial in found.trials if trial.comparison and trial.comparison.pairs > 2]
    assert len(trials) > 2
    assert any(trial.comparison and trial.comparison.pairs == 2 for trial in found.trials)
    for line, trial in zip(drawn, trials, strict=True):
        low, high = trial.comparison.interval
        np.testing.assert_allclose(
            np.subtract(line.get_xdata(), trial.mean - trial.comparison.difference), [low, high]
        )


@pytest.mark.parametrize("name", ["healthy", "hopeless", "regression", "budget", "harmed"])
def test_makes_a_figure_of_its_own(prescriptions, name):
    axes = prescriptions[name].plot()
    try:
        axes.figure.canvas.draw()
    finally:
        pyplot.close(axes.figure)


def test_without_matplotlib_it_says_what_to_install(prescriptions, without):
    without("matplotlib")
    with pytest.raises(ImportError, match=r"gradcore\[plot\]"):
        prescriptions["cured"].plot()
