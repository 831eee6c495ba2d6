"""The arguments of a training run that do not depend on the data, checked once."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from gradcore.errors import check_integer, check_positive, unknown_name
from gradcore.health.probe import Probe
from gradcore.optimizers import Optimizer, resolve as resolve_optimizer
from gradcore.schedules import Schedule, resolve as resolve_schedule
from gradcore.streams import check_seed

ON_FAULT = ("warn", "ignore", "stop", "raise")


@dataclass(frozen=True)
class StepSettings:
    """What every step needs: optimizer, bounds of the gradient, probe, seed."""

    optimizer: Optimizer
    hyper: dict[str, Any]
    batch_size: int
    probe: Probe | None
    seed: int
    schedule: Schedule | None = None


def step_settings(
    optimizer: str | Optimizer,
    batch_size: int,
    clip_norm: float | None,
    clip_value: float | None,
    clip_adaptive: float | None,
    probe: Any,
    seed: int | None,
    schedule: str | Schedule | None = None,
) -> StepSettings:
    """Check the arguments that `fit` and the stepper share."""
    chosen = resolve_optimizer(optimizer)
    given = {"clip_norm": clip_norm, "clip_value": clip_value, "clip_adaptive": clip_adaptive}
    if sum(bound is not None for bound in given.values()) > 1:
        raise ValueError("clip_norm, clip_value and clip_adaptive are three ways to clip: give one of them")
    bounds = {
        name: math.inf if bound is None else check_positive(name, bound) for name, bound in given.items()
    }
    if probe is not None and not isinstance(probe, Probe):
        raise TypeError(f"probe must be a Probe or None, got {probe!r}")
    rows = check_integer("batch_size", batch_size)
    plan = None if schedule is None else resolve_schedule(schedule)
    return StepSettings(chosen, chosen.hyper() | bounds, rows, probe, check_seed(seed), plan)


def check_progress(progress: Any) -> bool | Literal["auto"]:
    """Return `progress`, which must be True, False or "auto"."""
    if progress is True or progress is False or progress == "auto":
        return progress  # type: ignore[no-any-return]
    raise ValueError(f"progress must be True, False or 'auto', got {progress!r}")


def check_on_fault(on_fault: str | Callable[[Any], Any]) -> str | Callable[[Any], Any]:
    """Return `on_fault`, which must be one of the words or callable."""
    if not callable(on_fault) and on_fault not in ON_FAULT:
        raise unknown_name("on_fault (or give a function)", on_fault, ON_FAULT)
    return on_fault
