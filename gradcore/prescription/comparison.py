"""Did it help: paired differences of scores, their interval, and Holm's correction for the number of comparisons.

Seeds are paired: the k-th training of a treatment has the k-th seed and order of rows of the control.  The differences
are tested by Student's t; an interval is as wide as the level at which its comparison was tested.  All seeds are scored
on the same rows, so that the luck of those rows does not show in the spread of the seeds: it is added.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

HELPED, NO_HELP, HARMED, NOT_PROVED = "helped", "did not help", "harmed", "not proved"

# How often at most something is said to help or harm in a whole prescription where nothing does: below the usual 5 %,
# because scores that are counts, or train in some seeds only, are not quite normal.
LEVEL = 0.03

# Fewer pairs prove nothing: chance alone makes all of four differences alike too often.
PAIRS = 5


class Counts(NamedTuple):
    """How often a treatment trains, and the control; and whether what trains is of use.

    `by_heart` is the chance that the one which trains more often would score so far above a constant on the rows to
    test with if it had learnt nothing but its own rows.
    """

    treated: int
    treatments: int
    control: int
    controls: int
    by_heart: float


@dataclass(frozen=True)
class Comparison:
    """Scores of a treatment less those of the control.

    Attributes
    ----------
    pairs : int
    difference : float
        Mean.
    interval : tuple of float
        Of the mean, at the level at which Student's t was tested: without zero only where something is proved.
    p : float
        Chance of such a difference, of scores or of how often it trains, where there is none; times the number of
        comparisons as Holm counts them, at most 1.
    verdict : "helped", "did not help" or "harmed"
        And "not proved" where it looked better, on too few pairs for any proof.
    """

    pairs: int
    difference: float
    interval: tuple[float, float]
    p: float
    verdict: str


def compare(
    differences: Sequence[Sequence[float]],
    *,
    resolution: float,
    noise: Sequence[float] = (),
    trained: Sequence[Counts] = (),
    level: float = LEVEL,
) -> list[Comparison]:
    """Compare several treatments with the control.

    Parameters
    ----------
    differences : sequence of sequences of float
        For each treatment, score less that of the control, by seed.
    resolution : float
        The smallest difference between two scores that can be measured, such as one row of those tested: a spread
        below it says nothing.
    noise : sequence of float
        For each treatment, the standard error that the difference has because other rows might have been tested, which
        all seeds share; none: 0.
    trained : sequence of Counts
        For each treatment, in how many seeds it trains, and the control: proof enough where the scores of so few rows
        do not tell the two apart, but do tell the better one from a constant. None: only scores count.
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
    shared = [*noise] or [0.0] * len(differences)
    errors = [_error(some, resolution, own) for some, own in zip(differences, shared, strict=True)]
    raw = [_p_value(some, error) for some, error in zip(differences, errors, strict=True)]
    if trained:  # two tests of each, of which the better counts
        raw = [
            min(1.0, 2 * min(p, _p_trained(some, counts)))
            for p, some, counts in zip(raw, differences, trained, strict=True)
        ]
    tests = 2 if trained else 1
    order = sorted(range(len(raw)), key=lambda i: raw[i])
    adjusted, levels, largest, own = [1.0] * len(raw), [level] * len(raw), 0.0, level
    for rank, i in enumerate(order):
        left = len(raw) - rank
        if largest < level:  # from the first that is not proved on nothing else is, at no better level
            own = level / left / tests
        largest = max(largest, min(1.0, raw[i] * left))
        adjusted[i], levels[i] = largest, own
    return [
        _compared(some, error, p, level, own)
        for some, error, p, own in zip(differences, errors, adjusted, levels, strict=True)
    ]


def _compared(some: Sequence[float], error: float, p: float, level: float, own: float) -> Comparison:
    mean = _mean(some)
    margin = t_quantile(1 - own / 2, len(some) - 1) * error if len(some) > 1 else math.inf
    verdict = NO_HELP
    if len(some) < PAIRS:
        verdict = NOT_PROVED if mean > 2 * error else NO_HELP
    elif p < level:
        verdict = HELPED if mean > 0 else HARMED
    return Comparison(len(some), mean, (mean - margin, mean + margin), p, verdict)


def _mean(some: Sequence[float]) -> float:
    return math.fsum(some) / len(some)


def _error(some: Sequence[float], resolution: float, noise: float) -> float:
    """Standard error of the mean difference: from seed to seed, and from rows to rows."""
    if len(some) < 2:
        return math.inf
    mean = _mean(some)
    variance = math.fsum((x - mean) ** 2 for x in some) / (len(some) - 1)
    return math.sqrt(max(variance, resolution**2) / len(some) + noise**2)


def _p_value(some: Sequence[float], error: float) -> float:
    """Two-sided; 1 where nothing differs or too few pairs are there."""
    mean = _mean(some)
    if len(some) < PAIRS or mean == 0:
        return 1.0
    return 2 * (1 - t_probability(abs(mean) / error, len(some) - 1))


def _p_trained(some: Sequence[float], counts: Counts) -> float:
    """Fisher's exact test of the counts, two-sided; 1 where they contradict the scores.

    Both must hold, that it trains more often and that it then is of use on other rows, so the weaker p-value is that of
    the two (Berger, "Multiparameter hypothesis testing and acceptance sampling" (1982): intersection-union test).
    Labels without signal can be learnt by heart.
    """
    more = counts.treated * counts.controls - counts.control * counts.treatments
    if len(some) < PAIRS or more * _mean(some) <= 0:
        return 1.0
    successes, total = counts.treated + counts.control, counts.treatments + counts.controls
    ways = [
        math.comb(counts.treatments, k) * math.comb(counts.controls, successes - k)
        for k in range(max(0, successes - counts.controls), min(successes, counts.treatments) + 1)
    ]
    seen = math.comb(counts.treatments, counts.treated) * math.comb(counts.controls, counts.control)
    return max(counts.by_heart, sum(way for way in ways if way <= seen) / math.comb(total, successes))


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
