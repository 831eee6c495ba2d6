"""The course of training: the loss, and the gradient of every layer, step by step."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from gradcore.diagnosis.curves import grouped, together
from gradcore.diagnosis.drawing.svg import (
    LINE,
    Room,
    Scale,
    document,
    extent,
    grid,
    line,
    power_of_ten,
    tag,
    text,
    whole_numbers,
)
from gradcore.diagnosis.words import short, whole

if TYPE_CHECKING:
    from gradcore.health.evidence import Trace

Array = npt.NDArray[np.float64]

# Cells of the heat map, and points of the loss; more are drawn together.
_LAYERS, _STEPS, _LOSSES = 50, 60, 200

# Shades of the heat map; the style sheet has a colour for each.
_SHADES = 9


def loss_curve(trace: Trace, constant: float | None = None, width: int = 600, height: int = 260) -> Markup:
    """Draw the loss of every step, in decades where it changes more than a hundredfold.

    Parameters
    ----------
    trace : Trace
    constant : float, optional
        The loss of the best constant predictor.
    width, height : int
    """
    losses = np.asarray(trace.losses, np.float64)
    finite = losses[np.isfinite(losses)]
    decades = len(finite) > 0 and finite.min() > 0 and finite.max() > 100 * finite.min()
    level = [constant] if constant is not None and constant > 0 else []
    with np.errstate(divide="ignore", invalid="ignore"):
        shown, level = (np.log10(losses), [math.log10(v) for v in level]) if decades else (losses, level)
    known = [*shown[np.isfinite(shown)], *level]
    low, high = (float(min(known)), float(max(known))) if known else (0.0, 1.0)
    margin = 0.06 * (high - low or abs(high) or 1.0)
    x = Scale(1, max(2, len(losses)), 56, width - 14)
    y = Scale(low - margin, high + margin, height - 40, 10)
    ticks = [tick for tick in y.ticks(4) if not decades or tick == round(tick)]
    parts = [*grid(y, ticks, x.start, x.end)]
    for tick in ticks:
        label = power_of_ten(round(tick)) if decades else f"{tick:.4g}"
        parts.append(text(x.start - 6, y(tick) + 4, label, "tick", "end"))
    steps = [n for n in whole_numbers(x.ticks(width // 110)) if n > 1 and x(len(losses)) - x(n) > 34]
    parts += [text(x(n), height - 22, n, "tick", "middle") for n in sorted({1, *steps, len(losses)})]
    parts.append(text((x.start + x.end) / 2, height - 5, "step", "tick", "middle"))
    groups = grouped(len(losses), _LOSSES)
    values = together(shown, groups)
    points = [(x(1 + float(group.mean())), y(v)) for group, v in zip(groups, values, strict=True)]
    if len(losses) > _LOSSES:
        parts.append(_range(shown, groups, x, y))
    parts.append(line(points, "loss now"))
    room = Room((x.start, y.end, x.end, y.start))
    room.occupy(points)
    parts += _constant(y(level[0]), x, room) if level else []
    broken = np.flatnonzero(~np.isfinite(losses))
    parts += _broken(int(broken[0]) + 1, x, y, room) if len(broken) else []
    ends = f"from {short(float(losses[0]))} to {short(float(losses[-1]))}"
    return document(width, height, parts, f"Training loss over {len(losses)} steps, {ends}")


def _range(shown: Array, groups: Sequence[npt.NDArray[np.int64]], x: Scale, y: Scale) -> Markup:
    """Shade between the least and the largest of the steps that are drawn together."""
    top, bottom = [], []
    for group in groups:
        part = shown[group][np.isfinite(shown[group])]
        if len(part):
            at = x(1 + float(group.mean()))
            top.append(f"{at:.1f},{y(float(part.max())):.1f}")
            bottom.append(f"{at:.1f},{y(float(part.min())):.1f}")
    return tag("polygon", points=" ".join([*top, *reversed(bottom)]), class_="range")


def _constant(level: float, x: Scale, room: Room) -> Iterator[Markup]:
    yield tag("path", d=f"M{x.start:g} {level:.1f}H{x.end:g}", class_="constant")
    words = ["constant predictor"]
    right = x.end - extent(words)[0]
    places = [
        (right, level - LINE - 2),
        (right, level + 3),
        (x.start + 4, level - LINE - 2),
        (x.start + 4, level + 3),
    ]
    yield from room.write(words, places, "label bound", near=4)[1]


def _broken(step: int, x: Scale, y: Scale, room: Room) -> Iterator[Markup]:
    at = x(step)
    yield tag("path", d=f"M{at:.1f} {y.end:g}V{y.start:g}", class_="broken-line")
    words = [f"step {step}: no number any more"]
    places = [(at + 5, y.end + 2), (at - extent(words)[0] - 5, y.end + 2)]
    yield from room.write(words, places, "label now", near=2)[1]


def heat_map(trace: Trace, width: int = 600) -> Markup:
    """Draw the weight gradient of every layer (upwards) at every booked step (to the right), dark to light."""
    steps = [step for step, _, _ in trace.ledgers]
    with np.errstate(divide="ignore"):
        table = np.log10(np.array([gradient for _, _, gradient in trace.ledgers], np.float64))
    of_layers, of_steps = grouped(table.shape[1], _LAYERS), grouped(table.shape[0], _STEPS)
    cells = np.array([[_mean(table[np.ix_(some, part)]) for some in of_steps] for part in of_layers])
    finite = cells[np.isfinite(cells)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 0.0)
    tall, wide = min(18.0, 260 / len(cells)), (width - 60) / cells.shape[1]
    bottom = 4 + tall * len(cells)
    height = round(bottom) + 58
    parts = [*_cells(cells, low, high, tall, wide, bottom)]
    for i in sorted({0, len(cells) // 2, len(cells) - 1}):
        name = "out" if i == len(cells) - 1 else int(of_layers[i][0]) + 1
        parts.append(text(40, bottom - (i + 0.5) * tall + 4, name, "tick", "end"))
    for j in sorted({0, cells.shape[1] // 2, cells.shape[1] - 1}):
        parts.append(text(46 + (j + 0.5) * wide, bottom + 16, steps[int(of_steps[j][0])], "tick", "middle"))
    parts += [text(46, height - 8, "layer ↑  step →", "tick"), *_key(low, high, width, height)]
    label = (
        f"Weight gradient of {table.shape[1]} layers at {len(steps)} steps, log10 from {whole(low)} to {whole(high)};"
        f" of the first layer {whole(float(cells[0, 0]))} at first and {whole(float(cells[0, -1]))} at last"
    )
    return document(width, height, parts, label, "heat")


def _cells(
    cells: Array, low: float, high: float, tall: float, wide: float, bottom: float
) -> Iterator[Markup]:
    """Draw all cells of one shade as one path, and a run of them in a row as one rectangle: a small file."""
    runs: dict[str, list[str]] = {}
    for i, row in enumerate(cells):
        shades = [*(_shade(float(value), low, high) for value in row), ""]
        begin = 0
        for j in range(1, len(shades)):
            if shades[j] != shades[begin]:
                left, top = f"{46 + begin * wide:.1f}", bottom - (i + 1) * tall
                run = f"M{left} {top:.1f}h{(j - begin) * wide:.1f}v{tall:.1f}H{left}z"
                runs.setdefault(shades[begin], []).append(run)
                begin = j
    for shade, paths in sorted(runs.items()):
        yield tag("path", d="".join(paths), class_=shade)


def _mean(values: Array) -> float:
    """Return the mean of what is finite; what is no number spoils it, so that one such step is seen among many."""
    if np.isnan(values).any() or np.isposinf(values).any():
        return math.nan
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else -math.inf


def _shade(value: float, low: float, high: float) -> str:
    if math.isnan(value):
        return "broken"
    if value == -math.inf:
        return "zero"
    return f"h{min(_SHADES - 1, int(_SHADES * (value - low) / (high - low or 1.0)))}"


def _key(low: float, high: float, width: int, height: int) -> Iterator[Markup]:
    left = width - 64.0 - 18 * _SHADES
    yield text(left - 6, height - 8, power_of_ten(round(low)), "tick", "end")
    for k in range(_SHADES):
        yield tag("rect", x=left + 18 * k, y=height - 19, width=18, height=12, class_=f"h{k}")
    yield text(left + 18 * _SHADES + 6, height - 8, power_of_ten(round(high)), "tick")
