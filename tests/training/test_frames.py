"""Data frames of both libraries: columns of many dtypes, and what is wrong by the name of its row and column."""

import numpy as np
import pytest

from gradcore import mlp
from gradcore.training.data import as_given, as_inputs, as_labels_or_values
from gradcore.training.frames import library_of

F32 = np.dtype("float32")


@pytest.fixture(params=["pandas", "polars"])
def frames(request):
    return pytest.importorskip(request.param)


@pytest.fixture
def pandas():
    return pytest.importorskip("pandas")


COLUMNS = {
    "a": np.array([1.5, -2.5, 0.0]),
    "b": np.array([1, 2, 3], np.int8),
    "c": np.array([True, False, True]),
    "d": np.array([2**40, 0, 7], np.uint64),
}


def test_numbers_of_any_dtype(frames):
    frame = frames.DataFrame(COLUMNS)
    expected = np.column_stack([c.astype(np.float64) for c in COLUMNS.values()])
    assert np.array_equal(as_given(frame, 4, np.dtype("float64")), expected)
    assert as_inputs(frame, 4, F32).dtype == F32
    assert np.array_equal(as_inputs(frame, 4, F32), expected.astype(np.float32))


def test_a_frame_of_one_dtype_is_not_copied(pandas, rng):
    frame = pandas.DataFrame(rng.standard_normal((5, 3)))
    assert np.shares_memory(as_given(frame, 3, F32), frame.to_numpy())


def test_nullable_columns(pandas):
    frame = pandas.DataFrame(
        {
            "a": pandas.array([1, 2], dtype="Int64"),
            "b": pandas.array([0.5, 1.5], dtype="Float32"),
            "c": pandas.array([True, False], dtype="boolean"),
        }
    )
    assert as_given(frame, 3, F32).tolist() == [[1, 0.5, 1], [2, 1.5, 0]]


def test_a_missing_value_is_named(frames):
    frame = frames.DataFrame({"age": [30, 31, None], "size": [1.0, 2.0, 3.0]})
    if hasattr(frame, "convert_dtypes"):
        frame = frame.convert_dtypes()
    with pytest.raises(ValueError, match=r"X has no value at row 2, column 'age'"):
        as_given(frame, 2, F32)
    assert np.isnan(as_given(frame, 2, F32, finite=False)[2, 0])


def test_labels_of_rows_are_told(pandas):
    frame = pandas.DataFrame({"age": [1.0, np.inf], "size": [1, 2]}, index=["ann", "bob"])
    with pytest.raises(ValueError, match=r"X has inf at row 'bob' \(number 1\), column 'age'"):
        as_given(frame, 2, F32)
    frame = pandas.DataFrame({"age": [1.0, np.nan], "size": [1.0, 2.0]}, index=[5, 7])
    with pytest.raises(ValueError, match=r"X has nan at row 7 \(number 1\), column 'age'"):
        as_given(frame, 2, F32)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["x", "y"], r"column 'city' holds no numbers \(dtype .*\); encode it as numbers"),
        (
            np.array(["2020-01-01", "2020-01-02"], "M8[us]"),
            "column 'city' .* turn it into numbers, such as days",
        ),
    ],
)
def test_a_column_of_no_numbers_is_named_and_what_to_do(frames, values, message):
    frame = frames.DataFrame({"age": [1.0, 2.0], "city": values})
    with pytest.raises(TypeError, match=message):
        as_given(frame, 2, F32)
    with pytest.raises(TypeError, match=message):
        mlp([2, 3, 2], seed=0).fit(frame, [0, 1])


def test_categories_and_objects(pandas):
    frame = pandas.DataFrame({"a": [1.0, 2.0], "b": pandas.Categorical(["u", "v"])})
    with pytest.raises(TypeError, match=r"column 'b'.*get_dummies\(X, columns=\['b'\]\)"):
        as_given(frame, 2, F32)
    objects = pandas.DataFrame({"a": np.array([1, 2.5], object), "b": [1, 2]})
    assert as_given(objects, 2, F32).tolist() == [[1, 1], [2.5, 2]]
    objects["a"] = np.array([1, "z"], object)
    with pytest.raises(TypeError, match="column 'a' must hold numbers"):
        as_given(objects, 2, F32)


def test_the_number_of_columns_and_a_series(frames):
    with pytest.raises(ValueError, match="X has 2 columns, the network takes 3"):
        as_given(frames.DataFrame({"a": [1.0], "b": [2.0]}), 3, F32)
    with pytest.raises(ValueError, match=r"a series is one column: X.to_frame\(\)"):
        as_given(frames.Series([1.0, 2.0]), 1, F32)


def test_two_columns_of_one_name(pandas):
    frame = pandas.DataFrame([[1.0, 2], [3.0, 4]], columns=["a", "a"])
    assert as_given(frame.astype({"a": "float64"}), 2, F32).tolist() == [[1, 2], [3, 4]]


def test_targets(frames):
    assert as_labels_or_values(frames.Series(["u", "v"])).tolist() == ["u", "v"]
    assert as_labels_or_values(frames.Series([True, False])).dtype == bool
    assert as_labels_or_values(frames.Series([1, 2])).dtype == np.int64
    assert as_labels_or_values(frames.DataFrame({"a": [0.5, 1.5], "b": [1, 2]})).tolist() == [
        [0.5, 1],
        [1.5, 2],
    ]
    with pytest.raises(ValueError, match="y has no value at row 1"):
        as_labels_or_values(frames.Series(["u", None]))
    with pytest.raises(ValueError, match="y has no value at row 0"):
        as_labels_or_values(frames.Series([None, 1.0]))


def test_targets_of_the_dtypes_of_pandas(pandas):
    assert as_labels_or_values(pandas.Series(pandas.Categorical(["u", "v"]))).tolist() == ["u", "v"]
    labels = as_labels_or_values(pandas.Series(pandas.array([3, 4], dtype="Int64")))
    assert (labels.tolist(), labels.dtype.kind) == ([3, 4], "i")
    with pytest.raises(ValueError, match=r"y has no value at row 'r' \(number 1\)"):
        as_labels_or_values(pandas.Series(pandas.array([3, None], dtype="Int64"), index=["q", "r"]))


def test_a_frame_trains_as_its_array(frames, rng):
    X, y = rng.standard_normal((40, 3)), np.array(["x", "y"])[rng.integers(0, 2, 40)]
    nets = [mlp([3, 4, 2], seed=0) for _ in range(2)]
    frame = frames.DataFrame({name: X[:, i] for i, name in enumerate("abc")})
    nets[0].fit(X, y, epochs=2, seed=0)
    nets[1].fit(
        frame, frames.Series(y.tolist()), epochs=2, seed=0, validation_data=(frame, frames.Series(y.tolist()))
    )
    assert np.array_equal(nets[0].parameters, nets[1].parameters)
    assert nets[0].predict(X).tolist() == nets[1].predict(frame).tolist()
    assert nets[1].evaluate(frame, frames.Series(y.tolist())) == nets[0].evaluate(X, y)


def test_what_is_no_frame():
    class DataFrame:
        pass

    assert library_of(DataFrame()) is None
    assert library_of(np.zeros(2)) is None


def test_a_frame_of_numbers_as_objects(pandas):
    frame = pandas.DataFrame({"a": [1, 2.5, True], "b": [0.5, 1, 2]}, dtype=object)
    assert as_given(frame, 2, F32).tolist() == [[1.0, 0.5], [2.5, 1.0], [1.0, 2.0]]
    mlp([2, 3, 1], seed=0).fit(frame, [0.0, 1.0, 2.0], epochs=1)
