import numpy as np
import pytest

from gradcore import mlp
from gradcore.training.targets import encode

F32 = np.dtype("float32")


def codes(y, outputs=3, loss="auto", **others):
    targets = encode(y, loss, outputs, F32, **others)
    return (
        targets.loss.name,
        targets.values.tolist(),
        None if targets.classes is None else targets.classes.tolist(),
    )


@pytest.mark.parametrize(
    ("y", "values", "classes"),
    [
        ([0, 2, 1], [0, 2, 1], [0, 1, 2]),
        ([[0], [2], [1]], [0, 2, 1], [0, 1, 2]),
        ([0, 0, 2], [0, 0, 2], [0, 1, 2]),
        ([-1, 5, 3], [0, 2, 1], [-1, 3, 5]),
        (np.array([1, 2, 3], np.uint8), [0, 1, 2], [1, 2, 3]),
        (["b", "a", "c"], [1, 0, 2], ["a", "b", "c"]),
        (np.array(["b", "a", "c"], object), [1, 0, 2], ["a", "b", "c"]),
        (np.array([2, 0, 1], object), [2, 0, 1], [0, 1, 2]),
    ],
)
def test_labels_of_any_kind_become_indices(y, values, classes):
    assert codes(y) == ("cross_entropy", values, classes)


def test_float_labels_need_the_loss_by_name():
    assert codes([1.0, 2.0, 7.0], loss="cross_entropy") == ("cross_entropy", [0, 1, 2], [1.0, 2.0, 7.0])


@pytest.mark.parametrize(
    ("y", "classes"),
    [
        ([0, 1, 1], [0, 1]),
        ([False, True, True], [False, True]),
        (["n", "y", "y"], ["n", "y"]),
        ([-1, 1, 1], [-1, 1]),
    ],
)
def test_two_labels_and_one_output_are_binary(y, classes):
    assert codes(y, outputs=1) == ("binary_cross_entropy", [[0.0], [1.0], [1.0]], classes)


def test_probabilities_as_binary_targets():
    name, values, classes = codes([0.0, 0.25, 1.0], outputs=1, loss="binary_cross_entropy")
    assert (name, values, classes) == ("binary_cross_entropy", [[0.0], [0.25], [1.0]], None)


@pytest.mark.parametrize("y", [[0.5, 1.5, 2.0], [[0.5], [1.5], [2.0]]])
def test_floats_are_numbers(y):
    assert codes(y, outputs=1) == ("mse", [[0.5], [1.5], [2.0]], None)


def test_known_classes_keep_their_coding():
    classes = np.array(["a", "b", "c"])
    assert codes(["c", "c"], classes=classes) == ("cross_entropy", [2, 2], ["a", "b", "c"])
    assert codes(["x", "y", "z"], classes=classes)[2] == ["x", "y", "z"]
    with pytest.raises(ValueError, match="label 'x' at row 1 was not among those trained on"):
        codes(["a", "x"], classes=classes, known=True)
    with pytest.raises(ValueError, match="label 3 at row 0"):
        codes([3, 1], classes=classes, known=True)


@pytest.mark.parametrize(
    ("y", "outputs", "loss", "message"),
    [
        ([], 3, "auto", "empty"),
        ([0, 1, 2, 3], 3, "auto", "4 different labels .* tells 3 classes apart; for regression make y float"),
        (["a", "b"], 3, "auto", "which output is which"),
        ([0, 1, 2], 1, "auto", "3 different labels"),
        ([0, 1], 1, "cross_entropy", "binary_cross_entropy"),
        (np.eye(3) * 2, 3, "cross_entropy", r"targets\[0, 0\] is 2.0; probabilities are from 0 to 1"),
        (np.eye(3) / 2, 3, "cross_entropy", r"targets\[0\] sums to 0.5"),
        (np.eye(3), 4, "cross_entropy", r"labels must have shape"),
        ([[1, -2]], 2, "poisson", "at least 0; y has -2.0 at row 0, column 1"),
        ([0.5, 1.5], 3, "gaussian_nll", "two outputs for each target .* the network has 3"),
        ([0.5, 1.5], 4, "gaussian_nll", "1 columns, the network has outputs for 2 targets"),
        ([[0, 1], [2, 1]], 2, "auto", r"labels must have shape"),
        ([0.0, np.nan, 1.0], 3, "cross_entropy", "y has nan at row 1"),
        ([0.5, np.inf], 1, "auto", "y has inf at row 1, column 0"),
        ([1e300], 1, "auto", "too large for float32"),
        ([0.5, 1.5], 1, "binary_cross_entropy", "from 0 to 1; y has 1.5 at row 1"),
        ([0.5, 1.0], 3, "auto", "1 columns, the network has 3 outputs"),
        (["a", None], 2, "auto", r"no value \(None\) at row 1"),
        (np.array(["a", 1], object), 2, "auto", "mixes text and numbers"),
        (["a", "b"], 1, "mse", "needs numbers"),
        (np.array(["2020-01-01"], "M8[D]"), 1, "auto", "targets|y"),
        ([1j], 1, "auto", "y"),
        (np.zeros((2, 2, 2)), 2, "mse", "one or two dimensions"),
        (3, 2, "auto", "dimensions"),
    ],
)
def test_targets_that_cannot_be(y, outputs, loss, message):
    with pytest.raises((ValueError, TypeError), match=message):
        codes(y, outputs=outputs, loss=loss)


def test_a_class_that_is_absent_keeps_its_output(rng):
    X = rng.standard_normal((20, 4))
    net = mlp([4, 8, 3], seed=0)
    net.fit(X, np.where(X[:, 0] > 0, 2, 0), epochs=100, optimizer="adam(0.02)", seed=0)
    assert set(net.predict(X)) == {0, 2}
    assert net.predict_proba(X).shape == (20, 3)


def test_a_matrix_of_zeros_and_ones_is_several_labels_a_row():
    for y in (
        np.array([[1, 0, 1], [0, 0, 0]]),
        np.array([[True, False, True], [False] * 3]),
        [[1, 0, 1], [0, 0, 0]],
    ):
        name, values, classes = codes(y)
        assert (name, values, classes) == ("binary_cross_entropy", [[1, 0, 1], [0, 0, 0]], None)
    assert codes(np.array([[1.0, 0.0], [0.0, 0.0]]), outputs=2)[0] == "mse"


def test_probabilities_of_all_classes():
    name, values, classes = codes([[0.25, 0.75, 0.0], [0, 1, 0]], loss="cross_entropy")
    assert (name, values, classes) == ("cross_entropy", [[0.25, 0.75, 0.0], [0, 1, 0]], None)


def test_gaussian_nll_has_a_target_for_two_outputs():
    assert codes([1.0, 2.0], outputs=2, loss="gaussian_nll") == ("gaussian_nll", [[1.0], [2.0]], None)


def test_weights_go_with_their_rows():
    targets = encode([0, 1, 1], "auto", 2, F32, sample_weight=[1, 2, 3])
    assert targets.of_rows(np.array([2, 0])).weights.tolist() == [3, 1]
    assert targets.of_rows(np.array([2, 0])).values.tolist() == [1, 0]
