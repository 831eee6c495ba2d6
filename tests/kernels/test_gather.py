"""Rows of the data into the input slot: every layout and dtype gives what a copy in the network's dtype gives."""

import numpy as np
import pytest
from executors import EXECUTORS, HYPER, TRAINING, bench

from gradcore import kernels
from gradcore.layers import Dense
from gradcore.training.sparse import SparseRows

REALS = ["float32", "float64"]
ELEMENTS = ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?"]
LAYOUTS = {
    "rows": lambda X: X,
    "columns": np.asfortranarray,
    "every other": lambda X: np.repeat(np.repeat(X, 2, axis=0), 3, axis=1)[::2, ::3],
    "reversed": lambda X: X[::-1, ::-1].copy()[::-1, ::-1],
    "one row": lambda X: np.broadcast_to(X[:1], X.shape),
    "one column": lambda X: np.broadcast_to(X[:, :1], X.shape),
}


def any_values(rng, rows, columns, kind):
    """Values over the whole range of a dtype."""
    kind = np.dtype(kind)
    if kind.kind == "f":
        bits = rng.integers(0, 256, (rows, columns * kind.itemsize), np.uint8)
        return bits.view(kind)
    if kind.kind == "b":
        return rng.integers(0, 2, (rows, columns)).astype(bool)
    info = np.iinfo(kind)
    return rng.integers(info.min, info.max, (rows, columns), dtype=kind, endpoint=True)


def inputs_of(made, X, order):
    """What the input slot holds after a batch of these rows."""
    made.executor.bind(X, None)
    made.executor.observe(order, mode=TRAINING, seed=0, step=1, stop=0)
    return made.slot(made.executor.activations, 0, X.shape[1], len(order))


def same_bits(a, b):
    # of NaN only that it is one
    return np.array_equal(a, b, equal_nan=True) and np.array_equal(np.signbit(a), np.signbit(b))


@pytest.mark.parametrize("kind", EXECUTORS)
@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("element", ELEMENTS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_dtype_and_layout_is_read_where_it_lies(rng, kind, dtype, element, layout):
    for columns in (1, kernels.tile_width(dtype), 2 * kernels.tile_width(dtype) + 3):
        made = bench(kind, [Dense(2)], columns, dtype, capacity=7)
        X = LAYOUTS[layout](any_values(rng, 9, columns, element))
        X.flags.writeable = False
        order = rng.integers(0, 9, 7)
        with np.errstate(over="ignore", invalid="ignore"):
            expected = X[order].astype(dtype)
            given = inputs_of(made, X, order)
        signs_of_nan = np.isnan(expected)  # (the sign of a NaN is nobody's promise)
        assert same_bits(np.where(signs_of_nan, 0, given), np.where(signs_of_nan, 0, expected))
        assert np.isnan(given[signs_of_nan]).all()


@pytest.mark.parametrize("dtype", REALS)
def test_every_half(dtype):
    X = np.arange(1 << 16, dtype=np.uint16).view(np.float16)[:, None]
    given = inputs_of(bench("compiled", [Dense(2)], 1, dtype, capacity=1 << 16), X, np.arange(1 << 16))
    assert same_bits(given, X.astype(dtype))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", REALS)
def test_the_pads_stay_zero(rng, dtype, threads):
    width = kernels.tile_width(dtype)
    made = bench("compiled", [Dense(2)], width + 1, dtype, capacity=8, threads=threads)
    made.executor.activations[: 2 * width * 8] = 0
    inputs_of(made, rng.integers(0, 9, (8, width + 1)).astype(np.uint8), np.arange(8))
    last = made.executor.activations[width * 8 : 2 * width * 8].reshape(8, width)
    assert last[:, 0].any()
    assert not last[:, 1:].any()


@pytest.mark.parametrize("element", [">f4", "c8", "S4", "M8[s]"])
def test_what_cannot_be_read_is_refused(element):
    made = bench("compiled", [Dense(2)], 3, "float32", capacity=8)
    with pytest.raises((TypeError, ValueError)):
        made.executor.bind(np.zeros((4, 3), element), None)
    with pytest.raises(ValueError, match="no data"):
        made.executor.observe(np.arange(2), mode=TRAINING, seed=0, step=1)


def sparse_rows(rng, rows, columns, dtype, index):
    """Rows with some values stored twice and in any order, the first of them not at the first value."""
    starts = np.concatenate([[3], 3 + np.cumsum(rng.integers(0, 2 * columns, rows))]).astype(index)
    where = rng.integers(0, columns, starts[-1] + 2).astype(index)
    return SparseRows(rng.standard_normal(len(where)).astype(dtype), where, starts, columns)


@pytest.mark.parametrize("kind", EXECUTORS)
@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("index", ["int32", "int64"])
def test_sparse_rows_become_dense_in_the_batch(rng, kind, dtype, index):
    for columns in (1, kernels.tile_width(dtype), 2 * kernels.tile_width(dtype) + 3):
        made = bench(kind, [Dense(2)], columns, dtype, capacity=7)
        X = sparse_rows(rng, 9, columns, dtype, index)
        order = rng.integers(0, 9, 7)
        assert np.array_equal(inputs_of(made, X, order), np.asarray(X)[order])
        assert np.array_equal(inputs_of(made, X[2:8], order % 6), np.asarray(X)[order % 6 + 2])


@pytest.mark.parametrize(
    ("columns", "starts", "message"),
    [
        ([0, 3], [0, 1, 2], "column 3 of 3"),
        ([0, -1], [0, 1, 2], "column -1"),
        ([0, 1], [0, 1, 3], "end after"),
        ([0, 1], [-1, 1, 2], "begin before"),
        ([0, 1], [0, 2, 1], "row 1 ends before"),
        ([0], [0, 1, 1], "no compressed"),
        ([0, 1], [], "no compressed"),
    ],
)
@pytest.mark.parametrize("index", ["int32", "int64"])
def test_sparse_rows_that_cannot_be(columns, starts, message, index):
    made = bench("compiled", [Dense(2)], 3, "float32", capacity=8)
    X = SparseRows(np.ones(2, np.float32), np.array(columns, index), np.array(starts, index), 3)
    with pytest.raises(ValueError, match=message):
        made.executor.bind(X, None)
    with pytest.raises(ValueError, match="no data"):
        made.executor.observe(np.arange(1), mode=TRAINING, seed=0, step=1)


def test_sparse_rows_of_another_kind_are_refused():
    made = bench("compiled", [Dense(2)], 3, "float32", capacity=8)
    index = np.array([0, 1], np.int32)
    with pytest.raises(TypeError, match="float32"):
        made.executor.bind(SparseRows(np.ones(1), index[:1], index, 3), None)
    with pytest.raises(TypeError, match="both be"):
        made.executor.bind(SparseRows(np.ones(1, np.float32), index[:1].astype(np.int64), index, 3), None)
    with pytest.raises(ValueError, match="expected shape"):
        made.executor.bind(SparseRows(np.ones(1, np.float32), index[:1], index, 4), None)
    with pytest.raises(TypeError, match="list"):
        made.executor.bind([[1.0, 2.0, 3.0]], None)


def test_a_single_step_forgets_what_was_read_before(rng):
    """Steps of plain arrays on an executor that has read sparse rows and bytes."""
    X, y = rng.standard_normal((5, 3)).astype(np.float32), rng.standard_normal((5, 2)).astype(np.float32)
    others = [sparse_rows(rng, 5, 3, "float32", "int32"), rng.integers(0, 9, (5, 3)).astype(np.uint8)]
    losses = []
    for before in [None, *others]:
        made = bench("compiled", [Dense(2)], 3, "float32", capacity=7)
        if before is not None:
            inputs_of(made, before, np.arange(5))
        made.executor.arm(mode=TRAINING, hyper=HYPER, seed=0)
        losses.append(made.executor.step(X, y, 1))
    assert losses[0] == losses[1] == losses[2]
    z = bench("reference", [Dense(2)], 3, "float32", capacity=7)
    z.executor.bind(X, y)
    assert losses[0] == pytest.approx(
        z.executor.observe(np.arange(5), mode=TRAINING, seed=0, step=1), rel=1e-5
    )
