import math

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp

from gradcore.array_statistics import Statistics, statistics

every_dtype = pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@given(data=st.data())
def test_against_numpy(dtype, data):
    shape = data.draw(hnp.array_shapes(max_dims=3, max_side=20))
    x = data.draw(hnp.arrays(dtype, shape, elements=st.floats(-1e6, 1e6, width=32)))
    s = statistics(x)
    wide = x.astype("f8")
    assert s.size == x.size
    assert s.mean == pytest.approx(wide.mean(), rel=1e-12, abs=1e-12 * s.rms)
    assert s.std == pytest.approx(wide.std(), rel=1e-9, abs=1e-12 * s.rms)
    assert s.rms == pytest.approx(math.sqrt(np.mean(wide**2)), rel=1e-12, abs=1e-150)
    assert s.norm == pytest.approx(np.linalg.norm(wide), rel=1e-12, abs=1e-150)
    size = np.abs(wide)
    assert s.max_abs == size.max()
    assert s.min_abs == (size[size > 0].min() if size.any() else 0)
    assert s.zeros == (x == 0).sum()
    assert s.subnormals == ((x != 0) & (np.abs(x) < np.finfo(dtype).smallest_normal)).sum()
    assert (s.infs, s.nans) == (0, 0)


@every_dtype
def test_counts_of_what_is_not_ordinary(dtype):
    tiny = np.finfo(dtype).smallest_subnormal
    s = statistics(np.array([0, -0.0, tiny, -3 * tiny, np.inf, -np.inf, np.nan, 2, -5], dtype))
    assert (s.size, s.zeros, s.subnormals, s.infs, s.nans) == (9, 2, 2, 2, 1)
    assert s.max_abs == math.inf
    assert s.min_abs == float(tiny)
    assert math.isnan(s.mean)


def test_infinity_without_nan():
    s = statistics([1.0, math.inf])
    assert (s.mean, s.norm, s.rms, s.infs) == (math.inf, math.inf, math.inf, 1)


@pytest.mark.parametrize(
    ("dtype", "value"), [("f4", 1e38), ("f4", 1e-45), ("f8", 1e300), ("f8", 5e-324), ("f8", 1e-200)]
)
def test_extremes_neither_overflow_nor_vanish(dtype, value):
    x = np.array([value, -value, value, value], dtype)
    size = float(x[0])
    s = statistics(x)
    assert s.mean == pytest.approx(size / 2, abs=5e-324)
    assert s.std == pytest.approx(size * math.sqrt(0.75), abs=5e-324)
    assert s.rms == pytest.approx(size)
    assert s.norm == pytest.approx(2 * size)


def test_the_rms_is_right_where_the_norm_is_not_representable():
    assert statistics(np.full(4, 1.5e308)).rms == pytest.approx(1.5e308)


def test_a_small_spread_around_a_large_mean_survives():
    x = np.float32(1e4) + np.tile(np.float32([-1, 1]), 100_000)
    s = statistics(x)
    assert s.mean == pytest.approx(1e4, rel=1e-12)
    assert s.std == pytest.approx(1, rel=1e-12)


def test_a_million_float32_ones():
    s = statistics(np.ones(1_000_000, "f4"))
    assert (s.mean, s.std, s.rms) == (1, 0, 1)
    assert s.norm == pytest.approx(1000, rel=1e-14)


def test_an_empty_array_has_nothing():
    s = statistics([])
    assert math.isnan(s.mean)
    assert math.isnan(s.std)
    assert (s.size, s.norm, s.max_abs, s.min_abs, s.zeros) == (0, 0, 0, 0, 0)


def test_integers_views_and_numbers():
    assert statistics([[1, 2], [3, 4]]).mean == 2.5
    assert statistics(7).size == 1
    x = np.arange(24.0).reshape(4, 6)
    assert statistics(x[::-2, ::3]) == statistics(x[::-2, ::3].copy())
    read_only = x.astype(">f4")
    read_only.flags.writeable = False
    assert statistics(read_only) == statistics(x.astype("f4"))
    assert isinstance(statistics(x), Statistics)


@pytest.mark.parametrize("x", [np.array([1j]), ["a"], np.ma.zeros(3), None])
def test_what_is_not_real_is_refused(x):
    with pytest.raises(TypeError):
        statistics(x)
