import numpy as np
import pytest
from hypothesis import given, strategies as st

from gradcore.training.batches import Batches, split


@pytest.mark.parametrize("merge", [False, True])
@pytest.mark.parametrize("rows", range(1, 14))
@pytest.mark.parametrize("size", range(2, 6))
def test_sizes_add_up_to_all_rows(rows, size, merge):
    batches = Batches(rows, min(size, rows), merge)
    sizes = batches.sizes()
    assert sizes.sum() == rows
    assert len(sizes) == batches.steps
    assert sizes.max() <= batches.largest
    if merge and rows > 1:
        assert 1 not in sizes


def test_a_split_holds_out_at_least_one_row():
    train, held_out = split(10, 0.01, seed=0)
    assert len(held_out) == 1
    assert sorted([*train, *held_out]) == list(range(10))
    with pytest.raises(ValueError, match="leaves none"):
        split(1, 0.5, seed=0)


@given(st.lists(st.integers(0, 3), min_size=4, max_size=60), st.floats(0.05, 0.7), st.integers(0, 1000))
def test_with_labels_both_parts_have_their_share_of_each(labels, fraction, seed):
    labels = np.array(labels)
    train, held_out = split(len(labels), fraction, seed, labels=labels)
    assert sorted([*train, *held_out]) == list(range(len(labels)))
    assert (len(train), len(held_out)) == tuple(map(len, split(len(labels), fraction, seed)))
    wanted = np.bincount(labels) * len(held_out) / len(labels)
    assert (np.abs(np.bincount(labels[held_out], minlength=len(wanted)) - wanted) < 1 + 1e-9).all()


def test_with_labels_which_rows_are_held_out_is_up_to_the_seed():
    labels = np.repeat([0, 1], 10)
    count = np.zeros(20)
    for seed in range(400):
        count[split(20, 0.2, seed, labels=labels)[1]] += 1
    assert (np.abs(count / 400 - 0.2) < 0.1).all()
