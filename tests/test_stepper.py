import threading

import numpy as np
import pytest

from gradcore import BatchNorm, Dense, Dropout, GradcoreWarning, Network, Probe, mlp

LAYERS = [Dense(16), BatchNorm(), "tanh", Dropout(0.3), Dense(3)]


@pytest.fixture
def data(rng):
    return rng.standard_normal((40, 5)).astype(np.float32), rng.integers(0, 3, 40)


def test_steps_are_those_of_fit(data):
    X, y = data
    by_fit, by_steps = (Network(LAYERS, input_size=5, seed=0) for _ in range(2))
    settings = {"optimizer": "adam(0.01)", "clip_norm": 0.5, "seed": 7}
    history = by_fit.fit(X, y, epochs=2, batch_size=8, shuffle=False, **settings)
    with by_steps.stepper(batch_size=8, **settings) as step:
        losses = [step(X[at : at + 8], y[at : at + 8]) for _ in range(2) for at in range(0, 40, 8)]
    assert np.array_equal(by_fit.parameters, by_steps.parameters)
    assert np.array_equal(by_fit.state, by_steps.state)
    assert history.history["loss"] == pytest.approx([np.mean(losses[:5]), np.mean(losses[5:])])


@pytest.mark.parametrize(
    "cast", [np.asarray, np.ndarray.tolist, lambda a: a.astype(a.dtype.newbyteorder(">"))]
)
def test_any_array_like_gives_the_same_step(data, cast):
    X, y = data
    one, other = (mlp([5, 8, 3], seed=0) for _ in range(2))
    assert one.stepper(batch_size=40, seed=0)(X, y) == other.stepper(batch_size=40, seed=0)(cast(X), cast(y))
    assert np.array_equal(one.parameters, other.parameters)


def test_two_part_form_with_the_gradient_of_the_loss_is_the_one_part_form(data):
    X, y = data
    one, two = (Network(LAYERS, input_size=5, dtype="float64", seed=0) for _ in range(2))
    step, halves = (
        net.stepper(batch_size=40, optimizer="sgd(0.1, momentum=0.9)", seed=3) for net in (one, two)
    )
    for _ in range(5):
        step(X, y)
        outputs = halves.forward(X)
        p = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        p[np.arange(40), y] -= 1
        norm = halves.backward(p / 40)
        assert np.isfinite(norm)
    np.testing.assert_allclose(two.parameters, one.parameters, atol=1e-13)
    np.testing.assert_allclose(two.state, one.state, atol=1e-13)


def test_forward_alone_changes_nothing(data):
    X, _ = data
    net = Network(LAYERS, input_size=5, seed=0)
    before = net.parameters.copy(), net.state.copy()
    step = net.stepper(batch_size=40, seed=0)
    first, second = step.forward(X), step.forward(X)
    assert np.array_equal(first, second)
    assert np.array_equal(net.parameters, before[0])
    assert np.array_equal(net.state, before[1])


def test_backward_needs_its_forward(data):
    X, y = data
    net = mlp([5, 8, 3], seed=0)
    step = net.stepper(batch_size=40, seed=0)
    with pytest.raises(RuntimeError, match="call forward before backward"):
        step.backward(np.zeros((40, 3)))
    step.forward(X)
    with pytest.raises(ValueError, match="39 rows, the batch has 40"):
        step.backward(np.zeros((39, 3)))
    step.backward(np.zeros((40, 3)))
    with pytest.raises(RuntimeError, match="call forward before backward"):
        step.backward(np.zeros((40, 3)))
    step.forward(X)
    net.set_parameters({"0.bias": np.zeros(8)})
    with pytest.raises(RuntimeError, match="changed since forward"):
        step.backward(np.zeros((40, 3)))
    step.forward(X)
    step(X, y)
    with pytest.raises(RuntimeError, match="call forward before backward"):
        step.backward(np.zeros((40, 3)))


def test_parameters_set_from_outside_are_seen_by_the_backward_pass(data):
    X, y = data
    net = mlp([5, 8, 8, 3], seed=0)
    step = net.stepper(batch_size=40, optimizer="sgd(1.0)", seed=0)
    step(X, y)
    net.copy_from_(mlp([5, 8, 8, 3], seed=1))
    before = net.get_parameters()
    _, gradients = net.loss_and_gradients(X, y)
    step(X, y)
    after = net.get_parameters()
    for name, gradient in gradients.items():
        np.testing.assert_allclose(before[name] - after[name], gradient, atol=1e-6)


def test_two_steppers_share_one_network(data):
    X, y = data
    net = mlp([5, 8, 3], seed=0)
    first, second = (net.stepper(batch_size=40, optimizer="sgd(0.5)", seed=0) for _ in range(2))
    one = mlp([5, 8, 3], seed=0)
    only = one.stepper(batch_size=40, optimizer="sgd(0.5)", seed=0)
    for _ in range(3):
        first(X, y)
        second(X, y)
        only(X, y)
        only(X, y)
    assert np.array_equal(net.parameters, one.parameters)


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        (np.zeros((41, 5), "f4"), np.zeros(41, int), "at most 40 rows"),
        (np.zeros((0, 5), "f4"), np.zeros(0, int), "empty"),
        (np.zeros((4, 5), "f4"), np.zeros(3, int), "4 rows and y has 3"),
        (np.zeros((4, 6), "f4"), np.zeros(4, int), "X"),
        (np.zeros(5, "f4"), np.zeros(1, int), "X"),
        (np.zeros((4, 5)), np.full(4, 3), "3"),
        (np.zeros((4, 5)), np.full(4, -1), "-1"),
        (np.zeros((4, 5)), ["a"] * 4, "not among those trained on"),
    ],
)
def test_wrong_data_change_nothing(data, X, y, message):
    net = mlp([5, 8, 3], seed=0)
    step = net.stepper(batch_size=40, seed=0)
    step(*data)
    before = net.parameters.copy()
    with pytest.raises((ValueError, TypeError), match=message):
        step(X, y)
    assert np.array_equal(net.parameters, before)
    step(*data)
    assert step.steps == 2


def test_labels_keep_the_coding_of_an_earlier_fit(data):
    X, y = data
    net = mlp([5, 16, 3], seed=0)
    net.fit(X, y + 1, epochs=1, seed=0)
    assert net.classes_.tolist() == [1, 2, 3]
    step = net.stepper(batch_size=40, optimizer="adam(0.03)", seed=0)
    for _ in range(300):
        step(X, y + 1)
    assert np.mean(net.predict(X) == y + 1) > 0.9


def test_probe_keeps_the_ledger_of_the_last_probed_step(data):
    net = mlp([5, 8, 3], seed=0)
    step = net.stepper(batch_size=40, probe=Probe(every=2, level="full"), seed=0)
    with pytest.raises(RuntimeError, match="no step was probed yet"):
        _ = step.ledger
    losses = [step(*data) for _ in range(3)]
    assert step.ledger.step == 2
    assert step.ledger.loss == losses[1]
    assert step.ledger.rows == 40
    with pytest.raises(RuntimeError, match="probe="):
        _ = net.stepper(batch_size=4).ledger


def test_a_non_finite_step_is_not_applied_and_warned_of_once(data):
    X, y = data
    net = Network(LAYERS, input_size=5, seed=0)
    step = net.stepper(batch_size=40, seed=0)
    step(X, y)
    before = net.parameters.copy(), net.state.copy()
    bad = X.copy()
    bad[7, 2] = np.nan
    with pytest.warns(GradcoreWarning, match=r"step 2 .*input is nan at row 7, column 2"):
        assert np.isnan(step(bad, y))
    assert np.isnan(step(bad, y))
    assert np.array_equal(net.parameters, before[0])
    assert np.array_equal(net.state, before[1])
    assert step.steps == 1
    assert np.isfinite(step(X, y))


def test_a_non_finite_output_gradient_is_not_applied(data):
    X, _ = data
    net = mlp([5, 8, 3], seed=0)
    before = net.parameters.copy()
    step = net.stepper(batch_size=40, seed=0)
    step.forward(X)
    with pytest.warns(GradcoreWarning, match="not applied"):
        assert not np.isfinite(step.backward(np.full((40, 3), np.inf)))
    assert np.array_equal(net.parameters, before)


def test_batch_norm_refuses_a_single_row(data):
    step = Network(LAYERS, input_size=5, seed=0).stepper(batch_size=4, seed=0)
    with pytest.raises(ValueError, match="batch norm cannot train on batches of one row"):
        step(data[0][:1], data[1][:1])


def test_any_layout_of_the_two_parts_makes_the_same_step(data):
    X, _ = data
    d = np.random.default_rng(0).normal(size=(40, 3))
    layouts = [
        (X.astype("f4"), d.astype("f4")),
        (X.astype("f4").tolist(), d.astype("f4").tolist()),
        (np.asfortranarray(X.astype("f4")), np.asfortranarray(d.astype("f4"))),
        (X.astype("f4").astype(">f4"), np.repeat(d.astype("f4"), 2, axis=0)[::2]),
        tuple(np.frombuffer(b"0" + a.astype("f4").tobytes(), np.uint8)[1:].view("f4").reshape(a.shape)
              for a in (X, d)),
    ]  # fmt: skip
    results = []
    for inputs, gradient in layouts:
        net = mlp([5, 8, 3], seed=0)
        with net.stepper(batch_size=40, loss="mse", seed=0) as step:
            for _ in range(2):
                outputs = step.forward(inputs)
                step.backward(gradient)
        results.append((outputs.tobytes(), net.parameters.tobytes()))
    assert results == results[:1] * len(layouts)
    with net.stepper(batch_size=40, loss="mse") as step:
        step.forward(X)
        for wrong, message in (
            (d[:39], "39 rows, the batch has 40"),
            (d[:, :2], "2 columns"),
            (d[0], "two dimensions"),
        ):
            with pytest.raises(ValueError, match=message):
                step.backward(wrong)
        step.backward(d)


def test_a_closed_stepper_says_so(data):
    net = mlp([5, 8, 3], seed=0)
    with net.stepper(batch_size=40, seed=0) as step:
        step(*data)
    for call in (lambda: step(*data), lambda: step.forward(data[0])):
        with pytest.raises(RuntimeError, match="closed"):
            call()
    unused = net.stepper(batch_size=40)
    unused.close()
    with pytest.raises(RuntimeError, match="closed"):
        unused(*data)


def test_a_network_in_training_refuses_a_step(data):
    net = mlp([5, 8, 3], seed=0)
    step = net.stepper(batch_size=40, seed=0)
    step(*data)
    refused = []

    def intrude():
        for call in (lambda: step(*data), lambda: net.set_parameters({}), lambda: net.fit(*data)):
            with pytest.raises(RuntimeError, match="being trained"):
                call()
            refused.append(call)

    with net._training():
        thread = threading.Thread(target=intrude)
        thread.start()
        thread.join()
    assert len(refused) == 3
    step(*data)


def test_numbers_as_targets(rng):
    X = rng.standard_normal((10, 2))
    net = mlp([2, 3], seed=0)
    step = net.stepper(batch_size=10, loss="mse(reduction='sum')", optimizer="sgd(0.01)", seed=0)
    assert step(X, np.zeros((10, 3))) == pytest.approx(np.sum(mlp([2, 3], seed=0).forward(X) ** 2), rel=1e-5)


def test_a_fit_in_between_is_noticed(data):
    X, y = data
    net = mlp([5, 32, 32, 3], seed=0)
    step = net.stepper(batch_size=40, optimizer="sgd(0.1)", loss="cross_entropy", seed=0)
    step(X, y)
    step.forward(X)
    net.fit(X, y, epochs=5, optimizer="sgd(0.5)", batch_size=16, seed=0, progress=False)
    with pytest.raises(RuntimeError, match="changed since forward"):
        step.backward(np.ones((40, 3), np.float32))
    fresh = net.copy()
    step(X, y)
    fresh.stepper(batch_size=40, optimizer="sgd(0.1)", loss="cross_entropy", seed=0)(X, y)
    assert np.array_equal(net.parameters, fresh.parameters)


def test_two_part_steps_of_a_stepper_with_a_loss_locate_their_faults(data):
    X, _ = data
    net = mlp([5, 8, 3], seed=0)
    step = net.stepper(batch_size=8, loss="cross_entropy")
    step.forward(X[:8])
    before = net.parameters.tobytes()
    with pytest.warns(GradcoreWarning, match="not applied"):
        assert not np.isfinite(step.backward(np.full((8, 3), np.nan)))
    assert net.parameters.tobytes() == before
    assert step.steps == 0
    assert len(step.faults) == 1


def test_targets_of_any_strides(data):
    X, y = data
    nets = [mlp([5, 8, 3], seed=0) for _ in range(2)]
    nets[0].stepper(batch_size=40, loss="cross_entropy", seed=0)(X, y[::-1])
    nets[1].stepper(batch_size=40, loss="cross_entropy", seed=0)(X, y[::-1].copy())
    assert np.array_equal(nets[0].parameters, nets[1].parameters)


def test_a_rate_beyond_the_dtype_is_refused_before_anything_changes(data):
    X, y = data
    net = mlp([5, 8, 3], seed=0)
    before = net.parameters.tobytes()
    with pytest.raises(ValueError, match=r"lr: 1e\+39 is beyond float32"):
        net.fit(X, y, optimizer="sgd(1e39)", epochs=1, progress=False)
    assert net.parameters.tobytes() == before


@pytest.mark.parametrize("plain", [True, False])
def test_an_interrupted_step_is_booked(data, plain):
    """Ctrl-C arrives while the kernels run and is raised after them; the lock is free again."""
    X, y = data if plain else (data[0].tolist(), data[1].tolist())
    net = mlp([5, 8, 3], seed=0)
    step = net.stepper(batch_size=40, loss="cross_entropy", seed=0)
    executor = step._executor

    class Interrupted:
        applied = property(lambda self: executor.applied)

        def __getattr__(self, name):
            return getattr(executor, name)

        def step(self, *arguments):
            executor.step(*arguments)
            raise KeyboardInterrupt

        def train(self, *arguments, **names):
            executor.train(*arguments, **names)
            raise KeyboardInterrupt

    step._executor = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        step(X, y)
    assert step.steps == 1
    step._executor = executor
    step(X, y)
    assert step.steps == 2


def test_arrays_as_they_are_and_arrays_to_be_converted_make_the_same_step(dtype):
    """What the kernels take is handed on at once, everything else by way of its checks: the same bits."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((12, 5)).astype(dtype)
    ways = {
        "plain": lambda X, y: (X, y),
        "strided": lambda X, y: (np.repeat(X, 2, axis=0)[::2], y),
        "columns first": lambda X, y: (np.asfortranarray(X), y),
        "reversed": lambda X, y: (X[::-1].copy()[::-1], y),
        "strided targets": lambda X, y: (X, np.repeat(y, 2, axis=0)[::2]),
        "misaligned": lambda X, y: (misaligned(X), misaligned(y)),
        "lists": lambda X, y: (X.tolist(), y.tolist()),
        "wider": lambda X, y: (X.astype("f8"), y),
    }
    cases = [
        ("cross_entropy", 3, rng.integers(0, 3, 12)),
        ("mse", 2, rng.standard_normal((12, 2)).astype(dtype)),
    ]
    for loss, outputs, y in cases:
        found = {}
        for name, way in ways.items():
            net = mlp([5, 8, outputs], dtype=dtype, seed=0)
            with net.stepper(batch_size=12, loss=loss, seed=0) as step:
                losses = [step(*way(X, y)) for _ in range(3)]
                assert step.steps == 3
            found[name] = losses, net.parameters.tobytes()
        assert len({(tuple(losses), bits) for losses, bits in found.values()}) == 1, found.keys()


def misaligned(array):
    raw = np.zeros(array.nbytes + 1, np.uint8)[1:]
    moved = raw.view(array.dtype).reshape(array.shape)
    moved[...] = array
    return moved


@pytest.mark.parametrize("form", ["whole", "two parts"])
@pytest.mark.parametrize("what", ["nan", "inf", "1e30"])
def test_running_statistics_are_never_poisoned(form, what):
    # (a variance of 1e60 does not fit float32: such a batch is refused, and named)
    net = Network([BatchNorm(), Dense(4), BatchNorm(), "tanh", Dense(2)], input_size=3, seed=0)
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(8, 3)).astype("f4"), rng.normal(size=(8, 2)).astype("f4")
    bad = X * np.float32(1e30) if what == "1e30" else X.copy()
    if what != "1e30":
        bad[3, 1] = float(what)

    def one(step, X):
        if form == "whole":
            return step(X, y)
        step.forward(X)
        return step.backward(np.full((8, 2), 0.1, "f4"))

    with net.stepper(batch_size=8, loss="mse", optimizer="adam", threads=1) as step:
        assert np.isfinite(one(step, X))
        before = net.get_parameters()
        assert not np.array_equal(before["0.running_mean"], np.zeros(3))
        with pytest.warns(
            GradcoreWarning, match=r"running_var of batch_norm 1|input is|batch_norm|output_grad"
        ):
            one(step, bad)
        for name, array in net.get_parameters().items():
            np.testing.assert_array_equal(array, before[name], err_msg=name)
        assert np.isfinite(one(step, X))
    assert all(np.isfinite(array).all() for array in net.get_parameters().values())


def test_batch_norm_of_columns_beside_a_mean_of_1e8():
    net = Network([BatchNorm(), Dense(1)], input_size=1, seed=0)
    net.set_parameters({"1.weight": [[1.0]]})
    X = np.float32(1e8) + np.float32(8) * np.array([[-1.0], [0.0], [0.0], [1.0], [1.0], [0.0]], "f4")
    with net.stepper(batch_size=6, loss="mse", threads=1) as step:
        outputs = step.forward(X)
    wide = X.astype(np.float64)
    np.testing.assert_allclose(outputs, (wide - wide.mean()) / wide.std(), rtol=1e-3)


def test_saving_between_the_two_halves_of_a_step_is_no_change(data, tmp_path):
    X, _ = data
    net = mlp([5, 8, 3], seed=0)
    with net.stepper(batch_size=40, loss="mse", seed=0) as step:
        outputs = step.forward(X)
        net.save(tmp_path / "net")
        step.backward(outputs)
    assert step.steps == 1
