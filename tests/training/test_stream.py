"""Batches from outside: the same training as from arrays, and what an iterable can do wrong."""

import numpy as np
import pytest

from gradcore import BatchNorm, Dense, GradcoreWarning, Network, Probe, datasets, fit_many, mlp
from gradcore.callbacks import Callback, Checkpoint
from gradcore.training import stream


@pytest.fixture
def data(rng):
    return rng.standard_normal((50, 5)), rng.integers(0, 3, 50)


def cut(X, y, *sizes):
    """Batches of these sizes, over and over, until the rows end."""
    batches, at = [], 0
    while at < len(X):
        size = sizes[len(batches) % len(sizes)]
        batches.append((X[at : at + size], y[at : at + size]))
        at += size
    return batches


class Again:
    """An iterable without a length; counts how often it was begun."""

    def __init__(self, batches):
        self.batches, self.begun = batches, 0

    def __iter__(self):
        self.begun += 1
        return iter(self.batches)


class Reused:
    """Every batch in the same memory."""

    def __init__(self, X, y, size):
        self.X, self.y, self.size = X, y, size

    def __iter__(self):
        X, y = np.empty((self.size, self.X.shape[1])), np.empty(self.size, np.int64)
        for at in range(0, len(self.X), self.size):
            X[:], y[:] = self.X[at : at + self.size], self.y[at : at + self.size]
            yield X, y
            X[:], y[:] = np.nan, 0


def net_of(dtype="float32", **settings):
    return mlp([5, 8, 3], seed=0, dtype=dtype, dropout=0.2, **settings)


@pytest.mark.parametrize("form", [list, tuple, Again])
def test_the_same_bits_as_from_arrays(data, dtype, form):
    settings = {
        "epochs": 3, "optimizer": "adam(0.01)", "clip_norm": 1.0, "seed": 4, "validation_data": data,
        "probe": Probe(every=4),
    }  # fmt: skip
    plain, streamed = net_of(dtype, norm="batch"), net_of(dtype, norm="batch")
    expected = plain.fit(*data, batch_size=8, shuffle=False, on_fault="ignore", **settings)
    history = streamed.fit(form(cut(*data, 8)), on_fault="ignore", **settings)
    assert np.array_equal(plain.parameters, streamed.parameters)
    assert np.array_equal(plain.state, streamed.state)
    assert history.history == expected.history
    assert (history.epochs, history.steps, history.loss_name) == ([0, 1, 2], 21, "cross_entropy")
    assert history.constant_loss == expected.constant_loss
    assert np.array_equal(history.curve.values, expected.curve.values)
    assert [str(ledger) for ledger in history.ledgers] == [str(ledger) for ledger in expected.ledgers]
    assert np.array_equal(streamed.predict(data[0]), plain.predict(data[0]))


@pytest.mark.parametrize("threads", [1, 2])
def test_batches_of_any_size_as_steps_of_a_loop_of_ones_own(data, threads):
    batches = cut(*data, 3, 8, 1, 13)
    loop, streamed = net_of(), net_of()
    with loop.stepper(batch_size=13, optimizer="adam(0.01)", loss="cross_entropy", seed=1) as step:
        losses = [step(X, y) for _ in range(2) for X, y in batches]
    history = streamed.fit(batches, epochs=2, optimizer="adam(0.01)", seed=1, threads=threads)
    assert np.array_equal(loop.parameters, streamed.parameters)
    assert np.allclose(history.curve.values, losses, rtol=1e-12, atol=0)
    sizes = [len(X) for X, _ in batches]
    epoch = np.reshape(losses, (2, -1))
    assert np.allclose(history.history["loss"], (epoch * sizes).sum(axis=1) / 50, rtol=1e-12, atol=0)
    assert history.history["skipped_steps"] == [0.0, 0.0]


def test_the_same_memory_for_every_batch(data):
    X, y = data
    plain, streamed = net_of(), net_of()
    plain.fit(X, y, batch_size=10, epochs=2, shuffle=False, seed=0)
    history = streamed.fit(Reused(X, y, 10), epochs=2, seed=0)
    assert np.array_equal(plain.parameters, streamed.parameters)
    assert history.constant_loss == plain.history.constant_loss


def test_a_generator_is_one_epoch(data):
    batches = cut(*data, 8)
    plain, streamed = net_of(), net_of()
    plain.fit(batches, epochs=1, seed=0)
    streamed.fit((batch for batch in batches), epochs=1, seed=0)
    assert np.array_equal(plain.parameters, streamed.parameters)
    before = streamed.parameters.copy(), streamed.history
    with pytest.raises(ValueError, match=r"generator.*once, and epochs=10.*__iter__ begins anew"):
        streamed.fit(batch for batch in batches)
    assert np.array_equal(streamed.parameters, before[0])
    assert streamed.history is before[1]


def test_every_epoch_begins_anew_and_may_be_of_another_length(data):
    class Shorter(Again):
        def __iter__(self):
            self.begun += 1
            return iter(self.batches[self.begun - 1 :])

    batches = Shorter(cut(*data, 8))
    history = net_of().fit(batches, epochs=3, seed=0)
    assert (batches.begun, history.steps, history.epochs) == (3, 7 + 6 + 5, [0, 1, 2])


def test_a_loader_that_dries_up(data):
    class Once(Again):
        def __iter__(self):
            self.begun += 1
            return iter(self.batches if self.begun == 1 else [])

    net = net_of()
    with pytest.raises(ValueError, match="X gave no batch in epoch 1: can it be gone through again"):
        net.fit(Once(cut(*data, 8)), epochs=3, seed=0)
    assert (net.history.epochs, net.history.stopped) == ([0], "ValueError")


@pytest.mark.parametrize("schedule", ["cosine(warmup=0.1)", "one_cycle", "step(0.5)", "warmup(3)"])
def test_schedules(data, schedule):
    plain, streamed = net_of(), net_of()
    plain.fit(*data, epochs=2, batch_size=8, shuffle=False, schedule=schedule, seed=0)
    streamed.fit(cut(*data, 8), epochs=2, schedule=schedule, seed=0)
    assert np.array_equal(plain.parameters, streamed.parameters)


@pytest.mark.parametrize(
    "schedule", ["cosine", "linear", "one_cycle", "step(0.5)", "warmup(0.1)", "exponential"]
)
def test_a_schedule_over_an_unknown_number_of_steps(data, schedule):
    with pytest.raises(ValueError, match=r"how many steps there are, and X has no len"):
        net_of().fit(Again(cut(*data, 8)), schedule=schedule)


@pytest.mark.parametrize("schedule", ["constant", "step(5)", "warmup(5)", "exponential(0.5, 10)"])
def test_a_schedule_whose_lengths_are_steps(data, schedule):
    plain, streamed = net_of(), net_of()
    plain.fit(*data, epochs=2, batch_size=8, shuffle=False, schedule=schedule, seed=0)
    streamed.fit(Again(cut(*data, 8)), epochs=2, schedule=schedule, seed=0)
    assert np.array_equal(plain.parameters, streamed.parameters)


# -- labels


def test_labels_are_the_indices_of_the_outputs(data):
    X, y = data
    first = [(X[y < 2], y[y < 2]), (X, y)]  # a class that the first batch has not
    net = net_of()
    net.fit(first, epochs=1, seed=0)
    assert net.classes_.tolist() == [0, 1, 2]
    with pytest.raises(
        ValueError, match=r"batch 1 of epoch 0: label 3 at row 49.*indices of the outputs, from 0"
    ):
        net_of().fit([(X, y), (X, np.where(np.arange(50) < 49, y, 3))])
    with pytest.raises(ValueError, match=r"batch 0 of epoch 0: y is text.*0 to 2"):
        net_of().fit([(X, np.array(list("abc"))[y])])


def test_labels_of_an_earlier_training_are_known(data):
    X, y = data
    words = np.array(["x", "y", "z"])[y]
    plain, streamed = net_of(), net_of()
    for net in (plain, streamed):
        net.fit(X, words, epochs=1, seed=0)
    plain.fit(X, words, epochs=1, batch_size=8, shuffle=False, seed=0)
    streamed.fit([(a, b) for a, b in cut(X, words, 8)], epochs=1, seed=0)
    assert np.array_equal(plain.parameters, streamed.parameters)
    assert streamed.classes_.tolist() == ["x", "y", "z"]


@pytest.mark.parametrize("kind", [bool, np.int64, np.float64])
def test_one_output(data, kind):
    X, y = data[0], (data[1] > 0).astype(kind)
    plain, streamed = mlp([5, 1], seed=0), mlp([5, 1], seed=0)
    plain.fit(X, y, loss="binary_cross_entropy", epochs=1, batch_size=10, shuffle=False, seed=0)
    order = np.argsort(y, kind="stable")  # the first batches are of one label
    streamed.fit(cut(X, y, 10), loss="binary_cross_entropy", epochs=1, seed=0)
    assert np.array_equal(plain.parameters, streamed.parameters)
    assert np.array_equal(plain.predict(X), streamed.predict(X))
    history = mlp([5, 1], seed=0).fit(cut(X[order], y[order], 10), loss="binary_cross_entropy", epochs=1)
    assert history.steps == 5


def test_numbers(rng):
    X, y = rng.standard_normal((30, 4)), rng.standard_normal((30, 2))
    plain, streamed = mlp([4, 2], seed=0), mlp([4, 2], seed=0)
    plain.fit(X, y, epochs=2, batch_size=10, shuffle=False, seed=0)
    history = streamed.fit(cut(X, y, 10), epochs=2, seed=0)
    assert np.array_equal(plain.parameters, streamed.parameters)
    assert (history.loss_name, streamed.classes_) == ("mse", None)


# -- what goes on around the steps


def test_torch_loaders(data):
    torch = pytest.importorskip("torch")
    X, y = torch.from_numpy(data[0]), torch.from_numpy(data[1])
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, y), batch_size=8)
    plain, streamed = net_of(), net_of()
    plain.fit(*data, epochs=2, batch_size=8, shuffle=False, schedule="cosine", seed=0)
    streamed.fit(loader, epochs=2, schedule="cosine", seed=0)
    assert np.array_equal(plain.parameters, streamed.parameters)


def test_batches_of_other_kinds(data):
    scipy = pytest.importorskip("scipy.sparse")
    X, y = data[0].astype(np.float32), data[1]
    batches = [
        (scipy.csr_array(X[:20]), y[:20]),
        (X[20:40].astype(np.float64), y[20:40].tolist()),
        (X[40:], y[40:]),
    ]
    plain, streamed = net_of(), net_of()
    plain.fit(X, y, epochs=1, batch_size=20, shuffle=False, seed=0)
    streamed.fit(batches, epochs=1, seed=0)
    assert np.array_equal(plain.parameters, streamed.parameters)


class Diary(Callback):
    def __init__(self, stop_at=None):
        self.events, self.stop_at = [], stop_at

    def on_epoch_begin(self, epoch, logs):
        self.events.append(f"epoch {epoch}")

    def on_train_batch_begin(self, batch, logs):
        self.events.append(f"batch {batch}")

    def on_train_batch_end(self, batch, logs):
        assert np.isfinite(logs["loss"])
        self.network.stop_training = self.stop_at == batch

    def on_epoch_end(self, epoch, logs):
        self.events.append(f"end {epoch}")

    def on_train_end(self, logs):
        self.events.append("over")


def test_callbacks(data):
    diary = Diary()
    net_of().fit(Again(cut(*data, 25)), epochs=2, callbacks=[diary], seed=0)
    epoch = ["batch 0", "batch 1"]
    assert diary.events == ["epoch 0", *epoch, "end 0", "epoch 1", *epoch, "end 1", "over"]
    diary, net = Diary(stop_at=0), net_of()
    history = net.fit(Again(cut(*data, 25)), epochs=2, callbacks=[diary], seed=0)
    assert diary.events == ["epoch 0", "batch 0", "over"]
    assert (history.steps, history.stopped) == (1, "a callback asked for it")


def test_a_callback_may_write_parameters(data):
    class Write(Callback):
        def on_train_batch_end(self, batch, logs):
            self.network.set_parameters({"0.bias": np.full(8, float(batch))})

    nets = [mlp([5, 8, 3], seed=0) for _ in range(2)]
    nets[0].fit(*data, epochs=1, batch_size=8, shuffle=False, callbacks=[Write()], seed=0)
    nets[1].fit(cut(*data, 8), epochs=1, callbacks=[Write()], seed=0)
    assert np.array_equal(nets[0].parameters, nets[1].parameters)


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_what_a_loader_raises(data, error):
    def batches():
        yield from cut(*data, 10)[:3]
        raise error

    plain, net, diary = net_of(), net_of(), Diary()
    plain.fit(cut(*data, 10)[:3], epochs=1, seed=0)
    with pytest.raises(error):
        net.fit(batches(), epochs=1, callbacks=[diary], seed=0)
    assert np.array_equal(net.parameters, plain.parameters)
    assert net.history.stopped == ("interrupted" if error is KeyboardInterrupt else "OSError")
    assert (net.history.steps, diary.events[-1]) == (3, "over")
    net.fit(*data, epochs=1)  # nobody holds it any more


def test_a_fault_is_located_in_its_batch(rng):
    X, y = rng.standard_normal((30, 4)).astype(np.float32), rng.standard_normal((30, 1)).astype(np.float32)
    X[17] = 3e38  # their sum is beyond float32
    net, again = (Network([Dense(1, init="ones")], input_size=4, seed=0) for _ in range(2))
    with pytest.warns(GradcoreWarning, match="non-finite step"):
        history = net.fit(cut(X, y, 10), epochs=2, optimizer="sgd(0.01)", seed=0)
    fault = history.faults[0]
    assert (fault.step, fault.epoch, fault.element) == (2, 0, (7, 0))
    assert [f.epoch for f in history.faults] == [0, 1]
    assert history.history["skipped_steps"] == [1.0, 1.0]
    assert np.isnan(history.curve.values).tolist() == [False, True, False] * 2
    stopped = again.fit(cut(X, y, 10), epochs=2, optimizer="sgd(0.01)", on_fault="stop", seed=0)
    assert (stopped.steps, stopped.stopped) == (1, "non-finite value at step 2")


def test_the_rules_look_at_a_sample(monkeypatch):
    monkeypatch.setattr(stream, "SAMPLED_ROWS", 100)
    monkeypatch.setattr(stream, "SAMPLED_TARGETS", 100)
    digits = datasets.load_digits()
    X, y = digits.X_train[:400], digits.y_train[:400]
    sick = mlp([64, *[32] * 20, 10], activation="sigmoid", init="normal(0.01)", seed=0)
    history = sick.fit(
        cut(X, y, 40), epochs=1, probe=Probe(every=1, level="full"), on_fault=lambda fault: None, seed=0
    )
    kinds = {fault.kind: fault.evidence["step"] for fault in history.faults}
    assert "vanishing_gradient" in kinds
    assert min(kinds.values()) >= 3  # when a hundred rows had come


def test_a_bar_without_an_end(data, capfd):
    net_of().fit(Again(cut(*data, 8)), epochs=2, progress=True, seed=0)
    assert "epoch 1/2" in capfd.readouterr().err


def test_a_batch_of_one_row_and_batch_norm(data):
    net = Network([Dense(4), BatchNorm(), Dense(3)], input_size=5, seed=0)
    with pytest.raises(ValueError, match="batches of one row"):
        net.fit(cut(*data, 49), epochs=1)
    assert net.history.steps == 1


# -- what cannot be


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        (np.zeros((4, 5)), TypeError, "y is missing"),
        (7, TypeError, "iterable of batches"),
        ([], ValueError, "no batch"),
        ([np.zeros((4, 5))], TypeError, "batch 0 of epoch 0: expected a pair"),
        ([{"X": 1}], TypeError, "expected a pair.*got dict"),
        ([(np.zeros((4, 5)),)], TypeError, "got 1 things"),
        ([(np.zeros((4, 4)), np.zeros(4, int))], ValueError, "batch 0 of epoch 0: X has 4 columns"),
        ([(np.zeros((4, 5)), np.zeros(3, int))], ValueError, "batch 0 of epoch 0: X has 4 rows and y has 3"),
        ([(np.zeros((0, 5)), np.zeros(0, int))], ValueError, "batch 0 of epoch 0: y is empty"),
        ([[[0.0, 1.0]]], TypeError, "expected a pair"),
    ],
)
def test_what_cannot_be(X, error, message):
    net = net_of()
    before = net.parameters.copy()
    with pytest.raises(error, match=message):
        net.fit(X)
    assert np.array_equal(net.parameters, before)
    assert net.history is None


def test_frames_and_sparse_matrices_are_no_batches():
    with pytest.raises(TypeError, match="y is missing"):
        net_of().fit(pytest.importorskip("pandas").DataFrame(np.zeros((4, 5))))
    with pytest.raises(TypeError, match="y is missing"):
        net_of().fit(pytest.importorskip("scipy.sparse").csr_array((4, 5)))


def test_wrong_values_are_named_by_batch_row_and_column(data):
    X, y = data
    X[23, 1] = np.nan
    net = net_of()
    with pytest.raises(ValueError, match="batch 2 of epoch 0: X has nan at row 3, column 1"):
        net.fit(cut(X, y, 10), epochs=1)
    assert net.history.steps == 2


def test_batches_beside_y_and_a_share_to_hold_out(data):
    with pytest.raises(
        TypeError, match=r"X is no array but generator; batches \(X, y\) are given to fit alone"
    ):
        net_of().fit((batch for batch in cut(*data, 8)), data[1])
    with pytest.raises(ValueError, match="hold batches back"):
        net_of().fit(cut(*data, 8), validation_fraction=0.2)
    with pytest.raises((TypeError, ValueError), match=r"networks\[0\]: "):
        fit_many([net_of()], (cut(*data, 8), None))


def test_what_needs_all_rows_at_once_is_refused(data, tmp_path):
    net, batches = net_of(), cut(*data, 8)
    for given in ({"sample_weight": np.ones(len(data[0]))}, {"class_weight": "balanced"}):
        with pytest.raises(ValueError, match=f"{next(iter(given))} needs arrays X and y"):
            net.fit(batches, **given)
    with pytest.raises(ValueError, match="Checkpoint needs arrays"):
        net.fit(batches, callbacks=[Checkpoint(tmp_path / "checkpoint")])
    net.fit(*data, epochs=1, callbacks=[Checkpoint(tmp_path / "checkpoint")], seed=0)
    with pytest.raises(ValueError, match="resume needs arrays"):
        net.fit(batches, resume=tmp_path / "checkpoint")


def test_rates_and_clipping_are_told_as_of_arrays(data):
    X, y = data
    settings = {
        "epochs": 3, "seed": 0, "schedule": "exponential(0.5, step_size=7)", "clip_norm": 0.3, "shuffle": False,
        "optimizer": "rmsprop(0.01, momentum=0.5)", "progress": False,
    }  # fmt: skip
    one, other = net_of(), net_of()
    arrays = one.fit(X, y, batch_size=8, **settings)
    stream = other.fit(cut(X, y, 8), **settings)
    assert arrays.history["lr"] != sorted(arrays.history["lr"])
    assert stream.history == arrays.history
    assert np.array_equal(one.parameters, other.parameters)
