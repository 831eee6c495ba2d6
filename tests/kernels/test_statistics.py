"""Sums, norms and the fold of a matrix: exact counts, and digits at every size, length and offset."""

import math

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from gradcore import kernels
from gradcore.kernels import reference

COUNTS = ["max_abs", "min_abs", "zeros", "subnormals", "infs", "nans"]
# sizes whose squares leave the range of their dtype, or nearly
SCALES = [("f4", s) for s in (1e-42, 1e-37, 1e-19, 1e-10, 1.0, 1e10, 1e19, 1e37)] + [
    ("f8", s) for s in (1e-310, 1e-300, 1e-160, 1e-100, 1.0, 1e100, 1e155, 1e307)
]
full_and_light = pytest.mark.parametrize("full", [True, False], ids=["full", "light"])


def shapes(dtype):
    tile = kernels.tile_width(dtype)
    return [(1, 1), (2, tile - 1), (31, tile), (33, tile + 1), (100, 3 * tile + 2), (500, 3)]


def close(got, want, rel):
    return got == pytest.approx(want, rel=rel, abs=0, nan_ok=True)


# --- flat arrays --------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, 1, 7, 8, 15, 16, 17, 33, 1000, 4099])
def test_sums(rng, dtype, n):
    a, b = rng.standard_normal((2, n)).astype(dtype)
    exact = [math.fsum(float(x) * float(y) for x, y in zip(p, q, strict=True)) for p, q in ((a, a), (a, b))]
    total, largest = kernels.sum_squares(a)
    assert close(total, exact[0], 1e-14)
    assert largest == np.abs(a).max(initial=0)
    assert close(kernels.safe_norm(a), math.sqrt(exact[0]), 1e-14)
    assert abs(kernels.dot(a, b) - exact[1]) <= 1e-14 * math.fsum(abs(a.astype("f8") * b))
    assert kernels.count_flat(a, 0.5) == (np.abs(a) < 0.5).sum()


@pytest.mark.parametrize(("dtype", "scale"), SCALES)
@pytest.mark.parametrize("n", [1, 3, 40, 1001])
def test_norm_of_any_size(rng, dtype, scale, n):
    x = (scale * rng.uniform(-1, 1, n)).astype(dtype)
    _, exponent = math.frexp(np.abs(x).max())
    exact = math.sqrt(math.fsum(math.ldexp(v, -exponent) ** 2 for v in x.astype("f8")))
    want = math.ldexp(exact, exponent)
    assert abs(kernels.safe_norm(x) - want) <= max(4e-15 * want, 5e-324)


def test_norm_of_a_vector_over_the_whole_range():
    assert close(kernels.safe_norm(np.array([1e-300, 3e200, 1e-5, -4e200])), 5e200, 1e-15)
    assert kernels.safe_norm(np.array([1.7e308, 1.7e308])) == math.inf


@pytest.mark.parametrize("n", [2, 50])
def test_what_is_not_finite_shows(dtype, n):
    for value in (math.nan, math.inf, -math.inf):
        x = np.ones(n, dtype)
        x[n // 2] = value
        total, largest = kernels.sum_squares(x)
        assert close(total, abs(value), 0)
        assert close(kernels.safe_norm(x), abs(value), 0)
        assert largest == (1 if math.isnan(value) else math.inf)
        assert kernels.count_flat(x, 2) == n - 1


def test_long_sums_keep_their_digits(dtype):
    x = np.full(2_000_003, 0.1, dtype)
    exact = len(x) * float(x[0]) ** 2
    assert close(kernels.sum_squares(x)[0], exact, 1e-12)
    assert close(kernels.dot(x, x), exact, 1e-12)


# --- the fold -----------------------------------------------------------------------------------------


@full_and_light
def test_fold(rng, dtype, full):
    tolerance = 1e-12 if dtype == "f8" or full else 1e-6
    for rows, columns in shapes(dtype):
        x = (rng.standard_normal((rows, columns)) + rng.standard_normal(columns)).astype(dtype)
        x[rng.random(x.shape) < 0.2] = 0
        got, want = kernels.fold(x, full=full), reference.fold(x)
        assert [got[f] for f in COUNTS] == [want[f] for f in COUNTS]
        assert close(got["norm"], want["norm"], tolerance)
        assert close(got["signal"], want["signal"], tolerance)
        assert math.isnan(got["signal"]) == (rows == 1)


@full_and_light
def test_fold_without_signal(rng, dtype, full):
    x = rng.standard_normal((40, 21)).astype(dtype)
    got, want = kernels.fold(x, full=full, signal=False), kernels.fold(x, full=full)
    assert math.isnan(got["signal"])
    assert close(got["norm"], want["norm"], 1e-12)
    assert [got[f] for f in COUNTS] == [want[f] for f in COUNTS]


@full_and_light
@pytest.mark.parametrize(("dtype", "scale"), SCALES)
def test_fold_of_any_size(rng, dtype, scale, full):
    x = (scale * rng.uniform(-1, 1, (37, 21))).astype(dtype)
    got, want = kernels.fold(x, full=full), reference.fold(x)
    assert [got[f] for f in COUNTS] == [want[f] for f in COUNTS]
    assert close(got["norm"], want["norm"], 1e-6)
    assert close(got["signal"], want["signal"], 1e-6)


@full_and_light
@pytest.mark.parametrize("offset", [1.0, 1000.0, -3e-5])
def test_signal_beside_a_large_scale(rng, dtype, offset, full):
    # a handful of neighbouring numbers: the signal is a few units in the last place of the scale
    steps = rng.integers(0, 8, (60, 19))
    unit = float(abs(np.spacing(dtype.type(offset))))
    x = (offset + unit * steps).astype(dtype)
    want = unit * math.sqrt(np.mean((steps - steps.mean(axis=0)) ** 2))
    assert close(kernels.fold(x, full=full)["signal"], want, 1e-5)


@full_and_light
@pytest.mark.parametrize("value", [0.0, 0.1, -1e30])
def test_equal_rows_have_no_signal(dtype, value, full):
    x = np.full((50, 20), value, dtype) * np.arange(1, 21, dtype=dtype)
    assert kernels.fold(x, full=full)["signal"] == 0
    assert close(kernels.fold(x, full=full)["norm"], reference.fold(x)["norm"], 1e-6)


@full_and_light
def test_outlier_in_the_first_row(rng, dtype, full):
    # row 0 is what the others are compared with
    x = rng.standard_normal((200, 20)).astype(dtype)
    x[0] *= 1e6
    assert close(kernels.fold(x, full=full)["signal"], reference.fold(x)["signal"], 1e-4)


@full_and_light
def test_panels_of_different_size(rng, dtype, full):
    tile = kernels.tile_width(dtype)
    x = rng.standard_normal((20, 3 * tile)).astype(dtype)
    x[:, :tile] *= np.finfo(dtype).smallest_normal
    x[:, 2 * tile :] *= 0
    got, want = kernels.fold(x, full=full), reference.fold(x)
    assert close(got["norm"], want["norm"], 1e-6)
    assert close(got["signal"], want["signal"], 1e-6)
    assert [got[f] for f in COUNTS] == [want[f] for f in COUNTS]


@full_and_light
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_fold_counts_what_is_not_finite(rng, dtype, value, full):
    for rows, columns in shapes(dtype):
        x = rng.standard_normal((rows, columns)).astype(dtype)
        x[rows // 2, columns - 1] = value
        x[0, 0] = np.finfo(dtype).smallest_subnormal if x.size > 1 else value
        got, want = kernels.fold(x, full=full), reference.fold(x)
        assert [got[f] for f in COUNTS] == [want[f] for f in COUNTS]
        assert close(got["norm"], abs(value), 0)
        assert not math.isfinite(got["signal"])


@full_and_light
def test_fold_of_hard_arrays(hard, full):
    x = np.ascontiguousarray(hard)
    if not x.size:
        return
    got, want = kernels.fold(x, full=full), reference.fold(x)
    assert_array_equal([got[f] for f in COUNTS], [want[f] for f in COUNTS])
    assert close(got["norm"], want["norm"], 1e-6)
