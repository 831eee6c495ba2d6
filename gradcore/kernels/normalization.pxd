# Batch normalisation (Ioffe and Szegedy, ICML 2015), panel by panel; sums over the rows are in double.
#
#   y = gamma (x - mean) inverse + beta                     inverse = 1 / sqrt(variance + eps)
#   d_beta = sum d_y     d_gamma = sum d_y (x - mean) inverse
#   d_x = gamma inverse (d_y - d_beta / n - (x - mean) inverse d_gamma / n)    mean and variance of this batch
#   d_x = gamma inverse d_y                                                    constants (running statistics)
#
# x - mean comes first: with the mean multiplied out, a mean of 1e8 would take all digits.
from libc.math cimport sqrt

from .simd cimport (
    LANES, REAL_IS_SINGLE, TILE, real, vec, vload, vnarrow, vsplat, vstore, vwide_high, vwide_low, wide, wlane, wsplat,
    wzero,
)
from .types cimport index


# 1 / sqrt(variance + eps); 0 where that is 1 / 0, so that a constant column then gives beta, and pads 0, not NaN.
cdef inline real inverse_deviation(double variance, double eps) noexcept nogil:
    return <real>(1.0 / sqrt(variance + eps)) if variance + eps != 0.0 else <real>0.0


# The same for one panel of running variances
cdef inline void batch_norm_inverse(real* inverse, const real* variance, double eps) noexcept nogil:
    cdef index c
    for c in range(TILE):
        inverse[c] = inverse_deviation(variance[c], eps)


# Mean, biased variance and inverse of the columns of one panel (rows >= 1), in two passes (Chan, Golub and LeVeque,
# Am. Stat. 37, 1983): the mean as the first row plus the mean difference from it, then the squares about that mean,
# corrected for its rounding.  A constant column has exactly its value and 0; a column with an inf or NaN has NaN.
cdef inline void batch_norm_statistics(real* mean, real* variance, real* inverse, const real* x, index rows,
                                       double eps) noexcept nogil:
    cdef wide low, high, low_shift, high_shift, low_sum, high_sum, low_squares, high_squares
    cdef wide n = wsplat(<double>rows)
    cdef double spread[32]
    cdef vec v
    cdef index r, c
    cdef int half
    for half in range(2):
        v = vload(x + half * LANES)
        low_shift = vwide_low(v)
        high_shift = vwide_high(v)
        low_sum = high_sum = wzero()
        for r in range(1, rows):
            v = vload(x + r * TILE + half * LANES)
            low_sum = low_sum + (vwide_low(v) - low_shift)
            high_sum = high_sum + (vwide_high(v) - high_shift)
        low_shift = low_shift + low_sum / n
        high_shift = high_shift + high_sum / n
        vstore(mean + half * LANES, vnarrow(low_shift, high_shift))
        low_sum = high_sum = low_squares = high_squares = wzero()
        for r in range(rows):
            v = vload(x + r * TILE + half * LANES)
            low = vwide_low(v) - low_shift
            high = vwide_high(v) - high_shift
            low_sum = low_sum + low
            high_sum = high_sum + high
            low_squares = low_squares + low * low
            high_squares = high_squares + high * high
        low_squares = (low_squares - low_sum * (low_sum / n)) / n
        high_squares = (high_squares - high_sum * (high_sum / n)) / n
        for c in range(LANES // 2 if REAL_IS_SINGLE else LANES):
            spread[half * LANES + c] = wlane(low_squares, c)
            if REAL_IS_SINGLE:
                spread[half * LANES + LANES // 2 + c] = wlane(high_squares, c)
    for c in range(TILE):
        if spread[c] < 0.0:
            spread[c] = 0.0
        variance[c] = <real>spread[c]
        inverse[c] = inverse_deviation(spread[c], eps)


# y may be x.
cdef inline void batch_norm_forward_panel(real* y, const real* x, const real* mean, const real* inverse,
                                          const real* gamma, const real* beta, index rows) noexcept nogil:
    cdef vec centre, scale, slope, offset
    cdef index r
    cdef int half
    for half in range(2):
        centre = vload(mean + half * LANES)
        scale = vload(inverse + half * LANES)
        slope = vload(gamma + half * LANES)
        offset = vload(beta + half * LANES)
        for r in range(rows):
            vstore(y + r * TILE + half * LANES, slope * ((vload(x + r * TILE + half * LANES) - centre) * scale) + offset)


# d_gamma and d_beta are assigned; d_x may be d_y.
cdef inline void batch_norm_backward_panel(real* d_x, real* d_gamma, real* d_beta, const real* d_y, const real* x,
                                           const real* mean, const real* inverse, const real* gamma, index rows,
                                           bint batch_statistics) noexcept nogil:
    cdef wide n = wsplat(<double>(rows if rows > 0 else 1))
    cdef wide low_beta, high_beta, low_gamma, high_gamma
    cdef vec centre, scale, factor, normal, d, mean_beta, mean_gamma
    cdef index r
    cdef int half
    for half in range(2):
        centre = vload(mean + half * LANES)
        scale = vload(inverse + half * LANES)
        factor = vload(gamma + half * LANES) * scale
        low_beta = high_beta = low_gamma = high_gamma = wzero()
        for r in range(rows):
            d = vload(d_y + r * TILE + half * LANES)
            normal = (vload(x + r * TILE + half * LANES) - centre) * scale
            low_beta = low_beta + vwide_low(d)
            high_beta = high_beta + vwide_high(d)
            low_gamma = low_gamma + vwide_low(d) * vwide_low(normal)
            high_gamma = high_gamma + vwide_high(d) * vwide_high(normal)
        vstore(d_beta + half * LANES, vnarrow(low_beta, high_beta))
        vstore(d_gamma + half * LANES, vnarrow(low_gamma, high_gamma))
        mean_beta = mean_gamma = vsplat(0)
        if batch_statistics:
            mean_beta = vnarrow(low_beta / n, high_beta / n)
            mean_gamma = vnarrow(low_gamma / n, high_gamma / n)
        for r in range(rows):
            d = vload(d_y + r * TILE + half * LANES)
            normal = (vload(x + r * TILE + half * LANES) - centre) * scale
            vstore(d_x + r * TILE + half * LANES, factor * (d - mean_beta - normal * mean_gamma))


# running += momentum (batch - running), with the unbiased variance of the batch as in PyTorch; a batch of one row has
# no unbiased variance and counts with its biased one.
cdef inline void update_running(real* running_mean, real* running_variance, const real* mean, const real* variance,
                                index n, index rows, double momentum) noexcept nogil:
    cdef double unbiased = <double>rows / (rows - 1) if rows > 1 else 1.0
    cdef index c
    for c in range(n):
        running_mean[c] = <real>(running_mean[c] + momentum * (<double>mean[c] - running_mean[c]))
        running_variance[c] = <real>(running_variance[c] + momentum * (variance[c] * unbiased - running_variance[c]))
