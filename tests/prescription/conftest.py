"""Prescriptions that several test files look at: cured, healthy, hopeless, regression, one that the budget ended."""

import numpy as np
import pytest

import gradcore
from gradcore.diagnosis.changes import Change

DIGITS = gradcore.datasets.load_digits()
X, Y = DIGITS.X_train[:600], DIGITS.y_train[:600]


def _sick():
    return gradcore.mlp([64, *[24] * 6, 10], activation="sigmoid", init="normal(0.01)", seed=0)


def _regression():
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(200, 3))
    return gradcore.mlp([3, 8, 1], seed=0), inputs, 50 * inputs[:, 0] + 10


CASES = {
    "cured": lambda: (_sick(), X, Y, {"treatments": ["activation", "learning_rate"], "epochs": 12}),
    "healthy": lambda: (gradcore.mlp([64, 32, 10], seed=0), X, Y, {"treatments": ["clipping"], "epochs": 12}),
    "harmed": lambda: (gradcore.mlp([64, 32, 10], seed=0), X, Y, {"treatments": [Change(rate=1e-4)], "epochs": 8}),
    "hopeless": lambda: (
        _sick(), X, np.random.default_rng(0).permutation(Y), {"treatments": ["learning_rate"], "epochs": 2}
    ),
    "regression": lambda: (*_regression(), {"treatments": ["standardised_targets", "dropout"], "epochs": 20}),
    "budget": lambda: (_sick(), X, Y, {"treatments": "auto", "budget": "1500 steps", "epochs": 5}),
}  # fmt: skip


@pytest.fixture(scope="session")
def prescriptions():
    found = {}
    for name, make in CASES.items():
        net, inputs, targets, arguments = make()
        found[name] = gradcore.prescribe(net, inputs, targets, progress=False, **arguments)
    return found
