"""The table of trials: every column is what it says."""

import numpy as np
import pandas
import pytest

from gradcore.prescription.frames import trial_columns

NAMES = ("cured", "healthy", "harmed", "hopeless", "regression", "budget")


@pytest.mark.parametrize("name", NAMES)
def test_one_row_per_trial_the_control_first(prescriptions, name):
    found = prescriptions[name]
    frame = found.to_frame()
    assert isinstance(frame, pandas.DataFrame)
    assert frame["name"].tolist() == [trial.name for trial in found.trials]
    assert frame["treatment"].tolist() == [trial.kind for trial in found.trials]
    assert frame["treatment"][0] == "control"
    assert frame["verdict"].tolist() == [trial.verdict for trial in found.trials]
    assert frame["seeds"].tolist() == [len(trial.scores) for trial in found.trials]
    assert frame["trained"].tolist() == [trial.trained for trial in found.trials]


def test_means_are_over_the_seeds(prescriptions):
    found = prescriptions["cured"]
    frame = found.to_frame()
    for row, trial in zip(frame.itertuples(), found.trials, strict=True):
        assert row.score == pytest.approx(np.mean(trial.scores))
        assert row.loss == pytest.approx(np.mean([result.loss for result in trial.results]))


def test_differences_and_intervals_are_those_of_the_comparison(prescriptions):
    found = prescriptions["cured"]
    frame = found.to_frame()
    assert frame.loc[0, ["difference", "low", "high", "p"]].isna().all()
    compared = [(row, trial.comparison) for row, trial in zip(frame.itertuples(), found.trials, strict=True)][
        1:
    ]
    assert compared
    for row, comparison in compared:
        assert (row.difference, row.p) == (comparison.difference, comparison.p)
        assert (row.low, row.high) == comparison.interval
    assert frame.loc[frame["name"] == found.best.name, "fresh"].item()


def test_what_was_not_tried_has_a_row_without_numbers(prescriptions):
    frame = prescriptions["budget"].to_frame()
    left_out = frame[frame["verdict"] == "not tried"]
    assert len(left_out)
    assert (left_out["seeds"] == 0).all()
    assert left_out[["score", "loss", "difference", "seconds"]].isna().all(axis=None)
    assert left_out["note"].str.len().all()


def test_without_pandas_it_says_what_to_install_and_columns_are_there(prescriptions, without):
    without("pandas")
    with pytest.raises(ImportError, match=r"gradcore\[frames\]"):
        prescriptions["cured"].to_frame()
    columns = trial_columns(prescriptions["cured"])
    assert {len(column) for column in columns.values()} == {len(prescriptions["cured"].trials)}
