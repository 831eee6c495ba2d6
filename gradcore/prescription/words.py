"""What the reports of a prescription say: the verdict first, then what it rests on; plain text without colours."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from gradcore.diagnosis.words import score_label
from gradcore.prescription.comparison import HARMED, HELPED

if TYPE_CHECKING:
    from gradcore.prescription.result import Prescription
    from gradcore.prescription.trials import Trial

# Rows outside the largest class, or in all, below which more data is the first thing to ask for.
FEW_ROWS = 200

_NO_SIGNAL = (
    "the inputs say nothing about the targets that rows nearby or a line could see: look at the labels"
    " (shuffled, shifted by a row, of another file?) before the network"
)


def headline(prescription: Prescription) -> str:
    """Say in one line what came out."""
    best, control = prescription.best, prescription.control
    if best is not None:
        gain = f"{score_label(prescription.score)} {span(prescription)}"
        if prescription.healthy:
            return f"this network trains as it is; {best.name} is still better: {gain}"
        return f"{best.name} helps: {gain}"
    if learns_by_heart(prescription):
        return "this network trains as it is, but what it learns is of no use on other rows"
    if prescription.healthy:
        return f"this network needs nothing: it trains as it is ({count(control)})"
    return "nothing that was tried is proved to help"


def good(prescription: Prescription) -> bool:
    """Tell whether the headline is good news."""
    return prescription.best is not None or (prescription.healthy and not learns_by_heart(prescription))


def learns_by_heart(prescription: Prescription) -> bool:
    """Tell whether the network as it is trains, and in no seed is better than a constant on the rows to test with.

    Only where the inputs are not known to say anything about the targets: losses on a few such rows can be large where
    most answers are right.
    """
    losses = [result.test_loss for result in prescription.control.results]
    return prescription.healthy and not prescription.has_signal and min(losses) > 1


def span(prescription: Prescription) -> str:
    """Write the mean score before and after the best treatment."""
    best = prescription.best
    assert best is not None
    return f"{number(_control_of(prescription, best))} → {number(best.mean)}"


def _control_of(prescription: Prescription, trial: Trial) -> float:
    """Mean score of the control on the seeds of a trial."""
    assert trial.comparison is not None
    return trial.mean - trial.comparison.difference


def count(trial: Trial) -> str:
    """Say in how many seeds a trial trains."""
    total = len(trial.results)
    return f"{trial.trained} of {total} seed{'s' if total != 1 else ''}"


def evidence(prescription: Prescription) -> list[str]:
    """Say what the verdict rests on."""
    best, control = prescription.best, prescription.control
    lines = []
    if best is not None and best.comparison is not None:
        low, high = best.comparison.interval
        lines.append(
            f"on {best.comparison.pairs} {'fresh ' if best.fresh else ''}seeds {signed(best.comparison.difference)}"
            f" ({signed(low)} to {signed(high)}), p {p_value(best.comparison.p)}"
        )
        lines.append(f"trains in {count(best)}; as it is in {count(control)}")
        if low <= 0:
            lines.append(
                "proved by how often it trains, and then beats a constant; not by the scores: these rows are too few"
                " for that"
            )
        if not prescription.useful:
            lines.append("less bad, but not proved to be better than a constant on these rows")
        if prescription.has_signal is False and (low <= 0 or not prescription.useful):
            lines.append(_NO_SIGNAL)
        if not best.fresh:
            lines.append(
                "not confirmed on fresh seeds: "
                + ("interrupted" if prescription.stopped == "interrupted" else "the budget was spent")
            )
        others = [
            trial.name for trial in prescription.trials if trial.verdict == HELPED and trial is not best
        ]
        if others:
            lines.append(f"helped too: {', '.join(others)}")
    elif not good(prescription):
        lines += suggestions(prescription)
    harmed = [trial.name for trial in prescription.trials if trial.verdict == HARMED]
    if harmed:
        lines.append(f"harmed: {', '.join(harmed)}")
    return lines


def suggestions(prescription: Prescription) -> list[str]:
    """Say what it means that nothing helped, and what to do next."""
    control = prescription.control
    lines = [f"as it is it trains in {count(control)}"]
    tried = [trial for trial in prescription.trials[1:] if trial.results]
    overfits = [
        trial
        for trial in (control, *tried)
        if min(result.loss for result in trial.results) < 0.5
        and min(result.test_loss for result in trial.results) > 1
    ]
    targets = prescription.diagnosis.setting.data.targets
    if (targets == targets[0]).all():
        lines.append("the targets are the same in every row to train on: there is nothing to learn")
    elif prescription.has_signal is False:
        lines.append(_NO_SIGNAL)
    elif overfits:
        lines.append(
            "what trains learns the rows by heart and nothing beyond: more data, or a smaller network"
        )
    if prescription.rows < FEW_ROWS:
        lines.append(
            f"{prescription.rows} rows to train on are few: get more, or expect scores to differ by seed"
        )
    skipped = sum(1 for trial in prescription.trials if not trial.results)
    if prescription.stopped == "budget":
        left = f" ({skipped} treatments were not tried)" if skipped else ""
        lines.append(f"the budget ended it{left}: give more")
    elif prescription.stopped:
        lines.append("it was interrupted; with log= the next call goes on where this one ended")
    return lines


def how(prescription: Prescription) -> str:
    """Say what was done, in one line."""
    tried = sum(1 for trial in prescription.trials[1:] if trial.results)
    stopped = f", {prescription.stopped}" if prescription.stopped == "interrupted" else ""
    return (
        f"{tried} treatment{'s' if tried != 1 else ''}, {prescription.trainings} trainings of {prescription.epochs}"
        f" epochs on {prescription.rows} rows, scored on {prescription.test_rows}"
        f" other{'s' if prescription.test_rows != 1 else ''}; {prescription.seconds:.1f} s{stopped}"
    )


def number(x: float) -> str:
    """Two digits after the point."""
    return "?" if math.isnan(x) else f"{x:.2f}".replace("-", "−")


def signed(x: float) -> str:
    """A difference, with its sign."""
    return "∞" if math.isinf(x) else f"{x:+.2f}".replace("-", "−")


def p_value(p: float) -> str:
    """A p-value as it is usually written."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
