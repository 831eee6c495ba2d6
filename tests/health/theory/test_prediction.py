"""Predictions against measured ledgers."""

import json
import math

import numpy as np
import pytest

from gradcore import (
    BatchNorm,
    Dense,
    Dropout,
    LayerNorm,
    Network,
    Residual,
    activations,
    datasets,
    kernels,
    mlp,
    theory,
)
from gradcore.health.theory.prediction import _Walk

RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 64))
Y = np.arange(64) % 10


def averages(make, seeds=4):
    """log10 of predicted and measured (signal, scale, delta) by layer, means over networks."""
    predicted, measured = [], []
    for seed in range(seeds):
        net = make(seed)
        prediction, layers = theory.predict(net, X), net.ledger(X, Y, seed=seed).layers()
        assert prediction.valid.all()
        predicted.append([prediction.signal_log10, prediction.scale_log10, prediction.delta_log10])
        measured.append(
            np.log10([layers.output_signal, layers.output_scale, layers.delta / layers.delta[-1]])
        )
    return np.mean(predicted, axis=0), np.mean(measured, axis=0)


STANDARD = sorted(set(activations.REGISTRY) - {"exponential"})


@pytest.mark.parametrize("name", STANDARD)
def test_wide_networks_do_as_predicted(name):
    predicted, measured = averages(lambda seed: mlp([64, 1024, 1024, 1024, 512], activation=name, seed=seed))
    assert np.abs(10 ** (predicted - measured) - 1).max() < 0.05


def wide(*layers, dtype="float64"):
    return lambda seed: Network([*layers, Dense(512)], input_size=64, dtype=dtype, seed=seed)


@pytest.mark.parametrize(
    "make",
    [
        wide(Dense(1024, bias_init="normal(0.4)"), "tanh", Dense(1024, bias_init="normal(0.4)"), "tanh"),
        wide(Dense(1024, bias_init="constant(0.5)"), "relu", Dense(1024, bias_init="constant(-0.5)"), "relu"),
        wide(Dense(1024), "relu", Dropout(0.3), Dense(1024), "relu", Dropout(0.5)),
        wide(Dense(1024), *(Residual([Dense(1024), "relu"]) for _ in range(2))),
        wide(Dense(1024), *2 * [Residual(["relu", Dense(1024), "tanh", Dense(1024)], scale=0.5)], "tanh"),
        wide(
            Dense(1024),
            Residual(["tanh", Dense(700)], projection=True),
            Residual([Dense(700)], projection="always"),
        ),
        wide(Dense(512, init="orthogonal"), "tanh", Dense(512, init="orthogonal"), "tanh"),
        wide(Dense(1024, init="normal(0.01)"), "gelu", Dense(1024, init="uniform(0.3)"), "sigmoid"),
        wide(
            Dense(1024, init="normal(0.03)"), "exponential", Dense(1024, init="normal(0.01)"), "exponential"
        ),
    ],
    ids=[
        "biases",
        "constant biases",
        "dropout",
        "residual",
        "scaled branch",
        "projection",
        "orthogonal",
        "sizes",
        "exponential",
    ],
)
def test_every_op_does_as_predicted(make):
    predicted, measured = averages(make)
    assert np.abs(10 ** (predicted - measured) - 1).max() < 0.05


@pytest.mark.parametrize("norm", ["batch", "layer"])
@pytest.mark.parametrize("name", ["tanh", "relu", "gelu"])
def test_norms_do_as_predicted(name, norm):
    # labels of ten classes and ten outputs: their deltas have no mean over the batch, which batch norm would remove
    predicted, measured = averages(
        lambda seed: mlp([64, 1024, 1024, 1024, 10], activation=name, norm=norm, seed=seed), seeds=6
    )
    error = np.abs(10 ** (predicted - measured) - 1)
    assert error[:, :-1].max() < 0.05
    assert error[:, -1].max() < 0.15  # ten outputs scatter


def test_gains_are_booked_as_in_the_ledger():
    net = mlp([64, *3 * [512], 10], activation="tanh", residual=True, norm="batch", dropout=0.1, seed=0)
    prediction, ledger = theory.predict(net, X), net.ledger(X, Y)
    flat = [(prediction.entries, ledger.entries)]
    assert prediction.names == tuple(entry.name for entry in ledger.entries)
    for predicted, measured in zip(prediction.entries, ledger.entries, strict=True):
        if predicted.branch:
            flat.append((predicted.branch, measured.branch.entries))
    assert len(flat) == 3
    for predicted, measured in flat:
        for p, m in zip(predicted, measured, strict=True):
            assert (p.op, p.name, p.kind) == (m.op, m.name, m.kind)
            assert p.forward_gain == pytest.approx(m.forward_gain, rel=0.2)
            assert p.scale_ratio == pytest.approx(m.scale_ratio, rel=0.2)
            if not math.isnan(m.backward_gain):  # the ledger has no dL/dX
                assert p.backward_gain == pytest.approx(m.backward_gain, rel=0.2)
    assert prediction.end_to_end_log10 == pytest.approx(ledger.end_to_end_log10, abs=0.1)
    assert prediction.valid.all()


def test_real_images_keep_their_likeness():
    images = datasets.load_digits()
    x, y = images.X_train[:128], images.y_train[:128]
    net = mlp([64, *8 * [512], 10], activation="relu", seed=1)
    prediction, layers = theory.predict(net, x), net.ledger(x, y).layers()
    found = prediction.signal_log10[:-1] - np.log10(layers.output_signal[:-1])
    assert np.abs(found).max() < 0.08  # decades
    blind = theory.predict(net).signal_log10[:-1] - np.log10(layers.output_signal[:-1])
    assert np.abs(blind).max() > 0.3  # unlike rows of variance 1 are not what these are


def test_a_deep_sigmoid_stack_vanishes_as_measured():
    net = mlp([64, *20 * [128], 10], activation="sigmoid", dtype="float64", seed=0)
    prediction, ledger = theory.predict(net, X), net.ledger(X, Y)
    assert prediction.end_to_end_log10 == pytest.approx(ledger.end_to_end_log10, abs=0.3)
    assert prediction.signal_log10[-1] == pytest.approx(
        math.log10(ledger.layers().output_signal[-1]), abs=0.3
    )
    assert prediction.signal_log10[-1] < -11
    assert 0.3 < prediction.depth_scale < 0.4  # 1 / |log chi|, chi = 0.056


def test_narrow_networks_scatter_as_said():
    errors, said = [], 0.0
    for seed in range(60):
        net = mlp([64, *10 * [24], 10], activation="relu", dtype="float64", seed=seed)
        prediction = theory.predict(net, X)
        errors.append(prediction.end_to_end_log10 - net.ledger(X, Y).end_to_end_log10)
        said = prediction.end_to_end_std
    assert 0.4 * said < np.std(errors) < 1.2 * said
    assert prediction.narrowness == pytest.approx(10 / 24)


def test_where_the_dtype_ends():
    def growing(depth, std):
        layers = [layer for _ in range(depth) for layer in (Dense(64, init=f"normal({std})"), "relu")]
        return Network([*layers, Dense(10)], input_size=64, seed=0)

    # each layer multiplies by std √(64 / 2)
    prediction = theory.predict(growing(60, 3.0), X)
    gain = math.log10(3 * math.sqrt(32))
    assert prediction.overflow_layer == pytest.approx(38.5 / gain, abs=1.5)
    assert prediction.underflow_layer is None
    outputs = growing(60, 3.0).ledger(X, Y).layers().z_scale
    first = int(np.flatnonzero(~(outputs < np.finfo(np.float32).max))[0])
    assert abs(first - prediction.overflow_layer) <= 1

    shallow = theory.predict(growing(12, 3.0), X)
    assert shallow.overflow_layer is None
    assert shallow.overflow_depth == pytest.approx(38.5 / gain, abs=2.5)
    assert shallow.underflow_depth == math.inf

    fading = theory.predict(growing(60, 1e-3), X)
    assert fading.underflow_layer is not None
    assert fading.overflow_depth == math.inf
    assert fading.underflow_depth == pytest.approx(38 / -math.log10(1e-3 * math.sqrt(32)), abs=2.5)


@pytest.mark.parametrize(
    "layers",
    [
        [Dense(64, init="identity"), "relu"],
        [Dense(64, init="constant(0.1)"), "tanh"],
        [Dense(64, init="uniform(0, 0.2)"), "sigmoid"],
        [Dense(64), Residual(["tanh"])],
        [Dense(64), "relu", "tanh"],
        [Dense(64, init="normal(1.0)"), "exponential", Dense(64, init="normal(1.0)"), "exponential"],
    ],
    ids=["identity", "constant", "positive", "branch without weights", "two activations", "exponential"],
)
def test_what_is_outside_the_theory_is_said_to_be(layers):
    net = Network([*layers, Dense(64)], input_size=64, seed=0)
    prediction = theory.predict(net, X)
    assert not prediction.valid.all()
    assert "outside the theory" in str(prediction)


def test_positive_weights_carry_the_mean_forward():
    net = mlp([64, 256, 256, 10], activation="tanh", init="uniform(0, 0.02)", dtype="float64", seed=0)
    prediction, layers = theory.predict(net, X), net.ledger(X, Y).layers()
    assert np.abs(prediction.signal_log10 - np.log10(layers.output_signal)).max() < 0.05
    assert np.abs(prediction.scale_log10 - np.log10(layers.output_scale)).max() < 0.05


def test_scales_far_from_one():
    net = mlp([64, 128, 128, 10], activation="relu", dtype="float64", seed=0)
    reference = theory.predict(net, X)
    for factor in (1e-200, 1e-30, 1e30, 1e200):
        scaled = theory.predict(net, factor * X)
        assert scaled.signal_log10 == pytest.approx(reference.signal_log10 + math.log10(factor), abs=1e-9)
        assert scaled.delta_log10 == pytest.approx(reference.delta_log10, abs=1e-9)


def test_one_row_and_equal_rows_have_no_signal():
    net = mlp([64, 128, 10], activation="tanh", seed=0)
    for rows in (X[:1], np.zeros((4, 64))):
        prediction = theory.predict(net, rows)
        assert (prediction.signal_log10 == -math.inf).all()
        assert np.isnan(prediction.forward_gain).all()
    assert (theory.predict(net, np.repeat(X[:1], 5, axis=0)).signal_log10 < -15).all()
    assert np.isfinite(theory.predict(net, X[:1]).backward_gain).all()


def test_softmax_and_prediction_as_plain_data():
    net = Network([Dense(32), "relu", Dense(10), "softmax"], input_size=64, seed=0)
    prediction = theory.predict(net)
    assert not prediction.valid[-1]
    plain = json.loads(json.dumps(prediction.to_dict()))
    assert plain["dtype"] == "float32"
    assert [entry["name"] for entry in plain["entries"]] == list(prediction.names)
    assert len(plain["delta_log10"]) == 2


def test_every_kind_of_op_has_its_theory():
    missing = [kind for kind in kernels.OP_KINDS if not hasattr(_Walk, f"_{kind}")]
    assert missing == ["fork", "join"]  # which the walk itself takes


def test_spread_of_a_linear_chain():
    net = Network([Dense(40), Dense(50), Dense(60)], input_size=64, dtype="float64", seed=0)
    # two products of matrices with 50 and 40 columns
    assert theory.predict(net).end_to_end_std == pytest.approx(
        0.5 * math.sqrt(2 / 50 + 2 / 40) / math.log(10)
    )


def test_batch_norm_of_huge_numbers():
    net = mlp([64, 128, 128, 10], activation="tanh", norm="batch", dtype="float64", seed=0)
    huge, usual = theory.predict(net, 1e180 * X), theory.predict(net, 1e3 * X)
    assert huge.delta_log10 == pytest.approx(usual.delta_log10 - np.array([177, 0, 0]), abs=1e-6)


def test_random_networks_on_real_images():
    images, rng, errors = datasets.load_digits(), np.random.default_rng(3), []
    x, y = images.X_train[:100], images.y_train[:100]
    for seed in range(60):
        net = mlp(
            [64, *int(rng.integers(1, 31)) * [int(rng.choice([8, 16, 32, 64, 128]))], 10],
            activation=str(rng.choice(STANDARD)),
            init=str(rng.choice(["auto", "normal(0.01)", "normal(0.2)", "he_uniform", "uniform(0.5)"])),
            norm=rng.choice([None, "batch"]),
            residual=bool(rng.random() < 0.25),
            dropout=float(rng.choice([0, 0.2])),
            dtype="float64",
            seed=seed,
        )
        ledger = net.ledger(x, y)
        errors.append(abs(theory.predict(net, x).end_to_end_log10 - ledger.end_to_end_log10))
    assert np.median(errors) < 0.1  # decades
    assert np.quantile(errors, 0.9) < 0.8


def test_no_network_is_too_odd():
    # warnings are errors here
    rng = np.random.default_rng(5)
    inits = ["auto", "normal(1e-30)", "normal(1e20)", "zeros", "ones", "identity", "uniform(0, 1)"]
    biases = ["zeros", "normal(0.5)", "constant(100)", "constant(-100)"]

    def layers(depth, width):
        for _ in range(rng.integers(1, 5)):
            dense = Dense(width, init=str(rng.choice(inits)), bias_init=str(rng.choice(biases)))
            inner = (
                [Residual(layers(depth + 1, width), scale=float(rng.choice([0, -0.5, 1e10])))]
                if depth < 2
                else []
            )
            choices = [
                dense,
                str(rng.choice(sorted(activations.REGISTRY))),
                BatchNorm(),
                LayerNorm(),
                Dropout(0.9),
                *inner,
            ]
            yield choices[rng.integers(len(choices))]

    for seed in range(150):
        width = int(rng.choice([1, 3, 17]))
        net = Network(
            [Dense(width, init="he_normal"), *layers(0, width), Dense(3)],
            input_size=4,
            dtype=str(rng.choice(["float32", "float64"])),
            seed=seed,
        )
        rows = rng.normal(size=(int(rng.choice([1, 2, 20])), 4)) * 10.0 ** rng.integers(-200, 200)
        prediction = theory.predict(net, rows)
        assert len(prediction.delta_log10) == sum(name.startswith("dense") for name in net.plan.names)
        assert str(prediction)


def test_data_that_cannot_be_is_refused():
    net = mlp([64, 8, 2], seed=0)
    with pytest.raises(ValueError, match=r"shape \(rows, 64\)"):
        theory.predict(net, X[:, :3])
    with pytest.raises(ValueError, match="at least one row"):
        theory.predict(net, X[:0])
    with pytest.raises(ValueError, match="NaN or infinity"):
        theory.predict(net, np.full((2, 64), np.nan))


def test_what_is_no_network_and_no_numbers_is_named():
    with pytest.raises(TypeError, match="net must be a Network"):
        theory.predict(3)
    with pytest.raises(TypeError, match="X must hold numbers"):
        theory.predict(mlp([2, 3, 1], seed=0), "data")


@pytest.mark.parametrize("value", [0.0, 1e300, 1e-300, np.nan, np.inf])
@pytest.mark.parametrize("activation", ["sigmoid", "relu", "gelu", "exponential"])
def test_odd_weights_are_outside_the_theory_and_no_error(activation, value):
    net = mlp(
        [4, 8, 8, 2], activation=activation, norm="batch", dropout=0.1, residual=True, dtype="float64", seed=0
    )
    net.set_parameters({"0.weight": np.full((8, 4), value)})
    prediction = theory.predict(net, np.eye(4))
    assert len(prediction.entries) == 6
    assert np.isfinite(value) or not prediction.valid.any()
