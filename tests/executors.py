"""A plan with its arenas and an executor on them, filled and read by the names users see."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradcore import kernels
from gradcore.compiler import compile_layers
from gradcore.kernels import reference
from gradcore.parameters import tile, untile
from gradcore.plan import Plan

EXECUTORS = {"reference": reference.Executor, "compiled": kernels.Executor}

TRAINING = kernels.MODES["batch_statistics"] | kernels.MODES["drop"]
LIGHT, FULL, INPUT_GRADIENT = (kernels.MODES[name] for name in ("light", "full", "input_gradient"))

HYPER = {
    "optimizer": kernels.OPTIMIZER_CODES["sgd"],
    "lr": 0.1,
    "momentum": 0.0,
    "nesterov": 0.0,
    "beta1": 0.9,
    "beta2": 0.999,
    "eps": 1e-8,
    "weight_decay": 0.0,
    "clip_norm": np.inf,
    "clip_value": np.inf,
    "clip_adaptive": np.inf,
}

Array = NDArray[Any]


@dataclass
class Bench:
    """One executor on its work bench."""

    plan: Plan
    executor: Any
    parameters: Array
    gradients: Array
    state: Array
    slots: tuple[Array, ...]
    capacity: int

    def read(self, arena: Array) -> dict[str, Array]:
        """Plain copies of everything in an arena laid out like the parameters, as it lies: weights (inputs, units)."""
        return {
            name: untile(arena, slot.offset, slot.rows, slot.columns, self.plan.tile)
            for name, slot in self.plan.parameter_names.items()
        }

    def write(self, values: dict[str, Array]) -> None:
        """The reverse of `read`, into the parameters."""
        for name, value in values.items():
            tile(value, self.parameters, self.plan.parameter_names[name].offset, self.plan.tile)
        self.executor.transpose_weights()

    def running(self) -> list[Array]:
        """Running mean and variance of each batch norm, (2, columns)."""
        width = self.plan.tile
        norms = [op for op in self.plan.table if op["state"] >= 0]
        starts = [(op["state"], op["columns_out"], -(-op["columns_out"] // width) * width) for op in norms]
        return [
            np.concatenate([untile(self.state, at + i * padded, 1, n, width) for i in range(2)])
            for at, n, padded in starts
        ]

    def slot(self, arena: Array, slot: int, columns: int, rows: int) -> Array:
        """Plain copy of the first rows of a slot of the activations or deltas."""
        return untile(arena, slot * self.capacity, self.capacity, columns, self.plan.tile)[:rows]

    def d_input(self, rows: int) -> Array:
        """dL/dX of the last batch."""
        return self.slot(self.executor.deltas, 0, self.plan.columns_in, rows)


def bench(
    kind: str,
    layers: list[Any],
    input_size: int,
    dtype: Any,
    *,
    capacity: int,
    loss: str = "mean_squared_error",
    loss_sum: bool = False,
    loss_parameter: float = 0.0,
    slots: int = 0,
    threads: int = 1,
    input_gradient: bool = True,
) -> Bench:
    """Compile layers and build one kind of executor; parameters from a fixed stream, the same for every kind."""
    executor_class = EXECUTORS[kind]
    width = 1 if kind == "reference" else kernels.tile_width(dtype)
    plan = compile_layers(layers, input_size, dtype, tile=width, input_gradient=input_gradient)

    def zeros(size: int) -> Array:
        return kernels.aligned_zeros(size, dtype)

    parameters, state, gradients = (
        zeros(plan.parameter_size),
        zeros(plan.state_size),
        zeros(plan.parameter_size),
    )
    moments = tuple(zeros(plan.parameter_size) for _ in range(slots))
    executor = executor_class(
        plan.table,
        dtype=dtype,
        capacity=capacity,
        columns_in=plan.columns_in,
        columns_out=plan.columns_out,
        parameters=parameters,
        state=state,
        gradients=gradients,
        slots=moments,
        transposed=zeros(plan.transposed_size),
        saved=zeros(plan.saved_size),
        activation_columns=plan.activation_columns,
        delta_columns=plan.delta_columns,
        loss=kernels.LOSS_CODES[loss],
        loss_scale=int(loss_sum),
        loss_parameter=loss_parameter,
        threads=threads,
    )
    made = Bench(plan, executor, parameters, gradients, state, moments, capacity)
    rng = np.random.default_rng(7)
    values = {}
    for name, slot in plan.parameter_names.items():
        spread = {"weight": 1 / np.sqrt(slot.rows), "bias": 0.3, "gamma": 0.2, "beta": 0.3}[slot.kind]
        values[name] = (rng.normal(size=(slot.rows, slot.columns)) * spread + (slot.kind == "gamma")).astype(
            dtype
        )
    made.write(values)
    for op in plan.table:
        if op["state"] >= 0:
            n, padded = int(op["columns_out"]), -(-int(op["columns_out"]) // width) * width
            tile(rng.normal(size=(1, n)) * 0.3, state, int(op["state"]), width)
            tile(rng.uniform(0.5, 2, size=(1, n)), state, int(op["state"]) + padded, width)
    return made


def data(
    rng: np.random.Generator, rows: int, columns_in: int, columns_out: int, dtype: Any, loss: str
) -> Any:
    """Inputs and targets of a loss."""
    X = rng.normal(size=(rows, columns_in)).astype(dtype)
    if loss == "cross_entropy":
        return X, rng.integers(0, columns_out, rows)
    if loss == "binary_cross_entropy":
        targets = rng.uniform(size=(rows, columns_out))
    elif loss == "poisson":
        targets = rng.poisson(2.0, size=(rows, columns_out)).astype(np.float64)
    else:
        targets = rng.normal(size=(rows, columns_out // (2 if loss == "gaussian_nll" else 1)))
    return X, targets.astype(dtype)
