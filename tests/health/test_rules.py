"""Every rule fires on its sickness and is silent on what only looks like it."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from gradcore import Dense, Dropout, Network, kernels, mlp
from gradcore.datasets import load_digits
from gradcore.diagnosis.diagnose import diagnose
from gradcore.health import rules
from gradcore.health.evidence import Books
from gradcore.health.loss_curve import classify
from gradcore.health.rules import (
    dead_units,
    loss_diverging,
    loss_oscillating,
    loss_stalled,
    saturated_activations,
)
from gradcore.health.rules.dead_units import fair_coin_bound

DIGITS = load_digits()
X, Y = DIGITS.X_train[:600], DIGITS.y_train[:600]


def kinds(net, X=X, y=Y, **arguments):
    return [fault.kind for fault in diagnose(net, X, y, **arguments).faults]


def deep(depth, activation="relu", width=64, **arguments):
    return mlp([64, *depth * [width], 10], activation=activation, seed=0, **arguments)


def test_every_rule_has_a_reason():
    assert len(rules.all_rules()) >= 12
    for rule in rules.all_rules():
        assert len(rule.__doc__.split()) > 15, rule.__module__


# -- silent on healthy networks


@pytest.mark.parametrize("activation", ["tanh", "relu", "selu"])
@pytest.mark.parametrize(("width", "depth"), [(32, 2), (32, 12), (64, 6), (128, 12), (256, 4)])
def test_silent_on_healthy_networks(activation, width, depth):
    for seed in range(3):
        assert kinds(mlp([64, *depth * [width], 10], activation=activation, seed=seed), seed=seed) == []


@pytest.mark.parametrize("activation", ["gelu", "elu", "leaky_relu"])
def test_silent_on_other_activations(activation):
    assert kinds(deep(12, activation)) == []


@pytest.mark.parametrize("arguments", [{"norm": "batch"}, {"residual": True}, {"dropout": 0.3}], ids=str)
def test_silent_on_healthy_blocks(arguments):
    assert kinds(deep(8, **arguments)) == []


def test_silent_on_he_relu_30_deep():
    for seed in range(5):
        assert kinds(mlp([64, *30 * [64], 10], seed=seed)) == []


def test_silent_on_zeros_by_design():
    net = deep(3)
    net.set_parameters({"6.weight": np.zeros((10, 64))})
    assert kinds(net, steps=60) == []
    diagnosis = diagnose(net, X, Y)
    assert diagnosis.healthy
    # what one step makes of the layer that hides the others is what counts
    assert diagnosis.evidence.begun is not None
    assert diagnosis.chance > 0.9


def test_silent_on_one_class():
    assert kinds(deep(3), X[Y == 3], Y[Y == 3]) == []


def test_silent_on_a_trained_network():
    net = deep(3)
    net.fit(X, Y, epochs=40, seed=0, progress=False)
    assert kinds(net, steps=60) == []


def test_silent_on_one_row_and_tiny_data():
    assert kinds(deep(2), X[:1], Y[:1]) == []
    assert kinds(deep(2), X[:3], Y[:3], steps=50, batch_size=1) == []


def test_silent_on_slow_but_healthy_training():
    assert kinds(deep(3), optimizer="adam(1e-4)", steps=60) == []
    assert kinds(deep(3), optimizer="sgd(0.01, momentum=0.9)", steps=60) == []


def test_a_rate_that_gets_nowhere():
    fault = diagnose(deep(3), X, Y, optimizer="adam(1e-6)").faults[0]
    assert (fault.kind, fault.causes) == ("update_ratio_too_small", ("learning_rate",))


def test_labels_without_signal():
    fault = diagnose(deep(2), X, np.random.default_rng(0).permutation(Y)).faults[0]
    assert (fault.kind, fault.severity, fault.causes) == ("invalid_data", "serious", ("no_signal_in_data",))


# -- the sicknesses


def test_vanishing_in_a_sigmoid_stack():
    diagnosis = diagnose(deep(30, "sigmoid"), X, Y)
    fault = diagnosis.faults[0]
    assert fault.kind == "vanishing_gradient"
    assert fault.causes == ("activation",)
    assert fault.ops[0] == "dense 1"
    assert fault.evidence["ratio"] > 1e6
    assert fault.evidence["largest_usable_gradient"] < fault.evidence["bound"]


def test_vanishing_in_both_dtypes_and_with_plain_steps():
    assert kinds(deep(30, "sigmoid", dtype="float64"))[0] == "vanishing_gradient"
    assert kinds(deep(8, "sigmoid"), optimizer="sgd(0.1)")[0] == "vanishing_gradient"
    assert kinds(deep(3, "sigmoid"), optimizer="adam(0.001)") == []


def test_vanishing_from_tiny_weights_although_weight_gradients_are_level():
    diagnosis = diagnose(deep(12, "relu", init="normal(0.01)"), X, Y)
    assert diagnosis.faults[0].kind == "vanishing_gradient"
    assert diagnosis.faults[0].causes == ("initial_weights",)
    gradient = np.log10(diagnosis.books.layers.gradient)
    assert abs(gradient[0] - gradient[-2]) < 2


@pytest.mark.parametrize("optimizer", ["adam", "sgd(0.01)"])
def test_exploding_from_weights_ten_times_too_large(optimizer):
    net = deep(10)
    net.set_parameters({n: 10 * v for n, v in net.get_parameters().items() if n.endswith("weight")})
    diagnosis = diagnose(net, X, Y, optimizer=optimizer)
    assert diagnosis.faults[0].kind == "exploding_gradient"
    assert diagnosis.faults[0].causes == ("initial_weights",)


def test_overflow_is_located_at_its_birth():
    net = deep(10, "exponential", init="he_normal")
    fault = diagnose(net, X, Y).faults[0]
    assert fault.kind == "overflow"
    assert fault.causes == ("activation",)
    records = net.ledger(X, Y).records["output"]
    first = next(i for i in range(len(net.plan.names)) if records["infs"][i] or records["nans"][i])
    assert fault.ops == (net.plan.names[first],)


def test_overflow_in_the_backward_pass():
    layers = [Dense(8, init="normal(1e14)"), "tanh", *(Dense(2, init="normal(1e14)") for _ in range(3))]
    net = Network(layers, input_size=64, seed=0)
    fault = diagnose(net, 1e-30 * X, Y % 2).faults[0]
    assert (fault.kind, fault.evidence["pass"]) == ("overflow", "backward")


def test_weights_that_are_not_finite_are_no_overflow():
    net = deep(4)
    weights = net.get_parameters()["2.weight"]
    weights[3, 5] = np.nan
    net.set_parameters({"2.weight": weights})
    (fault,) = diagnose(net, X, Y).faults
    assert (fault.kind, fault.ops, fault.causes) == ("invalid_data", ("dense 2",), ("invalid_data",))
    assert "layer 2 hold NaN" in str(diagnose(net, X, Y))


@pytest.mark.parametrize("seed", [0, 3, 4])
def test_a_rare_class_is_no_invalid_data(seed):
    data = np.random.default_rng(3).normal(size=(5000, 20))
    diagnosis = diagnose(mlp([20, 32, 32, 2], seed=0), data, (data[:, 0] > 2.5).astype(int), seed=seed)
    assert diagnosis.healthy
    assert diagnosis.evidence.constant_loss > 0, "also where the batch has one class only"


def test_noise_for_targets_lets_no_symptom_in():
    rng = np.random.default_rng(1)
    net = Network([Dense(32), "relu", Dense(2, init="zeros")], input_size=20, seed=0)
    assert kinds(net, rng.normal(size=(600, 20)), rng.integers(0, 2, 600)) == ["invalid_data"]


def test_underflow_of_deltas():
    faults = {fault.kind: fault for fault in diagnose(deep(40, "sigmoid", init="normal(0.01)"), X, Y).faults}
    assert set(faults) == {"vanishing_gradient", "underflow"}
    assert faults["underflow"].ops[0] == "dense 1"


def test_saturated_by_unscaled_inputs():
    # such a network can still train: the symptom is there, and reported only where training is in doubt
    diagnosis = diagnose(deep(3, "tanh"), 255 * X, Y)
    fault = saturated_activations.rule(diagnosis.evidence)
    assert (fault.kind, fault.severity, fault.ops[0]) == ("saturated_activations", "serious", "tanh 1")
    assert diagnosis.healthy


def test_dead_layer_and_dead_units():
    net = deep(2)
    net.set_parameters({"0.bias": np.full(64, -100.0)})
    fault = diagnose(net, X, Y).faults[0]
    assert (fault.kind, fault.severity, fault.causes) == ("dead_units", "fatal", ("initial_weights",))
    assert fault.evidence["largest_share"] == 1
    bias = np.zeros(64)
    bias[:60] = -100
    net.set_parameters({"0.bias": bias})
    fault = dead_units.rule(diagnose(net, X, Y).evidence)
    assert (fault.kind, fault.severity) == ("dead_units", "serious")
    assert fault.evidence["dead"]["relu 1"][0] >= 60


def test_dead_units_are_counted_over_all_the_data():
    # a unit that only one of 600 rows wakes is not dead, though every usual batch says so
    data = np.zeros((600, 64), np.float32)
    data[:, 1] = np.linspace(-1, 1, 600)
    data[599, 0] = 1.0
    weights = np.zeros((8, 64))
    weights[:, 0] = np.arange(1, 9)
    weights[:, 1] = 1e-4
    net = Network([Dense(8, bias_init="constant(-0.5)"), "relu", Dense(2)], input_size=64, seed=0)
    net.set_parameters({"0.weight": weights})
    assert "dead_units" not in kinds(net, data, np.arange(600) % 2)


def test_a_seed_dependent_fault_is_counted():
    fault = diagnose(mlp([2, *15 * [5], 2], init="he_uniform", seed=0), X[:, 20:22], Y % 2, seeds=12).faults[
        0
    ]
    assert fault.kind == "dead_units"
    assert 0 < fault.seeds[0] < fault.seeds[1] == 12
    assert fault.causes == ("narrow_layers",)


def test_fair_coin():
    assert fair_coin_bound(5, 1e-6) == 5
    assert 0.75 < fair_coin_bound(64, 1e-6) / 64 < 0.85
    assert fair_coin_bound(100, 1e-6) <= fair_coin_bound(1000, 1e-6) / 5
    assert fair_coin_bound(999, 1e-6) == pytest.approx(fair_coin_bound(1001, 1e-6), abs=3)


def test_symmetric_weights():
    assert "symmetric_weights" in kinds(deep(2, init="constant(0.01)"))
    broken_by_one_side = Network([Dense(8, init="constant(0.1)"), "tanh", Dense(10)], input_size=64, seed=0)
    assert "symmetric_weights" not in kinds(broken_by_one_side)
    broken_by_dropout = Network(
        [Dense(8, init="constant(0.1)"), "tanh", Dropout(0.5), Dense(10, init="constant(0.1)")],
        input_size=64,
        seed=0,
    )
    assert "symmetric_weights" not in kinds(broken_by_dropout)


def test_softmax_over_one_unit():
    net = Network([Dense(4), "sigmoid", Dense(1), "softmax"], input_size=64, seed=0)
    fault = diagnose(net, X, (Y > 4).astype(float), loss="mse").faults[0]
    assert (fault.kind, fault.causes) == ("constant_output", ("output_loss_pair",))
    assert fault.advice == "linear output"


def test_step_too_large_for_unscaled_targets():
    x = np.arange(0, 5, 0.1)[:, None]
    diagnosis = diagnose(mlp([1, 50, 30, 1], seed=0), x, 5 * x[:, 0] ** 2, optimizer="sgd(0.1)")
    assert diagnosis.faults[0].kind == "update_ratio_too_large"
    # each of them alone is enough
    assert diagnosis.faults[0].causes in (("learning_rate",), ("target_scale",))


# -- the signs in the loss


def test_loss_nan():
    faults = diagnose(deep(4, init="normal(0.5)"), X, Y, optimizer="sgd(1e30)", steps=20).faults
    assert "loss_nan" in [fault.kind for fault in faults]


def test_loss_diverging():
    # the rate just above 2 / largest curvature, where the loss grows a little with every step
    inputs = np.column_stack([X, np.ones(len(X))]).astype(float)
    curvature = 2 * np.linalg.eigvalsh(inputs.T @ inputs / len(X)).max()
    found = kinds(
        Network([Dense(1)], input_size=64, seed=0),
        X,
        Y / 10,
        optimizer=f"sgd({2.05 / curvature})",
        steps=80,
        batch_size=600,
    )
    assert "loss_diverging" in found


def test_loss_stalled_large_and_unchanging():
    found = diagnose(deep(20, "sigmoid", init="normal(0.01)"), X, Y, steps=150).faults
    assert "loss_stalled" in [fault.kind for fault in found]
    assert found[0].kind == "vanishing_gradient"


def test_loss_signs_from_curves():
    def curve(losses):
        return SimpleNamespace(loss_sign=classify(losses, constant_loss=2.3))

    rng = np.random.default_rng(0)
    t = np.arange(400)
    noise = 0.1 * rng.normal(size=400)
    assert loss_oscillating.rule(curve(1.2 + np.sin(t / 30) + noise)).kind == "loss_oscillating"
    assert loss_diverging.rule(curve(2.3 + t / 100 + noise)).kind == "loss_diverging"
    assert loss_stalled.rule(curve(2.3 + 0.02 * noise)).kind == "loss_stalled"
    for rule in (loss_oscillating.rule, loss_diverging.rule, loss_stalled.rule):
        for quiet in (2.3 * np.exp(-t / 100) + noise, 0.01 + 0.001 * noise, 3 * rng.random(30)):
            assert rule(curve(quiet)) is None


def test_codes_used_by_rules_exist():
    assert {"dense", "activation", "batch_norm", "layer_norm", "dropout", "fork", "join"} == set(
        kernels.OP_KINDS
    )


# -- parameters that came in from outside


def with_value(net, name, value, at=0):
    array = net.get_parameters()[name]
    array[at] = value
    net.set_parameters({name: array})
    return net


@pytest.mark.parametrize("level", ["light", "full"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["0.bias", "3.weight", "3.bias", "4.gamma", "4.beta", "6.bias"])
def test_a_parameter_that_is_not_finite_is_named(name, value, level):
    net = with_value(mlp([64, 16, 16, 10], norm="batch", seed=0), name, value)
    diagnosis = diagnose(net, X, Y)
    (fault,) = diagnosis.faults
    layer = 1 + "036".index(name[0].replace("4", "3"))
    assert (fault.kind, fault.causes) == ("invalid_data", ("invalid_data",))
    assert fault.evidence["spoilt_parameters"] == [name]
    assert fault.evidence["spoilt_layers"] == [layer]
    assert f"of layer {layer} hold NaN or infinity ({name})" in " ".join(str(diagnosis).split())
    evidence = replace(diagnosis.evidence, books=Books(net.ledger(X[:64], Y[:64], level=level)))
    assert evidence.spoilt_parameters == (name,)


@pytest.mark.parametrize(
    ("activation", "name", "value", "optimizer"),
    [
        ("relu", "6.bias", 1e4, "adam"),
        ("relu", "6.bias", 1e30, "sgd(0.03)"),
        ("tanh", "6.bias", 1e6, "adam"),
        ("relu", "2.bias", 1e10, "adam"),
        ("relu", "2.bias", 1e30, "sgd(0.03)"),
    ],
)
def test_a_bias_that_drowns_everything_is_named(activation, name, value, optimizer):
    net = with_value(deep(3, activation, width=32), name, value)
    diagnosis = diagnose(net, X, Y, optimizer=optimizer)
    (fault,) = diagnosis.faults
    assert (fault.kind, fault.evidence["spoilt_parameters"]) == ("invalid_data", [name])
    assert "net.copy(seed=" in str(diagnosis)
    net.fit(X, Y, epochs=10, optimizer=optimizer, progress=False, seed=0, on_fault="ignore")
    assert not net.evaluate(X, Y)["loss"] < 2.3, "and it is true"


@pytest.mark.parametrize(
    ("activation", "name", "value"),
    [
        ("tanh", "2.bias", 1e30),
        ("relu", "2.bias", 100.0),
        ("relu", "6.bias", 10.0),
        ("relu", "6.bias", 100.0),
    ],
)
def test_a_large_bias_that_does_no_harm(activation, name, value):
    net = with_value(deep(3, activation, width=32), name, value)
    assert kinds(net) == []
    net.fit(X, Y, epochs=50, progress=False, seed=0)
    assert net.evaluate(X, Y)["loss"] < 0.8 * 2.3, "and it is true"


# -- learning rates


@pytest.fixture
def lucky():
    """A network that happens to be past the constant predictor before any training, and its data."""
    data = np.random.default_rng(0).normal(size=(200, 4))
    net = mlp([4, 16, 2], seed=35)
    labels = (data[:, 0] > 0).astype(int)
    assert diagnose(net, data, labels).evidence.ahead
    return net, data, labels


@pytest.mark.parametrize(
    ("optimizer", "kind"),
    [
        ("sgd(1e6)", "update_ratio_too_large"),
        ("sgd(100)", "update_ratio_too_large"),
        ("adam(1e3)", "loss_stalled"),
    ],
)
def test_luck_does_not_excuse_a_learning_rate(lucky, optimizer, kind):
    fault = diagnose(*lucky, optimizer=optimizer).faults[0]
    assert (fault.kind, fault.causes) == (kind, ("learning_rate",))


@pytest.mark.parametrize("optimizer", ["sgd(1.0)", "sgd(0.001)", "adam(0.001)", "adam(0.1)"])
def test_what_is_known_is_kept_by_sound_rates(lucky, optimizer):
    assert kinds(*lucky, optimizer=optimizer) == []


@pytest.mark.parametrize("optimizer", ["sgd(0)", "adam(0)", "sgd(0, momentum=0.9)"])
@pytest.mark.parametrize("steps", [0, 50])
@pytest.mark.parametrize("net", [deep(2), deep(20, "sigmoid")], ids=["sound", "vanishing"])
def test_no_learning_rate_at_all(net, steps, optimizer):
    diagnosis = diagnose(net, X, Y, optimizer=optimizer, steps=steps)
    (fault,) = diagnosis.faults
    assert (fault.kind, fault.causes) == ("update_ratio_too_small", ("learning_rate",))
    text = str(diagnosis)
    assert "the learning rate is 0" in text
    assert "a learning rate greater than 0" in text
    assert "learning rate ×" not in text
    assert "A learning rate greater than 0." in diagnosis.to_html()


@pytest.mark.parametrize("steps", [0, 200])
@pytest.mark.parametrize(
    ("optimizer", "trains"), [("sgd(0.03)", True), ("sgd(0.01)", True), ("adam(0.001)", False)]
)
def test_a_line_through_large_targets(optimizer, trains, steps, rng):
    inputs = rng.normal(size=(400, 5))
    targets = 2e5 + 1e3 * inputs @ rng.normal(size=5)
    line = Network([Dense(1)], input_size=5, seed=0)
    diagnosis = diagnose(line, inputs, targets, optimizer=optimizer, steps=steps)
    assert diagnosis.healthy is trains
    assert (diagnosis.chance > 0.5) is trains
    line.fit(inputs, targets, optimizer=optimizer, epochs=80, progress=False, seed=0)
    assert (line.evaluate(inputs, targets)["r2"] > 0.2) is trains, "and it is true"
