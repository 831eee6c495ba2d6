"""Which learning rate to begin with: one short training whose rate grows from next to nothing to far too much.

Sources: Smith, "Cyclical learning rates for training neural networks" (2017), section 3.3; steepest fall and a tenth of
the minimum are the suggestions of fastai's lr_find.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradcore.errors import check_integer, check_positive
from gradcore.figures import new_axes
from gradcore.health.loss_curve import LossCurve
from gradcore.optimizers import Optimizer, resolve as resolve_optimizer
from gradcore.schedules import Exponential
from gradcore.training.callbacks import Callback, Logs

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from gradcore.network import Network

Doubles = NDArray[np.float64]

DIVERGED = 4.0  # times the smallest smoothed loss, and three times the first above it: it is over
SPAN = 0.05  # of the steps, over which the loss is smoothed
FEWEST = 20  # steps
SIGMAS = 3.0  # of the noise of the smoothed loss: a fall that is not more is none


@dataclass(frozen=True, repr=False)
class LearningRates:
    """How the loss went while the learning rate grew, and what that suggests.

    Attributes
    ----------
    rates, losses : ndarray
        Of every step that was made, the loss before the step; NaN where it was not finite.
    smoothed : ndarray
        The losses without the noise of the batches: means weighted by a bell over neighbouring steps.
    steepest : float
        The rate at which the smoothed loss falls fastest, per decade of the rate. NaN where it never falls.
    minimum : float
        The rate at which the smoothed loss is smallest. NaN where it never falls.
    diverged : bool
        Whether the loss went up and away before the largest rate; what was not tried cannot be better.
    """

    rates: Doubles
    losses: Doubles
    smoothed: Doubles
    steepest: float
    minimum: float
    diverged: bool

    @property
    def suggestion(self) -> float:
        """The rate to begin with: of the steepest fall, but from a tenth to a third of the minimum's; else NaN."""
        return min(max(self.steepest, self.minimum / 10), self.minimum / 3)

    @property
    def rule(self) -> Literal["steepest", "minimum / 10", "minimum / 3", "none"]:
        """What the suggestion is."""
        if math.isnan(self.suggestion):
            return "none"
        if self.suggestion == self.steepest:
            return "steepest"
        return "minimum / 10" if self.suggestion == self.minimum / 10 else "minimum / 3"

    def __repr__(self) -> str:
        tried = f"{len(self.rates)} rates from {self.rates[0]:.3g} to {self.rates[-1]:.3g}"
        tried += ", where the loss diverged" if self.diverged else ""
        if self.rule == "none":
            hint = ": give a smaller `smallest`, or scale the data" if self.diverged else ""
            return f"{type(self).__name__}(no suggestion, the loss did not fall; {tried}{hint})"
        places = f"steepest fall at {self.steepest:.3g}, minimum at {self.minimum:.3g}"
        return f"{type(self).__name__}(suggestion {self.suggestion:.3g}, by {self.rule}; {places}; {tried})"

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the loss over the rates, on a scale of decades, with the suggestion.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            None: of a new figure.

        Raises
        ------
        ImportError
            matplotlib is not installed.
        """
        axes = new_axes() if ax is None else ax
        axes.plot(self.rates, self.losses, color="#b9b2a8", linewidth=0.8, label="loss")
        axes.plot(self.rates, self.smoothed, color="#b23c17", linewidth=2, label="smoothed")
        if self.rule != "none":
            axes.axvline(
                self.suggestion, color="#0a6b4f", linestyle="--", label=f"suggestion {self.suggestion:.3g}"
            )
            low, start = float(np.nanmin(self.smoothed)), float(self.smoothed[0])
            axes.set_ylim(low - 0.1 * (start - low), start + 0.5 * (start - low))
        axes.set_xscale("log")
        axes.set_xlabel("learning rate")
        axes.set_ylabel("loss")
        axes.set_title("Loss while the learning rate grows")
        axes.legend(frameon=False, fontsize="small")
        return axes


def find_learning_rate(
    net: Network,
    X: ArrayLike,
    y: ArrayLike,
    *,
    loss: str = "auto",
    optimizer: str | Optimizer = "adam",
    batch_size: int = 32,
    smallest: float = 1e-6,
    largest: float = 10.0,
    steps: int = 200,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    clip_adaptive: float | None = None,
    threads: int | Literal["auto"] = "auto",
    seed: int = 0,
) -> LearningRates:
    """Suggest a learning rate: train a copy while the rate grows by the same factor at every step.

    The network is not changed. It ends before `largest` where the loss has gone up and away, or is not finite (such a
    step is not applied).

    Parameters
    ----------
    net : Network
    X, y, loss, batch_size, clip_norm, clip_value, clip_adaptive, threads
        As for `Network.fit`.
    optimizer : str or Optimizer
        Its rate does not matter; a rate belongs to one optimizer.
    smallest, largest : float
        The rates of the first and of the last step.
    steps : int
        At least 20, below 8192. More are less noisy.
    seed : int
        Of the order of rows and of dropout. The same seed gives the same bits.

    Returns
    -------
    LearningRates
        With ``.suggestion``, the rate of the steepest fall, but not less than a tenth and not more than a third of the
        rate where the loss is smallest; ``.rule`` says which. ``.rates``, ``.losses``, ``.plot()``.

    Notes
    -----
    A loss over a few hundred steps says which rates train and which destroy; it cannot say which is best after
    thousands, nor for a rate that a schedule lowers. Three times the suggestion often does better.

    Examples
    --------
    >>> from gradcore import mlp
    >>> X = np.random.default_rng(0).normal(size=(500, 4))
    >>> net = mlp([4, 32, 32, 2], seed=0)
    >>> found = find_learning_rate(net, X, X[:, 0] > X[:, 1])
    >>> 1e-4 < found.suggestion < 0.1
    True
    """
    count = check_integer("steps", steps, minimum=FEWEST)
    if count >= LossCurve.LIMIT:
        raise ValueError(f"steps must be below {LossCurve.LIMIT}, got {count}")
    low, high = check_positive("smallest", smallest), check_positive("largest", largest)
    if low >= high:
        raise ValueError(f"smallest must be below largest, got {low:g} and {high:g}")
    chosen = replace(resolve_optimizer(optimizer), lr=low)  # type: ignore[type-var]
    watch = _Watch(count)
    trained = net.copy()
    batch = check_integer("batch_size", batch_size)
    # whole epochs; the callback ends it after the last step that counts
    epochs = -(-count // max(1, int(np.shape(X)[0]) // batch))
    history = trained.fit(
        X, y, loss=loss, optimizer=chosen, epochs=epochs, batch_size=batch, clip_norm=clip_norm,
        clip_value=clip_value, clip_adaptive=clip_adaptive, threads=threads, seed=seed, progress=False,
        schedule=Exponential(high / low, step_size=count - 1), callbacks=[watch], on_fault="ignore",
    )  # fmt: skip
    losses = history.curve.values
    rates = low * (high / low) ** (np.arange(len(losses)) / (count - 1))
    return _judged(rates, losses, watch.diverged, SPAN * count)


class _Watch(Callback):
    """Ends the training when it has seen enough."""

    def __init__(self, steps: int) -> None:
        self.steps, self.left, self.diverged = steps, steps, False
        self._sum = self._weight = 0.0
        self._first, self._best = math.nan, math.inf

    def on_train_batch_end(self, batch: int, logs: Logs) -> None:
        """Look at the loss; after what is not finite larger rates will not do better."""
        keep = 1 - 1 / max(1.0, SPAN * self.steps)
        self._sum, self._weight = keep * self._sum + logs["loss"], keep * self._weight + 1
        mean = self._sum / self._weight
        if self.left == self.steps:
            self._first = abs(mean)
        self._best = min(self._best, mean)
        # (a loss may be negative: then a multiple of the best says nothing)
        bound = max(DIVERGED * self._best, self._best + (DIVERGED - 1) * self._first)
        self.diverged = not (mean <= bound and math.isfinite(logs["gradient_norm"]))
        self.left -= 1
        if self.diverged or not self.left:
            self.network.stop_training = True


def _judged(rates: Doubles, losses: Doubles, diverged: bool, width: float) -> LearningRates:
    """Find the two suggestions, up to the smallest loss; there are none unless it is lower than noise explains."""
    smoothed = _smoothed(losses, width)
    steepest = minimum = math.nan
    if np.isfinite(smoothed).any():
        lowest = int(np.nanargmin(smoothed))
        before = smoothed[: lowest + 1]
        noise = np.nanstd(np.diff(losses[: lowest + 1])) / math.sqrt(2 * width) if lowest > 1 else 0.0
        if lowest > 1 and before[0] - before[-1] > SIGMAS * noise:
            slope = np.gradient(before, np.log10(rates[: lowest + 1]))
            steepest, minimum = float(rates[int(np.argmin(slope))]), float(rates[lowest])
    return LearningRates(rates, losses, smoothed, steepest, minimum, diverged)


def _smoothed(losses: Doubles, width: float) -> Doubles:
    """Return means weighted by a normal bell of this standard deviation, in steps."""
    steps = np.arange(len(losses))
    weights = np.exp(-0.5 * ((steps[:, None] - steps) / width) ** 2)
    finite = np.isfinite(losses)
    weights = weights * finite
    with np.errstate(invalid="ignore"):
        means = weights @ np.where(finite, losses, 0.0) / weights.sum(axis=1)
    return np.where(finite, means, np.nan)
