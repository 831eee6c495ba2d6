"""The proof: the network really trained, as it is and with changes, from the same seeds on the same data."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gradcore.diagnosis.changes import Change
from gradcore.diagnosis.observe import Batch
from gradcore.diagnosis.recipe import Data, Job, Recipe, train
from gradcore.errors import check_integer
from gradcore.scores import score_name
from gradcore.streams import SPLIT, stream
from gradcore.training.targets import encode

if TYPE_CHECKING:
    from gradcore.diagnosis.diagnose import Diagnosis

Array = npt.NDArray[Any]

# A network trains that gets this share of the way from the constant predictor to the best that any trial reaches.
TRAINS = 0.2

# And ends by at least so much of it below the constant predictor: where nothing gets far, a share of it is chance.
LEAST = 0.005


def which_train(losses: Iterable[float], reached: Iterable[float], constant: float = 1.0) -> list[bool]:
    """Tell which losses are of networks that train; these were reached, and the constant predictor has that one."""
    best = min([constant, *(loss for loss in reached if math.isfinite(loss))])
    bar = constant - max(TRAINS * (constant - best), LEAST * constant)
    return [loss < constant and loss <= bar for loss in losses]


def held_out(X: Array, y: Array, *, share: float = 0.2, seed: int = 0) -> Data:
    """Hold out a share of the rows, drawn by the seed, at least one and not all."""
    order = stream(seed, SPLIT, 0).permutation(len(X))
    count = min(len(X) - 1, max(1, round(share * len(X))))
    if count < 1:
        raise ValueError(f"a proof needs at least 2 rows, one of them to test with; got {len(X)}")
    test, train = order[:count], order[count:]
    return Data(X[train], y[train], X[test], y[test])


@dataclass(frozen=True)
class Trial:
    """A short measured training: one network, several seeds.

    Attributes
    ----------
    name : str
    change : Change or None
        None: the control, the network as it is.
    gradient : float
        log10 of the end-to-end gain on one batch before training.
    scores : tuple of float
        Accuracy or coefficient of determination on the test rows, by seed.
    losses : tuple of float
        Training loss at the end, by seed.
    seconds : float
    trains : bool
        Whether, in at least half of the seeds, the loss ended at least 20 % of the way from the constant predictor
        to the best that any trial reached.
    """

    name: str
    change: Change | None
    gradient: float
    scores: tuple[float, ...]
    losses: tuple[float, ...]
    seconds: float
    trains: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return the trial as plain numbers and strings."""
        return {
            "name": self.name,
            "gradient_log10": self.gradient,
            "scores": list(self.scores),
            "losses": list(self.losses),
            "seconds": self.seconds,
            "trains": self.trains,
        }


@dataclass(frozen=True)
class Proof:
    """What real training made of the network: the control, and trials of treatments in the order of the table."""

    control: Trial
    trials: tuple[Trial, ...]
    advised: Change | None
    score: str
    epochs: int
    constant_loss: float
    planned: int  # trials there will be

    @property
    def changed(self) -> Trial | None:
        """The trial of the advised change."""
        return next((trial for trial in self.trials if trial.change == self.advised), None)

    @property
    def best(self) -> Trial | None:
        """The trial that trains and scores best on average."""
        working = [trial for trial in self.trials if trial.trains]
        return max(working, key=lambda trial: float(np.mean(trial.scores)), default=None)

    def to_dict(self) -> dict[str, Any]:
        """Return the proof as plain numbers and strings."""
        return {
            "score": self.score,
            "epochs": self.epochs,
            "constant_loss": self.constant_loss,
            "control": self.control.to_dict(),
            "trials": [trial.to_dict() for trial in self.trials],
            "best": self.best.name if self.best else None,
        }


def treatments(diagnosis: Diagnosis) -> list[Change]:
    """Choose what to train: what the short table shows; the advised change last."""
    best = diagnosis.best
    chosen = [outcome for outcome in diagnosis.what_if.telling if outcome is not best]
    return [outcome.change for outcome in [*chosen, *([best] if best else [])]]


def prove(
    diagnosis: Diagnosis, data: Data, *, seeds: int = 3, epochs: int = 12, batch_size: int = 32, seed: int = 0
) -> Iterator[Proof]:
    """Train the control, the advised change and the other treatments; yield the proof as it grows.

    Parameters
    ----------
    diagnosis : Diagnosis
    data : Data
    seeds : int
        Trainings of each; the k-th starts from the diagnosed network's seed + k and sees the rows in one order.
    epochs, batch_size : int
    seed : int
        Of the order of rows and of dropout.

    Yields
    ------
    Proof
        First with the control and the advised change, then with one more trial each time; the verdicts are those
        that the trials so far allow.
    """
    seeds, epochs = check_integer("seeds", seeds), check_integer("epochs", epochs)
    gradients = {outcome.change: outcome.gradient for outcome in diagnosis.what_if}
    wanted = treatments(diagnosis)
    advised = wanted[-1] if diagnosis.best is not None else None

    def trial(change: Change | None) -> Trial:
        gradient = diagnosis.ledger.end_to_end_log10 if change is None else gradients[change]
        return _train(diagnosis, data, change, gradient, seeds, epochs, batch_size, seed)

    trials: dict[Change | None, Trial] = {}
    wanted_first: list[Change | None] = [None, *([advised] if advised else [])]
    for change in [*wanted_first, *(c for c in wanted if c != advised)]:
        trials[change] = trial(change)
        if len(trials) >= len(wanted_first):
            yield _judged(diagnosis, data, trials, wanted, advised, epochs)


def _train(
    diagnosis: Diagnosis, data: Data, change: Change | None, gradient: float, seeds: int, epochs: int, batch_size: int,
    seed: int,
) -> Trial:  # fmt: skip
    net = diagnosis.network
    recipe = Recipe(net.layers, net.input_size, net.dtype, diagnosis.loss, diagnosis.optimizer, batch_size)
    if change is not None:
        recipe = recipe.changed(change)
    jobs = [Job(recipe, epochs, net.seed + k, seed + k) for k in range(seeds)]
    scores, losses, seconds = [], [], 0.0
    for made in train(jobs, data):
        trained = made.network
        seconds += made.seconds
        losses.append(trained.evaluate(made.data.X, made.data.y)["loss"])
        result = trained.evaluate(made.data.X_test, made.data.y_test)
        scores.append(result[score_name(trained.loss)] if trained.loss is not None else math.nan)
    name = "as it is" if change is None else change.name
    return Trial(name, change, gradient, tuple(scores), tuple(losses), seconds)


def _judged(
    diagnosis: Diagnosis, data: Data, trials: dict[Change | None, Trial], wanted: list[Change], advised: Change | None,
    epochs: int,
) -> Proof:  # fmt: skip
    net = diagnosis.network
    targets = encode(data.y, diagnosis.loss, net.output_size, net.dtype, classes=net.classes_)
    batch = Batch(data.X, targets.values, targets.loss, net.output_size)
    constant, least = batch.constant_loss, batch.least_loss
    reached = [loss - least for trial in trials.values() for loss in trial.losses]

    def judge(trial: Trial) -> Trial:
        good = sum(which_train([loss - least for loss in trial.losses], reached, constant - least))
        return replace(trial, trains=2 * good >= len(trial.losses))

    others = tuple(judge(trials[change]) for change in wanted if change in trials)
    return Proof(
        judge(trials[None]), others, advised, score_name(targets.loss), epochs, constant, len(wanted)
    )
