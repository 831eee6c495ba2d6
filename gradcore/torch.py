"""PyTorch models under the same books and rules: ``gradcore.torch.diagnose`` and ``gradcore.torch.watch``.

On the CPU, for models of Linear, activation, norm and dropout modules (others are passed through and not booked).
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from gradcore.diagnosis.arrays import ArraysDiagnosis, LayerArrays, diagnose_arrays
from gradcore.diagnosis.diagnose import Diagnosis, diagnose as diagnose_network
from gradcore.errors import GradcoreWarning, check_integer
from gradcore.health.faults import Fault
from gradcore.layers import Activation, BatchNorm, Dense, Dropout, Layer
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

    A plain chain of Linear, activations, BatchNorm1d and Dropout under cross-entropy, binary cross-entropy with logits
    or mean squared error is rebuilt with the same weights, and the whole diagnosis follows: alternatives, causes and
    theory.
    That it is the same network is checked on the batch.  Of any other model one forward and backward pass is recorded,
    and the same rules look at that.

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
    chosen = _optimizer(optimizer)
    rebuilt = translate(model, X)
    loss = _loss_name(loss_fn)
    if rebuilt is not None and loss is not None:
        targets = y.detach().cpu().numpy()
        if loss == "binary_cross_entropy":
            targets = targets.reshape(len(targets), -1)
        return diagnose_network(
            rebuilt, _array(X), targets, loss=loss, optimizer=chosen, steps=steps, seed=seed
        )
    if steps:
        raise ValueError("steps needs a model that gradcore can rebuild: a plain chain and a known loss")
    with _untouched(model):
        recorder = _Recorder(model)
        try:
            value = loss_fn(model(X), y)
            value.backward()
            layers = recorder.layers()
        finally:
            recorder.remove()
    return diagnose_arrays(
        layers,
        loss=float(value.detach()),
        inputs=_array(X),
        targets=y.detach().cpu().numpy(),
        optimizer=chosen,
    )


class watch:
    """Keep books on a model while it is trained by a loop of your own.

    Every `every`-th forward pass in training mode is recorded with its backward pass; at the next forward pass, or when
    asked, the rules look at it.

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
        found = diagnose_arrays(layers, optimizer=self.optimizer)
        found.ledger.step = self.steps
        self._last = found
        self.ledgers.append(found.ledger)
        for fault in found.faults:
            if fault.kind not in known:
                self._tell(fault)

    def _tell(self, fault: Fault) -> None:
        told = Fault(
            fault.kind,
            fault.severity,
            fault.ops,
            fault.causes,
            {**fault.evidence, "step": self.steps},
            fault.advice,
        )
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


class _Recorder:
    """Hooks on the leaf modules that gradcore has a word for; they keep what one pass shows."""

    def __init__(self, model: nn.Module) -> None:
        self._calls: list[dict[str, Any]] = []
        self._handles: list[Any] = []
        self._gradients: dict[nn.Parameter, torch.Tensor] = {}
        for name, module in model.named_modules():
            kind = _kind(module)
            if kind is not None:
                hook = self._keep(name or type(module).__name__, module, kind)
                self._handles.append(module.register_forward_hook(hook))
        for parameter in model.parameters():
            if parameter.requires_grad:
                self._handles.append(parameter.register_hook(self._keep_gradient(parameter)))

    def _keep(self, name: str, module: nn.Module, kind: str) -> Callable[..., None]:
        def hook(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            if not inputs or not isinstance(inputs[0], torch.Tensor) or not isinstance(output, torch.Tensor):
                return
            # a module that works in place would overwrite what it read
            same = inputs[0] is output
            call = {
                "name": name,
                "module": module,
                "kind": kind,
                "output": output.detach().clone(),
                "delta": None,
            }
            call["input"] = None if same else inputs[0].detach().clone()
            if kind == "dense":  # as the pass read it: the optimizer has changed it when somebody asks
                call["weight"] = module.weight.detach().clone()
            self._calls.append(call)
            if output.requires_grad:
                output.register_hook(lambda gradient: call.update(delta=gradient.detach().clone()))

        return hook

    def _keep_gradient(self, parameter: nn.Parameter) -> Callable[[torch.Tensor], None]:
        # as it arrives: the loop may set gradients to zero before they are asked for
        def hook(gradient: torch.Tensor) -> None:
            self._gradients[parameter] = gradient.detach().clone()

        return hook

    def layers(self) -> list[LayerArrays]:
        """Return the ops in the order of the forward pass; a frozen parameter has no gradient to show."""
        result = []
        for call in self._calls:
            weight, bias = (getattr(call["module"], part, None) for part in ("weight", "bias"))
            gradients = [None if p is None else self._gradients.get(p) for p in (weight, bias)]
            dense = call["kind"] == "dense"
            result.append(
                LayerArrays(
                    call["name"],
                    call["kind"],
                    input=_array(call["input"]),
                    output=_array(call["output"]),
                    delta=_array(call["delta"]),
                    weight=_array(call.get("weight")),
                    weight_gradient=_array(gradients[0]) if dense else None,
                    bias_gradient=_array(gradients[1]) if dense else None,
                )
            )
        return result

    def remove(self) -> None:
        """Take the hooks off."""
        for handle in self._handles:
            handle.remove()


@contextmanager
def _untouched(model: nn.Module) -> Iterator[None]:
    """Put gradients, buffers and the state of the random generator back as they were."""
    gradients = [(p, p.grad) for p in model.parameters()]
    buffers = [(b, b.detach().clone()) for b in model.buffers()]
    state = torch.random.get_rng_state()
    for parameter, _ in gradients:
        parameter.grad = None
    try:
        with torch.enable_grad():
            yield
    finally:
        for parameter, gradient in gradients:
            parameter.grad = gradient
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)
        torch.random.set_rng_state(state)


# -- translation -----------------------------------------------------------------------------------------------------


def translate(model: nn.Module, X: torch.Tensor) -> Network | None:
    """Return the gradcore network with the same weights and names; None where the model is no plain chain.

    Whether it is one is not read from its code: the leaf modules in the order of their calls must make the same
    outputs.
    """
    calls: list[tuple[str, nn.Module]] = []
    handles = [
        module.register_forward_hook(lambda m, i, o, name=name: calls.append((name, m)))
        for name, module in model.named_modules()
        if not any(True for _ in module.children())
    ]
    training = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        with _untouched(model), torch.no_grad():
            outputs = model(X)
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in training:
            module.training = mode
    layers: list[Layer] = []
    names: list[str] = []
    kept: list[nn.Module] = []
    for name, module in calls:
        layer = _layer(module)
        if layer is None and not isinstance(module, nn.Identity | nn.Flatten):
            return None
        if layer is not None:
            layers.append(layer)
            names.append(name or type(module).__name__)
            kept.append(module)
    if (
        X.ndim != 2
        or not any(isinstance(layer, Dense) for layer in layers)
        or not isinstance(outputs, torch.Tensor)
    ):
        return None
    dtype = "float64" if outputs.dtype == torch.float64 else "float32"
    try:
        net = Network(layers, input_size=X.shape[1], dtype=dtype, seed=0)
        net.set_parameters(
            {f"{i}.{name}": value for i, m in enumerate(kept) for name, value in _parameters(m).items()}
        )
    except ValueError:
        return None
    tolerance = 1e-3 if dtype == "float32" else 1e-8
    expected = _array(outputs)
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
    if type(module) is nn.Dropout:
        return Dropout(module.p) if module.p < 1 else None
    spec = _activation(module)
    return Activation(spec) if spec is not None else None


def _activation(module: nn.Module) -> str | None:
    """Return the spec of an activation module; None for one that gradcore does not have."""
    plain = {nn.ReLU: "relu", nn.Tanh: "tanh", nn.Sigmoid: "sigmoid", nn.SELU: "selu"}
    if type(module) in plain:
        return plain[type(module)]
    if isinstance(module, nn.LeakyReLU):
        return f"leaky_relu({module.negative_slope})"
    if isinstance(module, nn.ELU):
        return f"elu({module.alpha})"
    if isinstance(module, nn.GELU) and module.approximate == "none":
        return "gelu"
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


def _loss_name(loss_fn: Any) -> str | None:
    """Return gradcore's name of a loss that it has; None for any other."""
    functional = nn.functional
    known: list[tuple[str, type[nn.Module], Any]] = [
        ("cross_entropy", nn.CrossEntropyLoss, functional.cross_entropy),
        ("binary_cross_entropy", nn.BCEWithLogitsLoss, functional.binary_cross_entropy_with_logits),
        ("mse", nn.MSELoss, functional.mse_loss),
    ]
    for name, module, function in known:
        if loss_fn is function:
            return name
        if isinstance(loss_fn, module):
            plain = getattr(loss_fn, "weight", None) is None and not getattr(loss_fn, "label_smoothing", 0.0)
            plain = plain and getattr(loss_fn, "pos_weight", None) is None
            if not plain or loss_fn.reduction not in ("mean", "sum"):
                return None
            return name if loss_fn.reduction == "mean" else f"{name}(reduction='sum')"
    return None


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
