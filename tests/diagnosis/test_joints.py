"""What happens between recorded ops is found by its numbers, and nothing else is."""

import numpy as np
import pytest

from gradcore import activations
from gradcore.diagnosis.joints import Joint, joined


def op(name, x, y, delta=None, input_delta=None):
    return Joint(None, name, "dense", x, y, delta, input_delta)


@pytest.fixture
def arrays(rng, dtype):
    x, w, h = (rng.normal(size=(16, 5)).astype(dtype) for _ in range(3))
    return x, w, h


def shape_of(parts):
    return [(part.kind, shape_of(part.inside)) if part.inside else part.kind for part in parts]


@pytest.mark.parametrize("kind", [name for name in activations.REGISTRY if name != "identity"])
def test_activations(arrays, kind):
    x, _, h = arrays
    h = 4 * h  # beyond the ends of relu6 and the like
    read = getattr(activations, kind)(h)
    parts, unseen = joined([op("a", x, h), op("b", read, x, input_delta=h)])
    found = {"celu": "elu"}.get(kind, kind)  # with alpha=1 these two are one function
    assert shape_of(parts) == ["dense", found, "dense"]
    assert parts[1].delta is h
    assert not unseen


@pytest.mark.parametrize("scale", [1.0, 0.5, -2.0])
def test_a_block_and_its_deltas(arrays, scale):
    x, w, h = arrays
    (first, block, _), unseen = joined(
        [op("a", w, x), op("b", x, h, delta=scale * w), op("c", x + scale * h, w)]
    )
    assert (first.name, block.kind, shape_of(block.inside)) == ("a", "residual", ["dense"])
    assert block.scale == pytest.approx(scale)
    np.testing.assert_allclose(block.delta, w, rtol=1e-5)
    assert not unseen


def test_activations_in_and_after_a_block(arrays):
    x, w, h = arrays
    relu, tanh = activations.relu, activations.tanh
    inside, _ = joined([op("a", w, x), op("b", x, h), op("c", x + tanh(h), w, input_delta=w)])
    assert shape_of(inside) == ["dense", ("residual", ["dense", "tanh"]), "dense"]
    np.testing.assert_array_equal(inside[1].inside[-1].delta, w)
    after, _ = joined([op("a", w, x), op("b", x, h), op("c", relu(x + h), w, input_delta=w)])
    assert shape_of(after) == ["dense", ("residual", ["dense"]), "relu", "dense"]
    np.testing.assert_array_equal(after[1].delta, w * (x + h > 0))


def test_blocks_one_after_the_other_and_one_in_the_other(arrays):
    x, w, h = arrays
    y = x + h
    z = y + w
    parts, unseen = joined([op("a", x, h), op("b", y, w), op("c", z, h)])
    assert shape_of(parts) == [("residual", ["dense"]), ("residual", ["dense"]), "dense"]
    assert [part.name for part in parts[:2]] == ["residual 1", "residual 2"]
    # x + f(u + g(u)) with u = f₁(x)
    u = np.sin(x)
    parts, unseen = joined([op("a", x, u), op("b", u, w), op("c", u + w, h), op("d", x + h, w)])
    assert shape_of(parts) == [("residual", ["dense", ("residual", ["dense"]), "dense"]), "dense"]
    assert (parts[0].name, parts[0].inside[1].name) == ("residual 1", "residual 2")
    assert not unseen


def test_what_nothing_explains_is_said(arrays):
    x, w, h = arrays
    parts, unseen = joined([op("a", x, h), op("b", np.sin(h), w), op("c", w, x)])
    assert shape_of(parts) == ["dense"] * 3
    assert unseen == ["between a and b"]


def test_side_by_side_and_flattened_is_no_gap(arrays):
    x, w, h = arrays
    _, unseen = joined([op("a", x, h), op("b", x, w), op("c", h, x), op("d", x.reshape(4, 20), w)])
    assert not unseen


def test_almost_is_not_enough(arrays):
    x, _, h = arrays
    read = activations.tanh(h)
    read[3, 2] *= 1.001
    _, unseen = joined([op("a", x, h), op("b", read, x)])
    assert unseen
