"""The rules: each looks at the evidence and returns a fault or None.

A rule is one module of this package with a function ``rule(evidence) -> Fault | None``; it is found by itself.
Its docstring says why the bound is what it is, and where it comes from.
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
def all_rules() -> tuple[Rule, ...]:
    """Return every rule of this package."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return tuple(importlib.import_module(f"{__name__}.{name}").rule for name in names)


def check(evidence: Evidence) -> list[Fault]:
    """Return what is wrong, the most severe fault first; an empty list for a healthy network."""
    faults = [fault for rule in all_rules() if (fault := rule(evidence)) is not None]
    return sorted(faults, key=lambda fault: fault.rank)
