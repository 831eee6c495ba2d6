"""Diagnose: what is wrong with a network, where, and which changes alone or together would let it train."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from gradcore.diagnosis.examine import Reference, Setting, examine, reference
from gradcore.diagnosis.observe import Batch, observe
from gradcore.diagnosis.variants import Variants
from gradcore.diagnosis.what_if import HEALTHY, Outcome, WhatIf, what_if
from gradcore.errors import check_integer
from gradcore.health.evidence import Books, Evidence, Trace
from gradcore.health.faults import Fault
from gradcore.health.ledger import Ledger
from gradcore.network import Network
from gradcore.optimizers import Optimizer, resolve as resolve_optimizer
from gradcore.streams import ORDER, check_seed, stream
from gradcore.training.data import as_inputs, check_rows
from gradcore.training.loop import check_batch_norm
from gradcore.training.targets import encode

if TYPE_CHECKING:
    from gradcore.diagnosis.proof import Proof

SCHEMA = "gradcore-diagnosis"
SCHEMA_VERSION = 1

# Rows of the one batch: the noise of the centred gradient falls with their root.
ROWS = 128


@dataclass(frozen=True)
class Diagnosis:
    """What `diagnose` found.

    Attributes
    ----------
    faults : tuple of Fault
        The most severe first; empty for a healthy network.
    ledger : Ledger
        The books of one batch: of the first seed with a fault, or of the first seed.
    what_if : WhatIf
        One-batch outcomes of the alternatives; empty for a healthy network.
    trace : Trace or None
        Losses and gradient norms of the real steps, where steps were asked for.
    network : Network
        A copy of the network that the ledger is of.
    optimizer : Optimizer
    loss : str
    seeds : int
    milliseconds : float
    """

    faults: tuple[Fault, ...]
    ledger: Ledger
    what_if: WhatIf
    trace: Trace | None
    network: Network
    optimizer: Optimizer
    loss: str
    seeds: int
    milliseconds: float
    books: Books = field(repr=False)
    changed: Books | None = field(repr=False)

    @property
    def healthy(self) -> bool:
        """Whether no rule found a fault in any seed."""
        return not self.faults

    @property
    def best(self) -> Outcome | None:
        """The change to make for the most severe fault, if one of those tried cures it."""
        return self.what_if.best(self.faults[0]) if self.faults else None

    def __str__(self) -> str:
        from gradcore.diagnosis.report import render

        return render(self)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain numbers, strings and lists, with the schema's name and version."""
        return {
            "schema": SCHEMA,
            "version": SCHEMA_VERSION,
            "healthy": self.healthy,
            "faults": [fault.to_dict() for fault in self.faults],
            "seeds": self.seeds,
            "loss": self.loss,
            "optimizer": repr(self.optimizer),
            "best_change": self.best.name if self.best else None,
            "what_if": self.what_if.to_dict(),
            "trace": self.trace.to_dict() if self.trace else None,
            "ledger": self.ledger.to_dict(),
            "milliseconds": self.milliseconds,
        }

    def to_json(self, path: str | os.PathLike[str] | None = None, *, proof: Proof | None = None) -> str:
        """Return strict JSON (NaN and infinities are null there), and write it to `path` if one is given.

        A proof by real training goes in beside the diagnosis.

        Examples
        --------
        >>> import numpy as np
        >>> from gradcore.network import mlp
        >>> X = np.random.default_rng(0).normal(size=(64, 4))
        >>> json.loads(diagnose(mlp([4, 8, 2], seed=0), X, X[:, 0] > 0).to_json())["healthy"]
        True
        """
        content = self.to_dict() | ({"proof": proof.to_dict()} if proof is not None else {})
        text = json.dumps(_plain(content), indent=2, allow_nan=False)
        if path is not None:
            with open(path, "w", encoding="utf-8") as file:
                file.write(text + "\n")
        return text


def _plain(value: Any) -> Any:
    """Make a value fit for strict JSON."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


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
    steps, seeds = check_integer("steps", steps, minimum=0), check_integer("seeds", seeds)
    seed = check_seed(seed)
    chosen = resolve_optimizer("adam" if optimizer is None else optimizer)
    if batch_size is not None:
        batch_size = check_integer("batch_size", batch_size)
    inputs = as_inputs(X, net.input_size, net.dtype)
    targets = encode(y, loss, net.output_size, net.dtype, classes=net.classes_)
    check_rows(inputs, targets.values)
    check_batch_norm(net, min(len(inputs), batch_size or 2))
    data = Batch(inputs, targets.values, targets.loss)
    order = stream(seed, ORDER, 0).permutation(len(data))
    batch = data.rows(order[: min(len(data), ROWS)])

    setting = Setting(data, batch, chosen, steps, batch_size or 32, seed)
    found: dict[str, tuple[Fault, int]] = {}
    shown: tuple[Variants, Reference, Evidence, bool] | None = None
    for i in range(seeds):
        variants = Variants(net.copy() if seeds == 1 else net.copy(seed=net.seed + i))
        healthy = reference(variants.make(HEALTHY), setting)
        evidence, faults = examine(variants.network, setting, healthy)
        if shown is None or (faults and not shown[-1]):
            shown = (variants, healthy, evidence, bool(faults))
        for fault in faults:
            kept, count = found.get(fault.kind, (fault, 0))
            found[fault.kind] = (kept, count + 1)
    assert shown is not None
    variants, healthy, evidence, _ = shown
    faults = sorted((replace(f, seeds=(k, seeds)) for f, k in found.values()), key=lambda fault: fault.rank)
    table, changed = WhatIf(), None
    if faults:
        table = what_if(variants, setting, healthy, evidence, faults)
        faults = [_explained(fault, table) for fault in faults]
        if not evidence.books.ledger.input.signal > 0 and len(batch) > 1:
            # all rows are the same: no network can tell them apart
            faults = [replace(fault, causes=("no_signal_in_data",), advice="") for fault in faults]
        best = table.best(faults[0])
        if best is not None:
            changed = observe(variants.make(best.change), best.change.data(batch), seed=seed)
    return Diagnosis(
        faults=tuple(faults),
        ledger=evidence.books.ledger,
        what_if=table,
        trace=evidence.trace,
        network=variants.network,
        optimizer=chosen,
        loss=str(targets.loss),
        seeds=seeds,
        milliseconds=1e3 * (time.perf_counter() - start),
        books=evidence.books,
        changed=changed,
    )


def _explained(fault: Fault, table: WhatIf) -> Fault:
    """Add the causes that the alternatives reveal, what to do, and what would not help."""
    causes = fault.causes or table.causes(fault)
    cures = table.cures(fault)
    best = table.best(fault) or min(table.around(fault), key=lambda outcome: outcome.distance, default=None)
    useless = [o.name for o in table if not o.trains and len(o.change.causes) == 1]
    others = [o.name for o in cures if len(o.change.causes) == len(causes) and o is not best]
    return replace(
        fault,
        causes=causes,
        advice=best.name.removesuffix(" only") if best else "",
        avoid=", ".join(useless),
        evidence={**fault.evidence, "would_do_as_well": others},
    )
