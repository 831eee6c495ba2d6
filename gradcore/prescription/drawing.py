"""The drawings of a prescription: one dot per training, and what the treatment does to gradient and signal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from markupsafe import Markup

from gradcore.diagnosis.drawing.svg import Scale, document, grid, line, power_of_ten, tag, text, whole_numbers
from gradcore.diagnosis.words import score_label
from gradcore.prescription import words
from gradcore.prescription.comparison import HARMED, HELPED

if TYPE_CHECKING:
    from gradcore.prescription.measured import Profile
    from gradcore.prescription.result import Prescription
    from gradcore.prescription.trials import Trial

_ROW, _TOP, _BOTTOM = 24, 8, 40
_CHARACTER = 6.6

# How a trial is drawn: told apart by shape as well as by colour.
_SIGNS = {HELPED: ("changed", "M0 -5L5 4H-5Z"), HARMED: ("now", "M0 5L5 -4H-5Z")}
_DOT = "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0"


def trial_strip(prescription: Prescription, trials: Sequence[Trial], width: int = 720) -> Markup:
    """Draw a row for each trial, with one sign per seed and a stroke at the mean; the control's mean runs through all.

    Triangles point up where it helped and down where it harmed.
    """
    scores = [score for trial in trials for score in trial.scores]
    least = min(scores)
    low = 1.5 * least - 0.5 if least > 0.5 else min(least, 0.0)  # where all are good, look closer
    name_room = 200 if width > 500 else 128
    x = Scale(low, 1.0, name_room, width - 86)
    height = _TOP + _ROW * len(trials) + _BOTTOM
    bottom = height - _BOTTOM
    parts: list[Markup] = []
    for tick in x.ticks(6 if width > 500 else 3):
        parts.append(tag("path", d=f"M{x(tick):.1f} {_TOP}V{bottom}", class_="grid"))
        parts.append(text(x(tick), bottom + 16, f"{tick:.2g}".replace("-", "−"), "tick", "middle"))
    parts.append(
        text((x.start + x.end) / 2, height - 6, f"test {score_label(prescription.score)}", "tick", "middle")
    )
    control = x(prescription.control.mean)
    parts.append(tag("path", d=f"M{control:.1f} {_TOP}V{bottom}", class_="constant"))
    for row, trial in enumerate(trials):
        parts += _row(trial, x, _TOP + _ROW * (row + 0.5), name_room, width)
    said = "; ".join(
        f"{trial.name}: mean {words.number(trial.mean)}, {trial.verdict or 'the control'}" for trial in trials
    )
    return document(width, height, parts, f"Test {score_label(prescription.score)} of each training. {said}")


def _row(trial: Trial, x: Scale, middle: float, name_room: int, width: int) -> Iterator[Markup]:
    of, sign = _SIGNS.get(trial.verdict, ("neutral", _DOT))
    most = int((name_room - 12) / _CHARACTER)
    name = trial.name if len(trial.name) <= most else trial.name[: most - 1] + "…"
    yield text(name_room - 10, middle + 4, name, "label", "end")
    yield tag("path", d=f"M{x(trial.mean):.1f} {middle - 9:.1f}v18", class_=f"mean {of}")
    for score in trial.scores:
        yield tag("path", d=sign, transform=f"translate({x(score):.1f} {middle:.1f})", class_=f"sign {of}")
    yield text(width - 80, middle + 4, trial.verdict or "as it is", f"label {of}")


def profile_curves(
    control: Trial, best: Trial | None, when: str, width: int = 350, height: int = 260
) -> Markup | None:
    """Draw gradient and signal over the layers, "before" or "after" training: control and best treatment.

    None where neither was looked at.
    """
    trials = [(of, getattr(trial, when)) for of, trial in (("now", control), ("changed", best)) if trial]
    profiles = [(of, profile) for of, profile in trials if profile is not None]
    values = [
        value
        for _, profile in profiles
        for value in (*profile.gradient, *profile.signal)
        if math.isfinite(value)
    ]
    if not values:
        return None
    low, high = min(values), max([*values, 0.0])
    low = min(low, high - 3)
    margin = 0.06 * (high - low)
    x, y = Scale(0, 1, 46, width - 12), Scale(low - margin, high + margin, height - 34, 10)
    decades = whole_numbers(y.ticks(5))
    parts = [*grid(y, decades, x.start, x.end)]
    parts += [text(x.start - 6, y(decade) + 4, power_of_ten(decade), "tick", "end") for decade in decades]
    parts.append(text(x.start, height - 16, "first layer", "tick"))
    parts.append(text(x.end, height - 16, "output", "tick", "end"))
    for of, profile in profiles:
        for what in ("gradient", "signal"):
            parts.append(line(_points(getattr(profile, what), x, y), f"{what} {of}"))
    return document(width, height, parts, _described(profiles, when))


def _points(values: Sequence[float], x: Scale, y: Scale) -> list[tuple[float, float]]:
    # another depth is drawn over the same width; what is zero lies on the lower edge
    last = max(1, len(values) - 1)
    return [(x(i / last), y(value)) for i, value in enumerate(values)]


def _described(profiles: Sequence[tuple[str, Profile]], when: str) -> str:
    names = {"now": "as it is", "changed": "treated"}
    said = (
        f"{names[of]}: gradient {_decades(profile.gradient[0])} at the first layer, signal"
        f" {_decades(profile.signal[-2] if len(profile.signal) > 1 else profile.signal[-1])} before the output"
        for of, profile in profiles
    )
    return f"Gradient and signal by layer {when} training. {'; '.join(said)}"


def _decades(value: float) -> str:
    return power_of_ten(round(value)) if math.isfinite(value) else "zero"
