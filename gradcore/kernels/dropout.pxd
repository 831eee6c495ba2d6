# Dropout (Srivastava et al., JMLR 15, 2014), inverted: an element is kept and multiplied by 1 / (1 - rate), or zeroed.
# Which: Philox 4x32 with 10 rounds (Salmon, Moraes, Dror and Shaw, SC 2011), a pure function of
#   key (seed, 64 bits)    counter (column // 4, row of the batch, op, low 32 bits of step)    word column % 4
# and so of nothing that threads, tile width or instruction set could change.  Kept iff word >= rate 2^32.
from libc.math cimport ceil
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memmove

from .simd cimport PAIRS, TILE, pair, pload, pproduct, psplat, pstore4, real
from .types cimport index

cdef enum:
    REGISTERS = 4          # of counters that go through the rounds side by side …
    MOST_COUNTERS = 32     # … and how many counters that is, at most; a counter is 4 elements


# The words of REGISTERS x PAIRS counters (a, b, op, step), a and b side by side in `counters`.
cdef inline void philox(uint32_t* words, const uint64_t* counters, uint64_t op, uint64_t step, uint64_t seed) noexcept nogil:
    cdef pair a[REGISTERS]
    cdef pair b[REGISTERS]
    cdef pair c[REGISTERS]
    cdef pair d[REGISTERS]
    cdef pair p, q, key0, key1, factor0 = psplat(<uint64_t>0xD2511F53), factor1 = psplat(<uint64_t>0xCD9E8D57)
    cdef uint32_t k0 = <uint32_t>seed, k1 = <uint32_t>(seed >> 32)
    cdef int i, _
    for i in range(REGISTERS):
        a[i] = pload(counters + i * PAIRS)
        b[i] = pload(counters + (REGISTERS + i) * PAIRS)
        c[i] = psplat(op)
        d[i] = psplat(step)
    for _ in range(10):
        key0 = psplat(k0)
        key1 = psplat(k1)
        for i in range(REGISTERS):
            p = pproduct(a[i], factor0)
            q = pproduct(c[i], factor1)
            a[i] = (q >> 32) ^ b[i] ^ key0
            c[i] = (p >> 32) ^ d[i] ^ key1
            b[i] = q
            d[i] = p
        k0 += <uint32_t>0x9E3779B9
        k1 += <uint32_t>0xBB67AE85
    for i in range(REGISTERS):
        pstore4(words + 4 * i * PAIRS, a[i], b[i], c[i], d[i])


# Rows [first, last) of one panel: slope is 1 / (1 - rate) or 0, y = slope * x.  Pointers at the panel's start; its
# columns begin at first_column of the matrix's `columns`, beyond which everything is zero.  y may be x.
cdef inline void dropout_forward_panel(real* y, real* slope, const real* x, index first, index last,
                                       index first_column, index columns, double rate, uint64_t seed, uint64_t step,
                                       uint32_t op) noexcept nogil:
    cdef uint64_t counters[2 * MOST_COUNTERS]
    cdef uint32_t words[4 * MOST_COUNTERS]
    cdef real kept, gain = <real>(1.0 / (1.0 - rate))
    # kept: word >= rate 2^32, which may not fit a word
    cdef uint32_t limit = <uint32_t>(ceil(rate * 4294967296.0) - 1.0) if rate > 0.0 else 0
    cdef index count = REGISTERS * PAIRS, groups = (last - first) * TILE // 4, start = 0, size, r, k
    y += first * TILE
    x += first * TILE
    slope += first * TILE
    if rate == 0.0:
        memmove(y, x, (last - first) * TILE * sizeof(real))
        for k in range((last - first) * TILE):
            slope[k] = 1
        groups = 0
    while start < groups:
        for k in range(count):
            counters[k] = <uint64_t>(first_column // 4 + (start + k) % (TILE // 4))
            counters[count + k] = <uint64_t>(first + (start + k) // (TILE // 4))
        philox(words, counters, op, <uint32_t>step, seed)
        size = 4 * (groups - start) if groups - start < count else 4 * count
        for k in range(size):
            kept = gain if words[k] > limit else <real>0
            slope[4 * start + k] = kept
            y[4 * start + k] = kept * x[4 * start + k]
        start += count
    if columns - first_column < TILE:
        for r in range(last - first):
            for k in range(columns - first_column, TILE):
                slope[r * TILE + k] = 0
                y[r * TILE + k] = 0
