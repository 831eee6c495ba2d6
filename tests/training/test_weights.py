"""Weights of rows and of classes: 2 is the row twice, 0 is no row, in whole trainings."""

import numpy as np
import pytest

from gradcore import Probe, fit_many, mlp
from gradcore.losses import resolve

# of each loss: how many outputs, and targets of 24 rows
RNG = np.random.default_rng(5)
ROWS = 24
X = RNG.normal(size=(ROWS, 4))
LABELS = RNG.integers(0, 3, ROWS)
NUMBERS = RNG.normal(size=(ROWS, 2))
CASES = {
    "cross_entropy": (3, LABELS),
    "cross_entropy(label_smoothing=0.2)": (3, LABELS),
    "cross_entropy(reduction='sum')": (3, LABELS),
    "binary_cross_entropy": (3, RNG.integers(0, 2, (ROWS, 3))),
    "mse": (2, NUMBERS),
    "mse(reduction='sum')": (2, NUMBERS),
    "mae": (2, NUMBERS),
    "huber(delta=0.5)": (2, NUMBERS),
    "poisson": (2, np.abs(NUMBERS)),
    "quantile(q=0.8)": (2, NUMBERS),
    "gaussian_nll": (4, NUMBERS),
}
WEIGHTS = np.tile([1.0, 2.0, 0.0, 3.0], ROWS // 4)


def trained(loss, rows, weights=None, y=None, threads=1, **settings):
    outputs, targets = CASES[loss]
    targets = targets if y is None else y
    net = mlp([4, 8, outputs], activation="tanh", dtype="float64", seed=0)
    rate = "sgd(0.001)" if "sum" in loss else "sgd(0.02)"
    how = {"optimizer": rate, "epochs": 20, "batch_size": 200, "shuffle": False, "seed": 0} | settings
    net.fit(X[rows], targets[rows], loss=loss, sample_weight=weights, threads=threads, **how)
    return net


def assert_same(net, other, rtol=1e-11):
    for name, array in other.get_parameters().items():
        np.testing.assert_allclose(net.get_parameters()[name], array, rtol=rtol, atol=1e-13, err_msg=name)


@pytest.mark.parametrize("loss", CASES)
def test_weights_are_rows(loss):
    """A row of weight 3 is three rows, and one of weight 0 is none, all the way through a training."""
    every = np.arange(ROWS)
    weighted = trained(loss, every, WEIGHTS)
    copied = trained(loss, np.repeat(every, WEIGHTS.astype(int)))
    assert_same(weighted, copied)
    for name in ("loss", "gradient_norm"):
        np.testing.assert_allclose(weighted.history.history[name], copied.history.history[name], rtol=1e-11)
    np.testing.assert_allclose(weighted.history.constant_loss, copied.history.constant_loss, rtol=1e-6)
    rows = np.repeat(every, WEIGHTS.astype(int))
    scored = weighted.evaluate(X, CASES[loss][1], sample_weight=WEIGHTS)
    assert scored == pytest.approx(weighted.evaluate(X[rows], CASES[loss][1][rows]), rel=1e-11)
    assert scored != weighted.evaluate(X, CASES[loss][1])


@pytest.mark.parametrize("loss", CASES)
def test_loss_and_gradients_of_weighted_rows(loss):
    net, y = trained(loss, np.arange(ROWS)), CASES[loss][1]
    rows = np.repeat(np.arange(ROWS), WEIGHTS.astype(int))
    value, gradients = net.loss_and_gradients(X, y, loss=loss, sample_weight=WEIGHTS)
    wanted, exact = net.loss_and_gradients(X[rows], y[rows], loss=loss)
    assert value == pytest.approx(wanted, rel=1e-12)
    for name, array in exact.items():
        np.testing.assert_allclose(gradients[name], array, rtol=1e-10, atol=1e-14)
    assert net.check_gradients(X, y, loss=loss) < 1e-6


def test_minibatches_have_the_mean_over_their_own_weights():
    """The loss of an epoch is the mean over all weights, however they fall into batches."""
    net = mlp([4, 8, 3], dtype="float64", seed=0)
    history = net.fit(
        X, LABELS, sample_weight=WEIGHTS, optimizer="sgd(1e-12)", batch_size=5, epochs=2, seed=0, threads=2
    )
    loss = net.evaluate(X, LABELS, sample_weight=WEIGHTS)["loss"]
    assert history.history["loss"] == pytest.approx([loss, loss], rel=1e-9)


def test_ones_are_no_weights_bit_for_bit():
    plain, weighted = trained("mse", np.arange(ROWS)), trained("mse", np.arange(ROWS), np.ones(ROWS))
    assert_same(weighted, plain, rtol=0)


def test_threads_do_not_change_the_bits_of_a_weighted_training():
    nets = [trained("cross_entropy", np.arange(ROWS), WEIGHTS, threads=n, batch_size=7) for n in (1, 2, 3)]
    for net in nets[1:]:
        np.testing.assert_array_equal(net.parameters, nets[0].parameters)
        assert net.history.history == nets[0].history.history


@pytest.mark.parametrize("loss", CASES)
def test_weights_of_nothing_but_0_change_nothing(loss):
    outputs, y = CASES[loss]
    net = mlp([4, 8, outputs], dtype="float64", seed=0)
    before = net.get_parameters()
    history = net.fit(X, y, loss=loss, sample_weight=np.zeros(ROWS), optimizer="sgd(0.1)", epochs=2, seed=0)
    assert history.history["loss"] == [0, 0]
    assert history.history["gradient_norm"] == [0, 0]
    assert history.constant_loss == 0
    assert not history.faults
    for name, array in net.get_parameters().items():
        np.testing.assert_array_equal(array, before[name])
    assert net.evaluate(X, y, sample_weight=np.zeros(ROWS))["loss"] == 0


def test_a_row_of_weight_0_may_hold_anything_in_float32(recwarn):
    """Its loss overflows, and nobody notices."""
    y = NUMBERS.astype("f4")
    y[2] = 3e38
    net = mlp([4, 8, 2], seed=0)
    history = net.fit(X, y, sample_weight=WEIGHTS, optimizer="sgd(0.1)", epochs=3, seed=0)
    assert not history.faults
    assert np.isfinite(history.history["loss"]).all()
    assert not recwarn


def test_class_weights_are_row_weights():
    rows, table = np.arange(ROWS), {0: 2.0, 2: 0.5}
    by_row = trained("cross_entropy", rows, np.array([2.0, 1.0, 0.5])[LABELS])
    for class_weight in (table, [2.0, 1.0, 0.5], np.array([2, 1, 0.5])):
        assert_same(trained("cross_entropy", rows, class_weight=class_weight), by_row, rtol=0)
    both = trained("cross_entropy", rows, WEIGHTS, class_weight=table)
    assert_same(both, trained("cross_entropy", rows, WEIGHTS * np.array([2.0, 1.0, 0.5])[LABELS]), rtol=0)


def test_class_weights_name_the_labels_of_the_user():
    names = np.array(["cat", "dog", "eel"])[LABELS]
    named = trained("cross_entropy", np.arange(ROWS), y=names, class_weight={"cat": 2.0, "eel": 0.0})
    assert_same(named, trained("cross_entropy", np.arange(ROWS), class_weight={0: 2.0, 2: 0.0}), rtol=0)
    binary = [mlp([4, 1], dtype="float64", seed=0) for _ in range(2)]
    binary[0].fit(X, LABELS > 0, class_weight={True: 3.0}, epochs=2, seed=0)
    binary[1].fit(X, LABELS > 0, sample_weight=np.where(LABELS > 0, 3.0, 1.0), epochs=2, seed=0)
    assert_same(*binary, rtol=0)


def test_balanced_classes_count_the_same():
    """n / (k n_c), as in scikit-learn; of the rows that are trained on, and of what they weigh."""
    rows = np.arange(ROWS)
    sizes = np.bincount(LABELS)
    balanced = trained("cross_entropy", rows, class_weight="balanced")
    assert_same(balanced, trained("cross_entropy", rows, (ROWS / (3 * sizes))[LABELS]), rtol=0)
    weighted = trained("cross_entropy", rows, WEIGHTS, class_weight="balanced")
    assert_same(
        weighted, trained("cross_entropy", np.repeat(rows, WEIGHTS.astype(int)), class_weight="balanced")
    )
    y = np.where(rows < 3, 1, 0)  # a class that is absent from the rows weighs nothing
    net = mlp([4, 2], dtype="float64", seed=0)
    net.fit(X, y, class_weight="balanced", validation_fraction=0.5, epochs=1, seed=0)
    assert np.isfinite(net.history.history["val_loss"]).all()


def test_validation_rows_have_weights_of_their_own():
    net = mlp([4, 3], dtype="float64", seed=0)
    data = X, LABELS, WEIGHTS
    history = net.fit(X, LABELS, validation_data=data, class_weight={0: 5.0}, epochs=1, seed=0)
    scored = net.evaluate(X, LABELS, sample_weight=WEIGHTS)
    assert history.history["val_loss"] == [scored["loss"]]
    assert history.history["val_accuracy"] == [scored["accuracy"]]
    first = mlp([4, 3], dtype="float64", seed=0)
    a = first.fit(X, LABELS, sample_weight=WEIGHTS, validation_fraction=0.5, epochs=1, seed=0).history
    second = mlp([4, 3], dtype="float64", seed=0)
    b = second.fit(X, LABELS, validation_fraction=0.5, epochs=1, seed=0).history
    assert a["val_loss"] != b["val_loss"]


@pytest.mark.parametrize("loss", ["cross_entropy", "mse", "gaussian_nll"])
def test_a_step_of_a_stepper_can_be_weighted(loss):
    outputs, y = CASES[loss]
    nets = [mlp([4, 8, outputs], activation="tanh", dtype="float64", seed=0) for _ in range(2)]
    rows = np.repeat(np.arange(ROWS), WEIGHTS.astype(int))
    with (
        nets[0].stepper(batch_size=99, loss=loss) as step,
        nets[1].stepper(batch_size=99, loss=loss) as other,
    ):
        for _ in range(5):
            assert step(X, y, WEIGHTS) == pytest.approx(other(X[rows], y[rows]), rel=1e-12)
        assert step(X, y) == pytest.approx(step(X, y, sample_weight=np.ones(ROWS)), rel=0.1)
    assert step.steps == 7


def test_a_fault_of_a_weighted_step_is_located():
    y = NUMBERS.astype("f4")
    y[3] = 3e38
    net = mlp([4, 8, 2], seed=0)
    with net.stepper(batch_size=ROWS, loss="mse(reduction='sum')", optimizer="sgd(0.1)") as step:
        with pytest.warns(match="not applied"):
            step(X, y, WEIGHTS)
    fault = step.faults[0]
    assert (fault.pass_, fault.what, fault.element[0]) == ("loss", "gradient", 3)


def test_the_books_of_a_weighted_step():
    net = mlp([4, 8, 3], dtype="float64", seed=0)
    history = net.fit(
        X, LABELS, loss="cross_entropy(reduction='sum')", sample_weight=WEIGHTS, probe=Probe(level="full"), epochs=2,
        batch_size=8, optimizer="sgd(0.001)", seed=0,
    )  # fmt: skip
    assert history.ledgers[0].loss > 0
    assert history.curve.values == pytest.approx(np.full(6, history.constant_loss), rel=0.6)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"sample_weight": np.ones(3)}, r"sample_weight must have shape \(24,\), got \(3,\)"),
        ({"sample_weight": np.where(np.arange(ROWS) == 5, -1, 1)}, r"sample_weight\[5\] is -1.0"),
        ({"sample_weight": np.where(np.arange(ROWS) == 5, np.nan, 1)}, r"sample_weight\[5\] is nan"),
        ({"sample_weight": np.full(ROWS, 1e-310)}, "at least 1e-300"),
        ({"sample_weight": np.full(ROWS, 1e308)}, "the sum of the weights is not finite"),
        ({"sample_weight": ["a"] * ROWS}, "sample_weight must hold numbers"),
        ({"class_weight": "balance"}, "class_weight must be 'balanced'"),
        ({"class_weight": {7: 1.0}}, "class_weight has 7, which is not one of the labels"),
        ({"class_weight": {1: -1.0}}, r"class_weight\[1\] is -1.0"),
        ({"class_weight": [1.0, 2.0]}, r"class_weight must have shape \(3,\)"),
        ({"class_weight": {0: 2.0}, "loss": "mse"}, "class_weight needs one label in each row"),
        ({"validation_data": (X, LABELS, np.ones(2))}, "validation_data: sample_weight must have shape"),
    ],
)
def test_weights_that_cannot_be(settings, match):
    y = NUMBERS if settings.get("loss") == "mse" else LABELS
    net = mlp([4, y.shape[1] if y.ndim == 2 else 3], seed=0)
    before = net.parameters.copy()
    with pytest.raises((ValueError, TypeError), match=match):
        net.fit(X, y, **{"epochs": 1} | settings)
    np.testing.assert_array_equal(net.parameters, before)
    assert net.history is None


def test_many_networks_take_no_weights():
    with pytest.raises(TypeError, match=r"pair \(X, y\)"):
        fit_many([mlp([4, 3])], (X, LABELS, WEIGHTS))
    with pytest.raises(TypeError, match="sample_weight"):
        fit_many([mlp([4, 3])], (X, LABELS), sample_weight=WEIGHTS)


@pytest.mark.parametrize("loss", CASES)
def test_every_loss_trains_many_networks_with_the_same_bits(loss):
    outputs, y = CASES[loss]
    alone, beside = mlp([4, 8, outputs], seed=0), mlp([4, 8, outputs], seed=0)
    how = {"loss": loss, "optimizer": "sgd(0.01)", "epochs": 3, "batch_size": 7, "seed": 0}
    alone.fit(X, y, **how)
    fit_many([beside], (X, y), **how)
    np.testing.assert_array_equal(alone.parameters, beside.parameters)


@pytest.mark.parametrize("loss", CASES)
def test_what_is_evaluated_is_what_is_trained(loss):
    """The loss of a step, of `evaluate` and of the array function are one number."""
    outputs, y = CASES[loss]
    net = mlp([4, 8, outputs], dtype="float64", seed=0)
    value, _ = net.loss_and_gradients(X, y, loss=loss, sample_weight=WEIGHTS)
    assert net.evaluate(X, y, loss=loss, sample_weight=WEIGHTS)["loss"] == pytest.approx(value, rel=1e-13)
    assert str(resolve(loss)) == loss
