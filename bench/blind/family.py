"""One case of the family: every factor that can make a network sick, drawn from a seed."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

import gradcore
from gradcore import activations, initializers
from gradcore.layers import Activation, Dense

from . import tasks

ACTIVATIONS = ("sigmoid", "tanh", "relu", "leaky_relu", "elu", "selu", "gelu")


@dataclass(frozen=True)
class Case:
    """A network, its data and its training."""

    task: str
    depth: int  # hidden layers
    width: int
    activation: str
    init: str
    bias: str = "zeros"
    norm: str | None = None
    residual: bool = False
    dropout: float = 0.0
    optimizer: str = "adam"
    lr: float = 0.001
    momentum: float = 0.0
    weight_decay: float = 0.0
    batch_size: int = 32
    output: str = "linear"
    loss: str = "auto"
    input_scale: float = 1.0
    input_shift: float = 0.0
    standardise: bool = False
    target_scale: float = 1.0
    target_shift: float = 0.0
    standardise_targets: bool = False
    labels: str = "true"
    seed: int = 0

    def data(self) -> tasks.Data:
        """Return X and y."""
        X, y = tasks.load(self.task)
        X = X * self.input_scale + self.input_shift
        if self.standardise:
            deviation = X.std(axis=0)
            X = (X - X.mean(axis=0)) / np.where(deviation > 0, deviation, 1.0)
        if self.task in tasks.REGRESSION:
            y = y * self.target_scale + self.target_shift
            if self.standardise_targets:
                y = (y - y.mean()) / y.std()
        if self.labels == "shuffled":
            y = np.random.default_rng(self.seed).permutation(y)
        return X, y

    def network(self, seed: int) -> gradcore.Network:
        """Return the network with the initial weights of a seed."""
        X, _ = tasks.load(self.task)
        classes = tasks.classes(self.task)
        outputs = 1 if self.output == "softmax of one" or classes in (0, 2) else classes
        sizes = [X.shape[1], *[self.width] * self.depth, outputs]
        net = gradcore.mlp(
            sizes, activation=self.activation, init=self.init, norm=self.norm, residual=self.residual,
            dropout=self.dropout, seed=seed,
        )  # fmt: skip
        layers = list(net.layers)
        if self.bias != "zeros":
            layers = [
                replace(part, bias_init=self.bias) if isinstance(part, Dense) else part for part in layers
            ]
        if self.output != "linear":
            layers.append(Activation("softmax" if self.output == "softmax of one" else self.output))
        return gradcore.Network(layers, input_size=sizes[0], seed=seed) if layers != list(net.layers) else net

    def training(self) -> dict[str, Any]:
        """Return the keyword arguments of ``fit`` that ``diagnose`` takes as well."""
        if self.optimizer == "sgd":
            optimizer: Any = gradcore.optimizers.SGD(
                self.lr, momentum=self.momentum, weight_decay=self.weight_decay
            )
        else:
            optimizer = gradcore.optimizers.Adam(self.lr, weight_decay=self.weight_decay)
        return {"optimizer": optimizer, "batch_size": self.batch_size, "loss": self.loss}

    def to_dict(self) -> dict[str, Any]:
        """Return the factors by name."""
        return asdict(self)


def matching(activation: str) -> str:
    """Name the initial weights that go with an activation."""
    return str(initializers.auto_for(activations.resolve(activation)[0]))


def draw(seed: int) -> Case:
    """Draw a case: a sound network, and none, one or several factors of it spoilt."""
    rng = np.random.default_rng([20261125, seed])

    def pick(*options: Any) -> Any:
        return options[int(rng.integers(len(options)))]

    while True:
        depth, width = round(10 ** rng.uniform(0, 1.78)), round(10 ** rng.uniform(0.6, 2.71))
        cost = depth * width * width
        if cost < 10_000 or (cost < 300_000 and rng.random() < 0.06):
            break
    activation = pick(*ACTIVATIONS, "relu", "relu", "tanh", "tanh", "sigmoid")
    case = Case(
        task=pick(*tasks.TASKS, "digits", "circle"), depth=depth, width=width, activation=activation,
        init=matching(activation) if rng.random() < 0.5 else "auto", seed=int(seed),
        optimizer=pick("adam", "adam", "sgd"), batch_size=pick(16, 32, 64, 128),
    )  # fmt: skip
    case = replace(case, lr=pick(0.0005, 0.001, 0.003) if case.optimizer == "adam" else pick(0.01, 0.03, 0.1))
    if case.optimizer == "sgd":
        case = replace(case, momentum=pick(0.0, 0.9, 0.9))
    if rng.random() < 0.15:
        case = replace(case, norm="batch")
    if rng.random() < 0.15:
        case = replace(case, residual=True)
    if rng.random() < 0.1:
        case = replace(case, dropout=pick(0.1, 0.3))
    if case.optimizer == "adam" and rng.random() < 0.1:
        case = replace(case, weight_decay=pick(1e-5, 1e-4))
    spoilers = [
        lambda c: replace(c, init=pick("normal(0.01)", "uniform(-0.05, 0.05)", "normal(0.001)", "normal(0.05)")),
        lambda c: replace(c, init=pick("normal(1.0)", "uniform(-1.0, 1.0)", "normal(0.5)", "normal(2.0)")),
        lambda c: replace(c, init=pick("he_normal", "he_uniform", "glorot_uniform", "lecun_normal", "orthogonal")),
        lambda c: replace(c, init=pick("he_normal", "he_uniform", "glorot_uniform", "lecun_normal", "orthogonal")),
        lambda c: replace(c, init=pick("constant(0.01)", "constant(0.1)", "zeros", "ones")),
        lambda c: replace(c, activation=pick("sigmoid", "sigmoid", "exponential")),
        lambda c: replace(c, activation=pick("sigmoid", "exponential"), init="he_uniform"),
        lambda c: replace(c, depth=int(min(60, c.depth * pick(2, 4, 8)))),
        lambda c: replace(
            c, width=pick(4, 5, 5, 6, 8), depth=pick(8, 10, 12, 16, 20), activation=pick("relu", c.activation)
        ),
        lambda c: replace(c, input_scale=float(10 ** rng.uniform(1, 4)), input_shift=pick(0.0, 0.0, 100.0)),
        lambda c: replace(c, input_scale=float(10 ** rng.uniform(-5, -1))),
        lambda c: replace(c, target_scale=float(10 ** rng.uniform(1, 6)), target_shift=pick(0.0, 0.0, 1000.0)),
        lambda c: replace(c, lr=c.lr * float(10 ** rng.uniform(1, 3.5))),
        lambda c: replace(c, lr=c.lr * float(10 ** rng.uniform(-4, -1.5))),
        lambda c: replace(c, optimizer="sgd", momentum=pick(0.9, 0.95, 0.99), batch_size=1, lr=pick(0.01, 0.03, 0.1)),
        lambda c: replace(c, weight_decay=float(10 ** rng.uniform(-2, 1)), optimizer="sgd", lr=pick(0.01, 0.1)),
        lambda c: replace(c, weight_decay=float(10 ** rng.uniform(-3, 0)), optimizer="adam", lr=0.001),
        lambda c: replace(c, dropout=pick(0.7, 0.9, 0.95)),
        lambda c: replace(c, output=pick("softmax of one", "relu", "sigmoid", "tanh", "softmax")),
        lambda c: replace(c, loss="mse(reduction='sum')") if c.task in tasks.REGRESSION else replace(c, lr=c.lr * 30),
        lambda c: replace(c, bias=pick("normal(1.0)", "constant(1.0)", "constant(-1.0)", "normal(3.0)")),
    ]  # fmt: skip
    for _ in range(pick(0, 0, 1, 1, 1, 1, 2, 2)):
        case = pick(*spoilers)(case)
    if case.task not in tasks.REGRESSION:
        case = replace(case, target_scale=1.0, target_shift=0.0)
        if case.output == "softmax of one" and tasks.classes(case.task) != 2:
            case = replace(case, output="softmax")
    if case.depth * case.width**2 > 300_000:
        case = replace(case, width=max(4, int((300_000 / case.depth) ** 0.5)))
    # one row has no variance to normalise by
    return replace(case, norm=None) if case.batch_size == 1 else case


def variants(case: Case) -> dict[str, list[Case]]:
    """Replace one factor at a time: the changes of the case by the cause that they remove.

    "around" makes up for a cause without removing any.
    """
    found: dict[str, list[Case]] = {}

    def add(cause: str, **factors: Any) -> None:
        other = replace(case, **factors)
        if other != case:
            found.setdefault(cause, []).append(other)

    own, inits = matching(case.activation), ("auto", matching(case.activation))
    if case.init not in inits and case.init != own.replace("normal", "uniform"):
        add("initial_weights", init=own, bias="zeros")
    elif case.bias != "zeros":
        add("initial_weights", bias="zeros")
    for other in ("tanh", "relu"):
        if other != case.activation:
            # "auto" follows the activation, so that init is named where it is meant to stay
            add("activation", activation=other, init=own if case.init == "auto" else case.init)
    if case.depth > 3:
        add("depth", depth=max(2, case.depth // 2))
        add("depth", depth=2)
    if case.width < 32:
        add("narrow_layers", width=max(32, 4 * case.width))
    add("input_scale", standardise=True)
    if case.task in tasks.REGRESSION:
        add("target_scale", standardise_targets=True)
    usual = 0.001 if case.optimizer == "adam" else 0.03
    if not 0.1 < case.lr / usual < 10:
        add("learning_rate", lr=usual)
    for factor in (0.1, 0.01, 0.001, 10.0, 100.0):
        add("learning_rate", lr=case.lr * factor)
    if case.optimizer == "sgd":
        add("optimizer", optimizer="adam", lr=0.001, momentum=0.0)
    if case.output != "linear":
        add("output_loss_pair", output="linear")
    if case.loss != "auto":
        add("output_loss_pair", loss="auto")
    if case.batch_size < 8:
        add("batch_size", batch_size=32)
        add("batch_size", momentum=0.0)
    if case.weight_decay:
        add("regularization", weight_decay=0.0)
    if case.dropout:
        add("dropout", dropout=0.0)
    if case.norm:
        add("normalization", norm=None)
    if case.labels == "shuffled":
        add("no_signal_in_data", labels="true")
    if not case.norm and case.batch_size > 1:
        add("around", norm="batch")
    if not case.residual and case.depth > 1:
        add("around", residual=True)
    for other in ("tanh", "relu"):
        # a matching pair, which leaves the "auto" of another activation behind
        if other != case.activation:
            add("activation+initial_weights", activation=other, init=matching(other), bias="zeros")
    return found


def pairs(case: Case) -> dict[str, list[Case]]:
    """Return joint changes of two factors, for cases that no single one makes train."""
    singles = {
        cause: cases for cause, cases in variants(case).items() if "+" not in cause and cause != "around"
    }
    found: dict[str, list[Case]] = {}
    causes = sorted(singles)
    for i, first in enumerate(causes):
        for second in causes[i + 1 :]:
            if {first, second} == {"activation", "initial_weights"}:
                continue  # among the variants already
            for a in _few(first, singles[first]):
                for b in _few(second, singles[second]):
                    changed = {k: v for k, v in b.to_dict().items() if v != getattr(case, k)}
                    found.setdefault(f"{first}+{second}", []).append(replace(a, **changed))
    return found


def _few(cause: str, cases: list[Case]) -> list[Case]:
    """One change by cause, two where there are two directions."""
    if cause == "learning_rate":
        return [cases[-4], cases[-2], *(cases[:1] if len(cases) > 5 else [])]
    return cases[:1] if cause != "depth" else cases[-1:]
