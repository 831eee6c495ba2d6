"""The plan: the flat list of ops a network compiles to, with the place of every buffer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradcore import kernels


@dataclass(frozen=True)
class ParameterSlot:
    """Where one parameter lies in the parameter arena (and in every arena of the same layout).

    Attributes
    ----------
    offset : int
        Its first real.
    rows, columns : int
        Its size as a tiled matrix: (inputs, units) for a weight, one row for bias, gamma and beta.
    kind : {"weight", "bias", "gamma", "beta"}
    op : int
        The op it belongs to.
    """

    offset: int
    rows: int
    columns: int
    kind: str
    op: int


@dataclass(frozen=True, eq=False)
class Plan:
    """A compiled network: integers and names only, no arrays of numbers to compute with.

    Attributes
    ----------
    table : structured array of kernels.OP_DTYPE, shape (ops,)
        What the executor runs, read-only. Slots of activations and deltas are counted in padded columns, the
        other places in reals from the start of their arena.
    names : tuple of str
        One per op: "dense 1", "tanh 1", … A residual block is named at its join, a dense op on its skip is
        "projection 1".
    layer_index : tuple of tuple of int
        One per op: the position of its layer in the list, then the positions inside residual blocks.
    parameter_names : dict of str to ParameterSlot
        By the names users see: "0.weight", "4.1.bias", "4.projection.weight".
    dtype : numpy.dtype
    tile : int
        Columns of a panel.
    columns_in, columns_out : int
        Inputs and outputs of the network.
    activation_columns, delta_columns : int
        Padded columns of the two workspaces; times the rows of the largest batch, their reals.
    parameter_size, transposed_size, state_size, saved_size : int
        Reals of the other arenas.
    """

    table: NDArray[np.void]
    names: tuple[str, ...]
    layer_index: tuple[tuple[int, ...], ...]
    parameter_names: dict[str, ParameterSlot]
    dtype: np.dtype[Any]
    tile: int
    columns_in: int
    columns_out: int
    activation_columns: int
    delta_columns: int
    parameter_size: int
    transposed_size: int
    state_size: int
    saved_size: int

    @cached_property
    def projections(self) -> NDArray[np.bool_]:
        """By op, whether it is the dense one on the skip of a residual block, right after the fork."""
        return np.asarray((self.table["kind"] == kernels.OP_KINDS["dense"]) & (self.table["partner"] >= 0))

    @cached_property
    def before(self) -> NDArray[np.int64]:
        """By op, the op whose output it reads (after a projection: the fork); -1 for the network's input."""
        behind = np.arange(len(self.table)) - 1
        return np.asarray(behind - np.append(False, self.projections[:-1]))

    def branch_start(self, fork: int) -> int:
        """Return the first op of the branch of a residual block."""
        return fork + 1 + int(self.projections[fork + 1])

    def skip(self, fork: int) -> int | None:
        """Return the op that makes the skip of a residual block; None where that is the block's input."""
        return fork + 1 if self.projections[fork + 1] else None

    def __str__(self) -> str:
        """Return the plan as a table, one line per op."""
        kinds = {number: name for name, number in kernels.OP_KINDS.items()}
        places = ("weight", "bias", "transposed", "state", "saved")
        header = ("op", "name", "kind", "columns", "activations", "deltas", *places, "notes")
        lines: list[tuple[str, ...]] = [header]
        for i, (op, name) in enumerate(zip(self.table, self.names, strict=True)):
            kind = kinds[int(op["kind"])]
            lines.append((
                str(i), name, kind,
                f"{op['columns_in']} → {op['columns_out']}",
                f"{op['input']} → {op['output']}",
                f"{op['d_input']} ← {op['d_output']}",
                *(str(op[at]) if op[at] >= 0 else "" for at in places),
                _notes(kind, op),
            ))  # fmt: skip
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        aligned = [str.rjust if name in ("op", *places) else str.ljust for name in header]
        sizes = (
            f"Plan: {self.columns_in} → {self.columns_out}, {len(self.table)} ops, {self.dtype}, "
            f"tile {self.tile}",
            f"columns of one row: {self.activation_columns} activations, {self.delta_columns} deltas",
            f"reals: {self.parameter_size} parameters, {self.transposed_size} transposed, "
            f"{self.state_size} state, {self.saved_size} saved",
        )
        rows = (
            "  ".join(
                align(cell, width) for align, cell, width in zip(aligned, line, widths, strict=True)
            ).rstrip()
            for line in lines
        )
        return "\n".join((*sizes, *rows))


def _notes(kind: str, op: np.void) -> str:
    if kind == "dense":
        if op["partner"] >= 0:
            return f"skip of fork op {op['partner']}"
        return "fused with the next op" if op["fused"] else ""
    if kind in ("fork", "join"):
        scale = f", scale {op['parameter']:g}" if kind == "join" else ""
        return f"{'join' if kind == 'fork' else 'fork'} is op {op['partner']}{scale}"
    if kind == "batch_norm":
        return f"momentum {op['momentum']:g}, eps {op['eps']:g}"
    if kind == "layer_norm":
        return f"eps {op['eps']:g}"
    if kind == "dropout":
        return f"rate {op['parameter']:g}"
    in_place = ["in place"] if op["input"] == op["output"] else []
    parameter = [f"parameter {op['parameter']:g}"] if op["parameter"] else []
    return ", ".join(in_place + parameter)
