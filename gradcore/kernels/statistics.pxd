# What one pass over a matrix finds (struct Fold), panel by panel, and the sums that clipping and optimizers need.
#
# The fast pass keeps squares in the matrix's own precision for a block of rows and goes on in double.  Where that could
# overflow or underflow nevertheless, and in the full ledger, the sums are taken again: float32 in double lanes, float64 (and what is
# not finite) one by one, on multiples of a power of two, so that no square leaves the range.
#
# signal² = mean over all elements of (x - mean of the column)², from deviations d from the first row:
# sum d² - (sum d)² / rows, which keeps its digits where all rows are nearly equal (Chan, Golub and LeVeque, 1983).
from libc.math cimport INFINITY, NAN, fabs, frexp, isfinite, ldexp, sqrt

from .simd cimport (
    LANES, REAL_IS_SINGLE, TILE, mask, real, vabs, vbits, vec, vequal, vfma, vlargest, vless, vload, vmax, vmin, vreal, vselect, vsmallest,
    vsplat, vsum, vwide_high, vwide_low, wide, wlane, wsplat, wsum, wzero,
)
from .types cimport Fold, index

cdef enum:
    FOLD_BLOCK = 32            # rows summed in the matrix's precision
    SUM_BLOCK = 8192           # elements summed before the sum joins the total: rounding grows with blocks, not elements


cdef struct FoldPart:          # one panel; sums are of multiples of 2^exponent
    int exponent
    double squares
    double spread              # sum of squared deviations from the columns' means
    double max_abs
    double min_abs
    double zeros
    double subnormals
    double infs
    double nans


# ------------------------------------------------------------------ sums in double


cdef inline wide widen(vec v) noexcept nogil:
    # The lanes of v added up in pairs, in double.
    return vwide_low(v) + vwide_high(v) if REAL_IS_SINGLE else vwide_low(v)


cdef inline wide widen_product(vec a, vec b) noexcept nogil:
    return (vwide_low(a) * vwide_low(b) + vwide_high(a) * vwide_high(b) if REAL_IS_SINGLE
            else vwide_low(a) * vwide_low(b))


cdef inline double sum_squares(const real* x, index n, double* max_abs, double* min_abs) noexcept nogil:
    # NaN and infinity show in the sum; the extremes leave NaN out.  min_abs: smallest magnitude that is not zero, infinity
    # when there is none; NULL where nobody asks, which costs half the time.
    cdef wide even = wzero(), odd = wzero()
    cdef vec zero = vsplat(0), infinity = vsplat(<real>INFINITY), a, b, top = zero, bottom = infinity
    cdef index i = 0, block
    cdef double total = 0.0, peak, least
    while i + 2 * LANES <= n:
        block = i + SUM_BLOCK if i + SUM_BLOCK < n else n
        even = odd = wzero()
        while i + 2 * LANES <= block:
            a = vload(x + i)
            b = vload(x + i + LANES)
            even = even + widen_product(a, a)
            odd = odd + widen_product(b, b)
            a = vabs(a)
            b = vabs(b)
            top = vmax(vmax(a, zero), vmax(b, top))
            if min_abs != NULL:
                a = vreal(vequal(a, zero) & vbits(infinity) | vbits(a))
                b = vreal(vequal(b, zero) & vbits(infinity) | vbits(b))
                bottom = vmin(a, vmin(b, bottom))
            i += 2 * LANES
        total += wsum(even + odd)
    peak = vlargest(top)
    least = vsmallest(bottom)
    while i < n:
        total += <double>x[i] * x[i]
        peak = fabs(x[i]) if fabs(x[i]) > peak else peak
        least = fabs(x[i]) if 0.0 < fabs(x[i]) < least else least
        i += 1
    max_abs[0] = peak
    if min_abs != NULL:
        min_abs[0] = least
    return total


cdef inline double safe_norm(const real* x, index n) noexcept nogil:
    # Euclidean norm; squares that could leave the range of double are taken of multiples of a power of two.
    cdef double peak, total = sum_squares(x, n, &peak, NULL), scaled
    cdef int exponent
    cdef index i
    if total != total or peak == INFINITY or peak == 0.0 or 1e-250 < total < 1e250:
        return sqrt(total)
    frexp(peak, &exponent)
    total = 0.0
    for i in range(n):
        scaled = ldexp(<double>x[i], -exponent)
        total += scaled * scaled
    return ldexp(sqrt(total), exponent)


cdef inline double dot(const real* a, const real* b, index n) noexcept nogil:
    cdef wide sums
    cdef index i = 0, block
    cdef double total = 0.0
    while i + LANES <= n:
        block = i + SUM_BLOCK if i + SUM_BLOCK < n else n
        sums = wzero()
        while i + LANES <= block:
            sums = sums + widen_product(vload(a + i), vload(b + i))
            i += LANES
        total += wsum(sums)
    while i < n:
        total += <double>a[i] * b[i]
        i += 1
    return total


cdef inline index count_flat(const real* slope, index n, real bound) noexcept nogil:
    # abs(slope) < bound; a NaN is not flat
    cdef index i, count = 0
    for i in range(n):
        count += fabs(slope[i]) < bound
    return count


# ------------------------------------------------------------------ one panel


cdef inline FoldPart fold_exact(const real* base, index rows, index columns) noexcept nogil:
    # Everything, in double; norm and signal become infinite or NaN where an element is, the extremes leave NaN out.
    cdef FoldPart part
    cdef double magnitude, x, shift, first, squares
    cdef double smallest_normal = 1.1754943508222875e-38 if REAL_IS_SINGLE else 2.2250738585072014e-308
    cdef index r, c
    part.exponent = 0
    part.squares = part.spread = part.max_abs = 0.0
    part.zeros = part.subnormals = part.infs = part.nans = 0.0
    part.min_abs = INFINITY
    for r in range(rows):
        for c in range(columns):
            magnitude = fabs(<double>base[r * TILE + c])
            part.max_abs = magnitude if magnitude > part.max_abs else part.max_abs
            part.min_abs = magnitude if 0.0 < magnitude < part.min_abs else part.min_abs
            part.zeros += magnitude == 0.0
            part.subnormals += 0.0 < magnitude < smallest_normal
            part.infs += magnitude == INFINITY
            part.nans += magnitude != magnitude
    if not REAL_IS_SINGLE and 0.0 < part.max_abs < INFINITY and not 1e-120 < part.max_abs < 1e120:
        frexp(part.max_abs, &part.exponent)
    for c in range(columns):
        shift = <double>base[c] if part.exponent == 0 else ldexp(<double>base[c], -part.exponent)
        first = squares = 0.0
        for r in range(rows):
            x = <double>base[r * TILE + c] if part.exponent == 0 else ldexp(<double>base[r * TILE + c], -part.exponent)
            part.squares += x * x
            first += x - shift
            squares += (x - shift) * (x - shift)
        squares -= first * first / rows
        part.spread += squares
    return part


cdef inline void wide_sums(FoldPart* part, const real* base, index rows, bint with_signal) noexcept nogil:
    # Squares and spread of a finite float32 panel in double lanes, where no float32 square leaves the range.
    cdef wide shift[2]
    cdef wide first[2]
    cdef wide spread[2]
    cdef wide squares = wzero(), x, d, n = wsplat(<double>rows), rest
    cdef vec v
    cdef index r
    cdef int half, part_of
    part.exponent = 0
    part.spread = 0.0
    for half in range(2):
        v = vload(base + half * LANES)
        shift[0] = vwide_low(v)
        shift[1] = vwide_high(v)
        for part_of in range(2):
            first[part_of] = spread[part_of] = wzero()
        for r in range(rows):
            v = vload(base + r * TILE + half * LANES)
            for part_of in range(2):
                x = vwide_low(v) if part_of == 0 else vwide_high(v)
                squares = squares + x * x
                d = x - shift[part_of]
                first[part_of] = first[part_of] + d
                spread[part_of] = spread[part_of] + d * d
        for part_of in range(2):
            rest = spread[part_of] - first[part_of] * first[part_of] / n
            part.spread += wsum(rest)
    part.squares = wsum(squares)


cdef inline double count_subnormals(const real* base, index n) noexcept nogil:
    cdef vec smallest_normal = vsplat(<real>(1.1754943508222875e-38 if REAL_IS_SINGLE else 2.2250738585072014e-308))
    cdef vec zero = vsplat(0), one = vsplat(1), magnitude, count = zero
    cdef index i
    for i in range(0, n // LANES):
        magnitude = vabs(vload(base + i * LANES))
        count = count + vselect(vless(magnitude, smallest_normal), vselect(vequal(magnitude, zero), zero, one), zero)
    return <double>vsum(count)


cdef inline int first_row_exponent(const real* base) noexcept nogil:
    # of the largest magnitude of a panel's first row; 0 where that is zero, infinite or near one anyway
    cdef vec top = vmax(vabs(vload(base)), vabs(vload(base + LANES)))
    cdef real peak = vlargest(top)
    cdef int exponent = 0
    if 1e-7 < peak < 1e7 or not 0 < peak < INFINITY:
        return 0
    frexp(peak, &exponent)
    return -100 if exponent < -100 else (100 if exponent > 100 else exponent)


cdef inline FoldPart fold_panel(const real* base, index rows, index columns, bint with_signal, bint exact) noexcept nogil:
    # `columns` true columns; the pads are zeros and count for nothing.
    cdef FoldPart part
    cdef vec shift[2]
    cdef vec squares[2]
    cdef vec first[2]
    cdef vec spread[2]
    cdef vec top[2]
    cdef vec bottom[2]
    cdef vec zeros[2]
    cdef vec zero = vsplat(0), one = vsplat(1), infinity = vsplat(<real>INFINITY), x, d, magnitude
    cdef mask is_zero
    cdef wide first_low[2]
    cdef wide first_high[2]
    cdef wide spread_low[2]
    cdef wide spread_high[2]
    cdef wide deviation = wzero(), n = wsplat(<double>rows)
    # Everything is multiplied by a power of two that brings the first row near one.  Between these bounds no square
    # and no sum of a block of squares then leaves the range or loses digits to underflow.
    cdef double big = 1e16 if REAL_IS_SINGLE else 1e140
    cdef double small = 1e-8 if REAL_IS_SINGLE else 1e-130
    cdef vec factor
    cdef double smallest_normal = 1.1754943508222875e-38 if REAL_IS_SINGLE else 2.2250738585072014e-308
    cdef double size
    cdef index r = 0, end
    cdef int half
    if rows == 0:
        return fold_exact(base, rows, columns)
    part.exponent = first_row_exponent(base)
    factor = one if part.exponent == 0 else vsplat(<real>ldexp(1.0, -part.exponent))
    part.squares = part.spread = 0.0
    for half in range(2):
        shift[half] = vload(base + half * LANES) * factor
        top[half] = zeros[half] = zero
        bottom[half] = infinity
        first_low[half] = first_high[half] = spread_low[half] = spread_high[half] = wzero()
    while r < rows:
        end = rows if rows - r < FOLD_BLOCK else r + FOLD_BLOCK
        for half in range(2):
            squares[half] = first[half] = spread[half] = zero
        while r < end:
            for half in range(2):
                x = vload(base + r * TILE + half * LANES)
                magnitude = vabs(x)
                is_zero = vequal(x, zero)
                x = x * factor
                squares[half] = vfma(x, x, squares[half])
                if with_signal:
                    d = x - shift[half]
                    first[half] = first[half] + d
                    spread[half] = vfma(d, d, spread[half])
                top[half] = vmax(magnitude, top[half])
                bottom[half] = vmin(vreal(is_zero & vbits(infinity) | vbits(magnitude)), bottom[half])
                zeros[half] = zeros[half] + vreal(is_zero & vbits(one))
            r += 1
        part.squares += wsum(widen(squares[0]) + widen(squares[1]))
        if with_signal:
            for half in range(2):
                first_low[half] = first_low[half] + vwide_low(first[half])
                first_high[half] = first_high[half] + vwide_high(first[half])
                spread_low[half] = spread_low[half] + vwide_low(spread[half])
                spread_high[half] = spread_high[half] + vwide_high(spread[half])
    part.max_abs = vlargest(vmax(top[0], top[1]))
    part.min_abs = vsmallest(vmin(bottom[0], bottom[1]))
    part.zeros = vsum(zeros[0] + zeros[1])
    if part.max_abs == INFINITY or part.squares != part.squares:
        return fold_exact(base, rows, columns)
    part.zeros -= (TILE - columns) * rows
    part.infs = part.nans = 0.0
    part.subnormals = count_subnormals(base, rows * TILE) if part.min_abs < smallest_normal else 0.0
    size = part.max_abs if part.exponent == 0 else ldexp(part.max_abs, -part.exponent)
    if exact or not size < big or 0.0 < size < small:
        if not REAL_IS_SINGLE:
            return fold_exact(base, rows, columns)
        wide_sums(&part, base, rows, with_signal)
    elif with_signal:
        for half in range(2):
            deviation = deviation + (spread_low[half] - first_low[half] * first_low[half] / n)
            deviation = deviation + (spread_high[half] - first_high[half] * first_high[half] / n)
        part.spread = wsum(deviation)
    return part


cdef inline Fold fold_finish(const FoldPart* parts, index panels, index rows, index columns, bint with_signal) noexcept nogil:
    # Panels are added in order, so that the bits do not depend on who folded which.
    cdef Fold fold
    cdef int exponent = -10000, step
    cdef double squares = 0.0, spread = 0.0
    cdef index p
    fold.max_abs = fold.zeros = fold.subnormals = fold.infs = fold.nans = 0.0
    fold.min_abs = INFINITY
    for p in range(panels):
        if parts[p].max_abs > 0.0 and parts[p].exponent > exponent:
            exponent = parts[p].exponent
        fold.max_abs = parts[p].max_abs if parts[p].max_abs > fold.max_abs else fold.max_abs
        fold.min_abs = parts[p].min_abs if parts[p].min_abs < fold.min_abs else fold.min_abs
        fold.zeros += parts[p].zeros
        fold.subnormals += parts[p].subnormals
        fold.infs += parts[p].infs
        fold.nans += parts[p].nans
    if exponent == -10000:
        exponent = 0
    for p in range(panels):
        step = 2 * (parts[p].exponent - exponent)
        squares += parts[p].squares if step == 0 else ldexp(parts[p].squares, step)
        spread += parts[p].spread if step == 0 else ldexp(parts[p].spread, step)
    if spread < 0.0:                               # rounding may leave less than nothing of equal rows
        spread = 0.0
    fold.norm = ldexp(sqrt(squares), exponent)
    fold.signal = ldexp(sqrt(spread / (<double>rows * columns)), exponent) if with_signal and rows > 1 else NAN
    if fold.min_abs == INFINITY and fold.max_abs == 0.0:
        fold.min_abs = 0.0
    return fold
