"""Gradient and signal over the layers: now, predicted and changed, with what lies below them and what causes it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from gradcore.diagnosis.curves import Band, Curve, bands, curves, grouped, together
from gradcore.diagnosis.drawing.svg import (
    LINE,
    Point,
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
from gradcore.diagnosis.words import factor, group_shares, plural, ranges, signed

if TYPE_CHECKING:
    from gradcore.diagnosis.diagnose import Diagnosis
    from gradcore.health.faults import Fault

# More layers than this are drawn together, a few by one point.
LAYERS = 100

# Where a fault keeps the numbers of its layers.
_EVIDENCE = (
    "starved_layers",
    "saturated_layers",
    "symmetric_layers",
    "large_layers",
    "layers_underflowed",
    "first_dead_layer",
    "layer",
)


def affected(fault: Fault) -> list[int]:
    """Return the numbers of the layers that a fault names, from 1."""
    for value in map(fault.evidence.get, _EVIDENCE):
        if value:
            return list(value) if isinstance(value, list | tuple) else [int(value)]
    return []


def layer_curves(diagnosis: Diagnosis, width: int = 720, height: int = 412) -> Markup:
    """Draw the curves of a diagnosis on one scale of decades."""
    found, below = curves(diagnosis), bands(diagnosis)
    count = len(diagnosis.books.layers)
    names = affected(diagnosis.faults[0]) if diagnosis.faults else []
    x = Scale(1, max(2, count), 46, width - 14)
    y = _decades(found, below, height - 58, 14)
    drawn = [(curve, _points(curve, count, x, y)) for curve in found]
    room = Room((x.start, y.end, x.end, y.start))
    for _, points in drawn:
        room.occupy(points)
    # who comes first has the choice of places
    labels = [
        *_ends(diagnosis, *drawn[1], room), *_causes(diagnosis, drawn[0][1], room, brief=width < 500),
        *(part for curve, points in drawn for part in _name(curve, points, room)), *_band_names(below, x, y, room),
    ]  # fmt: skip
    parts = [
        *_shades(below, x, y), *_axes(x, y, count, width, height),
        *(line(points, f"{curve.what} {curve.of}") for curve, points in drawn), *labels, *_underlined(names, x, height),
    ]  # fmt: skip
    return document(width, height, parts, _summary(found, names))


def _decades(found: Sequence[Curve], below: Sequence[Band], bottom: float, top: float) -> Scale:
    values = np.concatenate([curve.log10 for curve in found])
    values = values[np.isfinite(values)]
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 0.0)
    # a bound shows when it is near: how far a healthy network is from Adam's eps is worth seeing
    low = min([low, *(band.log10 for band in below if low < band.log10 + 9)])
    high = max(high, 0.0)
    low = min(low, high - 3)
    margin = 0.06 * (high - low)
    return Scale(low - margin, high + margin, bottom, top)


def _points(curve: Curve, count: int, x: Scale, y: Scale) -> list[Point]:
    groups = grouped(len(curve.log10), LAYERS)
    # another depth is drawn over the same width
    stretch = (count - 1) / max(1, len(curve.log10) - 1)
    values = together(curve.log10, groups)
    return [
        (x(1 + stretch * float(group.mean())), y(value)) for group, value in zip(groups, values, strict=True)
    ]


def _axes(x: Scale, y: Scale, count: int, width: int, height: int) -> Iterator[Markup]:
    decades = whole_numbers(y.ticks(6 if height > 320 else 4))
    yield from grid(y, decades, x.start, x.end)
    for decade in decades:
        yield text(x.start - 6, y(decade) + 4, power_of_ten(decade), "tick", "end")
    between = whole_numbers(x.ticks(width // 75))
    # what is too near gives way to the first and the last
    apart = 0.6 * (between[1] - between[0]) if len(between) > 1 else 0.0
    for number in sorted({1, *(n for n in between if 1 + apart <= n <= count - apart), count}):
        yield text(x(number), y.start + 26, "out" if number == count else number, "tick", "middle")
    yield text((x.start + x.end) / 2, height - 6, "layer", "tick", "middle")


def _shades(below: Sequence[Band], x: Scale, y: Scale) -> Iterator[Markup]:
    for band in below:
        if band.log10 > y.low:
            top = y(band.log10)
            yield tag("rect", x=x.start, y=top, width=x.end - x.start, height=y.start - top, class_="band")


def _band_names(below: Sequence[Band], x: Scale, y: Scale, room: Room) -> Iterator[Markup]:
    for band in below:
        if band.log10 > y.low:
            left, right = x.start + 6, x.end - extent([band.name])[0] - 6
            places = [
                (left + k * (right - left) / 8, at)
                for at in (y(band.log10) + 3, y.start - LINE - 3)
                for k in range(9)
            ]
            yield from room.write([band.name], places, "label bound", near=4)[1]


def _ends(diagnosis: Diagnosis, signal: Curve, points: Sequence[Point], room: Room) -> Iterator[Markup]:
    """Mark where the signal of the network as it is ends, in rounding or in what is no number."""
    missing = np.flatnonzero([math.isnan(y) for _, y in points])
    if not len(missing) or missing[0] == 0:
        return
    x, y = points[missing[0] - 1]
    yield tag("path", d=f"M{x - 4:.1f} {y - 4:.1f}l8 8m-8 0l8 -8", class_="mark now")
    words = f"{signal.what} lost from here on" if diagnosis.books.finite else "no numbers from here on"
    places = [(x + dx, y + dy) for dy in (-5, 8, -20, 24, -36, 40, 56) for dx in (8, -4, 40, -100)]
    yield from room.write([words], places, "label now", near=6)[1]


def _causes(diagnosis: Diagnosis, points: Sequence[Point], room: Room, *, brief: bool) -> Iterator[Markup]:
    """Write what makes the gradient shrink or grow beside its curve."""
    fault = diagnosis.faults[0] if diagnosis.faults else None
    good = [point for point in points if math.isfinite(point[1])]
    if fault is None or "split" not in fault.evidence or not good:
        return
    words = []
    for name, each, decades in group_shares(
        diagnosis.ledger, fault.evidence["split"], diagnosis.network.layers
    ):
        if not math.isfinite(decades):
            words.append(f"{name}: down to zero")
        elif abs(decades) >= 0.5:
            rest = "" if brief else f" per layer: {signed(decades)} decades"
            words.append(f"{name} ×{factor(each)}{rest}")
    if not words:
        return
    width, height = extent(words, bold=True)
    for share in (0.5, 0.4, 0.6, 0.3, 0.7, 0.15):
        x, y = good[int(share * (len(good) - 1))]
        places = [
            (x + dx, y + dy)
            for dx in (22, -width - 22, 60, -width - 60)
            for dy in (20, -height - 20, 44, -height - 44)
        ]
        box, lines = room.write(words, places, "label cause", near=16, bold=True)
        if box is not None:
            leader = [(x, y), (box[0] - 4 if box[0] > x else box[2] + 4, (box[1] + box[3]) / 2)]
            room.occupy(leader)
            yield line(leader, "leader")
            yield from lines
            return


def _name(curve: Curve, points: Sequence[Point], room: Room) -> list[Markup]:
    good = [point for point in points if math.isfinite(point[1])]
    if not good:
        return []
    name = f"{curve.name}: zero" if np.isneginf(curve.log10).all() else curve.name
    width, _ = extent([name])
    # from the right: there most curves are apart from what is written about causes
    along = [good[int(share * (len(good) - 1))] for share in (0.8, 0.65, 0.9, 0.5, 0.35, 0.2, 0.05)]
    places = [
        (x + dx, y + dy) for x, y in along for dx in (-width / 2, -width - 6, 6) for dy in (-LINE - 5, 5)
    ]
    return room.write([name], places, f"label {curve.of}", near=9)[1]


def _underlined(names: Sequence[int], x: Scale, height: int) -> Iterator[Markup]:
    """Underline the layers that the verdict names, neighbours with one line."""
    half, begin = 0.5 * (x(2) - x(1)), 0
    for i, name in enumerate(names):
        if i + 1 == len(names) or names[i + 1] != name + 1:
            left, right = max(x.start - 6, x(names[begin]) - half), min(x.end + 6, x(name) + half)
            size = {"width": max(right - left, 3.0), "height": 5, "rx": 2}
            yield tag("rect", x=left, y=height - 52, class_="affected", **size)
            begin = i + 1


def _summary(found: Sequence[Curve], names: Sequence[int]) -> str:
    """Say in words what the drawing shows."""
    courses = [
        f"{curve.name}: log10 from {_decade(curve.log10[0])} in layer 1 to {_decade(curve.log10[-1])} in the last"
        for curve in found
    ]
    where = f". Underlined: layer{plural(names)} {ranges(names)}" if names else ""
    return "Gradient and signal by layer. " + "; ".join(courses) + where


def _decade(value: float) -> str:
    return "nothing" if math.isnan(value) else signed(float(value))
