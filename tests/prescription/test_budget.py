"""What a budget allows: lengths of trainings, numbers of them, and when to stop."""

import math
import time

import pytest

from gradcore.prescription.budget import FEWEST_STEPS, STEPS, Budget, parse_budget


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30s", (30, math.inf)), ("2min", (120, math.inf)), (" 1.5 h ", (5400, math.inf)), (0.5, (0.5, math.inf)),
        ("20000 steps", (math.inf, 20000)), ("1e4steps", (math.inf, 1e4)), ("7", (7, math.inf)), (3, (3, math.inf)),
    ],
)  # fmt: skip
def test_texts(text, expected):
    assert parse_budget(text) == expected


@pytest.mark.parametrize("text", ["", "soon", "-3s", "0", "0 steps", "1..2s", "3 days", "nan"])
def test_texts_that_are_none(text):
    with pytest.raises(ValueError, match="budget must be seconds or steps"):
        parse_budget(text)


@pytest.mark.parametrize("number", [0, -1.0, math.nan, math.inf])
def test_numbers_that_are_none(number):
    with pytest.raises(ValueError, match="budget"):
        parse_budget(number)


def test_epochs_follow_from_steps_and_rows():
    budget = Budget("1h", rows=1000, epochs=None)
    assert budget.epochs(32) == math.ceil(STEPS * 32 / 1000)
    assert budget.epochs(2) == math.ceil(3 * STEPS * 2 / 1000)  # batches of a few rows: more steps
    assert budget.epochs(5000) == STEPS  # a batch of all rows: one step an epoch
    assert Budget("1h", rows=10**6, epochs=None).epochs(32) == 2
    assert Budget("1h", rows=1000, epochs=7).epochs(2) == 7


def test_a_plan_that_fits_keeps_the_usual_length():
    budget = Budget("1h", rows=1000, epochs=None)
    budget.plan([1e6] * 10, [3] * 10)
    assert budget.steps_of_one == STEPS


def test_a_short_budget_shortens_the_trainings_down_to_a_bound():
    budget = Budget("10s", rows=1000, epochs=None)
    budget.speed = 1e6 * 30 * 600 / 10  # 30 trainings of 600 steps of this work are 10 seconds
    budget.plan([1e6] * 10, [3] * 10)
    assert 590 <= budget.steps_of_one <= 600
    budget.setup = 5 / 30  # and half of that goes into making the networks
    budget.plan([1e6] * 10, [3] * 10)
    assert 290 <= budget.steps_of_one <= 300
    budget.speed /= 10
    budget.plan([1e6] * 10, [3] * 10)
    assert budget.steps_of_one == FEWEST_STEPS


def test_a_budget_of_steps_is_dealt_out():
    budget = Budget("15000 steps", rows=1000, epochs=None)
    budget.plan([1e6] * 10, [3] * 10)
    assert budget.steps_of_one == 500


def test_fixed_epochs_are_not_shortened():
    budget = Budget("1s", rows=3200, epochs=10)
    budget.plan([1e12] * 10, [3] * 10)
    assert budget.epochs(32) == 10


def test_steps_are_counted():
    budget = Budget("1000 steps", rows=100, epochs=None)
    assert budget.left == pytest.approx(1)
    with budget.spending(1.0, 600, 1):
        pass
    assert budget.left == pytest.approx(0.4)
    budget.until = 0.5
    assert budget.next_stretch([1.0] * 5, [100] * 5, 1.0, 2) == 0
    budget.until = 1.0
    assert budget.next_stretch([1.0] * 5, [100] * 5, 1.0, 2) == 4


@pytest.mark.parametrize("seconds", [1e-9, 1.0, 3.0, 1e9])
@pytest.mark.parametrize("threads", [1, 2, 3, 16])
def test_a_budget_of_steps_allows_the_same_trainings_on_any_threads_at_any_speed(seconds, threads):
    budget, made = Budget("1000 steps", rows=100, epochs=None), 0
    while count := budget.next_stretch([1e9] * (20 - made), [150] * (20 - made), seconds, threads):
        with budget.spending(1.0, 150 * count, count):
            made += count
        budget.speed = 2e9
    assert made == 7


def test_what_fits_is_bounded_by_steps_as_by_seconds(monkeypatch):
    steps = Budget("1000 steps", rows=100, epochs=None)
    assert steps.affordable(1.0, 100) == pytest.approx(10)
    with steps.spending(1.0, 1000, 1):
        pass
    assert steps.affordable(1.0, 100) == 0
    now = time.perf_counter()
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    seconds = Budget("10s", rows=100, epochs=None)
    seconds.speed, seconds.until = 50.0, 0.5
    assert seconds.affordable(25.0, 10**9) == pytest.approx(10)


def test_a_stretch_is_about_as_long_as_asked_and_has_work_for_every_thread():
    budget = Budget("1h", rows=100, epochs=None)
    budget.speed = 100.0
    assert budget.next_stretch([30.0] * 9, [1] * 9, 1.0, 2) == 3
    assert budget.next_stretch([1e9] * 9, [1] * 9, 1.0, 4) == 4
    assert budget.next_stretch([1e9], [1], 1.0, 4) == 1


def test_seconds_run_out(monkeypatch):
    budget = Budget("5s", rows=100, epochs=None)
    now = time.perf_counter()
    monkeypatch.setattr(time, "perf_counter", lambda: now + 6)
    assert budget.left < 0
    assert budget.next_stretch([1.0], [1], 1.0, 1) == 0


def test_speed_is_measured(monkeypatch):
    budget = Budget("5s", rows=100, epochs=None)
    budget.measure(short=0.3, long=1.2, less=1e9, more=10e9, trainings=2)
    assert budget.speed == pytest.approx(1e10)
    assert budget.setup == pytest.approx(0.1)
    clock = iter([10.0, 12.2])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    with budget.spending(8e9, 100, 2):
        pass
    assert budget.speed == pytest.approx(4e9)
