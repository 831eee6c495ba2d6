# Dense layer: Z = A W + b, W of shape (inputs, units).  Backward, with D = dL/dZ:
#   dL/dA = D W'        dL/dW = A' D        dL/db = sum of D over the rows
# W' is kept as a second, transposed copy that the update refreshes, so that both products run over panels.
from .activations cimport activation_forward
from .matmul cimport product_panel, transposed_product_rows
from .program cimport Program, Unit
from .simd cimport LANES, TILE, real, vec, vlane, vload, vsplat, vtranspose, wide, wsum, wzero
from .statistics cimport widen_product
from .types cimport Op, index


cdef inline void clear_pads(real* rows_of_panel, index rows, index used) noexcept nogil:
    # The pad columns of a last panel hold zeros, also after 0 * inf or f(0) != 0.
    cdef index r, c
    for r in range(rows):
        for c in range(used, TILE):
            rows_of_panel[r * TILE + c] = 0


cdef inline index panels_of(index columns) noexcept nogil:
    return (columns + TILE - 1) // TILE


cdef inline index used_columns(index columns, index panel) noexcept nogil:
    # true columns of this panel
    return columns - panel * TILE if columns - panel * TILE < TILE else TILE


cdef inline void dense_forward(const Program* p, const Op* op, const Op* activation, bint keep_slope,
                               index first, index last) noexcept nogil:
    # `activation`: applied to each panel while it is in the first-level cache; NULL: not now.
    cdef index stride = p.capacity * TILE, panels = panels_of(op.columns_out), panel, used
    cdef const real* a = <const real*>p.activations + op.input * p.capacity + first * TILE
    cdef real* z = <real*>p.activations + op.output * p.capacity + first * TILE
    cdef real* slope = NULL
    cdef const real* w = <const real*>p.parameters + op.weight
    cdef const real* bias = NULL
    for panel in range(panels):
        if op.bias >= 0:
            bias = <const real*>p.parameters + op.bias + panel * TILE
        product_panel(z + panel * stride, a, w + panel * op.columns_in * TILE, bias, last - first, op.columns_in, stride)
        if activation != NULL:
            if keep_slope:
                slope = <real*>p.deltas + activation.d_input * p.capacity + first * TILE + panel * stride
            activation_forward(<int>activation.code, <real>activation.parameter, z + panel * stride,
                               z + panel * stride, slope, (last - first) * TILE)
        used = used_columns(op.columns_out, panel)
        if used < TILE:
            clear_pads(z + panel * stride, last - first, used)


cdef inline void dense_backward(const Program* p, const Op* op, index first, index last) noexcept nogil:
    cdef index stride = p.capacity * TILE, panels = panels_of(op.columns_in), panel, used
    cdef const real* d = <const real*>p.deltas + op.d_output * p.capacity + first * TILE
    cdef real* d_input = <real*>p.deltas + op.d_input * p.capacity + first * TILE
    cdef const real* w = <const real*>p.transposed + op.transposed
    for panel in range(panels):
        product_panel(d_input + panel * stride, d, w + panel * op.columns_out * TILE, NULL,
                      last - first, op.columns_out, stride)
        used = used_columns(op.columns_in, panel)
        if used < TILE:
            clear_pads(d_input + panel * stride, last - first, used)


cdef inline void weight_gradient(const Program* p, const Op* op, const Unit* unit, index rows) noexcept nogil:
    cdef index stride = p.capacity * TILE, k = unit.row, height
    cdef const real* a = <const real*>p.activations + op.input * p.capacity
    cdef const real* d = <const real*>p.deltas + op.d_output * p.capacity + unit.panel * stride
    cdef real* gradient = <real*>p.gradients + unit.offset
    while k < unit.row + unit.rows:
        height = unit.row + unit.rows - k if unit.row + unit.rows - k < TILE else TILE
        transposed_product_rows(gradient, a + k // TILE * stride, d, height, rows)
        gradient += height * TILE
        k += height


cdef enum:
    ROW_BLOCK = 64             # rows summed in one precision before the sum goes on in double


cdef inline void column_sums(real* sums, const real* panel, index rows) noexcept nogil:
    # Sums of one panel's columns over the rows; blocks keep the rounding error from growing with the batch.
    cdef double total[32]
    cdef vec low, high
    cdef index r = 0, end
    cdef int i
    for i in range(TILE):
        total[i] = 0.0
    while r < rows:
        end = rows if rows - r < ROW_BLOCK else r + ROW_BLOCK
        low = vsplat(0)
        high = vsplat(0)
        while r < end:
            low = low + vload(panel + r * TILE)
            high = high + vload(panel + r * TILE + LANES)
            r += 1
        for i in range(LANES):
            total[i] += vlane(low, i)
            total[LANES + i] += vlane(high, i)
    for i in range(TILE):
        sums[i] = <real>total[i]


# Sum of squares of factor (G - mean a b): the weight gradient G = Σ a δ, with the bias gradient b = Σ δ, centred.
cdef inline double centred_squares(const Program* p, const Op* op, index rows, real factor) noexcept nogil:
    cdef real means[32]
    cdef const real* g
    cdef const real* b
    cdef vec low, high, mean, f = vsplat(factor)
    cdef wide total
    cdef double squares = 0.0
    cdef index k = 0, i, height, panel
    while k < op.columns_in:
        height = op.columns_in - k if op.columns_in - k < TILE else TILE
        column_sums(means, <const real*>p.activations + op.input * p.capacity + k * p.capacity, rows)
        for panel in range(panels_of(op.columns_out)):
            g = <const real*>p.gradients + op.weight + (panel * op.columns_in + k) * TILE
            b = <const real*>p.gradients + op.bias + panel * TILE
            total = wzero()
            for i in range(height):
                mean = vsplat(means[i] / <real>rows)
                low = f * (vload(g + i * TILE) - mean * vload(b))
                high = f * (vload(g + i * TILE + LANES) - mean * vload(b + LANES))
                total = total + widen_product(low, low) + widen_product(high, high)
            squares += wsum(total)
        k += height
    return squares


cdef inline void bias_gradient(const Program* p, const Op* op, index rows) noexcept nogil:
    cdef index panel
    for panel in range(panels_of(op.columns_out)):
        column_sums(<real*>p.gradients + op.bias + panel * TILE,
                    <const real*>p.deltas + op.d_output * p.capacity + panel * p.capacity * TILE, rows)


cdef inline void transpose_tile(real* to, const real* source, index rows, index columns) noexcept nogil:
    # TILE x TILE: `rows` true rows of source become the true columns of `to`, `columns` its true rows; pads zero.
    cdef index i, j
    if rows == TILE and columns == TILE:
        for i in range(2):
            for j in range(2):
                vtranspose(to + j * LANES * TILE + i * LANES, TILE, source + i * LANES * TILE + j * LANES, TILE)
        return
    for i in range(columns):
        for j in range(rows):
            to[i * TILE + j] = source[j * TILE + i]
        for j in range(rows, TILE):
            to[i * TILE + j] = 0


cdef inline void refresh_transposed(const Program* p, const Op* op, const Unit* unit) noexcept nogil:
    cdef const real* w = <const real*>p.parameters + unit.offset
    cdef real* to
    cdef index k = unit.row, height
    while k < unit.row + unit.rows:
        height = unit.row + unit.rows - k if unit.row + unit.rows - k < TILE else TILE
        to = (<real*>p.transposed + op.transposed
              + k // TILE * op.columns_out * TILE + unit.panel * TILE * TILE)
        transpose_tile(to, w, height, used_columns(op.columns_out, unit.panel))
        w += height * TILE
        k += height
