"""Many networks side by side: the same bits as one by one."""

import threading

import numpy as np
import pytest

import gradcore
from gradcore.errors import FaultError
from gradcore.layers import BatchNorm, Dense, Dropout
from gradcore.network import Network, mlp
from gradcore.training import many
from gradcore.training.many import fit_many

RNG = np.random.default_rng(0)
X = RNG.normal(size=(90, 3))
LABELS = X[:, 0] > X[:, 1]
VALUES = X @ [1.0, -2.0, 0.5]


def various() -> list[Network]:
    return [
        mlp([3, 8, 2], seed=0),
        mlp([3, 8, 8, 2], activation="tanh", dtype="float64", seed=1),
        mlp([3, 6, 2], norm="batch", dropout=0.3, seed=2),
        Network(
            [Dense(5), BatchNorm(), "selu", Dropout(0.5), Dense(2)], input_size=3, dtype="float64", seed=3
        ),
        mlp([3, 70, 2], residual=True, seed=4),
    ]


def same(one: Network, other: Network) -> None:
    assert (one.parameters == other.parameters).all()
    assert (one.state == other.state).all()
    np.testing.assert_equal(one.history.history, other.history.history)
    assert one.history.epochs == other.history.epochs
    np.testing.assert_equal(one.history.curve.values, other.history.curve.values)
    assert (one.history.steps, one.history.stopped, one.history.seed) == (
        other.history.steps, other.history.stopped, other.history.seed,
    )  # fmt: skip


@pytest.mark.parametrize("threads", [1, 2, 3, 16])
def test_the_same_bits_as_one_by_one(threads, monkeypatch):
    monkeypatch.setattr(many, "SHARES", 1)  # so that networks come and go
    together, alone = various() + various(), various() + various()
    settings = {
        "optimizer": ["adam(0.01)", "sgd(0.1, momentum=0.9)", "adamw", "sgd(0.01)", "adam"] * 2,
        "epochs": [3, 0, 7, 1, 5, 2, 4, 6, 3, 1],
        "batch_size": [32, 7, 16, 90, 1000, 89, 3, 45, 44, 10],
        "seed": list(range(10)),
        "clip_norm": [None, 0.1] * 5,
    }
    histories = fit_many(together, (X, LABELS), threads=threads, **settings)
    for i, net in enumerate(alone):
        own = {name: values[i] for name, values in settings.items()}
        history = net.fit(X, LABELS, progress=False, **own)
        same(net, together[i])
        assert together[i].history is histories[i]
        assert repr(histories[i]).partition(" s; ")[2] == repr(history).partition(" s; ")[2]


def test_own_data_losses_and_validation():
    pairs = [(X, LABELS), (X[:40], VALUES[:40]), (X, np.where(LABELS, "yes", "no"))]
    held_out = [(X[:9], LABELS[:9]), (X[:9], VALUES[:9]), (X[:5], ["yes", "no", "no", "yes", "no"])]

    def nets() -> list[Network]:
        return [mlp([3, 8, 2], seed=0), mlp([3, 8, 1], seed=1), mlp([3, 8, 1], seed=2)]

    losses = ["auto", "mse", "binary_cross_entropy"]
    together = nets()
    fit_many(together, pairs, loss=losses, validation_data=held_out, epochs=4, seed=[1, 2, 3])
    for i, net in enumerate(nets()):
        net.fit(*pairs[i], loss=losses[i], validation_data=held_out[i], epochs=4, seed=i + 1, progress=False)
        same(net, together[i])
        assert (net.predict(X[:3]) == together[i].predict(X[:3])).all()


def test_one_pair_is_prepared_once(monkeypatch):
    seen = []
    real = many.training_data
    monkeypatch.setattr(many, "training_data", lambda *arguments: seen.append(1) or real(*arguments))
    fit_many([mlp([3, 4, 2], seed=k) for k in range(9)], (X, LABELS), epochs=1)
    assert len(seen) == 1


def test_a_schedule_moves_the_rate_as_in_fit():
    together, alone, constant = ([mlp([3, 8, 2], seed=k) for k in range(3)] for _ in range(3))
    fit_many(together, (X, LABELS), epochs=4, schedule="warmup(0.5)", seed=7)
    for net, other, plain in zip(alone, together, constant, strict=True):
        net.fit(X, LABELS, epochs=4, schedule="warmup(0.5)", seed=7, progress=False)
        plain.fit(X, LABELS, epochs=4, seed=7, progress=False)
        same(net, other)
        assert not (net.parameters == plain.parameters).all()


def test_no_network_nothing_to_do():
    assert fit_many([], (X, LABELS)) == []


def test_networks_that_explode_are_as_alone():
    def nets() -> list[Network]:
        return [mlp([3, 8, 8, 1], activation="exponential", init="normal(3)", seed=k) for k in range(4)]

    together = nets()
    fit_many(together, (X, VALUES), optimizer="sgd(10)", epochs=5, on_fault="ignore", seed=[0, 1, 2, 3])
    for k, net in enumerate(nets()):
        net.fit(X, VALUES, optimizer="sgd(10)", epochs=5, on_fault="ignore", seed=k, progress=False)
        same(net, together[k])
        assert len(net.history.faults) == len(together[k].history.faults)
    assert any(net.history.faults for net in together)


def test_a_fault_that_raises_ends_all_and_keeps_good_weights():
    sound = [mlp([3, 8, 1], seed=k) for k in range(3)]
    bad = mlp([3, 8, 8, 1], activation="exponential", init="normal(30)", seed=9)
    with pytest.raises(FaultError):
        fit_many([*sound, bad], (X, VALUES), epochs=500, on_fault="raise")
    assert bad.history.stopped == "FaultError"
    for net in sound:
        assert np.isfinite(net.parameters).all()
        assert net.history.stopped in ("another training failed", None)
    fit_many([*sound, bad], (X, VALUES), epochs=1, on_fault="ignore")  # nobody is locked


def test_ctrl_c_books_what_was_done(monkeypatch):
    nets = [mlp([3, 8, 2], seed=k) for k in range(4)]
    rounds = []

    def interrupted(self, runs):
        real(self, runs)
        rounds.append(1)
        if len(rounds) == 3:
            raise KeyboardInterrupt

    real = many._SideBySide._run
    monkeypatch.setattr(many._SideBySide, "_run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit_many(nets, (X, LABELS), epochs=100_000)
    assert {net.history.stopped for net in nets} == {"interrupted"}
    assert all(net.history.steps > 0 for net in nets)
    assert all(np.isfinite(net.parameters).all() for net in nets)
    nets[0].fit(X, LABELS, epochs=1, progress=False)


def test_threads_do_not_stay(monkeypatch):
    before = threading.active_count()
    fit_many([mlp([3, 4, 2], seed=k) for k in range(4)], (X, LABELS), epochs=2, threads=2)
    assert threading.active_count() == before


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"epochs": [1, 2]}, ValueError, "epochs has 2 values for 3 networks"),
        ({"data": [(X, LABELS)]}, ValueError, r"data has 1 pairs \(X, y\) for 3"),
        ({"data": X}, TypeError, r"data must be a pair \(X, y\)"),
        ({"optimizer": ["adam", "sgd", "nosuch"]}, ValueError, r"networks\[2\].*nosuch"),
        ({"batch_size": [4, 0, 4]}, ValueError, r"networks\[1\]: batch_size"),
        ({"data": (X[:, :2], LABELS)}, ValueError, r"networks\[0\].*columns"),
        ({"threads": 0}, ValueError, "threads"),
        ({"progress": "no"}, ValueError, "progress"),
        ({"on_fault": "no"}, ValueError, "on_fault"),
        ({"networks": [1, 2, 3]}, TypeError, r"networks\[0\] must be a Network"),
    ],
)
def test_what_cannot_be_is_named_and_nothing_is_trained(change, error, message):
    nets = [mlp([3, 4, 2], seed=k) for k in range(3)]
    arguments = {"networks": nets, "data": (X, LABELS), "epochs": 1} | change
    with pytest.raises(error, match=message):
        fit_many(**arguments)
    assert all(net.history is None for net in nets)


def test_a_network_twice_is_refused():
    net = mlp([3, 4, 2], seed=0)
    with pytest.raises(ValueError, match=r"networks\[2\] is networks\[0\] again"):
        fit_many([net, net.copy(), net], (X, LABELS))


def test_it_is_a_public_name():
    assert gradcore.fit_many is fit_many
