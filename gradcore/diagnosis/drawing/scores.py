"""Scores by seed, and decades by group."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from markupsafe import Markup

from gradcore.diagnosis.drawing.svg import Scale, document, tag, text
from gradcore.diagnosis.words import score_label, scores as written

if TYPE_CHECKING:
    from gradcore.diagnosis.proof import Proof

_ROW = 34


def dot_strip(proof: Proof, width: int = 420) -> Markup:
    """Draw one dot per seed: the network as it is, and changed."""
    rows = [("now", proof.control.scores)]
    rows += [("changed", proof.changed.scores)] if proof.changed is not None else []
    # an R² can be anything below 1: what is below -1 is drawn there
    below = any(score < 0 for _, scores in rows for score in scores)
    x = Scale(-1.0 if below else 0.0, 1.0, 72, width - 14)
    height = _ROW * len(rows) + 22
    parts: list[Markup] = []
    for tick in x.ticks(5):
        parts.append(tag("path", d=f"M{x(tick):.1f} 4V{height - 20}", class_="grid"))
        parts.append(text(x(tick), height - 5, f"{tick:.1g}".replace("-", "−"), "tick", "middle"))
    for row, (name, scores) in enumerate(rows):
        middle = 21.0 + _ROW * row
        parts.append(text(x.start - 12, middle + 4, name, f"label {name}", "end"))
        # one below the other, or equal scores would be one dot
        apart = min(8.0, 22 / len(scores))
        for k, score in enumerate(scores):
            if not math.isnan(score):
                y = middle + apart * (k - (len(scores) - 1) / 2)
                parts.append(tag("circle", cx=x(score), cy=y, r=5, class_=f"dot {name}"))
    said = "; ".join(f"{name}: {written(scores)}" for name, scores in rows)
    return document(width, height, parts, f"Test {score_label(proof.score)} of each seed. {said}")


def decade_bar(decades: float, largest: float, of: str, width: int = 220) -> Markup:
    """Draw decades lost to the left of the middle, gained to the right; the number stands beside it."""
    x = Scale(-largest, largest, 2, width - 2)
    left, right = sorted((x(0.0), x(0.0 if math.isnan(decades) else decades)))
    parts = [
        tag("rect", x=left, y=2, width=max(right - left, 1.5), height=10, rx=2, class_=f"bar {of}"),
        tag("path", d=f"M{x(0.0):.1f} 0V14", class_="axis"),
    ]
    attributes = {"viewBox": f"0 0 {width} 14", "aria_hidden": "true", "class_": "gradcore-chart bars"}
    return tag("svg", Markup().join(parts), **attributes)
