"""Predictions against measured ledgers."""

import numpy as np
import pytest

from gradcore import activations, mlp, theory

RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 64))
Y = np.arange(64) % 10


def averages(make, seeds=4):
    """log10 of predicted and measured (signal, scale, delta) by layer, means over networks."""
    predicted, measured = [], []
    for seed in range(seeds):
        net = make(seed)
        prediction, layers = theory.predict(net, X), net.ledger(X, Y, seed=seed).layers()
        assert prediction.valid.all()
        predicted.append([prediction.signal_log10, prediction.scale_log10, prediction.delta_log10])
        measured.append(
            np.log10([layers.output_signal, layers.output_scale, layers.delta / layers.delta[-1]])
        )
    return np.mean(predicted, axis=0), np.mean(measured, axis=0)


STANDARD = sorted(set(activations.REGISTRY) - {"exponential"})


@pytest.mark.parametrize("name", STANDARD)
def test_wide_networks_do_as_predicted(name):
    predicted, measured = averages(lambda seed: mlp([64, 1024, 1024, 1024, 512], activation=name, seed=seed))
    assert np.abs(10 ** (predicted - measured) - 1).max() < 0.05
