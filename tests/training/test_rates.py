import math

import numpy as np
import pytest

import gradcore
from gradcore import Dense, Network, datasets, find_learning_rate, mlp
from gradcore.training.rates import LearningRates


@pytest.fixture(scope="module")
def digits():
    return datasets.load_digits()


def final(net, X, y, optimizer):
    """The loss after ten epochs."""
    return net.fit(X, y, optimizer=optimizer, epochs=10, seed=1, on_fault="ignore").history["loss"][-1]


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "sgd(0.5, momentum=0.9)"])
@pytest.mark.parametrize("norm", [None, "batch"])
def test_the_suggested_rate_trains_the_digits(digits, optimizer, norm):
    def net():
        return mlp([64, 64, 64, 10], norm=norm, seed=0)

    X, y = digits.X_train, digits.y_train
    found = find_learning_rate(net(), X, y, optimizer=optimizer)
    name, momentum = optimizer.partition("(")[0], ", momentum=0.9" * ("momentum" in optimizer)
    losses = [final(net(), X, y, f"{name}({found.suggestion * k!r}{momentum})") for k in (0.03, 1.0, 100)]
    assert losses[1] < 0.2
    assert losses[1] < 0.5 * losses[0]
    assert not losses[1] > losses[2]
    assert found.rates[-1] > 3 * found.minimum


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_the_suggested_rate_trains_where_columns_differ_a_thousandfold(rng, optimizer):
    """Badly conditioned: the curvature of the loss differs by a factor of 10⁶ between directions."""
    scales = np.logspace(0, 3, 10)
    Z = rng.standard_normal((1000, 10))
    X, y = Z * scales, Z.sum(axis=1) > 0
    found = find_learning_rate(mlp([10, 32, 2], seed=0), X, y, optimizer=optimizer, smallest=1e-9)
    start = mlp([10, 32, 2], seed=0).evaluate(X, y)["loss"]
    assert final(mlp([10, 32, 2], seed=0), X, y, f"{optimizer}({found.suggestion!r})") < 0.5 * start
    assert found.suggestion < (0.02 if optimizer == "adam" else 1e-4)


def test_a_line_by_gradient_descent_has_a_known_edge(rng):
    """The mean of squares over whitened columns has curvature 2 in every direction: rates above 2/2 diverge."""
    X = rng.standard_normal((512, 8))
    X = np.linalg.qr(X - X.mean(axis=0))[0] * math.sqrt(512)
    y = X @ rng.standard_normal(8)
    net = Network([Dense(1)], input_size=8, dtype="float64", seed=0)
    found = find_learning_rate(net, X, y, optimizer="sgd", batch_size=512, smallest=1e-4, steps=400)
    assert found.diverged
    grown = found.rates[1:][np.diff(found.losses) > 1e-9]  # (what rounding leaves has to grow first)
    assert 1.0 < grown[0] < 5.0
    assert 0.01 < found.suggestion < 0.5
    assert final(net.copy(), X, y, f"sgd({found.suggestion!r})") < 1e-3 * found.losses[0]


def test_the_network_is_not_changed_and_the_seed_repeats_it(digits):
    net = mlp([64, 32, 10], dropout=0.3, norm="batch", seed=0)
    net.fit(digits.X_train, digits.y_train, epochs=1, seed=0)
    before = net.parameters.copy(), net.state.copy(), net.history, net.learning_rate
    found = [
        find_learning_rate(net, digits.X_train, digits.y_train, seed=seed, threads=threads)
        for seed, threads in ((3, 1), (3, 2), (4, 1))
    ]
    assert np.array_equal(net.parameters, before[0])
    assert np.array_equal(net.state, before[1])
    assert (net.history, net.learning_rate) == before[2:]
    assert found[0].losses.tobytes() == found[1].losses.tobytes() != found[2].losses.tobytes()
    assert found[0].suggestion == found[1].suggestion


def test_rates_grow_by_one_factor_and_losses_are_those_of_a_fit_at_them(digits):
    X, y = digits.X_train, digits.y_train
    net = mlp([64, 32, 10], seed=0)
    found = find_learning_rate(net, X, y, smallest=1e-5, largest=1e-2, steps=70)
    assert not found.diverged
    assert found.rates == pytest.approx(np.geomspace(1e-5, 1e-2, 70), rel=1e-12)
    schedule = gradcore.schedules.Exponential(1e3, step_size=69)
    history = net.fit(X, y, optimizer="adam(1e-5)", schedule=schedule, epochs=3, seed=0)
    assert found.losses.tolist() == history.curve.values[:70].tolist()


def test_a_network_that_cannot_learn_gets_no_suggestion(digits):
    net = mlp([64] + [64] * 10 + [10], activation="sigmoid", init="normal(0.01)", seed=0)
    found = find_learning_rate(net, digits.X_train, digits.y_train)
    assert found.rule == "none"
    assert math.isnan(found.suggestion)
    assert "no suggestion, the loss did not fall" in repr(found)


def test_steps_that_are_not_finite_end_it(rng):
    X = rng.standard_normal((100, 3))
    net = Network([Dense(16), "exponential", Dense(1)], input_size=3, seed=0)
    found = find_learning_rate(net, X, X[:, 0], optimizer="sgd", largest=1e6)
    assert found.diverged
    assert len(found.rates) == len(found.losses) == len(found.smoothed) < 200
    assert np.isfinite(found.suggestion)


def test_where_even_the_smallest_rate_is_too_large_it_says_so(rng):
    X = rng.standard_normal((100, 3)) * 1e3
    found = find_learning_rate(Network([Dense(1)], input_size=3, seed=0), X, X[:, 0], optimizer="sgd")
    assert found.diverged
    assert found.rule == "none"
    assert "give a smaller `smallest`" in repr(found)


@pytest.mark.parametrize(
    ("steepest", "minimum", "suggestion", "rule"),
    [
        (0.2, 1.0, 0.2, "steepest"),
        (0.02, 1.0, 0.1, "minimum / 10"),
        (0.9, 3.0, 0.9, "steepest"),
        (0.9, 1.5, 0.5, "minimum / 3"),
        (math.nan, math.nan, math.nan, "none"),
    ],
)
def test_which_rate_is_suggested(steepest, minimum, suggestion, rule):
    found = LearningRates(np.ones(3), np.ones(3), np.ones(3), steepest, minimum, False)
    assert found.suggestion == pytest.approx(suggestion, nan_ok=True)
    assert found.rule == rule
    assert rule in repr(found) or rule == "none"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 19}, "steps must be at least 20"),
        ({"steps": 10**4}, "steps must be below 8192"),
        ({"smallest": 0}, "smallest"),
        ({"smallest": 1.0, "largest": 0.1}, "smallest must be below largest"),
        ({"optimizer": "adma"}, "did you mean 'adam'"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_settings_are_checked(digits, settings, message):
    with pytest.raises(ValueError, match=message):
        find_learning_rate(mlp([64, 10], seed=0), digits.X_train, digits.y_train, **settings)


def test_it_plots(digits):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    found = find_learning_rate(mlp([64, 32, 10], seed=0), digits.X_train, digits.y_train)
    _, axes = pyplot.subplots()
    assert found.plot(ax=axes) is axes
    assert axes.get_xscale() == "log"
    lines = {line.get_label(): line for line in axes.get_lines()}
    assert lines[f"suggestion {found.suggestion:.3g}"].get_xdata()[0] == found.suggestion
    np.testing.assert_array_equal(lines["smoothed"].get_ydata(), found.smoothed)
    pyplot.close("all")
