from pathlib import Path

import numpy as np
import pytest

import gradcore.datasets
from gradcore.datasets import load_digits


def test_shapes_dtypes_and_scale():
    digits = load_digits()
    assert digits.X_train.shape == (1437, 64)
    assert digits.X_test.shape == (360, 64)
    assert digits.X_train.dtype == digits.X_test.dtype == np.float32
    assert digits.y_train.dtype == digits.y_test.dtype == np.int64
    X = np.vstack([digits.X_train, digits.X_test])
    assert (X.min(), X.max()) == (0, 1)
    np.testing.assert_array_equal(X * 16, np.round(X * 16))


def test_both_parts_have_the_same_share_of_each_digit():
    digits = load_digits()
    train, test = np.bincount(digits.y_train), np.bincount(digits.y_test)
    assert len(train) == len(test) == 10
    np.testing.assert_allclose(test, 0.2 * (train + test), atol=1)


def test_the_order_within_a_part_is_mixed():
    assert len(np.unique(load_digits().y_train[:32])) > 5


def test_the_split_is_fixed_and_the_arrays_are_the_callers_own():
    first, second = load_digits(), load_digits()
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
        assert not np.shares_memory(a, b)
        assert a.flags.writeable
        assert a.flags.c_contiguous
    assert first.y_train[:10].tolist() == [4, 4, 1, 6, 5, 4, 1, 9, 9, 4]


def test_the_same_images_as_scikit_learn():
    bunch = pytest.importorskip("sklearn.datasets").load_digits()
    digits = load_digits()
    ours = np.column_stack(
        [np.vstack([digits.X_train, digits.X_test]) * 16, np.append(digits.y_train, digits.y_test)]
    )
    theirs = np.column_stack([bunch.data, bunch.target])
    np.testing.assert_array_equal(ours[np.lexsort(ours.T)], theirs[np.lexsort(theirs.T)])


def test_the_source_and_the_licence_lie_beside_the_data():
    folder = Path(gradcore.datasets.__file__).parent
    text = (folder / "digits.txt").read_text(encoding="utf-8")
    assert "Alpaydin" in text
    assert "CC BY 4.0" in text
    assert (folder / "digits.npz").stat().st_size < 50_000
