"""An exported network says what `forward` says; its C is clean, small and stateless."""

import ctypes
import os
import re
import threading

import numpy as np
import pytest
from c_compiler import Exported, library, needs_compiler, pointer
from failing_files import failing
from random_networks import random_network

import gradcore
from gradcore import Activation, BatchNorm, Dense, Dropout, Network, Residual, kernels, mlp
from gradcore.architecture import KINDS
from gradcore.c_activations import FUNCTIONS
from gradcore.c_export import EMITTERS

# Not the exponential, and nothing unbounded twice: what blows up blows rounding up with it.
TAME = [name for name in gradcore.activations.REGISTRY if name != "exponential"]


def assert_equal_but_for_rounding(exported, X, rounds=200):
    """Within so many roundings of the largest output of the row (of the largest row, where that is small)."""
    ours, theirs = exported.net.forward(X), exported.forward(X)
    assert np.isfinite(ours).all()
    bound = rounds * np.finfo(ours.dtype).eps * np.maximum(1, abs(ours).max())
    assert abs(ours - theirs).max() <= bound


@needs_compiler
@pytest.mark.parametrize("number", range(8))
def test_any_network(tmp_path, rng, dtype, number):
    net = random_network(rng, dtype, activations=TAME)
    # rounding grows where norm divides by small spreads: the float64 twin tells how much of it is this network's own
    exported = Exported(net, tmp_path)
    X = rng.standard_normal((20, net.input_size))
    ours, theirs = net.forward(X), exported.forward(X)
    if dtype == np.float32:
        twin = net.rebuilt(net.layers, dtype="float64")
        twin.set_parameters(net.get_parameters())
        exact = twin.forward(X.astype(np.float32))
        noise = max(abs(ours - exact).max(), np.finfo(dtype).eps * abs(exact).max())
        assert abs(theirs - exact).max() <= 30 * noise
    else:
        assert abs(ours - theirs).max() <= 1e-10 * abs(ours).max()


@needs_compiler
@pytest.mark.parametrize("layers", [
    [Dense(3)],
    [Dense(3, use_bias=False)],
    [Dense(1)],
    ["relu", Dense(2)],
    [Dropout(0.5), Dense(2), Dropout(0.5)],
    [Dense(2), "identity", Dropout(0.1), "identity"],
    [BatchNorm(), Dense(4), BatchNorm()],
    [Residual([Dense(5), "tanh"])],
    [Residual([Dropout(0.2)]), Dense(4), Residual(["identity"], scale=-0.5)],
    [Residual([Residual([Residual([Dense(5)]), "tanh"]), BatchNorm()]), Dense(3)],
    [Dense(40), "gelu", Dense(40), "gelu", Residual([Dense(40), "selu", Dense(7), "tanh", Dense(40)]), Dense(1)],
    [Dense(4), "softmax"],
    [Dense(300), "tanh", Dense(2)],
], ids=str)  # fmt: skip
def test_every_way_of_putting_layers_together(tmp_path, rng, dtype, layers):
    net = Network(layers, input_size=5, dtype=dtype, seed=1)
    net.set_parameters({
        name: abs(array) + rng.uniform(0.2, 1, array.shape) for name, array in net.get_parameters().items()
        if "running" in name or "gamma" in name
    })  # fmt: skip
    assert_equal_but_for_rounding(Exported(net, tmp_path), rng.standard_normal((10, 5)), rounds=100)


@needs_compiler
def test_arithmetic_that_is_exact_is_equal_to_the_bit(tmp_path, rng, dtype):
    net = Network(
        [Dense(9), "relu", Residual([Dense(9), "relu"], scale=0.5), Dense(3)],
        input_size=6,
        dtype=dtype,
        seed=0,
    )
    net.set_parameters({n: rng.integers(-3, 4, a.shape) for n, a in net.get_parameters().items()})
    X = rng.integers(-4, 5, (30, 6))
    assert Exported(net, tmp_path).forward(X).tobytes() == net.forward(X).tobytes()


@needs_compiler
def test_nan_and_infinities_flow(tmp_path, dtype):
    X = [[np.nan, 0, 1], [1, 2, 3], [1e30, -1e30, 0], [-1e4, 1e4, 1e4], [np.inf, 1, 1], [1, -np.inf, 1]]
    for layers in (
        [Dense(3), "softmax"],
        [Dense(3), "tanh"],
        ["relu", Dense(3)],
        ["gelu", BatchNorm(), Dense(3)],
    ):
        net = Network(layers, input_size=3, dtype=dtype, seed=0)
        name = f"net{len(os.listdir(tmp_path))}"
        assert np.allclose(
            Exported(net, tmp_path, name).forward(X), net.forward(X), rtol=1e-5, equal_nan=True
        )


@needs_compiler
def test_softmax_at_its_edges(tmp_path, dtype):
    Network([Dense(3), "softmax"], input_size=3, dtype=dtype, seed=0).export_c(tmp_path / "net")
    real = "float" if dtype == np.float32 else "double"
    (tmp_path / "edges.c").write_text(
        f'#include "net.c"\nvoid softmax_of(const {real} *x, {real} *y, size_t n);\n'
        f"void softmax_of(const {real} *x, {real} *y, size_t n) {{ net_softmax(x, y, n); }}"
    )
    softmax_of, inf = library(tmp_path / "edges.c").softmax_of, np.inf
    rows = [
        [inf, 0, 0], [inf, inf, 0], [-inf, 0, 0], [-inf] * 3, [inf, -inf, inf], [np.nan, 1, 2], [inf, 1, np.nan],
        [-inf, np.nan, 0], [1000, 0, -1000], [3e38, 1e38, 3e38], [7, 7, 7], [-1e4] * 3, [5],
    ]  # fmt: skip
    for row in rows:
        x = np.array(row, dtype)
        y = np.empty_like(x)
        softmax_of(pointer(x), pointer(y), ctypes.c_size_t(x.size))
        np.testing.assert_allclose(y, gradcore.softmax(x), rtol=4 * np.finfo(dtype).eps, atol=0)


@needs_compiler
@pytest.mark.parametrize("labels", [
    ["no", "yes", 'a "quoted" \\ label??/ ✓\n'], [3, 7, 10], [True, False], [0.5, 1.5, -2.0, 1e300],
], ids=["text", "integers", "booleans", "floats"])  # fmt: skip
def test_predict_gives_the_label(tmp_path, rng, labels):
    X = rng.standard_normal((60, 2))
    y = np.resize(np.array(labels), 60)
    for outputs in {len(labels), 1} if len(labels) == 2 else {len(labels)}:
        net = mlp([2, 8, outputs], seed=0)
        net.fit(
            X,
            y,
            loss="cross_entropy" if outputs > 1 else "binary_cross_entropy",
            epochs=3,
            progress=False,
            seed=0,
        )
        exported = Exported(net, tmp_path, f"net{outputs}")
        assert exported.predict(X) == [str(label) for label in net.predict(X).tolist()]
        assert exported.predict([[np.nan, 1.0]]) == [None]


def test_without_one_label_a_row_there_is_no_predict(tmp_path, rng):
    X = rng.standard_normal((8, 2))
    values, several = mlp([2, 3, 2], seed=0), mlp([2, 3, 2], seed=0)
    values.fit(X, X, epochs=1, progress=False)
    several.fit(X, (X > 0).astype(float), loss="binary_cross_entropy", epochs=1, progress=False)
    for net in (values, several, mlp([2, 3, 2], seed=0)):
        source, header = net.export_c(tmp_path / "net")
        assert "predict" not in source.read_text() + header.read_text()


@needs_compiler
def test_calls_from_many_threads_do_not_meet(tmp_path, rng):
    net = mlp([4, 64, 64, 3], activation="gelu", seed=0)
    exported, X = Exported(net, tmp_path), rng.standard_normal((200, 4))
    expected, found = exported.forward(X), [None] * 4

    def work(i):
        found[i] = exported.forward(X)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(each, expected) for each in found)


@needs_compiler
@pytest.mark.parametrize(
    "more", [("-O3", "-march=native"), ("-O0",), ("-fsanitize=undefined", "-fno-sanitize-recover")]
)
def test_under_other_options(tmp_path, rng, more):
    net = Network(
        [Dense(8), BatchNorm(), "gelu", Residual([Dense(8), "elu"]), Dense(3), "softmax"],
        input_size=4,
        seed=0,
    )
    assert_equal_but_for_rounding(Exported(net, tmp_path, more=more), rng.standard_normal((10, 4)))


def test_the_workspace_is_the_two_widest_layers_not_all_of_them(tmp_path):
    _, header = mlp([4, *[64] * 50, 3], seed=0).export_c(tmp_path / "net")
    assert int(re.search(r"NET_WORKSPACE (\d+)", header.read_text())[1]) == 2 * 64


def test_the_code_has_no_state_and_allocates_nothing(tmp_path):
    net = Network([Dense(8), BatchNorm(), "gelu", Residual([Dense(8), "elu"]), Dense(3),
                   "softmax"], input_size=4, seed=0)  # fmt: skip
    source, _ = net.export_c(tmp_path / "net")
    text = source.read_text()
    assert set(re.findall(r"#include (.*)", text)) == {'"net.h"', "<math.h>", "<stddef.h>"}
    assert not re.search(r"alloc|free\(", text)
    assert all("const" in line or "(" in line for line in text.splitlines() if line.startswith("static"))


def test_every_kind_of_op_and_every_activation_has_its_c():
    assert not set(kernels.OP_KINDS) - set(EMITTERS), "add it in gradcore/c_export.py, EMITTERS"
    assert not set(kernels.ACTIVATION_CODES) - set(FUNCTIONS) - {"softmax"}, (
        "add it in gradcore/c_activations.py"
    )


def test_every_kind_of_layer_is_in_the_random_networks():
    seen = set()

    def visit(layers):
        for layer in layers:
            seen.add(type(layer).__name__)
            visit(getattr(layer, "layers", ()))

    for number in range(60):
        visit(random_network(np.random.default_rng(number), "float32").layers)
    assert not set(KINDS) - seen, "add it in tests/random_networks.py"


@pytest.mark.parametrize("name", ["", "2net", "my-net", "_net", "né", "a b", "x" * 51, "net;", "NULL\n"])
def test_names_that_c_cannot_have_are_refused_before_anything_is_written(tmp_path, name):
    with pytest.raises(ValueError, match="cannot begin the names of C functions: give name='net'"):
        mlp([1, 1], seed=0).export_c(tmp_path / "net", name=name)
    assert not list(tmp_path.iterdir())


def test_the_name_is_the_last_part_of_the_path_or_what_is_given(tmp_path):
    net = mlp([1, 1], seed=0)
    assert "void pump_forward(" in net.export_c(tmp_path / "pump.c")[0].read_text()
    source, header = net.export_c(str(tmp_path / "odd name ✓"), name="pump")
    assert "void pump_forward(" in source.read_text()
    assert f'#include "{header.name}"' in source.read_text()
    with pytest.raises(ValueError, match="'odd name"):
        net.export_c(tmp_path / "odd name")
    with pytest.raises(TypeError, match="name must be text"):
        net.export_c(tmp_path / "net", name=3)


def test_parameters_that_are_not_finite_are_refused_by_name(tmp_path):
    net = Network([Dense(2), Residual([Dense(2)])], input_size=2, seed=0)
    net.set_parameters({"1.0.bias": [0.0, np.nan]})
    with pytest.raises(ValueError, match=r"bias of layer 1\.0 is not finite everywhere"):
        net.export_c(tmp_path / "net")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_the_older_files(tmp_path):
    old, new = mlp([2, 1], seed=0), mlp([2, 1], seed=1)
    before = old.export_c(tmp_path / "net")[0].read_text()
    with failing(2), pytest.raises(OSError, match="No space left"):
        new.export_c(tmp_path / "net")
    assert (tmp_path / "net.c").read_text() == before
    assert sorted(os.listdir(tmp_path)) == ["net.c", "net.h"]


def test_weights_are_exact(tmp_path, dtype):
    net = Network([Dense(1, use_bias=False)], input_size=6, dtype=dtype, seed=0)
    odd = np.array(
        [[1 / 3, -0.0, 1e-45 if dtype == np.float32 else 5e-324, 1.0, np.finfo(dtype).max, -1e-3]], dtype
    )
    net.set_parameters({"0.weight": odd})
    source, _ = net.export_c(tmp_path / "net")
    constants = re.search(r"weight_0\[6\] = \{(.*?)\}", source.read_text(), re.DOTALL)[1]
    values = np.array([float.fromhex(c.strip().rstrip("f")) for c in constants.split(",")], dtype)
    assert values.tobytes() == odd.tobytes()


def test_a_bare_activation_with_a_parameter_keeps_it(tmp_path):
    net = Network([Dense(1), Activation("leaky_relu(0.25)")], input_size=1, seed=0)
    assert "net_leaky_relu(y, y, 1, 0x1p-2f);" in net.export_c(tmp_path / "net")[0].read_text()
