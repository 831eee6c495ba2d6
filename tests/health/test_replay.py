"""A replayed batch: every array is the one the network's own run worked with, bit for bit."""

import numpy as np
import pytest
from slow_books import SlowBooks, random_layers

from gradcore import Dense, Network, kernels
from gradcore.health.replay import unshared


def a_network(seed, dtype):
    rng = np.random.default_rng(seed)
    width = (9, 16, 64)[seed % 3]
    net = Network(
        [Dense(width), "relu", *random_layers(rng, width), *random_layers(rng, width), "sigmoid", Dense(4)],
        input_size=5, dtype=dtype, seed=seed,
    )  # fmt: skip
    X = rng.normal(size=(13, 5)).astype(dtype)
    return net, X, rng.integers(0, 4, 13)


def replayed(net, X, y, seed=0):
    return net._replay(X, net._encode(y, "auto"), np.arange(len(X)), seed)


@pytest.mark.parametrize("seed", range(10))
def test_the_same_bits(seed, dtype):
    net, X, y = a_network(seed, dtype)
    ledger, replay = net.ledger(X, y, seed=3), replayed(net, X, y, seed=3)
    kinds = {code: name for name, code in kernels.OP_KINDS.items()}
    for op, row in enumerate(net.plan.table):
        record = ledger.records[op]

        def same(found, array, *, with_signal=False):
            assert kernels.fold(array, signal=with_signal).tobytes() == found.tobytes()

        kind = kinds[int(row["kind"])]
        if kind != "fork":
            same(record["output"], replay.output(op), with_signal=True)
            assert (replay.output(op) == net_output(replay, op)).all()
        same(record["d_input"], replay.d_input(op))
        if kind not in ("fork", "join"):
            readers = np.flatnonzero(net.plan.before == op)
            followed_by_fork = len(readers) and kinds[int(net.plan.table[readers[0]]["kind"])] == "fork"
            same(
                ledger.records[op + followed_by_fork]["d_input" if followed_by_fork else "d_output"],
                replay.d_output(op),
            )
        if kind in ("activation", "dropout"):
            assert (replay.slope(op) * replay.d_output(op) == replay.d_input(op)).all()


def net_output(replay, op):
    """What the next op reads."""
    readers = np.flatnonzero(replay.plan.before == op)
    return replay.input(int(readers[0])) if len(readers) else replay.output(op)


def test_every_array_is_that_of_numpy(rng):
    net, X, y = a_network(4, "float64")
    replay = replayed(net, X, y)
    for node in SlowBooks(net, X, y).nodes:
        assert replay.output(node.op) == pytest.approx(node.y, rel=1e-10, abs=1e-12)
        assert replay.d_output(node.op) == pytest.approx(node.d_y, rel=1e-8, abs=1e-14)
        if node.kind == "dense":
            assert replay.weight_gradient(node.op).T == pytest.approx(node.gradients[0], rel=1e-8, abs=1e-13)
            assert (replay.bias_gradient(node.op) is None) == (len(node.gradients) == 1)


def test_only_the_deltas_of_a_fork_stay_shared():
    net, _, _ = a_network(1, "float32")
    plan = unshared(net.plan)
    outputs = [int(op["output"]) for op in plan.table if op["kind"] != kernels.OP_KINDS["fork"]]
    assert len(set(outputs)) == len(outputs)
    assert not plan.table["fused"].any()
    assert net.plan.table["fused"].any()
