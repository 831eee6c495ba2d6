"""A thousand small networks: `fit_many` against a loop over PyTorch modules and `jax.vmap`.

``python bench/many.py [--networks 1000] [--epochs 4]``

Each network is 3 hidden layers of 32 (net v of the table), 16 inputs, 4 classes, trained by SGD with momentum on its
own order of 512 rows in batches of 16.  One CPU for the race; the scaling to two cores is measured in a process of its
own.  PyTorch trains every 50th network only, one after the other: its loop has no memory of how many there are.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import machine

ROWS, INPUTS, CLASSES, WIDTH, BATCH = 512, 16, 4, 32, 16
SIZES = [INPUTS, WIDTH, WIDTH, WIDTH, CLASSES]
RATE, MOMENTUM = 0.05, 0.9
SAMPLE = 50


def data() -> Any:
    import numpy as np

    rng = np.random.default_rng(0)
    X = rng.normal(size=(ROWS, INPUTS)).astype("f4")
    return X, (X @ rng.normal(size=(INPUTS, CLASSES))).argmax(axis=1)


def gradcore_many(count: int, epochs: int, threads: int) -> Callable[[], float]:
    import gradcore

    X, y = data()

    def run() -> float:
        networks = [gradcore.mlp(SIZES, seed=k) for k in range(count)]
        begin = time.perf_counter()
        gradcore.fit_many(
            networks, (X, y), optimizer=f"sgd({RATE}, momentum={MOMENTUM})", epochs=epochs, batch_size=BATCH,
            seed=list(range(count)), threads=threads, progress=False,
        )  # fmt: skip
        seconds = time.perf_counter() - begin
        assert networks[0].evaluate(X, y)["loss"] < 1.0
        return seconds

    return run


def torch_loop(count: int, epochs: int) -> Callable[[], float]:
    import torch
    from torch import nn

    torch.set_num_threads(1)
    X, y = (torch.from_numpy(array) for array in data())

    def run() -> float:
        spent = 0.0
        for k in range(0, count, SAMPLE):
            torch.manual_seed(k)
            parts: list[nn.Module] = []
            for inputs, units in pairwise(SIZES[:-1]):
                parts += [nn.Linear(inputs, units), nn.ReLU()]
            net = nn.Sequential(*parts, nn.Linear(WIDTH, CLASSES))
            optimizer = torch.optim.SGD(net.parameters(), RATE, MOMENTUM, foreach=True)
            loss_of = nn.CrossEntropyLoss()
            begin = time.perf_counter()
            for _ in range(epochs):
                order = torch.randperm(ROWS)
                for start in range(0, ROWS, BATCH):
                    rows = order[start : start + BATCH]
                    optimizer.zero_grad(set_to_none=True)
                    loss = loss_of(net(X[rows]), y[rows])
                    loss.backward()
                    optimizer.step()
            spent += time.perf_counter() - begin
            assert loss.item() < 1.5
        return spent * SAMPLE

    return run


def jax_vmap(count: int, epochs: int) -> Callable[[], float]:
    import jax
    import jax.numpy as jnp
    import numpy as np

    X, y = (jnp.asarray(array) for array in data())
    steps = ROWS // BATCH

    def loss_of(parameters: Any, inputs: Any, labels: Any) -> Any:
        for weight, bias in parameters[:-1]:
            inputs = jax.nn.relu(inputs @ weight + bias)
        weight, bias = parameters[-1]
        chosen = jnp.take_along_axis(jax.nn.log_softmax(inputs @ weight + bias), labels[:, None], axis=1)
        return -chosen.mean()

    def epoch(parameters: Any, velocity: Any, key: Any) -> Any:
        order = jax.random.permutation(key, ROWS).reshape(steps, BATCH)

        def step(state: Any, rows: Any) -> Any:
            parameters, velocity = state
            gradients = jax.grad(loss_of)(parameters, X[rows], y[rows])
            velocity = jax.tree_util.tree_map(lambda v, g: MOMENTUM * v + g, velocity, gradients)
            return (jax.tree_util.tree_map(lambda p, v: p - RATE * v, parameters, velocity), velocity), None

        return jax.lax.scan(step, (parameters, velocity), order)[0]

    many = jax.jit(jax.vmap(epoch), donate_argnums=(0, 1))
    rng = np.random.default_rng(0)

    def run() -> float:
        parameters = [
            (
                jnp.asarray(rng.normal(size=(count, a, b)) * np.sqrt(2 / a), jnp.float32),
                jnp.zeros((count, b), jnp.float32),
            )
            for a, b in pairwise(SIZES)
        ]
        velocity = jax.tree_util.tree_map(jnp.zeros_like, parameters)
        begin = time.perf_counter()
        for k in range(epochs):
            keys = jax.random.split(jax.random.PRNGKey(k), count)
            parameters, velocity = many(parameters, velocity, keys)
        jax.block_until_ready(parameters)
        seconds = time.perf_counter() - begin
        assert float(loss_of([(w[0], b[0]) for w, b in parameters], X, y)) < 1.0
        return seconds

    run()  # compiles
    return run


def race(runs: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """Return the median seconds of each, taken in turns."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            times[name].append(run())
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    """Run as a script."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scaling", action="store_true", help="only the scaling to two cores, on two CPUs")
    arguments = parser.parse_args()
    count, epochs = arguments.networks, arguments.epochs
    steps = count * epochs * ROWS // BATCH
    if arguments.scaling:
        if hasattr(os, "sched_setaffinity"):  # what started this one is held on one CPU
            os.sched_setaffinity(0, range(os.cpu_count() or 1))
        runs = {f"{n} threads": gradcore_many(count, epochs, n) for n in (1, 2)}
        times = race(runs, arguments.rounds)
        share = times["1 threads"] / times["2 threads"] / 2
        for name, seconds in times.items():
            print(f"gradcore, {name:<10} {seconds:8.2f} s   {1e6 * seconds / steps:7.2f} µs per step")
        print(f"scaling to two cores: {100 * share:.0f} % (bar 95)")
        return
    machine.pin()
    runs = {
        "gradcore": gradcore_many(count, epochs, 1),
        "PyTorch loop": torch_loop(count, epochs),
        "jax.vmap": jax_vmap(count, epochs),
    }
    times = race(runs, arguments.rounds)
    for name, seconds in times.items():
        print(f"{name:<14} {seconds:8.2f} s   {1e6 * seconds / steps:7.2f} µs per step, one CPU")
    print(
        f"PyTorch / gradcore {times['PyTorch loop'] / times['gradcore']:.0f} on one CPU (bar 50 on all cores)"
    )
    print(f"jax.vmap / gradcore {times['jax.vmap'] / times['gradcore']:.1f} (bar 3)")
    subprocess.run([sys.executable, __file__, "--scaling", *sys.argv[1:]], check=True)


if __name__ == "__main__":
    main()
