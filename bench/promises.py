"""Figures that are no race: what the ledger costs, and how long importing, training and a diagnosis take."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import peers
from report import Promise
from timing import interleave
from workloads import STEPS

import gradcore


def ledger_promises(rounds: int) -> Iterator[Promise]:
    for case in STEPS:
        steps = {
            name: (peers.gradcore_step(replace(case, activation="tanh"), ledger=ledger), 1)
            for name, ledger in (("without", False), ("with", True))
        }
        times = interleave(steps, rounds=3 * rounds)
        overhead = times["with"].median / times["without"].median - 1
        yield Promise(
            f"light ledger on every step of {case.name}", 100 * overhead, 100 * case.ledger_bar, "%"
        )


def other_promises(rounds: int) -> Iterator[Promise]:
    def imports(module: str) -> Callable[[], object]:
        return lambda: subprocess.run([sys.executable, "-c", f"import {module}"], check=True)

    modules = {module: (imports(module), 1) for module in ("numpy", "gradcore")}
    times = interleave(modules, rounds=2 * rounds)
    yield Promise(
        "import, beyond NumPy's own", 1e3 * (times["gradcore"].median - times["numpy"].median), 30, "ms"
    )

    X, y, X_test, y_test = gradcore.datasets.load_digits()
    net = gradcore.mlp([64, 128, 128, 10], seed=0)
    begin = time.perf_counter()
    net.fit(X, y, epochs=20, seed=0, progress=False, threads=1)
    yield Promise("digits, mlp([64, 128, 128, 10]), 20 epochs", time.perf_counter() - begin, 5, "s")
    accuracy = 100 * net.evaluate(X_test, y_test)["accuracy"]
    yield Promise("its accuracy on the test part", accuracy, 97, "%", at_least=True)

    deep = gradcore.mlp([64] + [128] * 20 + [10], activation="sigmoid", init="normal(0.01)", seed=0)
    diagnosis = {
        "diagnose": (lambda: gradcore.diagnose(deep, X, y, steps=0), 1),
        "what_if": (lambda: gradcore.diagnose(deep, X, y, steps=0).what_if, 1),
    }
    times = {name: 1e3 * time.median for name, time in interleave(diagnosis, rounds=rounds).items()}
    yield Promise("diagnose(steps=0) of a sick 20×128", times["diagnose"], 20, "ms")
    yield Promise("its what_if, 40 alternatives and more", times["what_if"] - times["diagnose"], 100, "ms")
