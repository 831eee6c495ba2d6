"""Every activation's C against the formula in 60 digits, and against the functions of gradcore."""

import ctypes

import mpmath
import numpy as np
import pytest
from c_compiler import library, needs_compiler, pointer

from gradcore import activations, kernels
from gradcore.c_activations import FUNCTIONS, scalar_function

mpf = mpmath.mpf
DEFAULT = {"leaky_relu": 0.01, "elu": 1.0, "celu": 1.0}


def sigma(z):
    return 1 / (1 + mpmath.exp(-z))


def softplus(z):
    return mpmath.log1p(mpmath.exp(-abs(z))) + max(z, 0)


def elu(z, p):
    return z if z > 0 else p * mpmath.expm1(z)


# By their definitions, as PyTorch has them; mpmath carries the digits.
EXACT = {
    "identity": lambda z, p: z,
    "sigmoid": lambda z, p: sigma(z),
    "log_sigmoid": lambda z, p: -softplus(-z),
    "hard_sigmoid": lambda z, p: min(max(z + 3, 0), 6) / 6,
    "tanh": lambda z, p: mpmath.tanh(z),
    "hard_tanh": lambda z, p: min(max(z, -1), 1),
    "softsign": lambda z, p: z / (1 + abs(z)),
    "softplus": lambda z, p: softplus(z),
    "relu": lambda z, p: max(z, 0),
    "relu6": lambda z, p: min(max(z, 0), 6),
    "leaky_relu": lambda z, p: z if z > 0 else p * z,
    "elu": elu,
    "selu": lambda z, p: (
        mpf("1.0507009873554804934193349852946") * elu(z, mpf("1.6732632423543772848170429916717"))
    ),
    "celu": lambda z, p: max(z, 0) + min(0, p * mpmath.expm1(z / p)),
    "gelu": lambda z, p: z * mpmath.erfc(max(min(-z, 100), -100) / mpmath.sqrt(2)) / 2,
    "gelu_tanh": lambda z, p: z * sigma(2 * mpmath.sqrt(2 / mpmath.pi) * (z + mpf("0.044715") * z**3)),
    "silu": lambda z, p: z * sigma(z),
    "hard_silu": lambda z, p: z * min(max(z + 3, 0), 6) / 6,
    "mish": lambda z, p: z * mpmath.tanh(softplus(z)),
    "exponential": lambda z, p: mpmath.exp(z),
}

LIMITS = {  # at -inf and +inf, where that is not -inf or 0, and inf
    "sigmoid": (0, 1), "log_sigmoid": (-np.inf, 0), "hard_sigmoid": (0, 1), "tanh": (-1, 1), "hard_tanh": (-1, 1),
    "softsign": (-1, 1), "relu6": (0, 6), "leaky_relu": (-np.inf, np.inf), "identity": (-np.inf, np.inf),
    "elu": (-1, np.inf), "celu": (-1, np.inf), "selu": (-1.7580993408473769, np.inf),
}  # fmt: skip


def points(rng, dtype):
    """The whole range, where each function is curved, where tails end, and the signs of zero."""
    z = [
        rng.uniform(-8, 8, 150), rng.uniform(-110, 110, 60), rng.uniform(-40, -5, 60), rng.uniform(-760, 720, 60),
        10.0 ** rng.uniform(-320, 300, 40), -(10.0 ** rng.uniform(-320, 300, 40)), rng.normal(0, 1e-3, 30),
        [0.0, -0.0, 1.0, -1.0, 3.0, -3.0, 6.0, 40.0, -40.0, -36.0, -36.000001, -700.0, -700.1, -2000.0],
    ]  # fmt: skip
    with np.errstate(over="ignore"):
        z = np.concatenate(z).astype(dtype)
    return z[np.isfinite(z)]


@pytest.fixture(scope="module", params=["float32", "float64"])
def compiled(request, tmp_path_factory):
    """All functions of one dtype, each as one over an array."""
    dtype = np.dtype(request.param)
    real = "float" if dtype == np.float32 else "double"
    parts = ["#include <math.h>", "#include <stddef.h>"]
    for name in FUNCTIONS:
        with_parameter = name in DEFAULT
        given = ", p" if with_parameter else ""
        parts += [
            scalar_function(name, f"one_{name}", dtype, has_parameter=with_parameter),
            f"void all_{name}(const {real} *x, {real} *y, size_t n, {real} p)\n"
            f"{{ (void)p; for (size_t i = 0; i < n; i++) y[i] = ({real})one_{name}(x[i]{given}); }}",
        ]
    source = tmp_path_factory.mktemp("c") / "all.c"
    source.write_text("\n".join(parts))
    built = library(source, "-Wno-missing-prototypes")

    def call(name, z, p=None):
        z = np.ascontiguousarray(z, dtype)
        out = np.empty_like(z)
        kind = ctypes.c_float if dtype == np.float32 else ctypes.c_double
        getattr(built, f"all_{name}")(
            pointer(z),
            pointer(out),
            ctypes.c_size_t(z.size),
            kind(DEFAULT.get(name, 0.0) if p is None else p),
        )
        return out

    call.dtype = dtype
    return call


def test_every_activation_of_gradcore_has_its_c():
    assert not set(activations.REGISTRY) - set(FUNCTIONS), "add it in gradcore/c_activations.py, FUNCTIONS"
    assert not set(kernels.ACTIVATION_CODES) - set(FUNCTIONS) - {"softmax"}


def test_every_entry_is_tested_here():
    assert set(EXACT) == set(FUNCTIONS)


@needs_compiler
@pytest.mark.parametrize("name", FUNCTIONS)
def test_within_four_units_in_the_last_place_of_the_formula(compiled, rng, name):
    z = points(rng, compiled.dtype)
    p = compiled.dtype.type(DEFAULT.get(name, 0.0))
    found = compiled(name, z)
    largest = float(np.finfo(compiled.dtype).max)
    with mpmath.workdps(60):
        for x, y in zip(z, found, strict=True):
            exact = EXACT[name](mpf(float(x)), mpf(float(p)))
            if abs(exact) > largest:
                assert y == np.copysign(np.inf, float(mpmath.sign(exact)))
                continue
            unit = mpf(float(np.spacing(abs(compiled.dtype.type(float(abs(exact)))))))
            assert abs(mpf(float(y)) - exact) <= 4 * unit, (float(x), float(y), float(exact))


@needs_compiler
@pytest.mark.parametrize("name", FUNCTIONS)
def test_nan_flows_and_infinities_give_the_limits(compiled, name):
    found = compiled(name, [np.nan, -np.inf, np.inf])
    below, above = LIMITS.get(name, (0, np.inf))
    assert np.isnan(found[0])
    assert found[1:].tolist() == [compiled.dtype.type(below), above]


@needs_compiler
@pytest.mark.parametrize("name", activations.REGISTRY)
def test_as_gradcore_computes_it(compiled, rng, name):
    z = points(rng, compiled.dtype)
    info = activations.REGISTRY[name]
    given = [(), (0.0,), (0.3,), (-0.5,), (2.5,)] if info.parameter_name else [()]
    for arguments in given:
        if name == "celu" and arguments and arguments[0] <= 0:
            continue
        ours = getattr(activations, name)(z, *arguments)
        theirs = compiled(name, z, *arguments)
        finite = np.isfinite(ours)
        assert np.array_equal(ours[~finite], theirs[~finite])
        unit = np.spacing(np.abs(ours[finite]))
        assert (np.abs(ours[finite] - theirs[finite]) <= 8 * unit).all()
