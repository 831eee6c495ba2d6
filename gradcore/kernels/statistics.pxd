# Sums, norms, and what one pass over a matrix finds (types.pxd: Fold).
#
# Sums are in double; those of float32 then neither overflow nor underflow.  Squares of float64 may, and where a sum
# of them left the safe range it is taken again over elements multiplied by a power of two, which changes no digit.
#
# signal² = mean over all elements of (x - mean of its column)², from the differences d to the first row:
# sum d² - (sum d)² / rows keeps its digits however close the rows are (Chan, Golub and LeVeque, Am. Stat. 37, 1983).
from libc.math cimport INFINITY, NAN, fabs, isfinite, ldexp, sqrt
from libc.stdint cimport int64_t

from .simd cimport (
    LANES, REAL_IS_SINGLE, TILE, mask, mnot, msplat, real, vabs, vec, vequal, vlargest, vless, vload, vmax, vmin,
    vselect, vsmallest, vsplat, vwide_high, vwide_low, wide, word, wsplat, wsum, wzero,
)
from .types cimport Fold, index

cdef enum:
    BLOCK = 32      # registers summed before their sum joins the total: rounding does not grow with the length


# ------------------------------------------------------------------ lanes


# The lanes of a vector as doubles, halves added
cdef inline wide widen(vec v) noexcept nogil:
    return vwide_low(v) + vwide_high(v) if REAL_IS_SINGLE else vwide_low(v)


# The same of a product, which is exact for float32
cdef inline wide widen_product(vec a, vec b) noexcept nogil:
    if REAL_IS_SINGLE:
        return vwide_low(a) * vwide_low(b) + vwide_high(a) * vwide_high(b)
    return vwide_low(a) * vwide_low(b)


# Of a vector of counts
cdef inline double count_lanes(mask counts) noexcept nogil:
    cdef double total = 0.0
    cdef int i
    for i in range(LANES):
        total += (<word*>&counts)[i]
    return total


# total + value; what rounding loses joins `lost` (Knuth, TAOCP 2, 4.2.2, theorem B)
cdef inline wide add_exactly(wide total, wide value, wide* lost) noexcept nogil:
    cdef wide whole = total + value
    cdef wide added = whole - total
    lost[0] = lost[0] + ((total - (whole - added)) + (value - added))
    return whole


# Where the sum is not finite what it lost is NaN
cdef inline double join(wide total, wide lost) noexcept nogil:
    cdef double whole = wsum(total)
    return whole + wsum(lost) if isfinite(whole) else whole


# ------------------------------------------------------------------ flat arrays


# Sum of (factor x)²: NaN and infinity show in it; the extremes of abs(x) leave NaN out.  min_abs: the smallest that
# is not zero, infinity where there is none; NULL: not asked for, which saves a third of the time.
cdef inline double scaled_squares(const real* x, index n, double* max_abs, double* min_abs, real factor) noexcept nogil:
    cdef wide total = wzero(), lost = wzero(), even, odd
    cdef vec a, b, f = vsplat(factor), zero = vsplat(0), infinite = vsplat(<real>INFINITY)
    cdef vec top_even = zero, top_odd = zero, bottom_even = infinite, bottom_odd = infinite
    cdef double rest = 0.0, peak, least
    cdef index i = 0, end, last = n - 2 * LANES
    while i <= last:
        even = odd = wzero()
        end = i + 2 * LANES * (BLOCK - 1) if last - i > 2 * LANES * (BLOCK - 1) else last
        while i <= end:
            a = vload(x + i)
            b = vload(x + i + LANES)
            even = even + widen_product(f * a, f * a)
            odd = odd + widen_product(f * b, f * b)
            a = vabs(a)
            b = vabs(b)
            top_even = vmax(a, top_even)
            top_odd = vmax(b, top_odd)
            if min_abs != NULL:
                bottom_even = vmin(vselect(vequal(a, zero), infinite, a), bottom_even)
                bottom_odd = vmin(vselect(vequal(b, zero), infinite, b), bottom_odd)
            i += 2 * LANES
        total = add_exactly(total, even + odd, &lost)
    peak = vlargest(vmax(top_even, top_odd))
    least = vsmallest(vmin(bottom_even, bottom_odd))
    while i < n:
        rest += <double>(factor * x[i]) * (factor * x[i])
        peak = fabs(x[i]) if fabs(x[i]) > peak else peak
        least = fabs(x[i]) if 0.0 < fabs(x[i]) < least else least
        i += 1
    max_abs[0] = peak
    if min_abs != NULL:
        min_abs[0] = least
    return join(total, lost) + rest


cdef inline double sum_squares(const real* x, index n, double* max_abs, double* min_abs) noexcept nogil:
    return scaled_squares(x, n, max_abs, min_abs, 1)


# The extremes of abs(x): NaN left out; min_abs the smallest that is not zero, infinity where there is none.  n: a multiple
# of 2 LANES.
cdef inline void extremes(const real* x, index n, double* max_abs, double* min_abs) noexcept nogil:
    cdef vec a, b, top_a = vsplat(0), top_b = vsplat(0), bottom_a = vsplat(<real>INFINITY), bottom_b = vsplat(<real>INFINITY)
    cdef index i = 0
    while i < n:
        a = vabs(vload(x + i))
        b = vabs(vload(x + i + LANES))
        top_a = vmax(a, top_a)
        top_b = vmax(b, top_b)
        bottom_a = vmin(a, bottom_a)
        bottom_b = vmin(b, bottom_b)
        i += 2 * LANES
    max_abs[0] = vlargest(vmax(top_a, top_b))
    min_abs[0] = vsmallest(vmin(bottom_a, bottom_b))
    if min_abs[0] == 0.0:
        count_zeros(x, n, min_abs)


# Neither overflow nor underflow took a digit of this sum of squares.  Of what lies outside, a multiple by 2^-600 or
# 2^600 is inside, whichever end of double's range it is.
cdef inline bint safe_squares(double squares) noexcept nogil:
    return 1e-270 < squares < 1e300


# Euclidean norm, to a few ULP wherever it can be represented
cdef inline double safe_norm(const real* x, index n) noexcept nogil:
    cdef double peak, squares = sum_squares(x, n, &peak, NULL)
    cdef int exponent = 600 if squares > 1.0 else -600
    if safe_squares(squares) or squares != squares or peak == 0.0 or peak == INFINITY:
        return sqrt(squares)
    return ldexp(sqrt(scaled_squares(x, n, &peak, NULL, <real>ldexp(1.0, -exponent))), exponent)


# Sum of a b
cdef inline double dot(const real* a, const real* b, index n) noexcept nogil:
    cdef wide total = wzero(), lost = wzero(), block
    cdef double rest = 0.0
    cdef index i = 0, end, last = n - LANES
    while i <= last:
        block = wzero()
        end = i + LANES * (BLOCK - 1) if last - i > LANES * (BLOCK - 1) else last
        while i <= end:
            block = block + widen_product(vload(a + i), vload(b + i))
            i += LANES
        total = add_exactly(total, block, &lost)
    while i < n:
        rest += <double>a[i] * <double>b[i]
        i += 1
    return join(total, lost) + rest


# How many abs(slope) are below bound; a NaN is not.
cdef inline index count_flat(const real* slope, index n, real bound) noexcept nogil:
    cdef mask flat = msplat(0)
    cdef vec limit = vsplat(bound)
    cdef index i = 0, count = 0
    while i + LANES <= n:
        flat = flat - vless(vabs(vload(slope + i)), limit)     # true is -1
        i += LANES
    while i < n:
        count += -bound < slope[i] < bound
        i += 1
    return count + <index>count_lanes(flat)


# ------------------------------------------------------------------ one panel


cdef struct FoldPart:
    double squares             # sum of squares, divided by 4^squares_exponent
    double deviations          # the same about the columns' means, divided by 4^deviations_exponent
    double max_abs             # NaN left out of both extremes
    double min_abs             # inf when there is none
    double zeros
    double subnormals
    double infs
    double nans
    int64_t squares_exponent
    int64_t deviations_exponent


cdef inline double smallest_normal() noexcept nogil:
    return 1.1754943508222875e-38 if REAL_IS_SINGLE else 2.2250738585072014e-308


# (sum of d)² / rows over the columns of one register
cdef inline wide square_of_sums(wide low, wide high, index rows) noexcept nogil:
    cdef wide n = wsplat(<double>rows)
    return low * (low / n) + high * (high / n) if REAL_IS_SINGLE else low * (low / n)


# squares: sum of (before x after)²; differences: sum of d², d = (before x - before first row) after;
# returns the sum about the columns' means.
cdef inline double panel_moments(double* squares, double* differences, const real* x, index rows, double before,
                                 double after) noexcept nogil:
    cdef wide low, high, low_shift, high_shift, low_sum, high_sum, b = wsplat(before), a = wsplat(after)
    cdef wide total = wzero(), spread = wzero(), excess = wzero()
    cdef vec v
    cdef double about_mean
    cdef index r
    cdef int half
    for half in range(2):
        v = vload(x + half * LANES)
        low_shift = b * vwide_low(v)
        high_shift = b * vwide_high(v)
        low_sum = high_sum = wzero()
        for r in range(rows):
            v = vload(x + r * TILE + half * LANES)
            low = b * vwide_low(v)
            total = total + (low * a) * (low * a)
            low = (low - low_shift) * a
            low_sum = low_sum + low
            spread = spread + low * low
            if REAL_IS_SINGLE:
                high = b * vwide_high(v)
                total = total + (high * a) * (high * a)
                high = (high - high_shift) * a
                high_sum = high_sum + high
                spread = spread + high * high
        excess = excess + square_of_sums(low_sum, high_sum, rows)
    squares[0] = wsum(total)
    differences[0] = wsum(spread)
    about_mean = differences[0] - wsum(excess)
    return 0.0 if about_mean < 0.0 else about_mean


# The factors that bring sums of squares of this size into the safe range, see panel_moments
cdef inline double scale_before(double squares) noexcept nogil:
    return ldexp(1.0, -600) if squares > 1.0 else 1.0


cdef inline double scale_after(double squares) noexcept nogil:
    return 1.0 if squares > 1.0 else ldexp(1.0, 600)


# squares and deviations of a panel at scales where nothing overflows or underflows
cdef inline void exact_moments(FoldPart* part, const real* x, index rows) noexcept nogil:
    cdef double squares, differences, ignored
    part.deviations = panel_moments(&part.squares, &differences, x, rows, 1.0, 1.0)
    if REAL_IS_SINGLE or part.max_abs == 0.0 or part.max_abs == INFINITY or part.squares != part.squares:
        return
    if not safe_squares(part.squares):
        squares = part.squares
        part.squares_exponent = 600 if squares > 1.0 else -600
        panel_moments(&part.squares, &ignored, x, rows, scale_before(squares), scale_after(squares))
    if not safe_squares(differences):
        part.deviations_exponent = 600 if differences > 1.0 else -600
        part.deviations = panel_moments(&ignored, &ignored, x, rows, scale_before(differences), scale_after(differences))


# The extremes of abs(x), zeros included, and the moments with BLOCK rows at a time summed in the matrix's own precision:
# one pass, right where the largest magnitude is near enough to 1; returns the sum of squared differences, from which the
# caller sees whether that was precise.
cdef inline double quick_fold(FoldPart* part, const real* x, index rows, bint with_signal) noexcept nogil:
    cdef vec a, b, squares_a, squares_b, sum_a, sum_b, spread_a, spread_b, shift
    cdef vec top_a = vsplat(0), top_b = vsplat(0), bottom_a = vsplat(<real>INFINITY), bottom_b = vsplat(<real>INFINITY)
    cdef wide squares = wzero(), spread = wzero(), excess = wzero(), low, high
    cdef double differences = INFINITY
    cdef const real* cell
    cdef index row, end
    cdef int half
    for half in range(2):
        cell = x + half * LANES
        shift = vload(cell)
        low = high = wzero()
        row = 0
        while row < rows:
            end = row + BLOCK if rows - row > BLOCK else rows
            squares_a = squares_b = sum_a = sum_b = spread_a = spread_b = vsplat(0)
            if (end - row) % 2:                            # two rows at a time: sums of their own hide the latency
                a = vload(cell)
                squares_a = a * a
                top_a = vmax(vabs(a), top_a)
                bottom_a = vmin(vabs(a), bottom_a)
                if with_signal:
                    sum_a = a - shift
                    spread_a = sum_a * sum_a
                cell += TILE
                row += 1
            while row < end:
                a = vload(cell)
                b = vload(cell + TILE)
                squares_a = squares_a + a * a
                squares_b = squares_b + b * b
                top_a = vmax(vabs(a), top_a)
                top_b = vmax(vabs(b), top_b)
                bottom_a = vmin(vabs(a), bottom_a)
                bottom_b = vmin(vabs(b), bottom_b)
                if with_signal:
                    a = a - shift
                    b = b - shift
                    sum_a = sum_a + a
                    sum_b = sum_b + b
                    spread_a = spread_a + a * a
                    spread_b = spread_b + b * b
                cell += 2 * TILE
                row += 2
            squares = squares + widen(squares_a + squares_b)
            if with_signal:
                spread = spread + widen(spread_a + spread_b)
                sum_a = sum_a + sum_b
                low = low + vwide_low(sum_a)
                if REAL_IS_SINGLE:
                    high = high + vwide_high(sum_a)
        if with_signal:
            excess = excess + square_of_sums(low, high, rows)
    part.max_abs = vlargest(vmax(top_a, top_b))
    part.min_abs = vsmallest(vmin(bottom_a, bottom_b))
    part.squares = wsum(squares)
    part.deviations = 0.0
    if with_signal:
        differences = wsum(spread)
        part.deviations = differences - wsum(excess)
        if part.deviations < 0.0:
            part.deviations = 0.0
    return differences


# How many elements are zero, and the smallest magnitude (infinity: none) of those that are not
cdef inline index count_zeros(const real* x, index n, double* min_abs) noexcept nogil:
    cdef vec a, zero = vsplat(0), infinite = vsplat(<real>INFINITY), bottom = infinite
    cdef mask is_zero, zeros = msplat(0)
    cdef index i
    for i in range(n // LANES):
        a = vabs(vload(x + i * LANES))
        is_zero = vequal(a, zero)
        bottom = vmin(vselect(is_zero, infinite, a), bottom)
        zeros = zeros - is_zero                                        # true is -1
    min_abs[0] = vsmallest(bottom)
    return <index>count_lanes(zeros)


# Subnormal, infinite and NaN elements
cdef inline void count_unusual(FoldPart* part, const real* x, index n) noexcept nogil:
    cdef vec v, size, zero = vsplat(0), infinite = vsplat(<real>INFINITY), normal = vsplat(<real>smallest_normal())
    cdef mask small = msplat(0), infs = msplat(0), nans = msplat(0)
    cdef index i
    for i in range(n // LANES):
        v = vload(x + i * LANES)
        size = vabs(v)
        small = small - (vless(size, normal) & vless(zero, size))      # true is -1
        infs = infs - vequal(size, infinite)
        nans = nans - mnot(vequal(v, v))
    part.subnormals = count_lanes(small)
    part.infs = count_lanes(infs)
    part.nans = count_lanes(nans)


# One pass for extremes and sums, and others only where what it found asks for them.  Pads (columns from `used`) are zeros
# and count for nothing.  Infinite and NaN elements make the sums so.  exact: sums never quickly.
cdef inline FoldPart fold_panel(const real* x, index rows, index used, bint with_signal, bint exact) noexcept nogil:
    cdef FoldPart part
    cdef double near = ldexp(1.0, 60 if REAL_IS_SINGLE else 480), differences
    if with_signal:
        differences = quick_fold(&part, x, rows, True)
    else:
        differences = quick_fold(&part, x, rows, False)
    part.zeros = part.subnormals = part.infs = part.nans = 0.0
    part.squares_exponent = part.deviations_exponent = 0
    if part.min_abs == 0.0:
        part.zeros = count_zeros(x, rows * TILE, &part.min_abs) - <double>(TILE - used) * rows
    if (exact or not 1.0 / near <= part.max_abs <= near or differences < rows * TILE / (near * near)
            or part.squares != part.squares):
        exact_moments(&part, x, rows)
    if part.min_abs < smallest_normal() or part.max_abs == INFINITY or part.squares != part.squares:
        count_unusual(&part, x, rows * TILE)
    return part


# ------------------------------------------------------------------ the matrix


# total 4^exponent += value 4^value_exponent
cdef inline void add_squares(double* total, int64_t* exponent, double value, int64_t value_exponent) noexcept nogil:
    if value == 0.0:
        return
    if total[0] == 0.0 or value_exponent == exponent[0]:
        total[0] += value
        exponent[0] = value_exponent
    elif value_exponent < exponent[0]:
        total[0] += ldexp(value, <int>(2 * (value_exponent - exponent[0])))
    else:
        total[0] = ldexp(total[0], <int>(2 * (exponent[0] - value_exponent))) + value
        exponent[0] = value_exponent


# Parts are added in the order of the panels: the same bits whoever folded which.
cdef inline Fold fold_finish(const FoldPart* parts, index panels, index rows, index columns,
                             bint with_signal) noexcept nogil:
    cdef Fold fold
    cdef double squares = 0.0, deviations = 0.0
    cdef int64_t squares_exponent = 0, deviations_exponent = 0
    cdef index i
    fold.max_abs = fold.zeros = fold.subnormals = fold.infs = fold.nans = 0.0
    fold.min_abs = INFINITY
    for i in range(panels):
        add_squares(&squares, &squares_exponent, parts[i].squares, parts[i].squares_exponent)
        add_squares(&deviations, &deviations_exponent, parts[i].deviations, parts[i].deviations_exponent)
        fold.max_abs = parts[i].max_abs if parts[i].max_abs > fold.max_abs else fold.max_abs
        fold.min_abs = parts[i].min_abs if parts[i].min_abs < fold.min_abs else fold.min_abs
        fold.zeros += parts[i].zeros
        fold.subnormals += parts[i].subnormals
        fold.infs += parts[i].infs
        fold.nans += parts[i].nans
    fold.norm = ldexp(sqrt(squares), <int>squares_exponent)
    fold.signal = NAN
    if with_signal and rows > 1:
        fold.signal = ldexp(sqrt(deviations / (<double>rows * columns)), <int>deviations_exponent)
    if fold.max_abs == 0.0:
        fold.min_abs = 0.0
    return fold
