"""The compiled activation functions: every error bound, every special value, every length."""

import math

import numpy as np
import pytest
from mpmath import mp

from gradcore import kernels

NAMES = [name for name in kernels.ACTIVATION_CODES if name != "softmax"]
CASES = [
    *((name, 0.0) for name in NAMES if name not in ("leaky_relu", "elu", "celu")),
    *(("leaky_relu", slope) for slope in (0.01, 1.75, -0.3)),
    *(("elu", alpha) for alpha in (1.0, 0.7, 1.99)),
    *(("celu", alpha) for alpha in (1.0, 0.7, 31.0)),
]
# Units in the last place that a value may be off, by dtype; 2 of all others.
ULPS = {
    "f4": {"exponential": 1.5, "tanh": 1.5, "softplus": 1.5, "log_sigmoid": 1.5, "elu": 1.5, "gelu": 4, "gelu_tanh": 4,
           "mish": 4},
    "f8": {"gelu": 4, "gelu_tanh": 4, "mish": 4},
}  # fmt: skip
DIGITS = 50
with mp.workdps(DIGITS):
    SELU_SCALE = mp.mpf("1.05070098735548049341933498529460")
    COEFFICIENT = mp.mpf("0.044715")
    SELU_PRODUCT = SELU_SCALE * mp.mpf("1.67326324235437728481704299167170")

every_activation = pytest.mark.parametrize("name", NAMES)
every_case = pytest.mark.parametrize(("name", "parameter"), CASES)


def evaluate(name, z, parameter=0.3):
    """f(z) and f'(z) as new arrays."""
    a, slope = np.empty_like(z), np.empty_like(z)
    kernels.activation(kernels.ACTIVATION_CODES[name], parameter, z, a, slope)
    return a, slope


def largest_slope(name, parameter):
    if name in ("leaky_relu", "elu"):
        return max(1.0, abs(parameter))
    fixed = {
        "sigmoid": 0.25, "hard_sigmoid": 1 / 6, "selu": 1.7580993, "gelu": 1.1289041, "gelu_tanh": 1.1289930,
        "silu": 1.0998393, "mish": 1.0884981, "hard_silu": 1.5,
    }  # fmt: skip
    return fixed.get(name, 1.0)


def exact(name, p, z):
    """f(z) and f'(z) of an mpmath number."""
    e = mp.exp(-abs(z))
    if name == "sigmoid":
        return (e if z < 0 else 1) / (1 + e), e / (1 + e) ** 2
    if name == "tanh":
        return mp.tanh(z), 4 * e**2 / (1 + e**2) ** 2
    if name == "gelu":
        return z * mp.ncdf(z), mp.ncdf(z) + z * mp.npdf(z)
    if name == "exponential":
        return mp.exp(z), mp.exp(z)
    if name == "selu":
        return (SELU_SCALE * z, SELU_SCALE) if z > 0 else (SELU_PRODUCT * mp.expm1(z), SELU_PRODUCT * e)
    if name in ("softplus", "log_sigmoid"):
        sign = 1 if name == "softplus" else -1
        return sign * (max(sign * z, 0) + mp.log1p(e)), (e if sign * z < 0 else 1) / (1 + e)
    if name in ("silu", "gelu_tanh"):
        y = z if name == "silu" else mp.sqrt(8 / mp.pi) * (z + COEFFICIENT * z**3)
        dy = 1 if name == "silu" else mp.sqrt(8 / mp.pi) * (1 + 3 * COEFFICIENT * z**2)
        gate, flank = exact("sigmoid", p, y)
        return z * gate, gate + z * flank * dy
    if name == "mish":
        w = mp.exp(z)
        t, flank = w * (w + 2) / (w * (w + 2) + 2), 4 * (1 + w) ** 2 / (w * (w + 2) + 2) ** 2
        return z * t, t + z * flank * w / (1 + w)
    if name == "softsign":
        return z / (1 + abs(z)), 1 / (1 + abs(z)) ** 2
    if name == "relu6":
        return min(max(z, 0), 6), mp.mpf(0 < z < 6)
    if name == "hard_tanh":
        return min(max(z, -1), 1), mp.mpf(-1 < z < 1)
    if name == "hard_sigmoid":
        return min(max(z + 3, 0), 6) / 6, mp.mpf(-3 < z < 3) / 6
    if name == "hard_silu":
        return z * min(max(z + 3, 0), 6) / 6, 1 if z >= 3 else (2 * z + 3) / 6 if z > -3 else 0
    if name == "identity" or z > 0:
        return z, mp.one
    if name == "celu":
        return p * mp.expm1(z / p), mp.exp(z / p)
    return {"relu": (mp.zero, mp.zero), "leaky_relu": (p * z, p), "elu": (p * mp.expm1(z), p * e)}[name]


def double(name, p, z):
    """The same of a float64 array in double precision, far better than float32 needs."""
    e = np.exp(-np.abs(z))
    if name == "sigmoid":
        return np.where(z < 0, e, 1) / (1 + e), e / (1 + e) ** 2
    if name == "tanh":
        return np.tanh(z), 4 * e**2 / (1 + e**2) ** 2
    if name == "gelu":
        distribution = np.array([math.erfc(x) for x in -z / math.sqrt(2)]) / 2
        return z * distribution, distribution + z * np.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    if name == "exponential":
        return np.exp(z), np.exp(z)
    if name in ("softplus", "log_sigmoid"):
        sign = 1 if name == "softplus" else -1
        return sign * (np.maximum(sign * z, 0) + np.log1p(e)), np.where(sign * z < 0, e, 1) / (1 + e)
    if name in ("silu", "gelu_tanh"):
        a, b = (1.0, 0.0) if name == "silu" else (math.sqrt(8 / math.pi), 0.044715 * math.sqrt(8 / math.pi))
        y = np.clip(a * z + b * z**3, -745, 745)
        gate, flank = double("sigmoid", p, y)
        return z * gate, gate + np.where(np.abs(y) < 745, z * (a + 3 * b * z**2), 0) * flank
    if name == "mish":
        t, flank = double("tanh", p, double("softplus", p, z)[0])
        return z * t, t + z * flank * double("sigmoid", p, z)[0]
    if name == "softsign":
        return z / (1 + np.abs(z)), 1 / (1 + np.abs(z)) ** 2
    if name == "relu6":
        return np.clip(z, 0, 6), (z > 0) & (z < 6)
    if name == "hard_tanh":
        return np.clip(z, -1, 1), np.abs(z) < 1
    if name == "hard_sigmoid":
        return np.clip(z + 3, 0, 6) / 6, (np.abs(z) < 3) / 6
    if name == "hard_silu":
        return z * np.clip(z + 3, 0, 6) / 6, np.where(z >= 3, 1, np.where(z <= -3, 0, (2 * z + 3) / 6))
    minus = np.expm1(-np.abs(z))
    scale, product = float(SELU_SCALE), float(SELU_PRODUCT)
    value, slope = {
        "identity": (z, 1),
        "relu": (0, 0),
        "leaky_relu": (p * z, p),
        "elu": (p * minus, p * e),
        "celu": (p * np.expm1(-np.abs(z) / (p or 1)), np.exp(-np.abs(z) / (p or 1))),
        "selu": (product * minus, product * e),
    }[name]
    right = scale if name == "selu" else 1
    return np.where(z > 0, right * z, value), np.where(z > 0, right, slope)


def check(name, parameter, z, error, size):
    """`ULPS` for the value; 4 ULP or 2 eps of the largest slope, whichever is larger, for the slope."""
    info = np.finfo(z.dtype)
    unit = 2.0 ** (np.maximum(np.frexp(np.abs(size))[1] - 1, info.minexp) - info.nmant)
    floor = 2 * float(info.eps) * largest_slope(name, parameter)
    ulps = ULPS[z.dtype.str[1:]].get(name, 2)
    allowed = np.array([ulps * unit[0], np.maximum(4 * unit[1], floor)])
    excess = np.abs(error) / allowed
    what, where = np.unravel_index(np.argmax(excess), excess.shape)
    assert excess[what, where] <= 1, (
        f"{('value', 'slope')[what]} at {z[where]!r}: {excess[what, where]:.3g} times the error allowed"
    )


def overflow(name, dtype):
    """Where f(z) becomes infinite."""
    return math.log(float(np.finfo(dtype).max)) if name == "exponential" else float(np.finfo(dtype).max) / 2


@every_case
def test_float32_within_the_error_bounds(name, parameter):
    bits = np.arange(0, 2**32, 2**14 + 1, dtype="u4")  # every exponent, all kinds of mantissas, subnormals
    z = np.concatenate([bits.view("f4"), np.linspace(-110, 110, 40_001, dtype="f4")])
    z = z[np.isfinite(z)]
    z = z[np.abs(z) < overflow(name, "f4")]
    parameter = float(np.float32(parameter))
    with np.errstate(all="ignore"):  # what overflows double precision on its way to 0 or 1
        size = np.array(double(name, parameter, z.astype("f8")))
    got = np.array(evaluate(name, z, parameter))
    check(name, parameter, z, got.astype("f8") - size, size)


@every_case
def test_float64_within_the_error_bounds(name, parameter, rng):
    tails = ("sigmoid", "exponential", "softplus", "log_sigmoid", "silu", "mish")
    widest = 760 if name in tails else {"tanh": 380, "gelu": 39.5, "gelu_tanh": 22}.get(name, 50)
    tiny = np.exp(rng.uniform(-740, 0, 300)) * rng.choice([-1, 1], 300)
    z = np.concatenate([rng.uniform(-3, 3, 500), rng.uniform(-widest, widest, 700), tiny])
    z = z[z < overflow(name, "f8")]
    got = evaluate(name, z, parameter)
    with mp.workdps(DIGITS):
        true = np.array([exact(name, mp.mpf(parameter), mp.mpf(float(v))) for v in z]).T
        error = (np.array(got).astype(object) - true).astype("f8")
    check(name, parameter, z, error, true.astype("f8"))


@pytest.mark.parametrize(
    "name", ["sigmoid", "exponential", "gelu", "gelu_tanh", "softplus", "log_sigmoid", "silu", "mish"]
)
def test_subnormal_results_are_rounded_once(name, dtype):
    """From just below the smallest normal result to where everything rounds to zero."""
    info = np.finfo(dtype)
    bottom, top = math.log(float(info.smallest_subnormal)) - 1, math.log(float(info.smallest_normal))
    if name == "gelu":
        bottom, top = -math.sqrt(-2 * bottom), -math.sqrt(-2 * top)
    if name == "gelu_tanh":
        bottom, top = (-10.8, -10.1) if dtype == "f4" else (-21.56, -21.18)
    if name in ("silu", "mish"):
        bottom, top = bottom - math.log(-bottom) - 1, top - math.log(-top)
    if name == "log_sigmoid":
        bottom, top = -bottom, -top
    z = np.linspace(bottom, top, 400).astype(dtype)
    value, _ = evaluate(name, z)
    with mp.workdps(DIGITS):
        units = np.array(
            [float(exact(name, 0, mp.mpf(float(v)))[0] / float(info.smallest_subnormal)) for v in z]
        )
    assert np.abs(value / info.smallest_subnormal - units).max() <= ULPS[z.dtype.str[1:]].get(name, 2)
    assert value[0] == 0
    assert np.count_nonzero((value != 0) & (np.abs(value) < info.smallest_normal)) > 300


def test_sigmoid_of_minus_80_is_right_to_the_last_bits():
    value, slope = evaluate("sigmoid", np.array([-80], "f4"))
    assert value[0] == slope[0] == np.float32(math.exp(-80))
    value, slope = evaluate("sigmoid", np.array([-80], "f8"))
    np.testing.assert_array_max_ulp(value, np.array([math.exp(-80)]), 1)
    np.testing.assert_array_max_ulp(slope, np.array([math.exp(-80)]), 1)


def test_a_saturated_output_still_has_its_slope(dtype):
    z = np.array([40, -40], dtype)
    for name, true in (("sigmoid", math.exp(-40)), ("tanh", 4 * math.exp(-80))):
        value, slope = evaluate(name, z)
        assert value[0] == 1
        np.testing.assert_allclose(slope, [true, true], rtol=4 * np.finfo(dtype).eps)


@every_activation
def test_nan_gives_nan_in_value_and_slope_of_its_own_lane(name, dtype):
    for n in (1, 40):
        for place in {0, n // 2, n - 1}:
            z = np.full(n, 0.5, dtype)
            z[place] = np.nan
            for got in evaluate(name, z):
                assert np.flatnonzero(np.isnan(got)).tolist() == [place]


LIMITS = {  # f(-inf), f'(-inf), f(inf), f'(inf) with the parameter 0.3
    "identity": (-np.inf, 1, np.inf, 1),
    "sigmoid": (0, 0, 1, 0),
    "tanh": (-1, 0, 1, 0),
    "relu": (0, 0, np.inf, 1),
    "leaky_relu": (-np.inf, 0.3, np.inf, 1),
    "selu": (-float(SELU_PRODUCT), 0, np.inf, float(SELU_SCALE)),
    "elu": (-0.3, 0, np.inf, 1),
    "gelu": (0, 0, np.inf, 1),
    "exponential": (0, 0, np.inf, np.inf),
    "gelu_tanh": (0, 0, np.inf, 1),
    "silu": (0, 0, np.inf, 1),
    "mish": (0, 0, np.inf, 1),
    "softplus": (0, 0, np.inf, 1),
    "log_sigmoid": (-np.inf, 1, 0, 0),
    "softsign": (-1, 0, 1, 0),
    "relu6": (0, 0, 6, 0),
    "hard_tanh": (-1, 0, 1, 0),
    "hard_sigmoid": (0, 0, 1, 0),
    "hard_silu": (0, 0, np.inf, 1),
    "celu": (-0.3, 0, np.inf, 1),
}


@every_activation
def test_infinite_and_huge_arguments_give_the_limits(name, dtype):
    value, slope = evaluate(name, np.array([-np.inf, np.inf], dtype))
    limits = np.array(LIMITS[name], dtype)
    np.testing.assert_array_equal([value[0], slope[0], value[1], slope[1]], limits)
    huge = 1e30 if dtype == "f4" else 1e300
    value, slope = evaluate(name, np.array([-huge, huge], dtype))
    finite = np.where(np.isinf(limits) & (name != "exponential"), np.array([-0.3, 1, 1, 1]) * huge, limits)
    if name in ("identity", "log_sigmoid"):
        finite[0] = -huge
    if name == "selu":
        finite[2] = float(SELU_SCALE) * huge
    np.testing.assert_allclose([value[0], slope[0], value[1], slope[1]], finite, rtol=1e-6, atol=1e-44)


def test_leaky_relu_without_a_slope_and_celu_without_a_scale_are_relu(dtype):
    z = np.array([-np.inf, -1, -0.0, 0, 2, np.inf, np.nan], dtype)
    for name in ("leaky_relu", "celu"):
        for got, want in zip(evaluate(name, z, 0.0), evaluate("relu", z), strict=True):
            np.testing.assert_array_equal(got, want)


@every_activation
def test_the_slope_at_zero_is_the_one_from_the_left(name, dtype):
    at_zero = {"sigmoid": 0.25, "relu": 0, "leaky_relu": 0.3, "elu": 0.3, "selu": SELU_PRODUCT, "relu6": 0}
    at_zero |= {"hard_sigmoid": 1 / 6, "mish": 0.6}
    at_zero |= dict.fromkeys(("gelu", "gelu_tanh", "silu", "hard_silu", "softplus", "log_sigmoid"), 0.5)
    _, slope = evaluate(name, np.array([0.0, -0.0], dtype))
    np.testing.assert_array_equal(slope, np.full(2, float(at_zero.get(name, 1)), dtype))


def test_zero_gives_zero_of_the_right_sign(dtype):
    z = np.array([0.0, -0.0], dtype)
    odd = ("identity", "tanh", "hard_tanh", "softsign")
    for name in (*odd, "leaky_relu", "celu", "gelu", "gelu_tanh", "silu", "hard_silu", "mish"):
        assert np.signbit(evaluate(name, z)[0]).tolist() == [False, True], name
    for name in ("relu", "relu6", "elu", "selu"):
        assert np.signbit(evaluate(name, z)[0]).tolist() == [False, False], name
    for name in ("gelu", "gelu_tanh", "silu", "hard_silu", "mish"):  # a limit from below
        assert np.signbit(evaluate(name, np.array([-np.inf], dtype))[0]).all(), name


def test_bounded_functions_stay_within_their_bounds(dtype, rng):
    z = np.concatenate([rng.normal(0, 10, 20_000), rng.normal(0, 1e-3, 20_000)]).astype(dtype)
    sigmoid, slope = evaluate("sigmoid", z)
    assert 0 <= sigmoid.min() <= sigmoid.max() <= 1
    assert 0 < slope.min() <= slope.max() <= 0.25
    tanh, slope = evaluate("tanh", z)
    assert np.abs(tanh).max() <= 1
    assert slope.max() <= 1
    np.testing.assert_array_equal(evaluate("tanh", -z)[0], -tanh)


@every_activation
def test_every_length_and_alignment_in_place_and_without_slope(name, dtype, rng):
    """Bit by bit the same, whatever the place in the register, and not one element more."""
    code = kernels.ACTIVATION_CODES[name]
    z = rng.normal(0, 3, 90).astype(dtype)
    whole, whole_slope = evaluate(name, z)
    for n in range(71):
        part = slice(n % 17, n % 17 + n)
        values, slopes = np.full(90, 7, dtype), np.full(90, 7, dtype)
        kernels.activation(code, 0.3, z[part], values[part], slopes[part])
        in_place = np.full(90, 7, dtype)
        in_place[part] = z[part]
        kernels.activation(code, 0.3, in_place[part], in_place[part])
        for got, want in ((values, whole), (slopes, whole_slope), (in_place, whole)):
            np.testing.assert_array_equal(got[part], want[part])
            assert np.count_nonzero(got == 7) == 90 - n


@pytest.mark.parametrize(
    "name",
    [
        "sigmoid",
        "tanh",
        "elu",
        "selu",
        "celu",
        "exponential",
        "softplus",
        "log_sigmoid",
        "softsign",
        "hard_sigmoid",
    ],
)
def test_monotonic_functions_rise(name, dtype):
    """Neighbouring arguments may differ by the rounding of either result, never by more."""
    z = np.linspace(-20, 20, 100_001).astype(dtype)
    value, _ = evaluate(name, z, 1.0)
    fall = np.maximum(value[:-1] - value[1:], 0)
    assert (fall <= 4 * np.spacing(np.abs(value[1:]))).all()
