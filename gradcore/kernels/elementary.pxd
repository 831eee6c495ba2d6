# Elementary functions of a vector: exp, expm1, log1p and the tail of the normal distribution.
# Constants: docs/derivations/elementary_polynomials.py.  Error bounds hold on every instruction set, with and
# without FMA: what has to be exact is exact by the number of bits involved, not by a fused instruction.
from .simd cimport REAL_IS_SINGLE, msplat, real, vbits, vec, vfma, vmax, vmin, vpow2, vsplat


# a + b x + c x² + d x³.  Long polynomials are nested in x⁴: their longest chain of dependent operations is a
# quarter of Horner's.
cdef inline vec cubic(vec x, vec x2, real a, real b, real c, real d) noexcept nogil:
    return vfma(x2, vfma(x, vsplat(d), vsplat(c)), vfma(x, vsplat(b), vsplat(a)))


# exp(x) = 2^n exp(r) with n the integer next to x / ln2 and r = x - n ln2 in ±½ ln2 (Cody and Waite 1980).
# Adding 1.5·2^23 (1.5·2^52 in double) rounds x / ln2 to n and leaves n in the low bits: the sum is `shifted`.
cdef inline vec exp_shift() noexcept nogil:
    return vsplat(12582912.0) if REAL_IS_SINGLE else vsplat(6755399441055744.0)


cdef inline vec exp_shifted(vec x) noexcept nogil:
    return vfma(x, vsplat(1.442695) if REAL_IS_SINGLE else vsplat(1.4426950408889634), exp_shift())


# r as a sum: ln2 is in two parts, the first so short that n times it and the difference to x are exact
cdef inline vec exp_remainder_high(vec x, vec shifted) noexcept nogil:
    cdef vec ln2_high = vsplat(0.69314575) if REAL_IS_SINGLE else vsplat(0.6931471806019545)
    return x - (shifted - exp_shift()) * ln2_high


cdef inline vec exp_remainder_low(vec shifted) noexcept nogil:
    cdef vec ln2_low = vsplat(1.4286068e-06) if REAL_IS_SINGLE else vsplat(-4.2009150726810846e-11)
    return -(shifted - exp_shift()) * ln2_low


cdef inline vec exp_remainder(vec x, vec shifted) noexcept nogil:
    return exp_remainder_high(x, shifted) + exp_remainder_low(shifted)


# exp(r) - 1 = r + r² p(r) for r in ±½ ln2; `low` is what rounding the sum lost
cdef inline vec expm1_reduced(vec r, vec* low) noexcept nogil:
    cdef vec r2 = r * r
    cdef vec r4 = r2 * r2
    cdef vec p, rest, total
    if REAL_IS_SINGLE:
        p = vfma(r, vsplat(0.00019891001), vsplat(0.0013933659))
        p = vfma(p, r4, cubic(r, r2, 0.5, 0.16666667, 0.041666463, 0.0083333105))
    else:
        p = vfma(r2, vsplat(2.0914694560351592e-09),
                 vfma(r, vsplat(2.510522763655176e-08), vsplat(2.755727362486648e-07)))
        p = vfma(p, r4, cubic(r, r2, 0.0013888888888883744, 0.00019841269874840768, 2.4801587325562125e-05,
                              2.7557255374658744e-06))
        p = vfma(p, r4, cubic(r, r2, 0.5, 0.1666666666666667, 0.04166666666666667, 0.008333333333326129))
    rest = r2 * p
    total = r + rest
    low[0] = (r - total) + rest
    return total


# A little below the smallest argument whose exponential does not round to zero
cdef inline vec exp_floor() noexcept nogil:
    return vsplat(-104.0) if REAL_IS_SINGLE else vsplat(-746.0)


# p 2^n for n <= 0: through 2^(n + 64), so that a subnormal result is rounded once
cdef inline vec scale_down(vec p, vec shifted) noexcept nogil:
    return p * vpow2(vbits(shifted) + msplat(64)) * vsplat(5.421010862427522e-20)


# exp(x) for x <= 0, to 1 ULP, subnormal results included
cdef inline vec vexp_down(vec x) noexcept nogil:
    cdef vec bounded = vmax(exp_floor(), x)
    cdef vec shifted = exp_shifted(bounded)
    cdef vec low
    return scale_down(vsplat(1.0) + expm1_reduced(exp_remainder(bounded, shifted), &low), shifted)


# exp(x) for every x, to 1 ULP, subnormal results included: 2^n in two factors, because 2^-150 and 2^128 are
# not numbers while what they scale is
cdef inline vec vexp(vec x) noexcept nogil:
    cdef vec bounded = vmax(exp_floor(), vmin(vsplat(89.0) if REAL_IS_SINGLE else vsplat(710.0), x))
    cdef vec shifted = exp_shifted(bounded)
    cdef vec half = exp_shifted(vsplat(0.5) * bounded)
    cdef vec low
    cdef vec p = vsplat(1.0) + expm1_reduced(exp_remainder(bounded, shifted), &low)
    return p * vpow2(vbits(half)) * vpow2(vbits(shifted) - vbits(half))


# exp(x) - 1 for x <= 0, to 1 ULP, as 2^n m + (2^n - 1) with m = exp(r) - 1.  `low` is what rounding the sum
# lost, `exponential` is exp(x).
cdef inline vec expm1_down(vec x, vec* low, vec* exponential) noexcept nogil:
    cdef vec bounded = vmax(exp_floor(), x)
    cdef vec shifted = exp_shifted(bounded)
    cdef vec m_low
    cdef vec m = expm1_reduced(exp_remainder(bounded, shifted), &m_low)
    cdef vec scale = scale_down(vsplat(1.0), shifted)
    cdef vec part = scale * m
    cdef vec whole = scale - vsplat(1.0)
    cdef vec total = whole + part
    low[0] = ((whole - total) + part) + scale * m_low
    exponential[0] = scale_down(vsplat(1.0) + m, shifted)
    return total


# log(1 + x) for x in [0, 1], to 2 ULP: x - (½x² - s(½x² + s² p(s²))) with s = x / (2 + x), because
# log(1 + x) = 2 atanh(s) = 2s + s³ p(s²) (the form of fdlibm's log1p)
cdef inline vec vlog1p(vec x) noexcept nogil:
    cdef vec s = x / (vsplat(2.0) + x)
    cdef vec z = s * s
    cdef vec z2 = z * z
    cdef vec z4 = z2 * z2
    cdef vec half_square = vsplat(0.5) * x * x
    cdef vec p
    if REAL_IS_SINGLE:
        p = vsplat(0.2322433)
        p = vfma(p, z4, cubic(z, z2, 0.6666667, 0.39999706, 0.28592357, 0.21706575))
    else:
        p = vfma(z, vsplat(0.1616404561194353), vsplat(0.08800738486144674))
        p = vfma(p, z4, cubic(z, z2, 0.18181789436132859, 0.15385570064958623, 0.13314144209654935,
                              0.12001072809590713))
        p = vfma(p, z4, cubic(z, z2, 0.6666666666666666, 0.40000000000014585, 0.2857142856710876,
                              0.22222222717427864))
    return x - (half_square - s * vfma(p, z, half_square))


# 1 + t + t V with Φ(-t) exp(t²/2) = ½ / (1 + t + t V) for t >= 0, where Φ is the normal distribution.  V lies
# between -0.21 and 0.26 and is a polynomial in (t - k) / (t + k), the transformation of M. M. Shepherd and
# J. G. Laframboise, Chebyshev approximation of (1 + 2x) exp(x²) erfc x, Math. Comp. 36 (1981).
cdef inline vec normal_tail_divisor(vec t) noexcept nogil:
    cdef vec k = vsplat(4.0) if REAL_IS_SINGLE else vsplat(3.5)
    cdef vec sum = vsplat(1.0) + t
    cdef vec q = (t - k) / (t + k)
    cdef vec q2 = q * q
    cdef vec q4 = q2 * q2
    cdef vec p
    if REAL_IS_SINGLE:
        p = vfma(q2, vsplat(-0.00033341214), vfma(q, vsplat(-0.0007563791), vsplat(0.00088134495)))
        p = vfma(p, q4, cubic(q, q2, 0.017596573, -0.0028200662, -0.004071372, 0.002092813))
        p = vfma(p, q4, cubic(q, q2, 0.074003294, 0.24163017, -0.06259357, -0.012548234))
    else:
        p = vsplat(9.755250109272229e-09)
        p = vfma(p, q4, cubic(q, q2, 6.821999424549257e-07, 1.531342021646047e-10, -1.1475383067053988e-07,
                              -2.1820736880478846e-09))
        p = vfma(p, q4, cubic(q, q2, 1.1191514720284332e-05, -6.096741352176393e-07, -2.979945252560001e-06,
                              8.097783103676956e-08))
        p = vfma(p, q4, cubic(q, q2, 0.00012898012952906036, -1.0576680670561814e-05, -3.8830206133250164e-05,
                              2.9385354336256838e-06))
        p = vfma(p, q4, cubic(q, q2, 0.0013492413353912178, -1.7794775903338205e-05, -0.0004190306329436269,
                              2.6775827137707377e-05))
        p = vfma(p, q4, cubic(q, q2, 0.013778243490896501, 0.0032623656053604303, -0.004328545620860375,
                              -0.0003432595819495565))
        p = vfma(p, q4, cubic(q, q2, 0.05762048767086605, 0.24867741931864162, -0.042499985886899516,
                              -0.02388254927499599))
    return sum + vfma(t, p, t - (sum - vsplat(1.0)))
