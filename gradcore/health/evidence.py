"""What the rules look at: the books of one network on one batch, and those of its healthy counterpart.

The healthy counterpart has the same widths, depth, norm, dropout and residual blocks, with tanh and Glorot's
initial weights: the pair that trained in every setting of the published narrow and deep networks where others failed.
Bounds come from it, from the dtype and from the optimizer, so that none of them is a number set by hand.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from gradcore import kernels
from gradcore.health.chance import chance
from gradcore.health.facts import UNKNOWN, Facts
from gradcore.health.faults import Fault
from gradcore.health.ledger import Layers, Ledger
from gradcore.health.loss_curve import LossSign, classify
from gradcore.health.measures import measures, trace_measures
from gradcore.health.theory import gain_variance
from gradcore.optimizers import Optimizer

Array = npt.NDArray[np.float64]


def _unknown() -> None:
    """Stand for a question that nobody can answer; a function with a name, which a pickle can hold."""


# A deviation of so many standard deviations is not chance.
SIGMAS = 4.0

# Below these chances of training a symptom is a fault, and the chance alone is one: of networks that train with every
# seed, few have so low a one (``docs/diagnosis.md``).
DOUBT, DESPAIR = 0.4, 0.25


@dataclass(frozen=True)
class Books:
    """The ledger of one network on one batch, and what rules work out of it."""

    ledger: Ledger

    @cached_property
    def layers(self) -> Layers:
        """The ledger by layer."""
        return self.ledger.layers()

    @cached_property
    def usable(self) -> Array:
        """rms by layer of the *centred* weight gradient: what it holds beyond mean input times bias gradient.

        The rest only moves all examples alike, which a bias does as well.  Where it was not counted (light ledgers,
        layers without bias), the share of the inputs that differs between examples, signal over scale, is the bound.
        Inputs that differ by rounding only say nothing, and one example differs from no other.
        """
        ledger, layers = self.ledger, self.layers
        if ledger.rows == 1:
            return layers.gradient
        counted = ledger.records["usable"][layers.op] / np.sqrt(layers.fan_in * layers.units)
        with np.errstate(all="ignore"):
            share = np.where(layers.input_scale > 0, layers.input_signal / layers.input_scale, 0.0)
            found = np.where(np.isnan(counted), layers.gradient * np.minimum(share, 1.0), counted)
        found[1:][layers.lost(ledger.dtype)[:-1]] = 0.0
        return np.asarray(found)

    @property
    def finite(self) -> bool:
        """Whether every output, delta and gradient is a number."""
        layers = self.layers
        return math.isfinite(self.ledger.loss) and bool(
            np.isfinite(layers.delta).all()
            and np.isfinite(layers.gradient).all()
            and np.isfinite(layers.z_scale).all()
        )

    @property
    def end_to_end_log10(self) -> float:
        """log10 of the end-to-end gain: minus infinity where a delta is zero, NaN where one is no number or unknown."""
        gain = self.ledger.end_to_end_log10
        return -math.inf if math.isnan(gain) and self.finite else gain

    @cached_property
    def largest_gain(self) -> float:
        """log10 of the largest delta of a pre-activation over the delta of the outputs."""
        delta, output = self.layers.delta, float(self.ledger.records["d_output"]["norm"][-2])
        largest = float(delta.max(initial=0.0))
        return math.log10(largest / output) if largest > 0 and output > 0 else math.nan

    @cached_property
    def spread(self) -> float:
        """Standard deviation, in decades, of the end-to-end gain that finite widths alone bring about."""
        table, layers = self.ledger.plan.table, self.layers
        variance = 0.0
        for op, units, scale in zip(layers.op[:-1], layers.units[:-1], layers.z_scale[:-1], strict=True):
            name = self.activation_after(int(op), table)
            step = gain_variance(name, float(scale), int(units))
            variance += step if math.isfinite(step) else 0.0
        # half, because the books are kept in gains and the variance is that of their squares
        return 0.5 * math.sqrt(variance) / math.log(10)

    @staticmethod
    def activation_after(op: int, table: npt.NDArray[np.void]) -> str:
        """Name the activation that follows dense op `op` (before the next dense one); identity when there is none."""
        for row in table[op + 1 :]:
            if row["kind"] == kernels.OP_KINDS["activation"]:
                name = kernels.ACTIVATION_NAMES[int(row["code"])]
                return "identity" if name == "softmax" else name
            if row["kind"] == kernels.OP_KINDS["dense"]:
                break
        return "identity"


@dataclass(frozen=True)
class Trace:
    """The course of some real training steps: one loss and one gradient norm per step.

    Parameters
    ----------
    losses, norms : ndarray
    steps_per_epoch : int
    constant_loss : float
        Of the best constant predictor on a batch of this size.
    least_loss : float
        From where losses of a batch of this size are counted.
    skipped : int
        Steps not applied because their gradient was not finite.
    ledgers : tuple of (int, ndarray, ndarray)
        Of some of the steps: its number, and delta and weight gradient by layer, as in `Layers`.
    """

    losses: Array
    norms: Array
    steps_per_epoch: int
    constant_loss: float
    skipped: int = 0
    ledgers: tuple[tuple[int, Array, Array], ...] = ()
    least_loss: float = 0.0

    @property
    def counted(self) -> tuple[Array, float]:
        """The losses and that of the best constant predictor, counted from the least."""
        return self.losses - self.least_loss, max(self.constant_loss - self.least_loss, 0.0)

    def to_dict(self) -> dict[str, object]:
        """Return the trace as plain numbers and lists."""
        return {
            "losses": self.losses.tolist(),
            "gradient_norms": self.norms.tolist(),
            "steps_per_epoch": self.steps_per_epoch,
            "skipped_steps": self.skipped,
            "ledgers": [
                {"step": step, "delta": delta.tolist(), "gradient": gradient.tolist()}
                for step, delta, gradient in self.ledgers
            ],
        }


@dataclass(frozen=True)
class Evidence:
    """Everything a rule may look at.

    Parameters
    ----------
    books : Books
        Of the network on one batch.
    optimizer : Optimizer
    constant_loss : float
        Loss of the best constant predictor on this batch, counted from the least.
    weights : callable
        Returns a parameter by its name, or only the rows of its first units; called only by rules that need it.
    dead_units : callable
        From the index of an activation op: dead units over *all* the data, and units.
    counterpart : callable or None
        Returns the books of the healthy counterpart on the same batch; called only by rules that need them. None:
        there is none to compare with.
    facts : Facts
        Of the data.
    has_signal : callable
        Tells whether the inputs say anything about the targets (`gradcore.health.facts.has_signal`).
    batch_size : int
        Rows of a real step.
    regression : bool
        Whether the targets are numbers, which can have a scale.
    loss_known : bool
        Whether the ledger has the loss (arrays from elsewhere may come without).
    reachable_loss : float
        The least loss on this batch that the bounds of the output activation allow, counted from the least without
        them; 0 without one.
    least_loss : float
        From where losses are counted (`gradcore.health.loss_curve.least_loss`).
    trace : Trace or None
        Of real steps on a copy, where steps were asked for.
    after : Evidence or None
        Of what these steps made of the network.
    begun : Evidence or None
        Of the network after one step, where a layer whose weights are all zero hides the others from that step: it
        sends nothing down at first, and trains on.
    fleeting : bool
        Whether what the network knows does not outlive some steps.
    proven : bool
        Whether it was trained, and trains: then its chance is 1.
    """

    books: Books
    optimizer: Optimizer
    constant_loss: float
    weights: Callable[..., npt.NDArray[np.floating]]
    dead_units: Callable[[int], tuple[int, int]]
    counterpart: Callable[[], Books] | None = None
    facts: Facts = UNKNOWN
    has_signal: Callable[[], bool | None] = _unknown
    batch_size: int = 32
    regression: bool = False
    loss_known: bool = True
    reachable_loss: float = 0.0
    least_loss: float = 0.0
    trace: Trace | None = None
    after: Evidence | None = None
    begun: Evidence | None = None
    fleeting: bool = False
    proven: bool = False
    _dead: dict[int, tuple[int, int]] = field(default_factory=dict, repr=False)

    @property
    def loss(self) -> float:
        """The loss of the batch, counted from the least."""
        return self.books.ledger.loss - self.least_loss

    @cached_property
    def healthy(self) -> Books | None:
        """The books of the healthy counterpart, where there is one."""
        return None if self.counterpart is None else self.counterpart()

    @cached_property
    def measures(self) -> dict[str, float]:
        """What the chance of training is read from."""
        found = measures(self if self.begun is None else self.begun)
        if self.trace is not None and self.after is not None:
            found |= trace_measures(self.trace, self.after.measures)
        return found

    @cached_property
    def chance(self) -> float:
        """Chance that the network trains."""
        return 1.0 if self.proven else chance(self.measures)

    @property
    def learned(self) -> bool:
        """Whether the network is already past the constant predictor, and stays there when it is trained.

        Nothing keeps it from learning, then. The bar is that of the word *trains*: 20 % of the way (here: to a loss of
        zero).
        """
        return self.ahead and not self.fleeting

    @property
    def ahead(self) -> bool:
        """Whether the loss of the batch is past the constant predictor, be it by luck."""
        return self.loss <= 0.8 * self.constant_loss

    @property
    def doubtful(self) -> bool:
        """Whether symptoms are to be believed: the network has learned nothing yet and its chance of training is low.

        Where all targets are alike there is nothing to learn, and nothing to doubt.
        """
        return self._below(DOUBT)

    @property
    def hopeless(self) -> bool:
        """Whether the chance alone says that the network will not train."""
        return self._below(DESPAIR)

    def _below(self, bound: float) -> bool:
        return self.constant_loss > 0 and not (self.after or self).learned and self.chance < bound

    @cached_property
    def loss_sign(self) -> LossSign:
        """What the losses of the real steps look like; "undecided" where there are none."""
        if self.trace is None:
            return LossSign("undecided", {})
        losses, constant = self.trace.counted
        return classify(losses, constant_loss=constant, steps_per_epoch=self.trace.steps_per_epoch)

    @cached_property
    def weight_names(self) -> dict[int, str]:
        """Name of the weight of every dense op that has one to show."""
        slots = self.books.ledger.plan.parameter_names.items()
        return {slot.op: name for name, slot in slots if slot.kind == "weight"}

    @cached_property
    def spoilt_parameters(self) -> tuple[str, ...]:
        """Names of the parameters that hold NaN or infinity."""
        plan, records = self.books.ledger.plan, self.books.ledger.records
        # the norm of a weight is NaN also where nothing was booked; all others show in what their op puts out
        weights, others = ~np.isfinite(records["weight"]), ~np.isfinite(records["output"]["norm"])
        return tuple(
            name
            for name, slot in plan.parameter_names.items()
            if (weights if slot.kind == "weight" else others)[slot.op]
            and not np.isfinite(self.weights(name)).all()
        )

    def outweighing_parameters(self, times: float) -> tuple[str, ...]:
        """Names of the biases, gammas and betas with an element so many times above all that the inputs add to it.

        |w · x| is at most ‖w‖ ‖x‖ for one unit, and less than ‖W‖ ‖x‖; what batch norm adds to has the norm √units.
        Where nothing comes in, or weights are zero, that counts which usual weights (of variance 1 / fan_in, with the
        norm √units) make of inputs of norm 1.
        """
        ledger, layers = self.books.ledger, self.books.layers
        most = times * np.sqrt(ledger.plan.table["columns_out"].astype(np.float64))
        most[layers.op] *= np.maximum(layers.weight_norm / np.sqrt(layers.units), 1.0) * np.maximum(
            layers.input_scale * np.sqrt(layers.fan_in), 1.0
        )
        largest = ledger.records["output"]["max_abs"][:-1]
        if not (largest > most).any():  # the usual case, known without a look at the parameters
            return ()
        return tuple(
            name
            for name, slot in ledger.plan.parameter_names.items()
            if slot.kind != "weight"
            and largest[slot.op] > most[slot.op]
            and np.abs(self.weights(name)).max() > most[slot.op]
        )

    def fault_of_parameters(self, parameters: tuple[str, ...], *, says: str) -> Fault:
        """Return the fault of parameters that must have come in from outside: they hold what `says` says."""
        plan, layers = self.books.ledger.plan, self.books.layers
        ops = [plan.parameter_names[name].op for name in parameters]
        where: dict[str, list[int]] = {}
        for name, op in zip(parameters, ops, strict=True):
            kind, layer = plan.parameter_names[name].kind, int(np.searchsorted(layers.op, op, side="right"))
            where.setdefault(kind, []).append(layer)
        return Fault(
            "invalid_data",
            "fatal",
            ops=tuple(plan.names[op] for op in sorted(set(ops))),
            causes=("invalid_data",),
            advice="other parameters: those of a step that was sound, or new ones (net.copy(seed=…))",
            evidence={
                "spoilt_layers": sorted({layer for found in where.values() for layer in found}),
                "spoilt_parameters": list(parameters),
                "by_kind": where,
                "says": says,
                "layers": len(layers),
            },
        )

    @cached_property
    def twins(self) -> bool:
        """Whether the first two units of the first layer have the same weights: then most likely all have."""
        name = next(iter(self.weight_names.values()), None)
        first = np.empty((0, 0)) if name is None else self.weights(name, 2)
        return len(first) > 1 and bool((first[0] == first[1]).all())

    @property
    def shrinks(self) -> bool:
        """Whether signal or delta fall over the depth, by more than chance, to below a hundredth."""
        allowed = max(2.0, SIGMAS * self.books.spread)
        measures = self.measures
        return min(measures["gain"], measures["signal"]) < -allowed

    @property
    def step_size(self) -> float:
        """Effective learning rate: with momentum m, a steady gradient moves weights by lr / (1 - m) per step."""
        momentum: float = getattr(self.optimizer, "momentum", 0.0)
        return self.optimizer.lr / (1 - momentum)

    @property
    def dead_zone(self) -> float | None:
        """The epsilon that swallows gradients, for optimizers that have one."""
        eps: float | None = getattr(self.optimizer, "eps", None)
        return eps

    def relative_update(self, books: Books) -> Array:
        """By layer: the usable part of one step of plain gradient descent, over the weights."""
        weight = books.layers.weight
        return np.where(weight > 0, self.step_size * books.usable / np.where(weight > 0, weight, 1.0), 0.0)

    def starved(self) -> npt.NDArray[np.bool_]:
        """By layer: no usable update; the dead zone swallows it, or it is not a hundredth of a healthy one."""
        eps = self.dead_zone
        if eps is not None:
            return np.asarray(self.books.layers.gradient < eps)
        own = self.relative_update(self.books)
        usual = own if self.healthy is None else self.relative_update(self.healthy)
        return np.asarray(own < 0.01 * usual.max(initial=0.0))

    def dead_at(self, op: int) -> tuple[int, int]:
        """Return how many units of an activation op are dead over all the data, and how many there are; kept."""
        if op not in self._dead:
            self._dead[op] = self.dead_units(op)
        return self._dead[op]

    @cached_property
    def dead_layer(self) -> int | None:
        """The first activation op outside residual blocks all of whose units are dead: after it all are alike."""
        table, flat = self.books.ledger.plan.table, self.books.ledger.records["flat"]
        rows = self.books.ledger.rows
        kinds = table["kind"]
        inside = np.cumsum(kinds == kernels.OP_KINDS["fork"]) - np.cumsum(kinds == kernels.OP_KINDS["join"])
        for op in np.flatnonzero((kinds[:-1] == kernels.OP_KINDS["activation"]) & (inside[:-1] == 0)):
            # every element of the batch flat: only then can all units be dead on all the data
            if flat[op] >= rows * table["columns_out"][op]:
                dead, units = self.dead_at(int(op))
                if dead == units:
                    return int(op)
        return None
