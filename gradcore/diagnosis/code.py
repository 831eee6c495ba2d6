"""The lines of Python that make a network, and its diagnosis, again."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from gradcore.diagnosis.arrays import ArraysDiagnosis
from gradcore.diagnosis.changes import dense_layers, describe
from gradcore.layers import Activation, BatchNorm, Dense, Dropout, Layer, LayerNorm, Residual, split_groups

if TYPE_CHECKING:
    from gradcore.diagnosis.diagnose import Diagnosis
    from gradcore.network import Network


def reproduce(diagnosis: Diagnosis | ArraysDiagnosis) -> str:
    """Write the lines that make this diagnosis again; X and y are the reader's."""
    if isinstance(diagnosis, ArraysDiagnosis):
        return "print(gradcore.diagnose_arrays(layers))"
    setting = diagnosis.setting
    build = network_code(diagnosis.network, diagnosis.first_seed)
    others = {
        "steps": (setting.steps, 0), "batch_size": (setting.batch_size, 32), "seeds": (diagnosis.seeds, 1),
        "seed": (setting.seed, 0),
    }  # fmt: skip
    rest = "".join(f", {name}={value}" for name, (value, usual) in others.items() if value != usual)
    if diagnosis.seeds == 1 and not diagnosis.variants.fresh:
        build += "  # and then the parameters it had"
    optimizer = f"gradcore.optimizers.{diagnosis.optimizer!r}"
    return f'net = {build}\nprint(gradcore.diagnose(net, X, y, loss="{diagnosis.loss}", optimizer={optimizer}{rest}))'


def network_code(net: Network, seed: int) -> str:
    """Write the call that makes a network of these layers: of ``mlp`` where that makes just them, else of ``Network``.

    Examples
    --------
    >>> from gradcore.network import Network
    >>> network_code(Network([Dense(8), "tanh", Dense(2, use_bias=False)], input_size=4), 0)
    "gradcore.Network([gradcore.Dense(8), 'tanh', gradcore.Dense(2, use_bias=False)], input_size=4, seed=0)"
    """
    dtype = "" if net.dtype.name == "float32" else f', dtype="{net.dtype.name}"'
    call = describe(net.layers, net.input_size)
    if call is not None:
        sizes = write_sizes([net.input_size, *(layer.units for layer in dense_layers(net.layers))])
        return f"gradcore.{call.replace('sizes', sizes, 1)[:-1]}{dtype}, seed={seed})"
    if not all(
        isinstance(init, str) for layer in dense_layers(net.layers) for init in (layer.init, layer.bias_init)
    ):
        return f"...  # {net!r}, seed {seed}"
    return f"gradcore.Network({write_layers(net.layers)}, input_size={net.input_size}{dtype}, seed={seed})"


def write_layers(layers: tuple[Layer, ...]) -> str:
    """Write a list of layers, repetitions short.

    Examples
    --------
    >>> from gradcore.layers import as_layers
    >>> write_layers(as_layers([*3 * [Dense(8), "relu"], BatchNorm(), Dense(2)]))
    "[*2 * [gradcore.Dense(8), 'relu'], gradcore.Dense(8), 'relu', gradcore.BatchNorm(), gradcore.Dense(2)]"
    """
    parts = []
    for group, run in groupby(split_groups(layers)):
        written, count = ", ".join(map(_written, group)), len(list(run))
        parts.append(f"*{count} * [{written}]" if count > 1 else written)
    return f"[{', '.join(parts)}]"


def _written(layer: Layer) -> str:
    match layer:
        case Activation(spec):
            return repr(spec)
        case Residual(inside, scale, projection):
            others = _others(scale=(scale, 1.0), projection=(projection, False))
            return f"gradcore.Residual({write_layers(inside)}{others})"
        case Dense(units):
            others = _others(
                init=(layer.init, "auto"),
                bias_init=(layer.bias_init, "zeros"),
                use_bias=(layer.use_bias, True),
            )
            return f"gradcore.Dense({units}{others})"
        case Dropout(rate):
            return f"gradcore.Dropout({rate!r})"
        case LayerNorm(eps):
            return f"gradcore.LayerNorm({_others(eps=(eps, 1e-5)).removeprefix(', ')})"
        case BatchNorm(momentum, eps):
            return (
                f"gradcore.BatchNorm({_others(momentum=(momentum, 0.1), eps=(eps, 1e-5)).removeprefix(', ')})"
            )


def _others(**arguments: tuple[object, object]) -> str:
    """Write the arguments that are not what they usually are."""
    return "".join(f", {name}={value!r}" for name, (value, usual) in arguments.items() if value != usual)


def write_sizes(sizes: Sequence[int]) -> str:
    """Write a list of sizes, repetitions short.

    Examples
    --------
    >>> write_sizes([64, 8, 8, 8, 8, 2])
    '[64, *4 * [8], 2]'
    """
    parts = []
    for size, run in groupby(sizes):
        count = len(list(run))
        parts.append(f"*{count} * [{size}]" if count > 2 else ", ".join(count * [str(size)]))
    return f"[{', '.join(parts)}]"
