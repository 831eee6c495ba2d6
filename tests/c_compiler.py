"""C sources, compiled by the system's compiler with every warning an error, and called through ctypes."""

import ctypes
import shutil
import subprocess

import numpy as np
import pytest

COMPILER = shutil.which("cc")
FLAGS = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-O1")

needs_compiler = pytest.mark.skipif(COMPILER is None, reason="there is no C compiler here")


def library(source, *more):
    """Compile a source file and load it."""
    target = source.with_suffix(".so")
    done = subprocess.run(
        [COMPILER, *FLAGS, *more, "-fPIC", "-shared", "-o", target, source, "-lm"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return ctypes.CDLL(str(target))


def pointer(array):
    return array.ctypes.data_as(ctypes.c_void_p)


class Exported:
    """An exported network, called as C calls it."""

    GUARD = 12345.0

    def __init__(self, net, folder, name="net", more=()):
        source, header = net.export_c(folder / name)
        self.net, self.name = net, name
        self.sizes = {
            line.split()[1].removeprefix(f"{name.upper()}_"): int(line.split()[2])
            for line in header.read_text().splitlines()
            if line.startswith("#define") and len(line.split()) == 3
        }
        assert (self.sizes["INPUTS"], self.sizes["OUTPUTS"]) == (net.input_size, net.output_size)
        self.library = library(source, *more)
        self.text = source.read_text()

    def _guarded(self, size):
        # what lies beside it must stay as it is; before, it may hold anything
        return np.full(size + 16, self.GUARD, self.net.dtype)

    def forward(self, X):
        X = np.ascontiguousarray(X, self.net.dtype)
        y, workspace = self._guarded(self.sizes["OUTPUTS"]), self._guarded(self.sizes["WORKSPACE"])
        out = np.empty((len(X), self.sizes["OUTPUTS"]), self.net.dtype)
        before = X.copy()
        for row, result in zip(X, out, strict=True):
            workspace[8:-8] = np.nan
            getattr(self.library, f"{self.name}_forward")(
                pointer(row), pointer(y[8:]), pointer(workspace[8:])
            )
            result[...] = y[8:-8]
        for array in (y, workspace):
            assert (array[:8] == self.GUARD).all()
            assert (array[-8:] == self.GUARD).all()
        assert X.tobytes() == before.tobytes()
        return out

    def predict(self, X):
        labels = (ctypes.c_char_p * self.sizes["LABELS"]).in_dll(self.library, f"{self.name}_labels")
        workspace = self._guarded(self.sizes["WORKSPACE"])
        codes = []
        for row in np.ascontiguousarray(X, self.net.dtype):
            codes.append(getattr(self.library, f"{self.name}_predict")(pointer(row), pointer(workspace[8:])))
        assert (workspace[:8] == self.GUARD).all()
        assert (workspace[-8:] == self.GUARD).all()
        return [labels[code].decode() if code >= 0 else None for code in codes]
