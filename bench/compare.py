"""One command, one table: gradcore against every library that is installed, on one CPU, in one process.

    python bench/compare.py                    everything (about ten minutes)
    python bench/compare.py --quick            fewer rounds, no large arrays (about two)
    python bench/compare.py --only "step v"    the rows whose name contains this
    python bench/compare.py --update-readme    also rewrite the table in README.md

Before anything is timed the results are compared.  The libraries take turns round by round.  A ratio is the
time of the *fastest* peer divided by gradcore's: below 1 gradcore loses, and such rows are listed again.
Writes bench/results/table.md and table.svg; exits with 1 when a bar is missed.
"""

import machine

machine.pin()

import argparse
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import array_functions
import peak
import peers
from promises import ledger_promises, other_promises
from report import Row, page, plot, readme_section, seconds, update_readme
from timing import interleave
from workloads import STEPS, StepCase

from gradcore import kernels

VECTOR_BYTES = kernels.info()["vector_bytes"]
RESULTS = Path(__file__).resolve().parent / "results"


def step_cases(quick: bool) -> Iterator[StepCase]:
    for case in STEPS:
        yield case
        if not quick:
            yield replace(case, activation="tanh")
            yield replace(case, activation="sigmoid")
            yield replace(case, optimizer="adam")


def race_steps(quick: bool, rounds: int, only: str) -> Iterator[Row]:
    for case in step_cases(quick):
        if only not in f"step {case}":
            continue
        runs = {}
        for name, (build, units) in peers.step_peers(case).items():
            step = build()
            peers.check_agreement(case, name, step)
            runs[name] = (step, units)
        before = peak.gflops("float32", VECTOR_BYTES)
        timings = interleave(runs, rounds=rounds)
        best = max(before, peak.gflops("float32", VECTOR_BYTES))
        yield Row("step", str(case), timings, case.bar, case.flops / 1e9 / best, case.share_bar)


def race_arrays(quick: bool, rounds: int, only: str) -> Iterator[Row]:
    for case in array_functions.CASES:
        if only not in str(case) or (quick and case.large):
            continue
        runs = case.build()
        array_functions.check_agreement(case, runs)
        yield Row(
            case.group, case.name, interleave({name: (run, 1) for name, run in runs.items()}, rounds=rounds)
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="fewer rounds, ReLU with SGD only, no large arrays"
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="only races whose name contains TEXT")
    parser.add_argument("--update-readme", action="store_true", help="rewrite the table in README.md")
    arguments = parser.parse_args()
    if arguments.update_readme and arguments.only:
        parser.error("--update-readme needs every row: leave --only out")
    rounds = 5 if arguments.quick else 9
    print(machine.describe(), flush=True)
    rows = []
    for race in (race_steps, race_arrays):
        for row in race(arguments.quick, rounds, arguments.only):
            rows.append(row)
            times = ", ".join(f"{name} {seconds(timing.median)}" for name, timing in row.timings.items())
            print(f"{row.ratio('median'):6.2f}  {row.group} {row.name}: {times}", flush=True)
    promises = [] if arguments.only else [*ledger_promises(rounds), *other_promises(rounds)]
    if not rows:
        parser.error(f"no race has {arguments.only!r} in its name")
    print("\n" + page(rows, promises))
    if not arguments.only:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "table.md").write_text(page(rows, promises))
        plot(rows, RESULTS / "table.svg")
    if arguments.update_readme:
        update_readme(readme_section(rows, promises))
    broken = [p.name for p in promises if not p.kept]
    broken += [row.name for row in rows if row.bar is not None and row.ratio("median") < row.bar]
    if broken:
        print(f"Below the bar: {'; '.join(broken)}.")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
