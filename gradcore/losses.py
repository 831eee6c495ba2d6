"""Losses, from raw outputs (logits), with their gradients, and the rule that chooses one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradcore import kernels
from gradcore.arrays import Array, as_kernel_array, as_real, deliver, kernel_dtype, result_dtype
from gradcore.errors import check_fraction, check_positive, unknown_name
from gradcore.spec import parse_spec

Reduction = Literal["mean", "sum", "none"]
ClassWeight = Mapping[Any, float] | ArrayLike | Literal["balanced"] | None

# How far the sum of a row of probabilities may be from 1: what rounding to float16 does to one.
SUM_TOLERANCE = 1e-3

# Smallest weight other than 0.
LEAST_WEIGHT = 1e-300


def check_quantile(name: str, value: Any) -> float:
    """Return `value` as a float strictly between 0 and 1.

    Examples
    --------
    >>> check_quantile("q", 0.9)
    0.9
    """
    number = check_fraction(name, value)
    if number == 0:
        raise ValueError(f"{name} must be between 0 and 1, got {number}")
    return number


@dataclass(frozen=True)
class LossInfo:
    """What gradcore knows about one loss.

    Attributes
    ----------
    name, kernel_name : str
        For users, and in the kernels.
    classification : bool
        Whether its targets are class labels.
    aliases : tuple of str
    parameter : str
        Name of the number that it takes; empty: none.
    default : float
        Of that number.
    check : callable
        From name and value of that number to a valid one.
    outputs : int
        Of a network, for each column of the targets.
    """

    name: str
    kernel_name: str
    classification: bool
    aliases: tuple[str, ...] = ()
    parameter: str = ""
    default: float = 0.0
    check: Callable[[str, Any], float] = check_positive
    outputs: int = 1

    @property
    def code(self) -> int:
        """The number by which the kernels know it."""
        return kernels.LOSS_CODES[self.kernel_name]


REGISTRY: dict[str, LossInfo] = {
    info.name: info
    for info in (
        LossInfo("cross_entropy", "cross_entropy", True, parameter="label_smoothing", check=check_fraction),
        LossInfo("binary_cross_entropy", "binary_cross_entropy", True, aliases=("bce",)),
        LossInfo("mse", "mean_squared_error", False, aliases=("mean_squared_error",)),
        LossInfo("mae", "mean_absolute_error", False, aliases=("mean_absolute_error",)),
        LossInfo("huber", "huber", False, parameter="delta", default=1.0),
        LossInfo("poisson", "poisson", False),
        LossInfo(
            "quantile", "quantile", False, aliases=("pinball",), parameter="q", default=0.5, check=check_quantile
        ),
        LossInfo("gaussian_nll", "gaussian_nll", False, outputs=2),
    )
}  # fmt: skip

_BY_NAME = {name: info for info in REGISTRY.values() for name in (info.name, *info.aliases)}


@dataclass(frozen=True)
class Loss:
    """A chosen loss.

    Attributes
    ----------
    info : LossInfo
    reduction : "mean" or "sum"
        Over the rows (cross_entropy) or over all elements (the others), as in PyTorch; with weights the mean is over
        the sum of the rows' weights, and 0 where that is 0.
    parameter : float
        The number that the loss takes: label_smoothing, delta, q; 0 where it takes none.
    """

    info: LossInfo
    reduction: Literal["mean", "sum"] = "mean"
    parameter: float = np.nan  # the default

    def __post_init__(self) -> None:
        if np.isnan(self.parameter):
            object.__setattr__(self, "parameter", self.info.default)

    @property
    def name(self) -> str:
        """The public name."""
        return self.info.name

    @property
    def code(self) -> int:
        """The number by which the kernels know it."""
        return self.info.code

    @property
    def classification(self) -> bool:
        """Whether its targets are class labels."""
        return self.info.classification

    @property
    def scalable(self) -> bool:
        """Whether its targets may be shifted and scaled: they are numbers, and no counts."""
        return not self.classification and self.name != "poisson"

    def terms(self, targets: Array) -> int:
        """Return how many terms of the mean a row of targets has: its columns, or one for cross_entropy."""
        return 1 if self.name == "cross_entropy" else int(targets.shape[1])

    def rows(self, outputs: Array, targets: Array, weights: Array | None = None) -> NDArray[np.float64]:
        """Return the loss of every row, summed over its columns, times its weight.

        Parameters
        ----------
        outputs : ndarray, shape (rows, outputs)
        targets : ndarray
            Encoded as for the kernels.
        weights : ndarray of float64, shape (rows,), optional
        """
        z = as_kernel_array(outputs, kernel_dtype(outputs.dtype))
        t = np.ascontiguousarray(targets)
        if self.name == "cross_entropy" and self.parameter:
            t = smoothed(targets, z.shape[1], self.parameter)
        if t.ndim == 2:
            t = as_kernel_array(t, z.dtype)
        losses = np.zeros(len(z))
        if z.size:
            kernels.row_losses(self.code, z, t, losses, None, 1.0, parameter=self.parameter, weights=weights)
        return losses

    def value(self, outputs: Array, targets: Array, weights: Array | None = None) -> float:
        """Return the loss of some rows; arguments as for `rows`."""
        total = float(self.rows(outputs, targets, weights).sum())
        if self.reduction == "sum":
            return total
        count = (len(outputs) if weights is None else float(weights.sum())) * self.terms(targets)
        return total / count if count else 0.0

    def __str__(self) -> str:
        given = []
        if self.parameter != self.info.default:
            given.append(f"{self.info.parameter}={self.parameter!r}")
        if self.reduction != "mean":
            given.append(f"reduction={self.reduction!r}")
        return f"{self.name}({', '.join(given)})" if given else self.name


def resolve(spec: str | Loss, y: ArrayLike | None = None, columns_out: int | None = None) -> Loss:
    """Find a loss by name or spec; ``"auto"`` chooses by the labels.

    Parameters
    ----------
    spec : str or Loss
        A name of `REGISTRY`, such as ``"mse"``, ``"huber(delta=2.0)"``, ``"cross_entropy(label_smoothing=0.1)"``,
        ``"mse(reduction='sum')"``, or ``"auto"``: integer, bool and string labels mean cross_entropy
        (binary_cross_entropy for a network of one output, and for a matrix of zeros and ones: several yes-or-no labels
        in each row), floats mse.
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
    bound = parsed.bind(_taker(info))
    bound.apply_defaults()
    reduction = bound.arguments["reduction"]
    if reduction not in ("mean", "sum"):
        raise ValueError(f"{parsed}: reduction must be 'mean' or 'sum', got {reduction!r}")
    if not info.parameter:
        return Loss(info, reduction)
    return Loss(info, reduction, info.check(info.parameter, bound.arguments[info.parameter]))


def mean_of(spec: str) -> str:
    """Return the spec of the same loss with the mean for a reduction.

    Examples
    --------
    >>> mean_of("huber(delta=2.0, reduction='sum')")
    'huber(delta=2.0)'
    """
    return str(replace(resolve(spec), reduction="mean"))


def _taker(info: LossInfo) -> Callable[..., Any]:
    """Return a stand-in with the arguments that a loss takes in a spec."""

    def taker() -> None: ...

    kind, given = inspect.Parameter.POSITIONAL_OR_KEYWORD, {"reduction": "mean"}
    defaults = ({info.parameter: info.default} if info.parameter else {}) | given
    parameters = [inspect.Parameter(name, kind, default=value) for name, value in defaults.items()]
    taker.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return taker


def _choose(y: ArrayLike | None, columns_out: int | None) -> str:
    if y is None:
        raise ValueError("loss='auto' chooses by the targets, and there are none; name a loss")
    labels = np.asarray(y)
    kind = labels.dtype.kind
    if kind == "O" and labels.size and all(isinstance(label, str) for label in labels.flat):
        kind = "U"
    if kind in "biuUST":
        several = columns_out != 1 and kind in "biu" and labels.ndim == 2 and labels.shape[1] > 1
        if columns_out == 1 or (several and np.isin(labels, (0, 1)).all()):
            return "binary_cross_entropy"
        return "cross_entropy"
    if kind == "f":
        return "mse"
    raise TypeError(f"targets must be integers, bool, strings or floats, not {labels.dtype}")


def cross_entropy(
    logits: ArrayLike,
    targets: ArrayLike,
    *,
    class_weight: ClassWeight = None,
    label_smoothing: float = 0.0,
    ignore_index: int | None = None,
    reduction: Reduction = "mean",
    return_grad: bool = False,
) -> Any:
    """Minus the log of the softmax probability of the right class, from logits.

    ``log(sum(exp(z - max))) + max - z[target]``: no probability is ever formed, so none is ever zero.

    Parameters
    ----------
    logits : array_like of real numbers, shape (rows, classes)
        Raw outputs; -inf is a class of probability zero.
    targets : array_like
        Class indices in [0, classes), integers or bool, shape (rows,) or (rows, 1); or the probabilities of all
        classes, shape (rows, classes): the loss is then the mean over the classes by these.
    class_weight : array_like of shape (classes,), mapping from class to weight, or "balanced"
        How often the rows of each class count (1 where a mapping says nothing); "balanced": all classes the same in
        total. The mean is over the sum of the weights, as in PyTorch. (With `label_smoothing` PyTorch weighs the
        smoothed share of each class by that class; here it is always the row that counts.)
    label_smoothing : float in [0, 1)
        Share of the target that all classes get in equal parts (Szegedy et al., CVPR 2016).
    ignore_index : int, optional
        Rows with this target are absent.
    reduction : "mean", "sum" or "none"
        Over the rows; the mean over no rows, or over weights of 0, is 0.0.
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
        The shapes do not fit, a target is not one of the classes, or probabilities do not sum to 1; the row is named.

    Examples
    --------
    >>> cross_entropy([[0.0, 1e4]], [0])
    10000.0
    >>> cross_entropy([[0.0, 0.0], [0.0, 9.0]], [[0.5, 0.5], [0.0, 1.0]], reduction="none").round(3)
    array([0.693, 0.   ])
    """
    z = as_real(logits, "logits")
    if z.ndim != 2 or z.shape[1] == 0:
        raise ValueError(f"logits must have shape (rows, classes), got {z.shape}")
    smoothing = check_fraction("label_smoothing", label_smoothing)
    dtype = result_dtype(z)
    given, weights = np.asarray(targets), None
    if given.shape == z.shape and z.shape[1] > 1:
        if class_weight is not None or ignore_index is not None:
            raise ValueError("class_weight and ignore_index need class indices as targets, not probabilities")
        t: Array = check_probabilities(as_real(given, "targets"), z.shape[1])
    else:
        absent = np.zeros(given.shape, bool) if ignore_index is None else given == ignore_index
        t = check_labels(np.where(absent, 0, given) if absent.any() else given, *z.shape)
        if class_weight is not None or ignore_index is not None:
            counted = 1.0 - absent.reshape(-1)
            weights = counted if class_weight is None else counted * weights_of_rows(
                class_weight, np.arange(z.shape[1]), t, counted
            )  # fmt: skip
    _check_reduction(reduction)
    computed = kernel_dtype(dtype)
    z = as_kernel_array(z, computed)
    if smoothing:
        t = smoothed(t, z.shape[1], smoothing)
    if t.ndim == 2:
        t = as_kernel_array(t, computed)
    total = len(z) if weights is None else float(weights.sum())
    return _by_row("cross_entropy", z, t, total, reduction, return_grad, dtype, weights=weights)


def smoothed(targets: Array, classes: int, label_smoothing: float) -> Array:
    """Return the probabilities that labels or rows of probabilities stand for after label smoothing.

    Examples
    --------
    >>> smoothed(np.array([1]), 2, 0.5)
    array([[0.25, 0.75]])
    """
    rest = label_smoothing / classes
    if targets.ndim == 2:
        return (1 - label_smoothing) * targets + rest
    result = np.full((len(targets), classes), rest)
    result[np.arange(len(targets)), targets] += 1 - label_smoothing
    return result


def weights_of_rows(
    class_weight: ClassWeight, classes: Array, codes: NDArray[np.int64], counted: Array | None = None
) -> NDArray[np.float64]:
    """Return how often each row counts by its label.

    Parameters
    ----------
    class_weight : mapping, array_like of one weight for each class, or "balanced"
        "balanced": ``n / (k n_c)`` with k classes present and n_c rows of class c.
    classes : ndarray
        The labels.
    codes : ndarray of int64
        Of each row the index of its label in `classes`.
    counted : ndarray, optional
        How often each row counts already: what "balanced" counts.

    Raises
    ------
    ValueError, TypeError
        Weights that are no finite numbers of at least 0, or not of these classes.

    Examples
    --------
    >>> weights_of_rows("balanced", np.array(["cat", "dog"]), np.array([0, 0, 0, 1])).round(2).tolist()
    [0.67, 0.67, 0.67, 2.0]
    """
    if isinstance(class_weight, str):
        if class_weight != "balanced":
            raise ValueError(f"class_weight must be 'balanced', a mapping or weights, got {class_weight!r}")
        sizes = np.bincount(codes, counted, minlength=len(classes)).astype(np.float64)
        present = sizes > 0
        share = sizes.sum() / max(1, np.count_nonzero(present))
        table = np.divide(share, sizes, out=np.zeros(len(classes)), where=present)
    elif isinstance(class_weight, Mapping):
        known = classes.tolist()
        for label in class_weight:
            if label not in known:
                raise ValueError(f"class_weight has {label!r}, which is not one of the labels {known[:8]}")
        table = check_weights("class_weight", [class_weight.get(label, 1.0) for label in known], len(known))
    else:
        table = check_weights("class_weight", class_weight, len(classes))
    weights: NDArray[np.float64] = table[codes]
    return weights


def check_weights(name: str, weights: Any, count: int) -> NDArray[np.float64]:
    """Return weights as float64, shape (count,).

    Raises
    ------
    TypeError
        Not numbers.
    ValueError
        Not one for each, negative, too small, not finite, or a sum that is not finite.

    Examples
    --------
    >>> check_weights("sample_weight", [1, 0, 2], 3)
    array([1., 0., 2.])
    """
    array = np.asarray(weights)
    if array.dtype.kind not in "buif":
        raise TypeError(f"{name} must hold numbers, got dtype {array.dtype}")
    if array.shape not in ((count,), (count, 1)):
        raise ValueError(f"{name} must have shape ({count},), got {array.shape}")
    values = np.ascontiguousarray(array.reshape(-1), np.float64)
    # the mean over weights divides by their sum
    wrong = ~((values == 0) | ((values >= LEAST_WEIGHT) & (values < np.inf)))
    if wrong.any():
        at = int(wrong.argmax())
        raise ValueError(
            f"{name}[{at}] is {values[at]}; weights must be 0 or finite and at least {LEAST_WEIGHT}"
        )
    with np.errstate(over="ignore"):
        if not np.isfinite(values.sum()):
            raise ValueError(f"{name}: the sum of the weights is not finite; scale them down")
    return values


def check_probabilities(rows: Array, classes: int) -> Array:
    """Return rows of probabilities, or say which row is none.

    Raises
    ------
    ValueError
        Not a column for each class, an entry outside [0, 1], or a row whose sum is not 1.

    Examples
    --------
    >>> check_probabilities(np.array([[0.25, 0.75]]), 2)
    array([[0.25, 0.75]])
    """
    if rows.ndim != 2 or rows.shape[1] != classes:
        raise ValueError(f"targets must have shape (rows, {classes}), got {rows.shape}")
    outside = ~((rows >= 0) & (rows <= 1))
    if outside.any():
        where = _first(outside)
        raise ValueError(f"targets{list(where)} is {rows[where]}; probabilities are from 0 to 1")
    sums = rows.sum(axis=1, dtype=np.float64)
    wrong = np.abs(sums - 1) > SUM_TOLERANCE
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(f"targets[{row}] sums to {sums[row]:.6g}; a row of probabilities sums to 1")
    return rows


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
    return _elementwise("binary_cross_entropy", "logits", z, t, reduction, return_grad)


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
    return _elementwise("mse", "outputs", z, t, reduction, return_grad)


def mae(
    outputs: ArrayLike,
    targets: ArrayLike,
    *,
    reduction: Reduction = "mean",
    return_grad: bool = False,
) -> Any:
    """Mean absolute error, ``abs(output - target)``.

    The gradient is 1 above the target, -1 below and 0 at it.

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
    >>> mae([[1.0, 2.0]], [[1.0, 4.0]], return_grad=True)
    (1.0, array([[ 0. , -0.5]]))
    """
    z, t = as_real(outputs, "outputs"), as_real(targets, "targets")
    return _elementwise("mae", "outputs", z, t, reduction, return_grad)


def huber(
    outputs: ArrayLike,
    targets: ArrayLike,
    *,
    delta: float = 1.0,
    reduction: Reduction = "mean",
    return_grad: bool = False,
) -> Any:
    """Huber's loss of the error e: ``e² / 2`` up to delta, ``delta (abs(e) - delta / 2)`` beyond (Huber 1964).

    Parameters
    ----------
    outputs : array_like of real numbers
        Of any shape.
    targets : array_like of real numbers or bool
        Of the same shape ((n,) and (n, 1) fit each other).
    delta : float
        Greater than 0; also the largest gradient of an element.
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
        The shapes do not fit, or delta is not a finite number greater than 0.

    Examples
    --------
    >>> huber([1.0, 5.0], [0.0, 0.0], reduction="none", return_grad=True)
    (array([0.5, 4.5]), array([1., 1.]))
    """
    delta = check_positive("delta", delta)
    z, t = as_real(outputs, "outputs"), as_real(targets, "targets")
    return _elementwise("huber", "outputs", z, t, reduction, return_grad, delta)


def poisson(
    outputs: ArrayLike,
    targets: ArrayLike,
    *,
    reduction: Reduction = "mean",
    return_grad: bool = False,
) -> Any:
    """Negative log-likelihood of counts, from the logarithms of their rates: ``exp(output) - target output``.

    The term that no output changes, ``log target!``, is left out (PyTorch: ``log_input=True, full=False``).

    Parameters
    ----------
    outputs : array_like of real numbers
        Of any shape: logarithms of rates.
    targets : array_like of real numbers or bool
        Of the same shape ((n,) and (n, 1) fit each other), finite and at least 0.
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
        The shapes do not fit, or a target is negative or not finite; its place is named.

    Examples
    --------
    >>> poisson([0.0, -1e4], [2.0, 0.0], reduction="none", return_grad=True)
    (array([1., 0.]), array([-1.,  0.]))
    """
    z, t = as_real(outputs, "outputs"), as_real(targets, "targets")
    outside = ~((t >= 0) & (t < np.inf))
    if outside.any():
        where = _first(outside)
        raise ValueError(f"targets{list(where)} is {t[where]}; poisson needs finite targets of at least 0")
    return _elementwise("poisson", "outputs", z, t, reduction, return_grad)


def quantile(
    outputs: ArrayLike,
    targets: ArrayLike,
    *,
    q: float = 0.5,
    reduction: Reduction = "mean",
    return_grad: bool = False,
) -> Any:
    """Pinball loss, least where the outputs are the q-quantile: ``max(q (t - o), (q - 1) (t - o))``.

    Koenker and Bassett (1978). The gradient is 1 - q above the target, -q below and 0 at it.

    Parameters
    ----------
    outputs : array_like of real numbers
        Of any shape.
    targets : array_like of real numbers or bool
        Of the same shape ((n,) and (n, 1) fit each other).
    q : float
        Between 0 and 1; 0.5 is the median.
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
        The shapes do not fit, or q is not between 0 and 1.

    Examples
    --------
    >>> quantile([0.0, 2.0], [1.0, 1.0], q=0.75, reduction="none", return_grad=True)
    (array([0.75, 0.25]), array([-0.75,  0.25]))
    """
    q = check_quantile("q", q)
    z, t = as_real(outputs, "outputs"), as_real(targets, "targets")
    return _elementwise("quantile", "outputs", z, t, reduction, return_grad, q)


def gaussian_nll(
    outputs: ArrayLike,
    targets: ArrayLike,
    *,
    reduction: Reduction = "mean",
    return_grad: bool = False,
) -> Any:
    """Negative log-likelihood of a normal distribution, whose mean and log variance are both outputs.

    ``(s + (m - t)² exp(-s)) / 2`` with mean m and s = log variance; the constant ``log(2π) / 2`` is left out (PyTorch's
    GaussianNLLLoss with ``var = exp(s)``; no eps is needed).

    Parameters
    ----------
    outputs : array_like of real numbers
        Shape (rows, 2 k): the means of the k targets, then the logarithms of their variances.
    targets : array_like of real numbers or bool
        Shape (rows, k); (rows,) for one target.
    reduction : "mean", "sum" or "none"
        Over all elements of the targets, as in PyTorch; the mean over none is 0.0.
    return_grad : bool
        Return also the gradient with respect to the outputs.

    Returns
    -------
    loss : float, or ndarray of float64 of the shape of the targets for ``reduction="none"``
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
    >>> gaussian_nll([[0.0, 0.0], [3.0, 0.0]], [0.0, 1.0], return_grad=True)
    (1.0, array([[ 0.  ,  0.25],
           [ 1.  , -0.75]]))
    """
    z, t = as_real(outputs, "outputs"), as_real(targets, "targets")
    shape = t.shape
    t = t[:, None] if t.ndim == 1 else t
    if z.ndim != 2 or t.ndim != 2 or z.shape != (len(t), 2 * t.shape[1]):
        raise ValueError(
            f"outputs have shape {z.shape}, targets {shape}; two outputs are needed for each target: "
            f"all means, then all logarithms of variances"
        )
    _check_reduction(reduction)
    dtype = result_dtype(z)
    computed = kernel_dtype(result_dtype(z, t) if t.dtype.kind == "f" else dtype)
    z, t = as_kernel_array(z, computed), as_kernel_array(t, computed)
    result = _by_row("gaussian_nll", z, t, t.size, reduction, return_grad, dtype)
    if reduction != "none":
        return result
    pairs = np.stack(np.split(z, 2, axis=1), axis=-1).reshape(-1, 2)
    losses = _by_row("gaussian_nll", pairs, t.reshape(-1, 1), t.size, "none", False, dtype, shape=shape)
    return (losses, result[1]) if return_grad else losses


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
    name: str, what: str, z: Array, t: Array, reduction: Reduction, return_grad: bool, parameter: float = 0.0
) -> Any:
    if z.shape != t.shape and {z.shape, t.shape} != {(z.size,), (z.size, 1)}:
        raise ValueError(f"{what} have shape {z.shape}, targets {t.shape}; they must agree")
    _check_reduction(reduction)
    dtype = result_dtype(z)
    computed = kernel_dtype(result_dtype(z, t) if t.dtype.kind == "f" else dtype)
    shape = z.shape
    columns = 1 if reduction == "none" or z.size == 0 or z.ndim < 2 else z.size // len(z)
    z, t = (as_kernel_array(a, computed).reshape(-1, columns) for a in (z, t))
    return _by_row(name, z, t, z.size, reduction, return_grad, dtype, parameter, shape=shape)


def _by_row(
    name: str,
    z: Array,
    t: Array,
    count: float,
    reduction: Reduction,
    return_grad: bool,
    dtype: np.dtype[Any],
    parameter: float = 0.0,
    *,
    weights: Array | None = None,
    shape: tuple[int, ...] | None = None,
) -> Any:
    """Run the kernel over rows of outputs and targets; `count`: what the sum of losses is divided by for a mean.

    Without a reduction the result has as many elements as there are rows.
    """
    losses, grad = np.zeros(len(z)), np.empty_like(z) if return_grad else None
    scale = 1.0 if reduction != "mean" else 1 / count if count else 0.0
    if z.size:
        kernels.row_losses(
            REGISTRY[name].code, z, t, losses, grad, scale, parameter=parameter, weights=weights
        )
    loss: Any = float(losses.sum())
    if reduction == "mean":
        loss = loss / count if count else 0.0
    elif reduction == "none":
        loss = losses if shape is None else losses.reshape(shape)[()]
    return (
        loss
        if grad is None
        else (loss, deliver(grad.reshape(grad.shape if shape is None else shape), None, dtype))
    )
