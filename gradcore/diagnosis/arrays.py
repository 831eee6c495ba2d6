"""The door for networks that live elsewhere: the rules on arrays that somebody else computed."""

from __future__ import annotations

import json
import math
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from numpy.typing import ArrayLike

from gradcore import activations, kernels
from gradcore.diagnosis.joints import Joint, joined
from gradcore.diagnosis.labels import Labels, labels_from
from gradcore.diagnosis.report import layer_table, verdict
from gradcore.diagnosis.what_if import WhatIf
from gradcore.diagnosis.writing import plain, written
from gradcore.health.evidence import Books, Evidence
from gradcore.health.facts import UNKNOWN, Facts, facts
from gradcore.health.faults import Fault
from gradcore.health.ledger import Ledger
from gradcore.health.loss_curve import constant_loss as loss_of_constant
from gradcore.health.rules import certain, check
from gradcore.health.rules.dead_units import RISK
from gradcore.health.units import largest_slope
from gradcore.layers import Activation, BatchNorm, Dense, Layer, Residual
from gradcore.optimizers import Optimizer, resolve as resolve_optimizer
from gradcore.plan import ParameterSlot, Plan

Array = npt.NDArray[Any]

_KINDS = {"dense": "dense", "norm": "batch_norm", "dropout": "dropout", "fork": "fork", "join": "join"}


@dataclass(frozen=True)
class LayerArrays:
    """One op of a network that lives elsewhere; what is not known stays None.

    Parameters
    ----------
    name : str
    kind : str
        ``"dense"``, ``"norm"``, ``"dropout"`` or the name of an activation (``"relu"``, ``"leaky_relu(0.2)"``).
    input, output : array_like, shape (rows, …, columns)
        What the op read and made; all axes but the last are rows.  Where one is missing, that of the neighbour stands
        for it.
    delta, input_delta : array_like
        dL/d(output), and dL/d(input) where something stands between the op and the one before.
    weight, weight_gradient : array_like, shape (units, inputs)
        More axes (of a convolution) count as inputs.
    bias_gradient : array_like, shape (units,)
    """

    name: str
    kind: str = "dense"
    input: ArrayLike | None = None
    output: ArrayLike | None = None
    delta: ArrayLike | None = None
    weight: ArrayLike | None = None
    weight_gradient: ArrayLike | None = None
    bias_gradient: ArrayLike | None = None
    input_delta: ArrayLike | None = None


@dataclass(frozen=True)
class ArraysDiagnosis:
    """What `diagnose_arrays` found: verdict, faults and ledger.

    Alternatives cannot be tried on arrays: causes are named only where the fault itself tells them.

    Attributes
    ----------
    faults : tuple of Fault
        The most severe first.
    ledger : Ledger
    chance : float or None
        Of training; None where too little is known to tell.
    missing : tuple of str
        What the rules would have needed.
    unseen : tuple of str
        Between which ops something happens that no array shows; the books give its gain to the op after it.
    loss : str
        Its name, as far as it is known.
    loss_read : bool
        Whether loss and labels were read off the delta of the outputs.
    network : object
        ``layers``: what the ops would be as layers of gradcore; ``input_size``, ``dtype``.
    milliseconds : float
        That `diagnose_arrays` took.
    """

    faults: tuple[Fault, ...]
    evidence: Evidence = field(repr=False)
    chance: float | None
    missing: tuple[str, ...]
    unseen: tuple[str, ...]
    loss: str = "unknown loss"
    loss_read: bool = False
    milliseconds: float = math.nan
    network: Any = field(default_factory=lambda: SimpleNamespace(layers=()), repr=False)

    # what a report asks of a diagnosis and arrays have not
    seeds: ClassVar[int] = 1
    what_if: ClassVar[WhatIf] = WhatIf()
    best: ClassVar[None] = None
    changed: ClassVar[None] = None
    prediction: ClassVar[None] = None
    trace: ClassVar[None] = None
    setting: ClassVar[None] = None

    @property
    def healthy(self) -> bool:
        """Whether no rule found a fault in what is known."""
        return not self.faults

    @property
    def books(self) -> Books:
        """The ledger, and what its norms cannot say."""
        return self.evidence.books

    @property
    def optimizer(self) -> Optimizer:
        """What the network is trained with."""
        return self.evidence.optimizer

    @property
    def ledger(self) -> Ledger:
        """The books of every op."""
        return self.books.ledger

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain numbers, strings and lists."""
        return {
            "healthy": self.healthy,
            "faults": [fault.to_dict() for fault in self.faults],
            "chance": self.chance,
            "loss": self.loss,
            "loss_read": self.loss_read,
            "missing": list(self.missing),
            "unseen": list(self.unseen),
            "ledger": self.ledger.to_dict(),
        }

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return strict JSON (NaN and infinities are null there), and write it to `path` if one is given."""
        return written(json.dumps(plain(self.to_dict()), indent=2, allow_nan=False), path)

    def to_html(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return the report as one HTML page without any external part, and write it to `path` if one is given."""
        from gradcore.diagnosis.html import page

        return written(page(self), path)  # type: ignore[arg-type]  # it reads what both have

    def _repr_html_(self) -> str:
        from gradcore.diagnosis.html import fragment

        return fragment(self)  # type: ignore[arg-type]

    def __str__(self) -> str:
        return "\n".join([*verdict(self), "", *layer_table(self)])  # type: ignore[arg-type]


def diagnose_arrays(
    layers: Iterable[LayerArrays | Mapping[str, Any]],
    *,
    loss: float | None = None,
    inputs: ArrayLike | None = None,
    targets: ArrayLike | None = None,
    constant_loss: float | None = None,
    optimizer: str | Optimizer = "adam",
    batch_size: int = 32,
    foresee: bool = True,
) -> ArraysDiagnosis:
    """Apply the rules to arrays of one batch, forward and backward, of a network from anywhere.

    Activations and residual sums between the ops that have none of their own are found by their numbers.

    Parameters
    ----------
    layers : iterable of LayerArrays or mappings with its names
        The ops in the order of the forward pass; at least one is dense.
    loss : float, optional
        Of the batch.  Without loss and targets, those of a cross-entropy are read off the delta of the last dense op.
    inputs : array_like, optional
        Of the network; else the input of the first op.
    targets : array_like, optional
        Labels (integers) or numbers.  With them and the loss the chance of training is told, and with it symptoms that
        healthy networks can show as well; without, only faults that are certain.
    constant_loss : float, optional
        Of the best constant predictor; else that of the targets under cross-entropy (labels) or the mean squared error.
    optimizer : str or Optimizer
        What the network is trained with.
    batch_size : int
        Rows of a real step.
    foresee : bool
        False of a network in training: only what is there counts, not what is likely to come.

    Raises
    ------
    ValueError, TypeError
        No dense op, an unknown kind, arrays whose shapes do not go together: named by the op.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x, w = rng.normal(size=(32, 4)), np.full((3, 4), 1e30, np.float32)
    >>> with np.errstate(over="ignore"):
    ...     z = np.float32(x @ w.T) ** 2
    >>> found = diagnose_arrays([{"name": "layer.0", "input": x, "output": z, "weight": w}])
    >>> found.faults[0].kind, found.faults[0].ops
    ('overflow', ('layer.0',))
    """
    start = time.perf_counter()
    ops = [part if isinstance(part, LayerArrays) else LayerArrays(**part) for part in layers]
    chosen = resolve_optimizer(optimizer)
    table = _Table(ops, inputs)
    y = None if targets is None else _targets(targets)
    read = table.labels() if loss is None and y is None else None
    if read is not None:
        y, loss, constant_loss = read.targets, read.loss, read.constant_loss
    if y is not None and len(y) != table.rows:
        raise ValueError(f"targets has {len(y)} rows and the arrays have {table.rows}")
    known: Facts = UNKNOWN
    constant = math.nan if constant_loss is None else float(constant_loss)
    if y is not None:
        name = "cross_entropy" if y.dtype.kind == "i" else "mse"
        constant = loss_of_constant(name, y) if constant_loss is None else constant
        known = facts(table.input, y, len(y))
    ledger = Ledger(table.plan, table.records, math.nan if loss is None else float(loss), rows=table.rows)
    evidence = Evidence(
        books=Books(ledger),
        optimizer=chosen,
        constant_loss=constant,
        weights=table.of_units,
        dead_units=table.count_dead,
        batch_size=batch_size,
        regression=read is None and y is not None and y.dtype.kind == "f",
        loss_known=loss is not None,
        facts=known,
    )
    lacking = {"loss": loss is None, "targets": y is None, "targets that differ": constant == 0}
    missing = table.missing + tuple(what for what, lacks in lacking.items() if lacks)
    faults = certain(evidence) if missing else check(evidence, foresee=foresee)
    return ArraysDiagnosis(
        tuple(faults), evidence, None if missing else evidence.chance, missing, table.unseen,
        "unknown loss" if read is None else read.name, read is not None, 1e3 * (time.perf_counter() - start),
        SimpleNamespace(layers=table.layers(), input_size=table.input.shape[1], dtype=table.dtype),
    )  # fmt: skip


def _targets(targets: ArrayLike) -> Array:
    y = np.asarray(targets)
    if y.dtype.kind in "iub":
        return y.reshape(len(y), -1)[:, 0].astype(np.int64) if y.ndim < 3 else y.ravel().astype(np.int64)
    return y.reshape(len(y), -1).astype(np.float64)


class _Table:
    """Plan and records of ops that are known by their arrays."""

    def __init__(self, ops: list[LayerArrays], inputs: ArrayLike | None) -> None:
        if not any(op.kind == "dense" for op in ops):
            raise ValueError("diagnose_arrays needs at least one op of kind 'dense'")
        given = [op.weight for op in ops] + [x for op in ops for x in (op.output, op.input, op.delta)]
        self.dtype = next((_real(x).dtype for x in given if x is not None), np.dtype(np.float64))
        parts, unseen = joined(self._parts(ops, inputs))
        self.unseen = tuple(unseen)
        flat = list(_flat(parts))
        self.ops = [_named(part) for part in flat]
        self.inputs, self.outputs = [part.input for part in flat], [part.output for part in flat]
        self.scales = [part.scale for part in flat]
        self.deltas = deltas = [part.delta for part in flat]
        self.rows = next((len(x) for x in [*self.inputs, *self.outputs, *deltas] if x is not None), 1)
        first = self.inputs[0]
        self.input = np.zeros((self.rows, 1), self.dtype) if first is None else first
        self.plan = self._plan()
        self.records = self._records(deltas, [part.input_delta for part in flat])
        self.missing = tuple(
            what
            for what, lacks in {
                "outputs": any(x is None for x in self.outputs),
                # dL/d(input) of a network is not needed
                "deltas": any(d is None for d, op in zip(deltas, self.ops, strict=True) if op.kind != "fork"),
                "weights": any(op.kind == "dense" and op.weight is None for op in ops),
                "weight gradients": any(op.kind == "dense" and op.weight_gradient is None for op in ops),
            }.items()
            if lacks
        )

    def _parts(self, ops: list[LayerArrays], inputs: ArrayLike | None) -> list[Joint]:
        """Return the ops with their arrays as matrices; what one does not say its neighbour may."""
        outputs = [self._matrix(op, "output") for op in ops]
        before = [self._matrix(op, "input") for op in ops]
        if inputs is not None:
            before[0] = self._matrix(LayerArrays("inputs", input=inputs), "input")
        outputs = [o if o is not None else b for o, b in zip(outputs, [*before[1:], None], strict=True)]
        before = [b if b is not None else o for b, o in zip(before, [None, *outputs[:-1]], strict=True)]
        seen: Counter[str] = Counter()
        parts = []
        for op, x, y in zip(ops, before, outputs, strict=True):
            seen[op.name] += 1
            # a module that is called again
            name = op.name if seen[op.name] == 1 else f"{op.name} ({seen[op.name]})"
            delta, input_delta = self._matrix(op, "delta"), self._matrix(op, "input_delta")
            parts.append(Joint(op, name, op.kind, x, y, delta, input_delta))
        return parts

    def _matrix(self, op: LayerArrays, what: str) -> Array | None:
        value = getattr(op, what)
        if value is None:
            return None
        array = _real(value)
        if array.ndim == 0:
            raise ValueError(f"{what} of {op.name!r} is a single number; give an array (rows, columns)")
        return np.ascontiguousarray(array.reshape(-1, array.shape[-1]), self.dtype)

    def _plan(self) -> Plan:
        table = np.zeros(len(self.ops), kernels.OP_DTYPE)
        for place in ("weight", "bias", "transposed", "state", "saved", "partner"):
            table[place] = -1
        slots, forks = {}, []
        width = self.input.shape[1]
        for i, op in enumerate(self.ops):
            row, x, y = table[i], self.inputs[i], self.outputs[i]
            weight = None if op.weight is None else _flat_weight(op.weight)
            columns_in = x.shape[1] if x is not None else weight.shape[1] if weight is not None else width
            columns_out = (
                y.shape[1] if y is not None else weight.shape[0] if weight is not None else columns_in
            )
            if op.kind in _KINDS:
                row["kind"] = kernels.OP_KINDS[_KINDS[op.kind]]
            else:
                info, parameter = activations.resolve(op.kind)
                row["kind"], row["code"], row["parameter"] = (
                    kernels.OP_KINDS["activation"],
                    info.code,
                    parameter,
                )
            row["columns_in"], row["columns_out"] = columns_in, columns_out
            row["input"] = row["d_input"] = i
            if op.kind == "fork":
                forks.append(i)
            elif op.kind == "join":
                fork = forks.pop()
                row["partner"], row["parameter"], table["partner"][fork] = fork, self.scales[i], i
            if op.kind == "dense" and weight is not None:
                if weight.shape[0] != columns_out:
                    raise ValueError(
                        f"weight of {op.name!r} has {weight.shape[0]} units and its output {columns_out} columns"
                    )
                row["weight"] = 0
                slots[f"{op.name}.weight"] = ParameterSlot(0, columns_in, columns_out, "weight", i)
            width = columns_out
        return Plan(
            table=table, names=tuple(op.name for op in self.ops), layer_index=tuple((i,) for i in range(len(table))),
            parameter_names=slots, dtype=self.dtype, tile=1, columns_in=self.input.shape[1], columns_out=width,
            activation_columns=0, delta_columns=0, parameter_size=0, transposed_size=0, state_size=0, saved_size=0,
        )  # fmt: skip

    def _records(self, deltas: list[Array | None], input_deltas: list[Array | None]) -> Array:
        records = np.zeros(len(self.ops) + 1, kernels.RECORD_DTYPE)
        records.view(np.float64)[:] = np.nan
        for i, op in enumerate(self.ops):
            # at a fork two ways meet: what an op in its branch says of its input is their sum
            inside = i > 0 and self.ops[i - 1].kind == "fork"
            if i and (inside or input_deltas[i] is None):
                input_deltas[i] = deltas[i - 1]
            skip, total = deltas[self.plan.table["partner"][i]], input_deltas[i]
            if op.kind == "fork" and skip is not None and total is not None:
                deltas[i] = branch = total - skip
                record = records[self.plan.table["partner"][i]]
                record["skip"], record["branch"] = _norm(skip), _norm(branch)
                with np.errstate(all="ignore"):
                    record["cosine"] = kernels.dot(skip, branch) / record["skip"] / record["branch"]

        def book(i: int, name: str, matrix: Array | None, *, signal: bool = False) -> None:
            if matrix is not None:
                records[name][i] = kernels.fold(matrix, signal=signal)

        book(-1, "output", self.inputs[0], signal=True)
        for i, op in enumerate(self.ops):
            book(i, "output", self.outputs[i], signal=True)
            book(i, "d_output", deltas[i])
            book(i, "d_input", input_deltas[i])
            if op.weight is not None:
                records["weight"][i] = _norm(_flat_weight(op.weight))
            if op.weight_gradient is not None:
                book(i, "weight_gradient", np.ascontiguousarray(_flat_weight(op.weight_gradient), self.dtype))
            if op.bias_gradient is not None:
                records["bias_gradient"][i] = _norm(_real(op.bias_gradient))
            if op.kind == "dense":
                records["usable"][i] = self._usable(i)
            elif op.kind not in _KINDS and self.inputs[i] is not None:
                flat = np.abs(self._slope(i)) < 0.01 * largest_slope(self.plan, i)
                records["flat"][i] = np.count_nonzero(flat)
        return records

    def _usable(self, i: int) -> float:
        """Norm of the centred weight gradient, Σ (a - mean a) δ = G - mean a · Σ δ; NaN where that is not known."""
        op, inputs = self.ops[i], self.inputs[i]
        if op.weight_gradient is None or op.bias_gradient is None or inputs is None:
            return math.nan
        gradient, bias = _flat_weight(op.weight_gradient), _real(op.bias_gradient).ravel()
        if gradient.shape != (len(bias), inputs.shape[1]):
            return math.nan
        with np.errstate(all="ignore"):
            mean = inputs.mean(axis=0, dtype=np.float64)
            return _norm(gradient.astype(np.float64) - bias[:, None] * mean)

    def _slope(self, i: int) -> Array:
        info, parameter = activations.resolve(self.ops[i].kind)
        backward = getattr(activations, f"{info.name}_backward")
        z = self.inputs[i]
        arguments = {} if info.parameter_name is None else {info.parameter_name: parameter}
        slope: Array = backward(np.ones_like(z), z, **arguments)
        return slope

    def layers(self) -> tuple[Layer, ...]:
        """Return what the ops would be as layers of gradcore; dropout, whose rate nobody told, is left away."""
        open_blocks: list[list[Layer]] = [[]]
        for i, op in enumerate(self.ops):
            if op.kind == "fork":
                open_blocks.append([])
            elif op.kind == "join":
                inside = open_blocks.pop()
                open_blocks[-1] += [Residual(inside, self.scales[i])] if inside else []
            elif op.kind == "dense":
                open_blocks[-1].append(Dense(int(self.plan.table["columns_out"][i])))
            elif op.kind == "norm":
                open_blocks[-1].append(BatchNorm())
            elif op.kind not in _KINDS:
                open_blocks[-1].append(Activation(op.kind))
        return tuple(open_blocks[0])

    def labels(self) -> Labels | None:
        """Return what the delta of the last dense op tells of the labels."""
        last = max(i for i, op in enumerate(self.ops) if op.kind == "dense")
        z, delta = self.outputs[last], self.deltas[last]
        return None if z is None or delta is None else labels_from(z, delta)

    def of_units(self, name: str, units: int | None = None) -> Array:
        """Return the weights of an op, or those of its first units."""
        weight = self.ops[self.plan.parameter_names[name].op].weight
        assert weight is not None
        return _flat_weight(weight)[:units]

    def count_dead(self, op: int) -> tuple[int, int]:
        """Return how many units of an activation are dead on these rows, and how many there are.

        Of few rows none: on r of them a unit that is off as often as on is off throughout with a chance of 2^-r.
        """
        if self.rows < -math.log2(RISK):
            return 0, int(self.plan.table["columns_out"][op])
        bound = largest_slope(self.plan, op) * float(np.finfo(self.dtype).eps)
        flat = np.abs(self._slope(op)) <= (0.0 if math.isinf(bound) else bound)
        return int(np.count_nonzero(flat.all(axis=0))), flat.shape[1]


def _flat(parts: Iterable[Joint]) -> Iterator[Joint]:
    """Yield the ops of nested blocks as a plan has them: a block is a fork, what is inside, and a join."""
    for part in parts:
        if part.kind != "residual":
            yield part
            continue
        yield Joint(None, f"{part.name} fork", "fork", part.input, part.input, None, part.input_delta)
        yield from _flat(part.inside)
        yield Joint(
            None, part.name, "join", part.inside[-1].output, part.output, part.delta, scale=part.scale
        )


def _named(part: Joint) -> LayerArrays:
    return LayerArrays(part.name, part.kind) if part.op is None else replace(part.op, name=part.name)


def _real(value: ArrayLike) -> Array:
    array = np.asarray(value)
    if array.dtype.kind not in "buif":
        raise TypeError(f"arrays must hold numbers, got dtype {array.dtype}")
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float64)


def _flat_weight(value: ArrayLike) -> Array:
    array = _real(value)
    return array.reshape(len(array), -1) if array.ndim else array.reshape(1, 1)


def _norm(values: Array) -> float:
    return kernels.safe_norm(np.ascontiguousarray(values).ravel()) if values.size else 0.0
