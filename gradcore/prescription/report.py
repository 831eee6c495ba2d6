"""The prescription for the terminal: the verdict, what it rests on, the change to write, and every trial."""

from __future__ import annotations

import textwrap
from collections import Counter
from typing import TYPE_CHECKING

from gradcore.diagnosis.report import PLAIN, Style
from gradcore.diagnosis.words import LINE, scores
from gradcore.prescription import words
from gradcore.prescription.comparison import HARMED, HELPED

if TYPE_CHECKING:
    from gradcore.prescription.result import Prescription
    from gradcore.prescription.trials import Trial

# Rows of the table; the others are counted.
SHOWN = 16

_NAME, _SEEDS = 31, 4


def render(prescription: Prescription, style: Style = PLAIN, *, shown: int = SHOWN) -> str:
    """Return the whole report, 80 columns wide."""
    lines = [*verdict(prescription, style), "", *table(prescription, style, shown=shown)]
    return style.finish(lines)


def verdict(prescription: Prescription, style: Style = PLAIN) -> list[str]:
    """Return the headline, what it rests on, and the change."""
    mark, paint = ("✓", style.good) if words.good(prescription) else ("✗", style.bad)
    head = textwrap.wrap(f"{mark} {words.headline(prescription)}", 80, subsequent_indent="  ")
    lines = [paint(style.strong(line)) for line in head] + [""]
    lines += _labelled("proof" if prescription.best else "note", words.evidence(prescription), style)
    best = prescription.best
    if best is not None:
        if best.caution:
            lines += _labelled("caution", [best.caution], style)
        code = prescription.code.splitlines()
        lines += _labelled(
            "change", [style.bad(line) if line.startswith("-") else style.good(line) for line in code], style
        )
    return lines + _labelled("tried", [words.how(prescription)], style)


def table(prescription: Prescription, style: Style = PLAIN, *, shown: int = SHOWN) -> list[str]:
    """Return every trial: scores of the first seeds, difference from the control, verdict."""
    control, *trials = prescription.trials
    head = f"  {'treatment':<{_NAME}}{'scores by seed':<{5 * _SEEDS + 2}}{'differs':>7}   verdict"
    lines = [style.dim(head), _row(control, style)]
    lines += [_row(trial, style) for trial in trials[:shown]]
    if len(trials) > shown:
        rest = Counter(trial.verdict for trial in trials[shown:])
        said = ", ".join(f"{count} {verdict}" for verdict, count in rest.items())
        lines.append(style.dim(f"  … and {len(trials) - shown} more: {said}"))
    return lines


def _row(trial: Trial, style: Style) -> str:
    some = scores(trial.scores[:_SEEDS])
    more = "…" if len(trial.scores) > _SEEDS else ""
    difference = words.signed(trial.comparison.difference) if trial.comparison else ""
    word = trial.verdict or f"{trial.trained} of {len(trial.results)} train"
    word = {HELPED: style.good, HARMED: style.bad}.get(trial.verdict, str)(word)
    fresh = style.dim(" (fresh)") if trial.fresh else ""
    name = trial.name if len(trial.name) < _NAME else trial.name[: _NAME - 2] + "…"
    return f"  {name:<{_NAME}}{some + more:<{5 * _SEEDS + 2}}{difference:>7}   {word}{fresh}".rstrip()


def _labelled(label: str, lines: list[str], style: Style) -> list[str]:
    if not lines:
        return []
    # lines with colours are ours and short enough
    fitting = [
        part for line in lines for part in ([line] if "\x1b" in line else textwrap.wrap(line, LINE) or [""])
    ]
    return [f"  {style.dim(f'{label:<7}')} {fitting[0]}", *(" " * 10 + line for line in fitting[1:])]
