"""What happens between the ops that somebody recorded: activations and sums that no op stands for.

A model calls ``relu(x)`` or adds ``x + f(x)`` without a module of its own.  What an op reads then differs from what
the op before it made, and the numbers tell what was done: the output of a known activation, or a known array plus a
multiple of another.  Nothing is taken for known that does not agree in every element to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import numpy as np
import numpy.typing as npt

from gradcore import activations

Array = npt.NDArray[Any]

# Elements below which agreement could be chance.
FEW = 8

_ACTIVATIONS = tuple(name for name in activations.REGISTRY if name != "identity")


@dataclass(frozen=True)
class Joint:
    """What the arrays of an op, or of a whole block, say about its neighbours.

    Parameters
    ----------
    op : object
        The op itself; None for what was found here.
    name, kind : str
        Kind ``"residual"``: a block, whose output is its input plus `scale` times what `inside` makes of it.
    input, output, delta, input_delta : ndarray or None
        What it read and made, dL/d(output) and dL/d(input).
    """

    op: Any
    name: str
    kind: str
    input: Array | None
    output: Array | None
    delta: Array | None
    input_delta: Array | None = None
    inside: tuple[Joint, ...] = ()
    scale: float = 1.0


def joined(ops: list[Joint]) -> tuple[list[Joint], list[str]]:
    """Put in what happened between the ops; return also where something did that no known op explains.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(8, 3))
    >>> first = Joint(None, "a", "dense", x, 2 * x, None)
    >>> parts, unseen = joined([first, Joint(None, "b", "dense", x + np.tanh(2 * x), x, None)])
    >>> parts[0].kind, [part.kind for part in parts[0].inside], parts[1].name, unseen
    ('residual', ['dense', 'tanh'], 'b', [])
    """
    done: list[Joint] = []
    unseen = []
    for op in ops:
        if done and op.input is not None and done[-1].output is not None:
            if not _seen(done, op.input):
                bridge = next(_bridges(done, op), None)
                if bridge is None:
                    unseen.append(f"between {done[-1].name} and {op.name}")
                else:
                    done = bridge
        done.append(op)
    numbers = count(1)
    return [_numbered(part, numbers) for part in done], unseen


def _numbered(part: Joint, numbers: Iterator[int]) -> Joint:
    """Name blocks as plans do: by the order in which they begin."""
    if part.kind != "residual":
        return part
    name = f"residual {next(numbers)}"
    return replace(part, name=name, inside=tuple(_numbered(inner, numbers) for inner in part.inside))


def _seen(done: list[Joint], x: Array) -> bool:
    """Whether an array is one that an earlier op made or read: that of the op before, or ops side by side."""
    arrays = (array for part in reversed(done) for array in (part.output, part.input) if array is not None)
    return any(_same(array, x) for array in arrays)


def _bridges(done: list[Joint], after: Joint) -> Iterator[list[Joint]]:
    """Yield what leads from the last output to what the next op reads."""
    x, delta = after.input, after.input_delta
    h = done[-1].output
    assert x is not None
    assert h is not None
    if h.shape != x.shape or x.size < FEW:
        return
    for kind in _ACTIVATIONS:
        if _close(_apply(kind, h[:2]), x[:2]) and _close(_apply(kind, h), x):
            yield [*done, _activation(done[-1], kind, x, delta)]
    # as it is, and after an activation: x + f(x), x + relu(f(x))
    yield from _blocks(done, x, delta)
    for kind in _ACTIVATIONS:
        yield from _blocks([*done, _activation(done[-1], kind, _apply(kind, h), None)], x, delta)
    # relu(x + f(x))
    for first in reversed(range(len(done))):
        u = done[first].input
        if u is None or u.shape != x.shape:
            continue
        for kind in _ACTIVATIONS:
            if _close(_apply(kind, (u + h)[:2]), x[:2]) and _close(_apply(kind, u + h), x):
                slope = getattr(activations, f"{kind}_backward")
                block = _block(done, first, 1.0, u + h, None if delta is None else slope(delta, u + h))
                yield [*block, _activation(block[-1], kind, x, delta)]


def _blocks(done: list[Joint], x: Array, delta: Array | None) -> Iterator[list[Joint]]:
    """Yield the ops with their last ones in a block, if their input plus a multiple of their output is `x`."""
    h = done[-1].output
    assert h is not None
    square = float(np.vdot(h, h))
    if not 0 < square < np.inf:
        return
    for first in reversed(range(len(done))):
        u = done[first].input
        if u is None or u.shape != x.shape:
            continue
        scale = float(np.vdot(h, x - u)) / square
        scale = 1.0 if abs(scale - 1) < 1e-4 else scale
        if scale and _close(u + scale * h, x):
            yield _block(done, first, scale, x, delta)


def _block(done: list[Joint], first: int, scale: float, x: Array, delta: Array | None) -> list[Joint]:
    inside = list(done[first:])
    # either of the deltas of the sum and of the branch tells the other
    if delta is None and inside[-1].delta is not None:
        delta = inside[-1].delta / scale
    elif delta is not None and inside[-1].delta is None:
        inside[-1] = replace(inside[-1], delta=scale * delta)
    start = inside[0]
    block = Joint(
        None, "residual", "residual", start.input, x, delta, start.input_delta, tuple(inside), scale
    )
    return [*done[:first], block]


def _activation(before: Joint, kind: str, output: Array, delta: Array | None) -> Joint:
    return Joint(None, f"{kind} after {before.name}", kind, before.output, output, delta)


@np.errstate(all="ignore")
def _apply(kind: str, z: Array) -> Array:
    result: Array = getattr(activations, kind)(z)
    return result


def _same(a: Array, b: Array) -> bool:
    # a flattened array is the same
    return a.size == b.size and np.array_equal(a.ravel(), b.ravel(), equal_nan=True)


def _close(a: Array, b: Array) -> bool:
    """Whether two arrays agree to the rounding of a few operations."""
    bound = 64 * float(np.finfo(b.dtype).eps)
    with np.errstate(all="ignore"):
        size = float(np.max(np.abs(b), initial=0.0, where=np.isfinite(b)))
        return bool(np.allclose(a, b, rtol=bound, atol=bound * size, equal_nan=True))
