# The product of one row.  A register tile of one row (matmul.pxd) is two sums, so that every multiply-add waits for the
# one before it; four panels side by side are eight.  Each element is the same chain of multiply-adds in the order of
# the inner index, so the bits are those of any batch.
from .simd cimport LANES, TILE, real, vec, vfma, vload, vsplat, vstore
from .types cimport index


cdef inline void panels_of_row(
    int count,                 # panels side by side: a constant at every call
    real* c, index c_panel,    # one row of C; panels c_panel reals apart
    const real* a, index a_panel,
    const real* b, const real* bias, index depth,
) noexcept nogil:
    cdef vec sums[4][2]
    cdef vec factor
    cdef const real* row
    cdef index done = 0, k, end
    cdef int i
    for i in range(count):
        sums[i][0] = vload(bias + i * TILE) if bias != NULL else vsplat(0)
        sums[i][1] = vload(bias + i * TILE + LANES) if bias != NULL else vsplat(0)
    while done < depth:
        end = depth - done if depth - done < TILE else TILE
        for k in range(end):
            factor = vsplat(a[k])
            for i in range(count):
                row = b + (i * depth + done + k) * TILE
                sums[i][0] = vfma(factor, vload(row), sums[i][0])
                sums[i][1] = vfma(factor, vload(row + LANES), sums[i][1])
        a += a_panel
        done += end
    for i in range(count):
        vstore(c + i * c_panel, sums[i][0])
        vstore(c + i * c_panel + LANES, sums[i][1])


cdef inline void single_row_product(real* c, const real* a, const real* b, const real* bias, index panels, index depth,
                                    index stride) noexcept nogil:
    # c = a B + bias for one row; panels of C and of A are `stride` reals apart; bias NULL: none.
    cdef index panel = 0, left
    while panel < panels:
        left = panels - panel
        if left >= 4:
            panels_of_row(4, c, stride, a, stride, b, bias, depth)
            left = 4
        elif left == 3:
            panels_of_row(3, c, stride, a, stride, b, bias, depth)
        elif left == 2:
            panels_of_row(2, c, stride, a, stride, b, bias, depth)
        else:
            panels_of_row(1, c, stride, a, stride, b, bias, depth)
        panel += left
        c += left * stride
        b += left * depth * TILE
        if bias != NULL:
            bias += left * TILE
