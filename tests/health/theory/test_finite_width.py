"""What finite widths add, against the literature and against networks."""

import math

import numpy as np
import pytest

from gradcore import mlp, theory
from gradcore.health.theory.finite_width import dead_below


def test_spread_of_narrow_stacks():
    assert theory.gain_variance("relu", 1.0, 50) == pytest.approx(5 / 50)
    assert theory.gain_variance("identity", 1.0, 50) == pytest.approx(2 / 50)
    # κ = exp(4 std²)
    assert theory.gain_variance("exponential", 1.0, 50) == pytest.approx((3 * math.exp(4) - 1) / 50)
    assert theory.gain_variance("exponential", 1e6, 50) == math.inf
    # 150 networks: the log of the squared gain scatters as the sum over the layers says
    gains, rng = [], np.random.default_rng(0)
    for seed in range(150):
        net = mlp([64, *8 * [64], 64], activation="identity", dtype="float64", seed=seed)
        ledger = net.ledger(rng.normal(size=(2, 64)), rng.normal(size=(2, 64)))
        gains.append(2 * math.log(10) * ledger.end_to_end_log10)
    assert np.var(gains) == pytest.approx(8 * 2 / 64, rel=0.5)


def test_what_is_flat_on_one_side():
    assert dead_below("relu") == 0
    assert all(dead_below(name) == -math.inf for name in ("tanh", "elu", "leaky_relu(0.1)", "identity"))


def test_dead_layers_are_as_frequent_as_said():
    # one row is one direction: the bound of Lu et al. is the chance itself
    x, dead, networks = np.ones((1, 3)), 0, 400
    for seed in range(networks):
        net = mlp([3, *6 * [4], 1], activation="relu", dtype="float64", seed=seed)
        dead += float(net.forward(x).item()) == 0
    chance = theory.dead_layer_chance(6 * [4])
    assert abs(dead / networks - chance) < 4 * math.sqrt(chance * (1 - chance) / networks)
    assert theory.predict(net, x).dead_layer_chance == pytest.approx(chance)


def test_no_layers_no_death():
    assert theory.dead_layer_chance([]) == 0
    assert theory.dead_layer_chance([2, 3], [0.5, 0.1]) == pytest.approx(1 - 0.75 * 0.999)


def test_arguments_that_cannot_be_are_named():
    for call, message in (
        (lambda: theory.gain_variance("relu", 1.0, 0), "width"),
        (lambda: theory.dead_layer_chance([8, 0]), r"widths\[1\]"),
        (lambda: theory.dead_layer_chance([8], 2.0), "off must be a chance"),
        (lambda: theory.dead_layer_chance([8, 8, 8], [0.5, 0.5]), "one for each of the 3 layers"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    assert theory.dead_layer_chance([8], 1.0) == 1.0
