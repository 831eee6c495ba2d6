"""The same Network over the readable executor, to compare with."""

from gradcore import Network
from gradcore.kernels import reference


class ReferenceNetwork(Network):
    executor_class = reference.Executor


def twin(net: Network) -> ReferenceNetwork:
    """A network of the same layers and parameters that runs in NumPy."""
    other = ReferenceNetwork(net.layers, input_size=net.input_size, dtype=net.dtype, seed=net.seed)
    other.set_parameters(net.get_parameters())
    return other
