"""The statistics: right tails, Holm's order, and how often chance alone is taken for help."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from mpmath import mp

from gradcore.prescription.comparison import (
    HARMED,
    HELPED,
    LEVEL,
    NO_HELP,
    NOT_PROVED,
    Counts,
    compare,
    t_probability,
    t_quantile,
)


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 9, 10, 31])
@pytest.mark.parametrize("t", [-40.0, -2.0, -0.1, 0.0, 0.7, 3.0, 12.0])
def test_students_t_is_the_regularised_beta_function(t, freedom):
    x = mp.mpf(freedom) / (freedom + mp.mpf(t) ** 2)
    tail = mp.betainc(mp.mpf(freedom) / 2, mp.mpf(1) / 2, 0, x, regularized=True) / 2
    assert t_probability(t, freedom) == pytest.approx(float(tail if t < 0 else 1 - tail), abs=1e-14)


@given(st.floats(0.5, 0.9999), st.integers(1, 40))
def test_the_quantile_is_its_inverse(probability, freedom):
    assert t_probability(t_quantile(probability, freedom), freedom) == pytest.approx(probability, abs=1e-9)


def test_holm_multiplies_by_those_that_are_left_and_never_falls():
    rng = np.random.default_rng(0)
    some = [rng.normal(shift, 0.01, 8) for shift in (0.03, 0.004, 0.5, 0.0)]
    alone = [compare([differences], resolution=1e-4)[0].p for differences in some]
    found = compare(some, resolution=1e-4)
    order = np.argsort(alone)
    expected = np.maximum.accumulate(np.sort(alone) * [4, 3, 2, 1])
    np.testing.assert_allclose([found[i].p for i in order], np.minimum(expected, 1), rtol=1e-9)


@pytest.mark.parametrize("trained", [[], [Counts(8, 8, 8, 8, 0.0)] * 4], ids=["scores", "and how often"])
def test_an_interval_leaves_zero_out_where_something_is_proved_and_only_there(trained):
    rng = np.random.default_rng(1)
    verdicts = set()
    for _ in range(100):
        shifts = rng.choice([-0.03, 0.0, 0.02, 0.03], 4)
        for comparison in compare(
            [rng.normal(shift, 0.02, 8) for shift in shifts], resolution=1e-4, trained=trained
        ):
            low, high = comparison.interval
            assert low < comparison.difference < high
            assert (low > 0) == (comparison.verdict == HELPED)
            assert (high < 0) == (comparison.verdict == HARMED)
            verdicts.add(comparison.verdict)
    assert verdicts == {HELPED, HARMED, NO_HELP}


def test_ten_of_ten_against_none_is_help_and_the_reverse_harm():
    rng = np.random.default_rng(2)
    gained = 0.85 + 0.02 * rng.normal(size=10)
    found = compare([gained, -gained, *(0.01 * rng.normal(size=(15, 10)))], resolution=0.002)
    assert [comparison.verdict for comparison in found[:3]] == [HELPED, HARMED, NO_HELP]


def test_how_often_it_trains_is_fishers_exact_test():
    scattered = [[0.6, 0.3, 0.1, 0.5, 0.7, -0.6, 0.4, 0.1]]
    assert compare(scattered, resolution=0.01)[0].verdict == NO_HELP
    (found,) = compare(scattered, resolution=0.01, trained=[Counts(7, 8, 0, 13, 0.0)])
    assert found.verdict == HELPED
    assert found.p == pytest.approx(2 * 8 / 116280)  # 8 ways of C(21, 7)
    assert compare(scattered, resolution=0.01, trained=[Counts(0, 8, 7, 13, 0.0)])[0].verdict == NO_HELP
    worse = [[-x for x in scattered[0]]]
    assert compare(worse, resolution=0.01, trained=[Counts(0, 8, 13, 13, 0.0)])[0].verdict == HARMED
    assert compare(worse, resolution=0.01, trained=[Counts(8, 8, 13, 13, 0.0)])[0].p > 0.03


def test_how_often_it_trains_proves_nothing_where_what_trains_is_of_no_use_on_other_rows():
    some = [[0.02, 0.01, -0.01, 0.03, 0.0, 0.01, 0.02, -0.02]]
    counts = Counts(8, 8, 0, 13, 0.0)
    assert compare(some, resolution=0.01, noise=[0.05], trained=[counts])[0].verdict == HELPED
    (found,) = compare(some, resolution=0.01, noise=[0.05], trained=[counts._replace(by_heart=0.2)])
    assert found.verdict == NO_HELP
    assert found.p == pytest.approx(0.4)


def test_identical_results_prove_nothing_and_equal_gains_are_not_infinitely_sure():
    nothing, equal = compare([[0.0] * 8, [0.5] * 8], resolution=0.01)
    assert (nothing.p, nothing.verdict) == (1.0, NO_HELP)
    assert equal.verdict == HELPED
    assert equal.interval[0] < 0.5 < equal.interval[1]
    assert compare([[0.001] * 8], resolution=0.01)[0].verdict == NO_HELP


def test_few_pairs_prove_nothing():
    assert compare([[0.9, 0.9], [0.9] * 4, [0.9] * 5], resolution=0.001)[2].verdict == HELPED
    assert {c.verdict for c in compare([[0.9, 0.9], [0.9] * 4], resolution=0.001)} == {NOT_PROVED}
    assert {c.verdict for c in compare([[-0.9, -0.9], [0.9, -0.8]], resolution=0.001)} == {NO_HELP}


def test_the_luck_of_the_tested_rows_is_in_the_error():
    some = [[0.03, 0.031, 0.029, 0.03, 0.03, 0.031, 0.03, 0.03]]
    assert compare(some, resolution=0.001)[0].verdict == HELPED
    (wide,) = compare(some, resolution=0.001, noise=[0.02])
    assert wide.verdict == NO_HELP
    assert wide.interval[0] < 0 < wide.interval[1]


@pytest.mark.parametrize(
    "draw",
    [
        lambda rng, n: 0.9 + 0.02 * rng.normal(size=n),
        lambda rng, n: np.where(rng.random(n) < 0.5, 0.1, 0.95) + 0.005 * rng.normal(size=n),
        lambda rng, n: rng.binomial(300, 0.97, n) / 300,
    ],
    ids=["normal", "trains or not", "counts"],
)
def test_chance_is_taken_for_an_effect_in_few_prescriptions(draw):
    rng = np.random.default_rng(3)
    wrong, prescriptions = 0, 200
    for _ in range(prescriptions):
        control = draw(rng, 5)
        first = compare([draw(rng, 5) - control for _ in range(15)], resolution=0.0017, level=LEVEL / 2)
        control = draw(rng, 8)
        fresh = compare([draw(rng, 8) - control for _ in range(2)], resolution=0.0017, level=LEVEL / 2)
        wrong += any(comparison.verdict != NO_HELP for comparison in (*first, *fresh))
    assert wrong / prescriptions <= 0.05


@settings(max_examples=50)
@given(st.lists(st.lists(st.floats(-1, 1), min_size=2, max_size=9), min_size=1, max_size=6))
def test_whatever_comes_the_figures_are_in_range(differences):
    for comparison in compare(differences, resolution=0.001):
        assert 0 <= comparison.p <= 1
        assert comparison.interval[0] <= comparison.difference <= comparison.interval[1]
