# The activation functions, element by element: f(z), and on demand f'(z) computed from z while the exponential
# is at hand (the output cannot tell: a sigmoid that rounds to 1 still has a slope).
# A new function is one `cdef inline vec` and its line in `evaluate`, which also states its largest slope.
from libc.string cimport memcpy
from .elementary cimport exp_floor, exp_reduce, expm1_down, expm1_reduced, normal_tail, scale_down, vexp, vexp_down
from .simd cimport (
    LANES, REAL_IS_SINGLE, mask, mnot, msplat, real, vabs, vbits, vcopysign, vec, vequal, vfma, vless, vless_equal,
    vload, vmax, vmin, vreal, vselect, vsplat, vstore,
)
from .types cimport ELU, EXPONENTIAL, GELU, LEAKY_RELU, RELU, SELU, SIGMOID, TANH, index

# f(z), and f'(z) into `slope` where it is not NULL
ctypedef vec (*Function)(vec z, real parameter, vec* slope) noexcept nogil


# f(z) = z,  f'(z) = 1
cdef inline vec identity(vec z, real parameter, vec* slope) noexcept nogil:
    if slope != NULL:
        slope[0] = vselect(vequal(z, z), vsplat(1.0), z)
    return z


# f(z) = 1 / (1 + exp(-z)),  f'(z) = exp(-|z|) f(|z|)²
# With e = exp(-|z|), which cannot overflow, f(z) is 1 / (1 + e) or e / (1 + e).  What the rounding of 1 + e lost is
# put back by one Newton step, for which 1 / (1 + e) is known to be f(|z|).
cdef inline vec sigmoid(vec z, real parameter, vec* slope) noexcept nogil:
    cdef vec one = vsplat(1.0)
    cdef mask negative = vless(z, vsplat(0.0))
    cdef vec e = vexp_down(-vabs(z))
    cdef vec divisor = one + e
    cdef vec divisor_low = (one - divisor) + e
    cdef vec a = vselect(negative, e, one) / divisor
    cdef vec upper = vselect(negative, one - a, a)
    if slope != NULL:
        slope[0] = e * upper * upper
    return a - a * upper * divisor_low


# f(z) = (exp(2z) - 1) / (exp(2z) + 1),  f'(z) = exp(-2|z|) (1 + |f(z)|)²
# On |z|: d / (2 + d) with d = 1 - exp(-2|z|) neither overflows nor cancels.  d and 2 - d keep what their rounding
# lost, and one Newton step, for which 1 / (2 - d) is known to be (1 + d / (2 - d)) / 2, puts it back.
cdef inline vec tanh(vec z, real parameter, vec* slope) noexcept nogil:
    cdef vec shifted, m, scale, part, whole, d, d_low, divisor, divisor_low, a
    cdef vec one = vsplat(1.0), half = vsplat(0.5)
    m = expm1_reduced(exp_reduce(vmax(exp_floor(), vsplat(-2.0) * vabs(z)), &shifted))
    scale = scale_down(one, shifted)
    part = scale * m
    whole = scale - one
    d = whole + part
    d_low = (whole - d) + part
    divisor = vsplat(2.0) + d
    divisor_low = ((vsplat(2.0) - divisor) + d) + d_low
    a = d / divisor
    a = vfma(d_low - a * divisor_low, half - half * a, a)
    if slope != NULL:
        slope[0] = scale_down(one + m, shifted) * (one - a) * (one - a)
    return vcopysign(a, z)


# f(z) = max(z, 0),  f'(z) = 1 for z > 0, 0 for z <= 0 (the convention of PyTorch, TensorFlow and JAX for the kink).
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


# f(z) = z for z > 0, alpha (exp(z) - 1) for z <= 0;  f'(z) = 1 or alpha exp(z) (alpha at 0): Clevert et al. 2016
cdef inline vec elu(vec z, real parameter, vec* slope) noexcept nogil:
    cdef vec low, high
    cdef vec down = vmin(vsplat(0.0), z)
    cdef mask positive = vless(vsplat(0.0), z)
    high = expm1_down(down, &low)
    if slope != NULL:
        slope[0] = vselect(positive, vsplat(1.0), vsplat(parameter) * vexp_down(down))
    return vselect(positive, z, vfma(vsplat(parameter), high, vsplat(parameter) * low))


# f(z) = scale z for z > 0, scale alpha (exp(z) - 1) for z <= 0;  f'(z) = scale or scale alpha exp(z):
# Klambauer et al. 2017. scale and alpha are irrational: their rounding is compensated.
cdef inline vec selu(vec z, real parameter, vec* slope) noexcept nogil:
    cdef vec low, high, product, product_low, scale
    cdef vec down = vmin(vsplat(0.0), z)
    cdef mask positive = vless(vsplat(0.0), z)
    if REAL_IS_SINGLE:
        scale = vsplat(1.050701)
        product = vsplat(1.7580993)
        product_low = vsplat(2.3296717e-08)
    else:
        scale = vsplat(1.0507009873554805)
        product = vsplat(1.7580993408473768)
        product_low = vsplat(1.415351938008446e-17)
    high = expm1_down(down, &low)
    if slope != NULL:
        slope[0] = vselect(positive, scale, product * vexp_down(down))
    return vselect(positive, scale * z, vfma(product, high, vfma(product, low, product_low * high)))


# f(z) = z Φ(z),  f'(z) = Φ(z) + z φ(z) with the normal distribution Φ and density φ: Hendrycks and Gimpel 2016.
# With t = |z| and H = Φ(-t) exp(t²/2):  z Φ(z) = max(z, 0) - t H exp(-t²/2)
# exp(-t²/2) is exp(-s²/2) exp(-(t - s)(t + s)/2), where s is t with half its bits, so s² is exact; the second
# factor enters the reduced argument.
cdef inline vec gelu(vec z, real parameter, vec* slope) noexcept nogil:
    cdef vec t, short_t, r, shifted, h, m, density, tail
    cdef mask positive = vless(vsplat(0.0), z)
    if REAL_IS_SINGLE:
        t = vmin(vsplat(14.5), vabs(z))
        short_t = vreal(vbits(t) & msplat(-4096))
        density = vsplat(0.3989423)
    else:
        t = vmin(vsplat(39.5), vabs(z))
        short_t = vreal(vbits(t) & msplat(-134217728))
        density = vsplat(0.3989422804014327)
    h = normal_tail(t)
    r = exp_reduce(vsplat(-0.5) * (short_t * short_t), &shifted)
    r = vfma(vsplat(-0.5) * (t - short_t), t + short_t, r)
    m = expm1_reduced(r)
    if slope != NULL:
        tail = h - density * t
        tail = scale_down(vfma(tail, m, tail), shifted)
        slope[0] = vselect(positive, vsplat(1.0) - tail, tail)
    tail = scale_down(vfma(h, m, h) * t, shifted)
    return vselect(positive, z - tail, -tail)


# f(z) = exp(z) = f'(z)
cdef inline vec exponential(vec z, real parameter, vec* slope) noexcept nogil:
    cdef vec e = vexp(z)
    if slope != NULL:
        slope[0] = e
    return e


cdef inline void each(Function f, real parameter, const real* z, real* a, real* slope, index n) noexcept nogil:
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
cdef inline real evaluate(int code, real parameter, const real* z, real* a, real* slope, index n) noexcept nogil:
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
        return max(<real>1.0, abs(parameter))
    if code == SELU:
        each(selu, parameter, z, a, slope, n)
        return 1.7580993408473768
    if code == ELU:
        each(elu, parameter, z, a, slope, n)
        return max(<real>1.0, abs(parameter))
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
