import copy
import pickle

import numpy as np
import pytest

from gradcore.compiler import compile_layers
from gradcore.layers import BatchNorm, Dense, Dropout, Residual

PLAN = compile_layers(
    [
        Dense(9),
        "leaky_relu(0.2)",
        BatchNorm(),
        Residual([Dense(9), Dropout(0.25)], scale=0.5),
        Dense(3),
        "softmax",
    ],
    5,
    "float64",
    tile=8,
)


def test_the_table_of_a_plan():
    lines = str(PLAN).splitlines()
    assert lines[0] == "Plan: 5 → 3, 9 ops, float64, tile 8"
    assert (
        lines[1] == f"columns of one row: {PLAN.activation_columns} activations, {PLAN.delta_columns} deltas"
    )
    assert lines[2].startswith(f"reals: {PLAN.parameter_size} parameters, ")
    assert lines[3].split() == [
        "op", "name", "kind", "columns", "activations", "deltas", "weight", "bias", "transposed", "state", "saved",
        "notes",
    ]  # fmt: skip
    body = lines[4:]
    assert len(body) == len(PLAN.table)
    for i, (line, name) in enumerate(zip(body, PLAN.names, strict=True)):
        assert line.split()[0] == str(i)
        assert name in line
        assert line.index(name) == lines[3].index("name")
        assert line == line.rstrip()
    assert "5 → 9" in body[0]
    assert body[0].endswith("fused with the next op")
    assert body[1].endswith("in place, parameter 0.2")
    assert body[2].endswith("momentum 0.1, eps 1e-05")
    assert body[3].endswith("join is op 6")
    assert body[5].endswith("rate 0.25")
    assert body[6].endswith("fork is op 3, scale 0.5")


def test_numbers_stand_under_their_heading():
    lines = str(PLAN).splitlines()
    heading = lines[3]
    for name in ("weight", "bias", "transposed"):
        end = heading.index(name) + len(name)
        for line, op in zip(lines[4:], PLAN.table, strict=True):
            number = line.ljust(end)[:end].rpartition(" ")[2]
            assert number == (str(op[name]) if op[name] >= 0 else "")


def test_a_plan_does_not_change():
    with pytest.raises(ValueError, match="read-only"):
        PLAN.table["weight"] = 0
    with pytest.raises(AttributeError):
        PLAN.tile = 4


@pytest.mark.parametrize("again", [copy.deepcopy, lambda plan: pickle.loads(pickle.dumps(plan))])
def test_a_plan_travels(again):
    other = again(PLAN)
    assert str(other) == str(PLAN)
    np.testing.assert_array_equal(other.table, PLAN.table)
    assert other.parameter_names == PLAN.parameter_names
    assert other.dtype == PLAN.dtype == np.float64
