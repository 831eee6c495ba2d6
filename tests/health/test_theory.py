"""Theory against the literature and against measured networks."""

import math

import numpy as np
import pytest

from gradcore import mlp
from gradcore.health import theory


def test_relu_with_he_is_critical():
    assert theory.chi("relu", 3.0, math.sqrt(2)) == pytest.approx(1, abs=1e-12)
    assert theory.variance_map("relu", 0.7, math.sqrt(2)) == pytest.approx(0.7, abs=1e-12)


def test_tanh_is_critical_where_the_literature_says():
    # Schoenholz et al. (2017): at bias variance 0.05 the critical weight variance is near 1.76
    q = 1.0
    for _ in range(200):
        q = theory.variance_map("tanh", q, math.sqrt(1.76), math.sqrt(0.05))
    assert theory.chi("tanh", q, math.sqrt(1.76)) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("std", [0.5, 1, 4, 9])
def test_sigmoid_vanishes_for_every_usual_weight(std):
    q = 1.0
    for _ in range(100):
        q = theory.variance_map("sigmoid", q, std)
    assert theory.chi("sigmoid", q, std) < 1


def test_correlation_of_equal_examples_stays_one():
    for name in ("tanh", "relu", "leaky_relu(0.2)", "elu"):
        assert theory.correlation_map(name, 1.3, 1.0, 1.1, 0.2) == pytest.approx(1, abs=1e-9)


def test_chi_is_the_measured_gain_of_a_wide_network():
    rng = np.random.default_rng(0)
    net = mlp([400, *6 * [400], 10], activation="tanh", init="glorot_normal", dtype="float64", seed=0)
    ledger = net.ledger(rng.normal(size=(32, 400)), rng.integers(0, 10, 32))
    layers = ledger.layers()
    for i in range(1, 5):
        measured = (layers.delta[i] / layers.delta[i + 1]) ** 2
        assert theory.chi("tanh", layers.z_scale[i] ** 2, 1.0) == pytest.approx(measured, rel=0.05)


def test_spread_of_narrow_relu_stacks():
    assert theory.gain_variance("relu", 1.0, 50) == pytest.approx(5 / 50)
    assert theory.gain_variance("identity", 1.0, 50) == pytest.approx(2 / 50)
    assert theory.gain_variance("exponential", 1e6, 50) == math.inf
    # 150 networks: the log of the squared gain scatters as the sum over the layers says
    gains = []
    for seed in range(150):
        net = mlp([64, *8 * [64], 64], activation="identity", dtype="float64", seed=seed)
        rng = np.random.default_rng(seed)
        gains.append(
            2 * math.log(10) * net.ledger(rng.normal(size=(2, 64)), rng.normal(size=(2, 64))).end_to_end_log10
        )
    assert np.var(gains) == pytest.approx(8 * 2 / 64, rel=0.5)
