"""What a fit leaves behind: one number per epoch and name, and what happened on the way."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gradcore.health.loss_curve import LossCurve, LossSign, classify

if TYPE_CHECKING:
    from gradcore.health.faults import Fault
    from gradcore.health.ledger import Ledger
    from gradcore.training.faults import NonFinite


@dataclass(repr=False)
class History:
    """The course of one fit.

    Attributes
    ----------
    history : dict of str to list of float
        One value per completed epoch: ``"loss"`` (mean over the rows of the steps that were applied), ``"val_loss"``
        and ``"val_accuracy"`` or ``"val_r2"`` where there is validation data, ``"gradient_norm"`` and
        ``"gradient_norm_max"`` (median and largest over the steps, before clipping), ``"skipped_steps"`` (not
        applied because their gradient was not finite). With ``clip_norm``: ``"gradient_norm_clipped"`` (the median
        after clipping) and ``"clipped_steps"`` (how many were above the bound). Where a schedule or a callback changes
        the learning rate: ``"lr"``, that of the last step of the epoch.
    epochs : list of int
        The completed epochs, from 0.
    faults : list of NonFinite and Fault
        The first non-finite steps, located; at most ten. None of them was applied: the network holds the last good
        weights, those after ``steps`` applied steps. With ``probe=`` also what the rules found in the ledgers, the
        first of each kind, its step in the ``evidence``.
    ledgers : sequence of Ledger
        Those asked for by ``probe=``; the last ones, as many as fit into 64 MB, made when they are read.
    curve : LossCurve
        The loss of every step (of every block of steps, in a long training): ``history.curve.values``; NaN where a
        step was not applied.
    constant_loss : float
        Loss of the best constant predictor on the training rows: what knowing nothing costs.
    least_loss : float
        From where losses are counted when they are judged: 0 unless the loss can be negative, or never gets to 0.
    steps : int
        Number of applied steps.
    seconds : float
    seed : int
        Gives the same training again.
    loss_name, optimizer : str
        What was chosen.
    batch_size, threads : int
    stopped : str or None
        Why the training ended early; None: all epochs were run.

    Examples
    --------
    >>> from gradcore import mlp
    >>> history = mlp([1, 4, 1], seed=0).fit([[0.0], [1.0]], [0.0, 1.0], epochs=3, seed=0)
    >>> history.epochs, history.steps, history.loss_name
    ([0, 1, 2], 3, 'mse')
    """

    loss_name: str
    optimizer: str
    batch_size: int
    threads: int
    seed: int
    history: dict[str, list[float]] = field(default_factory=dict)
    epochs: list[int] = field(default_factory=list)
    faults: list[NonFinite | Fault] = field(default_factory=list)
    ledgers: Sequence[Ledger] = ()
    curve: LossCurve = field(default_factory=LossCurve)
    constant_loss: float = math.nan
    least_loss: float = 0.0
    steps: int = 0
    seconds: float = 0.0
    stopped: str | None = None

    @property
    def loss_sign(self) -> LossSign:
        """What the curve of the training loss says: ``"falling"``, ``"stalled"``, …, with ``.evidence``.

        ``"nan"``: a step was not applied. See `gradcore.health.loss_curve.classify`.
        """
        return classify(
            self.curve.values - self.least_loss, constant_loss=max(self.constant_loss - self.least_loss, 0.0)
        )

    def record_rate(self, so_far: float) -> None:
        """Keep the learning rate of every epoch from now on; it was `so_far` in those that are over."""
        self.history.setdefault("lr", [so_far] * len(self.epochs))

    def append(self, epoch: int, values: dict[str, float]) -> None:
        """Add the values of a completed epoch."""
        self.epochs.append(epoch)
        for name, value in values.items():
            self.history.setdefault(name, []).append(value)

    def __repr__(self) -> str:
        parts = [f"{len(self.epochs)} epochs, {self.steps} steps, {self.seconds:.3g} s"]
        losses = self.history.get("loss", [])
        if losses:
            parts.append(f"{self.loss_name} {losses[0]:.4g} → {losses[-1]:.4g}")
        for name, values in self.history.items():
            if name.startswith("val_") and values and not math.isnan(values[-1]):
                parts.append(f"{name} {values[-1]:.4g}")
        skipped = int(sum(self.history.get("skipped_steps", [])))
        if skipped:
            parts.append(f"{skipped} steps not applied")
        sign = self.loss_sign
        if sign != "undecided":
            parts.append(f"loss {sign}")
        if self.stopped:
            parts.append(f"stopped: {self.stopped}")
        return f"{type(self).__name__}({'; '.join(parts)}; seed {self.seed})"
