import inspect
import math
import re
from pathlib import Path

import numpy as np
import pytest
from mpmath import mp

from gradcore import activations, kernels
from gradcore.activations import REGISTRY, SOFTMAX, resolve

SCALE, ALPHA = mp.mpf("1.0507009873554804934193349852946"), mp.mpf("1.6732632423543772848170429916717")

with mp.workdps(60):
    COEFFICIENT = mp.mpf("0.044715")


def logistic(y):
    return 1 / (1 + mp.exp(-y))


def gated(z, y, dy, scale=1):
    """z times a sigmoid of y, from 0 to 1, or (scale 2) from -1 to 1: value and derivative."""
    gate = scale * logistic(y) - (scale - 1)
    return z * gate, gate + z * scale * logistic(y) * logistic(-y) * dy


TRUTH = {
    "identity": lambda z, p: (z, 1),
    "sigmoid": lambda z, p: (1 / (1 + mp.exp(-z)), mp.exp(-z) / (1 + mp.exp(-z)) ** 2),
    "tanh": lambda z, p: (mp.tanh(z), mp.sech(z) ** 2),
    "relu": lambda z, p: (max(z, 0), int(z > 0)),
    "leaky_relu": lambda z, p: (z if z > 0 else p * z, 1 if z > 0 else p),
    "elu": lambda z, p: (z, 1) if z > 0 else (p * mp.expm1(z), p * mp.exp(z)),
    "selu": lambda z, p: (
        (SCALE * z, SCALE) if z > 0 else (SCALE * ALPHA * mp.expm1(z), SCALE * ALPHA * mp.exp(z))
    ),
    "gelu": lambda z, p: (z * mp.ncdf(z), mp.ncdf(z) + z * mp.npdf(z)),
    "exponential": lambda z, p: (mp.exp(z), mp.exp(z)),
    "log_sigmoid": lambda z, p: (-mp.log1p(mp.exp(-z)), logistic(-z)),
    "hard_sigmoid": lambda z, p: (min(max(z + 3, 0), 6) / 6, mp.mpf(-3 < z < 3) / 6),
    "hard_tanh": lambda z, p: (min(max(z, -1), 1), int(-1 < z < 1)),
    "softsign": lambda z, p: (z / (1 + abs(z)), 1 / (1 + abs(z)) ** 2),
    "softplus": lambda z, p: (mp.log1p(mp.exp(z)), logistic(z)),
    "relu6": lambda z, p: (min(max(z, 0), 6), int(0 < z < 6)),
    "celu": lambda z, p: (z, 1) if z > 0 else (p * mp.expm1(z / p), mp.exp(z / p)),
    "gelu_tanh": lambda z, p: gated(z, mp.sqrt(8 / mp.pi) * (z + COEFFICIENT * z**3),
                                    mp.sqrt(8 / mp.pi) * (1 + 3 * COEFFICIENT * z**2)),
    "silu": lambda z, p: gated(z, z, 1),
    "hard_silu": lambda z, p: (z * min(max(z + 3, 0), 6) / 6, 1 if z >= 3 else (2 * z + 3) / 6 if z > -3 else 0),
    "mish": lambda z, p: gated(z, 2 * mp.log1p(mp.exp(z)), 2 * logistic(z), 2),
}  # fmt: skip

every_activation = pytest.mark.parametrize("name", REGISTRY)


def functions(name):
    return getattr(activations, name), getattr(activations, f"{name}_backward")


@every_activation
def test_the_registry_agrees_with_the_module_and_the_kernels(name):
    info = REGISTRY[name]
    forward, backward = functions(name)
    assert info.code == kernels.ACTIVATION_CODES[name]
    assert set(REGISTRY) | {SOFTMAX.name} == set(kernels.ACTIVATION_CODES)
    parameters = [p for p in inspect.signature(forward).parameters.values() if p.name not in ("x", "out")]
    assert {p.name: p.default for p in parameters} == (
        {info.parameter_name: info.default} if info.parameter_name else {}
    )
    assert [*inspect.signature(backward).parameters][:2] == ["grad_output", "x"]
    assert ">>>" in forward.__doc__
    assert ">>>" in backward.__doc__


@every_activation
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_value_and_derivative_against_exact_arithmetic(name, dtype):
    mp.prec = 200
    forward, backward = functions(name)
    z = np.concatenate([np.linspace(-20, 20, 81), [1e-8, -1e-8, 1e-3, -1e-3]]).astype(dtype)
    value, slope = zip(
        *(TRUTH[name](mp.mpf(float(v)), mp.mpf(REGISTRY[name].default)) for v in z), strict=True
    )
    eps = np.finfo(dtype).eps
    smallest = float(np.finfo(dtype).smallest_subnormal)
    np.testing.assert_allclose(forward(z), np.array(value, "f8"), rtol=4 * eps, atol=smallest)
    largest = min(REGISTRY[name].max_slope, 1e9)
    np.testing.assert_allclose(
        backward(np.ones_like(z), z), np.array(slope, "f8"), rtol=8 * eps, atol=4 * eps * largest
    )


@every_activation
def test_the_derivative_is_that_of_the_function(name):
    forward, backward = functions(name)
    x = np.random.default_rng(3).uniform(-4, 4, 200)
    for kink in REGISTRY[name].kinks:
        x = x[np.abs(x - kink) > 0.01]
    h = 1e-5
    numeric = (8 * (forward(x + h) - forward(x - h)) - (forward(x + 2 * h) - forward(x - 2 * h))) / (12 * h)
    np.testing.assert_allclose(backward(np.full_like(x, -3.0), x), -3 * numeric, rtol=1e-7, atol=1e-8)


@every_activation
def test_the_slope_never_exceeds_the_registered_largest_and_reaches_it(name):
    _, backward = functions(name)
    beside = [np.nextafter(kink, side) for kink in REGISTRY[name].kinks for side in (-9, 9)]
    z = np.concatenate([np.linspace(-20, 20, 40001), beside])
    slopes = np.abs(backward(np.ones_like(z), z))
    largest = REGISTRY[name].max_slope
    assert slopes.max() <= largest * (1 + 1e-12)
    if math.isfinite(largest):
        assert slopes.max() >= largest * (1 - 1e-6)


def test_the_slope_of_sigmoid_is_never_above_a_quarter():
    z = np.concatenate([np.linspace(-1e-3, 1e-3, 10001), [0.0, -0.0]])
    for dtype in ("f4", "f8"):
        assert activations.sigmoid_backward(np.ones(z.size, dtype), z.astype(dtype)).max() <= 0.25


@every_activation
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_nan_stays_nan_both_ways(name, dtype):
    forward, backward = functions(name)
    x = np.array([1.0, np.nan, -1.0], dtype)
    assert np.isnan(forward(x)).tolist() == [False, True, False]
    assert name == "identity" or np.isnan(backward(np.ones(3, dtype), x)).tolist() == [False, True, False]
    assert np.isnan(backward(np.array([np.nan] * 2, dtype), np.array([-1.0, 1.0], dtype))).all()


LIMITS = {  # at -inf and at +inf: value, slope
    "identity": ((-math.inf, 1), (math.inf, 1)),
    "sigmoid": ((0, 0), (1, 0)),
    "tanh": ((-1, 0), (1, 0)),
    "relu": ((0, 0), (math.inf, 1)),
    "leaky_relu": ((-math.inf, 0.01), (math.inf, 1)),
    "elu": ((-1, 0), (math.inf, 1)),
    "selu": ((-float(SCALE * ALPHA), 0), (math.inf, float(SCALE))),
    "gelu": ((0, 0), (math.inf, 1)),
    "exponential": ((0, 0), (math.inf, math.inf)),
    "log_sigmoid": ((-math.inf, 1), (0, 0)),
    "hard_sigmoid": ((0, 0), (1, 0)),
    "hard_tanh": ((-1, 0), (1, 0)),
    "softsign": ((-1, 0), (1, 0)),
    "softplus": ((0, 0), (math.inf, 1)),
    "relu6": ((0, 0), (6, 0)),
    "celu": ((-1, 0), (math.inf, 1)),
    "gelu_tanh": ((0, 0), (math.inf, 1)),
    "silu": ((0, 0), (math.inf, 1)),
    "hard_silu": ((0, 0), (math.inf, 1)),
    "mish": ((0, 0), (math.inf, 1)),
}


@every_activation
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_infinities_and_huge_values_have_their_limits(name, dtype):
    forward, backward = functions(name)
    x = np.array([-np.inf, np.inf], dtype)
    (low, low_slope), (high, high_slope) = LIMITS[name]
    np.testing.assert_allclose(forward(x), np.array([low, high]), rtol=1e-6)
    slopes = backward(np.ones(2, dtype), x)
    np.testing.assert_allclose(slopes, np.array([low_slope, high_slope]), rtol=1e-6, atol=1e-44)
    huge = np.array([-1e30, -1e4, 1e4, 1e30], dtype)
    assert not np.isnan(forward(huge)).any()
    assert not np.isnan(backward(np.ones(4, dtype), huge)).any()


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "elu", "selu"])
def test_the_slope_at_a_kink_is_the_left_one(name):
    _, backward = functions(name)
    left = {"relu": 0, "leaky_relu": 0.01, "elu": 1, "selu": float(SCALE * ALPHA)}[name]
    np.testing.assert_allclose(backward([1.0, 1.0], [0.0, -0.0]), [left, left], rtol=1e-15)


@pytest.mark.parametrize(
    ("name", "kink", "slope"),
    [("relu6", 0, 0), ("relu6", 6, 0), ("hard_tanh", -1, 0), ("hard_tanh", 1, 0), ("hard_sigmoid", -3, 0),
     ("hard_sigmoid", 3, 0), ("hard_silu", -3, 0), ("hard_silu", 3, 1)],
)  # fmt: skip
def test_the_slope_at_an_outer_kink_is_that_of_the_straight_end(name, kink, slope):
    """As in PyTorch and JAX."""
    _, backward = functions(name)
    for dtype in ("f4", "f8"):
        assert backward(np.ones(1, dtype), np.array([kink], dtype)) == [slope]


@every_activation
def test_outputs_fill_the_registered_interval(name):
    forward, _ = functions(name)
    low, high = REGISTRY[name].outputs
    value = forward(np.concatenate([np.linspace(-30, 30, 100_001), [-1e300, 1e300]]))
    assert low <= value.min()
    assert value.max() <= high
    if math.isfinite(low):
        assert value.min() == pytest.approx(low, abs=1e-6)
    if math.isfinite(high):
        assert value.max() == pytest.approx(high, abs=1e-6)


def test_small_results_are_right_not_zero():
    np.testing.assert_allclose(activations.sigmoid(-80.0), math.exp(-80), rtol=1e-15)
    mp.prec = 200
    for z in (-11.5, -12.5):
        np.testing.assert_allclose(
            activations.gelu(np.float32(z)), float(z * mp.ncdf(z)), rtol=4 * float(np.finfo("f4").eps)
        )


def test_a_parameter_is_used_and_checked():
    assert activations.leaky_relu(-2.0, 0.5) == -1
    assert activations.elu(-np.inf, alpha=3.0) == -3
    for bad in (math.nan, math.inf):
        with pytest.raises(ValueError, match="negative_slope"):
            activations.leaky_relu(1.0, bad)
        with pytest.raises(ValueError, match="alpha"):
            activations.elu_backward(1.0, 1.0, bad)
    assert activations.celu(-np.inf, alpha=3.0) == -3
    for bad in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="alpha"):
            activations.celu(1.0, bad)
    with pytest.raises(ValueError, match="celu's alpha must be greater than 0"):
        resolve("celu(0)")


@pytest.mark.parametrize("alpha", [1e-60, 1e-30, 1e-4, 1e6, 1e60])
def test_celu_of_any_alpha_lies_between_relu_and_the_identity(alpha):
    z = np.array([-2.0, -0.0, 0.0, 3.0], "f4")
    with mp.workdps(50):
        true = np.array([float(TRUTH["celu"](mp.mpf(float(v)), mp.mpf(alpha))[0]) for v in z])
    np.testing.assert_allclose(activations.celu(z, alpha), true, rtol=1e-6, atol=1e-45)
    assert np.isfinite(activations.celu_backward(np.ones_like(z), z, alpha)).all()


@pytest.mark.parametrize(
    ("spec", "name", "parameter"),
    [
        ("relu", "relu", 0),
        ("ReLU", "relu", 0),
        ("logistic", "sigmoid", 0),
        ("linear", "identity", 0),
        ("exp", "exponential", 0),
        ("softmax", "softmax", 0),
        ("leaky_relu", "leaky_relu", 0.01),
        ("leaky_relu(0.2)", "leaky_relu", 0.2),
        ("leaky_relu(negative_slope=0.2)", "leaky_relu", 0.2),
        ("elu(2)", "elu", 2),
        ("celu(0.5)", "celu", 0.5),
        ("swish", "silu", 0),
        ("hard_swish", "hard_silu", 0),
        ("HardSwish", "hard_silu", 0),
        ("hardtanh", "hard_tanh", 0),
        ("hardsigmoid", "hard_sigmoid", 0),
        ("LogSigmoid", "log_sigmoid", 0),
    ],
)
def test_resolving_a_spec(spec, name, parameter):
    info, value = resolve(spec)
    assert (info.name, value) == (name, parameter)
    assert info.code == kernels.ACTIVATION_CODES[name]


@pytest.mark.parametrize(
    ("spec", "match"),
    [
        ("rellu", "did you mean 'relu'"),
        ("relu(1)", "relu takes no argument"),
        ("elu(1, 2)", "one argument, alpha=1.0"),
        ("elu(beta=1)", "one argument, alpha=1.0"),
        ("leaky_relu(1e999)", "negative_slope must be finite"),
    ],
)
def test_a_spec_that_cannot_be(spec, match):
    with pytest.raises(ValueError, match=match):
        resolve(spec)


@pytest.mark.parametrize(
    "spec",
    ["elu", "elu(2.5)", "gelu", "celu", "celu(0.02)", "celu(0.05)", "celu(2.5)", "celu(999)", "celu(1001)", "gelu_tanh",
     "silu", "hard_silu", "mish", "softplus", "log_sigmoid"],
)  # fmt: skip
def test_second_moments_agree_with_quadrature(spec):
    info, parameter = resolve(spec)
    z = np.linspace(-12, 12, 480_001)
    forward, _ = functions(info.name)
    values = forward(z, parameter) if info.parameter_name else forward(z)
    moment = np.trapezoid(values**2 * np.exp(-z * z / 2), z) / math.sqrt(2 * math.pi)
    assert info.init_arguments(parameter)[0] == pytest.approx(moment, rel=1e-6)


def test_what_is_known_of_the_moments_of_rectifiers():
    assert resolve("celu(1e-9)")[0].init_arguments(1e-9)[0] == pytest.approx(0.5)  # relu
    assert resolve("celu(1e9)")[0].init_arguments(1e9)[0] == pytest.approx(1)  # identity
    mirrored = [resolve(name)[0].init_arguments(0.0)[0] for name in ("softplus", "log_sigmoid")]
    assert mirrored[0] == pytest.approx(mirrored[1], rel=1e-14)


def test_the_page_tells_every_activation_its_weights_and_its_other_names():
    page = (Path(__file__).parents[1] / "docs" / "activations.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` ?(.*)$", page, re.MULTILINE))
    assert set(rows) == set(REGISTRY)
    for name, info in REGISTRY.items():
        assert info.formula.split(" alpha")[0] in rows[name]
        assert set(re.findall(r"`(\w+)`", rows[name])) == {info.init, *info.aliases}
