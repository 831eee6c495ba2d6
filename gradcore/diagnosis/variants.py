"""Variants of one network, made cheaply: those that differ in activations only share arenas and everything else."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from gradcore import activations, initializers, kernels
from gradcore.compiler import compile_layers
from gradcore.diagnosis.changes import Change, dense_layers
from gradcore.layers import Layer
from gradcore.network import Network
from gradcore.parameters import Parameters
from gradcore.plan import ParameterSlot, Plan
from gradcore.streams import INITIAL_WEIGHTS, stream

Array = npt.NDArray[Any]

_ACTIVATION = kernels.OP_KINDS["activation"]
_SPECIAL = (kernels.ACTIVATION_CODES["identity"], kernels.ACTIVATION_CODES["softmax"])


# Initializers that only multiply standard normal numbers.
_NORMAL = ("glorot_normal", "he_normal", "lecun_normal")
_ONES = ("gamma", "running_var")


class _Replay(np.random.Generator):
    """A generator whose normal numbers are given."""

    numbers: Array

    def __init__(self) -> None:
        super().__init__(np.random.Philox(0))

    def standard_normal(self, *_: Any, **__: Any) -> Any:
        return self.numbers


class Variants:
    """Makes changed copies of a network to look at, not to train: they may share their parameters."""

    def __init__(self, net: Network) -> None:
        self.network = net
        self._by_init: dict[str | None, Network] = {None: net}
        table = net.plan.table
        ops = np.flatnonzero(table["kind"] == _ACTIVATION)
        # the last op is an output, not a hidden activation
        self._hidden = ops[ops < len(table) - 1]
        plain = not np.isin(table["code"][self._hidden], _SPECIAL).any()
        self._swaps = plain and len(self._hidden) > 0
        self._auto = any(layer.init == "auto" for layer in dense_layers(net.layers))

    @cached_property
    def fresh(self) -> bool:
        """Whether the parameters are still those that the seed drew."""
        inits = {layer.init for layer in dense_layers(self.network.layers)}
        init = inits.pop() if len(inits) == 1 else "auto"
        drawn = self._drawn(init if isinstance(init, str) else "auto", self.network.layers)
        return bool(np.array_equal(drawn.arena, self.network.parameters))

    def make(self, change: Change) -> Network:
        """Return the changed network; with the present weights where the change leaves them alone."""
        if not change.rebuilds:
            return self.network
        moved = (
            change.norm or change.residual or change.linear_output or change.depth != 1 or change.width != 1
        )
        # "auto" weights are drawn for the activation; weights that were set or trained since stay as they are
        weights_follow = self._auto and (change.init == "auto" or (change.init is None and self.fresh))
        if moved and change == replace(change, activation=None, init=None, width=1):
            return self._moved(change)
        if moved or not self._swaps or (change.activation and weights_follow):
            other = self._rebuilt(change)
            if not moved and change.init is None and not weights_follow:
                other.copy_from_(self.network)
            return other
        if change.init not in self._by_init:
            self._by_init[change.init] = self._with_weights(change)
        other = self._by_init[change.init]
        return self._with_activation(other, change.activation) if change.activation else other

    def _rebuilt(self, change: Change) -> Network:
        return self.network.rebuilt(change.layers(self.network.layers, self.network.input_size))

    def _moved(self, change: Change) -> Network:
        """Recompile around the present weights: what is left of the dense layers keeps its order."""
        net = self.network
        layers = change.layers(net.layers, net.input_size)
        plan = compile_layers(layers, net.input_size, net.dtype, tile=net.plan.tile, input_gradient=False)
        parameters = Parameters(plan)
        present, moved = _dense_slots(net.plan), _dense_slots(plan)
        # the first layers, and the output with its own weights
        kept = [*present[: len(moved) - 1], present[-1]]
        if _shapes(kept) != _shapes(moved):
            return self._rebuilt(change)
        for source, target in zip(kept, moved, strict=True):
            for kind, slot in target.items():
                size = -(-slot.columns // plan.tile) * plan.tile * slot.rows
                parameters.arena[slot.offset : slot.offset + size] = net.parameters[
                    source[kind].offset : source[kind].offset + size
                ]
        parameters.write(
            {n: np.ones(s.shape, plan.dtype) for n, s in parameters.slots.items() if n.endswith(_ONES)}
        )
        return _like(net, layers=layers, plan=plan, _parameters=parameters)

    def _with_weights(self, change: Change) -> Network:
        layers = Change(init=change.init).layers(self.network.layers, self.network.input_size)
        return _like(self.network, _parameters=self._drawn(change.init or "auto", layers))

    def _drawn(self, init: str, layers: tuple[Layer, ...]) -> Parameters:
        """Draw initial parameters; what is a multiple of normal numbers comes from numbers drawn once."""
        parameters = Parameters(self.network.plan)
        plain = all(layer.bias_init == "zeros" for layer in dense_layers(layers))
        if not plain or not (init.startswith("normal") or init in _NORMAL):
            parameters.initialise(layers, self.network.seed)
            return parameters
        initializer, replay = initializers.resolve(init), _Replay()
        arrays = {}
        for name, slot in parameters.slots.items():
            if name.endswith("weight"):
                replay.numbers = self._numbers[name]
                arrays[name] = initializer(slot.shape, rng=replay, dtype=self.network.dtype)
            elif name.endswith(_ONES):
                arrays[name] = np.ones(slot.shape, self.network.dtype)
        parameters.write(arrays)
        return parameters

    @cached_property
    def _numbers(self) -> dict[str, Array]:
        """The normal numbers from which `Parameters.initialise` makes each weight."""
        slots = self.network._parameters.slots
        return {
            name: stream(self.network.seed, INITIAL_WEIGHTS, number).standard_normal(slot.shape)
            for number, (name, slot) in enumerate(slots.items())
            if name.endswith("weight")
        }

    def _with_activation(self, net: Network, name: str) -> Network:
        info, parameter = activations.resolve(name)
        table = net.plan.table.copy()
        table["code"][self._hidden], table["parameter"][self._hidden] = info.code, parameter
        return _like(net, plan=replace(net.plan, table=table))


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
