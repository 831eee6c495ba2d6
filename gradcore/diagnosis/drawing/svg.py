"""Drawing by hand in SVG: scales, ticks, lines, bands, and labels that look for room.

Colours and fonts are classes for the page's style sheet; coordinates are pixels of the view box.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup, escape

Point = tuple[float, float]
Box = tuple[float, float, float, float]  # left, top, right, bottom

# Of a text of 12 pixels in a sans-serif font: mean width of a character, height of a line.
CHARACTER, LINE = 6.4, 15.0

_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Scale:
    """A straight map from data to pixels; what lies outside, infinity too, is brought to the edge."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Return the pixel of a value."""
        if math.isnan(value):
            return math.nan
        span = self.high - self.low or 1.0
        share = min(1.0, max(0.0, (value - self.low) / span))
        return self.start + share * (self.end - self.start)

    def ticks(self, about: int) -> list[float]:
        """Return about so many round numbers (1, 2 or 5 times a power of ten apart) between low and high.

        Examples
        --------
        >>> Scale(-37.0, 1.0, 0, 100).ticks(4)
        [-30.0, -20.0, -10.0, 0.0]
        """
        rough = (self.high - self.low or 1.0) / max(1, about)
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
        first = math.ceil(self.low / step - 1e-9)
        return [k * step for k in range(first, math.floor(self.high / step + 1e-9) + 1)]


def tag(name: str, content: object = "", /, **attributes: object) -> Markup:
    """Write an element; names and contents are escaped, ``class_`` is class, ``_`` is a hyphen.

    Examples
    --------
    >>> print(tag("text", "a < b", x=1.25, class_="note"))
    <text x="1.2" class="note">a &lt; b</text>
    """
    pairs = Markup().join(
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), _written(value))
        for key, value in attributes.items()
    )
    inner = escape(content)
    return Markup(f"<{name}{pairs}>{inner}</{name}>" if inner else f"<{name}{pairs}/>")


def _written(value: object) -> object:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else value


def document(width: int, height: int, parts: Iterable[Markup], label: str, class_: str = "") -> Markup:
    """Wrap parts into a drawing with a description for those who do not see it."""
    title = tag("title", label)
    return tag(
        "svg", title + Markup().join(parts), viewBox=f"0 0 {width} {height}", role="img",
        aria_label=label, class_=f"gradcore-chart {class_}".rstrip(),
    )  # fmt: skip


def path(points: Iterable[Point]) -> str:
    """Write the lines through points, with a gap where a number is missing."""
    words, pen = [], "M"
    for x, y in points:
        if math.isfinite(x) and math.isfinite(y):
            words.append(f"{pen}{_written(x)} {_written(y)}")
            pen = "L"
        else:
            pen = "M"
    return "".join(words)


def line(points: Sequence[Point], class_: str) -> Markup:
    """Draw the lines through points; a point without neighbours becomes a dot (round caps)."""
    data = path(points)
    return tag("path", d=data + ("h0" if data.count("L") == 0 and data else ""), class_=class_)


def text(x: float, y: float, content: object, class_: str = "", anchor: str = "start") -> Markup:
    """Write text at its baseline."""
    return tag("text", content, x=x, y=y, text_anchor=anchor, class_=class_ or "label")


def grid(scale: Scale, ticks: Iterable[float], start: float, end: float) -> Iterator[Markup]:
    """Draw a level line across at each tick of an upright scale."""
    for tick in ticks:
        yield tag("path", d=f"M{start:g} {scale(tick):.1f}H{end:g}", class_="grid")


def whole_numbers(ticks: Iterable[float]) -> list[int]:
    """Keep the ticks that are whole numbers."""
    return [round(tick) for tick in ticks if tick == round(tick)]


def power_of_ten(exponent: int) -> str:
    """Write a power of ten.

    Examples
    --------
    >>> power_of_ten(-12)
    '10⁻¹²'
    """
    return "1" if exponent == 0 else "10" + str(exponent).translate(_SUPERSCRIPT)


class Room:
    """Where labels may go: inside a box, off the lines drawn so far and off other labels."""

    def __init__(self, box: Box) -> None:
        self.box = box
        self._points: list[Point] = []
        self._taken: list[Box] = []

    def occupy(self, points: Sequence[Point], every: float = 5.0) -> None:
        """Keep labels off the lines through points."""
        good = [p for p in points if math.isfinite(p[0]) and math.isfinite(p[1])]
        self._points += good
        for (x0, y0), (x1, y1) in pairwise(good):
            steps = int(math.hypot(x1 - x0, y1 - y0) / every)
            self._points += [
                (x0 + (x1 - x0) * k / steps, y0 + (y1 - y0) * k / steps) for k in range(1, steps)
            ]

    def write(
        self, words: Sequence[str], places: Iterable[Point], class_: str, *, near: float, bold: bool = False
    ) -> tuple[Box | None, list[Markup]]:
        """Write lines of words at the roomiest of the places, the first of equals; nowhere when nothing fits.

        A place is the top left corner of the text.  Room beyond `near` pixels counts no more.  Returns the box of the
        text as well.
        """
        width, height = extent(words, bold=bold)
        best, most = None, 1.0
        for x, y in places:
            box = (x, y, x + width, y + height)
            if not _inside(box, self.box) or any(_overlap(box, other) for other in self._taken):
                continue
            free = min((_distance(box, point) for point in self._points), default=near)
            if min(free, near) > most:
                best, most = box, min(free, near)
        if best is None:
            return None, []
        self._taken.append(best)
        return best, [text(best[0], best[1] + 12 + k * LINE, line, class_) for k, line in enumerate(words)]


def extent(words: Sequence[str], *, bold: bool = False) -> tuple[float, float]:
    """Return about how wide and high lines of words are."""
    return CHARACTER * max(map(len, words)) * (1.12 if bold else 1.0), LINE * len(words)


def _inside(box: Box, outer: Box) -> bool:
    return box[0] >= outer[0] and box[1] >= outer[1] and box[2] <= outer[2] and box[3] <= outer[3]


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _distance(box: Box, point: Point) -> float:
    x = max(box[0] - point[0], 0.0, point[0] - box[2])
    y = max(box[1] - point[1], 0.0, point[1] - box[3])
    return math.hypot(x, y)
