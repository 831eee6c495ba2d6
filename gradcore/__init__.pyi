from gradcore import activations as activations
from gradcore import callbacks as callbacks
from gradcore import datasets as datasets
from gradcore import initializers as initializers
from gradcore import kernels as kernels
from gradcore import losses as losses
from gradcore import optimizers as optimizers
from gradcore.array_statistics import Statistics as Statistics
from gradcore.array_statistics import statistics as statistics
from gradcore.clipping import clip_grad_norm_ as clip_grad_norm_
from gradcore.clipping import clip_grad_value_ as clip_grad_value_
from gradcore.clipping import grad_norm as grad_norm
from gradcore.diagnosis.diagnose import Diagnosis as Diagnosis
from gradcore.diagnosis.diagnose import diagnose as diagnose
from gradcore.errors import FaultError as FaultError
from gradcore.errors import GradcoreWarning as GradcoreWarning
from gradcore.gradients import check_gradients as check_gradients
from gradcore.health import theory as theory
from gradcore.health.ledger import Probe as Probe
from gradcore.layers import Activation as Activation
from gradcore.layers import BatchNorm as BatchNorm
from gradcore.layers import Dense as Dense
from gradcore.layers import Dropout as Dropout
from gradcore.layers import Residual as Residual
from gradcore.network import Network as Network
from gradcore.network import mlp as mlp
from gradcore.softmaxes import softmax as softmax
from gradcore.stepper import Stepper as Stepper
from gradcore.threads import set_threads as set_threads
from gradcore.training.history import History as History

__version__: str
__all__: list[str]
