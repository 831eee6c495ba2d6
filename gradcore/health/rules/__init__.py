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
from dataclasses import replace
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


def check(evidence: Evidence, *, foresee: bool = True) -> list[Fault]:
    """Return what is wrong, the most severe fault first; an empty list for a healthy network.

    With `foresee` a network that is unlikely to train has a fault also where no rule names one; the chance is that of a
    network before training, so that during training only what is there counts.
    """
    found = certain(evidence)
    first = [fault for fault in found if fault.kind == "invalid_data" and fault.severity == "fatal"]
    first = first or [fault for fault in found if fault.causes == ("learning_rate",)]
    if first:
        # what else shows comes from there
        return [fault for fault in found if fault.kind == first[0].kind]
    if evidence.doubtful or any(fault.severity == "fatal" for fault in found):
        found += _symptoms(evidence, fatal=evidence.hopeless)
    found += _later(evidence, found)
    if not found and foresee and evidence.hopeless:
        found = [_unnamed(evidence)]
    return sorted(found, key=lambda fault: fault.rank)


def certain(evidence: Evidence) -> list[Fault]:
    """Return the faults that keep a network from learning whatever else is true."""
    return _apply(all_rules(certain=True), evidence)


def _later(evidence: Evidence, found: list[Fault]) -> list[Fault]:
    """Return what the real steps made of the network that was not there before."""
    after, trace = evidence.after, evidence.trace
    if after is None or trace is None:
        return []
    known = {fault.kind for fault in found}
    faults = certain(after) + (_symptoms(after, fatal=evidence.hopeless) if evidence.doubtful else [])
    return [
        replace(fault, evidence={**fault.evidence, "after_steps": len(trace.losses)})
        for fault in faults
        # parameters that training made too large did not come in from outside
        if fault.kind not in known and fault.kind != "invalid_data"
    ]


def _symptoms(evidence: Evidence, *, fatal: bool) -> list[Fault]:
    """Return the symptoms; of a network that will not train at all, none is less than fatal."""
    found = _apply(all_rules(certain=False), evidence)
    return [replace(fault, severity="fatal") for fault in found] if fatal else found


def _unnamed(evidence: Evidence) -> Fault:
    """Return the fault of a network that is unlikely to train though no rule says why: its loss is going to stall."""
    layers = evidence.books.layers
    return Fault(
        "loss_stalled",
        "fatal",
        ops=tuple(evidence.books.ledger.plan.names[op] for op in layers.op),
        evidence={"chance": evidence.chance, "constant_loss": evidence.constant_loss, "layers": len(layers)},
    )


def _apply(rules: tuple[Rule, ...], evidence: Evidence) -> list[Fault]:
    return [fault for rule in rules if (fault := rule(evidence)) is not None]
