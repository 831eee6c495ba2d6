# Dropout (Srivastava et al., JMLR 15, 2014), inverted: an element is kept and multiplied by 1 / (1 - rate), or zeroed.
# Which: Philox 4x32 with 10 rounds (Salmon, Moraes, Dror and Shaw, SC 2011), a pure function of
#   key (seed, 64 bits)    counter (column // 4, row of the batch, op, low 32 bits of step)    word column % 4
# and so of nothing that threads, tile width or instruction set could change.  Kept iff word >= rate 2^32.
from libc.math cimport ceil
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memmove

from .simd cimport TILE, real
from .types cimport index

cdef enum:
    GROUPS = 16    # counters (4 elements each) that go through the rounds side by side


# One round on GROUPS counters a, b, c, d
cdef inline void philox_round(uint32_t* a, uint32_t* b, uint32_t* c, uint32_t* d, uint32_t key0,
                              uint32_t key1) noexcept nogil:
    cdef uint64_t p, q
    cdef int i
    for i in range(GROUPS):
        p = <uint64_t>a[i] * <uint64_t>0xD2511F53
        q = <uint64_t>c[i] * <uint64_t>0xCD9E8D57
        a[i] = <uint32_t>(q >> 32) ^ b[i] ^ key0
        c[i] = <uint32_t>(p >> 32) ^ d[i] ^ key1
        b[i] = <uint32_t>q
        d[i] = <uint32_t>p


cdef inline void philox(uint32_t* a, uint32_t* b, uint32_t* c, uint32_t* d, uint64_t seed) noexcept nogil:
    cdef uint32_t key0 = <uint32_t>seed, key1 = <uint32_t>(seed >> 32)
    cdef int _
    for _ in range(10):
        philox_round(a, b, c, d, key0, key1)
        key0 += <uint32_t>0x9E3779B9
        key1 += <uint32_t>0xBB67AE85


# Rows [first, last) of one panel: slope is 1 / (1 - rate) or 0, y = slope * x.  Pointers at the panel's start; its
# columns begin at first_column of the matrix's `columns`, beyond which everything is zero.  y may be x.
cdef inline void dropout_forward_panel(real* y, real* slope, const real* x, index first, index last,
                                       index first_column, index columns, double rate, uint64_t seed, uint64_t step,
                                       uint32_t op) noexcept nogil:
    cdef uint32_t a[GROUPS]
    cdef uint32_t b[GROUPS]
    cdef uint32_t c[GROUPS]
    cdef uint32_t d[GROUPS]
    cdef real kept[4 * GROUPS]
    cdef real gain = <real>(1.0 / (1.0 - rate))
    cdef uint64_t bound = <uint64_t>ceil(rate * 4294967296.0)
    cdef index groups = (last - first) * TILE // 4, block, start, size, r, k
    cdef int i
    y += first * TILE
    x += first * TILE
    slope += first * TILE
    if rate == 0.0:
        memmove(y, x, (last - first) * TILE * sizeof(real))
        for k in range((last - first) * TILE):
            slope[k] = 1
        groups = 0
    for block in range((groups + GROUPS - 1) // GROUPS):
        start = block * GROUPS
        for i in range(GROUPS):
            a[i] = <uint32_t>(first_column // 4 + (start + i) % (TILE // 4))
            b[i] = <uint32_t>(first + (start + i) // (TILE // 4))
            c[i] = op
            d[i] = <uint32_t>step
        philox(a, b, c, d, seed)
        for i in range(GROUPS):
            kept[4 * i] = gain if a[i] >= bound else 0
            kept[4 * i + 1] = gain if b[i] >= bound else 0
            kept[4 * i + 2] = gain if c[i] >= bound else 0
            kept[4 * i + 3] = gain if d[i] >= bound else 0
        size = 4 * (groups - start) if groups - start < GROUPS else 4 * GROUPS
        for k in range(size):
            slope[4 * start + k] = kept[k]
            y[4 * start + k] = kept[k] * x[4 * start + k]
    if columns - first_column < TILE:
        for r in range(last - first):
            for k in range(columns - first_column, TILE):
                slope[r * TILE + k] = 0
                y[r * TILE + k] = 0
