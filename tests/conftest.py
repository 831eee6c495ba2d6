"""What all tests share: dtypes, seeds, and the arrays that break naive code."""

import builtins
import os
import zlib
from pathlib import Path

import numpy as np
import pytest

import gradcore
from gradcore import kernels

# Processes that tests start use this gradcore, installed or built in place, not the sources they happen to stand in.
os.environ["PYTHONSAFEPATH"] = "1"
os.environ["PYTHONPATH"] = str(Path(gradcore.__file__).resolve().parent.parent)


def pytest_report_header():
    info = kernels.info()
    return f"gradcore kernels: {info['level']} (built: {', '.join(info['levels_built'])}; {info['compiler']})"


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    return np.dtype(request.param)


@pytest.fixture
def seed(request):
    """A number of this test's own, the same on every run."""
    return zlib.crc32(request.node.name.encode())


@pytest.fixture
def rng(seed):
    return np.random.default_rng(seed)


@pytest.fixture
def without(monkeypatch):
    """A function that hides a package from imports, as where it is not installed."""

    def hide(package):
        real = builtins.__import__

        def missing(name, *arguments):
            if name.partition(".")[0] == package:
                raise ImportError(name)
            return real(name, *arguments)

        monkeypatch.setattr(builtins, "__import__", missing)

    return hide


def _read_only(x):
    x.flags.writeable = False
    return x


HARD = {
    "empty": lambda d: np.empty((0, 3), d),
    "one element": lambda d: np.array([[0.5]], d),
    "zeros of both signs": lambda d: np.array([[0.0, -0.0], [-0.0, 0.0]], d),
    "NaN": lambda d: np.array([[1, np.nan, -1], [0, 2, 3]], d),
    "infinite": lambda d: np.array([[np.inf, -np.inf, 1], [0, np.inf, np.inf]], d),
    "all minus infinity": lambda d: np.full((2, 5), -np.inf, d),
    "huge": lambda d: np.array([[1, -1, 0.5], [-0.25, 1, 1]], d) * np.finfo(d).max,
    "tiny": lambda d: np.array([[1, -1, 2], [4, 1, -8]], d) * np.finfo(d).smallest_normal,
    "subnormal": lambda d: np.array([[1, -3, 0], [7, 1, 2]], d) * np.finfo(d).smallest_subnormal,
    "constant": lambda d: np.full((4, 3), 0.1, d),
    "large offset": lambda d: (np.arange(12).reshape(4, 3) + 1e6).astype(d),
    "wide range": lambda d: (10.0 ** np.linspace(-30, 30, 24)).reshape(4, 6).astype(d),
    "transposed": lambda d: np.linspace(-3, 3, 12).reshape(3, 4).T.astype(d, order="K"),
    "strided": lambda d: np.linspace(-3, 3, 48).reshape(8, 6).astype(d)[::2, ::-3],
    "read-only": lambda d: _read_only(np.linspace(-3, 3, 12).reshape(4, 3).astype(d)),
}


@pytest.fixture(params=HARD)
def hard(request, dtype):
    """A (rows, columns) array of `dtype` of each hard kind; its kind is the test's parameter."""
    return HARD[request.param](dtype)
