"""The same training step written well in every library: one function each, one zero-argument callable back.

A call does one step and returns its loss.  All begin from the weights of the case, clip by the global norm
and use PyTorch's formulas, so that the losses agree step by step.  (scikit-learn draws its own weights and
cannot clip.)
"""

import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec

import numpy as np
from workloads import CLASSES, CLIP_NORM, LEARNING_RATE, MOMENTUM, StepCase

BETA1, BETA2, EPS = 0.9, 0.999, 1e-8

Step = Callable[[], float]


def gradcore_step(case: StepCase, *, ledger: bool = False) -> Step:
    """gradcore's stepper, on one thread; `ledger`: with the light ledger on every step."""
    import gradcore

    layers: list[object] = []
    for _ in range(case.depth):
        layers += [gradcore.Dense(case.width), case.activation]
    net = gradcore.Network([*layers, gradcore.Dense(CLASSES)], input_size=case.width)
    net.set_parameters({f"{2 * i}.weight": weight.T for i, weight in enumerate(case.weights())})
    optimizer = (
        gradcore.optimizers.SGD(lr=LEARNING_RATE, momentum=MOMENTUM)
        if case.optimizer == "sgd"
        else gradcore.optimizers.Adam(lr=LEARNING_RATE)
    )
    stepper = net.stepper(
        batch_size=case.batch,
        loss="cross_entropy",
        optimizer=optimizer,
        clip_norm=CLIP_NORM,
        probe=gradcore.Probe(every=1, level="light") if ledger else None,
        threads=1,
    )
    X, y = case.data()
    return lambda: stepper(X, y)


def numpy_step(case: StepCase) -> Step:
    """NumPy as its friends write it: one flat arena, nothing allocated per step, everything in place."""
    X, y = case.data()
    initial = case.weights()
    rows, depth = np.arange(case.batch), case.depth
    size = sum(weight.size + weight.shape[1] for weight in initial)
    parameters, gradients, velocity, square, scratch = np.zeros((5, size), np.float32)

    def views(arena: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        begin = 0
        for inputs, units in (weight.shape for weight in initial):
            middle, end = begin + inputs * units, begin + inputs * units + units
            yield arena[begin:middle].reshape(inputs, units), arena[middle:end]
            begin = end

    weights, biases = zip(*views(parameters), strict=True)
    d_weights, d_biases = zip(*views(gradients), strict=True)
    for weight, value in zip(weights, initial, strict=True):
        weight[...] = value
    transposed = [weight.T for weight in weights]
    a = [X] + [np.empty((case.batch, case.width), np.float32) for _ in range(depth)]
    a_transposed = [matrix.T for matrix in a]
    logits = np.empty((case.batch, CLASSES), np.float32)
    deltas = [np.empty((case.batch, case.width), np.float32) for _ in range(2)]
    slope, positive = np.empty_like(deltas[0]), np.empty(deltas[0].shape, bool)
    ones = np.ones(case.batch, np.float32)  # a product with ones is the fastest way to sum the rows
    steps = 0

    def activate(z: np.ndarray) -> None:
        if case.activation == "relu":
            np.maximum(z, 0, out=z)
        elif case.activation == "tanh":
            np.tanh(z, out=z)
        else:
            np.negative(z, out=z)
            np.exp(z, out=z)
            np.add(z, 1, out=z)
            np.reciprocal(z, out=z)

    def multiply_by_slope(delta: np.ndarray, a: np.ndarray) -> None:
        if case.activation == "relu":
            np.greater(a, 0, out=positive)
            np.multiply(delta, positive, out=delta)
        elif case.activation == "tanh":
            np.multiply(a, a, out=slope)
            np.subtract(1, slope, out=slope)
            np.multiply(delta, slope, out=delta)
        else:
            np.subtract(1, a, out=slope)
            np.multiply(slope, a, out=slope)
            np.multiply(delta, slope, out=delta)

    def step() -> float:
        nonlocal steps
        for i in range(depth):
            np.dot(a[i], weights[i], out=a[i + 1])
            np.add(a[i + 1], biases[i], out=a[i + 1])
            activate(a[i + 1])

        np.dot(a[depth], weights[depth], out=logits)
        np.add(logits, biases[depth], out=logits)
        np.subtract(logits, logits.max(axis=1, keepdims=True), out=logits)
        correct = logits[rows, y]
        np.exp(logits, out=logits)
        total = logits.sum(axis=1, keepdims=True)
        loss = float((np.log(total[:, 0]) - correct).mean())
        np.divide(logits, total, out=logits)
        logits[rows, y] -= 1
        np.multiply(logits, 1 / case.batch, out=logits)

        delta, spare = logits, deltas[0]
        for i in range(depth, -1, -1):
            np.dot(a_transposed[i], delta, out=d_weights[i])
            np.dot(ones, delta, out=d_biases[i])
            if i:
                np.dot(delta, transposed[i], out=spare)
                multiply_by_slope(spare, a[i])
                delta, spare = spare, deltas[1] if spare is deltas[0] else deltas[0]

        norm = float(np.sqrt(np.dot(gradients, gradients)))
        scale = min(1.0, CLIP_NORM / (norm + 1e-6))
        steps += 1
        if case.optimizer == "sgd":
            # velocity times rate: at a constant rate this is momentum with one pass less
            np.multiply(velocity, MOMENTUM, out=velocity)
            np.multiply(gradients, LEARNING_RATE * scale, out=gradients)
            np.add(velocity, gradients, out=velocity)
            np.subtract(parameters, velocity, out=parameters)
        else:
            np.multiply(gradients, scale, out=gradients)
            np.multiply(velocity, BETA1, out=velocity)
            np.multiply(gradients, 1 - BETA1, out=scratch)
            np.add(velocity, scratch, out=velocity)
            np.multiply(gradients, gradients, out=gradients)
            np.multiply(gradients, 1 - BETA2, out=gradients)
            np.multiply(square, BETA2, out=square)
            np.add(square, gradients, out=square)
            np.sqrt(square, out=scratch)
            np.multiply(scratch, (1 - BETA2**steps) ** -0.5, out=scratch)
            np.add(scratch, EPS, out=scratch)
            np.divide(velocity, scratch, out=scratch)
            np.multiply(scratch, LEARNING_RATE / (1 - BETA1**steps), out=scratch)
            np.subtract(parameters, scratch, out=parameters)
        return loss

    return step


def torch_eager_step(case: StepCase, implementation: str) -> Step:
    """PyTorch as its tutorials write it, with the optimizer's `fused` or `foreach` implementation."""
    import torch
    from torch import nn

    torch.set_num_threads(1)
    activation = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}[case.activation]
    layers: list[nn.Module] = []
    for weight in case.weights():
        dense = nn.Linear(*weight.shape)
        with torch.no_grad():
            dense.weight.copy_(torch.from_numpy(weight.T))
            dense.bias.zero_()
        layers += [dense, activation()]
    model = nn.Sequential(*layers[:-1])
    parameters = list(model.parameters())
    options = {implementation: True}
    optimizer = (
        torch.optim.SGD(parameters, LEARNING_RATE, momentum=MOMENTUM, **options)
        if case.optimizer == "sgd"
        else torch.optim.Adam(parameters, LEARNING_RATE, **options)
    )
    X, y = (torch.from_numpy(array) for array in case.data())

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = nn.functional.cross_entropy(model(X), y)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, CLIP_NORM, foreach=True)
        optimizer.step()
        return loss.item()

    return step


def torch_manual_step(case: StepCase) -> Step:
    """PyTorch without autograd: the flat arena and the in-place calls of the NumPy step, with its kernels."""
    import torch

    torch.set_num_threads(1)
    aten = torch.ops.aten
    X, y = (torch.from_numpy(array) for array in case.data())
    initial = [torch.from_numpy(weight) for weight in case.weights()]
    shapes = [size for weight in initial for size in (weight.shape, weight.shape[1:])]
    parameters, gradients, velocity, square = torch.zeros(4, sum(shape.numel() for shape in shapes))

    def views(arena: torch.Tensor) -> list[torch.Tensor]:
        pieces = arena.split([shape.numel() for shape in shapes])
        return [piece.view(shape) for piece, shape in zip(pieces, shapes, strict=True)]

    values, slopes = views(parameters), views(gradients)
    weights, biases, d_weights, d_biases = values[::2], values[1::2], slopes[::2], slopes[1::2]
    for weight, value in zip(weights, initial, strict=True):
        weight.copy_(value)
    depth, rows = case.depth, torch.arange(case.batch)
    a = [X] + [torch.empty(case.batch, case.width) for _ in range(depth)]
    logits = torch.empty(case.batch, CLASSES)
    deltas = [torch.empty(case.batch, case.width) for _ in range(2)]
    activate = {"relu": torch.relu_, "tanh": torch.tanh_, "sigmoid": torch.sigmoid_}[case.activation]
    steps = 0

    def multiply_by_slope(delta: torch.Tensor, a: torch.Tensor) -> None:
        if case.activation == "relu":
            aten.threshold_backward.grad_input(delta, a, 0, grad_input=delta)
        elif case.activation == "tanh":
            aten.tanh_backward.grad_input(delta, a, grad_input=delta)
        else:
            aten.sigmoid_backward.grad_input(delta, a, grad_input=delta)

    @torch.no_grad()
    def step() -> float:
        nonlocal steps
        for i in range(depth):
            torch.addmm(biases[i], a[i], weights[i], out=a[i + 1])
            activate(a[i + 1])
        torch.addmm(biases[depth], a[depth], weights[depth], out=logits)
        delta = torch.log_softmax(logits, 1)
        loss = -delta[rows, y].mean().item()
        delta.exp_()
        delta[rows, y] -= 1
        delta /= case.batch
        for i in range(depth, -1, -1):
            torch.mm(a[i].t(), delta, out=d_weights[i])
            torch.sum(delta, 0, out=d_biases[i])
            if i:
                spare = deltas[i % 2]
                torch.mm(delta, weights[i].t(), out=spare)
                multiply_by_slope(spare, a[i])
                delta = spare
        norm = torch.linalg.vector_norm(gradients).item()
        gradients.mul_(min(1.0, CLIP_NORM / (norm + 1e-6)))
        steps += 1
        if case.optimizer == "sgd":
            velocity.mul_(MOMENTUM).add_(gradients)
            parameters.add_(velocity, alpha=-LEARNING_RATE)
        else:
            velocity.lerp_(gradients, 1 - BETA1)
            square.mul_(BETA2).addcmul_(gradients, gradients, value=1 - BETA2)
            size = square.sqrt().mul_((1 - BETA2**steps) ** -0.5).add_(EPS)
            parameters.addcdiv_(velocity, size, value=-LEARNING_RATE / (1 - BETA1**steps))
        return loss

    return step


def jax_step(case: StepCase) -> Step:
    """JAX: the whole step in one jit, its state donated."""
    import jax
    import jax.numpy as jnp

    activation = {"relu": jax.nn.relu, "tanh": jnp.tanh, "sigmoid": jax.nn.sigmoid}[case.activation]
    map_trees = jax.tree_util.tree_map
    X, y = (jnp.asarray(array) for array in case.data())

    def loss_of(parameters, X, y):
        *hidden, (weight, bias) = parameters
        for inner_weight, inner_bias in hidden:
            X = activation(X @ inner_weight + inner_bias)
        chosen = jnp.take_along_axis(jax.nn.log_softmax(X @ weight + bias), y[:, None], axis=1)
        return -chosen.mean()

    def update(parameters, velocity, square, count, X, y):
        loss, gradients = jax.value_and_grad(loss_of)(parameters, X, y)
        norm = jnp.sqrt(sum(jnp.vdot(g, g) for g in jax.tree_util.tree_leaves(gradients)))
        scale = jnp.minimum(1.0, CLIP_NORM / (norm + 1e-6))
        gradients = map_trees(lambda g: scale * g, gradients)
        count = count + 1
        if case.optimizer == "sgd":
            velocity = map_trees(lambda v, g: MOMENTUM * v + g, velocity, gradients)
            parameters = map_trees(lambda p, v: p - LEARNING_RATE * v, parameters, velocity)
        else:
            velocity = map_trees(lambda v, g: BETA1 * v + (1 - BETA1) * g, velocity, gradients)
            square = map_trees(lambda s, g: BETA2 * s + (1 - BETA2) * g * g, square, gradients)
            rate, root = LEARNING_RATE / (1 - BETA1**count), 1 / jnp.sqrt(1 - BETA2**count)
            parameters = map_trees(
                lambda p, v, s: p - rate * v / (jnp.sqrt(s) * root + EPS), parameters, velocity, square
            )
        return parameters, velocity, square, count, loss

    compiled = jax.jit(update, donate_argnums=(0, 1, 2, 3))
    parameters = [(jnp.asarray(weight), jnp.zeros(weight.shape[1])) for weight in case.weights()]
    state = (
        parameters,
        map_trees(jnp.zeros_like, parameters),
        map_trees(jnp.zeros_like, parameters),
        jnp.zeros(()),
    )

    def step() -> float:
        nonlocal state
        *state, loss = compiled(*state, X, y)
        return float(loss)

    return step


SKLEARN_STEPS = 8  # in one call of partial_fit, so that its checks of the data weigh little


def sklearn_step(case: StepCase) -> Step:
    """scikit-learn's partial_fit over SKLEARN_STEPS batches; it draws its own weights and cannot clip."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    warnings.simplefilter("ignore", ConvergenceWarning)
    model = MLPClassifier(
        (case.width,) * case.depth,
        activation={"sigmoid": "logistic"}.get(case.activation, case.activation),
        solver=case.optimizer,
        alpha=0.0,
        batch_size=case.batch,
        learning_rate_init=LEARNING_RATE,
        momentum=MOMENTUM,
        nesterovs_momentum=False,
        shuffle=False,
        random_state=0,
    )
    X, y = (np.concatenate([array] * SKLEARN_STEPS) for array in case.data())
    model.partial_fit(X, y, classes=np.arange(CLASSES))

    def step() -> float:
        model.partial_fit(X, y)
        return float(model.loss_)

    return step


def step_peers(case: StepCase) -> dict[str, tuple[Callable[[], Step], int]]:
    """Every library that is installed: name → (builder of the callable, training steps in one call)."""
    peers: dict[str, tuple[Callable[[], Step], int]] = {
        "gradcore": (lambda: gradcore_step(case), 1),
        "NumPy": (lambda: numpy_step(case), 1),
    }
    if find_spec("torch"):
        peers["PyTorch fused"] = (lambda: torch_eager_step(case, "fused"), 1)
        peers["PyTorch foreach"] = (lambda: torch_eager_step(case, "foreach"), 1)
        peers["PyTorch by hand"] = (lambda: torch_manual_step(case), 1)
    if find_spec("jax"):
        peers["JAX jit"] = (lambda: jax_step(case), 1)
    if find_spec("sklearn"):
        peers["scikit-learn"] = (lambda: sklearn_step(case), SKLEARN_STEPS)
    return peers


def check_agreement(case: StepCase, name: str, step: Step, steps: int = 6) -> None:
    """Raise unless the losses of the first steps are those of the NumPy step.  Call on a fresh callable."""
    if name == "scikit-learn":  # other weights, no clipping: only its time is compared
        loss = step()
        assert np.isfinite(loss), f"{name}: loss {loss} on {case}"
        return
    opponent = numpy_step(case)
    expected = [opponent() for _ in range(steps)]
    found = [step() for _ in range(steps)]
    # Adam divides by the size of each gradient, so it carries the rounding of small ones to the front.
    tolerance = 1e-4 if case.optimizer == "sgd" else 2e-3
    np.testing.assert_allclose(found, expected, rtol=tolerance, err_msg=f"losses of {name} on {case}")
    assert expected[-1] != expected[0], f"{case} stands still: {expected}"
