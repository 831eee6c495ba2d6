"""The books of a network in slow, plain NumPy: recursive, float64, every array kept. The oracle of the ledger."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gradcore import Activation, BatchNorm, Dense, Dropout, LayerNorm, Network, Residual
from gradcore.kernels import reference

Array = Any


@dataclass
class Node:
    """One layer with what it read, wrote and got back."""

    kind: str
    layer: Any
    path: str
    op: int
    x: Array
    y: Array = None
    slope: Array = None
    inside: list[Node] = field(default_factory=list)
    d_y: Array = None
    d_x: Array = None
    gradients: list[Array] = field(default_factory=list)
    by_skip: Array = None
    by_branch: Array = None
    projection: Array = None
    skip_gradients: list[Array] = field(default_factory=list)

    @property
    def squares(self) -> float:
        """Of all gradients in it."""
        own = sum(float((g**2).sum()) for g in (*self.gradients, *self.skip_gradients))
        return own + sum(node.squares for node in self.inside)


class SlowBooks:
    """Forward and backward of one batch in training mode, softmax with cross-entropy on top."""

    def __init__(self, net: Network, X: Array, labels: Array, seed: int = 0) -> None:
        self.p = {name: array.astype(np.float64) for name, array in net.get_parameters().items()}
        self.seed, self.ops = seed, 0
        self.nodes, logits = self.forward(net.layers, np.asarray(X, np.float64), "")
        e = np.exp(logits - logits.max(axis=1, keepdims=True))
        delta = e / e.sum(axis=1, keepdims=True)
        delta[np.arange(len(labels)), labels] -= 1
        self.d_x = self.backward(self.nodes, delta / len(labels))

    def forward(self, layers: Any, x: Array, path: str) -> tuple[list[Node], Array]:
        nodes = []
        for i, layer in enumerate(layers):
            node = Node("", layer, f"{path}{i}", self.ops, x)
            self.ops += 1
            if isinstance(layer, Dense):
                node.kind = "dense"
                node.y = x @ self.p[f"{node.path}.weight"].T + self.p.get(f"{node.path}.bias", 0.0)
            elif isinstance(layer, Activation):
                node.kind = "activation"
                node.y, node.slope = reference.ACTIVATIONS[layer.info.name](x, layer.parameter)
            elif isinstance(layer, BatchNorm):
                node.kind = "batch_norm"
                node.slope = 1 / np.sqrt(x.var(axis=0) + layer.eps)
                normal = (x - x.mean(axis=0)) * node.slope
                node.y = self.p[f"{node.path}.gamma"] * normal + self.p[f"{node.path}.beta"]
            elif isinstance(layer, LayerNorm):
                node.kind = "layer_norm"
                node.slope = 1 / np.sqrt(x.var(axis=1, keepdims=True) + layer.eps)
                normal = (x - x.mean(axis=1, keepdims=True)) * node.slope
                node.y = self.p[f"{node.path}.gamma"] * normal + self.p[f"{node.path}.beta"]
            elif isinstance(layer, Dropout):
                node.kind = "dropout"
                node.y, node.slope = np.empty_like(x), np.empty_like(x)
                reference.dropout(x, node.y, node.slope, layer.rate, self.seed, 1, node.op)
            else:
                assert isinstance(layer, Residual)
                node.kind = "residual"
                node.projection = self.p.get(f"{node.path}.projection.weight")
                self.ops += node.projection is not None
                node.inside, branch = self.forward(layer.layers, x, f"{node.path}.")
                node.op = self.ops
                self.ops += 1
                if node.projection is not None:
                    x = x @ node.projection.T
                node.y = x + layer.scale * branch
            x = node.y
            nodes.append(node)
        return nodes, x

    def backward(self, nodes: list[Node], d: Array) -> Array:
        for node in reversed(nodes):
            node.d_y = d
            if node.kind == "dense":
                d = d @ self.p[f"{node.path}.weight"]
                node.gradients = [node.d_y.T @ node.x]
                if node.layer.use_bias:
                    node.gradients.append(node.d_y.sum(axis=0))
            elif node.kind == "batch_norm":
                normal = (node.x - node.x.mean(axis=0)) * node.slope
                node.gradients = [(d * normal).sum(axis=0), d.sum(axis=0)]
                inner = d - d.mean(axis=0) - normal * (d * normal).mean(axis=0)
                d = self.p[f"{node.path}.gamma"] * node.slope * inner
            elif node.kind == "layer_norm":
                normal = (node.x - node.x.mean(axis=1, keepdims=True)) * node.slope
                node.gradients = [(d * normal).sum(axis=0), d.sum(axis=0)]
                g = self.p[f"{node.path}.gamma"] * d
                through = normal * (g * normal).mean(axis=1, keepdims=True)
                d = node.slope * (g - g.mean(axis=1, keepdims=True) - through)
            elif node.kind == "residual":
                node.by_skip, node.by_branch = d, self.backward(node.inside, node.layer.scale * d)
                if node.projection is not None:
                    node.by_skip = d @ node.projection
                    node.skip_gradients = [node.d_y.T @ node.x]
                d = node.by_skip + node.by_branch
            else:
                d = d * node.slope
            node.d_x = d
        return d


def random_layers(rng: np.random.Generator, width: int, depth: int = 3) -> list[Any]:
    """A random stack that keeps its width, with blocks in blocks."""
    layers: list[Any] = []
    for _ in range(rng.integers(1, 4)):
        kind = rng.choice(["dense", "activation", "batch_norm", "layer_norm", "dropout", "residual"])
        if kind == "dense":
            layers.append(Dense(width, use_bias=bool(rng.integers(2)), bias_init="normal(0.3)"))
        elif kind == "activation":
            layers.append(str(rng.choice(["tanh", "relu", "sigmoid", "leaky_relu(0.2)", "gelu"])))
        elif kind == "batch_norm":
            layers.append(BatchNorm())
        elif kind == "layer_norm":
            layers.append(LayerNorm())
        elif kind == "dropout":
            layers.append(Dropout(0.3))
        elif depth:
            inside, scale = random_layers(rng, width, depth - 1), float(rng.choice([1.0, 0.5]))
            match rng.integers(4):
                case 0:
                    layers.append(Residual(inside, scale=scale, projection="always"))
                case 1:
                    layers += [
                        Residual([*inside, Dense(width + 2)], scale=scale, projection=True),
                        Dense(width),
                    ]
                case _:
                    layers.append(Residual(inside, scale=scale))
    return layers or [Dense(width)]


def norm(x: Array) -> float:
    """Frobenius norm."""
    return float(np.linalg.norm(x))


def signal(x: Array) -> float:
    """Root mean square about each column's mean."""
    return math.sqrt(float(np.mean((x - x.mean(axis=0)) ** 2)))
