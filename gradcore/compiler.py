"""Layers to a plan: which ops, in which order, and where each of them reads and writes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import DTypeLike, NDArray

from gradcore import kernels
from gradcore.errors import check_integer
from gradcore.layers import (
    Activation,
    BatchNorm,
    Dense,
    Dropout,
    Layer,
    LayerNorm,
    Residual,
    as_layers,
    width_after,
)
from gradcore.plan import ParameterSlot, Plan

ALIGNMENT = 16  # reals: 64 bytes in float32, so that no two parameters share a cache line
SAVED_ROWS = 4  # of batch norm (types.pxd: Op.saved)
SAVED_COLUMNS = 3  # of layer norm


def compile_layers(
    layers: Iterable[Layer | str],
    input_size: int,
    dtype: DTypeLike = "float32",
    *,
    tile: int,
    input_gradient: bool = False,
) -> Plan:
    """Compile a list of layers to a plan.

    Parameters
    ----------
    layers : iterable of layers and activation names
    input_size : int
        Columns of the network's input.
    dtype : {"float32", "float64"}
    tile : int
        Columns of a panel: `kernels.tile_width(dtype)`, or 1 for the readable executor.
    input_gradient : bool
        Whether dL/d(input of the network) can be asked for: the first dense op then keeps transposed weights.
        Parameters lie at the same places either way.

    Returns
    -------
    Plan

    Raises
    ------
    ValueError, TypeError
        Layers that do not make a network; the message has the position in the list, as in "layer 4.1".

    Examples
    --------
    >>> from gradcore.layers import Dense
    >>> compile_layers([Dense(8), "tanh", Dense(3)], 5, tile=1).names
    ('dense 1', 'tanh 1', 'dense 2')
    """
    layers = as_layers(layers)
    columns_in = check_integer("input_size", input_size)
    real = np.dtype(dtype)
    if real not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise ValueError(f"dtype must be float32 or float64, got {real}")
    if not any(_has_dense(layer) for layer in layers):
        raise ValueError("a network needs at least one Dense layer, such as [Dense(64), 'relu', Dense(10)]")

    ops = _Ops(last=(len(layers) - 1,))
    columns_out = ops.add_all(layers, columns_in)
    table = ops.table()

    def padded(columns: int) -> int:
        return -(-columns // tile) * tile

    activation_columns = _place_activations(table, padded)
    delta_columns = _place_deltas(table, padded)
    parameters, sizes = _place_parameters(table, ops.paths, padded, input_gradient=input_gradient)
    table.flags.writeable = False
    return Plan(
        table=table,
        names=tuple(ops.names),
        layer_index=tuple(ops.paths),
        parameter_names=parameters,
        dtype=real,
        tile=tile,
        columns_in=columns_in,
        columns_out=columns_out,
        activation_columns=activation_columns,
        delta_columns=delta_columns,
        parameter_size=sizes["parameters"],
        transposed_size=sizes["transposed"],
        state_size=sizes["state"],
        saved_size=sizes["saved"],
    )


def _has_dense(layer: Layer) -> bool:
    return any(map(_has_dense, layer.layers)) if isinstance(layer, Residual) else isinstance(layer, Dense)


@dataclass
class _Ops:
    """The ops of a list of layers in the order they run, not yet placed."""

    last: tuple[int, ...]  # the path where softmax may stand
    fields: list[dict[str, float]] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    paths: list[tuple[int, ...]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def add_all(self, layers: tuple[Layer, ...], columns: int, parents: tuple[int, ...] = ()) -> int:
        """Add the ops of some layers; return the columns that come out."""
        for position, layer in enumerate(layers):
            columns = self._add_layer(layer, (*parents, position), columns)
        return columns

    def _add_layer(self, layer: Layer, path: tuple[int, ...], columns: int) -> int:
        if isinstance(layer, Dense):
            self._add("dense", path, columns, layer.units, bias=0 if layer.use_bias else -1, weight=0)
            return layer.units
        if isinstance(layer, Activation):
            if layer.info.name == "softmax" and path != self.last:
                raise ValueError(
                    f"layer {_dotted(path)}: softmax must be the last layer, and not inside Residual; "
                    "for probabilities use predict_proba, which needs no softmax layer"
                )
            self._add(
                "activation", path, columns, columns,
                name=layer.info.name, code=layer.info.code, parameter=layer.parameter,
            )  # fmt: skip
        elif isinstance(layer, BatchNorm):
            self._add(
                "batch_norm", path, columns, columns, weight=0, bias=0, momentum=layer.momentum, eps=layer.eps
            )  # fmt: skip
        elif isinstance(layer, LayerNorm):
            self._add("layer_norm", path, columns, columns, weight=0, bias=0, eps=layer.eps)
        elif isinstance(layer, Dropout):
            self._add("dropout", path, columns, columns, parameter=layer.rate)
        else:
            return self._add_residual(layer, path, columns)
        return columns

    def _add_residual(self, layer: Residual, path: tuple[int, ...], columns: int) -> int:
        end = width_after(layer.layers, columns)
        fork = self._add("fork", path, columns, columns)
        if layer.projects(columns):
            self._add("dense", path, columns, end, name="projection", weight=0, partner=fork)
        elif end != columns:
            raise ValueError(
                f"layer {_dotted(path)}: a residual block adds its branch to its input, which has {columns} "
                f"columns, but the branch ends with {end}; add Dense({columns}) at the end of the branch, or let "
                "projection=True map the input"
            )
        self.add_all(layer.layers, columns, path)
        name = self.names[fork].replace("fork", "residual")
        join = self._add("join", path, end, end, partner=fork, parameter=layer.scale)
        self.names[join] = name
        self.fields[fork]["partner"] = join
        return end

    def _add(
        self,
        kind: str,
        path: tuple[int, ...],
        columns_in: int,
        columns_out: int,
        *,
        name: str = "",
        **given: float,
    ) -> int:
        nowhere = dict.fromkeys(("weight", "bias", "transposed", "state", "saved", "partner"), -1)
        columns = {"columns_in": columns_in, "columns_out": columns_out}
        self.fields.append({"kind": kernels.OP_KINDS[kind], **nowhere, **columns, **given})
        self.counts[name or kind] += 1
        self.names.append(f"{name or kind} {self.counts[name or kind]}")
        self.paths.append(path)
        return len(self.fields) - 1

    def table(self) -> NDArray[np.void]:
        """Return the op table; a place of 0 is still to be found, one of -1 is not needed."""
        table = np.zeros(len(self.fields), kernels.OP_DTYPE)
        for row, fields in zip(table, self.fields, strict=True):
            for name, value in fields.items():
                row[name] = value
        return table


def _dotted(path: tuple[int, ...]) -> str:
    return ".".join(map(str, path))


def _is(op: np.void, kind: str) -> bool:
    return int(op["kind"]) == kernels.OP_KINDS[kind]


def _is_projection(op: np.void) -> bool:
    """Tell whether an op is the dense one on the skip of a residual block."""
    return _is(op, "dense") and int(op["partner"]) >= 0


def _is_softmax(op: np.void) -> bool:
    return _is(op, "activation") and int(op["code"]) == kernels.ACTIVATION_CODES["softmax"]


def _keeps_slope(op: np.void) -> bool:
    """Tell whether forward leaves something in the op's d_input slot that must survive until its backward."""
    return _is(op, "dropout") or (_is(op, "activation") and not _is_softmax(op))


def _place_activations(table: NDArray[np.void], padded: Callable[[int], int]) -> int:
    """Fill `input`, `output`, `fused` and the place of layer norm's statistics; return the padded columns of all."""
    in_place_codes = set(kernels.ACTIVATION_CODES.values()) - {
        kernels.ACTIVATION_CODES["softmax"], kernels.ACTIVATION_CODES["identity"]
    }  # fmt: skip
    slot, end = 0, padded(int(table[0]["columns_in"]))
    for i, op in enumerate(table):
        op["input"] = slot
        if _is_projection(op):  # beside the chain: what follows reads the same input
            op["output"], end = end, end + padded(int(op["columns_out"]))
            continue
        after_dense = i > 0 and _is(table[i - 1], "dense") and not _is_projection(table[i - 1])
        if after_dense and _is(op, "activation") and int(op["code"]) in in_place_codes:
            table[i - 1]["fused"] = 1
        elif not _is(op, "fork"):
            slot, end = end, end + padded(int(op["columns_out"]))
        op["output"] = slot
        if _is(op, "layer_norm"):
            op["saved"], end = end, end + padded(SAVED_COLUMNS)
    return end


def _place_deltas(table: NDArray[np.void], padded: Callable[[int], int]) -> int:
    """Fill `d_input` and `d_output`; return the padded columns of the workspace.

    One place for each gap between two ops; the two gaps of a fork are one, and a projection has one of its own.
    What an activation reads in backward was written right before and nobody else reads it, so those gaps share
    one place, unless a slope waits there.
    """
    n = len(table)
    first_end = padded(int(table[0]["columns_in"]))
    shared = [_may_share(table, gap) for gap in range(n + 1)]
    widths = [padded(int(table[gap - 1]["columns_out"])) for gap in range(1, n + 1)]
    end = first_end + max(
        (width for width, share in zip(widths, shared[1:], strict=True) if share), default=0
    )
    gaps = [0]
    for gap in range(1, n + 1):
        if _is(table[gap - 1], "fork") or _is_projection(table[gap - 1]):
            gaps.append(gaps[-1])
        elif shared[gap]:
            gaps.append(first_end)
        else:
            gaps.append(end)
            end += widths[gap - 1]
    table["d_input"], table["d_output"] = gaps[:-1], gaps[1:]
    for op in table:
        if _is_projection(op):
            op["d_output"] = table[int(table[int(op["partner"])]["partner"])]["d_output"]
            op["d_input"], end = end, end + padded(int(op["columns_in"]))
    return end


def _may_share(table: NDArray[np.void], gap: int) -> bool:
    """Tell whether the gap before op number `gap` is one that all activations can share."""
    if gap == 0 or not _is(table[gap - 1], "activation"):
        return False
    reader = next((op for op in table[gap:] if not (_is(op, "fork") or _is_projection(op))), None)
    return reader is not None and not _keeps_slope(reader) and not _is_softmax(reader)


def _place_parameters(
    table: NDArray[np.void],
    paths: list[tuple[int, ...]],
    padded: Callable[[int], int],
    *,
    input_gradient: bool,
) -> tuple[dict[str, ParameterSlot], dict[str, int]]:
    """Fill the offsets into the arenas of reals; return the parameters by name and the arenas' sizes."""
    parameters: dict[str, ParameterSlot] = {}
    sizes = {"parameters": 0, "transposed": 0, "state": 0, "saved": 0}

    def place(arena: str, size: int) -> int:
        offset = sizes[arena]
        sizes[arena] += -(-size // ALIGNMENT) * ALIGNMENT
        return offset

    for i, (op, path) in enumerate(zip(table, paths, strict=True)):
        inputs, units = int(op["columns_in"]), int(op["columns_out"])
        dense = _is(op, "dense")
        if not (dense or _is(op, "batch_norm") or _is(op, "layer_norm")):
            continue
        for at, kind, rows in (
            ("weight", "weight" if dense else "gamma", inputs if dense else 1),
            ("bias", "bias" if dense else "beta", 1),
        ):
            if op[at] >= 0:
                op[at] = place("parameters", rows * padded(units))
                owner = f"{_dotted(path)}.projection" if _is_projection(op) else _dotted(path)
                parameters[f"{owner}.{kind}"] = ParameterSlot(int(op[at]), rows, units, kind, i)
        if _is(op, "batch_norm"):
            op["state"] = place("state", 2 * padded(units))
            op["saved"] = place("saved", SAVED_ROWS * padded(units))
        elif dense and (op["input"] != 0 or input_gradient):
            op["transposed"] = place("transposed", units * padded(inputs))
    return parameters, sizes
