"""Dead units and the books unit by unit, against plain NumPy."""

import json
import math

import numpy as np
import pytest
from slow_books import SlowBooks

from gradcore import BatchNorm, Dense, Dropout, Network, Residual, activations, mlp
from gradcore.activations import REGISTRY

LAYERS = [
    Dense(7),
    BatchNorm(),
    "relu",
    Dropout(0.3),
    Residual(["tanh", Dense(7, use_bias=False), "sigmoid", Residual([Dense(7), "relu"])], 0.5),
    Dense(3),
]


def walk(nodes):
    for node in nodes:
        yield node
        yield from walk(node.inside)


@pytest.fixture
def batch(rng):
    return rng.normal(size=(40, 6)), rng.integers(0, 3, size=40)


@pytest.mark.parametrize("rows", [40, 2])
def test_every_op_is_that_of_numpy(batch, dtype, rows):
    X, y = batch[0].astype(dtype), batch[1]
    net = Network(LAYERS, input_size=6, dtype=dtype, seed=3)
    X, y = X[:rows], y[:rows]
    tolerance = {"rel": 1e-9, "abs": 1e-13} if dtype == "float64" else {"rel": 2e-3, "abs": 1e-5}
    without = Network(
        [Dropout(0) if layer == Dropout(0.3) else layer for layer in LAYERS], input_size=6, seed=3
    )
    undropped = {node.op: node for node in walk(SlowBooks(without, X, y).nodes)}
    source = None
    for node in walk(SlowBooks(net, X, y).nodes):
        name = net.plan.names[node.op]
        units = net.unit_ledger(X, y, name)
        assert (units.op, units.name, units.rows, len(units)) == (node.op, name, rows, node.y.shape[1])
        assert units.mean == pytest.approx(node.y.mean(axis=0), **tolerance)
        assert units.scale == pytest.approx(np.sqrt((node.y**2).mean(axis=0)), **tolerance)
        assert units.signal == pytest.approx(node.y.std(axis=0), **tolerance)
        assert units.delta == pytest.approx(np.sqrt((node.d_y**2).mean(axis=0)), **tolerance)
        if node.kind == "dense":
            source = np.sqrt(sum((g.reshape(len(g), -1) ** 2).sum(axis=1) for g in node.gradients))
        elif node.kind == "residual" or name == "tanh 1":
            # between it and a dense op a block begins or ends
            source = np.full(len(units), np.nan)
        assert units.gradient == pytest.approx(source, nan_ok=True, **tolerance)
        if node.kind == "activation":
            largest = 0.25 if node.layer.info.name == "sigmoid" else 1.0
            assert units.flat_fraction == pytest.approx((np.abs(node.slope) < 0.01 * largest).mean(axis=0))
            slope = np.abs(undropped[node.op].slope)
            assert units.dead.tolist() == (slope <= np.finfo(dtype).eps * largest).all(axis=0).tolist()
        else:
            assert np.isnan(units.flat_fraction).all()
            assert units.dead is None


def test_only_the_asked_rows_make_the_batch_and_all_the_data_say_dead(batch):
    X, y = batch
    X = np.abs(X)
    X[-1] *= -1
    net = Network([Dense(4, init="constant(-1)"), "relu", Dense(3)], input_size=6, seed=0)
    units = net.unit_ledger(X, y, "relu 1", rows=range(39))
    assert units.rows == 39
    assert units.flat_fraction.tolist() == [1.0] * 4
    assert not units.dead.any()
    assert net.unit_ledger(X[:39], y[:39], "relu 1").dead.all()


def test_dropout_repeats_by_seed(batch):
    X, y = batch
    net = Network(LAYERS, input_size=6, seed=3)
    first, again, other = (net.unit_ledger(X, y, "dropout 1", seed=s).scale for s in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()
    ledger = net.ledger(X, y, seed=1)
    assert math.sqrt((first**2).mean() * 40 * 7) == pytest.approx(ledger["dropout 1"].output.norm, rel=1e-5)


def test_one_row_and_extreme_numbers():
    net = Network(
        [Dense(3, init="constant(1e200)"), Dense(1, init="constant(1e-250)")], input_size=2, dtype="float64"
    )
    units = net.unit_ledger([[1e50, 1e50]], [0.0], "dense 1")
    assert units.scale == pytest.approx([2e250] * 3, rel=1e-12)
    assert units.mean == pytest.approx([2e250] * 3, rel=1e-12)
    assert np.isnan(units.signal).all()
    # delta of the output is 2 · 6, that of a hidden unit that times 1e-250
    assert units.delta == pytest.approx([12e-250] * 3, rel=1e-12)
    assert units.gradient == pytest.approx([math.sqrt(2) * 12e-200] * 3, rel=1e-12)


def test_dict_and_table(batch):
    X, y = batch
    net = mlp([6, 50, 3], seed=0)
    units = net.unit_ledger(X, y, "relu 1")
    as_dict = units.to_dict()
    json.dumps(as_dict)
    assert as_dict["mean"] == units.mean.tolist()
    text = str(units)
    assert "10 more units" in text
    assert f"{int(units.dead.sum())} dead" in text
    assert "more units" not in str(net.unit_ledger(X, y, "dense 2"))


def test_names_and_rows_are_checked(batch):
    X, y = batch
    net = Network(LAYERS, input_size=6, seed=3)
    with pytest.raises(ValueError, match="unknown op 'relu 7'; did you mean 'relu"):
        net.unit_ledger(X, y, "relu 7")
    with pytest.raises(ValueError, match="unknown op 'fork 1'"):
        net.unit_ledger(X, y, "fork 1")
    with pytest.raises(ValueError, match="rows must be indices"):
        net.unit_ledger(X, y, "relu 1", rows=[40])
    with pytest.raises(ValueError, match="empty"):
        net.dead_units(np.empty((0, 6)))


# -- dead over all the data


@pytest.mark.parametrize("name", REGISTRY)
def test_dead_units_of_every_activation(name, dtype, rng):
    X = rng.normal(size=(2500, 4)) / 2
    net = Network(
        [Dense(33, init="normal(4)", bias_init="normal(60)"), name, Dense(2)],
        input_size=4,
        dtype=dtype,
        seed=1,
    )
    p = net.get_parameters()
    z = X.astype(dtype) @ p["0.weight"].T + p["0.bias"]
    slope = np.abs(getattr(activations, f"{name}_backward")(np.ones_like(z), z))
    largest = REGISTRY[name].max_slope
    bound = 0 if math.isinf(largest) else np.finfo(dtype).eps * largest
    dead = net.dead_units(X)
    assert list(dead) == [f"{name} 1"]
    assert dead[f"{name} 1"].tolist() == (slope <= bound).all(axis=0).tolist()
    if name in ("relu", "sigmoid", "tanh"):
        assert 0 < dead[f"{name} 1"].sum() < 33


def test_a_single_row_keeps_a_unit_alive():
    net = Network([Dense(5, init="constant(1)"), "relu", Dense(2)], input_size=1, seed=0)
    X = np.full((3000, 1), -1.0)
    assert net.dead_units(X)["relu 1"].all()
    for row in (0, 1023, 1024, 2999):
        lively = X.copy()
        lively[row] = 1.0
        assert not net.dead_units(lively)["relu 1"].any()


def test_all_ops_in_blocks_at_once(rng):
    net = Network(
        [Dense(6, bias_init="constant(-2)"), "relu", Residual(["relu", Dense(6, bias_init="constant(-9)"), "relu"]),
         "sigmoid", Dense(3), "softmax"],
        input_size=4, dtype="float64", seed=2,
    )  # fmt: skip
    X = rng.normal(size=(1500, 4))
    expected = {}
    for node in walk(
        SlowBooks(
            Network(net.layers[:-1], input_size=4, dtype="float64", seed=2), X, np.zeros(1500, int)
        ).nodes
    ):
        if node.kind == "activation":
            bound = np.finfo("f8").eps * (0.25 if node.layer.info.name == "sigmoid" else 1)
            expected[net.plan.names[node.op]] = (np.abs(node.slope) <= bound).all(axis=0).tolist()
    assert {name: dead.tolist() for name, dead in net.dead_units(X).items()} == expected
    assert any(map(any, expected.values()))


def test_the_pass_ends_at_the_last_unit_seen_alive(rng):
    from gradcore.health import units

    net = mlp([4, 16, 16, 2], activation="sigmoid", seed=0)
    X = rng.normal(size=(5000, 4))
    runs = []

    class Counting:
        def __init__(self, executor):
            self.executor = executor

        def observe(self, rows, **given):
            runs.append(given["stop"])
            return self.executor.observe(rows, **given)

        def __getattr__(self, name):
            return getattr(self.executor, name)

    executor = net.executor(100)
    executor.bind(X.astype("f4"), None)
    dead = units.dead_units(Counting(executor), net.plan, len(X))
    assert not any(d.any() for d in dead.values())
    assert runs == [3]


def test_a_slope_of_nan_is_not_dead():
    net = Network([Dense(3, init="constant(3e38)"), "exponential", Dense(2)], input_size=2, seed=0)
    X = np.array([[1.0, -1.0], [2.0, -2.0]])
    # inf - inf: NaN
    net.set_parameters({"0.weight": np.full((3, 2), 3e38)})
    assert not net.dead_units(X * 3)["exponential 1"].any()
