# Activation functions, element by element: f(z) and, on demand, f'(z), computed from z while the exponential
# is at hand (the output cannot tell: a sigmoid that rounds to 1 still has a slope).
# A new function is one `cdef inline vec` and its entry in `evaluate`, which also states its largest slope.
from libc.string cimport memcpy
from .elementary cimport (
    DOWN, exp_floor, exp_reduced, expm1_down, log1p_exp, logistic_divisor, normal_tail_divisor, scaled_one, tanh_rest,
    unscale_down, vexp,
)
from .simd cimport (
    LANES, REAL_IS_SINGLE, mask, mnot, real, vabs, vbits, vcopysign, vec, vequal, vfma, vless, vless_equal, vload, vmax,
    vmin, vpower, vproduct_low, vreal, vselect, vsplat, vstore,
)
from .types cimport (
    CELU, ELU, EXPONENTIAL, GELU, GELU_TANH, HARD_SIGMOID, HARD_SILU, HARD_TANH, LEAKY_RELU, LOG_SIGMOID, MISH, RELU,
    RELU6, SELU, SIGMOID, SILU, SOFTPLUS, SOFTSIGN, TANH, index,
)

# f(z), and f'(z) into `slope` where it is not NULL
ctypedef vec (*Function)(vec z, real parameter, vec* slope) noexcept nogil


# f(z) = z,  f'(z) = 1
cdef inline vec identity(vec z, real parameter, vec* slope) noexcept nogil:
    if slope != NULL:
        slope[0] = vselect(vequal(z, z), vsplat(1.0), z)
    return z


# f(z) = 1 / (1 + exp(-z)),  f'(z) = f(-|z|) f(|z|)
# f(-|z|) is a quotient that cannot overflow; f(|z|) = 1 - f(-|z|) does not cancel.
cdef inline vec sigmoid(vec z, real parameter, vec* slope) noexcept nogil:
    cdef vec low
    cdef vec lower = scaled_one() / logistic_divisor(vabs(z), vsplat(0.0), &low)
    cdef vec upper = vsplat(1.0) - lower
    if slope != NULL:
        slope[0] = lower * upper
    return vselect(vless(z, vsplat(0.0)), lower, upper)


# f(z) = (exp(z) - exp(-z)) / (exp(z) + exp(-z)),  f'(z) = 4 s (1 - s), s = 1 / (1 + exp(2|z|))
# f(|z|) = 1 - 2s where that is at least ½, and cancels little; below |z| + |z|³ p(z²).
cdef inline vec tanh(vec z, real parameter, vec* slope) noexcept nogil:
    cdef vec one = vsplat(1.0)
    cdef vec low
    cdef vec t = vabs(z)
    cdef vec s = scaled_one() / logistic_divisor(t + t, vsplat(0.0), &low)
    cdef vec twice = s + s
    cdef vec w = t * t
    cdef vec small = vfma(t * w, tanh_rest(w), t)
    if slope != NULL:
        slope[0] = (twice + twice) * (one - s)
    return vcopysign(vselect(vless(vsplat(0.25), s), small, one - twice), z)


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


# `inside` where low < z < high, 0 elsewhere, NaN where z is NaN
cdef inline vec between(vec z, real low, real high, vec inside) noexcept nogil:
    cdef mask flat = vless_equal(z, vsplat(low)) | vless_equal(vsplat(high), z)
    return vreal(vbits(vselect(vequal(z, z), inside, z)) & mnot(flat))


# f(z) = min(max(z, 0), 6),  f'(z) = 1 for 0 < z < 6, else 0: Krizhevsky 2010
cdef inline vec relu6(vec z, real parameter, vec* slope) noexcept nogil:
    if slope != NULL:
        slope[0] = between(z, 0.0, 6.0, vsplat(1.0))
    return vmin(vsplat(6.0), relu(z, parameter, NULL))


# f(z) = min(max(z, -1), 1),  f'(z) = 1 for -1 < z < 1, else 0: Collobert 2004
cdef inline vec hard_tanh(vec z, real parameter, vec* slope) noexcept nogil:
    if slope != NULL:
        slope[0] = between(z, -1.0, 1.0, vsplat(1.0))
    return vmin(vsplat(1.0), vmax(vsplat(-1.0), z))


# f(z) = min(max(z + 3, 0), 6) / 6,  f'(z) = 1/6 for -3 < z < 3, else 0: Courbariaux et al. 2015, Howard et al. 2019
cdef inline vec hard_sigmoid(vec z, real parameter, vec* slope) noexcept nogil:
    cdef vec six = vsplat(6.0)
    if slope != NULL:
        slope[0] = between(z, -3.0, 3.0, vsplat(1.0) / six)
    return vmin(six, vmax(vsplat(0.0), z + vsplat(3.0))) / six


# f(z) = z min(max(z + 3, 0), 6) / 6,  f'(z) = (2z + 3) / 6 for -3 < z < 3, 0 below, 1 above: Howard et al. 2019.
# What rounding z + 3 lost is put back.
cdef inline vec hard_silu(vec z, real parameter, vec* slope) noexcept nogil:
    cdef vec three = vsplat(3.0), six = vsplat(6.0)
    cdef vec bounded = vmax(-three, vmin(three, z))
    cdef vec factor = bounded + three
    cdef vec low = (three - factor) + bounded
    cdef mask above = vless_equal(three, z)
    if slope != NULL:
        slope[0] = vselect(above, vsplat(1.0), vselect(vless_equal(z, -three), vsplat(0.0), (bounded + factor) / six))
    return vselect(above, z, vfma(bounded, factor, bounded * low) / six)


# f(z) = z for z > 0, alpha (exp(z) - 1) for z <= 0;  f'(z) = 1 or alpha exp(z), so alpha at 0:
# Clevert, Unterthiner and Hochreiter 2016
cdef inline vec elu(vec z, real parameter, vec* slope) noexcept nogil:
    cdef vec alpha = vsplat(parameter)
    cdef vec low, e
    cdef vec d = expm1_down(vmin(vsplat(0.0), z), vsplat(0.0), &low, &e)
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
    cdef vec d = expm1_down(vmin(vsplat(0.0), z), vsplat(0.0), &low, &e)
    cdef mask positive = vless(vsplat(0.0), z)
    if slope != NULL:
        slope[0] = vselect(positive, scale, product * e)
    return vselect(positive, scale * z, vfma(product, d, vfma(product, low, product_low * d)))


# f(z) = z for z > 0, alpha (exp(z / alpha) - 1) for z <= 0;  f'(z) = 1 or exp(z / alpha), alpha > 0: Barron 2017.
# What rounding the quotient lost is put back, but where exp(z / alpha) is nothing beside 1; so close to zero that the
# quotient may be subnormal, f(z) is z.
cdef inline vec celu(vec z, real parameter, vec* slope) noexcept nogil:
    cdef vec largest = vsplat(8.507059173023462e+37) if REAL_IS_SINGLE else vsplat(4.49423283715579e+307)
    cdef vec close = vsplat(-2.9802322387695312e-08) if REAL_IS_SINGLE else vsplat(-5.551115123125783e-17)
    cdef vec alpha = vmin(largest, vsplat(parameter))
    cdef vec below = vmin(vsplat(0.0), z)
    cdef vec x = vmax(exp_floor(), below / alpha)
    cdef vec product = x * alpha
    cdef vec excess = ((product - below) + vproduct_low(x, alpha, product)) / alpha
    cdef vec low, e
    cdef vec d = expm1_down(x, vselect(vless(vsplat(-40.0), x), excess, vsplat(0.0)), &low, &e)
    cdef mask positive = vless(vsplat(0.0), z)
    if slope != NULL:
        slope[0] = vselect(positive, vsplat(1.0), e)
    return vselect(vless(close * alpha, z), z, vfma(alpha, d, alpha * low))


# f(z) = z Φ(z),  f'(z) = Φ(z) + z φ(z), Φ and φ of the normal distribution: Hendrycks and Gimpel 2016.
# With t = |z|:  z Φ(z) = max(z, 0) - t Φ(-t)  and  Φ(-t) = ½ exp(-t²/2) / normal_tail_divisor(t).
# Beyond the largest t, both t Φ(-t) and t φ(t) round to zero.
cdef inline vec gelu(vec z, real parameter, vec* slope) noexcept nogil:
    cdef vec density = vsplat(0.3989423) if REAL_IS_SINGLE else vsplat(0.3989422804014327)     # φ(0)
    cdef vec t = vmin(vsplat(14.75) if REAL_IS_SINGLE else vsplat(38.75), vabs(z))
    cdef vec half = vsplat(-0.5) * t
    cdef vec exponent = half * t
    cdef vec shifted, low, d
    cdef vec m = exp_reduced(exponent, -vproduct_low(half, t, exponent), DOWN, &shifted, &low)
    cdef vec power = vpower(shifted) * unscale_down()              # exact until what it scales rounds to zero
    cdef vec quotient = vsplat(0.5) / normal_tail_divisor(t)
    cdef vec tail = t * quotient
    tail = vfma(tail, m, tail) * power                              # t Φ(-t)
    if slope != NULL:
        d = quotient - density * t
        d = vfma(d, m, d) * power                                   # Φ(-t) - t φ(t)
        slope[0] = vselect(vless_equal(vsplat(0.0), z), vsplat(1.0) - d, d)
    return vmax(vsplat(-0.0), z) - tail


# f(z) = z (1 + tanh(sqrt(2/π) (z + 0.044715 z³))) / 2 = z σ(y),  y = z g(z²), g(z²) = a + b z²
# f'(z) = σ(y) + z y' σ(y) σ(-y),  y' = a + 3b z²: the approximation of Hendrycks and Gimpel 2016.
# exp(y) multiplies every error of y by up to 100, so g and y are carried in two parts.  Beyond the largest t,
# t σ(-y) rounds to zero.
cdef inline vec gelu_tanh(vec z, real parameter, vec* slope) noexcept nogil:
    cdef vec a = vsplat(1.5957692) if REAL_IS_SINGLE else vsplat(1.5957691216057308)
    cdef vec a_low = vsplat(-4.534068e-08) if REAL_IS_SINGLE else vsplat(-9.96930880911092e-17)
    cdef vec b = vsplat(0.071354814) if REAL_IS_SINGLE else vsplat(0.07135481627260025)
    cdef vec b_low = vsplat(2.3988325e-09) if REAL_IS_SINGLE else vsplat(-6.175149918155315e-19)
    cdef vec one = vsplat(1.0)
    cdef vec t = vmin(vsplat(10.85) if REAL_IS_SINGLE else vsplat(21.6), vabs(z))
    cdef vec square = t * t
    cdef vec cube = b * square
    cdef vec cube_low = vfma(b, vproduct_low(t, t, square), vfma(b_low, square, vproduct_low(b, square, cube)))
    cdef vec g = a + cube
    cdef vec g_low = ((vmax(a, cube) - g) + vmin(a, cube)) + (cube_low + a_low)
    cdef vec y = t * g
    cdef vec low, d
    cdef vec inverse = one / logistic_divisor(y, -vfma(t, g_low, vproduct_low(t, g, y)), &low)
    if slope != NULL:
        d = inverse * scaled_one()                                  # σ(-y)
        d = d * (one - t * (one - d) * vfma(vsplat(3.0), cube, a))
        slope[0] = vselect(vless(z, vsplat(0.0)), d, one - d)
    return vmax(vsplat(-0.0), z) - t * inverse * scaled_one()


# f(z) = z σ(z),  f'(z) = σ(z) (1 + z σ(-z)): Elfwing, Uchibe and Doya 2018; Ramachandran, Zoph and Le 2018.
# With t = |z|:  f(z) = max(z, 0) - t σ(-t)  and  f'(z) + f'(-z) = 1.  t σ(-t) is put right by what rounding lost in
# the product and in the divisor.
cdef inline vec silu(vec z, real parameter, vec* slope) noexcept nogil:
    cdef vec one = vsplat(1.0)
    cdef vec t = vmin(vsplat(110.0) if REAL_IS_SINGLE else vsplat(752.0), vabs(z))
    cdef vec low, d
    cdef vec inverse = one / logistic_divisor(t, vsplat(0.0), &low)
    cdef vec product = t * inverse
    cdef vec tail = product + (vproduct_low(t, inverse, product) - (product * low) * inverse)
    if slope != NULL:
        d = inverse * scaled_one()                                  # σ(-t)
        d = d * (one - t * (one - d))
        slope[0] = vselect(vless(z, vsplat(0.0)), d, one - d)
    return vmax(vsplat(-0.0), z) - tail * scaled_one()


# f(z) = z tanh(log(1 + exp(z))),  f'(z) = n/d ± 4 |z| e^k (1 + e) / d²: Misra 2020.
# tanh(log(1 + x)) = (x² + 2x) / (x² + 2x + 2); with e = exp(-|z|) it is n/d with
#   n = e² + 2e,  d = n + 2    for z < 0  (k = 1),
#   n = 1 + 2e,   d = n + 2e²  for z >= 0 (k = 2),
# which neither overflows nor cancels.  Left of zero n is built with e's exponent still apart (p 2^n 2^DOWN).
cdef inline vec mish(vec z, real parameter, vec* slope) noexcept nogil:
    cdef vec one = vsplat(1.0), two = vsplat(2.0)
    cdef vec largest = vsplat(110.0) if REAL_IS_SINGLE else vsplat(752.0)
    cdef vec t = vmin(largest, vabs(z))
    cdef vec shifted, low
    cdef vec p = one + exp_reduced(-t, vsplat(0.0), DOWN, &shifted, &low)
    cdef vec power = vpower(shifted)
    cdef vec e = p * power * unscale_down()
    cdef vec square = e * e
    cdef mask left = vless(z, vsplat(0.0))
    cdef vec n = vselect(left, vfma(e, e, e + e), one + (e + e))
    cdef vec divisor = n + vselect(left, two, square + square)
    cdef vec scaled = vselect(left, vfma(p, e, p + p) * power, n)
    if slope != NULL:
        square = vcopysign(vsplat(4.0) * t * vselect(left, e, square) * (one + e) / divisor, z)
        slope[0] = (n + square) / divisor
    return (vmax(-largest, z) * scaled / divisor) * vselect(left, unscale_down(), one)


# f(z) = log(1 + exp(z)),  f'(z) = σ(z)
cdef inline vec softplus(vec z, real parameter, vec* slope) noexcept nogil:
    cdef vec e, lower
    cdef vec value = log1p_exp(z, &e)
    if slope != NULL:
        lower = e / (vsplat(1.0) + e)
        slope[0] = vselect(vless(z, vsplat(0.0)), lower, vsplat(1.0) - lower)
    return value


# f(z) = -log(1 + exp(-z)),  f'(z) = σ(-z)
cdef inline vec log_sigmoid(vec z, real parameter, vec* slope) noexcept nogil:
    return -softplus(-z, parameter, slope)


# f(z) = z / (1 + |z|),  f'(z) = 1 / (1 + |z|)²: Bergstra, Desjardins, Lamblin and Bengio 2009.
# The quotient is 1 long before the bound of |z|, which keeps infinity out of it.
cdef inline vec softsign(vec z, real parameter, vec* slope) noexcept nogil:
    cdef vec one = vsplat(1.0)
    cdef vec t = vabs(z)
    cdef vec bounded = vmin(vsplat(1152921504606846976.0), t)
    cdef vec inverse
    if slope != NULL:
        inverse = one / (one + t)
        slope[0] = inverse * inverse
    return vcopysign(bounded / (one + bounded), z)


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
    if code == RELU or ((code == LEAKY_RELU or code == CELU) and parameter == 0):    # 0 * -inf is not the limit
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
    if code == GELU_TANH:
        each(gelu_tanh, parameter, z, a, slope, n)
        return 1.1289930686587718
    if code == SILU:
        each(silu, parameter, z, a, slope, n)
        return 1.0998393201288669
    if code == MISH:
        each(mish, parameter, z, a, slope, n)
        return 1.088498161251728
    if code == SOFTPLUS:
        each(softplus, parameter, z, a, slope, n)
        return 1.0
    if code == LOG_SIGMOID:
        each(log_sigmoid, parameter, z, a, slope, n)
        return 1.0
    if code == SOFTSIGN:
        each(softsign, parameter, z, a, slope, n)
        return 1.0
    if code == RELU6:
        each(relu6, parameter, z, a, slope, n)
        return 1.0
    if code == HARD_TANH:
        each(hard_tanh, parameter, z, a, slope, n)
        return 1.0
    if code == HARD_SIGMOID:
        each(hard_sigmoid, parameter, z, a, slope, n)
        return <real>1.0 / <real>6.0
    if code == HARD_SILU:
        each(hard_silu, parameter, z, a, slope, n)
        return 1.5
    if code == CELU:
        each(celu, parameter, z, a, slope, n)
        return 1.0
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
