import copy
import pickle

import numpy as np
import pytest

from gradcore import datasets, mlp
from gradcore.health.loss_curve import SIGNS, LossCurve, classify, constant_loss, least_loss, windows
from gradcore.losses import resolve

C = 2.3
STEPS = np.arange(400)


def noises(rng, n):
    """Mini-batch noise of mean 1: normal, heavy-tailed, correlated from step to step, of a batch of one."""
    walk = rng.standard_normal(n)
    for i in range(1, n):
        walk[i] += 0.6 * walk[i - 1]
    yield 1 + 0.15 * rng.standard_normal(n)
    yield np.exp(0.5 * rng.standard_normal(n) - 0.125)
    yield 1 + 0.1 * walk
    yield rng.gamma(4, 1 / 4, n)


CURVES = {
    "falling": [C * np.exp(-STEPS / 300), C - 0.8 * C * STEPS / 400, 1e4 * np.exp(-STEPS / 200)],
    "stalled": [np.full(400, C), C + 20 * np.exp(-STEPS / 20), np.full(400, 5 * C)],
    "converged": [0.02 + C * np.exp(-STEPS / 30), np.full(400, 0.3 * C)],
    "diverging": [C * np.exp(STEPS / 100), 0.5 * C + 3 * C * (STEPS / 400) ** 2],
    "oscillating": [
        0.4 * C + C * (np.sin(STEPS / 25) > 0),
        C * np.exp(-STEPS / 60) + 1.2 * C * ((STEPS > 200) & (STEPS < 280)),
    ],
}


@pytest.mark.parametrize(
    ("expected", "curve"), [(sign, curve) for sign, curves in CURVES.items() for curve in curves]
)
def test_noise_does_not_hide_the_sign(expected, curve, rng):
    """Of 4 kinds of noise in 50 draws each, next to none is read wrongly, and "undecided" is not wrong."""
    assert classify(curve, constant_loss=C) == expected
    found = [
        classify(curve * noise, constant_loss=C, horizon=400)
        for _ in range(50)
        for noise in noises(rng, len(curve))
    ]
    right = sum(sign == expected for sign in found)
    assert len(found) - right - found.count("undecided") <= 2
    assert right >= 50


@pytest.mark.parametrize("n", [64, 400, 5000])
def test_false_alarms_are_rare(n, rng):
    """Of 480 healthy noisy curves hardly one is called sick."""
    t = np.arange(n) / n
    healthy = (C * np.exp(-2 * t), 0.05 + C * np.exp(-20 * t), C / (1 + 8 * t))
    found = [classify(h * e, constant_loss=C) for _ in range(40) for e in noises(rng, n) for h in healthy]
    assert sum(sign in ("nan", "diverging", "oscillating", "stalled") for sign in found) <= 1


def test_windows_are_whole_epochs_where_there_are_enough(rng):
    """The rows of an epoch are the same ones: noise that sums to zero over an epoch leaves the windows' means."""
    epoch = rng.standard_normal(10)
    losses = np.tile(epoch - epoch.mean(), 27)
    means, _ = windows(losses, 8, 10)
    np.testing.assert_allclose(means, 0, atol=1e-12)
    assert np.abs(windows(losses, 8)[0]).max() > 0.01


def test_nan_is_said_first_and_counted():
    losses = np.ones(100)
    losses[[40, 60]] = np.nan, np.inf
    sign = classify(losses, constant_loss=1.0)
    assert (sign, sign.evidence["first_step"], sign.evidence["not_finite"]) == ("nan", 41, 2)


def test_too_short_or_too_noisy_to_tell(rng):
    assert classify(np.ones(39), constant_loss=1.0) == "undecided"
    assert classify([], constant_loss=1.0) == "undecided"
    assert classify(rng.gamma(0.05, 20, 60), constant_loss=1.0) == "undecided"


def test_a_slow_start_is_no_stall(rng):
    """Fast enough to train within the horizon, too slow to show in a few steps: that is not known yet."""
    slow = C * (1 - 0.3 * np.arange(60) / 1000)
    signs = [classify(slow * (1 + 0.03 * rng.standard_normal(60)), constant_loss=C) for _ in range(200)]
    assert signs.count("stalled") <= 1
    assert classify(slow[:1].repeat(60), constant_loss=C) == "stalled"


def test_targets_all_alike_have_the_scale_of_the_start():
    assert classify(np.geomspace(1, 1e-9, 200), constant_loss=0.0) == "converged"
    assert classify(np.ones(200), constant_loss=0.0) == "stalled"


@pytest.mark.parametrize(
    ("losses", "constant", "message"),
    [(np.ones((4, 2)), 1.0, "one number per step"), ([], -1, "-1"), ([], np.nan, "nan")],
)
def test_wrong_arguments_are_refused(losses, constant, message):
    with pytest.raises(ValueError, match=message):
        classify(losses, constant_loss=constant)


def test_a_sign_is_a_text_that_carries_its_numbers():
    sign = classify(np.geomspace(2, 0.1, 100), constant_loss=2.0)
    assert sign in SIGNS
    for other in (copy.copy(sign), copy.deepcopy(sign), pickle.loads(pickle.dumps(sign))):
        assert (other, other.evidence) == (sign, sign.evidence)


TABLE = np.array([[1.0, 0.0], [3.0, 1.0], [4.0, 0.5], [4.5, 9.0]])


@pytest.mark.parametrize("weights", [None, np.array([1.0, 0.0, 2.0, 1.5])])
@pytest.mark.parametrize(
    ("name", "targets", "outputs"),
    [
        ("cross_entropy", np.array([0, 1, 1, 2]), 3),
        ("cross_entropy(label_smoothing=0.3)", np.array([0, 1, 1, 2]), 4),
        ("cross_entropy", np.array([[0.2, 0.8], [1.0, 0.0], [0.5, 0.5], [0.9, 0.1]]), 2),
        ("binary_cross_entropy", np.array([[0.0], [1.0], [1.0], [1.0]]), 1),
        ("mse", TABLE, 2),
        ("mae", TABLE, 2),
        ("huber(delta=0.8)", TABLE, 2),
        ("poisson", TABLE, 2),
        ("quantile(q=0.7)", TABLE, 2),
        ("gaussian_nll", TABLE, 4),
    ],
)
def test_the_constant_loss_is_the_least_of_all_constants(name, targets, outputs, weights):
    """Found by training a network that sees nothing."""
    net = mlp([1, outputs], dtype="float64", seed=0)
    history = net.fit(
        np.zeros((len(targets), 1)), targets, loss=name, sample_weight=weights, optimizer="adam(0.03)", batch_size=4,
        epochs=3000, seed=0, schedule="cosine",
    )  # fmt: skip
    known = constant_loss(name, targets, weights=weights, outputs=outputs)
    assert history.history["loss"][-1] == pytest.approx(known, abs=1e-3)
    assert history.constant_loss == known
    assert history.least_loss < known
    count = 4.0 if weights is None else weights.sum()
    whole = constant_loss(name, targets, weights=weights, outputs=outputs, reduction="sum")
    assert whole == pytest.approx(known * count * (1 if "cross_entropy" in name else 2))


@pytest.mark.parametrize(
    ("name", "targets", "outputs", "best"),
    [
        ("poisson", np.array([[1.0], [0.0], [5.0]]), 1, lambda t: np.log(np.maximum(t, 1e-9))),
        ("cross_entropy(label_smoothing=0.2)", np.array([0, 2]), 3,
         lambda t: np.log(0.8 * np.eye(3)[t] + 0.2 / 3)),
        ("cross_entropy", np.array([[0.2, 0.8], [0.5, 0.5]]), 2, np.log),
    ],
)  # fmt: skip
def test_the_least_loss_is_that_of_the_best_outputs(name, targets, outputs, best):
    least = least_loss(name, targets, outputs=outputs)
    assert least == pytest.approx(resolve(name).value(best(targets), targets), abs=1e-7)
    whole = least_loss(name, targets, outputs=outputs, reduction="sum")
    assert whole == pytest.approx(least * len(targets))


def test_a_loss_below_zero_is_judged_as_any_other(rng):
    """The same training in other units is the same training; its likelihood is another number."""
    X = rng.standard_normal((200, 3))
    signs = []
    for scale in (1e-2, 1.0):
        net = mlp([3, 2], dtype="float64", seed=0)
        history = net.fit(
            X, scale * X[:, 0], loss="gaussian_nll", optimizer="adam(0.03)", epochs=30, batch_size=20, seed=0
        )
        signs.append(history.loss_sign)
        assert np.isfinite(history.constant_loss)
    assert signs == ["falling", "falling"]


def test_nothing_that_counts_costs_nothing():
    assert constant_loss("mse", np.ones((2, 1)), weights=np.zeros(2)) == 0
    assert least_loss("poisson", np.ones((2, 1)), weights=np.zeros(2)) == 0


def test_a_curve_of_any_length_keeps_its_means(rng):
    losses = rng.standard_normal(100_000)
    curve, at = LossCurve(), 0
    while at < len(losses):
        size = int(rng.integers(1, 3000))
        curve.extend(losses[at : at + size])
        at += size
    assert curve.block == 16
    whole = len(curve.values) * 16
    np.testing.assert_allclose(curve.values, losses[:whole].reshape(-1, 16).mean(axis=1), atol=1e-12)
    assert len(losses) - whole < 16


X, Y, _, _ = datasets.load_digits()


@pytest.mark.parametrize(
    ("expected", "layers", "settings"),
    [
        ("converged", {}, {"epochs": 60}),
        ("falling", {}, {"epochs": 2, "optimizer": "sgd(0.03)"}),
        ("stalled", {"sizes": [64, *[32] * 12, 10], "activation": "sigmoid", "init": "normal(0.01)"}, {"epochs": 5}),
        ("stalled", {}, {"epochs": 15, "optimizer": "sgd(1e-7)"}),
        ("falling", {}, {"epochs": 15, "optimizer": "adam(1e-5)"}),
    ],
)  # fmt: skip
def test_real_trainings(expected, layers, settings):
    for seed in range(3):
        net = mlp(**{"sizes": [64, 32, 10]} | layers, seed=seed)
        history = net.fit(X, Y, seed=seed, **settings)
        assert history.loss_sign == expected
        assert f"loss {expected}" in repr(history)
        assert history.constant_loss == pytest.approx(np.log(10), abs=0.01)


def test_a_real_divergence(rng):
    """A line fitted at a rate beyond 2 over the largest curvature: every step overshoots further."""
    history = mlp([5, 1], seed=0).fit(
        rng.standard_normal((200, 5)), rng.standard_normal(200), optimizer="sgd(1.2)", epochs=10, seed=0
    )
    assert history.loss_sign == "diverging"
    assert np.isfinite(history.curve.values).all()


@pytest.mark.parametrize("steps", [0, 3, 8191, 8192, 20_001])
def test_a_curve_goes_on_from_its_parts(steps, rng):
    losses = rng.standard_normal(40_000)
    whole, part = LossCurve(), LossCurve()
    whole.extend(losses)
    part.extend(losses[:steps])
    later = LossCurve.restored(*part.parts)
    assert later.steps == part.steps == steps
    later.extend(losses[steps:])
    assert later.parts[0] == whole.parts[0]
    assert later.values.tobytes() == whole.values.tobytes()
    assert later.parts[2].tobytes() == whole.parts[2].tobytes()


@pytest.mark.parametrize(
    "parts", [(0, [], []), (3, [], []), (2, [], [0.0, 1.0]), (1, [0.0] * LossCurve.LIMIT, [])]
)
def test_parts_that_no_curve_has_are_refused(parts):
    with pytest.raises(ValueError, match="no curve has"):
        LossCurve.restored(parts[0], np.array(parts[1]), np.array(parts[2]))
