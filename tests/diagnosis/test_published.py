"""Networks of the kinds that published detectors were judged by: the cause is named, the controls stay silent.

Two concentric circles, layers of five units, Adam(0.001), batches of 128: the small networks of AUTOTRAINER (Zhang et
al., ICSE 2021), rebuilt from the published facts.  A regression with unscaled targets and a softmax over one unit come
from the faulty programs of DeepLocalize (Wardat et al., ICSE 2021), constant initial weights from TheDeepChecker.
"""

import numpy as np
import pytest

from gradcore import Activation, Dense, Network
from gradcore.diagnosis.diagnose import diagnose


def circles(rows=700):
    rng = np.random.default_rng(1)
    labels = rng.permutation(np.arange(rows) % 2)
    angle = rng.uniform(0, 2 * np.pi, rows)
    radius = np.where(labels == 1, 0.8, 1.0)
    points = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return points + 0.1 * rng.normal(size=points.shape), labels


X, Y = circles()
TRAINING = {"optimizer": "adam(0.001)", "batch_size": 128, "steps": 200, "seeds": 4}


def stack(depth, activation, init):
    hidden = [part for _ in range(depth) for part in (Dense(5, init=init), Activation(activation))]
    return Network([*hidden, Dense(1, init="he_uniform")], input_size=2, seed=0)


@pytest.mark.parametrize(
    ("depth", "activation", "init", "kinds", "cause"),
    [
        (10, "exponential", "he_uniform", {"overflow"}, "activation"),
        (11, "sigmoid", "he_uniform", {"vanishing_gradient"}, "activation"),
        (8, "relu", "uniform(-0.05, 0.05)", {"vanishing_gradient"}, "initial_weights"),
    ],
)
def test_broken_whatever_the_seed(depth, activation, init, kinds, cause):
    fault = diagnose(stack(depth, activation, init), X, Y, **TRAINING).faults[0]
    assert fault.kind in kinds
    assert cause in fault.causes
    assert fault.severity == "fatal"
    assert fault.seeds == (4, 4)


def test_narrow_deep_relu_is_broken_in_some_seeds():
    faults = diagnose(stack(15, "relu", "he_uniform"), X, Y, **TRAINING | {"seeds": 8}).faults
    assert {"dead_units", "loss_stalled"} & {fault.kind for fault in faults}
    assert 0 < max(fault.seeds[0] for fault in faults) < 8


@pytest.mark.parametrize(("depth", "init"), [(11, "he_uniform"), (5, "he_uniform"), (8, "glorot_normal")])
@pytest.mark.parametrize("steps", [0, 200])
def test_tanh_controls_are_healthy(depth, init, steps):
    assert diagnose(stack(depth, "tanh", init), X, Y, **TRAINING | {"steps": steps}).healthy


def test_softmax_over_one_unit():
    net = Network([Dense(2), "sigmoid", Dense(1), "softmax"], input_size=2, seed=0)
    fault = diagnose(net, X, Y.astype(float), loss="mse", optimizer="sgd(0.001, momentum=0.9)").faults[0]
    assert (fault.kind, fault.causes) == ("constant_output", ("output_loss_pair",))


def test_constant_weights():
    net = Network(
        [Dense(64, init="constant(0.01)"), "relu", Dense(1, init="constant(0.01)")], input_size=2, seed=0
    )
    fault = diagnose(net, X, Y).faults[0]
    assert (fault.kind, fault.causes) == ("symmetric_weights", ("symmetric_initial_weights",))


def test_outputs_that_cannot_reach_their_targets():
    net = Network([Dense(16), "tanh", Dense(1), "tanh"], input_size=2, seed=0)
    fault = diagnose(net, X, 100 + 10 * X[:, 0], loss="mse").faults[0]
    assert (fault.kind, fault.causes) == ("constant_output", ("output_loss_pair",))


def test_a_step_that_is_too_large_for_its_targets():
    x = np.arange(0, 5, 0.1)[:, None]
    net = Network([Dense(50), "relu", Dense(30), "relu", Dense(1)], input_size=1, seed=0)
    fault = diagnose(net, x, 5 * x[:, 0] ** 2, optimizer="sgd(0.1)").faults[0]
    assert fault.kind == "update_ratio_too_large"
    assert fault.causes in (("learning_rate",), ("target_scale",))
