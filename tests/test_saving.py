"""A saved network is the same network; a file that is none is refused, whatever it claims."""

import copy
import json
import os
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from failing_files import failing
from random_networks import random_network

import gradcore
from gradcore import (
    Activation,
    BatchNorm,
    Dense,
    Dropout,
    Network,
    Residual,
    files,
    initializers,
    losses,
    mlp,
)
from gradcore.architecture import KINDS, layers_from_json, layers_to_json
from gradcore.kernels import reference
from gradcore.saving import FORMAT, describe


@pytest.fixture
def path(tmp_path):
    return tmp_path / "net.safetensors"


def assert_same(a, b):
    """Everything that a file keeps is equal, to the last bit."""
    assert (a.layers, a.input_size, a.dtype, a.seed, a.loss) == (
        b.layers,
        b.input_size,
        b.dtype,
        b.seed,
        b.loss,
    )
    ours, theirs = a.get_parameters(), b.get_parameters()
    assert list(ours) == list(theirs)
    for name, array in ours.items():
        assert array.dtype == theirs[name].dtype
        assert array.tobytes() == theirs[name].tobytes(), name


@pytest.mark.parametrize("number", range(15))
def test_any_network_comes_back_and_gives_the_same_bits(path, rng, dtype, number):
    net = random_network(rng, dtype)
    net.save(path)
    loaded = gradcore.load(path)
    assert_same(net, loaded)
    X = 3 * rng.standard_normal((40, net.input_size))
    assert net.forward(X).tobytes() == loaded.forward(X).tobytes()


def test_every_kind_of_layer_goes_through_json_with_every_field(rng):
    layers = (
        Dense(3, init="normal(0.01)", bias_init="constant(2)", use_bias=True),
        Activation("leaky_relu(negative_slope=0.2)"),
        BatchNorm(momentum=0.3, eps=1e-3),
        Dropout(0.25),
        Residual([Residual([Dense(3, use_bias=False), "elu(0.5)"], scale=-2.0)], scale=1 / 3),
    )
    assert layers_from_json(json.loads(json.dumps(layers_to_json(layers)))) == layers
    assert {type(layer).__name__ for layer in layers} <= set(KINDS)


@pytest.mark.parametrize("loss", losses.REGISTRY)
def test_every_loss_is_said_by_its_text(loss):
    assert losses.resolve(str(losses.resolve(loss))) == losses.resolve(loss)
    summed = losses.resolve(f"{loss}(reduction='sum')")
    assert losses.resolve(str(summed)) == summed


def test_deep_and_deeply_nested_networks(path):
    nested = [Dense(2), "tanh"]
    for _ in range(50):
        nested = [Residual(nested)]
    net = Network([*nested, *[Dense(2), "relu"] * 500, Dense(1)], input_size=2, seed=0)
    net.save(path)
    assert_same(net, gradcore.load(path))


@pytest.mark.parametrize(
    "labels",
    [
        np.array([3, 7, -2**40]), np.array([True, False]), np.array(["a", "Ω\n", "long label"]),
        np.array([0.1, 2.5, -1e300]), np.array([1, 2, 2**64 - 1], np.uint64), np.array([b"x", b"\xff"]),
        np.array([1.5, 0.1], np.float32), np.array([5, 7], np.int8),
    ],
    ids=lambda labels: labels.dtype.str,
)  # fmt: skip
def test_labels_of_every_kind_come_back(path, labels, rng):
    X, y = rng.standard_normal((30, 2)), np.resize(labels, 30)
    net = mlp([2, 4, len(labels)], seed=0)
    net.fit(X, y, loss="cross_entropy", epochs=1, progress=False, seed=0)
    net.save(path)
    loaded = gradcore.load(path)
    assert_same(net, loaded)
    assert loaded.classes_.tolist() == net.classes_.tolist()
    assert loaded.classes_.dtype.kind == labels.dtype.kind
    assert np.array_equal(loaded.predict(X), net.predict(X))
    assert np.array_equal(loaded.predict_proba(X), net.predict_proba(X))


def test_a_trained_network_of_every_kind_of_target_goes_on_as_if_nothing_had_been(path, rng):
    X = rng.standard_normal((40, 3))
    for outputs, y in [(1, rng.standard_normal(40)), (2, rng.standard_normal((40, 2))), (1, rng.integers(0, 2, 40)),
                       (4, rng.integers(0, 4, 40))]:  # fmt: skip
        net = Network([Dense(5), BatchNorm(), "tanh", Dropout(0.2), Dense(outputs)], input_size=3, seed=1)
        net.fit(X, y, epochs=2, progress=False, seed=0)
        net.save(path)
        loaded = gradcore.load(path)
        assert_same(net, loaded)
        assert loaded.evaluate(X, y) == net.evaluate(X, y)
        for either in (net, loaded):
            either.fit(X, y, epochs=2, progress=False, seed=3)
        assert_same(net, loaded)


def test_weights_that_are_not_finite_and_any_layout_come_back(path):
    net = mlp([3, 4, 2], seed=0)
    odd = np.array([[np.nan, np.inf, -0.0], [1e-45, -np.inf, 1], [0, 0, 0], [3e38, 1, 2]], np.float32)
    for view in (odd, np.asfortranarray(odd), odd[::-1], odd.astype(">f8")):
        net.set_parameters({"0.weight": view})
        net.save(path)
        assert_same(net, gradcore.load(path))


def test_the_file_has_plain_arrays_by_the_users_names(path, monkeypatch):
    safetensors = pytest.importorskip("safetensors.numpy")
    net = mlp([3, 20, 2], norm="batch", seed=0)
    net.save(path)
    plain = safetensors.load_file(path)
    assert {name: array.tolist() for name, array in plain.items()} == {
        name: array.tolist() for name, array in net.get_parameters().items()
    }
    # an executor with panels of another width reads the same
    monkeypatch.setattr(Network, "executor_class", reference.Executor)
    loaded = gradcore.load(path)
    assert loaded.plan.tile != net.plan.tile
    assert_same(net, loaded)


# --- initial weights that were functions


def my_init(shape, *, rng, dtype):
    return np.ones(shape, dtype)


def test_functions_are_kept_by_name_and_the_weights_are_kept_anyway(path):
    functions = [my_init, lambda shape, *, rng, dtype: np.ones(shape, dtype)]
    net = Network([Dense(2, init=f, bias_init=f) for f in functions], input_size=2, seed=0)
    net.save(path)
    loaded = gradcore.load(path)
    assert loaded.forward([[1.0, 2.0]]).tolist() == net.forward([[1.0, 2.0]]).tolist()
    assert "my_init" in repr(loaded.layers[0])
    loaded.save(path)  # and again
    again = gradcore.load(path)
    assert again.layers == loaded.layers
    assert_same(again.copy(), copy.deepcopy(loaded))
    with pytest.raises(ValueError, match="function my_init, which a file cannot keep"):
        loaded.copy(seed=1)


def test_functions_of_gradcore_are_kept_as_their_names(path):
    given = [
        initializers.he_normal,
        initializers.resolve("normal(0.5)"),
        initializers.resolve(initializers.zeros),
    ]
    net = Network([Dense(2, init=init) for init in given], input_size=2, seed=3)
    net.save(path)
    loaded = gradcore.load(path)
    assert [layer.init for layer in loaded.layers] == ["he_normal", "normal(0.5)", "zeros"]
    assert_same(loaded.copy(seed=3), loaded.copy())


# --- files that are none


def saved(path, change=None, arrays=None):
    """Save a small network whose description, or arrays, were changed; the checksum is right."""
    net = mlp([2, 3, 2], seed=0)
    values = describe(net)
    change(values) if change else None
    files.write_arrays(
        path, FORMAT, values, net.get_parameters() if arrays is None else arrays(net.get_parameters())
    )
    return path


def test_what_these_tests_write_is_read_when_nothing_was_changed(path):
    assert_same(gradcore.load(saved(path)), mlp([2, 3, 2], seed=0))


def dense(**fields):
    return {"layer": "Dense", "units": 3, **fields}


def nested(depth):
    layers = [dense(units=2)]
    for _ in range(depth):
        layers = [{"layer": "Residual", "layers": layers}]
    return layers


BAD = {
    "a field missing": (lambda v: v.pop("seed"), "seed is missing"),
    "another dtype": (lambda v: v.update(dtype="float16"), "dtype must be"),
    "a dtype that is none": (lambda v: v.update(dtype=["f4"]), "dtype must be"),
    "an input size of text": (lambda v: v.update(input_size="2"), "input_size must be an integer"),
    "an input size of zero": (lambda v: v.update(input_size=0), "input_size must be at least 1"),
    "a negative seed": (lambda v: v.update(seed=-1), "seed must be at least 0"),
    "no seed": (lambda v: v.update(seed=None), "seed must be an integer"),
    "layers that are none": (lambda v: v.update(layers={}), "layers must be a list"),
    "no layers": (lambda v: v.update(layers=[]), "at least one Dense"),
    "a layer that is a number": (lambda v: v.update(layers=[3]), "layer 0 has no kind"),
    "an unknown kind": (lambda v: v.update(layers=[{"layer": "Dens"}]), "did you mean 'Dense'.*newer gradcore"),
    "a kind that is no layer": (lambda v: v.update(layers=[{"layer": "Network"}]), "unknown kind of layer"),
    "a field of the future": (lambda v: v.update(layers=[dense(sparse=True)]), "Dense has no 'sparse'"),
    "units missing": (lambda v: v.update(layers=[{"layer": "Dense"}]), "layer 0: .*units"),
    "units of text": (lambda v: v.update(layers=[dense(units="3")]), "layer 0: units of Dense must be an integer"),
    "an unknown activation": (lambda v: v["layers"][1].update(spec="rely"), "layer 1: unknown activation 'rely'"),
    "code for an activation": (lambda v: v["layers"][1].update(spec="os.abort()"), "layer 1: cannot read"),
    "code for an init": (lambda v: v["layers"][0].update(init="eval('1')"), "layer 0: unknown initializer"),
    "a list for an init": (lambda v: v["layers"][0].update(init=[]), "layer 0: expected the name"),
    "a long spec": (lambda v: v["layers"][1].update(spec="(" * 100_000), "none that gradcore writes"),
    "a spec as deep as allowed": (lambda v: v["layers"][1].update(spec="-" * 999), "layer 1: cannot read"),
    "a layer inside a layer at fault": (
        lambda v: v.update(layers=[{"layer": "Residual", "layers": [dense(units=0)]}]), "layer 0.0: units"),
    "a deep block": (lambda v: v.update(layers=nested(150)), r"of shape \(2, 2\) is missing"),
    "a million outputs": (lambda v: v["layers"][2].update(units=10**6), "must be of shape"),
    "1e12 outputs": (lambda v: v["layers"][2].update(units=10**12), "does not describe"),
    "1e30 outputs": (lambda v: v["layers"][2].update(units=10**30), "does not describe"),
    "a layer too many": (lambda v: v["layers"].append(dense()), r"parameter '3.weight' of shape \(3, 2\) is missing"),
    "a layer too few": (lambda v: v["layers"].pop(), "the layers have no parameter '2.bias'"),
    "the other dtype": (lambda v: v.update(dtype="float64"), "float64, the file has shape .* and float32"),
    "an unknown loss": (lambda v: v.update(loss="mso"), "unknown loss 'mso'"),
    "a loss that is a number": (lambda v: v.update(loss=3), "loss"),
    "auto": (lambda v: v.update(loss="auto"), "loss"),
    "classes that are none": (lambda v: v.update(classes=3), "classes are not described"),
    "classes of objects": (lambda v: v.update(classes={"dtype": "object", "values": [0, 1]}), "classes are not"),
    "classes of giant text": (lambda v: v.update(classes={"dtype": "<U999999999", "values": ["", "a"]}), "classes are"),
    "a list for a dtype": (lambda v: v.update(classes={"dtype": [], "values": [0, 1]}), "does not describe"),
    "too few classes": (lambda v: v.update(classes={"dtype": "int64", "values": [0]}), "must be 2 labels"),
    "classes that differ in kind": (lambda v: v.update(classes={"dtype": "int64", "values": [0, "1"]}), "2 labels"),
    "classes out of order": (lambda v: v.update(classes={"dtype": "int64", "values": [1, 0]}), "rising order"),
    "classes too large": (lambda v: v.update(classes={"dtype": "int8", "values": [1, 1000]}), "does not describe"),
}  # fmt: skip


@pytest.mark.parametrize("bad", BAD)
def test_a_description_that_cannot_be_is_refused_with_the_file_and_the_reason(path, bad):
    change, said = BAD[bad]
    saved(path, change)
    tracemalloc.start()
    begin = time.process_time()
    try:
        with pytest.raises(ValueError, match=r"net\.safetensors does not describe a network: ") as info:
            gradcore.load(path)
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()
    assert info.match(said)
    assert time.process_time() - begin < 2


@pytest.mark.parametrize("depth", [200, 250, 300, 350, 400, 450])
def test_blocks_nested_deeper_than_python_goes_are_refused(path, depth):
    with pytest.raises(ValueError, match=r"net\.safetensors .*(nested too deeply|of shape .* is missing)"):
        gradcore.load(saved(path, lambda v: v.update(layers=nested(depth))))


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        (
            lambda a: a | {"0.weight": a["0.weight"].T.copy()},
            r"must be of shape \(3, 2\) and float32, the file",
        ),
        (lambda a: a | {"0.weight": a["0.weight"].reshape(3, 2, 1)}, "must be of shape"),
        (lambda a: a | {"0.weight": a["0.weight"].astype(np.float64)}, "and float64"),
        (lambda a: a | {"0.weight": a["0.weight"].astype(np.int32)}, "and int32"),
        (
            lambda a: {n: v for n, v in a.items() if n != "2.bias"},
            "parameter '2.bias' of shape .* is missing",
        ),
        (lambda a: a | {"3.weight": a["0.weight"]}, "the layers have no parameter '3.weight'"),
        (lambda a: {f"net.{n}": v for n, v in a.items()}, "parameter '0.weight' of shape .* is missing"),
        (lambda a: {}, "is missing"),
    ],
)
def test_arrays_that_are_not_exactly_the_parameters_are_refused(path, arrays, said):
    with pytest.raises(ValueError, match=rf"net\.safetensors does not describe a network: .*{said}"):
        gradcore.load(saved(path, arrays=arrays))


def test_a_field_that_an_older_version_did_not_write_takes_its_default(path):
    saved(path, lambda v: v["layers"][0].pop("use_bias"))
    assert_same(gradcore.load(path), mlp([2, 3, 2], seed=0))


def test_a_checkpoint_or_any_other_file_of_gradcore_is_no_network(path):
    files.write_arrays(path, files.Format("gradcore checkpoint", 1), {}, {})
    with pytest.raises(ValueError, match="holds a 'gradcore checkpoint', not a 'gradcore network'"):
        gradcore.load(path)


# --- saving that fails


def test_whichever_call_fails_the_older_network_is_still_there(path):
    old, new = mlp([3, 4, 2], seed=1), mlp([3, 4, 2], seed=2)
    for nth in range(1, 100):
        old.save(path)
        with failing(nth) as state:
            try:
                new.save(path)
            except OSError as error:
                expected = new if "written, but" in str(error) else old
            else:
                break
        assert_same(gradcore.load(path), expected)
        assert os.listdir(path.parent) == [path.name]
    assert nth > 5
    assert state.failed is None
    assert_same(gradcore.load(path), new)


def test_saving_changes_nothing_and_gives_the_same_bytes(path):
    net = mlp([3, 4, 2], seed=0)
    before = net.get_parameters()
    net.save(path)
    first = path.read_bytes()
    net.save(path)
    assert path.read_bytes() == first
    assert all(np.array_equal(before[name], array) for name, array in net.get_parameters().items())


class SaveWhileTraining(gradcore.callbacks.Callback):
    def __init__(self, path):
        self.path = path

    def on_epoch_end(self, epoch, logs):
        self.network.save(self.path)


def test_a_callback_may_save_the_network_in_training(path, rng):
    net = mlp([2, 3, 1], seed=0)
    net.fit(rng.standard_normal((8, 2)), rng.standard_normal(8), epochs=2, progress=False,
            callbacks=[SaveWhileTraining(path)], seed=0)  # fmt: skip
    assert_same(gradcore.load(path), net)


class SaveFromAThread(gradcore.callbacks.Callback):
    def __init__(self, *calls):
        self.calls, self.errors = calls, []

    def on_epoch_end(self, epoch, logs):
        with ThreadPoolExecutor(1) as pool:
            self.errors += [pool.submit(call, self.network).exception() for call in self.calls]


def test_nothing_is_written_of_a_network_that_another_thread_trains(path):
    other = SaveFromAThread(lambda net: net.save(path), lambda net: net.export_c(path.with_name("net")))
    mlp([2, 3, 1], seed=0).fit(np.eye(2), [0.5, 1.5], epochs=1, progress=False, callbacks=[other], seed=0)
    assert [type(error) for error in other.errors] == [RuntimeError, RuntimeError]
    assert not list(path.parent.iterdir())


def test_without_safetensors_the_message_says_what_to_install(path, without):
    without("safetensors")
    with pytest.raises(ImportError, match="pip install safetensors"):
        mlp([2, 1], seed=0).save(path)
    assert not path.exists()
