"""Q-learning with a deep network (DQN) balances a pole: a loop of your own around `net.stepper`.

    python examples/dqn_cartpole.py                       # some seconds
    python examples/dqn_cartpole.py --torch --seeds 3     # the same in PyTorch beside it
    python examples/dqn_cartpole.py --torch --plot dqn.svg

The method is that of Mnih et al., Human-level control through deep reinforcement learning, Nature 518 (2015), with a
target network that follows softly (Lillicrap et al., Continuous control with deep reinforcement learning, 2016). All
random numbers come from NumPy, and both libraries begin from the same weights: what differs is rounding.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

import gradcore

Array = NDArray[Any]

SIZES = [4, 64, 64, 2]
ACTIVATION = "tanh"
RATE = 1e-3  # of Adam
DISCOUNT = 0.99
TAU = 0.01  # how far the target network follows at each step
BATCH = 64
MEMORY = 50_000
WARM_UP = 500  # steps before the first update
EXPLORE = 5_000  # steps over which epsilon falls from 1 …
LEAST = 0.02  # … to this
LONGEST = 500  # steps of an episode
WINDOW = 20  # episodes whose mean counts


class CartPole:
    """A pole on a cart that is pushed left or right: 1 point for each step until it falls or the track ends.

    Equations and constants: Barto, Sutton & Anderson, Neuronlike adaptive elements that can solve difficult learning
    control problems, IEEE Trans. Systems, Man, and Cybernetics 13 (1983), appendix; integrated by Euler's method.
    """

    GRAVITY, CART, POLE, HALF_LENGTH = 9.8, 1.0, 0.1, 0.5  # m/s², kg, kg, m
    CART_FRICTION, POLE_FRICTION = 0.0005, 0.000002  # of the cart on the track, of the pole on the cart
    FORCE, STEP = 10.0, 0.02  # N, s
    TRACK, ANGLE = 2.4, math.radians(12)  # where an episode ends: m from the middle, angle from upright

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def reset(self) -> list[float]:
        """Begin near upright in the middle; return position, its speed, angle, its speed."""
        self.state: list[float] = self.rng.uniform(-0.05, 0.05, 4).tolist()
        return self.state

    def step(self, action: int) -> tuple[list[float], bool]:
        """Push right (1) or left (0) for one step; return the new state and whether the episode has failed."""
        x, v, angle, w = self.state
        push = self.FORCE if action else -self.FORCE
        total, moment = self.CART + self.POLE, self.POLE * self.HALF_LENGTH
        sin, cos = math.sin(angle), math.cos(angle)
        friction = math.copysign(self.CART_FRICTION, v) if v else 0.0
        inner = (-push - moment * w * w * sin + friction) / total
        turn = (self.GRAVITY * sin + cos * inner - self.POLE_FRICTION * w / moment) / (
            self.HALF_LENGTH * (4 / 3 - self.POLE * cos * cos / total)
        )
        move = (push + moment * (w * w * sin - turn * cos) - friction) / total
        self.state = [
            x + self.STEP * v,
            v + self.STEP * move,
            angle + self.STEP * w,
            w + self.STEP * turn,
        ]
        return self.state, abs(self.state[0]) > self.TRACK or abs(self.state[2]) > self.ANGLE


class Memory:
    """The last transitions, in a ring."""

    def __init__(self, size: int, dtype: str) -> None:
        self.states, self.next_states = np.zeros((2, size, 4), dtype)
        self.actions = np.zeros(size, np.int64)
        self.alive = np.zeros(size, dtype)  # 0 where the episode failed: no value after that
        self.count = 0

    def add(self, state: list[float], action: int, next_state: list[float], failed: bool) -> None:
        """Keep one transition, in place of the oldest."""
        at = self.count % len(self.actions)
        self.states[at], self.actions[at] = state, action
        self.next_states[at], self.alive[at] = next_state, not failed
        self.count += 1

    def draw(self, rng: np.random.Generator, rows: int) -> tuple[Array, Array, Array, Array]:
        """Return some of them at random: states, actions, next states, whether there is a value after."""
        i = rng.integers(0, min(self.count, len(self.actions)), rows)
        return self.states[i], self.actions[i], self.next_states[i], self.alive[i]


class Agent(Protocol):
    """What the loop needs of a library."""

    def act(self, state: Array) -> int:
        """Return the action of the largest value."""
        ...

    def learn(self, states: Array, actions: Array, next_states: Array, alive: Array) -> None:
        """Make one step of Q-learning and let the target network follow."""
        ...


class GradcoreAgent:
    """The agent of this library."""

    def __init__(self, net: gradcore.Network) -> None:
        self.net, self.target = net, net.copy()
        self.stepper = net.stepper(batch_size=BATCH, optimizer=gradcore.optimizers.Adam(lr=RATE))
        self.rows = np.arange(BATCH)

    def act(self, state: Array) -> int:
        """Return the action of the largest value."""
        left, right = self.net.predict(state)[0].tolist()
        return int(right > left)

    def learn(self, states: Array, actions: Array, next_states: Array, alive: Array) -> None:
        """Make one step of Q-learning and let the target network follow."""
        wanted = 1 + DISCOUNT * alive * self.target.predict(next_states).max(axis=1)
        values = self.stepper.forward(states)
        # Huber's loss: its gradient is the error, at most 1
        gradient = np.zeros_like(values)
        error = values[self.rows, actions] - wanted
        gradient[self.rows, actions] = np.clip(error, -1, 1) / len(error)
        self.stepper.backward(gradient)
        self.target.copy_from_(self.net, TAU)


class TorchAgent:
    """The same in PyTorch."""

    def __init__(self, net: gradcore.Network) -> None:
        import torch

        torch.set_num_threads(1)  # quicker for networks of this size
        self.torch = torch
        self.net, self.target = self._copy(net), self._copy(net)
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=RATE, fused=True)
        self.pairs = list(self.target.parameters()), list(self.net.parameters())

    def _copy(self, net: gradcore.Network) -> Any:
        nn = self.torch.nn
        modules: list[Any] = []
        for inputs, units in pairwise(SIZES):
            modules += [nn.Linear(inputs, units), nn.Tanh()]
        model = nn.Sequential(*modules[:-1])
        values = {name: self.torch.from_numpy(array) for name, array in net.get_parameters().items()}
        model.to(self.torch.float64 if net.dtype == np.float64 else self.torch.float32)
        model.load_state_dict(values)
        return model

    def act(self, state: Array) -> int:
        """Return the action of the largest value."""
        with self.torch.inference_mode():
            left, right = self.net(self.torch.from_numpy(state))[0].tolist()
        return int(right > left)

    def learn(self, states: Array, actions: Array, next_states: Array, alive: Array) -> None:
        """Make one step of Q-learning and let the target network follow."""
        torch = self.torch
        with torch.inference_mode():
            after = self.target(torch.from_numpy(next_states)).amax(dim=1)
            wanted = 1 + DISCOUNT * torch.from_numpy(alive) * after
        values = self.net(torch.from_numpy(states)).gather(1, torch.from_numpy(actions)[:, None])[:, 0]
        loss = torch.nn.functional.huber_loss(values, wanted.clone())
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(*self.pairs, TAU)


def play(kind: type[Any], *, seed: int, steps: int, dtype: str = "float64") -> dict[str, Any]:
    """Learn for so many steps; return the episodes' returns, all actions, and what it took: seconds, seconds of CPU."""
    place, choice, draw = (np.random.default_rng([seed, i]) for i in range(3))
    net = gradcore.mlp(SIZES, activation=ACTIVATION, dtype=dtype, seed=seed)
    agent: Agent = kind(net)
    pole, memory = CartPole(place), Memory(MEMORY, dtype)
    returns: list[int] = []
    actions = np.zeros(steps, np.int8)
    state, length = pole.reset(), 0
    begin, begin_cpu = time.perf_counter(), time.process_time()
    for step in range(steps):
        epsilon = max(LEAST, 1 - (1 - LEAST) * step / EXPLORE)
        explore, either = choice.random(2).tolist()
        if explore < epsilon:
            action = int(either < 0.5)
        else:
            action = agent.act(np.array([state], dtype))
        actions[step] = action
        next_state, failed = pole.step(action)
        memory.add(state, action, next_state, failed)
        state, length = next_state, length + 1
        if failed or length == LONGEST:
            returns.append(length)
            state, length = pole.reset(), 0
        if step >= WARM_UP:
            agent.learn(*memory.draw(draw, BATCH))
    return {
        "returns": returns,
        "actions": actions,
        "seconds": time.perf_counter() - begin,
        "cpu": time.process_time() - begin_cpu,
    }


def alike(a: Array | list[int], b: Array | list[int]) -> int:
    """Return how many of the first entries are equal."""
    shared = min(len(a), len(b))
    differ = np.flatnonzero(np.asarray(a)[:shared] != np.asarray(b)[:shared])
    return int(differ[0]) if len(differ) else shared


def plot(runs: list[dict[str, Any]], path: Path) -> None:
    """Draw the return of each episode over the steps made."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 3.6), layout="constrained")
    for run in runs:
        style = "--" if run["library"] == "PyTorch" else "-"
        label = f"{run['library']}, seed {run['seed']}: {run['cpu']:.1f} s of CPU"
        axes.plot(np.cumsum(run["returns"]), run["returns"], style, label=label, linewidth=1.4)
    axes.set(xlabel="steps of the cart", ylabel="return of the episode", ylim=(0, LONGEST * 1.05))
    axes.legend(loc="upper left")
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)


def main(arguments: list[str] | None = None) -> list[dict[str, Any]]:
    """Run the command line; return what each run gave."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=30_000)
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--seeds", type=int, default=1, help="how many of them")
    parser.add_argument("--dtype", default="float64", choices=["float32", "float64"])
    parser.add_argument("--torch", action="store_true", help="run PyTorch too, and compare")
    parser.add_argument("--plot", type=Path, help="draw the runs into this file")
    parser.add_argument("--json", type=Path, help="write what was measured into this file")
    options = parser.parse_args(arguments)
    agents = {"gradcore": GradcoreAgent, "PyTorch": TorchAgent}
    runs: list[dict[str, Any]] = []
    for seed in range(options.seed, options.seed + options.seeds):
        pair = []
        for name in list(agents)[: 1 + options.torch]:
            run = play(agents[name], seed=seed, steps=options.steps, dtype=options.dtype)
            last = np.mean(run["returns"][-WINDOW:]) if run["returns"] else math.nan
            pair.append({"library": name, "seed": seed, "last": float(last), **run})
            print(f"seed {seed}  {name:8}  {len(run['returns'])} episodes, mean return of the last {WINDOW}: "
                  f"{last:.1f}, {run['seconds']:.1f} s ({run['cpu']:.1f} s of CPU)", flush=True)  # fmt: skip
        if options.torch:
            ours, theirs = pair
            same = alike(ours["actions"], theirs["actions"]), alike(ours["returns"], theirs["returns"])
            faster = theirs["seconds"] / ours["seconds"], theirs["cpu"] / ours["cpu"]
            print(f"seed {seed}  the same for {same[0]} of {options.steps} steps, {same[1]} of "
                  f"{len(ours['returns'])} episodes; {faster[0]:.1f} times as fast, {faster[1]:.1f} by CPU",
                  flush=True)  # fmt: skip
        runs += pair
    if options.plot:
        plot(runs, options.plot)
    if options.json:
        plain = [{**run, "actions": None} for run in runs]
        options.json.write_text(json.dumps(plain), encoding="utf-8")
    return runs


if __name__ == "__main__":
    main()
