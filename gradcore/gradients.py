"""The gradients of a network against differences of its loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradcore import kernels
from gradcore.streams import DIRECTIONS, check_seed, stream
from gradcore.training.data import as_inputs, check_rows
from gradcore.training.targets import encode

if TYPE_CHECKING:
    from gradcore.network import Network

ELEMENTS = 6  # of each parameter, besides the directions
NEARBY = 0.1  # how far away the comparison is made, relative to the parameter's rms
WIDTHS = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)  # of the differences, relative to the parameter's rms
ROUNDINGS = 64.0  # of the loss, in units of its last place
INVISIBLE = 1e8  # how far a size must be above its rounding to be compared in full


def check_gradients(net: Network, X: ArrayLike, y: ArrayLike, *, loss: str = "auto", seed: int = 0) -> float:
    """Compare the gradients of a network with central differences of its loss, in float64.

    The comparison is made at a random point near the network's parameters: biases that start at zero put the rows of
    dead ReLUs exactly on their kinks, where there is no derivative to compare with. Each parameter is moved along the
    gradient, along two random directions and along single elements; at each, the signed slope of the loss is
    estimated by fourth-order differences of several widths, of which the one that agrees best with half its width
    counts (a wide one crosses kinks, a narrow one is rounding).

    Parameters
    ----------
    net : Network
        Not changed; a float64 copy is used.
    X, y : array_like
        A batch, as for `Network.fit`. Dropout is off, batch norm uses the batch.
    loss : str
    seed : int
        Of the directions and elements.

    Returns
    -------
    float
        The worst relative error over the parameters, ``‖estimated - computed‖ / max(‖estimated‖, ‖computed‖)`` over all
        slopes of one parameter. Right gradients of smooth networks give 1e-8 or less, wrong ones 1e-2 to 2; NaN where a
        loss is not finite. A difference that the loss's own rounding can make counts at most 1e-8.

    Examples
    --------
    >>> import numpy as np
    >>> from gradcore.network import mlp
    >>> net = mlp([3, 5, 2], activation="tanh", seed=0)
    >>> check_gradients(net, np.eye(3), [0, 1, 0]) < 1e-7
    True
    """
    exact = net.rebuilt(net.layers, dtype=np.float64)
    rng = stream(check_seed(seed), DIRECTIONS)
    exact.set_parameters({name: _near(value, rng) if name in net.plan.parameter_names else value
                          for name, value in net.get_parameters().items()})  # fmt: skip
    X = as_inputs(X, exact.input_size, exact.dtype)
    targets = encode(y, loss, exact.output_size, exact.dtype, classes=net.classes_)
    check_rows(X, targets.values)
    executor = exact.executor(len(X), loss=targets.loss)
    executor.bind(X, targets.values)
    rows, mode = np.arange(len(X)), kernels.MODES["batch_statistics"]
    base = float(executor.observe(rows, mode=mode, seed=0, step=1))
    gradients = exact._parameters.gradients(executor.gradients)

    def slopes(name: str, value: NDArray[Any], direction: NDArray[Any], width: float) -> float:
        losses = []
        for steps in (-2, -1, 1, 2):
            exact.set_parameters({name: value + steps * width * direction})
            losses.append(executor.observe(rows, mode=mode, seed=0, step=1, backward=False))
        return float((losses[0] - 8 * losses[1] + 8 * losses[2] - losses[3]) / (12 * width))

    worst = 0.0
    parameters = exact.get_parameters()
    for name, gradient in gradients.items():
        value = parameters[name]
        scale = _rms(value)
        estimated, computed, hidden = [], [], []
        for direction in _directions(gradient, rng):
            widths = [width * scale for width in WIDTHS]
            found = [[slopes(name, value, direction, w / half) for half in (1, 2)] for w in widths]
            best = int(np.argmin([abs(wide - narrow) for wide, narrow in found]))
            estimated.append(found[best][1])
            computed.append(float(np.sum(gradient * direction)))
            hidden.append(ROUNDINGS * np.finfo(np.float64).eps * max(abs(base), 1e-290) / widths[best])
        exact.set_parameters({name: value})
        difference = float(np.linalg.norm(np.subtract(estimated, computed)))
        size, rounding = (
            max(np.linalg.norm(estimated), np.linalg.norm(computed)),
            float(np.linalg.norm(hidden)),
        )
        if not np.isfinite(difference):
            return float("nan")
        # a difference that rounding alone can make says nothing about the gradient, however small that is
        worst = max(
            worst, difference / max(float(size), 0.0 if difference > rounding else INVISIBLE * rounding)
        )
    return worst


def _rms(value: NDArray[Any]) -> float:
    return float(np.sqrt(np.mean(np.square(value, dtype=np.float64)))) or 0.1


def _near(value: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
    return value + NEARBY * _rms(value) * rng.standard_normal(value.shape)


def _directions(gradient: NDArray[Any], rng: np.random.Generator) -> list[NDArray[Any]]:
    directions = [rng.standard_normal(gradient.shape) for _ in range(2)]
    if gradient.any():
        directions.append(gradient.copy())
    for index in rng.choice(gradient.size, min(ELEMENTS, gradient.size), replace=False):
        element = np.zeros(gradient.shape)
        element.flat[index] = 1.0
        directions.append(element)
    return [d / np.linalg.norm(d) for d in directions]
