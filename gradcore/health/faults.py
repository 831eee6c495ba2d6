"""A fault: a named sickness with its evidence, its causes and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

KINDS = (
    "vanishing_gradient", "exploding_gradient", "overflow", "underflow", "saturated_activations", "dead_units",
    "symmetric_weights", "constant_output", "loss_nan", "loss_stalled", "loss_oscillating", "loss_diverging",
    "update_ratio_too_large", "update_ratio_too_small", "invalid_data",
)  # fmt: skip

CAUSES = (
    "activation", "initial_weights", "symmetric_initial_weights", "narrow_layers", "depth", "input_scale",
    "target_scale", "learning_rate", "optimizer", "output_loss_pair", "regularization", "batch_size",
    "normalization", "dropout", "invalid_data", "no_signal_in_data",
)  # fmt: skip

# Most severe first: does not learn at all; learns badly, or only with some seeds.
SEVERITIES = ("fatal", "serious")


@dataclass(frozen=True)
class Fault:
    """A named sickness of a network.

    Parameters
    ----------
    kind : str
        One of `KINDS`.
    severity : "fatal" or "serious"
        Whether the network cannot learn at all, or learns badly.
    ops : tuple of str
        Names of the ops where it shows, in the order of the plan.
    causes : tuple of str
        The smallest set of things (of `CAUSES`) to change; several are jointly necessary.
    evidence : mapping
        The numbers behind the verdict.
    advice, avoid : str
        What to change, and what looks like a cure and is none.
    seeds : (int, int)
        In how many of how many seeds it was found.

    Examples
    --------
    >>> fault = Fault("dead_units", "fatal", ops=("relu 3",), evidence={"dead_share": 1.0})
    >>> fault.title
    'DEAD UNITS'
    """

    kind: str
    severity: str
    ops: tuple[str, ...] = ()
    causes: tuple[str, ...] = ()
    evidence: Mapping[str, Any] = field(default_factory=dict)
    advice: str = ""
    avoid: str = ""
    seeds: tuple[int, int] = (1, 1)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unknown kind of fault {self.kind!r}; known: {', '.join(KINDS)}")
        if self.severity not in SEVERITIES:
            raise ValueError(f"unknown severity {self.severity!r}; known: {', '.join(SEVERITIES)}")
        strange = [cause for cause in self.causes if cause not in CAUSES]
        if strange:
            raise ValueError(f"unknown cause {strange[0]!r}; known: {', '.join(CAUSES)}")

    @property
    def title(self) -> str:
        """The kind as a headline."""
        return self.kind.replace("_", " ").upper()

    @property
    def rank(self) -> tuple[int, bool, bool, int]:
        """Sort key.

        The most severe first, what was there from the start before what steps made, what is wrong before how the loss
        shows it, then as in `KINDS`.
        """
        late, sign = "after_steps" in self.evidence, self.kind.startswith("loss_")
        return SEVERITIES.index(self.severity), late, sign, KINDS.index(self.kind)

    def to_dict(self) -> dict[str, Any]:
        """Return the fault as plain numbers, strings and lists."""
        return {
            "kind": self.kind,
            "severity": self.severity,
            "ops": list(self.ops),
            "causes": list(self.causes),
            "evidence": dict(self.evidence),
            "advice": self.advice,
            "avoid": self.avoid,
            "seeds": list(self.seeds),
        }
