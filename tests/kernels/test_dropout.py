"""Dropout: the published numbers of its generator, its twin, and what must not change the mask."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from gradcore import kernels
from gradcore.kernels import reference

# Random123's known answers for philox4x32-10: counter, key, result
ANSWERS = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((2**32 - 1,) * 4, (2**32 - 1,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


def slopes(shape, dtype, rate=0.5, seed=1, step=2, op=3):
    x = np.ones(shape, dtype)
    slope = np.empty_like(x)
    assert_array_equal(kernels.dropout(x, np.empty_like(x), slope, rate, seed, step, op), slope)
    return slope


@pytest.mark.parametrize(("counter", "key", "words"), ANSWERS)
def test_twin_gives_the_published_numbers(counter, key, words):
    assert reference.philox(tuple(np.array([c], np.uint64) for c in counter), key) == words


def test_kernel_gives_the_published_numbers(dtype):
    # element c of row 0 is kept iff its word is at least rate · 2³²: the two rates around a word betray it
    for column, word in enumerate(ANSWERS[0][2]):
        kept, dropped = (slopes((1, 4), dtype, w / 2**32, 0, 0, 0)[0, column] for w in (word, word + 1))
        assert kept > 0
        assert dropped == 0


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.999])
@pytest.mark.parametrize(("seed", "step", "op"), [(0, 1, 0), (2**64 - 1, 2**40 + 5, 17)])
def test_against_the_twin(rng, dtype, rate, seed, step, op):
    tile = kernels.tile_width(dtype)
    for rows, columns in [(1, 1), (3, 2), (9, tile - 1), (17, tile), (5, tile + 1), (40, 3 * tile + 2)]:
        x = rng.standard_normal((rows, columns)).astype(dtype)
        got, got_slope, want, want_slope = (np.empty_like(x) for _ in range(4))
        kernels.dropout(x, got, got_slope, rate, seed, step, op)
        reference.dropout(x, want, want_slope, rate, seed, step, op)
        assert_array_equal(got_slope, want_slope)
        assert_array_equal(got, want)


def test_rate_zero_changes_nothing(dtype):
    x = np.array([[-0.0, np.nan, np.inf, 1e-40, 3]], dtype)
    out, slope = np.empty_like(x), np.empty_like(x)
    kernels.dropout(x, out, slope, 0.0, 1, 2, 3)
    assert out.tobytes() == x.tobytes()
    assert_array_equal(slope, np.ones_like(x))


def test_mask_depends_on_the_place_alone(dtype):
    whole = slopes((50, 70), dtype)
    for rows, columns in [(50, 1), (7, 70), (13, 33)]:
        assert_array_equal(slopes((rows, columns), dtype), whole[:rows, :columns])
    assert_array_equal(slopes((50, 70), "f4") > 0, slopes((50, 70), "f8") > 0)


@pytest.mark.parametrize("change", [{"seed": 2}, {"seed": 1 + 2**32}, {"step": 3}, {"op": 4}])
def test_another_seed_step_or_op_gives_an_independent_mask(change):
    agree = (slopes((100, 100), "f4") > 0) == (slopes((100, 100), "f4", **change) > 0)
    assert abs(agree.mean() - 0.5) < 5 * 0.5 / 100


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_expectation_is_kept(rate):
    slope = slopes((300, 300), "f8", rate)
    assert abs(slope.mean() - 1) < 5 * np.sqrt(rate / (1 - rate)) / 300
    assert set(np.unique(slope)) == {0, 1 / (1 - rate)}
