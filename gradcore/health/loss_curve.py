"""What a loss curve says: nan, diverging, oscillating, stalled, converged, falling; mini-batch noise accounted for.

A pure function of the losses of the steps and of the one number that gives them a scale: the loss of the best constant
predictor, `constant_loss`. 20 % of it is the bar of the word *trains*, and so of every change that counts here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

SIGNS = ("nan", "diverging", "oscillating", "stalled", "converged", "falling", "undecided")

# A deviation of so many standard errors is not chance; the finer windows are compared in hundreds of pairs.
SIGMAS = 4.0
FINE_SIGMAS = 5.0

SHORTEST = 40  # steps: five in each of eight windows give a standard error that means something
COARSE, FINE = 8, 32  # windows

BAR = 0.2  # of the constant loss: a change that counts as training, or undoes it
PACE = 0.02  # of it, from one quarter to the next: slower, and the bar is more than two such trainings away
HORIZON = 1000  # steps of the word *trains*
SLOWEST = (
    10  # horizons in which the bar must be reached for a fall to be one, where nothing has been learned yet
)
BLIND = 0.1  # of it: a fall that must be excluded before anything is called unchanging


class LossSign(str):
    """One of `SIGNS`, and the numbers behind it in ``evidence``.

    Examples
    --------
    >>> sign = classify(np.geomspace(2.0, 0.1, 100), constant_loss=2.0)
    >>> sign, round(sign.evidence["last"], 2)
    ('falling', 0.12)
    """

    evidence: Mapping[str, Any]

    def __new__(cls, sign: str, evidence: Mapping[str, Any]) -> LossSign:
        """Make a text that carries its evidence."""
        made = super().__new__(cls, sign)
        made.evidence = evidence
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return LossSign, (str(self), dict(self.evidence))


def classify(
    losses: ArrayLike, *, constant_loss: float, steps_per_epoch: int | None = None, horizon: int = HORIZON
) -> LossSign:
    """Say what a loss curve looks like.

    Parameters
    ----------
    losses : array_like, shape (steps,)
        Of the training steps, in order; each may also be the mean over a block of steps, all of the same length.
    constant_loss : float
        Loss of the best constant predictor; 0 (all targets alike): the scale is the loss at the start instead.
    steps_per_epoch : int, optional
        Then windows are whole epochs where there are enough: the rows of an epoch are the same ones every time.
    horizon : int
        Steps in which a network that is not stuck gets over the bar. Fewer steps than that must exclude so much slower
        a fall: a slow start is no stall.

    Returns
    -------
    LossSign
        ``"nan"``: some loss is not finite.
        ``"diverging"``: it ends above the start, above the middle and above the constant predictor.
        ``"oscillating"``: after the first quarter it climbs by a fifth of the constant loss: what was learned is lost.
        ``"falling"``: over the last half (while large: the last three quarters) it falls by more than noise, at a pace
        that leads somewhere.
        ``"stalled"``: large (above 80 % of the constant loss), and over the last three quarters it can be excluded that
        it falls at a pace that would reach the bar within the horizon, or in a training of this length.
        ``"converged"``: unchanging and small.
        ``"undecided"``: fewer than 40 steps, or the noise would hide a change that counts.

    Notes
    -----
    Means over windows take the noise out; what is left of it is their standard error, widened by the correlation
    between neighbouring steps, sqrt((1 + r) / (1 - r)) with r the lag-1 correlation inside the windows (that of a
    first-order autoregression: Bayley and Hammersley, J. R. Stat. Soc. Suppl. 8, 1946). Learning inside a window
    widens it too, on the safe side. Falls are slopes of a least-squares line, per quarter of the training.

    Examples
    --------
    >>> noise = 0.3 * np.random.default_rng(0).standard_normal(2000)
    >>> str(classify(2.3 + noise, constant_loss=2.3)), str(classify(0.3 + noise, constant_loss=2.3))
    ('stalled', 'converged')
    """
    curve = np.asarray(losses, np.float64)
    if curve.ndim != 1:
        raise ValueError(f"losses must be one number per step, got shape {curve.shape}")
    if not (math.isfinite(constant_loss) and constant_loss >= 0):
        raise ValueError(f"constant_loss must be a finite loss of at least 0, got {constant_loss}")
    finite = np.isfinite(curve)
    evidence: dict[str, Any] = {"steps": len(curve), "constant_loss": float(constant_loss)}
    if not finite.all():
        counted = {"first_step": int(np.argmin(finite)) + 1, "not_finite": int(np.sum(~finite))}
        return LossSign("nan", evidence | counted)
    if len(curve) < SHORTEST:
        return LossSign("undecided", evidence)
    means, errors = windows(curve, COARSE, steps_per_epoch)
    scale = constant_loss if constant_loss > 0 else float(np.abs(means[0]))
    first, middle, last = float(means[0]), float(means[COARSE // 2]), float(means[-1])
    start_noise = SIGMAS * math.hypot(errors[0], errors[-1])
    evidence |= {"first": first, "middle": middle, "last": last, "noise": start_noise}
    # a loss that grows by powers of ten spreads as widely inside a window: then no two losses need overlap
    apart = (
        last > first + scale and curve[-len(curve) // COARSE :].min() > curve[: len(curve) // COARSE].max()
    )
    if (last > first + start_noise or apart) and last > constant_loss and last > middle:
        return LossSign("diverging", evidence)

    swing, allowed = _largest_climb(means, errors, SIGMAS)
    if len(curve) >= FINE * (SHORTEST // COARSE):
        # a handful of steps has too little to say about its own spread: that of the coarse window around it
        finer_errors = np.repeat(errors, FINE // COARSE) * math.sqrt(FINE / COARSE)
        finer = _largest_climb(windows(curve, FINE, steps_per_epoch)[0], finer_errors, FINE_SIGMAS)
        if finer[0] - finer[1] > swing - allowed:
            swing, allowed = finer
    if swing > max(allowed, BAR * scale):
        return LossSign("oscillating", evidence | {"swing": swing, "noise": allowed})

    end = float(means[-COARSE // 4 :].mean())
    large, scale = end > (1 - BAR) * scale, max(scale, end)
    fall, error = _fall(means[COARSE // 2 :], errors[COARSE // 2 :])
    evidence |= {"fall": fall, "noise": SIGMAS * error}
    if fall > max(SIGMAS * error, PACE * scale):
        return LossSign("falling", evidence)
    if not large:
        return LossSign("converged" if fall + 2 * error < BLIND * scale else "undecided", evidence)
    fall, error = _fall(means[COARSE // 4 :], errors[COARSE // 4 :])
    evidence |= {"fall": fall, "noise": SIGMAS * error}
    reach = BAR / 4 * scale * min(1.0, len(curve) / horizon)
    if fall > max(SIGMAS * error, reach / SLOWEST):
        return LossSign("falling", evidence)
    return LossSign("stalled" if fall + 3 * error < reach else "undecided", evidence)


def windows(losses: Array, count: int, steps_per_epoch: int | None = None) -> tuple[Array, Array]:
    """Return means and standard errors of the loss over `count` windows of about the same length, at least 2 steps.

    Examples
    --------
    >>> means, errors = windows(np.arange(8.0), 4)
    >>> means.tolist()
    [0.5, 2.5, 4.5, 6.5]
    """
    edges = np.arange(1, count) * len(losses) / count
    if steps_per_epoch and len(losses) >= 2 * count * steps_per_epoch:
        edges = np.round(edges / steps_per_epoch) * steps_per_epoch
    parts = np.split(losses, edges.astype(np.int64))
    means = np.array([part.mean() for part in parts])
    lines = [_line(part) for part in parts]
    noise = [part - line for part, line in zip(parts, lines, strict=True)]
    factor = _widening(noise)
    # what a window learns is no noise and has no correlation to correct for
    squares = [
        factor * float(e @ e) + float(np.sum((line - line.mean()) ** 2))
        for e, line in zip(noise, lines, strict=True)
    ]
    lengths = np.array([len(part) for part in parts])
    return means, np.sqrt(np.array(squares) / (lengths - 1) / lengths)


def _line(part: Array) -> Array:
    """Least-squares line through a window."""
    t = np.arange(len(part)) - (len(part) - 1) / 2
    return np.asarray(part.mean() + t * (t @ part) / (t @ t))


def _widening(noise: list[Array]) -> float:
    """By how much correlation between neighbours multiplies the variance of a mean."""
    # each window by its own spread: the noise of a large loss would speak for all
    correlations = [float(e[1:] @ e[:-1]) / float(e @ e) for e in noise if e @ e > 0]
    if not correlations:
        return 1.0
    # the estimate from n steps is too low by (1 + 4 r) / n (Marriott and Pope, Biometrika 41, 1954), and by 1 / n more
    # for the slope
    r = float(np.mean(correlations))
    r = min(max(r + (2 + 4 * max(r, 0.0)) / len(noise[0]), 0.0), 0.99)
    return (1 + r) / (1 - r)


def _fall(means: Array, errors: Array) -> tuple[float, float]:
    """Return by how much a line through the windows falls per quarter of the training, and the standard error of it."""
    t = np.arange(len(means)) - (len(means) - 1) / 2
    weights = -(COARSE / 4) * t / (t @ t)
    return float(weights @ means), float(np.sqrt(weights**2 @ errors**2))


def _largest_climb(means: Array, errors: Array, sigmas: float) -> tuple[float, float]:
    """Return the largest climb after the first quarter, and the noise of that difference; most above noise first."""
    # losses jump while the scale of the outputs settles
    means, errors = means[len(means) // 4 :], errors[len(means) // 4 :]
    climb = means[None, :] - means[:, None]
    allowed = sigmas * np.hypot(errors[None, :], errors[:, None])
    above = np.where(np.triu(np.ones(climb.shape, bool), 1), climb - allowed, -np.inf)
    at = np.unravel_index(np.argmax(above), above.shape)
    return float(climb[at]), float(allowed[at])


def constant_loss(name: str, targets: NDArray[Any], *, reduction: str = "mean") -> float:
    """Return the loss of the best constant predictor: class shares, shares of each output, means.

    Parameters
    ----------
    name : "cross_entropy", "binary_cross_entropy" or "mse"
    targets : ndarray
        Class indices (rows,), or numbers (rows, outputs).
    reduction : "mean" or "sum"

    Examples
    --------
    >>> round(constant_loss("cross_entropy", np.array([0, 1, 0, 1])), 4), constant_loss("mse", np.array([[0.0], [2.0]]))
    (0.6931, 1.0)
    """
    if name == "cross_entropy":
        shares = np.bincount(targets) / len(targets)
        value, terms = -float(np.sum(shares[shares > 0] * np.log(shares[shares > 0]))), len(targets)
    else:
        exact, terms = targets.astype(np.float64), targets.size
        mean = exact.mean(axis=0)
        if name == "binary_cross_entropy":
            inner = np.clip(mean, 1e-300, 1 - 1e-16)
            value = -float(np.mean(mean * np.log(inner) + (1 - mean) * np.log1p(-inner)))
        else:
            value = float(np.mean((exact - mean) ** 2))
    return value * terms if reduction == "sum" else value


class LossCurve:
    """The losses of any number of steps in a bounded place: means over blocks of steps, which double when it is full.

    Examples
    --------
    >>> curve = LossCurve()
    >>> curve.extend(np.arange(10_000.0))
    >>> curve.block, len(curve.values), curve.values[:2].tolist()
    (2, 5000, [0.5, 2.5])
    """

    LIMIT = 8192

    def __init__(self) -> None:
        self.block = 1
        self._means, self._count = np.empty(self.LIMIT), 0
        self._pending = np.empty(0)

    def extend(self, losses: Array) -> None:
        """Add the losses of the next steps."""
        pending = np.concatenate([self._pending, losses])
        with np.errstate(all="ignore"):
            while True:
                taken = min(len(pending) // self.block, self.LIMIT - self._count)
                blocks = pending[: taken * self.block].reshape(taken, self.block)
                self._means[self._count : self._count + taken] = blocks.mean(axis=1)
                self._count, pending = self._count + taken, pending[taken * self.block :]
                if self._count < self.LIMIT:
                    break
                self._count, self.block = self.LIMIT // 2, 2 * self.block
                self._means[: self._count] = self._means.reshape(-1, 2).mean(axis=1)
        self._pending = pending

    @property
    def values(self) -> Array:
        """Mean loss of each block of ``block`` steps, in order."""
        return self._means[: self._count].copy()

    @property
    def steps(self) -> int:
        """Number of losses that were added."""
        return self.block * self._count + len(self._pending)

    @property
    def parts(self) -> tuple[int, Array, Array]:
        """All there is to it: length of a block, means of the blocks, losses of the block that is not full."""
        return self.block, self.values, self._pending.copy()

    @classmethod
    def restored(cls, block: int, values: Array, pending: Array) -> LossCurve:
        """Return the curve that had these `parts`."""
        if block < 1 or block & (block - 1) or len(values) >= cls.LIMIT or len(pending) >= block:
            raise ValueError(
                f"no curve has {len(values)} blocks of {block} steps and {len(pending)} steps more"
            )
        curve = cls()
        curve.block, curve._count, curve._pending = block, len(values), np.array(pending, np.float64)
        curve._means[: len(values)] = values
        return curve
