# Gradient clipping.  By value each gradient is clamped to ±bound; by norm all are multiplied by max_norm / norm
# (Pascanu, Mikolov and Bengio, ICML 2013).  Adaptive (Brock, De, Smith and Simonyan, ICML 2021): the gradient of one
# neuron's weights, a column of the matrix, is multiplied by factor max(norm of the weights, 1e-3) / norm where its
# norm is above factor max(norm of the weights, 1e-3); a bias, gamma or beta is clipped as one vector.
from libc.math cimport ldexp, sqrt

from .simd cimport (
    LANES, REAL_IS_SINGLE, TILE, real, vec, vload, vsplat, vwide_high, vwide_low, wide, wlane, wzero,
)
from .types cimport index


# A bound too small for the dtype becomes its smallest subnormal: zero would turn finite gradients into zeros.
cdef inline real usable_bound(double bound) noexcept nogil:
    if bound > 0.0 and <real>bound == 0.0:
        return <real>(1.401298464324817e-45 if REAL_IS_SINGLE else 5e-324)
    return <real>bound


# x = x clamped to ±bound; NaN stays NaN.
cdef inline void clip_by_value(real* x, index n, real bound) noexcept nogil:
    cdef index i
    for i in range(n):
        x[i] = bound if x[i] > bound else (-bound if x[i] < -bound else x[i])


# x = x * factor, rounded once: float32 goes through double, whose range holds every product, so that a factor too
# small for float32 does not turn large gradients into zeros.
cdef inline void scale_by(real* x, index n, double factor) noexcept nogil:
    cdef index i
    for i in range(n):
        x[i] = <real>(<double>x[i] * factor)


# squares[c] = sum of (factor x)² over the rows of a panel, in double
cdef inline void column_squares(double* squares, const real* x, index rows, real factor) noexcept nogil:
    cdef vec v, f = vsplat(factor)
    cdef wide low, high
    cdef index r
    cdef int half, lane, lanes = LANES // 2 if REAL_IS_SINGLE else LANES
    for half in range(2):
        low = high = wzero()
        for r in range(rows):
            v = f * vload(x + r * TILE + half * LANES)
            low = low + vwide_low(v) * vwide_low(v)
            if REAL_IS_SINGLE:
                high = high + vwide_high(v) * vwide_high(v)
        for lane in range(lanes):
            squares[half * LANES + lane] = wlane(low, lane)
            if REAL_IS_SINGLE:
                squares[half * LANES + lanes + lane] = wlane(high, lane)


# Norms of a panel's columns; of float64, those whose squares are too large are taken again, as safe_norm does.  (Those
# too small read as zero: they are far below any bound, which is never less than factor * 1e-3.)
cdef inline void column_norms(double* norms, const real* x, index rows) noexcept nogil:
    cdef double squares[32]
    cdef bint large = False
    cdef int c
    column_squares(squares, x, rows, 1)
    for c in range(TILE):
        norms[c] = sqrt(squares[c])
        large = large or squares[c] > 1e300
    if large and not REAL_IS_SINGLE:
        column_squares(squares, x, rows, <real>ldexp(1.0, -600))
        for c in range(TILE):
            if norms[c] > 1e150:
                norms[c] = ldexp(sqrt(squares[c]), 600)


# What adaptive clipping multiplies a gradient by.
cdef inline double adaptive_factor(double weights, double gradient, double factor) noexcept nogil:
    cdef double bound = factor * (weights if weights > 1e-3 else 1e-3)     # the paper's: weights of zero can begin
    return bound / gradient if gradient > bound else 1.0


# to = x times the factor of its column in a panel, rounded once as in scale_by
cdef inline void scale_columns(real* to, const real* x, index n, const double* factors) noexcept nogil:
    cdef index r, c
    for r in range(n // TILE):
        for c in range(TILE):
            to[r * TILE + c] = <real>(<double>x[r * TILE + c] * factors[c])
