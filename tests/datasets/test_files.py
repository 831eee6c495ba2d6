import pickle

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from gradcore.datasets import load_table


@pytest.fixture
def write(tmp_path):
    def _write(text, name="data.csv"):
        path = tmp_path / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return _write


@pytest.fixture
def savez(tmp_path):
    def _savez(**arrays):
        path = tmp_path / "data.npz"
        np.savez(path, **arrays)
        return path

    return _savez


def test_a_plain_table(write):
    table = load_table(write("a,kind,b\n1,cat,2\n3.5,dog,-4e-3\n"), "kind")
    np.testing.assert_array_equal(table.X, [[1, 2], [3.5, -4e-3]])
    assert table.X.dtype == np.float64
    assert table.y.tolist() == ["cat", "dog"]
    assert table.features == ("a", "b")
    assert table.target == "kind"


@pytest.mark.parametrize(
    "text",
    [
        b"\xef\xbb\xbfa,b,y\r\n1,2,0\r\n3,4,1\r\n",
        b"a,b,y\n1,2,0\n3,4,1",
        b"\na,b,y\n\n1,2,0\n\n3,4,1\n\n",
        b"a;b;y\n1;2;0\n3;4;1\n",
        b"a\tb\ty\n1\t2\t0\n3\t4\t1\n",
        b' a , "b" ,y\n 1 , 2 ,0\n"3",4 , 1\n'.replace(b' "b" ', b"b"),
    ],
    ids=["mark and CRLF", "no last line end", "blank lines", "semicolons", "tabs", "spaces and quotes"],
)
def test_the_ways_of_writing_one_table(write, text):
    table = load_table(write(text), "y")
    np.testing.assert_array_equal(table.X, [[1, 2], [3, 4]])
    assert table.features == ("a", "b")
    assert table.y.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("labels", "dtype"),
    [
        (["0", "1"], "i8"),
        (["-3", "12"], "i8"),
        (["0.0", "1"], "f8"),
        (["nan", "1"], "f8"),
        (["1", "one"], "U3"),
        (["True", "False"], "U5"),
        (["1_0", "2"], "U3"),
        (["9" * 30, "1"], "f8"),
    ],
)
def test_the_kind_of_the_targets(write, labels, dtype):
    y = load_table(write("x,y\n" + "".join(f"1,{label}\n" for label in labels)), "y").y
    assert y.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(y, np.array(labels).astype(dtype))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("a,b,y\n1,2,0\n3,4\n", "line 3: 2 cells, but the header names 3"),
        ("a,b,y\n1,2,0\n3,4,1,9\n", "line 3: 4 cells"),
        ('a,b,y\n1,"2\n2",0\n3,4\n', "line 4: 2 cells"),
        ("a,b,y\n1,2,0\n3,four,1\n", "line 3, column 'b': 'four' is not a number"),
        ('a,b,y\n1,2,0\n"3\n3",4,1\n', r"line 3, column 'a': '3\\n3' is not a number"),
        ("a,b,y\n1,2,0\n,4,1\n", "line 3, column 'a': the cell is empty"),
        ("a;b;y\n1,5;2;0\n", "line 2, column 'a': '1,5' has a decimal comma"),
        ("a,b,y\n1_000,2,0\n", "line 2, column 'a': '1_000' is not a number"),
        ("a,b,y\n1,2,\n", "line 2, column 'y': the target is missing"),
        ("a,b,y\n", "a header and no rows"),
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("1,2,3\n4,5,6\n", "line 1: it should name the columns"),
        ("a,b,label\n1,2,3\n", "unknown column .*'y'; Known: a, b, label"),
        ("a,b,Y\n1,2,3\n", "did you mean 'Y'"),
        ("y,a,y\n1,2,3\n", "2 columns are called 'y'"),
        ("y\n1\n", "no column besides the target"),
        ('a,y\n"1,2\n3,4\n', "line 3"),
        ('a,y\n"1"2,3\n', "line 2"),
        (b"a,y\n\xff\xfe,1\n", "not a text file in UTF-8"),
        (b"a,y\n1\x002,1\n", "line 2"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(write, text, match):
    path = write(text)
    with pytest.raises(ValueError, match=match) as caught:
        load_table(path, "y")
    assert "data.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_target_must_be_named(write):
    with pytest.raises(ValueError, match="name the target, one of the columns a, y"):
        load_table(write("a,y\n1,2\n"))


def test_a_file_that_cannot_be_opened(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_table(tmp_path / "missing.csv", "y")
    with pytest.raises(OSError, match="data"):
        load_table(str(tmp_path / "data" / "x.csv"), "y")


@given(data=st.data(), rows=st.integers(1, 6), columns=st.integers(1, 4), delimiter=st.sampled_from(",;\t"))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_every_table_of_numbers_comes_back(write, data, rows, columns, delimiter):
    numbers = st.floats(allow_nan=False)
    X = np.array([[data.draw(numbers) for _ in range(columns)] for _ in range(rows)])
    labels = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1)
    y = [data.draw(labels).replace('"', "'") for _ in range(rows)]
    lines = [delimiter.join([*(f"x{i}" for i in range(columns)), "label"])]
    lines += [
        delimiter.join([*map(repr, map(float, row)), f'"{label}"']) for row, label in zip(X, y, strict=True)
    ]
    table = load_table(write("\n".join(lines)), "label")
    np.testing.assert_array_equal(table.X, X)
    if table.y.dtype.kind == "U":
        assert table.y.tolist() == y


def test_arrays(savez):
    X = np.arange(24).reshape(4, 2, 3)
    table = load_table(savez(X=X, y=np.array([0, 1, 0, 1]), other=np.zeros(2)))
    np.testing.assert_array_equal(table.X, X.reshape(4, 6))
    assert table.X.dtype == np.float64
    assert table.y.tolist() == [0, 1, 0, 1]
    assert table.features[:2] == ("X[0]", "X[1]")
    table = load_table(savez(images=X, digit=np.array(list("abab"))), "digit")
    assert table.y.tolist() == list("abab")
    assert table.features[0] == "images[0]"


@pytest.mark.parametrize(
    ("arrays", "match"),
    [
        ({"X": np.zeros((2, 2))}, "unknown array .* 'y'; Known: X"),
        ({"y": np.zeros(2)}, "an array 'X' beside 'y' is missing; found none"),
        ({"y": np.zeros(2), "a": np.zeros(2), "b": np.zeros(2)}, "found a, b"),
        ({"X": np.zeros((3, 2)), "y": np.zeros(2)}, "X has 3 rows, y has 2"),
        ({"X": np.zeros((0, 2)), "y": np.zeros(0)}, "nothing to learn"),
        ({"X": np.array(1.0), "y": np.zeros(2)}, "nothing to learn"),
        ({"X": np.zeros((2, 2), complex), "y": np.zeros(2)}, "features must be numbers"),
        ({"X": np.array([None, 1], object), "y": np.zeros(2)}, "not an NPZ file of plain arrays"),
    ],
)
def test_arrays_that_do_not_fit(savez, arrays, match):
    with pytest.raises(ValueError, match=match):
        load_table(savez(**arrays))


def test_a_broken_archive(savez):
    path = savez(X=np.random.default_rng(0).normal(size=(50, 3)), y=np.zeros(50))
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:300] + b"\xff" * 50 + whole[350:], whole[:20]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="not an NPZ file"):
            load_table(path)


def test_a_pickle_is_not_executed(write):
    class Payload:
        def __reduce__(self):
            return (pytest.fail, ("executed",))

    with pytest.raises(ValueError, match=r"data\.npz"):
        load_table(write(pickle.dumps(Payload()), "data.npz"), "y")
