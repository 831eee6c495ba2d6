"""gradcore: trains dense networks fast on the CPU and says where, and why, their gradients vanish or explode."""

from gradcore import activations, callbacks, datasets, initializers, kernels, losses, optimizers
from gradcore.clipping import clip_grad_norm_, clip_grad_value_, grad_norm
from gradcore.errors import FaultError, GradcoreWarning
from gradcore.gradients import check_gradients
from gradcore.health.ledger import Probe
from gradcore.layers import Activation, BatchNorm, Dense, Dropout, Residual
from gradcore.network import Network, mlp
from gradcore.softmax import softmax
from gradcore.statistics import statistics
from gradcore.threads import set_threads

__version__ = "0.1.0"

__all__ = [
    "Network",
    "mlp",
    "Dense",
    "Activation",
    "BatchNorm",
    "Dropout",
    "Residual",
    "Probe",
    "check_gradients",
    "clip_grad_norm_",
    "clip_grad_value_",
    "grad_norm",
    "softmax",
    "statistics",
    "activations",
    "callbacks",
    "datasets",
    "initializers",
    "kernels",
    "losses",
    "optimizers",
    "set_threads",
    "FaultError",
    "GradcoreWarning",
]
