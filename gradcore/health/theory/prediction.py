"""What theory expects of one network: forward and backward gains of every op, without running it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gradcore import kernels
from gradcore.activations import REGISTRY, ActivationInfo
from gradcore.health.theory.finite_width import dead_below, dead_layer_chance, gain_variance
from gradcore.health.theory.gaussian import moments

if TYPE_CHECKING:
    from gradcore.network import Network

Array = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

_KINDS = {number: name for name, number in kernels.OP_KINDS.items()}
_ACTIVATIONS = {info.code: info for info in REGISTRY.values()}

# Pairs of examples are as unlike as the data has them: so many classes of pairs of equal number …
_PAIR_CLASSES = 8
# … measured on so many rows at most.
_PAIR_ROWS = 64
# A mean of weights or biases counts from so many standard errors on; below, it is the chance of the draw.
_SIGMAS = 4.0


@dataclass(frozen=True)
class PredictedEntry:
    """The predicted books of one op, in the words of `LedgerEntry`.

    A residual block is one entry with its branch and, where there is one, its projection.

    ``valid`` is False where the numbers should not be relied on: an assumption of the theory is broken here, or at an
    op before (forward) or after (backward) that these numbers rest on.  The assumptions: weights that are independent
    and many (no identity matrix) and whose mean does not decide the deltas (their sum is the loss's affair),
    activations that read Gaussian sums (not other activations), branches with a dense op inside, exponentials small
    enough for averages to mean something, finite numbers, no softmax.
    """

    op: int
    name: str
    kind: str
    forward_gain: float
    scale_ratio: float
    backward_gain: float
    valid: bool
    branch: tuple[PredictedEntry, ...] = ()
    projection: PredictedEntry | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the entry as plain numbers, strings and lists."""
        return {
            **self.__dict__,
            "branch": [entry.to_dict() for entry in self.branch],
            "projection": self.projection and self.projection.to_dict(),
        }


@dataclass(frozen=True)
class Prediction:
    """What theory expects of a network's books before any data is seen (or given the moments of the data).

    Attributes
    ----------
    entries : tuple of PredictedEntry
        One per op, in the order and nesting of ``Ledger.entries``.
    signal_log10, scale_log10, delta_log10 : ndarray, one element per layer in the order of ``Ledger.layers()``
        log10 of the signal and of the rms of the layer's output, and of ‖dL/dz‖ over that of the last layer.
    valid_layers : ndarray of bool
        Where these can be relied on.
    depth_scale : float
        Layers over which the squared delta changes by a factor e; infinite for a network in balance.
    narrowness : float
        Sum of 1 / width over the hidden layers: the scatter of gains grows with it (Hanin & Rolnick, "How to start
        training: the effect of initialization and architecture", 2018).
    dead_layer_chance : float
        `gradcore.theory.dead_layer_chance` of the ReLU layers outside residual blocks.
    overflow_layer, underflow_layer : int or None
        The first layer, forward and then backward, whose rms is expected to leave the dtype.
    overflow_depth, underflow_depth : float
        How many layers like these it takes, by the mean gain per layer; infinite when never.
    end_to_end_log10, end_to_end_std : float
        log10 of the backward gain from the delta of the outputs to that of the first pre-activation, and the standard
        deviation (decades) that finite widths add.
    """

    dtype: np.dtype[Any]
    entries: tuple[PredictedEntry, ...]
    signal_log10: Array
    scale_log10: Array
    delta_log10: Array
    valid_layers: Bools
    depth_scale: float
    narrowness: float
    dead_layer_chance: float
    overflow_layer: int | None
    underflow_layer: int | None
    overflow_depth: float
    underflow_depth: float
    end_to_end_log10: float
    end_to_end_std: float

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the entries."""
        return tuple(entry.name for entry in self.entries)

    @cached_property
    def forward_gain(self) -> Array:
        """Ratio of signals, by entry."""
        return np.array([entry.forward_gain for entry in self.entries])

    @cached_property
    def scale_ratio(self) -> Array:
        """Ratio of rms values, by entry."""
        return np.array([entry.scale_ratio for entry in self.entries])

    @cached_property
    def backward_gain(self) -> Array:
        """‖dL/d(input)‖ over ‖dL/d(output)‖, by entry."""
        return np.array([entry.backward_gain for entry in self.entries])

    @cached_property
    def valid(self) -> Bools:
        """Whether theory applies, by entry."""
        return np.array([entry.valid for entry in self.entries])

    def to_dict(self) -> dict[str, Any]:
        """Return the prediction as plain numbers, strings and lists (NaN and infinity as they are)."""
        plain = {
            name: value.tolist() if isinstance(value, np.ndarray) else value
            for name, value in self.__dict__.items()
            if name in self.__dataclass_fields__
        }
        return {
            **plain,
            "dtype": self.dtype.name,
            "entries": [entry.to_dict() for entry in self.entries],
        }

    def __str__(self) -> str:
        head = f"{'op':<22}{'fwd gain':>10}{'scale ratio':>13}{'bwd gain':>10}"
        lines = [head, "-" * len(head), *_lines(self.entries, 0)]
        lines.append(
            f"end to end, log10: {self.end_to_end_log10:+.1f} ± {self.end_to_end_std:.1f}   "
            f"depth scale {self.depth_scale:.3g} layers   sum of 1/width {self.narrowness:.3g}"
        )
        lines.append(
            f"dead layer at birth: {self.dead_layer_chance:.2g}   {self.dtype.name} overflows after "
            f"{self.overflow_depth:.3g} layers, underflows after {self.underflow_depth:.3g}"
        )
        return "\n".join(lines)


def _lines(entries: tuple[PredictedEntry, ...], indent: int) -> Iterator[str]:
    for entry in entries:
        name = "  " * indent + entry.name
        mark = "" if entry.valid else "  outside the theory"
        yield (
            f"{name:<22.22}{entry.forward_gain:>10.3g}{entry.scale_ratio:>13.3g}{entry.backward_gain:>10.3g}{mark}"
        )
        yield from _lines(((entry.projection,) if entry.projection else ()) + entry.branch, indent + 1)


@dataclass
class _State:
    """Statistics of one activation matrix, expected over the weights; all are roots, so that tiny ones survive.

    With x the value of a unit on a row: `mean` over units and rows; `scale` = rms; `pairs` = √(½ (x_a − x_b)²) for
    pairs of rows, one per class of pairs; `common` = standard deviation over the rows of the mean over the units,
    beyond what independent units would have; `rough` = standard deviation of the part that is no sum over many inputs,
    hence not Gaussian.
    """

    mean: float
    scale: float
    common: float
    pairs: Array
    rows: float
    rough: float = 0.0

    @property
    def signal(self) -> float:
        """√ of the mean over all pairs, those of a row with itself included."""
        return math.hypot(*self.pairs.tolist()) * math.sqrt((1 - 1 / self.rows) / len(self.pairs))

    @property
    def deviation(self) -> float:
        """Root mean square about the mean."""
        above, below = self.scale - self.mean, self.scale + self.mean
        return math.sqrt(above) * math.sqrt(below) if above > 0 and below > 0 else 0.0


@dataclass
class _Backward:
    """How an op takes deltas back: rms `delta` of the elements and rms `common` of their mean over the units.

    `common` is what independent units would not have; only weights with a mean make it.
    """

    gain: float
    common_gain: float
    units: int = 0  # of a dense op, whose inputs all see the sum of its deltas times the mean weight

    def through(self, delta: float, common: float) -> tuple[float, float]:
        if not self.units:
            return self.gain * delta, self.common_gain * common
        seen = self.common_gain * math.hypot(self.units * common, math.sqrt(self.units) * delta)
        return math.hypot(self.gain * delta, seen), seen


def predict(net: Network, X: npt.ArrayLike | None = None) -> Prediction:
    """Predict the ledger of a network from its weights' moments, widths, activations, norms and blocks.

    Forward, theory follows the mean square of the activations and that of the difference between examples; backward,
    the mean square of the deltas, taken as independent of the weights (Poole et al. 2016; Schoenholz et al. 2017).
    Every op uses the second moments and means of this network's own parameters.

    Parameters
    ----------
    net : Network
    X : array_like, shape (rows, input_size), optional
        Data whose scale, means and likeness of rows are taken; without: independent inputs of mean 0 and variance 1.

    Returns
    -------
    Prediction

    Raises
    ------
    ValueError, TypeError
        X of another shape, without rows, with NaN or infinity, or not of numbers; `net` is no network.

    Notes
    -----
    Taken as in training mode: batch norm by the batch, dropout on.  The delta of the outputs is taken to have
    independent signs.

    Examples
    --------
    >>> from gradcore import mlp
    >>> prediction = predict(mlp([64, *20 * [128], 10], activation="sigmoid", seed=0))
    >>> prediction.end_to_end_log10 < -10
    True
    """
    if not hasattr(net, "plan"):
        raise TypeError(f"net must be a Network, such as mlp([4, 64, 3]), got {net!r}")
    with np.errstate(all="ignore"):
        walk = _Walk(net)
        walk.forward(_input_state(net, X))
        walk.backward()
        return walk.prediction()


def _input_state(net: Network, X: npt.ArrayLike | None) -> _State:
    columns = net.plan.columns_in
    if X is None:
        return _State(0.0, 1.0, 0.0, np.ones(1), math.inf)
    try:
        x = np.asarray(X, np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"X must hold numbers, rows of equal length: {error}") from None
    if x.ndim != 2 or x.shape[1] != columns or not len(x):
        raise ValueError(f"X must have the shape (rows, {columns}) with at least one row, got {x.shape}")
    largest = float(np.abs(x).max())
    if not math.isfinite(largest):
        raise ValueError("X has NaN or infinity; theory needs numbers")
    rows = len(x)
    if largest == 0 or rows == 1:
        return _State(float(x.mean()), largest and largest * _rms(x / largest), 0.0, np.zeros(1), float(rows))
    x = x / largest
    centred = x - x.mean(axis=0)
    signal = _rms(centred)
    independent = signal / math.sqrt(columns)
    common = math.sqrt(max(0.0, float(x.mean(axis=1).var()) - independent**2))
    # mean square over all pairs of rows, those of a row with itself included, is twice the signal squared
    pairs = _pair_classes(centred) * (signal / math.sqrt(1 - 1 / rows))
    return _State(
        largest * float(x.mean()), largest * _rms(x), largest * common, largest * pairs, float(rows)
    )


def _rms(x: Array) -> float:
    return math.sqrt(float(np.mean(x * x)))


def _pair_classes(centred: Array) -> Array:
    """Return the distances of pairs of rows, their mean by class of equal number, in units of their rms."""
    some = centred[:: -(-len(centred) // _PAIR_ROWS)]
    products = some @ some.T
    squares = np.diag(products)
    first, second = np.triu_indices(len(some), 1)
    distances = np.sort(np.maximum(squares[first] + squares[second] - 2 * products[first, second], 0.0))
    classes = [part.mean() for part in np.array_split(distances, min(_PAIR_CLASSES, len(distances)))]
    mean = float(np.mean(classes))
    return np.sqrt(np.array(classes) / mean) if mean > 0 else np.ones(1)


class _Walk:
    """One pass forward and one back over the plan."""

    def __init__(self, net: Network) -> None:
        self.plan, self.arena, self.dtype = net.plan, net.parameters, np.dtype(net.dtype)
        names = kernels.OP_DTYPE.names
        assert names is not None
        self.ops: list[dict[str, Any]] = [
            dict(zip(names, row, strict=True)) for row in self.plan.table.tolist()
        ]
        self.kinds = [_KINDS[op["kind"]] for op in self.ops]
        n = len(self.ops)
        self.steps: list[_Backward] = []
        # by op; the last one is the input's, as in the ledger's records
        self.signal, self.scale, self.ok = (n + 1) * [0.0], (n + 1) * [0.0], (n + 1) * [True]
        self.d_output, self.d_input = n * [0.0], n * [0.0]
        self.shares: dict[int, float] = {}
        self.valid, self.rows = True, math.inf
        self.variances: dict[int, float] = {}
        self.off: dict[int, float] = {}

    # -- forward

    def forward(self, state: _State) -> None:
        """Follow the statistics of the activations from the input to the outputs."""
        self.rows = state.rows
        forks: list[tuple[_State, int]] = []
        self._book(-1, state)
        for i, kind in enumerate(self.kinds):
            if kind == "fork":
                forks.append((state, i))
                self.steps.append(_Backward(1.0, 1.0))
            elif self.plan.projections[i]:
                skip, step = self._dense(i, self.ops[i], state)
                forks[-1] = skip, forks[-1][1]
                self.steps.append(step)
                self._book(i, skip)
                continue
            elif kind == "join":
                skip, fork = forks.pop()
                # the two paths are independent when a dense op lies between them
                self.valid &= "dense" in self.kinds[fork:i]
                state = _join(skip, state, self.ops[i]["parameter"])
                self.steps.append(_Backward(1.0, 1.0))
            else:
                state, step = getattr(self, f"_{kind}")(i, self.ops[i], state)
                self.steps.append(step)
            self._book(i, state)

    def _book(self, i: int, state: _State) -> None:
        self.valid &= math.isfinite(state.scale)
        self.signal[i], self.scale[i], self.ok[i] = state.signal, state.scale, self.valid

    def _parameter(self, offset: int, rows: int, columns: int) -> tuple[float, float, float]:
        """Return mean, standard deviation and kurtosis of one parameter, straight from its (zero-padded) tiles."""
        padded = -(-columns // self.plan.tile) * self.plan.tile
        block = self.arena[offset : offset + rows * padded]
        if rows == 1 and not block.any():  # the usual bias
            return 0.0, 0.0, math.nan
        return _moments_of(block, rows * columns)

    def _dense(self, i: int, op: dict[str, Any], x: _State) -> tuple[_State, _Backward]:
        inputs, units = op["columns_in"], op["columns_out"]
        weight, spread, kurtosis = self._parameter(op["weight"], inputs, units)
        bias, bias_spread = self._parameter(op["bias"], 1, units)[:2] if op["bias"] >= 0 else (0.0, 0.0)
        # the sum over the inputs is no Gaussian where few weights carry it (an identity matrix)
        self.valid &= not kurtosis > max(6.0, inputs / 4)
        self.variances[i] = 2 / inputs
        gain = math.sqrt(inputs) * spread
        mean = weight * inputs * x.mean + bias
        common, pairs = 0.0, gain * x.pairs
        if weight:
            common = abs(weight) * inputs * math.hypot(x.common, x.signal / math.sqrt(inputs))
            pairs = np.hypot(pairs, common)
        z = _State(mean, math.hypot(gain * x.scale, mean, common, bias_spread), common, pairs, x.rows)
        return z, _Backward(math.sqrt(units) * spread, abs(weight), units)

    def _activation(self, i: int, op: dict[str, Any], z: _State) -> tuple[_State, _Backward]:
        info, parameter, mean, deviation = _ACTIVATIONS.get(op["code"]), op["parameter"], z.mean, z.deviation
        if info is None:  # softmax: exp(z) / Σ exp(z), the sum taken as its expectation
            self.valid = False
            info, mean = REGISTRY["exponential"], -0.5 * deviation * deviation - math.log(op["columns_out"])
        if not math.isfinite(mean) or not math.isfinite(deviation):
            nan = math.nan
            return _State(nan, nan, nan, nan * z.pairs, z.rows), _Backward(nan, nan)
        f = moments(info, parameter, mean, deviation)
        scale = deviation if deviation > 0 else 1.0
        pairs = f.difference((z.pairs / scale) ** 2)
        common = 0.0
        if z.common > 0:
            alike = f.difference(np.array([1 - (z.common / scale) ** 2]))[0]
            common = math.sqrt(max(0.0, (f.std - alike) * (f.std + alike)))
        self._finite_width(i, info, parameter, z)
        if info.name != "identity":
            self.valid &= z.rough <= 0.5 * deviation
        a = _State(f.mean, f.rms, common, pairs, z.rows)
        a.rough = a.deviation
        return a, _Backward(f.slope_rms, abs(f.slope_mean))

    def _finite_width(self, i: int, info: ActivationInfo, parameter: float, z: _State) -> None:
        spec = _spec(info.name, parameter)
        step = gain_variance(spec, z.scale, self.ops[i]["columns_in"])
        # what the slopes add to the 2 / width of the weights, which are the next dense op's
        self.variances[i] = step - 2 / self.ops[i]["columns_in"] if math.isfinite(step) else 0.0
        # few units decide a sum of exponentials; of other functions the mean stays right
        self.valid &= step < 0.1 or math.isfinite(info.max_slope)
        edge = dead_below(spec)
        if edge > -math.inf:
            # the chance that a Gaussian is below the edge
            above = (
                (z.mean - edge) / z.deviation if z.deviation > 0 else math.copysign(math.inf, z.mean - edge)
            )
            self.off[i] = 0.5 * math.erfc(above / math.sqrt(2))

    def _batch_norm(self, i: int, op: dict[str, Any], z: _State) -> tuple[_State, _Backward]:
        columns = op["columns_out"]
        gamma, gamma_spread, _ = self._parameter(op["weight"], 1, columns)
        beta, beta_spread, _ = self._parameter(op["bias"], 1, columns)
        gamma_rms = math.hypot(gamma, gamma_spread)
        factor = gamma_rms / math.hypot(z.signal, math.sqrt(op["eps"]))
        scale = math.hypot(factor * z.signal, beta, beta_spread)
        y = _State(beta, scale, factor * z.common, factor * z.pairs, z.rows, factor * z.rough)
        return y, _Backward(factor * _norm_correction(z), factor * gamma / gamma_rms if gamma_rms else 0.0)

    def _layer_norm(self, i: int, op: dict[str, Any], z: _State) -> tuple[_State, _Backward]:
        """Divide by the deviation over the units, which is the same for all rows where the units are many.

        What all units of a row have in common goes: their mean over the network, `z.mean`, and that of the row,
        `z.common`. Backward two directions of each row go with it (Ba, Kiros & Hinton 2016), 1 / columns of its square
        each; that of the constant takes all of what the deltas of a row have in common.
        """
        columns = op["columns_out"]
        gamma, gamma_spread, _ = self._parameter(op["weight"], 1, columns)
        beta, beta_spread, _ = self._parameter(op["bias"], 1, columns)
        gamma_rms = math.hypot(gamma, gamma_spread)
        own = math.sqrt(max(0.0, (z.deviation - z.common) * (z.deviation + z.common)) * (1 - 1 / columns))
        factor = gamma_rms / math.hypot(own, math.sqrt(op["eps"]))
        # a pair's difference loses the share that the whole row has
        pairs = np.sqrt(np.maximum(0.0, (z.pairs - z.common) * (z.pairs + z.common)) * (1 - 1 / columns))
        y = _State(
            beta, math.hypot(factor * own, beta, beta_spread), 0.0, factor * pairs, z.rows, factor * z.rough
        )
        return y, _Backward(factor * math.sqrt(max(0.0, 1 - 2 / columns)), 0.0)

    def _dropout(self, i: int, op: dict[str, Any], x: _State) -> tuple[_State, _Backward]:
        rate = op["parameter"]
        kept = 1 / math.sqrt(1 - rate)
        noise = x.scale * kept * math.sqrt(rate)
        y = _State(x.mean, x.scale * kept, x.common, np.hypot(x.pairs, noise), x.rows)
        y.rough = y.deviation
        return y, _Backward(kept, 1.0)

    # -- backward

    def backward(self) -> None:
        """Follow the deltas from the outputs, where their rms is 1, to the input."""
        delta, common = 1.0, 0.0
        skips: list[tuple[float, float]] = []
        decided = True
        for i in range(len(self.ops) - 1, -1, -1):
            op, kind = self.ops[i], self.kinds[i]
            if self.plan.projections[i]:
                skip, skip_common = skips.pop()
                self.d_output[i] = math.sqrt(op["columns_out"]) * skip
                seen = self.steps[i].through(skip, skip_common)
                decided &= not seen[1] > 0.2 * seen[0]
                skips.append(seen)
                self.ok[i] &= decided
                self.d_input[i] = math.sqrt(op["columns_in"]) * seen[0]
                continue
            self.d_output[i] = math.sqrt(op["columns_out"]) * delta
            if kind == "join":
                skips.append((delta, common))
                delta, common = abs(op["parameter"]) * delta, abs(op["parameter"]) * common
            elif kind == "fork":
                skip, skip_common = skips.pop()
                total = math.hypot(skip, delta)
                self.shares[i] = (delta / total) ** 2 if total > 0 else 0.0
                delta, common = total, math.hypot(skip_common, common)
            else:
                step = self.steps[i]
                seen = step.through(delta, common)
                # weights with a mean hand down the sum of the deltas, and that is the loss's affair
                decided &= not (step.units and seen[1] > 0.2 * seen[0])
                delta, common = seen
            self.ok[i] &= decided
            self.d_input[i] = math.sqrt(op["columns_in"]) * delta

    # -- result

    def prediction(self) -> Prediction:
        """Put it all together."""
        dense = np.array([i for i, kind in enumerate(self.kinds) if kind == "dense"])
        after = np.where(self.plan.projections[dense], dense, np.append(dense[1:] - 1, len(self.ops) - 1))
        norms = np.log10(np.array(self.d_output)[dense])
        # from the delta of the outputs to that of the first pre-activation, as in the ledger
        begin = next(i for i, kind in enumerate(self.kinds) if kind in ("dense", "fork"))
        begin = max(begin, self.ops[begin]["partner"]) + 1
        entries = tuple(self._entries(0, len(self.ops)))
        chain = [entry for entry in entries if entry.op >= begin]
        decades = math.fsum(math.log10(entry.backward_gain) for entry in chain)
        hidden = np.array([self.ops[i]["columns_out"] for i in dense[:-1]], float)
        layers = sum(entry.kind in ("dense", "residual") for entry in chain)
        return Prediction(
            dtype=self.dtype,
            entries=entries,
            signal_log10=np.log10(np.array(self.signal)[after]),
            scale_log10=np.log10(np.array(self.scale)[after]),
            delta_log10=norms - norms[-1],
            valid_layers=np.array(self.ok)[dense],
            depth_scale=layers / abs(2 * math.log(10) * decades) if decades else math.inf,
            narrowness=float((1 / hidden).sum()),
            dead_layer_chance=dead_layer_chance(*self._rectifiers()),
            **self._limits(dense),
            end_to_end_log10=decades,
            # half, because the books are kept in gains and the variance is that of their squares
            end_to_end_std=0.5 * math.sqrt(self._variance(begin, len(self.ops))) / math.log(10),
        )

    def _entries(self, first: int, end: int) -> Iterator[PredictedEntry]:
        op = first
        while op < end:
            last = self.ops[op]["partner"] if self.kinds[op] == "fork" else op
            yield self._entry(op, last)
            op = last + 1

    def _entry(self, op: int, last: int) -> PredictedEntry:
        before = int(self.plan.before[op])
        block = last > op
        skip = self.plan.skip(op) if block else None
        return PredictedEntry(
            op=last,
            name=self.plan.names[last],
            kind="residual" if block else self.kinds[op],
            forward_gain=_ratio(self.signal[last], self.signal[before]),
            scale_ratio=_ratio(self.scale[last], self.scale[before]),
            backward_gain=_ratio(self.d_input[op], self.d_output[last]),
            valid=self.ok[last],
            branch=tuple(self._entries(self.plan.branch_start(op), last)) if block else (),
            projection=None if skip is None else self._entry(skip, skip),
        )

    def _variance(self, first: int, end: int) -> float:
        """Variance of the log of the squared gain; a block has only its branch's share of its gain at stake."""
        total, op = 0.0, first
        while op < end:
            if self.kinds[op] == "fork":
                last = self.ops[op]["partner"]
                total += self.shares[op] ** 2 * self._variance(self.plan.branch_start(op), last)
                op = last
            else:
                total += self.variances.get(op, 0.0)  # norm and dropout add none
            op += 1
        return total

    def _rectifiers(self) -> tuple[list[int], list[float]]:
        """Widths of the ReLU layers outside blocks and the chance of one of their units to be off on an example.

        After batch norm no unit is off on the whole batch, and after layer norm never all units of a row.
        """
        widths, off, depth = [], [], 0
        for i, kind in enumerate(self.kinds):
            depth += (kind == "fork") - (kind == "join")
            if i in self.off and not depth and not self.kinds[i - 1].endswith("_norm"):
                widths.append(self.ops[i]["columns_out"])
                off.append(self.off[i])
        return widths, off

    def _limits(self, dense: npt.NDArray[np.int64]) -> dict[str, Any]:
        """First layers out of the dtype's range, and the depths at which others would be, by the mean step."""
        info = np.finfo(self.dtype)
        top, bottom = math.log10(info.max), math.log10(info.tiny)
        units = np.array([self.ops[i]["columns_out"] for i in dense])
        # a mean loss: elements of the last delta are about 1 / rows
        last = -math.log10(self.rows if math.isfinite(self.rows) else 1.0)
        scale = np.log10(np.array(self.scale)[dense])
        delta = (np.log10(np.array(self.d_output)[dense] / np.sqrt(units)) + last)[::-1]
        found: dict[str, Any] = {}
        for name, limit, sign in (("overflow", top, 1), ("underflow", bottom, -1)):
            layer, depth = None, math.inf
            for course, backward in ((scale, False), (delta, True)):
                beyond = np.flatnonzero(sign * course > sign * limit)
                if len(beyond) and layer is None:
                    layer = int(len(dense) - 1 - beyond[0] if backward else beyond[0])
                depth = min(depth, float(beyond[0] + 1) if len(beyond) else _depth(course, limit, backward))
            found[f"{name}_layer"], found[f"{name}_depth"] = layer, depth
        return found


def _depth(course: Array, limit: float, backward: bool) -> float:
    """Return how many layers it takes to reach a limit by the mean step of the second half of the hidden layers."""
    hidden = course[1:] if backward else course[:-1]
    half = hidden[len(hidden) // 2 :]
    if len(half) < 2:
        return math.inf
    step, way = float(half[-1] - half[0]) / (len(half) - 1), limit - float(hidden[-1])
    # a thousandth of a decade per layer is what a draw of weights does to a network in balance
    return len(hidden) + way / step if step * way > 0 and abs(step) > 1e-3 else math.inf


def _moments_of(block: npt.NDArray[Any], count: int) -> tuple[float, float, float]:
    total = second = kurtosis = 0.0
    # by pieces: they stay in the cache, and from 10,000 elements on BLAS wakes its threads
    for i in range(0, len(block), 8192):
        piece = block[i : i + 8192].astype(np.float64)
        total += float(piece.sum())
        square = float(piece.dot(piece))
        second += square
        if not i:  # enough to tell a few large weights from many
            piece *= piece
            fourth, share = float(piece.dot(piece)), count / len(block)
            kurtosis = fourth * len(piece) * share / (square * square) if square * square > 0 else math.nan
    mean, second = total / count, second / count
    if not 1e-150 < second < 1e150:
        largest = float(np.abs(block).max())
        if not 0 < largest < math.inf:
            return largest, 0.0, math.nan
        mean, deviation, kurtosis = _moments_of(block.astype(np.float64) / largest, count)
        return largest * mean, largest * deviation, kurtosis
    variance = max(0.0, second - mean * mean)
    if mean * mean * count < _SIGMAS**2 * variance:
        mean, variance = 0.0, second
    return mean, math.sqrt(variance), kurtosis


def _join(skip: _State, branch: _State, scale: float) -> _State:
    mean = skip.mean + scale * branch.mean
    return _State(
        mean,
        math.hypot(mean, skip.deviation, scale * branch.deviation),
        math.hypot(skip.common, scale * branch.common),
        np.hypot(skip.pairs, scale * branch.pairs),
        skip.rows,
        math.hypot(skip.rough, scale * branch.rough),
    )


def _norm_correction(z: _State) -> float:
    """Return what a batch of few, or similar, rows changes in batch norm's backward gain factor / σ.

    σ² of a unit is a weighted sum of squared Gaussians, the weights being the spectrum of the rows' centred Gram matrix
    K; with r = (tr K)² / tr K² it has the relative variance 2 / r, and ``E 1/σ²`` is ``1 + 2 / r`` times the inverse
    mean (of a log-normal).  The delta loses two of its directions (Ioffe & Szegedy 2015), that of the constant and
    that of the output, 1 / rows of its square each.
    """
    signal = z.signal
    if not signal > 0:
        return 1.0
    others = (1 - 1 / z.rows) * float(np.mean((1 - (z.pairs / signal) ** 2) ** 2))
    return math.sqrt(max(0.0, 1 - 2 / z.rows) * (1 + 2 * (1 / z.rows + others)))


@cache
def _spec(name: str, parameter: float) -> str:
    return f"{name}({parameter})" if REGISTRY[name].parameter_name else name


def _ratio(top: float, bottom: float) -> float:
    """Return ``top / bottom``, NaN where either is zero or not finite, as the ledger does."""
    fine = top > 0 and bottom > 0 and math.isfinite(top) and math.isfinite(bottom)
    return top / bottom if fine else math.nan
