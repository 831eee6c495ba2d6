"""Joint treatments, for where no single one is enough: what makes the signal pass, together with what else is wrong.

Two changes of different causes first; then everything at once, from which the parts that are not needed are taken away
again, one by one (Zeller & Hildebrandt, "Simplifying and isolating failure-inducing input", 2002, use the same idea).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from gradcore.diagnosis.changes import Change
from gradcore.diagnosis.what_if import joint
from gradcore.prescription.trials import Trial

# What lets the signal through whatever the weights were; the other changes put one more thing right.
SIGNAL = {"activation", "init", "norm", "residual", "lsuv", "pretrained", "depth"}

# Signal changes that others are combined with.
BASES = 3

# Doses of one change that are combined: a rate can be wrong in either direction.
DOSES = 2


def combined(trials: Sequence[Trial]) -> list[Change]:
    """Return two changes at once: the best that let the signal through, each with each other thing put right.

    And the most promising single changes of different causes, two by two.
    """
    ranked = sorted(trials, key=_promise)
    bases = _bases(ranked)
    pairs = [base.with_(remedy) for remedy in _remedies(ranked) for base in bases]
    pairs += joint([(trial.change, -_promise(trial)) for trial in ranked if trial.change])
    return _new(pairs, trials)


def all_at_once(trials: Sequence[Trial]) -> list[Change]:
    """Return everything that could be put right at once, with the best ways to let the signal through."""
    ranked = sorted((trial for trial in trials if trial.kind != "joint"), key=_promise)
    bases = _bases(ranked)
    whole, rates = Change(), []
    for remedy in _remedies(ranked):
        if remedy.rate != 1.0:
            rates.append(remedy)
        elif remedy.optimizer is None:
            whole = whole.with_(remedy)
    return _new((base.with_(whole).with_(rate) for rate in (Change(), *rates) for base in bases), trials)


def without_parts(change: Change) -> list[Change]:
    """Return the change with each of its parts taken away.

    Examples
    --------
    >>> [less.name for less in without_parts(Change(norm=True, rate=0.1))]
    ['learning rate ÷10', 'batch norm']
    """
    made = {name: getattr(change, name) for name in change.made}
    return [Change(**{name: value for name, value in made.items() if name != part}) for part in made]


def _bases(ranked: Iterable[Trial]) -> list[Change]:
    """Return the most promising changes that let the signal through."""
    return [trial.change for trial in ranked if trial.change and SIGNAL & set(trial.change.made)][:BASES]


def _remedies(ranked: Iterable[Trial]) -> list[Change]:
    """Return what puts one thing right that is not the signal, the most promising first."""
    found: dict[str, list[Change]] = {}
    for trial in ranked:
        change = trial.change
        if change and len(change.made) == 1 and not SIGNAL & set(change.made) and change.causes:
            doses = found.setdefault(change.made[0], [])
            if len(doses) < DOSES:
                doses.append(change)
    return [change for doses in found.values() for change in doses]


def _new(changes: Iterable[Change], trials: Iterable[Trial]) -> list[Change]:
    known = {trial.change for trial in trials}
    return [change for change in dict.fromkeys(changes) if change not in known]


def _promise(trial: Trial) -> float:
    """Sort key: the loss that training ended with; where all are alike, what one batch promised."""
    loss = min((result.loss for result in trial.results), default=math.inf)
    chance = trial.chance if math.isfinite(trial.chance) else 0.5
    return min(loss, 2.0) - 0.1 * chance
