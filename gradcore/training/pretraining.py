"""Greedy layer-wise pre-training: every hidden layer learns, without labels, to keep what the layer below says.

Sources: Hinton & Salakhutdinov, "Reducing the dimensionality of data with neural networks" (2006); Bengio, Lamblin,
Popovici & Larochelle, "Greedy layer-wise training of deep networks" (2007); with `noise` the denoising autoencoders of
Vincent, Larochelle, Bengio & Manzagol (2008).
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from gradcore import kernels
from gradcore.errors import GradcoreWarning, check_fraction, check_integer, users_level
from gradcore.figures import new_axes
from gradcore.health.ledger import Ledger
from gradcore.health.loss_curve import LossSign
from gradcore.layers import Dense, Dropout, Layer, Residual, split_groups
from gradcore.optimizers import Optimizer, resolve as resolve_optimizer
from gradcore.streams import PRETRAINING, stream
from gradcore.threads import resolve_threads
from gradcore.training.callbacks import Callback, Logs
from gradcore.training.data import as_inputs
from gradcore.training.history import History
from gradcore.training.loop import check_batch_norm, check_callbacks, product_flop
from gradcore.training.progress import ProgressBar
from gradcore.training.settings import StepSettings, check_progress, step_settings

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from gradcore.network import Network

Array = npt.NDArray[Any]

BOOKED_ROWS = 256  # that the books before and after are kept of

_MODE = sum(kernels.MODES[name] for name in ("batch_statistics", "drop", "full", "input_gradient"))


@dataclass(frozen=True)
class HiddenBooks:
    """What one batch did to the hidden layers, without labels.

    The backward pass starts from random numbers as dL/d(output), standard normal and independent, the same ones before
    and after: the gains are those of a gradient that prefers no direction, whatever the loss will be.

    Attributes
    ----------
    names : tuple of str
        One per hidden layer: its dense op or residual block, as the ledger calls it.
    signal : ndarray
        Of each layer's output: rms of what differs between examples.
    gain : ndarray
        Backward gain of each layer, ‖dL/d(input)‖ / ‖dL/d(output)‖: the product of the gains of its ops.
    gradient : ndarray
        ‖dL/d(output of the layer)‖ / ‖dL/d(output of the network)‖: the product of all gains behind it.
    ledger : Ledger
        All the books; there is no loss, so that is NaN.
    """

    names: tuple[str, ...]
    signal: npt.NDArray[np.float64]
    gain: npt.NDArray[np.float64]
    gradient: npt.NDArray[np.float64]
    ledger: Ledger


@dataclass(repr=False)
class Pretraining(History):
    """The course of one pre-training: a `History` of all layers one after the other, and what came of it.

    ``print()`` shows it layer by layer. A loss is the mean squared error of the standardised reconstruction: 1 is what
    knowing nothing costs, in every layer, 0.1 means that a tenth of the variance is lost.

    Attributes
    ----------
    names : tuple of str
        One per hidden layer: its dense op or residual block, as the ledger calls it.
    layers : list of History
        One per hidden layer that was finished, from below: of the fit of its autoencoder.
    before, after : HiddenBooks
        Signal and backward gain of every hidden layer, on the same rows with the same dL/d(output).
    """

    names: tuple[str, ...] = ()
    layers: list[History] = field(default_factory=list)
    before: HiddenBooks | None = None
    after: HiddenBooks | None = None

    @property
    def loss_sign(self) -> LossSign:
        """What the loss curve of the layer that was trained last says; of the others: ``layers[0].loss_sign``."""
        return self.layers[-1].loss_sign if self.layers else super().loss_sign

    def _finish(self, layer: History) -> None:
        """Add what a finished layer leaves behind."""
        self.layers.append(layer)
        for epoch in range(len(layer.epochs)):
            values = {name: values[epoch] for name, values in layer.history.items()}
            self.append(len(self.epochs), values)
        self.faults.extend(layer.faults)
        self.curve.extend(layer.curve.values)
        self.steps += layer.steps

    def __str__(self) -> str:
        width = max(len("end to end, log10"), *map(len, self.names))
        head = f"{'layer':<{width}}  {'signal':^19}  {'backward gain':^19}  {'reconstruction loss':^19}"
        lines = [head, "-" * len(head)]
        for number, name in enumerate(self.names):
            losses = self.layers[number].history["loss"] if number < len(self.layers) else []
            cells = [
                _change(self.before.signal[number], self.after.signal[number])
                if self.before and self.after
                else "",
                _change(self.before.gain[number], self.after.gain[number])
                if self.before and self.after
                else "",
                _change(losses[0], losses[-1]) if losses else "",
            ]
            lines.append(f"{name:<{width}}  {'  '.join(f'{cell:^19}' for cell in cells)}".rstrip())
        if self.before and self.after:
            ends = (f"{books.ledger.end_to_end_log10:+.1f}" for books in (self.before, self.after))
            lines.append(f"{'end to end, log10':<{width}}  {'':19}  {' → '.join(ends):^19}".rstrip())
        return "\n".join([*lines, repr(self)])

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw signal and gradient of the hidden layers before and after, on a scale of decades.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            None: of a new figure.

        Raises
        ------
        ImportError
            matplotlib is not installed.
        """
        axes = new_axes() if ax is None else ax
        layers = np.arange(1, len(self.names) + 1)
        for when, books, colour in (("before", self.before, "#b23c17"), ("after", self.after, "#0a6b4f")):
            if books is None:
                continue
            for what, values, line in (("signal", books.signal, "-"), ("gradient", books.gradient, "--")):
                # zero has no place on this scale
                shown = np.where(values > 0, values, np.nan)
                axes.plot(layers, shown, line, color=colour, marker=".", label=f"{what}, {when}")
        axes.set_yscale("log")
        axes.set_xlabel("hidden layer")
        axes.set_title("Pre-training: signal of each layer, gradient at its output")
        axes.legend(frameon=False, fontsize="small", ncols=2)
        return axes


def pretrain_autoencoder(
    net: Network,
    X: npt.ArrayLike,
    *,
    epochs: int = 10,
    noise: float = 0.0,
    optimizer: str | Optimizer = "adam",
    batch_size: int = 32,
    callbacks: Sequence[Callback] = (),
    progress: Literal["auto"] | bool = "auto",
    threads: int | Literal["auto"] = "auto",
    seed: int | None = None,
) -> Pretraining:
    """Train every hidden layer, from below, to keep what the layer below says; needs no labels, changes `net` in place.

    Hidden layer k becomes the encoder of an autoencoder whose decoder is linear. Its data are the outputs of the layers
    below, which are finished, in inference mode. Then its parameters go into `net`, the decoder is thrown away. The
    output layer is not touched.

    Parameters
    ----------
    net : Network
        A hidden layer is a dense layer with the norm, activation and dropout that follow it, or a whole residual block;
        it starts from the parameters it has.
    X : array_like, shape (rows, input_size)
        Bring columns of different units to one scale first: the loss counts what is large.
    epochs : int
        Of every layer. 0: nothing is learnt, only the scaling below is done.
    noise : float
        Share of an autoencoder's inputs that are masked at random in every step, in [0, 1): a denoising autoencoder.
        Where the inputs are standardised (see below) what is masked becomes the mean.
    optimizer, batch_size
        As for `Network.fit`.
    callbacks : sequence of Callback
        For the fit of each layer: ``callback.network`` is then the autoencoder, and to stop ends the training of that
        layer. ``EarlyStopping("loss")`` works.
    progress, threads
        As for `Network.fit`; one bar for all layers.
    seed : int, optional
        Of the decoders, the order of rows and all masks. The same seed gives the same bits on any number of threads.

    Returns
    -------
    Pretraining
        A `History` with ``.layers``, one History for each hidden layer, and signal and backward gain of each
        ``.before`` and ``.after``; print it, or ``.plot()`` it. It is also kept as ``net.history``, from the start:
        after Ctrl-C the layers that were finished stay, the one in training is as it was before.

    Raises
    ------
    ValueError, TypeError
        No hidden layer, NaN or infinity in X (named by row and column), X the same in every row, settings that cannot
        be; nothing has changed then.

    Warns
    -----
    GradcoreWarning
        Steps were not finite and not applied; or a layer's output is the same for all rows, to rounding: what is above
        it has nothing to learn from and stays as it is.

    See Also
    --------
    gradcore.initializers.lsuv_ : Unit variance of every pre-activation, without any training.

    Notes
    -----
    A deep sigmoid network hands on 0.5 ± 0.001. An autoencoder on such numbers learns the 0.5, that is nothing. So
    both ends of it see ``(h - mean of each unit) / signal``, with one signal, the rms of what differs between rows,
    for the whole layer, so that no unit's rounding is blown up. At the input that is no other network but other
    parameters, W / signal and b - W mean / signal, which is what `net` gets. Where a layer does not begin with a dense
    layer that has a bias (residual blocks, a norm in front) its input stays as it is, and only the target is
    standardised.

    On the digits that scaling alone (``epochs=0``) starts sigmoid networks of twenty layers; at forty it fails in some
    seeds, and what was learnt starts all. A network whose signal and gain are near 1 already gains nothing. Numbers:
    docs/initialising.md.

    Examples
    --------
    >>> import numpy as np
    >>> from gradcore import mlp
    >>> X = np.random.default_rng(0).normal(size=(200, 6))
    >>> net = mlp([6, 6, 6, 6, 2], activation="sigmoid", seed=0)
    >>> history = pretrain_autoencoder(net, X, epochs=20, seed=0)
    >>> len(history.layers), history.history["loss"][-1] < 0.9
    (3, True)
    >>> bool(history.before.signal[-1] < 0.02), bool(history.after.signal[-1] > 0.2)
    (True, True)
    """
    with net._training():
        settings = step_settings(optimizer, batch_size, None, None, None, None, seed)
        epochs, noise = check_integer("epochs", epochs, minimum=0), check_fraction("noise", noise)
        progress, hooks = check_progress(progress), check_callbacks(callbacks)
        resolve_threads(threads, 0.0)
        data = as_inputs(X, net.input_size, net.dtype)
        hidden = _hidden_layers(net)
        if not hidden:
            raise ValueError(
                "this network has no hidden layer to pre-train: all it has is its output layer, "
                "which is left to the training with labels"
            )
        if not len(data):
            raise ValueError("X is empty: at least two rows are needed")
        if _signal(data, fan_in=1)[1]:
            raise ValueError("X is the same in every row: there is nothing to reconstruct")
        check_batch_norm(net, min(settings.batch_size, len(data)))
        return _Run(net, data, hidden, settings, epochs, noise, hooks, threads).train(progress)


@dataclass(frozen=True)
class _Hidden:
    """One hidden layer: where it lies in the list of layers, and how the ledger calls it."""

    start: int
    layers: tuple[Layer, ...]
    name: str


def _hidden_layers(net: Network) -> list[_Hidden]:
    """Cut the network into hidden layers; a block without parameters belongs to the layer before it."""
    groups: list[tuple[Layer, ...]] = []
    held: tuple[Layer, ...] = ()
    for group in split_groups(net.layers)[:-1]:
        if _learns(group):
            groups.append(held + group)
            held = ()
        elif groups:
            groups[-1] += group
        else:
            held += group
    found, start = [], 0
    for group in groups:
        found.append(_Hidden(start, group, _name(net, start, group)))
        start += len(group)
    return found


def _learns(layers: tuple[Layer, ...]) -> bool:
    return any(
        isinstance(layer, Dense) or (isinstance(layer, Residual) and _learns(layer.layers))
        for layer in layers
    )


def _name(net: Network, start: int, group: tuple[Layer, ...]) -> str:
    position = start + next(i for i, layer in enumerate(group) if _learns((layer,)))
    last = max(op for op, path in enumerate(net.plan.layer_index) if path == (position,))
    return net.plan.names[last]


def _signal(outputs: Array, fan_in: int) -> tuple[float, bool]:
    """Return what differs between rows, and whether that is rounding, nothing, or not finite."""
    fold: Any = kernels.fold(np.ascontiguousarray(outputs), full=False)
    scale, signal = float(fold["norm"]) / math.sqrt(outputs.size), float(fold["signal"])
    rounding = scale * float(np.finfo(outputs.dtype).eps) * math.sqrt(fan_in)
    return signal, not rounding < signal < math.inf


class _Run:
    """One pre-training."""

    def __init__(
        self,
        net: Network,
        X: Array,
        hidden: list[_Hidden],
        settings: StepSettings,
        epochs: int,
        noise: float,
        callbacks: tuple[Callback, ...],
        threads: Any,
    ) -> None:
        self.net, self.X, self.hidden, self.settings = net, X, hidden, settings
        self.epochs, self.noise, self.callbacks, self.threads = epochs, noise, callbacks, threads
        size = min(settings.batch_size, len(X))
        self.history = Pretraining(
            "mse", repr(settings.optimizer), size, resolve_threads(threads, product_flop(net, size)), settings.seed,
            history={name: [] for name in ("loss", "gradient_norm", "gradient_norm_max", "skipped_steps")},
            constant_loss=1.0, names=tuple(layer.name for layer in hidden),
        )  # fmt: skip

    def train(self, progress: bool | Literal["auto"]) -> Pretraining:
        """Train all layers; whatever ends it, the history stays with the network."""
        history, start = self.history, time.perf_counter()
        self.net.history = history
        history.before = history.after = self._books()
        total = self.epochs * len(self.hidden)
        self.bar = ProgressBar(progress, total, total)
        try:
            outputs, fan_in = self.X, 1
            for number, layer in enumerate(self.hidden):
                signal, lost = _signal(outputs, fan_in)
                if lost:
                    self._give_up(number)
                    break
                fan_in = outputs.shape[1]
                outputs = self._layer(number, layer, outputs, signal)
        except BaseException as error:
            interrupted = isinstance(error, KeyboardInterrupt)
            history.stopped = "interrupted" if interrupted else type(error).__name__
            raise
        finally:
            self.bar.close()
            history.seconds = time.perf_counter() - start
            if history.layers:
                history.after = self._books()
        return history

    def _layer(self, number: int, layer: _Hidden, below: Array, signal: float) -> Array:
        """Train one layer, write it into the network, and return its outputs on all rows."""
        net, columns = self.net, below.shape[1]
        first = layer.layers[0]
        folded = isinstance(first, Dense) and first.use_bias
        mean = below.mean(axis=0, dtype=np.float64).astype(net.dtype)
        with np.errstate(over="ignore"):
            standard = below - mean
        standard /= np.asarray(signal, net.dtype)

        mask = (Dropout(self.noise),) if self.noise else ()
        seed = int(stream(self.settings.seed, PRETRAINING, number + 1).integers(1 << 48))
        autoencoder = type(net)(
            (*mask, *layer.layers, Dense(columns)), input_size=columns, dtype=net.dtype, seed=seed
        )
        names = dict(_renamed(net, layer, len(mask)))
        present = net.get_parameters()
        autoencoder.set_parameters({there: present[here] for here, there in names.items()})
        fitted = autoencoder.fit(
            standard if folded else below, standard, loss="mse", optimizer=self.settings.optimizer,
            epochs=self.epochs, batch_size=self.settings.batch_size, on_fault="ignore", progress=False,
            callbacks=[*self.callbacks, _Progress(self.bar, number, self.epochs, layer.name)],
            threads=self.threads, seed=seed,
        )  # fmt: skip
        self._warn_of_skipped(layer, fitted)

        learnt = autoencoder.get_parameters()
        found = {here: learnt[there] for here, there in names.items()}
        if folded:
            weight, bias = f"{layer.start}.weight", f"{layer.start}.bias"
            exact = found[weight].astype(np.float64) / signal
            found |= {weight: exact, bias: found[bias] - exact @ mean.astype(np.float64)}
        net.set_parameters(found)
        self.history._finish(fitted)

        encoder = type(net)(layer.layers, input_size=columns, dtype=net.dtype, seed=0)
        encoder.set_parameters({there: found[here] for here, there in _renamed(net, layer, 0)})
        return encoder._forward(below)

    def _books(self) -> HiddenBooks:
        net = self.net
        rows = np.unique(np.linspace(0, len(self.X) - 1, min(len(self.X), BOOKED_ROWS)).astype(np.int64))
        X, outputs = self.X[rows], np.empty((len(rows), net.output_size), net.dtype)
        d_output = np.asarray(
            stream(self.settings.seed, PRETRAINING).standard_normal(outputs.shape), net.dtype
        )
        executor = net.executor(len(rows), input_gradient=True)
        executor.forward_batch(X, outputs, mode=_MODE, seed=self.settings.seed, step=1)
        executor.backward_batch(
            d_output, mode=_MODE, hyper=resolve_optimizer("sgd").hyper(), seed=self.settings.seed, step=1
        )
        ledger = Ledger(net.plan, executor.records, math.nan, rows=len(rows))
        position = [net.plan.layer_index[entry.op][0] for entry in ledger.entries]
        ends = [layer.start + len(layer.layers) for layer in self.hidden]
        cut = np.searchsorted(position, [self.hidden[0].start, *ends]).tolist()
        gains = np.array([entry.backward_gain for entry in ledger.entries])
        return HiddenBooks(
            names=self.history.names,
            signal=np.array([ledger.entries[end - 1].output.signal for end in cut[1:]]),
            gain=np.array([gains[a:b].prod() for a, b in pairwise(cut)]),
            gradient=np.array([gains[end:].prod() for end in cut[1:]]),
            ledger=ledger,
        )

    def _warn_of_skipped(self, layer: _Hidden, fitted: History) -> None:
        skipped = int(sum(fitted.history["skipped_steps"]))
        if skipped:
            warnings.warn(
                f"pre-training of {layer.name}: {skipped} of {skipped + fitted.steps} steps were not finite and not "
                f"applied; a smaller learning rate, or X at a smaller scale, avoids that. In its autoencoder: "
                f"{fitted.faults[0]}",
                GradcoreWarning,
                stacklevel=users_level(),
            )

    def _give_up(self, number: int) -> None:
        below = self.hidden[number - 1].name
        self.history.stopped = f"{below} hands on no signal"
        warnings.warn(
            f"pre-training ended at {self.hidden[number].name}: the output of the layer below, {below}, is the same on "
            "every row, to rounding, or not finite. This layer and those above are as they were; another "
            "initialisation, a smaller learning rate or a smooth activation may help",
            GradcoreWarning,
            stacklevel=users_level(),
        )


def _renamed(net: Network, layer: _Hidden, offset: int) -> Iterator[tuple[str, str]]:
    """Yield the names of a layer's parameters in the network, and in a network where `offset` layers precede it."""
    for name in net._parameters.slots:
        position, _, rest = name.partition(".")
        inside = int(position) - layer.start
        if 0 <= inside < len(layer.layers):
            yield name, f"{inside + offset}.{rest}"


class _Progress(Callback):
    """Draws the one bar of all layers."""

    def __init__(self, bar: ProgressBar, number: int, epochs: int, name: str) -> None:
        self._bar, self._before, self._name = bar, number * epochs, name

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        done = self._before + epoch
        self._bar.update(done + 1, done, {f"{self._name}: loss": logs["loss"]})


def _change(before: float, after: float) -> str:
    return f"{before:.3g} → {after:.3g}"
