"""Fifty steps beside PyTorch, in float64 from the same weights, with smooth activations."""

import numpy as np
import pytest

from gradcore import BatchNorm, Dense, LayerNorm, Network
from gradcore.optimizers import resolve

torch = pytest.importorskip("torch")

STEPS, ROWS = 50, 16
ACTIVATIONS = {
    "tanh": torch.nn.Tanh,
    "sigmoid": torch.nn.Sigmoid,
    "gelu": torch.nn.GELU,
    "elu": torch.nn.ELU,
    "selu": torch.nn.SELU,
    "celu(0.5)": lambda: torch.nn.CELU(0.5),  # PyTorch rounds alpha to float32
    "gelu_tanh": lambda: torch.nn.GELU(approximate="tanh"),
    "silu": torch.nn.SiLU,
    "mish": torch.nn.Mish,
    "softplus": lambda: torch.nn.Softplus(threshold=40),
    "log_sigmoid": torch.nn.LogSigmoid,
    "softsign": torch.nn.Softsign,
}
OPTIMIZERS = {
    "sgd(0.01)": lambda p: torch.optim.SGD(p, 0.01),
    "sgd(0.1)": lambda p: torch.optim.SGD(p, 0.1),
    "sgd(0.1, momentum=0.9)": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9),
    "sgd(0.05, momentum=0.9, nesterov=True)": lambda p: torch.optim.SGD(p, 0.05, momentum=0.9, nesterov=True),
    "sgd(0.1, momentum=0.5, weight_decay=0.01)": lambda p: torch.optim.SGD(
        p, 0.1, momentum=0.5, weight_decay=0.01
    ),
    "adam(0.01)": lambda p: torch.optim.Adam(p, 0.01),
    "adam(0.01, betas=(0.8, 0.99), eps=1e-6, weight_decay=0.1)": lambda p: torch.optim.Adam(
        p, 0.01, betas=(0.8, 0.99), eps=1e-6, weight_decay=0.1
    ),
    "sgd(0.1, momentum=0.5, weight_decay=0.01, l1=0.003)": lambda p: torch.optim.SGD(
        p, 0.1, momentum=0.5, weight_decay=0.01
    ),
    "adam(0.01, l1=0.003)": lambda p: torch.optim.Adam(p, 0.01),
    "adamw(0.01, weight_decay=0.1, l1=0.003)": lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.1),
    "adamw(0.01, weight_decay=0.1)": lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.1),
}
LOSSES = {
    "cross_entropy": torch.nn.functional.cross_entropy,
    "binary_cross_entropy": torch.nn.functional.binary_cross_entropy_with_logits,
    "mse": torch.nn.functional.mse_loss,
    "mae": torch.nn.functional.l1_loss,
    "huber(delta=0.7)": lambda o, t: torch.nn.functional.huber_loss(o, t, delta=0.7),
    "poisson": torch.nn.functional.poisson_nll_loss,
    "gaussian_nll": lambda o, t: torch.nn.functional.gaussian_nll_loss(
        o[:, :2], t, o[:, 2:].exp(), eps=1e-30
    ),
    "quantile(q=0.8)": lambda o, t: torch.maximum(0.8 * (t - o), 0.2 * (o - t)).mean(),
    "cross_entropy(label_smoothing=0.1)": lambda o, t: torch.nn.functional.cross_entropy(
        o, t, label_smoothing=0.1
    ),
}


def pair(activation="tanh", *, norm=False, outputs=4):
    """The same network twice."""
    # a bias before batch norm has no gradient but rounding, which Adam turns into whole steps
    norms = {True: [BatchNorm(momentum=0.2)], "layer": [LayerNorm(eps=1e-3)], False: []}[norm]
    hidden = [Dense(10, use_bias=norm is not True), *norms, activation]
    net = Network([*hidden, *hidden, Dense(outputs)], input_size=6, dtype="float64", seed=0)
    modules, width = [], 6
    for layer in net.layers:
        if isinstance(layer, Dense):
            modules.append(torch.nn.Linear(width, layer.units, bias=layer.use_bias))
            width = layer.units
        elif isinstance(layer, BatchNorm):
            modules.append(torch.nn.BatchNorm1d(width, eps=layer.eps, momentum=layer.momentum))
        elif isinstance(layer, LayerNorm):
            modules.append(torch.nn.LayerNorm(width, eps=layer.eps))
        else:
            modules.append(ACTIVATIONS[activation]())
    model = torch.nn.Sequential(*modules).double()
    rng = np.random.default_rng(1)
    start = {name: array + 0.1 * rng.normal(size=array.shape) for name, array in net.get_parameters().items()
             if "running" not in name}  # fmt: skip
    net.set_parameters(start)
    model.load_state_dict(
        {_torch_name(name): torch.from_numpy(array) for name, array in start.items()}, strict=False
    )
    return net, model


def _torch_name(name):
    return name.replace("gamma", "weight").replace("beta", "bias")


def batches(loss, outputs=4):
    rng = np.random.default_rng(2)
    X = rng.normal(size=(STEPS * ROWS, 6))
    name = loss.partition("(")[0]
    if name == "poisson":
        return X, rng.poisson(2.0, (STEPS * ROWS, outputs)).astype(float)
    y = {
        "cross_entropy": rng.integers(0, outputs, STEPS * ROWS),
        "binary_cross_entropy": rng.random((STEPS * ROWS, outputs)),
    }.get(name, rng.normal(size=(STEPS * ROWS, outputs // 2 if name == "gaussian_nll" else outputs)))
    return X, y


def train(model, X, y, optimizer, loss, clip=None, l1=0.0):
    """Fifty steps of PyTorch; its own clipping divides by the norm + 1e-6, ours by the norm, and l1 it has none."""
    for at in range(0, len(X), ROWS):
        optimizer.zero_grad()
        value = LOSSES[loss](model(torch.from_numpy(X[at : at + ROWS])), torch.from_numpy(y[at : at + ROWS]))
        value.backward()
        gradients = [p.grad for p in model.parameters()]
        if clip and "clip_norm" in clip:
            norm = torch.linalg.vector_norm(torch.cat([g.ravel() for g in gradients]))
            for gradient in gradients:
                gradient *= min(1.0, clip["clip_norm"] / norm)
        if clip and "clip_value" in clip:
            torch.nn.utils.clip_grad_value_(model.parameters(), clip["clip_value"])
        if clip and "clip_adaptive" in clip:
            clip_adaptive(model, clip["clip_adaptive"])
        for p in model.parameters():
            p.grad += l1 * p.detach().sign()
        optimizer.step()


def clip_adaptive(model, factor):
    """Brock et al. (2021), in the few lines that many PyTorch projects have."""
    *hidden, _ = [m for m in model if list(m.parameters())]
    for p in [p for module in hidden for p in module.parameters()]:
        dim = 1 if p.ndim > 1 else 0
        size = p.detach().norm(dim=dim, keepdim=True).clamp(min=1e-3)
        bound = factor * size / p.grad.norm(dim=dim, keepdim=True)
        p.grad *= bound.clamp(max=1.0)


def assert_same(net, model):
    theirs = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    for name, mine in net.get_parameters().items():
        other = theirs[_torch_name(name)]
        assert np.linalg.norm(mine - other) <= 1e-10 * np.linalg.norm(other), name


def compare(net, model, optimizer, loss="cross_entropy", **clip):
    X, y = batches(loss)
    net.fit(X, y, loss=loss, optimizer=optimizer, epochs=1, batch_size=ROWS, shuffle=False, **clip)
    train(model, X, y, OPTIMIZERS[optimizer](model.parameters()), loss, clip, resolve(optimizer).l1)
    assert net.history.steps == STEPS
    assert_same(net, model)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_optimizers(optimizer):
    compare(*pair(), optimizer)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations(activation):
    compare(*pair(activation), "adam(0.01)")


@pytest.mark.parametrize("loss", LOSSES)
def test_losses(loss):
    rate = "sgd(0.01)" if loss in ("poisson", "gaussian_nll") else "sgd(0.1, momentum=0.9)"
    compare(*pair(), rate, loss)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_class_weights(reduction):
    net, model = pair()
    X, y = batches("cross_entropy")
    weight, spec = [0.5, 2.0, 0.0, 1.0], f"cross_entropy(reduction={reduction!r})"
    net.fit(
        X, y, loss=spec, class_weight=weight, optimizer="sgd(0.01)", epochs=1, batch_size=ROWS, shuffle=False
    )
    loss_of = torch.nn.CrossEntropyLoss(torch.tensor(weight).double(), reduction=reduction)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    for at in range(0, len(X), ROWS):
        optimizer.zero_grad()
        loss_of(model(torch.from_numpy(X[at : at + ROWS])), torch.from_numpy(y[at : at + ROWS])).backward()
        optimizer.step()
    assert_same(net, model)


@pytest.mark.parametrize(
    "clip", [{"clip_norm": 0.05}, {"clip_norm": 100.0}, {"clip_value": 0.003}, {"clip_adaptive": 0.02}]
)
@pytest.mark.parametrize("optimizer", ["sgd(0.1, momentum=0.9)", "adam(0.01)"])
def test_clipping(optimizer, clip):
    compare(*pair(), optimizer, **clip)


@pytest.mark.parametrize("optimizer", ["sgd(0.1, momentum=0.9)", "adam(0.01)"])
def test_layer_norm(optimizer):
    compare(*pair(norm="layer"), optimizer)


def test_layer_norm_forward_and_backward():
    net, model = pair(norm="layer")
    X, y = batches("mse")
    torch.nn.functional.mse_loss(model(torch.from_numpy(X)), torch.from_numpy(y)).backward()
    loss, gradients = net.loss_and_gradients(X, y)
    with torch.no_grad():
        expected = model(torch.from_numpy(X)).numpy()
    np.testing.assert_allclose(net.forward(X), expected, rtol=0, atol=1e-12 * np.abs(expected).max())
    assert loss == pytest.approx(((expected - y) ** 2).mean(), rel=1e-12)
    for name, parameter in model.named_parameters():
        ours = next(g for n, g in gradients.items() if _torch_name(n) == name)
        np.testing.assert_allclose(
            ours, parameter.grad.numpy(), rtol=0, atol=1e-12 * float(parameter.grad.abs().max())
        )


@pytest.mark.parametrize("optimizer", ["sgd(0.1, momentum=0.9)", "adam(0.01)"])
@pytest.mark.parametrize("clip", [{}, {"clip_adaptive": 0.02}])
def test_batch_norm(optimizer, clip):
    net, model = pair(norm=True)
    compare(net, model, optimizer, **clip)
    X, _ = batches("mse")
    model.eval()
    with torch.no_grad():
        expected = model(torch.from_numpy(X)).numpy()
    np.testing.assert_allclose(net.forward(X), expected, rtol=0, atol=1e-10 * np.abs(expected).max())
