"""Changes rebuild networks as they say, and their variants are the networks that a rebuild would give."""

import numpy as np
import pytest

import gradcore
from gradcore import Activation, BatchNorm, Dense, Dropout, LayerNorm, Network, Residual, mlp
from gradcore.diagnosis.changes import Change, describe
from gradcore.diagnosis.code import network_code
from gradcore.diagnosis.diagnose import diagnose
from gradcore.diagnosis.variants import Variants
from gradcore.diagnosis.words import change_lines
from gradcore.layers import as_layers, split_groups

LAYERS = as_layers(
    [Dense(8, init="normal(0.1)"), "sigmoid", Dense(8, init="normal(0.1)"), "sigmoid", Dense(3)]
)


def apply(change, layers=LAYERS, input_size=8):
    return Network(change.layers(layers, input_size), input_size=input_size, seed=0).layers


def test_activation_and_init():
    changed = apply(Change(activation="relu", init="he_normal"))
    assert [layer.spec for layer in changed if isinstance(layer, Activation)] == ["relu", "relu"]
    assert {layer.init for layer in changed if isinstance(layer, Dense)} == {"he_normal"}


def test_output_activation_stays_and_can_be_left_away():
    layers = as_layers([Dense(4), "tanh", Dense(1), "sigmoid"])
    assert apply(Change(activation="relu"), layers)[-1] == Activation("sigmoid")
    assert isinstance(apply(Change(linear_output=True), layers)[-1], Dense)


def test_norm_residual_depth_width():
    assert [type(layer) for layer in apply(Change(norm=True))][:3] == [Dense, BatchNorm, Activation]
    assert not isinstance(apply(Change(norm=True))[-1], BatchNorm)
    assert [type(layer) for layer in apply(Change(norm="layer"))][:3] == [Dense, LayerNorm, Activation]
    assert apply(Change(without_norm=True), apply(Change(norm="layer"))) == apply(Change())
    assert apply(Change(norm=True), apply(Change(norm="layer"))) == apply(Change(norm="layer"))
    assert [type(layer) for layer in apply(Change(residual=True))] == [Residual, Residual, Dense]
    assert len(apply(Change(depth=0.5))) == 3
    assert [layer.units for layer in apply(Change(width=4)) if isinstance(layer, Dense)] == [32, 32, 3]


def test_nothing_of_it_breaks_a_nested_network():
    layers = as_layers([BatchNorm(), Dense(8), "relu", Residual([Dense(8), "relu", Dense(8)]), Dense(3)])
    for change in (
        Change(activation="tanh", init="auto"),
        Change(norm=True),
        Change(residual=True),
        Change(depth=0.5),
    ):
        apply(change, layers)
    assert [len(group) for group in split_groups(layers)] == [3, 1, 1]


@pytest.mark.parametrize(
    ("change", "name", "causes"),
    [
        (Change(activation="relu"), "relu only", ("activation",)),
        (Change(activation="relu", init="he_normal"), "relu + He", ("initial_weights", "activation")),
        (Change(rate=10.0), "learning rate ×10", ("learning_rate",)),
        (Change(rate=0.1), "learning rate ÷10", ("learning_rate",)),
        (Change(norm=True), "batch norm", ()),
        (Change(width=4), "4× the width", ("narrow_layers",)),
        (Change(standardise=True), "standardised inputs", ("input_scale",)),
    ],
)
def test_names_and_causes(change, name, causes):
    assert change.name == name
    assert change.causes == causes


def test_describe_writes_the_call():
    net = mlp([8, 8, 8, 3], activation="elu", init="normal(0.1)", norm="batch", residual=True, dropout=0.1)
    assert describe(net.layers) == (
        'mlp(sizes, activation="elu", init="normal(0.1)", norm="batch", residual=True, dropout=0.1)'
    )
    assert describe(as_layers([Dense(3), "relu", Dense(4), "tanh", Dense(2)])) is None
    net = mlp([8, 8, 8, 3], residual=True, residual_scale="auto")
    assert describe(net.layers) == 'mlp(sizes, activation="relu", residual=True, residual_scale="auto")'
    mixed = [Residual([Dense(8), "relu"], scale=scale) for scale in (1.0, 0.5)]
    assert describe(as_layers([*mixed, Dense(3)])) is None


CHANGES = [
    Change(activation="tanh"), Change(init="he_normal"), Change(activation="relu", init="he_normal"), Change(norm=True),
    Change(residual=True), Change(depth=0.5), Change(width=2),
]  # fmt: skip


@pytest.mark.parametrize("sizes", [[8, 8, 8, 8, 3], [6, 16, 8, 4, 3]], ids=str)
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.name)
def test_variants_are_what_a_rebuild_gives(change, sizes, rng):
    net = mlp(sizes, activation="sigmoid", init="normal(0.1)", seed=5)
    variant = Variants(net).make(change)
    rebuilt = net.rebuilt(change.layers(net.layers, net.input_size))
    if change.norm or change.residual or change.depth != 1:
        # the weights stay, which a rebuild draws anew: every parameter draws by its number
        kept, now = variant.get_parameters(), net.get_parameters()
        weights = [kept[name] for name in kept if name.endswith("weight")]
        # (or are drawn from the same numbers, to rounding, where the shapes differ)
        np.testing.assert_allclose(weights[0], now["0.weight"], rtol=1e-6)
        if weights[-1].shape == now["6.weight"].shape:
            np.testing.assert_allclose(weights[-1], now["6.weight"], rtol=1e-6)
        rebuilt.set_parameters(kept)
    X, y = rng.normal(size=(20, sizes[0])), rng.integers(0, 3, 20)
    a, b = variant.ledger(X, y), rebuilt.ledger(X, y)
    assert a.loss == pytest.approx(b.loss, rel=1e-6)
    assert a.end_to_end_log10 == pytest.approx(b.end_to_end_log10, abs=1e-5)


@pytest.mark.parametrize(
    "layers",
    [
        [Dense(8), Residual([Dropout(0.5)]), Dense(2)],
        [Dense(8), Residual([BatchNorm()]), Dense(2)],
        ["relu", Dense(8), "tanh", Dense(2)],
        [Dropout(0.2), Dense(8), "tanh", Dense(8), "tanh", Dense(2)],
    ],
)
def test_every_alternative_of_an_odd_network_can_be_built(layers, rng):
    X = rng.normal(size=(60, 6))
    assert len(diagnose(Network(layers, input_size=6, seed=0), X, X[:, 0] > 0).what_if) >= 10


def test_variants_keep_weights_that_are_no_longer_as_drawn(rng):
    net = mlp([6, 8, 3], activation="sigmoid", seed=5)
    net.set_parameters({"0.weight": np.full((8, 6), 0.25)})
    variants = Variants(net)
    assert not variants.fresh
    assert Variants(net.copy(seed=5)).fresh
    assert (variants.make(Change(activation="tanh")).get_parameters()["0.weight"] == 0.25).all()
    assert (variants.make(Change(init="he_normal")).get_parameters()["0.weight"] != 0.25).all()
    assert (net.get_parameters()["0.weight"] == 0.25).all()


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("norm", [None, "batch", "layer"])
@pytest.mark.parametrize("dropout", [0.0, 0.12345678])
@pytest.mark.parametrize("sizes", [[8, 8, 8, 3], [4, 8, 8, 16, 16, 3]], ids=str)
def test_describe_writes_a_call_that_makes_just_these_layers(residual, norm, dropout, sizes):
    arguments = {"activation": "leaky_relu(0.2)", "residual": residual, "norm": norm, "dropout": dropout}
    net = mlp(sizes, init="normal(0.1)", **arguments, seed=0)
    call = describe(net.layers, net.input_size)
    assert eval(call, {"mlp": mlp, "sizes": sizes}).layers == net.layers


@pytest.mark.parametrize(
    "layers",
    [
        [Residual([Dense(8), "relu", Dense(8), "relu"]), Dense(3)],
        [Residual([Dense(8), "relu"], scale=0.5), Residual([Dense(8), "relu"]), Dense(3)],
        [Residual([Dense(8), "relu"]), Dense(8), "relu", Dense(3)],
        [Dense(8), "relu", Residual([Dense(8), "relu"]), Dense(3)],  # mlp would make the first one a block, too
        [Dense(8), BatchNorm(momentum=0.2), "relu", Dense(3)],
        [Dense(8), BatchNorm(eps=1e-3), "relu", Dense(3)],
        [Dense(8), "relu", BatchNorm(), Dense(3)],
        [Dense(8), LayerNorm(eps=1e-3), "relu", LayerNorm(), Dense(3)],
        [Dense(8), BatchNorm(), "relu", Dense(8), "relu", Dense(3)],
        [BatchNorm(), Dense(8), "relu", Dense(3)],
        [Dense(8, use_bias=False), "relu", Dense(3)],
        [Dense(8), "relu", Dense(3, bias_init="constant(0.1)")],
        [Dense(8), "relu", Dense(3, init="zeros")],
        [Dense(8), "relu", Dropout(0.1), Dense(8), "relu", Dense(3)],
        [Dense(8), "relu", Dropout(0.1), Dense(8), "relu", Dropout(0.2), Dense(3)],
        [Dense(8), "relu", "relu", Dense(3)],
        [Dense(8), "relu", Dense(3), "relu"],
        [Dense(8), Dense(8), "relu", Dense(3)],
    ],
    ids=repr,
)  # fmt: skip
def test_what_no_call_makes_is_written_layer_by_layer(layers):
    net = Network(layers, input_size=8, seed=3)
    assert describe(net.layers, net.input_size) is None
    again = eval(network_code(net, net.seed), {"gradcore": gradcore})
    assert (again.layers, again.input_size, again.seed) == (net.layers, 8, 3)


def test_a_joint_change_is_shown_whole(rng):
    net = mlp([8, 4, 4, 2], activation="sigmoid", seed=0)
    diagnosis = diagnose(net, rng.normal(size=(40, 8)), np.arange(40) % 2)
    lines = change_lines(diagnosis.network, diagnosis.optimizer, Change(activation="tanh", width=2))
    assert lines[:2] == ["- hidden layers 4x2", "+ hidden layers 8x2"]
    assert [line[0] for line in lines[2:]] == ["-", "+"]
    assert "tanh" in lines[3]
    assert len(change_lines(diagnosis.network, diagnosis.optimizer, Change(depth=0.5))) == 2


def test_the_call_after_a_change_is_shown_where_none_makes_what_was_before(rng):
    net = Network([Dense(8, bias_init="ones"), "relu", Dense(2)], input_size=8, seed=0)
    diagnosis = diagnose(net, rng.normal(size=(40, 8)), np.arange(40) % 2)
    assert change_lines(diagnosis.network, diagnosis.optimizer, Change(init="he_normal")) == [
        '+ mlp(sizes, activation="relu", init="he_normal")'
    ]
    assert change_lines(diagnosis.network, diagnosis.optimizer, Change(activation="tanh")) == ["+ tanh"]
