"""The figure: the curves that the diagnosis has, on one scale of decades."""

import math

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure

from gradcore import mlp
from gradcore.datasets import load_digits
from gradcore.diagnosis.curves import curves
from gradcore.diagnosis.diagnose import diagnose

matplotlib.use("Agg")

DIGITS = load_digits()
X, Y = DIGITS.X_train[:300], DIGITS.y_train[:300]


@pytest.fixture(scope="module")
def sick():
    return diagnose(mlp([64, *20 * [64], 10], activation="sigmoid", init="normal(0.01)", seed=0), X, Y)


@pytest.fixture
def ax():
    return Figure().subplots()


def test_draws_every_curve_into_the_axes_given(sick, ax):
    assert sick.plot(ax) is ax
    lines = {line.get_label(): line for line in ax.get_lines()}
    found = curves(sick)
    assert lines.keys() == {curve.name for curve in found}
    for curve in found:
        drawn = np.asarray(lines[curve.name].get_ydata())
        finite = np.isfinite(curve.log10)
        np.testing.assert_array_equal(drawn[finite], curve.log10[finite])
    assert ax.get_title() == "Vanishing gradient: this network cannot learn (1 of 1 seed)"
    assert {text.get_text() for text in ax.texts} == {"below Adam’s eps 1e-8", "float32 underflow"}


def test_makes_a_figure_of_its_own(sick):
    axes = sick.plot()
    try:
        axes.figure.canvas.draw()
    finally:
        pyplot.close(axes.figure)


def test_zero_lies_on_the_edge(ax):
    diagnose(mlp([64, *200 * [8], 10], activation="sigmoid", seed=0), X, Y).plot(ax)
    gradient = next(line for line in ax.get_lines() if line.get_label() == "gradient, now").get_ydata()
    assert gradient[0] == ax.get_ylim()[0]
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("arguments", [{"activation": "exponential"}, {}])
def test_what_is_no_number_is_left_away(arguments, ax):
    diagnose(mlp([64, *9 * [16], 10], seed=0, **arguments), X, Y, optimizer="sgd(0.1)").plot(ax)
    assert all(math.isfinite(bound) for bound in ax.get_ylim())
    ax.figure.canvas.draw()


def test_without_matplotlib(sick, without):
    without("matplotlib")
    with pytest.raises(ImportError, match=r"pip install 'gradcore\[plot\]'"):
        sick.plot()
