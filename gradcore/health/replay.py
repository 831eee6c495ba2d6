"""One batch run again so that nothing is overwritten: every array that an op read or wrote can be looked at.

A plan saves room: activations work in place, and deltas that nobody reads twice share a slot. For a close look at some
ops the same batch runs through the same kernels with the same parameters, with a slot for every array.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gradcore import kernels
from gradcore.compiler import SAVED_COLUMNS

if TYPE_CHECKING:
    from gradcore.plan import Plan

Array = npt.NDArray[Any]

_FORK, _LAYER_NORM = kernels.OP_KINDS["fork"], kernels.OP_KINDS["layer_norm"]


def unshared(plan: Plan) -> Plan:
    """Return the plan with a slot for every output and every delta; the numbers it computes are the same.

    Only the two deltas of a fork stay one, because the skip's is added to the branch's in place.

    Examples
    --------
    >>> from gradcore import mlp
    >>> plan = unshared(mlp([3, 4, 4, 2], seed=0).plan)
    >>> len(set(plan.table["output"].tolist()))
    5
    """
    table = plan.table.copy()

    def padded(columns: int) -> int:
        return -(-columns // plan.tile) * plan.tile

    slot, end = 0, padded(plan.columns_in)
    for op, projects in zip(table, plan.projections, strict=True):
        op["input"] = op["d_input"] = slot
        if projects:
            op["d_input"], op["output"] = end, end + padded(int(op["columns_in"]))
            end = int(op["output"]) + padded(int(op["columns_out"]))
            continue
        if op["kind"] != _FORK:
            slot, end = end, end + padded(int(op["columns_out"]))
        op["output"] = op["d_output"] = slot
        if op["kind"] == _LAYER_NORM:
            op["saved"], end = end, end + padded(SAVED_COLUMNS)
    for op in np.flatnonzero(plan.projections):
        table["d_output"][op] = table["d_output"][table["partner"][table["partner"][op]]]
    table["fused"] = 0
    table.flags.writeable = False
    return replace(plan, table=table, activation_columns=end, delta_columns=end)


class Replay:
    """The arrays of one batch, forward and backward.

    Parameters
    ----------
    executor : Executor
        Of the `unshared` plan, with the data bound.
    plan : Plan
        The unshared plan.
    parameters : ndarray
        The arena of the network's parameters.
    rows : ndarray of int64
        The batch.
    mode, seed, step : int
        Of the run that is repeated.
    """

    def __init__(
        self,
        executor: Any,
        plan: Plan,
        parameters: Array,
        rows: npt.NDArray[np.int64],
        *,
        mode: int,
        seed: int,
        step: int = 1,
    ) -> None:
        self.plan, self.parameters, self.rows = plan, parameters, len(rows)
        self._executor, self._batch = executor, rows
        # with books, because only then is no delta passed on in registers
        self._run = {"mode": mode | kernels.MODES["light"], "seed": seed, "step": step}
        # between the passes the slopes of activations and dropout lie where backward puts dL/d(input)
        executor.observe(rows, **self._run, backward=False)
        self._slopes = executor.deltas.copy()
        executor.observe(rows, **self._run)

    def input(self, op: int) -> Array:
        """Return what an op read, (rows, columns)."""
        return self._matrix(self._executor.activations, op, "input", "columns_in")

    def output(self, op: int) -> Array:
        """Return what an op wrote."""
        return self._matrix(self._executor.activations, op, "output", "columns_out")

    def slope(self, op: int) -> Array:
        """Return the derivative that an activation or dropout op kept for its backward pass."""
        return self._matrix(self._slopes, op, "d_input", "columns_in")

    def d_output(self, op: int) -> Array:
        """Return dL/d(output); of an op in front of a block that is the sum of skip and branch."""
        return self._matrix(self._executor.deltas, op, "d_output", "columns_out")

    def d_input(self, op: int) -> Array:
        """Return dL/d(input); of the first op of a branch without the skip's share."""
        source = int(self.plan.before[op])
        if source < 0 or self.plan.table["kind"][source] != _FORK or self.plan.projections[op]:
            return self._matrix(self._executor.deltas, op, "d_input", "columns_in")
        # the fork adds the skip's delta in place: once more, up to here
        self._executor.observe(self._batch, **self._run, until=op)
        before = self._matrix(self._executor.deltas, op, "d_input", "columns_in")
        self._executor.observe(self._batch, **self._run)
        return before

    def weight(self, op: int) -> Array:
        """Return the weights, (inputs, units), of a dense op; of a norm gamma, (1, columns)."""
        return self._parameter(self.parameters, op, "weight")

    def bias(self, op: int) -> Array | None:
        """Return the bias or beta, (1, units), or None."""
        return self._parameter(self.parameters, op, "bias") if self.plan.table[op]["bias"] >= 0 else None

    def weight_gradient(self, op: int) -> Array:
        """Return dL/d(weight), laid out as `weight`."""
        return self._parameter(self._executor.gradients, op, "weight")

    def bias_gradient(self, op: int) -> Array | None:
        """Return dL/d(bias), laid out as `bias`."""
        return (
            self._parameter(self._executor.gradients, op, "bias")
            if self.plan.table[op]["bias"] >= 0
            else None
        )

    def _matrix(self, arena: Array, op: int, slot: str, columns: str) -> Array:
        row = self.plan.table[op]
        capacity = self._executor.capacity
        # a copy: what untile_slot returns is a view of the arena where it can be
        return np.array(kernels.untile_slot(arena, int(row[slot]), capacity, self.rows, int(row[columns])))

    def _parameter(self, arena: Array, op: int, name: str) -> Array:
        row = self.plan.table[op]
        dense = row["kind"] == kernels.OP_KINDS["dense"]
        rows = int(row["columns_in"]) if dense and name == "weight" else 1
        return kernels.untile(arena, int(row[name]), rows, int(row["columns_out"]))
