"""The first non-finite value of a step that was not applied: which op, which pass, which element, from what."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gradcore import kernels
from gradcore.parameters import untile
from gradcore.plan import Plan

Array = NDArray[Any]


@dataclass(frozen=True)
class NonFinite:
    """Where a step first turned NaN or infinite. The step was not applied.

    Attributes
    ----------
    step, epoch : int
        Step of the training from 1 (skipped ones count), epoch from 0.
    pass_ : "forward", "loss" or "backward"
    op : int or None
        Index in the plan; None for the input, the loss and where a replay found nothing.
    name : str
        Of the op, or ``"input"``, ``"loss"``.
    what : str
        ``"output"``, ``"weight gradient"``, ``"dL/d(input)"`` …
    element : tuple of int or None
        Row of X and column; of a weight gradient: unit and input.
    value : float
    operands : dict
        What the value was made of: arrays and numbers by name.
    """

    step: int
    epoch: int
    pass_: Literal["forward", "loss", "backward"]
    op: int | None
    name: str
    what: str
    element: tuple[int, ...] | None = None
    value: float = math.nan
    operands: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        where = f"step {self.step} (epoch {self.epoch}): {self.pass_} pass, {self.what} of {self.name}"
        if self.element is not None:
            axes = ("unit", "input") if self.what == "weight gradient" else ("row", "column")
            at = ", ".join(f"{axis} {index}" for axis, index in zip(axes, self.element, strict=False))
            where += f" is {self.value} at {at}"
        shown = [f"{name} {_magnitude(value)}" for name, value in self.operands.items()]
        return where + (f", from {', '.join(shown)}" if shown else "")


def locate_nonfinite(
    executor: Any,
    plan: Plan,
    rows: NDArray[np.int64],
    *,
    mode: int,
    seed: int,
    step: int,
    parameters: Array,
    report_as: tuple[int, int] | None = None,
) -> NonFinite:
    """Replay a batch on the executor's bound data, without update, and find where it turns non-finite.

    Parameters
    ----------
    executor : Executor
    plan : Plan
    rows : ndarray of int64
        The batch.
    mode : int
        Of the step, without update.
    seed, step : int
        Of the step: dropout repeats itself.
    parameters : ndarray
        The arena.
    report_as : (step, epoch), optional
        What the result calls the step.
    """
    replay = _Replay(executor, plan, rows, mode, seed, step, parameters, report_as or (step, 0))
    executor.observe(rows, mode=mode | kernels.MODES["full"], seed=seed, step=step)
    return replay.forward() or replay.backward()


@dataclass
class _Replay:
    executor: Any
    plan: Plan
    rows: NDArray[np.int64]
    mode: int
    seed: int
    step: int
    parameters: Array
    named: tuple[int, int]

    def forward(self) -> NonFinite | None:
        outputs = self.executor.records["output"]
        if _bad(outputs[-1]):
            matrix = self._matrix(self.executor.activations, 0, self.plan.columns_in)
            return self._found("forward", None, "input", "value", *self._element(matrix))
        for op in range(len(self.plan.table)):
            if _bad(outputs[op]):
                return self._forward_op(op)
        return None

    def backward(self) -> NonFinite:
        # records are read before anything is run again
        records, table = self.executor.records.copy(), self.plan.table
        last = len(table) - 1
        if _bad(records["d_output"][last]):
            matrix = self._matrix(self.executor.deltas, int(table[last]["d_output"]), self.plan.columns_out)
            return self._found("loss", None, "loss", "gradient", *self._element(matrix))
        for op in range(last, -1, -1):
            record = records[op]
            operands = {"d_output": float(record["d_output"]["max_abs"])}
            if int(table[op]["weight"]) >= 0:
                operands["weight norm"] = float(record["weight"])
            if _bad(record["weight_gradient"]) or math.isinf(record["bias_gradient"]):
                element, value = self._gradient_element(op)
                return self._found(
                    "backward", op, self.plan.names[op], "weight gradient", element, value, operands
                )
            before_is_bad = op > 0 and _bad(records["d_output"][op - 1])
            if _bad(record["d_input"]) or before_is_bad:
                slot, columns = int(table[op]["d_input"]), int(table[op]["columns_in"])
                element, value = self._element(self._matrix(self.executor.deltas, slot, columns))
                return self._found(
                    "backward", op, self.plan.names[op], "dL/d(input)", element, value, operands
                )
        return self._found("backward", None, "the network", "gradient norm", None, math.nan)

    def _forward_op(self, op: int) -> NonFinite:
        row = self.plan.table[op]
        kind = int(row["kind"])
        if op:
            # before an op that works in place its operands are read
            self._run(op - 1)
        source = self._matrix(self.executor.activations, int(row["input"]), int(row["columns_in"]))
        self._run(op)
        output = self._matrix(self.executor.activations, int(row["output"]), int(row["columns_out"]))
        element, value = self._element(output)
        operands: dict[str, Any] = {}
        if element is not None:
            at, column = int(np.flatnonzero(self.rows == element[0])[0]), element[1]
            if kind == kernels.OP_KINDS["dense"]:
                inputs = int(row["columns_in"])
                weight = untile(
                    self.parameters, int(row["weight"]), inputs, int(row["columns_out"]), self.plan.tile
                )
                operands = {"input": source[at], "weight": weight[:, column]}
                if int(row["bias"]) >= 0:
                    operands["bias"] = float(self.parameters[int(row["bias"]) + column])
            elif kind == kernels.OP_KINDS["batch_norm"]:
                operands = {"column": source[:, column]}
            else:
                operands = {"input": float(source[at, column])}
        return self._found("forward", op, self.plan.names[op], "output", element, value, operands)

    def _run(self, stop: int) -> None:
        self.executor.observe(
            self.rows, mode=self.mode, seed=self.seed, step=self.step, stop=stop, backward=False
        )

    def _matrix(self, arena: Array, slot: int, columns: int) -> Array:
        capacity = self.executor.capacity
        return untile(arena, slot * capacity, capacity, columns, self.plan.tile)[: len(self.rows)]

    def _element(self, matrix: Array) -> tuple[tuple[int, int] | None, float]:
        wrong = np.argwhere(~np.isfinite(matrix))
        if not len(wrong):
            # a shared buffer, overwritten since
            return None, math.nan
        row, column = (int(i) for i in wrong[0])
        return (int(self.rows[row]), column), float(matrix[row, column])

    def _gradient_element(self, op: int) -> tuple[tuple[int, ...] | None, float]:
        row = self.plan.table[op]
        inputs = int(row["columns_in"]) if int(row["kind"]) == kernels.OP_KINDS["dense"] else 1
        units, offset = int(row["columns_out"]), int(row["weight"])
        gradient = untile(self.executor.gradients, offset, inputs, units, self.plan.tile).T
        wrong = np.argwhere(~np.isfinite(gradient))
        if not len(wrong):
            return None, math.nan
        unit, column = (int(i) for i in wrong[0])
        return (unit, column), float(gradient[unit, column])

    def _found(
        self,
        pass_: Literal["forward", "loss", "backward"],
        op: int | None,
        name: str,
        what: str,
        element: tuple[int, ...] | None,
        value: float,
        operands: Mapping[str, Any] | None = None,
    ) -> NonFinite:
        return NonFinite(*self.named, pass_, op, name, what, element, value, operands or {})


def _bad(fold: Any) -> bool:
    return bool(fold["nans"] > 0 or fold["infs"] > 0)


def _magnitude(value: Any) -> str:
    if np.ndim(value) == 0:
        return f"{value:.3g}"
    return f"of magnitude up to {np.abs(value).max():.3g}"
