import math

import numpy as np
import pytest

from gradcore import mlp
from gradcore.callbacks import Callback, EarlyStopping


@pytest.fixture
def data(rng):
    return rng.standard_normal((40, 5)), rng.integers(0, 3, 40)


class Log(Callback):
    def __init__(self):
        self.calls = []

    def on_train_begin(self, logs):
        self.calls.append("train_begin")

    def on_train_end(self, logs):
        self.calls.append("train_end")

    def on_epoch_begin(self, epoch, logs):
        self.calls.append(f"epoch_begin {epoch}")

    def on_epoch_end(self, epoch, logs):
        self.calls.append(f"epoch_end {epoch}")
        assert logs == {name: values[-1] for name, values in self.history.history.items()}


class BatchLog(Log):
    def on_train_batch_begin(self, batch, logs):
        self.calls.append(f"batch_begin {batch}")

    def on_train_batch_end(self, batch, logs):
        self.calls.append(f"batch_end {batch}")
        assert np.isfinite([logs["loss"], logs["gradient_norm"]]).all()


def test_hooks_are_called_in_order(data):
    log, batches = Log(), BatchLog()
    mlp([5, 3], seed=0).fit(*data, epochs=2, batch_size=20, callbacks=[log, batches])
    assert log.calls == [
        "train_begin",
        "epoch_begin 0",
        "epoch_end 0",
        "epoch_begin 1",
        "epoch_end 1",
        "train_end",
    ]
    one = ["batch_begin 0", "batch_end 0", "batch_begin 1", "batch_end 1"]
    assert batches.calls == [
        "train_begin", "epoch_begin 0", *one, "epoch_end 0", "epoch_begin 1", *one, "epoch_end 1", "train_end"
    ]  # fmt: skip


def test_hooks_do_not_change_the_training(data):
    first, second = (mlp([5, 8, 3], dropout=0.2, seed=0) for _ in range(2))
    first.fit(*data, epochs=2, batch_size=7, seed=0)
    second.fit(*data, epochs=2, batch_size=7, seed=0, callbacks=[BatchLog()])
    assert np.array_equal(first.parameters, second.parameters)


@pytest.mark.parametrize(
    ("hook", "epochs", "steps"), [("on_epoch_end", [0], 4), ("on_train_batch_end", [], 1)]
)
def test_stop_training(data, hook, epochs, steps):
    def stop(self, number, logs):
        self.network.stop_training = True

    net = mlp([5, 3], seed=0)
    history = net.fit(*data, batch_size=10, callbacks=[type("Stop", (Callback,), {hook: stop})()])
    assert history.epochs == epochs
    assert history.steps == steps
    assert history.stopped == "a callback asked for it"
    assert net.fit(*data, epochs=2).stopped is None


def test_an_exception_in_a_hook_passes_through_and_every_train_end_is_called(data):
    class Fails(Log):
        def on_epoch_end(self, epoch, logs):
            raise ZeroDivisionError

    net, fails, log = mlp([5, 3], seed=0), Fails(), Log()
    with pytest.raises(ZeroDivisionError):
        net.fit(*data, callbacks=[fails, log])
    assert fails.calls[-1] == log.calls[-1] == "train_end"
    assert net.history.stopped == "ZeroDivisionError"
    net.fit(*data, epochs=1)


def test_a_failing_train_end_does_not_keep_the_others_from_theirs(data):
    class Fails(Callback):
        def on_train_end(self, logs):
            raise ZeroDivisionError

    log = Log()
    with pytest.raises(ZeroDivisionError):
        mlp([5, 3], seed=0).fit(*data, epochs=1, callbacks=[Fails(), log])
    assert log.calls[-1] == "train_end"


def test_parameters_written_by_a_hook_are_trained_from(data):
    X, y = data
    start = mlp([5, 8, 8, 3], seed=1).get_parameters()

    class Write(Callback):
        def on_epoch_begin(self, epoch, logs):
            if epoch == 1:
                self.network.set_parameters(start)

    net, other = mlp([5, 8, 8, 3], seed=0), mlp([5, 8, 8, 3], seed=0)
    net.fit(X, y, epochs=2, optimizer="sgd(0.5)", shuffle=False, callbacks=[Write()])
    other.set_parameters(start)
    other.fit(X, y, epochs=1, optimizer="sgd(0.5)", shuffle=False)
    assert np.array_equal(net.parameters, other.parameters)


class Script(Callback):
    """Puts given numbers in place of a value, and remembers the parameters of each epoch."""

    def __init__(self, values, end=None):
        self.values, self.end, self.parameters = values, end, []

    def on_epoch_end(self, epoch, logs):
        if epoch == len(self.values):
            raise self.end
        self.parameters.append((self.network.parameters.copy(), self.network.state.copy()))
        logs["val_loss"] = self.values[epoch]
        EarlyStopping.on_epoch_end(self.stopping, epoch, logs)


def run(data, values, *, end=None, **settings):
    X, y = data
    net = mlp([5, 8, 3], norm="batch", seed=0)
    script = Script(values, end)

    class Scripted(EarlyStopping):
        def on_epoch_end(self, epoch, logs):
            """The script calls the real one."""

    script.stopping = Scripted(**settings)
    epochs = len(values) + (end is not None)
    arguments = {"epochs": epochs, "validation_data": (X, y), "callbacks": [script, script.stopping]}
    if end is None:
        net.fit(X, y, **arguments)
    else:
        with pytest.raises(type(end)):
            net.fit(X, y, **arguments)
    return net, script, script.stopping


@pytest.mark.parametrize(
    ("values", "settings", "epochs", "best"),
    [
        ([3.0, 2.0, 2.5, 2.5, 1.0], {"patience": 2}, 4, 1),
        ([3.0, 2.0, 2.5, 1.0, 1.5], {"patience": 2}, 5, 3),
        ([3.0, 2.9, 2.8, 2.7], {"patience": 2, "min_delta": 0.5}, 3, 0),
        ([math.nan, 2.0, math.nan, math.nan, 1.0], {"patience": 2}, 4, 1),
        ([math.nan, math.nan, math.nan], {"patience": 5}, 3, None),
        ([1.0, 1.0, 1.0], {"patience": 0}, 2, 0),
        ([math.inf, 5.0], {"patience": 5}, 2, 1),
    ],
)
def test_early_stopping(data, values, settings, epochs, best):
    net, script, stopping = run(data, values, **settings)
    assert len(net.history.epochs) == epochs
    assert stopping.best_epoch == best
    kept = script.parameters[epochs - 1 if best is None else best]
    assert np.array_equal(net.parameters, kept[0])
    assert np.array_equal(net.state, kept[1])
    assert (net.history.stopped is not None) == (epochs < len(values))


@pytest.mark.parametrize("end", [KeyboardInterrupt(), ZeroDivisionError()])
def test_early_stopping_restores_whatever_ends_the_training(data, end):
    net, script, stopping = run(data, [3.0, 2.0, 2.5], end=end, patience=10)
    assert stopping.best_epoch == 1
    assert np.array_equal(net.parameters, script.parameters[1][0])


def test_early_stopping_may_leave_the_last_weights(data):
    net, script, _ = run(data, [1.0, 2.0, 3.0], patience=5, restore_best_weights=False)
    assert np.array_equal(net.parameters, script.parameters[2][0])


def test_early_stopping_upwards_and_with_text_labels(data):
    X, y = data[0], np.array(["a", "b", "c"])[data[1]]
    stopping = EarlyStopping("val_accuracy", patience=3)
    net = mlp([5, 8, 3], seed=0)
    history = net.fit(X, y, epochs=50, validation_fraction=0.3, callbacks=stopping, seed=0)
    assert stopping.best == max(history.history["val_accuracy"])
    assert len(history.epochs) == stopping.best_epoch + 1 + 3
    assert "val_accuracy" in history.stopped


def test_early_stopping_needs_its_value(data):
    net = mlp([5, 3], seed=0)
    with pytest.raises(ValueError, match=r"watches 'val_loss'.*validation_data"):
        net.fit(*data, callbacks=[EarlyStopping()])
    assert net.history is None
    with pytest.raises(ValueError, match="'val_r2'"):
        net.fit(*data, validation_fraction=0.1, callbacks=[EarlyStopping("val_r2")])


@pytest.mark.parametrize("settings", [{"patience": -1}, {"min_delta": -0.1}, {"restore_best_weights": 1}])
def test_early_stopping_checks_its_settings(settings):
    with pytest.raises((ValueError, TypeError)):
        EarlyStopping(**settings)
