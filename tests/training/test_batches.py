import pytest

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
