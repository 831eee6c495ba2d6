import copy
import pickle
import threading

import numpy as np
import pytest
from reference_network import ReferenceNetwork, twin

import gradcore
from gradcore import Activation, BatchNorm, Dense, Dropout, Network, Residual, mlp

NESTED = [
    Dense(8),
    BatchNorm(),
    "tanh",
    Residual([Dense(8), "gelu", Residual([Dense(8, use_bias=False)], scale=0.3)], scale=0.5),
    Dropout(0.2),
    Dense(3),
]


@pytest.fixture
def X(rng):
    return rng.standard_normal((20, 5))


@pytest.fixture
def y(rng):
    return rng.integers(0, 3, 20)


def test_same_seed_same_parameters_and_another_seed_other_ones():
    a, b, c = (mlp([4, 8, 2], seed=s).get_parameters() for s in (1, 1, 2))
    assert all(np.array_equal(a[name], b[name]) for name in a)
    assert not np.array_equal(a["0.weight"], c["0.weight"])


def test_seed_none_draws_one_and_keeps_it():
    first, second = mlp([4, 8, 2]), mlp([4, 8, 2])
    assert first.seed != second.seed
    assert np.array_equal(mlp([4, 8, 2], seed=first.seed).parameters, first.parameters)


def test_a_longer_network_keeps_the_initial_weights_of_the_shorter_one():
    short = Network([Dense(6), "tanh", Dense(6), "tanh", Dense(2)], input_size=4, seed=3).get_parameters()
    long = Network([Dense(6), "tanh", Dense(6), "tanh", Dense(6), "tanh", Dense(2)], input_size=4, seed=3)
    assert np.array_equal(long.get_parameters()["2.weight"], short["2.weight"])


@pytest.mark.parametrize(
    ("layers", "std"),
    [
        ([Dense(400), "relu"], np.sqrt(2 / 300)),
        ([Dense(400), BatchNorm(), Dropout(0.1), "relu"], np.sqrt(2 / 300)),
        ([Dense(400), "leaky_relu(0.5)"], np.sqrt(2 / 1.25 / 300)),
        ([Dense(400), "selu"], np.sqrt(1 / 300)),
        ([Dense(400), "tanh"], np.sqrt(2 / 700)),
        ([Dense(400)], np.sqrt(2 / 700)),
        ([Dense(400, init="normal(0.01)"), "relu"], 0.01),
    ],
)
def test_auto_initial_weights_follow_the_activation(layers, std):
    weight = Network(layers, input_size=300, seed=0).get_parameters()["0.weight"]
    assert weight.std() == pytest.approx(std, rel=0.02)


def test_names_and_shapes_of_parameters():
    net = Network(NESTED, input_size=5, seed=0)
    assert {name: array.shape for name, array in net.get_parameters().items()} == {
        "0.weight": (8, 5), "0.bias": (8,),
        "1.gamma": (8,), "1.beta": (8,), "1.running_mean": (8,), "1.running_var": (8,),
        "3.0.weight": (8, 8), "3.0.bias": (8,), "3.2.0.weight": (8, 8),
        "5.weight": (3, 8), "5.bias": (3,),
    }  # fmt: skip


def test_get_parameters_returns_copies():
    net = mlp([3, 4, 2], seed=0)
    for array in net.get_parameters().values():
        array[...] = 7
    assert not (net.get_parameters()["0.bias"] == 7).any()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"2.bais": np.zeros(2)}, "did you mean '2.bias'"),
        ({"2.bias": np.zeros(3)}, r"shape \(2,\), got \(3,\)"),
        ({"2.bias": ["a", "b"]}, "must hold numbers"),
        ({"2.bias": [1e300, 0]}, "too large for float32"),
    ],
)
def test_set_parameters_writes_all_or_nothing(wrong, message):
    net = mlp([3, 4, 2], seed=0)
    before = net.parameters.copy()
    with pytest.raises((ValueError, TypeError), match=message):
        net.set_parameters({"0.weight": np.ones((4, 3)), **wrong})
    assert np.array_equal(net.parameters, before)


def test_set_parameters_round_trip(dtype, X):
    net = Network(NESTED, input_size=5, dtype=dtype, seed=0)
    other = Network(NESTED, input_size=5, dtype=dtype, seed=1)
    other.set_parameters(net.get_parameters())
    assert np.array_equal(other.parameters, net.parameters)
    assert np.array_equal(other.forward(X), net.forward(X))


def test_forward_is_the_formula(dtype, X):
    net = mlp([5, 7, 3], activation="tanh", dtype=dtype, seed=0)
    p = net.get_parameters()
    expected = np.tanh(X @ p["0.weight"].T + p["0.bias"]) @ p["2.weight"].T + p["2.bias"]
    np.testing.assert_allclose(net.forward(X), expected, rtol=0, atol=20 * np.finfo(dtype).eps)


def test_forward_takes_any_layout_and_number_of_rows(rng):
    net = mlp([5, 7, 3], seed=0)
    X = rng.standard_normal((3000, 5)).astype(np.float32)
    full = net.forward(X)
    assert full.shape == (3000, 3)
    for other in (np.asfortranarray(X), X.astype(">f4"), X.astype(np.float64), X.tolist(), memoryview(X)):
        assert np.array_equal(net.forward(other), full)
    assert np.array_equal(net.forward(X[::-2]), full[::-2])
    assert np.array_equal(net.forward(X[17:18]), full[17:18])
    assert net.forward(X[:0]).shape == (0, 3)


def test_forward_carries_nan_in_its_row_only():
    net = mlp([2, 4, 3], seed=0)
    out = net.forward([[0.0, 1.0], [np.nan, 1.0], [0.0, 1.0]])
    assert np.isnan(out[1]).all()
    assert np.array_equal(out[0], out[2])
    with pytest.raises(ValueError, match="X has nan at row 1, column 0"):
        net.predict([[0.0, 1.0], [np.nan, 1.0]])


@pytest.mark.parametrize("X", [np.zeros(5), np.zeros((2, 4)), np.zeros((2, 5, 1)), np.zeros((2, 5), complex)])
def test_wrong_inputs_are_refused(X):
    with pytest.raises((ValueError, TypeError), match="X"):
        mlp([5, 3], seed=0).forward(X)


def test_compiled_and_readable_networks_agree(dtype, X, y):
    net = Network(NESTED, input_size=5, dtype=dtype, seed=0)
    slow = twin(net)
    tolerance = 50 * float(np.finfo(dtype).eps)
    np.testing.assert_allclose(net.forward(X), slow.forward(X), atol=tolerance)
    (a, grads), (b, slow_grads) = net.loss_and_gradients(X, y), slow.loss_and_gradients(X, y)
    assert a == pytest.approx(b, rel=tolerance)
    for name in grads:
        np.testing.assert_allclose(grads[name], slow_grads[name], atol=tolerance)
    d = np.ones((20, 3))
    np.testing.assert_allclose(net.input_gradients(X, d), slow.input_gradients(X, d), atol=tolerance)


@pytest.mark.parametrize(
    ("cls", "target"),
    [(Network, "labels"), (Network, "numbers"), (Network, "binary"), (ReferenceNetwork, "labels")],
)
def test_gradients_agree_with_differences(cls, target, X, y, rng):
    outputs = 1 if target == "binary" else 3
    layers = [*NESTED[:-1], Dense(outputs)]
    targets = {"labels": y, "numbers": rng.standard_normal((20, 3)), "binary": y > 0}[target]
    assert cls(layers, input_size=5, seed=1).check_gradients(X, targets) < 1e-6


@pytest.mark.parametrize(
    ("depth", "activation"),
    [(d, a) for d in (1, 6) for a in ("tanh", "sigmoid", "relu", "selu", "gelu", "elu", "leaky_relu")]
    + [(50, "tanh"), (50, "relu")],
)
def test_gradients_agree_with_differences_at_any_depth(depth, activation, X, y):
    net = mlp([5] + [6] * depth + [3], activation=activation, seed=0)
    assert gradcore.check_gradients(net, X, y) < 1e-6


@pytest.mark.parametrize("factor", [-1.0, 0.0, 0.5, 1.001, 2.0])
def test_the_gradient_check_rejects_wrong_gradients(factor, X, y):
    class Wrong(ReferenceNetwork.executor_class):
        def observe(self, rows, *, backward=True, **others):
            value = super().observe(rows, backward=backward, **others)
            if backward:
                self.gradients *= factor
            return value

    class WrongNetwork(Network):
        executor_class = Wrong

    error = WrongNetwork([Dense(4), "tanh", Dense(3)], input_size=5, seed=0).check_gradients(X, y)
    assert error == pytest.approx(abs(1 - factor) / max(1, abs(factor)), rel=1e-3)


def test_loss_and_gradients_changes_nothing(X, y):
    net = Network(NESTED, input_size=5, seed=0)
    before, X_before = (net.parameters.copy(), net.state.copy()), X.copy()
    first, second = net.loss_and_gradients(X, y), net.loss_and_gradients(X, y)
    assert first[0] == second[0]
    assert set(first[1]) == {n for n in net.get_parameters() if "running" not in n}
    assert np.array_equal(net.parameters, before[0])
    assert np.array_equal(net.state, before[1])
    assert np.array_equal(X, X_before)
    assert net.classes_ is None


def test_input_gradients_agree_with_differences(X):
    net = Network(NESTED, input_size=5, dtype="float64", seed=0)
    weights = np.arange(3.0)
    gradient = net.input_gradients(X, np.tile(weights, (20, 1)))
    h = 1e-6
    for column in range(5):
        step = h * np.eye(5)[column]
        slope = (net.forward(X + step) - net.forward(X - step)) @ weights / (2 * h)
        np.testing.assert_allclose(gradient[:, column], slope, atol=1e-8)


def test_input_gradients_of_many_rows_and_of_none(rng):
    net = mlp([3, 8, 2], seed=0)
    X = rng.standard_normal((2500, 3)).astype(np.float32)
    d = rng.standard_normal((2500, 2)).astype(np.float32)
    whole = net.input_gradients(X, d)
    assert np.array_equal(whole[2000:2010], net.input_gradients(X[2000:2010], d[2000:2010]))
    assert net.input_gradients(X[:0], d[:0]).shape == (0, 3)
    with pytest.raises(ValueError, match="2500 rows and output_grad has 3"):
        net.input_gradients(X, d[:3])


def test_copy_from_moves_part_of_the_way():
    a, b = (
        mlp([3, 4, 2], norm="batch", dtype="float64", seed=0),
        mlp([3, 4, 2], norm="batch", dtype="float64", seed=1),
    )
    start, goal = a.get_parameters(), b.get_parameters()
    a.copy_from_(b, tau=0.25)
    for name, value in a.get_parameters().items():
        np.testing.assert_allclose(value, 0.75 * start[name] + 0.25 * goal[name], atol=1e-15)
    a.copy_from_(b)
    assert np.array_equal(a.parameters, b.parameters)


def test_copy_from_rounds_as_the_formula_does(dtype):
    a, b = (mlp([3, 4, 2], norm="batch", dtype=dtype, seed=s) for s in (0, 1))
    b.set_parameters({"1.running_mean": [1.0, 2.0, 3.0, 4.0]})
    tau = np.asarray(0.1, dtype)
    expected = [m + tau * (o - m) for m, o in ((a.parameters, b.parameters), (a.state, b.state))]
    before = b.parameters.copy(), b.state.copy()
    for _ in range(2):
        a.copy_from_(b, tau=0.0)
    a.copy_from_(b, tau=0.1)
    assert np.array_equal(a.parameters, expected[0])
    assert np.array_equal(a.state, expected[1])
    assert np.array_equal(b.parameters, before[0])
    assert np.array_equal(b.state, before[1])


def test_copy_from_another_dtype():
    a, b = mlp([3, 4, 2], seed=0), mlp([3, 4, 2], dtype="float64", seed=1)
    a.copy_from_(b)
    assert np.array_equal(a.get_parameters()["0.weight"], b.get_parameters()["0.weight"].astype(np.float32))


def test_copy_from_refuses_another_architecture_and_a_wrong_tau():
    a = mlp([3, 4, 2], seed=0)
    before = a.parameters.copy()
    with pytest.raises(ValueError, match="same architecture"):
        a.copy_from_(mlp([3, 5, 2], seed=0))
    with pytest.raises(ValueError, match="tau"):
        a.copy_from_(a, tau=1.5)
    with pytest.raises(TypeError, match="Network"):
        a.copy_from_("a")
    assert np.array_equal(a.parameters, before)


def test_copies_are_independent(X, y):
    net = mlp([5, 8, 3], norm="batch", seed=0)
    net.fit(X, y, epochs=1, seed=0)
    for other in (net.copy(), copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert np.array_equal(other.forward(X), net.forward(X))
        assert np.array_equal(other.predict(X), net.predict(X))
        before = net.parameters.copy()
        other.fit(X, y, epochs=1, seed=0)
        assert np.array_equal(net.parameters, before)
    fresh = net.copy(seed=5)
    assert np.array_equal(fresh.parameters, mlp([5, 8, 3], norm="batch", seed=5).parameters)
    assert fresh.classes_ is None


def test_evaluate_and_predict_of_labels(X):
    y = np.array(["no", "yes"])[(X[:, 0] > 0).astype(int)]
    net = mlp([5, 8, 2], seed=0)
    net.fit(X, y, epochs=200, optimizer="adam(0.02)", seed=0)
    result = net.evaluate(X, y)
    assert result["accuracy"] == np.mean(net.predict(X) == y) == 1.0
    proba = net.predict_proba(X)
    assert result["loss"] == pytest.approx(
        -np.log(proba[np.arange(20), (y == "yes").astype(int)]).mean(), rel=1e-5
    )
    np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=1e-6)
    with pytest.raises(ValueError, match="'maybe' at row 0 was not among those trained on"):
        net.evaluate(X[:1], ["maybe"])


def test_binary_predictions(X):
    net = mlp([5, 8, 1], seed=0)
    net.fit(X, X[:, 0] > 0, epochs=200, optimizer="adam(0.02)", seed=0)
    assert net.predict(X).dtype == bool
    assert np.array_equal(net.predict(X), X[:, 0] > 0)
    proba = net.predict_proba(X)
    assert proba.shape == (20, 2)
    assert np.array_equal(proba[:, 1] > 0.5, net.predict(X))


def test_several_binary_outputs(X):
    y = X[:, :2] > 0
    net = mlp([5, 16, 2], seed=0)
    net.fit(X, y, loss="binary_cross_entropy", epochs=300, optimizer="adam(0.02)", seed=0)
    assert np.array_equal(net.predict(X), y)
    assert net.predict_proba(X).shape == (20, 2)
    assert net.evaluate(X, y)["accuracy"] == 1.0


def test_r2_is_the_coefficient_of_determination(X, rng):
    y = np.stack([X[:, 0], X[:, 1] ** 2], axis=1)
    net = mlp([5, 8, 2], seed=0)
    net.fit(X, y, epochs=20, seed=0)
    out = net.forward(X)
    expected = np.mean(1 - ((y - out) ** 2).sum(0) / ((y - y.mean(0)) ** 2).sum(0))
    result = net.evaluate(X, y)
    assert result["r2"] == pytest.approx(expected, rel=1e-5)
    assert result["loss"] == pytest.approx(np.mean((y - out) ** 2), rel=1e-5)
    assert net.predict(X).shape == (20, 2)
    with pytest.raises(ValueError, match="trained towards numbers"):
        net.predict_proba(X)


def test_an_untrained_network_answers_by_its_outputs(X):
    net = mlp([5, 4], seed=0)
    assert np.array_equal(net.predict(X), net.forward(X))
    assert mlp([5, 1], seed=0).predict(X).shape == (20,)
    assert net.predict_proba(X).shape == (20, 4)
    ends = Network([Dense(4), "softmax"], input_size=5, seed=0)
    assert np.array_equal(ends.predict_proba(X), ends.forward(X))


def test_ledger_books_a_batch_and_changes_nothing(X, y):
    net = Network(NESTED, input_size=5, seed=0)
    before = net.parameters.copy(), net.state.copy()
    ledger = net.ledger(X, y, rows=[0, 3, 5, 6])
    assert ledger.rows == 4
    assert np.isfinite(ledger.loss)
    assert np.array_equal(net.parameters, before[0])
    assert np.array_equal(net.state, before[1])
    with pytest.raises(ValueError, match="rows must be indices"):
        net.ledger(X, y, rows=[20])
    with pytest.raises(ValueError, match="level"):
        net.ledger(X, y, level="medium")


def test_mlp_places_norm_dropout_and_residual_blocks():
    net = mlp(
        [4, 8, 8, 3], activation="tanh", norm="batch", residual=True, dropout=0.1, init="orthogonal", seed=0
    )
    assert net.layers == (
        Dense(8, init="orthogonal"), BatchNorm(), Activation("tanh"), Dropout(0.1),
        Residual([Dense(8, init="orthogonal"), BatchNorm(), "tanh", Dropout(0.1)]),
        Dense(3, init="orthogonal"),
    )  # fmt: skip


def test_the_scale_of_the_residual_blocks():
    def scales(**arguments):
        net = mlp([4, 8, 8, 8, 5, 5, 3], residual=True, seed=0, **arguments)
        return [layer.scale for layer in net.layers if isinstance(layer, Residual)]

    assert scales() == [1.0] * 3
    assert scales(residual_scale=0.25) == [0.25] * 3
    assert scales(residual_scale="auto") == pytest.approx([3**-0.5] * 3)
    assert mlp([4, 8, 3], residual_scale="auto", seed=0).layers == mlp([4, 8, 3], seed=0).layers


def growth(net, X):
    """How many times the scale grows from the first block to the last, and the gradient back again."""
    ledger = net.ledger(X, np.zeros((len(X), net.output_size)))
    blocks = [entry for entry in ledger.entries if entry.kind == "residual"]
    assert len(blocks) == 50
    return blocks[-1].output.norm / blocks[0].output.norm, blocks[0].d_input.norm / blocks[-1].d_output.norm


def test_scaled_branches_keep_fifty_relu_blocks_in_bounds(rng):
    X = rng.standard_normal((64, 32))

    def of_mlp(scale):
        sizes = [32] * 52 + [4]
        net = mlp(sizes, residual=True, residual_scale=scale, dtype="float64", seed=0)
        # the first layer is as wide as the inputs, so that it is a block as well
        return growth(net.rebuilt([*net.layers[0].layers, *net.layers[1:]]), X)

    def ending_in_dense(scale):
        block = Residual([Dense(32), "relu", Dense(32)], scale=scale)
        layers = [Dense(32), "relu", *[block] * 50, Dense(4)]
        return growth(Network(layers, input_size=32, dtype="float64", seed=0), X)

    # branches of mean zero: the mean square grows (1 + 1/n)ⁿ < e times
    assert max(ending_in_dense(50**-0.5)) < 3
    assert min(ending_in_dense(1.0)) > 1e5
    # the means of ReLU branches add up: 1/√n tames them, 1/n holds them
    assert max(of_mlp("auto")) < 100
    assert max(of_mlp(1 / 50)) < 2
    assert min(of_mlp(1.0)) > 1e8


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mlp([3, 3, 1], residual=True, residual_scale=0.0), "residual_scale must be greater than 0"),
        (
            lambda: mlp([3, 3, 1], residual=True, residual_scale="none"),
            "residual_scale must be a number or 'auto'",
        ),
        (lambda: mlp([3]), "at least the inputs and the outputs"),
        (lambda: mlp([3, 0, 1]), r"sizes\[1\] must be at least 1"),
        (lambda: mlp(3), "list of integers"),
        (lambda: mlp([3, 4, 1], activation="rleu"), "did you mean 'relu'"),
        (lambda: mlp([3, 4, 1], init="he_norml"), "did you mean 'he_normal'"),
        (lambda: mlp([3, 4, 1], norm="group"), "norm"),
        (lambda: mlp([3, 4, 1], dropout=1.0), "dropout"),
        (lambda: mlp([3, 1], dtype="float16"), "dtype"),
        (lambda: mlp([3, 1], seed=-1), "seed"),
        (lambda: mlp([3, 1], seed=1 << 63), "seed"),
        (lambda: Network([Dense(2)], input_size=0), "input_size"),
        (lambda: Network([], input_size=3), "at least one Dense"),
    ],
)
def test_networks_that_cannot_be(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()


def test_summary_and_repr_count_the_parameters():
    net = Network(NESTED, input_size=5, seed=0)
    count = sum(a.size for name, a in net.get_parameters().items() if "running" not in name)
    assert f"{count} parameters" in repr(net)
    text = net.summary(batch_size=64)
    assert f"{count} parameters" in text
    assert "batch size 64" in text
    assert max(map(len, text.splitlines())) < 160


def test_two_threads_may_predict_at_once(rng):
    net = mlp([16, 64, 64, 4], seed=0)
    X = rng.standard_normal((4000, 16)).astype(np.float32)
    expected = net.forward(X)
    results = []
    threads = [threading.Thread(target=lambda: results.append(net.forward(X))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    assert all(np.array_equal(result, expected) for result in results)


def test_a_projecting_network_trains_and_is_copied():
    layers = [
        Residual([Dense(12), "tanh"], projection=True),
        Residual([Dense(12), "tanh"], scale=0.5, projection="always"),
        Residual([Dense(3)], projection=True),
    ]
    net = Network(layers, input_size=5, dtype="float64", seed=0)
    names = [name for name in net.get_parameters() if "projection" in name]
    assert names == ["0.projection.weight", "1.projection.weight", "2.projection.weight"]
    assert net.get_parameters()["0.projection.weight"].shape == (12, 5)
    # (as a linear layer's: Glorot)
    wide = Network([Residual([Dense(400)], projection=True)], input_size=200, seed=0)
    spread = wide.get_parameters()["0.projection.weight"].std()
    assert spread == pytest.approx(np.sqrt(2 / 600), rel=0.02)
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 5)), rng.integers(0, 3, 60)
    assert net.check_gradients(X[:7], y[:7]) < 1e-6
    again = net.copy()
    assert again.layers == net.layers
    np.testing.assert_array_equal(again.parameters, net.parameters)
    one, two = net.copy(), net.copy()
    for other, threads in ((one, 1), (two, 2)):
        history = other.fit(X, y, epochs=5, batch_size=8, threads=threads, seed=1, progress=False)
        assert history.history["loss"][-1] < history.history["loss"][0]
    np.testing.assert_array_equal(one.parameters, two.parameters)
    x = X[:4]
    for i, layer in enumerate(layers):
        p = {n.removeprefix(f"{i}."): a for n, a in net.get_parameters().items() if n.startswith(f"{i}.")}
        branch = x @ p["0.weight"].T + p["0.bias"]
        x = x @ p["projection.weight"].T + layer.scale * (np.tanh(branch) if i < 2 else branch)
    np.testing.assert_allclose(net.forward(X[:4]), x, rtol=1e-12)


def test_predictions_of_rates_and_of_means(rng):
    X = rng.normal(size=(40, 3))
    net = mlp([3, 8, 2], dtype="float64", seed=0)
    net.fit(X, rng.poisson(3.0, (40, 2)), loss="poisson", epochs=1, seed=0)
    np.testing.assert_array_equal(net.predict(X), np.exp(net.forward(X)))
    y = rng.normal(size=40)
    net = mlp([3, 8, 2], dtype="float64", seed=0)
    net.fit(X, y, loss="gaussian_nll", epochs=1, seed=0)
    means = net.forward(X)[:, 0]
    np.testing.assert_array_equal(net.predict(X), means)
    r2 = 1 - np.sum((y - means) ** 2) / np.sum((y - y.mean()) ** 2)
    assert net.evaluate(X, y)["r2"] == pytest.approx(r2, rel=1e-12)
    with pytest.raises(ValueError, match="trained towards numbers"):
        net.predict_proba(X)


def test_several_labels_in_each_row(rng):
    X = rng.normal(size=(60, 4))
    y = (X[:, :3] > 0).astype(int)
    net = mlp([4, 16, 3], seed=0)
    history = net.fit(X, y, optimizer="adam(0.03)", epochs=60, seed=0)
    assert history.loss_name == "binary_cross_entropy"
    assert net.predict(X).shape == (60, 3)
    assert set(np.unique(net.predict(X))) == {0, 1}
    assert net.predict_proba(X).shape == (60, 3)
    accuracy = net.evaluate(X, y)["accuracy"]
    assert accuracy == pytest.approx(np.mean(net.predict(X) == y))
    assert accuracy > 0.95


def test_probabilities_for_targets(rng):
    """A network taught with the probabilities of another comes to the same ones."""
    X = rng.normal(size=(100, 3))
    teacher = mlp([3, 3], dtype="float64", seed=1)
    y = teacher.predict_proba(X)
    net = mlp([3, 3], dtype="float64", seed=0)
    history = net.fit(X, y, loss="cross_entropy", optimizer="adam(0.05)", epochs=200, seed=0)
    np.testing.assert_allclose(net.predict_proba(X), y, atol=1e-3)
    assert history.history["loss"][-1] == pytest.approx(history.least_loss, abs=1e-4)
    np.testing.assert_array_equal(net.predict(X), y.argmax(axis=1))
    assert net.evaluate(X, y)["accuracy"] == 1.0


def test_nothing_of_another_network_is_nothing(dtype):
    net, other = mlp([2, 2, 1], dtype=dtype, seed=0), mlp([2, 2, 1], dtype=dtype, seed=1)
    before = net.parameters.copy()
    other.set_parameters({"0.weight": [[np.inf, 1.0], [np.nan, 0.0]]})
    net.copy_from_(other, tau=0.0)
    np.testing.assert_array_equal(net.parameters, before)
