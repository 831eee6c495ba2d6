"""The page on loops of your own, and its example: DQN on CartPole, here and in PyTorch."""

import doctest
import importlib.util
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def dqn():
    """The example as a module."""
    spec = importlib.util.spec_from_file_location("dqn_cartpole", ROOT / "examples" / "dqn_cartpole.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_examples_of_the_page_are_true():
    result = doctest.testfile(str(ROOT / "docs" / "custom_loops.md"), module_relative=False)
    assert result.attempted >= 25
    assert result.failed == 0


@pytest.mark.parametrize("action", [0, 1])
def test_the_cart_obeys_the_equations_of_motion(dqn, action, rng):
    # forces on the whole along the track, and torques about the pivot (Barto et al. 1983, before they are solved)
    pole = dqn.CartPole(rng)
    mass, length, total = pole.POLE, pole.HALF_LENGTH, pole.CART + pole.POLE
    for _ in range(50):
        _, v, angle, w = before = rng.uniform([-2, -3, -0.2, -3], [2, 3, 0.2, 3])
        pole.state = before.tolist()
        after, _ = pole.step(action)
        speed, move, turning, turn = (np.array(after) - before) / pole.STEP
        push = (pole.FORCE if action else -pole.FORCE) - np.sign(v) * pole.CART_FRICTION
        swing = mass * length * (turn * np.cos(angle) - w**2 * np.sin(angle))
        assert total * move + swing == pytest.approx(push, abs=1e-9)
        torque = (
            pole.GRAVITY * np.sin(angle) - move * np.cos(angle) - pole.POLE_FRICTION * w / (mass * length)
        )
        assert 4 / 3 * length * turn == pytest.approx(torque, abs=1e-9)
        assert (speed, turning) == (pytest.approx(v), pytest.approx(w))


def test_an_episode_ends_where_the_pole_has_fallen_or_the_track_ends(dqn, rng):
    pole = dqn.CartPole(rng)
    assert max(map(abs, pole.reset())) <= 0.05
    lengths = []
    for _ in range(20):
        pole.reset()
        steps, failed = 0, False
        while not failed:
            _, failed = pole.step(1)
            steps += 1
        lengths.append(steps)
    assert 8 <= min(lengths) <= max(lengths) <= 12
    pole.state = [2.39, 1.0, 0.0, 0.0]
    assert pole.step(1)[1]
    pole.state = [2.3, 0.0, 0.0, 0.0]
    assert not pole.step(0)[1]


def test_the_memory_keeps_the_last_transitions(dqn, rng):
    memory = dqn.Memory(4, "float32")
    for i in range(6):
        memory.add([i] * 4, i % 2, [i + 1] * 4, failed=i == 5)
    states, actions, after, alive = memory.draw(rng, 100)
    assert set(states[:, 0]) == {2, 3, 4, 5}
    assert np.array_equal(actions, states[:, 0] % 2)
    assert np.array_equal(after, states + 1)
    assert np.array_equal(alive, states[:, 0] != 5)


def test_the_agent_learns(dqn):
    run = dqn.play(dqn.GradcoreAgent, seed=0, steps=9000)
    assert np.mean(run["returns"][-10:]) > 3 * np.mean(run["returns"][:50])


def test_the_agent_in_pytorch_does_the_same(dqn, tmp_path):
    pytest.importorskip("torch")
    page = tmp_path / "curve.svg"
    ours, theirs = dqn.main(
        ["--steps", "900", "--torch", "--plot", str(page), "--json", str(tmp_path / "runs.json")]
    )
    assert len(ours["returns"]) > 20
    assert np.array_equal(ours["actions"], theirs["actions"])
    assert ours["returns"] == theirs["returns"]
    assert "<svg" in page.read_text(encoding="utf-8")
    assert (tmp_path / "runs.json").exists()
