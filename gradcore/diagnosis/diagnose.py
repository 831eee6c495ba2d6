"""Diagnose: what is wrong with a network, where, and which changes alone or together would let it train."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike

from gradcore.diagnosis.examine import Reference, Setting, examine
from gradcore.diagnosis.observe import Batch, observe
from gradcore.diagnosis.variants import Variants
from gradcore.diagnosis.what_if import Outcome, WhatIf, what_if
from gradcore.diagnosis.writing import plain, written
from gradcore.errors import check_integer
from gradcore.health.evidence import Books, Evidence, Trace
from gradcore.health.facts import facts
from gradcore.health.faults import Fault
from gradcore.health.ledger import Ledger
from gradcore.health.rules import check
from gradcore.health.theory import predict
from gradcore.network import Network
from gradcore.optimizers import Optimizer, resolve as resolve_optimizer
from gradcore.streams import ORDER, check_seed, stream
from gradcore.training.data import as_given, check_rows
from gradcore.training.loop import check_batch_norm
from gradcore.training.targets import encode

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes

    from gradcore.diagnosis.proof import Proof
    from gradcore.health.theory import Prediction

SCHEMA = "gradcore-diagnosis"
SCHEMA_VERSION = 1

# Rows of the one batch: the noise of the centred gradient falls with their root.
ROWS = 128


@dataclass(frozen=True)
class Diagnosis:
    """What `diagnose` found.

    The verdict is there when `diagnose` returns. What needs more time is found out when it is first read: `faults` with
    their causes, `what_if`, `changed`, `prediction`. The network was copied; data of its dtype were not, and are to
    stay as they were until then.

    Attributes
    ----------
    faults : tuple of Fault
        The most severe first; empty for a healthy network.
    chance : float
        Chance that the network trains: of the ledger's seed, on one batch and the steps that were watched.
    ledger : Ledger
        The books of one batch: of the first seed with a fault, or of the first seed.
    what_if : WhatIf
        One-batch outcomes of the alternatives.
    prediction : Prediction
        What theory expects of the ledger.
    trace : Trace or None
        Losses, gradient norms and some ledgers of the real steps, where steps were asked for.
    network : Network
        A copy of the network that the ledger is of.
    books, changed : Books
        Of the network, and after the advised change; None where no change is advised.
    optimizer : Optimizer
    loss : str
    seeds : int
    first_seed : int
        The network's own; with several seeds those after it follow.
    milliseconds : float
        That `diagnose` took.
    """

    symptoms: tuple[Fault, ...] = field(repr=False)  # the faults, without their causes
    evidence: Evidence = field(repr=False)
    variants: Variants = field(repr=False)
    setting: Setting = field(repr=False)
    seeds: int
    first_seed: int
    milliseconds: float

    @property
    def healthy(self) -> bool:
        """Whether no rule found a fault in any seed."""
        return not self.symptoms

    @property
    def chance(self) -> float:
        """Chance that the network trains."""
        return self.evidence.chance

    @property
    def ledger(self) -> Ledger:
        """The books of one batch."""
        return self.evidence.books.ledger

    @property
    def books(self) -> Books:
        """The ledger, and what its norms cannot say."""
        return self.evidence.books

    @property
    def trace(self) -> Trace | None:
        """The course of the real steps."""
        return self.evidence.trace

    @property
    def network(self) -> Network:
        """A copy of the network that the ledger is of."""
        return self.variants.network

    @property
    def optimizer(self) -> Optimizer:
        """What the network is (to be) trained with."""
        return self.setting.optimizer

    @property
    def loss(self) -> str:
        """The loss that was chosen."""
        return str(self.setting.data.loss)

    @cached_property
    def what_if(self) -> WhatIf:
        """One batch through every alternative."""
        return what_if(self.variants, self.setting, self.evidence, self.symptoms)

    @cached_property
    def faults(self) -> tuple[Fault, ...]:
        """The faults, with the causes that the alternatives reveal."""
        return tuple(_explained(fault, self.what_if) for fault in self.symptoms)

    @property
    def best(self) -> Outcome | None:
        """The change to make for the most severe fault, if one of those tried cures it."""
        if not self.symptoms:
            return None
        own = self.symptoms[0].causes
        if not own:
            return self.what_if.best
        return next((outcome for outcome in self.what_if.cures if outcome.change.causes == own), None)

    @cached_property
    def changed(self) -> Books | None:
        """The books after that change."""
        best = self.best
        if best is None:
            return None
        batch = best.change.data(self.setting.batch)
        return observe(self.variants.make(best.change), batch, seed=self.setting.seed)

    @cached_property
    def prediction(self) -> Prediction:
        """What theory expects of the ledger, from the weights and the moments of the inputs."""
        return predict(self.network, self.setting.batch.X)

    def __str__(self) -> str:
        from gradcore.diagnosis.report import render

        return render(self)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain numbers, strings and lists, with the schema's name and version."""
        return {
            "schema": SCHEMA,
            "version": SCHEMA_VERSION,
            "healthy": self.healthy,
            "chance": self.chance,
            "faults": [fault.to_dict() for fault in self.faults],
            "seeds": self.seeds,
            "loss": self.loss,
            "optimizer": repr(self.optimizer),
            "best_change": self.best.name if self.best else None,
            "what_if": self.what_if.to_dict(),
            "trace": self.trace.to_dict() if self.trace else None,
            "ledger": self.ledger.to_dict(),
            "prediction": self.prediction.to_dict(),
            "milliseconds": self.milliseconds,
        }

    def to_json(self, path: str | os.PathLike[str] | None = None, *, proof: Proof | None = None) -> str:
        """Return strict JSON (NaN and infinities are null there), and write it to `path` if one is given.

        A proof by real training goes in beside the diagnosis.  ``gradcore/diagnosis/schema.json`` says what is in it.
        Its version rises when a key disappears, changes its meaning or its type; keys are added without a new version,
        so readers ignore what they do not know.

        Examples
        --------
        >>> import numpy as np
        >>> from gradcore.network import mlp
        >>> X = np.random.default_rng(0).normal(size=(64, 4))
        >>> json.loads(diagnose(mlp([4, 8, 2], seed=0), X, X[:, 0] > 0).to_json())["healthy"]
        True
        """
        content = self.to_dict() | ({"proof": proof.to_dict()} if proof is not None else {})
        return written(json.dumps(plain(content), indent=2, allow_nan=False), path)

    def to_html(self, path: str | os.PathLike[str] | None = None, *, proof: Proof | None = None) -> str:
        """Return the report as one HTML page without any external part, and write it to `path` if one is given.

        Examples
        --------
        >>> import numpy as np
        >>> from gradcore.network import mlp
        >>> X = np.random.default_rng(0).normal(size=(64, 4))
        >>> diagnose(mlp([4, 8, 2], seed=0), X, X[:, 0] > 0).to_html()[:15]
        '<!DOCTYPE html>'
        """
        from gradcore.diagnosis.html import page

        return written(page(self, proof), path)

    def _repr_html_(self) -> str:
        from gradcore.diagnosis.html import fragment

        return fragment(self)

    def to_frame(self) -> pandas.DataFrame:
        """Return one row per layer as a pandas DataFrame: what was measured, predicted and changed.

        `gradcore.diagnosis.frames.layer_columns` says what the columns are; ``ledger.to_frame()`` has the ops.

        Raises
        ------
        ImportError
            pandas is not installed.
        """
        from gradcore.diagnosis.frames import layer_frame

        return layer_frame(self)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw gradient and signal over the layers with matplotlib, into `ax` or a new figure, and return the axes.

        Raises
        ------
        ImportError
            matplotlib is not installed.
        """
        from gradcore.diagnosis.plots import plot_curves

        return plot_curves(self, ax)


def diagnose(
    net: Network,
    X: ArrayLike,
    y: ArrayLike,
    *,
    loss: str = "auto",
    optimizer: str | Optimizer | None = None,
    steps: int = 0,
    batch_size: int | None = None,
    seeds: int = 1,
    seed: int = 0,
) -> Diagnosis:
    """Say what keeps a network from learning, where, and which changes would let it train.  `net` is never changed.

    Parameters
    ----------
    net : Network
    X, y : array_like
        As for ``net.fit``.
    loss : str
        As for ``net.fit``.
    optimizer : str or Optimizer, optional
        What it is (to be) trained with; None means the default of ``fit``, Adam.
    steps : int
        0: this state and one batch.  k: also watch k real steps on a copy.
    batch_size : int, optional
        Rows of a real step; None means the default of ``fit``, 32.  (The one batch has up to 128 rows.)
    seeds : int
        1: the network as it is.  n: n copies with new initial weights, from the seeds net.seed, net.seed + 1, …
    seed : int
        Of the choice of rows, their order and dropout.

    Returns
    -------
    Diagnosis
        ``str()`` of it is the report for the terminal.

    Raises
    ------
    ValueError, TypeError
        Data or settings that cannot be (NaN and infinity are named by row and column).

    Examples
    --------
    >>> from gradcore.datasets import load_digits
    >>> from gradcore.network import mlp
    >>> digits = load_digits()
    >>> net = mlp([64] + 20 * [64] + [10], activation="sigmoid", init="normal(0.01)", seed=0)
    >>> diagnosis = diagnose(net, digits.X_train, digits.y_train)
    >>> diagnosis.faults[0].kind, diagnosis.faults[0].causes
    ('vanishing_gradient', ('initial_weights', 'activation'))
    """
    start = time.perf_counter()
    seeds = check_integer("seeds", seeds)
    setting = prepare(
        net, X, y, loss=loss, optimizer=optimizer, steps=steps, batch_size=batch_size, seed=seed
    )
    found: dict[str, tuple[Fault, int]] = {}
    shown: tuple[Variants, Evidence, bool] | None = None
    for i in range(seeds):
        variants = Variants(net.copy() if seeds == 1 else net.copy(seed=net.seed + i))
        evidence = examine(variants.network, setting, Reference(variants, setting))
        faults = check(evidence)
        if shown is None or (faults and not shown[-1]):
            shown = variants, evidence, bool(faults)
        for fault in faults:
            kept, count = found.get(fault.kind, (fault, 0))
            found[fault.kind] = (kept, count + 1)
    assert shown is not None
    counted = (replace(fault, seeds=(k, seeds)) for fault, k in found.values())
    symptoms = sorted(counted, key=lambda fault: (fault.rank[0], -fault.seeds[0], fault.rank))
    return Diagnosis(
        symptoms=tuple(symptoms),
        evidence=shown[1],
        variants=shown[0],
        setting=setting,
        seeds=seeds,
        first_seed=net.seed,
        milliseconds=1e3 * (time.perf_counter() - start),
    )


def prepare(
    net: Network,
    X: ArrayLike,
    y: ArrayLike,
    *,
    loss: str = "auto",
    optimizer: str | Optimizer | None = None,
    steps: int = 0,
    batch_size: int | None = None,
    seed: int = 0,
) -> Setting:
    """Check the arguments of `diagnose` and choose the rows of the one batch."""
    if not isinstance(net, Network):
        raise TypeError(f"net must be a Network, such as mlp([4, 64, 3]), got {net!r}")
    steps, seed = check_integer("steps", steps, minimum=0), check_seed(seed)
    chosen = resolve_optimizer("adam" if optimizer is None else optimizer)
    rows = 32 if batch_size is None else check_integer("batch_size", batch_size)
    inputs = as_given(X, net.input_size, net.dtype)
    targets = encode(y, loss, net.output_size, net.dtype, classes=net.classes_)
    check_rows(inputs, targets.values)
    check_batch_norm(net, min(len(inputs), 2 if batch_size is None else rows))
    data = Batch(inputs, targets.values, targets.loss, net.output_size)
    order = stream(seed, ORDER, 0).permutation(len(data))
    batch = data.rows(order[: min(len(data), ROWS)], net.dtype)
    return Setting(data, batch, facts(batch.X, batch.targets, len(data)), chosen, steps, rows, seed)


def _explained(fault: Fault, table: WhatIf) -> Fault:
    """Add the causes that the alternatives reveal, what to do, and what would not help."""
    if fault.causes:  # known from the fault itself: no network would make up for it
        own = [outcome for outcome in table.cures if outcome.change.causes == fault.causes]
        return replace(fault, advice=own[0].name.removesuffix(" only") if own else fault.advice)
    best = table.best or next(iter(table.around), None)
    useless = [o.name for o in table.telling if not o.trains and len(o.change.causes) == 1]
    others = [o.name for o in table.cures if len(o.change.causes) == len(table.causes) and o is not best]
    return replace(
        fault,
        causes=table.causes,
        advice=best.name.removesuffix(" only") if best else "",
        avoid=", ".join(useless),
        evidence={**fault.evidence, "would_do_as_well": others},
    )
