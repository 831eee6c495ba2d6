"""Judge the diagnosis by the truth: found, false alarms, causes, chances, and the first suggestion of what-if.

``python -m blind.score TRUTH [STEPS [FIRST-NUMBER LAST-NUMBER]]`` (from the folder bench).
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import gradcore
from gradcore.diagnosis.changes import Change
from gradcore.diagnosis.diagnose import Diagnosis

from .family import Case
from .truth import read, train, trains

RESULTS = Path(__file__).parents[1] / "results"


def state(truth: dict[str, Any]) -> str:
    """Return "broken" (fewer than half of the seeds train), "healthy" (all do) or "partly"."""
    bar = 1 - 0.2 * (1 - truth["best"])
    good = sum(loss <= bar for loss in truth["losses"])
    return (
        "healthy"
        if good == len(truth["losses"])
        else "broken"
        if 2 * good < len(truth["losses"])
        else "partly"
    )


def true_causes(truth: dict[str, Any]) -> set[str]:
    """Return the causes whose removal let the case train; joint ones are joined by a plus, in alphabetical order."""
    return {
        "+".join(sorted(change["cause"].split("+")))
        for change in truth["changes"]
        if change["cause"] != "around" and trains(change["losses"], truth["best"])
    }


def applied(change: Change, case: Case) -> Case:
    """Return the case with a change of `what_if`."""
    factors: dict[str, Any] = {}
    if change.activation:
        factors["activation"] = change.activation
    if change.init:
        factors |= {"init": change.init, "bias": "zeros"}
    if change.norm or change.without_norm:
        factors["norm"] = "batch" if change.norm else None
    if change.residual:
        factors["residual"] = True
    if change.without_dropout:
        factors["dropout"] = 0.0
    factors["depth"], factors["width"] = max(1, round(change.depth * case.depth)), case.width * change.width
    optimizer = change.optimizer_for(case.training()["optimizer"])
    factors |= {"optimizer": optimizer.name, "lr": optimizer.lr, "weight_decay": optimizer.weight_decay}
    factors["momentum"] = getattr(optimizer, "momentum", 0.0)
    if change.batch_size:
        factors["batch_size"] = change.batch_size
    if change.linear_output:
        factors["output"] = "linear"
    if change.mean_loss:
        factors["loss"] = "auto"
    if change.standardise:
        factors["standardise"] = True
    if change.standardise_targets:
        factors["standardise_targets"] = True
    return replace(case, **factors)


def diagnosed(case: Case, seed: int, steps: int) -> Diagnosis:
    """Return the diagnosis of a case with the initial weights of a seed."""
    X, y = case.data()
    return gradcore.diagnose(case.network(seed), X, y, steps=steps, seed=seed, **case.training())


def judge(truth: dict[str, Any], steps: int, *, suggestion: bool = False) -> dict[str, Any]:
    """Return what the diagnosis says of a case, beside the truth."""
    case, status = Case(**truth["case"]), state(truth)
    seeds = range(len(truth["losses"]) if status == "healthy" else 1)
    diagnoses = [diagnosed(case, seed, steps) for seed in seeds]
    first = diagnoses[0]
    row: dict[str, Any] = {
        "number": truth["number"], "state": status, "alarms": [not d.healthy for d in diagnoses],
        "chances": [d.chance for d in diagnoses], "complete": truth.get("complete", True),
    }  # fmt: skip
    if status == "broken":
        table = first.what_if
        named = "+".join(sorted(first.faults[0].causes if first.faults else table.causes))
        true = true_causes(truth)
        row |= {
            "kind": first.faults[0].kind if first.faults else None, "named": named, "true": sorted(true),
            "cause_right": named in true, "milliseconds": table.milliseconds,
        }  # fmt: skip
        if suggestion and true:
            losses = [train(applied(table.ranked()[0].change, case), seed) for seed in range(2)]
            measured = sorted(float(np.mean(np.minimum(c["losses"], 10.0))) for c in truth["changes"])
            row["suggestion"] = table.ranked()[0].name
            row["top3"] = bool(
                np.mean(np.minimum(losses, 10.0)) <= max(1.05 * measured[2], measured[2] + 0.02)
            )
    return row


def summary(rows: list[dict[str, Any]]) -> str:
    """Return the figures as text."""
    broken = [row for row in rows if row["state"] == "broken"]
    alarms = np.array([alarm for row in rows if row["state"] == "healthy" for alarm in row["alarms"]])
    found = np.array([row["alarms"][0] for row in broken])
    known = [row for row in broken if row["true"]]
    right = np.array([row["cause_right"] for row in known])
    both = np.array([row["cause_right"] for row in known if row["alarms"][0]])
    chances = np.array([row["chances"][0] for row in rows])
    truth = np.array([row["state"] != "broken" for row in rows])
    order = np.argsort(chances)
    bins = np.array_split(order, min(10, len(rows)))
    error = sum(abs(chances[b].mean() - truth[b].mean()) * len(b) for b in bins) / len(rows)
    top = [row["top3"] for row in rows if "top3" in row]
    lines = [
        f"{len(rows)} cases: {len(broken)} broken, {sum(row['state'] == 'healthy' for row in rows)} healthy",
        f"broken found                 {found.mean():.3f}",
        f"false alarms, healthy×seeds  {alarms.mean():.4f} of {len(alarms)}",
        f"trains or not, right         {((chances > 0.5) == truth).mean():.3f}, calibration error {error:.3f}",
        f"a true cause named first     {right.mean():.3f} of {len(known)} with a known cure",
        f"  where the fault was found  {both.mean():.3f} of {len(both)}",
    ]
    if top:
        lines.append(f"first suggestion in the top 3 {np.mean(top):.3f} of {len(top)}")
    return "\n".join(lines)


def misses(rows: list[dict[str, Any]]) -> str:
    """Return every miss as a table: what was not found, what was found and is not there, causes that are not true."""
    lines = ["| case | miss | chance | named | what trains |", "| --- | --- | ---: | --- | --- |"]
    for row in rows:
        if row["state"] == "healthy" and any(row["alarms"]):
            miss = f"false alarm in {sum(row['alarms'])} of {len(row['alarms'])} seeds"
            lines.append(f"| {row['number']} | {miss} | {min(row['chances']):.2f} | | |")
        found = row["alarms"][0]
        if row["state"] == "broken" and (not found or (row["true"] and not row["cause_right"])):
            miss = "wrong cause" if found else "not found"
            true = ", ".join(row["true"]) or ("nothing tried" if row["complete"] else "not known")
            lines.append(f"| {row['number']} | {miss} | {row['chances'][0]:.2f} | {row['named']} | {true} |")
    return "\n".join(lines)


def page(rows: list[dict[str, Any]], steps: int) -> str:
    """Return figures and misses as a page."""
    when = f"after {steps} real steps" if steps else "before training"
    head = f"# The blind test {when}\n\n```text\n{summary(rows)}\n```\n"
    return f"{head}\nEvery miss; a case is drawn again by `blind.family.draw(number)`.\n\n{misses(rows)}\n"


def main() -> None:
    """Judge a file of truth."""
    path, steps = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    truths = read(path)
    if len(sys.argv) > 4:
        truths = [truth for truth in truths if int(sys.argv[3]) <= truth["number"] < int(sys.argv[4])]
    with np.errstate(all="ignore"):
        rows = [judge(truth, steps, suggestion=not steps) for truth in truths]
    print(summary(rows))
    (RESULTS / f"blind-{steps}.md").write_text(page(rows, steps))


if __name__ == "__main__":
    main()
