"""Softmax along an axis, for any finite input and for infinities."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from gradcore import kernels
from gradcore.arrays import (
    Array,
    as_kernel_array,
    as_real,
    check_out,
    deliver,
    kernel_dtype,
    kernel_out,
    result_dtype,
)
from gradcore.errors import check_integer


def softmax(x: ArrayLike, axis: int = -1, *, out: Array | None = None) -> Any:
    """Exponentials along `axis` divided by their sum: ``exp(x - max) / sum(exp(x - max))``.

    Equal finite entries give 1/n whatever their value; -inf gets 0; +inf entries share the probability; NaN,
    or -inf alone, along the axis gives NaN there only.  (SciPy's default axis is the whole array; here it is
    the last one.)

    Parameters
    ----------
    x : array_like of real numbers, at least 1-D
        float32 and float64 are computed as they are, float16 in float32, integers and bool in float64.
    axis : int
        The axis along which the results add up to 1.
    out : ndarray, optional
        Where the result goes; may be `x` itself.

    Returns
    -------
    ndarray
        Of the shape of `x`.

    Raises
    ------
    TypeError
        `x` is not real, or `out` has another dtype.
    ValueError
        `axis` does not exist (numpy.exceptions.AxisError), or `out` has another shape, is read-only or partly
        overlaps `x`.  Nothing is written then.

    Examples
    --------
    >>> softmax([1000.0, 1000.0, -np.inf, 1000.0, 1000.0])
    array([0.25, 0.25, 0.  , 0.25, 0.25])
    """
    source = as_real(x)
    axis = check_integer("axis", axis, minimum=None)
    if not -source.ndim <= axis < source.ndim:
        raise np.exceptions.AxisError(axis, source.ndim)
    dtype = result_dtype(source)
    if out is not None:
        check_out(out, source.shape, dtype, source)
    rows = as_kernel_array(np.moveaxis(source, axis, -1), kernel_dtype(dtype))
    target = None if out is None else np.moveaxis(out, axis, -1)
    y = kernel_out(target, rows.shape, rows.dtype)
    if y.size:
        kernels.softmax(rows.reshape(-1, rows.shape[-1]), y.reshape(-1, rows.shape[-1]))
    result = deliver(y, target, dtype)
    return np.moveaxis(result, -1, axis) if out is None else out
