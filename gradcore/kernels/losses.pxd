# Softmax and the losses, all from raw outputs.  Rows are independent; a row's loss is summed in double.
#
#   p = exp(x - max) / sum exp(x - max)
#   cross-entropy of class y         log(sum exp(x - max)) + max - x[y]             gradient  p - 1[y]
#   binary cross-entropy, logit z    max(z, 0) - z t + log(1 + exp(-|z|))           gradient  sigmoid(z) - t
#   squared error                    (o - t)²                                       gradient  2 (o - t)
#
# No loss is the logarithm of a probability, which may have rounded to 0 (Blanchard, Higham and Higham, IMA J. Numer.
# Anal. 41, 2021).  Entries at +inf share the probability; a row of nothing but -inf, or with a NaN, is NaN.
from libc.math cimport INFINITY, NAN, log
from libc.stdint cimport int64_t

from .elementary cimport vexp_down, vlog1p
from .simd cimport (
    LANES, REAL_IS_SINGLE, TILE, mask, real, vabs, vbits, vec, vequal, vless, vload, vmax, vnarrow, vreal, vselect,
    vsplat, vstore, vwide_high, vwide_low, wide, wsplat, wsum, wzero,
)
from .statistics cimport widen, widen_product
from .types cimport index

cdef enum:
    # Rows that go through a panel together: a panel's rows lie one after the other, a row's panels far apart.
    ROW_BLOCK = 8


# How the columns fall into panels: `full` ones, then one whose first `used` lanes (1 to TILE) are columns
cdef struct Columns:
    index full
    index used
    mask low
    mask high


cdef inline Columns split_columns(index columns) noexcept nogil:
    cdef Columns split
    cdef real number[32]
    cdef int i
    for i in range(TILE):
        number[i] = i
    split.full = (columns - 1) // TILE
    split.used = columns - split.full * TILE
    split.low = vless(vload(number), vsplat(<real>split.used))
    split.high = vless(vload(number + LANES), vsplat(<real>split.used))
    return split


cdef inline index block_rows(index row, index last) noexcept nogil:
    return last - row if last - row < ROW_BLOCK else ROW_BLOCK


# ------------------------------------------------------------------ softmax


# The largest entry of each row, NaN left out because it still reaches the sum; NaN for a row of nothing but -inf.
cdef inline void row_maxima(real* top, const real* x, index panel, index rows, Columns* split) noexcept nogil:
    cdef vec largest[ROW_BLOCK]
    cdef const real* cell
    cdef vec lowest = vsplat(-INFINITY)
    cdef real value
    cdef index p, r
    cdef int i
    for r in range(rows):
        cell = x + split.full * panel + r * TILE
        largest[r] = vmax(vselect(split.low, vload(cell), lowest), lowest)
        largest[r] = vmax(vselect(split.high, vload(cell + LANES), lowest), largest[r])
    for p in range(split.full):
        for r in range(rows):
            cell = x + p * panel + r * TILE
            largest[r] = vmax(vload(cell), vmax(vload(cell + LANES), largest[r]))
    for r in range(rows):
        value = (<real*>&largest[r])[0]
        for i in range(1, LANES):
            value = (<real*>&largest[r])[i] if (<real*>&largest[r])[i] > value else value
        top[r] = value if value > -INFINITY else <real>NAN


# exp(x - top); exactly 1 where x is top, also where both are +inf
cdef inline vec exponential_below(vec x, vec top) noexcept nogil:
    return vexp_down(vselect(vequal(x, top), vsplat(0), x - top))


# y = exp(x - top) and its sum over each row.  y may be x, or NULL.
cdef inline void row_exponentials(real* y, double* sums, const real* x, const real* top, index panel, index rows,
                                  Columns* split) noexcept nogil:
    cdef wide total[ROW_BLOCK]
    cdef vec low, high
    cdef index p, r, at
    for r in range(rows):
        at = split.full * panel + r * TILE
        low = vreal(vbits(exponential_below(vload(x + at), vsplat(top[r]))) & split.low)
        high = vsplat(0)
        if split.used > LANES:
            high = vreal(vbits(exponential_below(vload(x + at + LANES), vsplat(top[r]))) & split.high)
        if y != NULL:
            vstore(y + at, low)
            vstore(y + at + LANES, high)
        total[r] = widen(low) + widen(high)
    for p in range(split.full):
        for r in range(rows):
            at = p * panel + r * TILE
            low = exponential_below(vload(x + at), vsplat(top[r]))
            high = exponential_below(vload(x + at + LANES), vsplat(top[r]))
            if y != NULL:
                vstore(y + at, low)
                vstore(y + at + LANES, high)
            total[r] = total[r] + widen(low) + widen(high)
    for r in range(rows):
        sums[r] = wsum(total[r])


# y *= factor of each row; pads stay zero where a factor is not finite
cdef inline void scale_rows(real* y, const real* factor, index panel, index rows, Columns* split) noexcept nogil:
    cdef real* cell
    cdef index p, r
    for r in range(rows):
        cell = y + split.full * panel + r * TILE
        vstore(cell, vreal(vbits(vload(cell) * vsplat(factor[r])) & split.low))
        vstore(cell + LANES, vreal(vbits(vload(cell + LANES) * vsplat(factor[r])) & split.high))
    for p in range(split.full):
        for r in range(rows):
            cell = y + p * panel + r * TILE
            vstore(cell, vload(cell) * vsplat(factor[r]))
            vstore(cell + LANES, vload(cell + LANES) * vsplat(factor[r]))


# y = softmax of each row [first, last) of x; y may be x.  n equal finite entries give 1/n, rounded once.
cdef inline void softmax_rows(real* y, const real* x, index panel, index first, index last,
                              index columns) noexcept nogil:
    cdef Columns split = split_columns(columns)
    cdef real top[ROW_BLOCK]
    cdef real factor[ROW_BLOCK]
    cdef double sums[ROW_BLOCK]
    cdef index block, row, rows, r
    for block in range((last - first + ROW_BLOCK - 1) // ROW_BLOCK):
        row = first + block * ROW_BLOCK
        rows = block_rows(row, last)
        row_maxima(top, x + row * TILE, panel, rows, &split)
        row_exponentials(y + row * TILE, sums, x + row * TILE, top, panel, rows, &split)
        for r in range(rows):
            factor[r] = <real>(1.0 / sums[r])
        scale_rows(y + row * TILE, factor, panel, rows, &split)


# d_x = y (d_y - sum over the row of y d_y), from y = softmax(x).  d_x may be d_y.
cdef inline void softmax_backward_rows(real* d_x, const real* y, const real* d_y, index panel, index first,
                                       index last, index columns) noexcept nogil:
    cdef Columns split = split_columns(columns)
    cdef wide total[ROW_BLOCK]
    cdef vec mean[ROW_BLOCK]
    cdef vec low, high
    cdef index block, row, rows, r, p, at
    for block in range((last - first + ROW_BLOCK - 1) // ROW_BLOCK):
        row = first + block * ROW_BLOCK
        rows = block_rows(row, last)
        for r in range(rows):
            total[r] = wzero()
        for p in range(split.full + 1):
            for r in range(rows):
                at = p * panel + (row + r) * TILE
                total[r] = total[r] + widen_product(vload(y + at), vload(d_y + at))
                total[r] = total[r] + widen_product(vload(y + at + LANES), vload(d_y + at + LANES))
        for r in range(rows):
            mean[r] = vsplat(<real>wsum(total[r]))
        for p in range(split.full + 1):
            for r in range(rows):
                at = p * panel + (row + r) * TILE
                low = vload(y + at) * (vload(d_y + at) - mean[r])
                high = vload(y + at + LANES) * (vload(d_y + at + LANES) - mean[r])
                if p == split.full:
                    low = vreal(vbits(low) & split.low)
                    high = vreal(vbits(high) & split.high)
                vstore(d_x + at, low)
                vstore(d_x + at + LANES, high)


# ------------------------------------------------------------------ losses
# rows [first, last); row_losses[r], labels[r]: of row r.  `scale` multiplies the gradient (1/n for a mean); no
# gradient is written where its pointer is NULL.  The gradient may overwrite the output it belongs to.


# The label's own gradient p - 1 is taken from the sum of the others: p itself may have rounded to 1.
cdef inline void cross_entropy_rows(real* d_logits, double* row_losses, const real* logits, const int64_t* labels,
                                    index panel, index first, index last, index columns,
                                    double scale) noexcept nogil:
    cdef Columns split = split_columns(columns)
    cdef real top[ROW_BLOCK]
    cdef real factor[ROW_BLOCK]
    cdef real own[ROW_BLOCK]
    cdef double sums[ROW_BLOCK]
    cdef index block, row, rows, r, label
    cdef real logit
    cdef real* d = NULL
    for block in range((last - first + ROW_BLOCK - 1) // ROW_BLOCK):
        row = first + block * ROW_BLOCK
        rows = block_rows(row, last)
        row_maxima(top, logits + row * TILE, panel, rows, &split)
        for r in range(rows):
            label = labels[row + r]
            logit = logits[(label // TILE) * panel + (row + r) * TILE + label % TILE]
            row_losses[row + r] = 0.0 if logit == top[r] else <double>top[r] - <double>logit
        if d_logits != NULL:
            d = d_logits + row * TILE
        row_exponentials(d, sums, logits + row * TILE, top, panel, rows, &split)
        for r in range(rows):
            row_losses[row + r] += log(sums[r])
        if d == NULL:
            continue
        for r in range(rows):
            label = labels[row + r]
            factor[r] = <real>(scale / sums[r])
            own[r] = <real>((d[(label // TILE) * panel + r * TILE + label % TILE] - sums[r]) * (scale / sums[r]))
        scale_rows(d, factor, panel, rows, &split)
        for r in range(rows):
            label = labels[row + r]
            d[(label // TILE) * panel + r * TILE + label % TILE] = own[r]


# One register of the next function: its losses summed into double lanes, and the gradient before scaling.
# With w = 1 - t where z > 0, else t, and e = exp(-|z|):   loss |z| w + log(1 + e)   gradient ± (w - e / (1 + e)).
# A right answer (w = 0) costs nothing even at infinity, and its small gradient keeps all its digits.
cdef inline wide binary_cross_entropy_lanes(vec* gradient, vec z, vec t, mask lanes) noexcept nogil:
    cdef vec zero = vsplat(0), one = vsplat(1)
    cdef vec size = vabs(z)
    cdef vec e = vexp_down(zero - size)
    cdef mask positive = vless(zero, z)
    cdef vec weight = vselect(positive, one - t, t)
    cdef vec difference = weight - e / (one + e)
    gradient[0] = vreal(vbits(vselect(positive, difference, zero - difference)) & lanes)
    return (widen(vreal(vbits(vselect(vequal(weight, zero), zero, size * weight)) & lanes))
            + widen(vreal(vbits(vlog1p(e)) & lanes)))


# Sum over the columns; targets in [0, 1], stored like the logits.
cdef inline void binary_cross_entropy_rows(real* d_logits, double* row_losses, const real* logits,
                                           const real* targets, index panel, index first, index last, index columns,
                                           double scale) noexcept nogil:
    cdef Columns split = split_columns(columns)
    cdef mask low_lanes, high_lanes, every = vequal(vsplat(0), vsplat(0))
    cdef wide total[ROW_BLOCK]
    cdef vec low, high
    cdef index block, row, rows, r, p, at
    for block in range((last - first + ROW_BLOCK - 1) // ROW_BLOCK):
        row = first + block * ROW_BLOCK
        rows = block_rows(row, last)
        for r in range(rows):
            total[r] = wzero()
        for p in range(split.full + 1):
            low_lanes = split.low if p == split.full else every
            high_lanes = split.high if p == split.full else every
            for r in range(rows):
                at = p * panel + (row + r) * TILE
                total[r] = total[r] + binary_cross_entropy_lanes(&low, vload(logits + at), vload(targets + at),
                                                                 low_lanes)
                high = vsplat(0)
                if p < split.full or split.used > LANES:
                    total[r] = total[r] + binary_cross_entropy_lanes(&high, vload(logits + at + LANES),
                                                                     vload(targets + at + LANES), high_lanes)
                if d_logits != NULL:
                    vstore(d_logits + at, low * vsplat(<real>scale))
                    vstore(d_logits + at + LANES, high * vsplat(<real>scale))
        for r in range(rows):
            row_losses[row + r] = wsum(total[r])


# One register of the next function, in double: a float32 difference of 1e20 has a square, and a gradient that
# overflows before it is scaled need not overflow after.
cdef inline wide squared_error_lanes(vec* gradient, vec output, vec target, wide factor) noexcept nogil:
    cdef wide low = vwide_low(output) - vwide_low(target)
    cdef wide high = vwide_high(output) - vwide_high(target)
    gradient[0] = vnarrow(factor * low, factor * high)
    return low * low + high * high if REAL_IS_SINGLE else low * low


# Sum over the columns; targets stored like the output.
cdef inline void squared_error_rows(real* d_output, double* row_losses, const real* output, const real* targets,
                                    index panel, index first, index last, index columns, double scale) noexcept nogil:
    cdef index panels = (columns + TILE - 1) // TILE, block, row, rows, r, p, at
    cdef wide total[ROW_BLOCK]
    cdef wide factor = wsplat(2.0 * scale)
    cdef vec low, high
    for block in range((last - first + ROW_BLOCK - 1) // ROW_BLOCK):
        row = first + block * ROW_BLOCK
        rows = block_rows(row, last)
        for r in range(rows):
            total[r] = wzero()
        for p in range(panels):
            for r in range(rows):
                at = p * panel + (row + r) * TILE
                total[r] = total[r] + squared_error_lanes(&low, vload(output + at), vload(targets + at), factor)
                total[r] = total[r] + squared_error_lanes(&high, vload(output + at + LANES),
                                                          vload(targets + at + LANES), factor)
                if d_output != NULL:
                    vstore(d_output + at, low)
                    vstore(d_output + at + LANES, high)
        for r in range(rows):
            row_losses[row + r] = wsum(total[r])
