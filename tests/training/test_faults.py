import numpy as np
import pytest

from gradcore import BatchNorm, Dense, Dropout, FaultError, GradcoreWarning, Network, Residual, kernels, mlp
from gradcore.callbacks import Callback
from gradcore.training.faults import locate_nonfinite

LAYERS = [
    Dense(6),
    BatchNorm(),
    "tanh",
    Residual([Dense(6), "relu"]),
    Dropout(0.2),
    Dense(4),
    "exponential",
    Dense(2),
]


@pytest.fixture
def data(rng):
    return rng.standard_normal((30, 5)), rng.integers(0, 2, 30)


def located(net, X, y, *, rows=None, loss="cross_entropy"):
    executor = net.executor(len(X), loss=loss)
    executor.bind(np.asarray(X, net.dtype), y)
    mode = kernels.MODES["batch_statistics"] | kernels.MODES["drop"]
    chosen = np.arange(len(X)) if rows is None else np.asarray(rows)
    return locate_nonfinite(executor, net.plan, chosen, mode=mode, seed=0, step=1, parameters=net.parameters)


@pytest.mark.parametrize(
    ("name", "op"),
    [("0.weight", "dense 1"), ("3.0.weight", "dense 2"), ("5.weight", "dense 3"), ("7.weight", "dense 4")],
)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_planted_weight_is_located(data, name, op, value):
    net = Network(LAYERS, input_size=5, seed=0)
    weight = net.get_parameters()[name]
    weight[1, 2] = value
    net.set_parameters({name: weight})
    fault = located(net, *data, rows=[20, 3, 11])
    assert (fault.pass_, fault.name, fault.what) == ("forward", op, "output")
    assert fault.element in {(20, 1), (3, 1), (11, 1)}
    assert not np.isfinite(fault.value)
    # the operands are those of that element
    expected = (
        fault.operands["input"].astype(float) @ fault.operands["weight"].astype(float)
        + fault.operands["bias"]
    )
    assert not np.isfinite(expected)
    np.testing.assert_array_equal(fault.operands["weight"], weight[1])
    assert f"of {op} is" in str(fault)


def test_an_overflowing_activation_is_located(data):
    net = Network(LAYERS, input_size=5, seed=0)
    net.set_parameters({"5.bias": [0, 0, 100, 0]})
    fault = located(net, *data)
    assert (fault.pass_, fault.name, fault.element[1], fault.value) == ("forward", "exponential 1", 2, np.inf)
    assert fault.operands["input"] > 88


def test_a_wrong_input_is_located(data):
    X, y = data
    X[7, 3] = -np.inf
    fault = located(Network(LAYERS, input_size=5, seed=0), X, y)
    assert (fault.name, fault.element, fault.value) == ("input", (7, 3), -np.inf)


def test_wrong_running_statistics_do_not_matter_in_training(data):
    net = Network(LAYERS, input_size=5, seed=0)
    net.set_parameters({"1.gamma": np.full(6, np.inf)})
    assert located(net, *data).name == "batch_norm 1"


def test_a_backward_overflow_is_located(rng):
    # outputs of about 1e30 are finite, but the delta times the weights, 1e30 · 1e15, is not
    net = Network([Dense(3), Dense(3), Dense(3)], input_size=3, seed=0)
    net.set_parameters({f"{i}.weight": 1e15 * np.eye(3) for i in (1, 2)})
    fault = located(net, np.ones((4, 3)), np.zeros((4, 3), np.float32), loss="mse")
    assert fault.pass_ == "backward"
    assert fault.name in ("dense 3", "dense 2")
    assert not np.isfinite(fault.value)


def test_a_healthy_batch_has_none(data):
    fault = located(Network(LAYERS, input_size=5, seed=0), *data)
    assert (fault.op, fault.element) == (None, None)


def diverging(**settings):
    """A training that overflows at its second step, with nothing wrong before it."""
    rng = np.random.default_rng(0)
    net = mlp([5, 8, 8, 2], seed=0)
    return net, lambda: net.fit(
        rng.standard_normal((30, 5)),
        rng.integers(0, 2, 30),
        optimizer="sgd(1e30)",
        batch_size=10,
        seed=0,
        **settings,
    )


def test_warn_says_it_once_and_ends_after_an_epoch_without_a_step():
    net, fit = diverging(epochs=9)
    with pytest.warns(GradcoreWarning) as caught:
        history = fit()
    assert len(caught) == 1
    assert "step 2 (epoch 0): forward pass" in str(caught[0].message)
    assert caught[0].filename == __file__
    assert np.isfinite(net.parameters).all()
    assert history.stopped == "no step of the last epoch could be applied"
    assert history.history["skipped_steps"] == [2, 3]
    assert history.steps == 1
    assert [fault.step for fault in history.faults] == [2, 3, 4, 5, 6]
    assert np.isnan(history.history["loss"][1])
    assert "5 steps not applied" in repr(history)


def test_ignore_goes_on_in_silence():
    _, fit = diverging(epochs=9, on_fault="ignore")
    history = fit()
    assert len(history.epochs) == 9
    assert history.history["skipped_steps"] == [2] + [3] * 8
    assert len(history.faults) == 10


def test_stop_keeps_the_last_good_weights():
    net, fit = diverging(epochs=9, on_fault="stop")
    history = fit()
    assert history.stopped == "non-finite gradient at step 2"
    assert history.epochs == []
    assert len(history.faults) == 1
    assert np.isfinite(net.parameters).all()


def test_raise_carries_the_fault():
    net, fit = diverging(on_fault="raise")
    with pytest.raises(FaultError, match="step 2") as caught:
        fit()
    assert caught.value.fault.step == 2
    assert caught.value.fault is net.history.faults[0]
    assert net.history.stopped == "FaultError"
    with pytest.raises(FaultError):
        fit()


def test_a_function_decides():
    seen = []

    def decide(fault):
        seen.append(fault.step)
        return "stop" if len(seen) == 3 else None

    _, fit = diverging(on_fault=decide)
    assert fit().stopped == "non-finite gradient at step 4"
    assert seen == [2, 3, 4]


def test_moments_and_running_statistics_survive_a_skipped_step(data):
    """A step that was not applied leaves no trace: as if the batch had not been there."""
    X, y = data[0].astype(np.float32), data[1]

    class Spoil(Callback):
        def on_train_batch_begin(self, batch, logs):
            X[10:20, 0] = np.nan if batch == 1 else 1.0

    X[10:20, 0] = 1.0
    net = mlp([5, 8, 2], norm="batch", dropout=0.2, seed=0)
    history = net.fit(
        X, y, epochs=1, batch_size=10, shuffle=False, on_fault="ignore", callbacks=[Spoil()], seed=0
    )
    assert history.steps == 2
    without = mlp([5, 8, 2], norm="batch", dropout=0.2, seed=0)
    rest = np.r_[0:10, 20:30]
    without.fit(X[rest], y[rest], epochs=1, batch_size=10, shuffle=False, seed=0)
    assert np.array_equal(net.parameters, without.parameters)
    assert np.array_equal(net.state, without.state)
