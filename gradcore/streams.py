"""Where random numbers come from: counter-based streams, one for each use, so that no use disturbs another."""

from __future__ import annotations

import os

import numpy as np

from gradcore.errors import check_integer

# What a stream is for; its number (which parameter, which epoch) goes beside it.
INITIAL_WEIGHTS, ORDER, SPLIT, DIRECTIONS, COUNTERPART, PRETRAINING, UNIT_VARIANCE = range(7)


def check_seed(seed: int | None) -> int:
    """Return `seed` as an int from 0 to 2**63 - 1, or for None a new one from the operating system."""
    if seed is None:
        # 48 bits: exact wherever the seed is written down, JSON included
        return int.from_bytes(os.urandom(6), "little")
    number = check_integer("seed", seed, minimum=0)
    if number >= 1 << 63:
        raise ValueError(f"seed must be below 2**63, got {number}")
    return number


def stream(seed: int, use: int, number: int = 0) -> np.random.Generator:
    """Return the generator of one use of `seed`: the same numbers whenever and in whatever order it is asked for."""
    return np.random.Generator(np.random.Philox(key=np.array([seed, use << 32 | number], np.uint64)))
