# Dense layer: Z = A W + b, W of shape (inputs, units).  Backward, with D = dL/dZ:
#   dL/dA = D W'        dL/dW = A' D        dL/db = sum of D over the rows
# W' is kept as a second, transposed copy that the update refreshes, so that both products run over panels.
from .activations cimport activation_forward
from .matmul cimport (
    AS_IT_IS, DEPTH_BLOCK, RELU_OF_IT, TIMES_OTHER, TIMES_STEP_OF_OTHER, product_block, transposed_product_rows,
)
from .program cimport Program, Unit
from .simd cimport (
    LANES, TILE, fetch_to_write, real, vec, vload, vnarrow, vsplat, vstore, vtranspose, vwide_high, vwide_low, wide, wsum, wzero,
)
from .single_row cimport single_row_product
from .statistics cimport widen_product
from .types cimport RELU, Op, index


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


# Whether forward leaves no slope behind because backward reads it from the output: ReLU in place after a dense op, in
# steps whose slopes nobody looks at.
cdef inline bint slope_in_output(const Program* p, const Op* activation) noexcept nogil:
    return p.lean and activation.code == RELU and activation.input == activation.output


cdef inline void dense_forward_row(const Program* p, const Op* op, const Op* activation, index row) noexcept nogil:
    # One row of inference.
    cdef index stride = p.capacity * TILE, panels = panels_of(op.columns_out), panel, used
    cdef const real* a = <const real*>p.activations + op.input * p.capacity + row * TILE
    cdef real* z = <real*>p.activations + op.output * p.capacity + row * TILE
    single_row_product(z, a, <const real*>p.parameters + op.weight,
                       <const real*>p.parameters + op.bias if op.bias >= 0 else NULL, panels, op.columns_in, stride)
    for panel in range(panels):
        if activation != NULL:
            activation_forward(<int>activation.code, <real>activation.parameter, z, z, NULL, TILE)
        used = used_columns(op.columns_out, panel)
        if used < TILE:
            clear_pads(z, 1, used)
        z += stride


cdef inline void dense_forward(const Program* p, const Op* op, const Op* activation, bint keep_slope,
                               index first, index last) noexcept nogil:
    # `activation`: applied to each panel while it is in the first-level cache; NULL: not now.  The inner index is cut
    # into blocks outside the loop over the panels: a block of A then stays in the second-level cache.
    cdef index stride = p.capacity * TILE, panels = panels_of(op.columns_out), depth = op.columns_in
    cdef index panel, used, k = 0, block, step
    cdef const real* a = <const real*>p.activations + op.input * p.capacity + first * TILE
    cdef const real* w = <const real*>p.parameters + op.weight
    cdef const real* start
    cdef real* z
    cdef real* slope
    cdef bint relu = activation != NULL and activation.code == RELU
    if last - first == 1 and not keep_slope:
        dense_forward_row(p, op, activation, first)
        return
    if relu and keep_slope:
        relu = slope_in_output(p, activation)
    while k < depth:
        block = depth - k if depth - k < DEPTH_BLOCK else DEPTH_BLOCK
        for panel in range(panels):
            z = <real*>p.activations + op.output * p.capacity + first * TILE + panel * stride
            start = z
            step = TILE
            if k == 0:
                start = <const real*>p.parameters + op.bias + panel * TILE if op.bias >= 0 else NULL
                step = 0
            if relu and k + block == depth:
                product_block(z, start, step, a + k // TILE * stride, w + (panel * depth + k) * TILE, last - first, block,
                              stride, RELU_OF_IT, NULL)
            else:
                product_block(z, start, step, a + k // TILE * stride, w + (panel * depth + k) * TILE, last - first, block,
                              stride, AS_IT_IS, NULL)
            if k + block < depth:
                continue
            if activation != NULL and not relu:
                slope = NULL
                if keep_slope:
                    slope = <real*>p.deltas + activation.d_input * p.capacity + first * TILE + panel * stride
                activation_forward(<int>activation.code, <real>activation.parameter, z, z, slope, (last - first) * TILE)
            used = used_columns(op.columns_out, panel)
            if used < TILE:
                clear_pads(z, last - first, used)
        k += block


cdef inline void dense_backward(const Program* p, const Op* op, const Op* activation, index first, index last) noexcept nogil:
    # `activation`: the op before this one, whose slope each panel of dL/d(input) is multiplied by at once; NULL: not now.
    cdef index stride = p.capacity * TILE, panels = panels_of(op.columns_in), depth = op.columns_out
    cdef index panel, used, k = 0, block, step
    cdef const real* d = <const real*>p.deltas + op.d_output * p.capacity + first * TILE
    cdef const real* w = <const real*>p.transposed + op.transposed
    cdef const real* start
    cdef real* sums
    cdef real* d_input
    cdef bint relu = activation != NULL and slope_in_output(p, activation)
    while k < depth:
        block = depth - k if depth - k < DEPTH_BLOCK else DEPTH_BLOCK
        for panel in range(panels):
            sums = <real*>p.deltas + op.d_input * p.capacity + first * TILE + panel * stride
            start = NULL if k == 0 else sums
            step = 0 if k == 0 else TILE
            if activation == NULL or k + block < depth:
                d_input = sums
                product_block(d_input, start, step, d + k // TILE * stride, w + (panel * depth + k) * TILE, last - first,
                              block, stride, AS_IT_IS, NULL)
            else:
                d_input = <real*>p.deltas + activation.d_input * p.capacity + first * TILE + panel * stride
                if relu:
                    product_block(d_input, start, step, d + k // TILE * stride, w + (panel * depth + k) * TILE, last - first,
                                  block, stride, TIMES_STEP_OF_OTHER,
                                  <const real*>p.activations + activation.output * p.capacity + first * TILE + panel * stride)
                else:
                    product_block(d_input, start, step, d + k // TILE * stride, w + (panel * depth + k) * TILE, last - first,
                                  block, stride, TIMES_OTHER, d_input)
            used = used_columns(op.columns_in, panel)
            if used < TILE:
                clear_pads(d_input, last - first, used)
        k += block


# Returns the sum of the squares of what it writes: to float32's precision, where neither their overflow (infinity) nor
# their underflow (a small sum) shows.
cdef inline double weight_gradient(const Program* p, const Op* op, const Unit* unit, index rows) noexcept nogil:
    cdef index stride = p.capacity * TILE, k = unit.row, height
    cdef const real* a = <const real*>p.activations + op.input * p.capacity
    cdef const real* d = <const real*>p.deltas + op.d_output * p.capacity + unit.panel * stride
    cdef real* gradient = <real*>p.gradients + unit.offset
    cdef wide squares = wzero()
    while k < unit.row + unit.rows:
        height = unit.row + unit.rows - k if unit.row + unit.rows - k < TILE else TILE
        transposed_product_rows(gradient, a + k // TILE * stride, d, height, rows, &squares)
        gradient += height * TILE
        k += height
    return wsum(squares)


cdef enum:
    ROW_BLOCK = 64             # rows summed in one precision before the sum goes on in double


cdef inline void column_sums(real* sums, const real* panel, index rows) noexcept nogil:
    # Sums of one panel's columns over the rows; blocks keep the rounding error from growing with the batch.
    cdef wide total[4]
    cdef vec low, high, low_odd, high_odd
    cdef index r = 0, end
    total[0] = total[1] = total[2] = total[3] = wzero()
    while r < rows:
        end = rows if rows - r < ROW_BLOCK else r + ROW_BLOCK
        low = high = low_odd = high_odd = vsplat(0)
        while r + 2 <= end:                            # two rows at a time: sums of their own hide the latency
            low = low + vload(panel + r * TILE)
            high = high + vload(panel + r * TILE + LANES)
            low_odd = low_odd + vload(panel + (r + 1) * TILE)
            high_odd = high_odd + vload(panel + (r + 1) * TILE + LANES)
            r += 2
        if r < end:
            low = low + vload(panel + r * TILE)
            high = high + vload(panel + r * TILE + LANES)
            r += 1
        low = low + low_odd
        high = high + high_odd
        total[0] = total[0] + vwide_low(low)
        total[1] = total[1] + vwide_high(low)
        total[2] = total[2] + vwide_low(high)
        total[3] = total[3] + vwide_high(high)
    vstore(sums, vnarrow(total[0], total[1]))
    vstore(sums + LANES, vnarrow(total[2], total[3]))


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


# Where the transposed copy of a unit's rows from `k` on (at most TILE of them) lies
cdef inline real* transposed_tile(const Program* p, const Op* op, const Unit* unit, index k) noexcept nogil:
    return <real*>p.transposed + op.transposed + k // TILE * op.columns_out * TILE + unit.panel * TILE * TILE


cdef inline void fetch_transposed_tile(const Program* p, const Op* op, const Unit* unit, index k) noexcept nogil:
    # One line of the cache after the other: where tiles lie far apart the processor does not guess the next one.
    cdef const real* to = transposed_tile(p, op, unit, k)
    cdef index i
    for i in range(used_columns(op.columns_out, unit.panel)):
        fetch_to_write(to + i * TILE)
        if TILE * sizeof(real) > 64:
            fetch_to_write(to + i * TILE + LANES)


cdef inline void refresh_transposed(const Program* p, const Op* op, const Unit* unit, index k, index rows) noexcept nogil:
    # Rows k … k + rows of the unit's weights, at most TILE of them
    cdef const real* w = <const real*>p.parameters + unit.offset + (k - unit.row) * TILE
    transpose_tile(transposed_tile(p, op, unit, k), w, rows, used_columns(op.columns_out, unit.panel))
