"""Many small networks side by side: each on one thread, as many at once as there are cores.

A small network leaves nothing for a second thread to do, and a call of the kernels costs more than its step. So many
courses are handed over in one call, and the threads take one after the other without the interpreter.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from gradcore import kernels
from gradcore.errors import check_flag, check_integer
from gradcore.threads import SHARE_FLOP, cores, resolve_threads
from gradcore.training.history import History
from gradcore.training.loop import check_batch_norm, new_run, training_data
from gradcore.training.progress import ProgressBar
from gradcore.training.run import Conduct, Data, Run
from gradcore.training.settings import check_on_fault, check_progress, step_settings

if TYPE_CHECKING:
    from gradcore.network import Network
    from gradcore.optimizers import Optimizer

ROUND = 0.05  # seconds of one call of the kernels
FIXED_WORK = 2e4  # multiplications that could be made in the time that a step takes beside them
SHARES = 8  # a round has at least so many courses for each thread where there are as many: they end at different times


def fit_many(
    networks: Sequence[Network],
    data: Any,
    *,
    loss: Any = "auto",
    optimizer: str | Optimizer | Sequence[str | Optimizer] = "adam",
    epochs: int | Sequence[int] = 10,
    batch_size: int | Sequence[int] = 32,
    validation_data: Any = None,
    clip_norm: Any = None,
    clip_value: Any = None,
    clip_adaptive: Any = None,
    schedule: Any = None,
    shuffle: bool = True,
    on_fault: str | Callable[[Any], Any] = "warn",
    progress: Literal["auto"] | bool = "auto",
    threads: int | Literal["auto"] = "auto",
    seed: int | Sequence[int | None] | None = None,
) -> list[History]:
    """Train many small independent networks at once: the same bits as ``net.fit`` of one after the other.

    Parameters
    ----------
    networks : sequence of Network
        Of any architectures and dtypes; no network twice.
    data : tuple (X, y) or list of such tuples
        One pair for all, which is shared and not copied, or one for each network.
    loss, optimizer, epochs, batch_size, clip_norm, clip_value, clip_adaptive, schedule, seed
        As for ``Network.fit``: one value for all, or a list with one for each network. ``seed=None`` draws one
        for each.
    validation_data : tuple (X, y) or list of such tuples, optional
        As `data`; scored after every epoch.
    shuffle, on_fault
        As for ``Network.fit``, for all.
    progress : bool or "auto"
        One bar for all.
    threads : int or "auto"
        How many networks are trained at the same time; ``"auto"``: one per core.

    Returns
    -------
    list of History
        In the order of the networks; also at ``net.history``. ``seconds`` is the time from the beginning of the
        network's training to its end, in which others were trained as well.

    Raises
    ------
    ValueError, TypeError
        Networks, data or settings that cannot be, with the number of the network; nothing has been trained then.
    FaultError
        With ``on_fault="raise"``; every network keeps the last good weights.

    Examples
    --------
    >>> import numpy as np
    >>> from gradcore.network import mlp
    >>> X = np.random.default_rng(0).normal(size=(200, 3))
    >>> y = X[:, 0] > X[:, 1]
    >>> nets = [mlp([3, 16, 2], seed=k) for k in range(20)]
    >>> histories = fit_many(nets, (X, y), optimizer=["sgd(0.1)", "adam(0.01)"] * 10, epochs=20, seed=list(range(20)))
    >>> min(net.evaluate(X, y)["accuracy"] for net in nets) > 0.9
    True
    """
    networks = list(networks)
    count = len(networks)
    _check_networks(networks)
    check_progress(progress)
    team = _team(threads, count)
    shuffle, on_fault = check_flag("shuffle", shuffle), check_on_fault(on_fault)
    prepared = _Prepared()
    lasting, losses = _each("epochs", epochs, count), _each("loss", loss, count)
    steps = zip(
        _each("optimizer", optimizer, count), _each("batch_size", batch_size, count),
        _each("clip_norm", clip_norm, count), _each("clip_value", clip_value, count),
        _each("clip_adaptive", clip_adaptive, count), [None] * count,
        _each("seed", seed, count), _each("schedule", schedule, count), strict=True,
    )  # fmt: skip
    pairs, validations = _pairs("data", data, count), _pairs("validation_data", validation_data, count)
    with ExitStack() as held:
        trainings = []
        each = zip(networks, pairs, validations, losses, lasting, steps, strict=True)
        for i, (net, pair, validation, own_loss, own_epochs, step) in enumerate(each):
            held.enter_context(net._training())
            try:
                settings = step_settings(*step)
                conduct = Conduct(check_integer("epochs", own_epochs, minimum=0), shuffle, (), on_fault)
                ready = prepared(net, pair, own_loss, validation)
                check_batch_norm(net, min(settings.batch_size, len(ready.rows)))
            except (TypeError, ValueError) as error:
                raise type(error)(f"networks[{i}]: {error}") from None
            trainings.append(partial(new_run, net, settings, ready, conduct, 1))
        return [run.history for run in _SideBySide(trainings, team, progress).train()]


def _check_networks(networks: list[Network]) -> None:
    known: dict[int, int] = {}
    for i, net in enumerate(networks):
        if not hasattr(net, "_training"):
            raise TypeError(f"networks[{i}] must be a Network, got {type(net).__name__}")
        if id(net) in known:
            raise ValueError(f"networks[{i}] is networks[{known[id(net)]}] again: train net.copy()")
        known[id(net)] = i


def _team(threads: int | str, count: int) -> int:
    """Return how many are trained at the same time."""
    every = cores() * SHARE_FLOP  # a core for each
    return max(1, min(resolve_threads(threads, every), count))


def _each(name: str, value: Any, count: int) -> list[Any]:
    """Spread one value over all networks, or check that there is one for each."""
    if not isinstance(value, (list, tuple)):
        return [value] * count
    if len(value) != count:
        raise ValueError(f"{name} has {len(value)} values for {count} networks: give one, or one for each")
    return list(value)


def _pairs(name: str, data: Any, count: int) -> list[Any]:
    if data is None:
        return [None] * count
    if isinstance(data, list):
        if len(data) != count:
            raise ValueError(
                f"{name} has {len(data)} pairs (X, y) for {count} networks: give one, or one for each"
            )
        pairs = data
    else:
        pairs = [data] * count
    for i, pair in enumerate(pairs):
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise TypeError(f"{name} must be a pair (X, y) or a list of such pairs; number {i} is none")
    return pairs


class _Prepared:
    """Data in the form of the kernels, made once for all networks that want the same."""

    def __init__(self) -> None:
        self.known: dict[tuple[Any, ...], Data] = {}

    def __call__(self, net: Network, pair: Any, loss: Any, validation: Any) -> Data:
        # (the arrays live as long as the lists that hold them: their ids are theirs alone)
        ids = tuple(id(part) for part in (*pair, *(validation or ())))
        classes = None if net.classes_ is None else tuple(net.classes_.tolist())
        key = *ids, net.input_size, net.output_size, net.dtype, str(loss), classes
        if key not in self.known:
            self.known[key] = training_data(net, pair[0], pair[1], loss, validation)
        return self.known[key]


@dataclass
class _Present:
    """A training that has begun."""

    run: Run
    course: Generator[Any, None, None]

    @property
    def left(self) -> float:
        """Work that is left of it."""
        return _work(self.run) * (self.run.steps - self.run.seen)


class _SideBySide:
    """Brings many trainings to their end, round by round: a round is some steps of each of those that are present.

    Those present are two groups: while one is in the kernels, what Python has to do for the other is done.
    """

    def __init__(self, trainings: Sequence[Callable[[], Run]], threads: int, progress: Any) -> None:
        self.waiting, self.threads, self.workers = iter(trainings), threads, kernels.Workers(threads)
        self.runs: list[Run] = []  # those that have begun
        self.groups: list[list[_Present]] = [[], []] if threads > 1 else [[]]
        self.speed = 1e9  # work that a thread does in a second
        self.done = 0  # networks
        self.bar = ProgressBar(progress, len(trainings), len(trainings), "network")

    def train(self) -> list[Run]:
        """Return the trainings, all at their end."""
        pool = ThreadPoolExecutor(1) if self.threads > 1 else None
        try:
            running: Future[None] | None = None
            more = True
            while more:
                more = False
                for group in self.groups:
                    self._go_on(group)
                    self._admit(group)
                    prepared = [present.run for present in group]
                    if running is not None:
                        running.result()
                    more = more or bool(prepared)
                    if pool is None:
                        self._run(prepared)
                    else:
                        running = pool.submit(self._run, prepared)
                    self.bar.update(self.done, min(self.done, len(self.runs) - 1), {})
        except BaseException as error:
            if pool is not None:
                pool.shutdown()  # nobody writes any more
            self._abandon(isinstance(error, KeyboardInterrupt))
            raise
        finally:
            self.bar.close()
            if pool is not None:
                pool.shutdown()
        return self.runs

    def _go_on(self, group: list[_Present]) -> None:
        """Book the last round of a group and get its next one ready; who is at the end leaves."""
        share = self._share(len(group))
        group[:] = [present for present in group if self._prepare(present, share)]

    def _admit(self, group: list[_Present]) -> None:
        """Begin so many more that the threads have enough for a round."""
        left = sum(present.left for present in group)
        while len(group) < SHARES * self.threads or left < ROUND * self.threads * self.speed:
            begin = next(self.waiting, None)
            if begin is None:
                break
            run = begin()
            self.runs.append(run)
            present = _Present(run, run.course())
            if self._prepare(present, self._share(len(group) + 1)):
                group.append(present)
                left += present.left

    def _share(self, present: int) -> float:
        """Return the work of a round for each of those present, if there are enough of them."""
        return ROUND * self.threads * self.speed / max(present, SHARES * self.threads)

    def _prepare(self, present: _Present, share: float) -> bool:
        """Get the next steps of a training ready; False where there are none."""
        present.run.pace = max(1, int(share / _work(present.run)))
        going = next(present.course, None) is not None
        self.done += not going
        return going

    def _run(self, runs: list[Run]) -> None:
        start = time.perf_counter()
        for dtype in {run.net.dtype for run in runs}:
            self.workers.run(run.executor for run in runs if run.net.dtype == dtype)
        elapsed = time.perf_counter() - start
        work = sum(_work(run) * run.executor.outcome[0] for run in runs)
        if work:
            self.speed = min(work / elapsed / self.threads, 8 * self.speed)

    def _abandon(self, interrupted: bool) -> None:
        """End those that are present: what was applied is booked, the good weights stay."""
        for present in [present for group in self.groups for present in group]:
            history = present.run.history
            history.stopped = history.stopped or ("interrupted" if interrupted else "another training failed")
            present.course.close()


def _work(run: Run) -> float:
    """Return about how long a step takes, in multiplications."""
    return FIXED_WORK + run.batches.size * run.net.parameters.size
