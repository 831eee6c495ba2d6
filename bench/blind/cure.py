"""Whether a prescription cures: networks of the blind family that are broken; and leaves sound ones alone.

``python -m blind.cure [--count N] [--budget 30s] [--report PATH]`` (from the folder bench) prescribes for N networks of
the blind split that are broken and for which the truth knows a cure, and for N / 3 that train in every seed.

A cured network trains: at least half of the fresh seeds of what is recommended end a fifth of the way from the constant
predictor to the best loss that the truth knows.  "A random treatment" is one of those that apply and were tried, drawn
by the number of the network.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

import gradcore

from .family import Case
from .score import state
from .truth import read, trains

TRUTH = Path(__file__).parent / "truth" / "blind.jsonl.gz"


def repairable(truth: dict[str, Any]) -> bool:
    """Tell whether a network does not train as it is, and some change of the truth lets it."""
    cures = [change for change in truth["changes"] if trains(change["losses"], truth["best"])]
    return state(truth) == "broken" and bool(cures)


def cure(truth: dict[str, Any], budget: str) -> dict[str, Any]:
    """Prescribe for one network; return what came of it as plain values."""
    case = Case(**truth["case"])
    X, y = case.data()
    start = time.perf_counter()
    found = gradcore.prescribe(
        case.network(0), X, y, budget=budget, progress=False, seed=truth["number"], **case.training()
    )
    seconds = time.perf_counter() - start
    shown = found.best or found.control
    others = [trial for trial in found.trials[1:] if trial.results and trial is not found.best]
    rng = np.random.default_rng(truth["number"])
    chance = others[int(rng.integers(len(others)))] if others else found.control
    return {
        "number": truth["number"],
        "case": truth["case"],
        "headline": str(found).splitlines()[0],
        "best": found.best.name if found.best else None,
        "verdicts": [trial.verdict for trial in found.trials],
        "trains": trains([result.loss for result in shown.results], truth["best"]),
        "score": shown.mean,
        "control": found.control.mean,
        "random": chance.mean,
        "difference": found.best.comparison.difference if found.best else 0.0,
        "seconds": seconds,
        "stopped": found.stopped,
    }


def summary(broken: list[dict[str, Any]], healthy: list[dict[str, Any]]) -> list[str]:
    """Return the figures as lines of Markdown."""
    times = sorted(found["seconds"] for found in broken)
    beaten = [found for found in broken if found["best"]]
    lines = [
        f"- repairable networks that end up training: {_share(broken, lambda one: one['trains'])} (bar 98 %)",
        f"- seconds of a prescription: median {np.median(times):.0f}, longest {times[-1]:.0f} (bar 60)",
        "- recommended scores above a random applicable treatment:"
        f" {_share(beaten, lambda one: one['score'] > one['random'])}, at least as high:"
        f" {_share(beaten, lambda one: one['score'] >= one['random'])} (bar 90 %)",
    ]
    if healthy:
        harmed = [found for found in healthy if found["best"] and found["score"] < found["control"] - 0.005]
        lines += [
            f"- healthy networks made worse: {len(harmed)} of {len(healthy)} (bar 0); something still better was proved"
            f" for {sum(bool(found['best']) for found in healthy)}",
        ]
    missed = [found for found in broken if not found["trains"]]
    lines += ["", "Not cured:", ""] + [
        f"- number {found['number']}: {found['case']['task']}, {found['case']['depth']}×{found['case']['width']}"
        f" {found['case']['activation']}; {found['headline']} ({found['seconds']:.0f} s)"
        for found in missed
    ]
    return lines if missed else lines[:-3]


def _share(found: list[dict[str, Any]], holds: Any) -> str:
    count = sum(bool(holds(one)) for one in found)
    return f"{count} of {len(found)} ({100 * count / max(1, len(found)):.1f} %)"


def main() -> None:
    """Run as a script."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--budget", default="30s")
    parser.add_argument("--lines", type=Path, help="JSON lines: those that are there are not made again")
    parser.add_argument("--report", type=Path)
    arguments = parser.parse_args()
    truths = read(TRUTH)
    broken = [truth for truth in truths if repairable(truth)]
    healthy = [truth for truth in truths if state(truth) == "healthy"]
    chosen = [*_spread(broken, arguments.count), *_spread(healthy, arguments.count // 3)]
    known = {}
    if arguments.lines and arguments.lines.exists():
        known = {found["number"]: found for found in read(arguments.lines)}
    for truth in chosen:
        if truth["number"] not in known:
            known[truth["number"]] = found = cure(truth, arguments.budget)
            print(
                found["number"],
                "trains" if found["trains"] else "NOT",
                f"{found['seconds']:.0f} s",
                found["headline"],
            )
            if arguments.lines:
                with arguments.lines.open("a") as file:
                    file.write(json.dumps(found) + "\n")
    numbers = {truth["number"] for truth in broken}
    found = [known[truth["number"]] for truth in chosen]
    lines = summary(
        [one for one in found if one["number"] in numbers],
        [one for one in found if one["number"] not in numbers],
    )
    print("\n".join(lines))
    if arguments.report:
        arguments.report.write_text("\n".join(lines) + "\n")


def _spread(truths: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """Take some, evenly over all."""
    places = np.unique(np.linspace(0, len(truths) - 1, min(count, len(truths))).round().astype(int))
    return [truths[place] for place in places]


if __name__ == "__main__":
    main()
