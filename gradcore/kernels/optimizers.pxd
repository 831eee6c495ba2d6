# Optimizers, register by register over a slice of the parameters; formulas as in PyTorch (Lion: as its authors).
#
#   g = gradient clamped to ±clip_value, or, without that bound, times scale (the factor of clipping by norm)
#           then g += l1 sign(p), sign(0) = 0: the penalty l1 |p| is part of the loss, so all optimizers take it here
#           and g += decay p, except where decay is decoupled: there p *= 1 - lr decay
#   SGD      v = momentum v + g;  g = g + momentum v (Nesterov) or v;  p -= lr g     (Sutskever et al., ICML 2013;
#            without momentum there is no v)
#   Adam     m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g²;
#            p -= lr / c1 * m / (sqrt(v) / sqrt(c2) + eps)      c = 1 - b^step       (Kingma and Ba, ICLR 2015)
#   AdamW    the same with decoupled decay                                           (Loshchilov and Hutter, ICLR 2019)
#   RMSprop  v = b2 v + (1 - b2) g²;  g = g / (sqrt(v) + eps);
#            with momentum m = momentum m + g;  p -= lr m, else p -= lr g            (Tieleman and Hinton 2012)
#   Adagrad  v += g²;  p -= lr / (1 + (step - 1) lr_decay) g / (sqrt(v) + eps)       (Duchi, Hazan and Singer, JMLR 2011)
#   Lion     p -= lr sign(b1 m + (1 - b1) g);  m = b2 m + (1 - b2) g, decoupled decay   (Chen et al., NeurIPS 2023)
#
# Gradients below eps sqrt(c2) hardly move anything under Adam, and their squares may underflow to a v of 0: that is
# the "dead zone" of the diagnosis, not an accident of this code.
#
# A new optimizer is one rule, its entries in `update` and `bound_step`, and its class in optimizers.py.
from libc.math cimport INFINITY, fabs, ldexp, pow, sqrt
from libc.stdint cimport uint64_t
from libc.string cimport memcpy, memset

from .clipping cimport usable_bound
from .simd cimport (
    LANES, REAL_IS_SINGLE, mask, mnot, msplat, real, vbits, vcopysign, vec, vequal, vfma, vload, vmax, vmin, vreal, vsplat,
    vsqrt, vstore,
)
from .types cimport ADAGRAD, ADAM, ADAMW, LION, RMSPROP, SGD, Hyper, index

# The numbers of one step, the same for every element, in the precision of the arenas
cdef struct Coefficients:
    real scale                 # clipping by norm, in two factors: a factor too small for float32 must not make zeros …
    real scale_rest            # … of large gradients
    real bound                 # clipping by value; inf: off
    real decay                 # joins the gradient times the parameter
    real l1
    real keep                  # the parameter is multiplied by this; 1 without decoupled decay
    real rate
    real momentum
    real beta1
    real rest1                 # 1 - beta1
    real beta2
    real rest2
    real spread                # Adam: 1 / sqrt(1 - beta2^step)
    real eps
    bint plain                 # nothing but `scale` changes the gradient


cdef inline bint decay_is_decoupled(const Hyper* h) noexcept nogil:
    return h.optimizer == ADAMW or h.optimizer == LION


# `scale`: of clipping by norm; `step` counts from 1.
cdef inline Coefficients coefficients_of(const Hyper* h, double scale, uint64_t step, bint exempt) noexcept nogil:
    # exempt: parameters without weight decay and l1
    cdef Coefficients c
    cdef double decay = 0.0 if exempt else h.weight_decay, rate = h.lr
    cdef bint decoupled = decay_is_decoupled(h)
    cdef bint tiny = REAL_IS_SINGLE and scale < 1e-30
    c.scale = <real>(ldexp(scale, 100) if tiny else scale)
    c.scale_rest = <real>(ldexp(1.0, -100) if tiny else 1.0)
    c.bound = usable_bound(h.clip_value)
    if h.clip_value < INFINITY:
        c.scale = c.scale_rest = 1
    c.decay = <real>(0.0 if decoupled else decay)
    c.l1 = <real>(0.0 if exempt else h.l1)
    c.keep = <real>(1.0 - rate * decay if decoupled else 1.0)
    c.spread = 1
    if h.optimizer == ADAM or h.optimizer == ADAMW:
        rate = h.lr / (1.0 - pow(h.beta1, <double>step))
        c.spread = <real>(1.0 / sqrt(1.0 - pow(h.beta2, <double>step)))
    elif h.optimizer == ADAGRAD:
        rate = h.lr / (1.0 + (<double>step - 1.0) * h.lr_decay)
    c.rate = <real>rate
    c.momentum = <real>h.momentum
    c.beta1 = <real>h.beta1
    c.rest1 = <real>(1.0 - h.beta1)
    c.beta2 = <real>h.beta2
    c.rest2 = <real>(1.0 - h.beta2)
    c.eps = <real>h.eps
    c.plain = not (tiny or h.clip_value < INFINITY or c.decay != 0 or c.l1 != 0)
    return c


# ------------------------------------------------------------------ the rules
# p and the optimizer's slots from the gradient g: m of the formulas is the first slot and v the second, but v of RMSprop
# and Adagrad is the first.  A rule leaves alone what it does not keep.
ctypedef void (*Rule)(vec* p, vec g, vec* m, vec* v, const Coefficients* c) noexcept nogil


cdef inline void sgd(vec* p, vec g, vec* m, vec* v, const Coefficients* c) noexcept nogil:
    p[0] = p[0] - vsplat(c.rate) * g


cdef inline void sgd_momentum(vec* p, vec g, vec* m, vec* v, const Coefficients* c) noexcept nogil:
    m[0] = vfma(vsplat(c.momentum), m[0], g)
    p[0] = p[0] - vsplat(c.rate) * m[0]


cdef inline void sgd_nesterov(vec* p, vec g, vec* m, vec* v, const Coefficients* c) noexcept nogil:
    m[0] = vfma(vsplat(c.momentum), m[0], g)
    p[0] = p[0] - vsplat(c.rate) * vfma(vsplat(c.momentum), m[0], g)


cdef inline void adam(vec* p, vec g, vec* m, vec* v, const Coefficients* c) noexcept nogil:
    m[0] = vfma(vsplat(c.beta1), m[0], vsplat(c.rest1) * g)
    v[0] = vfma(vsplat(c.beta2), v[0], vsplat(c.rest2) * g * g)
    p[0] = vsplat(c.keep) * p[0] - vsplat(c.rate) * m[0] / vfma(vsplat(c.spread), vsqrt(v[0]), vsplat(c.eps))


cdef inline vec by_root(vec g, vec* v, const Coefficients* c) noexcept nogil:
    v[0] = vfma(vsplat(c.beta2), v[0], vsplat(c.rest2) * g * g)
    return g / (vsqrt(v[0]) + vsplat(c.eps))


cdef inline void rmsprop(vec* p, vec g, vec* v, vec* m, const Coefficients* c) noexcept nogil:
    p[0] = p[0] - vsplat(c.rate) * by_root(g, v, c)


cdef inline void rmsprop_momentum(vec* p, vec g, vec* v, vec* m, const Coefficients* c) noexcept nogil:
    m[0] = vfma(vsplat(c.momentum), m[0], by_root(g, v, c))
    p[0] = p[0] - vsplat(c.rate) * m[0]


cdef inline void adagrad(vec* p, vec g, vec* v, vec* m, const Coefficients* c) noexcept nogil:
    v[0] = vfma(g, g, v[0])
    p[0] = p[0] - vsplat(c.rate) * g / (vsqrt(v[0]) + vsplat(c.eps))


cdef inline void lion(vec* p, vec g, vec* m, vec* v, const Coefficients* c) noexcept nogil:
    cdef vec way = vfma(vsplat(c.beta1), m[0], vsplat(c.rest1) * g)
    p[0] = vsplat(c.keep) * p[0] - times_sign(vsplat(c.rate), way)
    m[0] = vfma(vsplat(c.beta2), m[0], vsplat(c.rest2) * g)


# size (at least 0) with the sign of x; 0 where x is 0, NaN where x is NaN
cdef inline vec times_sign(vec size, vec x) noexcept nogil:
    return vreal(vbits(vcopysign(size, x)) & mnot(vequal(x, vsplat(0)))) + (x - x)


cdef inline vec clipped_and_decayed(vec g, vec p, const Coefficients* c) noexcept nogil:
    # (the order of the operands keeps a NaN: simd.h)
    cdef vec bound = vsplat(c.bound)
    g = vmin(bound, vmax(-bound, g * vsplat(c.scale) * vsplat(c.scale_rest)))
    g = vfma(vsplat(c.decay), p, g)
    return g + times_sign(vsplat(c.l1), p)


# The slots are as many as a rule keeps.
cdef inline void one_register(Rule rule, int slots, bint plain, real* p, const real* g, real* first, real* second,
                              const Coefficients* c) noexcept nogil:
    cdef vec parameter = vload(p), gradient = vload(g), one = vsplat(0), two = vsplat(0)
    if plain:
        gradient = gradient * vsplat(c.scale)
    else:
        gradient = clipped_and_decayed(gradient, parameter, c)
    if slots > 0:
        one = vload(first)
    if slots > 1:
        two = vload(second)
    rule(&parameter, gradient, &one, &two, c)
    vstore(p, parameter)
    if slots > 0:
        vstore(first, one)
    if slots > 1:
        vstore(second, two)


cdef inline void sweep(Rule rule, int slots, bint plain, real* p, const real* g, real* first, real* second, index n,
                       const Coefficients* c) noexcept nogil:
    cdef index i = 0
    cdef size_t rest
    cdef real part[4][16]                  # LANES is at most 16
    while i + LANES <= n:
        one_register(rule, slots, plain, p + i, g + i, first + i if slots > 0 else NULL, second + i if slots > 1 else NULL, c)
        i += LANES
    if i < n:
        rest = (n - i) * sizeof(real)
        memset(part, 0, sizeof(part))
        memcpy(part[0], p + i, rest)
        memcpy(part[1], g + i, rest)
        if slots > 0:
            memcpy(part[2], first + i, rest)
        if slots > 1:
            memcpy(part[3], second + i, rest)
        one_register(rule, slots, plain, part[0], part[1], part[2], part[3], c)
        memcpy(p + i, part[0], rest)
        if slots > 0:
            memcpy(first + i, part[2], rest)
        if slots > 1:
            memcpy(second + i, part[3], rest)


cdef inline void either_sweep(Rule rule, int slots, real* p, const real* g, real* first, real* second, index n,
                              const Coefficients* c) noexcept nogil:
    if c.plain:
        sweep(rule, slots, True, p, g, first, second, n, c)
    else:
        sweep(rule, slots, False, p, g, first, second, n, c)


# One step on n elements.  The slots are zeros before the first step; NULL where the optimizer keeps none.
cdef inline void update(real* p, const real* g, real* first, real* second, index n, const Hyper* h,
                        const Coefficients* c) noexcept nogil:
    if h.optimizer == SGD:
        if h.momentum == 0.0:
            either_sweep(sgd, 0, p, g, first, second, n, c)
        elif h.nesterov == 0.0:
            either_sweep(sgd_momentum, 1, p, g, first, second, n, c)
        else:
            either_sweep(sgd_nesterov, 1, p, g, first, second, n, c)
    elif h.optimizer == ADAM or h.optimizer == ADAMW:
        either_sweep(adam, 2, p, g, first, second, n, c)
    elif h.optimizer == RMSPROP:
        if h.momentum == 0.0:
            either_sweep(rmsprop, 1, p, g, first, second, n, c)
        else:
            either_sweep(rmsprop_momentum, 2, p, g, first, second, n, c)
    elif h.optimizer == ADAGRAD:
        either_sweep(adagrad, 1, p, g, first, second, n, c)
    elif h.optimizer == LION:
        either_sweep(lion, 1, p, g, first, second, n, c)


# ------------------------------------------------------------------ whether a step stays finite


# Move upper bounds of abs(parameters), abs(first slot), abs(second slot) by one step whose gradients are at most g, and
# return a bound of everything that is computed on the way.  What underflows can divide by eps alone.
cdef inline double bound_step(double* reach, double g, const Hyper* h, const Coefficients* c) noexcept nogil:
    cdef double step, total, tiny = 1e-18 if REAL_IS_SINGLE else 1e-153
    g = g * <double>c.scale * <double>c.scale_rest
    g = c.bound if g > c.bound else g
    g += c.decay * reach[0] + c.l1
    if h.optimizer == ADAM or h.optimizer == ADAMW:
        reach[1] = c.beta1 * reach[1] + c.rest1 * g
        reach[2] = c.beta2 * reach[2] + c.rest2 * g * g
        step = c.rate * reach[1] / c.eps if c.eps > 0 else <double>INFINITY
        total = c.rate + c.rate * reach[1] + c.spread + c.spread * sqrt(reach[2])
    elif h.optimizer == RMSPROP or h.optimizer == ADAGRAD:
        if h.optimizer == RMSPROP:
            reach[1] = c.beta2 * reach[1] + c.rest2 * g * g
            step = 1.0 / sqrt(c.rest2) + tiny / c.eps
        else:
            reach[1] = reach[1] + g * g
            step = 1.0 + tiny / c.eps
        total = sqrt(reach[1]) + c.rate * g
        if h.momentum != 0.0:
            reach[2] = c.momentum * reach[2] + step
            step = reach[2]
        step *= c.rate
    elif h.optimizer == LION:
        total = c.beta1 * reach[1] + c.rest1 * g
        reach[1] = c.beta2 * reach[1] + c.rest2 * g
        step = c.rate
    else:
        step = g
        if h.momentum != 0.0:
            reach[1] = c.momentum * reach[1] + g
            step = g + c.momentum * reach[1] if h.nesterov != 0.0 else reach[1]
        total = step
        step *= c.rate
    reach[0] = fabs(c.keep) * reach[0] + step
    reach[0] *= 1.000001                           # what rounding may add
    reach[1] *= 1.000001
    reach[2] *= 1.000001
    return total + g + reach[0] + reach[1] + reach[2]
