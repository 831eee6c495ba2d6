import math

import numpy as np
import pytest

from gradcore import callbacks, mlp, schedules
from gradcore.callbacks import Callback, ReduceOnPlateau


@pytest.fixture
def data(rng):
    return rng.standard_normal((40, 5)), rng.standard_normal((40, 3))


def rates(data, values, *, lr=1.0, **settings):
    """The rate of every epoch where the watched value takes these values."""
    script = iter(values)

    class Scripted(ReduceOnPlateau):
        def on_epoch_end(self, epoch, logs):
            super().on_epoch_end(epoch, logs | {"loss": next(script)})

    net = mlp([5, 3], seed=0)
    history = net.fit(
        *data, epochs=len(values), optimizer=f"sgd({lr})", callbacks=[Scripted("loss", **settings)], seed=0
    )
    assert len(history.history["lr"]) == len(values)
    return [*history.history["lr"], net.learning_rate]


# by the lines of Keras' ReduceLROnPlateau
@pytest.mark.parametrize(
    ("values", "settings", "expected"),
    [
        ([3, 2, 2, 2, 2], {"patience": 2}, [1, 1, 1, 1, 0.1, 0.1]),
        ([3, 2, 2, 2, 2], {"patience": 1}, [1, 1, 1, 0.1, 0.01, 0.001]),
        ([3, 2, 2, 2, 2], {"patience": 0}, [1, 1, 1, 0.1, 0.01, 0.001]),
        ([3, 3, 3, 3, 3, 3], {"patience": 1, "cooldown": 2}, [1, 1, 0.1, 0.1, 0.01, 0.01, 0.001]),
        ([3, 3, 3, 3, 3], {"patience": 2, "factor": 0.5, "cooldown": 1}, [1, 1, 1, 0.5, 0.5, 0.25]),
        ([3, 3, 3, 3, 3], {"patience": 1, "min_lr": 0.04}, [1, 1, 0.1, 0.04, 0.04, 0.04]),
        ([3.0, 2.95, 2.9, 2.85], {"patience": 2, "min_delta": 0.1}, [1, 1, 1, 0.1, 0.1]),
        ([3.0, math.nan, math.nan, 2.0], {"patience": 2}, [1, 1, 1, 0.1, 0.1]),
        ([math.nan, math.nan, 3.0, 3.0], {"patience": 2}, [1, 1, 0.1, 0.1, 0.1]),
    ],
)
def test_the_rates_are_those_of_keras(data, values, settings, expected):
    assert rates(data, values, **settings) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("patience", "cooldown"), [(1, 1), (2, 1), (2, 3), (4, 2), (1, 4)])
def test_the_rates_are_those_of_pytorch_with_one_epoch_less(data, rng, patience, cooldown):
    torch = pytest.importorskip("torch")
    values = (2 / (1 + np.arange(60)) + 0.2 * rng.standard_normal(60)).tolist()
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=0.7, patience=patience - 1, threshold=0.01, threshold_mode="abs", cooldown=cooldown - 1,
        min_lr=0.05, eps=0,
    )  # fmt: skip
    expected = [1.0]
    for value in values:
        scheduler.step(value)
        expected.append(optimizer.param_groups[0]["lr"])
    found = rates(data, values, factor=0.7, patience=patience, min_delta=0.01, cooldown=cooldown, min_lr=0.05)
    assert found == pytest.approx(expected, rel=1e-12)
    assert found[-1] < 0.5


def test_the_rate_is_that_of_the_steps(data):
    """Two epochs at 0.5 and 0.25 are two trainings at these rates."""
    X, y = data
    one, two = (mlp([5, 8, 3], dtype="float64", seed=0) for _ in range(2))
    plateau = ReduceOnPlateau("loss", factor=0.5, patience=0, min_delta=10.0)
    history = one.fit(
        X, y, epochs=3, optimizer="sgd(0.5)", shuffle=False, batch_size=20, callbacks=[plateau], seed=0
    )
    assert history.history["lr"] == [0.5, 0.5, 0.25]
    for lr in history.history["lr"]:
        two.fit(X, y, epochs=1, optimizer=f"sgd({lr})", shuffle=False, batch_size=20)
    assert np.array_equal(one.parameters, two.parameters)


def test_a_schedule_multiplies_what_the_plateau_leaves(data):
    plateau = ReduceOnPlateau("loss", factor=0.5, patience=0, min_delta=10.0)
    history = mlp([5, 3], seed=0).fit(
        *data, epochs=4, batch_size=20, optimizer="sgd(0.5)", schedule="linear", callbacks=[plateau], seed=0
    )
    factors = schedules.Linear().factors(1, 8, 8)[1::2]
    assert history.history["lr"] == pytest.approx(np.array([0.5, 0.5, 0.25, 0.125]) * factors, rel=1e-15)


@pytest.mark.parametrize("with_callback", [False, True])
def test_a_schedule_is_recorded_at_the_end_of_each_epoch(data, with_callback):
    history = mlp([5, 3], seed=0).fit(
        *data, epochs=5, batch_size=7, optimizer="adam(0.01)", schedule="one_cycle", seed=0,
        callbacks=[Callback()] * with_callback,
    )  # fmt: skip
    expected = 0.01 * schedules.OneCycle().factors(1, 30, 30)[5::6]
    assert history.history["lr"] == expected.tolist()


def test_without_a_change_there_is_no_column(data):
    assert "lr" not in mlp([5, 3], seed=0).fit(*data, epochs=2).history


def test_any_callback_may_set_the_rate_and_the_epochs_before_have_theirs(data):
    class Set(Callback):
        def on_epoch_end(self, epoch, logs):
            if epoch == 1:
                self.network.learning_rate = 0.5

    net = mlp([5, 3], seed=0)
    history = net.fit(*data, epochs=4, optimizer="sgd(0.25)", callbacks=[Set()])
    assert history.history["lr"] == [0.25, 0.25, 0.5, 0.5]
    assert net.fit(*data, epochs=1, optimizer="sgd(0.25)").history.keys() == history.history.keys() - {"lr"}


@pytest.mark.parametrize(("rate", "error"), [(-1.0, ValueError), (math.nan, ValueError), ("fast", TypeError)])
def test_a_rate_that_cannot_be_is_refused(data, rate, error):
    class Set(Callback):
        def on_epoch_end(self, epoch, logs):
            self.network.learning_rate = rate

    with pytest.raises(error, match="learning_rate"):
        mlp([5, 3], seed=0).fit(*data, epochs=2, callbacks=[Set()])


@pytest.mark.parametrize(
    "settings",
    [{"factor": 1.0}, {"factor": 0}, {"patience": -1}, {"min_delta": -1}, {"cooldown": 0.5}, {"min_lr": -1}],
)
def test_settings_are_checked(settings):
    with pytest.raises((ValueError, TypeError), match=next(iter(settings))):
        ReduceOnPlateau(**settings)


def test_it_needs_its_value_and_has_kerass_name(data):
    assert callbacks.ReduceLROnPlateau is ReduceOnPlateau
    with pytest.raises(ValueError, match=r"ReduceOnPlateau watches 'val_loss'.*validation_data"):
        mlp([5, 3], seed=0).fit(*data, callbacks=[ReduceOnPlateau()])
