"""Whole trainings as a user would run them, against scikit-learn's MLPClassifier and PyTorch with its DataLoader.

    python bench/jobs.py [--rounds 3] [--only digits]

Every library gets the same data, sizes, optimizer (Adam, 1e-3), batch size and number of epochs, shuffles by itself and
starts from its own initial weights; the accuracy on held-out rows stands beside the time. One CPU; they take turns.
"""

import machine

machine.pin()

import argparse
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import pairwise
from statistics import median

import numpy as np

import gradcore

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
BAR = 3.0  # how many times faster than the fastest peer


@dataclass(frozen=True)
class Job:
    """One training."""

    name: str
    data: Callable[[], Arrays]
    hidden: tuple[int, ...]
    epochs: int
    batch_size: int


def images() -> Arrays:
    """60000 rows of 784 numbers in ten classes, as large as MNIST: blurred prototypes, shifted, under noise."""
    rng = np.random.default_rng(0)
    prototypes = rng.standard_normal((10, 30, 30))
    for _ in range(4):
        prototypes = sum(np.roll(prototypes, shift, axis) for shift in (-1, 0, 1) for axis in (1, 2))
        prototypes /= np.abs(prototypes).max()
    y = rng.integers(0, 10, 70000)
    rows, columns = rng.integers(0, 3, (2, len(y)))
    X = np.empty((len(y), 784), np.float32)
    for row in range(3):
        for column in range(3):
            chosen = np.flatnonzero((rows == row) & (columns == column))
            X[chosen] = prototypes[y[chosen], row : row + 28, column : column + 28].reshape(-1, 784)
    X += 1.5 * rng.standard_normal(X.shape, dtype=np.float32)
    return X[:60000], y[:60000], X[60000:], y[60000:]


JOBS = (
    Job("digits, 20 epochs", gradcore.datasets.load_digits, (128, 128), 20, 32),
    Job("60000×784, 3×256, 5 epochs", images, (256, 256, 256), 5, 128),
)


def gradcore_job(job: Job, data: Arrays) -> float:
    X, y, X_test, y_test = data
    net = gradcore.mlp([X.shape[1], *job.hidden, 10], seed=0)
    net.fit(X, y, epochs=job.epochs, batch_size=job.batch_size, seed=0, threads=1, progress=False)
    return net.evaluate(X_test, y_test)["accuracy"]


def sklearn_job(job: Job, data: Arrays) -> float:
    from sklearn.neural_network import MLPClassifier

    X, y, X_test, y_test = data
    warnings.simplefilter("ignore")  # it has not converged: that was not asked for
    model = MLPClassifier(
        job.hidden, alpha=0.0, batch_size=job.batch_size, max_iter=job.epochs, tol=0.0,
        n_iter_no_change=job.epochs + 1, random_state=0,
    )  # fmt: skip
    return float(model.fit(X, y).score(X_test, y_test))


def torch_job(job: Job, data: Arrays) -> float:
    import torch
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset

    torch.set_num_threads(1)
    torch.manual_seed(0)
    X, y, X_test, y_test = (torch.from_numpy(np.ascontiguousarray(array)) for array in data)
    sizes = [X.shape[1], *job.hidden]
    layers = [layer for pair in pairwise(sizes) for layer in (nn.Linear(*pair), nn.ReLU())]
    model = nn.Sequential(*layers, nn.Linear(sizes[-1], 10))
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    loader = DataLoader(TensorDataset(X.float(), y.long()), batch_size=job.batch_size, shuffle=True)
    for _ in range(job.epochs):
        for rows, labels in loader:
            optimizer.zero_grad(set_to_none=True)
            nn.functional.cross_entropy(model(rows), labels).backward()
            optimizer.step()
    with torch.no_grad():
        return float((model(X_test.float()).argmax(1) == y_test).float().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="jobs whose name contains this")
    arguments = parser.parse_args()
    runs = {"gradcore": gradcore_job}
    if find_spec("sklearn"):
        runs["scikit-learn"] = sklearn_job
    if find_spec("torch"):
        runs["PyTorch"] = torch_job
    print(machine.describe())
    for job in (job for job in JOBS if arguments.only in job.name):
        data = job.data()
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        accuracy = {}
        for _ in range(arguments.rounds):
            for name, run in runs.items():
                begin = time.perf_counter()
                accuracy[name] = run(job, data)
                seconds[name].append(time.perf_counter() - begin)
        times = {name: median(values) for name, values in seconds.items()}
        told = ", ".join(f"{name} {times[name]:.3g} s ({accuracy[name]:.3f})" for name in runs)
        peers = [time for name, time in times.items() if name != "gradcore"]
        ratio = (
            f"; {min(peers) / times['gradcore']:.1f} times the fastest peer (bar {BAR:g})" if peers else ""
        )
        print(f"{job.name}: {told}{ratio}", flush=True)


if __name__ == "__main__":
    main()
