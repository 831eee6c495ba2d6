"""Pre-training: what each hidden layer learns, what of it lands in the network, and what is said about it."""

import doctest
import pickle
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from reference_network import twin

from gradcore import (
    BatchNorm,
    Dense,
    Dropout,
    GradcoreWarning,
    History,
    Network,
    Residual,
    datasets,
    mlp,
    pretrain_autoencoder,
)
from gradcore.callbacks import Callback, EarlyStopping

matplotlib.use("Agg")

DIGITS = datasets.load_digits()

# dense layers with norm and dropout, without a bias, nested blocks, a block that has nothing to learn
LAYERS = [
    Dense(12), BatchNorm(), "tanh", Dropout(0.2),
    Residual(["tanh"]),
    Residual([Dense(12), "sigmoid", Residual([Dense(12), "tanh"]), Dropout(0.1)]),
    Dense(9, use_bias=False), "relu",
    Dense(3),
]  # fmt: skip


@pytest.fixture
def X(rng):
    """Eight columns made of three things, so that a hidden layer can keep them."""
    X = rng.standard_normal((120, 3)) @ rng.standard_normal((3, 8))
    X.flags.writeable = False
    return X


def test_a_deep_sigmoid_network_learns_afterwards_and_its_control_does_not():
    accuracy = {}
    for epochs in (None, 5):
        net = mlp([64] * 9 + [10], activation="sigmoid", seed=0)
        if epochs:
            pretrain_autoencoder(net, DIGITS.X_train, epochs=epochs, seed=0)
        net.fit(DIGITS.X_train, DIGITS.y_train, epochs=15, seed=0, on_fault="ignore")
        accuracy[epochs] = net.evaluate(DIGITS.X_test, DIGITS.y_test)["accuracy"]
    assert accuracy[None] < 0.5
    assert accuracy[5] > 0.85


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_same_seed_same_bits_on_any_number_of_threads(X, dtype, threads):
    runs = []
    for number in (1, threads):
        net = Network(LAYERS, input_size=8, dtype=dtype, seed=0)
        history = pretrain_autoencoder(net, X, epochs=2, noise=0.3, batch_size=16, seed=4, threads=number)
        runs.append((net.parameters.tobytes(), net.state.tobytes(), history.history))
        assert history.threads == number
    assert runs[0] == runs[1]


def test_seed_none_is_recorded_and_repeats_the_training(X):
    first, second, third = (mlp([8, 6, 6, 2], seed=0) for _ in range(3))
    history = pretrain_autoencoder(first, X, epochs=1)
    pretrain_autoencoder(second, X, epochs=1, seed=history.seed)
    pretrain_autoencoder(third, X, epochs=1, seed=history.seed + 1)
    assert np.array_equal(first.parameters, second.parameters)
    assert not np.array_equal(first.parameters, third.parameters)


def test_agrees_with_the_readable_executor(X):
    # no bias before batch norm: its gradient is zero but for rounding, which Adam turns into whole steps
    layers = [Dense(12, use_bias=False), *LAYERS[1:]]
    fast = Network(layers, input_size=8, dtype="float64", seed=0)
    slow = twin(fast)
    histories = [pretrain_autoencoder(net, X, epochs=2, noise=0.2, seed=0) for net in (fast, slow)]
    assert histories[0].history["loss"] == pytest.approx(histories[1].history["loss"], rel=1e-9)
    np.testing.assert_allclose(histories[0].after.gain, histories[1].after.gain, rtol=1e-9)
    for name, array in fast.get_parameters().items():
        np.testing.assert_allclose(array, slow.get_parameters()[name], atol=1e-9, err_msg=name)


def test_every_hidden_layer_changes_and_the_output_layer_does_not(X, dtype):
    net = Network(LAYERS, input_size=8, dtype=dtype, seed=0)
    before = net.get_parameters()
    history = pretrain_autoencoder(net, X, epochs=3, seed=0)
    assert history.names == ("dense 1", "residual 2", "dense 4")
    assert [layer.steps for layer in history.layers] == [3 * 4] * 3
    changed = {
        name for name, array in net.get_parameters().items() if not np.array_equal(array, before[name])
    }
    assert changed == {name for name in before if not name.startswith("8.")}
    for layer in history.layers:
        assert layer.history["loss"][-1] < layer.history["loss"][0]


def test_a_hidden_layer_then_tells_more_of_its_input(X):
    def unexplained(net):
        """Share of the variance of X that no linear map finds in the hidden layer."""
        weights = net.get_parameters()
        hidden = np.tanh(X @ weights["0.weight"].T + weights["0.bias"])
        hidden = np.column_stack([hidden, np.ones(len(X))])
        rest = X - hidden @ np.linalg.lstsq(hidden, X)[0]
        return np.square(rest).sum() / np.square(X - X.mean(axis=0)).sum()

    net = mlp([8, 3, 2], activation="tanh", dtype="float64", seed=1)
    before = unexplained(net)
    history = pretrain_autoencoder(net, X, epochs=200, optimizer="adam(0.01)", seed=0)
    assert unexplained(net) < 0.5 * before
    # the decoder is a linear map, and not quite the best one
    assert unexplained(net) < 1.2 * history.history["loss"][-1]


def test_without_epochs_only_the_input_of_each_layer_is_standardised(X):
    net = mlp([8, 6, 5, 2], activation="sigmoid", dtype="float64", seed=0)
    start = net.get_parameters()
    history = pretrain_autoencoder(net, X, epochs=0, seed=0)
    assert history.steps == 0
    assert len(history.layers) == 2
    found, below = net.get_parameters(), X
    for k in (0, 2):
        centred = below - below.mean(axis=0)
        z = centred / np.sqrt(np.square(centred).mean()) @ start[f"{k}.weight"].T
        np.testing.assert_allclose(below @ found[f"{k}.weight"].T + found[f"{k}.bias"], z, atol=1e-12)
        below = 1 / (1 + np.exp(-z))


def test_the_loss_of_knowing_nothing_is_one_in_every_layer(X):
    net = mlp([8, 6, 6, 6, 2], activation="sigmoid", dtype="float64", seed=0)
    history = pretrain_autoencoder(net, 1e-3 * X + 7, epochs=1, seed=0)
    assert history.constant_loss == 1
    assert [layer.constant_loss for layer in history.layers] == pytest.approx([1] * 3)


def test_the_books_before_and_after(X):
    square = [8, 8, 8, 8]
    net = Network(
        [*(Dense(n, init=f"identity({g})") for n, g in zip(square[:3], (2.0, 3.0, 0.5), strict=True))],
        input_size=8,
        dtype="float64",
        seed=0,
    )
    history = pretrain_autoencoder(net, X, epochs=0, seed=0)
    signal = np.sqrt(np.square(X - X.mean(axis=0)).mean())
    assert history.before.signal == pytest.approx([2 * signal, 6 * signal])
    assert history.before.gain == pytest.approx([2, 3])
    assert history.before.gradient == pytest.approx([1.5, 0.5])
    # each layer then reads numbers of signal 1
    assert history.after.signal == pytest.approx([2, 3])
    assert history.after.gain == pytest.approx([2 / signal, 3 / 2])


def test_signal_comes_back(X):
    net = mlp([8] * 7 + [2], activation="sigmoid", seed=0)
    history = pretrain_autoencoder(net, X, epochs=10, seed=0)
    assert history.before.signal[-1] < 1e-3 * history.before.signal[0]
    assert history.after.signal.min() > 0.1
    assert history.after.ledger.end_to_end_log10 > history.before.ledger.end_to_end_log10 + 2


def test_what_is_returned_is_a_history(X):
    net = mlp([8, 6, 6, 2], activation="tanh", seed=0)
    history = pretrain_autoencoder(net, X, epochs=4, batch_size=40, optimizer="sgd(0.1)", seed=3)
    assert isinstance(history, History)
    assert net.history is history
    first, second = history.layers
    assert history.history["loss"] == first.history["loss"] + second.history["loss"]
    assert history.epochs == list(range(8))
    assert history.steps == len(history.curve.values) == 24
    assert (history.loss_name, history.batch_size, history.seed, history.stopped) == ("mse", 40, 3, None)
    assert history.loss_sign == second.loss_sign
    assert repr(history).startswith("Pretraining(8 epochs, 24 steps")
    again = pickle.loads(pickle.dumps(net)).history
    assert str(again) == str(history)
    net.fit(X, X[:, :2], epochs=1, seed=0)
    assert net.history is not history


def test_the_table_shows_every_layer_before_and_after(X):
    net = mlp([8, 6, 8, 8, 2], activation="tanh", residual=True, seed=0)
    history = pretrain_autoencoder(net, X, epochs=2, seed=0)
    lines = str(history).splitlines()
    assert [line.split("  ")[0] for line in lines[2:5]] == ["dense 1", "dense 2", "residual 1"]
    for number, line in enumerate(lines[2:5]):
        losses = history.layers[number].history["loss"]
        for a, b in (
            (history.before.signal[number], history.after.signal[number]),
            (history.before.gain[number], history.after.gain[number]),
            (losses[0], losses[-1]),
        ):
            assert f" {a:.3g} → {b:.3g}" in line
    assert lines[5].startswith("end to end, log10")
    assert max(map(len, lines[:6])) <= 90


def test_the_figure_has_signal_and_gradient_before_and_after(X):
    net = mlp([8, 6, 6, 2], activation="tanh", seed=0)
    history = pretrain_autoencoder(net, X, epochs=1, seed=0)
    ax = Figure().subplots()
    assert history.plot(ax) is ax
    lines = {line.get_label(): np.asarray(line.get_ydata()) for line in ax.get_lines()}
    assert lines.keys() == {
        "signal, before",
        "signal, after",
        "gradient, before",
        "gradient, after",
    }
    np.testing.assert_array_equal(lines["gradient, after"], history.after.gradient)
    ax.figure.canvas.draw()


def test_noise_masks_and_is_checked(X):
    losses = []
    for noise in (0.0, 0.5):
        net = mlp([8, 6, 2], activation="tanh", seed=0)
        losses.append(pretrain_autoencoder(net, X, noise=noise, seed=0).history["loss"][-1])
    assert losses[0] < losses[1]
    with pytest.raises(ValueError, match="noise"):
        pretrain_autoencoder(mlp([8, 6, 2]), X, noise=1.0)


def test_early_stopping_ends_single_layers(X):
    net = mlp([8, 6, 6, 2], activation="tanh", seed=0)
    stop = EarlyStopping("loss", patience=1, min_delta=10.0)
    history = pretrain_autoencoder(net, X, epochs=50, callbacks=[stop], seed=0)
    assert [len(layer.epochs) for layer in history.layers] == [2, 2]
    assert history.stopped is None


def test_ctrl_c_keeps_the_layers_that_are_finished(X):
    class Interrupt(Callback):
        epochs = 0

        def on_epoch_end(self, epoch, logs):
            self.epochs += 1
            if self.epochs == 5:
                raise KeyboardInterrupt

    net = mlp([8, 6, 6, 6, 2], activation="tanh", seed=0)
    before = net.get_parameters()
    with pytest.raises(KeyboardInterrupt):
        pretrain_autoencoder(net, X, epochs=3, callbacks=[Interrupt()], seed=0)
    after = net.get_parameters()
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed == {"0.weight", "0.bias"}
    assert net.history.stopped == "interrupted"
    assert len(net.history.layers) == 1
    assert net.history.after.signal[0] != net.history.before.signal[0]
    assert "dense 3" in str(net.history)
    pretrain_autoencoder(net, X, epochs=1, seed=0)


@pytest.mark.parametrize(
    ("net", "change", "message"),
    [
        (lambda: mlp([8, 2]), {}, "no hidden layer"),
        (lambda: Network([Residual([Dense(8), "relu"])], input_size=8), {}, "no hidden layer"),
        (lambda: mlp([8, 4, 2]), {(3, 5): np.nan}, "X has nan at row 3, column 5"),
        (lambda: mlp([7, 4, 2]), {}, "X has 8 columns, the network takes 7"),
    ],
)
def test_what_cannot_be(X, net, change, message):
    X, net = X.copy(), net()
    for place, value in change.items():
        X[place] = value
    before = net.parameters.copy()
    with pytest.raises(ValueError, match=message):
        pretrain_autoencoder(net, X)
    assert np.array_equal(net.parameters, before)
    assert net.history is None


@pytest.mark.parametrize(
    ("rows", "settings", "message"),
    [
        (0, {}, "X is empty"),
        (1, {}, "X is the same in every row"),
        (9, {"epochs": -1}, "epochs"),
        (9, {"progress": "no"}, "progress"),
        (9, {"threads": 0}, "threads"),
        (9, {"batch_size": 1}, "batch norm cannot train on batches of one row"),
    ],
)
def test_settings_that_cannot_be(X, rows, settings, message):
    net = mlp([8, 4, 2], norm="batch", seed=0)
    before = net.parameters.copy()
    with pytest.raises(ValueError, match=message):
        pretrain_autoencoder(net, X[:rows], **settings)
    assert np.array_equal(net.parameters, before)


def test_steps_that_are_not_finite_are_told_of_by_layer(X):
    net = mlp([8, 6, 2], activation="relu", seed=0)
    with pytest.warns(GradcoreWarning, match=r"pre-training of dense 1: \d+ of 12 steps were not finite"):
        history = pretrain_autoencoder(net, X, epochs=3, optimizer="sgd(1e25)", seed=0)
    assert np.isfinite(net.parameters).all()
    assert history.faults
    assert sum(history.history["skipped_steps"]) > 0


def test_a_layer_that_hands_on_nothing_ends_it(X):
    net = Network(
        [Dense(6), "relu", Dense(6, bias_init="constant(-1e6)"), "relu", Dense(6), "relu", Dense(2)],
        input_size=8,
        seed=0,
    )
    before = net.get_parameters()["4.weight"]
    with pytest.warns(GradcoreWarning, match="ended at dense 3: the output of the layer below, dense 2, is"):
        history = pretrain_autoencoder(net, X, epochs=1, seed=0)
    assert np.array_equal(net.get_parameters()["4.weight"], before)
    assert history.stopped == "dense 2 hands on no signal"
    assert len(history.layers) == 2


def test_the_bar_runs_over_all_layers(X, monkeypatch):
    from gradcore.training import pretraining

    drawn = []

    class Bar:
        def __init__(self, show, total, parts):
            assert parts == total
            self.total = total

        def update(self, step, part, values):
            drawn.append((step, self.total, *values))

        def close(self):
            drawn.append("closed")

    monkeypatch.setattr(pretraining, "ProgressBar", Bar)
    pretrain_autoencoder(mlp([8, 6, 6, 2], seed=0), X, epochs=2, seed=0)
    names = ["dense 1: loss", "dense 1: loss", "dense 2: loss", "dense 2: loss"]
    assert drawn == [*((step, 4, name) for step, name in enumerate(names, 1)), "closed"]


def test_the_example_of_the_page_is_true():
    page = Path(__file__).parents[2] / "docs" / "initialising.md"
    result = doctest.testfile(str(page), module_relative=False)
    assert result.attempted >= 5
    assert result.failed == 0
