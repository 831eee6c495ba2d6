"""What the diagnosis measures of each case and change, beside what became of it: the rows that calibration reads.

``python -m blind.look TRUTH ROWS`` (from the folder bench).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from gradcore.diagnosis.diagnose import prepare
from gradcore.diagnosis.examine import examine

from .family import Case
from .truth import read

STEPS = (0, 60, 250)


def look(case: Case, seed: int, steps: int) -> dict[str, float]:
    """Return the measures of a case before training, or after some steps."""
    X, y = case.data()
    net = case.network(seed)
    setting = prepare(net, X, y, steps=steps, **case.training())
    with np.errstate(all="ignore"):
        return examine(net, setting, None).measures


def rows(truth: dict[str, Any], seeds: int = 2) -> Iterator[dict[str, Any]]:
    """Yield one row by change, seed and number of steps."""
    case, bar = Case(**truth["case"]), 1 - 0.2 * (1 - truth["best"])
    outcomes = [("base", {}, truth["losses"])]
    outcomes += [(change["cause"], change["factors"], change["losses"]) for change in truth["changes"]]
    for cause, factors, losses in outcomes:
        changed = replace(case, **factors)
        for seed, loss in enumerate(losses[:seeds]):
            for steps in STEPS if cause == "base" else STEPS[: 1 + seed % 2]:
                yield {
                    "number": truth["number"], "cause": cause, "seed": seed, "steps": steps,
                    "trains": bool(loss <= bar), "measures": look(changed, seed, steps),
                }  # fmt: skip


def main() -> None:
    """Write the rows of a file of truth."""
    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    done = {row["number"] for row in read(target)} if target.exists() else set()
    with target.open("a") as file:
        for truth in read(source):
            if truth["number"] not in done:
                file.writelines(json.dumps(row) + "\n" for row in rows(truth))
                file.flush()


if __name__ == "__main__":
    main()
