"""The trials of a prescription as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas

    from gradcore.prescription.result import Prescription


def trial_columns(prescription: Prescription) -> dict[str, list[Any]]:
    """Return one list per column, one element per trial, the control first.

    ``score`` and ``loss`` are means over the seeds, ``difference``, ``low`` and ``high`` are of the paired differences
    from the control.
    """
    rows = []
    for trial in prescription.trials:
        comparison = trial.comparison
        low, high = comparison.interval if comparison else (None, None)
        losses = [result.loss for result in trial.results]
        rows.append({
            "treatment": trial.kind,
            "name": trial.name,
            "verdict": trial.verdict,
            "seeds": len(trial.results),
            "fresh": trial.fresh,
            "trained": trial.trained,
            "score": trial.mean,
            "loss": sum(losses) / len(losses) if losses else None,
            "difference": comparison.difference if comparison else None,
            "low": low,
            "high": high,
            "p": comparison.p if comparison else None,
            "chance": trial.chance,
            "seconds": trial.seconds,
            "caution": trial.caution,
            "note": trial.note,
        })  # fmt: skip
    return {name: [row[name] for row in rows] for name in rows[0]}


def trial_frame(prescription: Prescription) -> pandas.DataFrame:
    """Return the columns as a pandas DataFrame."""
    try:
        import pandas
    except ImportError as error:
        raise ImportError("to_frame needs pandas: pip install 'gradcore[frames]'") from error
    return pandas.DataFrame(trial_columns(prescription))
