"""The course of a prescription: from what applies, over the rounds of trainings, to what is proved."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from gradcore import __version__, kernels
from gradcore.diagnosis.changes import Change
from gradcore.diagnosis.diagnose import diagnose, prepare
from gradcore.diagnosis.examine import Setting
from gradcore.diagnosis.recipe import Data, Recipe, with_scaling
from gradcore.diagnosis.words import change_lines
from gradcore.errors import check_fraction, check_integer
from gradcore.network import Network
from gradcore.optimizers import Optimizer
from gradcore.prescription.budget import Budget
from gradcore.prescription.combinations import all_at_once, combined, without_parts
from gradcore.prescription.comparison import HELPED, LEVEL, compare
from gradcore.prescription.journal import Journal, fingerprint
from gradcore.prescription.result import Prescription
from gradcore.prescription.rows import luck
from gradcore.prescription.treatments import Subject, Treatment, caution
from gradcore.prescription.trials import KEPT_FROM, Laboratory, Trial
from gradcore.scores import score_name
from gradcore.streams import check_seed
from gradcore.training.batches import split
from gradcore.training.data import dense
from gradcore.training.loop import validation
from gradcore.training.progress import ProgressBar
from gradcore.training.settings import step_settings
from gradcore.training.targets import encode

# Seeds with which every treatment is tried once …
FIRST_SEEDS = 2

# … and at least so many more, that had no part in the choice, for those that are proposed.
FRESH_SEEDS, FEW_SEEDS, MOST_SEEDS = 8, 12, 40
FINALISTS = 2

# Share of what is left of the budget that fresh seeds may take.
FRESH_SHARE = 0.7

# Share of the treatments that is expected to go into the second round.
LATER = 0.3

# Treatments that always go into the second round.
KEPT = 4

# Joint changes that are tried: of those that the diagnosis proposes.
JOINT = 4

# Share of the budget that may go into looking at treatments before any is tried.
LOOKING = 0.2

# Chances that differ by less are the same promise.
EQUAL = 0.1


@dataclass(frozen=True)
class Case:
    """The network to be cured, and the data, split."""

    net: Network
    recipe: Recipe
    data: Data
    classes: Any
    seed: int

    @classmethod
    def of(
        cls, net: Network, X: ArrayLike, y: ArrayLike, *, seed: int, loss: str, optimizer: str | Optimizer | None,
        batch_size: int, validation_data: tuple[ArrayLike, ArrayLike] | None, test_fraction: float, **settings: Any,
    ) -> Case:  # fmt: skip
        """Check what was given, and split it."""
        seed = check_seed(seed)
        given = prepare(net, X, y, loss=loss, optimizer=optimizer, batch_size=batch_size, seed=seed)
        targets = encode(y, loss, net.output_size, net.dtype, classes=net.classes_)
        everything, batch = given.data, check_integer("batch_size", batch_size)
        step_settings(
            given.optimizer, batch, probe=None, seed=seed,
            **{name: settings[name] for name in ("clip_norm", "clip_value", "clip_adaptive", "schedule")},
        )  # fmt: skip
        if validation_data is None:
            share = check_fraction("test_fraction", test_fraction)
            one_label = everything.loss.classification and everything.targets.size == len(everything)
            labels = everything.targets.ravel() if one_label else None
            train, test = split(len(everything), share, seed, labels=labels, name="test_fraction")
            if not len(test):
                raise ValueError(
                    "test_fraction must leave rows to score on, or give validation_data; got 0 of "
                    f"{len(everything)} rows"
                )
            X_train, X_test = (dense(everything.X, rows, net.dtype) for rows in (train, test))
            data = Data(X_train, everything.targets[train], X_test, everything.targets[test])
        else:
            held_out = validation(net, validation_data, targets)
            X, X_test = (dense(rows, slice(None), net.dtype) for rows in (everything.X, held_out[0]))
            data = Data(X, everything.targets, X_test, held_out[1].values)
        recipe = Recipe(
            net.layers, net.input_size, net.dtype, str(targets.loss), given.optimizer, batch, **settings
        )
        return cls(net, recipe, data, targets.classes, seed)

    @property
    def described(self) -> dict[str, Any]:
        """What must be the same for results of an earlier call to count."""
        return {
            "network": json.loads(json.dumps(self.recipe.config, default=str)),
            "network_seed": self.net.seed,
            "seed": self.seed,
            "data": fingerprint(self.data),
            "gradcore": __version__,
            "kernels": kernels.info()["level"],
        }


class Course:
    """The course of one prescription: from the candidates over the rounds to the proof."""

    def __init__(
        self, case: Case, chosen: Sequence[Treatment | Change], seeds: int, budget: Budget, threads: int,
        journal: Journal | None, bar: ProgressBar,
    ) -> None:  # fmt: skip
        self.case, self.chosen, self.seeds, self.budget = case, chosen, seeds, budget
        self.bar, self.stopped = bar, ""
        self.finalists: list[Change] = []
        self.least = max(FRESH_SEEDS, seeds)
        self.fresh = range(KEPT_FROM, KEPT_FROM + self.least)
        data, recipe = case.data, case.recipe
        self.diagnosis = diagnose(
            case.net.copy(), data.X, data.y, loss=recipe.loss, optimizer=recipe.optimizer,
            batch_size=recipe.batch_size, seed=case.seed,
        )  # fmt: skip
        self.setting: Setting = self.diagnosis.setting
        self.lab = Laboratory(
            recipe, data, self.setting, case.net.seed, case.seed, budget, journal, threads, self._show
        )
        self.trials: dict[Change, Trial] = {}  # in the order in which they are tried

    def run(self) -> Prescription:
        """Return what was measured, when everything is or the budget is spent or Ctrl-C came."""
        try:
            self._rounds()
        except KeyboardInterrupt:
            if not any(change is None for change, _ in self.lab.results):
                raise
            self.stopped = "interrupted"
        return self._result()

    def _rounds(self) -> None:
        self.lab.calibrate()
        self.trials = self._candidates()
        self._plan()
        first, later = range(FIRST_SEEDS), range(self.seeds)
        self._round([None, *self.trials], first, 0.45)
        if self._auto:
            self.lab.refer()
            self._combine(0.55)
        self._round([None, *self._kept()], later, 0.7)
        if self._auto and not self._training():  # what looked like a cure was luck
            self._combine(0.75)
            self._round(self._kept(), later, 0.8)
        self._prove()

    def _prove(self) -> None:
        """Train the finalists and the control from seeds that had no part in their choice; where it is close, more."""
        self.finalists = self._best_two()
        if self.stopped and not (self.finalists and self._affordable_seeds(self.finalists[:1]) >= self.least):
            # fresh seeds that do not suffice would prove nothing: better to finish what was begun, the best first
            self._round([None, *self._kept()[:FINALISTS]], range(self.seeds), 1.0)
            self._round([None, *self.trials], range(FIRST_SEEDS), 0.85)
            self._round([None, *self._kept()], range(self.seeds), 1.0)
            self.finalists = self._best_two()
        for most in (FEW_SEEDS, MOST_SEEDS):
            self.fresh = self._fresh_seeds(most)
            for count in (self.least, len(self.fresh)):  # where the budget ends, the fewest are there of all
                self._round([None, *self.finalists], self.fresh[:count], 1.0)
            if self.stopped or any(trial.verdict == HELPED for trial in self._proposed().values()):
                return

    def _combine(self, until: float) -> None:
        """Where nothing lets the network train, try joint changes; of one that does, leave away what is not needed."""
        for propose in (combined, all_at_once):
            if self._training():
                return
            self._try(propose([self._tried(change) for change in self.trials]), until)
        while (best := self._training()) and len(best.made) > 1:
            self._try([change for change in without_parts(best) if change not in self.trials], until)
            smaller = self._training()
            if smaller is None or len(smaller.made) >= len(best.made):
                return

    def _try(self, changes: Iterable[Change], until: float) -> None:
        self.budget.until = until
        if self.budget.left <= 0:
            self.stopped = "budget"
            return
        trials = sorted((self._candidate("joint", change) for change in changes), key=_promise)
        proposed = {trial.change: trial for trial in trials if trial.change is not None}
        self.trials |= proposed
        self._round(proposed, range(FIRST_SEEDS), until)

    def _training(self) -> Change | None:
        """Return the smallest change that lets the network train in all seeds so far, the best of equals."""
        tried = [self._tried(change) for change in self.trials]
        found = [trial for trial in tried if trial.results and trial.trained == len(trial.results)]
        return min(found, key=lambda trial: (_size(trial)[1], -trial.mean)).change if found else None

    @property
    def _auto(self) -> bool:
        return len(self.chosen) > 1 and all(isinstance(one, Treatment) for one in self.chosen)

    # -- what is tried

    def _candidates(self) -> dict[Change, Trial]:
        """Return the trials to be made, the most promising first; of equals the smallest change."""
        self.budget.until = LOOKING
        subject = Subject(self.case.recipe, len(self.case.data.X), self.setting.data.loss.scalable)
        self.subject = subject
        wanted: list[tuple[str, Change]] = []
        for one in self.chosen:
            if isinstance(one, Change):
                wanted.append(("own", one))
            else:
                wanted += [(one.kind, change) for change in one.doses(subject)]
        if self._auto and not self.diagnosis.healthy:
            cures = [
                outcome.change for outcome in self.diagnosis.what_if.cures if len(outcome.change.causes) > 1
            ]
            wanted += [("joint", change) for change in cures[:JOINT]]
        seen, found = {self.case.recipe}, {}
        for kind, change in wanted:
            if (recipe := self.case.recipe.changed(change)) not in seen:
                seen.add(recipe)
                found[change] = self._candidate(kind, change)
        return dict(sorted(found.items(), key=lambda item: _promise(item[1])))

    def _candidate(self, kind: str, change: Change) -> Trial:
        """Return a trial with what is known before it is made."""
        chance, note = math.nan, ""
        try:
            net = self.lab.network(change)
            # (pretraining is half a training)
            if change.pretrained is None and self.budget.left > 0:
                chance = self.lab.evidence(change, net).chance
        except ValueError as error:
            note = f"not tried: {error}"
        return Trial(
            kind, change, self.lab.recipe_of(change), chance, caution(self.subject, change), note=note
        )

    # -- the rounds

    def _plan(self) -> None:
        """Choose the length of a training so that all that is planned fits into the budget."""
        self.budget.until = 1.0
        changes: list[Change | None] = [None, *self.trials]
        works = [self.lab.recipe_of(change).work for change in changes]
        later = FIRST_SEEDS + LATER * (self.seeds - FIRST_SEEDS)
        counts = [self.seeds + len(self.fresh), *[later] * len(self.trials)]
        counts[1 : 1 + FINALISTS] = [count + len(self.fresh) for count in counts[1 : 1 + FINALISTS]]
        self.budget.plan(works, counts)
        if self.lab.journal is not None and self.budget.fixed_epochs is None:
            self.budget.steps_of_one = self.lab.journal.settle(self.budget.steps_of_one)
        self.bar.total = self.bar.parts = round(sum(counts))

    def _round(self, changes: Iterable[Change | None], seeds: range, until: float) -> None:
        """Train, up to a share of the budget."""
        self.budget.until = until
        wanted = [change for change in changes if change is None or not self.trials[change].note]
        if not self.lab.run(wanted, seeds):
            self.stopped = "budget"

    def _tried(self, change: Change) -> Trial:
        return self._counted(self.trials[change], range(self.seeds))

    def _ranked(self) -> list[Trial]:
        """Return the trials that have results: those that train first, by score; of equals the smallest change."""
        step = 2 * self.lab.resolution
        tried = [trial for change in self.trials if (trial := self._tried(change)).results]
        return sorted(tried, key=lambda trial: (not trial.trains, -round(trial.mean / step), *_size(trial)))

    def _kept(self) -> list[Change]:
        """Return the treatments that may help, and in any case the first few; the others are not worth more seeds."""
        ranked = self._ranked()
        control = self._control_of(range(FIRST_SEEDS))
        kept = [
            trial
            for place, trial in enumerate(ranked)
            if place < KEPT or trial.mean > control + self.lab.resolution
        ]
        for trial in ranked:
            if trial not in kept and trial.change is not None:
                note = f"left after {len(trial.results)} seeds"
                self.trials[trial.change] = replace(self.trials[trial.change], note=note)
        return [trial.change for trial in kept if trial.change is not None]

    def _control_of(self, seeds: range) -> float:
        return self.lab.trial(self._control, seeds).mean

    def _fresh_seeds(self, most: int) -> range:
        """Return as many new seeds as the rest of the budget allows: the more there are, the more is proved."""
        affordable = FRESH_SHARE * self._affordable_seeds(self.finalists)
        count = max(self.least, min(most, int(affordable)), len(self.fresh))
        return range(KEPT_FROM, KEPT_FROM + count)

    def _affordable_seeds(self, proposed: Sequence[Change]) -> float:
        """Return with how many seeds the rest of the budget allows to train these and the control."""
        self.budget.until = 1.0
        changes = (None, *proposed)
        work = sum(self.lab.work(change) for change in changes)
        steps = sum(self.lab.steps(self.lab.recipe_of(change)) for change in changes)
        return self.budget.affordable(work, steps)

    def _best_two(self) -> list[Change]:
        """Return the best two that score above the control; the second is one that nothing speaks against, if any."""
        control = self._control_of(range(self.seeds))
        better = [
            trial for trial in self._ranked() if len(trial.results) > FIRST_SEEDS and trial.mean > control
        ]
        first, others = better[:1], sorted(better[1:], key=lambda trial: bool(trial.caution))
        chosen = [*first, *(others if first and first[0].caution else better[1:])][:FINALISTS]
        return [trial.change for trial in chosen if trial.change is not None]

    def _show(self, done: int) -> None:
        self.bar.update(done, done - 1, {})

    # -- what comes of it

    @property
    def _control(self) -> Trial:
        return Trial("control", None, self.case.recipe, self.diagnosis.chance)

    def _result(self) -> Prescription:
        control = self._counted(self._control, [*range(self.seeds), *self.fresh])
        trials = self._compared()
        helped = [trial for trial in trials if trial.verdict == HELPED]
        # where the budget or Ctrl-C came before the fresh seeds, the first choice has to do
        unproved = self.stopped and not any(trial.fresh for trial in trials)
        best = self._best([trial for trial in helped if trial.fresh] or (helped if unproved else []))
        shown = best or control
        seed = shown.seeds[int(np.argmax(shown.scores))]
        return Prescription(
            trials=(control, *sorted(trials, key=_merit)),
            best=best,
            network=self._network(shown, seed),
            code="\n".join(change_lines(self.case.net, self.case.recipe.optimizer, best.change))
            if best and best.change
            else "",
            score=score_name(self.setting.data.loss),
            diagnosis=self.diagnosis,
            rows=len(self.case.data.X),
            test_rows=len(self.case.data.X_test),
            epochs=self.lab.epochs(self.case.recipe),
            trainings=len(self.lab.results),
            seconds=time.perf_counter() - self.budget.begin,
            stopped=self.stopped,
            has_signal=self.setting.data.has_signal,
            useful=self.lab.useful(shown.results),
        )

    def _counted(self, trial: Trial, seeds: Sequence[int]) -> Trial:
        trial = self.lab.trial(trial, seeds)
        return replace(trial, trained=self.lab.trained(trial.results))

    def _compared(self) -> list[Trial]:
        """Return every trial with its comparison: of the first choice, and anew of those with fresh seeds."""
        found = {change: self._tried(change) for change in self.trials}
        for change, trial in found.items():
            if self.stopped == "budget" and not trial.results and not trial.note:
                found[change] = replace(trial, note="not tried: the budget is too short")
        # (for how often the control trains, all there are of it)
        self._compare(found, range(self.seeds), [*range(self.seeds), *self.fresh], LEVEL / 2)
        return list((found | self._proposed()).values())

    def _proposed(self) -> dict[Change, Trial]:
        """Return the proposed ones with their comparison on fresh seeds, as many as the budget or Ctrl-C let be."""
        trials = {}
        for change in self.finalists:
            paired = [
                seed for seed in self.fresh if {(change, seed), (None, seed)} <= self.lab.results.keys()
            ]
            if len(paired) >= self.least:
                trials[change] = replace(self._counted(self.trials[change], paired), fresh=True)
        self._compare(trials, self.fresh, self.fresh, LEVEL / 4)  # (looked at twice)
        return trials

    def _compare(
        self, trials: dict[Change, Trial], seeds: Sequence[int], control_seeds: Sequence[int], level: float
    ) -> None:
        """Compare trials with the control by the scores of paired seeds, and with some of its seeds by training."""
        results, lab = self.lab.results, self.lab
        told, differences, noise, counts = [], [], [], []
        control = lab.trial(self._control, control_seeds).results
        for change in trials:
            pairs = [
                (results[change, seed], results[None, seed])
                for seed in seeds
                if (change, seed) in results and (None, seed) in results
            ]
            if len(pairs) > 1:
                told.append(change)
                differences.append([treated.score - untreated.score for treated, untreated in pairs])
                noise.append(luck(pairs, len(self.case.data.X_test)))
                counts.append(lab.counts(trials[change].results, control))
        found = compare(differences, resolution=lab.resolution, noise=noise, trained=counts, level=level)
        for change, comparison in zip(told, found, strict=True):
            trials[change] = replace(trials[change], comparison=comparison)

    def _best(self, helped: Sequence[Trial]) -> Trial | None:
        """Return the best of those that are proved to help; of about equal ones the safest, the smallest change."""
        if not helped:
            return None
        helped = [trial for trial in helped if trial.trains] or helped
        top = max(helped, key=lambda trial: trial.mean)
        spread = float(np.std(top.scores, ddof=1)) / math.sqrt(len(top.scores)) + 2 * self.lab.resolution
        alike = [trial for trial in helped if trial.mean >= top.mean - spread]
        return min(alike, key=lambda trial: (bool(trial.caution), *_size(trial)))

    def _network(self, trial: Trial, seed: int) -> Network:
        made = self.lab.made(trial.change, seed)
        net = made.network
        if made.inputs is not None or made.targets is not None:
            net = with_scaling(net, made.inputs, made.targets)
        net.classes_ = self.case.classes
        return net


def _size(trial: Trial) -> tuple[float, ...]:
    assert trial.change is not None
    return trial.change.size, len(trial.change.made), -trial.chance if math.isfinite(trial.chance) else 0.0


def _promise(trial: Trial) -> tuple[float, ...]:
    """Sort key: what one batch promises, then the smallest change; where it cannot tell, half and half."""
    chance = trial.chance if math.isfinite(trial.chance) else 0.5
    return -round(chance / EQUAL), *_size(trial)


def _merit(trial: Trial) -> tuple[float, ...]:
    """Sort key for tables: what helped first, by score; what was not tried last."""
    order = ("helped", "not proved", "did not help", "harmed", "not tried")
    return order.index(trial.verdict), -trial.mean if trial.results else 0.0
