"""What a loss curve says: nan, diverging, oscillating, stalled, converged, falling; mini-batch noise accounted for.

A pure function of the losses of the steps and of the one number that gives them a scale: the loss of the best constant
predictor, `constant_loss`. 20 % of it is the bar of the word *trains*, and so of every change that counts here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradcore.losses import Loss, resolve, smoothed

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


def constant_loss(
    loss: str | Loss,
    targets: NDArray[Any],
    *,
    weights: Array | None = None,
    outputs: int | None = None,
    reduction: str = "mean",
) -> float:
    """Return the loss of the best constant predictor.

    It knows class shares, shares of each output, means, medians, quantiles, Huber's M-estimate of location, mean rates,
    means and variances.

    Parameters
    ----------
    loss : str or Loss
    targets : ndarray
        Class indices (rows,), or numbers (rows, columns).
    weights : ndarray, shape (rows,), optional
        How often each row counts.
    outputs : int, optional
        Of the network: how many classes there are, where not all of them need be among the labels.
    reduction : "mean" or "sum"

    Examples
    --------
    >>> round(constant_loss("cross_entropy", np.array([0, 1, 0, 1])), 4), constant_loss("mse", np.array([[0.0], [2.0]]))
    (0.6931, 1.0)
    >>> constant_loss("mae", np.array([[0.0], [1.0], [5.0]]), weights=np.array([1.0, 1.0, 0.0]))
    0.5
    """
    chosen = resolve(loss)
    total = float(len(targets)) if weights is None else float(weights.sum())
    if not total:
        return 0.0
    if chosen.name == "cross_entropy":
        shares = _class_shares(chosen, targets, weights, outputs)
        value = _entropy(shares)
    else:
        exact = targets.astype(np.float64)
        with np.errstate(all="ignore"):
            value = float(np.mean(_CONSTANTS[chosen.name](exact, weights, chosen.parameter)))
    return value * total * chosen.terms(targets) if reduction == "sum" else value


def least_loss(
    loss: str | Loss,
    targets: NDArray[Any],
    *,
    weights: Array | None = None,
    outputs: int | None = None,
    reduction: str = "mean",
) -> float:
    """Return the loss from which others are counted when they are judged: 0 is the least for most losses.

    Label smoothing and rows of probabilities cost their entropy, however good the network is, and counts of Poisson at
    least ``t - t log t``. The likelihood of a normal distribution has no bound: there it is half a nat below the
    constant predictor, so that 20 % of the way is what a fall of the squared error by 18 % is worth, ``exp(-0.2)``.

    Parameters are those of `constant_loss`.

    Examples
    --------
    >>> least_loss("poisson", np.array([[1.0], [1.0]])), least_loss("mse", np.array([[0.0], [2.0]]))
    (1.0, 0.0)
    """
    chosen = resolve(loss)
    total = float(len(targets)) if weights is None else float(weights.sum())
    if not total:
        return 0.0
    value = 0.0
    if chosen.name == "gaussian_nll":
        value = constant_loss(chosen, targets, weights=weights) - 0.5
    elif chosen.name == "poisson":
        exact = targets.astype(np.float64)
        value = float(np.mean(_mean(exact - _times_log(exact), weights)))
    elif chosen.name == "cross_entropy" and targets.ndim == 2:
        rows = smoothed(targets.astype(np.float64), targets.shape[1], chosen.parameter)
        value = -float(_mean(_times_log(rows).sum(axis=1), weights))
    elif chosen.name == "cross_entropy" and chosen.parameter:
        classes = outputs or int(targets.max()) + 1
        value = _entropy(smoothed(np.zeros(1, np.int64), classes, chosen.parameter)[0])
    return value * total * chosen.terms(targets) if reduction == "sum" else value


def _class_shares(loss: Loss, targets: NDArray[Any], weights: Array | None, outputs: int | None) -> Array:
    if targets.ndim == 2:
        shares = np.asarray(_mean(targets.astype(np.float64), weights))
    else:
        counts = np.bincount(targets, weights, minlength=outputs or 0)
        shares = counts / counts.sum()
    smooth: Array = smoothed(shares[None, :], len(shares), loss.parameter)[0]
    return smooth


def _entropy(shares: Array) -> float:
    return -float(np.sum(_times_log(shares)))


def _times_log(x: Array) -> Array:
    """x log x, 0 at 0."""
    return x * np.log(np.where(x > 0, x, 1.0))


def _mean(values: Array, weights: Array | None) -> Any:
    return values.mean(axis=0) if weights is None else np.average(values, axis=0, weights=weights)


def _of_shares(t: Array, weights: Array | None, parameter: float) -> Any:
    mean = _mean(t, weights)
    inner = np.clip(mean, 1e-300, 1 - 1e-16)
    return -(mean * np.log(inner) + (1 - mean) * np.log1p(-inner))


def _of_means(t: Array, weights: Array | None, parameter: float) -> Any:
    return _mean((t - _mean(t, weights)) ** 2, weights)


def _of_rates(t: Array, weights: Array | None, parameter: float) -> Any:
    mean = _mean(t, weights)
    return mean - _times_log(mean)


def _of_variances(t: Array, weights: Array | None, parameter: float) -> Any:
    # a target that never varies could be as likely as one likes
    return 0.5 * (1 + np.log(np.maximum(_of_means(t, weights, 0.0), np.finfo(np.float64).tiny)))


def _of_quantiles(t: Array, weights: Array | None, q: float) -> Any:
    best = _quantiles(t, weights, q)
    return _mean(np.maximum(q * (t - best), (q - 1) * (t - best)), weights)


def _of_medians(t: Array, weights: Array | None, parameter: float) -> Any:
    return 2 * _of_quantiles(t, weights, 0.5)


def _quantiles(t: Array, weights: Array | None, q: float) -> Array:
    """Return of each column the least value that a share of at least q is not above."""
    once = np.ones(len(t)) if weights is None else weights
    order = t.argsort(axis=0)
    below = np.cumsum(once[order], axis=0)
    at = np.argmax(below >= q * below[-1], axis=0)
    columns = np.arange(t.shape[1])
    return np.asarray(t[order[at, columns], columns])


def _of_locations(t: Array, weights: Array | None, delta: float) -> Any:
    # by weighted means, from the median (Huber and Ronchetti, Robust Statistics, 2009, 7.8): each lowers the loss
    once = (np.ones(len(t)) if weights is None else weights)[:, None]
    best = _quantiles(t, weights, 0.5)
    for _ in range(100):
        size = np.abs(t - best)
        inside = once * np.where(size <= delta, 1.0, delta / np.maximum(size, delta))
        better = (inside * t).sum(axis=0) / inside.sum(axis=0)
        close = np.abs(better - best) <= 1e-6 * delta
        best = better
        if close.all():
            break
    inner = np.clip(t - best, -delta, delta)
    return _mean(inner * (t - best - inner / 2), weights)


_CONSTANTS: dict[str, Callable[[Array, Array | None, float], Any]] = {
    "binary_cross_entropy": _of_shares,
    "mse": _of_means,
    "mae": _of_medians,
    "huber": _of_locations,
    "poisson": _of_rates,
    "quantile": _of_quantiles,
    "gaussian_nll": _of_variances,
}


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
