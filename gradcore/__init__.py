"""gradcore: trains dense networks fast on the CPU and says where, and why, their gradients vanish or explode.

Nothing but NumPy and the kernels is imported before it is used; the types of the names below stand in
``__init__.pyi``.
"""

from importlib import import_module
from typing import Any

from gradcore import kernels as kernels

__version__ = "0.1.0"

# public name -> the module it comes from; a name that is its own module's is the module
_HOME = {
    "Activation": "layers",
    "BatchNorm": "layers",
    "LayerNorm": "layers",
    "Dense": "layers",
    "Diagnosis": "diagnosis.diagnose",
    "Dropout": "layers",
    "FaultError": "errors",
    "GradcoreWarning": "errors",
    "History": "training.history",
    "Network": "network",
    "Prescription": "prescription.result",
    "Probe": "health.probe",
    "Residual": "layers",
    "Statistics": "array_statistics",
    "Stepper": "stepper",
    "activations": "activations",
    "callbacks": "callbacks",
    "check_gradients": "gradients",
    "clip_grad_adaptive_": "clipping",
    "clip_grad_norm_": "clipping",
    "clip_grad_value_": "clipping",
    "datasets": "datasets",
    "diagnose": "diagnosis.diagnose",
    "diagnose_arrays": "diagnosis.arrays",
    "find_learning_rate": "training.rates",
    "fit_many": "training.many",
    "grad_norm": "clipping",
    "initializers": "initializers",
    "load": "saving",
    "losses": "losses",
    "mlp": "network",
    "optimizers": "optimizers",
    "pretrain_autoencoder": "training.pretraining",
    "prescribe": "prescription.prescribe",
    "schedules": "schedules",
    "set_threads": "threads",
    "softmax": "softmaxes",
    "statistics": "array_statistics",
    "theory": "health.theory",
    "torch": "torch",
}

__all__ = ["__version__", "kernels", *_HOME]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for."""
    if name not in _HOME:
        raise AttributeError(f"module 'gradcore' has no attribute {name!r}")
    module = import_module(f"gradcore.{_HOME[name]}")
    value = (
        module
        if _HOME[name].rpartition(".")[2] == name and not hasattr(module, name)
        else getattr(module, name)
    )
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Public names, loaded or not."""
    return sorted(__all__)
