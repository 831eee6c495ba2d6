"""gradcore: trains dense networks fast on the CPU and says where, and why, their gradients vanish or explode."""

__version__ = "0.1.0"

from gradcore import activations as activations
from gradcore import callbacks as callbacks
from gradcore import datasets as datasets
from gradcore import initializers as initializers
from gradcore import kernels as kernels
from gradcore import losses as losses
from gradcore import optimizers as optimizers
from gradcore.clipping import clip_grad_norm_ as clip_grad_norm_
from gradcore.clipping import clip_grad_value_ as clip_grad_value_
from gradcore.clipping import grad_norm as grad_norm
from gradcore.errors import FaultError as FaultError
from gradcore.errors import GradcoreWarning as GradcoreWarning
from gradcore.gradients import check_gradients as check_gradients
from gradcore.health.ledger import Probe as Probe
from gradcore.layers import Activation as Activation
from gradcore.layers import BatchNorm as BatchNorm
from gradcore.layers import Dense as Dense
from gradcore.layers import Dropout as Dropout
from gradcore.layers import Residual as Residual
from gradcore.network import Network as Network
from gradcore.network import mlp as mlp
from gradcore.softmax import softmax as softmax
from gradcore.statistics import statistics as statistics
from gradcore.threads import set_threads as set_threads

__all__ = [name for name in dir() if not name.startswith("_")]
