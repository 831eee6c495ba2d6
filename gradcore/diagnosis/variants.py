"""Variants of one network, made cheaply: one frame for each structure, and normal numbers that are drawn once."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from gradcore import activations, kernels
from gradcore.compiler import compile_layers
from gradcore.diagnosis.changes import Change, dense_layers
from gradcore.initializers import Initializer
from gradcore.layers import Layer
from gradcore.network import Network
from gradcore.parameters import Parameters, initializer_of
from gradcore.plan import ParameterSlot, Plan
from gradcore.streams import COUNTERPART, INITIAL_WEIGHTS, stream

Array = npt.NDArray[Any]

_ACTIVATION = kernels.OP_KINDS["activation"]
_SPECIAL = (kernels.ACTIVATION_CODES["identity"], kernels.ACTIVATION_CODES["softmax"])

# Initializers that only multiply standard normal numbers.
_NORMAL = ("glorot_normal", "he_normal", "lecun_normal", "moment_normal", "normal")
_ONES = ("gamma", "running_var")

# tanh with Glorot's initial weights: what the healthy counterpart has instead.
HEALTHY = Change(activation="tanh", init="glorot_normal")


class Variants:
    """Makes changed copies of a network to look at, not to train: they may share their parameters."""

    def __init__(self, net: Network) -> None:
        self.network = net
        self._auto = any(layer.init == "auto" for layer in dense_layers(net.layers))
        self._frames: dict[Change, _Frame] = {}
        self._parameters: dict[tuple[Change, str | None, str | None], Parameters] = {}

    def __getstate__(self) -> dict[str, Any]:
        # what was made is made again: its layout is that of this machine
        return self.__dict__ | {"_frames": {}, "_parameters": {}}

    @cached_property
    def fresh(self) -> bool:
        """Whether the parameters are still those that the seed drew."""
        present, drawn = self.network.parameters, self._frame(Change()).drawn(self.network.layers).arena
        # rounding: the numbers were multiplied in another precision
        return bool(np.abs(present - drawn).max() <= 1e-6 * np.abs(present).max())

    def make(self, change: Change) -> Network:
        """Return the changed network; with the present weights where the change leaves them alone."""
        if not change.rebuilds:
            return self.network
        net = self.network
        layers = change.layers(net.layers, net.input_size)
        # what the frame is: neither weights nor the kinds of activation matter to it
        structure = replace(change.structure, activation=None, init=None)
        frame = self._frame(structure)
        if change.activation and not frame.swaps:
            return self._rebuilt(change, layers)
        # "auto" weights are drawn for the activation; weights that were set or trained since stay as they are
        follow = (
            change.activation if self._auto and (change.init == "auto" or self._redrawn(change)) else None
        )
        key = structure, change.init, follow
        if key not in self._parameters:
            drawn = change.init is not None or follow is not None
            self._parameters[key] = frame.drawn(layers) if drawn else frame.moved() or frame.drawn(layers)
        plan = frame.with_activation(change.activation) if change.activation else frame.plan
        return _like(net, layers=layers, plan=plan, _parameters=self._parameters[key])

    def counterpart(self) -> Network:
        """Return the healthy counterpart: tanh and Glorot's variance, biases at zero.

        Only the variance of its weights matters, so that they are uniform and drawn in one go.
        """
        net, change = self.network, HEALTHY
        layers, frame = change.layers(net.layers, net.input_size), self._frame(Change())
        if not frame.swaps:
            return net.rebuilt(layers)
        plan = frame.with_activation(str(change.activation))
        return _like(net, layers=layers, plan=plan, _parameters=frame.uniform(layers))

    def _frame(self, structure: Change) -> _Frame:
        net = self.network
        if structure not in self._frames:
            self._frames[structure] = _Frame(net, structure.layers(net.layers, net.input_size))
        return self._frames[structure]

    def _redrawn(self, change: Change) -> bool:
        return change.init is None and change.activation is not None and self.fresh

    def _rebuilt(self, change: Change, layers: tuple[Layer, ...]) -> Network:
        other = self.network.rebuilt(layers)
        if change.structure == Change(activation=change.activation) and not self._redrawn(change):
            other.copy_from_(self.network)
        return other


class _Frame:
    """One structure: its plan, and normal numbers for its weights."""

    def __init__(self, net: Network, layers: tuple[Layer, ...]) -> None:
        self.network, self.layers = net, layers
        self.plan = (
            net.plan
            if layers == net.layers
            else compile_layers(layers, net.input_size, net.dtype, tile=net.plan.tile, input_gradient=False)
        )
        ops = np.flatnonzero(self.plan.table["kind"] == _ACTIVATION)
        # the last op is an output, not a hidden activation
        self.hidden = ops[ops < len(self.plan.table) - 1]
        plain = not np.isin(self.plan.table["code"][self.hidden], _SPECIAL).any()
        self.swaps = plain and len(self.hidden) > 0
        self._stds: dict[tuple[str, int, int], float] = {}

    def with_activation(self, name: str) -> Plan:
        """Return the plan with another hidden activation."""
        info, parameter = activations.resolve(name)
        table = self.plan.table.copy()
        table["code"][self.hidden], table["parameter"][self.hidden] = info.code, parameter
        return replace(self.plan, table=table)

    def drawn(self, layers: tuple[Layer, ...]) -> Parameters:
        """Draw initial parameters for these layers; multiples of normal numbers come from numbers drawn once."""
        parameters = Parameters(self.plan)
        slots = {name: slot for name, slot in self.plan.parameter_names.items() if slot.kind == "weight"}
        found = {name: initializer_of(self.plan, layers, slot.op, "weight") for name, slot in slots.items()}
        plain = all(layer.bias_init == "zeros" for layer in dense_layers(layers))
        if not plain or not all(_only_multiplies(initializer) for initializer in found.values()):
            parameters.initialise(layers, self.network.seed)
            return parameters
        for name, slot in slots.items():
            part = slice(slot.offset, slot.offset + _reals(slot, self.plan))
            np.multiply(self._numbers[part], self._std(found[name], slot), out=parameters.arena[part])
        parameters.write(self._ones(parameters))
        return parameters

    def uniform(self, layers: tuple[Layer, ...]) -> Parameters:
        """Draw uniform weights with the variance of these layers' normal ones."""
        parameters, tile = Parameters(self.plan), self.plan.tile
        unit = stream(self.network.seed, COUNTERPART).random(parameters.arena.size, dtype=np.float32)
        unit = (unit - np.float32(0.5)) * np.float32(np.sqrt(12))
        for slot in self.plan.parameter_names.values():
            if slot.kind == "weight":
                std = self._std(initializer_of(self.plan, layers, slot.op, "weight"), slot)
                part = parameters.arena[slot.offset : slot.offset + _reals(slot, self.plan)]
                np.multiply(unit[slot.offset : slot.offset + part.size], std, out=part)
                part.reshape(-1, slot.rows, tile)[-1, :, (slot.columns - 1) % tile + 1 :] = 0.0  # pads
        parameters.write(self._ones(parameters))
        return parameters

    def moved(self) -> Parameters | None:
        """Lay the present weights out for this structure; None where their shapes do not fit.

        What is left of the dense layers keeps its order, and the output its own weights.
        """
        net, parameters = self.network, Parameters(self.plan)
        present, wanted = _dense_slots(net.plan), _dense_slots(self.plan)
        kept = [*present[: len(wanted) - 1], present[-1]]
        if _shapes(kept) != _shapes(wanted):
            return None
        for source, target in zip(kept, wanted, strict=True):
            for kind, slot in target.items():
                size, start = _reals(slot, self.plan), source[kind].offset
                parameters.arena[slot.offset : slot.offset + size] = net.parameters[start : start + size]
        parameters.write(self._ones(parameters))
        return parameters

    @cached_property
    def _numbers(self) -> Array:
        """An arena with the normal numbers from which `Parameters.initialise` makes each weight."""
        parameters = Parameters(self.plan)
        parameters.write(
            {
                name: stream(self.network.seed, INITIAL_WEIGHTS, number).standard_normal(slot.shape)
                for number, (name, slot) in enumerate(parameters.slots.items())
                if name.endswith("weight")
            }
        )
        return parameters.arena

    def _std(self, initializer: Initializer, slot: ParameterSlot) -> float:
        key = str(initializer), slot.rows, slot.columns
        if key not in self._stds:
            self._stds[key] = float(
                initializer((slot.columns, slot.rows), rng=_Ones(), dtype="float64")[0, 0]
            )
        return self._stds[key]

    def _ones(self, parameters: Parameters) -> dict[str, Array]:
        return {
            n: np.ones(s.shape, self.plan.dtype) for n, s in parameters.slots.items() if n.endswith(_ONES)
        }


class _Ones(np.random.Generator):
    """A generator whose normal numbers are all one: what is made from them is the standard deviation."""

    def __init__(self) -> None:
        super().__init__(np.random.Philox(0))

    def standard_normal(self, size: Any = None, *_: Any, **__: Any) -> Any:
        return np.ones(() if size is None else size)


def _only_multiplies(initializer: Initializer) -> bool:
    spec = initializer.spec
    return spec.name in _NORMAL and not (
        spec.name == "normal" and (len(spec.args) > 1 or "mean" in spec.kwargs)
    )


def _reals(slot: ParameterSlot, plan: Plan) -> int:
    return -(-slot.columns // plan.tile) * plan.tile * slot.rows


def _dense_slots(plan: Plan) -> list[dict[str, ParameterSlot]]:
    """Return weight and bias of every dense op, in order."""
    found: dict[int, dict[str, ParameterSlot]] = {}
    for slot in plan.parameter_names.values():
        if slot.kind in ("weight", "bias"):
            found.setdefault(slot.op, {})[slot.kind] = slot
    return [found[op] for op in sorted(found)]


def _shapes(slots: list[dict[str, ParameterSlot]]) -> list[dict[str, tuple[int, int]]]:
    return [{kind: (slot.rows, slot.columns) for kind, slot in layer.items()} for layer in slots]


def _like(net: Network, **others: object) -> Network:
    """Return a network that shares everything but `others`; copy.copy would go through the pickled form."""
    result = object.__new__(type(net))
    result.__dict__.update(net.__dict__, **others)
    return result
