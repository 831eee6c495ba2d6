"""The luck of the tested rows: scores row by row, of networks and of a constant."""

from types import SimpleNamespace

import numpy as np
import pytest

from gradcore.diagnosis.recipe import Data
from gradcore.losses import resolve
from gradcore.network import mlp
from gradcore.prescription.comparison import t_probability
from gradcore.prescription.rows import by_heart, constant_row_scores, luck, row_scores

RNG = np.random.default_rng(0)
X, X_TEST = RNG.normal(size=(80, 3)), RNG.normal(size=(40, 3))


def result(rows):
    return SimpleNamespace(rows=rows)


def trained(y, outputs):
    net = mlp([3, 8, outputs], seed=0)
    net.fit(X, y, epochs=2, progress=False)
    return net


def test_rows_of_labels_are_right_or_wrong():
    y = (X[:, 0] > 0).astype(int)
    net, data = trained(y, 2), Data(X, y, X_TEST, (X_TEST[:, 0] > 0).astype(int))
    assert row_scores(net, data) == tuple((net.predict(X_TEST) == data.y_test).astype(float))


@pytest.mark.parametrize("name", ["cross_entropy", "binary_cross_entropy"])
def test_a_constant_answers_the_largest_class_of_all_rows(name):
    y, y_test = np.repeat([0, 1], [45, 35]), np.repeat([0, 1], [10, 30])  # 55 and 65
    if name == "binary_cross_entropy":
        y, y_test = y[:, None], y_test[:, None]
    constant = constant_row_scores(Data(X, y, X_TEST, y_test), resolve(name))
    np.testing.assert_array_equal(constant, y_test.ravel())


def test_a_constant_answers_the_mean_and_so_has_no_determination():
    y, y_test = RNG.normal(size=(80, 2)) * [1, 100], RNG.normal(size=(40, 2)) * [1, 100]
    constant = constant_row_scores(Data(X, y, X_TEST, y_test), resolve("mse"))
    mean = np.concatenate([y, y_test]).mean(axis=0)
    expected = np.mean(1 - ((y_test - mean) ** 2).sum(axis=0) / (len(y_test) * y_test.var(axis=0)))
    assert constant.mean() == pytest.approx(expected)
    assert -0.2 < constant.mean() <= 0


def test_luck_is_the_standard_error_over_rows():
    treated, control = RNG.normal(size=(2, 5, 30))
    pairs = [(result(a), result(b)) for a, b in zip(treated, control, strict=True)]
    assert luck(pairs, 60) == pytest.approx((treated - control).mean(axis=0).std(ddof=1) / np.sqrt(60))


@pytest.mark.parametrize(("rows", "expected"), [(1, 1), (2, 1 / 2), (4, 1 / 4)])
def test_rows_that_all_differ_alike_are_not_sure_where_they_are_few(rows, expected):
    assert luck([(result((1.0,) * rows), result((0.0,) * rows))], rows) == pytest.approx(expected)


def test_rows_are_scored_as_they_all_are_where_a_column_does_not_vary():
    y, y_test = RNG.normal(size=(80, 2)), RNG.normal(size=(40, 2))
    y[:, 1] = y_test[:, 1] = 0
    net, data = trained(y, 2), Data(X, y, X_TEST, y_test)
    rows = row_scores(net, data)
    assert len(set(rows)) > 20
    assert np.mean(rows) == pytest.approx(net.evaluate(X_TEST, y_test)["r2"], abs=1e-3)


def test_answers_by_chance_are_taken_for_learning_as_often_as_said():
    rng = np.random.default_rng(1)
    constant, found = np.repeat([1.0, 0.0], 30), []
    for _ in range(2000):
        labels, agreed = (
            rng.permutation(60) < 30,
            rng.random(60) < 0.5,
        )  # what the seeds learnt by heart alike
        answers = [np.where(rng.random(60) < 0.8, agreed, rng.random(60) < 0.5) for _ in range(8)]
        order = np.argsort(~labels)  # so that the constant is right in the first half
        found.append(by_heart([result((a == labels)[order] * 1.0) for a in answers], constant))
    assert np.mean(np.array(found) < 0.05) < 0.07
    assert np.mean(np.array(found) < 0.01) < 0.02


def test_of_many_rows_the_kept_ones_are_all_that_speak_against_chance():
    rng = np.random.default_rng(2)
    inputs, labels = rng.normal(size=(20_000, 3)), np.arange(20_000) % 2
    data = Data(X, np.arange(80) % 2, inputs, labels)
    rows = row_scores(trained(data.y, 2), data)
    constant = constant_row_scores(data, resolve("cross_entropy"))
    assert len(rows) == len(constant) == 1000
    gained = np.array(rows) - constant
    t = gained.mean() / (gained.std(ddof=1) / np.sqrt(1000))
    assert by_heart([result(rows)], constant) == pytest.approx(1 - t_probability(t, 999))


def test_what_is_right_everywhere_is_no_chance_unless_rows_are_few():
    assert by_heart([result((1.0,) * 30)], np.repeat([1.0, 0.0], 15)) < 1e-4
    assert by_heart([result((1.0, 1.0))], np.zeros(2)) > 0.05
    assert by_heart([result((1.0,))], np.zeros(1)) == 1
    assert by_heart([result((0.0,) * 30)], np.repeat([1.0, 0.0], 15)) > 0.99
