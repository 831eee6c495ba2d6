# Activation functions, element by element: f(z) and, on demand, f'(z), computed from z while the exponential
# is at hand (the output cannot tell: a sigmoid that rounds to 1 still has a slope).
# A new function is one `cdef inline vec` and its entry in `evaluate`, which also states its largest slope.
from libc.string cimport memcpy
from .elementary cimport (
    exp_floor, exp_remainder, exp_remainder_high, exp_remainder_low, exp_shifted, expm1_down, expm1_reduced,
    normal_tail_divisor, scale_down, vexp,
)
from .simd cimport (
    LANES, REAL_IS_SINGLE, mask, mnot, msplat, real, vabs, vbits, vcopysign, vec, vequal, vfma, vless,
    vless_equal, vload, vmax, vmin, vreal, vselect, vsplat, vstore,
)
from .types cimport ELU, EXPONENTIAL, GELU, LEAKY_RELU, RELU, SELU, SIGMOID, TANH, index

# f(z), and f'(z) into `slope` where it is not NULL
ctypedef vec (*Function)(vec z, real parameter, vec* slope) noexcept nogil


# f(z) = z,  f'(z) = 1
cdef inline vec identity(vec z, real parameter, vec* slope) noexcept nogil:
    if slope != NULL:
        slope[0] = vselect(vequal(z, z), vsplat(1.0), z)
    return z


# f(z) = 1 / (1 + exp(-z)),  f'(z) = f(-|z|) f(|z|)
# f(-|z|) = e / (1 + e) with e = exp(-|z|), which cannot overflow; f(|z|) = 1 - f(-|z|) does not cancel.
# What the rounding of e and of 1 + e lost is put back by one Newton step: a relative change of e by ρ changes
# e / (1 + e) by ρ f(|z|).
cdef inline vec sigmoid(vec z, real parameter, vec* slope) noexcept nogil:
    cdef vec one = vsplat(1.0)
    cdef vec bounded = vmax(exp_floor(), -vabs(z))
    cdef vec shifted = exp_shifted(bounded)
    cdef vec low
    cdef vec m = expm1_reduced(exp_remainder(bounded, shifted), &low)
    cdef vec p = one + m
    cdef vec e = scale_down(p, shifted)
    cdef vec divisor = one + e
    cdef vec lower = e / divisor
    cdef vec upper
    low = (one - p) + m
    low = (low - low * m) - ((one - divisor) + e)
    lower = vfma(lower * low, one - lower, lower)
    upper = one - lower
    if slope != NULL:
        slope[0] = lower * upper
    return vselect(vless(z, vsplat(0.0)), lower, upper)


# f(z) = (exp(2z) - 1) / (exp(2z) + 1),  f'(z) = 4 s (1 - s), s = exp(-2|z|) (1 + |f(z)|) / 2
# On |z|: -d / (2 + d) with d = exp(-2|z|) - 1 neither overflows nor cancels.  d and 2 + d keep what their
# rounding lost, and one Newton step, for which 1 / (2 + d) is known to be (1 - d / (2 + d)) / 2, restores it.
cdef inline vec tanh(vec z, real parameter, vec* slope) noexcept nogil:
    cdef vec one = vsplat(1.0), two = vsplat(2.0), half = vsplat(0.5)
    cdef vec d_low, e
    cdef vec d = expm1_down(vsplat(-2.0) * vabs(z), &d_low, &e)
    cdef vec divisor = two + d
    cdef vec divisor_low = ((two - divisor) + d) + d_low
    cdef vec a = d / divisor
    cdef vec s
    a = vfma(d_low - a * divisor_low, half - half * a, a)
    if slope != NULL:
        s = e * (half - half * a)
        slope[0] = vsplat(4.0) * s * (one - s)
    return vcopysign(a, z)


# f(z) = max(z, 0),  f'(z) = 1 for z > 0, 0 for z <= 0 (at the kink as in PyTorch, TensorFlow and JAX).
# f(-0.0) = +0.0
cdef inline vec relu(vec z, real parameter, vec* slope) noexcept nogil:
    cdef mask flat = vless_equal(z, vsplat(0.0))
    if slope != NULL:
        slope[0] = vreal(vbits(vselect(vequal(z, z), vsplat(1.0), z)) & mnot(flat))
    return vreal(vbits(z) & mnot(flat))


# f(z) = z for z > 0, negative_slope z for z <= 0;  f'(z) = 1 or negative_slope (negative_slope at the kink)
cdef inline vec leaky_relu(vec z, real parameter, vec* slope) noexcept nogil:
    cdef mask positive = vless(vsplat(0.0), z)
    if slope != NULL:
        slope[0] = vselect(vequal(z, z), vselect(positive, vsplat(1.0), vsplat(parameter)), z)
    return vselect(positive, z, vsplat(parameter) * z)


# f(z) = z for z > 0, alpha (exp(z) - 1) for z <= 0;  f'(z) = 1 or alpha exp(z), so alpha at 0:
# Clevert, Unterthiner and Hochreiter 2016
cdef inline vec elu(vec z, real parameter, vec* slope) noexcept nogil:
    cdef vec alpha = vsplat(parameter)
    cdef vec low, e
    cdef vec d = expm1_down(vmin(vsplat(0.0), z), &low, &e)
    cdef mask positive = vless(vsplat(0.0), z)
    if slope != NULL:
        slope[0] = vselect(positive, vsplat(1.0), alpha * e)
    return vselect(positive, z, vfma(alpha, d, alpha * low))


# f(z) = scale z for z > 0, scale alpha (exp(z) - 1) for z <= 0;  f'(z) = scale or scale alpha exp(z):
# Klambauer, Unterthiner, Mayr and Hochreiter 2017.  The product scale alpha is carried in two parts.
cdef inline vec selu(vec z, real parameter, vec* slope) noexcept nogil:
    cdef vec scale = vsplat(1.050701) if REAL_IS_SINGLE else vsplat(1.0507009873554805)
    cdef vec product = vsplat(1.7580993) if REAL_IS_SINGLE else vsplat(1.7580993408473768)
    cdef vec product_low = vsplat(2.3296717e-08) if REAL_IS_SINGLE else vsplat(1.415351938008446e-17)
    cdef vec low, e
    cdef vec d = expm1_down(vmin(vsplat(0.0), z), &low, &e)
    cdef mask positive = vless(vsplat(0.0), z)
    if slope != NULL:
        slope[0] = vselect(positive, scale, product * e)
    return vselect(positive, scale * z, vfma(product, d, vfma(product, low, product_low * d)))


# f(z) = z Φ(z),  f'(z) = Φ(z) + z φ(z), Φ and φ of the normal distribution: Hendrycks and Gimpel 2016.
# With t = |z|:  z Φ(z) = max(z, 0) - t Φ(-t)  and  Φ(-t) = ½ exp(-t²/2) / normal_tail_divisor(t).
# exp(-t²/2) is exp(-s²/2) exp(-(t - s)(t + s)/2), where s is t with half its bits, so s² is exact; the second
# factor enters the reduced argument.  Beyond the largest t, both t Φ(-t) and t φ(t) round to zero.
cdef inline vec gelu(vec z, real parameter, vec* slope) noexcept nogil:
    cdef vec half = vsplat(0.5), one = vsplat(1.0)
    cdef vec density = vsplat(0.3989423) if REAL_IS_SINGLE else vsplat(0.3989422804014327)     # φ(0)
    cdef vec t = vmin(vsplat(14.75) if REAL_IS_SINGLE else vsplat(38.75), vabs(z))
    cdef vec s = vreal(vbits(t) & (msplat(-1 << 12) if REAL_IS_SINGLE else msplat(-1 << 27)))
    cdef vec shifted = exp_shifted(-half * t * t)
    cdef vec r_low = vfma(-half * (t - s), t + s, exp_remainder_low(shifted))
    cdef vec low
    cdef vec m = expm1_reduced(exp_remainder_high(-half * s * s, shifted) + r_low, &low)
    cdef vec divisor = normal_tail_divisor(t)
    cdef vec tail = half * t / divisor
    cdef mask positive = vless_equal(vsplat(0.0), z)
    cdef vec d
    tail = scale_down(vfma(tail, m, tail), shifted)                 # t Φ(-t)
    if slope != NULL:
        d = half / divisor - density * t
        d = scale_down(vfma(d, m, d), shifted)                      # Φ(-t) - t φ(t)
        slope[0] = vselect(positive, one - d, d)
    return vselect(positive, z - tail, -tail)


# f(z) = exp(z) = f'(z)
cdef inline vec exponential(vec z, real parameter, vec* slope) noexcept nogil:
    cdef vec e = vexp(z)
    if slope != NULL:
        slope[0] = e
    return e


cdef inline void each(
    Function f, real parameter, const real* z, real* a, real* slope, index n,
) noexcept nogil:
    cdef index i = 0
    cdef size_t rest
    cdef vec s
    cdef real[16] part                     # LANES is at most 16
    if slope == NULL:
        while i + LANES <= n:
            vstore(a + i, f(vload(z + i), parameter, NULL))
            i += LANES
    else:
        while i + LANES <= n:
            vstore(a + i, f(vload(z + i), parameter, &s))
            vstore(slope + i, s)
            i += LANES
    if i < n:
        rest = (n - i) * sizeof(real)
        vstore(part, vsplat(0.0))
        memcpy(part, z + i, rest)
        vstore(part, f(vload(part), parameter, &s))
        memcpy(a + i, part, rest)
        if slope != NULL:
            vstore(part, s)
            memcpy(slope + i, part, rest)


# One entry per function: runs it over the n elements and returns the largest |f'|
cdef inline real evaluate(
    int code, real parameter, const real* z, real* a, real* slope, index n,
) noexcept nogil:
    if code == SIGMOID:
        each(sigmoid, parameter, z, a, slope, n)
        return 0.25
    if code == TANH:
        each(tanh, parameter, z, a, slope, n)
        return 1.0
    if code == RELU or (code == LEAKY_RELU and parameter == 0):     # 0 * -inf is not the limit
        each(relu, parameter, z, a, slope, n)
        return 1.0
    if code == LEAKY_RELU:
        each(leaky_relu, parameter, z, a, slope, n)
        return max(<real>1.0, parameter, -parameter)
    if code == SELU:
        each(selu, parameter, z, a, slope, n)
        return 1.7580993408473768
    if code == ELU:
        each(elu, parameter, z, a, slope, n)
        return max(<real>1.0, parameter, -parameter)
    if code == GELU:
        each(gelu, parameter, z, a, slope, n)
        return 1.1289041451851548
    if code == EXPONENTIAL:
        each(exponential, parameter, z, a, slope, n)
        return 1.0                         # a convention: exp has no largest slope
    each(identity, parameter, z, a, slope, n)
    return 1.0


# a = f(z) and, unless slope is NULL, slope = f'(z), for n elements.  a may be z.  NaN gives NaN in both.
cdef inline void activation_forward(
    int code, real parameter, const real* z, real* a, real* slope, index n,
) noexcept nogil:
    evaluate(code, parameter, z, a, slope, n)


# The largest |f'|, against which a slope counts as flat
cdef inline real largest_slope(int code, real parameter) noexcept nogil:
    return evaluate(code, parameter, NULL, NULL, NULL, 0)
