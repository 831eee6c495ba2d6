import numpy as np
import pytest

from gradcore import Dense, FaultError, GradcoreWarning, Network, Probe, datasets, mlp
from gradcore.callbacks import Callback
from gradcore.health.faults import Fault
from gradcore.training.faults import NonFinite

X, Y, _, _ = datasets.load_digits()
X, Y = X[:400], Y[:400]


def dead(**settings):
    """A training whose second layer is dead on all the data."""
    net = mlp([64, 16, 16, 10], seed=0)
    net.set_parameters({"2.bias": np.full(16, -1e3)})
    return net, lambda: net.fit(X, Y, epochs=3, batch_size=40, seed=0, **settings)


@pytest.mark.parametrize("level", ["light", "full"])
@pytest.mark.parametrize(
    "settings",
    [
        {"sizes": [64, 32, 10]},
        {"sizes": [64, *[32] * 8, 10], "activation": "tanh"},
        {"sizes": [64, *[32] * 5, 10], "norm": "batch", "dropout": 0.1},
        {"sizes": [64, *[32] * 6, 10], "residual": True, "activation": "gelu"},
    ],
)
def test_healthy_trainings_are_left_alone(settings, level):
    history = mlp(**settings, seed=1).fit(X, Y, epochs=6, probe=Probe(5, level), on_fault="raise", seed=1)
    assert history.faults == []
    assert history.stopped is None


@pytest.mark.parametrize("targets", [np.zeros(400, int), np.ones((400, 1)), np.arange(400) % 10])
def test_odd_targets_break_nothing(targets):
    classes = 1 if targets.ndim == 2 else 10
    net = mlp([64, 8, classes], seed=0)
    seen = []
    net.fit(X, targets, loss="cross_entropy" if classes > 1 else "mse", epochs=3, probe=Probe(3, "full"),
            on_fault=seen.append, seed=0)  # fmt: skip
    assert all(isinstance(fault, Fault) for fault in seen)


def test_a_sick_network_is_warned_of_once():
    _, fit = dead(probe=Probe(level="full"))
    with pytest.warns(GradcoreWarning, match=r"DEAD UNITS at step \d+ in relu 2.*training goes on") as caught:
        history = fit()
    assert len({str(w.message).partition(" at step")[0] for w in caught}) == len(caught)
    assert {w.filename for w in caught} == {__file__}
    fault = next(fault for fault in history.faults if fault.kind == "dead_units")
    assert fault.evidence["step"] == 1
    assert len(history.epochs) == 3
    assert len({fault.kind for fault in history.faults}) == len(history.faults)


def test_stop_ends_at_the_step_of_the_ledger():
    _, fit = dead(probe=Probe(3, "full"), on_fault="stop")
    history = fit()
    assert history.stopped == "dead_units at step 3"
    assert history.steps == 3


def test_raise_carries_the_fault():
    net, fit = dead(probe=Probe(level="full"), on_fault="raise")
    with pytest.raises(FaultError, match="DEAD UNITS at step 1 in relu 2") as caught:
        fit()
    assert caught.value.fault is net.history.faults[0]


def test_a_function_gets_every_finding():
    steps = []

    def decide(fault):
        steps.append((fault.kind, fault.evidence["step"]))
        return "stop" if fault.evidence["step"] == 4 else None

    _, fit = dead(probe=Probe(2, "full"), on_fault=decide)
    assert fit().stopped == "dead_units at step 4"
    assert [step for kind, step in steps if kind == "dead_units"] == [2, 4]


@pytest.mark.parametrize(
    "settings", [{"on_fault": "ignore", "probe": Probe(level="full")}, {"on_fault": "raise"}]
)
def test_nobody_looks_unasked(settings):
    _, fit = dead(**settings)
    assert fit().faults == []


@pytest.mark.parametrize("level", ["light", "full"])
def test_an_infinity_that_an_activation_hides_is_found(level):
    """relu(-inf) is 0, and loss and gradient stay finite; the ledger knows."""
    net = Network([Dense(4), "relu", Dense(10)], input_size=64, seed=0)
    weight = net.get_parameters()["0.weight"]
    weight[2] = -3e38
    net.set_parameters({"0.weight": weight})
    with pytest.raises(FaultError, match="OVERFLOW at step 1 in dense 1"):
        net.fit(X + 1, Y, epochs=1, probe=Probe(level=level), on_fault="raise", seed=0)
    assert net.history.steps == 1
    assert np.isfinite(net.parameters).all()


def test_a_step_that_was_not_applied_is_told_of_once():
    net = mlp([64, 8, 10], seed=0)
    seen = []
    net.fit(X, Y, optimizer="sgd(1e30)", epochs=1, batch_size=40, probe=Probe(), on_fault=seen.append, seed=0)
    assert [fault.step for fault in seen if isinstance(fault, NonFinite)] == list(range(2, 11))
    assert all(fault.evidence["step"] == 1 for fault in seen if isinstance(fault, Fault))


def test_an_explosion_is_told_of_before_anything_is_infinite(rng):
    data = rng.standard_normal((500, 8))
    net = mlp([8, *[32] * 5, 1], activation="selu", seed=0)
    with pytest.raises(FaultError) as caught:
        net.fit(data, np.sin(data[:, :3]).sum(axis=1), optimizer="sgd(0.05, momentum=0.9)", epochs=4,
                probe=Probe(level="full"), on_fault="raise", seed=0)  # fmt: skip
    assert isinstance(caught.value.fault, Fault)
    assert caught.value.fault.kind in ("exploding_gradient", "update_ratio_too_large")
    assert np.isfinite(net.parameters).all()


def test_the_rules_change_no_bit():
    class Looks(Callback):
        def on_probe(self, step, ledger):
            ledger.layers()

    nets = [mlp([64, 16, 16, 10], dropout=0.1, norm="batch", seed=0) for _ in range(4)]
    settings = (
        {},
        {"probe": Probe(3, "full")},
        {"probe": Probe(3), "on_fault": "stop"},
        {"probe": Probe(level="full"), "callbacks": [Looks()]},
    )
    for net, more in zip(nets, settings, strict=True):
        net.fit(X, Y, epochs=2, batch_size=16, seed=0, **more)
    assert all(np.array_equal(net.parameters, nets[0].parameters) for net in nets)
