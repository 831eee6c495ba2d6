"""A step that was not applied: where it first turned NaN or infinite, and what is left of the steps before it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from gradcore.health.ledger import Ledger

Pass = Literal["forward", "loss", "backward", "update"]

# what a step is handed, not what it computes
GIVEN = ("input", "target", "output_grad", "parameter")


@dataclass(frozen=True)
class NonFinite:
    """Where a step first turned NaN or infinite. The step was not applied: the network holds the last good weights.

    *First* is by the order of the calculation: the input; op by op its parameters and its output; targets, loss, its
    gradient; from the last op to the first the gradients of its parameters and then dL/d(input); the update,
    parameter by parameter, moments before weights, and then the running statistics. Of one array: by rows.

    Attributes
    ----------
    step, epoch : int
        Step of the training from 1 (skipped ones count), epoch from 0.
    pass_ : "forward", "loss", "backward" or "update"
    op : int or None
        Index in the plan; None for what belongs to no op.
    name : str
        Of the op, or ``"input"``, ``"target"``, ``"output_grad"``, ``"parameter"`` (the step was handed this value;
        nothing computed it), ``"loss"``, ``"gradient"``.
    what : str
        ``"output"``, ``"weight gradient"``, ``"dL/d(input)"``, …; of a parameter and of an update: the parameter's
        name, or ``"velocity of 0.weight"`` and the like.
    element : tuple of int or None
        Row of X and column; of a weight: unit and input; of a bias, gamma, beta: unit; of a loss: row of X.
    value : float
    operands : dict
        What the value was made of: arrays and numbers by name.
    good_step : int
        Number of applied steps before it: the network holds the weights of that step.
    ledger : Ledger or None
        The full books of this step.
    ledgers : sequence of Ledger
        The last probed steps up to this one, where there was a ``probe``.
    """

    step: int
    epoch: int
    pass_: Pass
    op: int | None
    name: str
    what: str
    element: tuple[int, ...] | None = None
    value: float = math.nan
    operands: Mapping[str, Any] = field(default_factory=dict)
    good_step: int = 0
    ledger: Ledger | None = field(default=None, repr=False, compare=False)
    ledgers: Sequence[Ledger] = field(default=(), repr=False, compare=False)

    def __str__(self) -> str:
        where = f"step {self.step} (epoch {self.epoch}): "
        if self.name in GIVEN:
            where += f"{self.name} {self.what}" if self.name == "parameter" else self.name
        else:
            where += f"{self.pass_} pass, {self.what} of {self.name}"
        if self.element is not None:
            at = ", ".join(f"{axis} {i}" for axis, i in zip(self._axes(), self.element, strict=False))
            where += f" is {self.value} at {at}"
        elif self.value == math.inf:
            where += " is inf"
        shown = [f"{name} {_magnitude(value)}" for name, value in self.operands.items()]
        return where + (f", from {', '.join(shown)}" if shown else "")

    def _axes(self) -> tuple[str, str]:
        of_parameter = self.name == "parameter" or self.pass_ == "update" or self.what.endswith(" gradient")
        return ("unit", "input") if of_parameter else ("row", "column")


def _magnitude(value: Any) -> str:
    if np.ndim(value) == 0:
        return f"{value:.3g}"
    return f"of magnitude up to {np.abs(value).max():.3g}"
