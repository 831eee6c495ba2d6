"""Activations as C: one entry each, in double as a person would write it; float32 is made of it by its suffixes.

Formulas keep their digits where the obvious ones lose them: no exponential of a positive number that may overflow,
``expm1`` and ``log1p`` near zero. NaN stays NaN, infinities give the limits.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

_FUNCTIONS = ("erfc", "exp", "expm1", "fabs", "fma", "log1p", "sqrt", "tanh")
_CALL = re.compile(rf"\b({'|'.join(_FUNCTIONS)})\(")
_DECIMAL = re.compile(r"\b\d+\.\d*(e[+-]?\d+)?")


@dataclass(frozen=True)
class CFunction:
    """The body of ``double f(double z)``, or ``f(double z, double p)`` where the activation has a parameter.

    Attributes
    ----------
    body : str
        Statements that end with a return; constants with a point, so that float32 finds them.
    wide : bool
        Computed in double for float32, too: its tail would lose digits in float.
    """

    body: str
    wide: bool = False


# z P is small because P is: exp(z) is then rounded below the normal range before z brings the product back into it,
# so the exponential goes in by halves.
_TAIL = """
if (z < -700) {
    const double half = exp(z / 2);
    return z < -2000 ? -0.0 : z * half * half;
}
"""

FUNCTIONS: dict[str, CFunction] = {
    "identity": CFunction("return z;"),
    "sigmoid": CFunction("""
const double e = exp(-fabs(z));
return z >= 0 ? 1 / (1 + e) : e / (1 + e);
"""),
    "log_sigmoid": CFunction("return (z < 0 ? z : 0) - log1p(exp(-fabs(z)));"),
    "hard_sigmoid": CFunction("return z <= -3 ? 0 : z >= 3 ? 1 : (z + 3) / 6;"),
    "tanh": CFunction("return tanh(z);"),
    "hard_tanh": CFunction("return z < -1 ? -1 : z > 1 ? 1 : z;"),
    "softsign": CFunction("return isinf(z) ? (z > 0 ? 1 : -1) : z / (1 + fabs(z));"),
    "softplus": CFunction("return (z > 0 ? z : 0) + log1p(exp(-fabs(z)));"),
    "relu": CFunction("return z <= 0 ? 0 : z;"),
    "relu6": CFunction("return z <= 0 ? 0 : z >= 6 ? 6 : z;"),
    # (a slope of 0 makes 0 of -inf)
    "leaky_relu": CFunction("return !(z <= 0) ? z : p != 0 ? p * z : 0;"),
    "elu": CFunction("return z > 0 ? z : p * expm1(z);"),
    "selu": CFunction("""
return z > 0 ? 1.0507009873554804934193349852946 * z : 1.7580993408473768599402175208123 * expm1(z);
"""),
    "celu": CFunction("return z > 0 ? z : p * expm1(z / p);"),
    # Phi(z) = erfc(x) / 2, x = -z / sqrt(2). The rounding of x is worth 2 x^2 times its size in the tail, so it is
    # found (fma; the constant's own is 4.8e-17) and corrected: erfc(x + d) = erfc(x) - 2 / sqrt(pi) exp(-x^2) d.
    # Where erfc leaves the normal range: the asymptotic series z Phi(z) = -phi(z) (1 - 1/z^2 + 3/z^4 - 15/z^6 + ...).
    "gelu": CFunction("""
const double x = z * -0.70710678118654752440;
if (z > 40)
    return z;
if (z < -40)
    return -0.0;
if (z < -36) {
    const double square = z * z, rest = fma(z, z, -square), half = exp(-square / 4), s = 1 / square;
    const double series = 1 - s * (1 - s * (3 - s * (15 - s * (105 - s * (945 - s * 10395)))));
    return -0.39894228040143267794 * series * (1 - rest / 2) * half * half;
}
return z / 2 * (erfc(x) - 1.1283791670955125739 * exp(-x * x) *
                (fma(z, -0.70710678118654752440, -x) + z * 4.8336466567264567e-17));
""", wide=True),
    # z / (1 + exp(-t)), t = 2 sqrt(2 / pi) (z + 0.044715 z^3), which is z / 2 (1 + tanh(t / 2)). The rounding of t is
    # worth t times its size, so t is computed in two parts.
    "gelu_tanh": CFunction("""
const double c = 1.5957691216057307117, a = 0.044715;
const double square = z * z, cubic = a * square, sum = 1 + cubic, back = sum - 1;
const double low = (1 - (sum - back)) + (cubic - back) + fma(a, square, -cubic) +
                   (a * fma(z, z, -square) + 2.196e-18 * square);
const double line = c * z, t = line * sum;
const double rest = fma(line, sum, -t) + line * low + (fma(c, z, -line) - 9.9693088091109e-17 * z) * sum;
if (z > 40)
    return z;
if (z < -40)
    return -0.0;
if (z >= 0)
    return z / (1 + exp(-t) * (1 - rest));
const double half = exp(t / 2);
return z * half / (1 + half * half) * half * (1 + rest);
""", wide=True),
    "silu": CFunction(_TAIL + """
const double e = exp(-fabs(z));
return z >= 0 ? z / (1 + e) : z * e / (1 + e);
""", wide=True),
    "hard_silu": CFunction("return z <= -3 ? 0 : z >= 3 ? z : z * (z + 3) / 6;"),
    # tanh(log(1 + w)) = (w^2 + 2 w) / (w^2 + 2 w + 2), w = exp(z); for z >= 0 both sides times exp(-2 z)
    "mish": CFunction(_TAIL + """
const double e = exp(-fabs(z)), n = z >= 0 ? 1 + 2 * e : e * (e + 2);
return z * (n / (n + 2 * (z >= 0 ? e * e : 1)));
""", wide=True),
    "exponential": CFunction("return exp(z);"),
}  # fmt: skip


def in_single(source: str) -> str:
    """Return C written in double with float's types, functions and constants.

    Examples
    --------
    >>> in_single("const double e = exp(-fabs(z)) * 0.5;")
    'const float e = expf(-fabsf(z)) * 0.5f;'
    """
    source = re.sub(r"\bdouble\b", "float", source)
    return _DECIMAL.sub(r"\g<0>f", _CALL.sub(r"\1f(", source))


def scalar_function(activation: str, name: str, dtype: np.dtype[Any], *, has_parameter: bool) -> str:
    """Return the C of a static function of one number (its type is double where the entry is wide).

    Examples
    --------
    >>> print(scalar_function("softplus", "net_softplus", np.dtype("float32"), has_parameter=False))
    static float net_softplus(float z)
    {
        return (z > 0 ? z : 0) + log1pf(expf(-fabsf(z)));
    }
    """
    entry = FUNCTIONS[activation]
    parameter = ", double p" if has_parameter else ""
    body = "".join(f"    {line}\n" for line in entry.body.strip().splitlines())
    source = f"static double {name}(double z{parameter})\n{{\n{body}}}"
    return in_single(source) if dtype == np.float32 and not entry.wide else source
