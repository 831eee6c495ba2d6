"""The blind test's own machinery: cases draw the same every time, changes can be built, verdicts are counted right."""

from pathlib import Path

import numpy as np
import pytest
from blind import score, tasks, truth
from blind.family import Case, draw, pairs, variants

MADE_HERE = ("digits", "spirals", "parabola")  # the data sets that need no other package
STORED = Path(truth.__file__).parent / "truth" / "blind.jsonl.gz"


def cases(count):
    return [case for case in map(draw, range(400)) if case.task in MADE_HERE][:count]


def test_a_case_is_its_number():
    assert draw(7) == draw(7)
    assert len({draw(number) for number in range(50)}) == 50


@pytest.mark.parametrize("case", cases(8), ids=lambda case: str(case.seed))
def test_cases_and_their_changes_can_be_built(case):
    X, y = case.data()
    for other in [case, *(c for found in variants(case).values() for c in found)]:
        assert other.network(0).forward(X[:4]).shape[0] == 4
    assert all("+" in causes for causes in pairs(case))
    assert len(X) == len(y)


@pytest.mark.parametrize("case", cases(4), ids=lambda case: str(case.seed))
def test_every_alternative_of_what_if_is_a_case(case):
    table = score.diagnosed(case, 0, 0).what_if
    assert len(table) > 30
    for outcome in table:
        other = score.applied(outcome.change, case)
        assert other.network(0).forward(case.data()[0][:2]).shape[0] == 2
        assert "optimizer" in other.training()


def test_training_is_judged_by_the_constant_predictor():
    sound = Case("parabola", 2, 16, "tanh", "glorot_normal", lr=0.01)
    assert truth.train(sound, 0, steps=300) < 0.3
    assert truth.train(Case("parabola", 2, 16, "tanh", "zeros"), 0, steps=30) == pytest.approx(1, abs=0.05)
    assert truth.trains([0.9, 0.8], best=0.5)
    assert not truth.trains([0.95, 0.95, 0.2], best=0.0)


def test_the_stored_truth_is_whole_and_kept_apart():
    stored = truth.read(STORED)
    assert len(stored) > 500
    assert all(100_000 <= row["number"] < 200_000 for row in stored)
    assert {score.state(row) for row in stored} == {"healthy", "broken", "partly"}
    for row in stored[:20]:
        assert Case(**row["case"]) == draw(row["number"])


def test_summary_counts():
    row = {"number": 1, "complete": True}
    rows = [
        row | {"state": "healthy", "alarms": [False, True], "chances": [0.9, 0.3]},
        row
        | {"state": "broken", "alarms": [True], "chances": [0.1], "true": ["depth"], "cause_right": True, "top3": True},
        row | {"state": "broken", "alarms": [False], "chances": [0.7], "true": [], "cause_right": False},
    ]  # fmt: skip
    text = score.summary(rows)
    assert "broken found                 0.500" in text
    assert "0.5000 of 2" in text
    assert "1.000 of 1 with a known cure" in text
    assert "first suggestion in the top 3 1.000 of 1" in text


def test_classes_of_tasks():
    assert tasks.classes("digits") == 10
    assert tasks.classes("parabola") == 0
    X, y = tasks.load("parabola")
    assert np.allclose([y.mean(), y.std()], [0, 1])
    assert X.shape == (400, 1)
