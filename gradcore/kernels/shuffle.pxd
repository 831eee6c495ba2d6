# The order of the rows of an epoch: Fisher and Yates' shuffle (Durstenfeld 1964, from the end) with the numbers of
# Philox 4x64, 10 rounds (Salmon, Moraes, Dror and Shaw, SC 2011), of key (seed, number) and counters from 1.  A whole
# number up to a bound is the low bits of 32 random ones, drawn again where it is above.
#
# That is what numpy.random.Generator(Philox(key=[seed, number])).permutation does as well, to the same order, and the
# tests compare the two: without it a short epoch would spend a tenth of its time in Python.
from libc.stdint cimport int64_t, uint32_t, uint64_t

from .types cimport index

cdef extern from *:
    """
    static inline uint64_t product_high(uint64_t a, uint64_t b) {
        return (uint64_t)(((unsigned __int128)a * b) >> 64);
    }
    """
    uint64_t product_high(uint64_t a, uint64_t b) nogil

cdef struct Source:            # of random numbers
    uint64_t key[2]
    uint64_t counter           # of the next block, its low word; an epoch never needs another
    uint64_t block[4]
    int used                   # halves of the block that are spent, of 8


cdef inline void next_block(Source* s) noexcept nogil:
    cdef uint64_t a = s.counter, b = 0, c = 0, d = 0, key0 = s.key[0], key1 = s.key[1], high0, high1
    cdef int _
    for _ in range(10):
        high0 = product_high(<uint64_t>0xD2E7470EE14C6C93, a)
        high1 = product_high(<uint64_t>0xCA5A826395121157, c)
        a, b, c, d = (high1 ^ b ^ key0, <uint64_t>0xCA5A826395121157 * c,
                      high0 ^ d ^ key1, <uint64_t>0xD2E7470EE14C6C93 * a)
        key0 += <uint64_t>0x9E3779B97F4A7C15
        key1 += <uint64_t>0xBB67AE8584CAA73B
    s.block[0] = a
    s.block[1] = b
    s.block[2] = c
    s.block[3] = d
    s.counter += 1
    s.used = 0


cdef inline uint32_t next_word(Source* s) noexcept nogil:
    # the low half of a number first
    cdef uint64_t number
    if s.used == 8:
        next_block(s)
    number = s.block[s.used // 2] >> (32 * (s.used % 2))
    s.used += 1
    return <uint32_t>number


cdef inline uint32_t at_most(Source* s, uint32_t largest, uint32_t mask) noexcept nogil:
    # uniform in 0 … largest; mask: the next power of two less one
    cdef uint32_t number = next_word(s) & mask
    while number > largest:
        number = next_word(s) & mask
    return number


# to = rows in a random order; fewer than 2^32 of them.
cdef inline void shuffle_rows(int64_t* to, const int64_t* rows, index n, uint64_t seed, uint64_t number) noexcept nogil:
    cdef Source source
    cdef index i, j
    cdef uint32_t mask = 0
    source.key[0] = seed
    source.key[1] = number
    source.counter = 1
    source.used = 8
    for i in range(n):
        to[i] = rows[i]
    while mask < <uint32_t>(n - 1):
        mask = 2 * mask + 1
    for i in range(n - 1, 0, -1):
        if mask // 2 >= <uint32_t>i:
            mask //= 2
        j = at_most(&source, <uint32_t>i, mask)
        to[i], to[j] = to[j], to[i]
