from gradcore import (
    activations as activations,
    callbacks as callbacks,
    datasets as datasets,
    initializers as initializers,
    kernels as kernels,
    losses as losses,
    optimizers as optimizers,
    schedules as schedules,
    torch as torch,
)
from gradcore.array_statistics import Statistics as Statistics, statistics as statistics
from gradcore.clipping import (
    clip_grad_adaptive_ as clip_grad_adaptive_,
    clip_grad_norm_ as clip_grad_norm_,
    clip_grad_value_ as clip_grad_value_,
    grad_norm as grad_norm,
)
from gradcore.diagnosis.arrays import diagnose_arrays as diagnose_arrays
from gradcore.diagnosis.diagnose import Diagnosis as Diagnosis, diagnose as diagnose
from gradcore.errors import FaultError as FaultError, GradcoreWarning as GradcoreWarning
from gradcore.gradients import check_gradients as check_gradients
from gradcore.health import theory as theory
from gradcore.health.probe import Probe as Probe
from gradcore.layers import (
    Activation as Activation,
    BatchNorm as BatchNorm,
    Dense as Dense,
    Dropout as Dropout,
    LayerNorm as LayerNorm,
    Residual as Residual,
)
from gradcore.network import Network as Network, mlp as mlp
from gradcore.prescription.prescribe import prescribe as prescribe
from gradcore.prescription.result import Prescription as Prescription
from gradcore.saving import load as load
from gradcore.softmaxes import softmax as softmax
from gradcore.stepper import Stepper as Stepper
from gradcore.threads import set_threads as set_threads
from gradcore.training.history import History as History
from gradcore.training.many import fit_many as fit_many
from gradcore.training.pretraining import pretrain_autoencoder as pretrain_autoencoder
from gradcore.training.rates import find_learning_rate as find_learning_rate

__version__: str
__all__: list[str]
