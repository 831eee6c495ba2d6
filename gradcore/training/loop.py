"""Training: one network, or many side by side."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcore import kernels
from gradcore.errors import check_flag, check_fraction, check_integer
from gradcore.losses import ClassWeight
from gradcore.threads import is_open, resolve_threads, worth_a_try
from gradcore.training.batches import Batches, split
from gradcore.training.callbacks import Callback
from gradcore.training.crew import Crew
from gradcore.training.data import Rows, Selected, as_given, check_rows
from gradcore.training.history import History
from gradcore.training.run import Conduct, Data, Run
from gradcore.training.settings import StepSettings, check_on_fault, check_progress, step_settings
from gradcore.training.targets import Targets, encode

if TYPE_CHECKING:
    from gradcore.network import Network
    from gradcore.optimizers import Optimizer
    from gradcore.schedules import Schedule


def fit(
    net: Network,
    X: Any,
    y: Any,
    *,
    loss: str,
    optimizer: str | Optimizer,
    epochs: int,
    batch_size: int,
    validation_data: tuple[Any, ...] | None,
    validation_fraction: float,
    sample_weight: Any,
    class_weight: ClassWeight,
    clip_norm: float | None,
    clip_value: float | None,
    schedule: str | Schedule | None,
    clip_adaptive: float | None,
    shuffle: bool,
    callbacks: Sequence[Callback],
    probe: Any,
    on_fault: str | Callable[[Any], Any],
    progress: Any,
    threads: Any,
    seed: int | None,
    resume: str | os.PathLike[str] | None = None,
) -> History:
    """Train `net`; the arguments and what happens are told at `Network.fit`."""
    with net._training():
        saved = None
        if resume is not None:
            from gradcore.training.checkpoint import read_checkpoint

            saved = read_checkpoint(resume)
            seed = saved.seed if seed is None else seed
        settings = step_settings(
            optimizer, batch_size, clip_norm, clip_value, clip_adaptive, probe, seed, schedule
        )
        conduct = Conduct(
            check_integer("epochs", epochs, minimum=0), check_flag("shuffle", shuffle), check_callbacks(callbacks),
            check_on_fault(on_fault),
        )  # fmt: skip
        check_progress(progress)
        fraction = check_fraction("validation_fraction", validation_fraction)
        if validation_data is not None and fraction:
            raise ValueError("give validation_data or validation_fraction, not both")
        if y is None:
            from gradcore.training.stream import new_stream

            if fraction:
                raise ValueError(
                    "validation_fraction needs arrays: hold batches back and give validation_data"
                )
            needs_arrays = {
                "sample_weight": sample_weight is not None, "class_weight": class_weight is not None,
                "resume": resume is not None,
            }  # fmt: skip
            for name in (name for name, given in needs_arrays.items() if given):
                raise ValueError(f"{name} needs arrays X and y; X is an iterable of batches (X, y)")
            stream = new_stream(net, settings, X, loss, validation_data, conduct, threads)
            finish(stream, progress)
            return stream.history
        data = training_data(net, X, y, loss, validation_data, sample_weight)
        if fraction:
            rows, held_out = split(len(data.X), fraction, settings.seed)
            data = replace(
                data, rows=rows, validation=(Selected(data.X, held_out), data.targets.of_rows(held_out))
            )
        data = replace(data, targets=data.targets.with_class_weight(class_weight, data.rows))
        run = new_run(net, settings, data, conduct, threads)
        if saved is not None:
            run.resume(saved)
        finish(run, progress)
        return run.history


def finish(run: Run, progress: Any = False) -> None:
    """Bring one training to its end."""
    course, crew = run.course(progress), Crew(choose=run.conduct.choose and run.conduct.threads > 1)
    try:
        for executor in course:
            start = time.perf_counter()
            count, _ = executor.run(alone=crew.alone)
            crew.took(count, time.perf_counter() - start)
            run.pace = crew.pace
    except BaseException as error:
        # Ctrl-C, on whatever line: the course books what was done and ends itself (one that has raised raises again)
        course.throw(error)
        raise


def training_data(
    net: Network,
    X: Any,
    y: Any,
    loss: str,
    validation_data: tuple[Any, ...] | None = None,
    sample_weight: Any = None,
) -> Data:
    """Check data and bring them into the form that `net` takes."""
    X = as_given(X, net.input_size, net.dtype)
    targets = encode(y, loss, net.output_size, net.dtype, classes=net.classes_, sample_weight=sample_weight)
    check_rows(X, targets.values)
    held_out = None if validation_data is None else validation(net, validation_data, targets)
    return Data(X, targets, np.arange(len(X)), held_out, net.output_size)


def new_run(net: Network, settings: StepSettings, data: Data, conduct: Conduct, threads: int | str) -> Run:
    """Return a training that is ready to begin."""
    rows = len(data.rows)
    batches = Batches(rows, min(settings.batch_size, rows), merge_single=has_batch_norm(net))
    check_batch_norm(net, batches.size)
    return Run(net, settings, batches, data, with_threads(conduct, threads, product_flop(net, batches.size)))


def with_threads(conduct: Conduct, threads: int | str, product_flop: float) -> Conduct:
    """Settle the number of threads; where nobody asked for one, whether all of them work is tried on the way."""
    if threads != 1 and is_open(threads):
        return replace(conduct, threads=worth_a_try(product_flop), choose=True)
    return replace(conduct, threads=resolve_threads(threads, product_flop))


def has_batch_norm(net: Network) -> bool:
    """Tell whether some op normalises by the batch."""
    return bool((net.plan.table["kind"] == kernels.OP_KINDS["batch_norm"]).any())


def check_batch_norm(net: Network, rows: int) -> None:
    """Raise for a training batch that has no variance to normalise by."""
    if rows == 1 and has_batch_norm(net):
        raise ValueError(
            "batch norm cannot train on batches of one row: they have no variance; use at least 2 rows"
        )


def product_flop(net: Network, rows: int) -> float:
    """Return the floating-point operations of the average matrix product of one step."""
    dense = net.plan.table[net.plan.table["kind"] == kernels.OP_KINDS["dense"]]
    return float(2.0 * rows * np.mean(dense["columns_in"] * dense["columns_out"])) if len(dense) else 0.0


def check_callbacks(callbacks: Any) -> tuple[Callback, ...]:
    """Return the callbacks, which must be such."""
    if isinstance(callbacks, Callback):
        return (callbacks,)
    hooks = tuple(callbacks)
    for hook in hooks:
        if not isinstance(hook, Callback):
            raise TypeError(f"callbacks must be instances of gradcore.callbacks.Callback, got {hook!r}")
    return hooks


def validation(net: Network, data: Any, trained: Targets) -> tuple[Rows, Targets]:
    """Check a pair (X, y) to validate on, whose targets are coded as those that are trained on."""
    try:
        inputs, labels, weights = (
            data if isinstance(data, (tuple, list)) and len(data) == 3 else (*data, None)
        )
    except (TypeError, ValueError):
        raise ValueError("validation_data must be a pair (X, y), or (X, y, sample_weight)") from None
    try:
        X = as_given(inputs, net.input_size, net.dtype)
        targets = encode(
            labels,
            trained.loss,
            net.output_size,
            net.dtype,
            classes=trained.classes,
            known=trained.classes is not None,
            sample_weight=weights,
        )
        check_rows(X, targets.values)
    except (TypeError, ValueError) as error:
        raise type(error)(f"validation_data: {error}") from None
    return X, targets
