import copy
import pickle

import numpy as np
import pytest

from gradcore import Probe, mlp
from gradcore.callbacks import Callback
from gradcore.health import probe as probe_module
from gradcore.health.probe import Ring
from gradcore.kernels import RECORD_DTYPE


@pytest.fixture
def data(rng):
    return rng.standard_normal((40, 5)).astype("f4"), rng.integers(0, 3, 40)


def same(one, other):
    return np.array_equal(one.records.view(np.float64), other.records.view(np.float64), equal_nan=True)


@pytest.mark.parametrize("level", ["light", "full"])
@pytest.mark.parametrize("every", [1, 3])
def test_the_ring_holds_what_single_steps_book(data, every, level):
    """Many steps in one compiled call or one at a time: the same books, bit for bit."""
    X, y = data
    by_fit, by_steps = (mlp([5, 8, 3], dropout=0.2, seed=0) for _ in range(2))
    history = by_fit.fit(X, y, epochs=3, batch_size=8, shuffle=False, probe=Probe(every, level), seed=4)
    with by_steps.stepper(batch_size=8, probe=Probe(every, level), seed=4) as step:
        for _ in range(3):
            for at in range(0, 40, 8):
                step(X[at : at + 8], y[at : at + 8])
        ledgers = list(step.ledgers)
        assert step.ledger.step == ledgers[-1].step
    assert len(history.ledgers) == len(ledgers) == 15 // every
    for one, other in zip(history.ledgers, ledgers, strict=True):
        assert (one.step, one.loss, one.rows) == (other.step, other.loss, other.rows)
        assert same(one, other)


def test_the_last_ledgers_that_fit_are_kept(data, monkeypatch):
    net = mlp([5, 8, 3], seed=0)
    every = net.fit(*data, epochs=4, batch_size=10, probe=Probe(), seed=0).ledgers
    monkeypatch.setattr(probe_module, "BUDGET", 5 * RECORD_DTYPE.itemsize * (len(net.plan.table) + 1) + 1)
    few = mlp([5, 8, 3], seed=0).fit(*data, epochs=4, batch_size=10, probe=Probe(), seed=0).ledgers
    assert few.records.shape[0] == 5
    assert [ledger.step for ledger in few] == [12, 13, 14, 15, 16]
    assert all(same(one, other) for one, other in zip(few, every[-5:], strict=True))


def test_a_ring_reads_as_a_sequence(data):
    net = mlp([5, 8, 3], seed=0)
    ledgers = net.fit(*data, epochs=2, batch_size=10, probe=Probe(2), seed=0).ledgers
    assert [ledger.step for ledger in ledgers[1:3]] == [4, 6]
    assert ledgers[-1].step == 8
    assert len(ledgers.last(3)) == 3
    with pytest.raises(IndexError):
        ledgers[4]
    assert repr(ledgers) == "<4 ledgers, every 2 steps, light>"
    for other in (pickle.loads(pickle.dumps(ledgers)), copy.deepcopy(ledgers)):
        assert all(same(one, two) for one, two in zip(ledgers, other, strict=True))
    assert not Ring(net.plan, Probe(), 3)


class Watches(Callback):
    def __init__(self, stop=None):
        self.seen, self.stop = [], stop

    def on_probe(self, step, ledger):
        assert step == ledger.step == len(self.history.curve.values)
        self.seen.append((step, ledger.loss))
        self.network.stop_training = step == self.stop


def test_a_hook_gets_every_ledger_right_after_its_step(data):
    watches, other = Watches(), Callback()
    net = mlp([5, 8, 3], seed=0)
    history = net.fit(*data, epochs=2, batch_size=8, probe=Probe(3), callbacks=[watches, other], seed=0)
    assert watches.seen == [(ledger.step, ledger.loss) for ledger in history.ledgers]
    assert [step for step, _ in watches.seen] == [3, 6, 9]
    unwatched = mlp([5, 8, 3], seed=0)
    unwatched.fit(*data, epochs=2, batch_size=8, seed=0)
    assert np.array_equal(net.parameters, unwatched.parameters)


def test_a_hook_can_end_the_training(data):
    net = mlp([5, 8, 3], seed=0)
    history = net.fit(*data, epochs=2, batch_size=8, probe=Probe(2), callbacks=[Watches(stop=4)], seed=0)
    assert history.steps == 4
    assert history.stopped == "a callback asked for it"


def test_without_a_probe_there_is_nothing(data):
    watches = Watches()
    assert len(mlp([5, 3], seed=0).fit(*data, epochs=1, callbacks=[watches]).ledgers) == 0
    assert watches.seen == []


def test_the_two_part_step_fills_the_ring_too(data):
    X, _ = data
    net = mlp([5, 8, 3], seed=0)
    with net.stepper(batch_size=40, probe=Probe(2, "full"), seed=0) as step:
        for _ in range(5):
            step.backward(step.forward(X))
        assert [ledger.step for ledger in step.ledgers] == [2, 4]
        assert step.ledger.rows == 40
        assert np.isnan(step.ledger.loss)
        assert np.isfinite(step.ledger.end_to_end_log10)


@pytest.mark.parametrize("seen", [0, 4, 5, 17])
def test_a_ring_may_begin_in_the_middle(seen):
    net = mlp([2, 3, 1], seed=0)
    ring = Ring(net.plan, Probe(5), 4)
    ring.begin_after(seen)
    assert list(ring) == []
    first = seen // 5 * 5 + 5
    for step in range(seen, first + 10):
        if (step + 1) % 5 == 0:
            ring.records[((step + 1) // 5 - 1) % len(ring.records)] = 0
        ring.book(step, np.array([float(step + 1)]), np.array([1]))
    expected = [(first, first), (first + 5, first + 5), (first + 10, first + 10)]
    for kept in (ring, pickle.loads(pickle.dumps(ring))):
        assert [(ledger.step, ledger.loss) for ledger in kept] == expected
    assert [ledger.step for ledger in ring.since(first)] == [first + 5, first + 10]
