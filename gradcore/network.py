"""Network: declare, compile, run, fit."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from gradcore import kernels
from gradcore.compiler import compile_layers
from gradcore.errors import check_flag, check_fraction, check_integer, check_number, check_positive
from gradcore.gradients import check_gradients
from gradcore.layers import Activation, BatchNorm, Dense, Dropout, Layer, LayerNorm, Residual, as_layers
from gradcore.losses import ClassWeight, Loss, resolve as resolve_loss
from gradcore.optimizers import Optimizer, resolve as resolve_optimizer
from gradcore.parameters import Parameters
from gradcore.plan import Plan
from gradcore.schedules import Schedule
from gradcore.scores import answer_of, labels_of, probabilities_of, scores
from gradcore.stepper import Stepper
from gradcore.streams import check_seed
from gradcore.summary import summary
from gradcore.training.callbacks import Callback
from gradcore.training.data import CHUNK, Rows, as_given, as_inputs, as_rows, check_rows
from gradcore.training.history import History
from gradcore.training.loop import fit
from gradcore.training.targets import Targets, encode

if TYPE_CHECKING:
    from gradcore.health.ledger import Ledger
    from gradcore.health.probe import Probe
    from gradcore.health.replay import Replay
    from gradcore.health.units import UnitLedger

Array = NDArray[Any]

# Rows that inference works on at a time: so many that the widest activation fills half of a usual L2 cache.
INFERENCE_VALUES = 1 << 16

# Work of inference between two visits to Python.
PIECE_FLOP = 1e9

_TRAINING = kernels.MODES["batch_statistics"] | kernels.MODES["drop"]
_OUTPUTS, _VALUES = kernels.ANSWERS["outputs"], kernels.ANSWERS["values"]


class Network:
    """A dense feed-forward network, compiled to a flat plan of ops.

    Parameters
    ----------
    layers : list of layers and activation names
        `Dense`, `BatchNorm`, `LayerNorm`, `Dropout`, `Residual`, `Activation` or bare names such as ``"relu"``.
    input_size : int
        Columns of X.
    dtype : "float32" or "float64"
    seed : int, optional
        Of the initial weights; None draws one from the operating system. It is kept as ``net.seed``.

    Attributes
    ----------
    history : History or None
        Of the last fit.
    classes_ : ndarray or None
        After training on labels: the label that each output stands for.
    stop_training, learning_rate : bool, float or None
        Of the running fit: its callbacks may write them.
    plan : Plan
        What the layers compiled to; ``print(net.plan)`` shows it.

    Raises
    ------
    ValueError, TypeError
        A layer, size, dtype or seed that cannot be.

    Examples
    --------
    >>> import numpy as np
    >>> net = Network([Dense(8), "tanh", Dense(2)], input_size=3, seed=0)
    >>> net.forward(np.zeros((4, 3))).shape
    (4, 2)
    """

    executor_class: ClassVar[type[Any]] = kernels.Executor

    def __init__(
        self,
        layers: Iterable[Layer | str],
        *,
        input_size: int,
        dtype: DTypeLike = "float32",
        seed: int | None = None,
    ) -> None:
        self.layers = as_layers(layers)
        self.input_size = check_integer("input_size", input_size)
        self.dtype = np.dtype(dtype)
        if self.dtype not in (np.float32, np.float64):
            raise TypeError(f"dtype must be float32 or float64, got {self.dtype}")
        self.seed = check_seed(seed)
        self.plan = self._compile(input_gradient=False)
        self._begin()
        self._parameters.initialise(self.layers, self.seed)

    def _begin(self) -> None:
        """Make what is neither copied nor pickled, and forget any training."""
        self._parameters = Parameters(self.plan)
        self.history: History | None = None
        self.classes_: Array | None = None
        self.loss: Loss | None = None
        self.stop_training = False
        self.learning_rate: float | None = None
        self._input_gradient_plan: Plan | None = None
        self._inference: Any = None
        self._input_gradients: Any = None
        # counts as `_version` does: the weights that `_input_gradients` has transposed
        self._input_gradients_version = -1
        self._inference_lock = threading.Lock()
        self._training_lock = threading.Lock()
        self._trainer: int | None = None
        # counts the changes of parameters: an executor that last saw another number refreshes its transposed copy
        self._version = 0

    # -- reading and writing parameters

    @property
    def parameters(self) -> Array:
        """The arena of all parameters, in the plan's layout (`get_parameters` gives plain arrays)."""
        return self._parameters.arena

    @property
    def state(self) -> Array:
        """The arena of the running statistics of batch norm."""
        return self._parameters.state

    @property
    def output_size(self) -> int:
        """Columns of the outputs."""
        return self.plan.columns_out

    def get_parameters(self) -> dict[str, Array]:
        """Return plain copies of all parameters and running statistics.

        Returns
        -------
        dict of str to ndarray
            ``"0.weight"`` of shape (units, inputs), ``"0.bias"``, ``"1.gamma"``, ``"1.beta"``,
            ``"1.running_mean"``, ``"1.running_var"``; the number is the position in the list of layers, with dots
            inside residual blocks (``"2.0.weight"``).

        Examples
        --------
        >>> net = Network([Dense(2), "relu", Dense(1)], input_size=3, seed=0)
        >>> {name: array.shape for name, array in net.get_parameters().items()}
        {'0.weight': (2, 3), '0.bias': (2,), '2.weight': (1, 2), '2.bias': (1,)}
        """
        return self._parameters.get()

    def set_parameters(self, mapping: Mapping[str, ArrayLike]) -> None:
        """Write parameters by name; names that are not given keep their values.

        Raises
        ------
        ValueError, TypeError
            An unknown name, a wrong shape or dtype: nothing has been written then.
        RuntimeError
            Another thread is training this network.

        Examples
        --------
        >>> net = Network([Dense(1)], input_size=2, seed=0)
        >>> net.set_parameters({"0.weight": [[1.0, 2.0]], "0.bias": [3.0]})
        >>> net.forward([[1.0, 1.0]])
        array([[6.]], dtype=float32)
        """
        arrays = self._parameters.checked(mapping)
        with self._writing():
            self._parameters.write(arrays)

    def copy_from_(self, other: Network, tau: float = 1.0) -> None:
        """Move every parameter and running statistic towards another network's: ``p += tau (other - p)``.

        Parameters
        ----------
        other : Network
            Of the same architecture.
        tau : float
            From 0 (nothing) to 1 (a copy, bit for bit).

        Raises
        ------
        ValueError
            Another architecture, or `tau` outside 0 to 1; nothing has been written then.

        Examples
        --------
        >>> net = mlp([2, 8, 1], seed=0)
        >>> target = net.copy()  # of Q-learning, say: after each step of net …
        >>> target.copy_from_(net, tau=0.005)
        """
        tau = check_number("tau", tau)
        if not 0 <= tau <= 1:
            raise ValueError(f"tau must be from 0 to 1, got {tau}")
        if not isinstance(other, Network):
            raise TypeError(f"other must be a Network, got {type(other).__name__}")
        mine, theirs = self._parameters, other._parameters
        if tau == 0 and mine.slots.keys() == theirs.slots.keys():
            return  # (0 times infinity would be something)
        if self.dtype == other.dtype and mine.same_layout(theirs):
            with self._writing():
                mine.move_towards(theirs, tau)
            return
        if {n: s.shape for n, s in mine.slots.items()} != {n: s.shape for n, s in theirs.slots.items()}:
            raise ValueError("copy_from_ needs the same architecture: names or shapes of parameters differ")
        new, old = theirs.get(), mine.get()
        self.set_parameters({n: new[n] if tau == 1 else old[n] + tau * (new[n] - old[n]) for n in new})

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the network to a file that `gradcore.load` reads: weights, layers, dtype, seed, loss and labels.

        A safetensors file under a checksum, without pickle. It replaces an older one only when all of it is on the
        disk. Initial weights that were a function are kept by its name only; the history is not kept.

        Parameters
        ----------
        path : path
            Such as ``"net.safetensors"``; its folder must exist.

        Raises
        ------
        OSError
            No space, no permission, …; what was at `path` before is unchanged.
        RuntimeError
            Another thread is training this network.
        """
        from gradcore.saving import save

        with self._reading():
            save(self, path)

    def export_c(self, path: str | os.PathLike[str], *, name: str | None = None) -> tuple[Path, Path]:
        """Write the network as C: one pair of files that needs nothing but a C99 compiler and its libm.

        ``NAME_forward(x, y, workspace)`` gives the outputs of `forward` for one row, in the same precision; after
        training on labels ``NAME_predict(x, workspace)`` gives the index of the label. Nothing is allocated, there is
        no state. The outputs differ from those of `forward` by rounding: sums run in another order.

        Parameters
        ----------
        path : path
            Where to: ``"folder/net"`` writes ``net.c`` and ``net.h`` there.
        name : str, optional
            What the functions begin with, an identifier of C; None: the last part of the path.

        Returns
        -------
        tuple of Path
            The source and the header.

        Raises
        ------
        ValueError
            A name that C cannot have, or parameters that are not finite.
        OSError
            The files cannot be written.

        See Also
        --------
        save : All of a network, for gradcore itself.
        """
        from gradcore.c_export import export_c

        with self._reading():
            return export_c(self, path, name=name)

    # -- running

    def forward(self, X: ArrayLike) -> Array:
        """Return the raw outputs (logits) in inference mode: running statistics, no dropout.

        Parameters
        ----------
        X : array_like, shape (rows, input_size)
            Any number of rows; NaN and infinity are carried through, row by row.

        Returns
        -------
        ndarray, shape (rows, output_size)

        Examples
        --------
        >>> mlp([3, 8, 2], seed=0).forward([[0.0, 0.0, 0.0]])
        array([[0., 0.]], dtype=float32)
        """
        outputs = self._quick(X, _OUTPUTS)
        if outputs is None:
            outputs = self._forward(as_given(X, self.input_size, self.dtype, finite=False))
        return outputs

    def predict(self, X: ArrayLike) -> Array:
        """Return labels after training on labels, else numbers.

        Many threads may predict at once; they take turns. While another thread trains this network they see the weights
        as they are at that moment, perhaps of two neighbouring steps; ``net.copy()`` keeps those of one moment.

        A few rows in a C-contiguous array of the network's dtype take the shortest way.

        Returns
        -------
        ndarray
            Shape (rows,) for labels and for networks of one output, else (rows, output_size). Of several labels in each
            row: 0 or 1 for each output. Numbers are the raw outputs, but rates ``exp(output)`` after training with
            poisson, and only the means, shape (rows, output_size / 2), after gaussian_nll.

        Raises
        ------
        ValueError
            NaN or infinity in X (row and column are named), or the wrong number of columns.
        """
        loss, classes = self.loss, self.classes_
        answer = answer_of(loss)
        quick = None if answer is None else self._quick(X, answer)
        if quick is not None:
            return quick if answer == _VALUES or classes is None else classes[quick]
        return labels_of(self._forward(as_given(X, self.input_size, self.dtype)), loss, classes)

    def predict_proba(self, X: ArrayLike) -> Array:
        """Return the probability of each class.

        Returns
        -------
        ndarray, shape (rows, classes)
            Two columns for a network of one output; each row sums to 1. After training with binary_cross_entropy on
            several outputs: the probability of each output, shape (rows, output_size).

        Raises
        ------
        ValueError
            The network was trained towards numbers, or X is not fit for `predict`.
        """
        quick = self._quick(X, _VALUES)
        if quick is None:
            outputs = self._forward(as_given(X, self.input_size, self.dtype))
        else:
            outputs = quick.reshape(-1, self.output_size)
        return probabilities_of(outputs, self.loss, self._last_activation())

    def evaluate(
        self, X: ArrayLike, y: ArrayLike, *, loss: str = "auto", sample_weight: ArrayLike | None = None
    ) -> dict[str, float]:
        """Return the loss on data and how good that is, in inference mode.

        Parameters
        ----------
        X, y : array_like
            As for `fit`.
        loss : str
            ``"auto"``: that of the last fit, else by y.
        sample_weight : array_like, shape (rows,), optional
            How often each row counts, in the loss and in the score.

        Returns
        -------
        dict
            ``"loss"`` and, by the kind of loss, ``"accuracy"`` (share of right labels; where a row has several of
            them, of all rows and outputs) or ``"r2"`` (coefficient of determination of what `predict` returns, the
            mean over the targets).
        """
        rows = as_given(X, self.input_size, self.dtype)
        chosen = self.loss if loss == "auto" and self.loss is not None else loss
        targets = self._encode(y, chosen, known=True, sample_weight=sample_weight)
        check_rows(rows, targets.values)
        return scores(self._forward(rows), targets)

    def loss_and_gradients(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        loss: str = "auto",
        sample_weight: ArrayLike | None = None,
        class_weight: ClassWeight = None,
    ) -> tuple[float, dict[str, Array]]:
        """Return the loss of one batch and its gradient for every parameter; nothing changes.

        In training mode (batch norm by this batch) but without dropout; weights as for `fit`.

        Returns
        -------
        loss : float
        gradients : dict of str to ndarray
            Named and shaped as the parameters.

        Examples
        --------
        >>> net = Network([Dense(1, init="ones")], input_size=2, seed=0)
        >>> loss, gradients = net.loss_and_gradients([[1.0, 2.0]], [2.0])
        >>> loss, gradients["0.weight"]
        (1.0, array([[2., 4.]], dtype=float32))
        """
        rows = as_given(X, self.input_size, self.dtype)
        targets = self._encode(y, loss, sample_weight=sample_weight).with_class_weight(class_weight)
        check_rows(rows, targets.values)
        executor = self.executor(len(rows), loss=targets.loss)
        executor.bind(rows, targets.values, targets.weights)
        mode = kernels.MODES["batch_statistics"]
        value = executor.observe(np.arange(len(rows)), mode=mode, seed=0, step=1)
        return float(value), self._parameters.gradients(executor.gradients)

    def input_gradients(self, X: ArrayLike, output_grad: ArrayLike) -> Array:
        """Return dL/dX for a given dL/d(output), in inference mode (rows do not depend on each other).

        Parameters
        ----------
        X : array_like, shape (rows, input_size)
        output_grad : array_like, shape (rows, output_size)

        Returns
        -------
        ndarray, shape (rows, input_size)

        Examples
        --------
        >>> net = Network([Dense(1, init="ones")], input_size=2, seed=0)
        >>> net.input_gradients([[5.0, 6.0]], [[3.0]])
        array([[3., 3.]], dtype=float32)
        """
        with self._inference_lock:
            if self._input_gradients is not None:
                quick: Array | None = self._gradients_executor(1).quick_input_gradients(X, output_grad)
                if quick is not None:
                    return quick
        X = as_inputs(X, self.input_size, self.dtype, finite=False)
        d_output = as_inputs(output_grad, self.output_size, self.dtype, name="output_grad", finite=False)
        if len(X) != len(d_output):
            raise ValueError(f"X has {len(X)} rows and output_grad has {len(d_output)}")
        result = np.empty(X.shape, self.dtype)
        with self._inference_lock:
            executor = self._gradients_executor(len(X))
            for rows in self._pieces(len(X)):
                executor.input_gradients(X[rows], np.ascontiguousarray(d_output[rows]), result[rows])
        return result

    def jacobian(self, X: ArrayLike) -> Array:
        """Return d(output)/d(input) of every row, in inference mode (rows do not depend on each other).

        By reverse mode: a row costs as much as `output_size` rows of `input_gradients`.

        Parameters
        ----------
        X : array_like, shape (rows, input_size)
            Any number of rows; NaN and infinity are carried through, row by row.

        Returns
        -------
        ndarray, shape (rows, output_size, input_size)
            Element [r, i, j] is the derivative of output i with respect to input j at row r.

        Examples
        --------
        >>> net = Network([Dense(2)], input_size=3, seed=0)
        >>> net.set_parameters({"0.weight": [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]})
        >>> net.jacobian([[0.5, 0.5, 0.5]])
        array([[[1., 2., 3.],
                [4., 5., 6.]]], dtype=float32)
        """
        X = as_inputs(X, self.input_size, self.dtype, finite=False)
        outputs = self.output_size
        result = np.empty((len(X), outputs, self.input_size), self.dtype)
        # every row of X once for each output, with dL/d(output) a row of the identity
        at_once = max(1, self._chunk // outputs)
        unit = np.tile(np.eye(outputs, dtype=self.dtype), (min(at_once, len(X)), 1))
        with self._inference_lock:
            executor = self._gradients_executor(len(unit))
            for first in range(0, len(X), at_once):
                part = np.repeat(X[first : first + at_once], outputs, axis=0)
                into = result[first : first + at_once].reshape(part.shape)
                executor.input_gradients(part, unit[: len(part)], into)
        return result

    def check_gradients(self, X: ArrayLike, y: ArrayLike, *, loss: str = "auto", seed: int = 0) -> float:
        """Compare the gradients with differences of the loss: `gradcore.check_gradients` on this network."""
        return check_gradients(self, X, y, loss=loss, seed=seed)

    # -- training

    def fit(
        self,
        X: ArrayLike | Iterable[Any],
        y: ArrayLike | None = None,
        *,
        loss: str = "auto",
        optimizer: str | Optimizer = "adam",
        epochs: int = 10,
        batch_size: int = 32,
        validation_data: tuple[ArrayLike, ...] | None = None,
        validation_fraction: float = 0.0,
        sample_weight: ArrayLike | None = None,
        class_weight: ClassWeight = None,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        schedule: str | Schedule | None = None,
        clip_adaptive: float | None = None,
        shuffle: bool = True,
        callbacks: Sequence[Callback] = (),
        probe: Probe | None = None,
        on_fault: Literal["warn", "ignore", "stop", "raise"] | Callable[[Any], Any] = "warn",
        progress: Literal["auto"] | bool = "auto",
        threads: int | Literal["auto"] = "auto",
        seed: int | None = None,
        resume: str | os.PathLike[str] | None = None,
    ) -> History:
        """Train.

        Parameters
        ----------
        X : array_like, shape (rows, input_size)
            Of any real dtype and layout, a memory map, a data frame, a sparse matrix of SciPy. It is read where it lies
            and not copied; docs/data.md says what else is. Or, without y, an iterable of batches ``(X, y)``: a list of
            them, a DataLoader of PyTorch, any object that can be gone through once for each epoch.
        y : array_like, shape (rows,), (rows, 1) or (rows, output_size)
            Labels of any kind, or numbers. For cross_entropy also the probabilities of all classes, for
            binary_cross_entropy 0 or 1 for each of several outputs; gaussian_nll takes half as many columns as there
            are outputs. Labels of an iterable are the indices of the outputs, from 0, or those that the network was
            trained on before.
        loss : str
            A name of `gradcore.losses`, such as ``"huber(delta=2.0)"`` or ``"cross_entropy(label_smoothing=0.1)"``;
            ``"auto"``: integers, booleans and text mean cross_entropy (binary for a network of one output, and for a
            matrix of zeros and ones), floats mse.
        optimizer : str or Optimizer
            Such as ``"sgd(0.1, momentum=0.9)"`` or ``Adam(0.003)``.
        epochs, batch_size : int
            A batch larger than the data means all of it. The last batch of an epoch is smaller where the rows do not
            divide; with batch norm a last batch of a single row is merged into the one before. The batches of an
            iterable are as large as they come, in the order in which they come (no `shuffle`).
        validation_data : (X, y) or (X, y, sample_weight), optional
            Evaluated after every epoch.
        validation_fraction : float
            Hold out this share of the rows instead, drawn by the seed; of their weights only sample weights count.
        sample_weight : array_like, shape (rows,), optional
            How often each row counts in the loss: 2 is the row twice, 0 is no row. The mean is over the sum of the
            weights of a batch; where that is 0, loss and gradient are 0 (and a step is a step all the same). Batch norm
            takes its statistics of all rows, whatever they weigh.
        class_weight : mapping from label to weight, array_like of one weight for each class, or "balanced", optional
            Multiplies the weights of the rows with this label (1 where a mapping says nothing). "balanced": all labels
            count the same in total. Of labels only, one in each row.
        clip_norm, clip_value : float, optional
            Bound of the gradient's norm, of its elements.
        clip_adaptive : float, optional
            Bound of the gradient of each unit's weights in relation to their norm, such as 0.01 (`clip_grad_adaptive_`
            with eps 1e-3). The output layer (the last dense layer) is left alone, as in the paper. Of the three ways
            to clip give one; the gradients and norms that are reported are those before clipping.
        schedule : str or Schedule, optional
            Of the learning rate over all steps, such as ``"cosine(warmup=0.05)"`` or ``"warmup(0.1)"``
            (`gradcore.schedules`); None: it stays.
        shuffle : bool
            Visit the rows in another order every epoch; that order comes from (seed, epoch).
        callbacks : sequence of Callback
        probe : Probe, optional
            Keep the ledger of every so many steps: in ``history.ledgers``, for callbacks with an ``on_probe`` hook,
            and under the eyes of the diagnosis' rules.
        on_fault : {"warn", "ignore", "stop", "raise"} or callable
            A fault is a step whose loss, gradient or update is not finite, which is never applied, so that the network
            holds the last good weights (`NonFinite`: step, pass, op, element, operands), or, with ``probe=``, what a
            rule finds in a ledger (`Fault`). Then: warn once for each kind and go on; go on silently, without looking
            at ledgers; end the training; raise `FaultError`; or call ``on_fault(fault)``, which ends the training by
            returning "stop". ``"warn"`` looks at ledgers now and then, in 3 % of the time, the others at every one
            before the next step (some milliseconds; a light ledger shows only what is certain). It also ends the
            training after an epoch in which no step could be applied.
        progress : bool or "auto"
            A progress bar on stderr; "auto": on a terminal, once half a second has passed.
        threads : int or "auto"
            The same bits on any number. "auto": `gradcore.set_threads`, else as many as the work of one step may need;
            whether they are quicker than one is tried now and then, by the clock.
        seed : int, optional
            Of the order of rows, dropout and the held-out rows; None draws one. It is recorded in the history.
        resume : str or path, optional
            Of a file that `gradcore.callbacks.Checkpoint` wrote: go on from there, to the same bits as a training that
            was never interrupted. `epochs` counts from the very start. Network, data, settings and callbacks must be
            those of that training; what differs is an error that names it. `threads`, `probe`, `progress` and
            `on_fault` may be others.

        Returns
        -------
        History
            Also kept as ``net.history``, from the start: after Ctrl-C it holds the epochs that were completed, and the
            weights are those of the last completed step.

        Raises
        ------
        ValueError, TypeError
            Data or settings that cannot be (NaN and infinity are named by row and column); nothing has changed then.
        FaultError
            With ``on_fault="raise"``.
        RuntimeError
            The network is being trained already.

        Examples
        --------
        >>> import numpy as np
        >>> X = np.linspace(-1, 1, 64)[:, None]
        >>> net = mlp([1, 16, 1], activation="tanh", seed=0)
        >>> history = net.fit(X, X[:, 0] ** 2, epochs=100, optimizer="adam(0.01)", seed=0)
        >>> history.loss_name, history.history["loss"][-1] < 0.01
        ('mse', True)
        """
        return fit(
            self,
            X,
            y,
            loss=loss,
            optimizer=optimizer,
            epochs=epochs,
            batch_size=batch_size,
            validation_data=validation_data,
            validation_fraction=validation_fraction,
            sample_weight=sample_weight,
            class_weight=class_weight,
            clip_norm=clip_norm,
            clip_value=clip_value,
            schedule=schedule,
            clip_adaptive=clip_adaptive,
            shuffle=shuffle,
            callbacks=callbacks,
            probe=probe,
            on_fault=on_fault,
            progress=progress,
            threads=threads,
            seed=seed,
            resume=resume,
        )

    def stepper(
        self,
        *,
        batch_size: int,
        loss: str = "auto",
        optimizer: str | Optimizer = "adam",
        clip_norm: float | None = None,
        clip_value: float | None = None,
        clip_adaptive: float | None = None,
        probe: Probe | None = None,
        threads: int | Literal["auto"] = "auto",
        seed: int | None = None,
    ) -> Stepper:
        """Return an object that makes single training steps, for loops of your own.

        Parameters
        ----------
        batch_size : int
            The most rows of a step.
        loss, optimizer, clip_norm, clip_value, clip_adaptive, probe, threads, seed
            As for `fit`.

        Examples
        --------
        >>> net = mlp([2, 8, 1], activation="tanh", seed=0)
        >>> with net.stepper(batch_size=4, optimizer="adam(0.01)", seed=0) as step:
        ...     losses = [step([[0.0, 1.0], [1.0, 0.0]], [0.5, -0.5]) for _ in range(100)]
        >>> losses[-1] < losses[0]
        True
        """
        return Stepper(
            self,
            batch_size=batch_size,
            loss=loss,
            optimizer=optimizer,
            clip_norm=clip_norm,
            clip_value=clip_value,
            clip_adaptive=clip_adaptive,
            probe=probe,
            threads=threads,
            seed=seed,
        )

    # -- describing and copying

    def summary(self, batch_size: int = 32, optimizer: str | Optimizer = "adam") -> str:
        """Return a table of the layers: shapes, numbers of parameters, memory.

        Parameters
        ----------
        batch_size : int
        optimizer : str or Optimizer
            For which the memory of training is told. Beside it come the data as they are given, 16 bytes for each of
            their rows, and the losses of the steps.

        Examples
        --------
        >>> print(mlp([64, 32, 10], seed=0).summary())
        op       output      parameters
        ───────────────────────────────
        dense 1  (rows, 32)       2,080
        relu 1   (rows, 32)
        dense 2  (rows, 10)         330
        ───────────────────────────────
        2,410 parameters...
        """
        return summary(self.plan, check_integer("batch_size", batch_size), resolve_optimizer(optimizer))

    def ledger(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        loss: str = "auto",
        level: Literal["light", "full"] = "full",
        seed: int = 0,
        rows: ArrayLike | None = None,
        exact: bool = False,
    ) -> Ledger:
        """Return the books of one batch in training mode, dropout included; nothing changes.

        Parameters
        ----------
        X, y : array_like
            As for `fit`.
        level : "full" or "light"
            ``"full"`` counts everything and goes back to dL/dX.
        seed : int
            Of dropout.
        rows : array_like of int or bool, optional
            Which rows make the batch, as indices or as a mask; None: all.
        exact : bool
            Also say which zeros, subnormals and infinities the arithmetic made itself: the ops whose counters fired are
            computed again in a wider type (``ledger.arithmetic``). Needs ``level="full"``.

        Examples
        --------
        >>> net = mlp([2, 3, 1], activation="tanh", seed=0)
        >>> ledger = net.ledger([[1e-30, 0.0], [0.0, 1e-30]], [1e-20, 0.0], exact=True)
        >>> [str(share) for share in ledger.arithmetic if share.what == "weight gradient"]
        ['weight gradient: ... underflows born here, of 6; computed/exact ...', ...]
        """
        from gradcore.health.ledger import Ledger

        if level not in ("light", "full"):
            raise ValueError(f"level must be 'light' or 'full', got {level!r}")
        if check_flag("exact", exact) and level != "full":
            raise ValueError("exact=True reads the counters of the full ledger: leave level at 'full'")
        given, targets, chosen = self._batch(X, y, loss, rows)
        full = level == "full"
        executor = self.executor(len(chosen), loss=targets.loss, input_gradient=full)
        executor.bind(given, targets.values)
        mode = _TRAINING | kernels.MODES[level] | (kernels.MODES["input_gradient"] if full else 0)
        seed = check_seed(seed)
        value = executor.observe(chosen, mode=mode, seed=seed, step=1)
        shares = None
        if exact:
            from gradcore.health.arithmetic import arithmetic_shares

            shares = arithmetic_shares(self._replay(given, targets, chosen, seed), executor.records)
        return Ledger(
            self.plan, executor.records, float(value), level=level, rows=len(chosen), arithmetic=shares
        )

    def unit_ledger(
        self,
        X: ArrayLike,
        y: ArrayLike,
        op: str,
        *,
        loss: str = "auto",
        seed: int = 0,
        rows: ArrayLike | None = None,
    ) -> UnitLedger:
        """Return the books of one op unit by unit, over one batch in training mode; nothing changes.

        Parameters
        ----------
        X, y : array_like
            As for `fit`.
        op : str
            Its name in the ledger, such as ``"relu 3"``.
        seed : int
            Of dropout.
        rows : array_like of int or bool, optional
            Which rows make the batch, as indices or as a mask; None: all. Dead is a unit on all of X, whatever the
            batch.

        Examples
        --------
        >>> net = Network([Dense(3, bias_init="constant(-9)"), "relu", Dense(1)], input_size=2, seed=0)
        >>> print(net.unit_ledger([[0.0, 1.0], [1.0, 0.0]], [1.0, 0.0], "relu 1"))
        relu 1: 3 units, 3 dead on all the data; 2 rows
          unit      mean     scale    signal      flat     delta  gradient
        ------------------------------------------------------------------
        ...
        """
        from gradcore.health.units import op_named, unit_ledger

        number = op_named(self.plan, op)
        given, targets, chosen = self._batch(X, y, loss, rows)
        dead = None
        if self.plan.table["kind"][number] == kernels.OP_KINDS["activation"]:
            dead = self._dead_units(given, [number]).get(number)
        return unit_ledger(self._replay(given, targets, chosen, check_seed(seed)), number, dead)

    def dead_units(self, X: ArrayLike) -> dict[str, NDArray[np.bool_]]:
        """Return which units of each activation are dead: abs(f′) ≤ eps · largest on every row of X.

        Without dropout, and batch norm by the statistics of at most 1024 rows at a time.

        Parameters
        ----------
        X : array_like, shape (rows, input_size)
            All the data, not a batch.

        Returns
        -------
        dict of str to ndarray of bool
            By the name of the op, one element per unit.

        Examples
        --------
        >>> net = Network([Dense(3, bias_init="constant(-9)"), "relu", Dense(1)], input_size=2, seed=0)
        >>> net.dead_units([[0.0, 1.0], [1.0, 0.0]])
        {'relu 1': array([ True,  True,  True])}
        """
        rows = as_given(X, self.input_size, self.dtype)
        if not len(rows):
            raise ValueError("X is empty: at least one row is needed")
        return {self.plan.names[op]: dead for op, dead in self._dead_units(rows).items()}

    def _dead_units(self, X: Rows, ops: list[int] | None = None) -> dict[int, NDArray[np.bool_]]:
        from gradcore.health.units import dead_units

        executor = self.executor(min(len(X), 1024))
        executor.bind(X, None)
        return dead_units(executor, self.plan, len(X), ops)

    def _count_dead(self, X: Rows, op: int) -> tuple[int, int]:
        """Return how many units of an activation op are dead on every row, and how many there are."""
        dead = self._dead_units(X, [op]).get(op)
        return (0, int(self.plan.table["columns_out"][op])) if dead is None else (int(dead.sum()), len(dead))

    def _batch(
        self, X: ArrayLike, y: ArrayLike, loss: str, rows: ArrayLike | None
    ) -> tuple[Rows, Targets, NDArray[np.int64]]:
        given = as_given(X, self.input_size, self.dtype)
        targets = self._encode(y, loss)
        check_rows(given, targets.values)
        return given, targets, np.arange(len(given)) if rows is None else as_rows(rows, len(given))

    def _replay(self, X: Rows, targets: Targets, rows: NDArray[np.int64], seed: int) -> Replay:
        from gradcore.health.replay import Replay, unshared

        plan = unshared(self._plan_with_input_gradient())
        executor = self._build(plan, len(rows), targets.loss, 0, 1, training=True)
        executor.transpose_weights()
        executor.bind(X, targets.values)
        mode = _TRAINING | kernels.MODES["input_gradient"]
        return Replay(executor, plan, self.parameters, rows, mode=mode, seed=seed)

    def copy(self, seed: int | None = None) -> Network:
        """Return an independent network of the same architecture.

        Parameters
        ----------
        seed : int, optional
            None: with the same parameters. Given: with new initial weights from this seed.
        """
        other = type(self).__new__(type(self))
        other.layers, other.input_size, other.dtype, other.plan = (
            self.layers,
            self.input_size,
            self.dtype,
            self.plan,
        )
        other.seed = self.seed if seed is None else check_seed(seed)
        other._begin()
        if seed is None:
            other._parameters.arena[...], other._parameters.state[...] = (
                self._parameters.arena,
                self._parameters.state,
            )
            other.loss, other.classes_ = self.loss, self.classes_
        else:
            other._parameters.initialise(other.layers, other.seed)
        return other

    def rebuilt(self, layers: Iterable[Layer | str], *, dtype: DTypeLike | None = None) -> Network:
        """Return a new network of other layers, with this one's input size, dtype (unless given) and seed."""
        return type(self)(layers, input_size=self.input_size, dtype=dtype or self.dtype, seed=self.seed)

    def __repr__(self) -> str:
        count = sum(s.rows * s.columns for s in self._parameters.slots.values() if not s.is_state)
        size = f"{self.input_size} → {self.output_size}, {len(self.plan.table)} ops"
        return f"Network({size}, {count:,} parameters, {self.dtype})"

    def __getstate__(self) -> dict[str, Any]:
        # plain arrays: the tiled layout differs between machines
        kept = ("layers", "input_size", "dtype", "seed", "classes_", "loss", "history")
        return {name: getattr(self, name) for name in kept} | {"parameters": self.get_parameters()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name in ("layers", "input_size", "dtype", "seed"):
            setattr(self, name, state[name])
        self.plan = self._compile(input_gradient=False)
        self._begin()
        self._parameters.write(state["parameters"])
        self.classes_, self.loss, self.history = state["classes_"], state["loss"], state["history"]

    # -- inside: executors, locks

    def executor(
        self,
        capacity: int,
        *,
        loss: Loss | str | None = None,
        optimizer: Optimizer | str | None = None,
        threads: int = 1,
        input_gradient: bool = False,
    ) -> Any:
        """Return an Executor of the kernels over this network's parameters, with a workspace of its own.

        Parameters
        ----------
        capacity : int
            The most rows of a batch.
        loss : Loss or str, optional
            None: the caller hands dL/d(output) in.
        optimizer : Optimizer or str, optional
            None: no slots for one.
        threads : int
        input_gradient : bool
            Whether dL/dX can be asked for.
        """
        plan = self._plan_with_input_gradient() if input_gradient else self.plan
        slots = resolve_optimizer(optimizer).n_slots if optimizer is not None else 0
        executor = self._build(plan, capacity, loss, slots, threads, training=True)
        executor.transpose_weights()
        return executor

    def _build(
        self, plan: Plan, capacity: int, loss: Loss | str | None, slots: int, threads: int, *, training: bool
    ) -> Any:
        def zeros(size: int) -> Array:
            return kernels.aligned_zeros(size, self.dtype)

        chosen = None if loss is None else resolve_loss(loss)
        return self.executor_class(
            plan.table,
            dtype=self.dtype,
            capacity=capacity,
            columns_in=plan.columns_in,
            columns_out=plan.columns_out,
            parameters=self._parameters.arena,
            state=self._parameters.state,
            gradients=zeros(plan.parameter_size) if training else None,
            slots=tuple(zeros(plan.parameter_size) for _ in range(slots)),
            transposed=zeros(plan.transposed_size) if training else None,
            saved=zeros(plan.saved_size),
            activation_columns=plan.activation_columns,
            delta_columns=plan.delta_columns,
            loss=kernels.LOSS_CODES["no_loss"] if chosen is None else chosen.code,
            loss_scale=int(chosen is not None and chosen.reduction == "sum"),
            loss_parameter=0.0 if chosen is None else chosen.parameter,
            threads=threads,
        )

    def _compile(self, *, input_gradient: bool) -> Plan:
        width = kernels.tile_width(self.dtype) if self.executor_class is kernels.Executor else 1
        return compile_layers(
            self.layers, self.input_size, self.dtype, tile=width, input_gradient=input_gradient
        )

    def _plan_with_input_gradient(self) -> Plan:
        if self._input_gradient_plan is None:
            self._input_gradient_plan = self._compile(input_gradient=True)
        return self._input_gradient_plan

    @property
    def _chunk(self) -> int:
        widest = int(self.plan.table["columns_out"].max(initial=self.input_size))
        return max(16, min(1024, INFERENCE_VALUES // widest))

    def _forward(self, X: Rows) -> Array:
        out = np.empty((len(X), self.output_size), self.dtype)
        # one workspace for all callers: threads take turns
        with self._inference_lock:
            if self._inference is None:
                self._inference = self._build(self.plan, self._chunk, None, 0, 1, training=False)
            for rows in self._pieces(len(X)):
                self._inference.forward(X[rows], out[rows])
        return out

    def _pieces(self, rows: int) -> Iterator[slice]:
        """Cut rows into pieces: Ctrl-C is heard between two, and of scattered rows only one is copied at a time."""
        weights = max(1, self.plan.parameter_size)
        piece = max(self._chunk, min(int(PIECE_FLOP / (2 * weights)), CHUNK // self.input_size))
        for first in range(0, rows, piece):
            yield slice(first, min(first + piece, rows))

    def _quick(self, X: ArrayLike, answer: int) -> Array | None:
        """Return the answer for a few rows that need no conversion; None: the long way has to be taken."""
        with self._inference_lock:
            quick: Array | None = None if self._inference is None else self._inference.quick(X, answer)
        return quick

    def _gradients_executor(self, rows: int) -> Any:
        """Return the executor of input gradients, with room for these rows or a chunk; hold the inference lock."""
        executor, version = self._input_gradients, self._version
        if executor is None or executor.capacity < min(rows, self._chunk):
            room = min(1 << max(4, (rows - 1).bit_length()), self._chunk)
            plan = self._plan_with_input_gradient()
            executor = self._input_gradients = self._build(plan, room, None, 0, 1, training=True)
            self._input_gradients_version = -1
        # (a training changes the weights without counting until its next stretch of steps)
        moving = self._training_lock.locked()
        if moving or version != self._input_gradients_version:
            executor.transpose_weights()
            self._input_gradients_version = -1 if moving else version
        return executor

    def _encode(
        self, y: ArrayLike, loss: str | Loss, *, known: bool = False, sample_weight: ArrayLike | None = None
    ) -> Targets:
        return encode(
            y,
            loss,
            self.output_size,
            self.dtype,
            classes=self.classes_,
            known=known and self.classes_ is not None,
            sample_weight=sample_weight,
        )

    def _last_activation(self) -> str | None:
        last = self.layers[-1]
        return last.info.name if isinstance(last, Activation) else None

    def _snapshot(self) -> tuple[Array, Array]:
        return self._parameters.arena.copy(), self._parameters.state.copy()

    def _restore(self, snapshot: tuple[Array, Array]) -> None:
        with self._writing():
            self._parameters.arena[...], self._parameters.state[...] = snapshot

    @contextmanager
    def _training(self) -> Iterator[None]:
        """Hold the network for training."""
        if self._training_lock.locked():
            raise RuntimeError(
                "this network is being trained: wait until that fit or step has ended, or train net.copy()"
            )
        with self._training_lock:  # (of C: a Ctrl-C cannot come between taking it and this block)
            self._trainer = threading.get_ident()
            try:
                yield
            finally:
                self._trainer = None

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Hold the parameters still; a callback of the running fit may."""
        if self._trainer == threading.get_ident():
            yield
            return
        with self._training():
            yield

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Hold the parameters for a change from outside."""
        with self._reading():
            self._version += 1
            yield


_NORMS = {"batch": BatchNorm, "layer": LayerNorm}


def mlp(
    sizes: Sequence[int],
    *,
    activation: str = "relu",
    init: str | Callable[..., Any] = "auto",
    norm: Literal["batch", "layer"] | None = None,
    residual: bool = False,
    residual_scale: float | Literal["auto"] = 1.0,
    dropout: float = 0.0,
    dtype: DTypeLike = "float32",
    seed: int | None = None,
) -> Network:
    """Make a multilayer perceptron: dense layers with an activation after each but the last, which is linear.

    Parameters
    ----------
    sizes : sequence of int
        Inputs, hidden units of each layer, outputs.
    activation : str
        After every hidden layer.
    init : str or callable
        Initial weights of all dense layers.
    norm : "batch", "layer" or None
        Batch norm or layer norm between every hidden dense layer and its activation.
    residual : bool
        Put every hidden layer whose input is as wide as its output into a residual block of its own (dense, norm,
        activation, dropout: ``x + s f(x)``); the others stay as they are.
    residual_scale : float or "auto"
        The s of all blocks, greater than 0. ``"auto"``: 1/√n for n blocks. With s = 1 the mean square doubles at every
        block. De & Smith (2020) show that batch norm makes branches 1/√depth of the skip at birth, and that a factor of
        at most 1/√n lets networks without it be as deep: the mean square then grows at most e times, if branch and skip
        are uncorrelated. Where branches end in ReLU they are not, means add up, and the scale grows like exp(c √n).
        Hanin & Rolnick (2018) show that lengths stay bounded, whatever the blocks hold, where the *sum* of the factors
        does: ``1 / n`` for very deep ones. Measured: docs/initialising.md.
    dropout : float
        Rate of the dropout after every hidden activation.
    dtype, seed
        As for `Network`.

    Examples
    --------
    >>> mlp([64, 128, 128, 10], seed=0)
    Network(64 → 10, 5 ops, 26,122 parameters, float32)
    """
    try:
        widths = [check_integer(f"sizes[{i}]", size) for i, size in enumerate(sizes)]
    except TypeError as error:
        raise TypeError(f"sizes must be a list of integers such as [64, 128, 10]: {error}") from None
    if len(widths) < 2:
        raise ValueError(f"sizes needs at least the inputs and the outputs, got {widths}")
    if norm not in (None, *_NORMS):
        raise ValueError(f"norm must be 'batch', 'layer' or None, got {norm!r}")
    rate = check_fraction("dropout", dropout)
    blocks = sum(inputs == units for inputs, units in pairwise(widths[:-1])) if residual else 0
    layers = mlp_layers(
        widths, activation=activation, init=init, norm=norm, residual=residual,
        residual_scale=_residual_scale(residual_scale, blocks), dropout=rate,
    )  # fmt: skip
    return Network(layers, input_size=widths[0], dtype=dtype, seed=seed)


def mlp_layers(
    widths: Sequence[int],
    *,
    activation: str,
    init: str | Callable[..., Any],
    norm: Literal["batch", "layer"] | None,
    residual: bool,
    residual_scale: float,
    dropout: float,
) -> list[Layer]:
    """Return the layers of `mlp`, from checked arguments."""
    layers: list[Layer] = []
    for inputs, units in pairwise(widths[:-1]):
        block: list[Layer] = [Dense(units, init=init)]
        if norm:
            block.append(_NORMS[norm]())
        block.append(Activation(activation))
        if dropout:
            block.append(Dropout(dropout))
        layers += [Residual(block, scale=residual_scale)] if residual and inputs == units else block
    layers.append(Dense(widths[-1], init=init))
    return layers


def _residual_scale(scale: float | Literal["auto"], blocks: int) -> float:
    if isinstance(scale, str):
        if scale != "auto":
            raise ValueError(f"residual_scale must be a number or 'auto', got {scale!r}")
        return 1 / math.sqrt(max(blocks, 1))
    return check_positive("residual_scale", scale)
