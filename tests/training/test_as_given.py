"""Data are read where they lie: the same training from every dtype and layout, and no copy of the whole."""

import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

from gradcore import diagnose, fit_many, mlp
from gradcore.callbacks import Callback

KINDS = ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?", ">f4", ">i8"]


def trained(X, y, dtype, **settings):
    net = mlp([6, 8, 3], seed=0, dtype=dtype)
    net.fit(X, y, epochs=2, batch_size=16, seed=0, **settings)
    return net


@pytest.mark.parametrize("kind", KINDS)
def test_every_dtype_trains_as_its_copy(rng, dtype, kind):
    X = rng.integers(0, 2 if kind == "?" else 100, (60, 6)).astype(kind)
    y = rng.integers(0, 3, 60)
    copy = X.astype(dtype)
    expected = trained(copy, y, dtype, validation_data=(copy, y))
    for layout in (X, np.asfortranarray(X), X[::-1].copy()[::-1]):
        net = trained(layout, y, dtype, validation_data=(layout, y))
        assert np.array_equal(net.parameters, expected.parameters)
        assert net.history.history == expected.history.history
        assert np.array_equal(net.forward(layout), expected.forward(copy))
        assert net.evaluate(layout, y) == expected.evaluate(copy, y)
    assert str(diagnose(net, X, y).faults) == str(diagnose(net, copy, y).faults)
    assert str(net.ledger(X, y)) == str(net.ledger(copy, y))
    assert str(net.unit_ledger(X, y, "relu 1")) == str(net.unit_ledger(copy, y, "relu 1"))


def test_rows_held_out_are_those_of_a_copy(rng):
    X, y = rng.integers(0, 100, (60, 6)).astype(np.uint8), rng.integers(0, 3, 60)
    histories = [trained(data, y, "float32", validation_fraction=0.3).history for data in (X, X.astype("f4"))]
    assert histories[0].history == histories[1].history


def test_memory_maps(rng, tmp_path):
    X, y = rng.standard_normal((60, 6)), rng.integers(0, 3, 60)
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    assert np.array_equal(trained(mapped, y, "float32").parameters, trained(X, y, "float32").parameters)


def peak_of(call):
    """The most bytes of arrays that lived at the same time during a call, beside those before it."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", ["u1", "f8", "i4"])
@pytest.mark.parametrize("layout", [np.ascontiguousarray, np.asfortranarray])
def test_no_copy_of_the_whole(rng, kind, layout):
    X, y = layout(np.ones((20_000, 784), kind)), rng.integers(0, 10, 20_000)  # as float32: 63 MB
    net, many = mlp([784, 8, 10], seed=0), [mlp([784, 4, 10], seed=k) for k in range(2)]
    settings = {"epochs": 1, "batch_size": 200, "seed": 0}
    calls = {
        "fit": lambda: net.fit(X, y, validation_data=(X[:9000], y[:9000]), **settings),
        "held out": lambda: net.fit(X, y, validation_fraction=0.45, **settings),
        "fit_many": lambda: fit_many(many, (X, y), **settings),
        "predict": lambda: net.predict(X),
        "evaluate": lambda: net.evaluate(X, y),
        "dead_units": lambda: net.dead_units(X),
        "diagnose": lambda: diagnose(net, X, y),
    }
    peaks = {name: peak_of(call) for name, call in calls.items()}
    # one piece of the check, in the network's dtype and as given, and the rows of a piece of inference
    assert max(peaks.values()) < 25e6, peaks


def test_the_resident_memory_of_a_whole_process():
    """The same of a process, seen by the system: 60000 × 784 float64 are 376 MB, a float32 copy were 188 MB."""
    code = """
import numpy as np
from gradcore import mlp

def peak():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) << 10

X, y = np.empty((60_000, 784)), np.arange(60_000) % 10
X[:] = y[:, None]
net = mlp([784, 8, 10], seed=0)
net.fit(X[:300], y[:300], epochs=1)
before = peak()
net.fit(X, y, epochs=1, batch_size=500)
print(peak() - before)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) < 80e6


def test_a_fault_in_other_dtypes_is_located(rng):
    X, y = rng.standard_normal((8, 6)), rng.standard_normal(8)
    net = mlp([6, 4, 1], seed=0)

    class Poison(Callback):
        def on_epoch_begin(self, epoch, logs):
            X[5, 2] = np.nan

    with pytest.warns(UserWarning, match="input"):
        history = net.fit(X, y, epochs=1, batch_size=8, seed=0, callbacks=[Poison()])
    assert (history.faults[0].name, history.faults[0].element) == ("input", (5, 2))
