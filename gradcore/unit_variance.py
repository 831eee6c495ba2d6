"""Layer-sequential unit variance: the weights of a network, scaled to its data (`gradcore.initializers.lsuv_`)."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradcore import initializers, kernels
from gradcore.array_statistics import statistics
from gradcore.errors import GradcoreWarning, check_flag, check_integer, check_positive
from gradcore.parameters import untile
from gradcore.streams import UNIT_VARIANCE, check_seed, stream
from gradcore.training.data import as_inputs

if TYPE_CHECKING:
    from gradcore.network import Network

Array = NDArray[Any]


def start_at_unit_variance(
    net: Network,
    X: ArrayLike,
    *,
    tolerance: float,
    max_iterations: int,
    orthogonal: bool,
    rows: int,
    seed: int | None,
) -> dict[str, float]:
    """Do what `gradcore.initializers.lsuv_` says."""
    tolerance, orthogonal = check_positive("tolerance", tolerance), check_flag("orthogonal", orthogonal)
    max_iterations = check_integer("max_iterations", max_iterations)
    most, seed = check_integer("rows", rows), net.seed if seed is None else check_seed(seed)
    data = as_inputs(X, net.input_size, net.dtype)
    if not len(data):
        raise ValueError("X is empty: at least one row is needed")
    chosen = np.linspace(0, len(data) - 1, min(len(data), most)).astype(np.int64)
    with net._training():
        before = net._snapshot()
        try:
            _start(net, orthogonal, seed)
            executor = net.executor(len(chosen))
            executor.bind(data, None)
            factors, far = {}, []
            for name, slot in net.plan.parameter_names.items():
                if slot.kind == "weight":
                    factors[name], spread = _scale(
                        net, executor, chosen, name, slot.op, tolerance, max_iterations
                    )
                    if abs(spread - 1) > tolerance:
                        far.append(f"{net.plan.names[slot.op]} ({spread:.3g})")
        except BaseException:
            net._restore(before)
            raise
    if far:
        warnings.warn(
            f"lsuv_: the pre-activations have not come within {tolerance:g} of standard deviation 1 after "
            f"{max_iterations} rescalings in {', '.join(far)}; allow more, or a larger tolerance",
            GradcoreWarning,
            stacklevel=3,
        )
    return factors


def _start(net: Network, orthogonal: bool, seed: int) -> None:
    """Set all biases to zero and, where wanted, all weights to orthonormal ones."""
    fresh = {}
    for number, (name, slot) in enumerate(net.plan.parameter_names.items()):
        if slot.kind == "bias":
            fresh[name] = np.zeros(slot.columns, net.dtype)
        elif slot.kind == "weight" and orthogonal:
            rng = stream(seed, UNIT_VARIANCE, number)
            fresh[name] = initializers.orthogonal((slot.columns, slot.rows), rng=rng, dtype=net.dtype)
    net.set_parameters(fresh)


def _scale(
    net: Network, executor: Any, rows: Array, name: str, op: int, tolerance: float, max_iterations: int
) -> tuple[float, float]:
    """Divide one weight by the spread of its pre-activations until that is 1; return the factor and the spread."""
    factor, spread = 1.0, _spread(net, executor, rows, op)
    weight = net._parameters.of_units(name).astype(np.float64)
    for _ in range(max_iterations):
        if abs(spread - 1) <= tolerance:
            break
        factor /= spread
        net.set_parameters({name: weight * factor})
        spread = _spread(net, executor, rows, op)
    return factor, spread


def _spread(net: Network, executor: Any, rows: Array, op: int) -> float:
    """Return the standard deviation of what a dense op puts out over all rows and units, batch norm by this batch."""
    executor.transpose_weights()  # the parameters were changed
    executor.observe(rows, mode=kernels.MODES["batch_statistics"], seed=0, step=1, stop=op, backward=False)
    place = net.plan.table[op]
    slot, columns = int(place["output"]) * executor.capacity, int(place["columns_out"])
    z = untile(executor.activations, slot, executor.capacity, columns, net.plan.tile)
    spread = statistics(z).std
    if spread > 0 and math.isfinite(spread):
        return spread
    name = net.plan.names[op]
    if not np.isfinite(z).all():
        raise ValueError(
            f"lsuv_: {name} puts out values that are not finite: bring X to a smaller scale, or use dtype='float64'"
        )
    if z.any():
        raise ValueError(f"lsuv_: {name} puts out the same number everywhere; give X with more than one row")
    raise ValueError(
        f"lsuv_: {name} puts out zero on every row, and no factor changes that: its inputs or its weights are zero. "
        "Dead units below it need another seed, more rows or an activation without a flat side (leaky_relu); zero "
        "weights need orthogonal=True"
    )
