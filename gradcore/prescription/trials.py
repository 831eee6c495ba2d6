"""Trials: each cure really trained, the k-th time from the k-th seed, beside the untreated control."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from gradcore.diagnosis.changes import Change, dense_layers
from gradcore.diagnosis.examine import Setting, examine
from gradcore.diagnosis.proof import which_train
from gradcore.diagnosis.recipe import Data, Job, Recipe, Trained, train
from gradcore.health.evidence import Evidence
from gradcore.health.loss_curve import constant_loss, least_loss
from gradcore.layers import Dense, as_layers
from gradcore.losses import Loss, mean_of
from gradcore.network import Network
from gradcore.optimizers import Adam
from gradcore.prescription.budget import Budget
from gradcore.prescription.comparison import NO_HELP, Comparison, Counts
from gradcore.prescription.journal import Journal
from gradcore.prescription.measured import Profile, Result
from gradcore.prescription.rows import by_heart, constant_row_scores, row_scores, worst_score
from gradcore.scores import score_name
from gradcore.training.loop import check_batch_norm

Array = npt.NDArray[Any]

# Seconds of training between two looks at the clock, and so the most that Ctrl-C loses.
STRETCH = 2.0

# Seconds of a first look at the speed.
CALIBRATION = 0.1

# Chance at which a score above a constant's is still called luck.
LUCK = 0.05

# Networks of the control are kept, and those of the fresh seeds, which have these numbers: one of them is handed over.
KEPT_FROM = 1000

# Units of the layers of a plain network that shows what can be reached.
REFERENCE_WIDTH = 64


@dataclass(frozen=True)
class Trial:
    """A treatment, or the control, and what training made of it.

    Attributes
    ----------
    kind : str
        The treatment; "control", or "joint" for several at once.
    change : Change or None
        None: the control.
    recipe : Recipe
        With the change made.
    chance : float
        Of training, predicted from one batch; NaN where one batch cannot tell.
    caution : str
        What speaks against it on this network.
    seeds : tuple of int
        0, 1, …: which of the paired seeds.
    results : tuple of Result
        By seed.
    fresh : bool
        Whether these seeds had no part in choosing it.
    trained : int
        In how many seeds it trains.
    before, after : Profile or None
        Before and after the training of the first seed.
    comparison : Comparison or None
        With the control; None for the control, and before there are two seeds.
    note : str
        Why it has fewer seeds than others.
    """

    kind: str
    change: Change | None
    recipe: Recipe
    chance: float = math.nan
    caution: str = ""
    seeds: tuple[int, ...] = ()
    results: tuple[Result, ...] = ()
    fresh: bool = False
    trained: int = 0
    before: Profile | None = None
    after: Profile | None = None
    comparison: Comparison | None = None
    note: str = ""

    @property
    def name(self) -> str:
        """What it is called in tables."""
        return "as it is" if self.change is None else self.change.name

    @property
    def scores(self) -> tuple[float, ...]:
        """Score by seed."""
        return tuple(result.score for result in self.results)

    @property
    def mean(self) -> float:
        """Mean score."""
        return float(np.mean(self.scores)) if self.results else math.nan

    @property
    def seconds(self) -> float:
        """Mean time of one training."""
        return float(np.mean([result.seconds for result in self.results])) if self.results else math.nan

    @property
    def trains(self) -> bool:
        """Whether it trains in at least half of the seeds."""
        return bool(self.results) and 2 * self.trained >= len(self.results)

    @property
    def verdict(self) -> str:
        """What is proved: "helped", "did not help", "harmed"; "not tried"; the control has none."""
        if self.change is None:
            return ""
        if not self.results:
            return "not tried"
        return NO_HELP if self.comparison is None else self.comparison.verdict

    def to_dict(self) -> dict[str, Any]:
        """Return the trial as plain numbers, strings and lists."""
        comparison = self.comparison
        return {
            "treatment": self.kind,
            "name": self.name,
            "verdict": self.verdict,
            "scores": list(self.scores),
            "losses": [result.loss for result in self.results],
            "test_losses": [result.test_loss for result in self.results],
            "seeds": list(self.seeds),
            "fresh_seeds": self.fresh,
            "trains_in": self.trained,
            "difference": comparison.difference if comparison else None,
            "interval": list(comparison.interval) if comparison else None,
            "p": comparison.p if comparison else None,
            "chance": self.chance,
            "caution": self.caution,
            "seconds": self.seconds,
            "before": vars(self.before) if self.before else None,
            "after": vars(self.after) if self.after else None,
            "config": self.recipe.config,
            "note": self.note,
        }


Key = tuple[Change | None, int]


@dataclass
class Laboratory:
    """Makes trainings and keeps their results: those of one seed start alike, split alike and are ordered alike.

    Attributes
    ----------
    recipe : Recipe
        Of the control.
    data : Data
    setting : Setting
        The one batch, and what else `examine` needs.
    network_seed, seed : int
        Training number k has these seeds plus k, for the network and for the order of rows.
    budget : Budget
    journal : Journal or None
        Where results go as they come, and where those of an earlier call are.
    threads : int
    shown : callable
        Called with the number of trainings that are done after each stretch.
    """

    recipe: Recipe
    data: Data
    setting: Setting
    network_seed: int
    seed: int
    budget: Budget
    journal: Journal | None
    threads: int
    shown: Callable[[int], None]
    results: dict[Key, Result] = field(default_factory=dict)
    kept: dict[Key, Trained] = field(default_factory=dict)
    profiles: dict[Change | None, tuple[Profile, Profile]] = field(default_factory=dict)
    reached: float = 1.0
    _recipes: dict[Change | None, Recipe] = field(default_factory=dict)
    _known_bounds: dict[tuple[str, bool, str], tuple[float, float]] = field(default_factory=dict)

    def recipe_of(self, change: Change | None) -> Recipe:
        """Return the recipe with a change made."""
        if change not in self._recipes:
            self._recipes[change] = self.recipe if change is None else self.recipe.changed(change)
        return self._recipes[change]

    def network(self, change: Change) -> Network:
        """Return the network of a change before any training; ValueError for one that cannot be trained here."""
        recipe = self.recipe_of(change)
        net = recipe.network(self.network_seed)
        check_batch_norm(net, min(recipe.batch_size, len(self.data.X)))
        return net

    def evidence(self, change: Change, net: Network) -> Evidence:
        """Return what one batch says of a change and its network, which is prepared for it."""
        setting = self.setting.changed(change)
        self.recipe_of(change).prepare_(net, setting.batch.X, self.seed)
        return examine(net, setting, None)

    def run(self, changes: Iterable[Change | None], seeds: Sequence[int]) -> bool:
        """Make the trainings of all changes and seeds that are not there yet; tell whether the budget allowed all.

        The first is made in any case: without the control there is nothing to say.
        """
        wanted = [(change, seed) for change in changes for seed in seeds]
        missing = [key for key in wanted if key not in self.results]
        if self.journal is not None:
            for key in missing:
                recipe = self.recipe_of(key[0])
                known = self.journal.find(recipe, self.epochs(recipe), key[1])
                if known is not None:
                    self.results[key] = known
            missing = [key for key in missing if key not in self.results]
        while missing:
            works = [self.work(change) for change, _ in missing]
            steps = [self.steps(self.recipe_of(change)) for change, _ in missing]
            count = self.budget.next_stretch(works, steps, STRETCH, self.threads)
            if not count and self.results:
                return False
            count = max(1, count)
            self._train(missing[:count], sum(works[:count]))
            missing = missing[count:]
        return True

    def work(self, change: Change | None) -> float:
        """About how many multiplications one training costs."""
        recipe = self.recipe_of(change)
        return recipe.work * self.steps(recipe)

    def steps(self, recipe: Recipe) -> int:
        """Steps of one training."""
        return self.epochs(recipe) * -(-len(self.data.X) // recipe.batch_size)

    def epochs(self, recipe: Recipe) -> int:
        """Epochs of one training."""
        return self.budget.epochs(recipe.batch_size)

    def _job(self, recipe: Recipe, seed: int) -> Job:
        return Job(recipe, self.epochs(recipe), self.network_seed + seed, self.seed + seed)

    def _train(self, keys: Sequence[Key], work: float) -> None:
        jobs = [self._job(self.recipe_of(change), seed) for change, seed in keys]
        with self.budget.spending(work, sum(self.steps(job.recipe) for job in jobs), len(jobs)):
            trained = train(jobs, self.data, threads=self.threads)
        for (change, seed), made in zip(keys, trained, strict=True):
            self._book(change, seed, made)
        self.shown(len(self.results))

    def _book(self, change: Change | None, seed: int, made: Trained) -> None:
        self.results[change, seed] = self._measured(made)
        if seed == 0:
            self._look(change, made.network)
        if change is None or seed >= KEPT_FROM:
            self.kept[change, seed] = made
        if self.journal is not None:
            recipe = self.recipe_of(change)
            self.journal.add(recipe, self.epochs(recipe), seed, self.results[change, seed])

    def _measured(self, made: Trained) -> Result:
        net, data = made.network, made.data
        assert net.loss is not None
        with np.errstate(all="ignore"):
            train, test = net.evaluate(data.X, data.y), net.evaluate(data.X_test, data.y_test)
        score = test[score_name(net.loss)]
        worst = worst_score(net.loss)
        return Result(
            max(worst, score) if math.isfinite(score) else worst,
            _ratio(train["loss"], *self._bounds(net.loss, made, "y")),
            _ratio(test["loss"], *self._bounds(net.loss, made, "y_test")),
            made.seconds,
            row_scores(net, data),
        )

    def _bounds(self, loss: Loss, made: Trained, targets: str) -> tuple[float, float]:
        """Return the loss of the best constant predictor, and that from which losses are counted.

        On the targets to train on ("y") or to test with ("y_test").
        """
        key = str(loss), made.targets is not None, targets
        if key not in self._known_bounds:
            y, outputs = getattr(made.data, targets), made.network.output_size
            self._known_bounds[key] = (
                constant_loss(loss, y, outputs=outputs, reduction=loss.reduction),
                least_loss(loss, y, outputs=outputs, reduction=loss.reduction),
            )
        return self._known_bounds[key]

    def _look(self, change: Change | None, trained: Network) -> None:
        """Keep gradient and signal before and after a training of the first seed."""
        recipe = self.recipe_of(change)
        batch = self.setting.batch if change is None else change.data(self.setting.batch)
        start = recipe.network(self.network_seed)
        with suppress(ValueError):  # (then it was not trained either)
            recipe.prepare_(start, batch.X, self.seed)
        self.profiles[change] = Profile.of(start, batch), Profile.of(trained, batch)

    def made(self, change: Change | None, seed: int) -> Trained:
        """Return a training with its network; made again where only its result is known."""
        if (change, seed) not in self.kept:
            (self.kept[change, seed],) = train([self._job(self.recipe_of(change), seed)], self.data)
        return self.kept[change, seed]

    def refer(self) -> None:
        """Train a plain network of two layers on scaled data: what can be reached here at all, whatever was tried."""
        outputs = dense_layers(self.recipe.layers)[-1].units
        plain = Recipe(
            as_layers([Dense(REFERENCE_WIDTH), "tanh", Dense(REFERENCE_WIDTH), "tanh", Dense(outputs)]),
            self.recipe.input_size, self.recipe.dtype, mean_of(self.recipe.loss), Adam(0.003), 32,
            standardise=True, standardise_targets=self.setting.data.loss.scalable,
        )  # fmt: skip
        job = self._job(plain, 0)
        self.reached = min(self.reached, *(self._measured(made).loss for made in train([job], self.data)))

    def calibrate(self) -> None:
        """Find out how fast trainings go here: some short ones, and some that take a while."""
        per_epoch = self.recipe.work * -(-len(self.data.X) // self.recipe.batch_size) * self.threads

        def seconds(epochs: int) -> float:
            job = Job(self.recipe, epochs, self.network_seed, self.seed)
            start = time.perf_counter()
            train([job] * self.threads, self.data, threads=self.threads)
            return time.perf_counter() - start

        epochs, short = 4, seconds(1)
        while (long := seconds(epochs)) < short + CALIBRATION and epochs < 256:
            epochs *= 4
        self.budget.measure(short, long, per_epoch, epochs * per_epoch, self.threads)

    def trial(self, trial: Trial, seeds: Sequence[int]) -> Trial:
        """Return a trial with what is known of these seeds."""
        known = [seed for seed in seeds if (trial.change, seed) in self.results]
        profiles = self.profiles.get(trial.change)
        return replace(
            trial,
            seeds=tuple(known),
            results=tuple(self.results[trial.change, seed] for seed in known),
            before=profiles[0] if profiles else None,
            after=profiles[1] if profiles else None,
        )

    def trained(self, results: Sequence[Result]) -> int:
        """Count those that train."""
        return len(self._parted(results)[0])

    def _parted(self, results: Sequence[Result]) -> tuple[list[Result], list[Result]]:
        """Return those that train, and those that are stuck."""
        reached = [self.reached, *(result.loss for result in self.results.values())]
        judged = list(zip(results, which_train([result.loss for result in results], reached), strict=True))
        return [result for result, trains in judged if trains], [
            result for result, trains in judged if not trains
        ]

    def counts(self, treated: Sequence[Result], control: Sequence[Result]) -> Counts:
        """Count in how many seeds each trains; look whether that is of use where it is more often.

        It says nothing where the others are of use as well: they are not stuck, they only fit their rows less.
        """
        (good, bad), (fair, poor) = self._parted(treated), self._parted(control)
        more = len(good) * len(control) - len(fair) * len(treated)
        trained, stuck = (good, poor) if more > 0 else (fair, bad)
        useless = by_heart(trained, self._constant_rows) if more and not self.useful(stuck) else 1.0
        return Counts(len(good), len(treated), len(fair), len(control), useless)

    def useful(self, results: Sequence[Result]) -> bool:
        """Tell whether they beat a constant on the rows to test with, by more than luck."""
        return by_heart(results, self._constant_rows) < LUCK

    @cached_property
    def _constant_rows(self) -> Array:
        return constant_row_scores(self.data, self.setting.data.loss)

    @cached_property
    def resolution(self) -> float:
        """The smallest difference between two scores that means anything."""
        return 1 / (2 * len(self.data.X_test)) if self.setting.data.loss.classification else 1e-3


def _ratio(loss: float, constant: float, least: float) -> float:
    return (loss - least) / (constant - least) if constant > least and math.isfinite(loss) else math.inf
