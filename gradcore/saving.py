"""Networks in files: what one holds, and how it becomes a network again."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gradcore.architecture import layers_from_json, layers_to_json
from gradcore.compiler import compile_layers
from gradcore.errors import check_integer, check_path
from gradcore.files import Format, read_arrays, write_arrays
from gradcore.losses import resolve as resolve_loss
from gradcore.parameters import shapes_of
from gradcore.streams import check_seed

if TYPE_CHECKING:
    from gradcore.network import Network

Array = NDArray[Any]

FORMAT = Format("gradcore network", 1)

# How labels are kept: numbers and booleans as they are, text without the width of its dtype, bytes as latin-1.
_LABELS = {
    name: np.dtype(name)
    for name in (
        "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
        "float16", "float32", "float64", "str", "bytes",
    )
}  # fmt: skip


def save(net: Network, path: str | os.PathLike[str]) -> None:
    """Write a network to a file; see `gradcore.Network.save`."""
    write_arrays(path, FORMAT, describe(net), net.get_parameters())


def load(path: str | os.PathLike[str]) -> Network:
    """Read a network that `Network.save` wrote.

    Nothing in a file is ever run. It gives the same outputs, bit for bit, on a machine with the same instruction set
    and the same version of gradcore.

    Parameters
    ----------
    path : path

    Returns
    -------
    Network
        With its weights, running statistics, dtype, seed, loss and ``classes_``; without a history.

    Raises
    ------
    OSError
        The file cannot be opened.
    ValueError
        It is no network of gradcore, of a newer version, or damaged: the checksum is over every bit.

    See Also
    --------
    gradcore.Network.save, gradcore.Network.export_c

    Examples
    --------
    >>> import tempfile, pathlib, gradcore
    >>> path = pathlib.Path(tempfile.mkdtemp(), "net.safetensors")
    >>> net = gradcore.mlp([2, 8, 1], seed=0)
    >>> net.save(path)
    >>> bool((gradcore.load(path).forward([[1.0, 2.0]]) == net.forward([[1.0, 2.0]])).all())
    True
    """
    path = check_path("path", path)
    contents = read_arrays(path, FORMAT)
    try:
        return rebuild(contents.values, contents.arrays)
    except RecursionError:
        raise ValueError(f"{path} does not describe a network: residual blocks nested too deeply") from None
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"{path} does not describe a network: {error}") from None


def describe(net: Network) -> dict[str, Any]:
    """Return all of a network but its arrays, as plain values."""
    return {
        "layers": layers_to_json(net.layers),
        "input_size": net.input_size,
        "dtype": net.dtype.name,
        "seed": net.seed,
        "loss": None if net.loss is None else str(net.loss),
        "classes": None if net.classes_ is None else _labels_to_json(net.classes_),
    }


def rebuild(values: Mapping[str, Any], arrays: Mapping[str, Array]) -> Network:
    """Return the network that `describe` described, with these parameters.

    Raises
    ------
    ValueError, TypeError, OverflowError
        It cannot be, or the arrays are not exactly its parameters. No memory was taken for them then.
    """
    from gradcore.network import Network

    missing = {"layers", "input_size", "dtype", "seed", "loss", "classes"} - set(values)
    if missing:
        raise ValueError(f"{min(missing)} is missing")
    if values["dtype"] not in ("float32", "float64"):
        raise ValueError(f"dtype must be 'float32' or 'float64', got {values['dtype']!r}")
    state = {
        "layers": layers_from_json(values["layers"]),
        "input_size": check_integer("input_size", values["input_size"]),
        "dtype": np.dtype(values["dtype"]),
        "seed": check_seed(check_integer("seed", values["seed"], minimum=0)),
        "loss": None if values["loss"] is None else resolve_loss(values["loss"]),
        "history": None,
        "parameters": arrays,
    }
    plan = compile_layers(state["layers"], state["input_size"], state["dtype"], tile=1)
    _check_arrays(arrays, shapes_of(plan), state["dtype"])
    classes = values["classes"]
    state["classes_"] = None if classes is None else _labels_from_json(classes, plan.columns_out)
    net = Network.__new__(Network)
    net.__setstate__(state)
    return net


def _check_arrays(
    arrays: Mapping[str, Array], shapes: Mapping[str, tuple[int, ...]], dtype: np.dtype[Any]
) -> None:
    for name, shape in shapes.items():
        if name not in arrays:
            raise ValueError(f"the parameter {name!r} of shape {shape} is missing")
        found = arrays[name]
        if found.shape != shape or found.dtype != dtype:
            raise ValueError(
                f"the parameter {name!r} must be of shape {shape} and {dtype}, "
                f"the file has shape {found.shape} and {found.dtype}"
            )
    if unknown := sorted(set(arrays) - set(shapes)):
        raise ValueError(f"the layers have no parameter {unknown[0]!r}")


def _labels_to_json(labels: Array) -> dict[str, Any]:
    kind = {"U": "str", "S": "bytes"}.get(labels.dtype.kind, labels.dtype.name)
    values = labels.tolist()
    return {"dtype": kind, "values": [v.decode("latin-1") for v in values] if kind == "bytes" else values}


def _labels_from_json(entry: Any, outputs: int) -> Array:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "values"} or entry["dtype"] not in _LABELS:
        raise ValueError("classes are not described as gradcore does it")
    dtype, values = _LABELS[entry["dtype"]], entry["values"]
    kinds = {"b": (bool,), "f": (float, int), "U": (str,), "S": (str,)}.get(dtype.kind, (int,))
    count = max(outputs, 2)
    if not isinstance(values, list) or len(values) != count or any(type(v) not in kinds for v in values):
        raise ValueError(f"classes must be {count} labels of {entry['dtype']} for {outputs} outputs")
    labels = np.array([v.encode("latin-1") for v in values] if dtype.kind == "S" else values, dtype)
    if not (labels[1:] > labels[:-1]).all():
        raise ValueError("classes must be in rising order")
    return labels
