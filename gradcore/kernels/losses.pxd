# Softmax and the losses, all from raw outputs.  Rows are independent; a row's loss is summed in double.
#
#   p = exp(x - max) / sum exp(x - max)
#   cross-entropy of class y         log(sum exp(x - max)) + max - x[y]             gradient  p - 1[y]
#   … of probabilities q             sum q (log(sum exp(x - max)) + max - x)        gradient  p sum(q) - q
#   binary cross-entropy, logit z    max(z, 0) - z t + log(1 + exp(-|z|))           gradient  sigmoid(z) - t
#   squared error                    (o - t)²                                       gradient  2 (o - t)
#   absolute error                   |o - t|                                        gradient  sign(o - t)
#   Huber (1964), c = o - t in ±δ    c (o - t - c / 2)                              gradient  c
#   quantile (Koenker, Bassett 1978) (1 - q) (o - t) above t, q (t - o) below       gradient  1 - q above, -q below
#   Poisson, o the log of the rate   exp(o) - t o                                   gradient  exp(o) - t
#   Gaussian, s = log variance       (s + (m - t)² exp(-s)) / 2                     gradients (m - t) exp(-s) and
#                                                                                   (1 - (m - t)² exp(-s)) / 2
#
# At their kinks (o = t) absolute error and quantile have the gradient 0; Huber's has none, its slope is ±δ from ±δ on.
# Terms that do not depend on the outputs (log t! of Poisson, log 2π of Gauss) are left out, as in PyTorch.
#
# No loss is the logarithm of a probability, which may have rounded to 0 (Blanchard, Higham and Higham, IMA J. Numer.
# Anal. 41, 2021).  Entries at +inf share the probability; a row of nothing but -inf, or with a NaN, is NaN.
from libc.math cimport INFINITY, NAN, exp, log
from libc.stdint cimport int64_t

from .elementary cimport vexp, vexp_down, vlog1p
from .simd cimport (
    LANES, REAL_IS_SINGLE, TILE, mask, mnot, real, vabs, vbits, vec, vequal, vless, vload, vmax, vnarrow, vreal, vselect,
    vsplat, vstore, vwide_high, vwide_low, wide, wless, wselect, wsplat, wsum, wzero,
)
from .statistics cimport widen, widen_product
from .types cimport (
    BINARY_CROSS_ENTROPY, CROSS_ENTROPY, GAUSSIAN_NLL, HUBER, MEAN_ABSOLUTE_ERROR, MEAN_SQUARED_ERROR, POISSON, QUANTILE,
    index,
)

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
# rows [first, last); row_losses[r], labels[r], weights[r]: of row r.  `scale` multiplies the gradient (1/n for a mean),
# and so does the row's weight, unless `weights` is NULL; no gradient is written where its pointer is NULL.  The gradient
# may overwrite the output it belongs to.  Row losses come out without their weights: `loss_rows` multiplies them.


cdef inline void row_factors(double* factor, const double* weights, double scale, index row,
                             index rows) noexcept nogil:
    cdef index r
    for r in range(rows):
        factor[r] = scale if weights == NULL else scale * weights[row + r]


# The label's own gradient p - 1 is taken from the sum of the others: p itself may have rounded to 1.
cdef inline void cross_entropy_rows(real* d_logits, double* row_losses, const real* logits, const int64_t* labels,
                                    const double* weights, index panel, index first, index last, index columns,
                                    double scale) noexcept nogil:
    cdef Columns split = split_columns(columns)
    cdef real top[ROW_BLOCK]
    cdef real factor[ROW_BLOCK]
    cdef real own[ROW_BLOCK]
    cdef double sums[ROW_BLOCK]
    cdef double scales[ROW_BLOCK]
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
        row_factors(scales, weights, scale, row, rows)
        for r in range(rows):
            label = labels[row + r]
            factor[r] = <real>(scales[r] / sums[r])
            own[r] = <real>((d[(label // TILE) * panel + r * TILE + label % TILE] - sums[r]) * (scales[r] / sums[r]))
        scale_rows(d, factor, panel, rows, &split)
        for r in range(rows):
            label = labels[row + r]
            d[(label // TILE) * panel + r * TILE + label % TILE] = own[r]


# One register of q (max - x), summed into double lanes.  What has no probability costs nothing, even at -inf, and
# neither does the largest entry, even at +inf.
cdef inline wide soft_cost_lanes(vec x, vec q, vec top) noexcept nogil:
    cdef vec zero = vsplat(0)
    cdef mask counts = mnot(vequal(q, zero) | vequal(x, top))
    cdef vec high = vreal(vbits(top) & counts)
    cdef vec value = vreal(vbits(x) & counts)
    cdef wide cost = vwide_low(q) * (vwide_low(high) - vwide_low(value))
    if REAL_IS_SINGLE:
        cost = cost + vwide_high(q) * (vwide_high(high) - vwide_high(value))
    return cost


# Targets are rows of probabilities, stored like the logits; they need not sum to 1.
cdef inline void soft_cross_entropy_rows(real* d_logits, double* row_losses, const real* logits, const real* targets,
                                         const double* weights, index panel, index first, index last, index columns,
                                         double scale) noexcept nogil:
    cdef Columns split = split_columns(columns)
    cdef wide cost[ROW_BLOCK]
    cdef wide mass[ROW_BLOCK]
    cdef real top[ROW_BLOCK]
    cdef double sums[ROW_BLOCK]
    cdef double scales[ROW_BLOCK]
    cdef index block, row, rows, r, p, at
    cdef vec low, high, share, factor
    cdef real* d = NULL
    for block in range((last - first + ROW_BLOCK - 1) // ROW_BLOCK):
        row = first + block * ROW_BLOCK
        rows = block_rows(row, last)
        row_maxima(top, logits + row * TILE, panel, rows, &split)
        for r in range(rows):
            cost[r] = mass[r] = wzero()
        for p in range(split.full + 1):
            for r in range(rows):
                at = p * panel + (row + r) * TILE
                low = vload(targets + at)
                high = vload(targets + at + LANES)
                cost[r] = cost[r] + soft_cost_lanes(vload(logits + at), low, vsplat(top[r]))
                cost[r] = cost[r] + soft_cost_lanes(vload(logits + at + LANES), high, vsplat(top[r]))
                mass[r] = mass[r] + widen(low) + widen(high)
        if d_logits != NULL:
            d = d_logits + row * TILE
        row_exponentials(d, sums, logits + row * TILE, top, panel, rows, &split)
        for r in range(rows):
            row_losses[row + r] = wsum(cost[r]) + wsum(mass[r]) * log(sums[r])
        if d == NULL:
            continue
        row_factors(scales, weights, scale, row, rows)
        for p in range(split.full + 1):
            for r in range(rows):
                at = p * panel + r * TILE
                share = vsplat(<real>(wsum(mass[r]) * (scales[r] / sums[r])))
                factor = vsplat(<real>scales[r])
                low = vload(d + at) * share - vload(targets + row * TILE + at) * factor
                high = vload(d + at + LANES) * share - vload(targets + row * TILE + at + LANES) * factor
                if p == split.full:
                    low = vreal(vbits(low) & split.low)
                    high = vreal(vbits(high) & split.high)
                vstore(d + at, low)
                vstore(d + at + LANES, high)


# A loss of single elements: of one register, the losses summed into double lanes and the gradient times `factor`.
# `lanes`: those that are columns; the pads of both arguments are 0.
ctypedef wide (*Element)(vec* gradient, vec output, vec target, mask lanes, wide factor, double parameter) noexcept nogil


# Sum over the columns; targets stored like the output.
cdef inline void elementwise_rows(Element loss, double parameter, real* d_output, double* row_losses,
                                  const real* output, const real* targets, const double* weights, index panel,
                                  index first, index last, index columns, double scale) noexcept nogil:
    cdef Columns split = split_columns(columns)
    cdef mask low_lanes, high_lanes, every = vequal(vsplat(0), vsplat(0))
    cdef wide total[ROW_BLOCK]
    cdef double scales[ROW_BLOCK]
    cdef vec low, high
    cdef index block, row, rows, r, p, at
    for block in range((last - first + ROW_BLOCK - 1) // ROW_BLOCK):
        row = first + block * ROW_BLOCK
        rows = block_rows(row, last)
        row_factors(scales, weights, scale, row, rows)
        for r in range(rows):
            total[r] = wzero()
        for p in range(split.full + 1):
            low_lanes = split.low if p == split.full else every
            high_lanes = split.high if p == split.full else every
            for r in range(rows):
                at = p * panel + (row + r) * TILE
                total[r] = total[r] + loss(&low, vload(output + at), vload(targets + at), low_lanes,
                                           wsplat(scales[r]), parameter)
                high = vsplat(0)
                if p < split.full or split.used > LANES:
                    total[r] = total[r] + loss(&high, vload(output + at + LANES), vload(targets + at + LANES),
                                               high_lanes, wsplat(scales[r]), parameter)
                if d_output != NULL:
                    vstore(d_output + at, low)
                    vstore(d_output + at + LANES, high)
        for r in range(rows):
            row_losses[row + r] = wsum(total[r])


# With w = 1 - t where z > 0, else t, and e = exp(-|z|):   loss |z| w + log(1 + e)   gradient ± (w - e / (1 + e)).
# A right answer (w = 0) costs nothing even at infinity, and its small gradient keeps all its digits.
cdef inline wide binary_cross_entropy(vec* gradient, vec z, vec t, mask lanes, wide factor,
                                      double parameter) noexcept nogil:
    cdef vec zero = vsplat(0), one = vsplat(1)
    cdef vec size = vabs(z)
    cdef vec e = vexp_down(zero - size)
    cdef mask positive = vless(zero, z)
    cdef vec weight = vselect(positive, one - t, t)
    cdef vec difference = weight - e / (one + e)
    gradient[0] = vreal(vbits(vselect(positive, difference, zero - difference)) & lanes) * vnarrow(factor, factor)
    return (widen(vreal(vbits(vselect(vequal(weight, zero), zero, size * weight)) & lanes))
            + widen(vreal(vbits(vlog1p(e)) & lanes)))


# The others are computed in double: a float32 difference of 1e20 has a square, and a gradient that overflows before it
# is scaled need not overflow after.  (`high` is the second half of a float32 register; a double one has none.)


cdef inline wide squared_error(vec* gradient, vec output, vec target, mask lanes, wide factor,
                               double parameter) noexcept nogil:
    cdef wide low = vwide_low(output) - vwide_low(target)
    cdef wide high = vwide_high(output) - vwide_high(target)
    cdef wide twice = wsplat(2.0) * factor
    gradient[0] = vnarrow(twice * low, twice * high)
    return low * low + high * high if REAL_IS_SINGLE else low * low


# `up` above 0, -`down` below, 0 at 0, NaN at NaN
cdef inline wide side(wide error, double up, double down) noexcept nogil:
    return wselect(wless(wzero(), error), wsplat(up), wselect(wless(error, wzero()), wsplat(-down), error))


cdef inline wide two_sided(vec* gradient, vec output, vec target, wide factor, double up, double down) noexcept nogil:
    cdef wide low = vwide_low(output) - vwide_low(target)
    cdef wide high = vwide_high(output) - vwide_high(target)
    cdef wide low_slope = side(low, up, down)
    cdef wide high_slope = side(high, up, down)
    gradient[0] = vnarrow(factor * low_slope, factor * high_slope)
    return low * low_slope + high * high_slope if REAL_IS_SINGLE else low * low_slope


cdef inline wide absolute_error(vec* gradient, vec output, vec target, mask lanes, wide factor,
                                double parameter) noexcept nogil:
    return two_sided(gradient, output, target, factor, 1.0, 1.0)


cdef inline wide quantile(vec* gradient, vec output, vec target, mask lanes, wide factor, double q) noexcept nogil:
    return two_sided(gradient, output, target, factor, 1.0 - q, q)


cdef inline wide clamped(wide error, double bound) noexcept nogil:
    return wselect(wless(error, wsplat(-bound)), wsplat(-bound),
                   wselect(wless(wsplat(bound), error), wsplat(bound), error))


cdef inline wide huber(vec* gradient, vec output, vec target, mask lanes, wide factor, double delta) noexcept nogil:
    cdef wide low = vwide_low(output) - vwide_low(target)
    cdef wide high = vwide_high(output) - vwide_high(target)
    cdef wide low_slope = clamped(low, delta)
    cdef wide high_slope = clamped(high, delta)
    cdef wide half = wsplat(0.5)
    gradient[0] = vnarrow(factor * low_slope, factor * high_slope)
    low = low_slope * (low - half * low_slope)
    return low + high_slope * (high - half * high_slope) if REAL_IS_SINGLE else low


# exp(o) - t o, inf where the rate is, also at +inf, where both terms are
cdef inline wide rate_cost(wide rate, wide linear) noexcept nogil:
    return wselect(wless(wsplat(1.7976931348623157e308), rate), rate, rate - linear)


# The rate of a float32 output is the square of exp(o / 2), in double: it overflows no sooner than its mean.  A target
# of 0 has no linear term, even at -inf.
cdef inline wide poisson(vec* gradient, vec output, vec target, mask lanes, wide factor,
                         double parameter) noexcept nogil:
    cdef vec zero = vsplat(0)
    cdef vec o = vselect(vequal(target, zero), zero, output)
    cdef vec e = vreal(vbits(vexp(vsplat(0.5) * output if REAL_IS_SINGLE else output)) & lanes)
    cdef wide low = vwide_low(e)
    cdef wide high = vwide_high(e)
    if REAL_IS_SINGLE:
        low = low * low
        high = high * high
    gradient[0] = vnarrow(factor * (low - vwide_low(target)), factor * (high - vwide_high(target)))
    low = rate_cost(low, vwide_low(target) * vwide_low(o))
    return low + rate_cost(high, vwide_high(target) * vwide_high(o)) if REAL_IS_SINGLE else low


# Columns are the means of the targets, then the logarithms of their variances, so that a target's two outputs are
# registers apart: element by element, in double.  With u = (m - t) exp(-s / 2) no square overflows before its quotient.
cdef inline void gaussian_nll_rows(real* d_output, double* row_losses, const real* output, const real* targets,
                                   const double* weights, index panel, index first, index last, index columns,
                                   double scale) noexcept nogil:
    cdef index half = columns // 2, width = (columns + TILE - 1) // TILE * TILE
    cdef index r, c, mean_at, spread_at
    cdef double total, factor, error, spread, root, u
    for r in range(first, last):
        total = 0.0
        row_factors(&factor, weights, scale, r, 1)
        for c in range(half):
            mean_at = (c // TILE) * panel + r * TILE + c % TILE
            spread_at = ((half + c) // TILE) * panel + r * TILE + (half + c) % TILE
            error = <double>output[mean_at] - <double>targets[mean_at]
            spread = output[spread_at]
            root = exp(-0.5 * spread)
            u = error * root if error != 0.0 else 0.0
            total += 0.5 * (spread + u * u)
            if d_output != NULL:
                d_output[mean_at] = <real>(factor * u * root) if error != 0.0 else <real>0.0
                d_output[spread_at] = <real>(factor * 0.5 * (1.0 - u * u))
        row_losses[r] = total
        if d_output != NULL:
            for c in range(columns, width):
                d_output[(c // TILE) * panel + r * TILE + c % TILE] = 0.0


# Multiply row losses by their weights.  A row of weight 0 is absent: no loss and no gradient, whatever it holds.
cdef inline void weigh_rows(real* d_output, double* row_losses, const double* weights, index panel, index first,
                            index last, index columns) noexcept nogil:
    cdef index r, p, at
    for r in range(first, last):
        if weights[r] != 0.0:
            row_losses[r] *= weights[r]
            continue
        row_losses[r] = 0.0
        if d_output != NULL:
            for p in range((columns + TILE - 1) // TILE):
                at = p * panel + r * TILE
                vstore(d_output + at, vsplat(0))
                vstore(d_output + at + LANES, vsplat(0))


# The loss of this code.  Cross-entropy takes labels, or without them targets.
cdef inline void loss_rows(int code, double parameter, real* d, double* row_losses, const real* output,
                           const int64_t* labels, const real* targets, const double* weights, index panel,
                           index first, index last, index columns, double scale) noexcept nogil:
    if code == CROSS_ENTROPY and labels != NULL:
        cross_entropy_rows(d, row_losses, output, labels, weights, panel, first, last, columns, scale)
    elif code == CROSS_ENTROPY:
        soft_cross_entropy_rows(d, row_losses, output, targets, weights, panel, first, last, columns, scale)
    elif code == BINARY_CROSS_ENTROPY:
        elementwise_rows(binary_cross_entropy, parameter, d, row_losses, output, targets, weights, panel, first, last,
                         columns, scale)
    elif code == MEAN_SQUARED_ERROR:
        elementwise_rows(squared_error, parameter, d, row_losses, output, targets, weights, panel, first, last,
                         columns, scale)
    elif code == MEAN_ABSOLUTE_ERROR:
        elementwise_rows(absolute_error, parameter, d, row_losses, output, targets, weights, panel, first, last,
                         columns, scale)
    elif code == HUBER:
        elementwise_rows(huber, parameter, d, row_losses, output, targets, weights, panel, first, last, columns, scale)
    elif code == POISSON:
        elementwise_rows(poisson, parameter, d, row_losses, output, targets, weights, panel, first, last, columns,
                         scale)
    elif code == QUANTILE:
        elementwise_rows(quantile, parameter, d, row_losses, output, targets, weights, panel, first, last, columns,
                         scale)
    elif code == GAUSSIAN_NLL:
        gaussian_nll_rows(d, row_losses, output, targets, weights, panel, first, last, columns, scale)
    if weights != NULL:
        weigh_rows(d, row_losses, weights, panel, first, last, columns)
