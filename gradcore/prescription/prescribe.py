"""Prescribe: which of the known cures help this network on these data, and which do not, as measured."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterable
from dataclasses import replace
from typing import Literal

from numpy.typing import ArrayLike

from gradcore.diagnosis.changes import Change
from gradcore.errors import check_integer
from gradcore.network import Network
from gradcore.optimizers import Optimizer
from gradcore.prescription.budget import Budget
from gradcore.prescription.code import reproduce
from gradcore.prescription.course import FIRST_SEEDS, Case, Course
from gradcore.prescription.journal import Journal
from gradcore.prescription.result import Prescription
from gradcore.prescription.treatments import resolve
from gradcore.threads import cores
from gradcore.training.progress import ProgressBar


def prescribe(
    net: Network,
    X: ArrayLike,
    y: ArrayLike,
    *,
    budget: str | float = "30s",
    treatments: str | Iterable[str | Change] = "auto",
    seeds: int = 5,
    n_jobs: int | None = None,
    seed: int = 0,
    loss: str = "auto",
    optimizer: str | Optimizer | None = None,
    batch_size: int = 32,
    epochs: int | None = None,
    validation_data: tuple[ArrayLike, ArrayLike] | None = None,
    test_fraction: float = 0.2,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    clip_adaptive: float | None = None,
    schedule: str | None = None,
    log: str | os.PathLike[str] | None = None,
    progress: Literal["auto"] | bool = "auto",
) -> Prescription:
    """Try the known cures on a network, each really trained from several seeds, and prove which help.

    Every treatment and the untreated control are trained from new initial weights, the k-th time from the k-th seed, on
    the same rows in the same order, and scored on rows that none of them saw. All are tried with two seeds, in the
    order of what one batch promises, the smallest change first; those that score above the control go on to `seeds` of
    them; the best two and the control are trained anew from at least eight seeds that had no part in their choice.
    `net` is never changed.

    Parameters
    ----------
    net : Network
        As it is (to be) trained; its weights are drawn anew from the seeds net.seed, net.seed + 1, ….
    X, y : array_like
        As for ``net.fit``.
    budget : str or float
        Seconds (``"30s"``, ``"2min"``, 30) or steps in all (``"20000 steps"``). Where it is too short for everything,
        trainings get shorter, and then the least promising treatments are not tried; the untreated control is trained
        in any case, and a training that has begun goes on to its end.
    treatments : "auto", or list of str and Change
        Kinds of treatments (`gradcore.prescription.treatments.TREATMENTS`) and changes of one's own.
    seeds : int
        Of the second round.
    n_jobs : int, optional
        Trainings at the same time; None or -1: one for each core.
    seed : int
        Of the split, the order of rows and dropout.
    loss, optimizer, batch_size, clip_norm, clip_value, clip_adaptive, schedule
        How it is trained as it is; as for ``net.fit``.
    epochs : int, optional
        Of one training; None: about 1500 steps (three times as many with batches of fewer than 8 rows), less where the
        budget is short, at least 300.
    validation_data : tuple (X, y), optional
        Rows to score on; None: a part of X.
    test_fraction : float
        That part, with as many of each class as there are.
    log : path, optional
        A file for the results, a line of JSON for each training as it ends. Where it is there already, from the same
        call, its trainings are not made again.
    progress : bool or "auto"

    Returns
    -------
    Prescription
        ``str()`` of it is the report for the terminal. Ctrl-C returns what was measured so far.

    Raises
    ------
    ValueError, TypeError
        Data or settings that cannot be.

    Notes
    -----
    "Helped" and "harmed" are said where the mean of the paired differences from the control is not zero by Student's t,
    with the chance of other rows to score on in its error, or where it trains more or less often by Fisher's exact
    test and what trains beats a constant on those rows, which the others do not; corrected for the two tests and, by
    Holm, for the number of treatments, at a level of 3 % for the whole prescription: half of it for the first choice
    among all, half for the fresh seeds. Fresh seeds are scored on the same rows. "Not proved" is what looked better on
    fewer than five seeds, for which the budget allowed no more.

    Examples
    --------
    >>> from gradcore.datasets import load_digits
    >>> from gradcore.network import mlp
    >>> digits = load_digits()
    >>> net = mlp([64] + 8 * [32] + [10], activation="sigmoid", init="normal(0.01)", seed=0)
    >>> found = prescribe(
    ...     net, digits.X_train, digits.y_train, treatments=["activation", "learning_rate"], epochs=8, progress=False
    ... )
    >>> found.best.verdict, found["activation"].verdict, found["learning_rate"].verdict
    ('helped', 'helped', 'did not help')
    """
    case = Case.of(
        net, X, y, seed=seed, loss=loss, optimizer=optimizer, batch_size=batch_size,
        validation_data=validation_data, test_fraction=test_fraction, clip_norm=clip_norm, clip_value=clip_value,
        clip_adaptive=clip_adaptive, schedule=schedule,
    )  # fmt: skip
    seeds = check_integer("seeds", seeds, minimum=FIRST_SEEDS)
    if isinstance(treatments, Iterable) and not isinstance(treatments, str):
        treatments = list(treatments)  # they are read twice
    chosen = resolve(treatments)
    spending = Budget(budget, len(case.data.X), None if epochs is None else check_integer("epochs", epochs))
    threads = cores() if n_jobs in (None, -1) else check_integer("n_jobs", n_jobs)
    journal = None if log is None else Journal(log, case.described | {"epochs": epochs})
    bar = ProgressBar(progress, 1, 1, "training")
    try:
        found = Course(case, chosen, seeds, spending, threads, journal, bar).run()
    finally:
        bar.close()
        if journal is not None:
            journal.close()
    given = {
        "budget": budget, "treatments": treatments, "seeds": seeds, "seed": seed, "loss": loss, "optimizer": optimizer,
        "batch_size": batch_size, "epochs": epochs, "validation_data": validation_data,
        "test_fraction": test_fraction, "clip_norm": clip_norm, "clip_value": clip_value,
        "clip_adaptive": clip_adaptive, "schedule": schedule,
    }  # fmt: skip
    usual = inspect.signature(prescribe).parameters
    again = reproduce(net, {name: (value, usual[name].default) for name, value in given.items()})
    return replace(found, reproduce=again)
