"""The report for the terminal: the verdict first, then where, why and what to change; 80 columns."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gradcore.diagnosis.words import (
    LINE,
    change_lines,
    headline,
    healthy_figures,
    healthy_headline,
    notes,
    scores,
    seeds,
    signed,
    tiny,
    where,
    whole,
    why,
    words_of_advice,
)

if TYPE_CHECKING:
    from gradcore.diagnosis.diagnose import Diagnosis
    from gradcore.diagnosis.proof import Proof

BLOCKS = "·▁▂▃▄▅▆▇█"

# Decades between the shortest and the tallest block: what float32 resolves, twice over.
BLOCK_DECADES = 16.0

# One character for one, so that columns stay where they are; arrows and dots end a line.
_ASCII: dict[str, str | int | None] = {
    **dict(zip("✗✓–−×÷·▁▂▃▄▅▆▇█", "x+--x/._,-=+*%#", strict=True)),
    "←": "<-", "→": "->", "…": "...",
}  # fmt: skip
SYMBOLS = "".join(_ASCII)

_RED, _GREEN, _BOLD, _DIM, _RESET = "\x1b[31m", "\x1b[32m", "\x1b[1m", "\x1b[2m", "\x1b[0m"


@dataclass(frozen=True)
class Style:
    """What the terminal can show: symbols beyond ASCII, colours; and what an example is called."""

    symbols: bool = True
    colours: bool = False
    example: str = "example"

    def finish(self, lines: Iterable[str]) -> str:
        """Join lines, in ASCII where it must be."""
        text = "\n".join(lines)
        return (
            text
            if self.symbols
            else text.translate(str.maketrans(_ASCII)).encode("ascii", "replace").decode()
        )

    def _in(self, code: str, text: str) -> str:
        return f"{code}{text}{_RESET}" if self.colours else text

    def bad(self, text: str) -> str:
        """Red."""
        return self._in(_RED, text)

    def good(self, text: str) -> str:
        """Green."""
        return self._in(_GREEN, text)

    def strong(self, text: str) -> str:
        """Bold."""
        return self._in(_BOLD, text)

    def dim(self, text: str) -> str:
        """Faint."""
        return self._in(_DIM, text)


PLAIN = Style()


def render(diagnosis: Diagnosis, proof: Proof | None = None, style: Style = PLAIN) -> str:
    """Return the whole report."""
    if diagnosis.healthy:
        return style.finish(verdict(diagnosis, style))
    lines = [*verdict(diagnosis, style), *(proof_lines(proof, style) if proof is not None else [])]
    for part in (layer_table(diagnosis, style), what_if_table(diagnosis, proof, style)):
        lines += ["", *part] if part else []
    return style.finish(lines)


# -- the verdict -----------------------------------------------------------------------------------------------------


def verdict(diagnosis: Diagnosis, style: Style = PLAIN) -> list[str]:
    """Return the headline and where, why, change."""
    if diagnosis.healthy:
        every = "" if diagnosis.seeds == 1 else f" in {diagnosis.seeds} of {diagnosis.seeds} seeds"
        word = "✓ HEALTHY" if diagnosis.chance is not None else "· NO CERTAIN FAULT"
        head = style.good(style.strong(f"{word}: {healthy_headline(diagnosis)}{every}"))
        return [
            head,
            *(f"  {line}" for line in (*healthy_figures(diagnosis, style.example), *notes(diagnosis))),
        ]
    first, *others = diagnosis.faults
    lines = [style.bad(style.strong(f"✗ {first.title}: {headline(first)} ({seeds(first.seeds)})")), ""]
    lines += _labelled("where", where(first, diagnosis, style.example), style)
    lines += _labelled("why", why(first, diagnosis), style)
    lines += _labelled("note", notes(diagnosis), style)
    lines += _labelled("change", _change(diagnosis, style), style)
    for fault in others:
        place = where(fault, diagnosis, style.example)
        if "after_steps" in fault.evidence:  # the first line says when, the second what
            place = [" ".join(place[:2])]
        lines += _labelled(
            "also", [f"{fault.title.lower()} ({seeds(fault.seeds)}): {place[0].rstrip(';')}"], style
        )
    return lines


def _labelled(label: str, lines: Sequence[str], style: Style) -> list[str]:
    if not lines:
        return []
    # lines with colours are ours and short enough
    fitting = [part for line in lines for part in ([line] if "\x1b" in line else _wrapped(line))]
    return [f"  {style.dim(f'{label:<7}')} {fitting[0]}", *(" " * 10 + line for line in fitting[1:])]


def _change(diagnosis: Diagnosis, style: Style) -> list[str]:
    best = diagnosis.best
    if best is None:
        fault = diagnosis.faults[0]
        return [words_of_advice(fault)] if fault.advice else []
    return [
        style.bad(line) if line.startswith("-") else style.good(line)
        for line in change_lines(diagnosis.network, diagnosis.optimizer, best.change)
    ]


# -- tables ----------------------------------------------------------------------------------------------------------


def proof_lines(proof: Proof, style: Style = PLAIN) -> list[str]:
    """Return the scores of real training, before and after the change."""
    now, changed = proof.control, proof.changed
    text = f"test {proof.score}   now {scores(now.scores)}"
    if changed is not None:
        text += (
            f"   changed {style.good(scores(changed.scores)) if changed.trains else scores(changed.scores)}"
        )
    return _labelled("proof", [text], style)


def layer_table(diagnosis: Diagnosis, style: Style = PLAIN) -> list[str]:
    """Return gradient and signal by layer, as numbers and as blocks, now and changed."""
    layers, changed = diagnosis.books.layers, diagnosis.changed
    count = len(layers)
    shown = _columns(count)
    header = "".join(f"{'out' if i == count - 1 else i + 1:>6}" for i in shown)
    with np.errstate(divide="ignore"):
        now = np.log10(layers.delta)
        other = (
            np.log10(changed.layers.delta) if changed is not None and len(changed.layers) == count else None
        )
    everything = now if other is None else np.concatenate([now, other])
    top = float(everything[np.isfinite(everything)].max(initial=-math.inf))
    lost = layers.lost(diagnosis.ledger.dtype)
    signal = "".join(_cell(bool(lost[i]), float(layers.output_signal[i])) for i in shown)
    lines = [
        f"  {style.dim('layer'.ljust(16) + header)}",
        f"  {'gradient, log10':<16}" + "".join(f"{whole(float(now[i])):>6}" for i in shown),
        f"  {'now':<16}" + style.bad("".join(f"{_block(now[i], top):>6}" for i in shown)),
    ]
    if other is not None:
        lines.append(f"  {'changed':<16}" + style.good("".join(f"{_block(other[i], top):>6}" for i in shown)))
    # numbers of seven characters (5.3e-3 and a space) reach one to the left
    lines.append(f"  {style.example + ' signal':<16}" + signal)
    return lines


def what_if_table(diagnosis: Diagnosis, proof: Proof | None = None, style: Style = PLAIN) -> list[str]:
    """Return the alternatives: of one batch, or, with a proof, really trained."""
    if not len(diagnosis.what_if):
        return []
    if proof is None:
        best = diagnosis.best
        lines = [
            f"  {style.dim('what if'.ljust(34) + 'gradient'.rjust(9) + 'signal'.rjust(9) + '   chance to train')}"
        ]
        for outcome in diagnosis.what_if.telling:
            chance = f"{outcome.chance:>4.0%}"
            word = style.good(chance) if outcome.trains else chance
            mark = style.good("  ← best") if outcome is best else ""
            lines.append(
                f"  {outcome.name:<34}{signed(outcome.gradient):>9}{signed(outcome.signal):>9}   {word}{mark}"
            )
        return lines
    width = max(len(scores(trial.scores)) for trial in proof.trials)
    count = len(proof.control.scores)
    seeds = f"{count} seed{'s' if count > 1 else ''}"
    lines = [
        f"  {style.dim('what if'.ljust(25) + 'gradient'.rjust(9) + '   ' + seeds.ljust(width) + '   verdict')}"
    ]
    best_trial = proof.best
    for trial in proof.trials:
        mark = " ← best" if trial is best_trial else ""
        word = style.good("yes" + mark) if trial.trains else "no"
        lines.append(
            f"  {trial.name:<25}{signed(trial.gradient):>9}   {scores(trial.scores):<{width}}   {word}"
        )
    return lines


def _columns(count: int) -> list[int]:
    """Choose at most seven layers: the first, the last hidden one, the output, and round numbers between."""
    if count <= 7:
        return list(range(count))
    hidden = count - 1
    inner = [round(hidden * k / 4) - 1 for k in (1, 2, 3)]
    return sorted({0, *inner, hidden - 1, hidden})


def _block(value: float, top: float) -> str:
    if math.isnan(value):
        return "–"
    if not math.isfinite(value):
        return BLOCKS[-1] if value > 0 else BLOCKS[0]
    level = round(8 * (1 + (value - top) / BLOCK_DECADES))
    return BLOCKS[max(0, min(8, level))]


def _cell(lost: bool, value: float) -> str:
    text = "lost" if lost else tiny(value)
    return f"{text:>6}"


def _wrapped(line: str) -> list[str]:
    indent = " " * (len(line) - len(line.lstrip()))
    return textwrap.wrap(line, LINE, subsequent_indent=indent + "  ", break_on_hyphens=False) or [""]
