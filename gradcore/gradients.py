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

ELEMENTS = 6                            # of each parameter, besides the directions
WIDTHS = (1e-2, 1e-3, 1e-4, 1e-5)       # of the differences, relative to the parameter's rms
ROUNDINGS = 64.0                        # of the loss, in units of its last place


def check_gradients(net: Network, X: ArrayLike, y: ArrayLike, *, loss: str = "auto", seed: int = 0) -> float:
    """Compare the gradients of a network with central differences of its loss, in float64.

    Each parameter is moved along the gradient, along two random directions and along single elements; at each, the signed
    slope of the loss is estimated by fourth-order differences of several widths, of which the one that agrees best with
    half its width counts (a wide one crosses kinks, a narrow one is rounding).

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
        slopes of one parameter. Right gradients of smooth networks give 1e-8 or less, wrong ones 1e-2 to 2. What the loss's own
        rounding hides (gradients far below 1e-10 of the loss) is not counted.

    Examples
    --------
    >>> import numpy as np
    >>> from gradcore.network import mlp
    >>> net = mlp([3, 5, 2], activation="tanh", seed=0)
    >>> check_gradients(net, np.eye(3), [0, 1, 0]) < 1e-7
    True
    """
    exact = net.rebuilt(net.layers, dtype=np.float64)
    exact.set_parameters(net.get_parameters())
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
    rng = stream(check_seed(seed), DIRECTIONS)
    parameters = exact.get_parameters()
    for name, gradient in gradients.items():
        value = parameters[name]
        scale = float(np.sqrt(np.mean(value**2))) or 0.1
        estimated, computed, hidden = [], [], []
        for direction in _directions(gradient, rng):
            found = [(slopes(name, value, direction, w * scale), slopes(name, value, direction, w * scale / 2), w * scale)
                     for w in WIDTHS]  # fmt: skip
            wide, narrow, width = min(found, key=lambda pair: abs(pair[0] - pair[1]))
            estimated.append(narrow)
            computed.append(float(np.sum(gradient * direction)))
            hidden.append(ROUNDINGS * np.finfo(np.float64).eps * max(abs(base), 1e-300) / width)
        exact.set_parameters({name: value})
        difference = max(0.0, float(np.linalg.norm(np.subtract(estimated, computed)) - np.linalg.norm(hidden)))
        size = max(np.linalg.norm(estimated), np.linalg.norm(computed))
        worst = max(worst, difference / float(size) if size > 0 else 0.0)
        if not np.isfinite(size):
            return float("nan")
    return worst


def _directions(gradient: NDArray[Any], rng: np.random.Generator) -> list[NDArray[Any]]:
    directions = [rng.standard_normal(gradient.shape) for _ in range(2)]
    if gradient.any():
        directions.append(gradient.copy())
    for index in rng.choice(gradient.size, min(ELEMENTS, gradient.size), replace=False):
        element = np.zeros(gradient.shape)
        element.flat[index] = 1.0
        directions.append(element)
    return [d / np.linalg.norm(d) for d in directions]
