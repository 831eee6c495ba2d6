"""PyTorch models under the same books and rules: ``gradcore.torch.diagnose`` and ``gradcore.torch.watch``.

On the CPU, for models of Linear, activation, norm and dropout modules.  Activations and residual sums that are no
modules are found by their numbers; what is left is passed through, and the report says where.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from gradcore import losses
from gradcore.diagnosis.arrays import ArraysDiagnosis, LayerArrays, diagnose_arrays
from gradcore.diagnosis.diagnose import Diagnosis, diagnose as diagnose_network
from gradcore.errors import GradcoreWarning, check_integer
from gradcore.health.faults import Fault
from gradcore.health.loss_curve import constant_loss
from gradcore.layers import Activation, BatchNorm, Dense, Dropout, Layer, LayerNorm
from gradcore.network import Network
from gradcore.optimizers import SGD, Adam, AdamW, Optimizer

try:
    import torch
    from torch import nn
except ImportError as error:  # pragma: no cover
    raise ImportError("gradcore.torch needs PyTorch: pip install torch") from error

Array = npt.NDArray[Any]

LEDGERS = 64  # that a watch keeps

_SPOILT = {"overflow", "invalid_data"}


def diagnose(
    model: nn.Module,
    loss_fn: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    batch: tuple[torch.Tensor, torch.Tensor],
    *,
    optimizer: torch.optim.Optimizer | str | Optimizer | None = None,
    steps: int = 0,
    seed: int = 0,
) -> Diagnosis | ArraysDiagnosis:
    """Say what keeps a PyTorch model from learning, where and why.  The model is never changed.

    A plain chain of Linear, activations, BatchNorm1d, LayerNorm and Dropout under cross-entropy, binary cross-
    entropy or mean squared error is rebuilt with the same weights, and the whole diagnosis follows: alternatives,
    causes and theory. That it is the same network and the same loss is checked by their numbers. Of any other
    model one forward and backward pass is recorded, and the same rules look at that; a frozen layer is booked with
    the gradient that it would have.

    Parameters
    ----------
    model : torch.nn.Module
    loss_fn : callable
        ``loss_fn(model(X), y)``.
    batch : (X, y)
        Tensors; as many rows as can be had (the rest of the data counts, too, where the model is rebuilt).
    optimizer : torch.optim.Optimizer, str or gradcore optimizer, optional
        What it is trained with; None means Adam.
    steps, seed : int
        As for `gradcore.diagnose`; steps only where the model can be rebuilt.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
    >>> X = torch.randn(200, 8)
    >>> diagnose(model, nn.CrossEntropyLoss(), (X, (X[:, 0] > 0).long())).healthy
    True
    """
    X, y = batch
    elsewhere = {str(t.device) for t in (X, y, *model.parameters()) if t.device.type != "cpu"}
    if elsewhere:
        raise ValueError(
            f"diagnose looks at models on the CPU, and this is on {elsewhere.pop()}; copy it there"
        )
    chosen = _optimizer(optimizer)
    with _untouched(model):
        rebuilt = _rebuilt(model, loss_fn, X, y)
        if rebuilt is not None:
            net, loss, targets = rebuilt
            return diagnose_network(
                net, _array(X), targets, loss=loss, optimizer=chosen, steps=steps, seed=seed
            )
        if steps:
            raise ValueError("steps needs a model that gradcore can rebuild: a plain chain and a known loss")
        return _recorded(model, loss_fn, X, y, chosen)


def _recorded(
    model: nn.Module, loss_fn: Callable[..., torch.Tensor], X: torch.Tensor, y: torch.Tensor, optimizer: Any
) -> ArraysDiagnosis:
    """Return what the rules say of one forward and backward pass."""
    # gradients with respect to the input reach the layers that are frozen, too
    leaf = X.detach().clone().requires_grad_(X.is_floating_point())
    wanted = [tensor for tensor in (leaf, *model.parameters()) if tensor.requires_grad]
    recorder = _Recorder(model)
    try:
        outputs = model(leaf.clone())
        value = loss_fn(outputs, y)
        # not backward(): that adds to .grad, and lets hooks step optimizers
        torch.autograd.grad(value, wanted, allow_unused=True)
    finally:
        recorder.remove()
    layers, aside = recorder.layers(), recorder.aside()
    known = _known_loss(loss_fn, outputs, y) if isinstance(outputs, torch.Tensor) else None
    constant: float | None
    if known is not None:
        name, _, reduction = known[0].partition("(reduction='")
        constant = constant_loss(name, known[1], reduction=reduction.rstrip("')") or "mean")
    else:
        constant = _least_constant_loss(loss_fn, outputs, y)
    found = diagnose_arrays(
        layers, loss=float(value.detach()), inputs=_array(X), targets=y.detach().cpu().numpy(),
        constant_loss=constant, optimizer=optimizer,
    )  # fmt: skip
    return replace(
        found, unseen=(*found.unseen, *(f"{name}, which does not reach the loss" for name in aside))
    )


class watch:
    """Keep books on a model while it is trained by a loop of your own.

    Every `every`-th forward pass in training mode is recorded with its backward pass; at the next forward pass, or when
    asked, the rules look at it.  Under a cross-entropy, which the delta of the outputs gives away, all rules do; under
    other losses, which a watch does not see, those whose faults are certain.

    Parameters
    ----------
    model : torch.nn.Module
    every : int
        A step that is recorded costs a few passes over its activations; the others cost a hook each.
    optimizer : torch.optim.Optimizer, str or gradcore optimizer, optional
    on_fault : callable, optional
        Called with each fault; None: a `GradcoreWarning`, once for each kind.

    Attributes
    ----------
    faults : list of Fault
        Each kind once, at the step where it was first seen (``fault.evidence["step"]``).
    ledgers : deque of Ledger
        The last 64.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
    >>> with watch(model, every=2) as books:
    ...     for _ in range(4):
    ...         model(torch.randn(32, 8)).square().mean().backward()
    >>> len(books.ledgers), books.faults
    (2, [])
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        every: int = 10,
        optimizer: torch.optim.Optimizer | str | Optimizer | None = None,
        on_fault: Callable[[Fault], Any] | None = None,
    ) -> None:
        self.model, self.every, self.on_fault = model, check_integer("every", every), on_fault
        self.optimizer = _optimizer(optimizer)
        self.faults: list[Fault] = []
        self.ledgers: deque[Any] = deque(maxlen=LEDGERS)
        self.steps = 0
        self._last: ArraysDiagnosis | None = None
        self._recorder: _Recorder | None = None
        self._handle: Any = model.register_forward_pre_hook(self._begin)

    def _begin(self, model: nn.Module, inputs: Any) -> None:
        self._finish()
        if not model.training or not torch.is_grad_enabled():
            return
        self.steps += 1
        if (self.steps - 1) % self.every == 0:
            self._recorder = _Recorder(model)

    def _finish(self) -> None:
        """Let the rules look at the step that was recorded last."""
        recorder, self._recorder = self._recorder, None
        if recorder is None:
            return
        recorder.remove()
        known = {fault.kind for fault in self.faults}
        if known & _SPOILT:
            return  # what comes after the first number that is not finite comes from it
        layers = recorder.layers()
        if not any(layer.kind == "dense" for layer in layers):
            return
        found = diagnose_arrays(layers, optimizer=self.optimizer, foresee=False)
        found.ledger.step = self.steps
        self._last = found
        self.ledgers.append(found.ledger)
        for fault in found.faults:
            if fault.kind not in known:
                self._tell(fault)

    def _tell(self, fault: Fault) -> None:
        told = replace(fault, evidence={**fault.evidence, "step": self.steps})
        self.faults.append(told)
        if self.on_fault is not None:
            self.on_fault(told)
        else:
            where = ", ".join(told.ops[:3]) + (" …" if len(told.ops) > 3 else "")
            warnings.warn(
                f"step {self.steps}: {told.title.lower()} in {where}", GradcoreWarning, stacklevel=2
            )

    def report(self) -> str:
        """Return what was found in the last step that was recorded, and its books."""
        self._finish()
        return "no step was recorded yet" if self._last is None else f"{self._last}\n\n{self._last.ledger}"

    def remove(self) -> None:
        """Take all hooks off the model."""
        if self._handle is not None:
            self._finish()
            self._handle.remove()
            self._handle = None

    def __enter__(self) -> watch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()


# -- recording -------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class _Call:
    """What one call of a module shows."""

    name: str
    module: nn.Module
    kind: str
    input: torch.Tensor
    weight: torch.Tensor | None = None
    output: torch.Tensor | None = None
    delta: torch.Tensor | None = None
    input_delta: torch.Tensor | None = None

    def arrays(self) -> LayerArrays:
        """Return it for the rules; weight gradients by the chain rule, as autograd computes them for this call."""
        gradient = bias = None
        if self.weight is not None and self.delta is not None:
            delta, read = (x.reshape(-1, x.shape[-1]) for x in (self.delta, self.input))
            gradient = delta.T @ read
            bias = delta.sum(0) if self.module.bias is not None else None
        return LayerArrays(
            self.name, self.kind, _array(self.input), _array(self.output), _array(self.delta), _array(self.weight),
            _array(gradient), _array(bias), _array(self.input_delta),
        )  # fmt: skip


class _Recorder:
    """Hooks on the modules that gradcore has a word for; they keep what one pass shows."""

    def __init__(self, model: nn.Module) -> None:
        self._calls: list[_Call] = []
        self._open: dict[nn.Module, _Call] = {}
        # the last output with its version: in place, the next module may overwrite it
        self._last: tuple[torch.Tensor, int, torch.Tensor] | None = None
        self._handles: list[Any] = []
        for name, module in model.named_modules():
            kind = _kind(module)
            if kind is not None:
                begin, end = self._hooks(name or type(module).__name__, kind)
                self._handles += [
                    module.register_forward_pre_hook(begin),
                    module.register_forward_hook(end),
                ]

    def _hooks(self, name: str, kind: str) -> tuple[Callable[..., None], Callable[..., None]]:
        def begin(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            if not inputs or not isinstance(inputs[0], torch.Tensor):
                return
            tensor, last = inputs[0], self._last
            same = last is not None and tensor is last[0] and tensor._version == last[1]
            kept = last[2] if last is not None and same else tensor.detach().clone()
            # as the pass reads it: the optimizer has changed it when somebody asks
            weight = module.weight.detach().clone() if kind == "dense" else None
            call = self._open[module] = _Call(name, module, kind, kept, weight)
            if tensor.requires_grad and not same:
                tensor.register_hook(lambda g: setattr(call, "input_delta", g.detach().clone()))

        def end(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            if module not in self._open:  # the model itself, whose call began before there were hooks
                begin(module, inputs)
            call = self._open.pop(module, None)
            if call is None or not isinstance(output, torch.Tensor):
                return
            call.output = output.detach().clone()
            self._last = output, output._version, call.output
            self._calls.append(call)
            if output.requires_grad:
                output.register_hook(lambda g: setattr(call, "delta", g.detach().clone()))

        return begin, end

    def layers(self) -> list[LayerArrays]:
        """Return the ops in the order of the forward pass, without those that the loss does not depend on."""
        return [call.arrays() for call in self._calls if call.delta is not None or not self._passed_back]

    def aside(self) -> list[str]:
        """Name the ops that the loss does not depend on."""
        return [call.name for call in self._calls if call.delta is None and self._passed_back]

    @property
    def _passed_back(self) -> bool:
        return any(call.delta is not None for call in self._calls)

    def remove(self) -> None:
        """Take the hooks off."""
        self._last = None
        for handle in self._handles:
            handle.remove()


@contextmanager
def _untouched(model: nn.Module) -> Iterator[None]:
    """Put buffers, modes and the state of the random generator back as they were."""
    modules = [
        (m, m.training, dict(m._buffers), {k: b.clone() for k, b in m._buffers.items() if b is not None})
        for m in model.modules()
    ]
    state = torch.random.get_rng_state()
    try:
        with torch.enable_grad():
            yield
    finally:
        for module, training, buffers, values in modules:
            module.training = training
            # a model may write into a buffer, or put another one in its place
            module._buffers.update(buffers)
            with torch.no_grad():
                for name, value in values.items():
                    if not torch.equal(buffers[name], value):
                        buffers[name].copy_(value)
        torch.random.set_rng_state(state)


# -- translation -----------------------------------------------------------------------------------------------------


def translate(model: nn.Module, X: torch.Tensor) -> Network | None:
    """Return the gradcore network with the same weights and names; None where the model is no plain chain.

    Whether it is one is not read from its code: the leaf modules in the order of their calls must make the same
    outputs.
    """
    with _untouched(model):
        return _network(_trail(model, X), X)


# name, module, whether it trains, output
_Trail = list[tuple[str, nn.Module, bool, torch.Tensor]]


def _rebuilt(
    model: nn.Module, loss_fn: Callable[..., torch.Tensor], X: torch.Tensor, y: torch.Tensor
) -> tuple[Network, str, Array] | None:
    """Return network, loss and targets that gradcore has for all of this; None where it has none."""
    trail = _trail(model, X)
    if not trail:
        return None
    net, outputs = _network(trail, X), trail[-1][-1]
    known = None if net is None else _known_loss(loss_fn, outputs, y)
    last = trail[-1][1]
    if known is None and isinstance(last, nn.Sigmoid | nn.LogSoftmax) and len(trail) > 1:
        # gradcore's losses take logits: what BCELoss and NLLLoss have in front of them belongs to the loss
        net, outputs = _network(trail[:-1], X), trail[-2][-1]
        known = None if net is None else _known_loss(lambda z, t: loss_fn(last(z), t), outputs, y)
    return None if net is None or known is None else (net, *known)


def _trail(model: nn.Module, X: torch.Tensor) -> _Trail:
    """Return the calls of leaf modules in inference mode; empty where the last one's output is not the model's."""
    trail: _Trail = []
    modes = {module: module.training for module in model.modules()}

    def hook(name: str) -> Callable[..., None]:
        return lambda module, _, output: trail.append((name, module, modes[module], output))

    handles = [
        module.register_forward_hook(hook(name or type(module).__name__))
        for name, module in model.named_modules()
        if not any(True for _ in module.children())
    ]
    try:
        model.eval()
        with torch.no_grad():
            outputs = model(X.detach())
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes.items():
            module.training = mode
    same = bool(trail) and isinstance(outputs, torch.Tensor) and outputs is trail[-1][-1]
    return trail if same else []


def _network(trail: _Trail, X: torch.Tensor) -> Network | None:
    """Return the network of these modules, if it makes the same outputs."""
    layers: list[Layer] = []
    names: list[str] = []
    parameters: dict[str, Array] = {}
    for name, module, trains, _ in trail:
        layer = _layer(module)
        if isinstance(module, nn.Identity | nn.Flatten) or (isinstance(layer, Dropout) and not trains):
            continue
        if layer is None or (isinstance(layer, BatchNorm) and not trains):
            return None
        parameters |= {f"{len(layers)}.{part}": value for part, value in _parameters(module).items()}
        layers.append(layer)
        names.append(name)
    if X.ndim != 2 or not any(isinstance(layer, Dense) for layer in layers):
        return None
    expected = _array(trail[-1][-1])
    dtype = expected.dtype
    try:
        net = Network(layers, input_size=X.shape[1], dtype=dtype, seed=0)
        net.set_parameters(parameters)
    except ValueError:
        return None
    tolerance = 1e-3 if dtype == np.float32 else 1e-8
    if expected.shape != (len(X), net.output_size):
        return None
    if not np.allclose(net.forward(_array(X)), expected, rtol=tolerance, atol=tolerance, equal_nan=True):
        return None
    # faults then name the modules
    net.plan = replace(net.plan, names=tuple(names[path[0]] for path in net.plan.layer_index))
    return net


def _layer(module: nn.Module) -> Layer | None:
    """Return the gradcore layer that does what a module does."""
    if isinstance(module, nn.Linear):
        return Dense(module.out_features, use_bias=module.bias is not None)
    if (
        isinstance(module, nn.BatchNorm1d)
        and module.affine
        and module.track_running_stats
        and module.momentum is not None
    ):
        return BatchNorm(momentum=module.momentum, eps=module.eps)
    if isinstance(module, nn.LayerNorm) and module.elementwise_affine and len(module.normalized_shape) == 1:
        return LayerNorm(eps=module.eps)
    if type(module) is nn.Dropout:
        return Dropout(module.p) if module.p < 1 else None
    spec = _activation(module)
    return Activation(spec) if spec is not None else None


_PLAIN = {
    nn.ReLU: "relu", nn.Tanh: "tanh", nn.Sigmoid: "sigmoid", nn.SELU: "selu", nn.ReLU6: "relu6", nn.SiLU: "silu",
    nn.Mish: "mish", nn.Softsign: "softsign", nn.LogSigmoid: "log_sigmoid", nn.Hardsigmoid: "hard_sigmoid",
    nn.Hardswish: "hard_silu",
}  # fmt: skip


def _activation(module: nn.Module) -> str | None:
    """Return the spec of an activation module; None for one that gradcore does not have."""
    if type(module) in _PLAIN:
        return _PLAIN[type(module)]
    if isinstance(module, nn.LeakyReLU):
        return f"leaky_relu({module.negative_slope})"
    if isinstance(module, nn.ELU):
        return f"elu({module.alpha})"
    if isinstance(module, nn.CELU) and module.alpha > 0:
        return f"celu({module.alpha})"
    if isinstance(module, nn.GELU):
        return {"none": "gelu", "tanh": "gelu_tanh"}.get(module.approximate)
    if type(module) is nn.Hardtanh and (module.min_val, module.max_val) == (-1, 1):
        return "hard_tanh"
    if isinstance(module, nn.Softplus) and module.beta == 1 and module.threshold >= 20:
        return "softplus"
    return "softmax" if isinstance(module, nn.Softmax) and module.dim in (1, -1) else None


def _kind(module: nn.Module) -> str | None:
    """Return the kind of op that a module is booked as."""
    if isinstance(module, nn.Linear):
        return "dense"
    norms = (nn.BatchNorm1d, nn.LayerNorm, nn.GroupNorm)
    if isinstance(module, norms):
        return "norm"
    if type(module) is nn.Dropout:
        return "dropout"
    spec = _activation(module)
    return None if spec == "softmax" else spec


def _parameters(module: nn.Module) -> dict[str, Array]:
    names = {"weight": "weight", "bias": "bias"}
    if isinstance(module, nn.LayerNorm):
        names = {"weight": "gamma", "bias": "beta"}
    if isinstance(module, nn.BatchNorm1d):
        names = {
            "weight": "gamma",
            "bias": "beta",
            "running_mean": "running_mean",
            "running_var": "running_var",
        }
    found = {ours: getattr(module, theirs, None) for theirs, ours in names.items()}
    return {name: _array(value) for name, value in found.items() if value is not None}


def _array(tensor: Any) -> Any:
    if tensor is None:
        return None
    plain = tensor.detach().cpu()
    return (plain if plain.dtype in (torch.float32, torch.float64) else plain.float()).numpy()


def _known_loss(
    loss_fn: Callable[..., torch.Tensor], outputs: torch.Tensor, y: torch.Tensor
) -> tuple[str, Array] | None:
    """Return the loss of gradcore's, and its targets, that has the same value and gradient; None where none has.

    Compared on outputs drawn at random: the model's own may be too large or too alike to tell losses apart.  Between 0
    and 1, where every loss is defined.
    """
    plain = np.random.default_rng(0).uniform(size=tuple(outputs.shape)).astype(_array(outputs).dtype)
    free = torch.from_numpy(plain).requires_grad_()
    value = loss_fn(free, y)
    (gradient,) = torch.autograd.grad(value, free, allow_unused=True)
    if gradient is None or value.ndim:
        return None
    given = y.detach().cpu().numpy()
    values = given.reshape(len(given), -1).astype(plain.dtype)
    for name, function, targets in (
        ("cross_entropy", losses.cross_entropy, given),
        ("binary_cross_entropy", losses.binary_cross_entropy, values),
        ("mse", losses.mse, values),
    ):
        for reduction in ("mean", "sum"):
            try:
                ours, delta = function(plain, targets, reduction=reduction, return_grad=True)
            except (TypeError, ValueError):
                continue  # not targets of this loss
            if np.isclose(ours, float(value.detach()), rtol=1e-4) and np.allclose(
                delta, gradient.numpy(), rtol=1e-3, atol=1e-6 * float(np.abs(delta).max(initial=0.0))
            ):
                return name if reduction == "mean" else f"{name}(reduction='sum')", targets
    return None


def _least_constant_loss(loss_fn: Callable[..., torch.Tensor], outputs: Any, y: torch.Tensor) -> float | None:
    """Return the least loss that the same outputs for every row can have; None where that is not found."""
    if not isinstance(outputs, torch.Tensor):
        return None
    constant = torch.zeros_like(outputs[:1]).detach().requires_grad_()
    search = torch.optim.LBFGS([constant], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> float:
        value = loss_fn(constant.expand_as(outputs), y)
        (constant.grad,) = torch.autograd.grad(value, constant)
        return float(value.detach())

    search.step(closure)
    found = closure()
    return found if np.isfinite(found) else None


def _optimizer(optimizer: torch.optim.Optimizer | str | Optimizer | None) -> str | Optimizer:
    """Return gradcore's optimizer with the settings of a torch one (of its first group)."""
    if optimizer is None:
        return "adam"
    if not isinstance(optimizer, torch.optim.Optimizer):
        return optimizer
    group = optimizer.param_groups[0]
    decay = float(group.get("weight_decay", 0.0))
    if isinstance(optimizer, torch.optim.SGD):
        momentum = float(group["momentum"])
        return SGD(float(group["lr"]), momentum, bool(group["nesterov"]) and momentum > 0, decay)
    for theirs, ours in ((torch.optim.AdamW, AdamW), (torch.optim.Adam, Adam)):
        if isinstance(optimizer, theirs):
            return ours(
                float(group["lr"]),
                (float(group["betas"][0]), float(group["betas"][1])),
                float(group["eps"]),
                decay,
            )
    raise TypeError(
        f"gradcore knows SGD, Adam and AdamW, got {type(optimizer).__name__}; "
        "name the one that is nearest, such as optimizer='adam(0.001)'"
    )
