"""Inference: the short way of a few rows gives what the long way gives, and derivatives with respect to inputs."""

import threading

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp
from reference_network import twin

from gradcore import BatchNorm, Dense, Dropout, Network, Residual, kernels, losses, mlp

NORMED = [Dense(7), BatchNorm(), "tanh", Residual([Dense(7), "gelu"], scale=0.5), Dropout(0.3), Dense(3)]
STACKS = {
    "normed": NORMED,
    "softmax": [Dense(6), "tanh", Dense(4), "softmax"],
    "begins with batch norm": [BatchNorm(), Dense(6), "sigmoid", Dense(2)],
    "begins with a block": [Residual([Dense(5), "tanh"]), "elu", Dense(2)],
    "wide output": [Dense(4), "gelu", Dense(37)],
    "one layer": [Dense(1)],
    "begins with an activation": ["tanh", Dense(2)],
}
ANY = st.floats(width=32) | st.sampled_from([0.0, -0.0, 1.0, float("nan"), float("inf"), -float("inf")])
LOSSES = [None, "mse", "cross_entropy", "binary_cross_entropy"]


class LongWay(Network):
    """A network that never takes the short way."""

    def _quick(self, X, answer):
        return None


def long_way(net):
    other = LongWay(net.layers, input_size=net.input_size, dtype=net.dtype, seed=net.seed)
    other.set_parameters(net.get_parameters())
    other.loss, other.classes_ = net.loss, net.classes_
    return other


def warm(layers, input_size, dtype="float32", rows=1):
    """A network with running statistics of its own, whose executors are built."""
    net = Network(layers, input_size=input_size, dtype=dtype, seed=0)
    rng = np.random.default_rng(3)
    state = {n: rng.uniform(0.5, 2, a.shape) for n, a in net.get_parameters().items() if "running" in n}
    net.set_parameters(state)
    net.forward(np.zeros((1, input_size)))
    net.input_gradients(np.zeros((rows, input_size)), np.zeros((rows, net.output_size)))
    return net


def outcome(call, *arguments):
    """What a call gives, or how it fails."""
    try:
        result = call(*arguments)
    except ValueError as error:
        return str(error)
    return result.dtype, result.shape, result.tobytes(), result.flags.writeable


@settings(max_examples=300, deadline=None)
@given(
    outputs=hnp.arrays(np.float32, st.integers(1, 5), elements=ANY),
    rows=st.integers(1, 3),
    dtype=st.sampled_from(["float32", "float64"]),
    loss=st.sampled_from(LOSSES),
    classes=st.sampled_from([None, "numbers", "text"]),
    inputs=st.data(),
)
def test_the_short_way_gives_what_the_long_way_gives(outputs, rows, dtype, loss, classes, inputs):
    # zero weights: the outputs are the biases, whatever they hold
    net = Network([Dense(len(outputs), init="zeros")], input_size=2, dtype=dtype, seed=0)
    net.set_parameters({"0.bias": outputs})
    net.loss = None if loss is None else losses.resolve(loss)
    if loss in LOSSES[2:] and classes is not None:
        count = max(2, len(outputs))
        net.classes_ = np.arange(count) * 3 if classes == "numbers" else np.array([*"vwxyz"][:count])
    slow = long_way(net)
    X = inputs.draw(hnp.arrays(dtype, (rows, 2), elements=st.sampled_from([1.0, 0.0, np.nan, np.inf])))
    net.forward(X)
    assert net._quick(X, kernels.ANSWERS["outputs"]) is not None
    with np.errstate(invalid="ignore"):
        assert outcome(net.forward, X) == outcome(slow.forward, X)
        assert outcome(net.predict, X) == outcome(slow.predict, X)
        assert outcome(net.predict_proba, X) == outcome(slow.predict_proba, X)


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("rows", [1, 2, 7, 50])
def test_the_short_way_has_the_bits_of_the_long_way(stack, rows, dtype, rng):
    net = warm(STACKS[stack], 5, dtype, rows=50)
    X = rng.standard_normal((rows, 5)).astype(dtype)
    d = rng.standard_normal((rows, net.output_size)).astype(dtype)
    assert net._quick(X, kernels.ANSWERS["values"]) is not None
    assert net._input_gradients.quick_input_gradients(X, d) is not None
    many = np.concatenate([X, rng.standard_normal((3000, 5)).astype(dtype)])
    assert np.array_equal(net.forward(X), net.forward(many)[:rows])
    assert np.array_equal(net.input_gradients(X, d), net.input_gradients(np.asfortranarray(X), d.tolist()))


class Child(np.ndarray):
    pass


UNFIT = {
    "list": lambda X: X.tolist(),
    "Fortran order": np.asfortranarray,
    "every second row": lambda X: np.repeat(X, 2, axis=0)[::2],
    "reversed columns": lambda X: X[:, ::-1],
    "broadcast": lambda X: np.broadcast_to(X[:1], X.shape),
    "big-endian": lambda X: X.astype(X.dtype.newbyteorder(">")),
    "misaligned": lambda X: np.frombuffer(b"\0" + X.tobytes(), np.uint8)[1:].view(X.dtype).reshape(X.shape),
    "subclass": lambda X: X.view(Child),
    "masked": np.ma.masked_array,
    "another dtype": lambda X: X.astype("f4" if X.dtype == "f8" else "f8"),
    "integers": lambda X: X.astype(int),
    "no rows": lambda X: X[:0],
    "more rows than a chunk": lambda X: np.tile(X, (2000, 1)),
}


@pytest.mark.parametrize("kind", UNFIT)
def test_unfit_arrays_take_the_long_way_to_the_same_answer(kind, dtype, rng):
    net = warm(NORMED, 5, dtype)
    X = UNFIT[kind](rng.standard_normal((4, 5)).astype(dtype).round(2))
    assert net._quick(X, kernels.ANSWERS["outputs"]) is None
    plain = np.array(X, dtype)
    np.testing.assert_array_equal(net.predict(X), long_way(net).predict(plain))
    d = np.ones((len(plain), 3))
    np.testing.assert_array_equal(net.input_gradients(X, d), net.input_gradients(plain, d))


@pytest.mark.parametrize(
    "X", [None, 3.0, [[1.0, 2.0]], np.zeros((2, 4)), np.zeros(5), np.zeros((1, 5), "M8[s]")]
)
def test_what_cannot_be_an_input_is_refused_after_the_short_way_was_built(X):
    net = warm(NORMED, 5)
    for call in (net.predict, net.forward, net.jacobian, lambda X: net.input_gradients(X, np.zeros((1, 3)))):
        with pytest.raises((ValueError, TypeError), match=r"^X "):
            call(X)


def test_predict_names_the_value_that_is_not_finite(dtype):
    net = warm(NORMED, 5, dtype)
    for rows, row, column, value in ((1, 0, 4, np.nan), (40, 17, 2, -np.inf), (3, 2, 0, np.inf)):
        X = np.zeros((rows, 5), dtype)
        X[row, column] = value
        with pytest.raises(ValueError, match=f"X has {value} at row {row}, column {column}"):
            net.predict(X)
        assert np.isfinite(np.delete(net.forward(X), row, axis=0)).all()


def test_weights_of_now_whoever_changed_them(rng):
    net = warm(NORMED, 5, "float64")
    X, d = rng.standard_normal((2, 5)), rng.standard_normal((2, 3))

    def check():
        fresh = Network(net.layers, input_size=5, dtype="float64", seed=1)
        fresh.set_parameters(net.get_parameters())
        for ask in (lambda n: n.forward(X), lambda n: n.input_gradients(X, d), lambda n: n.jacobian(X)):
            assert np.array_equal(ask(net), ask(fresh))

    changes = [
        lambda: net.set_parameters({"0.weight": rng.standard_normal((7, 5))}),
        lambda: net.copy_from_(Network(NORMED, input_size=5, dtype="float64", seed=9), tau=0.3),
        lambda: net.fit(rng.standard_normal((40, 5)), rng.standard_normal((40, 3)), epochs=1, progress=False),
    ]
    for change in changes:
        change()
        check()
    with net.stepper(batch_size=4, loss="mse", seed=0) as step:
        for _ in range(2):
            step(rng.standard_normal((4, 5)), rng.standard_normal((4, 3)))
            check()
            step.forward(rng.standard_normal((4, 5)))
            step.backward(np.ones((4, 3)))
            check()


def test_many_threads_predict_while_another_trains(rng):
    net = mlp([6, 16, 4], seed=0)
    still = net.copy()
    X, D = rng.standard_normal((64, 6)).astype("f4"), np.ones((1, 4), "f4")
    expected, slopes = still.forward(X), still.input_gradients(X, np.ones((64, 4), "f4"))
    wrong = []

    def ask(first):
        for i in range(300):
            row = (first + i) % 64
            x = X[row : row + 1]
            if not np.array_equal(still.predict(x), expected[row : row + 1]):
                wrong.append(row)
            if not np.array_equal(still.input_gradients(x, D), slopes[row : row + 1]):
                wrong.append(row)
            if not np.isfinite(net.predict(x)).all() or not np.isfinite(net.jacobian(x)).all():
                wrong.append(row)

    threads = [threading.Thread(target=ask, args=(9 * k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    net.fit(X, np.tile(X[:, :4], 1), epochs=200, batch_size=8, progress=False)
    for thread in threads:
        thread.join()
    assert not wrong
    after = net.copy()
    assert np.array_equal(net.input_gradients(X[:1], D), after.input_gradients(X[:1], D))


@pytest.mark.parametrize("stack", STACKS)
def test_the_jacobian_agrees_with_differences(stack, rng):
    net = warm(STACKS[stack], 5, "float64")
    X, h = rng.standard_normal((3, 5)), 1e-6
    jacobian = net.jacobian(X)
    assert jacobian.shape == (3, net.output_size, 5)
    for column in range(5):
        step = h * np.eye(5)[column]
        slope = (net.forward(X + step) - net.forward(X - step)) / (2 * h)
        np.testing.assert_allclose(jacobian[:, :, column], slope, atol=2e-9)


@pytest.mark.parametrize("stack", STACKS)
def test_the_jacobian_of_the_readable_network_is_the_same(stack, dtype, rng):
    net = warm(STACKS[stack], 5, dtype)
    X = rng.standard_normal((4, 5)).astype(dtype)
    tolerance = 50 * float(np.finfo(dtype).eps)
    np.testing.assert_allclose(net.jacobian(X), twin(net).jacobian(X), atol=tolerance)


@pytest.mark.parametrize(("outputs", "rows"), [(3, 2000), (1500, 2), (70, 40), (1, 0)])
def test_jacobians_of_any_size_come_in_chunks_with_the_same_bits(outputs, rows, rng):
    net = mlp([4, 9, outputs], activation="tanh", seed=0)
    X = rng.standard_normal((rows, 4))
    jacobian = net.jacobian(X)
    assert jacobian.shape == (rows, outputs, 4)
    assert jacobian.dtype == np.float32
    for row in range(0, rows, 397):
        assert np.array_equal(jacobian[row], net.jacobian(X[row : row + 1])[0])


def test_a_row_that_is_not_finite_spoils_its_own_jacobian_only(rng):
    net = warm(NORMED, 5)
    X = rng.standard_normal((3, 5))
    X[1, 2] = np.nan
    jacobian = net.jacobian(X)
    assert np.isnan(jacobian[1]).all()
    assert np.array_equal(jacobian[[0, 2]], net.jacobian(X[[0, 2]]))


@pytest.mark.parametrize("stack", STACKS)
def test_the_jacobian_is_that_of_pytorch(stack, rng):
    torch = pytest.importorskip("torch")
    net = warm(STACKS[stack], 5, "float64")
    values = {name: torch.from_numpy(array) for name, array in net.get_parameters().items()}

    def run(x, layers, prefix=""):
        for i, layer in enumerate(layers):
            name = f"{prefix}{i}"
            if isinstance(layer, Dense):
                x = x @ values[f"{name}.weight"].T + values[f"{name}.bias"]
            elif isinstance(layer, BatchNorm):
                scale = values[f"{name}.gamma"] / (values[f"{name}.running_var"] + layer.eps).sqrt()
                x = (x - values[f"{name}.running_mean"]) * scale + values[f"{name}.beta"]
            elif isinstance(layer, Residual):
                x = x + layer.scale * run(x, layer.layers, f"{name}.")
            elif not isinstance(layer, Dropout):
                kind = layer.info.name
                x = torch.softmax(x, -1) if kind == "softmax" else getattr(torch.nn.functional, kind)(x)
        return x

    X = rng.standard_normal((6, 5))
    theirs = torch.func.vmap(torch.func.jacrev(lambda x: run(x, net.layers)))(torch.from_numpy(X))
    np.testing.assert_allclose(net.jacobian(X), theirs.numpy(), rtol=1e-12, atol=1e-14)
