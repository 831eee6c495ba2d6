"""Optimizers: frozen sets of hyper-parameters, with PyTorch's formulas and numbers; kernels do the steps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

from gradcore import kernels
from gradcore.errors import check_flag, check_fraction, check_non_negative, check_positive, unknown_name
from gradcore.spec import parse_spec


class Optimizer:
    """What all optimizers share.

    Attributes
    ----------
    lr : float
        Learning rate (``learning_rate`` is accepted as well).
    weight_decay : float
        Strength of the decay of all parameters.
    l1 : float
        Strength of the penalty ``l1 Σ|w|`` on all parameters: ``l1 sign(w)`` joins the gradient, with sign(0) = 0. It
        is part of the loss, as in Keras and scikit-learn, so AdamW and Lion, too, take it through their moments.
    exclude : tuple of {"bias", "norm"}
        Parameters that weight decay and l1 leave alone: the biases of dense layers, gamma and beta of norms.
    """

    lr: float
    weight_decay: float
    l1: float
    exclude: tuple[str, ...]
    slots: ClassVar[tuple[str, ...]]  # what it keeps per parameter, in the kernels' order

    def _set(
        self, default: float, lr: float | None, learning_rate: float | None, weight_decay: float, l1: float,
        exclude: str | Iterable[str], **others: Any,
    ) -> None:  # fmt: skip
        """Store checked numbers (the instances are frozen, so this goes past them)."""
        if lr is not None and learning_rate is not None:
            raise ValueError(
                f"lr and learning_rate are two names of one thing, got {lr!r} and {learning_rate!r}"
            )
        chosen = lr if lr is not None else learning_rate
        vars(self).update(
            lr=check_non_negative("lr", default if chosen is None else chosen), **others,
            weight_decay=check_non_negative("weight_decay", weight_decay), l1=check_non_negative("l1", l1),
            exclude=_excluded(exclude),
        )  # fmt: skip

    @property
    def learning_rate(self) -> float:
        """The same as `lr`."""
        return self.lr

    @property
    def regularization(self) -> dict[str, Any]:
        """What every optimizer takes: ``weight_decay``, ``l1`` and ``exclude``."""
        return {"weight_decay": self.weight_decay, "l1": self.l1, "exclude": self.exclude}

    @property
    def name(self) -> str:
        """The name it has in strings."""
        return type(self).__name__.lower()

    @property
    def n_slots(self) -> int:
        """Number of arrays it keeps per parameter."""
        return len(self.slots)

    def hyper(self) -> dict[str, Any]:
        """Return the hyper-parameters by the kernels' names."""
        return {
            "optimizer": kernels.OPTIMIZER_CODES[self.name],
            "lr": self.lr,
            "weight_decay": self.weight_decay,
            "l1": self.l1,
            "exempt": sum(kernels.EXEMPT[kind] for kind in self.exclude),
        }


def _excluded(exclude: str | Iterable[str]) -> tuple[str, ...]:
    kinds = (exclude,) if isinstance(exclude, str) else tuple(exclude)
    for kind in kinds:
        if kind not in kernels.EXEMPT:
            raise unknown_name("kind of parameter to exclude", kind, kernels.EXEMPT)
    return tuple(kind for kind in kernels.EXEMPT if kind in kinds)


def _betas(betas: tuple[float, float]) -> tuple[float, float]:
    if not isinstance(betas, (tuple, list)) or len(betas) != 2:
        raise ValueError(f"betas must be two numbers, got {betas!r}")
    return check_fraction("betas[0]", betas[0]), check_fraction("betas[1]", betas[1])


@dataclass(frozen=True, init=False)
class SGD(Optimizer):
    """Stochastic gradient descent with optional (Nesterov) momentum.

    ``g += weight_decay w + l1 sign(w); v = momentum v + g; w -= lr v`` (Nesterov: ``w -= lr (g + momentum v)``),
    where the first v is g itself.  Source: Sutskever, Martens, Dahl & Hinton (2013) in PyTorch's form.

    Examples
    --------
    >>> SGD(0.1, momentum=0.9)
    SGD(lr=0.1, momentum=0.9, nesterov=False, weight_decay=0.0, l1=0.0, exclude=())
    """

    lr: float
    momentum: float
    nesterov: bool
    weight_decay: float
    l1: float
    exclude: tuple[str, ...]
    slots = ("velocity",)

    def __init__(
        self,
        lr: float | None = None,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        l1: float = 0.0,
        exclude: str | Iterable[str] = (),
        *,
        learning_rate: float | None = None,
    ) -> None:
        self._set(
            0.01, lr, learning_rate, weight_decay, l1, exclude,
            momentum=check_fraction("momentum", momentum), nesterov=check_flag("nesterov", nesterov),
        )  # fmt: skip
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov=True needs a momentum greater than 0")

    @property
    def n_slots(self) -> int:
        """Number of arrays it keeps per parameter."""
        return int(self.momentum > 0)

    def hyper(self) -> dict[str, Any]:
        """Return the hyper-parameters by the kernels' names."""
        return super().hyper() | {"momentum": self.momentum, "nesterov": float(self.nesterov)}


@dataclass(frozen=True, init=False)
class RMSprop(Optimizer):
    """Steps of about `lr` by the running size of the gradient, with optional momentum.

    ``g += weight_decay w + l1 sign(w); s = alpha s + (1-alpha) g²; g = g / (sqrt(s) + eps)``, then ``w -= lr g`` or,
    with momentum, ``v = momentum v + g; w -= lr v``.  Source: Tieleman & Hinton, lecture 6.5 (2012), in PyTorch's
    form; its ``centered=True`` is not offered.

    Examples
    --------
    >>> RMSprop(0.001, momentum=0.9).n_slots
    2
    """

    lr: float
    alpha: float
    eps: float
    momentum: float
    weight_decay: float
    l1: float
    exclude: tuple[str, ...]
    slots = ("mean square", "velocity")

    def __init__(
        self,
        lr: float | None = None,
        alpha: float = 0.99,
        eps: float = 1e-8,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        l1: float = 0.0,
        exclude: str | Iterable[str] = (),
        *,
        learning_rate: float | None = None,
    ) -> None:
        self._set(
            0.01, lr, learning_rate, weight_decay, l1, exclude,
            alpha=check_fraction("alpha", alpha), eps=check_positive("eps", eps),
            momentum=check_fraction("momentum", momentum),
        )  # fmt: skip

    @property
    def n_slots(self) -> int:
        """Number of arrays it keeps per parameter."""
        return 1 + (self.momentum > 0)

    def hyper(self) -> dict[str, Any]:
        """Return the hyper-parameters by the kernels' names."""
        return super().hyper() | {"beta2": self.alpha, "eps": self.eps, "momentum": self.momentum}


@dataclass(frozen=True, init=False)
class Adagrad(Optimizer):
    """Steps that shrink with all the gradients so far.

    ``g += weight_decay w + l1 sign(w); s += g²; w -= lr / (1 + (step - 1) lr_decay) g / (sqrt(s) + eps)``.  Source:
    Duchi, Hazan & Singer (2011) in PyTorch's form.

    Examples
    --------
    >>> Adagrad(0.1).eps
    1e-10
    """

    lr: float
    lr_decay: float
    eps: float
    weight_decay: float
    l1: float
    exclude: tuple[str, ...]
    slots = ("sum of squares",)

    def __init__(
        self,
        lr: float | None = None,
        lr_decay: float = 0.0,
        eps: float = 1e-10,
        weight_decay: float = 0.0,
        l1: float = 0.0,
        exclude: str | Iterable[str] = (),
        *,
        learning_rate: float | None = None,
    ) -> None:
        self._set(
            0.01, lr, learning_rate, weight_decay, l1, exclude,
            lr_decay=check_non_negative("lr_decay", lr_decay), eps=check_positive("eps", eps),
        )  # fmt: skip

    def hyper(self) -> dict[str, Any]:
        """Return the hyper-parameters by the kernels' names."""
        return super().hyper() | {"lr_decay": self.lr_decay, "eps": self.eps}


@dataclass(frozen=True, init=False)
class Adam(Optimizer):
    """Adam: steps of about `lr` whatever the size of the gradient, unless `eps` swallows it.

    ``m = β₁ m + (1-β₁) g; v = β₂ v + (1-β₂) g²; w -= lr m̂ / (sqrt(v̂) + eps)`` with bias-corrected m̂ and
    v̂; weight decay and l1 are added to the gradient.  Source: Kingma & Ba (2015), algorithm 1; `eps` is outside the
    root.

    Examples
    --------
    >>> Adam(0.003).betas
    (0.9, 0.999)
    """

    lr: float
    betas: tuple[float, float]
    eps: float
    weight_decay: float
    l1: float
    exclude: tuple[str, ...]
    slots = ("first moment", "second moment")

    def __init__(
        self,
        lr: float | None = None,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        l1: float = 0.0,
        exclude: str | Iterable[str] = (),
        *,
        learning_rate: float | None = None,
    ) -> None:
        self._set(
            0.001, lr, learning_rate, weight_decay, l1, exclude,
            betas=_betas(betas), eps=check_positive("eps", eps),
        )  # fmt: skip

    def hyper(self) -> dict[str, Any]:
        """Return the hyper-parameters by the kernels' names."""
        return super().hyper() | {"beta1": self.betas[0], "beta2": self.betas[1], "eps": self.eps}


@dataclass(frozen=True, init=False)
class AdamW(Adam):
    """Adam with weight decay apart from the gradient: ``w -= lr weight_decay w`` before the step.

    Only weight decay passes by the moments; `l1` is part of the loss and so of the gradient.

    Source: Loshchilov & Hutter, "Decoupled Weight Decay Regularization" (2019).

    Examples
    --------
    >>> AdamW().weight_decay
    0.01
    """

    def __init__(
        self,
        lr: float | None = None,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        l1: float = 0.0,
        exclude: str | Iterable[str] = (),
        *,
        learning_rate: float | None = None,
    ) -> None:
        super().__init__(lr, betas, eps, weight_decay, l1, exclude, learning_rate=learning_rate)


@dataclass(frozen=True, init=False)
class Lion(Optimizer):
    """Every weight moves by `lr`, in the direction of a moving average's sign.

    ``w -= lr weight_decay w; w -= lr sign(β₁ m + (1-β₁) g); m = β₂ m + (1-β₂) g``; its rate is usually 3 to 10 times
    smaller than Adam's.  Source: Chen et al., "Symbolic discovery of optimization algorithms" (2023), algorithm 2.

    Examples
    --------
    >>> Lion(exclude="bias").exclude
    ('bias',)
    """

    lr: float
    betas: tuple[float, float]
    weight_decay: float
    l1: float
    exclude: tuple[str, ...]
    slots = ("first moment",)

    def __init__(
        self,
        lr: float | None = None,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        l1: float = 0.0,
        exclude: str | Iterable[str] = (),
        *,
        learning_rate: float | None = None,
    ) -> None:
        self._set(0.0001, lr, learning_rate, weight_decay, l1, exclude, betas=_betas(betas))

    def hyper(self) -> dict[str, Any]:
        """Return the hyper-parameters by the kernels' names."""
        return super().hyper() | {"beta1": self.betas[0], "beta2": self.betas[1]}


REGISTRY: dict[str, type[Optimizer]] = {
    "sgd": SGD,
    "rmsprop": RMSprop,
    "adagrad": Adagrad,
    "adam": Adam,
    "adamw": AdamW,
    "lion": Lion,
}


def resolve(spec: str | Optimizer) -> Optimizer:
    """Find an optimizer by name or spec; an optimizer is returned as it is.

    Raises
    ------
    TypeError
        Neither a name nor an optimizer.
    ValueError
        Unknown name (the nearest known ones are named), or a hyper-parameter that cannot be.

    Examples
    --------
    >>> resolve("sgd(0.1, momentum=0.9)")
    SGD(lr=0.1, momentum=0.9, nesterov=False, weight_decay=0.0, l1=0.0, exclude=())
    """
    if isinstance(spec, Optimizer):
        return spec
    parsed = parse_spec(spec, "a name such as 'adam(0.001)' or an object such as SGD(0.1) as the optimizer")
    if parsed.name not in REGISTRY:
        raise unknown_name("optimizer", parsed.name, REGISTRY)
    bound = parsed.bind(REGISTRY[parsed.name])
    return REGISTRY[parsed.name](*bound.args, **bound.kwargs)
