"""What is watched of real steps: the ledgers among them are those of the steps, and change nothing."""

import numpy as np
import pytest

from gradcore import mlp
from gradcore.datasets import load_digits
from gradcore.diagnosis.observe import Batch, observe, watch
from gradcore.losses import resolve
from gradcore.optimizers import SGD, Adam

DIGITS = load_digits()
DATA = Batch(
    np.ascontiguousarray(DIGITS.X_train[:96], np.float32), DIGITS.y_train[:96], resolve("cross_entropy")
)


def net(**arguments):
    return mlp([64, 16, 16, 10], activation="tanh", seed=0, **arguments)


def test_the_first_ledger_is_that_of_the_network_before():
    trace = watch(net(), DATA, Adam(), steps=3, batch_size=96, seed=0, ledgers=3)
    layers = observe(net(), DATA).layers
    step, delta, gradient = trace.ledgers[0]
    assert step == 1
    np.testing.assert_allclose(delta, layers.delta, rtol=1e-5)
    np.testing.assert_allclose(gradient, layers.gradient, rtol=1e-5)
    assert not np.allclose(trace.ledgers[2][1], layers.delta, rtol=1e-3)


@pytest.mark.parametrize(
    ("steps", "most", "expected"), [(100, 10, range(10, 101, 10)), (7, 3, (3, 6)), (2, 9, (1, 2))]
)
def test_they_are_evenly_spaced_and_change_nothing(steps, most, expected):
    booked, plain = net(dropout=0.2), net(dropout=0.2)
    settings = {"steps": steps, "batch_size": 16, "seed": 1}
    trace = watch(booked, DATA, Adam(), **settings, ledgers=most)
    without = watch(plain, DATA, Adam(), **settings)
    assert [step for step, _, _ in trace.ledgers] == list(expected)
    assert without.ledgers == ()
    np.testing.assert_array_equal(trace.losses, without.losses)
    np.testing.assert_array_equal(booked.get_parameters()["0.weight"], plain.get_parameters()["0.weight"])


def test_what_steps_do_is_seen_in_them():
    trace = watch(net(), DATA, SGD(1e30), steps=8, batch_size=32, seed=0, ledgers=8)
    # one such step saturates every tanh
    assert (trace.ledgers[0][2] > 0).all()
    assert (trace.ledgers[-1][2][:2] == 0).all()
