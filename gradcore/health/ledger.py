"""The ledger: what one batch did to every op, both passes booked separately.

The vocabulary is that of the project's design page: the backward gain of an op is
``‖dL/d(input)‖ / ‖dL/d(output)‖`` over the batch, its forward gain ``signal(output) / signal(input)``, where
signal is what differs *between examples*.  The logs of the backward gains add up along the chain, from the delta
of the logits to the delta of the first pre-activation.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gradcore import kernels
from gradcore.errors import unknown_name

if TYPE_CHECKING:
    from gradcore.health.arithmetic import ArithmeticShare
    from gradcore.plan import Plan

GROUPS = ("dense", "activation", "norm", "dropout", "residual")

_DENSE, _ACTIVATION, _FORK, _JOIN = (
    kernels.OP_KINDS[name] for name in ("dense", "activation", "fork", "join")
)
_EXPONENTIAL = kernels.ACTIVATION_CODES["exponential"]
_KIND_NAMES = {
    code: "residual" if name in ("fork", "join") else name for name, code in kernels.OP_KINDS.items()
}
_KIND_GROUPS = {code: "norm" if name.endswith("_norm") else name for code, name in _KIND_NAMES.items()}

Array = npt.NDArray[np.float64]


def _ratio(top: float, bottom: float) -> float:
    """Return ``top / bottom``, NaN where either is zero or not finite."""
    if top > 0 and bottom > 0 and math.isfinite(top) and math.isfinite(bottom):
        return top / bottom
    return math.nan


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
        # differences of logs: the quotients leave the range of double
        above = math.log2(info.max) - math.log2(self.max_abs) if 0 < self.max_abs < math.inf else math.nan
        below = math.log2(self.min_abs) - info.minexp if 0 < self.min_abs < math.inf else math.nan
        return above, below


# The folds of an entry that can overflow or underflow, by what a reader calls them.
_PLACES = {"output": "output", "d_output": "delta", "weight_gradient": "gradient"}


@dataclass(frozen=True)
class LedgerEntry:
    """The books of one op.

    Norms are Frobenius norms over the batch. A residual block is one entry: its gain is that of the whole block,
    from the delta at its output to the delta at its input after the fork's sum; ``skip_norm``, ``branch_norm`` and
    ``cosine`` say how the two paths met there, ``branch`` is the ledger of what is inside, and ``projection`` the
    entry of the dense op on the skip, where there is one. Attributes that an op does not have (the weight of an
    activation) are NaN.

    ``gradient_share`` is the part of ``‖g‖²``, over all parameters, that belongs to this op (to all ops of a block):
    those of `Ledger.entries` add up to 1; NaN where the gradient is zero or not finite.  ``arithmetic`` holds the
    arithmetic's own share where it was asked for and a counter fired.
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
    gradient_share: float
    weight: float
    update: float
    update_ratio: float
    flat_fraction: float
    lost: bool
    dtype: np.dtype[Any]
    branch: Branch | None = None
    projection: LedgerEntry | None = None
    skip_norm: float = math.nan
    branch_norm: float = math.nan
    cosine: float = math.nan
    arithmetic: tuple[ArithmeticShare, ...] = ()

    def headroom(self) -> dict[str, tuple[float, float]]:
        """Return the powers of two to overflow and to underflow of output, d_output and weight_gradient."""
        return {place: getattr(self, place).headroom(self.dtype) for place in _PLACES}

    def to_dict(self) -> dict[str, Any]:
        """Return the entry as plain numbers, strings and lists (NaN and infinity as they are)."""
        out: dict[str, Any] = {}
        for name, value in self.__dict__.items():
            if isinstance(value, Fold):
                out[name] = value._asdict()
            elif name in ("branch", "projection"):
                out[name] = None if value is None else value.to_dict()
            elif name == "arithmetic":
                out[name] = [share.to_dict() for share in value]
            elif name != "dtype":
                out[name] = value
        out["headroom"] = {
            place: {"overflow": above, "underflow": below}
            for place, (above, below) in self.headroom().items()
        }
        return out


@dataclass(frozen=True)
class Branch:
    """The ledger of what is inside a residual block: its entries and their sum, without the skip.

    The end-to-end gain goes from the delta at the branch's output (after the block's scale) to that at its input;
    in a block that reads the network's input, from its first pre-activation on. With B that gain, s the scale, c
    the cosine of the block and P the gain of its projection (1 without), the block's own gain is ``sqrt(P² + 2 P c
    s B + (s B)²)``.
    """

    entries: tuple[LedgerEntry, ...]
    end_to_end_log10: float
    decades: dict[str, float]

    def split(self) -> dict[str, float]:
        """Return the decades of the end-to-end gain by group; they add up to ``end_to_end_log10``."""
        return dict(self.decades)

    def to_dict(self) -> dict[str, Any]:
        """Return the branch as plain numbers, strings and lists."""
        return {
            "end_to_end_log10": self.end_to_end_log10,
            "split": self.split(),
            "entries": [entry.to_dict() for entry in self.entries],
        }


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
    shares: Callable[[], Array] = field(repr=False)  # by op: asked for only by `share`

    @cached_property
    def share(self) -> Array:
        """Part of ``‖g‖²`` that belongs to the layer; norm before the first dense op counts with it. Sums to 1."""
        starts = self.op.copy()
        starts[0] = 0
        return np.add.reduceat(self.shares(), starts)

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
    arithmetic : tuple of ArithmeticShare or None
        The arithmetic's own share in the ops whose counters fired; None: not asked for.

    Attributes
    ----------
    entries : tuple of LedgerEntry
        One entry per op of the plan; a residual block is one entry with a nested ``branch``.
    end_to_end_log10 : float
        log10 of the backward gain from the delta of the logits to the delta of the first pre-activation.

    Examples
    --------
    >>> import numpy as np
    >>> from gradcore import mlp
    >>> ledger = mlp([2, 4, 4, 1], activation="tanh", seed=0).ledger(np.eye(2), [0.0, 1.0])
    >>> [entry.name for entry in ledger.entries]
    ['dense 1', 'tanh 1', 'dense 2', 'tanh 2', 'dense 3']
    >>> 0 < ledger["tanh 2"].backward_gain <= 1
    True
    """

    plan: Plan
    records: npt.NDArray[np.void] = field(repr=False)
    loss: float
    level: str = "full"
    rows: int = 1
    step: int | None = None
    arithmetic: tuple[ArithmeticShare, ...] | None = None

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

    def __getitem__(self, name: str) -> LedgerEntry:
        """Return the entry of an op by its name, inside branches too: ``ledger["relu 3"]``."""
        entry = self._by_name.get(name)
        if entry is None:
            raise KeyError(str(unknown_name("op", name, self._by_name)))
        return entry

    @cached_property
    def _by_name(self) -> dict[str, LedgerEntry]:
        return {entry.name: entry for entry, _, _ in self._walk(self.entries)}

    def _walk(
        self, entries: tuple[LedgerEntry, ...], depth: int = 0, parent: str | None = None
    ) -> Iterator[tuple[LedgerEntry, int, str | None]]:
        """Every entry with its depth and the block it is in; a block comes before what is inside."""
        for entry in entries:
            yield entry, depth, parent
            if entry.projection is not None:
                yield entry.projection, depth + 1, entry.name
            if entry.branch is not None:
                yield from self._walk(entry.branch.entries, depth + 1, entry.name)

    def _build(self, first: int, end: int) -> Iterator[LedgerEntry]:
        for op, last in self._links(first, end):
            yield self._entry(op, last, self._branch(op, last) if last > op else None)

    def _branch(self, fork: int, join: int) -> Branch:
        # in a block that reads the network's input no delta is known before the first pre-activation
        first = self.plan.branch_start(fork)
        chain = self._chain(first, join, begun=int(self.plan.table["d_input"][fork]) != 0)
        decades = self._decades(chain)
        return Branch(
            tuple(self._build(first, join)), math.fsum(decades), self._by_group(chain, decades.tolist())
        )

    def _entry(self, first: int, last: int, branch: Branch | None) -> LedgerEntry:
        row = self.plan.table[last]
        kind = int(row["kind"])
        # (the records end with the network's input)
        before = int(self.plan.before[first])
        columns_in = int(self.plan.table[first]["columns_in"])
        columns_out = int(row["columns_out"])
        source, output = self._fold(before, "output"), self._fold(last, "output")
        d_output, d_input = self._fold(last, "d_output"), self._fold(first, "d_input")
        if math.isnan(d_input.norm) and first and int(self.plan.table[before]["kind"]) not in (_FORK, _JOIN):
            # the same array as dL/d(output) of the op before, which a light ledger books once
            d_input = self._fold(before, "d_output")
        weight, update = self._value(last, "weight"), self._value(last, "update")
        skip, through = self._value(last, "skip"), self._value(last, "branch")
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
            gradient_share=float(self.gradient_shares[first : last + 1].sum()),
            weight=weight,
            update=update,
            update_ratio=_ratio(update, weight) if has_weight else math.nan,
            flat_fraction=self._flat(last) / elements if kind == _ACTIVATION else math.nan,
            lost=output.signal <= scale * float(np.finfo(self.dtype).eps) * math.sqrt(self._fan_in(last)),
            dtype=self.dtype,
            branch=branch,
            projection=self._projection(first) if branch else None,
            skip_norm=skip if branch else math.nan,
            branch_norm=through if branch else math.nan,
            cosine=self._cosine(last, skip, through, d_input.norm) if branch else math.nan,
            arithmetic=tuple(share for share in self.arithmetic or () if share.op == last),
        )

    def _projection(self, fork: int) -> LedgerEntry | None:
        op = self.plan.skip(fork)
        return None if op is None else self._entry(op, op, None)

    def _cosine(self, join: int, skip: float, branch: float, total: float) -> float:
        if not (0 < skip < math.inf and 0 < branch < math.inf):
            return math.nan
        if 1e-290 < skip * branch < 1e290:
            return self._value(join, "cosine")
        # the dot product left the range of double: the law of cosines on ratios
        ratio, gain = branch / skip, total / skip
        return max(-1.0, min(1.0, (gain * gain - 1 - ratio * ratio) / (2 * ratio)))

    def _flat(self, op: int) -> float:
        # "flat" is relative to the largest slope, and the exponential has none
        return math.nan if int(self.plan.table[op]["code"]) == _EXPONENTIAL else self._value(op, "flat")

    def _scale(self, norm: float, columns: int) -> float:
        return norm / math.sqrt(self.rows * columns)

    def _fan_in(self, op: int) -> int:
        """Fan-in of the dense op whose rounding the output of ``op`` carries."""
        chain = (self.plan.table["kind"] == _DENSE) & ~self.plan.projections
        chain[op] |= self.plan.projections[op]
        dense = np.flatnonzero(chain[: op + 1])
        return int(self.plan.table["columns_in"][dense[-1]]) if len(dense) else 1

    def layers(self) -> Layers:
        """Return the books by layer, as arrays: what the rules read."""
        table, records = self.plan.table, self.records
        op = np.flatnonzero(table["kind"] == _DENSE)
        fan_in, units = table["columns_in"][op], table["columns_out"][op]
        before = self.plan.before[op]  # (-1: the last record, of the network's input)
        after = np.where(self.plan.projections[op], op, np.append(op[1:] - 1, len(table) - 1))
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
            shares=partial(getattr, self, "gradient_shares"),
        )

    @cached_property
    def gradient_shares(self) -> Array:
        """Part of ``‖g‖²`` of each op of the plan: 0 without parameters, NaN for a zero or non-finite gradient."""
        table, records = self.plan.table, self.records[:-1]
        norms = np.where(
            [table["weight"] >= 0, table["bias"] >= 0],
            [records["weight_gradient"]["norm"], records["bias_gradient"]],
            0.0,
        )
        largest = norms.max()
        if not 0 < largest < math.inf:
            return np.full(len(table), np.nan)
        # of multiples of the largest: its square leaves the range of double where the norm does not
        squares = np.square(norms / largest).sum(axis=0)
        return np.asarray(squares / squares.sum())

    # -- adding up -------------------------------------------------------------------------------------------------

    def _links(self, first: int, end: int) -> Iterator[tuple[int, int]]:
        """First and last op of every entry among ops[first:end]."""
        kinds, partners = self._kinds, self.plan.table["partner"].tolist()
        op = first
        while op < end:
            last = partners[op] if kinds[op] == _FORK else op
            yield op, last
            op = last + 1

    @cached_property
    def _kinds(self) -> list[int]:
        kinds: list[int] = self.plan.table["kind"].tolist()
        return kinds

    def _chain(self, first: int, end: int, *, begun: bool) -> npt.NDArray[np.int64]:
        """First and last op, (2, entries), of every entry whose gain counts; unless begun, from the first delta on."""
        chain = []
        for op, last in self._links(first, end):
            if begun:
                chain.append((op, last))
            begun = begun or self._kinds[op] in (_DENSE, _FORK)
        return np.array(chain, np.int64).reshape(-1, 2).T

    def _decades(self, chain: npt.NDArray[np.int64]) -> Array:
        """log10 of the backward gain of every entry of a chain, NaN where there is none."""
        first, last = chain
        records = self.records
        below, above = records["d_input"]["norm"][first], records["d_output"]["norm"][last]
        source = self.plan.before[first]
        before = self.plan.table["kind"][source]
        booked_once = np.isnan(below) & (before != _FORK) & (before != _JOIN)
        below = np.where(booked_once, records["d_output"]["norm"][source], below)
        ok = (below > 0) & (above > 0) & np.isfinite(below) & np.isfinite(above)
        return np.where(ok, np.log10(np.where(ok, below, 1.0)) - np.log10(np.where(ok, above, 1.0)), np.nan)

    def _by_group(self, chain: npt.NDArray[np.int64], decades: list[float]) -> dict[str, float]:
        parts: dict[str, list[float]] = {}
        for last, value in zip(chain[1].tolist(), decades, strict=True):
            parts.setdefault(_KIND_GROUPS[self._kinds[last]], []).append(value)
        return {group: math.fsum(parts[group]) for group in GROUPS if group in parts}

    @cached_property
    def _main_chain(self) -> npt.NDArray[np.int64]:
        """From the delta of the logits to that of the first pre-activation."""
        return self._chain(0, len(self.plan.table), begun=False)

    @cached_property
    def _main_decades(self) -> list[float]:
        decades: list[float] = self._decades(self._main_chain).tolist()
        return decades

    @property
    def end_to_end_log10(self) -> float:
        """log10 of the end-to-end gain: the sum of the log10 backward gains along the chain."""
        return math.fsum(self._main_decades)

    def split(self) -> dict[str, float]:
        """Return the decades of the end-to-end gain by group; they add up to ``end_to_end_log10``."""
        return self._by_group(self._main_chain, self._main_decades)

    def chain_counts(self) -> dict[str, int]:
        """Return how many entries of the chain are in each group."""
        groups = [_KIND_GROUPS[self._kinds[last]] for last in self._main_chain[1].tolist()]
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
            "exact": self.arithmetic is not None,
            "end_to_end_log10": self.end_to_end_log10,
            "split": self.split(),
            "input": self.input._asdict(),
            "entries": [entry.to_dict() for entry in self.entries],
        }

    def to_rows(self) -> list[dict[str, Any]]:
        """Return one flat dict per entry, those inside blocks included, with their depth and parent block."""
        rows = []
        for entry, depth, parent in self._walk(self.entries):
            row: dict[str, Any] = {"depth": depth, "parent": parent}
            for name, value in entry.to_dict().items():
                if name in ("arithmetic", "projection"):  # (a projection has a row of its own)
                    continue
                if name == "branch":
                    row["branch_end_to_end_log10"] = value["end_to_end_log10"] if value else math.nan
                elif name == "headroom":
                    row |= {
                        f"{place}_to_{end}": n for place, both in value.items() for end, n in both.items()
                    }
                elif isinstance(value, dict):
                    row |= {f"{name}_{key}": number for key, number in value.items()}
                else:
                    row[name] = value
            rows.append(row)
        return rows

    def to_frame(self) -> Any:
        """Return the rows of `to_rows` as a pandas DataFrame.

        Raises
        ------
        ImportError
            pandas is not installed.
        """
        try:
            pandas = importlib.import_module("pandas")
        except ImportError as error:
            raise ImportError("to_frame needs pandas: pip install pandas (or use to_rows)") from error
        return pandas.DataFrame(self.to_rows())

    def __str__(self) -> str:
        head = (
            f"{'op':<22}{'scale':>9}{'signal':>9}{'fwd gain':>9}"
            f"{'delta':>9}{'bwd gain':>9}{'gradient':>9}{'share':>7}{'flat':>6}"
        )
        lines = [head, "-" * len(head)]
        for entry, depth, _ in self._walk(self.entries):
            lines.append(self._line(entry, depth))
            lines += [f"{'  ' * (depth + 1)}· {note}" for note in self._notes(entry)]
        lines.append(_sum_line(self.end_to_end_log10, self.split()))
        lines.append(
            f"loss {self.loss:.6g}, {count(self.rows, 'row')}, {self.dtype.name}, {self.level} ledger"
        )
        return "\n".join(lines)

    def _line(self, entry: LedgerEntry, depth: int) -> str:
        columns = int(self.plan.table[entry.op]["columns_out"])
        signal = "lost" if entry.lost else _number(entry.output.signal)
        flat = "" if math.isnan(entry.flat_fraction) else f"{entry.flat_fraction:.0%}"
        share = f"{entry.gradient_share:.1%}" if entry.gradient_share > 0 else ""
        name = "  " * depth + entry.name
        return (
            f"{name:<22.22}{_number(self._scale(entry.output.norm, columns)):>9}{signal:>9}"
            f"{_number(entry.forward_gain):>9}{_number(entry.d_output.norm):>9}"
            f"{_number(entry.backward_gain):>9}{_number(entry.weight_gradient.norm, entry.kind == 'dense'):>9}"
            f"{share:>7}{flat:>6}"
        ).rstrip()

    def _notes(self, entry: LedgerEntry) -> Iterator[str]:
        """What a line of numbers has no column for."""
        if entry.branch is not None:
            yield (
                f"delta by the skip {_number(entry.skip_norm)}, by the branch {_number(entry.branch_norm)}, "
                f"cosine {_number(entry.cosine)}"
            )
            yield "branch " + _sum_line(entry.branch.end_to_end_log10, entry.branch.split())
        # closer to the edge than a number has bits: its neighbours are no longer told apart as well as elsewhere
        bits = np.finfo(self.dtype).nmant
        for place, (above, below) in entry.headroom().items():
            if above < bits:
                yield f"{_PLACES[place]} within 2^{above:.0f} of overflow"
            if below < bits:
                where = f"within 2^{below:.0f} of underflow" if below >= 0 else "down to subnormal numbers"
                yield f"{_PLACES[place]} {where}"
        yield from (str(share) for share in entry.arithmetic if share.born)


def _sum_line(end_to_end: float, split: dict[str, float]) -> str:
    def signed(x: float) -> str:
        return "-" if math.isnan(x) else f"{x:+.1f}"

    parts = "  ".join(f"{group} {signed(decades)}" for group, decades in split.items())
    return f"end to end, log10: {signed(end_to_end)}   split: {parts}".rstrip()


def count(number: int, name: str) -> str:
    """Write a number of things: 1 row, 2 rows."""
    return f"{number} {name}{'' if number == 1 else 's'}"


def _number(x: float, shown: bool = True) -> str:
    """Three significant digits in at most eight characters; a dash where there is no number."""
    if not shown or math.isnan(x):
        return "-"
    if math.isinf(x):
        return "inf" if x > 0 else "-inf"
    return f"{x:.3g}" if x == 0 or 1e-3 <= abs(x) < 1e4 else f"{x:.1e}"
