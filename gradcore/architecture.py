"""Layers as plain JSON values and back: from the fields of their dataclasses, so a new layer needs no entry here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, get_args

from gradcore import initializers
from gradcore.errors import unknown_name
from gradcore.layers import Layer, as_layers

KINDS: dict[str, type[Any]] = {kind.__name__: kind for kind in get_args(Layer)}

# No spec is that long; a longer one is an attack on its parser.
_LONGEST_TEXT = 1000


@dataclass(frozen=True)
class ForgottenFunction:
    """Stands for an initializer that was a function: a file keeps its name, not its code."""

    name: str

    @property
    def __name__(self) -> str:
        return self.name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Say that the function is not there."""
        raise ValueError(
            f"the initial weights came from the function {self.name}, which a file cannot keep: "
            "give the layers a new init (net.rebuilt), or keep the weights that were loaded (net.copy())"
        )


def layers_to_json(layers: Iterable[Layer]) -> list[dict[str, Any]]:
    """Return layers as lists, mappings, text and numbers.

    Examples
    --------
    >>> from gradcore.layers import Dense
    >>> layers_to_json(as_layers([Dense(2), "relu"]))
    [{'layer': 'Dense', 'units': 2, 'init': 'auto', 'bias_init': 'zeros', 'use_bias': True},
     {'layer': 'Activation', 'spec': 'relu'}]
    """
    return [_layer_to_json(layer) for layer in layers]


def layers_from_json(entries: Any) -> tuple[Layer, ...]:
    """Return the layers that `layers_to_json` described.

    Fields that are missing (an older version did not have them) take their defaults.

    Raises
    ------
    ValueError
        A kind of layer or a field that this version does not know, or a value that cannot be; its position is named.
    """
    return as_layers(_layers(entries, ()))


def _layer_to_json(layer: Any) -> dict[str, Any]:
    values = {f.name: _value_to_json(getattr(layer, f.name)) for f in fields(layer) if f.init}
    return {"layer": type(layer).__name__, **values}


def _value_to_json(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_value_to_json(item) for item in value]
    if isinstance(value, Layer):
        return _layer_to_json(value)
    if (
        isinstance(value, initializers.Initializer)
        and initializers.REGISTRY.get(value.spec.name) is value.function
    ):
        return str(value)
    if callable(value):
        name = getattr(value, "__qualname__", getattr(value, "__name__", type(value).__qualname__))
        return name if initializers.REGISTRY.get(name) is value else {"function": name}
    return value


def _layers(entries: Any, parents: tuple[int, ...]) -> list[Layer]:
    if not isinstance(entries, list):
        raise ValueError(f"layers must be a list, got {type(entries).__name__}")
    return [_layer(entry, (*parents, i)) for i, entry in enumerate(entries)]


def _layer(entry: Any, path: tuple[int, ...]) -> Layer:
    where = f"layer {'.'.join(map(str, path))}"
    given = dict(entry) if isinstance(entry, dict) else {}
    name = given.pop("layer", None)
    if not isinstance(name, str):
        raise ValueError(f"{where} has no kind")
    if name not in KINDS:
        raise ValueError(
            f"{where}: {unknown_name('kind of layer', name, KINDS)}; a newer gradcore may know it"
        )
    known = {f.name for f in fields(KINDS[name]) if f.init}
    if unknown := sorted(set(given) - known):
        raise ValueError(f"{where}: {name} has no {unknown[0]!r}; a newer gradcore may know it")
    values = {key: _value(value, path) for key, value in given.items()}
    try:
        layer: Layer = KINDS[name](**values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {error}") from None
    return layer


def _value(value: Any, path: tuple[int, ...]) -> Any:
    if isinstance(value, list):
        return tuple(_layers(value, path))
    if isinstance(value, dict):
        return (
            ForgottenFunction(str(value["function"])) if set(value) == {"function"} else _layer(value, path)
        )
    if isinstance(value, str) and len(value) > _LONGEST_TEXT:
        raise ValueError(f"a text of {len(value)} characters is none that gradcore writes")
    return value
