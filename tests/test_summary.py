"""The memory that training takes is known before it is taken."""

import gc
import tracemalloc

import pytest

from gradcore import BatchNorm, Dense, LayerNorm, Network, Residual, mlp
from gradcore.optimizers import resolve
from gradcore.summary import training_memory

BLOCK = [Dense(96), BatchNorm(), "tanh", Residual([Dense(96), LayerNorm(), "gelu"])]
NETWORKS = {
    "wide": lambda dtype: mlp([784, 512, 512, 10], dtype=dtype, seed=0),
    "narrow": lambda dtype: mlp([40] * 30 + [3], dtype=dtype, seed=0),
    "every layer": lambda dtype: Network([*(12 * BLOCK), Dense(7)], input_size=33, dtype=dtype, seed=0),
}


@pytest.mark.parametrize("optimizer", ["sgd", "sgd(momentum=0.9)", "adam"])
@pytest.mark.parametrize("batch_size", [1, 64, 1000])
@pytest.mark.parametrize("name", NETWORKS)
def test_memory_of_training(name, batch_size, optimizer, dtype):
    net = NETWORKS[name](dtype)
    predicted = training_memory(net.plan, batch_size, resolve(optimizer).n_slots)
    gc.collect()
    tracemalloc.start()
    executor = net.executor(batch_size, loss="cross_entropy", optimizer=optimizer)
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert executor.capacity == batch_size
    # (the network has its parameters already)
    assert taken == pytest.approx(sum(predicted.values()) - predicted["parameters"], rel=0.05)


def test_the_sum_is_shown():
    text = mlp([64, 32, 10], seed=0).summary(batch_size=100, optimizer="sgd")
    assert "batch size 100 with sgd: " in text
    assert "optimizer" not in text.splitlines()[-1]
    assert "optimizer" in mlp([64, 32, 10], seed=0).summary().splitlines()[-1]
