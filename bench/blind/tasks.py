"""The data sets of the family: real ones, and a few made ones whose difficulty is known."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

import gradcore

Data = tuple[np.ndarray, np.ndarray]


def _digits() -> Data:
    data = gradcore.datasets.load_digits()
    return data.X_train.astype(np.float64), data.y_train


def _circle() -> Data:
    from sklearn.datasets import make_circles

    X, y = make_circles(n_samples=1000, noise=0.1, factor=0.8, random_state=1)
    return X[:700], y[:700]


def _blob() -> Data:
    from sklearn.datasets import make_blobs

    X, y = make_blobs(n_samples=1000, centers=3, n_features=2, cluster_std=2, random_state=2)
    return X[:700], y[:700]


def _spirals() -> Data:
    rng = np.random.default_rng(3)
    t = np.sqrt(rng.uniform(size=600)) * 2 * np.pi
    label = np.arange(600) % 2
    sign = 2 * label - 1
    X = np.stack([sign * t * np.cos(t), sign * t * np.sin(t)], axis=1) / (2 * np.pi)
    return X + 0.03 * rng.normal(size=X.shape), label


def _scikit(name: str) -> Callable[[], Data]:
    def load() -> Data:
        from sklearn import datasets

        X, y = getattr(datasets, f"load_{name}")(return_X_y=True)
        # columns of very different units are one fault more than the case says
        return (X - X.mean(axis=0)) / X.std(axis=0), y.astype(np.float64) if name == "diabetes" else y

    return load


def _auto_mpg() -> Data:
    from mlxtend.data import autompg_data

    X, y = autompg_data()
    extent = X.max(axis=0) - X.min(axis=0)
    X, extent = X[:, extent > 0], extent[extent > 0]
    return (X - X.min(axis=0)) / extent, y.astype(np.float64)


def _parabola() -> Data:
    x = np.random.default_rng(4).uniform(-1, 1, size=(400, 1))
    return x, x[:, 0] ** 2


def _friedman() -> Data:
    from sklearn.datasets import make_friedman1

    X, y = make_friedman1(n_samples=600, noise=0.5, random_state=5)
    return 2 * X - 1, y


TASKS: dict[str, Callable[[], Data]] = {
    "digits": _digits, "circle": _circle, "blob": _blob, "spirals": _spirals, "iris": _scikit("iris"),
    "wine": _scikit("wine"), "breast_cancer": _scikit("breast_cancer"), "diabetes": _scikit("diabetes"),
    "auto_mpg": _auto_mpg, "parabola": _parabola, "friedman": _friedman,
}  # fmt: skip
REGRESSION = ("diabetes", "auto_mpg", "parabola", "friedman")
# (not counted, so that a case can be drawn without its data)
CLASSES = {"digits": 10, "circle": 2, "blob": 3, "spirals": 2, "iris": 3, "wine": 3, "breast_cancer": 2}


@cache
def load(name: str) -> Data:
    """Return X and y of a task; numbers to predict have mean 0 and standard deviation 1."""
    X, y = TASKS[name]()
    if name in REGRESSION:
        y = (y - y.mean()) / y.std()
    return np.asarray(X, np.float64), y


def classes(name: str) -> int:
    """Return the number of classes of a task; 0 for numbers to predict."""
    return CLASSES.get(name, 0)
