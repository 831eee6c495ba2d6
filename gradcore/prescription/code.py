"""The lines of Python that make a prescription again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from gradcore.diagnosis.changes import Change
from gradcore.diagnosis.code import network_code
from gradcore.network import Network
from gradcore.optimizers import Optimizer


def reproduce(net: Network, given: Mapping[str, tuple[Any, Any]]) -> str:
    """Write the lines that make a prescription again; X and y are the reader's.

    Parameters
    ----------
    net : Network
        Its layers and its seed; weights are drawn anew.
    given : mapping of str to tuple (value, usual)
        The other arguments by name; those that are as usual are left out.

    Examples
    --------
    >>> from gradcore.network import mlp
    >>> print(reproduce(mlp([4, 8, 2], seed=0), {"budget": ("10s", "30s"), "seeds": (5, 5)}))
    import gradcore
    net = gradcore.mlp([4, 8, 2], activation="relu", seed=0)
    print(gradcore.prescribe(net, X, y, budget='10s'))
    """
    arguments = {name: value for name, (value, usual) in given.items() if value != usual}
    held_out = arguments.pop("validation_data", None) is not None
    rest = [f"{name}={_written(value)}" for name, value in arguments.items()]
    rest += ["validation_data=(X_test, y_test)"] * held_out
    own = any(isinstance(item, Change) for item in _items(arguments.get("treatments")))
    return "\n".join([
        "import gradcore",
        *["from gradcore.diagnosis.changes import Change"] * own,
        f"net = {network_code(net, net.seed)}",
        f"print(gradcore.prescribe({', '.join(['net, X, y', *rest])}))",
    ])  # fmt: skip


def _written(value: object) -> str:
    match value:
        case list() | tuple():
            return f"[{', '.join(map(_written, value))}]"
        case Change():
            return f"Change({', '.join(_different(value))})"
        case Optimizer():
            return f"gradcore.optimizers.{value!r}"
        case np.generic():
            return repr(value.item())
    return repr(value)


def _different(change: Change) -> list[str]:
    """Write the attributes of a change that are not what they usually are."""
    return [
        f"{field.name}={_written(getattr(change, field.name))}"
        for field in fields(change)
        if field.init and getattr(change, field.name) != field.default
    ]


def _items(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]
