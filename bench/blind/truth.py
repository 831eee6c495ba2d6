"""The truth: train every case, and each of its changes, with several seeds.

``python -m blind.truth FIRST LAST FILE [--base]`` (from the folder bench) appends one line of JSON for each case; cases
that the file has already are left out, so that a run can be taken up again.  ``--base`` leaves the changes out.
"""

from __future__ import annotations

import gzip
import json
import math
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import gradcore
from gradcore.diagnosis.observe import Batch
from gradcore.training.targets import encode

from .family import Case, draw, pairs, variants

STEPS = 1200
SEEDS = 4
LIMIT = 25.0  # seconds for one case; what could not be tried is not known


class _Enough(gradcore.callbacks.Callback):
    """End a training whose loss has almost gone: how much is left does not matter."""

    def __init__(self, bound: float) -> None:
        self.bound = bound

    def on_epoch_end(self, epoch: int, logs: Any) -> None:
        self.network.stop_training = bool(logs["loss"] < self.bound)


def constant_loss(case: Case) -> float:
    """Return the loss of the best constant predictor on the data of a case."""
    net, (X, y) = case.network(0), case.data()
    targets = encode(y, case.loss, net.output_size, net.dtype)
    return Batch(X, targets.values, targets.loss).constant_loss


def train(case: Case, seed: int, steps: int = STEPS) -> float:
    """Train and return the loss at the end over that of the constant predictor; infinite where it is no number."""
    X, y = case.data()
    if case.batch_size < 8:
        steps *= 3
    epochs = max(2, math.ceil(steps * min(case.batch_size, len(X)) / len(X)))
    constant = constant_loss(case)
    net = case.network(seed)
    net.fit(
        X, y, epochs=epochs, seed=seed, progress=False, on_fault="ignore", callbacks=[_Enough(0.08 * constant)],
        threads=1, **case.training(),
    )  # fmt: skip
    with np.errstate(all="ignore"):
        loss = net.evaluate(X, y)["loss"] / constant
    return loss if math.isfinite(loss) else math.inf


@cache
def reference(task: str) -> float:
    """Return the loss that a sound network reaches on a task in as many steps, over the constant predictor's."""
    sound = Case(task, 2, 64, "tanh", "glorot_normal", lr=0.003)
    return min(train(sound, seed) for seed in range(2))


def trains(losses: list[float], best: float) -> bool:
    """Tell whether at least half of the seeds end a fifth of the way from the constant predictor to the best."""
    good = sum(loss <= 1 - 0.2 * (1 - best) for loss in losses)
    return 2 * good >= len(losses)


def read(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a file of JSON lines, which may be packed."""
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        return [json.loads(line) for line in file]


def measure(number: int, *, base: bool = False) -> dict[str, Any]:
    """Return a case, its losses and, unless only those are asked for, those of its changes where it does not train."""
    start, case = time.perf_counter(), draw(number)
    best = min(1.0, reference(case.task))
    losses = [train(case, seed) for seed in range(SEEDS if not base else SEEDS // 2)]
    best = min([best, *losses])
    good = sum(loss <= 1 - 0.2 * (1 - best) for loss in losses)
    changes: list[dict[str, Any]] = []
    complete = True

    def try_all(table: dict[str, list[Case]]) -> None:
        nonlocal complete
        for cause, cases in table.items():
            for other in cases:
                if time.perf_counter() - start > LIMIT:
                    complete = False
                    return
                changed = {k: v for k, v in other.to_dict().items() if v != getattr(case, k)}
                if any(change["factors"] == changed for change in changes):
                    continue
                found = [train(other, seed) for seed in range(2)]
                if trains(found[:1], best) != trains(found[1:], best):
                    found.append(train(other, 2))  # the seed that decides
                changes.append({"cause": cause, "factors": changed, "losses": found})

    if not base and 2 * good < SEEDS:
        try_all(variants(case))
        if not any(
            trains(c["losses"], best) for c in changes if c["cause"] != "around" and "+" not in c["cause"]
        ):
            try_all(pairs(case))
    return {
        "number": number, "case": case.to_dict(), "best": best, "losses": losses, "changes": changes,
        "complete": complete, "seconds": time.perf_counter() - start,
    }  # fmt: skip


def main() -> None:
    """Measure a range of cases."""
    first, last, path, base = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), "--base" in sys.argv
    known = {truth["number"] for truth in read(path)} if path.exists() else set()
    with path.open("a") as file:
        for number in range(first, last):
            if number not in known:
                file.write(json.dumps(measure(number, base=base)) + "\n")
                file.flush()


if __name__ == "__main__":
    main()
