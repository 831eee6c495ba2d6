import numpy as np
import pytest
from reference_network import twin

from gradcore import (
    BatchNorm,
    Dense,
    Dropout,
    FaultError,
    GradcoreWarning,
    Network,
    Probe,
    Residual,
    kernels,
    mlp,
)
from gradcore.callbacks import Callback
from gradcore.losses import resolve
from gradcore.training.faults import NonFinite
from gradcore.training.locate import locate_nonfinite

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
    return locate_nonfinite(
        executor, net, chosen, mode=mode, seed=0, step=1, loss=resolve(loss), targets=np.asarray(y)
    )


@pytest.mark.parametrize(
    ("name", "op", "element"),
    [("0.weight", 0, (1, 2)), ("1.gamma", 1, (3,)), ("3.0.bias", 4, (5,)), ("7.weight", 10, (1, 2))],
)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_planted_parameter_is_called_what_it_is(data, name, op, element, value):
    net = Network(LAYERS, input_size=5, seed=0)
    array = net.get_parameters()[name]
    array[element] = value
    net.set_parameters({name: array})
    fault = located(net, *data, rows=[20, 3, 11])
    assert (fault.pass_, fault.op, fault.name, fault.what) == ("forward", op, "parameter", name)
    assert fault.element == element
    np.testing.assert_equal(fault.value, value)
    assert f"parameter {name} is {value} at unit {element[0]}" in str(fault)


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
    net.set_parameters({"1.running_var": np.full(6, np.inf)})
    assert located(net, *data).element is None


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
    assert (history.loss_sign, history.loss_sign.evidence["first_step"]) == ("nan", 2)


def test_ignore_goes_on_in_silence():
    _, fit = diverging(epochs=9, on_fault="ignore")
    history = fit()
    assert len(history.epochs) == 9
    assert history.history["skipped_steps"] == [2] + [3] * 8
    assert len(history.faults) == 10


def test_stop_keeps_the_last_good_weights():
    net, fit = diverging(epochs=9, on_fault="stop")
    history = fit()
    assert history.stopped == "non-finite value at step 2"
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
    assert fit().stopped == "non-finite value at step 4"
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


# ------------------------------------------------------------------ what is not applied, and what is kept


def steps(net, **settings):
    return net.stepper(batch_size=4, loss="mse", seed=0, **settings)


def half_and_half(step, x, output_grad):
    step.forward([[x]])
    return step.backward(output_grad)


def test_a_loss_that_is_not_finite_is_booked_though_its_gradient_is():
    net = Network([Dense(2, init="constant(1e200)")], input_size=2, dtype="float64", seed=0)
    before = net.parameters.copy()
    with steps(net) as step, pytest.warns(GradcoreWarning, match="loss pass, value of loss is inf at row 2"):
        assert step(np.array([[0.0, 0], [0, 0], [1, 1], [1, 1]]), np.zeros((4, 2))) == np.inf
    assert np.array_equal(net.parameters, before)
    history = net.fit(np.ones((4, 2)), np.zeros((4, 2)), epochs=1, on_fault="ignore")
    assert (history.steps, history.history["skipped_steps"]) == (0, [1])
    assert (history.faults[0].pass_, history.faults[0].name) == ("loss", "loss")


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    ("optimizer", "good"),
    [
        ("sgd(1e37, momentum=0.99)", 7),
        ("sgd(1e37)", 34),
        ("adam(3e37)", 11),
        ("adamw(3e37, weight_decay=0)", 11),
    ],
)
def test_an_update_that_is_not_finite_is_not_applied(optimizer, good, threads):
    """Finite gradients, infinite weights: found in the step that makes them, with nothing of it left."""
    net = Network([Dense(40, use_bias=False)], input_size=1, seed=0)
    with steps(net, optimizer=optimizer, threads=threads) as step:
        for _ in range(good):
            half_and_half(step, 1.0, np.ones((1, 40)))
            assert np.isfinite(net.parameters).all()
        before = net.parameters.copy()
        with pytest.warns(GradcoreWarning, match="not applied"):
            assert half_and_half(step, 1.0, np.ones((1, 40))) == pytest.approx(np.sqrt(40))
    assert np.array_equal(net.parameters, before)
    (fault,) = step.faults
    assert (fault.step, fault.good_step, step.steps) == (good + 1, good, good)
    assert (fault.pass_, fault.op, fault.name, fault.what) == ("update", 0, "dense 1", "0.weight")
    assert (fault.element, fault.value) == ((0, 0), -np.inf)
    assert fault.operands["gradient"] == 1
    assert fault.operands["parameter"] == net.get_parameters()["0.weight"][0, 0]


def test_an_update_that_overflows_after_adaptive_clipping_is_located():
    net = Network([Dense(3), "tanh", Dense(1)], input_size=2, dtype="float64", seed=0)
    before = net.get_parameters()["0.weight"]
    X, y = np.ones((4, 2)), np.full((4, 1), 1e100)
    with steps(net, optimizer="sgd(1.7e308)", clip_adaptive=100.0) as step:
        with pytest.warns(GradcoreWarning, match="update pass"):
            step(X, y)
    (fault,) = step.faults
    assert (fault.pass_, fault.name, fault.what) == ("update", "dense 1", "0.weight")
    unit = fault.element[0]
    bound = 100 * np.linalg.norm(before[unit])
    assert fault.operands["clipped"] == pytest.approx(
        np.sign(fault.operands["gradient"]) * bound / np.sqrt(2)
    )
    assert np.array_equal(net.get_parameters()["0.weight"], before)


def test_a_second_moment_that_overflows_does_not_freeze_the_weights_for_good():
    net = Network([Dense(1)], input_size=1, seed=0)
    with steps(net) as step:
        with pytest.warns(GradcoreWarning, match="update pass, second moment of 0.weight"):
            half_and_half(step, 1.0, [[1e25]])
        before = net.parameters.copy()
        half_and_half(step, 1.0, [[1.0]])
    assert step.steps == 1
    assert not np.array_equal(net.parameters, before)


def test_running_statistics_are_never_infinite():
    net = Network([Dense(2, init="normal(1e25)"), BatchNorm(), Dense(1)], input_size=2, seed=0)
    X = np.random.default_rng(0).standard_normal((4, 2))
    with (
        steps(net) as step,
        pytest.warns(GradcoreWarning, match=r"update pass, 1\.running_var of batch_norm 1 is inf"),
    ):
        step(X, np.zeros((4, 1)))
    assert step.steps == 0
    assert np.isfinite(net.state).all()


@pytest.mark.parametrize(
    "optimizer", ["sgd(0.1)", "sgd(1e30, momentum=0.9)", "adam(0.1)", "adamw(3, weight_decay=0.9)"]
)
def test_looking_ahead_changes_no_bit(optimizer, data):
    """The compiled steps are those of the twin, which makes the update and takes it back."""
    X, y = data
    net = Network([Dense(8), "tanh", Dense(2)], input_size=5, dtype="float64", seed=0)
    other = twin(net)
    histories = [
        n.fit(X, y, optimizer=optimizer, epochs=3, batch_size=10, seed=0, on_fault="ignore")
        for n in (net, other)
    ]
    assert histories[0].steps == histories[1].steps
    for name, array in net.get_parameters().items():
        np.testing.assert_allclose(array, other.get_parameters()[name], rtol=1e-6)


def test_a_fault_keeps_the_last_ledgers_and_says_which_weights_are_left():
    net, fit = diverging(epochs=1, probe=Probe(level="full"), on_fault=lambda fault: None)
    fault = next(fault for fault in fit().faults if isinstance(fault, NonFinite))
    assert (fault.good_step, net.history.steps) == (1, 1)
    assert [ledger.step for ledger in fault.ledgers] == [1, 2]
    assert np.isfinite(fault.ledgers[0].loss)
    assert fault.ledger.step == 2
    assert fault.ledger.records["output"]["infs"].any() or fault.ledger.records["output"]["nans"].any()
    assert "keeps" not in str(fault)
