"""The ledger: what one batch did to every op, both passes booked separately.

The vocabulary is that of the project's design page: the backward gain of an op is
``‖dL/d(input)‖ / ‖dL/d(output)‖`` over the batch, its forward gain ``signal(output) / signal(input)``, where
signal is what differs *between examples*.  The logs of the backward gains add up along the chain, from the delta
of the logits to the delta of the first pre-activation.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gradcore import kernels

if TYPE_CHECKING:
    from gradcore.plan import Plan

GROUPS = ("dense", "activation", "norm", "dropout", "residual")

_DENSE, _ACTIVATION, _BATCH_NORM, _DROPOUT, _FORK, _JOIN = (
    kernels.OP_KINDS[name] for name in ("dense", "activation", "batch_norm", "dropout", "fork", "join")
)
_EXPONENTIAL = kernels.ACTIVATION_CODES["exponential"]
_KIND_NAMES = ("dense", "activation", "batch_norm", "dropout", "residual", "residual")
_KIND_GROUPS = ("dense", "activation", "norm", "dropout", "residual", "residual")

Array = npt.NDArray[np.float64]


def _ratio(top: float, bottom: float) -> float:
    """Return ``top / bottom``, NaN where either is zero or not finite."""
    if top > 0 and bottom > 0 and math.isfinite(top) and math.isfinite(bottom):
        return top / bottom
    return math.nan


@dataclass(frozen=True)
class Probe:
    """Ask ``fit`` or a stepper for the ledger during training.

    Parameters
    ----------
    every : int
        Keep the ledger of every ``every``-th step.
    level : "light" or "full"
        ``"light"`` books norms and extremes and is cheap enough for every step; ``"full"`` counts everything.

    Examples
    --------
    >>> Probe(every=10).level
    'light'
    """

    every: int = 1
    level: str = "light"

    def __post_init__(self) -> None:
        if isinstance(self.every, bool) or not isinstance(self.every, int | np.integer):
            raise TypeError(
                f"Probe(every=…) must be an integer, got {self.every!r}; say every=1 for each step"
            )
        if self.every < 1:
            raise ValueError(f"Probe(every=…) must be at least 1, got {self.every}")
        if self.level not in ("light", "full"):
            raise ValueError(f"Probe(level=…) must be 'light' or 'full', got {self.level!r}")


class Fold(NamedTuple):
    """What one pass over a matrix finds; counts are NaN where they were not counted."""

    norm: float
    signal: float
    max_abs: float
    min_abs: float
    zeros: float
    subnormals: float
    infs: float
    nans: float

    def headroom(self, dtype: npt.DTypeLike) -> tuple[float, float]:
        """Return the powers of two from the largest magnitude to overflow and from underflow to the smallest."""
        info = np.finfo(np.dtype(dtype))
        above = math.log2(float(info.max) / self.max_abs) if 0 < self.max_abs < math.inf else math.nan
        below = math.log2(self.min_abs / float(info.tiny)) if 0 < self.min_abs < math.inf else math.nan
        return above, below


@dataclass(frozen=True)
class LedgerEntry:
    """The books of one op.

    Norms are Frobenius norms over the batch.  A residual block is one entry: its gain is that of the whole block,
    ``branch`` holds the entries inside, ``skip_norm``, ``branch_norm`` and ``cosine`` say how the two paths met.
    Attributes that an op does not have (the weight of an activation) are NaN.
    """

    op: int
    name: str
    kind: str
    group: str
    forward_gain: float
    scale_ratio: float
    backward_gain: float
    output: Fold
    d_output: Fold
    d_input: Fold
    weight_gradient: Fold
    bias_gradient: float
    weight: float
    update: float
    update_ratio: float
    flat_fraction: float
    lost: bool
    branch: tuple[LedgerEntry, ...] = ()
    skip_norm: float = math.nan
    branch_norm: float = math.nan
    cosine: float = math.nan

    def to_dict(self) -> dict[str, Any]:
        """Return the entry as plain numbers, strings and lists (NaN and infinity as they are)."""
        out: dict[str, Any] = {}
        for name, value in self.__dict__.items():
            if isinstance(value, Fold):
                out[name] = value._asdict()
            elif name == "branch":
                out[name] = [entry.to_dict() for entry in value]
            else:
                out[name] = value
        return out


@dataclass(frozen=True)
class Layers:
    """The ledger by layer: one row for each dense op, in the order of the plan, those inside branches included.

    A layer is a dense op with the activation, norm and dropout that follow it.  All arrays have one element per
    layer; ``scale`` is an rms, ``signal`` the rms of what differs between examples.
    """

    op: npt.NDArray[np.int64]  # index of the dense op in the plan
    fan_in: npt.NDArray[np.int64]
    units: npt.NDArray[np.int64]
    input_signal: Array  # of what the dense op reads
    input_scale: Array
    z_signal: Array  # of the pre-activation
    z_scale: Array
    output_signal: Array  # of what the next dense op reads
    output_scale: Array
    delta: Array  # norm of dL/dz
    gradient: Array  # rms of the weight gradient's elements
    weight: Array  # rms of the weights
    weight_norm: Array

    def __len__(self) -> int:
        return len(self.op)

    def lost(self, dtype: npt.DTypeLike) -> npt.NDArray[np.bool_]:
        """Say for each layer whether the signal of its output is rounding only."""
        eps = float(np.finfo(np.dtype(dtype)).eps)
        # A zero signal on a zero scale (a dead layer) is lost too: hence the less-or-equal.
        with np.errstate(invalid="ignore"):
            return np.asarray(self.output_signal <= self.output_scale * eps * np.sqrt(self.fan_in))


@dataclass
class Ledger:
    """The table of all ops for one batch.

    Parameters
    ----------
    plan : Plan
        The compiled network the records belong to.
    records : structured array, shape (ops + 1,)
        The books as the executor wrote them; the last one folds the network's input.  They are copied.
    loss : float
        Loss of this batch.
    level : "light" or "full"
        How much was counted.
    rows : int
        Rows of the batch.
    step : int or None
        Training step the ledger was taken at, when it was.

    Attributes
    ----------
    entries : tuple of LedgerEntry
        One entry per op of the plan; a residual block is one entry with a nested ``branch``.
    end_to_end_log10 : float
        log10 of the backward gain from the delta of the logits to the delta of the first pre-activation.
    """

    plan: Plan
    records: npt.NDArray[np.void] = field(repr=False)
    loss: float
    level: str = "full"
    rows: int = 1
    step: int | None = None

    def __post_init__(self) -> None:
        # as plain numbers: NumPy copies a structured array field by field, twenty times slower
        numbers = np.ascontiguousarray(self.records).view(np.float64)
        self.records = numbers.copy().view(self.records.dtype)
        self.loss = float(self.loss)

    # -- reading ---------------------------------------------------------------------------------------------------

    @property
    def dtype(self) -> np.dtype[Any]:
        """Floating-point type of the network."""
        return np.dtype(self.plan.dtype)

    @cached_property
    def _folds(self) -> list[tuple[Any, ...]]:
        # tolist turns nested structs into nested tuples once: reading fields of a void scalar is far slower.
        folds: list[tuple[Any, ...]] = self.records.tolist()
        return folds

    @cached_property
    def _at(self) -> dict[str, int]:
        names = self.records.dtype.names
        assert names is not None
        return {name: i for i, name in enumerate(names)}

    def _fold(self, record: int, name: str) -> Fold:
        return Fold(*self._folds[record][self._at[name]])

    def _value(self, record: int, name: str) -> float:
        return float(self._folds[record][self._at[name]])

    @property
    def input(self) -> Fold:
        """What one pass over the network's input found."""
        return self._fold(len(self.plan.table), "output")

    @cached_property
    def entries(self) -> tuple[LedgerEntry, ...]:
        """The entries, in the order of the plan."""
        return tuple(self._build(0, len(self.plan.table)))

    def _build(self, first: int, end: int) -> Iterator[LedgerEntry]:
        table = self.plan.table
        kinds, partners = table["kind"].tolist(), table["partner"].tolist()
        op = first
        while op < end:
            if kinds[op] == _FORK:
                join = partners[op]
                yield self._entry(op, join, tuple(self._build(op + 1, join)))
                op = join + 1
            else:
                yield self._entry(op, op, ())
                op += 1

    def _entry(self, first: int, last: int, branch: tuple[LedgerEntry, ...]) -> LedgerEntry:
        row = self.plan.table[last]
        kind = int(row["kind"])
        before = first - 1 if first else len(self.plan.table)
        columns_in = int(self.plan.table[first]["columns_in"])
        columns_out = int(row["columns_out"])
        source, output = self._fold(before, "output"), self._fold(last, "output")
        d_output, d_input = self._fold(last, "d_output"), self._fold(first, "d_input")
        if (
            math.isnan(d_input.norm)
            and first
            and int(self.plan.table[first - 1]["kind"]) not in (_FORK, _JOIN)
        ):
            # the same array as dL/d(output) of the op before, which a light ledger books once
            d_input = self._fold(first - 1, "d_output")
        weight, update = self._value(last, "weight"), self._value(last, "update")
        has_weight = kind == _DENSE
        scale = self._scale(output.norm, columns_out)
        elements = self.rows * columns_out
        return LedgerEntry(
            op=last,
            name=self.plan.names[last],
            kind=_KIND_NAMES[kind],
            group=_KIND_GROUPS[kind],
            forward_gain=_ratio(output.signal, source.signal),
            scale_ratio=_ratio(scale, self._scale(source.norm, columns_in)),
            backward_gain=_ratio(d_input.norm, d_output.norm),
            output=output,
            d_output=d_output,
            d_input=d_input,
            weight_gradient=self._fold(last, "weight_gradient"),
            bias_gradient=self._value(last, "bias_gradient"),
            weight=weight,
            update=update,
            update_ratio=_ratio(update, weight) if has_weight else math.nan,
            flat_fraction=self._flat(last) / elements if kind == _ACTIVATION else math.nan,
            lost=output.signal <= scale * float(np.finfo(self.dtype).eps) * math.sqrt(self._fan_in(last)),
            branch=branch,
            skip_norm=self._value(last, "skip") if branch else math.nan,
            branch_norm=self._value(last, "branch") if branch else math.nan,
            cosine=self._value(last, "cosine") if branch else math.nan,
        )

    def _flat(self, op: int) -> float:
        # "flat" is relative to the largest slope, and the exponential has none
        return math.nan if int(self.plan.table[op]["code"]) == _EXPONENTIAL else self._value(op, "flat")

    def _scale(self, norm: float, columns: int) -> float:
        return norm / math.sqrt(self.rows * columns)

    def _fan_in(self, op: int) -> int:
        """Fan-in of the dense op whose rounding the output of ``op`` carries."""
        dense = np.flatnonzero(self.plan.table["kind"][: op + 1] == _DENSE)
        return int(self.plan.table["columns_in"][dense[-1]]) if len(dense) else 1

    def layers(self) -> Layers:
        """Return the books by layer, as arrays: what the rules read."""
        table, records = self.plan.table, self.records
        op = np.flatnonzero(table["kind"] == _DENSE)
        fan_in, units = table["columns_in"][op], table["columns_out"][op]
        before = np.where(op > 0, op - 1, len(table))
        after = np.append(op[1:] - 1, len(table) - 1)
        size = np.sqrt(self.rows)
        outputs, gradient, weight = (
            records["output"],
            records["weight_gradient"]["norm"][op],
            records["weight"][op],
        )
        return Layers(
            op=op.astype(np.int64),
            fan_in=fan_in.astype(np.int64),
            units=units.astype(np.int64),
            input_signal=outputs["signal"][before],
            input_scale=outputs["norm"][before] / (size * np.sqrt(fan_in)),
            z_signal=outputs["signal"][op],
            z_scale=outputs["norm"][op] / (size * np.sqrt(units)),
            output_signal=outputs["signal"][after],
            output_scale=outputs["norm"][after] / (size * np.sqrt(table["columns_out"][after])),
            delta=records["d_output"]["norm"][op],
            gradient=gradient / np.sqrt(fan_in * units),
            weight=weight / np.sqrt(fan_in * units),
            weight_norm=weight,
        )

    # -- adding up -------------------------------------------------------------------------------------------------

    @cached_property
    def _chain(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """First and last op of every entry from the delta of the logits to that of the first pre-activation."""
        kinds, partners = self.plan.table["kind"].tolist(), self.plan.table["partner"].tolist()
        first, last = [], []
        op, begun = 0, False
        while op < len(kinds):
            end = partners[op] if kinds[op] == _FORK else op
            if begun:
                first.append(op)
                last.append(end)
            begun = begun or kinds[op] in (_DENSE, _FORK)
            op = end + 1
        return np.array(first, np.int64), np.array(last, np.int64)

    @cached_property
    def _decades(self) -> Array:
        """log10 of the backward gain of every entry of the chain, NaN where there is none."""
        first, last = self._chain
        records = self.records
        below, above = records["d_input"]["norm"][first], records["d_output"]["norm"][last]
        booked_once = np.isnan(below) & ~np.isin(self.plan.table["kind"][first - 1], (_FORK, _JOIN))
        below = np.where(booked_once, records["d_output"]["norm"][first - 1], below)
        ok = (below > 0) & (above > 0) & np.isfinite(below) & np.isfinite(above)
        return np.where(ok, np.log10(np.where(ok, below, 1.0)) - np.log10(np.where(ok, above, 1.0)), np.nan)

    @property
    def end_to_end_log10(self) -> float:
        """log10 of the end-to-end gain: the sum of the log10 backward gains along the chain."""
        return math.fsum(self._decades)

    def split(self) -> dict[str, float]:
        """Return the decades of the end-to-end gain by group; they add up to ``end_to_end_log10``."""
        groups = [_KIND_GROUPS[kind] for kind in self.plan.table["kind"][self._chain[1]]]
        decades: dict[str, list[float]] = {}
        for group, value in zip(groups, self._decades, strict=True):
            decades.setdefault(group, []).append(float(value))
        return {group: math.fsum(decades[group]) for group in GROUPS if group in decades}

    def chain_counts(self) -> dict[str, int]:
        """Return how many entries of the chain are in each group."""
        groups = [_KIND_GROUPS[kind] for kind in self.plan.table["kind"][self._chain[1]]]
        return {group: groups.count(group) for group in GROUPS if group in groups}

    # -- showing ---------------------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Return the whole ledger as plain numbers, strings and lists."""
        return {
            "level": self.level,
            "rows": self.rows,
            "step": self.step,
            "dtype": self.dtype.name,
            "loss": self.loss,
            "end_to_end_log10": self.end_to_end_log10,
            "split": self.split(),
            "input": self.input._asdict(),
            "entries": [entry.to_dict() for entry in self.entries],
        }

    def __str__(self) -> str:
        head = (
            f"{'op':<22}{'scale':>9}{'signal':>9}{'fwd gain':>9}"
            f"{'delta':>9}{'bwd gain':>9}{'gradient':>9}{'flat':>6}"
        )
        lines = [head, "-" * len(head)]
        lines += self._lines(self.entries, 0)
        parts = "  ".join(f"{group} {decades:+.1f}" for group, decades in self.split().items())
        lines.append(f"end to end, log10: {self.end_to_end_log10:+.1f}   split: {parts}".rstrip())
        lines.append(f"loss {self.loss:.6g}, {self.rows} rows, {self.dtype.name}, {self.level} ledger")
        return "\n".join(lines)

    def _lines(self, entries: tuple[LedgerEntry, ...], indent: int) -> Iterator[str]:
        for entry in entries:
            columns = int(self.plan.table[entry.op]["columns_out"])
            signal = "lost" if entry.lost else _number(entry.output.signal)
            flat = "" if math.isnan(entry.flat_fraction) else f"{entry.flat_fraction:.0%}"
            name = "  " * indent + entry.name
            yield (
                f"{name:<22.22}{_number(self._scale(entry.output.norm, columns)):>9}{signal:>9}"
                f"{_number(entry.forward_gain):>9}{_number(entry.d_output.norm):>9}"
                f"{_number(entry.backward_gain):>9}{_number(entry.weight_gradient.norm, entry.kind == 'dense'):>9}"
                f"{flat:>6}"
            ).rstrip()
            yield from self._lines(entry.branch, indent + 1)


def _number(x: float, shown: bool = True) -> str:
    """Three significant digits in at most eight characters; a dash where there is no number."""
    if not shown or math.isnan(x):
        return "-"
    if math.isinf(x):
        return "inf" if x > 0 else "-inf"
    return f"{x:.3g}" if x == 0 or 1e-3 <= abs(x) < 1e4 else f"{x:.1e}"
