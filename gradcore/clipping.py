"""Gradient norms and clipping, in place, for arrays of any layout; nothing is written unless all is well.

The norm is carried in float64 and scaled where squares would overflow or vanish, so it is right while it is
representable.  A gradient that is not finite is never scaled: that would turn it, or all the others, into NaN
or zeros and hide where it came from.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradcore import kernels
from gradcore.arrays import (
    Array,
    as_kernel_array,
    is_kernel_array,
    kernel_dtype,
    memory_bounds,
    memory_key,
    overlaps,
    overlaps_itself,
)
from gradcore.errors import GradcoreWarning, check_flag, check_non_negative, check_number

Gradients = Array | Iterable[Array | None] | Mapping[str, Array | None]


def clip_grad_norm_(
    grads: Gradients, max_norm: float, norm_type: float | str = 2.0, error_if_nonfinite: bool = False
) -> float:
    """Scale gradients down, together and in place, so that their joint norm is at most `max_norm`.

    Source: Pascanu, Mikolov & Bengio, "On the difficulty of training recurrent neural networks" (2013), with
    PyTorch's names.  The norm afterwards is never above the limit, so clipping twice is clipping once.

    Parameters
    ----------
    grads : ndarray, or iterable or mapping of ndarrays
        float16, float32 or float64 arrays of any shape and layout, changed in place.  None is skipped; an
        array listed twice counts once.
    max_norm : float
        At least 0; infinity only measures.
    norm_type : float or "inf"
        The p of the p-norm, greater than 0.
    error_if_nonfinite : bool
        Raise ValueError when a gradient is not finite.  Otherwise that is a GradcoreWarning that names the
        array and the index, and nothing is changed.

    Returns
    -------
    float
        The norm before clipping (inf or NaN when a gradient is not finite; 0.0, with a warning, for no
        gradient).

    Raises
    ------
    TypeError
        A gradient is not an array of floats.
    ValueError
        A gradient is read-only or overlaps another one in part, or an argument is out of range.  All
        gradients are unchanged then.

    Examples
    --------
    >>> g = np.array([3.0, 4.0])
    >>> clip_grad_norm_(g, 1.0)
    5.0
    >>> g.round(12)
    array([0.6, 0.8])
    """
    limit = check_non_negative("max_norm", max_norm, allow_inf=True)
    p = _check_norm_type(norm_type)
    check_flag("error_if_nonfinite", error_if_nonfinite)
    arrays = _collect(grads, written=True)
    total = _norm(arrays, p)
    if not math.isfinite(total):
        culprit = _first_nonfinite(arrays)
        if culprit is not None:
            if error_if_nonfinite:
                raise ValueError(f"{culprit}; no gradient was changed")
            warnings.warn(f"{culprit}; no gradient was changed", GradcoreWarning, stacklevel=2)
            return total
    if total > limit:
        if math.isfinite(total):
            _scale(arrays, limit, total)
        else:  # too large for a float64; that of the gradients divided by a power of two is not
            _scale(arrays, limit, _norm(arrays, p, 600), 600)
    return total


def clip_grad_value_(grads: Gradients, clip_value: float) -> None:
    """Limit every element of the gradients to [-clip_value, clip_value], in place.

    NaN stays NaN; infinities go to the limits.

    Parameters
    ----------
    grads : ndarray, or iterable or mapping of ndarrays
        As for `clip_grad_norm_`.
    clip_value : float
        At least 0; infinity changes nothing.

    Raises
    ------
    TypeError, ValueError
        As for `clip_grad_norm_`.

    Examples
    --------
    >>> g = np.array([-3.0, 0.5, np.inf])
    >>> clip_grad_value_(g, 1.0)
    >>> g
    array([-1. ,  0.5,  1. ])
    """
    limit = check_non_negative("clip_value", clip_value, allow_inf=True)
    for array in (g.array for g in _collect(grads, written=True)):
        if limit == math.inf:
            continue
        bound = min(limit, float(np.finfo(array.dtype).max))
        if is_kernel_array(array, kernel_dtype(array.dtype)):
            kernels.clip_by_value(array, bound)
        else:
            np.clip(array, -bound, bound, out=array)


def grad_norm(grads: Gradients, norm_type: float | str = 2.0) -> float:
    """Return the joint norm of gradients: what `clip_grad_norm_` compares with its limit.

    Parameters
    ----------
    grads : ndarray, or iterable or mapping of ndarrays
        float16, float32 or float64, of any shape and layout, read-only or not.  None is skipped; an array
        listed twice counts once.
    norm_type : float or "inf"
        The p of the p-norm, greater than 0.

    Returns
    -------
    float
        0.0, with a warning, for no gradient.

    Raises
    ------
    TypeError, ValueError
        As for `clip_grad_norm_`.

    Examples
    --------
    >>> round(grad_norm(np.float32([3e20, 4e20])) / 1e20, 6)
    5.0
    """
    return _norm(_collect(grads, written=False), _check_norm_type(norm_type))


@dataclass(frozen=True)
class _Gradient:
    name: str
    array: Array


def _check_norm_type(norm_type: float | str) -> float:
    p = math.inf if norm_type == "inf" else check_number("norm_type", norm_type)  # type: ignore[arg-type]
    if p <= 0:
        raise ValueError(f"norm_type must be greater than 0, got {p}")
    return p


def _collect(grads: Gradients, *, written: bool) -> list[_Gradient]:
    """List the gradients, once each, having checked that every one can be measured (and written)."""
    if isinstance(grads, np.ndarray):
        named: list[tuple[str, Any]] = [("the gradient", grads)]
    elif isinstance(grads, Mapping):
        named = [(f"gradient {key!r}", g) for key, g in grads.items()]
    elif isinstance(grads, Iterable):
        named = [(f"gradient {i}", g) for i, g in enumerate(grads)]
    else:
        raise TypeError(f"grads must be an array or an iterable of arrays, got {type(grads).__name__}")

    gradients: dict[Any, _Gradient] = {}
    for name, g in named:
        if g is None:
            continue
        if not isinstance(g, np.ndarray) or isinstance(g, np.ma.MaskedArray):
            raise TypeError(f"{name} must be a NumPy array, got {type(g).__name__}")
        if g.dtype.kind != "f" or g.dtype.itemsize > 8:
            raise TypeError(f"{name} must hold float16, float32 or float64, not {g.dtype}")
        if written and not g.flags.writeable:
            raise ValueError(f"{name} is read-only; no gradient was changed")
        if written and overlaps_itself(g):
            raise ValueError(f"{name} overlaps itself (a broadcast array?); no gradient was changed")
        gradients.setdefault(memory_key(g), _Gradient(name, np.asarray(g)))
    if not gradients:
        warnings.warn("there is no gradient to measure", GradcoreWarning, stacklevel=3)

    if written:
        _check_apart([g for g in gradients.values() if g.array.size])
    return list(gradients.values())


def _check_apart(gradients: list[_Gradient]) -> None:
    # In order of address, an array can only overlap those that begin before it ends.
    bounded = sorted(((memory_bounds(g.array), g) for g in gradients), key=lambda pair: pair[0])
    for i, ((_, end), g) in enumerate(bounded):
        for (start, _), other in bounded[i + 1 :]:
            if start >= end:
                break
            if overlaps(g.array, other.array):
                raise ValueError(f"{g.name} and {other.name} are views that overlap; no gradient was changed")


def _norm(gradients: list[_Gradient], p: float, exponent: int = 0) -> float:
    """Return the joint p-norm of the gradients divided by ``2**exponent``."""
    return _p_norm(np.array([_array_norm(g.array, p, exponent) for g in gradients]), p)


def _array_norm(array: Array, p: float, exponent: int) -> float:
    x = as_kernel_array(array, kernel_dtype(array.dtype)).reshape(-1)
    if p == 2 and exponent == 0:
        return float(kernels.safe_norm(x))
    return _p_norm(np.ldexp(x.astype(np.float64), -exponent), p)


def _p_norm(x: NDArray[np.float64], p: float) -> float:
    size = np.abs(x)
    largest = float(size.max(initial=0.0))
    if p == math.inf or largest == 0 or not math.isfinite(largest) or x.size == 1:
        return largest
    with np.errstate(all="ignore"):
        return float(largest * np.sum((size / largest) ** p) ** (1 / p))


def _first_nonfinite(gradients: list[_Gradient]) -> str | None:
    for g in gradients:
        bad = ~np.isfinite(g.array)
        if bad.any():
            index = tuple(int(i) for i in np.unravel_index(int(bad.argmax()), bad.shape))
            return f"{g.name} is {g.array[index]} at index {index}"
    return None


def _scale(gradients: list[_Gradient], limit: float, total: float, exponent: int = 0) -> None:
    """Multiply the gradients by ``limit / (total 2**exponent)``, rounded down a little."""
    mantissa, power = math.frexp(total)
    for array in (g.array for g in gradients):
        info = np.finfo(array.dtype)
        # Neither the factor's rounding nor that of each product may lift the norm above the limit.
        shrink = 1 - 1.5 * float(info.eps)
        factor = limit / total * shrink if exponent == 0 else 0.0
        if factor >= info.smallest_normal and is_kernel_array(array, kernel_dtype(array.dtype)):
            kernels.scale_by(array, factor)
        else:
            with np.errstate(under="ignore"):
                unit = np.ldexp(array.astype(np.float64), 1 - power - exponent)
                np.copyto(array, unit * (limit / (2 * mantissa) * shrink), casting="same_kind")
