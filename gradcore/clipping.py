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
from gradcore.errors import GradcoreWarning, check_flag, check_non_negative, check_number, check_positive

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


def clip_grad_adaptive_(
    grads: Gradients,
    params: Gradients,
    clip_factor: float = 0.01,
    eps: float = 1e-3,
    error_if_nonfinite: bool = False,
) -> int:
    """Scale the gradient of each unit down, in place, where it is large beside the unit's weights.

    A unit is a row of a weight matrix (units, inputs), or of any array along its first axis; a vector, such as a
    bias, is one unit as a whole. ``g *= bound / ‖g‖`` where ``‖g‖ > bound = clip_factor max(‖w‖, eps)``: a step of
    rate lr then changes no unit by more than the share lr clip_factor. The norm afterwards is never above the bound, so
    clipping twice is clipping once.

    Source: Brock, De, Smith & Simonyan, "High-performance large-scale image recognition without normalization" (2021),
    who leave the output layer out: leave it out of both lists.

    Parameters
    ----------
    grads : ndarray, or iterable or mapping of ndarrays
        As for `clip_grad_norm_`. None is skipped; an array listed twice counts once.
    params : the same kind of thing
        The parameters, in the same order or under the same names, each of its gradient's shape; only read.
    clip_factor : float
        At least 0; infinity only checks. The paper uses 0.01 for batches of about 4096 rows, more for smaller ones.
    eps : float
        Greater than 0: parameters of zero can begin to learn.
    error_if_nonfinite : bool
        Raise ValueError when a gradient or a parameter is not finite. Otherwise that is a GradcoreWarning that names
        the array and the index, nothing is changed, and the result is 0.

    Returns
    -------
    int
        Number of units whose gradient was scaled down.

    Raises
    ------
    TypeError
        A gradient or a parameter is not an array of floats.
    ValueError
        A gradient is read-only or overlaps another one in part, gradients and parameters do not match, or an
        argument is out of range. All gradients are unchanged then.

    Examples
    --------
    >>> w = np.array([[3.0, 4.0], [0.6, 0.8]])
    >>> g = np.array([[0.0, 0.1], [0.0, 0.1]])
    >>> clip_grad_adaptive_(g, w, clip_factor=0.05)
    1
    >>> g.round(12)
    array([[0.  , 0.1 ],
           [0.  , 0.05]])
    """
    factor = check_non_negative("clip_factor", clip_factor, allow_inf=True)
    eps = check_positive("eps", eps)
    check_flag("error_if_nonfinite", error_if_nonfinite)
    if isinstance(grads, Iterable) and not isinstance(grads, np.ndarray | Mapping):
        grads = list(grads)
    gradients = _collect(grads, written=True)
    parameters = _parameters_of(gradients, grads, params)
    culprit = _first_nonfinite([*gradients, *parameters])
    if culprit is not None:
        if error_if_nonfinite:
            raise ValueError(f"{culprit}; no gradient was changed")
        warnings.warn(f"{culprit}; no gradient was changed", GradcoreWarning, stacklevel=2)
        return 0
    return sum(
        _scale_units(g.array, p.array, factor, eps) for g, p in zip(gradients, parameters, strict=True)
    )


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
    gradients: dict[Any, _Gradient] = {}
    for name, g in _named(grads, "gradient", "grads"):
        if g is None:
            continue
        _check_floats(name, g)
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


def _named(arrays: Any, what: str, argument: str) -> list[tuple[str, Any]]:
    if isinstance(arrays, np.ndarray):
        return [(f"the {what}", arrays)]
    if isinstance(arrays, Mapping):
        return [(f"{what} {key!r}", array) for key, array in arrays.items()]
    if isinstance(arrays, Iterable):
        return [(f"{what} {i}", array) for i, array in enumerate(arrays)]
    raise TypeError(f"{argument} must be an array or an iterable of arrays, got {type(arrays).__name__}")


def _check_floats(name: str, array: Any) -> None:
    if not isinstance(array, np.ndarray) or isinstance(array, np.ma.MaskedArray):
        raise TypeError(f"{name} must be a NumPy array, got {type(array).__name__}")
    if array.dtype.kind != "f" or array.dtype.itemsize > 8:
        raise TypeError(f"{name} must hold float16, float32 or float64, not {array.dtype}")


def _parameters_of(gradients: list[_Gradient], grads: Any, params: Any) -> list[_Gradient]:
    """List the parameter of each of the collected gradients, all of them checked."""
    for kind, name in ((np.ndarray, "array"), (Mapping, "mapping")):
        if isinstance(grads, kind) != isinstance(params, kind):
            raise TypeError(
                f"of grads and params one is a single {name} and the other is not: give two alike"
            )
    if isinstance(grads, Mapping):
        absent = [key for key, g in grads.items() if g is not None and key not in params]
        if absent:
            raise ValueError(f"params has nothing under {absent[0]!r}, as grads has; no gradient was changed")
        params = {key: params.get(key) for key in grads}
    named, listed = _named(params, "parameter", "params"), _named(grads, "gradient", "grads")
    if len(named) != len(listed):
        raise ValueError(f"{len(listed)} gradients but {len(named)} parameters; no gradient was changed")
    owner: dict[Any, _Gradient] = {}
    for (_, g), (name, parameter) in zip(listed, named, strict=True):
        if g is None:
            continue
        _check_floats(name, parameter)
        if parameter.shape != g.shape:
            raise ValueError(
                f"{name} has shape {parameter.shape}, its gradient {g.shape}; no gradient was changed"
            )
        owner.setdefault(memory_key(g), _Gradient(name, np.asarray(parameter)))
    return [owner[memory_key(g.array)] for g in gradients]


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
        # Neither the roundings of the factor and of each product nor that of the norm may lift it above the limit.
        shrink = 1 - 2.5 * float(info.eps)
        factor = limit / total * shrink if exponent == 0 else 0.0
        if factor >= info.smallest_normal and is_kernel_array(array, kernel_dtype(array.dtype)):
            kernels.scale_by(array, factor)
        else:
            with np.errstate(under="ignore"):
                unit = np.ldexp(array.astype(np.float64), 1 - power - exponent)
                np.copyto(array, unit * (limit / (2 * mantissa) * shrink), casting="same_kind")


def _units(array: Array) -> tuple[NDArray[np.float64], NDArray[np.int32], NDArray[np.float64]]:
    """Divide each unit by a power of two to magnitudes up to 1: those rows, the powers, the rows' norms."""
    rows = array.shape[0] if array.ndim > 1 else 1
    matrix = array.astype(np.float64).reshape(rows, -1)
    power = np.frexp(np.abs(matrix).max(axis=1, initial=0.0))[1]
    unit = np.ldexp(matrix, -power[:, None])
    return unit, power, np.sqrt(np.sum(unit * unit, axis=1))


def _scale_units(gradient: Array, parameter: Array, factor: float, eps: float) -> int:
    """Clip adaptively; return the number of units that were above their bound."""
    if gradient.size == 0:
        return 0
    with np.errstate(all="ignore"):
        _, power, size = _units(parameter)
        bound = np.maximum(np.ldexp(factor * size, power), factor * eps)
        unit, power, size = _units(gradient)
        ratio = bound / size  # of a gradient divided by 2**power, which never overflows
        above = np.ldexp(ratio, -power) < 1
        # Neither the roundings of a product nor that of the norm may lift the result above the bound.
        ratio *= 1 - 4 * float(np.finfo(gradient.dtype).eps)
        clipped = (unit * ratio[:, None]).reshape(gradient.shape)
        where = above.reshape(-1, *[1] * (gradient.ndim - 1)) if gradient.ndim > 1 else above.all()
        np.copyto(gradient, clipped, where=where, casting="same_kind")
    return int(above.sum())
