"""The lines that make a prescription again really do."""

import builtins

import numpy as np
import pytest

import gradcore
from gradcore.diagnosis.changes import Change
from gradcore.optimizers import SGD

DIGITS = gradcore.datasets.load_digits()
X, Y = DIGITS.X_train[:200], DIGITS.y_train[:200]
HELD_OUT = DIGITS.X_test[:50], DIGITS.y_test[:50]
CASES = {
    "usual": {"treatments": ["activation"], "epochs": 2},
    "one kind": {"treatments": "dropout", "epochs": np.int64(2)},
    "one change": {"treatments": Change(rate=0.3), "epochs": 2},
    "a set": {"treatments": {"dropout"}, "epochs": 2},
    "settings": {
        "treatments": iter(["clipping"]), "epochs": 2, "batch_size": 16, "optimizer": SGD(0.1, momentum=0.9),
        "seeds": 2, "seed": 3, "test_fraction": 0.3, "clip_norm": 2.0, "schedule": "cosine",
    },
    "own changes": {
        "treatments": [Change(rate=0.3, optimizer=SGD(0.01)), "dropout"], "epochs": 2, "optimizer": "adam(0.01)",
        "validation_data": HELD_OUT,
    },
}  # fmt: skip


def sick():
    return gradcore.mlp([64, *[16] * 4, 10], activation="sigmoid", init="normal(0.01)", seed=5)


@pytest.mark.parametrize("name", CASES)
def test_the_lines_make_the_same_prescription(name, monkeypatch):
    found = gradcore.prescribe(sick(), X, Y, progress=False, **CASES[name])
    again = []
    monkeypatch.setattr(builtins, "print", again.append)
    exec(
        found.reproduce, {"gradcore": gradcore, "X": X, "y": Y, "X_test": HELD_OUT[0], "y_test": HELD_OUT[1]}
    )
    assert [trial.name for trial in again[0].trials] == [trial.name for trial in found.trials]
    for trial, other in zip(again[0].trials, found.trials, strict=True):
        np.testing.assert_array_equal(trial.scores, other.scores)
    assert again[0].reproduce == found.reproduce


def test_what_is_as_usual_is_left_out(prescriptions):
    *_, call = prescriptions["cured"].reproduce.splitlines()
    assert (
        call == "print(gradcore.prescribe(net, X, y, treatments=['activation', 'learning_rate'], epochs=12))"
    )
