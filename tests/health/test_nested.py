"""Every number of nested ledgers against slow NumPy, on random nets with blocks in blocks."""

import math

import numpy as np
import pytest
from slow_books import SlowBooks, norm, random_layers, signal

from gradcore import BatchNorm, Dense, Dropout, Network, Residual

SEEDS = range(24)


def a_network(seed, dtype="float64"):
    rng = np.random.default_rng(seed)
    width = int(rng.choice([3, 8, 17]))
    net = Network(
        [Dense(width), "tanh", *random_layers(rng, width), *random_layers(rng, width), Dense(4)],
        input_size=5,
        dtype=dtype,
        seed=seed,
    )
    X = rng.normal(size=(int(rng.choice([2, 9, 30])), 5)).astype(dtype)
    return net, X, rng.integers(0, 4, len(X))


def check_entries(entries, nodes, total, rel, floor=1e-14):
    """The same numbers all the way down; the decades by group of what was passed."""
    assert len(entries) == len(nodes)
    for entry, node in zip(entries, nodes, strict=True):
        assert (entry.op, entry.kind) == (node.op, node.kind)

        def is_close(found, expected):
            assert found == pytest.approx(expected, rel=rel, abs=floor, nan_ok=True)

        is_close(entry.output.norm, norm(node.y))
        is_close(entry.d_output.norm, norm(node.d_y))
        is_close(entry.d_input.norm, norm(node.d_x))
        is_close(entry.backward_gain, ratio(norm(node.d_x), norm(node.d_y)))
        if signal(node.x) > 1e-6 * norm(node.x) and signal(node.y) > 1e-6 * norm(node.y):
            is_close(entry.forward_gain, signal(node.y) / signal(node.x))
        is_close(entry.scale_ratio, ratio(rms(node.y), rms(node.x)))
        assert entry.gradient_share == pytest.approx(node.squares / total, rel=rel, abs=rel)
        if node.gradients:
            is_close(entry.weight_gradient.norm, norm(node.gradients[0]))
        if node.kind == "residual":
            is_close(entry.skip_norm, norm(node.by_skip))
            is_close(entry.branch_norm, norm(node.by_branch))
            assert (entry.projection is None) == (node.projection is None)
            if entry.projection is not None:
                is_close(entry.projection.weight_gradient.norm, norm(node.skip_gradients[0]))
                is_close(entry.projection.output.norm, norm(node.x @ node.projection.T))
                is_close(entry.projection.d_output.norm, norm(node.d_y))
                is_close(entry.projection.d_input.norm, norm(node.by_skip))
            cosine = np.vdot(node.by_skip, node.by_branch) / norm(node.by_skip) / norm(node.by_branch)
            assert entry.cosine == pytest.approx(cosine, abs=max(rel, 1e-12))
            check_branch(entry, node, rel)
            check_entries(entry.branch.entries, node.inside, total, rel, floor)
        else:
            assert entry.branch is None


def check_branch(entry, node, rel):
    branch, scale = entry.branch, node.layer.scale
    gain = norm(node.by_branch) / (scale * norm(node.d_y))
    assert branch.end_to_end_log10 == pytest.approx(math.log10(gain), abs=rel)
    assert math.fsum(branch.split().values()) == pytest.approx(branch.end_to_end_log10, abs=1e-12)
    expected = {}
    for inner in node.inside:
        group = {"batch_norm": "norm", "layer_norm": "norm"}.get(inner.kind, inner.kind)
        expected[group] = expected.get(group, 0.0) + math.log10(norm(inner.d_x) / norm(inner.d_y))
    assert branch.split() == pytest.approx(expected, abs=rel)
    # the block's gain from that of its branch, as the docstring of Branch has it
    skip, through = norm(node.by_skip) / norm(node.d_y), scale * 10**branch.end_to_end_log10
    assert entry.backward_gain == pytest.approx(
        math.sqrt(skip**2 + 2 * skip * entry.cosine * through + through**2), rel=rel
    )


def rms(x):
    return norm(x) / math.sqrt(x.size)


def ratio(top, bottom):
    return top / bottom if top > 0 and bottom > 0 else math.nan


@pytest.mark.parametrize("level", ["light", "full"])
@pytest.mark.parametrize("seed", SEEDS)
def test_every_number_is_that_of_numpy(seed, level):
    net, X, y = a_network(seed)
    books = SlowBooks(net, X, y)
    ledger = net.ledger(X, y, level=level)
    total = sum(node.squares for node in books.nodes)
    if level == "full":
        check_entries(ledger.entries, books.nodes, total, 1e-8)
    else:
        # dL/dX is booked by the full ledger alone
        assert math.isnan(ledger.entries[0].backward_gain)
        check_entries(ledger.entries[1:], books.nodes[1:], total, 1e-6)
    assert sum(entry.gradient_share for entry in ledger.entries) == pytest.approx(1, rel=1e-12)
    assert ledger.layers().share.sum() == pytest.approx(1, rel=1e-12)
    decades = math.log10(norm(books.nodes[0].d_y) / norm(books.nodes[-1].d_y))
    assert ledger.end_to_end_log10 == pytest.approx(decades, abs=1e-8)


@pytest.mark.parametrize("seed", range(6))
def test_single_precision(seed):
    net, X, y = a_network(seed, "float32")
    books = SlowBooks(net, X, y)
    total = sum(node.squares for node in books.nodes)
    # a batch norm over two rows leaves deltas that are rounding only
    check_entries(net.ledger(X, y).entries, books.nodes, total, 2e-3, floor=1e-6)


@pytest.mark.parametrize("level", ["light", "full"])
def test_a_block_that_reads_the_input_counts_from_its_first_pre_activation(rng, level):
    net = Network([Residual([Dense(5), "tanh", Dense(5)]), Dense(3)], input_size=5, dtype="float64", seed=1)
    X, y = rng.normal(size=(20, 5)), rng.integers(0, 3, 20)
    block = net.ledger(X, y, level=level).entries[0]
    node = SlowBooks(net, X, y).nodes[0]
    decades = math.log10(norm(node.inside[0].d_y) / norm(node.inside[-1].d_y))
    assert block.branch.end_to_end_log10 == pytest.approx(decades, abs=1e-9)
    assert set(block.branch.split()) == {"dense", "activation"}


def test_cosine_where_the_dot_product_leaves_the_range(rng):
    net = Network([Dense(6), Residual([Dense(6), "tanh"]), Dense(3)], input_size=6, dtype="float64", seed=2)
    X, y = rng.normal(size=(20, 6)), rng.integers(0, 3, 20)
    expected = net.ledger(X, y).entries[1]
    parameters = net.get_parameters()
    net.set_parameters({"2.weight": parameters["2.weight"] * 1e-170})
    # at zero logits the delta of the outputs is another: only what comes after it is linear
    tiny = net.ledger(X, y).entries[1]
    net.set_parameters({"2.weight": parameters["2.weight"] * 1e-100})
    small = net.ledger(X, y).entries[1]
    assert tiny.skip_norm * tiny.branch_norm < 1e-300
    assert tiny.cosine == pytest.approx(small.cosine, abs=1e-12)
    assert -1 <= expected.cosine <= 1


def test_layers_share_the_gradient(rng):
    layers = [
        BatchNorm(),
        Dense(8),
        BatchNorm(),
        "relu",
        Residual([Dense(8), "tanh"]),
        Dropout(0.2),
        Dense(3),
    ]
    net = Network(layers, input_size=5, dtype="float64", seed=3)
    X, y = rng.normal(size=(30, 5)), rng.integers(0, 3, 30)
    nodes = SlowBooks(net, X, y).nodes
    squares = [node.squares for node in nodes]
    expected = np.array([sum(squares[:4]), squares[4], sum(squares[5:])])
    assert net.ledger(X, y).layers().share == pytest.approx(expected / expected.sum(), rel=1e-9)


@pytest.mark.parametrize("factor", [1e-300, 1e-160, 1e160, 1e290])
def test_share_of_gradients_whose_squares_leave_the_range(rng, factor):
    net = Network([Dense(4), "tanh", Dense(1)], input_size=3, dtype="float64", seed=4)
    X = rng.normal(size=(10, 3))
    ordinary, extreme = (net.ledger(X, np.full(10, target)) for target in (1e8, 1e8 * factor))
    if factor > 1:
        # the loss itself overflows: the delta does not
        assert [e.gradient_share for e in extreme.entries] == pytest.approx(
            [e.gradient_share for e in ordinary.entries], rel=1e-6
        )
    else:
        assert sum(e.gradient_share for e in extreme.entries) == pytest.approx(1, rel=1e-12)


def test_share_of_no_gradient_and_of_a_broken_one(rng):
    X = rng.normal(size=(10, 3))
    net = Network([Dense(4), "relu", Dense(1, init="zeros")], input_size=3, seed=5)
    nothing = net.ledger(X, np.zeros(10))
    broken = Network([Dense(4, init="constant(3e38)"), Dense(1)], input_size=3, seed=5).ledger(
        X, np.zeros(10)
    )
    for ledger in (nothing, broken):
        assert all(math.isnan(entry.gradient_share) for entry in ledger.entries)
        assert np.isnan(ledger.layers().share).all()
        assert "+nan" not in str(ledger)


NESTED = [
    Dense(6),
    "relu",
    Residual([Dense(6), BatchNorm(), Residual(["relu", Dense(6)]), Dropout(0.2)]),
    Dense(3),
]


@pytest.mark.parametrize("level", ["light", "full"])
def test_no_gradient_at_all(rng, dtype, level):
    net = Network([*NESTED[:-1], Dense(3, init="zeros")], input_size=5, dtype=dtype, seed=6)
    ledger = net.ledger(rng.normal(size=(20, 5)), rng.integers(0, 3, 20), level=level)
    for name in ("residual 1", "residual 2"):
        block = ledger[name]
        assert block.d_output.norm == block.d_input.norm == block.skip_norm == block.branch_norm == 0
        assert math.isnan(block.backward_gain)
        assert math.isnan(block.cosine)
        assert math.isnan(block.branch.end_to_end_log10)
        assert all(map(math.isnan, block.branch.split().values()))
    assert ledger["dense 4"].gradient_share == 1
    assert "+nan" not in str(ledger)


@pytest.mark.parametrize("level", ["light", "full"])
def test_one_row_and_equal_rows(rng, dtype, level):
    net = Network(NESTED, input_size=5, dtype=dtype, seed=7)
    row = rng.normal(size=(1, 5))
    one = net.ledger(row, [1], level=level)
    equal = net.ledger(np.repeat(row, 8, axis=0), [0, 1, 2, 0, 1, 2, 0, 1], level=level)
    for rows, of_one, of_equal in zip(
        one.to_rows(), one._by_name.values(), equal._by_name.values(), strict=True
    ):
        # one row has no signal to speak of; that of equal rows is zero, until dropout tells them apart
        assert math.isnan(rows["output_signal"])
        assert math.isnan(of_one.forward_gain)
        assert not of_one.lost
        if of_equal.name not in ("dropout 1", "residual 1", "dense 4"):
            assert of_equal.output.signal == 0
            assert of_equal.lost
            assert math.isnan(of_equal.forward_gain)
    assert sum(entry.gradient_share for entry in one.entries) == pytest.approx(1, rel=1e-12)
