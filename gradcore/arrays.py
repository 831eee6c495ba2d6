"""The one way from a user's array to a kernel and back.

Kernels take aligned, native, C-contiguous float32 or float64.  Users have any shape, strides, byte order,
alignment and dtype, may pass a read-only input, and may name where the result goes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]


def as_real(x: ArrayLike, name: str = "x") -> Array:
    """Return `x` as a plain array of floats, integers or bool, without conversion.

    Raises
    ------
    TypeError
        Any other dtype, or a masked array (whose mask would be lost).
    """
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError(
            f"{name} is a masked array, whose mask would be lost; use {name}.filled(value) or compress it"
        )
    array = np.asarray(x)
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        raise TypeError(
            f"{name} must hold real numbers (float16, float32, float64, integers, bool), not {array.dtype}"
        )
    return array


def result_dtype(*arrays: Array) -> np.dtype[Any]:
    """Return the dtype of the result: that of the widest float; float64 once integers or bool take part."""
    return np.result_type(*(a.dtype if a.dtype.kind == "f" else np.float64 for a in arrays)).newbyteorder("=")


def kernel_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype in which a result of `dtype` is computed: native, float16 in float32."""
    native = dtype.newbyteorder("=")
    return np.dtype(np.float32) if native == np.float16 else native


def as_kernel_array(array: Array, dtype: np.dtype[Any]) -> Array:
    """Return `array` itself where a kernel can read it, else a copy that it can read."""
    return np.require(array, dtype, ["C_CONTIGUOUS", "ALIGNED"])


def is_kernel_array(array: Array, dtype: np.dtype[Any]) -> bool:
    """Tell whether a kernel can read `array` as it is."""
    return array.dtype == dtype and array.flags.c_contiguous and array.flags.aligned


def same_memory(a: Array, b: Array) -> bool:
    """Tell whether two arrays are one: the same elements at the same places."""
    return memory_key(a) == memory_key(b)


def memory_key(array: Array) -> tuple[int, tuple[int, ...], tuple[int, ...], str]:
    """Return what identifies the elements of an array: start, shape, strides, dtype."""
    return array.__array_interface__["data"][0], array.shape, array.strides, array.dtype.str


def memory_bounds(array: Array) -> tuple[int, int]:
    """Return the addresses of an array's first byte and of the first one behind it."""
    reach = [stride * (n - 1) for stride, n in zip(array.strides, array.shape, strict=True)]
    start = array.__array_interface__["data"][0]
    return start + sum(r for r in reach if r < 0), start + sum(r for r in reach if r > 0) + array.itemsize


def overlaps(a: Array, b: Array) -> bool:
    """Tell whether two arrays share an element; where that takes long to find out, say yes."""
    try:
        return np.shares_memory(a, b, max_work=100_000)  # type: ignore[arg-type]
    except np.exceptions.TooHardError:
        return True


def overlaps_itself(array: Array) -> bool:
    """Tell whether two indices lead to one element, as in a broadcast array."""
    extent = array.itemsize
    for stride, n in sorted((abs(s), n) for s, n in zip(array.strides, array.shape, strict=True) if n > 1):
        if stride < extent:
            return array.size > 0
        extent += stride * (n - 1)
    return False


def check_out(out: Any, shape: tuple[int, ...], dtype: np.dtype[Any], *inputs: Array) -> Array:
    """Return `out` if a result of that shape and dtype may go there while `inputs` are still read.

    Raises
    ------
    TypeError
        Not an array, or of another dtype.
    ValueError
        Read-only, of another shape, or sharing some elements with an input (being that input is allowed) or
        with itself.
    """
    if not isinstance(out, np.ndarray) or isinstance(out, np.ma.MaskedArray):
        raise TypeError(f"out must be a NumPy array, got {type(out).__name__}")
    if out.dtype != dtype:
        raise TypeError(f"out has dtype {out.dtype}, this result needs {dtype}")
    if out.shape != shape:
        raise ValueError(f"out has shape {out.shape}, this result needs {shape}")
    if not out.flags.writeable:
        raise ValueError("out is read-only")
    if overlaps_itself(out):
        raise ValueError("out overlaps itself (a broadcast array?): several results would go to one place")
    if any(overlaps(out, a) and not same_memory(out, a) for a in inputs):
        raise ValueError("out partly overlaps an input: pass the input itself, or an array of its own")
    return out


def kernel_out(out: Array | None, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Return where a kernel may write its result: `out` itself if it can, else a new array."""
    if out is not None and is_kernel_array(out, dtype):
        return out
    return np.empty(shape, dtype)


def deliver(result: Array, out: Array | None, dtype: np.dtype[Any]) -> Any:
    """Hand a kernel's result to the user: into `out`, or in its final dtype (0-d as a scalar, like NumPy)."""
    with np.errstate(over="ignore", under="ignore"):
        if out is None:
            return result.astype(dtype, copy=False)[()]
        if result is not out:
            np.copyto(out, result, casting="same_kind")
        return out
