# Batch normalisation (Ioffe and Szegedy, ICML 2015) panel by panel, and layer normalisation (Ba, Kiros and Hinton, 2016) row
# by row; x̂ is the normalised input.
#
#   x̂ = (x - mean) inverse     y = gamma x̂ + beta     inverse = 1 / sqrt(variance + eps)
#   d_beta = sum d_y           d_gamma = sum d_y x̂                                  over the rows
#   batch: d_x = gamma inverse (d_y - mean(d_y) - x̂ mean(d_y x̂))                    means over the rows
#          d_x = gamma inverse d_y                                                  constants (running statistics)
#   layer: d_x = inverse (g - mean(g) - x̂ mean(g x̂)),  g = gamma d_y                means over the columns
#
# Statistics are in double.  x - mean comes first: with the mean multiplied out, a mean of 1e8 would take all digits.  And
# the mean itself, rounded to the dtype, would be off by half of what float32 can tell apart there: `shift` makes up for it,
# x̂ = (x - mean) inverse + shift with shift = -(exact mean - mean) inverse.
from libc.math cimport INFINITY, NAN, isfinite, sqrt

from .dense cimport clear_pads, panels_of, used_columns
from .simd cimport (
    LANES, REAL_IS_SINGLE, TILE, WIDE_LANES, WIDES, mask, real, vbits, vec, vload, vnarrow, vselect, vsplat, vstore,
    vwide_high, vwide_low, wide, wlane, wload, word, wsplat, wsum, wzero,
)
from .statistics cimport widen
from .types cimport index

cdef enum:
    ROW_BLOCK = 32         # rows summed in one precision before the sum goes on in double; rows that a pass takes together
    # Differences of float32 are exact in double, and so one pass about the first value has digits to spare.  In float64 its
    # error grows with the number of values, and a second one goes about the mean (Chan, Golub and LeVeque, Am. Stat. 37, 1983).
    TURNS_SINGLE = 1
    TURNS_DOUBLE = 2


# 1 / sqrt(variance + eps); 0 where that is 1 / 0, so that what is constant then gives beta, and pads 0, not NaN.
cdef inline real inverse_deviation(double variance, double eps) noexcept nogil:
    return <real>(1.0 / sqrt(variance + eps)) if variance + eps != 0.0 else <real>0.0


# ------------------------------------------------------------------ batch norm


# The same for one panel of running variances
cdef inline void batch_norm_inverse(real* inverse, const real* variance, double eps) noexcept nogil:
    cdef index c
    for c in range(TILE):
        inverse[c] = inverse_deviation(variance[c], eps)


# Mean, biased variance, inverse and shift of the columns of one panel (rows >= 1).  A constant column has exactly its
# value and 0; a column with an inf or NaN has NaN.
cdef inline void batch_norm_statistics(real* mean, real* variance, real* inverse, real* shift, const real* x, index rows,
                                       double eps) noexcept nogil:
    cdef wide centre[4]
    cdef wide sums[4]
    cdef wide squares[4]
    cdef wide d, n = wsplat(<double>rows)
    cdef double spread, rest, middle
    cdef index r, c
    cdef int k, turn
    for k in range(WIDES):
        centre[k] = wload(x + k * WIDE_LANES)
    for turn in range(TURNS_SINGLE if REAL_IS_SINGLE else TURNS_DOUBLE):
        for k in range(WIDES):
            if turn > 0:
                centre[k] = centre[k] + sums[k] / n
            sums[k] = squares[k] = wzero()
        for r in range(rows):
            for k in range(WIDES):
                d = wload(x + r * TILE + k * WIDE_LANES) - centre[k]
                sums[k] = sums[k] + d
                squares[k] = squares[k] + d * d
    for k in range(WIDES):
        sums[k] = sums[k] / n
        squares[k] = squares[k] / n - sums[k] * sums[k]
    for c in range(TILE):
        middle = wlane(centre[c // WIDE_LANES], c % WIDE_LANES)
        rest = wlane(sums[c // WIDE_LANES], c % WIDE_LANES)
        spread = wlane(squares[c // WIDE_LANES], c % WIDE_LANES)
        if spread < 0.0:
            spread = 0.0
        mean[c] = <real>(middle + rest)
        variance[c] = <real>spread
        inverse[c] = inverse_deviation(spread, eps)
        shift[c] = <real>(-(rest - (mean[c] - middle)) * inverse[c])


# y may be x.
cdef inline void batch_norm_forward_panel(real* y, const real* x, const real* mean, const real* inverse, const real* shift,
                                          const real* gamma, const real* beta, index rows) noexcept nogil:
    cdef vec centre[2]
    cdef vec scale[2]
    cdef vec rest[2]
    cdef vec slope[2]
    cdef vec offset[2]
    cdef index r
    cdef int half
    for half in range(2):
        centre[half] = vload(mean + half * LANES)
        scale[half] = vload(inverse + half * LANES)
        rest[half] = vload(shift + half * LANES)
        slope[half] = vload(gamma + half * LANES)
        offset[half] = vload(beta + half * LANES)
    for r in range(rows):
        for half in range(2):
            vstore(y + r * TILE + half * LANES,
                   slope[half] * ((vload(x + r * TILE + half * LANES) - centre[half]) * scale[half] + rest[half]) + offset[half])


# Sums of d and d x̂ over the rows of one column, wholly in double: for those whose blocks have left the range of float32.
cdef inline void sums_of_column(double* sum, double* product, const real* d, const real* x, real mean, real inverse,
                                real shift, index rows) noexcept nogil:
    cdef index r
    sum[0] = product[0] = 0.0
    for r in range(rows):
        sum[0] += d[r * TILE]
        product[0] += <double>d[r * TILE] * <real>((x[r * TILE] - mean) * inverse + shift)


# d_gamma and d_beta are assigned; d_x may be d_y.
cdef inline void batch_norm_backward_panel(real* d_x, real* d_gamma, real* d_beta, const real* d_y, const real* x,
                                           const real* mean, const real* inverse, const real* shift, const real* gamma,
                                           index rows, bint batch_statistics) noexcept nogil:
    cdef wide n = wsplat(<double>(rows if rows > 0 else 1))
    cdef wide low_beta[2]
    cdef wide high_beta[2]
    cdef wide low_gamma[2]
    cdef wide high_gamma[2]
    cdef vec centre[2]
    cdef vec scale[2]
    cdef vec rest[2]
    cdef vec sum_beta[2]
    cdef vec sum_gamma[2]
    cdef real mean_beta[32]
    cdef real mean_gamma[32]
    cdef double sum, product
    cdef vec normal, d, factor
    cdef index r = 0, end, c
    cdef int half
    for half in range(2):
        centre[half] = vload(mean + half * LANES)
        scale[half] = vload(inverse + half * LANES)
        rest[half] = vload(shift + half * LANES)
        low_beta[half] = high_beta[half] = low_gamma[half] = high_gamma[half] = wzero()
    while r < rows:
        end = rows if rows - r < ROW_BLOCK else r + ROW_BLOCK
        sum_beta[0] = sum_beta[1] = sum_gamma[0] = sum_gamma[1] = vsplat(0)
        while r < end:
            for half in range(2):
                d = vload(d_y + r * TILE + half * LANES)
                normal = (vload(x + r * TILE + half * LANES) - centre[half]) * scale[half] + rest[half]
                sum_beta[half] = sum_beta[half] + d
                sum_gamma[half] = sum_gamma[half] + d * normal
            r += 1
        for half in range(2):
            low_beta[half] = low_beta[half] + vwide_low(sum_beta[half])
            high_beta[half] = high_beta[half] + vwide_high(sum_beta[half])
            low_gamma[half] = low_gamma[half] + vwide_low(sum_gamma[half])
            high_gamma[half] = high_gamma[half] + vwide_high(sum_gamma[half])
    for half in range(2):
        vstore(d_beta + half * LANES, vnarrow(low_beta[half], high_beta[half]))
        vstore(d_gamma + half * LANES, vnarrow(low_gamma[half], high_gamma[half]))
        vstore(mean_beta + half * LANES, vnarrow(low_beta[half] / n, high_beta[half] / n))
        vstore(mean_gamma + half * LANES, vnarrow(low_gamma[half] / n, high_gamma[half] / n))
    if REAL_IS_SINGLE:
        for c in range(TILE):
            if not (isfinite(d_beta[c]) and isfinite(d_gamma[c])):
                sums_of_column(&sum, &product, d_y + c, x + c, mean[c], inverse[c], shift[c], rows)
                d_beta[c] = <real>sum
                d_gamma[c] = <real>product
                mean_beta[c] = <real>(sum / rows)
                mean_gamma[c] = <real>(product / rows)
    for half in range(2):
        sum_beta[half] = vload(mean_beta + half * LANES) if batch_statistics else vsplat(0)
        sum_gamma[half] = vload(mean_gamma + half * LANES) if batch_statistics else vsplat(0)
    for r in range(rows):
        for half in range(2):
            d = vload(d_y + r * TILE + half * LANES)
            normal = (vload(x + r * TILE + half * LANES) - centre[half]) * scale[half] + rest[half]
            factor = vload(gamma + half * LANES) * scale[half]
            vstore(d_x + r * TILE + half * LANES, factor * (d - sum_beta[half] - normal * sum_gamma[half]))


# ------------------------------------------------------------------ layer norm


# All ones where a column of this panel is a true one
cdef inline mask true_columns(index used, int half) noexcept nogil:
    cdef word lanes[32]
    cdef int c
    for c in range(LANES):
        lanes[c] = -1 if half * LANES + c < used else 0
    return vbits(vload(<const real*>lanes))


# Where the rows of a layer norm lie, and what it keeps of each of them; panels are `step` reals apart.
cdef struct Rows:
    index step
    index columns
    real* mean
    real* inverse
    real* shift


# Add one panel of `count` rows to their sums of x - centre and (x - centre)².  `partial`: a constant at each call, as are
# those below.  A pad counts as the centre.
cdef inline void add_moments(wide* sums, wide* squares, const double* centre, const real* x, index count, index used,
                             bint partial) noexcept nogil:
    cdef mask true_a = true_columns(used, 0), true_b = true_columns(used, 1)
    cdef real row[32]
    cdef wide d, sum, square, middle
    cdef const real* cell
    cdef index r
    cdef int k
    for r in range(count):
        cell = x + r * TILE
        if partial:
            vstore(row, vselect(true_a, vload(cell), vsplat(<real>centre[r])))
            vstore(row + LANES, vselect(true_b, vload(cell + LANES), vsplat(<real>centre[r])))
            cell = row
        middle = wsplat(centre[r])
        sum = sums[r]
        square = squares[r]
        for k in range(WIDES):
            d = wload(cell + k * WIDE_LANES) - middle
            sum = sum + d
            square = square + d * d
        sums[r] = sum
        squares[r] = square


# Mean, inverse and shift of `count` rows, at most ROW_BLOCK.
cdef inline void layer_norm_statistics(const Rows* rows, const real* x, index first, index count, double eps) noexcept nogil:
    cdef wide sums[ROW_BLOCK]
    cdef wide squares[ROW_BLOCK]
    cdef double centre[ROW_BLOCK]
    cdef double mean, variance
    cdef index r, panel, full = rows.columns // TILE, used = rows.columns - full * TILE
    cdef int turn
    for r in range(count):
        centre[r] = x[r * TILE]
    for turn in range(TURNS_SINGLE if REAL_IS_SINGLE else TURNS_DOUBLE):
        for r in range(count):
            if turn > 0:
                centre[r] += wsum(sums[r]) / rows.columns
            sums[r] = squares[r] = wzero()
        for panel in range(full):
            add_moments(sums, squares, centre, x + panel * rows.step, count, TILE, False)
        if used > 0:
            add_moments(sums, squares, centre, x + full * rows.step, count, used, True)
    for r in range(count):
        mean = wsum(sums[r]) / rows.columns
        variance = wsum(squares[r]) / rows.columns - mean * mean
        if variance < 0.0:
            variance = 0.0
        rows.mean[first + r] = <real>(centre[r] + mean)
        # (where the squares have left the range of double nothing is known of the row; batch norm's running variance tells)
        rows.inverse[first + r] = inverse_deviation(variance, eps) if variance != INFINITY else <real>NAN
        rows.shift[first + r] = <real>(-(mean - (<double>rows.mean[first + r] - centre[r])) * rows.inverse[first + r])


# Rows [first, last): statistics, and y, which may be x.
cdef inline void layer_norm_forward_rows(const Rows* rows, real* y, const real* x, const real* gamma, const real* beta,
                                         index first, index last, double eps) noexcept nogil:
    cdef vec a, b, slope_a, slope_b, offset_a, offset_b, centre, scale, rest
    cdef index start = first, count, panel, r, at
    while start < last:
        count = last - start if last - start < ROW_BLOCK else ROW_BLOCK
        layer_norm_statistics(rows, x + start * TILE, start, count, eps)
        for panel in range(panels_of(rows.columns)):
            slope_a = vload(gamma + panel * TILE)
            slope_b = vload(gamma + panel * TILE + LANES)
            offset_a = vload(beta + panel * TILE)
            offset_b = vload(beta + panel * TILE + LANES)
            for r in range(start, start + count):
                at = panel * rows.step + r * TILE
                centre = vsplat(rows.mean[r])
                scale = vsplat(rows.inverse[r])
                rest = vsplat(rows.shift[r])
                a = (vload(x + at) - centre) * scale + rest
                b = (vload(x + at + LANES) - centre) * scale + rest
                vstore(y + at, slope_a * a + offset_a)
                vstore(y + at + LANES, slope_b * b + offset_b)
            if used_columns(rows.columns, panel) < TILE:
                clear_pads(y + panel * rows.step + start * TILE, count, used_columns(rows.columns, panel))
        start += count


# One panel's share of the sums over the columns of g and g x̂, g = gamma d_y.
cdef inline void add_delta_sums(wide* sums, wide* products, const Rows* rows, const real* d_y, const real* x,
                                const real* gamma, index first, index count, index used, bint partial) noexcept nogil:
    cdef mask true_a = true_columns(used, 0), true_b = true_columns(used, 1)
    cdef vec slope_a = vload(gamma), slope_b = vload(gamma + LANES), a, b, g_a, g_b, centre, scale, rest
    cdef index r, at
    for r in range(count):
        at = (first + r) * TILE
        centre = vsplat(rows.mean[first + r])
        scale = vsplat(rows.inverse[first + r])
        rest = vsplat(rows.shift[first + r])
        g_a = slope_a * vload(d_y + at)
        g_b = slope_b * vload(d_y + at + LANES)
        a = (vload(x + at) - centre) * scale + rest
        b = (vload(x + at + LANES) - centre) * scale + rest
        if partial:
            a = vselect(true_a, a, vsplat(0))
            b = vselect(true_b, b, vsplat(0))
        sums[r] = sums[r] + widen(g_a + g_b)
        products[r] = products[r] + widen(g_a * a + g_b * b)


# Rows [first, last) of d_x, which may be d_y.
cdef inline void layer_norm_backward_rows(const Rows* rows, real* d_x, const real* d_y, const real* x, const real* gamma,
                                          index first, index last) noexcept nogil:
    cdef wide sums[ROW_BLOCK]
    cdef wide products[ROW_BLOCK]
    cdef real mean_g[ROW_BLOCK]
    cdef real mean_product[ROW_BLOCK]
    cdef vec a, b, g_a, g_b, slope_a, slope_b, centre, scale, rest, less, part
    cdef index start = first, count, panel, r, at, full = rows.columns // TILE, used = rows.columns - full * TILE
    while start < last:
        count = last - start if last - start < ROW_BLOCK else ROW_BLOCK
        for r in range(count):
            sums[r] = products[r] = wzero()
        for panel in range(full):
            add_delta_sums(sums, products, rows, d_y + panel * rows.step, x + panel * rows.step, gamma + panel * TILE, start,
                           count, TILE, False)
        if used > 0:
            add_delta_sums(sums, products, rows, d_y + full * rows.step, x + full * rows.step, gamma + full * TILE, start,
                           count, used, True)
        for r in range(count):
            mean_g[r] = <real>(wsum(sums[r]) / rows.columns)
            mean_product[r] = <real>(wsum(products[r]) / rows.columns)
        for panel in range(panels_of(rows.columns)):
            slope_a = vload(gamma + panel * TILE)
            slope_b = vload(gamma + panel * TILE + LANES)
            for r in range(start, start + count):
                at = panel * rows.step + r * TILE
                centre = vsplat(rows.mean[r])
                scale = vsplat(rows.inverse[r])
                rest = vsplat(rows.shift[r])
                less = vsplat(mean_g[r - start])
                part = vsplat(mean_product[r - start])
                a = (vload(x + at) - centre) * scale + rest
                b = (vload(x + at + LANES) - centre) * scale + rest
                g_a = slope_a * vload(d_y + at) - less
                g_b = slope_b * vload(d_y + at + LANES) - less
                vstore(d_x + at, scale * (g_a - a * part))
                vstore(d_x + at + LANES, scale * (g_b - b * part))
            if used_columns(rows.columns, panel) < TILE:
                clear_pads(d_x + panel * rows.step + start * TILE, count, used_columns(rows.columns, panel))
        start += count


# d_gamma of one panel, over all rows in their order
cdef inline void layer_norm_gamma_gradient(const Rows* rows, real* d_gamma, const real* d_y, const real* x, index count,
                                           index used) noexcept nogil:
    cdef wide low[2]
    cdef wide high[2]
    cdef vec sums[2]
    cdef vec centre, scale, rest, normal
    cdef index r = 0, end
    cdef int half
    for half in range(2):
        low[half] = high[half] = wzero()
    while r < count:
        end = count if count - r < ROW_BLOCK else r + ROW_BLOCK
        sums[0] = sums[1] = vsplat(0)
        while r < end:
            centre = vsplat(rows.mean[r])
            scale = vsplat(rows.inverse[r])
            rest = vsplat(rows.shift[r])
            for half in range(2):
                normal = (vload(x + r * TILE + half * LANES) - centre) * scale + rest
                sums[half] = sums[half] + vload(d_y + r * TILE + half * LANES) * normal
            r += 1
        for half in range(2):
            low[half] = low[half] + vwide_low(sums[half])
            high[half] = high[half] + vwide_high(sums[half])
    for half in range(2):
        vstore(d_gamma + half * LANES, vnarrow(low[half], high[half]))
    if used < TILE:
        clear_pads(d_gamma, 1, used)


# running += momentum (batch - running), with the unbiased variance of the batch as in PyTorch; a batch of one row has
# no unbiased variance and counts with its biased one.
cdef inline void update_running(real* running_mean, real* running_variance, const real* mean, const real* variance,
                                index n, index rows, double momentum) noexcept nogil:
    cdef double unbiased = <double>rows / (rows - 1) if rows > 1 else 1.0
    cdef index c
    for c in range(n):
        running_mean[c] = <real>(running_mean[c] + momentum * (<double>mean[c] - running_mean[c]))
        running_variance[c] = <real>(running_variance[c] + momentum * (variance[c] * unbiased - running_variance[c]))
