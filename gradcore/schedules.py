"""Schedules: how the learning rate changes over the steps of a training, as factors on the optimizer's rate.

A schedule is a frozen set of numbers and a pure function of the step. Lengths (`warmup`, `step_size`) are shares of all
steps where they are floats and steps where they are ints: 1.0 is the whole training, 1 a single step. With PyTorch's
formulas, k = step - 1 is what its schedulers call the epoch; after the last step a factor stays what it was there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradcore.errors import check_fraction, check_integer, check_number, check_positive, unknown_name
from gradcore.spec import parse_spec

Doubles = NDArray[np.float64]


class Schedule:
    """What all schedules share."""

    def factors(self, first_step: int, count: int, total_steps: int) -> Doubles:
        """Return the factors on the learning rate of some steps.

        Parameters
        ----------
        first_step : int
            Number of the first of them, counted from 1 over the whole training.
        count : int
            How many, at least 0.
        total_steps : int
            Of the whole training.

        Returns
        -------
        ndarray of float64, shape (count,)

        Raises
        ------
        TypeError, ValueError
            An argument that is no integer, or is out of range.

        Examples
        --------
        >>> Linear(warmup=2).factors(1, 5, total_steps=6)
        array([0.5 , 1.  , 1.  , 0.75, 0.5 ])
        """
        first = check_integer("first_step", first_step)
        total = check_integer("total_steps", total_steps)
        steps = first + np.arange(check_integer("count", count, minimum=0), dtype=np.float64)
        return self._at(np.minimum(steps, total), total)

    @property
    def needs_total(self) -> bool:
        """Whether its factors depend on how many steps there are in all."""
        return True

    def _at(self, step: Doubles, total: int) -> Doubles:
        raise NotImplementedError


@dataclass(frozen=True)
class Constant(Schedule):
    """The optimizer's rate throughout.

    Examples
    --------
    >>> Constant().factors(1, 3, total_steps=100)
    array([1., 1., 1.])
    """

    @property
    def needs_total(self) -> bool:
        """Whether its factors depend on how many steps there are in all."""
        return False

    def _at(self, step: Doubles, total: int) -> Doubles:
        return np.ones_like(step)


@dataclass(frozen=True)
class Warmup(Schedule):
    """Linear growth to the optimizer's rate, which then stays: ``min(1, step / warmup)``.

    Source: Goyal et al., "Accurate, large minibatch SGD" (2017); PyTorch's LinearLR with start_factor 1/warmup.

    Parameters
    ----------
    warmup : float or int
        Share of all steps, or steps.

    Examples
    --------
    >>> Warmup(4).factors(1, 5, total_steps=100)
    array([0.25, 0.5 , 0.75, 1.  , 1.  ])
    """

    warmup: float | int = 0.1

    def __post_init__(self) -> None:
        vars(self).update(warmup=_check_length("warmup", self.warmup))

    @property
    def needs_total(self) -> bool:
        """Whether its factors depend on how many steps there are in all."""
        return isinstance(self.warmup, float)

    def _at(self, step: Doubles, total: int) -> Doubles:
        return _rise(step, self.warmup, total)


@dataclass(frozen=True)
class Step(Schedule):
    """Multiply by `gamma` after every `step_size` steps: ``gamma ** floor(k / step_size)``, PyTorch's StepLR.

    Parameters
    ----------
    step_size : float or int
        Share of all steps, or steps; greater than 0.
    gamma : float
        Greater than 0.

    Examples
    --------
    >>> Step(0.5).factors(1, 4, total_steps=4)
    array([1. , 1. , 0.1, 0.1])
    """

    step_size: float | int = 1 / 3
    gamma: float = 0.1

    def __post_init__(self) -> None:
        vars(self).update(
            step_size=_check_length("step_size", self.step_size, positive=True),
            gamma=check_positive("gamma", self.gamma),
        )

    @property
    def needs_total(self) -> bool:
        """Whether its factors depend on how many steps there are in all."""
        return isinstance(self.step_size, float)

    def _at(self, step: Doubles, total: int) -> Doubles:
        # (a share of the steps may miss a whole number by a rounding)
        periods = (step - 1) / _steps(self.step_size, total)
        return np.asarray(self.gamma ** np.floor(periods + 1e-9), np.float64)


@dataclass(frozen=True)
class Exponential(Schedule):
    """Multiply by `gamma` over every `step_size` steps, evenly: ``gamma ** (k / step_size)``.

    With ``step_size=1`` PyTorch's ExponentialLR; else Keras' ExponentialDecay.

    Parameters
    ----------
    gamma : float
        Greater than 0.
    step_size : float or int
        Share of all steps, or steps; greater than 0.

    Examples
    --------
    >>> Exponential(0.5, step_size=1).factors(1, 4, total_steps=100)
    array([1.   , 0.5  , 0.25 , 0.125])
    """

    gamma: float = 0.01
    step_size: float | int = 1.0

    def __post_init__(self) -> None:
        vars(self).update(
            gamma=check_positive("gamma", self.gamma),
            step_size=_check_length("step_size", self.step_size, positive=True),
        )

    @property
    def needs_total(self) -> bool:
        """Whether its factors depend on how many steps there are in all."""
        return isinstance(self.step_size, float)

    def _at(self, step: Doubles, total: int) -> Doubles:
        return np.asarray(self.gamma ** ((step - 1) / _steps(self.step_size, total)), np.float64)


@dataclass(frozen=True)
class Linear(Schedule):
    """Linear growth over `warmup`, then a straight line down to `final`: ``1 - (1 - final) k / n``.

    k and n are counted after the warmup. PyTorch's LinearLR with end_factor=final and n iterations.

    Parameters
    ----------
    warmup : float or int
        Share of all steps, or steps.
    final : float
        Factor that would be reached one step after the last one; at least 0 and less than 1.

    Examples
    --------
    >>> Linear().factors(1, 4, total_steps=4)
    array([1.  , 0.75, 0.5 , 0.25])
    """

    warmup: float | int = 0.0
    final: float = 0.0

    def __post_init__(self) -> None:
        vars(self).update(
            warmup=_check_length("warmup", self.warmup), final=check_fraction("final", self.final)
        )

    def _at(self, step: Doubles, total: int) -> Doubles:
        fall = 1 - (1 - self.final) * _progress(step, self.warmup, total)
        return _rise(step, self.warmup, total) * fall


@dataclass(frozen=True)
class Cosine(Schedule):
    """Linear growth over `warmup`, then half a cosine down to `final`: ``final + (1 - final) (1 + cos(π k / n)) / 2``.

    k and n are counted after the warmup. Source: Loshchilov & Hutter, "SGDR" (2017), as PyTorch's CosineAnnealingLR
    with T_max=n.

    Parameters
    ----------
    warmup : float or int
        Share of all steps, or steps.
    final : float
        Factor that would be reached one step after the last one; at least 0 and less than 1.

    Examples
    --------
    >>> Cosine().factors(1, 4, total_steps=4).round(3)
    array([1.   , 0.854, 0.5  , 0.146])
    """

    warmup: float | int = 0.0
    final: float = 0.0

    def __post_init__(self) -> None:
        vars(self).update(
            warmup=_check_length("warmup", self.warmup), final=check_fraction("final", self.final)
        )

    def _at(self, step: Doubles, total: int) -> Doubles:
        fall = _half_cosine(1.0, self.final, _progress(step, self.warmup, total))
        return _rise(step, self.warmup, total) * fall


@dataclass(frozen=True)
class OneCycle(Schedule):
    """Half a cosine up to the optimizer's rate, then one down to next to nothing, as PyTorch's OneCycleLR.

    From ``1 / div_factor`` to 1 over `warmup`, then to ``1 / (div_factor final_div_factor)`` at the last step. The
    optimizer's rate is PyTorch's max_lr. Source: Smith & Topin, "Super-convergence" (2018).

    Parameters
    ----------
    warmup : float or int
        Share of all steps (PyTorch's pct_start), or steps.
    div_factor, final_div_factor : float
        At least 1.

    Examples
    --------
    >>> OneCycle(0.5).factors(1, 4, total_steps=4).round(3)
    array([0.04, 1.  , 0.5 , 0.  ])
    """

    warmup: float | int = 0.3
    div_factor: float = 25.0
    final_div_factor: float = 1e4

    def __post_init__(self) -> None:
        vars(self).update(warmup=_check_length("warmup", self.warmup))
        for name in ("div_factor", "final_div_factor"):
            value = check_positive(name, getattr(self, name))
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
            vars(self)[name] = value

    def _at(self, step: Doubles, total: int) -> Doubles:
        k, last = step - 1, total - 1
        top = min(max(_steps(self.warmup, total) - 1, 0.0), last)
        start = 1 / self.div_factor
        up = _half_cosine(start, 1.0, k / top if top else np.ones_like(k))
        down = _half_cosine(1.0, start / self.final_div_factor, (k - top) / max(last - top, 1e-9))
        return np.where(k <= top, up, down)


def _half_cosine(start: float, end: float, progress: Doubles) -> Doubles:
    return end + (start - end) * (1 + np.cos(np.pi * progress)) / 2


def _check_length(name: str, value: Any, *, positive: bool = False) -> float | int:
    """Return a share of all steps as a float in [0, 1], or steps as an int."""
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return check_integer(name, value, minimum=int(positive))
    share = check_number(name, value)
    if not (0 <= share <= 1) or (positive and share == 0):
        least = "greater than 0" if positive else "at least 0"
        raise ValueError(
            f"{name} must be a share, {least} and at most 1.0, or an int of steps, got {value!r}"
        )
    return share


def _steps(length: float | int, total: int) -> float:
    return float(length) if isinstance(length, int) else length * total


def _rise(step: Doubles, warmup: float | int, total: int) -> Doubles:
    steps = _steps(warmup, total)
    return np.minimum(1.0, step / steps) if steps else np.ones_like(step)


def _progress(step: Doubles, warmup: float | int, total: int) -> Doubles:
    """Return the share of the steps after the warmup that lie before each step."""
    start = _steps(warmup, total)
    return np.maximum(step - 1 - start, 0.0) / max(total - start, math.ulp(1.0))


REGISTRY: dict[str, type[Schedule]] = {
    "constant": Constant,
    "warmup": Warmup,
    "step": Step,
    "exponential": Exponential,
    "linear": Linear,
    "cosine": Cosine,
    "one_cycle": OneCycle,
}


def resolve(spec: str | Schedule) -> Schedule:
    """Find a schedule by name or spec; a schedule is returned as it is.

    Raises
    ------
    ValueError
        Unknown name (the nearest known ones are named), or a number that cannot be.

    Examples
    --------
    >>> resolve("cosine(warmup=0.05)")
    Cosine(warmup=0.05, final=0.0)
    """
    if isinstance(spec, Schedule):
        return spec
    parsed = parse_spec(spec)
    if parsed.name not in REGISTRY:
        raise unknown_name("schedule", parsed.name, REGISTRY)
    bound = parsed.bind(REGISTRY[parsed.name])
    return REGISTRY[parsed.name](*bound.args, **bound.kwargs)
