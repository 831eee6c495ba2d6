"""What if the network were different: one batch through every alternative, and the causes that this reveals.

A cause is counterfactual: the smallest set of changes that lets the network train.  Here "would train" means that no
rule finds a fatal fault in the changed network, one batch forward and backward each.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gradcore import activations, initializers
from gradcore.diagnosis.changes import Change, dense_layers, has, hidden_activations, split_groups
from gradcore.diagnosis.examine import Reference, Setting, examine
from gradcore.diagnosis.variants import Variants
from gradcore.health.evidence import Books, Evidence
from gradcore.health.faults import Fault
from gradcore.layers import Activation, BatchNorm, Residual
from gradcore.network import Network
from gradcore.optimizers import SGD, Adam

# Smooth or rectified, bounded or not: one good member of each family, the safest for narrow layers first.
CANDIDATES = ("tanh", "relu", "selu")

# Rows of the batch for alternatives: enough to see the signal, few enough to be quick.
ROWS = 32

# tanh with Glorot's initial weights: what the healthy counterpart has instead.
HEALTHY = Change(activation="tanh", init="glorot_normal")


@dataclass(frozen=True)
class Outcome:
    """One alternative.

    Attributes
    ----------
    change : Change
    gradient : float
        log10 of the end-to-end gain.
    signal : float
        log10 of signal over scale at the inputs of the last layer, relative to that of the network's inputs.
    faults : tuple of str
        Kinds of the faults that the rules find.
    trains : bool
        Whether none of them is fatal.
    """

    change: Change
    gradient: float
    signal: float
    faults: tuple[str, ...]
    trains: bool

    @property
    def name(self) -> str:
        """How the change is called in tables."""
        return self.change.name

    @property
    def distance(self) -> float:
        """Decades by which gradient and signal miss passing unchanged, together; infinite when it would not train."""
        if not self.trains or not math.isfinite(self.gradient + self.signal):
            return math.inf
        return abs(self.gradient) + max(0.0, -self.signal)

    def to_dict(self) -> dict[str, Any]:
        """Return the outcome as plain numbers and strings."""
        return {
            "change": self.name,
            "causes": list(self.change.causes),
            "gradient_log10": self.gradient,
            "signal_log10": self.signal,
            "faults": list(self.faults),
            "trains": self.trains,
        }


@dataclass(frozen=True)
class WhatIf:
    """All alternatives that were tried, in the order of the table; iterating gives the outcomes."""

    outcomes: tuple[Outcome, ...] = ()
    milliseconds: float = 0.0

    def __iter__(self) -> Iterator[Outcome]:
        return iter(self.outcomes)

    def __len__(self) -> int:
        return len(self.outcomes)

    def causes(self, fault: Fault) -> tuple[str, ...]:
        """Return the smallest set of causes whose removal cures the fault; an empty tuple when nothing tried does."""
        cures = self.cures(fault)
        return cures[0].change.causes if cures else ()

    def best(self, fault: Fault) -> Outcome | None:
        """Return, among the cures that remove just these causes, the one that passes gradient and signal on best."""
        same = [o for o in self.cures(fault) if o.change.causes == self.causes(fault)]
        return min(same, key=lambda o: (round(o.distance, 9), abs(math.log10(o.change.rate))), default=None)

    def cures(self, fault: Fault) -> list[Outcome]:
        """Return the outcomes without the fault: fewest causes first, then the likeliest for such a fault first."""
        cures = [o for o in self.outcomes if o.trains and fault.kind not in o.faults and o.change.causes]
        order = (*_LIKELIEST.get(fault.kind, ()), *_ORDER)
        # of several rates the one nearest to the present
        return sorted(
            cures,
            key=lambda o: (
                len(o.change.causes),
                order.index(o.change.causes[0]),
                abs(math.log10(o.change.rate)),
            ),
        )

    def around(self, fault: Fault) -> list[Outcome]:
        """Return the outcomes that make up for the causes without removing any (batch norm, residual blocks)."""
        return [o for o in self.outcomes if o.trains and fault.kind not in o.faults and not o.change.causes]

    def to_dict(self) -> dict[str, Any]:
        """Return all outcomes as plain numbers, strings and lists."""
        return {
            "milliseconds": self.milliseconds,
            "outcomes": [outcome.to_dict() for outcome in self.outcomes],
        }

    def __str__(self) -> str:
        lines = [f"{'what if':<28}{'gradient':>10}{'signal':>9}   verdict"]
        lines += [
            f"{o.name:<28}{o.gradient:>10.1f}{o.signal:>9.1f}   {'yes' if o.trains else 'no: ' + ', '.join(o.faults)}"
            for o in self.outcomes
        ]
        return "\n".join(lines)


# Where several single changes would do, what a fault of this kind most often comes from is named first.
_ORDER = (
    "output_loss_pair", "initial_weights", "activation", "input_scale", "target_scale", "learning_rate", "optimizer",
    "narrow_layers", "depth",
)  # fmt: skip
_GROWS = (
    "exploding_gradient", "overflow", "loss_nan", "loss_diverging", "loss_oscillating", "update_ratio_too_large",
)  # fmt: skip
_STEP = ("learning_rate", "target_scale", "input_scale", "optimizer")
_LIKELIEST = {
    "dead_units": ("narrow_layers", "initial_weights", "learning_rate"),
    "saturated_activations": ("input_scale",),
    "update_ratio_too_large": _STEP,
    "loss_nan": _STEP,
    "loss_diverging": _STEP,
    "loss_oscillating": _STEP,
}


def alternatives(variants: Variants, faults: Sequence[Fault], evidence: Evidence) -> list[Change]:
    """List the changes worth trying, the single ones first."""
    layers = variants.network.layers
    current = {activations.resolve(spec)[0].name for spec in hidden_activations(layers)}
    inits = {layer.init for layer in dense_layers(layers)}
    others = [name for name in CANDIDATES if current != {name}] if current else []
    singles = [Change(activation=name) for name in others]
    own = _matching(next(iter(current))) if len(current) == 1 else "auto"
    # The uniform twin has the same variance: to change to it would only be to draw again.
    if not variants.fresh or not inits <= {own, own.replace("normal", "uniform"), "auto"}:
        singles.append(Change(init=own))
    if any(fault.kind in _GROWS or "after_steps" in fault.evidence for fault in faults):
        rates = (0.1, 0.01, 0.001) if isinstance(evidence.optimizer, SGD) else (0.1,)
        singles += [Change(rate=rate) for rate in rates]
    else:
        singles.append(Change(rate=10.0))
    if isinstance(evidence.optimizer, SGD):
        singles.append(Change(optimizer=Adam()))
    if isinstance(layers[-1], Activation):
        singles.append(Change(linear_output=True))
    singles.append(Change(standardise=True))
    if evidence.regression:
        singles.append(Change(standardise_targets=True))
    if not has(layers, BatchNorm):
        singles.append(Change(norm=True))
    if not has(layers, Residual):
        singles.append(Change(residual=True))
    if evidence.books.spread > 0.5 and not has(layers, Residual):
        # the widths alone scatter the gain by more than half a decade (and a block must stay as wide as its input)
        singles.append(Change(width=4))
    if len(split_groups(layers)) > 3:
        singles.append(Change(depth=0.5))
    pairs = [Change(activation=name, init=_matching(name)) for name in others] if inits != {"auto"} else []
    return singles + pairs


def _matching(activation: str) -> str:
    """Name the initial weights that go with an activation; "auto" where they have no well-known name."""
    name = str(initializers.auto_for(activations.resolve(activation)[0]))
    return name if "(" not in name else "auto"


def what_if(
    variants: Variants, setting: Setting, healthy: Reference, evidence: Evidence, faults: Sequence[Fault]
) -> WhatIf:
    """Send one batch, and the real steps where they were asked for, through every alternative; apply the rules."""
    start = time.perf_counter()
    few = replace(setting, batch=setting.batch.rows(np.arange(min(len(setting.batch), ROWS))))
    origin = _relative_signal(evidence.books, first=True)
    outcomes = []
    for change in alternatives(variants, faults, evidence):
        known = None if change.rebuilds or change.changes_data else evidence.books
        books, found = _try(variants.make(change), change, few, healthy, known)
        outcomes.append(
            Outcome(
                change,
                gradient=books.ledger.end_to_end_log10,
                signal=_relative_signal(books) - origin,
                faults=tuple(fault.kind for fault in found),
                trains=not any(fault.severity == "fatal" for fault in found),
            )
        )
    return WhatIf(tuple(outcomes), 1e3 * (time.perf_counter() - start))


def _try(
    net: Network, change: Change, setting: Setting, healthy: Reference, known: Books | None
) -> tuple[Books, list[Fault]]:
    optimizer = change.optimizer or setting.optimizer
    if change.rate != 1:
        optimizer = replace_rate(optimizer, optimizer.lr * change.rate)
    changed = replace(setting, batch=change.data(setting.batch), optimizer=optimizer)
    if setting.steps:
        changed = replace(changed, data=change.data(setting.data))
        if change.standardise_targets:
            # another scale of losses: the counterpart's no longer compare
            healthy = replace(healthy, trace=None)
    evidence, found = examine(net, changed, healthy, known)
    return evidence.books, found


def replace_rate(optimizer: Any, lr: float) -> Any:
    """Return the optimizer with another learning rate."""
    settings = {name: value for name, value in vars(optimizer).items() if name != "lr"}
    return type(optimizer)(lr, **settings)


def _relative_signal(books: Books, *, first: bool = False) -> float:
    """log10 of signal over scale of what the last (or the first) layer reads."""
    layers, at = books.layers, 0 if first else -1
    signal, scale = float(layers.input_signal[at]), float(layers.input_scale[at])
    return math.log10(signal / scale) if signal > 0 and scale > 0 else -math.inf
