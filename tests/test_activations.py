import inspect
import math

import numpy as np
import pytest
from mpmath import mp

from gradcore import activations, kernels
from gradcore.activations import REGISTRY, SOFTMAX, resolve

SCALE, ALPHA = mp.mpf("1.0507009873554804934193349852946"), mp.mpf("1.6732632423543772848170429916717")

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
}

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
    x = x[np.abs(x) > 0.01]  # away from the kinks
    h = 1e-5
    numeric = (8 * (forward(x + h) - forward(x - h)) - (forward(x + 2 * h) - forward(x - 2 * h))) / (12 * h)
    np.testing.assert_allclose(backward(np.full_like(x, -3.0), x), -3 * numeric, rtol=1e-7, atol=1e-8)


@every_activation
def test_the_slope_never_exceeds_the_registered_largest_and_reaches_it(name):
    _, backward = functions(name)
    slopes = np.abs(backward(np.ones(40001), np.linspace(-20, 20, 40001)))
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


@pytest.mark.parametrize("spec", ["elu", "elu(2.5)", "gelu"])
def test_second_moments_agree_with_quadrature(spec):
    info, parameter = resolve(spec)
    nodes, weights = np.polynomial.hermite_e.hermegauss(200)
    forward, _ = functions(info.name)
    values = forward(nodes, parameter) if info.parameter_name else forward(nodes)
    moment = np.sum(weights * values**2) / math.sqrt(2 * math.pi)
    assert info.init_arguments(parameter)[0] == pytest.approx(
        moment, rel=1e-4 if info.name == "elu" else 1e-10
    )
