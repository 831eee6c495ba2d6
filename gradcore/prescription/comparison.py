"""Did it help: paired differences of scores, their interval, and Holm's correction for the number of comparisons.

Seeds are paired: the k-th training of a treatment has the k-th seed and order of rows of the control.  The differences
are tested by Student's t; an interval is as wide as the level at which its comparison was tested.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

HELPED, NO_HELP, HARMED = "helped", "did not help", "harmed"

# How often at most something is said to help or harm in a whole prescription where nothing does: below the usual 5 %,
# because scores that are counts, or train in some seeds only, are not quite normal.
LEVEL = 0.03

# Fewer pairs prove nothing: chance alone makes all of four differences alike too often.
PAIRS = 5


@dataclass(frozen=True)
class Comparison:
    """Scores of a treatment less those of the control.

    Attributes
    ----------
    pairs : int
    difference : float
        Mean.
    interval : tuple of float
        Of the mean, at the level it was tested at.
    p : float
        Chance of such a difference where there is none, times the number of comparisons as Holm counts them; at most 1.
    verdict : "helped", "did not help" or "harmed"
    """

    pairs: int
    difference: float
    interval: tuple[float, float]
    p: float
    verdict: str


def compare(
    differences: Sequence[Sequence[float]], *, resolution: float, level: float = LEVEL
) -> list[Comparison]:
    """Compare several treatments with the control.

    Parameters
    ----------
    differences : sequence of sequences of float
        For each treatment, score less that of the control, by seed.
    resolution : float
        The smallest difference between two scores that can be measured, such as one row of those tested: a spread
        below it says nothing.
    level : float
        Chance of at least one false verdict among all.

    Returns
    -------
    list of Comparison
        In the order given.

    Notes
    -----
    Source of the correction: Holm, "A simple sequentially rejective multiple test procedure" (1979).

    Examples
    --------
    >>> found = compare([[0.5, 0.52, 0.49, 0.51, 0.5], [0.01, -0.02, 0.0, 0.01, -0.01]], resolution=0.005)
    >>> [comparison.verdict for comparison in found]
    ['helped', 'did not help']
    """
    raw = [_p_value(some, resolution) for some in differences]
    order = sorted(range(len(raw)), key=lambda i: raw[i])
    adjusted, levels, largest = [1.0] * len(raw), [level] * len(raw), 0.0
    for rank, i in enumerate(order):
        left = len(raw) - rank
        largest = max(largest, min(1.0, raw[i] * left))
        adjusted[i], levels[i] = largest, level / left
    return [
        _compared(some, resolution, p, level, own)
        for some, p, own in zip(differences, adjusted, levels, strict=True)
    ]


def _compared(some: Sequence[float], resolution: float, p: float, level: float, own: float) -> Comparison:
    mean, error = _mean_and_error(some, resolution)
    margin = t_quantile(1 - own / 2, len(some) - 1) * error if len(some) > 1 else math.inf
    verdict = NO_HELP
    if p < level and len(some) >= PAIRS:
        verdict = HELPED if mean > 0 else HARMED
    return Comparison(len(some), mean, (mean - margin, mean + margin), p, verdict)


def _mean_and_error(some: Sequence[float], resolution: float) -> tuple[float, float]:
    mean = math.fsum(some) / len(some)
    if len(some) < 2:
        return mean, math.inf
    variance = math.fsum((x - mean) ** 2 for x in some) / (len(some) - 1)
    return mean, math.sqrt(max(variance, resolution**2) / len(some))


def _p_value(some: Sequence[float], resolution: float) -> float:
    """Two-sided; 1 where nothing differs or too few pairs are there."""
    if len(some) < PAIRS:
        return 1.0
    mean, error = _mean_and_error(some, resolution)
    return 2 * (1 - t_probability(abs(mean) / error, len(some) - 1)) if mean else 1.0


def t_probability(t: float, freedom: int) -> float:
    """Return the probability that Student's t is at most `t`; whole degrees of freedom have a closed form.

    Source: Abramowitz & Stegun, "Handbook of Mathematical Functions" (1964), 26.7.3 and 26.7.4.

    Examples
    --------
    >>> round(t_probability(2.262157, 9), 6)
    0.975
    """
    angle = math.atan2(abs(t), math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term = cosine if odd else 1.0
    total = 0.0 if freedom == 1 else term
    for k in range(2 + odd, freedom, 2):
        term *= cosine * cosine * (k - 1) / k
        total += term
    inside = 2 / math.pi * (angle + sine * total) if odd else sine * total
    return 0.5 + math.copysign(inside / 2, t)


def t_quantile(probability: float, freedom: int) -> float:
    """Return the t that is not exceeded with this probability, at least one half.

    Examples
    --------
    >>> round(t_quantile(0.975, 9), 6)
    2.262157
    """
    low, high = 0.0, 1.0
    while t_probability(high, freedom) < probability and high < 1e12:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if t_probability(middle, freedom) < probability else (low, middle)
    return (low + high) / 2
