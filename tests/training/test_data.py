import numpy as np
import pytest

from gradcore.training import data as module
from gradcore.training.data import as_given, as_inputs, as_rows

F32 = np.dtype("float32")


def test_what_fits_is_not_copied(rng):
    X = rng.standard_normal((6, 4)).astype(np.float32)
    for view in (X, X.T[:4, :].T, X[::2], X[::-1]):
        assert as_inputs(view, 4, F32) is view


@pytest.mark.parametrize("kind", ["f8", ">f4", "f2", "i4", "u1", "?", "g", "O"])
def test_other_dtypes_are_converted(kind):
    X = np.array([[0, 1], [1, 0]]).astype(kind)
    result = as_inputs(X, 2, F32)
    assert result.dtype == F32
    assert result.tolist() == [[0, 1], [1, 0]]


def test_a_misaligned_array_is_copied():
    raw = np.zeros(33, np.uint8)
    X = raw[1:].view(np.float32).reshape(2, 4)
    assert not X.flags.aligned
    assert as_inputs(X, 4, F32).flags.aligned


@pytest.mark.parametrize("dtype", ["float32", "float64", ">f8"])
@pytest.mark.parametrize("row", [0, 2, 999])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_wrong_values_are_named_by_row_and_column(monkeypatch, dtype, row, value):
    monkeypatch.setattr(module, "CHUNK", 64)
    X = np.zeros((1000, 7), dtype)
    X[row, 5] = value
    with pytest.raises(ValueError, match=rf"X has {value} at row {row}, column 5"):
        as_inputs(X, 7, F32)
    assert as_inputs(X, 7, F32, finite=False).shape == (1000, 7)


def test_a_number_too_large_for_the_dtype_is_named():
    with pytest.raises(ValueError, match=r"X has 1e\+300 at row 1, column 0: too large for float32"):
        as_inputs([[0.0], [1e300]], 1, F32)
    assert as_inputs([[0.0], [1e300]], 1, np.dtype("float64"))[1, 0] == 1e300


class Sparse:
    def toarray(self):
        raise AssertionError


class Raises:
    def __array__(self, dtype=None, copy=None):
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        (np.zeros(3), ValueError, r"one row is X\[None, :\], one column X\[:, None\]"),
        (1.0, ValueError, "two dimensions"),
        (np.zeros((2, 3, 1)), ValueError, "two dimensions"),
        (np.zeros((2, 2)), ValueError, "X has 2 columns, the network takes 3"),
        ([[1, 2, 3], [1, 2]], ValueError, "equally long"),
        ([["a", "b", "c"]], TypeError, "numbers"),
        (np.array([["a", 1, 2]], object), TypeError, "numbers"),
        (np.zeros((2, 3), complex), TypeError, "complex128"),
        (np.zeros((2, 3), "M8[s]"), TypeError, "datetime64"),
        (np.ma.masked_equal([[1, 2, 3]], 2), ValueError, "masked"),
        (Sparse(), TypeError, "sparse"),
        (Raises(), ZeroDivisionError, "^$"),
        (None, TypeError, "numbers|dimensions"),
    ],
)
def test_inputs_that_cannot_be(X, error, message):
    with pytest.raises((error, ValueError), match=message):
        as_inputs(X, 3, F32)


def test_a_mask_without_masked_entries_is_fine():
    assert as_inputs(np.ma.masked_equal([[1.0, 3.0]], 2), 2, F32).tolist() == [[1, 3]]


def test_rows_are_indices_or_a_mask():
    assert as_rows([True, False, True], 3).tolist() == [0, 2]
    assert as_rows(np.array([2, 0, 2], np.uint8), 3).tolist() == [2, 0, 2]


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        ([1.5], TypeError, r"integers.*float64"),
        (np.array([1.0, 2.0]), TypeError, "integers"),
        (["a"], TypeError, "integers"),
        ([True], ValueError, "one value for each"),
        ([False] * 3, ValueError, "at least one"),
        ([], ValueError, "at least one"),
        ([3], ValueError, "from 0 to 2"),
        ([-1], ValueError, "from 0 to 2"),
        ([[1]], ValueError, "from 0 to 2"),
        (None, TypeError, "rows is None"),
    ],
)
def test_rows_that_cannot_be(rows, error, message):
    with pytest.raises(error, match=message):
        as_rows(rows, 3)


READABLE = ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?"]


@pytest.mark.parametrize("kind", READABLE)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_the_kernels_read_is_given_to_them_as_it_is(kind, dtype):
    X = np.ones((6, 4)).astype(kind)
    X.flags.writeable = False
    for view in (X, X[::-2], X.T[::-1].T, np.asfortranarray(X), np.broadcast_to(X[0], (6, 4))):
        assert as_given(view, 4, np.dtype(dtype)) is view


@pytest.mark.parametrize("kind", [">f4", ">i2", "g"])
def test_what_they_cannot_read_is_converted(kind):
    assert as_given(np.ones((2, 3)).astype(kind), 3, F32).dtype == F32
    packed = np.ones(5, [("a", "u1"), ("b", "f8", 3)])["b"]
    assert not packed.flags.aligned
    assert as_given(packed, 3, F32).tolist() == [[1, 1, 1]] * 5


@pytest.mark.parametrize("kind", ["f2", "f4", "f8"])
def test_what_is_given_as_it_is_has_been_looked_at(monkeypatch, kind):
    monkeypatch.setattr(module, "CHUNK", 64)
    X = np.asfortranarray(np.zeros((100, 7), kind))
    X[77, 2] = np.inf
    with pytest.raises(ValueError, match="X has inf at row 77, column 2"):
        as_given(X, 7, F32)
    assert as_given(X, 7, F32, finite=False) is X


def test_tensors():
    torch = pytest.importorskip("torch")
    X = torch.arange(6.0).reshape(2, 3)
    assert np.shares_memory(as_given(X, 3, F32), X.numpy())
    assert as_given(X.requires_grad_(), 3, F32).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert as_given(X.bfloat16(), 3, F32).tolist() == [[0, 1, 2], [3, 4, 5]]
