"""What if the network were different: one batch through every alternative, and the causes that this reveals.

A cause is counterfactual: the smallest set of changes that lets the network train.  Here "would train" means that no
rule finds a fatal fault in the changed network, one batch forward and backward each.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gradcore import activations, initializers
from gradcore.diagnosis.changes import Change, dense_layers, has, hidden_activations, split_groups
from gradcore.diagnosis.observe import Batch, count_dead, observe
from gradcore.diagnosis.variants import Variants
from gradcore.health.evidence import Books, Evidence
from gradcore.health.faults import Fault
from gradcore.health.rules import check
from gradcore.layers import BatchNorm, Residual
from gradcore.network import Network
from gradcore.optimizers import SGD, Adam

# Smooth or rectified, bounded or not: one good member of each family, the safest for narrow layers first.
CANDIDATES = ("tanh", "relu", "selu")

# Rows of the batch for alternatives: enough to see the signal, few enough to be quick.
ROWS = 64

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
        """Decades that gradient and signal together are away from passing unchanged; infinite when it would not train."""
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
        cures = self._cures(fault)
        return cures[0].change.causes if cures else ()

    def also(self, fault: Fault) -> tuple[str, ...]:
        """Name other changes that would do as well, no larger than the smallest set."""
        cures, best = self._cures(fault), self.best(fault)
        size = len(self.causes(fault))
        return tuple(o.name for o in cures if len(o.change.causes) == size and o is not best)

    def best(self, fault: Fault) -> Outcome | None:
        """Return, among the cures with the fewest causes, the one that passes gradient and signal on best."""
        cures, size = self._cures(fault), len(self.causes(fault))
        return min((o for o in cures if len(o.change.causes) == size), key=lambda o: o.distance, default=None)

    def _cures(self, fault: Fault) -> list[Outcome]:
        """Outcomes without the fault, fewest causes first, then in the order in which a person would try them."""
        cures = [o for o in self.outcomes if o.trains and fault.kind not in o.faults and o.change.causes]
        # Units die by chance, and the fewer there are in a layer the sooner all of them do: width comes first there.
        order = ("narrow_layers", *_ORDER) if fault.kind == "dead_units" else _ORDER
        return sorted(cures, key=lambda o: (len(o.change.causes), order.index(o.change.causes[0])))

    def to_dict(self) -> dict[str, Any]:
        """Return all outcomes as plain numbers, strings and lists."""
        return {"milliseconds": self.milliseconds, "outcomes": [outcome.to_dict() for outcome in self.outcomes]}

    def __str__(self) -> str:
        lines = [f"{'what if':<28}{'gradient':>10}{'signal':>9}   verdict"]
        lines += [
            f"{o.name:<28}{o.gradient:>10.1f}{o.signal:>9.1f}   {'yes' if o.trains else 'no: ' + ', '.join(o.faults)}"
            for o in self.outcomes
        ]
        return "\n".join(lines)


_ORDER = ("initial_weights", "activation", "input_scale", "learning_rate", "optimizer", "narrow_layers", "depth")


def alternatives(net: Network, faults: Sequence[Fault], evidence: Evidence) -> list[Change]:
    """List the changes worth trying, the single ones first."""
    layers = net.layers
    current = {activations.resolve(spec)[0].name for spec in hidden_activations(layers)}
    inits = {layer.init for layer in dense_layers(layers)}
    others = [name for name in CANDIDATES if current != {name}] if current else []
    grows = any(fault.kind in ("exploding_gradient", "overflow", "loss_nan", "loss_diverging") for fault in faults)
    singles = [Change(activation=name) for name in others]
    own = _matching(next(iter(current))) if len(current) == 1 else "auto"
    # the uniform twin has the same variance: to change to it is to draw again
    if not inits <= {own, own.replace("normal", "uniform"), "auto"}:
        singles.append(Change(init=own))
    singles.append(Change(rate=0.1 if grows else 10.0))
    if isinstance(evidence.optimizer, SGD):
        singles.append(Change(optimizer=Adam()))
    singles.append(Change(standardise=True))
    if not has(layers, BatchNorm):
        singles.append(Change(norm=True))
    if not has(layers, Residual):
        singles.append(Change(residual=True))
    hidden = len(split_groups(layers)) - 1
    if evidence.books.spread > 0.5:
        # the widths alone scatter the gain by more than half a decade
        singles.append(Change(width=4))
    if hidden > 2:
        singles.append(Change(depth=0.5))
    pairs = [Change(activation=name, init=_matching(name)) for name in others] if inits != {"auto"} else []
    return singles + pairs


def _matching(activation: str) -> str:
    """Name the initial weights that go with an activation; "auto" where they have no well-known name."""
    name = str(initializers.auto_for(activations.resolve(activation)[0]))
    return name if "(" not in name else "auto"


def what_if(variants: Variants, batch: Batch, evidence: Evidence, faults: Sequence[Fault], seed: int) -> WhatIf:
    """Send one batch through every alternative and apply the rules to it."""
    start = time.perf_counter()
    few = batch.rows(np.arange(min(len(batch), ROWS)))
    origin = _relative_signal(evidence.books, first=True)
    outcomes = []
    for change in alternatives(variants.network, faults, evidence):
        data = few.standardised() if change.standardise else few
        other = variants.make(change)
        books = observe(other, data, seed=seed) if change.rebuilds or change.standardise else evidence.books
        optimizer = change.optimizer or evidence.optimizer
        if change.rate != 1:
            optimizer = replace_rate(optimizer, optimizer.lr * change.rate)
        changed = replace(
            evidence, books=books, optimizer=optimizer, weights=other.get_parameters,
            dead_units=_dead_counter(other, data), trace=None, healthy_trace=None, _dead={},
        )  # fmt: skip
        found = check(changed)
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


def _dead_counter(net: Network, data: Batch) -> Callable[[int], tuple[int, int]]:
    return lambda op: count_dead(net, data, op)


def replace_rate(optimizer: Any, lr: float) -> Any:
    """Return the optimizer with another learning rate."""
    settings = {name: value for name, value in vars(optimizer).items() if name != "lr"}
    return type(optimizer)(lr, **settings)


def _relative_signal(books: Books, *, first: bool = False) -> float:
    """log10 of signal over scale of what the last (or the first) layer reads."""
    layers, at = books.layers, 0 if first else -1
    signal, scale = float(layers.input_signal[at]), float(layers.input_scale[at])
    return math.log10(signal / scale) if signal > 0 and scale > 0 else -math.inf
