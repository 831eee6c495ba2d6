"""The arithmetic's own share: what underflowed and overflowed counts, what is rightly zero does not."""

import json
import math
from fractions import Fraction

import numpy as np
import pytest

from gradcore import BatchNorm, Dense, Dropout, LayerNorm, Network, Residual, mlp
from gradcore.activations import REGISTRY
from gradcore.health import arithmetic

# By dtype: factors whose product leaves the range below, and above.
SMALL = {"float32": (1e-30, 1e-20), "float64": (1e-200, 1e-150)}
LARGE = {"float32": (1e30, 1e20), "float64": (1e200, 1e150)}


def shares_of(layers, X, y, dtype="float32", seed=0, **weights):
    net = Network(layers, input_size=np.shape(X)[1], dtype=dtype, seed=seed)
    net.set_parameters({name.replace("_", ".", 1): value for name, value in weights.items()})
    shares = net.ledger(X, y, exact=True).arithmetic
    return {(share.name, share.what): share for share in shares}


def born(shares):
    return {key: (share.underflows, share.overflows) for key, share in shares.items() if share.born}


# -- counted


def test_product_of_small_numbers(dtype):
    x, w = SMALL[dtype.name]
    X = np.full((4, 1), x)
    shares = shares_of([Dense(3, init=f"constant({w})"), Dense(1, init="ones")], X, np.zeros(4), dtype)
    # the output is zero, and so is the loss: only the product underflowed
    assert born(shares) == {("dense 1", "output"): (12, 0)}
    assert shares["dense 1", "output"].share == 0
    # what dense 2 makes of zeros is exact
    assert shares["dense 2", "output"].underflows == 0


def test_product_of_large_numbers(dtype):
    x, w = LARGE[dtype.name]
    X = np.array([[x], [1.0]])
    shares = shares_of([Dense(3, init=f"constant({w})")], X, np.zeros((2, 3)), dtype)
    assert shares["dense 1", "output"].overflows == 3
    assert shares["dense 1", "output"].underflows == 0
    assert shares["dense 1", "output"].share == math.inf


def test_infinities_that_cancel_are_overflow(dtype):
    x, w = LARGE[dtype.name]
    net = Network([Dense(1)], input_size=2, dtype=dtype, seed=0)
    net.set_parameters({"0.weight": [[w, -w]]})
    (share,) = (s for s in net.ledger([[x, x]], [0.0], exact=True).arithmetic if s.what == "output")
    # computed inf - inf or inf, exact 0
    assert share.overflows == 1


def test_delta_and_weight_gradient(dtype):
    x, w = SMALL[dtype.name]
    # delta of the outputs is 2 (0 - 1) / 2 rows
    X = np.array([[1.0], [x]])
    layers = [Dense(2, init="ones"), Dense(1, init=f"constant({x})")]
    shares = shares_of([Dense(1, init=f"constant({w})"), *layers], X, np.array([1.0, 1.0]), dtype)
    assert born(shares) == {
        ("dense 1", "output"): (1, 0),  # x w of the second row
        ("dense 3", "output"): (1, 0),  # w x of the first
        ("dense 2", "weight gradient"): (2, 0),  # w x again
        ("dense 1", "dL/d(input)"): (2, 0),  # x w on the way back
    }


def test_weight_gradient(dtype):
    x, w = SMALL[dtype.name]
    X = np.array([[x], [x]])
    layers = [Dense(2, init="zeros"), "identity", Dense(1, init=f"constant({w})")]
    shares = shares_of(layers, X, np.array([1.0, 1.0]), dtype)
    assert born(shares) == {("dense 1", "weight gradient"): (2, 0)}
    assert shares["dense 1", "weight gradient"].share == 0
    # zero weights in front, zero outputs behind: rightly zero
    assert shares["dense 1", "dL/d(input)"].underflows == 0
    assert shares["dense 2", "weight gradient"].underflows == 0


def test_subnormal_results_count_where_they_lost_digits():
    x = np.array([[1.1e-25], [1.3e-21], [2.0**-70]], np.float32)
    shares = shares_of([Dense(1, init=f"constant({2.0**-70})")], x, np.zeros(3))
    # 1e-46: zero; 1e-42: few digits left; 2^-140: subnormal, and exact
    share = shares["dense 1", "output"]
    assert share.underflows == 2
    computed, exact = (
        np.linalg.norm(v) for v in ((x * np.float32(2.0**-70)).astype(float), x.astype(float) * 2.0**-70)
    )
    assert share.share == pytest.approx(computed / exact, rel=1e-6)
    assert share.share != 1


@pytest.mark.parametrize(("name", "z", "forward", "backward"), [
    ("sigmoid", -200.0, 1, 1), ("sigmoid", -3e4, 1, 1), ("sigmoid", 200.0, 0, 1), ("tanh", 200.0, 0, 1),
    ("tanh", -3e4, 0, 1), ("gelu", -30.0, 1, 1), ("elu", -200.0, 0, 1), ("selu", -200.0, 0, 1),
    ("exponential", -200.0, 1, 1), ("exponential", -3e4, 1, 1), ("relu", -200.0, 0, 0), ("relu", 0.0, 0, 0),
    ("leaky_relu(0.0)", -3.0, 0, 0), ("leaky_relu", -3.0, 0, 0), ("identity", 0.0, 0, 0), ("tanh", 0.0, 0, 0),
])  # fmt: skip
def test_tails_of_activations(name, z, forward, backward):
    layers = [Dense(2, init="ones"), name, Dense(1, init="ones")]
    found = born(shares_of(layers, [[z]], np.array([-1.0])))
    key = f"{name.partition('(')[0]} 1"
    assert found.get((key, "output"), (0, 0)) == (2 * forward, 0)
    assert found.get((key, "dL/d(input)"), (0, 0)) == (2 * backward, 0)


@pytest.mark.parametrize(
    ("dtype", "z"), [("float32", 100.0), ("float32", 3e4), ("float64", 800.0), ("float64", 3e5)]
)
def test_exponential_overflows(dtype, z):
    shares = shares_of([Dense(2, init="ones"), "exponential"], [[z]], np.zeros((1, 2)), dtype)
    assert shares["exponential 1", "output"].overflows == 2


def test_tails_in_double_precision():
    layers = [Dense(2, init="ones"), "sigmoid", Dense(1, init="ones")]
    for z in (-800.0, -1e6):
        found = born(shares_of(layers, [[z]], np.array([1.0]), "float64"))
        assert found == {("sigmoid 1", "output"): (2, 0), ("sigmoid 1", "dL/d(input)"): (2, 0)}


def test_softmax_layer():
    X = [[0.0, -200.0, -3e4], [1.0, 2.0, 3.0]]
    shares = shares_of([Dense(3, init="identity"), "softmax"], X, np.ones((2, 3)))
    assert shares["softmax 1", "output"].underflows == 2
    assert shares["softmax 1", "dL/d(input)"].underflows >= 2


def test_scale_of_a_block(dtype):
    small, _ = SMALL[dtype.name]
    # on its way back through both branches a delta is multiplied by the scale twice
    layers = [Dense(3), Residual([Residual([Dense(3)], scale=small), "identity"], scale=small), Dense(3)]
    X, y = np.eye(3)[:2], np.ones((2, 3))
    shares = shares_of(layers, X, y, dtype)
    inner = (
        shares["residual 1", "dL/d(branch output)"]
        if ("residual 1", "dL/d(branch output)") in shares
        else None
    )
    outer = shares.get(("residual 2", "dL/d(branch output)"))
    assert {inner and inner.underflows, outer and outer.underflows} == {6, None}


def test_sum_at_the_end_and_at_the_beginning_of_a_block(dtype):
    huge = float(np.finfo(dtype).max) * 0.75
    layers = [Dense(2, init="identity"), Residual(["identity"]), Dense(2, init=f"constant({huge})")]
    X = np.array([[huge, 1.0]])
    shares = shares_of(layers, X, np.zeros((1, 2)), dtype)
    assert shares["residual 1", "output"].overflows == 1
    # backward: two deltas of 0.75 of the largest number each
    net = Network(
        [Dense(2, init="zeros"), Residual(["identity"]), Dense(1, init=f"constant({huge})")],
        input_size=2,
        dtype=dtype,
        seed=0,
    )
    shares = {
        (s.name, s.what): s for s in net.ledger(np.ones((1, 2)), np.array([0.5]), exact=True).arithmetic
    }
    assert shares["residual 1", "dL/d(input)"].overflows == 2
    assert ("identity 1", "dL/d(input)") not in shares


def test_first_op_of_a_branch_without_the_skip(dtype):
    x, w = SMALL[dtype.name]
    layers = [
        Dense(2, init="identity"),
        Residual([Dense(2, init=f"constant({x})"), Dense(2, init=f"constant({w})")]),
        Dense(2, init="identity"),
    ]
    shares = shares_of(layers, np.eye(2), np.full((2, 2), 5.0), dtype)
    assert shares["dense 2", "dL/d(input)"].underflows == 4
    assert shares["dense 2", "dL/d(input)"].share == 0
    assert ("residual 1", "dL/d(input)") not in shares


@pytest.mark.parametrize(("norm", "name"), [(BatchNorm(), "batch_norm 1"), (LayerNorm(), "layer_norm 1")])
def test_norms(norm, name, dtype, rng):
    x, w = SMALL[dtype.name]
    layers = [Dense(3), norm, Dense(1, init=f"constant({w})")]
    X, y = rng.normal(size=(8, 2)), rng.normal(size=8)
    # (what all units of a row have in common goes at layer norm)
    gamma = x * np.array([1, 2, 3]) if isinstance(norm, LayerNorm) else np.full(3, x)
    shares = shares_of(layers, X, y, dtype, **{"1_gamma": gamma})
    assert shares[name, "dL/d(input)"].underflows == 24
    assert (name, "weight gradient") not in shares
    assert (name, "output") not in shares


# -- not counted


@pytest.mark.parametrize("layers", [
    [Dense(16), "relu", Dense(16), "relu", Dense(3)],
    [Dense(16), "tanh", Dropout(0.5), Dense(16), Dropout(0.5), Dense(3)],
    [Dense(16), BatchNorm(), "relu", Dropout(0.3), Residual(["relu", Residual(["relu", Dense(16)])]), Dense(3)],
    [Dense(16, init="zeros"), "relu", Dense(16), BatchNorm(), "leaky_relu", Dense(3)],
    [LayerNorm(), Dense(16), LayerNorm(), "relu", Dense(3)],
], ids=["relu", "dropout", "all", "zero weights", "layer norm"])  # fmt: skip
@pytest.mark.parametrize("rows", [30, 1])
def test_zeros_of_a_healthy_network_are_right(layers, rows, dtype, rng):
    X = rng.normal(size=(rows, 6))
    X[:, 0] = 0
    shares = shares_of(layers, X, rng.integers(0, 3, rows), dtype)
    assert shares
    assert born(shares) == {}
    assert all(
        share.share == pytest.approx(1, abs=1e-4) or math.isnan(share.share) for share in shares.values()
    )


def test_exact_and_rounded_cancellation():
    # 0.1 + 0.2 - 0.3 in float32 is not what it is exactly, but nothing underflowed
    net = Network([Dense(2)], input_size=3, seed=0)
    net.set_parameters({"0.weight": [[1, -1, 0], [1, 1, -1]]})
    X = np.array([[0.5, 0.5, 3.0], [0.1, 0.2, 0.3], [0.7, 0.1, 0.8], [1e-7, 1, 1]])
    ledger = net.ledger(X, np.ones((4, 2)), exact=True)
    assert ledger.entries[0].output.zeros >= 1
    assert [s.what for s in ledger.arithmetic] == ["output"]
    assert not ledger.arithmetic[0].born


def test_cancellation_on_the_way_back():
    # the same three numbers meet deltas of 1, 1 and -1: over the rows, and over the units
    numbers = np.array([[0.1], [0.2], [0.3]])
    signs = np.array([1.0, 1.0, -1.0])
    over_rows = shares_of([Dense(1, init="zeros", use_bias=False)], numbers, -1.5 * signs)
    assert born(over_rows) == {}
    assert over_rows["dense 1", "weight gradient"].share == 0
    layers = [Dense(1, init="zeros"), Dense(3, init="zeros")]
    over_units = shares_of(layers, [[1.0]], -1.5 * signs[None, :], **{"1_weight": numbers})
    assert born(over_units) == {}
    assert over_units["dense 2", "dL/d(input)"].share == 0


@pytest.mark.parametrize("name", ["identity", "exponential", "sigmoid", "tanh"])
def test_infinities_are_inherited(name):
    layers = [Dense(2, init="constant(1e30)"), name, Dense(2, init="ones"), BatchNorm(), Dense(1)]
    for x in (1e20, -1e20):
        found = born(shares_of(layers, [[x], [x]], np.zeros(2)))
        # what follows infinite operands is infinite, NaN or, of exp(-inf), zero by right
        assert set(found) == {("dense 1", "output")}


def test_constant_column_of_batch_norm():
    shares = shares_of([Dense(2, init="zeros"), BatchNorm(), Dense(2)], np.eye(3), np.arange(3) % 2)
    assert shares["batch_norm 1", "output"].elements == 6
    assert born(shares) == {}


# -- the rule itself, in rational numbers


@pytest.mark.parametrize("seed", range(8))
def test_dense_against_rational_arithmetic(seed):
    rng = np.random.default_rng(seed)
    X, W, bias = (
        (rng.choice([-1, 1], size=shape) * np.exp2(rng.uniform(-80, -55, size=shape))).astype(np.float32)
        for shape in ((6, 4), (5, 4), (5,))
    )
    bias = (bias * np.float32(2.0**-70)) * (rng.random(5) < 0.5)
    net = Network([Dense(5)], input_size=4, seed=0)
    net.set_parameters({"0.weight": W, "0.bias": bias})
    (share,) = (s for s in net.ledger(X, np.zeros((6, 5)), exact=True).arithmetic if s.what == "output")
    computed = net.forward(X)
    count, squares = 0, [Fraction(0), Fraction(0)]
    for r in range(6):
        for c in range(5):
            terms = [
                Fraction(float(bias[c])),
                *(Fraction(float(a)) * Fraction(float(b)) for a, b in zip(X[r], W[c], strict=True)),
            ]
            found = Fraction(float(computed[r, c]))
            bound = 5 * Fraction(2) ** -24 * sum(map(abs, terms))
            count += bool(abs(found) < Fraction(2) ** -126 and abs(found - sum(terms)) > bound)
            squares[0] += found**2
            squares[1] += sum(terms) ** 2
    assert share.underflows == count
    assert 0 < count < 30
    assert share.share == pytest.approx(math.sqrt(squares[0] / squares[1]), rel=1e-9)


# -- asking


def test_runs_only_when_asked(rng, monkeypatch):
    net = mlp([4, 8, 2], seed=0)
    X, y = rng.normal(size=(10, 4)), rng.integers(0, 2, 10)
    monkeypatch.setattr(arithmetic, "arithmetic_shares", None)
    assert net.ledger(X, y).arithmetic is None
    with pytest.raises(ValueError, match="leave level at 'full'"):
        net.ledger(X, y, level="light", exact=True)


def test_nothing_fires_in_a_smooth_network(rng):
    net = mlp([4, 8, 2], activation="tanh", seed=0)
    ledger = net.ledger(rng.normal(size=(10, 4)), rng.integers(0, 2, 10), exact=True)
    assert ledger.arithmetic == ()


def test_table_and_dict():
    net = Network(
        [Dense(2, init="constant(1e-30)"), Residual([Dense(2, init="constant(1e-30)")]), Dense(1)],
        input_size=1,
        seed=0,
    )
    ledger = net.ledger([[1e-20]], [1.0], exact=True)
    assert "· output: 2 underflows born here, of 2; computed/exact 0" in str(ledger)
    entry = ledger["dense 1"]
    assert [share.what for share in entry.arithmetic if share.born] == ["output"]
    (first, *_) = entry.to_dict()["arithmetic"]
    assert first["underflows"] == 2
    json.dumps(ledger.to_dict())


def test_a_platform_without_a_wider_type(monkeypatch):
    monkeypatch.setattr(arithmetic.np, "longdouble", np.float64)
    with pytest.raises(RuntimeError, match="float32 network"):
        arithmetic.wider("float64")
    assert arithmetic.wider("float32") == np.float64


def test_every_kind_of_op_and_activation_has_its_formula():
    kinds = set(arithmetic.kernels.OP_KINDS)
    assert set(arithmetic._FORWARD) == kinds - {"fork"}
    assert set(arithmetic._BACKWARD) == kinds
    for name in REGISTRY:
        beyond = np.array([-arithmetic._BEYOND_KINKS, arithmetic._BEYOND_KINKS])
        value, slope = arithmetic.reference.ACTIVATIONS[name](beyond, REGISTRY[name].default)
        far_value, far_slope = arithmetic.reference.ACTIVATIONS[name](2 * beyond, REGISTRY[name].default)
        assert ((value == 0) == (far_value == 0)).all()
        assert ((slope == 0) == (far_slope == 0)).all()
