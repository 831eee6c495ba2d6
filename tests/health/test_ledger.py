"""The ledger: its numbers are those of a plain NumPy pass, and its logs add up."""

import json
import math
import sys

import numpy as np
import pytest

from gradcore import BatchNorm, Dense, Dropout, LayerNorm, Network, Probe, Residual, activations, mlp
from gradcore.health.ledger import Fold


@pytest.fixture
def batch(rng):
    X = rng.normal(size=(40, 6))
    return X, rng.integers(0, 3, size=40)


def forward_backward(net, X, y):
    """Activations and deltas of a plain stack of dense layers and tanh, in NumPy."""
    p = net.get_parameters()
    weights = [p[name] for name in p if name.endswith("weight")]
    biases = [p[name] for name in p if name.endswith("bias")]
    a, zs, inputs = X, [], []
    for i, (w, b) in enumerate(zip(weights, biases, strict=True)):
        inputs.append(a)
        zs.append(a @ w.T + b)
        a = np.tanh(zs[-1]) if i < len(weights) - 1 else zs[-1]
    e = np.exp(a - a.max(axis=1, keepdims=True))
    delta = e / e.sum(axis=1, keepdims=True)
    delta[np.arange(len(y)), y] -= 1
    deltas = [delta / len(y)]
    for w, z in zip(weights[:0:-1], zs[-2::-1], strict=True):
        deltas.insert(0, deltas[0] @ w * (1 - np.tanh(z) ** 2))
    return inputs, zs, deltas


def test_numbers_are_those_of_numpy(batch):
    X, y = batch
    net = mlp([6, 8, 5, 3], activation="tanh", dtype="float64", seed=1)
    ledger = net.ledger(X, y)
    inputs, zs, deltas = forward_backward(net, X, y)
    dense = [entry for entry in ledger.entries if entry.kind == "dense"]
    for entry, a, z, delta in zip(dense, inputs, zs, deltas, strict=True):

        def signal(x):
            return math.sqrt(np.mean((x - x.mean(axis=0)) ** 2))

        assert entry.output.norm == pytest.approx(np.linalg.norm(z), rel=1e-12)
        assert entry.output.signal == pytest.approx(signal(z), rel=1e-10)
        assert entry.d_output.norm == pytest.approx(np.linalg.norm(delta), rel=1e-12)
        assert entry.forward_gain == pytest.approx(signal(z) / signal(a), rel=1e-10)
        assert entry.scale_ratio == pytest.approx(math.sqrt(np.mean(z**2) / np.mean(a**2)), rel=1e-12)
        assert entry.weight_gradient.norm == pytest.approx(np.linalg.norm(delta.T @ a), rel=1e-12)
        assert entry.bias_gradient == pytest.approx(np.linalg.norm(delta.sum(axis=0)), rel=1e-12)
    assert ledger.end_to_end_log10 == pytest.approx(
        math.log10(np.linalg.norm(deltas[0]) / np.linalg.norm(deltas[-1])), abs=1e-12
    )


LAYERS = {
    "plain": [Dense(8), "sigmoid", Dense(8), "relu", Dense(3)],
    "norm": [Dense(8), BatchNorm(), "relu", Dense(7), BatchNorm(), "tanh", Dense(3)],
    "dropout": [Dense(8), "relu", Dropout(0.4), Dense(8), "relu", Dropout(0.4), Dense(3)],
    "residual": [
        Dense(8),
        "relu",
        Residual([Dense(8), "tanh", Dense(8)]),
        Residual([Dense(8), "relu"], 0.5),
        Dense(3),
    ],
    "nested": [Dense(8), "tanh", Residual([Dense(8), "relu", Residual([Dense(8), "tanh"])]), Dense(3)],
    "norm first": [BatchNorm(), Dense(8), "tanh", Dense(3)],
    "layer norm": [LayerNorm(), Dense(8), LayerNorm(), "relu", Dense(7), LayerNorm(), "tanh", Dense(3)],
}


@pytest.mark.parametrize("level", ["light", "full"])
@pytest.mark.parametrize("layers", LAYERS.values(), ids=LAYERS)
def test_logs_add_up(batch, layers, level):
    X, y = batch
    net = Network(layers, input_size=6, dtype="float64", seed=2)
    ledger = net.ledger(X, y, level=level)
    first = next(i for i, entry in enumerate(ledger.entries) if entry.kind == "dense")
    expected = math.log10(ledger.entries[first].d_output.norm / ledger.entries[-1].d_output.norm)
    assert ledger.end_to_end_log10 == pytest.approx(expected, abs=1e-9)
    assert sum(ledger.split().values()) == pytest.approx(ledger.end_to_end_log10, abs=1e-9)
    logs = [math.log10(entry.backward_gain) for entry in ledger.entries[first + 1 :]]
    assert math.fsum(logs) == pytest.approx(ledger.end_to_end_log10, abs=1e-9)
    assert sum(ledger.chain_counts().values()) == len(logs)


def test_light_and_full_agree(batch):
    X, y = batch
    net = Network(LAYERS["nested"], input_size=6, dtype="float64", seed=2)
    light, full = net.ledger(X, y, level="light"), net.ledger(X, y, level="full")
    assert light.end_to_end_log10 == pytest.approx(full.end_to_end_log10, abs=1e-9)
    for a, b in zip(light.entries, full.entries, strict=True):
        assert a.output.norm == pytest.approx(b.output.norm, rel=1e-9)
        assert a.output.signal == pytest.approx(b.output.signal, rel=1e-6)


def test_residual_is_one_entry_with_a_nested_ledger(batch):
    X, y = batch
    net = Network(
        [Dense(8), "relu", Residual([Dense(8), "tanh"]), Dense(3)], input_size=6, dtype="float64", seed=3
    )
    ledger = net.ledger(X, y)
    assert [entry.kind for entry in ledger.entries] == ["dense", "activation", "residual", "dense"]
    block = ledger.entries[2]
    assert [entry.kind for entry in block.branch.entries] == ["dense", "activation"]
    # delta at the input = skip + branch: the law of cosines
    squared = (
        block.skip_norm**2 + block.branch_norm**2 + 2 * block.cosine * block.skip_norm * block.branch_norm
    )
    assert block.d_input.norm == pytest.approx(math.sqrt(squared), rel=1e-9)
    assert block.skip_norm == pytest.approx(block.d_output.norm, rel=1e-12)
    assert block.backward_gain == pytest.approx(block.d_input.norm / block.d_output.norm, rel=1e-12)
    first = block.branch.entries[0]
    assert first.backward_gain == pytest.approx(block.branch_norm / first.d_output.norm, rel=1e-9)


def test_sigmoid_stack_keeps_scale_and_loses_signal(rng):
    net = mlp([8, *20 * [64], 3], activation="sigmoid", init="normal(0.01)", seed=0)
    ledger = net.ledger(rng.normal(size=(64, 8)), rng.integers(0, 3, 64))
    sigmoids = [entry for entry in ledger.entries if entry.kind == "activation"]
    scales = [entry.output.norm / math.sqrt(64 * 64) for entry in sigmoids]
    assert scales == pytest.approx([0.5] * 20, rel=0.05)
    assert not sigmoids[0].lost
    assert all(entry.lost for entry in sigmoids[6:])
    assert "lost" in str(ledger)
    layers = ledger.layers()
    assert layers.lost("float32").tolist()[:20] == [entry.lost for entry in sigmoids]
    assert len(layers) == 21


def test_healthy_relu_books_minus_three_and_plus_three(rng):
    net = mlp([64, *20 * [128], 10], seed=0)
    split = net.ledger(rng.normal(size=(64, 64)), rng.integers(0, 10, 64)).split()
    assert split["activation"] == pytest.approx(-3, abs=0.5)
    assert split["dense"] == pytest.approx(3, abs=0.8)


def test_gain_is_nan_where_a_norm_is_zero(batch):
    X, y = batch
    net = Network([Dense(4), "relu", Dense(3, init="zeros")], input_size=6, seed=0)
    ledger = net.ledger(X, y)
    assert math.isnan(ledger.entries[-1].backward_gain)
    assert math.isnan(ledger.end_to_end_log10)
    json.dumps(ledger.to_dict())
    assert "-" in str(ledger)


def test_signal_of_one_row_is_undefined(batch):
    X, y = batch
    ledger = mlp([6, 4, 3], seed=0).ledger(X[:1], y[:1])
    assert math.isnan(ledger.entries[0].forward_gain)


def test_flat_fraction_counts_inactive_and_saturated(rng):
    X = rng.normal(size=(50, 6))
    net = Network(
        [Dense(8), "relu", Dense(8, init="normal(50)"), "tanh", Dense(2)],
        input_size=6,
        dtype="float64",
        seed=0,
    )
    relu, tanh = (e for e in net.ledger(X, np.arange(50) % 2).entries if e.kind == "activation")
    p = net.get_parameters()
    z = X @ p["0.weight"].T + p["0.bias"]
    assert relu.flat_fraction == pytest.approx(np.mean(z <= 0))
    z = np.maximum(z, 0) @ p["2.weight"].T + p["2.bias"]
    slope = activations.tanh_backward(np.ones_like(z), z)
    assert tanh.flat_fraction == pytest.approx(np.mean(slope < 0.01))
    assert tanh.flat_fraction > 0.5


def test_headroom_in_powers_of_two():
    fold = Fold(1.0, 1.0, 2.0**100, 2.0**-100, 0, 0, 0, 0)
    above, below = fold.headroom("float32")
    assert above == pytest.approx(28, abs=1e-6)
    assert below == pytest.approx(26, abs=1e-6)
    assert all(math.isnan(side) for side in fold._replace(max_abs=0.0, min_abs=0.0).headroom("float32"))


@pytest.mark.parametrize(("dtype", "large", "small"), [("float32", 127, -130), ("float64", 1023, -1050)])
def test_headroom_where_quotients_leave_the_range(dtype, large, small):
    fold = Fold(1.0, 1.0, 2.0**large, 2.0**small, 0, 1, 0, 0)
    above, below = fold.headroom(dtype)
    assert above == pytest.approx(1, abs=1e-6)
    assert below == pytest.approx(small + (126 if dtype == "float32" else 1022), abs=1e-9)
    # the widest room there is
    assert fold._replace(max_abs=2.0**small).headroom(dtype)[0] == pytest.approx(large + 1 - small, abs=1e-6)


def test_headroom_is_shown_where_it_is_small(rng):
    X = rng.normal(size=(30, 4))
    net = Network([Dense(5, init="constant(1e35)"), "tanh", Dense(2)], input_size=4, seed=0)
    ledger = net.ledger(X, np.arange(30) % 2)
    entry = ledger["dense 1"]
    above, _ = entry.headroom()["output"]
    assert above == pytest.approx(math.log2(np.finfo("f4").max) - math.log2(entry.output.max_abs), abs=1e-6)
    assert entry.to_dict()["headroom"]["output"]["overflow"] == above
    assert f"output within 2^{above:.0f} of overflow" in str(ledger)
    small = Network([Dense(5), "tanh", Dense(2, init="normal(1e-32)")], input_size=4, seed=0)
    assert "delta within 2^" in str(small.ledger(X, np.arange(30) % 2))
    healthy = str(mlp([4, 8, 2], activation="tanh", seed=0).ledger(X, np.arange(30) % 2))
    assert "within" not in healthy


def test_entries_by_name(batch):
    net = Network(LAYERS["nested"], input_size=6, dtype="float64", seed=2)
    ledger = net.ledger(*batch)
    assert ledger["dense 1"] is ledger.entries[0]
    assert ledger["tanh 2"] is ledger["residual 2"].branch.entries[1]
    assert ledger["residual 2"] is ledger["residual 1"].branch.entries[2]
    with pytest.raises(KeyError, match="did you mean 'relu 1'"):
        ledger["relu 9"]


def test_rows_and_frame(batch, monkeypatch):
    net = Network(LAYERS["nested"], input_size=6, dtype="float64", seed=2)
    ledger = net.ledger(*batch)
    rows = ledger.to_rows()
    assert [(row["name"], row["depth"], row["parent"]) for row in rows] == [
        ("dense 1", 0, None), ("tanh 1", 0, None), ("residual 1", 0, None), ("dense 2", 1, "residual 1"),
        ("relu 1", 1, "residual 1"), ("residual 2", 1, "residual 1"), ("dense 3", 2, "residual 2"),
        ("tanh 2", 2, "residual 2"), ("dense 4", 0, None),
    ]  # fmt: skip
    assert len({tuple(row) for row in rows}) == 1
    for row in rows:
        entry = ledger[row["name"]]
        assert row["d_output_norm"] == entry.d_output.norm
        assert row["output_to_overflow"] == entry.headroom()["output"][0]
        assert not any(isinstance(value, dict | list) for value in row.values())
    assert rows[2]["branch_end_to_end_log10"] == ledger["residual 1"].branch.end_to_end_log10
    json.dumps(rows)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas"):
        ledger.to_frame()


def test_frame(batch):
    pytest.importorskip("pandas")
    ledger = Network(LAYERS["nested"], input_size=6, dtype="float64", seed=2).ledger(*batch)
    frame = ledger.to_frame().set_index("name")
    assert frame.loc["tanh 2", "parent"] == "residual 2"
    assert frame.loc["tanh 2", "backward_gain"] == ledger["tanh 2"].backward_gain


def test_full_ledger_goes_back_to_the_input(batch):
    X, y = batch
    net = mlp([6, 8, 5, 3], activation="tanh", dtype="float64", seed=1)
    _, _, deltas = forward_backward(net, X, y)
    d_x = np.linalg.norm(deltas[0] @ net.get_parameters()["0.weight"])
    full, light = net.ledger(X, y).entries[0], net.ledger(X, y, level="light").entries[0]
    assert full.backward_gain == pytest.approx(d_x / np.linalg.norm(deltas[0]), rel=1e-12)
    assert math.isnan(light.backward_gain)


def test_update_ratio_of_a_training_step(batch):
    X, y = batch
    net = mlp([6, 8, 3], activation="tanh", seed=0)
    before = net.get_parameters()["0.weight"]
    history = net.fit(
        X, y, epochs=1, batch_size=40, optimizer="sgd(0.1)", probe=Probe(level="full"), seed=0, progress=False
    )
    entry = history.ledgers[0].entries[0]
    step = np.linalg.norm(net.get_parameters()["0.weight"] - before)
    assert entry.update_ratio == pytest.approx(step / np.linalg.norm(before), rel=1e-4)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"every": 0}, ValueError),
        ({"every": 1.5}, TypeError),
        ({"every": True}, TypeError),
        ({"level": "all"}, ValueError),
    ],
)
def test_probe_refuses(arguments, error):
    with pytest.raises(error, match="Probe"):
        Probe(**arguments)


def test_a_mask_chooses_rows_and_exact_is_a_flag(rng):
    net, X, y = mlp([3, 5, 2], seed=0), rng.normal(size=(6, 3)), np.arange(6) % 2
    mask = y == 1
    masked = net.ledger(X, y, rows=mask)
    assert masked.rows == 3
    assert masked.loss == net.ledger(X, y, rows=np.flatnonzero(mask)).loss != net.ledger(X, y).loss
    with pytest.raises(TypeError, match="exact must be True or False"):
        net.ledger(X, y, exact="no")
