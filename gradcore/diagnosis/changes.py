"""One change to a network or to how it is trained: the counterfactuals from which causes are read."""

from __future__ import annotations

from dataclasses import dataclass, replace

from gradcore.diagnosis.observe import Batch
from gradcore.layers import Activation, BatchNorm, Dense, Dropout, Layer, Residual
from gradcore.optimizers import Optimizer

_SHORT = {
    "glorot_normal": "Glorot", "glorot_uniform": "Glorot uniform", "he_normal": "He", "he_uniform": "He uniform",
    "lecun_normal": "LeCun", "lecun_uniform": "LeCun uniform", "auto": "matching weights",
}  # fmt: skip


@dataclass(frozen=True)
class Change:
    """What to do differently; several attributes at once are one joint change.

    Parameters
    ----------
    activation, init : str or None
        Of all hidden layers; initial weights of all dense layers (biases then start at zero).
    norm, residual : bool
        Add batch norm after every hidden dense layer; wrap hidden layers in residual blocks.
    depth : float
        Share of the hidden layers that is kept.
    width : int
        Factor on the hidden widths.
    rate : float
        Factor on the learning rate.
    optimizer : Optimizer or None
    linear_output : bool
        Leave the output activation away: the losses take logits and values.
    standardise, standardise_targets : bool
        Bring every column of X, of y, to mean 0 and standard deviation 1.
    """

    activation: str | None = None
    init: str | None = None
    norm: bool = False
    residual: bool = False
    depth: float = 1.0
    width: int = 1
    rate: float = 1.0
    optimizer: Optimizer | None = None
    linear_output: bool = False
    standardise: bool = False
    standardise_targets: bool = False

    @property
    def name(self) -> str:
        """How the change is called in tables."""
        parts = []
        if self.activation:
            parts.append(self.activation)
        if self.init:
            parts.append(_SHORT.get(self.init, self.init))
        if self.norm:
            parts.append("batch norm")
        if self.residual:
            parts.append("residual blocks")
        if self.depth != 1:
            parts.append(f"{self.depth:.0%} of the depth")
        if self.width != 1:
            parts.append(f"{self.width}× the width")
        if self.rate != 1:
            parts.append(f"learning rate {'×' if self.rate > 1 else '÷'}{max(self.rate, 1 / self.rate):g}")
        if self.optimizer:
            parts.append(f"optimizer {self.optimizer.name}")
        if self.linear_output:
            parts.append("linear output")
        if self.standardise:
            parts.append("standardised inputs")
        if self.standardise_targets:
            parts.append("standardised targets")
        single = len(parts) == 1 and (self.activation or self.init)
        return parts[0] + " only" if single else " + ".join(parts)

    @property
    def causes(self) -> tuple[str, ...]:
        """The causes that this change removes, in the words of faults; batch norm and residual blocks remove none."""
        named = {
            "initial_weights": self.init is not None,
            "activation": self.activation is not None,
            "output_loss_pair": self.linear_output,
            "input_scale": self.standardise,
            "target_scale": self.standardise_targets,
            "learning_rate": self.rate != 1,
            "optimizer": self.optimizer is not None,
            "narrow_layers": self.width != 1,
            "depth": self.depth != 1,
        }
        return tuple(cause for cause, changed in named.items() if changed)

    @property
    def rebuilds(self) -> bool:
        """Whether the network itself becomes another one."""
        return bool(
            self.activation
            or self.init
            or self.norm
            or self.residual
            or self.linear_output
            or self.depth != 1
            or self.width != 1
        )

    @property
    def changes_data(self) -> bool:
        """Whether the data become others."""
        return self.standardise or self.standardise_targets

    def data(self, batch: Batch) -> Batch:
        """Return the changed data."""
        return (
            batch.standardised(inputs=self.standardise, targets=self.standardise_targets)
            if self.changes_data
            else batch
        )

    def layers(self, layers: tuple[Layer, ...], input_size: int) -> tuple[Layer, ...]:
        """Return the changed list of layers."""
        groups = split_groups(layers)
        hidden, output = groups[:-1], groups[-1]
        hidden = hidden[: max(1, round(self.depth * len(hidden)))] if hidden else hidden
        result: list[Layer] = []
        width = input_size
        for group in hidden:
            changed = tuple(self._hidden(layer) for layer in group)
            if self.norm:
                changed = _with_norm(changed)
            first = changed[0]
            units = first.units if isinstance(first, Dense) else width
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
            return replace(self._dense(layer), units=layer.units * self.width)
        if isinstance(layer, Activation) and self.activation and layer.spec != "softmax":
            return Activation(self.activation)
        return self._inside(layer)

    def _inside(self, layer: Layer) -> Layer:
        if not isinstance(layer, Residual):
            return layer
        inner = tuple(self._hidden(part) for part in layer.layers)
        return Residual(_with_norm(inner) if self.norm else inner, scale=layer.scale)

    def _dense(self, layer: Dense) -> Dense:
        return layer if self.init is None else replace(layer, init=self.init, bias_init="zeros")


def split_groups(layers: tuple[Layer, ...]) -> list[tuple[Layer, ...]]:
    """Cut a list of layers before every dense layer and residual block; what precedes the first goes with it.

    The last group is the output with whatever follows it.

    Examples
    --------
    >>> from gradcore.layers import as_layers
    >>> [len(group) for group in split_groups(as_layers([Dense(8), "relu", Dense(8), "relu", Dense(2)]))]
    [2, 2, 1]
    """
    groups: list[list[Layer]] = [[]]
    begun = False
    for layer in layers:
        if isinstance(layer, Dense | Residual):
            if begun:
                groups.append([])
            begun = True
        groups[-1].append(layer)
    return [tuple(group) for group in groups]


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


def has(layers: tuple[Layer, ...], kind: type[Layer]) -> bool:
    """Whether a kind of layer occurs anywhere."""
    return any(
        isinstance(layer, kind) or (isinstance(layer, Residual) and has(layer.layers, kind))
        for layer in layers
    )


def _with_norm(layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
    result: list[Layer] = []
    for i, layer in enumerate(layers):
        result.append(layer)
        following = layers[i + 1] if i + 1 < len(layers) else None
        if isinstance(layer, Dense) and not isinstance(following, BatchNorm):
            result.append(BatchNorm())
    return tuple(result)


def describe(layers: tuple[Layer, ...]) -> str | None:
    """Write the layers as the ``mlp`` call that makes them, without sizes; None when they are no plain ``mlp``.

    Examples
    --------
    >>> from gradcore.layers import as_layers
    >>> describe(as_layers([Dense(8), "tanh", Dense(2)]))
    'mlp(sizes, activation="tanh")'
    """
    activations = set(hidden_activations(layers))
    inits = {layer.init for layer in dense_layers(layers)}
    groups = split_groups(layers)
    if len(activations) != 1 or len(inits) != 1 or not groups[:-1] or len(groups[-1]) != 1:
        return None
    (activation,), (init,) = activations, inits
    if not isinstance(init, str):
        return None
    rates = {layer.rate for group in groups for layer in _flat(group) if isinstance(layer, Dropout)}
    arguments = [f'activation="{activation}"'] + ([f'init="{init}"'] if init != "auto" else [])
    if has(layers, BatchNorm):
        arguments.append('norm="batch"')
    if has(layers, Residual):
        arguments.append("residual=True")
    if len(rates) == 1:
        arguments.append(f"dropout={rates.pop():g}")
    return f"mlp(sizes, {', '.join(arguments)})"


def _flat(layers: tuple[Layer, ...]) -> list[Layer]:
    return [
        part for layer in layers for part in (_flat(layer.layers) if isinstance(layer, Residual) else [layer])
    ]
