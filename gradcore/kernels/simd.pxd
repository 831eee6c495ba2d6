# Scalars and vectors of simd.h.  Only C knows their true types: setup.py compiles the engine once per dtype and
# instruction set, and to Cython every copy looks the same.

from libc.stdint cimport uint32_t, uint64_t

cdef extern from "simd.h" nogil:
    ctypedef float real
    ctypedef long word
    ctypedef float vec
    ctypedef long mask
    ctypedef double wide
    ctypedef unsigned long long pair
    ctypedef long wide_mask
    const int LANES                     # reals in one register
    const int TILE                      # columns of a panel: two registers
    const int TILE_ROWS                 # rows of a register tile
    const bint REAL_IS_SINGLE
    const int REAL_EXPONENT_BIAS
    vec vload(const real *p)
    void vstore(real *p, vec v)
    vec vsplat(real x)
    mask vbits(vec v)
    vec vreal(mask m)
    mask msplat(word x)
    vec vselect(mask m, vec yes, vec no)
    mask vless(vec a, vec b)
    mask vless_equal(vec a, vec b)
    mask vequal(vec a, vec b)
    mask mnot(mask m)
    vec vabs(vec v)
    vec vcopysign(vec size, vec sign)
    vec vmax(vec a, vec b)
    vec vmin(vec a, vec b)
    vec vfma(vec a, vec b, vec c)
    vec vproduct_low(vec a, vec b, vec p)
    vec vpower(vec v)
    vec vpow2(mask n)
    real vlargest(vec v)
    real vsmallest(vec v)
    real vlane(vec v, int i)
    wide vwide_low(vec v)
    wide vwide_high(vec v)
    vec vnarrow(wide low, wide high)
    const int WIDES                     # wides in a row of a panel
    const int WIDE_LANES
    wide wload(const real *p)
    wide wsplat(double x)
    wide wzero()
    double wlane(wide v, int i)
    wide_mask wless(wide a, wide b)
    wide wselect(wide_mask m, wide yes, wide no)
    double wsum(wide v)
    vec vsqrt(vec v)
    void fetch_to_write(const real *p)
    const int PAIRS                     # 32-bit words in a pair, see simd.h
    pair psplat(uint64_t x)
    pair pload(const uint64_t *p)
    pair pproduct(pair a, pair b)
    void pstore4(uint32_t *to, pair a, pair b, pair c, pair d)
    void vtranspose(real *to, int to_step, const real *source, int from_step)
