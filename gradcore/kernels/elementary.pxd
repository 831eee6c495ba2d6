# Elementary functions of a vector: exp, expm1, the divisor of the logistic function, log1p, what tanh differs by from
# its argument, and the tail of the normal distribution.
# Constants: docs/derivations/elementary_polynomials.py.  Error bounds hold on every instruction set, with and
# without FMA: what has to be exact is exact by the number of bits involved, not by a fused instruction.
from .simd cimport (
    REAL_EXPONENT_BIAS, REAL_IS_SINGLE, mask, real, vabs, vbits, vec, vfma, vless_equal, vmax, vmin, vpow2, vpower, vreal,
    vselect, vsplat,
)


# a + b x + c x² + d x³.  Long polynomials are nested in x⁴: their longest chain of dependent operations is a
# quarter of Horner's.
cdef inline vec cubic(vec x, vec x2, real a, real b, real c, real d) noexcept nogil:
    return vfma(x2, vfma(x, vsplat(d), vsplat(c)), vfma(x, vsplat(b), vsplat(a)))


# exp(x) = 2^n exp(r) with n the integer next to x / ln2 and r = x - n ln2 in ±½ ln2 (Cody and Waite 1980).
# Adding 1.5·2^23 (1.5·2^52 in double) rounds x / ln2 to n and leaves n in the low bits; this constant is larger by
# the exponent's bias and by `scale`, and leaves the exponent field of 2^(n + scale) there.
cdef inline vec exp_shift(int scale) noexcept nogil:
    cdef vec half = vsplat(12582912.0) if REAL_IS_SINGLE else vsplat(6755399441055744.0)
    return half + vsplat(REAL_EXPONENT_BIAS + scale)


cdef inline vec exp_shifted(vec x, int scale) noexcept nogil:
    return vfma(x, vsplat(1.442695) if REAL_IS_SINGLE else vsplat(1.4426950408889634), exp_shift(scale))


# Scales that keep 2^(n + scale) a normal number: DOWN for arguments <= 0 to where exp(x) rounds to zero, up() for
# arguments >= 0 to where exp(-x) does.  One product with a power of two at the end rounds a subnormal result once.
cdef enum:
    DOWN = 64


cdef inline int up() noexcept nogil:
    return -40 if REAL_IS_SINGLE else -100


cdef inline vec unscale_down() noexcept nogil:     # 2^-DOWN
    return vsplat(5.421010862427522e-20)


cdef inline vec scaled_one() noexcept nogil:       # 2^up()
    return vsplat(9.094947017729282e-13) if REAL_IS_SINGLE else vsplat(7.888609052210118e-31)


# exp(x - excess) = 2^n (1 + m): returns m, and the shifted x, whose power is 2^(n + scale); `low` is what rounding m
# lost.  ln2 is in two parts, the first so short that n times it and the difference to x are exact.
cdef inline vec exp_reduced(vec x, vec excess, int scale, vec* shifted, vec* low) noexcept nogil:
    cdef vec ln2_high = vsplat(0.69314575) if REAL_IS_SINGLE else vsplat(0.6931471806019545)
    cdef vec ln2_low = vsplat(1.4286068e-06) if REAL_IS_SINGLE else vsplat(-4.2009150726810846e-11)
    cdef vec n
    shifted[0] = exp_shifted(x, scale)
    n = shifted[0] - exp_shift(scale)
    return expm1_reduced((x - n * ln2_high) + (-n * ln2_low - excess), low)


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


# exp(x) for x <= 0, to 1 ULP, subnormal results included
cdef inline vec vexp_down(vec x) noexcept nogil:
    cdef vec shifted, low
    cdef vec m = exp_reduced(vmax(exp_floor(), x), vsplat(0.0), DOWN, &shifted, &low)
    return (vsplat(1.0) + m) * vpower(shifted) * unscale_down()


# exp(x) for every x, to 1 ULP, subnormal results included: 2^n in two factors, because 2^-150 and 2^128 are
# not numbers while what they scale is
cdef inline vec vexp(vec x) noexcept nogil:
    cdef vec bounded = vmax(exp_floor(), vmin(vsplat(89.0) if REAL_IS_SINGLE else vsplat(710.0), x))
    cdef vec half = exp_shifted(vsplat(0.5) * bounded, 0)
    cdef vec shifted, low
    cdef vec m = exp_reduced(bounded, vsplat(0.0), 0, &shifted, &low)
    return (vsplat(1.0) + m) * vpower(half) * vpow2(vbits(shifted) - vbits(half))


# exp(x - excess) - 1 for x <= 0, to 1 ULP, as 2^n m + (2^n - 1) with m = exp(r) - 1.  `low` is what rounding the sum
# lost, `exponential` is exp(x - excess).
cdef inline vec expm1_down(vec x, vec excess, vec* low, vec* exponential) noexcept nogil:
    cdef vec shifted, m_low
    cdef vec m = exp_reduced(vmax(exp_floor(), x), excess, DOWN, &shifted, &m_low)
    cdef vec power = vpower(shifted) * unscale_down()
    cdef vec whole = power - vsplat(1.0)
    cdef vec total = vfma(power, m, whole)
    low[0] = vfma(power, m_low, vfma(power, m, whole - total))
    exponential[0] = vfma(power, m, power)
    return total


# 1 + exp(x - excess) for x >= 0, times 2^up(); `low` is what rounding it lost.  2^up() over it is the logistic function
# of -x, to 2 ULP, and to 1 with `low`.
cdef inline vec logistic_divisor(vec x, vec excess, vec* low) noexcept nogil:
    cdef vec one = scaled_one()
    cdef vec shifted, m_low
    cdef vec bounded = vmin(vsplat(110.0) if REAL_IS_SINGLE else vsplat(752.0), x)
    cdef vec m = exp_reduced(bounded, excess, up(), &shifted, &m_low)
    cdef vec power = vpower(shifted)
    cdef vec divisor = vfma(power, m, one) + power
    low[0] = vfma(power, m_low, vfma(power, m, power - divisor) + one)
    return divisor


# log(1 + x) = whole + (y + log1p_rest) for x in [0, 1], to 1 ULP: from ½ on it is log 2 + log(1 + y) with
# y = (x - 1) / 2, which is exact, and below y = x.  The rest, log(1 + y) - y = y² p(y), is at most a tenth.
cdef inline vec log1p_rest(vec x, vec* whole, vec* y) noexcept nogil:
    cdef mask upper = vless_equal(vsplat(0.5), x)
    cdef vec ln2 = vsplat(0.6931472) if REAL_IS_SINGLE else vsplat(0.6931471805599453)
    cdef vec near = vselect(upper, vfma(vsplat(0.5), x, vsplat(-0.5)), x)
    cdef vec y2 = near * near
    cdef vec y4 = y2 * y2
    cdef vec p
    whole[0] = vreal(vbits(ln2) & upper)
    y[0] = near
    if REAL_IS_SINGLE:
        p = vsplat(-0.047382426)
        p = vfma(p, y4, cubic(near, y2, -0.16647644, 0.14438456, -0.13122877, 0.10625629))
        p = vfma(p, y4, cubic(near, y2, -0.5, 0.33333397, -0.25000155, 0.19993593))
    else:
        p = cubic(near, y2, -0.05960638687951661, 0.051265738424224654, -0.03030717076211202, 0.008530036528908646)
        p = vfma(p, y4, cubic(near, y2, -0.07139656562562867, 0.0664567141621816, -0.06244761636751673,
                              0.0606185379532562))
        p = vfma(p, y4, cubic(near, y2, -0.09999989395193648, 0.0909088944656494, -0.08333614682651129,
                              0.07693315477119564))
        p = vfma(p, y4, cubic(near, y2, -0.1666666666479392, 0.14285714291181617, -0.12500000202368583,
                              0.11111111095866555))
        p = vfma(p, y4, cubic(near, y2, -0.49999999999999994, 0.3333333333333346, -0.25000000000006717,
                              0.1999999999994374))
    return y2 * p


cdef inline vec vlog1p(vec x) noexcept nogil:
    cdef vec whole, y
    cdef vec rest = log1p_rest(x, &whole, &y)
    return whole + (y + rest)


# max(z, 0) + log(1 + exp(-|z|)) = log(1 + exp(z)), to 1 ULP; `exponential` is exp(-|z|), and what its rounding lost
# is put back to first order
cdef inline vec log1p_exp(vec z, vec* exponential) noexcept nogil:
    cdef vec one = vsplat(1.0)
    cdef vec shifted, low, whole, y
    cdef vec m = exp_reduced(vmax(exp_floor(), -vabs(z)), vsplat(0.0), DOWN, &shifted, &low)
    cdef vec p = one + m
    cdef vec power = vpower(shifted) * unscale_down()
    cdef vec e = p * power
    cdef vec rest = log1p_rest(e, &whole, &y)
    exponential[0] = e
    rest = vfma(power * ((one - p) + m), vfma(vsplat(-0.5), e, one), rest)     # 1 / (1 + e), nearly
    return whole + (vmax(vsplat(0.0), z) + (y + rest))


# tanh(t) - t = t³ p(t²) for t in [0, 0.56], over t³
cdef inline vec tanh_rest(vec w) noexcept nogil:
    cdef vec w2 = w * w
    cdef vec w4 = w2 * w2
    cdef vec p
    if REAL_IS_SINGLE:       # Horner's chain is short beside that of the exponential, and needs no powers
        p = vfma(w, vfma(w, vsplat(-0.006542542), vsplat(0.021272749)), vsplat(-0.05390335))
        return vfma(w, vfma(w, p, vsplat(0.13333082)), vsplat(-0.3333333))
    p = vfma(w2, vsplat(-2.0141494563083882e-05),
             vfma(w, vsplat(8.443719567103072e-05), vsplat(-0.0002342148186711548)))
    p = vfma(p, w4, cubic(w, w2, -0.008863234104802229, 0.003592106586471979, -0.001455632070932804,
                          0.000588792024475583))
    return vfma(p, w4, cubic(w, w2, -0.3333333333333333, 0.13333333333332467, -0.05396825396714515,
                             0.021869488480722565))


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
