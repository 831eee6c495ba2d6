"""Importing and using gradcore leaves the process as it was; the environment cannot break it."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from gradcore import GradcoreWarning, mlp, set_threads, threads
from gradcore.threads import resolve_threads

STATE = """
import json, random, signal, sys, warnings
import numpy as np

def state():
    tiny = np.float32(1e-38) * np.float32(0.01), np.float64(1e-308) * np.float64(0.01)
    return {
        "subnormals": [float(x) for x in tiny],
        "warnings": [repr(f) for f in warnings.filters],
        "signals": [repr(signal.getsignal(s)) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGFPE, signal.SIGSEGV)],
        "python random": hash(random.getstate()),
        "numpy random": [repr(part) for part in np.random.get_state()],
        "errstate": np.geterr(),
        "threads": len(__import__("threading").enumerate()),
        "rounding": [1.0 + 2.0**-53, 1.0 + 3 * 2.0**-53, -1.0 - 2.0**-53],
    }

random.seed(0); np.random.seed(0)
before, modules = state(), set(sys.modules)
import gradcore
after = state()
imported = sorted({name.partition(".")[0] for name in set(sys.modules) - modules} - set(sys.stdlib_module_names))
heavy = sorted({"rich", "scipy", "matplotlib", "torch", "sklearn", "jax", "jinja2", "safetensors"} & set(sys.modules))
gradcore.mlp([4, 8, 3], norm="batch", dropout=0.1, seed=0).fit(
    np.random.default_rng(0).normal(size=(20, 4)), [0, 1, 2, 1] * 5, epochs=2, threads=2, seed=0
)
print(json.dumps({"before": before, "after": after, "trained": state(), "imported": imported, "heavy": heavy}))
"""


def python(code, *options, **environment):
    kept = {name: value for name, value in os.environ.items() if name != "GRADCORE_THREADS"}
    return subprocess.run(
        [sys.executable, *options, "-c", code],
        capture_output=True,
        text=True,
        env=kept | environment,
        timeout=120,
    )


@pytest.fixture(scope="module")
def process():
    result = python(STATE)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.parametrize("when", ["after", "trained"])
def test_the_process_stays_as_it_was(process, when):
    assert process[when] == process["before"]
    assert all(value > 0 for value in process[when]["subnormals"])


def test_import_loads_numpy_alone(process):
    # Cython keeps its types in a module of its own
    assert {name for name in process["imported"] if not name.startswith("_cython")} <= {"gradcore", "numpy"}
    assert process["heavy"] == []


@pytest.mark.parametrize("threads", ["abc", "0", "-1", "1000000", "2.5", "", "auto", "2"])
def test_import_is_silent_whatever_the_environment_says(threads):
    result = python("import gradcore", "-W", "error", GRADCORE_THREADS=threads)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.fixture
def setting(monkeypatch):
    monkeypatch.setattr(threads, "_chosen", None)
    monkeypatch.delenv("GRADCORE_THREADS", raising=False)
    monkeypatch.setattr(threads, "cores", lambda: 8)
    return monkeypatch


def test_threads_auto_follows_the_work(setting):
    assert resolve_threads("auto", 1e4) == 1
    assert resolve_threads("auto", 3.5e6) == 3
    assert resolve_threads("auto", 1e12) == resolve_threads("auto", float("inf")) == 8


def test_the_caller_beats_the_setting_and_that_the_environment(setting):
    setting.setenv("GRADCORE_THREADS", "3")
    assert resolve_threads("auto", 0) == 3
    set_threads(5)
    assert resolve_threads("auto", 0) == 5
    assert resolve_threads(2, 0) == 2
    set_threads("auto")
    assert resolve_threads("auto", 0) == 1


@pytest.mark.parametrize("value", ["abc", "0", "-1", "1000000"])
def test_a_wrong_environment_variable_is_warned_of_and_ignored(setting, value):
    setting.setenv("GRADCORE_THREADS", value)
    with pytest.warns(GradcoreWarning, match="GRADCORE_THREADS") as caught:
        mlp([2, 2], seed=0).fit(np.zeros((4, 2)), [0, 1, 0, 1], epochs=1)
    assert caught[0].filename == __file__
    assert mlp([2, 2], seed=0).fit(np.zeros((4, 2)), [0, 1, 0, 1], epochs=1, threads=1).threads == 1


@pytest.mark.parametrize("value", [0, -1, 10**6, 1.5, "many", True, None])
def test_wrong_settings_are_refused(setting, value):
    set_threads(3)
    with pytest.raises((ValueError, TypeError)):
        set_threads(value)
    assert resolve_threads("auto", 0) == 3


def test_a_forked_process_trains(setting):
    code = """
import multiprocessing, numpy as np, gradcore
def train(_):
    net = gradcore.mlp([8, 64, 64, 2], seed=0)
    net.fit(X, y, epochs=2, seed=0, threads=2)
    return net.parameters.tobytes()
X, y = np.random.default_rng(0).normal(size=(64, 8)), np.arange(64) % 2
first = train(0)
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert pool.map(train, range(2)) == [first, first]
"""
    result = python(code)
    assert result.returncode == 0, result.stderr


def test_a_forked_child_of_a_threaded_stepper_steps_closes_and_exits():
    result = python("""
import os, time, numpy as np, gradcore
X, y = np.random.default_rng(0).normal(size=(64, 8)).astype("f4"), np.arange(64) % 2
step = gradcore.mlp([8, 64, 64, 2], seed=0).stepper(batch_size=64, threads=2, loss="cross_entropy", seed=0)
step(X, y)
time.sleep(0.05)    # the workers are asleep now
child = os.fork()
loss = step(X, y)
if child == 0:
    step.close()
    raise SystemExit(0)
for _ in range(200):
    done, status = os.waitpid(child, os.WNOHANG)
    if done:
        break
    time.sleep(0.05)
else:
    os.kill(child, 9)
assert done and status == 0, (done, status)
""")
    assert result.returncode == 0, result.stderr
