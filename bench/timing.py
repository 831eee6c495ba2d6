"""Time several callables in turns, round by round, so that a slow moment of the machine hits all of them."""

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Timing:
    """Seconds of one unit of work, over the rounds."""

    median: float
    minimum: float


def interleave(
    runs: Mapping[str, tuple[Callable[[], Any], int]], *, rounds: int = 9, slice_seconds: float = 0.03
) -> dict[str, Timing]:
    """Time `runs` (name → callable, units of work in one call), each for about `slice_seconds` per round."""
    calls = {name: _calls(run, slice_seconds) for name, (run, _) in runs.items()}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            for name, (run, units) in runs.items():
                seconds[name].append(_time(run, calls[name]) / calls[name] / units)
    finally:
        gc.enable()
    return {name: Timing(statistics.median(values), min(values)) for name, values in seconds.items()}


def _time(run: Callable[[], Any], calls: int) -> float:
    begin = time.perf_counter()
    for _ in range(calls):
        run()
    return time.perf_counter() - begin


def _calls(run: Callable[[], Any], slice_seconds: float) -> int:
    _time(run, 2)  # compile, fault the pages in
    calls = 1
    while (seconds := _time(run, calls)) < slice_seconds / 4:
        calls *= 4
    return max(1, round(calls * slice_seconds / seconds))
