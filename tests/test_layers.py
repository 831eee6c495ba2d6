import dataclasses
import math

import pytest

from gradcore.initializers import zeros
from gradcore.layers import Activation, BatchNorm, Dense, Dropout, LayerNorm, Residual, as_layers

NAN, INF = math.nan, math.inf
LAYERS = [Dense(3), Activation("relu"), BatchNorm(), LayerNorm(), Dropout(0.5), Residual([Dense(3), "relu"])]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
def test_a_layer_is_a_frozen_description(layer):
    field = dataclasses.fields(layer)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(layer, field, 1)
    assert dataclasses.replace(layer) == layer
    assert hash(dataclasses.replace(layer)) == hash(layer)
    names = {c.__name__: c for c in (Dense, Activation, BatchNorm, LayerNorm, Dropout, Residual)}
    assert eval(repr(layer), names) == layer


def test_defaults_are_the_promised_ones():
    assert Dense(4) == Dense(4, init="auto", bias_init="zeros", use_bias=True)
    assert BatchNorm() == BatchNorm(momentum=0.1, eps=1e-5)
    assert LayerNorm() == LayerNorm(eps=1e-5)
    assert Residual(["relu"]).scale == 1.0


@pytest.mark.parametrize("units", [0, -1])
def test_a_width_is_at_least_one(units):
    with pytest.raises(ValueError, match="units of Dense must be at least 1"):
        Dense(units)


@pytest.mark.parametrize("units", [2.0, "3", None, True])
def test_a_width_is_an_integer(units):
    with pytest.raises(TypeError, match="units of Dense must be an integer"):
        Dense(units)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"init": "he_norml"}, "did you mean 'he_normal'"),
        ({"init": "normal(-1)"}, "std"),
        ({"bias_init": "zeroes"}, "did you mean 'zeros'"),
        ({"bias_init": "auto"}, "unknown initializer"),
    ],
)
def test_an_initializer_is_checked_when_the_layer_is_made(arguments, match):
    with pytest.raises(ValueError, match=match):
        Dense(3, **arguments)


def test_an_initializer_may_be_a_function():
    assert Dense(3, init=zeros).init is zeros


def test_other_arguments_of_dense():
    with pytest.raises(TypeError, match="use_bias must be True or False"):
        Dense(3, use_bias=1)
    with pytest.raises(TypeError):
        Dense(3, "he_normal")  # only by name
    with pytest.raises(TypeError, match="expected the name"):
        Dense(3, init=None)


def test_an_activation_knows_its_function():
    assert Activation("logistic").info.name == "sigmoid"
    assert Activation("leaky_relu(0.2)").parameter == 0.2
    assert Activation("softmax").info.name == "softmax"
    with pytest.raises(ValueError, match="did you mean 'relu'"):
        Activation("rellu")
    with pytest.raises(TypeError, match="expected a name"):
        Activation(3)


@pytest.mark.parametrize("momentum", [0, -0.1, 1.1, NAN, INF])
def test_momentum_of_batch_norm(momentum):
    with pytest.raises(ValueError, match="momentum of BatchNorm"):
        BatchNorm(momentum)
    assert BatchNorm(1).momentum == 1.0


@pytest.mark.parametrize("eps", [0, -1e-5, NAN, INF])
def test_eps_of_batch_norm(eps):
    with pytest.raises(ValueError, match="eps of BatchNorm"):
        BatchNorm(eps=eps)
    with pytest.raises(ValueError, match="eps of LayerNorm"):
        LayerNorm(eps=eps)


@pytest.mark.parametrize("rate", [1, -0.1, 2, NAN, INF])
def test_rate_of_dropout(rate):
    with pytest.raises(ValueError, match="rate of Dropout"):
        Dropout(rate)
    assert Dropout(0).rate == 0.0


def test_a_residual_block():
    block = Residual([Dense(4), "relu", Residual(["tanh"], scale=0.5)], scale=2)
    assert block.layers == (Dense(4), Activation("relu"), Residual([Activation("tanh")], 0.5))
    assert block.scale == 2.0
    with pytest.raises(ValueError, match="at least one layer"):
        Residual([])
    for scale in (NAN, INF):
        with pytest.raises(ValueError, match="scale of Residual"):
            Residual(["relu"], scale)


def test_a_list_of_layers():
    assert as_layers([Dense(2), "relu"]) == (Dense(2), Activation("relu"))
    assert as_layers(layer for layer in ["tanh"]) == (Activation("tanh"),)
    assert as_layers([]) == ()


@pytest.mark.parametrize("thing", ["relu", Dense(3), None, 3])
def test_one_layer_is_not_a_list(thing):
    with pytest.raises(TypeError, match="must be a list"):
        as_layers(thing)


def test_the_place_of_a_wrong_layer_is_named():
    with pytest.raises(TypeError, match="layer 1 must be a layer or the name of an activation, got 64"):
        as_layers([Dense(3), 64])
    with pytest.raises(TypeError, match="layer 0"):
        as_layers([Dense])
    with pytest.raises(ValueError, match="layer 2: unknown activation 'rleu'"):
        as_layers([Dense(3), "relu", "rleu"])
