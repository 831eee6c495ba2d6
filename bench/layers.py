"""Batch norm, layer norm and dropout, forward and backward, against PyTorch, JAX and NumPy; float32, one thread.

    python bench/layers.py [--rounds 30]

gradcore runs the op alone, by the loop that trains: copy of the batch, forward, backward, gradients of gamma and
beta. The libraries take turns, one call each, and the medians are compared. Peers that are not installed are left out.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import numpy as np

SIZES = ((32, 64), (256, 1024))
RATE = 0.1
EPS = 1e-5

Run = Callable[[], Any]


def gradcore_run(name: str, x: np.ndarray, d_y: np.ndarray) -> Run:
    from gradcore import kernels
    from gradcore.compiler import compile_layers
    from gradcore.layers import BatchNorm, Dense, Dropout, LayerNorm

    rows, columns = x.shape
    layer = {"batch norm": BatchNorm(), "layer norm": LayerNorm(), "dropout": Dropout(RATE)}[name]
    # a network needs a dense layer; its op is cut off again
    plan = compile_layers([layer, Dense(1)], columns, tile=kernels.tile_width("float32"), input_gradient=True)
    plan = replace(plan, table=plan.table[:1], columns_out=columns)
    arena = kernels.aligned_zeros
    executor = kernels.Executor(
        plan.table, dtype="float32", capacity=rows, columns_in=columns, columns_out=columns,
        parameters=arena(plan.parameter_size, "float32"), state=arena(plan.state_size, "float32"),
        gradients=arena(plan.parameter_size, "float32"), slots=(), transposed=arena(plan.transposed_size, "float32"),
        saved=arena(plan.saved_size, "float32"), activation_columns=plan.activation_columns,
        delta_columns=plan.delta_columns, loss=kernels.LOSS_CODES["no_loss"], loss_scale=0,
    )  # fmt: skip
    executor.bind(x, None)
    slot = int(plan.table[0]["d_output"]) * rows
    kernels.tile(d_y, executor.deltas, slot)
    order = np.arange(rows)
    mode = kernels.MODES["batch_statistics"] | kernels.MODES["drop"] | kernels.MODES["input_gradient"]
    return lambda: executor.observe(order, mode=mode, seed=0, step=1)


def torch_run(name: str, x: np.ndarray, d_y: np.ndarray) -> Run:
    import torch

    torch.set_num_threads(1)
    columns = x.shape[1]
    module = {
        "batch norm": torch.nn.BatchNorm1d(columns), "layer norm": torch.nn.LayerNorm(columns),
        "dropout": torch.nn.Dropout(RATE),
    }[name]  # fmt: skip
    inputs, delta = torch.tensor(x, requires_grad=True), torch.tensor(d_y)
    wanted = [inputs, *module.parameters()]
    return lambda: torch.autograd.grad(module(inputs), wanted, delta)


def jax_run(name: str, x: np.ndarray, d_y: np.ndarray) -> Run:
    import jax
    import jax.numpy as jnp

    columns = x.shape[1]
    key = jax.random.key(0)

    def forward(x: Any, gamma: Any, beta: Any) -> Any:
        if name == "dropout":
            return jnp.where(jax.random.bernoulli(key, 1 - RATE, x.shape), x / (1 - RATE), 0.0)
        axis = 0 if name == "batch norm" else 1
        mean, variance = x.mean(axis, keepdims=True), x.var(axis, keepdims=True)
        return gamma * (x - mean) * jax.lax.rsqrt(variance + EPS) + beta

    def both(x: Any, gamma: Any, beta: Any, delta: Any) -> Any:
        y, pull = jax.vjp(forward, x, gamma, beta)
        return y, pull(delta)

    compiled = jax.jit(both)
    arguments = [jnp.asarray(a) for a in (x, np.ones(columns, "f4"), np.zeros(columns, "f4"), d_y)]
    return lambda: jax.block_until_ready(compiled(*arguments))


def numpy_run(name: str, x: np.ndarray, d_y: np.ndarray) -> Run:
    gamma, beta = np.ones(x.shape[1], "f4"), np.zeros(x.shape[1], "f4")
    rng = np.random.default_rng(0)

    def drop() -> Any:
        slope = (rng.random(x.shape, np.float32) >= RATE) * np.float32(1 / (1 - RATE))
        return x * slope, d_y * slope

    def norm() -> Any:
        axis = 0 if name == "batch norm" else 1
        centred = x - x.mean(axis, keepdims=True)
        inverse = 1 / np.sqrt((centred * centred).mean(axis, keepdims=True) + np.float32(EPS))
        normal = centred * inverse
        g = gamma * d_y
        d_x = inverse * (g - g.mean(axis, keepdims=True) - normal * (g * normal).mean(axis, keepdims=True))
        return gamma * normal + beta, d_x, (d_y * normal).sum(0), d_y.sum(0)

    return drop if name == "dropout" else norm


PEERS = {"NumPy": numpy_run, "PyTorch": torch_run, "JAX": jax_run}
MODULES = {"NumPy": "numpy", "PyTorch": "torch", "JAX": "jax"}


def race(runs: dict[str, Run], rounds: int) -> dict[str, float]:
    """Return the median seconds of one call of each, which take turns."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(rounds + 3):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if turn >= 3:
                times[name].append(time.perf_counter() - start)
    return {name: float(np.median(values)) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30)
    rounds = parser.parse_args().rounds
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")
    rng = np.random.default_rng(0)
    present = [name for name, module in MODULES.items() if find_spec(module) is not None]
    print(
        f"{'forward and backward':<24}"
        + "".join(f"{name:>14}" for name in ("gradcore", *present, "best peer"))
    )
    for rows, columns in SIZES:
        x, d_y = rng.standard_normal((2, rows, columns)).astype("f4")
        for name in ("batch norm", "layer norm", "dropout"):
            runs = {"gradcore": gradcore_run(name, x, d_y)} | {p: PEERS[p](name, x, d_y) for p in present}
            seconds = race(runs, rounds if rows > 100 else 20 * rounds)
            best = min(seconds[p] for p in present) / seconds["gradcore"]
            cells = "".join(f"{1e6 * value:>11.1f} µs" for value in seconds.values())
            print(f"{name + f' {rows}×{columns}':<24}{cells}{best:>13.1f}×")


if __name__ == "__main__":
    main()
