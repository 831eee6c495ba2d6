"""The rules: each looks at the evidence and returns a fault or None.

A rule is one module of this package with a function ``rule(evidence) -> Fault | None``; it is found by itself.
Its docstring says why the bound is what it is, and where it comes from.  A module that says ``CERTAIN = True`` has a
rule that needs no second opinion: what it finds keeps a network from learning whatever else is true.  All others name
symptoms, which healthy networks can show as well; theirs are reported only where the chance of training is low.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from functools import cache

from gradcore.health.evidence import Evidence
from gradcore.health.faults import Fault

Rule = Callable[[Evidence], Fault | None]


@cache
def all_rules(*, certain: bool | None = None) -> tuple[Rule, ...]:
    """Return every rule of this package, or only those that are certain, or only the others."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    modules = [importlib.import_module(f"{__name__}.{name}") for name in names]
    return tuple(
        module.rule for module in modules if certain is None or getattr(module, "CERTAIN", False) == certain
    )


def check(evidence: Evidence) -> list[Fault]:
    """Return what is wrong, the most severe fault first; an empty list for a healthy network."""
    found = certain(evidence)
    if found or evidence.doubtful:
        found += _apply(all_rules(certain=False), evidence)
    return sorted(found, key=lambda fault: fault.rank)


def certain(evidence: Evidence) -> list[Fault]:
    """Return the faults that keep a network from learning whatever else is true."""
    return _apply(all_rules(certain=True), evidence)


def _apply(rules: tuple[Rule, ...], evidence: Evidence) -> list[Fault]:
    return [fault for rule in rules if (fault := rule(evidence)) is not None]
