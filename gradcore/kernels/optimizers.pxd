# Optimizers, element by element over a slice of the parameters; formulas and order of operations as in PyTorch.
#
#   g = gradient clamped to ±clip_value, or, without that bound, times scale (the factor of clipping by norm)
#           then g += l1 sign(p), sign(0) = 0: the penalty l1 |p| is part of the loss, so all optimizers take it here
#   SGD     g += decay p;  v = momentum v + g;  g = g + momentum v (Nesterov) or v;  p -= lr g
#           (Sutskever et al., ICML 2013; without momentum there is no v)
#   Adam    g += decay p;  m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g²;
#           p -= lr / c1 * m / (sqrt(v) / sqrt(c2) + eps)          c = 1 - b^step   (Kingma and Ba, ICLR 2015)
#   AdamW   p -= lr decay p instead of the first line              (Loshchilov and Hutter, ICLR 2019)
#
# Gradients below eps sqrt(c2) hardly move anything under Adam, and their squares may underflow to a v of 0: that is
# the "dead zone" of the diagnosis, not an accident of this code.
# With `measure` an update returns the sum of the squares of new - old, else 0.
from libc.math cimport INFINITY, sqrt

from .clipping cimport usable_bound
from .simd cimport real, real_sqrt
from .statistics cimport sum_squares
from .types cimport ADAMW, Hyper, index

cdef enum:
    CHUNK = 256    # elements on the stack between the steps of a formula: they never leave the first-level cache


# The clipped gradient, plus `decay` times the parameter, plus `l1` times its sign.  The factor is applied in double (clipping.pxd, scale_by).
cdef inline void prepare_gradient(real* to, const real* g, const real* p, index n, double clip_value, double scale,
                                  double decay, double l1) noexcept nogil:
    cdef real bound = usable_bound(clip_value), pull = <real>decay, push = <real>l1
    cdef index i
    if clip_value < INFINITY:
        for i in range(n):
            to[i] = bound if g[i] > bound else (-bound if g[i] < -bound else g[i])
    elif scale != 1.0:
        for i in range(n):
            to[i] = <real>(<double>g[i] * scale)
    else:
        for i in range(n):
            to[i] = g[i]
    if decay != 0.0:
        for i in range(n):
            to[i] = to[i] + pull * p[i]
    if l1 != 0.0:
        for i in range(n):
            to[i] = to[i] + (push if p[i] > 0 else (-push if p[i] < 0 else 0))


# p = keep p - step; returns the sum of squares of what that changed.
cdef inline double apply_step(real* p, real* step, index n, real keep, bint measure) noexcept nogil:
    cdef index i
    cdef real old
    cdef double peak
    if not measure:
        for i in range(n):
            p[i] = keep * p[i] - step[i]
        return 0.0
    for i in range(n):
        old = p[i]
        p[i] = keep * old - step[i]
        step[i] = p[i] - old
    return sum_squares(step, n, &peak, NULL)


cdef inline index chunk_size(index start, index n) noexcept nogil:
    return n - start if n - start < CHUNK else CHUNK


# v: NULL without momentum, else zeros before the first step.
cdef inline double sgd_update(real* p, const real* g, real* v, index n, const Hyper* h, double scale,
                              bint measure) noexcept nogil:
    cdef real step[CHUNK]
    cdef real* velocity
    cdef real lr = <real>h.lr, momentum = <real>h.momentum
    cdef index chunk, start, size, i
    cdef double changed = 0.0
    for chunk in range((n + CHUNK - 1) // CHUNK):
        start = chunk * CHUNK
        size = chunk_size(start, n)
        prepare_gradient(step, g + start, p + start, size, h.clip_value, scale, h.weight_decay, h.l1)
        if h.momentum != 0.0:
            velocity = v + start
            for i in range(size):
                velocity[i] = momentum * velocity[i] + step[i]
            if h.nesterov != 0.0:
                for i in range(size):
                    step[i] = step[i] + momentum * velocity[i]
            else:
                for i in range(size):
                    step[i] = velocity[i]
        for i in range(size):
            step[i] = lr * step[i]
        changed += apply_step(p + start, step, size, 1, measure)
    return changed


# m, v: zeros before the first step; correction = 1 - beta^t, t counted from 1.
cdef inline double adam_update(real* p, const real* g, real* m, real* v, index n, const Hyper* h, double scale,
                               double correction1, double correction2, bint measure) noexcept nogil:
    cdef real step[CHUNK]
    cdef real* first
    cdef real* second
    cdef bint decoupled = h.optimizer == ADAMW
    cdef real keep = <real>(1.0 - h.lr * h.weight_decay) if decoupled else <real>1.0
    cdef real beta1 = <real>h.beta1, beta2 = <real>h.beta2, rest1 = <real>(1.0 - h.beta1), rest2 = <real>(1.0 - h.beta2)
    cdef real rate = <real>(h.lr / correction1), spread = <real>(1.0 / sqrt(correction2)), eps = <real>h.eps
    cdef index chunk, start, size, i
    cdef double changed = 0.0
    for chunk in range((n + CHUNK - 1) // CHUNK):
        start = chunk * CHUNK
        size = chunk_size(start, n)
        first = m + start
        second = v + start
        prepare_gradient(step, g + start, p + start, size, h.clip_value, scale, 0.0 if decoupled else h.weight_decay, h.l1)
        for i in range(size):
            first[i] = beta1 * first[i] + rest1 * step[i]
            second[i] = beta2 * second[i] + rest2 * step[i] * step[i]
            step[i] = rate * first[i] / (spread * real_sqrt(second[i]) + eps)
        changed += apply_step(p + start, step, size, keep, measure)
    return changed
