# The two ends of inference: whether inputs are fit for it, and the codes of labels that outputs stand for.
from libc.stdint cimport int64_t

from .simd cimport LANES, mask, msplat, real, vbits, vec, vlane, vload, vreal
from .types cimport index


cdef inline bint plain_all_finite(const void* values, index n) noexcept nogil:
    # x - x is +0 where x is finite, all bits of it zero, else NaN
    cdef const real* x = <const real*>values
    cdef mask found = msplat(0)
    cdef vec v
    cdef index i = 0
    cdef int lane
    while i + LANES <= n:
        v = vload(x + i)
        found = found | vbits(v - v)
        i += LANES
    for lane in range(LANES):
        if vlane(vreal(found), lane) != 0:
            return False
    while i < n:
        if x[i] - x[i] != 0:
            return False
        i += 1
    return True


cdef inline void plain_largest(int64_t* codes, const void* outputs, index rows, index columns) noexcept nogil:
    # Of each row the column of the first NaN, else of the first largest value, as NumPy's argmax has it.
    cdef const real* row = <const real*>outputs
    cdef index r, c, best
    for r in range(rows):
        best = 0
        for c in range(1, columns):
            if row[best] != row[best]:
                break
            if not row[c] <= row[best]:
                best = c
        codes[r] = best
        row += columns


cdef inline void plain_above_zero(int64_t* codes, const void* outputs, index n) noexcept nogil:
    # 1 where the value is positive, else (NaN too) 0
    cdef const real* x = <const real*>outputs
    cdef index i
    for i in range(n):
        codes[i] = x[i] > 0
