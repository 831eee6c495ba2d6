"""What if the network were different: one batch through every alternative, and the causes that this reveals.

A cause is counterfactual: the smallest set of changes that lets the network train.  Whether a changed network would
train is read from its measures like the chance of the network itself, and no rule may find a sickness that is certain.
Where single changes do not suffice, joint ones of the most promising are tried.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import Any

from gradcore import activations
from gradcore.diagnosis.changes import (
    CAUSE_ORDER,
    Change,
    dense_layers,
    has,
    hidden_activations,
    matching_init,
)
from gradcore.diagnosis.examine import Setting, examine
from gradcore.diagnosis.variants import Variants
from gradcore.health.evidence import Books, Evidence
from gradcore.health.faults import Fault
from gradcore.health.rules import certain
from gradcore.layers import NORMS, Activation, Dropout, Residual, split_groups
from gradcore.network import Network
from gradcore.optimizers import SGD, Adam

# Alternatives for the hidden activations: every family, the safest for narrow layers first.
CANDIDATES = ("tanh", "relu", "selu", "elu", "gelu", "leaky_relu")

INITS = ("he_normal", "glorot_normal", "lecun_normal")

# What most people begin with: a rate far from it is tried there.
USUAL_RATE = {"plain": 0.03, "adaptive": 0.001}

# Rows of the batch for alternatives, of small and of large networks: enough to see the signal, few enough to be quick.
ROWS = (64, 32)
LARGE = 100_000  # parameters

# Chances that differ by less say nothing.
EQUAL = 0.02

# Rows of a short table.
TELLING = 8

# As promising as another, to somebody who has to choose.
ABOUT = 0.06

# Fewer layers cure nearly everything that depth compounds, and so say little about what is wrong.
DEPTH_HANDICAP = 0.2

# A width from which the scatter of gains is small: narrower networks are tried wider.
WIDE = 32


@dataclass(frozen=True)
class Outcome:
    """One alternative.

    Attributes
    ----------
    change : Change
    chance : float
        Of training, from one batch and the real steps where they were asked for.
    gradient : float
        log10 of the end-to-end gain; minus infinity where it is zero, NaN where a number of the batch is none.
    signal : float
        log10 of signal over scale at the inputs of the last layer, relative to that of the network's inputs.
    faults : tuple of str
        Kinds of the faults that are certain.
    """

    change: Change
    chance: float
    gradient: float
    signal: float
    faults: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """How the change is called in tables."""
        return self.change.name

    @property
    def trains(self) -> bool:
        """Whether it more likely trains than not."""
        return self.chance > 0.5 and not self.faults

    def to_dict(self) -> dict[str, Any]:
        """Return the outcome as plain numbers and strings."""
        return {
            "change": self.name,
            "causes": list(self.change.causes),
            "chance": self.chance,
            "gradient_log10": self.gradient,
            "signal_log10": self.signal,
            "faults": list(self.faults),
            "trains": self.trains,
        }


@dataclass(frozen=True)
class WhatIf:
    """All alternatives that were tried, single changes first; iterating gives the outcomes."""

    outcomes: tuple[Outcome, ...] = ()
    milliseconds: float = 0.0

    def __iter__(self) -> Iterator[Outcome]:
        return iter(self.outcomes)

    def __len__(self) -> int:
        return len(self.outcomes)

    @cached_property
    def cures(self) -> list[Outcome]:
        """The outcomes that train because a cause is gone: the smallest first, then the most promising."""
        cures = [outcome for outcome in self.outcomes if outcome.trains and outcome.change.causes]
        return sorted(cures, key=_promise)

    @property
    def causes(self) -> tuple[str, ...]:
        """The smallest set of causes whose removal lets the network train; where nothing does, what would help most."""
        best = self.best
        return () if best is None else best.change.causes

    @cached_property
    def best(self) -> Outcome | None:
        """The change to make: it removes just these causes; of about equal ones the activation that is safest."""
        cures = self.cures
        if not cures:
            removing = [outcome for outcome in self.outcomes if outcome.change.causes]
            # a second cause must be worth something
            return max(removing, key=lambda o: o.chance - 0.15 * (len(o.change.causes) - 1), default=None)
        first = cures[0]
        alike = [
            o
            for o in cures
            if o.change.made == first.change.made
            and o.change.rate == first.change.rate
            and o.chance > first.chance - ABOUT
        ]
        return min(alike, key=lambda o: CANDIDATES.index(o.change.activation or CANDIDATES[0]))

    @property
    def around(self) -> list[Outcome]:
        """The outcomes that make up for the causes without removing any (batch norm, residual blocks)."""
        around = [outcome for outcome in self.outcomes if outcome.trains and not outcome.change.causes]
        return sorted(around, key=lambda outcome: -outcome.chance)

    @property
    def telling(self) -> list[Outcome]:
        """What a short table shows, the most promising last and the change to make at the end.

        The parts of a joint change alone, what makes up for the causes without removing any, a second cure of the same
        kind, and the most promising single changes of other causes.
        """
        best = self.best
        if best is None:
            return self.ranked()[:TELLING][::-1]
        singles: dict[str, Outcome] = {}
        for outcome in self.ranked():
            change = outcome.change
            other = change.activation not in (None, best.change.activation)
            if len(change.causes) == 1 and not (other and len(best.change.causes) > 1):
                singles.setdefault(change.causes[0], outcome)
        joint = len(best.change.causes) > 1
        parts = [singles.pop(cause) for cause in best.change.causes if cause in singles and joint]
        around = [o for o in self.outcomes if not o.change.causes and len(o.change.made) == 1]
        second = [o for o in self.cures if o.change.made == best.change.made and o is not best][:1]
        chosen = [*parts, *around, *second, best]
        chosen += [o for o in singles.values() if o not in chosen][: max(0, TELLING - len(chosen))]
        return sorted(chosen, key=lambda outcome: (outcome is best, outcome.chance))

    def ranked(self) -> list[Outcome]:
        """Return all outcomes, the most promising first; of equals the smaller change."""
        return sorted(self.outcomes, key=lambda outcome: (-outcome.chance, len(outcome.change.made)))

    def to_dict(self) -> dict[str, Any]:
        """Return all outcomes as plain numbers, strings and lists."""
        return {
            "milliseconds": self.milliseconds,
            "outcomes": [outcome.to_dict() for outcome in self.outcomes],
        }

    def __str__(self) -> str:
        width = max((len(outcome.name) for outcome in self.outcomes), default=0)
        lines = [f"{'what if':<{width}}{'gradient':>10}{'signal':>9}{'chance':>8}"]
        lines += [
            f"{o.name:<{width}}{o.gradient:>10.1f}{o.signal:>9.1f}{o.chance:>8.0%}" for o in self.ranked()
        ]
        return "\n".join(lines)


def _promise(outcome: Outcome) -> tuple[float, ...]:
    """Sort key: the smallest change first, then the most promising; of the about equal the easier, the simpler."""
    change = outcome.change
    chance = outcome.chance - DEPTH_HANDICAP * (change.depth != 1)
    return change.size, -round(chance / EQUAL), CAUSE_ORDER.index(change.causes[0]), len(change.made)


def what_if(variants: Variants, setting: Setting, evidence: Evidence, faults: Sequence[Fault]) -> WhatIf:
    """Send one batch, and the real steps where they were asked for, through every alternative."""
    start = time.perf_counter()
    trial = _Trial(variants, setting.few(ROWS[variants.network.parameters.size > LARGE]), evidence)
    outcomes = [trial(change) for change in alternatives(variants, setting, evidence)]
    found = WhatIf(tuple(outcomes))
    if faults and not found.cures:
        promises = [(outcome.change, outcome.chance) for outcome in outcomes]
        outcomes += [trial(change) for change in joint(promises)]
    return WhatIf(tuple(outcomes), 1e3 * (time.perf_counter() - start))


def alternatives(variants: Variants, setting: Setting, evidence: Evidence) -> list[Change]:
    """List the changes worth trying: all single ones, and activations with the initial weights that match them."""
    layers, optimizer = variants.network.layers, setting.optimizer
    current = {activations.resolve(spec)[0].name for spec in hidden_activations(layers)}
    inits = {layer.init for layer in dense_layers(layers)}
    large = variants.network.parameters.size > LARGE
    candidates = CANDIDATES[:4] if large else CANDIDATES
    others = [name for name in candidates if current and current != {name}]
    own = matching_init(next(iter(current))) if len(current) == 1 else "auto"
    changes = [Change(activation=name) for name in others]
    # The uniform twin has the same variance: to change to it would only be to draw again.
    matching = variants.fresh and inits <= {own, own.replace("normal", "uniform"), "auto"}
    if not matching or any(layer.bias_init != "zeros" for layer in dense_layers(layers)):
        changes.append(Change(init=own))
    changes += [Change(init=name) for name in INITS if name != own and inits != {name}]
    usual = USUAL_RATE["plain" if isinstance(optimizer, SGD) else "adaptive"] / max(optimizer.lr, 1e-300)
    if optimizer.lr:
        changes += [Change(rate=factor) for factor in (100.0, 10.0, 0.1, 0.01, 0.001)]
    if optimizer.lr and not 0.005 < usual < 200:
        changes.append(Change(rate=usual))
    if isinstance(optimizer, SGD):
        changes.append(Change(optimizer=Adam(**optimizer.regularization)))
        if optimizer.momentum:
            changes.append(Change(optimizer=SGD(optimizer.lr, **optimizer.regularization)))
    if optimizer.weight_decay or optimizer.l1:
        changes.append(Change(unregularised=True))
    if setting.batch_size < 8:
        changes.append(Change(batch_size=32))
    if isinstance(layers[-1], Activation):
        changes.append(Change(linear_output=True))
    if setting.batch.loss.reduction == "sum":
        changes.append(Change(mean_loss=True))
    changes.append(Change(standardise=True))
    if evidence.regression:
        changes.append(Change(standardise_targets=True))
    if has(layers, Dropout):
        changes.append(Change(without_dropout=True))
    changes += [Change(without_norm=True)] if has(layers, NORMS) else [Change(norm=True)]
    if not has(layers, Residual):
        changes.append(Change(residual=True))
        narrowest = min((layer.units for layer in dense_layers(layers)[:-1]), default=WIDE)
        if narrowest < WIDE:
            changes.append(Change(width=math.ceil(WIDE / narrowest)))
    hidden = len(split_groups(layers)) - 1
    changes += [Change(depth=share) for share in (0.5, 0.25) if hidden * share >= 2]
    if hidden > 3:
        changes.append(Change(depth=2 / hidden))
    pairs = [Change(activation=name, init=matching_init(name)) for name in others]
    changes += pairs
    # a rate needs no batch of its own
    rates = (10.0, 3.0, 0.3, 0.1) if large else (10.0, 0.1)
    changes += [change.with_(Change(rate=factor)) for change in pairs[:4] for factor in rates]
    changes += [change.with_(Change(standardise=True)) for change in pairs[: 2 if large else 4]]
    if not has(layers, NORMS):
        changes += [change.with_(Change(norm=True)) for change in (*pairs[:2], Change(residual=True))]
    return changes


def joint(singles: Iterable[tuple[Change, float]], causes: int = 5) -> list[Change]:
    """Combine the most promising of some changes, of different causes, two by two and, last, three."""
    leading: dict[str, Change] = {}
    for change, _ in sorted(singles, key=lambda single: -single[1]):
        if len(change.causes) == 1:
            leading.setdefault(change.causes[0], change)
    chosen = list(leading.values())[:causes]
    return [
        _together(parts)
        for count in (2, 3)
        for parts in combinations(chosen[: causes if count == 2 else 4], count)
    ]


def _together(parts: Sequence[Change]) -> Change:
    whole = Change()
    for part in parts:
        whole = whole.with_(part)
    if whole.activation and whole.init:
        # the weights that were chosen for the activation that goes do not match the one that comes
        whole = replace(whole, init=matching_init(whole.activation))
    return whole


class _Trial:
    """Tries changes; what changes neither network nor data shares the books of the batch."""

    def __init__(self, variants: Variants, setting: Setting, evidence: Evidence) -> None:
        self.variants, self.setting = variants, setting
        self.books: dict[Change, Books] = {}
        self.networks: dict[Change, Network] = {}
        if len(setting.batch) == evidence.books.ledger.rows:
            self.books[Change()] = evidence.books
        self.origin = _relative_signal(evidence.books, first=True)

    def __call__(self, change: Change) -> Outcome:
        # the part that other changes of the training leave as it is
        seen = replace(change, rate=1.0, optimizer=None, unregularised=False, batch_size=None)
        if seen not in self.networks:
            self.networks[seen] = self.variants.make(change)
        evidence = examine(self.networks[seen], self.setting.changed(change), None, self.books.get(seen))
        self.books[seen] = evidence.books
        return Outcome(
            change,
            chance=evidence.chance,
            gradient=evidence.books.end_to_end_log10,
            signal=_relative_signal(evidence.books) - self.origin,
            faults=tuple(fault.kind for fault in certain(evidence)),
        )


def _relative_signal(books: Books, *, first: bool = False) -> float:
    """log10 of signal over scale of what the last (or the first) layer reads; NaN where they are no numbers."""
    layers, at = books.layers, 0 if first else -1
    signal, scale = float(layers.input_signal[at]), float(layers.input_scale[at])
    if math.isnan(signal) or math.isnan(scale):
        return math.nan
    return math.log10(signal / scale) if signal > 0 and scale > 0 else -math.inf
