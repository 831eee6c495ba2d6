# Gradient clipping (Pascanu, Mikolov and Bengio, ICML 2013): by value each gradient is clamped to ±bound; by norm all
# are multiplied by max_norm / norm.
from .simd cimport REAL_IS_SINGLE, real
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
