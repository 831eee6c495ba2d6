"""What a prescription found: the trials, the best of them, and the network that it trained."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gradcore.diagnosis.diagnose import Diagnosis
from gradcore.diagnosis.writing import plain, written
from gradcore.network import Network
from gradcore.prescription.trials import Trial

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes

SCHEMA = "gradcore-prescription"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Prescription:
    """What `prescribe` measured.

    Attributes
    ----------
    trials : tuple of Trial
        The control first, then all treatments, the best first.
    best : Trial or None
        What to do, proved on fresh seeds (``best.fresh``) unless budget or Ctrl-C ended it before; None where nothing
        helped, or nothing is needed.
    network : Network
        Trained: of the best treatment, or of the control; it takes and gives the user's own units. The one of all its
        seeds with the best score: the fair expectation is the mean of ``best.scores``.
    code : str
        The change to write, as a diff.
    config : dict
        The whole recipe of the best treatment, or of the control.
    score : str
        "accuracy" or "r2", on the rows to test with.
    diagnosis : Diagnosis
        Of the network as it is.
    rows, test_rows : int
        To train on, to test with.
    epochs : int
        Of one training of the control.
    trainings : int
        Made in all, those of an earlier call with the same journal included.
    seconds : float
    stopped : str
        "budget" or "interrupted", where not everything was tried that could be; else empty.
    has_signal : bool or None
        Whether the inputs say anything about the targets; None: too few rows to tell.
    useful : bool
        Whether the best treatment, or the control, is better than a constant on the rows to test with, by more than
        luck.
    reproduce : str
        The lines of Python that make it again; X and y are the reader's.
    """

    trials: tuple[Trial, ...]
    best: Trial | None
    network: Network
    code: str
    score: str
    diagnosis: Diagnosis = field(repr=False)
    rows: int
    test_rows: int
    epochs: int
    trainings: int
    seconds: float
    stopped: str
    has_signal: bool | None
    useful: bool
    reproduce: str = ""

    @property
    def control(self) -> Trial:
        """The network as it is."""
        return self.trials[0]

    @property
    def healthy(self) -> bool:
        """Whether the network as it is trains in every seed."""
        return self.control.trained == len(self.control.results)

    @property
    def config(self) -> dict[str, Any]:
        """The recipe of the best treatment, or of the control, as plain strings, numbers and lists."""
        return (self.best or self.control).recipe.config

    def __getitem__(self, name: str) -> Trial:
        """Return a trial by its name, or by the kind of treatment: the best of them."""
        for trial in self.trials:
            if name in (trial.name, trial.kind):
                return trial
        raise KeyError(f"no trial {name!r}; there are: {', '.join(trial.name for trial in self.trials)}")

    def __str__(self) -> str:
        from gradcore.prescription.report import render

        return render(self)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain numbers, strings and lists, with the schema's name and version."""
        from gradcore.prescription.words import headline

        return {
            "schema": SCHEMA,
            "version": SCHEMA_VERSION,
            "headline": headline(self),
            "healthy": self.healthy,
            "best": self.best.name if self.best else None,
            "code": self.code,
            "config": self.config,
            "score": self.score,
            "trials": [trial.to_dict() for trial in self.trials],
            "rows": self.rows,
            "test_rows": self.test_rows,
            "epochs": self.epochs,
            "trainings": self.trainings,
            "seconds": self.seconds,
            "stopped": self.stopped,
            "has_signal": self.has_signal,
            "useful": self.useful,
        }

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return strict JSON (NaN and infinities are null there), and write it to `path` if one is given."""
        return written(json.dumps(plain(self.to_dict()), indent=2, allow_nan=False, default=str), path)

    def to_html(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return the report as one HTML page without any external part, and write it to `path` if one is given."""
        from gradcore.prescription.html import page

        return written(page(self), path)

    def _repr_html_(self) -> str:
        from gradcore.prescription.html import fragment

        return fragment(self)

    def to_frame(self) -> pandas.DataFrame:
        """Return one row per trial as a pandas DataFrame.

        `gradcore.prescription.frames.trial_columns` says what the columns are.

        Raises
        ------
        ImportError
            pandas is not installed.
        """
        from gradcore.prescription.frames import trial_frame

        return trial_frame(self)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the scores of every trial with matplotlib, into `ax` or a new figure, and return the axes.

        Raises
        ------
        ImportError
            matplotlib is not installed.
        """
        from gradcore.prescription.plots import plot_trials

        return plot_trials(self, ax)
