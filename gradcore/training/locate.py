"""Finds the first non-finite value of a step that was not applied, by replaying its batch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gradcore import kernels
from gradcore.clipping import clip_grad_adaptive_
from gradcore.health.ledger import Ledger
from gradcore.losses import Loss
from gradcore.optimizers import REGISTRY as OPTIMIZERS
from gradcore.parameters import STATE, tile, untile
from gradcore.plan import ParameterSlot
from gradcore.training.faults import NonFinite, Pass

if TYPE_CHECKING:
    from gradcore.network import Network

Array = NDArray[Any]
Element = tuple[int, ...]

_DENSE, _ACTIVATION, _BATCH_NORM, _LAYER_NORM, _DROPOUT, _FORK, _JOIN = (
    kernels.OP_KINDS[name]
    for name in ("dense", "activation", "batch_norm", "layer_norm", "dropout", "fork", "join")
)
_SOFTMAX = kernels.ACTIVATION_CODES["softmax"]


def locate_nonfinite(
    executor: Any,
    net: Network,
    rows: NDArray[np.int64],
    *,
    mode: int,
    seed: int,
    step: int,
    loss: Loss | None = None,
    targets: Array | None = None,
    weights: Array | None = None,
    hyper: Mapping[str, float] | None = None,
    report_as: tuple[int, int] | None = None,
    ledgers: Sequence[Ledger] = (),
) -> NonFinite:
    """Replay a batch on the executor's bound data, without update, and find where it turns non-finite.

    Parameters
    ----------
    executor : Executor
        Of `net`, as it was after the step.
    net : Network
    rows : ndarray of int64
        The batch.
    mode : int
        Of the step, without update.
    seed, step : int
        Of the step: dropout and Adam's corrections repeat themselves.
    loss : Loss, optional
    targets : ndarray, optional
        Of all bound rows; None: dL/d(output) was handed in.
    weights : ndarray, optional
        Of all bound rows.
    hyper : mapping, optional
        Of the optimizer; None: the update is not looked at.
    report_as : (step, epoch), optional
        What the result calls the step.
    ledgers : sequence of Ledger
        Those of the last probed steps.
    """
    mode &= ~(kernels.MODES["light"] | kernels.MODES["full"] | kernels.MODES["update"])
    replay = _Replay(executor, net, rows, mode, seed, step)
    value = executor.observe(rows, mode=mode | kernels.MODES["full"], seed=seed, step=step)
    replay.records = executor.records.copy()
    found = replay.forward() or replay.loss(loss, targets, weights, value) or replay.backward()
    if found is None and hyper is not None:
        found = replay.update(hyper)
    if found is None:
        norm = kernels.safe_norm(executor.gradients)
        found = _Found("backward", None, "gradient", "norm", value=norm)
    number, epoch = report_as or (step, 0)
    ledger = Ledger(net.plan, replay.records, value, level="full", rows=len(rows), step=number)
    return NonFinite(
        number, epoch, found.pass_, found.op, found.name, found.what, found.element, found.value, found.operands,
        good_step=step - 1, ledger=ledger, ledgers=ledgers,
    )  # fmt: skip


@dataclass(frozen=True)
class _Found:
    pass_: Pass
    op: int | None
    name: str
    what: str
    element: Element | None = None
    value: float = math.nan
    operands: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class _Replay:
    executor: Any
    net: Network
    rows: NDArray[np.int64]
    mode: int
    seed: int
    step: int
    records: Any = None

    def __post_init__(self) -> None:
        self.plan = self.net.plan
        self.table = self.plan.table

    # -- the passes, in the order of the calculation

    def forward(self) -> _Found | None:
        """Look at the input, then op by op at the parameters and the output."""
        outputs = self.records["output"]
        if _bad(outputs[-1]):
            row, column, value = _first(self._activation(0, self.plan.columns_in))
            return _Found("forward", None, "input", "value", self._row_of_data(row, column), value)
        for op in range(len(self.table)):
            if _bad(outputs[op]):
                return self._parameter(op) or self._forward_op(op)
        return None

    def loss(
        self, loss: Loss | None, targets: Array | None, weights: Array | None, value: float
    ) -> _Found | None:
        """Look at the targets, the loss of every row, their sum, and the gradient."""
        gradient_is_bad = _bad(self.records["d_output"][len(self.table) - 1])
        if targets is None or loss is None:
            if not gradient_is_bad:
                return None
            row, column, number = _first(self._loss_gradient())
            at = self._row_of_data(row, column)
            return _Found("loss", None, "output_grad", "value", at, number)
        if math.isfinite(value) and not gradient_is_bad:
            return None
        batch = targets[self.rows]
        if batch.dtype.kind == "f" and not np.isfinite(batch).all():
            row, column, number = _first(batch.reshape(len(batch), -1))
            return _Found("loss", None, "target", "value", self._row_of_data(row, column), number)
        self._run()
        outputs = np.ascontiguousarray(self._activation(int(self.table[-1]["output"]), self.plan.columns_out))
        losses = loss.rows(outputs, batch, None if weights is None else weights[self.rows])
        for row in map(int, np.flatnonzero(~np.isfinite(losses))):
            operands = {"output": outputs[row], "target": batch[row]}
            at = (int(self.rows[row]),)
            return _Found("loss", None, "loss", "value", at, float(losses[row]), operands)
        if not math.isfinite(value):
            return _Found("loss", None, "loss", "sum over the rows", None, value, {"losses": losses})
        row, column, number = _first(self._loss_gradient())
        target = batch[row] if batch.ndim == 1 else batch[row, column % batch.shape[1]]
        operands = {"output": outputs[row, column], "target": target}
        return _Found("loss", None, "loss", "gradient", self._row_of_data(row, column), number, operands)

    def backward(self) -> _Found | None:
        """Look from the last op to the first at the gradients of the parameters and at dL/d(input)."""
        # (running deltas again leaves the gradients of weights and biases as they are)
        for op in range(len(self.table) - 1, -1, -1):
            found = self._gradient(op)
            if found is not None:
                return found
            if _bad(self.records["d_input"][op]):
                return self._backward_op(op)
        return None

    def update(self, hyper: Mapping[str, float]) -> _Found | None:
        """Make the update on copies and look at moments, weights and running statistics."""
        net, executor = self.net, self.executor
        moments = _slot_names(hyper, len(executor.slots))
        with np.errstate(all="ignore"):
            old = {"parameter": net.parameters, **dict(zip(moments, executor.slots, strict=False))}
            new = {name: arena.copy() for name, arena in old.items()}
            gradients = self._clipped(hyper)
            scale = _scale(gradients, hyper)
            for place in self.plan.parameter_names.values():
                self._step(place, new, gradients, hyper, scale)
        for name, slot in net._parameters.slots.items():
            if slot.is_state:
                continue
            op = self.plan.parameter_names[name].op
            for part in (*moments, "parameter"):
                array = net._parameters.read(new[part], slot)
                if not np.isfinite(array).all():
                    at, value = _first_of(array)
                    operands = {p: float(net._parameters.read(a, slot)[at]) for p, a in old.items()}
                    operands["gradient"] = float(net._parameters.read(executor.gradients, slot)[at])
                    if gradients is not executor.gradients:
                        operands["clipped"] = float(net._parameters.read(gradients, slot)[at])
                    if scale != 1.0:
                        operands["scale"] = scale
                    what = name if part == "parameter" else f"{part} of {name}"
                    return self._of_op("update", op, what, at, value, operands)
        return self._running_statistics()

    def _step(
        self, place: ParameterSlot, arenas: Mapping[str, Array], gradients: Array, hyper: Mapping[str, float],
        scale: float,
    ) -> None:  # fmt: skip
        """Make the step of one parameter on plain arenas, in place."""
        kind = {"bias": "bias", "gamma": "norm", "beta": "norm"}.get(place.kind)
        if kind and kernels.EXEMPT[kind] & int(hyper.get("exempt", 0)):
            hyper = {**hyper, "weight_decay": 0.0, "l1": 0.0}
        size = place.rows * -(-place.columns // self.plan.tile) * self.plan.tile
        part = slice(place.offset, place.offset + size)
        parameters, *slots = (arena[part] for arena in arenas.values())
        kernels.optimizer_step(parameters, gradients[part], slots, hyper, scale, self.step)

    def _clipped(self, hyper: Mapping[str, float]) -> Array:
        """Gradients after adaptive clipping, which leaves the output layer alone."""
        gradients: Array = self.executor.gradients
        factor = hyper.get("clip_adaptive", math.inf)
        if factor == math.inf:
            return gradients
        output = int(np.flatnonzero(self.table["kind"] == _DENSE)[-1])
        slots = [
            slot
            for name, slot in self.net._parameters.slots.items()
            if not slot.is_state and self.plan.parameter_names[name].op != output
        ]
        clipped, read = gradients.copy(), self.net._parameters.read
        for slot in slots:
            plain = read(gradients, slot)
            clip_grad_adaptive_(plain, read(self.net.parameters, slot), factor)
            tile(np.atleast_2d(plain.T), clipped, slot.offset, self.plan.tile)
        return clipped

    # -- one op

    def _forward_op(self, op: int) -> _Found:
        row, kind = self.table[op], int(self.table[op]["kind"])
        if op:
            # before an op that works in place its operands are read
            self._run(stop=op - 1)
        source = self._activation(int(row["input"]), int(row["columns_in"]))
        if kind == _JOIN:  # (read here: its other operand may be any earlier slot)
            projection = self.plan.skip(int(row["partner"]))
            slot = (
                self.table[int(row["partner"])]["input"]
                if projection is None
                else self.table[projection]["output"]
            )
            skip = self._activation(int(slot), int(row["columns_in"]))
        self._run(stop=op)
        at, column, value = _first(self._activation(int(row["output"]), int(row["columns_out"])))
        operands: dict[str, Any]
        if kind == _DENSE:
            operands = {"input": source[at], "weight": self._weight(op)[column]}
            if int(row["bias"]) >= 0:
                operands["bias"] = float(self._vector(op, "bias")[column])
        elif kind == _BATCH_NORM:
            operands = {"column": source[:, column], "gamma": float(self._vector(op, "weight")[column])}
            operands["beta"] = float(self._vector(op, "bias")[column])
        elif kind == _LAYER_NORM:
            operands = {"row": source[at], "gamma": float(self._vector(op, "weight")[column])}
            operands["beta"] = float(self._vector(op, "bias")[column])
        elif kind == _JOIN:
            operands = {"skip": float(skip[at, column]), "branch": float(source[at, column])}
            operands["scale"] = float(row["parameter"])
        elif kind == _ACTIVATION and int(row["code"]) == _SOFTMAX:
            operands = {"input": source[at]}
        else:
            operands = {"input": float(source[at, column])}
            if kind == _DROPOUT:
                operands["factor"] = float(
                    self._delta(int(row["d_input"]), int(row["columns_in"]))[at, column]
                )
        return self._of_op("forward", op, "output", self._row_of_data(at, column), value, operands)

    def _backward_op(self, op: int) -> _Found:
        row, kind = self.table[op], int(self.table[op]["kind"])
        columns_in, columns_out = int(row["columns_in"]), int(row["columns_out"])
        # the other half of what is multiplied: activation and dropout leave it where dL/d(input) goes
        self._run(stop=op)
        slope = self._delta(int(row["d_input"]), columns_in)
        self._run(until=op + 1)
        d_output = self._delta(int(row["d_output"]), columns_out)
        self._run(until=op)
        at, column, value = _first(self._delta(int(row["d_input"]), columns_in))
        operands: dict[str, Any]
        if kind == _DENSE:
            operands = {"d_output": d_output[at], "weight": self._weight(op)[:, column]}
        elif kind == _BATCH_NORM:
            operands = {"d_output": d_output[:, column], "column": self._input(op)[:, column]}
            operands["gamma"] = float(self._vector(op, "weight")[column])
        elif kind == _LAYER_NORM:
            operands = {
                "d_output": d_output[at],
                "row": self._input(op)[at],
                "gamma": self._vector(op, "weight"),
            }
        elif kind == _JOIN:
            operands = {"d_output": float(d_output[at, column]), "scale": float(row["parameter"])}
        elif kind == _FORK:
            projection = self.plan.skip(op)
            slot = (
                self.table[int(row["partner"])]["d_output"]
                if projection is None
                else self.table[projection]["d_input"]
            )
            skip = self._delta(int(slot), columns_out)
            operands = {"skip": float(skip[at, column]), "branch": float(d_output[at, column])}
        elif kind == _ACTIVATION and int(row["code"]) == _SOFTMAX:
            outputs = self._activation(int(row["output"]), columns_out)
            operands = {"d_output": d_output[at], "output": outputs[at]}
        else:
            name = "factor" if kind == _DROPOUT else "slope"
            operands = {"d_output": float(d_output[at, column]), name: float(slope[at, column])}
        return self._of_op("backward", op, "dL/d(input)", self._row_of_data(at, column), value, operands)

    def _gradient(self, op: int) -> _Found | None:
        dense = int(self.table[op]["kind"]) == _DENSE
        for kind, part in (("weight" if dense else "gamma", "weight"), ("bias" if dense else "beta", "bias")):
            if int(self.table[op][part]) < 0:
                continue
            arena = self.executor.gradients
            gradient = self._weight(op, arena) if kind == "weight" else self._vector(op, part, arena)
            if np.isfinite(gradient).all():
                continue
            at, value = _first_of(gradient)
            self._run(until=op)
            d_output = self._delta(int(self.table[op]["d_output"]), int(self.table[op]["columns_out"]))
            operands = {"d_output": d_output[:, at[0]]}
            if part == "weight":
                # x̂ of a layer norm is made of whole rows
                whole = int(self.table[op]["kind"]) == _LAYER_NORM
                operands["input"] = self._input(op) if whole else self._input(op)[:, at[-1]]
            return self._of_op("backward", op, f"{kind} gradient", at, value, operands)
        return None

    def _parameter(self, op: int) -> _Found | None:
        for name, place in self.plan.parameter_names.items():
            if place.op == op:
                array = self.net._parameters.read(self.net.parameters, self.net._parameters.slots[name])
                if not np.isfinite(array).all():
                    at, value = _first_of(array)
                    return _Found("forward", op, "parameter", name, at, value)
        return None

    def _running_statistics(self) -> _Found | None:
        parameters = self.net._parameters
        self._run()
        for op in map(int, np.flatnonzero(self.table["kind"] == _BATCH_NORM)):
            prefix = ".".join(map(str, self.plan.layer_index[op]))
            names = [f"{prefix}.{name}" for name in STATE]
            old = [parameters.read(parameters.state, parameters.slots[name]) for name in names]
            new = [array.copy() for array in old]
            column = self._input(op)
            mean, variance, *_ = kernels.batch_norm_statistics(column, float(self.table[op]["eps"]))
            momentum = float(self.table[op]["momentum"])
            kernels.update_running(new[0], new[1], mean, variance, len(column), momentum)
            for name, before, after in zip(names, old, new, strict=True):
                if not np.isfinite(after).all():
                    at, value = _first_of(after)
                    operands = {"running": float(before[at]), "column": column[:, at[0]]}
                    return self._of_op("update", op, name, at, value, operands)
        return None

    # -- reading

    def _of_op(
        self, pass_: Pass, op: int, what: str, element: Element, value: float, operands: Mapping[str, Any]
    ) -> _Found:
        return _Found(pass_, op, self.plan.names[op], what, element, value, operands)

    def _run(self, *, stop: int = -1, until: int | None = None) -> None:
        """Run the batch again: forward up to an op; all of it and back to an op; all of it forward."""
        last = len(self.table) - 1
        self.executor.observe(
            self.rows, mode=self.mode, seed=self.seed, step=self.step, stop=stop, backward=until is not None,
            until=min(until or 0, last),
        )  # fmt: skip

    def _input(self, op: int) -> Array:
        return self._activation(int(self.table[op]["input"]), int(self.table[op]["columns_in"]))

    def _activation(self, slot: int, columns: int) -> Array:
        return self._matrix(self.executor.activations, slot, columns)

    def _delta(self, slot: int, columns: int) -> Array:
        return self._matrix(self.executor.deltas, slot, columns)

    def _loss_gradient(self) -> Array:
        self._run(until=len(self.table) - 1)
        return self._delta(int(self.table[-1]["d_output"]), self.plan.columns_out)

    def _matrix(self, arena: Array, slot: int, columns: int) -> Array:
        capacity = self.executor.capacity
        return untile(arena, slot * capacity, capacity, columns, self.plan.tile)[: len(self.rows)]

    def _weight(self, op: int, arena: Array | None = None) -> Array:
        row = self.table[op]
        arena = self.net.parameters if arena is None else arena
        columns = int(row["columns_in"]), int(row["columns_out"])
        return untile(arena, int(row["weight"]), *columns, self.plan.tile).T

    def _vector(self, op: int, part: str, arena: Array | None = None) -> Array:
        arena = self.net.parameters if arena is None else arena
        offset = int(self.table[op][part])
        return arena[offset : offset + int(self.table[op]["columns_out"])]

    def _row_of_data(self, row: int, column: int) -> Element:
        return int(self.rows[row]), column


def _bad(fold: Any) -> bool:
    return bool(fold["nans"] > 0 or fold["infs"] > 0)


def _first_of(array: Array) -> tuple[Element, float]:
    """Index, in the order of the rows, and value of the first element that is not finite."""
    at = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
    return at, float(array[at])


def _first(matrix: Array) -> tuple[int, int, float]:
    (row, column), value = _first_of(matrix)
    return row, column, value


def _slot_names(hyper: Mapping[str, float], count: int) -> tuple[str, ...]:
    """Name the optimizer's slots, in the order it writes them."""
    codes = {kernels.OPTIMIZER_CODES[name]: optimizer for name, optimizer in OPTIMIZERS.items()}
    return codes[int(hyper["optimizer"])].slots[:count]


def _scale(gradients: Array, hyper: Mapping[str, float]) -> float:
    """Return the factor that clipping by norm puts on the gradient."""
    norm = kernels.safe_norm(gradients)
    return hyper["clip_norm"] / norm if norm > hyper["clip_norm"] else 1.0
