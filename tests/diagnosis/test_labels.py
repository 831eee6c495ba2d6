"""Labels and loss read off the delta of the outputs: exactly, at any scale, and only where it is a cross-entropy."""

import numpy as np
import pytest

from gradcore import losses
from gradcore.diagnosis.labels import labels_from


@pytest.fixture
def outputs(rng, dtype):
    return rng.normal(0, 3, (20, 4)).astype(dtype)


@pytest.mark.parametrize("factor", [1.0, 1 / 3, 1024.0])
def test_cross_entropy(outputs, rng, factor):
    labels = rng.integers(0, 4, 20)
    loss, delta = losses.cross_entropy(outputs, labels, return_grad=True)
    found = labels_from(outputs, factor * delta)
    np.testing.assert_array_equal(found.targets, labels)
    assert found.loss == pytest.approx(factor * loss, rel=1e-4)
    shares = np.unique(labels, return_counts=True)[1] / 20
    assert found.constant_loss == pytest.approx(-factor * np.sum(shares * np.log(shares)), rel=1e-4)


@pytest.mark.parametrize("columns", [1, 4])
def test_binary_cross_entropy(outputs, rng, columns):
    z, values = outputs[:, :columns], rng.integers(0, 2, (20, columns)).astype(float)
    loss, delta = losses.binary_cross_entropy(z, values, return_grad=True)
    found = labels_from(z, delta)
    np.testing.assert_array_equal(found.targets, values)
    assert found.name == "binary_cross_entropy"
    assert found.loss == pytest.approx(loss, rel=1e-4)


def test_a_label_that_is_sure():
    z = np.array([[100.0, 0, 0], [0, 1, 2], [0, 0, 100.0]])
    _, delta = losses.cross_entropy(z, [0, 1, 2], return_grad=True)
    np.testing.assert_array_equal(labels_from(z, delta).targets, [0, 1, 2])


def test_no_other_loss(outputs, rng):
    labels = rng.integers(0, 4, 20)
    _, delta = losses.cross_entropy(outputs, labels, return_grad=True)
    weighted = delta * rng.uniform(0.5, 2, (20, 1)).astype(outputs.dtype)
    _, squared = losses.mse(outputs, rng.normal(size=(20, 4)), return_grad=True)
    _, soft = losses.binary_cross_entropy(outputs, rng.uniform(size=(20, 4)), return_grad=True)
    for other in (
        weighted,
        squared,
        soft,
        -delta,
        0 * delta,
        np.full_like(delta, np.nan),
        rng.normal(size=(20, 4)),
    ):
        assert labels_from(outputs, other) is None
    assert labels_from(outputs[:1], delta[:1]) is None, "too few to tell"
