"""What an array holds, at a glance: size, spread, extremes, and values that are not ordinary numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from gradcore import kernels
from gradcore.arrays import Array, as_kernel_array, as_real, kernel_dtype, result_dtype

_BLOCK = 1 << 16


@dataclass(frozen=True)
class Statistics:
    """Statistics of all elements of one array.

    Attributes
    ----------
    size : int
    mean, std, rms : float
        NaN for an empty array; std divides by the size.
    norm : float
        Euclidean (Frobenius) norm.
    max_abs, min_abs : float
        Largest magnitude; smallest one that is not zero (0.0 where there is none).  NaN is left out.
    zeros, subnormals, infs, nans : int
        How many elements are zero, subnormal in the array's own dtype, infinite, NaN.
    """

    size: int
    mean: float
    std: float
    rms: float
    norm: float
    max_abs: float
    min_abs: float
    zeros: int
    subnormals: int
    infs: int
    nans: int


def statistics(x: ArrayLike) -> Statistics:
    """Measure an array.

    Sums are carried in float64, so float32 arrays of any length keep their accuracy and no square overflows.

    Parameters
    ----------
    x : array_like of real numbers
        Any shape and strides; float16 is measured as float32 (subnormals as float16), integers and bool as
        float64.

    Returns
    -------
    Statistics

    Raises
    ------
    TypeError
        `x` is not real, or a masked array.

    Examples
    --------
    >>> s = statistics(np.float32([3.0, 0.0, -4.0, 1e-40]))
    >>> s.norm, s.max_abs, s.zeros, s.subnormals
    (5.0, 4.0, 1, 1)
    """
    source = as_real(x)
    dtype = result_dtype(source)
    flat = as_kernel_array(source, kernel_dtype(dtype)).reshape(-1)
    n = flat.size
    if n == 0:
        return Statistics(0, math.nan, math.nan, math.nan, 0.0, 0.0, 0.0, 0, 0, 0, 0)
    fold = kernels.fold(flat.reshape(1, n))
    norm, max_abs = float(fold["norm"]), float(fold["max_abs"])
    subnormals = int(fold["subnormals"])
    if dtype == np.float16:
        subnormals = int(((flat != 0) & (np.abs(flat) < np.finfo(np.float16).smallest_normal)).sum())
    mean, std, rms = _moments(flat, max_abs)
    return Statistics(
        n, mean, std, rms, norm, max_abs, float(fold["min_abs"]),
        int(fold["zeros"]), subnormals, int(fold["infs"]), int(fold["nans"]),
    )  # fmt: skip


def _moments(flat: Array, max_abs: float) -> tuple[float, float, float]:
    # Two passes in float64, block by block.  Where squares would overflow or vanish, a power of two (which is
    # exact) first takes the values to where they do not.
    exponent = math.frexp(max_abs)[1] if math.isfinite(max_abs) else 0
    exponent = exponent if abs(exponent) > 400 else 0
    n = flat.size

    def average(power: int, center: float) -> float:
        sums = [
            np.sum((np.ldexp(flat[i : i + _BLOCK].astype(np.float64), -exponent) - center) ** power)
            for i in range(0, n, _BLOCK)
        ]
        return float(np.sum(sums)) / n

    with np.errstate(all="ignore"):
        mean = average(1, 0.0)
        moments = mean, math.sqrt(average(2, mean)), math.sqrt(average(2, 0.0))
        mean, std, rms = (float(np.ldexp(m, exponent)) for m in moments)
    return mean, std, rms
