"""Networks as no person would write them: every kind of layer, nested, of random sizes and activations."""

import numpy as np

from gradcore import Dense, Dropout, Network, Residual
from gradcore.activations import REGISTRY
from gradcore.architecture import KINDS


def _plain(kind):
    """A layer that needs no arguments, such as BatchNorm; None for the others."""
    try:
        return kind()
    except TypeError:
        return None


# A new layer that needs no arguments is in here by itself.
NORMS = [kind for kind in KINDS.values() if _plain(kind) is not None]


def random_layers(rng, columns, *, length=6, depth=0, activations=tuple(REGISTRY)):
    """Layers of which the last has `columns` outputs, as they have inputs."""
    layers, width = [], columns
    for _ in range(int(rng.integers(1, length + 1))):
        kind = rng.integers(6)
        if kind <= 1:
            width = int(rng.integers(1, 20))
            layers.append(Dense(width, use_bias=bool(rng.integers(2))))
        elif kind == 2:
            name = str(rng.choice(activations))
            layers.append(f"{name}(0.3)" if REGISTRY[name].parameter_name else name)
        elif kind == 3:
            layers.append(rng.choice(NORMS)(eps=10.0 ** -int(rng.integers(1, 8))))
        elif kind == 4:
            layers.append(Dropout(0.3))
        elif depth < 4:
            inside = random_layers(rng, width, length=3, depth=depth + 1, activations=activations)
            projection = "always" if rng.integers(3) == 0 else False
            layers.append(Residual(inside, scale=float(rng.choice([1.0, -0.37])), projection=projection))
    if width != columns or not layers:
        layers.append(Dense(columns))
    return layers


def random_network(rng, dtype, *, softmax=None, **settings):
    """A network whose parameters and running statistics are nowhere zero, one or equal."""
    inputs, outputs = (int(n) for n in rng.integers(1, 18, 2))
    last = ["softmax"] if (rng.integers(2) if softmax is None else softmax) else []
    layers = [Dense(7), *random_layers(rng, 7, **settings), Dense(outputs), *last]
    net = Network(layers, input_size=inputs, dtype=dtype, seed=int(rng.integers(100)))
    fresh = {}
    for name, array in net.get_parameters().items():
        noise = rng.standard_normal(array.shape)
        fresh[name] = np.exp(noise) if name.endswith("running_var") else array + 0.3 * noise
    net.set_parameters(fresh)
    return net
