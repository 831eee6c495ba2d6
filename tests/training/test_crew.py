"""Who makes the next stretch is told by the clock alone."""

import pytest

from gradcore import mlp, threads
from gradcore.training import loop
from gradcore.training.crew import AGAIN, STRETCH, TELLING, Crew


def play(crew, seconds_alone, seconds_together, stretches):
    """So many stretches of 100 steps; how many of them were made alone."""
    alone = 0
    for _ in range(stretches):
        alone += crew.alone
        crew.took(100, seconds_alone if crew.alone else seconds_together)
    return alone


def test_without_a_choice_the_team_makes_all():
    assert play(Crew(), 0.01, 1.0, 100) == 0


@pytest.mark.parametrize(("alone", "together"), [(0.01, 0.02), (0.02, 0.01)])
def test_the_quicker_way_is_taken_and_the_other_tried_now_and_then(alone, together):
    crew = Crew(choose=True)
    stretches = 10 * AGAIN
    slower = (
        stretches - play(crew, alone, together, stretches)
        if alone < together
        else play(crew, alone, together, stretches)
    )
    assert 1 <= slower <= 12


def test_another_job_that_comes_and_goes_is_noticed():
    crew = Crew(choose=True)
    play(crew, 0.02, 0.01, 5)
    assert not crew.alone
    assert play(crew, 0.02, 0.04, 3 * AGAIN) > 2 * AGAIN  # somebody else works on the second core
    assert play(crew, 0.02, 0.01, 3 * AGAIN) < AGAIN + 5  # and has gone


def test_a_stretch_too_short_to_tell_decides_nothing():
    crew = Crew(choose=True)
    assert play(crew, TELLING / 9, TELLING / 2, 50) == 0


def test_the_pace_grows_to_a_stretch_and_no_faster_than_eightfold():
    crew = Crew()
    crew.took(1, 1e-6)
    assert crew.pace == 8
    crew.took(1000, 2 * STRETCH)
    assert crew.pace == 500
    crew.took(1, 100.0)
    assert crew.pace == 1


def test_a_choice_is_there_only_where_nobody_named_a_number(monkeypatch):
    monkeypatch.setattr(threads, "cores", lambda: 2)
    monkeypatch.setattr(threads, "_chosen", 0)
    conduct = loop.Conduct(epochs=1)
    assert loop.with_threads(conduct, "auto", 3e5) == loop.Conduct(epochs=1, threads=2, choose=True)
    assert loop.with_threads(conduct, "auto", 1e4) == loop.Conduct(epochs=1, threads=1, choose=True)
    assert loop.with_threads(conduct, 2, 1e4) == loop.Conduct(epochs=1, threads=2)
    monkeypatch.setattr(threads, "_chosen", 1)
    assert loop.with_threads(conduct, "auto", 3e9) == loop.Conduct(epochs=1)


def test_a_training_that_chooses_has_the_same_bits(monkeypatch, rng):
    monkeypatch.setattr(threads, "cores", lambda: 2)
    X, y = rng.standard_normal((256, 64)), rng.integers(0, 3, 256)
    nets = [mlp([64, 96, 96, 3], seed=0) for _ in range(2)]
    told = [net.fit(X, y, epochs=30, seed=0, threads=how) for net, how in zip(nets, ("auto", 1), strict=True)]
    assert [history.threads for history in told] == [2, 1]
    assert nets[0].parameters.tobytes() == nets[1].parameters.tobytes()
    assert told[0].history == told[1].history
