"""The parameters and the state of one network: arenas inside, plain named arrays outside."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradcore import initializers, kernels
from gradcore.errors import unknown_name
from gradcore.layers import Activation, Dense, Layer, Residual
from gradcore.plan import Plan
from gradcore.streams import INITIAL_WEIGHTS, stream

Array = NDArray[Any]

STATE = ("running_mean", "running_var")


@dataclass(frozen=True)
class Slot:
    """Where one named array lives: in which arena, as a tiled matrix of which size, and how the user sees it."""

    offset: int
    rows: int
    columns: int
    shape: tuple[int, ...]
    is_state: bool


class Parameters:
    """The arenas of one network and the names in them."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.arena = kernels.aligned_zeros(plan.parameter_size, plan.dtype)
        self.state = kernels.aligned_zeros(plan.state_size, plan.dtype)
        self.slots = dict(_slots(plan))

    def read(self, arena: Array, slot: Slot) -> Array:
        """Return a plain copy of one array of an arena (of this layout: parameters, gradients, moments)."""
        matrix = untile(arena, slot.offset, slot.rows, slot.columns, self.plan.tile)
        return matrix.T.copy() if len(slot.shape) == 2 else matrix.reshape(-1)

    def of_units(self, name: str, units: int | None = None) -> Array:
        """Return a plain copy of a parameter by name, or only of the rows of its first units, which is quicker."""
        slot, width = self.slots[name], self.plan.tile
        if units is None or units > width or len(slot.shape) == 1:
            return self.read(self.arena, slot)[:units]
        panel = self.arena[slot.offset : slot.offset + slot.rows * width].reshape(slot.rows, width)
        return panel[:, : min(units, slot.columns)].T.copy()

    def same_layout(self, other: Parameters) -> bool:
        """Tell whether the arenas of both hold the same things at the same places."""
        if self.slots is not other.slots and self.slots == other.slots:
            other.slots = self.slots  # so that the same question is quicker next time
        return self.slots is other.slots

    def move_towards(self, other: Parameters, tau: float) -> None:
        """``p += tau (other - p)`` for all parameters and running statistics, of one layout and dtype."""
        for mine, theirs in ((self.arena, other.arena), (self.state, other.state)):
            if tau == 1:
                mine[...] = theirs
            elif mine.size:
                step = theirs - mine
                step *= tau
                mine += step

    def get(self) -> dict[str, Array]:
        """Return plain copies of all arrays by name."""
        return self.named(self.arena, self.state)

    def named(self, arena: Array, state: Array) -> dict[str, Array]:
        """Return plain copies of all arrays of copies of the two arenas, by name."""
        return {name: self.read(state if s.is_state else arena, s) for name, s in self.slots.items()}

    def arenas(self, arrays: Mapping[str, Any]) -> tuple[Array, Array]:
        """Return two new arenas with all arrays by name: what `named` makes plain again."""
        arena, state = np.zeros_like(self.arena), np.zeros_like(self.state)
        checked = self.checked(arrays)
        for name, slot in self.slots.items():
            self._tile(checked[name], slot, state if slot.is_state else arena)
        return arena, state

    def gradients(self, arena: Array) -> dict[str, Array]:
        """Return plain copies of the gradients by parameter name."""
        return {name: self.read(arena, s) for name, s in self.slots.items() if not s.is_state}

    def checked(self, mapping: Mapping[str, Any]) -> dict[str, Array]:
        """Return the arrays of `mapping` ready to be written, or raise."""
        dtype, result = np.dtype(self.plan.dtype), {}
        for name, value in mapping.items():
            if name not in self.slots:
                raise unknown_name("parameter", name, self.slots)
            array = np.asarray(value)
            if array.dtype.kind not in "buif":
                raise TypeError(f"parameter {name!r} must hold numbers, got dtype {array.dtype}")
            if array.shape != self.slots[name].shape:
                raise ValueError(f"parameter {name!r} has shape {self.slots[name].shape}, got {array.shape}")
            with np.errstate(over="ignore"):
                converted = array.astype(dtype)
            if (np.isinf(converted) & np.isfinite(array)).any():
                raise ValueError(f"parameter {name!r} has values too large for {dtype}")
            result[name] = converted
        return result

    def write(self, arrays: Mapping[str, Array]) -> None:
        """Write arrays that `checked` returned."""
        for name, array in arrays.items():
            slot = self.slots[name]
            self._tile(array, slot, self.state if slot.is_state else self.arena)

    def fill(self, arena: Array, arrays: Mapping[str, Any]) -> None:
        """Write all arrays by parameter name into another arena of this layout: of gradients, of moments."""
        checked = self.checked(arrays)
        for name, slot in self.slots.items():
            if not slot.is_state:
                self._tile(checked[name], slot, arena)

    def _tile(self, array: Array, slot: Slot, arena: Array) -> None:
        matrix = array.T if len(slot.shape) == 2 else array[None, :]
        tile(matrix, arena, slot.offset, self.plan.tile)

    def initialise(self, layers: tuple[Layer, ...], seed: int) -> None:
        """Give every parameter its initial value, each from a stream of its own."""
        fresh = {}
        for number, (name, slot) in enumerate(self.slots.items()):
            kind = name.rpartition(".")[2]
            if kind in ("weight", "bias"):
                op = self.plan.parameter_names[name].op
                rng = stream(seed, INITIAL_WEIGHTS, number)
                fresh[name] = initializer_of(self.plan, layers, op, kind)(
                    slot.shape, rng=rng, dtype=self.plan.dtype
                )
            else:
                fresh[name] = np.full(slot.shape, float(kind in ("gamma", "running_var")), self.plan.dtype)
        self.write(fresh)


def shapes_of(plan: Plan) -> dict[str, tuple[int, ...]]:
    """Return the shape of every parameter and running statistic by name, without making any."""
    return {name: slot.shape for name, slot in _slots(plan)}


def layer_at(layers: tuple[Layer, ...], path: tuple[int, ...]) -> Layer:
    """Return the layer at a plan's path: a position in the list, then positions inside residual blocks."""
    layer = layers[path[0]]
    for position in path[1:]:
        assert isinstance(layer, Residual)
        layer = layer.layers[position]
    return layer


def tile(matrix: Array, arena: Array, offset: int, width: int) -> None:
    """Write a plain matrix into an arena in panels of `width` columns; pads become zero."""
    rows, columns = matrix.shape
    panels = -(-columns // width)
    padded = np.zeros((rows, panels * width), arena.dtype)
    padded[:, :columns] = matrix
    target = arena[offset : offset + padded.size].reshape(panels, rows, width)
    target[...] = padded.reshape(rows, panels, width).transpose(1, 0, 2)


def untile(arena: Array, offset: int, rows: int, columns: int, width: int) -> Array:
    """Return a plain (rows, columns) copy of a matrix that lies in an arena in panels of `width` columns."""
    panels = -(-columns // width)
    tiled = arena[offset : offset + rows * panels * width].reshape(panels, rows, width)
    # reshape alone may return a view
    return tiled.transpose(1, 0, 2).reshape(rows, panels * width)[:, :columns].copy()


def _slots(plan: Plan) -> Iterator[tuple[str, Slot]]:
    """Name every array in the order of the layers; running statistics follow the beta of their op."""
    for name, parameter in plan.parameter_names.items():
        matrix = parameter.kind == "weight"
        shape = (parameter.columns, parameter.rows) if matrix else (parameter.columns,)
        yield name, Slot(parameter.offset, parameter.rows if matrix else 1, parameter.columns, shape, False)
        if parameter.kind == "beta" and plan.table[parameter.op]["state"] >= 0:
            columns = parameter.columns
            padded = -(-columns // plan.tile) * plan.tile
            for number, state in enumerate(STATE):
                offset = int(plan.table[parameter.op]["state"]) + number * padded
                yield f"{name.rpartition('.')[0]}.{state}", Slot(offset, 1, columns, (columns,), True)


def initializer_of(plan: Plan, layers: tuple[Layer, ...], op: int, kind: str) -> initializers.Initializer:
    """Return what draws the weight or bias of a dense op."""
    layer = layer_at(layers, plan.layer_index[op])
    if isinstance(layer, Residual):  # its projection
        return initializers.auto_for(None)
    assert isinstance(layer, Dense)
    if kind == "bias":
        return initializers.resolve(layer.bias_init)
    if layer.init != "auto":
        return initializers.resolve(layer.init)
    following = _following_activation(plan, layers, op)
    return (
        initializers.auto_for(following.info, following.parameter)
        if following
        else initializers.auto_for(None)
    )


def _following_activation(plan: Plan, layers: tuple[Layer, ...], op: int) -> Activation | None:
    """Return the activation that a dense op's output goes through, with or without norm and dropout before it."""
    passed = {kernels.OP_KINDS[name] for name in ("batch_norm", "layer_norm", "dropout")}
    for follower in range(op + 1, len(plan.table)):
        kind = int(plan.table[follower]["kind"])
        if kind == kernels.OP_KINDS["activation"]:
            layer = layer_at(layers, plan.layer_index[follower])
            return layer if isinstance(layer, Activation) else None
        if kind not in passed:
            return None
    return None
