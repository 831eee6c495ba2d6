"""One change to a network or to how it is trained: the counterfactuals from which causes are read."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any, Literal

from gradcore import activations, initializers
from gradcore.diagnosis.observe import Batch
from gradcore.layers import (
    NORMS,
    Activation,
    BatchNorm,
    Dense,
    Dropout,
    Layer,
    LayerNorm,
    Residual,
    split_groups,
    width_after,
)
from gradcore.network import mlp_layers
from gradcore.optimizers import Optimizer

_SHORT = {
    "glorot_normal": "Glorot", "glorot_uniform": "Glorot uniform", "he_normal": "He", "he_uniform": "He uniform",
    "lecun_normal": "LeCun", "lecun_uniform": "LeCun uniform", "auto": "matching weights",
}  # fmt: skip

# How each attribute of a change is called, …
_NAMES: dict[str, Callable[[Any], str]] = {
    "activation": str,
    "init": lambda init: _SHORT.get(init, init),
    "norm": lambda kind: "layer norm" if kind == "layer" else "batch norm",
    "residual": lambda _: "residual blocks",
    "without_norm": lambda _: "no norm",
    "without_dropout": lambda _: "no dropout",
    "depth": lambda share: f"{share:.0%} of the depth",
    "width": lambda factor: f"{factor}× the width",
    "rate": lambda factor: f"learning rate {'×' if factor > 1 else '÷'}{max(factor, 1 / factor):g}",
    "optimizer": lambda optimizer: f"optimizer {optimizer.name}",
    "unregularised": lambda _: "no weight decay or l1",
    "batch_size": lambda rows: f"batches of {rows}",
    "linear_output": lambda _: "linear output",
    "mean_loss": lambda _: "mean instead of sum",
    "standardise": lambda _: "standardised inputs",
    "standardise_targets": lambda _: "standardised targets",
    "lsuv": lambda _: "LSUV weights",
    "pretrained": lambda noise: (
        f"denoising pre-training ({noise:g})" if noise else "autoencoder pre-training"
    ),
    "dropout": lambda rate: f"dropout {rate:g}",
    "weight_decay": lambda strength: f"weight decay {strength:g}",
    "l1": lambda strength: f"L1 {strength:g}",
    "clip_norm": lambda bound: f"clipping by norm {bound:g}",
    "clip_value": lambda bound: f"clipping by value {bound:g}",
    "clip_adaptive": lambda factor: f"adaptive clipping {factor:g}",
    "schedule": str,
}
# … and the cause that it removes; the others make up for causes without removing any.
_CAUSES = {
    "linear_output": "output_loss_pair", "mean_loss": "output_loss_pair", "init": "initial_weights",
    "activation": "activation", "standardise": "input_scale", "standardise_targets": "target_scale",
    "rate": "learning_rate", "optimizer": "optimizer", "batch_size": "batch_size", "unregularised": "regularization",
    "without_dropout": "dropout", "without_norm": "normalization", "width": "narrow_layers", "depth": "depth",
    "lsuv": "initial_weights", "pretrained": "initial_weights",
}  # fmt: skip
CAUSE_ORDER = tuple(dict.fromkeys(_CAUSES.values()))
_REBUILD = {
    "activation", "init", "norm", "residual", "without_norm", "without_dropout", "linear_output", "depth", "width",
    "dropout",
}  # fmt: skip


@dataclass(frozen=True)
class Change:
    """What to do differently; several attributes at once are one joint change.

    Parameters
    ----------
    activation, init : str or None
        Of all hidden layers; initial weights of all dense layers (biases then start at zero).
    norm : bool or "layer"
        Add batch norm (or layer norm) after every hidden dense layer.
    residual : bool
        Wrap hidden layers in residual blocks.
    without_norm, without_dropout : bool
        Leave norm, dropout away.
    depth : float
        Share of the hidden layers that is kept.
    width : int
        Factor on the hidden widths.
    rate : float
        Factor on the learning rate.
    optimizer : Optimizer or None
    unregularised : bool
        No weight decay and no l1.
    batch_size : int or None
    linear_output : bool
        Leave the output activation away: the losses take logits and values.
    mean_loss : bool
        The mean over the rows of a batch instead of the sum.
    standardise, standardise_targets : bool
        Bring every column of X, of y, to mean 0 and standard deviation 1.
    lsuv : bool
        Orthonormal initial weights, scaled on the data (`gradcore.initializers.lsuv_`).
    pretrained : float or None
        Hidden layers pre-trained as autoencoders; the share of inputs that is hidden from them.
    dropout : float
        Rate of dropout after every hidden layer that has none.
    weight_decay, l1 : float
    clip_norm, clip_value, clip_adaptive : float or None
    schedule : str or None
        Of the learning rate, such as ``"warmup(0.1)"``.

    Examples
    --------
    >>> change = Change(activation="tanh", init="glorot_normal")
    >>> change.name, change.causes
    ('tanh + Glorot', ('initial_weights', 'activation'))
    """

    activation: str | None = None
    init: str | None = None
    norm: bool | Literal["layer"] = False
    residual: bool = False
    without_norm: bool = False
    without_dropout: bool = False
    depth: float = 1.0
    width: int = 1
    rate: float = 1.0
    optimizer: Optimizer | None = None
    unregularised: bool = False
    batch_size: int | None = None
    linear_output: bool = False
    mean_loss: bool = False
    standardise: bool = False
    standardise_targets: bool = False
    lsuv: bool = False
    pretrained: float | None = None
    dropout: float = 0.0
    weight_decay: float = 0.0
    l1: float = 0.0
    clip_norm: float | None = None
    clip_value: float | None = None
    clip_adaptive: float | None = None
    schedule: str | None = None

    @property
    def made(self) -> tuple[str, ...]:
        """The attributes that are changed."""
        return tuple(part.name for part in fields(self) if getattr(self, part.name) != part.default)

    @property
    def name(self) -> str:
        """How the change is called in tables."""
        made = self.made
        text = " + ".join(_NAMES[name](getattr(self, name)) for name in made)
        return text + " only" if made in (("activation",), ("init",)) else text

    @property
    def causes(self) -> tuple[str, ...]:
        """The causes that this change removes, in the words of faults; batch norm and residual blocks remove none."""
        made = self.made
        return tuple(dict.fromkeys(cause for name, cause in _CAUSES.items() if name in made))

    @property
    def size(self) -> int:
        """How much is changed: the number of causes; to lose nearly all layers is as much as two."""
        return len(self.causes) + (self.depth < 0.15)

    @property
    def rebuilds(self) -> bool:
        """Whether the network itself becomes another one."""
        return not _REBUILD.isdisjoint(self.made)

    @property
    def changes_data(self) -> bool:
        """Whether the data, or the loss on them, become others."""
        return self.standardise or self.standardise_targets or self.mean_loss

    @property
    def structure(self) -> Change:
        """The part that makes another network."""
        return Change(**{name: getattr(self, name) for name in self.made if name in _REBUILD})

    def with_(self, other: Change) -> Change:
        """Return both changes at once."""
        return replace(self, **{name: getattr(other, name) for name in other.made})

    def data(self, batch: Batch) -> Batch:
        """Return the changed data."""
        if self.mean_loss:
            batch = replace(batch, loss=replace(batch.loss, reduction="mean"))
        if self.standardise or self.standardise_targets:
            batch = batch.standardised(inputs=self.standardise, targets=self.standardise_targets)
        return batch

    def optimizer_for(self, optimizer: Optimizer) -> Optimizer:
        """Return the changed optimizer."""
        optimizer = self.optimizer or optimizer
        settings = dict(vars(optimizer)) | {"lr": optimizer.lr * self.rate}
        if self.unregularised:
            settings["weight_decay"] = settings["l1"] = 0.0
        settings |= {name: getattr(self, name) for name in ("weight_decay", "l1") if getattr(self, name)}
        return type(optimizer)(**settings)

    def layers(self, layers: tuple[Layer, ...], input_size: int) -> tuple[Layer, ...]:
        """Return the changed list of layers."""
        groups = split_groups(layers)
        hidden, output = groups[:-1], groups[-1]
        hidden = hidden[: max(1, round(self.depth * len(hidden)))] if hidden else hidden
        result: list[Layer] = []
        width = input_size
        for group in hidden:
            changed = self._kept(tuple(self._hidden(layer) for layer in group))
            if self.norm:
                changed = self._with_norm(changed)
            if self.dropout and not has(changed, Dropout):
                changed = (*changed, Dropout(self.dropout))
            # norm, dropout or an activation may come before the first dense layer
            first = next((part for part in changed if isinstance(part, Dense | Residual)), changed[0])
            units = width_after(changed, width)
            if self.residual and units == width and not isinstance(first, Residual) and len(changed) > 1:
                changed = (Residual(changed),)
            result += changed
            width = units
        if self.linear_output:
            output = tuple(layer for layer in output if not isinstance(layer, Activation))
        result += [
            self._dense(layer) if isinstance(layer, Dense) else self._inside(layer) for layer in output
        ]
        return tuple(result)

    def _hidden(self, layer: Layer) -> Layer:
        if isinstance(layer, Dense):
            return _with_units(self._dense(layer), layer.units * self.width)
        if isinstance(layer, Activation) and self.activation and layer.spec != "softmax":
            return _activation(self.activation)
        return self._inside(layer)

    def _inside(self, layer: Layer) -> Layer:
        if not isinstance(layer, Residual):
            return layer
        whole = tuple(self._hidden(part) for part in layer.layers)
        inner = self._kept(whole) or whole  # a block that holds nothing else keeps it
        return replace(layer, layers=self._with_norm(inner) if self.norm else inner)

    def _kept(self, layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
        left_out = (NORMS if self.without_norm else ()) + ((Dropout,) if self.without_dropout else ())
        return tuple(layer for layer in layers if not isinstance(layer, left_out))

    def _with_norm(self, layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
        result: list[Layer] = []
        for i, layer in enumerate(layers):
            result.append(layer)
            following = layers[i + 1] if i + 1 < len(layers) else None
            if isinstance(layer, Dense) and not isinstance(following, NORMS):
                result.append(LayerNorm() if self.norm == "layer" else BatchNorm())
        return tuple(result)

    def _dense(self, layer: Dense) -> Dense:
        return layer if self.init is None else _with_init(layer, self.init)


@lru_cache(maxsize=256)  # a deep network asks for the same one at every layer
def _with_init(layer: Dense, init: str) -> Dense:
    return replace(layer, init=init, bias_init="zeros")


@lru_cache(maxsize=256)
def _with_units(layer: Dense, units: int) -> Dense:
    return replace(layer, units=units)


@lru_cache(maxsize=64)
def _activation(name: str) -> Activation:
    return Activation(name)


def hidden_activations(layers: tuple[Layer, ...]) -> tuple[str, ...]:
    """Name the activations of the hidden layers in order, those inside residual blocks included."""
    found: list[str] = []

    def collect(part: tuple[Layer, ...]) -> None:
        for layer in part:
            if isinstance(layer, Activation):
                found.append(layer.spec)
            elif isinstance(layer, Residual):
                collect(layer.layers)

    groups = split_groups(layers)
    for group in groups[:-1]:
        collect(group)
    collect(tuple(layer for layer in groups[-1] if isinstance(layer, Residual)))
    return tuple(found)


def dense_layers(layers: tuple[Layer, ...]) -> tuple[Dense, ...]:
    """Return all dense layers in order, those inside residual blocks included."""
    found: list[Dense] = []
    for layer in layers:
        if isinstance(layer, Dense):
            found.append(layer)
        elif isinstance(layer, Residual):
            found.extend(dense_layers(layer.layers))
    return tuple(found)


def has(layers: tuple[Layer, ...], kind: type[Layer] | tuple[type[Layer], ...]) -> bool:
    """Whether a kind of layer, or one of some kinds, occurs anywhere."""
    return any(
        isinstance(layer, kind) or (isinstance(layer, Residual) and has(layer.layers, kind))
        for layer in layers
    )


def describe(layers: tuple[Layer, ...], input_size: int | None = None) -> str | None:
    """Write the layers as the ``mlp`` call that makes just these, without sizes; None where there is no such call.

    Examples
    --------
    >>> from gradcore.layers import as_layers
    >>> describe(as_layers([Dense(8), "tanh", Dense(2)]))
    'mlp(sizes, activation="tanh")'
    """
    activations, dense = hidden_activations(layers), dense_layers(layers)
    if not activations or not all(isinstance(layer.init, str) for layer in dense):
        return None
    units = [layer.units for layer in dense]
    inputs = (units[0] if isinstance(layers[0], Residual) else 0) if input_size is None else input_size
    rates = [layer.rate for layer in _flat(layers) if isinstance(layer, Dropout)]
    scales = [layer.scale for layer in layers if isinstance(layer, Residual)]
    usual = {"init": "auto", "norm": None, "residual": False, "residual_scale": 1.0, "dropout": 0.0}
    arguments: dict[str, Any] = {
        "activation": activations[0],
        "init": dense[0].init,
        "norm": "batch" if has(layers, BatchNorm) else "layer" if has(layers, LayerNorm) else None,
        "residual": has(layers, Residual),
        "residual_scale": scales[0] if scales else 1.0,
        "dropout": rates[0] if rates else 0.0,
    }
    if tuple(mlp_layers([inputs, *units], **arguments)) != layers:
        return None
    if len(scales) > 1 and scales[0] == 1 / math.sqrt(len(scales)):
        arguments["residual_scale"] = "auto"
    said = [
        f'{name}="{value}"' if isinstance(value, str) else f"{name}={value!r}"
        for name, value in arguments.items()
        if name not in usual or value != usual[name]
    ]
    return f"mlp(sizes, {', '.join(said)})"


def _flat(layers: tuple[Layer, ...]) -> list[Layer]:
    return [
        part for layer in layers for part in (_flat(layer.layers) if isinstance(layer, Residual) else [layer])
    ]


def matching_init(activation: str) -> str:
    """Name the initial weights that go with an activation; "auto" where they have no well-known name."""
    name = str(initializers.auto_for(activations.resolve(activation)[0]))
    return name if "(" not in name else "auto"
