"""Derive the constants of gradcore/kernels/elementary.pxd and activations.pxd.

Run with mpmath and NumPy installed: ``python docs/derivations/elementary_polynomials.py``.
Each polynomial interpolates its function at Chebyshev nodes (within a small factor of the minimax
polynomial) at 60 digits. The coefficients are printed from the lowest power up, four to a line (see ``cubic``),
rounded to the dtype they are used in, with the error of the unrounded polynomial in units of its epsilon.
"""

from collections.abc import Callable

import mpmath as mp
import numpy as np

mp.mp.dps = 60
LN2 = mp.log(2)
DTYPES = (np.float32, np.float64)


def rounded(x: mp.mpf, dtype: type[np.floating]) -> str:
    """Return the shortest decimal literal of `x` rounded once to `dtype`."""
    bits = np.finfo(dtype).nmant + 1
    with mp.workprec(bits):
        nearest = +x
    return repr(float(str(dtype(float(nearest)))))


def leading_bits(x: mp.mpf, bits: int) -> mp.mpf:
    """Return `x` rounded to `bits` binary digits."""
    with mp.workprec(bits):
        return +x


def polynomial(
    title: str,
    f: Callable[[mp.mpf], mp.mpf],
    low: mp.mpf,
    high: mp.mpf,
    degree: int,
    dtype: type[np.floating],
) -> None:
    """Fit `f` on [low, high] and print the coefficients, lowest power first."""
    coefficients, error = mp.chebyfit(f, [low, high], degree + 1, error=True)
    print(
        f"\n{title}, {dtype.__name__}, degree {degree}: error {mp.nstr(error / float(np.finfo(dtype).eps), 2)} eps"
    )
    literals = [rounded(c, dtype) for c in reversed(coefficients)]
    for i in range(0, len(literals), 4):
        print("   ", ", ".join(literals[i : i + 4]))


def expm1_tail(r: mp.mpf) -> mp.mpf:
    """(exp(r) - 1 - r) / r²."""
    if abs(r) < mp.mpf("1e-20"):
        return mp.mpf(1) / 2 + r / 6
    return (mp.expm1(r) - r) / r**2


def log1p_tail(y: mp.mpf) -> mp.mpf:
    """(log(1 + y) - y) / y²."""
    if abs(y) < mp.mpf("1e-20"):
        return -mp.mpf(1) / 2 + y / 3
    return (mp.log1p(y) - y) / y**2


def tanh_tail(w: mp.mpf) -> mp.mpf:
    """(tanh(t) - t) / t³ with t² = w."""
    if w < mp.mpf("1e-20"):
        return -mp.mpf(1) / 3 + w * 2 / 15
    t = mp.sqrt(w)
    return (mp.tanh(t) - t) / t**3


def normal_tail(q: mp.mpf, k: mp.mpf) -> mp.mpf:
    """V with Φ(-t) exp(t²/2) = ½ / (1 + t + t V) at t = k (1 + q) / (1 - q)."""
    t = k * (1 + q) / (1 - q)
    if t < mp.mpf("1e-25"):
        return mp.sqrt(2 / mp.pi) - 1
    return (1 / (mp.erfc(t / mp.sqrt(2)) * mp.exp(t * t / 2)) - 1) / t - 1


for dtype, reduction_bits in zip(DTYPES, (16, 32), strict=True):
    high = leading_bits(LN2, reduction_bits)
    print(
        f"\n{dtype.__name__}: 1/ln2 {rounded(1 / LN2, dtype)}  ln2 = {rounded(high, dtype)} + "
        f"{rounded(LN2 - high, dtype)}  1/sqrt(2 pi) {rounded(1 / mp.sqrt(2 * mp.pi), dtype)}"
    )

half = LN2 / 2 * mp.mpf("1.0002")  # a little beyond ½ ln2: n is rounded from an inexact product
for dtype, degree in zip(DTYPES, (5, 10), strict=True):
    polynomial("expm1: (exp(r) - 1 - r) / r²", expm1_tail, -half, half, degree, dtype)

for dtype, degree in zip(DTYPES, (8, 19), strict=True):
    low, high = -mp.mpf(1) / 4, mp.mpf(1) / 2
    polynomial("log1p: (log(1 + y) - y) / y²", log1p_tail, low, high, degree, dtype)

for dtype, degree in zip(DTYPES, (4, 10), strict=True):
    # a little beyond ½ log 3, where tanh is ½
    polynomial("tanh: (tanh(t) - t) / t³ in t²", tanh_tail, mp.mpf(0), mp.mpf("0.56") ** 2, degree, dtype)

for dtype, centre, largest, degree in zip(DTYPES, ("4", "3.5"), ("14.75", "38.75"), (10, 24), strict=True):
    k, t_high = mp.mpf(centre), mp.mpf(largest)
    polynomial(
        f"normal tail: V in (t - {centre}) / (t + {centre}), t to {largest}",
        lambda q, k=k: normal_tail(q, k),
        mp.mpf(-1),
        (t_high - k) / (t_high + k),
        degree,
        dtype,
    )

# selu: the fixed point (mean 0, variance 1) of Klambauer et al. 2017, eq. 14
alpha = -mp.sqrt(2 / mp.pi) / (mp.erfc(1 / mp.sqrt(2)) * mp.exp(mp.mpf(1) / 2) - 1)
scale = (
    (1 - mp.erfc(1 / mp.sqrt(2)) * mp.sqrt(mp.e))
    * mp.sqrt(2 * mp.pi)
    / mp.sqrt(
        2 * mp.erfc(mp.sqrt(2)) * mp.e**2
        + mp.pi * mp.erfc(1 / mp.sqrt(2)) ** 2 * mp.e
        - 2 * (2 + mp.pi) * mp.erfc(1 / mp.sqrt(2)) * mp.sqrt(mp.e)
        + mp.pi
        + 2
    )
)
print(f"\nselu: scale {mp.nstr(scale, 20)}, alpha {mp.nstr(alpha, 20)}")
for dtype in DTYPES:
    product = scale * alpha
    high = leading_bits(product, np.finfo(dtype).nmant + 1)
    print(
        f"    {dtype.__name__}: scale {rounded(scale, dtype)}, scale·alpha = {rounded(high, dtype)} + "
        f"{rounded(product - high, dtype)}"
    )

# gelu_tanh: y = z (a + b z²) with a = 2 sqrt(2/π) and b = 0.044715 a
a = 2 * mp.sqrt(2 / mp.pi)
b = a * mp.mpf("0.044715")
for dtype in DTYPES:
    parts = []
    for constant in (a, b):
        high = leading_bits(constant, np.finfo(dtype).nmant + 1)
        parts.append(f"{rounded(high, dtype)} + {rounded(constant - high, dtype)}")
    print(f"\ngelu_tanh, {dtype.__name__}: a = {parts[0]}, b = {parts[1]}")


def sigmoid(y: mp.mpf) -> mp.mpf:
    """1 / (1 + exp(-y))."""
    return 1 / (1 + mp.exp(-y))


# the largest slope, where the second derivative vanishes (of gelu, φ(x)(2 - x²), at √2), and the least output
for name, f in {
    "gelu": lambda z: z * mp.ncdf(z),
    "gelu_tanh": lambda z: z * sigmoid(z * (a + b * z * z)),
    "silu": lambda z: z * sigmoid(z),
    "mish": lambda z: z * mp.tanh(mp.log1p(mp.exp(z))),
}.items():
    steepest = mp.findroot(lambda z, f=f: mp.diff(f, z, 2), mp.mpf("1.8"))
    lowest = mp.findroot(lambda z, f=f: mp.diff(f, z), -mp.mpf(1))
    print(
        f"\n{name}: largest slope {mp.nstr(mp.diff(f, steepest), 20)}, least output {mp.nstr(f(lowest), 20)}"
    )
