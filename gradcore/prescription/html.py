"""The prescription as one HTML page, and as a fragment for notebooks."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jinja2

from gradcore import __version__, kernels
from gradcore.diagnosis.html import Both, environment, percent
from gradcore.diagnosis.words import capital, scores
from gradcore.prescription import words
from gradcore.prescription.comparison import HELPED, LEVEL
from gradcore.prescription.drawing import profile_curves, trial_strip
from gradcore.prescription.treatments import TREATMENTS

if TYPE_CHECKING:
    from gradcore.prescription.result import Prescription
    from gradcore.prescription.trials import Trial

# Rows of the first drawing: what helped, and the next few.
_DRAWN = 12

_NARROW = 350

# Scores of a line of the table; all are in the JSON.
_SCORES = 5


def page(prescription: Prescription, *, command: str | None = None) -> str:
    """Return the report as one HTML file without any external part.

    Parameters
    ----------
    prescription : Prescription
    command : str, optional
        The command line that made it; None: the lines of Python are shown.
    """
    trials = [trial for trial in prescription.trials if trial.results]
    drawn = trials[: 1 + _DRAWN]
    return _template("prescription.html.jinja").render(
        _verdict(prescription),
        dots=Both(trial_strip(prescription, drawn), trial_strip(prescription, drawn, _NARROW)),
        undrawn=len(trials) - len(drawn),
        tried=len(trials) - 1,
        left_out=len(prescription.trials) - len(trials),
        fresh=_fresh(prescription),
        profiles=_profiles(prescription),
        zeros=_zeros(prescription),
        rows=[_Row.of(trial) for trial in prescription.trials],
        effects=[
            (kind.replace("_", " "), TREATMENTS[kind].effect)
            for kind in dict.fromkeys(trial.kind for trial in trials)
            if kind in TREATMENTS
        ],
        config=json.dumps(prescription.config, indent=2, default=str),
        level=f"{LEVEL:.0%}".replace("%", " %"),
        reproduce=command or prescription.reproduce,
        version=__version__,
        isa=kernels.info()["level"],
    )


def fragment(prescription: Prescription) -> str:
    """Return the verdict, the change and the dots for a notebook, light or dark."""
    drawn = [trial for trial in prescription.trials if trial.results][: 1 + _DRAWN]
    return _template("prescription_fragment.html.jinja").render(
        _verdict(prescription), dots=trial_strip(prescription, drawn, 640)
    )


def _template(name: str) -> jinja2.Template:
    return environment("gradcore.prescription", "gradcore.diagnosis").get_template(name)


def _verdict(prescription: Prescription) -> dict[str, Any]:
    """Return what page and fragment both begin with."""
    return {
        "good": words.good(prescription),
        "headline": capital(words.headline(prescription)),
        "evidence": [capital(line) for line in words.evidence(prescription)],
        "caution": prescription.best.caution if prescription.best else "",
        "change": prescription.code.splitlines(),
        "how": capital(words.how(prescription)),
        "prescription": prescription,
    }


def _fresh(prescription: Prescription) -> list[str]:
    """Return what was trained anew from fresh seeds, each with their number: the budget may end between them."""
    return [f"{trial.name} ({len(trial.results)} seeds)" for trial in prescription.trials if trial.fresh]


def _profiles(prescription: Prescription) -> list[tuple[str, Any]]:
    found = []
    for when in ("before", "after"):
        wide, narrow = (
            profile_curves(prescription.control, prescription.best, when, *size)
            for size in ((560, 300), (350, 260))
        )
        if wide is not None and narrow is not None:
            found.append((f"{when.capitalize()} training", Both(wide, narrow)))
    return found


def _zeros(prescription: Prescription) -> bool:
    """Return whether a curve lies on the lower edge, where zero is drawn."""
    trials = (prescription.control, prescription.best)
    profiles = [profile for trial in trials if trial for profile in (trial.before, trial.after) if profile]
    return any(-math.inf in (*profile.gradient, *profile.signal) for profile in profiles)


@dataclass(frozen=True)
class _Row:
    """A line of the table, in words."""

    name: str
    verdict: str
    helped: bool
    scores: str
    trained: str
    difference: str
    interval: str
    p: str
    chance: str
    seconds: str
    remarks: str

    @classmethod
    def of(cls, trial: Trial) -> _Row:
        comparison = trial.comparison
        difference = interval = ""
        if comparison is not None:
            low, high = comparison.interval
            difference = words.signed(comparison.difference)
            if len(trial.results) > 2:
                interval = f"{words.signed(low)} to {words.signed(high)}"
        return cls(
            name=trial.name,
            verdict=(trial.verdict or "the control") + (" (fresh seeds)" if trial.fresh else ""),
            helped=trial.verdict == HELPED,
            scores=scores(trial.scores[:_SCORES]) + " …" * (len(trial.scores) > _SCORES),
            trained=f"{trial.trained} of {len(trial.results)}" if trial.results else "",
            difference=difference,
            interval=interval,
            p=words.p_value(comparison.p) if comparison and comparison.p < 1 else "",
            chance=percent(trial.chance),
            seconds=f"{trial.seconds:.2g}" if trial.results else "",
            remarks="; ".join(
                said
                for said in (
                    trial.kind.replace("_", " ") if trial.change is not None else "",
                    trial.note.removeprefix(f"{trial.verdict}: "),
                    trial.caution and f"caution: {trial.caution}",
                )
                if said
            ),
        )
