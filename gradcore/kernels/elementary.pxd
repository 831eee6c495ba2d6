# Elementary functions of a vector: exp, expm1, log1p and the tail of the normal distribution.
# Constants: docs/derivations/elementary_polynomials.py.  Error bounds hold on every instruction set, with and
# without FMA: what has to be exact is exact by the number of bits involved, not by a fused instruction.
from .simd cimport REAL_IS_SINGLE, msplat, vbits, vec, vfma, vmax, vmin, vpow2, vsplat


# exp(x) = 2^n exp(r) with r = x - n ln2 in ±½ ln2 (Cody and Waite 1980).  Returns r; `shifted` is n + 1.5·2^23
# (2^52 in double): adding that number rounds to an integer and leaves the integer in the low bits.
# The first part of ln2 is so short that n times it is exact.
cdef inline vec exp_reduce(vec x, vec* shifted) noexcept nogil:
    cdef vec n, r, shift
    if REAL_IS_SINGLE:
        shift = vsplat(12582912.0)
        shifted[0] = vfma(x, vsplat(1.442695), shift)
        n = shifted[0] - shift
        r = vfma(n, vsplat(-0.69314575), x)
        return vfma(n, vsplat(-1.4286068e-06), r)
    shift = vsplat(6755399441055744.0)
    shifted[0] = vfma(x, vsplat(1.4426950408889634), shift)
    n = shifted[0] - shift
    r = vfma(n, vsplat(-0.6931471806019545), x)
    return vfma(n, vsplat(4.2009150726810846e-11), r)


# exp(r) - 1 = r + r² q(r) for r in ±½ ln2
cdef inline vec expm1_reduced(vec r) noexcept nogil:
    cdef vec q
    if REAL_IS_SINGLE:
        q = vsplat(0.0013926191)
        q = vfma(q, r, vsplat(0.008363185))
        q = vfma(q, r, vsplat(0.041666556))
        q = vfma(q, r, vsplat(0.16666576))
        q = vfma(q, r, vsplat(0.5))
    else:
        q = vsplat(2.5100395159429243e-08)
        q = vfma(q, r, vsplat(2.7620101012098e-07))
        q = vfma(q, r, vsplat(2.7557268439678e-06))
        q = vfma(q, r, vsplat(2.4801521269532122e-05))
        q = vfma(q, r, vsplat(0.00019841269863066696))
        q = vfma(q, r, vsplat(0.0013888888917230724))
        q = vfma(q, r, vsplat(0.00833333333333006))
        q = vfma(q, r, vsplat(0.041666666666624094))
        q = vfma(q, r, vsplat(0.16666666666666669))
        q = vfma(q, r, vsplat(0.5000000000000001))
    return vfma(r * r, q, r)


# The smallest argument whose exponential may round to something else than zero, less a little
cdef inline vec exp_floor() noexcept nogil:
    return vsplat(-104.0) if REAL_IS_SINGLE else vsplat(-746.0)


# p 2^n for n <= 0: through 2^(n + 64), so that a subnormal result is rounded once
cdef inline vec scale_down(vec p, vec shifted) noexcept nogil:
    return p * vpow2(vbits(shifted) + msplat(64)) * vsplat(5.421010862427522e-20)


# exp(x) for x <= 0, to 1 ULP, subnormal results included
cdef inline vec vexp_down(vec x) noexcept nogil:
    cdef vec shifted
    cdef vec r = exp_reduce(vmax(exp_floor(), x), &shifted)
    return scale_down(vsplat(1.0) + expm1_reduced(r), shifted)


# exp(x) for every x, to 1 ULP, subnormal results included: 2^n in two factors, because 2^-150 and 2^128 are
# not numbers while what they scale is
cdef inline vec vexp(vec x) noexcept nogil:
    cdef vec shifted, half, p
    cdef vec ceiling = vsplat(89.0) if REAL_IS_SINGLE else vsplat(710.0)
    cdef vec bounded = vmax(exp_floor(), vmin(ceiling, x))
    p = vsplat(1.0) + expm1_reduced(exp_reduce(bounded, &shifted))
    if REAL_IS_SINGLE:
        half = vfma(bounded, vsplat(0.7213475), vsplat(12582912.0))
    else:
        half = vfma(bounded, vsplat(0.7213475204444817), vsplat(6755399441055744.0))
    return p * vpow2(vbits(half)) * vpow2(vbits(shifted) - vbits(half))


# exp(x) - 1 for x <= 0 as an unevaluated sum: returns the sum rounded, `low` is what rounding lost.
# exp(x) - 1 = 2^n m + (2^n - 1) with m = exp(r) - 1
cdef inline vec expm1_down(vec x, vec* low) noexcept nogil:
    cdef vec shifted, scale, part, whole, total
    cdef vec m = expm1_reduced(exp_reduce(vmax(vsplat(-60.0), x), &shifted))
    scale = vpow2(vbits(shifted))
    part = scale * m
    whole = scale - vsplat(1.0)
    total = whole + part
    low[0] = (whole - total) + part
    return total


# exp(x) - 1 for x <= 0
cdef inline vec vexpm1(vec x) noexcept nogil:
    cdef vec low
    return expm1_down(x, &low)


# log(1 + x) for x in [0, 1] (so log(1 + exp(-|z|)) of the losses): x - (½x² - s(½x² + s² R(s²))), s = x / (2 + x)
# (the form of fdlibm's log), where 2 atanh(s) = 2s + s³ R(s²)
cdef inline vec vlog1p(vec x) noexcept nogil:
    cdef vec s = x / (vsplat(2.0) + x)
    cdef vec z = s * s
    cdef vec half_square = vsplat(0.5) * x * x
    cdef vec p
    if REAL_IS_SINGLE:
        p = vsplat(0.2322433)
        p = vfma(p, z, vsplat(0.21706575))
        p = vfma(p, z, vsplat(0.28592357))
        p = vfma(p, z, vsplat(0.39999706))
        p = vfma(p, z, vsplat(0.6666667))
    else:
        p = vsplat(0.1616404561194353)
        p = vfma(p, z, vsplat(0.08800738486144674))
        p = vfma(p, z, vsplat(0.12001072809590713))
        p = vfma(p, z, vsplat(0.13314144209654935))
        p = vfma(p, z, vsplat(0.15385570064958623))
        p = vfma(p, z, vsplat(0.18181789436132859))
        p = vfma(p, z, vsplat(0.22222222717427864))
        p = vfma(p, z, vsplat(0.2857142856710876))
        p = vfma(p, z, vsplat(0.40000000000014585))
        p = vfma(p, z, vsplat(0.6666666666666666))
    return x - (half_square - s * vfma(p, z, half_square))


# Φ(-t) exp(t²/2) for t >= 0, where Φ is the normal distribution, as ½ / (1 + t V): V lies between 0.79 and 1.26
# and is a polynomial in (t - k) / (t + k), the transformation of M. M. Shepherd and J. G. Laframboise, Chebyshev
# approximation of (1 + 2x) exp(x²) erfc x, Math. Comp. 36 (1981)
cdef inline vec normal_tail(vec t) noexcept nogil:
    cdef vec k = vsplat(4.0) if REAL_IS_SINGLE else vsplat(3.5)
    cdef vec q = (t - k) / (t + k)
    cdef vec p
    if REAL_IS_SINGLE:
        p = vsplat(-0.00033585523)
        p = vfma(p, q, vsplat(-0.0007629815))
        p = vfma(p, q, vsplat(0.00087690895))
        p = vfma(p, q, vsplat(0.0020949324))
        p = vfma(p, q, vsplat(-0.0040683383))
        p = vfma(p, q, vsplat(-0.0028198687))
        p = vfma(p, q, vsplat(0.017596018))
        p = vfma(p, q, vsplat(-0.012548324))
        p = vfma(p, q, vsplat(-0.06259354))
        p = vfma(p, q, vsplat(0.24163017))
        p = vfma(p, q, vsplat(1.0740033))
    else:
        p = vsplat(9.881247824541667e-09)
        p = vfma(p, q, vsplat(-1.8966321218708793e-09))
        p = vfma(p, q, vsplat(-1.1507002525567942e-07))
        p = vfma(p, q, vsplat(-9.36031442029548e-10))
        p = vfma(p, q, vsplat(6.82370757277315e-07))
        p = vfma(p, q, vsplat(8.278263872445725e-08))
        p = vfma(p, q, vsplat(-2.979668759257515e-06))
        p = vfma(p, q, vsplat(-6.113777600550285e-07))
        p = vfma(p, q, vsplat(1.1191004791518882e-05))
        p = vfma(p, q, vsplat(2.9395454102071904e-06))
        p = vfma(p, q, vsplat(-3.88298270062893e-05))
        p = vfma(p, q, vsplat(-1.0577071654441414e-05))
        p = vfma(p, q, vsplat(0.00012897996887290046))
        p = vfma(p, q, vsplat(2.677592669462369e-05))
        p = vfma(p, q, vsplat(-0.00041903059146740747))
        p = vfma(p, q, vsplat(-1.7794792282647853e-05))
        p = vfma(p, q, vsplat(0.0013492413289053916))
        p = vfma(p, q, vsplat(-0.0003432595802874552))
        p = vfma(p, q, vsplat(-0.004328545620279483))
        p = vfma(p, q, vsplat(0.0032623656052654256))
        p = vfma(p, q, vsplat(0.013778243490870179))
        p = vfma(p, q, vsplat(-0.023882549274993437))
        p = vfma(p, q, vsplat(-0.04249998588689906))
        p = vfma(p, q, vsplat(0.2486774193186416))
        p = vfma(p, q, vsplat(1.0576204876708661))
    return vsplat(0.5) / vfma(t, p, vsplat(1.0))
