"""Sparse matrices: never dense as a whole, the same training as their dense copy."""

import tracemalloc

import numpy as np
import pytest

from gradcore import diagnose, find_learning_rate, fit_many, mlp
from gradcore.training.data import Selected, as_given, as_inputs
from gradcore.training.sparse import SparseRows

scipy = pytest.importorskip("scipy.sparse")

F32 = np.dtype("float32")
FORMATS = ["csr", "csc", "coo", "lil", "dok", "bsr"]


@pytest.fixture
def dense(rng):
    return np.where(rng.random((40, 7)) < 0.2, rng.standard_normal((40, 7)), 0.0).astype(np.float32)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("made", ["matrix", "array"])
def test_every_format(dense, form, made):
    X = getattr(scipy, f"{form}_{made}")(dense)
    assert np.array_equal(np.asarray(as_given(X, 7, F32)), dense)
    assert np.array_equal(as_inputs(X, 7, F32), dense)


@pytest.mark.parametrize("kind", ["i1", "u8", "?", "f8"])
def test_every_dtype(dense, kind):
    X = (dense * 50).astype(kind)
    assert np.array_equal(np.asarray(as_given(scipy.csr_array(X), 7, F32)), X.astype(np.float32))


def test_rows_that_fit_are_not_copied(dense):
    X = scipy.csr_array(dense)
    rows = as_given(X, 7, F32)
    assert all(np.shares_memory(a, b) for a, b in ((rows.values, X.data), (rows.columns, X.indices)))
    assert np.shares_memory(rows[3:9].values, X.data)


def test_rows_are_chosen(dense, rng):
    rows = SparseRows.of(scipy.csr_array(dense), F32)
    chosen = rng.integers(0, 40, 100)
    assert np.array_equal(np.asarray(rows[chosen]), dense[chosen])
    assert np.array_equal(np.asarray(rows[5:30][chosen % 25]), dense[5:30][chosen % 25])
    assert np.array_equal(np.asarray(rows[5:5]), dense[5:5])
    assert np.array_equal(np.asarray(Selected(rows, chosen)[10:20]), dense[chosen][10:20])


def test_what_is_stored_twice_is_added_up():
    X = scipy.csr_array((np.ones(3), np.array([2, 0, 2]), np.array([0, 3, 3])), shape=(2, 3))
    assert np.asarray(as_given(X, 3, F32)).tolist() == [[1, 0, 2], [0, 0, 0]]
    assert mlp([3, 2], seed=0).forward(X).tolist() == mlp([3, 2], seed=0).forward(X.toarray()).tolist()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_same_training_as_dense(dense, rng, dtype):
    y = rng.integers(0, 3, 40)
    nets = [mlp([7, 8, 3], seed=0, dtype=dtype) for _ in range(3)]
    X = scipy.csr_matrix(dense)
    histories = [
        net.fit(data, y, epochs=3, batch_size=8, seed=0, validation_fraction=0.2).history
        for net, data in zip(nets, (dense, X), strict=False)
    ]
    assert np.array_equal(nets[0].parameters, nets[1].parameters)
    assert histories[0] == histories[1]
    assert np.array_equal(nets[0].predict_proba(dense), nets[1].predict_proba(X))
    assert nets[0].evaluate(dense, y) == nets[1].evaluate(X, y)
    assert nets[0].loss_and_gradients(dense, y)[0] == nets[1].loss_and_gradients(X, y)[0]
    assert np.array_equal(nets[0].dead_units(dense)["relu 1"], nets[1].dead_units(X)["relu 1"])
    fit_many([nets[2]], (X, y), epochs=3, batch_size=8, seed=0)
    alone = mlp([7, 8, 3], seed=0, dtype=dtype)
    alone.fit(dense, y, epochs=3, batch_size=8, seed=0)
    assert np.array_equal(nets[2].parameters, alone.parameters)


def test_books_and_diagnosis(dense, rng):
    y = rng.integers(0, 3, 40)
    net = mlp([7, 8, 3], seed=0)
    assert str(net.ledger(scipy.csr_array(dense), y)) == str(net.ledger(dense, y))
    assert diagnose(net, scipy.csr_array(dense), y).faults == diagnose(net, dense, y).faults


def test_wrong_values_are_named(dense):
    for value, words in ((np.nan, "nan"), (np.inf, "inf"), (1e300, r"1e\+300")):
        X = dense.astype(np.float64)
        X[11, 3] = value
        with pytest.raises(ValueError, match=rf"X has {words} at row 11, column 3"):
            as_given(scipy.csr_array(X), 7, F32)
    assert np.isinf(np.asarray(as_given(scipy.csr_array(X), 7, F32, finite=False))[11, 3])


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        (scipy.csr_array((3, 5)), ValueError, "X has 5 columns, the network takes 7"),
        (scipy.coo_array(np.ones(7)), ValueError, "two dimensions"),
        (scipy.csr_array(np.ones((2, 7), complex)), TypeError, "complex"),
    ],
)
def test_what_cannot_be(X, error, message):
    with pytest.raises(error, match=message):
        as_given(X, 7, F32)


def test_the_whole_never_becomes_dense(rng):
    rows, columns = 20_000, 5_000  # dense: 400 MB
    where, starts = rng.integers(0, columns, 5 * rows), np.arange(0, 5 * rows + 1, 5)
    X = scipy.csr_array((np.ones(5 * rows, np.float32), where, starts), shape=(rows, columns))
    y = rng.integers(0, 2, rows)
    net = mlp([columns, 4, 2], seed=0)
    tracemalloc.start()
    try:
        net.fit(X, y, epochs=1, batch_size=256, seed=0, validation_fraction=0.1)
        net.evaluate(X, y)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 40e6


def test_every_other_row(dense):
    rows = SparseRows.of(scipy.csr_array(dense), F32)
    for part in (slice(None, None, 2), slice(30, 3, -4), slice(3, 9, 1), slice(9, 3)):
        assert np.array_equal(np.asarray(rows[part]), dense[part])


def test_the_weights_of_other_data_are_forgotten(dense):
    net, y = mlp([7, 4, 2], seed=0), np.arange(40) % 2
    executor = net.executor(40, loss="cross_entropy")
    rows, found = np.arange(40), []
    for X in (dense, SparseRows.of(scipy.csr_array(dense), F32)):
        executor.bind(dense, y, np.linspace(0, 9, 40))
        executor.bind(X, y)
        found.append(executor.observe(rows, mode=0, seed=0, step=1))
    assert found[0] == found[1]


def test_a_learning_rate_for_sparse_rows(dense):
    y = np.arange(40) % 2
    found = [
        find_learning_rate(mlp([7, 8, 2], seed=0), X, y, steps=100, seed=0)
        for X in (dense, scipy.csr_array(dense))
    ]
    assert np.array_equal(found[0].losses, found[1].losses)
