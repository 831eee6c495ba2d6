"""Checkpoints: a training in a file, from which `fit` goes on to the same bits as if nothing had happened."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcore.errors import check_flag, check_integer, check_path
from gradcore.files import Format, read_arrays, write_arrays
from gradcore.health.loss_curve import LossCurve
from gradcore.training.callbacks import Callback, Logs, Monitor
from gradcore.training.data import CHUNK, Array, Rows

if TYPE_CHECKING:
    from gradcore.training.run import Run

FORM = Format("checkpoint", 1)

FINGERPRINT_ROWS = 1 << 16  # of the data that are looked at, evenly spread


class Checkpoint(Monitor):
    """Keep the whole training in a file, from which ``fit(resume=path)`` goes on to the same bits.

    The file has the parameters, running statistics, the optimizer's moments, the position in schedule, epoch and order,
    the history, and the state of the other callbacks. It is written to a new file first, which takes its name when all
    of it is on the disk: whatever happens (kill -9, a full disk, no power), there is one whole checkpoint.

    Parameters
    ----------
    path : str or path
        Its directory must exist.
    monitor : str, optional
        With `save_best_only`: a name in ``history.history``; None: ``"val_loss"``. Accuracy and r2 improve upwards,
        everything else downwards; a NaN is never the best.
    save_best_only : bool
        Write only after epochs that are better than all before.
    every : int
        Epochs between two files. After the last epoch there is one in any case.
    every_steps : int, optional
        Write within epochs too, after every so many steps; not with `save_best_only`.

    Notes
    -----
    It is the last to act at the end of an epoch, wherever it stands among the callbacks. An epoch costs the time to
    write the file, some milliseconds for a small network; a larger `every` writes less often.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from gradcore import mlp
    >>> path = tempfile.mkdtemp() + "/training.ckpt"
    >>> X = np.linspace(-1, 1, 64)[:, None]
    >>> whole = mlp([1, 8, 1], activation="tanh", seed=0)
    >>> history = whole.fit(X, X[:, 0] ** 2, epochs=20, seed=0)
    >>> first = mlp([1, 8, 1], activation="tanh", seed=0)
    >>> history = first.fit(X, X[:, 0] ** 2, epochs=12, callbacks=[Checkpoint(path)], seed=0)
    >>> later = mlp([1, 8, 1], activation="tanh")  # in another process, say
    >>> history = later.fit(X, X[:, 0] ** 2, epochs=20, resume=path)
    >>> len(history.epochs), np.array_equal(later.parameters, whole.parameters)
    (20, True)
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        monitor: str | None = None,
        save_best_only: bool = False,
        every: int = 1,
        every_steps: int | None = None,
    ) -> None:
        self.path = check_path("path", path)
        self.save_best_only = check_flag("save_best_only", save_best_only)
        if monitor is not None and not save_best_only:
            raise ValueError(
                "monitor chooses what is best: give save_best_only=True with it, or leave it out"
            )
        self.every = check_integer("every", every)
        self.every_steps = None if every_steps is None else check_integer("every_steps", every_steps)
        self._steps_between = self.every_steps
        if self.save_best_only and self.every_steps is not None:
            raise ValueError(
                "what is best is known at the end of an epoch: leave every_steps or save_best_only out"
            )
        super().__init__("val_loss" if monitor is None else monitor)
        self._better = False

    def on_train_begin(self, logs: Logs) -> None:
        """Check that there is what to watch and where to write."""
        if self.save_best_only:
            super().on_train_begin(logs)
        if not self.path.parent.is_dir():
            raise FileNotFoundError(
                f"{self.path.parent} is no directory: a checkpoint cannot be written to it"
            )

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """See whether the epoch is better than those before."""
        if self.save_best_only:
            self._better = self.improves(epoch, logs)

    def _complete(self, run: Run, *, last: bool) -> None:
        due = self._better if self.save_best_only else last
        if due or (not self.save_best_only and len(run.history.epochs) % self.every == 0):
            write_checkpoint(self.path, run, last=last)

    def _step(self, run: Run) -> None:
        write_checkpoint(self.path, run, last=False)

    def get_state(self) -> dict[str, Any]:
        """What it has seen so far."""
        return super().get_state() if self.save_best_only else {}


@dataclass(frozen=True)
class Saved:
    """A checkpoint that was read."""

    path: Path
    values: dict[str, Any]
    arrays: dict[str, Array]

    @property
    def seed(self) -> int:
        """Of the training."""
        return int(self.values["settings"]["seed"])

    @property
    def parameters(self) -> dict[str, Array]:
        """Parameters and running statistics by name."""
        return self._arrays_of("parameters")

    def _arrays_of(self, family: str) -> dict[str, Array]:
        start = f"{family}/"
        return {name[len(start) :]: array for name, array in self.arrays.items() if name.startswith(start)}

    def damaged(self, error: Exception) -> ValueError:
        """Make the error for contents that are no training, whatever the checksum says."""
        return ValueError(
            f"{self.path} is no checkpoint that a training wrote ({type(error).__name__}: {error}); take an older one"
        )

    def check(self, run: Run) -> None:
        """Raise unless the training that is to go on is the one in the file; nothing is changed."""
        there, here = self.values["settings"], settings_of(run)
        differing = [name for name in here if _packed(here[name]) != there.get(name)]
        if differing:
            said = "; ".join(_difference(name, there.get(name), here[name]) for name in differing)
            raise ValueError(
                f"{self.path} cannot be resumed: {said}. To go on to the same bits, network, data and settings must be "
                "those of the checkpoint"
            )
        self._check_epochs(run)
        known = dict(named_states(run.conduct.callbacks))
        for name in self.values["callbacks"]:
            if name not in known:
                raise ValueError(
                    f"{self.path} has the state of callback {name}, which this fit lacks: give the callbacks of the "
                    "training that was saved"
                )

    def _check_epochs(self, run: Run) -> None:
        done, total = self.values["seen"], self.values["steps_in_all"]
        if done > run.steps:
            raise ValueError(
                f"{self.path} is after {done / run.batches.steps:g} epochs: epochs={run.conduct.epochs} must be as "
                "many at least, since it counts from the very start"
            )
        schedule = run.settings.schedule
        if schedule is None or total == run.steps or done == 0:
            return
        if not np.array_equal(schedule.factors(1, done, total), schedule.factors(1, done, run.steps)):
            raise ValueError(
                f"{self.path} cannot be resumed: epochs is {total // run.batches.steps} there, {run.conduct.epochs} "
                "here, and with this schedule the steps that are done would have had other rates"
            )

    def restore(self, run: Run) -> None:
        """Bring a training that has not begun to where this one was; the network is left to the course."""
        try:
            self._restore(run)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise self.damaged(error) from error

    def _restore(self, run: Run) -> None:
        values, history, batches = self.values, run.history, run.batches
        seen, epochs = int(values["seen"]), int(values["epochs"])
        epoch, batch = divmod(seen, batches.steps)
        if epochs != epoch or not 0 <= int(values["steps"]) <= seen:
            raise ValueError(f"{epochs} epochs of {batches.steps} steps are not {seen} steps")
        run.net._parameters.checked(self.parameters)
        if self.parameters.keys() != run.net._parameters.slots.keys():
            raise ValueError("some parameters are not in it")
        for number, slot in enumerate(run.executor.slots, 1):
            run.net._parameters.fill(slot, self._arrays_of(f"moment{number}"))
        run.executor.begin(
            run.data.rows, batches.size, merge_single=batches.merge_single, shuffle=run.conduct.shuffle,
            seed=run.settings.seed, number=run.first_order, epoch=epoch, at=batch * batches.size,
        )  # fmt: skip
        at = epoch % run.block * batches.steps
        run.losses[at : at + batch], run.norms[at : at + batch] = self.arrays["losses"], self.arrays["norms"]
        run.counts[at : at + batch] = self.arrays["counts"]
        run.seen = seen
        run.located = int(values["located"])
        run.hyper = run.hyper | {"lr": values["learning_rate"]}
        if run.ring is not None:
            run.ring.begin_after(seen)
        found = self._arrays_of("history")
        columns = {name: found[name].tolist() for name in values["columns"]}
        if any(len(column) != epochs for column in columns.values()):
            raise ValueError(f"some values are not there for {epochs} epochs")
        history.history = columns
        history.epochs = list(range(epochs))
        history.steps, history.seconds = int(values["steps"]), float(values["seconds"])
        history.stopped = None if values["stopped"] is None else str(values["stopped"])
        history.curve = LossCurve.restored(
            int(values["curve_block"]), self.arrays["curve"], self.arrays["curve_pending"]
        )

    def restore_callbacks(self, run: Run) -> None:
        """Give every callback its own state back."""
        states = self.values["callbacks"]
        for name, callback in named_states(run.conduct.callbacks):
            if name in states:
                arrays = self._arrays_of(f"callback/{name}")
                callback.set_state({k: _unpacked(v) for k, v in states[name].items()} | arrays)


def read_checkpoint(path: str | os.PathLike[str]) -> Saved:
    """Read a checkpoint.

    Raises
    ------
    FileNotFoundError
        There is none.
    ValueError
        It is something else, or damaged.
    """
    path = check_path("resume", path)
    try:
        _, values, arrays = read_arrays(path, FORM)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"there is no checkpoint {path} to resume from; leave resume out to begin a new training"
        ) from None
    saved = Saved(path, values, arrays)
    wanted = {
        "settings": dict, "seen": int, "steps_in_all": int, "epochs": int, "steps": int, "located": int,
        "callbacks": dict, "columns": list, "curve_block": int, "learning_rate": float,
    }  # fmt: skip
    for name, kind in wanted.items():
        if type(values.get(name)) is not kind:
            raise saved.damaged(TypeError(f"{name} is {values.get(name)!r}"))
    if type(values["settings"].get("seed")) is not int:
        raise saved.damaged(TypeError(f"seed is {values['settings'].get('seed')!r}"))
    return saved


def write_checkpoint(path: Path, run: Run, *, last: bool) -> None:
    """Write where a training is, between two of its steps; `last`: it ends here."""
    history, net = run.history, run.net
    seen, batch = run.seen, run.seen % run.batches.steps
    at = run.seen // run.batches.steps % run.block * run.batches.steps
    arrays: dict[str, Array] = {f"parameters/{name}": array for name, array in net.get_parameters().items()}
    for number, slot in enumerate(run.executor.slots, 1):
        moments = net._parameters.gradients(slot)
        arrays |= {f"moment{number}/{name}": array for name, array in moments.items()}
    arrays |= {f"history/{name}": np.array(column, np.float64) for name, column in history.history.items()}
    for name, values_of_steps in (("losses", run.losses), ("norms", run.norms), ("counts", run.counts)):
        arrays[name] = values_of_steps[at : at + batch]
    block, arrays["curve"], arrays["curve_pending"] = history.curve.parts
    states: dict[str, dict[str, Any]] = {}
    for name, callback in named_states(run.conduct.callbacks):
        state = callback.get_state()
        if state:
            kept = {key: value for key, value in state.items() if isinstance(value, np.ndarray)}
            states[name] = {key: _packed(value) for key, value in state.items() if key not in kept}
            arrays |= {f"callback/{name}/{key}": array for key, array in kept.items()}
    stops = last and (run.ended or net.stop_training)
    values = {
        "settings": {name: _packed(value) for name, value in settings_of(run).items()},
        "seen": seen,
        "steps_in_all": run.steps,
        "epochs": len(history.epochs),
        "columns": list(history.history),
        "steps": history.steps,
        "located": run.located,
        "learning_rate": float(net.learning_rate or 0.0),
        "seconds": run.seconds,
        "stopped": (history.stopped or "a callback asked for it") if stops else None,
        "curve_block": block,
        "callbacks": states,
    }
    write_arrays(path, FORM, values, arrays)


def settings_of(run: Run) -> dict[str, Any]:
    """Return what must be the same for a training to go on, by the names of `fit`'s arguments."""
    settings, schedule = run.settings, run.settings.schedule
    plain = schedule is not None and type(schedule).__repr__ is object.__repr__  # an address says nothing
    return {
        "network": _ops(run),
        "dtype": str(run.net.dtype),
        "loss": str(run.targets.loss),
        "optimizer": repr(settings.optimizer),
        **{name: float(value) for name, value in settings.hyper.items() if name.startswith("clip_")},
        "schedule": type(schedule).__qualname__ if plain else repr(schedule),
        "batch_size": run.batches.size,
        "shuffle": run.conduct.shuffle,
        "seed": settings.seed,
        **run.fingerprints,
    }


def fingerprints_of(run: Run) -> dict[str, Any]:
    """Return what tells the data of a training from others: sizes, and a checksum over the bits of many rows."""
    data, rows = run.data, run.data.rows
    prints: dict[str, Any] = {
        "rows": len(rows), "X": _fingerprint(data.X, rows), "y": _fingerprint(data.targets.values, rows)
    }  # fmt: skip
    weights = data.targets.weights
    prints["sample_weight or class_weight"] = None if weights is None else _fingerprint(weights, rows)
    if data.validation is not None:
        X, targets = data.validation
        every = np.arange(len(X))
        prints["validation_data"] = _fingerprint(X, every) + _fingerprint(targets.values, every)
        if targets.weights is not None:
            prints["validation_data"] += _fingerprint(targets.weights, every)
    else:
        prints["validation_data"] = None
    return prints


def _fingerprint(array: Rows, rows: Array) -> str:
    some = rows[:: max(1, -(-len(rows) // FINGERPRINT_ROWS))]
    dtype = np.asarray(array[some[:1]]).dtype
    digest = hashlib.blake2b(f"{array.shape[1:]} {dtype}".encode(), digest_size=16)
    piece = max(1, CHUNK // max(1, math.prod(array.shape[1:])))
    for first in range(0, len(some), piece):
        digest.update(np.ascontiguousarray(array[some[first : first + piece]]).data)
    digest.update(np.ascontiguousarray(some).data)
    return digest.hexdigest()


def _ops(run: Run) -> list[str]:
    """Describe every op by what it computes, not by where its arrays lie."""
    table, names = run.net.plan.table, run.net.plan.names
    numbers = [name for name in table.dtype.names or () if table.dtype[name].kind == "f"]
    return [
        f"{name}: {op['columns_in']} → {op['columns_out']} {[float(op[n]) for n in numbers]}"
        f"{'' if op['bias'] >= 0 or op['weight'] < 0 else ' without bias'}"
        for name, op in zip(names, table, strict=True)
    ]


def _difference(name: str, there: Any, here: Any) -> str:
    """Say in words how a setting differs."""
    if name == "network" and isinstance(there, list):
        if len(there) != len(here):
            return f"the network has {len(there)} ops there, {len(here)} here"
        first = next(i for i, (a, b) in enumerate(zip(there, here, strict=True)) if a != b)
        return f"the network's op {first} is {there[first]!r} there, {here[first]!r} here"
    if name in ("X", "y", "validation_data"):
        return f"{name} has other values"
    return f"{name} is {_unpacked(there)!r} there, {here!r} here"


def named_states(callbacks: tuple[Callback, ...]) -> Iterator[tuple[str, Callback]]:
    """Name every callback by its class and its place among those of that class."""
    count: dict[str, int] = {}
    for callback in callbacks:
        name = type(callback).__qualname__
        count[name] = count.get(name, -1) + 1
        yield f"{name}[{count[name]}]", callback


def _packed(value: Any) -> Any:
    """Return a value as JSON keeps it; numbers without a place in JSON become text with a mark."""
    if isinstance(value, Mapping):
        return {name: _packed(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_packed(inner) for inner in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    return value


def _unpacked(value: Any) -> Any:
    if isinstance(value, dict):
        if value.keys() == {"float"} and isinstance(value["float"], str):
            return float(value["float"])
        return {name: _unpacked(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_unpacked(inner) for inner in value]
    return value
