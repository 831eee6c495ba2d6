"""Diagnose: the main job, its promises and its arguments."""

import copy
import json
import pickle

import numpy as np
import pytest

from gradcore import Dense, Network, mlp
from gradcore.datasets import load_digits
from gradcore.diagnosis.diagnose import SCHEMA, SCHEMA_VERSION, diagnose
from gradcore.diagnosis.observe import Batch, observe
from gradcore.losses import resolve

DIGITS = load_digits()
X, Y = DIGITS.X_train, DIGITS.y_train


def sick(**arguments):
    return mlp([64, *20 * [64], 10], activation="sigmoid", init="normal(0.01)", seed=0, **arguments)


@pytest.fixture(scope="module")
def diagnosis():
    return diagnose(sick(), X, Y, seeds=3)


def test_the_main_job(diagnosis):
    fault = diagnosis.faults[0]
    assert not diagnosis.healthy
    assert fault.kind == "vanishing_gradient"
    assert fault.severity == "fatal"
    assert fault.seeds == (3, 3)
    assert fault.causes == ("initial_weights", "activation")
    assert fault.evidence["starved_layers"] == list(range(1, 18))
    assert fault.evidence["first_lost_layer"] == 4
    assert fault.evidence["split"]["dense"] == pytest.approx(-22, abs=0.5)
    assert fault.evidence["split"]["activation"] == pytest.approx(-12, abs=0.2)
    assert diagnosis.best.change.causes == fault.causes
    assert diagnosis.best.chance > 0.8 > 0.1 > diagnosis.chance
    assert "learning rate" in fault.avoid


def test_single_changes_are_not_enough_and_joint_ones_are(diagnosis):
    outcomes = {outcome.name: outcome for outcome in diagnosis.what_if}
    for name in ("tanh only", "relu only", "Glorot only", "learning rate ×10"):
        assert not outcomes[name].trains, name
    for name in ("tanh + Glorot", "relu + He", "selu + LeCun", "batch norm", "residual blocks"):
        assert outcomes[name].trains, name
    assert outcomes["Glorot only"].gradient == pytest.approx(-12.6, abs=0.5)
    assert outcomes["tanh + Glorot"].gradient == pytest.approx(-0.4, abs=0.3)


def test_the_network_and_the_data_are_never_changed():
    net, data = sick(), X.copy()
    before = net.get_parameters()
    data.flags.writeable = False
    diagnose(net, data, Y, steps=30, seeds=2)
    after = net.get_parameters()
    assert all((before[name] == after[name]).all() for name in before)
    assert net.history is None


def test_same_seed_same_diagnosis():
    a, b = (diagnose(sick(), X, Y, steps=20, seed=3).to_dict() for _ in range(2))
    for result in (a, b):
        result.pop("milliseconds")
        result["what_if"].pop("milliseconds")
    assert json.dumps(a, default=str) == json.dumps(b, default=str)


def test_json_is_strict_and_versioned(diagnosis, tmp_path):
    path = tmp_path / "diagnosis.json"
    text = diagnosis.to_json(path)
    content = json.loads(text, parse_constant=lambda constant: pytest.fail(constant))
    assert json.loads(path.read_text(encoding="utf-8")) == content
    assert (content["schema"], content["version"]) == (SCHEMA, SCHEMA_VERSION)
    assert content["faults"][0]["causes"] == ["initial_weights", "activation"]
    assert len(content["ledger"]["entries"]) == 41


def test_string_labels_regression_and_binary():
    names = np.array([f"digit {label}" for label in Y])
    assert diagnose(sick(), X, names).faults[0].kind == "vanishing_gradient"
    assert diagnose(mlp([64, 32, 1], seed=0), X, Y / 10).loss == "mse"
    assert diagnose(mlp([64, 32, 1], seed=0), X, Y > 4).loss == "binary_cross_entropy"


def test_trace_of_real_steps():
    diagnosis = diagnose(mlp([64, 32, 10], seed=0), X, Y, steps=100)
    assert diagnosis.healthy
    assert len(diagnosis.trace.losses) == 100
    assert diagnosis.trace.losses[-10:].mean() < 0.7 * diagnosis.trace.losses[:5].mean()
    assert diagnose(mlp([64, 32, 10], seed=0), X, Y).trace is None


def test_no_steps_are_the_real_ones_of_fit():
    # the first steps watched are those that fit would make with the same seed, order apart: same loss level
    net = mlp([64, 32, 10], seed=0)
    trace = diagnose(net, X, Y, steps=45, batch_size=32).trace
    history = net.fit(X, Y, epochs=1, batch_size=32, seed=0, progress=False)
    assert trace.losses.mean() == pytest.approx(history.history["loss"][0], rel=0.1)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"steps": -1}, ValueError, "steps"),
        ({"steps": 1.5}, TypeError, "steps"),
        ({"seeds": 0}, ValueError, "seeds"),
        ({"batch_size": 0}, ValueError, "batch_size"),
        ({"optimizer": "adamm"}, ValueError, "adam"),
        ({"optimizer": 3}, TypeError, r"SGD\(0.1\) as the optimizer, got 3"),
        ({"loss": None}, TypeError, "loss.*cross_entropy.*got None"),
        ({"loss": "mes"}, ValueError, "mse"),
        ({"seed": -1}, ValueError, "seed"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        diagnose(mlp([64, 8, 10], seed=0), X, Y, **arguments)


def test_what_is_missing_is_named():
    net = mlp([64, 8, 10], seed=0)
    for wrong, message in (
        ((net, X, None), "y is None"),
        ((net, None, Y), "X is None"),
        ((3, X, Y), "net must be"),
    ):
        with pytest.raises(TypeError, match=message):
            diagnose(*wrong)


def test_reports_go_to_paths_only(diagnosis):
    for write in (diagnosis.to_json, diagnosis.to_html):
        with pytest.raises(TypeError, match=r"path .*, got 3"):
            write(3)
        with pytest.raises(ValueError, match="empty"):
            write("")


@pytest.mark.parametrize(
    "copied", [lambda d: pickle.loads(pickle.dumps(d)), copy.deepcopy], ids=["pickle", "deepcopy"]
)
@pytest.mark.parametrize("read", [True, False], ids=["read", "unread"])
@pytest.mark.parametrize("arguments", [{}, {"steps": 40}, {"seeds": 2}], ids=str)
def test_a_copy_says_the_same(copied, read, arguments):
    original = diagnose(sick(), X, Y, **arguments)
    if read:
        str(original)
    again = copied(original)
    # what is still to be found out is found out from the copy's own networks and data
    (a, b) = (d.to_dict() for d in (again, original))
    for result in (a, b):
        result["what_if"].pop("milliseconds")
    assert json.dumps(a, default=str) == json.dumps(b, default=str)
    assert str(again) == str(original)
    assert again.evidence.measures == original.evidence.measures


def test_bad_data_is_named_by_row_and_column():
    bad = X[:50].copy()
    bad[7, 3] = np.nan
    with pytest.raises(ValueError, match=r"row 7, column 3"):
        diagnose(mlp([64, 8, 10], seed=0), bad, Y[:50])


@pytest.mark.parametrize("spec", ["cross_entropy", "binary_cross_entropy", "mse", "mse(reduction='sum')"])
def test_constant_loss_is_that_of_the_best_constant(spec, rng):
    outputs = 3 if spec == "cross_entropy" else 1
    loss = resolve(spec)
    targets = rng.integers(0, 3, 40) if outputs == 3 else rng.random((40, 1))
    batch = Batch(np.zeros((40, 2)), targets, loss)
    net = Network([Dense(outputs, init="zeros")], input_size=2, dtype="float64", seed=0)
    y, optimizer = targets if outputs == 3 else targets[:, 0], "sgd(0.01)" if "sum" in spec else "sgd(0.5)"
    net.fit(batch.X, y, loss=spec, optimizer=optimizer, epochs=800, batch_size=40, progress=False, seed=0)
    assert batch.constant_loss == pytest.approx(observe(net, batch).ledger.loss, rel=1e-4)


@pytest.mark.parametrize("use_bias", [True, False])
def test_usable_gradient_is_the_centred_one(use_bias, rng):
    inputs, labels = rng.normal(size=(30, 4)) + 5, rng.integers(0, 3, 30)
    net = Network(
        [Dense(6, use_bias=use_bias), "tanh", Dense(3, use_bias=use_bias)],
        input_size=4,
        dtype="float64",
        seed=0,
    )
    books = observe(net, Batch(inputs, labels, resolve("cross_entropy")))
    p = net.get_parameters()
    a = np.tanh(inputs @ p["0.weight"].T)
    logits = a @ p["2.weight"].T
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    delta = (probabilities - np.eye(3)[labels]) / 30
    exact = np.sqrt(np.mean(((a - a.mean(axis=0)).T @ delta) ** 2))
    if use_bias:
        assert books.usable[1] == pytest.approx(exact, rel=1e-9)
    else:
        assert books.usable[1] > 0


def test_rows_that_are_all_the_same():
    fault = diagnose(mlp([6, 8, 3], seed=0), np.zeros((40, 6)), np.arange(40) % 3).faults[0]
    assert fault.causes == ("no_signal_in_data",)


def test_batch_norm_needs_two_rows():
    net = mlp([64, 8, 10], norm="batch", seed=0)
    with pytest.raises(ValueError, match="batch norm"):
        diagnose(net, X[:1], Y[:1])
    with pytest.raises(ValueError, match="batch norm"):
        diagnose(net, X, Y, steps=5, batch_size=1)


def test_three_hundred_layers():
    diagnosis = diagnose(
        mlp([64, *300 * [4], 10], activation="tanh", init="normal(0.1)", seed=0), X[:50], Y[:50]
    )
    assert diagnosis.faults[0].kind == "vanishing_gradient"
    assert max(map(len, str(diagnosis).split("\n"))) <= 80


@pytest.mark.parametrize(
    "loss", ["mae", "huber(delta=0.5)", "quantile(q=0.9)", "poisson", "gaussian_nll",
             "cross_entropy(label_smoothing=0.2)", "cross_entropy", "binary_cross_entropy"],
)  # fmt: skip
def test_every_loss_is_judged_from_its_least(loss, rng):
    """A sound network is healthy and a vanishing one is found, also where losses are negative or never reach zero."""
    X = rng.normal(size=(200, 6))
    y = {
        "poisson": rng.poisson(np.exp(X[:, 0])).astype(float),
        "cross_entropy(label_smoothing=0.2)": (X[:, 0] > 0).astype(int),
        "cross_entropy": np.stack([X[:, 0] > 0, X[:, 0] <= 0], 1) * 0.8 + 0.1,
        "binary_cross_entropy": (X[:, :2] > 0).astype(int),
    }.get(loss, 0.1 * X[:, 0])
    outputs = 1 if y.ndim == 1 and y.dtype.kind == "f" and loss != "gaussian_nll" else 2
    sound = mlp([6, 32, 32, outputs], activation="tanh", seed=0)
    assert diagnose(sound, X, y, loss=loss).faults == ()
    sick = mlp([6, *[32] * 15, outputs], activation="sigmoid", init="normal(0.01)", seed=0)
    found = diagnose(sick, X, y, loss=loss, steps=20 if loss == "gaussian_nll" else 0)
    assert found.faults[0].kind == "vanishing_gradient"
    if found.trace is not None:
        assert found.trace.counted[1] == pytest.approx(0.5)


def test_counts_are_not_standardised(rng):
    """They would not be counts any more."""
    X, y = rng.normal(size=(60, 3)), rng.poisson(500.0, 60).astype(float)
    outcomes = diagnose(mlp([3, 8, 1], seed=0), X, y, loss="poisson").what_if.outcomes
    assert outcomes
    assert not any(outcome.change.standardise_targets for outcome in outcomes)


@pytest.mark.parametrize("loss", ["mae", "huber", "quantile", "poisson"])
def test_targets_out_of_reach_of_the_output_activation(loss, rng):
    X, y = rng.normal(size=(60, 3)), 100 + rng.normal(size=60)
    bounded = mlp([3, 8, 1], seed=0)
    net = bounded.rebuilt([*bounded.layers, "sigmoid"])
    assert diagnose(net, X, y, loss=loss).faults[0].evidence["output"] == "sigmoid 1"
    near = rng.uniform(1, np.e, 60) if loss == "poisson" else rng.random(60)
    assert not any("output" in fault.evidence for fault in diagnose(net, X, near, loss=loss).faults)
