import numpy as np
import pytest

from gradcore import kernels
from gradcore.compiler import ALIGNMENT, compile_layers
from gradcore.layers import BatchNorm, Dense, Dropout, LayerNorm, Residual

KINDS = {number: name for name, number in kernels.OP_KINDS.items()}

NETWORKS = {
    "one dense": [Dense(3)],
    "deep": [Dense(33), "tanh", Dense(17), "relu", Dense(8), "sigmoid", Dense(3)],
    "all kinds": [
        Dense(9),
        BatchNorm(),
        "gelu",
        Dropout(0.5),
        Residual([Dense(9), "relu"]),
        Dense(3),
        "softmax",
    ],
    "nested": [
        Dense(9),
        "tanh",
        Residual([Residual(["tanh", Dense(9)]), "relu"]),
        "tanh",
        Residual([Dropout(0.1)]),
    ],
    "forks first": [Residual([Residual([Dense(5), "tanh"]), BatchNorm()]), "relu", "tanh", Dense(2)],
    "layer norms": [
        LayerNorm(),
        Residual([LayerNorm(), "tanh"]),
        Dense(5),
        LayerNorm(),
        "tanh",
        LayerNorm(),
        Dense(2),
    ],
    "projections": [
        Residual(["relu", Residual([Dense(7), "tanh"], projection=True), "tanh"], projection=True),
        "relu",
        Residual([Residual(["tanh"], projection="always"), Dropout(0.1)]),
        Residual([Dense(40)], projection=True),
        Residual([Dense(4)], projection=True),
    ],
    "activations around a block": [Dense(9), "tanh", Residual(["relu", Dense(9), "tanh"]), "relu", Dense(2)],
    "identity": [Dense(9), "identity", Dense(2)],
}

every_network = pytest.mark.parametrize("name", NETWORKS)
every_tile = pytest.mark.parametrize("tile", [1, 4, 8, 16])


def plan_of(name, tile=8, **keywords):
    return compile_layers(NETWORKS[name], 5, "float32", tile=tile, **keywords)


def kinds(plan):
    return [KINDS[int(op["kind"])] for op in plan.table]


def padded(columns, tile):
    return -(-int(columns) // tile) * tile


# --- order, names, places in the user's list -----------------------------------------------------


def test_ops_in_order_with_names_and_places():
    plan = plan_of("all kinds")
    assert kinds(plan) == [
        "dense", "batch_norm", "activation", "dropout", "fork", "dense", "activation", "join", "dense", "activation",
    ]  # fmt: skip
    assert plan.names == (
        "dense 1", "batch_norm 1", "gelu 1", "dropout 1", "fork 1", "dense 2", "relu 1", "residual 1", "dense 3",
        "softmax 1",
    )  # fmt: skip
    assert plan.layer_index == ((0,), (1,), (2,), (3,), (4,), (4, 0), (4, 1), (4,), (5,), (6,))
    assert list(plan.parameter_names) == [
        "0.weight", "0.bias", "1.gamma", "1.beta", "4.0.weight", "4.0.bias", "5.weight", "5.bias",
    ]  # fmt: skip
    assert (plan.columns_in, plan.columns_out) == (5, 3)


def test_forks_and_joins_are_partners():
    table = plan_of("nested").table
    for i, op in enumerate(table):
        if kinds_of(op) in ("fork", "join"):
            assert table[op["partner"]]["partner"] == i
        else:
            assert op["partner"] == -1
    assert plan_of("nested").names[2:4] == ("fork 1", "fork 2")
    assert [n for n in plan_of("nested").names if n.startswith("residual")] == [
        "residual 2", "residual 1", "residual 3"
    ]  # fmt: skip


def kinds_of(op):
    return KINDS[int(op["kind"])]


def test_what_the_layers_say_reaches_the_ops():
    plan = compile_layers(
        [
            BatchNorm(momentum=0.3, eps=0.01),
            Dropout(0.2),
            Dense(5),
            "leaky_relu(0.3)",
            Residual([Dense(5)], -2.0),
        ],
        5,
        tile=1,
    )
    norm, dropout, _, activation, _, _, join = plan.table
    assert (norm["momentum"], norm["eps"]) == (0.3, 0.01)
    assert dropout["parameter"] == 0.2
    assert activation["code"] == kernels.ACTIVATION_CODES["leaky_relu"]
    assert activation["parameter"] == 0.3
    assert join["parameter"] == -2.0


@every_network
def test_columns_fit_together(name):
    plan = plan_of(name)
    table = plan.table
    assert table[0]["columns_in"] == plan.columns_in
    assert table[-1]["columns_out"] == plan.columns_out
    chain = table[~plan.projections]
    np.testing.assert_array_equal(chain["columns_in"][1:], chain["columns_out"][:-1])
    np.testing.assert_array_equal(chain["input"][1:], chain["output"][:-1])
    np.testing.assert_array_equal(chain["d_input"][1:], chain["d_output"][:-1])
    for skip in table[plan.projections]:
        fork = table[skip["partner"]]
        join = table[fork["partner"]]
        assert (skip["input"], skip["columns_in"]) == (fork["input"], fork["columns_in"])
        assert (skip["d_output"], skip["columns_out"]) == (join["d_output"], join["columns_out"])


# --- slots ---------------------------------------------------------------------------------------


def test_an_activation_after_a_dense_op_works_in_place():
    plan = plan_of("deep")
    for before, op in zip(plan.table, plan.table[1:], strict=False):
        if kinds_of(op) == "activation":
            assert op["input"] == op["output"] == before["output"]
            assert before["fused"] == 1
    assert plan.table[-1]["fused"] == 0


@pytest.mark.parametrize(
    "layers",
    [
        [Dense(5), "softmax"],
        [Dense(5), "identity"],
        [Dense(5), Residual(["tanh"])],
        [Dense(5), BatchNorm(), "tanh"],
        [Dense(5), "tanh", "relu"],
    ],
)
def test_any_other_activation_does_not(layers):
    table = compile_layers(layers, 5, tile=1).table
    last = [op for op in table if kinds_of(op) == "activation"][-1]
    assert last["input"] != last["output"]
    dense = table[0]
    in_place = kinds_of(table[1]) == "activation" and table[1]["input"] == table[1]["output"]
    assert dense["fused"] == int(in_place)


class Workspace:
    """Slots as intervals of padded columns; who wrote each one last."""

    def __init__(self, tile):
        self.tile = tile
        self.content = {}

    def interval(self, slot, columns):
        return range(int(slot), int(slot) + padded(columns, self.tile))

    def write(self, slot, columns, what):
        for column in self.interval(slot, columns):
            self.content[column] = what

    def read(self, slot, columns, what):
        found = {self.content.get(column) for column in self.interval(slot, columns)}
        assert found == {what}, f"slot {slot}: expected {what}, found {found}"


@every_tile
@every_network
def test_nothing_is_overwritten_before_it_was_read(name, tile):
    """Run the plan with labels in place of numbers: forward, backward, and the weight gradients after both."""
    plan = plan_of(name, tile)
    table = plan.table
    activations, deltas = Workspace(tile), Workspace(tile)
    label = {}  # op -> what its output is called
    activations.write(0, plan.columns_in, "X")
    current = "X"
    inputs = []
    for i, op in enumerate(table):
        inputs.append(current)
        activations.read(op["input"], op["columns_in"], current)
        kind = kinds_of(op)
        if plan.projections[i]:
            activations.write(op["output"], op["columns_out"], f"skip {i}")
            continue
        if kind == "join":
            fork, skip = table[op["partner"]], plan.skip(int(op["partner"]))
            if skip is None:
                activations.read(fork["input"], fork["columns_in"], inputs[op["partner"]])
            else:
                activations.read(table[skip]["output"], op["columns_out"], f"skip {skip}")
        if kind != "fork":
            current = f"output {i}"
            activations.write(op["output"], op["columns_out"], current)
        if kind == "layer_norm":
            activations.write(op["saved"], 3, f"statistics {i}")
        if kind == "dropout" or (kind == "activation" and op["code"] != kernels.ACTIVATION_CODES["softmax"]):
            deltas.write(op["d_input"], op["columns_in"], f"slope {i}")
        label[i] = current
    end = len(table)
    delta = f"delta {end}"
    deltas.write(table[-1]["d_output"], plan.columns_out, delta)
    d_output = {}
    for i in reversed(range(end)):
        op, kind = table[i], kinds_of(table[i])
        if plan.projections[i]:
            d_output[i] = d_output[table[op["partner"]]["partner"]]
            deltas.read(op["d_output"], op["columns_out"], d_output[i])
            deltas.write(op["d_input"], op["columns_in"], f"delta of skip {i}")
            continue
        deltas.read(op["d_output"], op["columns_out"], delta)
        d_output[i] = delta
        if kind == "dropout" or (kind == "activation" and op["code"] != kernels.ACTIVATION_CODES["softmax"]):
            deltas.read(op["d_input"], op["columns_in"], f"slope {i}")
        elif kind == "activation":
            activations.read(op["output"], op["columns_out"], label[i])
        elif kind in ("dense", "batch_norm", "layer_norm"):
            activations.read(op["input"], op["columns_in"], inputs[i])
            if kind == "layer_norm":
                activations.read(op["saved"], 3, f"statistics {i}")
        elif kind == "fork":
            join, skip = table[op["partner"]], plan.skip(i)
            if skip is None:
                deltas.read(join["d_output"], join["columns_out"], d_output[op["partner"]])
            else:
                deltas.read(table[skip]["d_input"], op["columns_in"], f"delta of skip {skip}")
        delta = f"delta {i}"
        deltas.write(op["d_input"], op["columns_in"], delta)
    for i, op in enumerate(table):
        if kinds_of(op) in ("dense", "layer_norm"):  # the engine takes these gradients last
            activations.read(op["input"], op["columns_in"], inputs[i])
            if kinds_of(op) == "layer_norm":
                activations.read(op["saved"], 3, f"statistics {i}")
            deltas.read(op["d_output"], op["columns_out"], d_output[i])


@every_tile
@every_network
def test_slots_lie_in_their_workspace_on_panels(name, tile):
    plan = plan_of(name, tile)
    for op in plan.table:
        for at, columns, end in (
            ("input", "columns_in", plan.activation_columns),
            ("output", "columns_out", plan.activation_columns),
            ("d_input", "columns_in", plan.delta_columns),
            ("d_output", "columns_out", plan.delta_columns),
        ):
            assert op[at] % tile == 0
            assert 0 <= op[at] <= op[at] + padded(op[columns], tile) <= end


def test_what_activations_read_in_backward_shares_one_place():
    table = plan_of("deep").table
    scratch = {int(op["d_output"]) for op in table if kinds_of(op) == "activation"}
    assert len(scratch) == 1
    own = [int(op["d_output"]) for op in table if kinds_of(op) == "dense"]
    assert len(set(own)) == len(own)
    assert scratch.isdisjoint(own)


# --- parameters ----------------------------------------------------------------------------------


@every_tile
@every_network
def test_parameters_are_aligned_and_apart(name, tile):
    plan = plan_of(name, tile)
    end = 0
    for slot in plan.parameter_names.values():
        assert slot.offset % ALIGNMENT == 0
        assert slot.offset >= end
        end = slot.offset + slot.rows * padded(slot.columns, tile)
        op = plan.table[slot.op]
        assert op["weight" if slot.kind in ("weight", "gamma") else "bias"] == slot.offset
    assert end <= plan.parameter_size
    for at, size in (
        ("transposed", plan.transposed_size),
        ("state", plan.state_size),
        ("saved", plan.saved_size),
    ):
        # (what a layer norm saves lies among the activations)
        starts = [int(op[at]) for op in plan.table if op[at] >= 0 and kinds_of(op) != "layer_norm"]
        assert starts == sorted(set(starts))
        assert all(start % ALIGNMENT == 0 and start < size for start in starts)


def test_only_what_the_delta_needs_is_transposed():
    assert plan_of("deep").table[0]["transposed"] == -1
    assert (plan_of("deep").table["transposed"][[2, 4, 6]] >= 0).all()
    assert plan_of("deep", input_gradient=True).table[0]["transposed"] >= 0
    behind_forks = plan_of("forks first").table
    assert behind_forks[2]["transposed"] == -1
    behind_dropout = compile_layers([Dropout(0.5), Dense(2)], 3, tile=1).table
    assert behind_dropout[1]["transposed"] >= 0


def test_the_input_gradient_moves_no_parameter():
    for name in NETWORKS:
        assert plan_of(name).parameter_names == plan_of(name, input_gradient=True).parameter_names


def test_no_bias_no_place():
    plan = compile_layers([Dense(4, use_bias=False)], 3, tile=4)
    assert plan.table[0]["bias"] == -1
    assert list(plan.parameter_names) == ["0.weight"]
    assert plan.parameter_size == 16


# --- what does not make a network ----------------------------------------------------------------

WRONG = {
    "no layers": ([], "at least one Dense"),
    "no dense": (["tanh", BatchNorm()], "at least one Dense"),
    "softmax inside": ([Dense(3), "softmax", Dense(2)], "layer 1: softmax must be the last layer"),
    "softmax in a block": ([Dense(3), Residual([Dense(3), "softmax"])], r"layer 1\.1: softmax"),
    "softmax in the last block": ([Dense(3), Residual(["softmax"])], r"layer 1\.0: softmax"),
    "block of another width": (
        [Dense(3), "relu", Residual([Dense(4), "relu"])],
        r"layer 2: .* has 3 columns, but the branch ends with 4; add Dense\(3\) at the end",
    ),
    "inner block of another width": ([Dense(3), Residual([Residual([Dense(4)]), Dense(3)])], r"layer 1\.0: "),
}


@pytest.mark.parametrize("what", WRONG)
def test_the_position_is_named(what):
    layers, message = WRONG[what]
    with pytest.raises(ValueError, match=message):
        compile_layers(layers, 5, tile=1)


def test_things_that_are_no_layers():
    with pytest.raises(TypeError, match="layer 1 must be a layer"):
        compile_layers([Dense(3), 7], 5, tile=1)
    with pytest.raises(ValueError, match=r"layer 0: unknown activation 'rleu'; did you mean .*'relu'"):
        compile_layers(["rleu", Dense(3)], 5, tile=1)
    with pytest.raises(TypeError, match="layers must be a list"):
        compile_layers(Dense(3), 5, tile=1)


@pytest.mark.parametrize("bad", [0, -1])
def test_input_size_is_positive(bad):
    with pytest.raises(ValueError, match="input_size must be at least 1"):
        compile_layers([Dense(3)], bad, tile=1)
    with pytest.raises(TypeError, match="input_size must be an integer"):
        compile_layers([Dense(3)], 2.5, tile=1)


def test_dtype_is_float32_or_float64():
    with pytest.raises(ValueError, match="float32 or float64, got float16"):
        compile_layers([Dense(3)], 2, "float16", tile=1)


# --- projections ---------------------------------------------------------------------------------


def test_a_projection_is_a_dense_op_without_bias_on_the_skip():
    plan = compile_layers([Dense(4), Residual([Dense(6), "tanh"], projection=True), Dense(2)], 3, tile=1)
    assert plan.names == ("dense 1", "fork 1", "projection 1", "dense 2", "tanh 1", "residual 1", "dense 3")
    assert list(plan.parameter_names) == [
        "0.weight", "0.bias", "1.projection.weight", "1.0.weight", "1.0.bias", "2.weight", "2.bias",
    ]  # fmt: skip
    assert plan.projections.tolist() == [False, False, True, False, False, False, False]
    assert plan.before.tolist() == [-1, 0, 1, 1, 3, 4, 5]
    assert (plan.branch_start(1), plan.skip(1)) == (3, 2)
    assert "skip of fork op 1" in str(plan)


def test_a_projection_is_there_only_where_it_is_needed():
    def projections(**asked):
        return int(compile_layers([Dense(4), Residual([Dense(4)], **asked)], 3, tile=1).projections.sum())

    assert [projections(), projections(projection=True), projections(projection="always")] == [0, 0, 1]
