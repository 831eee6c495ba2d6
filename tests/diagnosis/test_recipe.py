"""Recipes: what a change makes of one, and networks that take the user's own units."""

import numpy as np
import pytest

from gradcore.diagnosis.changes import Change
from gradcore.diagnosis.recipe import Data, Job, Recipe, Scaling, train, with_scaling
from gradcore.layers import Activation, BatchNorm, Dense, Dropout
from gradcore.network import Network, mlp
from gradcore.optimizers import SGD, Adam

RNG = np.random.default_rng(0)
X = (RNG.normal(size=(120, 3)) * [1.0, 50.0, 0.01] + [5.0, -300.0, 0.0]).astype("f4")
Y = ((X - X.mean(axis=0)) / X.std(axis=0)) @ np.array([[1.0], [-2.0], [0.5]]) * 70 + 900
DATA = Data(X[:90], Y[:90].astype("f4"), X[90:], Y[90:].astype("f4"))


def recipe(**changes):
    layers = mlp([3, 8, 8, 1], activation="sigmoid").layers
    settings = {"loss": "mse", "optimizer": Adam(0.01), "batch_size": 32} | changes
    return Recipe(layers, 3, np.dtype("float32"), **settings)


@pytest.mark.parametrize(
    ("change", "field", "value"),
    [
        (Change(rate=10.0), "optimizer", Adam(0.1)),
        (Change(optimizer=SGD(0.3)), "optimizer", SGD(0.3)),
        (Change(weight_decay=0.1), "optimizer", Adam(0.01, weight_decay=0.1)),
        (Change(l1=0.1), "optimizer", Adam(0.01, l1=0.1)),
        (Change(batch_size=8), "batch_size", 8),
        (Change(clip_norm=1.0), "clip_norm", 1.0),
        (Change(clip_value=1.0), "clip_value", 1.0),
        (Change(clip_adaptive=0.1), "clip_adaptive", 0.1),
        (Change(schedule="warmup(0.1)"), "schedule", "warmup(0.1)"),
        (Change(standardise=True), "standardise", True),
        (Change(standardise_targets=True), "standardise_targets", True),
        (Change(lsuv=True), "lsuv", True),
        (Change(pretrained=0.2), "pretrained", 0.2),
    ],
)
def test_a_change_changes_one_thing(change, field, value):
    before, after = recipe(), recipe().changed(change)
    differing = {name for name in vars(before) if getattr(before, name) != getattr(after, name)}
    assert differing == {field}
    assert getattr(after, field) == value


def test_one_way_to_clip_replaces_another():
    after = recipe(clip_norm=1.0).changed(Change(clip_value=0.5))
    assert (after.clip_norm, after.clip_value) == (None, 0.5)
    assert recipe(clip_norm=1.0).changed(Change(rate=2.0)).clip_norm == 1.0


def test_a_sum_becomes_a_mean():
    assert recipe(loss="mse(reduction='sum')").changed(Change(mean_loss=True)).loss == "mse"


def test_dropout_goes_behind_every_hidden_layer_that_has_none():
    layers = recipe().changed(Change(dropout=0.2)).layers
    assert [type(layer) for layer in layers] == [Dense, Activation, Dropout] * 2 + [Dense]
    again = recipe().changed(Change(dropout=0.2)).changed(Change(dropout=0.5)).layers
    assert again == layers


def test_config_is_plain_and_tells_recipes_apart():
    import json

    configs = [
        json.dumps(recipe().changed(change).config)
        for change in (
            Change(),
            Change(rate=2.0),
            Change(lsuv=True),
            Change(pretrained=0.0),
            Change(norm=True),
        )
    ]
    assert len(set(configs)) == 5


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "layers",
    [
        [Dense(6), "tanh", Dense(1)],
        [BatchNorm(), Dense(6), "tanh", Dense(1), "relu"],
        [Dense(6, use_bias=False), "tanh", Dense(1, use_bias=False)],
        [Dropout(0.1), Dense(1)],
    ],
)
def test_the_scaling_moves_into_the_network(dtype, layers):
    net = Network(layers, input_size=3, dtype=dtype, seed=0)
    data = X.astype(dtype)
    inputs, targets = Scaling.of(data), Scaling.of(Y.astype(dtype))
    expected = net.forward(inputs(data)) * targets.deviation + targets.mean
    whole = with_scaling(net, inputs, targets)
    tolerance = 2e-3 if dtype == "float32" else 1e-9
    np.testing.assert_allclose(whole.forward(data), expected, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(
        with_scaling(net, inputs, None).forward(data),
        net.forward(inputs(data)),
        rtol=tolerance,
        atol=tolerance,
    )


def test_a_constant_column_is_only_centred():
    scaling = Scaling.of(np.array([[1.0, 7.0], [3.0, 7.0]]))
    assert scaling(np.array([[1.0, 7.0]])).tolist() == [[-1.0, 0.0]]


def test_trainings_are_those_of_fit_on_the_scaled_data():
    scaled = recipe().changed(Change(standardise=True, standardise_targets=True))
    plain, made = train([Job(recipe(), 3, 5, 7), Job(scaled, 3, 5, 7)], DATA)
    net = mlp([3, 8, 8, 1], activation="sigmoid", seed=5)
    net.fit(DATA.X, DATA.y, optimizer=Adam(0.01), loss="mse", epochs=3, seed=7, progress=False)
    assert (net.parameters == plain.network.parameters).all()
    assert made.inputs is not None
    np.testing.assert_allclose(made.data.X.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(made.data.X_test, made.inputs(DATA.X_test))
    assert plain.seconds > 0


def test_prepared_networks_start_from_prepared_weights():
    start = recipe().network(0)
    for change in (Change(lsuv=True), Change(pretrained=0.0)):
        changed = recipe().changed(change)
        net = changed.network(0)
        changed.prepare_(net, X, 0)
        assert not (net.parameters == start.parameters).all()


@pytest.mark.parametrize("size", [1e-200, 1.0, 1e300])
def test_scaling_takes_columns_of_any_size(size):
    columns = np.random.default_rng(0).normal(size=(50, 3)) * [1.0, 2.0, 0.0] + [0.0, 5.0, 7.0]
    with np.errstate(all="raise"):
        scaled = Scaling.of(columns * size)(columns * size)
    assert scaled == pytest.approx(Scaling.of(columns)(columns))
    assert scaled.std(axis=0) == pytest.approx([1, 1, 0])
