"""The cures of the subject: one entry each, with when it applies, what it does to the gains, and when it fails.

An entry is a function that yields the changes worth trying on a network, its doses; its name is the kind of treatment,
its docstring what it does.  A new cure is one more entry here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from gradcore import activations
from gradcore.diagnosis.changes import (
    Change,
    dense_layers,
    has,
    hidden_activations,
    matching_init,
)
from gradcore.diagnosis.recipe import Recipe
from gradcore.diagnosis.what_if import USUAL_RATE, WIDE
from gradcore.errors import unknown_name
from gradcore.health.theory.finite_width import dead_below, dead_layer_chance, gain_variance
from gradcore.layers import NORMS, Activation, BatchNorm, Dropout, Residual, split_groups
from gradcore.optimizers import SGD, Adam

# A chance of a dead layer, and a standard deviation of the end-to-end gain in decades, that are worth a warning.
RISK = 0.1
SCATTER = 1.0
# Batches of fewer rows have noisy statistics.
FEW_ROWS = 8


@dataclass(frozen=True)
class Subject:
    """What treatments look at: the recipe to be cured, and facts of its data.

    Attributes
    ----------
    recipe : Recipe
    rows : int
        To train on.
    regression : bool
        Whether the targets are numbers.
    """

    recipe: Recipe
    rows: int
    regression: bool

    @cached_property
    def hidden(self) -> int:
        """Number of hidden layers."""
        return len(split_groups(self.recipe.layers)) - 1

    @cached_property
    def activations(self) -> set[str]:
        """Names of the hidden activations."""
        return {activations.resolve(spec)[0].name for spec in hidden_activations(self.recipe.layers)}

    @cached_property
    def widths(self) -> list[int]:
        """Units of the hidden layers."""
        return [layer.units for layer in dense_layers(self.recipe.layers)[:-1]]

    @cached_property
    def inits(self) -> set[object]:
        """Initial weights of the dense layers."""
        return {layer.init for layer in dense_layers(self.recipe.layers)}

    def has(self, kind: type | tuple[type, ...]) -> bool:
        """Whether a kind of layer, or one of some kinds, occurs."""
        return has(self.recipe.layers, kind)

    @property
    def rate(self) -> float:
        """The learning rate."""
        return self.recipe.optimizer.lr


Doses = Callable[[Subject], Iterable[Change]]


@dataclass(frozen=True)
class Treatment:
    """One cure.

    Attributes
    ----------
    kind : str
        What `prescribe(treatments=[…])` calls it.
    effect : str
        What it is expected to do to signal and gains, and who showed it.
    doses : callable
        The changes worth trying on a subject, the most usual first; none where the treatment does not apply.
    """

    kind: str
    effect: str
    doses: Doses


TREATMENTS: dict[str, Treatment] = {}


def _treatment(doses: Doses) -> Doses:
    """Register an entry: its name is the kind, its docstring the effect."""
    TREATMENTS[doses.__name__] = Treatment(doses.__name__, " ".join((doses.__doc__ or "").split()), doses)
    return doses


def resolve(kinds: str | Iterable[str | Change]) -> list[Treatment | Change]:
    """Find treatments by their kinds; changes stand for themselves.

    Raises
    ------
    ValueError, TypeError
        An unknown kind (the nearest known ones are named).

    Examples
    --------
    >>> [treatment.kind for treatment in resolve(["batch_norm", "dropout"])]
    ['batch_norm', 'dropout']
    """
    if kinds == "auto":
        return list(TREATMENTS.values())
    if not isinstance(kinds, (str, Change, Iterable)):
        raise TypeError(f'treatments must be "auto" or a list of kinds and changes, got {kinds!r}')
    found: list[Treatment | Change] = []
    for kind in [kinds] if isinstance(kinds, (str, Change)) else kinds:
        if isinstance(kind, Change):
            found.append(kind)
        elif kind in TREATMENTS:
            found.append(TREATMENTS[kind])
        else:
            raise unknown_name("treatment", kind, TREATMENTS)
    return found


# -- what makes the product shorter, or its factors nearer to one ----------------------------------------------------


@_treatment
def fewer_layers(subject: Subject) -> Iterator[Change]:
    """Fewer factors in the product: decades lost or gained shrink in proportion to the depth."""
    shares = {share for share in (0.5, 0.25) if subject.hidden * share >= 2}
    if subject.hidden > 3:
        shares.add(2 / subject.hidden)
    for share in sorted(shares, reverse=True):
        yield Change(depth=share)


@_treatment
def activation(subject: Subject) -> Iterator[Change]:
    """Slopes near one instead of at most 1/4 (sigmoid).

    Tanh and SELU keep the gradient, ReLU halves its square, which He's weights make up for (Glorot & Bengio
    2010; He et al. 2015; Klambauer et al. 2017).
    """
    for name in ("tanh", "selu", "relu", "leaky_relu", "gelu", "elu"):
        if subject.activations and subject.activations != {name}:
            yield Change(activation=name, init=matching_init(name))


@_treatment
def activation_only(subject: Subject) -> Iterator[Change]:
    """The slope alone, with the weights as they are: shows whether the activation is the only cause."""
    for name in ("tanh", "relu"):
        if subject.activations and subject.activations != {name}:
            yield Change(activation=name)


@_treatment
def initial_weights(subject: Subject) -> Iterator[Change]:
    """Weights whose variance makes the gain of a layer about one.

    2/(in + out) (Glorot), 2/in (He), 1/in (LeCun); orthogonal ones for all directions at once (Saxe et al.
    2014).
    """
    own = {matching_init(name) for name in subject.activations}
    names = [*sorted(own), "glorot_normal", "he_normal", "lecun_normal", "orthogonal"]
    for name in dict.fromkeys(names):
        if subject.inits != {name}:
            yield Change(init=name)


@_treatment
def lsuv(subject: Subject) -> Iterator[Change]:
    """The scale of every layer's pre-activations is brought to one on the data (Mishkin & Matas 2016)."""
    if subject.hidden and not subject.recipe.lsuv:
        yield Change(lsuv=True)


@_treatment
def batch_norm(subject: Subject) -> Iterator[Change]:
    """Pre-activations with mean 0 and deviation 1 over the batch.

    The forward signal cannot die, and the gain no longer depends on the scale of the weights (Ioffe & Szegedy
    2015).
    """
    if subject.hidden and not subject.has(NORMS) and subject.recipe.batch_size > 1:
        yield Change(norm=True)
        if not subject.has(Residual) and subject.hidden > 3:
            yield Change(norm=True, residual=True)


@_treatment
def layer_norm(subject: Subject) -> Iterator[Change]:
    """Pre-activations with mean 0 and deviation 1 over the units of each row (Ba, Kiros & Hinton 2016).

    Where batches are too small for the statistics of batch norm: no row needs another.
    """
    if subject.hidden and not subject.has(NORMS) and subject.recipe.batch_size < FEW_ROWS:
        yield Change(norm="layer")


@_treatment
def residual(subject: Subject) -> Iterator[Change]:
    """An identity beside every layer: the gain of a block is one plus that of its branch (He et al. 2016)."""
    widths = [subject.recipe.input_size, *subject.widths]
    if not subject.has(Residual) and any(a == b for a, b in pairwise(widths)):
        yield Change(residual=True)


@_treatment
def autoencoder(subject: Subject) -> Iterator[Change]:
    """Hidden layers that can rebuild their inputs hold their signal before the labels are seen.

    Hinton & Salakhutdinov 2006; Bengio et al. 2007; with noise: Vincent et al. 2008.
    """
    if subject.hidden > 1:
        yield Change(pretrained=0.0)
        yield Change(pretrained=0.2)


@_treatment
def wider_layers(subject: Subject) -> Iterator[Change]:
    """Less scatter of the gains: their variance falls with the sum of 1/width (Hanin & Rolnick 2018)."""
    narrowest = min(subject.widths, default=WIDE)
    if narrowest < WIDE and not subject.has(Residual):
        yield Change(width=math.ceil(WIDE / narrowest))


# -- what changes the steps ------------------------------------------------------------------------------------------


@_treatment
def learning_rate(subject: Subject) -> Iterator[Change]:
    """Steps of another size: too large ones overshoot, too small ones never arrive; the gains stay as they are."""
    if not subject.rate:
        return
    usual = USUAL_RATE["plain" if isinstance(subject.recipe.optimizer, SGD) else "adaptive"] / subject.rate
    factors = [0.1, 10.0, 0.01] + ([usual] if not 0.005 < usual < 200 else [])
    for factor in factors:
        yield Change(rate=factor)


@_treatment
def warm_up(subject: Subject) -> Iterator[Change]:
    """Small first steps while Adam's averages are young and the gradient is largest (Goyal et al. 2017)."""
    if subject.recipe.schedule is None:
        yield Change(schedule="warmup(0.1)")


@_treatment
def optimizer(subject: Subject) -> Iterator[Change]:
    """Steps of one size for every parameter: vanishing gradients matter less, until eps swallows them."""
    current = subject.recipe.optimizer
    if isinstance(current, SGD):
        yield Change(optimizer=Adam(**current.regularization))
        if current.momentum:
            yield Change(optimizer=SGD(current.lr, **current.regularization))
    else:
        yield Change(optimizer=SGD(USUAL_RATE["plain"], momentum=0.9, **current.regularization))


@_treatment
def batch_size(subject: Subject) -> Iterator[Change]:
    """The mean of more rows: less noise in a step; fewer rows: more steps from the same data."""
    rows = subject.recipe.batch_size
    if rows < 8:
        yield Change(batch_size=32)
    elif rows > 128 and subject.rows > 128:
        yield Change(batch_size=32)


@_treatment
def clipping(subject: Subject) -> Iterator[Change]:
    """A bound on the step where the landscape is a cliff; what vanishes stays as it is.

    Pascanu et al. 2013; unit by unit: Brock et al. 2021.
    """
    recipe = subject.recipe
    if recipe.clip_norm is None and recipe.clip_value is None and recipe.clip_adaptive is None:
        yield Change(clip_norm=1.0)
        yield Change(clip_value=0.1)
        yield Change(clip_adaptive=0.01)


# -- what holds weights and units ------------------------------------------------------------------------------------


@_treatment
def dropout(subject: Subject) -> Iterator[Change]:
    """Units that cannot rely on one another; multiplies the noise of the signal, and so does not help depth."""
    if subject.hidden and not subject.has(Dropout):
        yield Change(dropout=0.2)
    elif subject.has(Dropout):
        yield Change(without_dropout=True)


@_treatment
def weight_decay(subject: Subject) -> Iterator[Change]:
    """Weights that stay small: against over-fitting and growing weights; makes vanishing worse."""
    if subject.recipe.optimizer.weight_decay:
        yield Change(unregularised=True)
    else:
        yield Change(weight_decay=1e-3)


@_treatment
def l1(subject: Subject) -> Iterator[Change]:
    """Weights of exactly zero where they are not needed; makes vanishing worse."""
    if not subject.recipe.optimizer.l1:
        yield Change(l1=1e-5)


@_treatment
def no_norm(subject: Subject) -> Iterator[Change]:
    """Norms that were put in may be what harms: batches of few rows have noisy statistics."""
    if subject.has(NORMS):
        yield Change(without_norm=True)


# -- what changes data and ends --------------------------------------------------------------------------------------


@_treatment
def standardised_inputs(subject: Subject) -> Iterator[Change]:
    """Inputs of mean 0 and deviation 1: the first layer's pre-activations start in range (LeCun et al. 1998)."""
    if not subject.recipe.standardise:
        yield Change(standardise=True)


@_treatment
def standardised_targets(subject: Subject) -> Iterator[Change]:
    """Targets of mean 0 and deviation 1: the first loss, and with it the gradient, is of order one."""
    if subject.regression and not subject.recipe.standardise_targets:
        yield Change(standardise_targets=True)


@_treatment
def output_and_loss(subject: Subject) -> Iterator[Change]:
    """The losses take logits or values: an activation before them bends or flattens the gradient."""
    if isinstance(subject.recipe.layers[-1], Activation):
        yield Change(linear_output=True)
    if "sum" in subject.recipe.loss:
        yield Change(mean_loss=True)


# -- counter-indications ---------------------------------------------------------------------------------------------


def caution(subject: Subject, change: Change) -> str:
    """Say why a change may fail on this network; an empty text where nothing speaks against it.

    Examples
    --------
    >>> import numpy as np
    >>> from gradcore.network import mlp
    >>> net = mlp([2] + [5] * 12 + [1], activation="sigmoid")
    >>> recipe = Recipe(net.layers, 2, np.dtype("float32"), "mse", Adam(), 32)
    >>> caution(Subject(recipe, 100, True), Change(activation="relu", init="he_normal"))
    'relu will likely fail here: width 5, depth 12; 32 % of such networks have a layer that is dead from the start'
    """
    after = Subject(subject.recipe.changed(change), subject.rows, subject.regression)
    warnings = []
    if len(after.activations) == 1 and after.widths and not after.has(Residual):
        (name,) = after.activations
        size = f"width {min(after.widths)}, depth {after.hidden}"
        dead = (
            dead_layer_chance(after.widths)
            if math.isfinite(dead_below(name)) and not after.has(NORMS)
            else 0.0
        )
        scatter = math.sqrt(sum(gain_variance(name, 1.0, width) for width in after.widths)) / (
            2 * math.log(10)
        )
        if dead > RISK:
            warnings.append(
                f"{name} will likely fail here: {size}; {dead:.0%} of such networks have a layer that is dead from the"
                " start".replace("%", " %")
            )
        elif change.activation and scatter > SCATTER:
            warnings.append(f"{name}: the end-to-end gain scatters by {scatter:.1f} decades ({size})")
    if (change.norm or change.batch_size) and after.has(BatchNorm) and after.recipe.batch_size < FEW_ROWS:
        warnings.append(f"statistics of {after.recipe.batch_size} rows are noisy")
    if (change.dropout or change.weight_decay or change.l1) and after.hidden > 8:
        warnings.append(f"takes away signal, of which {after.hidden} layers leave little")
    if change.activation == "selu" and after.has((*NORMS, Dropout)):
        warnings.append("SELU keeps mean and variance by itself: norm or dropout disturbs that")
    return "; ".join(warnings)
