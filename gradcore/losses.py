"""Losses, from raw outputs (logits), with their gradients, and the rule that chooses one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradcore import kernels
from gradcore.arrays import Array, as_kernel_array, as_real, deliver, kernel_dtype, result_dtype
from gradcore.errors import unknown_name
from gradcore.spec import parse_spec

Reduction = Literal["mean", "sum", "none"]


@dataclass(frozen=True)
class LossInfo:
    """What gradcore knows about one loss: its kernel and whether its targets are class labels."""

    name: str
    kernel_name: str
    classification: bool
    aliases: tuple[str, ...] = ()


REGISTRY: dict[str, LossInfo] = {
    info.name: info
    for info in (
        LossInfo("cross_entropy", "cross_entropy", True),
        LossInfo("binary_cross_entropy", "binary_cross_entropy", True, aliases=("bce",)),
        LossInfo("mse", "mean_squared_error", False, aliases=("mean_squared_error",)),
    )
}

_BY_NAME = {name: info for info in REGISTRY.values() for name in (info.name, *info.aliases)}


@dataclass(frozen=True)
class Loss:
    """A chosen loss.

    Attributes
    ----------
    info : LossInfo
    reduction : "mean" or "sum"
        Over the rows (cross_entropy) or over all elements (the others), as in PyTorch.
    """

    info: LossInfo
    reduction: Literal["mean", "sum"] = "mean"

    @property
    def name(self) -> str:
        """The public name."""
        return self.info.name

    @property
    def code(self) -> int:
        """The number by which the kernels know it."""
        return kernels.LOSS_CODES[self.info.kernel_name]

    @property
    def classification(self) -> bool:
        """Whether its targets are class labels."""
        return self.info.classification

    def __str__(self) -> str:
        return self.name if self.reduction == "mean" else f"{self.name}(reduction={self.reduction!r})"


def resolve(spec: str | Loss, y: ArrayLike | None = None, columns_out: int | None = None) -> Loss:
    """Find a loss by name or spec; ``"auto"`` chooses by the labels.

    Parameters
    ----------
    spec : str or Loss
        ``"cross_entropy"``, ``"binary_cross_entropy"``, ``"mse"``, ``"mse(reduction='sum')"`` or ``"auto"``:
        integer, bool and string labels mean cross_entropy (binary_cross_entropy for a network of one output),
        floats mean mse.
    y : array_like, optional
        The targets; only ``"auto"`` looks at them.
    columns_out : int, optional
        The network's number of outputs; only ``"auto"`` looks at it.

    Raises
    ------
    TypeError
        Neither a name nor a loss.
    ValueError
        Unknown name (the nearest known ones are named) or argument.

    Examples
    --------
    >>> str(resolve("auto", [0, 1, 2], 3)), str(resolve("auto", [0.5, 1.5], 1))
    ('cross_entropy', 'mse')
    """
    if isinstance(spec, Loss):
        return spec
    parsed = parse_spec(spec, f"the name of a loss ({', '.join(('auto', *REGISTRY))})")
    name = _choose(y, columns_out) if parsed.name == "auto" else parsed.name
    info = _BY_NAME.get(name)
    if info is None:
        raise unknown_name("loss", name, ("auto", *REGISTRY))
    bound = parsed.bind(_arguments)
    bound.apply_defaults()
    reduction = bound.arguments["reduction"]
    if reduction not in ("mean", "sum"):
        raise ValueError(f"{parsed}: reduction must be 'mean' or 'sum', got {reduction!r}")
    return Loss(info, reduction)


def _arguments(reduction: str = "mean") -> None:
    """Stand for the arguments that a loss takes in a spec."""


def _choose(y: ArrayLike | None, columns_out: int | None) -> str:
    if y is None:
        raise ValueError("loss='auto' chooses by the targets, and there are none; name a loss")
    labels = np.asarray(y)
    kind = labels.dtype.kind
    if kind == "O" and labels.size and all(isinstance(label, str) for label in labels.flat):
        kind = "U"
    if kind in "biuUST":
        return "binary_cross_entropy" if columns_out == 1 else "cross_entropy"
    if kind == "f":
        return "mse"
    raise TypeError(f"targets must be integers, bool, strings or floats, not {labels.dtype}")


def cross_entropy(
    logits: ArrayLike, targets: ArrayLike, *, reduction: Reduction = "mean", return_grad: bool = False
) -> Any:
    """Minus the log of the softmax probability of the right class, from logits.

    ``log(sum(exp(z - max))) + max - z[target]``: no probability is ever formed, so none is ever zero.

    Parameters
    ----------
    logits : array_like of real numbers, shape (rows, classes)
        Raw outputs; -inf is a class of probability zero.
    targets : array_like of integers or bool, shape (rows,) or (rows, 1)
        Class indices in [0, classes).
    reduction : "mean", "sum" or "none"
        Over the rows; the mean over no rows is 0.0.
    return_grad : bool
        Return also the gradient with respect to the logits.

    Returns
    -------
    loss : float, or ndarray of float64, shape (rows,), for ``reduction="none"``
    grad : ndarray of the shape and dtype of the logits
        Only with `return_grad`; for ``reduction="none"`` that of the sum.

    Raises
    ------
    TypeError
        `logits` is not real.
    ValueError
        The shapes do not fit, or a target is not one of the classes; its row is named.

    Examples
    --------
    >>> cross_entropy([[0.0, 1e4]], [0])
    10000.0
    """
    z = as_real(logits, "logits")
    if z.ndim != 2 or z.shape[1] == 0:
        raise ValueError(f"logits must have shape (rows, classes), got {z.shape}")
    labels = check_labels(targets, *z.shape)
    _check_reduction(reduction)
    dtype = result_dtype(z)
    z = as_kernel_array(z, kernel_dtype(dtype))
    losses, grad = np.zeros(len(z)), np.empty_like(z) if return_grad else None
    if z.size:
        kernels.cross_entropy(z, labels, losses, grad, 1 / len(z) if reduction == "mean" else 1.0)
    loss = _reduced(losses, len(z), reduction)
    return loss if grad is None else (loss, deliver(grad, None, dtype))


def binary_cross_entropy(
    logits: ArrayLike, targets: ArrayLike, *, reduction: Reduction = "mean", return_grad: bool = False
) -> Any:
    """Cross-entropy of yes or no, from logits: ``max(z, 0) - z t + log(1 + exp(-abs(z)))``.

    Parameters
    ----------
    logits : array_like of real numbers
        Raw outputs, of any shape.
    targets : array_like of real numbers or bool
        Of the same shape ((n,) and (n, 1) fit each other), in [0, 1].
    reduction : "mean", "sum" or "none"
        Over all elements; the mean over none is 0.0.
    return_grad : bool
        Return also the gradient with respect to the logits.

    Returns
    -------
    loss : float, or ndarray of float64 of the shape of the logits for ``reduction="none"``
    grad : ndarray of the shape and dtype of the logits
        Only with `return_grad`; for ``reduction="none"`` that of the sum.

    Raises
    ------
    TypeError
        An argument is not real.
    ValueError
        The shapes do not fit, or a target is outside [0, 1] or NaN; its place is named.

    Examples
    --------
    >>> binary_cross_entropy([-1e4, 1e4], [1, 1], reduction="none")
    array([10000.,     0.])
    """
    z, t = as_real(logits, "logits"), as_real(targets, "targets")
    outside = ~((t >= 0) & (t <= 1))
    if outside.any():
        where = _first(outside)
        raise ValueError(f"targets{list(where)} is {t[where]}; binary_cross_entropy needs targets in [0, 1]")
    return _elementwise(kernels.binary_cross_entropy, "logits", z, t, reduction, return_grad)


def mse(
    outputs: ArrayLike, targets: ArrayLike, *, reduction: Reduction = "mean", return_grad: bool = False
) -> Any:
    """Mean squared error, ``(output - target)²``.

    Parameters
    ----------
    outputs : array_like of real numbers
        Of any shape.
    targets : array_like of real numbers or bool
        Of the same shape ((n,) and (n, 1) fit each other).
    reduction : "mean", "sum" or "none"
        Over all elements, as in PyTorch; the mean over none is 0.0.
    return_grad : bool
        Return also the gradient with respect to the outputs.

    Returns
    -------
    loss : float, or ndarray of float64 of the shape of the outputs for ``reduction="none"``
    grad : ndarray of the shape and dtype of the outputs
        Only with `return_grad`; for ``reduction="none"`` that of the sum.

    Raises
    ------
    TypeError
        An argument is not real.
    ValueError
        The shapes do not fit.

    Examples
    --------
    >>> mse([[1.0, 2.0]], [[1.0, 4.0]], return_grad=True)
    (2.0, array([[ 0., -2.]]))
    """
    z, t = as_real(outputs, "outputs"), as_real(targets, "targets")
    return _elementwise(kernels.squared_error, "outputs", z, t, reduction, return_grad)


def check_labels(targets: ArrayLike, rows: int, classes: int) -> NDArray[np.int64]:
    """Return class indices as int64, shape (rows,), or say which row is wrong.

    Raises
    ------
    ValueError
        Not integers, not one per row, or outside [0, classes).
    """
    labels = np.asarray(targets)
    if labels.size == 0 and labels.ndim <= 2:
        labels = labels.astype(np.int64)  # NumPy makes an empty list float64
    if labels.dtype.kind not in "biu":
        raise ValueError(f"targets must be class indices (integers), not {labels.dtype}")
    if labels.shape not in ((rows,), (rows, 1)):
        raise ValueError(f"targets must have shape ({rows},), one for each row, got {labels.shape}")
    labels = labels.reshape(-1)
    outside = (labels < 0) | (labels >= classes)
    if outside.any():
        row = int(outside.argmax())
        raise ValueError(
            f"targets[{row}] is {labels[row]}; {classes} columns of logits mean classes 0 to {classes - 1}"
        )
    return np.ascontiguousarray(labels, np.int64)


def _check_reduction(reduction: str) -> None:
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"reduction must be 'mean', 'sum' or 'none', got {reduction!r}")


def _first(mask: NDArray[np.bool_]) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(int(mask.argmax()), mask.shape))


def _elementwise(
    kernel: Callable[..., Any], name: str, z: Array, t: Array, reduction: Reduction, return_grad: bool
) -> Any:
    if z.shape != t.shape and {z.shape, t.shape} != {(z.size,), (z.size, 1)}:
        raise ValueError(f"{name} have shape {z.shape}, targets {t.shape}; they must agree")
    _check_reduction(reduction)
    dtype = result_dtype(z)
    computed = kernel_dtype(result_dtype(z, t) if t.dtype.kind == "f" else dtype)
    shape = z.shape
    columns = 1 if reduction == "none" or z.size == 0 or z.ndim < 2 else z.size // len(z)
    z, t = (as_kernel_array(a, computed).reshape(-1, columns) for a in (z, t))
    losses, grad = np.zeros(len(z)), np.empty_like(z) if return_grad else None
    if z.size:
        kernel(z, t, losses, grad, 1 / z.size if reduction == "mean" else 1.0)  # sums over the columns
    loss = losses.reshape(shape)[()] if reduction == "none" else _reduced(losses, z.size, reduction)
    return loss if grad is None else (loss, deliver(grad.reshape(shape), None, dtype))


def _reduced(losses: NDArray[np.float64], count: int, reduction: Reduction) -> Any:
    if reduction == "none":
        return losses
    return float(losses.sum()) / (max(count, 1) if reduction == "mean" else 1)
