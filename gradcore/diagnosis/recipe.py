"""A recipe: all that a training is made of, beside data and seed; and how to train many of them at once."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from gradcore.diagnosis.changes import Change, dense_layers
from gradcore.errors import GradcoreWarning
from gradcore.initializers import lsuv_
from gradcore.layers import Dense, Layer
from gradcore.losses import mean_of
from gradcore.network import Network
from gradcore.optimizers import Optimizer
from gradcore.training.many import fit_many
from gradcore.training.pretraining import pretrain_autoencoder

Array = npt.NDArray[Any]

# Rows that initial weights are scaled on.
LSUV_ROWS = 512

# Of the autoencoders.
PRETRAINING_EPOCHS = 10


@dataclass(frozen=True)
class Recipe:
    """How a network is made, prepared and trained.

    Attributes
    ----------
    layers : tuple of layers
    input_size : int
    dtype : dtype
    loss : str
    optimizer : Optimizer
    batch_size : int
    clip_norm, clip_value, clip_adaptive : float or None
    schedule : str or None
    standardise, standardise_targets : bool
        Whether the columns of X, of y, are brought to mean 0 and standard deviation 1.
    lsuv : bool
    pretrained : float or None
        As in `Change`.
    """

    layers: tuple[Layer, ...]
    input_size: int
    dtype: np.dtype[Any]
    loss: str
    optimizer: Optimizer
    batch_size: int
    clip_norm: float | None = None
    clip_value: float | None = None
    clip_adaptive: float | None = None
    schedule: str | None = None
    standardise: bool = False
    standardise_targets: bool = False
    lsuv: bool = False
    pretrained: float | None = None

    def changed(self, change: Change) -> Recipe:
        """Return the recipe with a change made."""
        clips = {name: getattr(change, name) for name in ("clip_norm", "clip_value", "clip_adaptive")}
        if not any(clips.values()):  # one way to clip at a time
            clips = {}
        return replace(
            self,
            layers=change.layers(self.layers, self.input_size) if change.rebuilds else self.layers,
            loss=mean_of(self.loss) if change.mean_loss else self.loss,
            optimizer=change.optimizer_for(self.optimizer),
            batch_size=change.batch_size or self.batch_size,
            schedule=change.schedule or self.schedule,
            standardise=change.standardise or self.standardise,
            standardise_targets=change.standardise_targets or self.standardise_targets,
            lsuv=change.lsuv or (self.lsuv and change.init is None),
            pretrained=self.pretrained if change.pretrained is None else change.pretrained,
            **clips,
        )

    def network(self, seed: int) -> Network:
        """Return the network with its initial weights."""
        return Network(self.layers, input_size=self.input_size, dtype=self.dtype, seed=seed)

    def prepare_(self, net: Network, X: Array, seed: int) -> float:
        """Do what comes before training, on the inputs that it is trained with; return the seconds that it took.

        Raises
        ------
        ValueError
            These weights cannot be prepared, such as those of a layer that is dead.
        """
        begin = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", GradcoreWarning)  # what it is worth is measured
            if self.lsuv:
                lsuv_(net, X[:LSUV_ROWS])
            if self.pretrained is not None:
                pretrain_autoencoder(
                    net, X, epochs=PRETRAINING_EPOCHS, noise=self.pretrained, seed=seed, progress=False
                )
        return time.perf_counter() - begin

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments of `fit` that it fixes."""
        names = ("loss", "optimizer", "batch_size", "clip_norm", "clip_value", "clip_adaptive", "schedule")
        return {name: getattr(self, name) for name in names}

    @property
    def config(self) -> dict[str, Any]:
        """The whole recipe as plain strings, numbers and lists."""
        given = {name: value for name, value in self.settings.items() if value is not None}
        prepared = {
            name: getattr(self, name)
            for name in ("standardise", "standardise_targets", "lsuv", "pretrained")
            if getattr(self, name) is not None and getattr(self, name) is not False
        }
        return (
            {
                "layers": [_written(layer) for layer in self.layers],
                "input_size": self.input_size,
                "dtype": self.dtype.name,
            }
            | given
            | {"optimizer": repr(self.optimizer)}
            | prepared
        )

    @property
    def work(self) -> float:
        """About how many multiplications a training step costs: to compare recipes."""
        sizes = [self.input_size, *(layer.units for layer in dense_layers(self.layers))]
        products = sum(a * b for a, b in pairwise(sizes))
        return 2e4 + self.batch_size * products


def _written(layer: Layer) -> str:
    text = repr(layer)
    return f'"{layer.spec}"' if text.startswith("Activation") and hasattr(layer, "spec") else text


@dataclass(frozen=True)
class Scaling:
    """Means and standard deviations of columns; those that are constant are only centred.

    Attributes
    ----------
    mean, deviation : ndarray, shape (columns,)
    """

    mean: Array
    deviation: Array

    @classmethod
    def of(cls, values: Array) -> Scaling:
        """Take them from these rows."""
        exact = values.astype(np.float64)
        # a power of two per column, which rounds nothing: squares of 1e200 have no place in a float64
        unit = np.ldexp(1.0, np.frexp(np.abs(exact).max(axis=0))[1] - 1)
        exact /= unit
        deviation = exact.std(axis=0) * unit
        # (of a constant column rounding may leave a deviation that is not zero)
        constant = (deviation == 0) | (exact.max(axis=0) == exact.min(axis=0))
        return cls(
            np.where(constant, values[0], exact.mean(axis=0) * unit), np.where(constant, 1.0, deviation)
        )

    def __call__(self, values: Array) -> Array:
        """Return the scaled values."""
        return ((values - self.mean) / self.deviation).astype(values.dtype)


def with_scaling(net: Network, inputs: Scaling | None, targets: Scaling | None) -> Network:
    """Return a network that does inside what was done to its data outside: it takes and gives the user's own units.

    The scaling of inputs goes into the first layer where that is dense, that of targets into the last; otherwise a
    dense layer with a diagonal matrix is put there.
    """
    layers, parameters = list(net.layers), net.get_parameters()

    def diagonal(scale: Array, shift: Array) -> dict[str, Array]:
        return {"weight": np.diag(scale), "bias": shift}

    extra: dict[str, Array] = {}
    moved = 0
    if inputs is not None:
        scale, shift = 1 / inputs.deviation, -inputs.mean / inputs.deviation
        first = layers[0]
        if isinstance(first, Dense) and first.use_bias:
            weight = parameters["0.weight"].astype(np.float64)
            parameters["0.bias"] = parameters["0.bias"] + weight @ shift
            parameters["0.weight"] = weight * scale
        else:
            layers, moved = [Dense(net.input_size), *layers], 1
            extra |= {f"0.{name}": value for name, value in diagonal(scale, shift).items()}
    if targets is not None:
        last = layers[-1]
        at = len(layers) - 1 - moved
        if isinstance(last, Dense) and last.use_bias:
            weight = parameters[f"{at}.weight"].astype(np.float64)
            parameters[f"{at}.bias"] = parameters[f"{at}.bias"] * targets.deviation + targets.mean
            parameters[f"{at}.weight"] = weight * targets.deviation[:, None]
        else:
            layers = [*layers, Dense(net.output_size)]
            extra |= {
                f"{len(layers) - 1}.{name}": value
                for name, value in diagonal(targets.deviation, targets.mean).items()
            }
    other = Network(layers, input_size=net.input_size, dtype=net.dtype, seed=net.seed)
    for name, value in parameters.items():
        number, _, rest = name.partition(".")
        extra[f"{int(number) + moved}.{rest}"] = value
    other.set_parameters(extra)
    other.history, other.loss, other.classes_ = net.history, net.loss, net.classes_
    return other


@dataclass(frozen=True)
class Data:
    """Rows to train on and rows to test with.

    Attributes
    ----------
    X, X_test : ndarray, shape (rows, columns)
    y, y_test : ndarray
    """

    X: Array
    y: Array
    X_test: Array
    y_test: Array

    def scaled(self, recipe: Recipe) -> tuple[Data, Scaling | None, Scaling | None]:
        """Return the data as a recipe wants them, scaled by what the rows to train on say."""
        inputs = Scaling.of(self.X) if recipe.standardise else None
        targets = Scaling.of(self.y) if recipe.standardise_targets else None
        data = self
        if inputs is not None:
            data = replace(data, X=inputs(self.X), X_test=inputs(self.X_test))
        if targets is not None:
            data = replace(data, y=targets(self.y), y_test=targets(self.y_test))
        return data, inputs, targets


@dataclass(frozen=True)
class Job:
    """One training to be made."""

    recipe: Recipe
    epochs: int
    network_seed: int
    order_seed: int


@dataclass(frozen=True)
class Trained:
    """What came of a job: the network, and the data that it was trained on.

    Attributes
    ----------
    network : Network
    data : Data
        Scaled, where the recipe wants that.
    inputs, targets : Scaling or None
    seconds : float
        Its share of the time that all took.
    failed : str
        Why it could not be prepared and was not trained; empty where it could.
    """

    network: Network
    data: Data
    inputs: Scaling | None
    targets: Scaling | None
    seconds: float
    failed: str = ""


def train(jobs: Sequence[Job], data: Data, *, threads: int | Literal["auto"] = "auto") -> list[Trained]:
    """Make many trainings side by side; those of recipes that scale alike share their data."""
    ready: dict[tuple[bool, bool], tuple[Data, Scaling | None, Scaling | None]] = {}
    networks, parts, before, failures = [], [], [], []
    for job in jobs:
        key = job.recipe.standardise, job.recipe.standardise_targets
        if key not in ready:
            ready[key] = data.scaled(job.recipe)
        net, seconds, failed = job.recipe.network(job.network_seed), 0.0, ""
        try:
            seconds = job.recipe.prepare_(net, ready[key][0].X, job.order_seed)
        except ValueError as error:
            failed = str(error)
        networks.append(net)
        parts.append(ready[key])
        before.append(seconds)
        failures.append(failed)
    settings: dict[str, Any] = {}
    for job in jobs:
        for name, value in job.recipe.settings.items():
            settings.setdefault(name, []).append(value)
    epochs = [0 if failed else job.epochs for job, failed in zip(jobs, failures, strict=True)]
    start = time.perf_counter()
    fit_many(
        networks, [(part.X, part.y) for part, _, _ in parts], epochs=epochs,
        seed=[job.order_seed for job in jobs], on_fault="ignore", progress=False, threads=threads, **settings,
    )  # fmt: skip
    work = np.array([job.recipe.work * job.epochs * len(data.X) / job.recipe.batch_size for job in jobs])
    shares = (time.perf_counter() - start) * work / work.sum()
    return [
        Trained(net, *part, seconds + float(share), failed)
        for net, part, seconds, share, failed in zip(networks, parts, before, shares, failures, strict=True)
    ]
