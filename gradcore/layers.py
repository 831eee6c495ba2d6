"""The layers a network is declared with: plain frozen descriptions, checked when they are made."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal

from gradcore import activations, initializers
from gradcore.errors import check_finite, check_flag, check_fraction, check_integer, check_positive

Init = str | Callable[..., Any]


def _store(layer: object, **checked: object) -> None:
    vars(layer).update(checked)  # the instances are frozen, so this goes past them


@dataclass(frozen=True)
class Dense:
    """A fully connected layer, ``z = x Wᵀ + b`` with W of shape (units, inputs).

    Parameters
    ----------
    units : int
        Number of outputs, at least 1.
    init : str or callable
        Initial weights, such as ``"he_normal"`` or ``"normal(0.01)"``; ``"auto"`` chooses by the activation
        that follows (`gradcore.initializers.auto_for`).
    bias_init : str or callable
        Initial bias, of shape (units,).
    use_bias : bool
        Whether there is a bias.

    Examples
    --------
    >>> Dense(64, init="normal(0.01)").units
    64
    """

    units: int
    _: KW_ONLY
    init: Init = "auto"
    bias_init: Init = "zeros"
    use_bias: bool = True

    def __post_init__(self) -> None:
        _store(self, units=check_integer("units of Dense", self.units))
        if self.init != "auto":
            initializers.resolve(self.init)
        initializers.resolve(self.bias_init)
        check_flag("use_bias", self.use_bias)


@dataclass(frozen=True)
class Activation:
    """An activation by name, alias or spec: ``"relu"``, ``"leaky_relu(0.2)"``, ``"softmax"`` (over each row).

    Examples
    --------
    >>> Activation("leaky_relu(0.2)").parameter
    0.2
    """

    spec: str

    def __post_init__(self) -> None:
        activations.resolve(self.spec)

    @property
    def info(self) -> activations.ActivationInfo:
        """What gradcore knows about the function."""
        return activations.resolve(self.spec)[0]

    @property
    def parameter(self) -> float:
        """Its parameter, such as the negative slope; 0.0 where it has none."""
        return activations.resolve(self.spec)[1]


@dataclass(frozen=True)
class BatchNorm:
    """Normalise each column over the batch, then scale by gamma and shift by beta.

    Source: Ioffe & Szegedy, "Batch Normalization" (2015).

    Parameters
    ----------
    momentum : float
        The weight of the *new* value in the running statistics, in (0, 1], as in PyTorch.
    eps : float
        Added to the variance, greater than 0.

    Examples
    --------
    >>> BatchNorm(momentum=0.01)
    BatchNorm(momentum=0.01, eps=1e-05)
    """

    momentum: float = 0.1
    eps: float = 1e-5

    def __post_init__(self) -> None:
        momentum = check_positive("momentum of BatchNorm", self.momentum)
        if momentum > 1:
            raise ValueError(
                f"momentum of BatchNorm is the weight of the new value, at most 1, got {momentum}"
            )
        _store(self, momentum=momentum, eps=check_positive("eps of BatchNorm", self.eps))


@dataclass(frozen=True)
class LayerNorm:
    """Normalise each row over its columns, then scale by gamma and shift by beta, as in ``torch.nn.LayerNorm``.

    Nothing depends on the other rows of the batch: there are no running statistics, training and inference are the
    same, and a batch may be a single row.

    Source: Ba, Kiros & Hinton, "Layer Normalization" (2016).

    Parameters
    ----------
    eps : float
        Added to the variance, greater than 0.

    Examples
    --------
    >>> LayerNorm()
    LayerNorm(eps=1e-05)
    """

    eps: float = 1e-5

    def __post_init__(self) -> None:
        _store(self, eps=check_positive("eps of LayerNorm", self.eps))


@dataclass(frozen=True)
class Dropout:
    """In training, set elements to zero with probability `rate` and divide the others by 1 - rate.

    Source: Srivastava, Hinton, Krizhevsky, Sutskever & Salakhutdinov, "Dropout" (2014).

    Examples
    --------
    >>> Dropout(0.5)
    Dropout(rate=0.5)
    """

    rate: float

    def __post_init__(self) -> None:
        _store(self, rate=check_fraction("rate of Dropout", self.rate))


@dataclass(frozen=True)
class Residual:
    """A block whose output is its input plus `scale` times what `layers` make of it.

    Source: He, Zhang, Ren & Sun, "Deep Residual Learning for Image Recognition" (2016).

    Parameters
    ----------
    layers : list of layers and activation names
        The branch.
    scale : float
        Factor on the branch.
    projection : bool or "always"
        What is added is the input as it is, which must be as wide as the end of the branch. With True, where it is not,
        a learned linear map of the input without bias is added instead (option B of the source), with initial weights
        like those of a linear layer; ``"always"`` maps even where the widths agree.

    Examples
    --------
    >>> Residual([Dense(64), "relu"], scale=0.5).layers
    (Dense(units=64, init='auto', bias_init='zeros', use_bias=True), Activation(spec='relu'))
    >>> Residual([Dense(32), "tanh"], projection=True).projects(64)
    True
    """

    layers: tuple[Layer, ...]
    scale: float = 1.0
    projection: bool | Literal["always"] = False

    def __init__(
        self,
        layers: Iterable[Layer | str],
        scale: float = 1.0,
        projection: bool | Literal["always"] = False,
    ) -> None:
        if projection != "always":
            projection = check_flag("projection of Residual", projection)
        _store(
            self,
            layers=as_layers(layers),
            scale=check_finite("scale of Residual", scale),
            projection=projection,
        )
        if not self.layers:
            raise ValueError("Residual needs at least one layer inside")

    def projects(self, columns: int) -> bool:
        """Tell whether the skip of an input with so many columns is a learned map."""
        return self.projection == "always" or (
            self.projection and width_after(self.layers, columns) != columns
        )


def width_after(layers: Iterable[Layer], columns: int) -> int:
    """Return how many columns come out of layers that are given so many.

    Examples
    --------
    >>> width_after(as_layers([Dense(8), "tanh", Residual([Dense(8)])]), 5)
    8
    """
    for layer in layers:
        if isinstance(layer, Dense):
            columns = layer.units
        elif isinstance(layer, Residual):
            columns = width_after(layer.layers, columns)
    return columns


Layer = Dense | Activation | BatchNorm | LayerNorm | Dropout | Residual
NORMS = (BatchNorm, LayerNorm)


def as_layers(layers: Iterable[Layer | str]) -> tuple[Layer, ...]:
    """Turn a list of layers and bare activation names into layers.

    Raises
    ------
    TypeError
        Something in the list is neither; its position is named.
    ValueError
        An unknown activation; its position is named.

    Examples
    --------
    >>> as_layers([Dense(10), "tanh"])[1]
    Activation(spec='tanh')
    """
    if isinstance(layers, (str, Layer)) or not isinstance(layers, Iterable):
        raise TypeError(f"layers must be a list such as [Dense(64), 'relu'], got {layers!r}")
    result: list[Layer] = []
    for i, layer in enumerate(layers):
        if isinstance(layer, str):
            try:
                layer = Activation(layer)
            except ValueError as error:
                raise ValueError(f"layer {i}: {error}") from None
        elif not isinstance(layer, Layer):
            raise TypeError(f"layer {i} must be a layer or the name of an activation, got {layer!r}")
        result.append(layer)
    return tuple(result)


def split_groups(layers: tuple[Layer, ...]) -> list[tuple[Layer, ...]]:
    """Cut a list of layers before every dense layer and residual block; what precedes the first goes with it.

    The last group is the output with whatever follows it.

    Examples
    --------
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
