import numpy as np
import pytest

from gradcore.training.batches import Batches, order_of, split


@pytest.mark.parametrize("merge", [False, True])
@pytest.mark.parametrize("rows", range(1, 14))
@pytest.mark.parametrize("size", range(2, 6))
def test_every_row_is_in_one_step(rows, size, merge):
    batches = Batches(rows, min(size, rows), merge)
    cut = [min(at + n, end) - at for first, end, n in batches.stretches() for at in range(first, end, n)]
    assert cut == batches.sizes().tolist()
    assert sum(cut) == rows
    assert len(cut) == batches.steps
    assert max(cut) <= batches.largest
    if merge and rows > 1:
        assert 1 not in cut


def test_orders_are_permutations_that_depend_on_seed_and_epoch():
    rows = np.arange(100, 200)
    orders = {
        (s, e): order_of(rows, shuffle=True, seed=s, epoch=e).tolist()
        for s in (0, 1, 2**63 - 1)
        for e in (0, 1)
    }
    assert len({tuple(order) for order in orders.values()}) == 6
    assert all(sorted(order) == rows.tolist() for order in orders.values())
    assert order_of(rows, shuffle=True, seed=1, epoch=1).tolist() == orders[1, 1]
    assert order_of(rows, shuffle=False, seed=1, epoch=1).tolist() == rows.tolist()


def test_a_split_holds_out_at_least_one_row():
    train, held_out = split(10, 0.01, seed=0)
    assert len(held_out) == 1
    assert sorted([*train, *held_out]) == list(range(10))
    with pytest.raises(ValueError, match="leaves none"):
        split(1, 0.5, seed=0)
