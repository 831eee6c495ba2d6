"""The public array functions against NumPy, PyTorch and JAX, in float32, with `out=` where a library has it.

A case builds one zero-argument callable per library, each with arrays of its own.  A call does the work once
and returns the result, so that the results can be compared before the times are.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import count
from typing import Any

import numpy as np

Run = Callable[[], Any]


@dataclass(frozen=True)
class ArrayCase:
    """One piece of work; `large` ones take hundreds of megabytes and run in compare.py only."""

    group: str
    name: str
    build: Callable[[], dict[str, Run]]
    large: bool = False

    def __str__(self) -> str:
        return f"{self.group} {self.name}"


def check_agreement(case: ArrayCase, peers: dict[str, Run]) -> None:
    """Raise unless the first results of all libraries are gradcore's.  Call on fresh callables."""
    expected = np.array(peers["gradcore"]())
    rtol = 1e-3 if case.large else 2e-5  # PyTorch's float32 norm of 1e8 elements is off in the fourth digit
    for name, run in peers.items():
        if name != "gradcore":
            np.testing.assert_allclose(
                np.array(run()), expected, rtol=rtol, atol=1e-5, err_msg=f"{name}: {case}"
            )


def installed(module: str) -> bool:
    return find_spec(module) is not None


# ---------------------------------------------------------------- activations


def numpy_sigmoid(x: np.ndarray, out: np.ndarray) -> None:
    np.negative(x, out=out)
    np.exp(out, out=out)
    np.add(out, 1, out=out)
    np.reciprocal(out, out=out)


def numpy_leaky_relu(x: np.ndarray, out: np.ndarray) -> None:
    np.multiply(x, np.float32(0.01), out=out)
    np.maximum(x, out, out=out)


def numpy_elu(x: np.ndarray, out: np.ndarray) -> None:
    # expm1(x) > x for every x < 0, so the maximum picks the right branch
    np.minimum(x, 0, out=out)
    np.expm1(out, out=out)
    np.maximum(x, out, out=out)


def numpy_selu(x: np.ndarray, out: np.ndarray) -> None:
    # above zero expm1(min(x, 0)) is 0; below, max(x, 0) is
    np.minimum(x, 0, out=out)
    np.expm1(out, out=out)
    np.multiply(out, np.float32(1.6732632423543772), out=out)
    np.add(out, np.maximum(x, 0), out=out)
    np.multiply(out, np.float32(1.0507009873554805), out=out)


def numpy_gelu(x: np.ndarray, out: np.ndarray) -> None:
    from scipy.special import ndtr  # NumPy has no error function

    ndtr(x, out=out)
    np.multiply(out, x, out=out)


def numpy_gelu_tanh(x: np.ndarray, out: np.ndarray) -> None:
    np.multiply(x, x, out=out)
    np.multiply(out, np.float32(0.044715), out=out)
    np.add(out, 1, out=out)
    np.multiply(out, x, out=out)
    np.multiply(out, np.float32(0.7978845608), out=out)
    np.tanh(out, out=out)
    np.add(out, 1, out=out)
    np.multiply(out, x, out=out)
    np.multiply(out, np.float32(0.5), out=out)


def numpy_silu(x: np.ndarray, out: np.ndarray) -> None:
    numpy_sigmoid(x, out)
    np.multiply(out, x, out=out)


def numpy_mish(x: np.ndarray, out: np.ndarray) -> None:
    np.logaddexp(x, np.float32(0), out=out)
    np.tanh(out, out=out)
    np.multiply(out, x, out=out)


def numpy_log_sigmoid(x: np.ndarray, out: np.ndarray) -> None:
    np.negative(x, out=out)
    np.logaddexp(out, np.float32(0), out=out)
    np.negative(out, out=out)


def numpy_softsign(x: np.ndarray, out: np.ndarray) -> None:
    np.abs(x, out=out)
    np.add(out, 1, out=out)
    np.divide(x, out, out=out)


def numpy_hard_sigmoid(x: np.ndarray, out: np.ndarray) -> None:
    np.add(x, 3, out=out)
    np.clip(out, 0, 6, out=out)
    np.divide(out, 6, out=out)


def numpy_hard_silu(x: np.ndarray, out: np.ndarray) -> None:
    numpy_hard_sigmoid(x, out)
    np.multiply(out, x, out=out)


NUMPY_ACTIVATIONS: dict[str, Callable[[np.ndarray, np.ndarray], Any]] = {
    "identity": lambda x, out: np.copyto(out, x),
    "sigmoid": numpy_sigmoid,
    "tanh": lambda x, out: np.tanh(x, out=out),
    "relu": lambda x, out: np.maximum(x, 0, out=out),
    "leaky_relu": numpy_leaky_relu,
    "elu": numpy_elu,
    "selu": numpy_selu,
    "gelu": numpy_gelu,
    "exponential": lambda x, out: np.exp(x, out=out),
    "gelu_tanh": numpy_gelu_tanh,
    "silu": numpy_silu,
    "mish": numpy_mish,
    "softplus": lambda x, out: np.logaddexp(x, np.float32(0), out=out),
    "log_sigmoid": numpy_log_sigmoid,
    "softsign": numpy_softsign,
    "relu6": lambda x, out: np.clip(x, 0, 6, out=out),
    "hard_tanh": lambda x, out: np.clip(x, -1, 1, out=out),
    "hard_sigmoid": numpy_hard_sigmoid,
    "hard_silu": numpy_hard_silu,
    "celu": numpy_elu,  # with alpha 1 the two are one
}


def torch_activation(name: str) -> Callable[[Any, Any], Any]:
    import torch

    aten = torch.ops.aten
    return {
        "identity": lambda x, out: out.copy_(x),
        "sigmoid": lambda x, out: torch.sigmoid(x, out=out),
        "tanh": lambda x, out: torch.tanh(x, out=out),
        "relu": lambda x, out: torch.clamp_min(x, 0, out=out),
        "leaky_relu": lambda x, out: aten.leaky_relu.out(x, 0.01, out=out),
        "elu": lambda x, out: aten.elu.out(x, out=out),
        "selu": lambda x, out: aten.elu.out(x, 1.6732632423543772, 1.0507009873554805, 1, out=out),
        "gelu": lambda x, out: aten.gelu.out(x, out=out),
        "exponential": lambda x, out: torch.exp(x, out=out),
        "gelu_tanh": lambda x, out: aten.gelu.out(x, approximate="tanh", out=out),
        "silu": lambda x, out: aten.silu.out(x, out=out),
        "mish": lambda x, out: aten.mish.out(x, out=out),
        "softplus": lambda x, out: aten.softplus.out(x, out=out),
        "log_sigmoid": lambda x, out: aten.log_sigmoid.out(x, out=out),
        "softsign": lambda x, out: torch.div(x, x.abs().add_(1), out=out),
        "relu6": lambda x, out: aten.hardtanh.out(x, 0, 6, out=out),
        "hard_tanh": lambda x, out: aten.hardtanh.out(x, out=out),
        "hard_sigmoid": lambda x, out: aten.hardsigmoid.out(x, out=out),
        "hard_silu": lambda x, out: aten.hardswish.out(x, out=out),
        "celu": lambda x, out: aten.elu.out(x, out=out),
    }[name]


def jax_activation(name: str) -> Callable[[Any], Any]:
    import jax

    if name == "gelu":
        return lambda x: jax.nn.gelu(x, approximate=False)
    elsewhere = {
        "identity": jax.numpy.copy, "exponential": jax.numpy.exp, "gelu_tanh": jax.nn.gelu,
        "softsign": jax.nn.soft_sign,
    }  # fmt: skip
    return elsewhere.get(name) or getattr(jax.nn, name)


def activation(name: str, size: int) -> dict[str, Run]:
    import gradcore

    x = 3 * np.random.default_rng(0).standard_normal(size, dtype=np.float32)
    outs = [np.empty_like(x) for _ in range(3)]
    ours, theirs = getattr(gradcore.activations, name), NUMPY_ACTIVATIONS[name]

    def with_numpy() -> np.ndarray:
        theirs(x, outs[1])
        return outs[1]

    peers: dict[str, Run] = {"gradcore": lambda: ours(x, out=outs[0])}
    if name != "gelu" or installed("scipy"):
        peers["SciPy" if name == "gelu" else "NumPy"] = with_numpy
    if installed("torch"):
        import torch

        function, tensor, out = torch_activation(name), torch.from_numpy(x), torch.from_numpy(outs[2])
        peers["PyTorch"] = lambda: function(tensor, out)
    if installed("jax"):
        import jax

        compiled, array = jax.jit(jax_activation(name)), jax.numpy.asarray(x)
        peers["JAX"] = lambda: compiled(array).block_until_ready()
    return peers


def activation_backward(name: str, size: int) -> dict[str, Run]:
    """dL/dx from dL/df and the pre-activation x."""
    import gradcore

    rng = np.random.default_rng(0)
    x, gradient = (3 * rng.standard_normal(size, dtype=np.float32) for _ in range(2))
    out, other, slope = (np.empty_like(x) for _ in range(3))
    positive = np.empty(x.shape, bool)
    ours = getattr(gradcore.activations, f"{name}_backward")

    def with_numpy() -> np.ndarray:
        if name == "relu":
            np.greater(x, 0, out=positive)
            return np.multiply(gradient, positive, out=other)
        if name == "tanh":
            np.tanh(x, out=slope)
            np.multiply(slope, slope, out=slope)
            np.subtract(1, slope, out=slope)
        else:
            numpy_sigmoid(x, other)
            np.subtract(1, other, out=slope)
            np.multiply(slope, other, out=slope)
        return np.multiply(gradient, slope, out=other)

    peers: dict[str, Run] = {"gradcore": lambda: ours(gradient, x, out=out), "NumPy": with_numpy}
    if installed("jax"):
        import jax

        function = jax_activation(name)
        compiled = jax.jit(lambda x, gradient: jax.vjp(function, x)[1](gradient)[0])
        arrays = jax.numpy.asarray(x), jax.numpy.asarray(gradient)
        peers["JAX"] = lambda: compiled(*arrays).block_until_ready()
    return peers


# ---------------------------------------------------------------- softmax and its loss


def softmax(rows: int, columns: int) -> dict[str, Run]:
    import gradcore

    x = 3 * np.random.default_rng(0).standard_normal((rows, columns), dtype=np.float32)
    out, other = np.empty_like(x), np.empty_like(x)

    def with_numpy() -> np.ndarray:
        np.subtract(x, x.max(axis=1, keepdims=True), out=other)
        np.exp(other, out=other)
        return np.divide(other, other.sum(axis=1, keepdims=True), out=other)

    peers: dict[str, Run] = {"gradcore": lambda: gradcore.softmax(x, out=out), "NumPy": with_numpy}
    if installed("torch"):
        import torch

        tensor, result = torch.from_numpy(x), torch.empty(rows, columns)
        peers["PyTorch"] = lambda: torch.softmax(tensor, 1, out=result)
    if installed("jax"):
        import jax

        compiled, array = jax.jit(jax.nn.softmax), jax.numpy.asarray(x)
        peers["JAX"] = lambda: compiled(array).block_until_ready()
    return peers


def cross_entropy(rows: int, columns: int) -> dict[str, Run]:
    """The mean loss and its gradient; the gradient is compared."""
    import gradcore

    rng = np.random.default_rng(0)
    logits = 3 * rng.standard_normal((rows, columns), dtype=np.float32)
    labels = rng.integers(0, columns, rows)
    d_logits, index = np.empty_like(logits), np.arange(rows)

    def with_numpy() -> np.ndarray:
        np.subtract(logits, logits.max(axis=1, keepdims=True), out=d_logits)
        correct = d_logits[index, labels]
        np.exp(d_logits, out=d_logits)
        total = d_logits.sum(axis=1, keepdims=True)
        float((np.log(total[:, 0]) - correct).mean())
        np.multiply(d_logits, 1 / (total * rows), out=d_logits)
        d_logits[index, labels] -= 1 / rows
        return d_logits

    peers: dict[str, Run] = {
        "gradcore": lambda: gradcore.losses.cross_entropy(logits, labels, return_grad=True)[1],
        "NumPy": with_numpy,
    }
    if installed("torch"):
        import torch

        tensor, targets = torch.from_numpy(logits).requires_grad_(), torch.from_numpy(labels)

        def with_torch() -> torch.Tensor:
            loss = torch.nn.functional.cross_entropy(tensor, targets)
            loss.item()
            return torch.autograd.grad(loss, tensor)[0]

        peers["PyTorch"] = with_torch
    if installed("jax"):
        import jax
        import jax.numpy as jnp

        def loss_of(logits, labels):
            return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1).mean()

        compiled, arrays = jax.jit(jax.value_and_grad(loss_of)), (jnp.asarray(logits), jnp.asarray(labels))
        peers["JAX"] = lambda: compiled(*arrays)[1].block_until_ready()
    return peers


# ---------------------------------------------------------------- clipping and statistics


def gradients(arrays: int, size: int) -> list[np.ndarray]:
    return list(np.random.default_rng(0).standard_normal((arrays, size), dtype=np.float32))


def limits(arrays: int, size: int) -> Callable[[], float]:
    """A bound that shrinks by 0.1 % per call, so that every call has to clip."""
    norm, call = float(np.sqrt(arrays * size)), count(1)
    return lambda: norm * 0.999 ** next(call)


def clip(arrays: int, size: int) -> dict[str, Run]:
    """Clip a list of arrays by their global norm, in place; the norms before are compared."""
    import gradcore

    ours, theirs = gradients(arrays, size), gradients(arrays, size)
    our_limit, their_limit = limits(arrays, size), limits(arrays, size)

    def with_numpy() -> float:
        norm = float(np.sqrt(sum(float(np.dot(g, g)) for g in theirs)))
        scale = np.float32(min(1.0, their_limit() / (norm + 1e-6)))
        for g in theirs:
            np.multiply(g, scale, out=g)
        return norm

    peers: dict[str, Run] = {
        "gradcore": lambda: gradcore.clip_grad_norm_(ours, our_limit()),
        "NumPy": with_numpy,
    }
    if installed("torch"):
        import torch

        limit, parameters = limits(arrays, size), []
        for g in gradients(arrays, size):
            parameters.append(torch.nn.Parameter(torch.empty(size)))
            parameters[-1].grad = torch.from_numpy(g)
        peers["PyTorch"] = lambda: torch.nn.utils.clip_grad_norm_(parameters, limit(), foreach=True)
    return peers


def statistics(arrays: int, size: int) -> dict[str, Run]:
    """Seven figures of each array: mean, std, norm, largest magnitude; zeros, non-finite, subnormal."""
    import gradcore

    data = gradients(arrays, size)
    tiny = np.finfo(np.float32).tiny

    def with_gradcore() -> list[tuple[float, ...]]:
        found = map(gradcore.statistics, data)
        return [(s.mean, s.std, s.norm, s.max_abs, s.zeros, s.infs + s.nans, s.subnormals) for s in found]

    def with_numpy() -> list[tuple[float, ...]]:
        figures = []
        for x in data:
            magnitude = np.abs(x)
            zeros = x.size - np.count_nonzero(x)
            figures.append(
                (
                    x.mean(),
                    x.std(),
                    np.sqrt(np.dot(x, x)),
                    magnitude.max(),
                    zeros,
                    x.size - np.count_nonzero(np.isfinite(x)),
                    np.count_nonzero(magnitude < tiny) - zeros,
                )
            )
        return figures

    return {"gradcore": with_gradcore, "NumPy": with_numpy}


def case(
    group: str, name: str, function: Callable[..., dict[str, Run]], *sizes: Any, large: bool = False
) -> ArrayCase:
    return ArrayCase(group, name, lambda: function(*sizes), large)


CASES = (
    *(case("activation", f"{name}, 1e5", activation, name, 100_000) for name in NUMPY_ACTIVATIONS),
    *(
        case("activation", f"{name}, 1e3", activation, name, 1000)
        for name in ("sigmoid", "tanh", "relu", "gelu")
    ),
    *(
        case("activation", f"{name}, 1e7", activation, name, 10_000_000, large=True)
        for name in ("sigmoid", "tanh", "relu", "gelu")
    ),
    *(
        case("activation backward", f"{name}, 1e5", activation_backward, name, 100_000)
        for name in ("sigmoid", "tanh", "relu")
    ),
    *(case("softmax", f"{r}×{c}", softmax, r, c) for r, c in ((32, 10), (256, 1000))),
    *(case("softmax", f"{r}×{c}", softmax, r, c, large=True) for r, c in ((1_000_000, 10), (512, 50_257))),
    *(case("cross entropy", f"{r}×{c}", cross_entropy, r, c) for r, c in ((32, 10), (256, 1000))),
    *(
        case("cross entropy", f"{r}×{c}", cross_entropy, r, c, large=True)
        for r, c in ((1_000_000, 10), (512, 50_257))
    ),
    *(case("clip", f"{n} of {size}", clip, n, size) for n, size in ((100, 10_000), (1000, 100))),
    case("clip", "10 of 10000000", clip, 10, 10_000_000, large=True),
    *(case("statistics", f"{n} of {size}", statistics, n, size) for n, size in ((100, 10_000), (1000, 100))),
    case("statistics", "10 of 10000000", statistics, 10, 10_000_000, large=True),
)
