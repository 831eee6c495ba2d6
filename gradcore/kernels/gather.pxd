# Rows of the user's data into the input slot: the only place where the user's layout is read.  Values of any real dtype
# are converted on the way, so that nobody needs a copy of all the data in the network's dtype.
#
# The element is the one thing that differs inside an engine, hence the only fused type: the loops are written once and
# chosen outside of them.
from libc.stdint cimport (
    int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t,
)
from libc.string cimport memcpy, memset

from .dense cimport panels_of, used_columns
from .program cimport Program
from .simd cimport REAL_IS_SINGLE, TILE, real
from .types cimport (
    READ_F2, READ_F4, READ_F8, READ_I1, READ_I2, READ_I4, READ_I8, READ_U1, READ_U2, READ_U4, READ_U8, index,
)

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
    typedef struct { uint16_t bits; } half;

    // IEEE 754 binary16, exactly: its exponent and fraction at the places of a float's mean 2^-112 of the value,
    // subnormal ones included; all ones in the exponent are infinity or NaN.
    static inline float widen_half(half h) {
        uint32_t bits = (uint32_t)(h.bits & 0x7fff) << 13;
        float magnitude;
        memcpy(&magnitude, &bits, 4);
        magnitude *= 0x1p112f;
        memcpy(&bits, &magnitude, 4);
        if ((h.bits & 0x7c00) == 0x7c00) bits |= 0x7f800000;
        bits |= (uint32_t)(h.bits & 0x8000) << 16;
        memcpy(&magnitude, &bits, 4);
        return magnitude;
    }
    """
    ctypedef struct half:
        uint16_t bits
    float widen_half(half h) nogil

ctypedef fused element:
    half
    float
    double
    int8_t
    int16_t
    int32_t
    int64_t
    uint8_t
    uint16_t
    uint32_t
    uint64_t

ctypedef fused place:          # of a value in a sparse row
    int32_t
    int64_t


cdef inline index batch_row(const Program* p, index start, index r) noexcept nogil:
    return p.order[start + r] if p.order != NULL else start + r


cdef inline real convert(element value) noexcept nogil:
    # as NumPy's astype: rounded once, to infinity beyond the largest
    if element is half:
        return <real>widen_half(value)
    else:
        return <real>value


cdef inline void gather_elements(Program* p, const element* data, index start, index first, index last) noexcept nogil:
    cdef real* to
    cdef const element* source
    cdef index r, panel, c, used, step = p.data_column_step
    for r in range(first, last):
        source = data + batch_row(p, start, r) * p.data_row_step
        to = <real*>p.activations + r * TILE
        for panel in range(panels_of(p.columns_in)):
            used = used_columns(p.columns_in, panel)
            if step != 1:
                for c in range(used):
                    to[c] = convert(source[c * step])
            elif used == TILE:
                for c in range(TILE):
                    to[c] = convert(source[c])
            else:
                for c in range(used):
                    to[c] = convert(source[c])
            source += TILE * step
            to += p.capacity * TILE


cdef inline void gather_copies(Program* p, index start, index first, index last) noexcept nogil:
    # Contiguous rows of the network's own dtype.
    cdef real* to = <real*>p.activations
    cdef const real* source
    cdef index r, panel
    for r in range(first, last):
        source = <const real*>p.data + batch_row(p, start, r) * p.data_row_step
        for panel in range(panels_of(p.columns_in)):
            memcpy(to + panel * p.capacity * TILE + r * TILE, source + panel * TILE,
                   used_columns(p.columns_in, panel) * sizeof(real))


cdef inline void gather_sparse(Program* p, const real* values, const place* columns, const place* starts, index start,
                               index first, index last) noexcept nogil:
    # Compressed sparse rows: what is not stored is zero, what is stored twice is added up.
    cdef real* to = <real*>p.activations
    cdef index r, panel, row
    cdef place k, column
    for r in range(first, last):
        row = batch_row(p, start, r)
        for panel in range(panels_of(p.columns_in)):
            memset(to + panel * p.capacity * TILE + r * TILE, 0, TILE * sizeof(real))
        for k in range(starts[row], starts[row + 1]):
            column = columns[k]
            to[column // TILE * p.capacity * TILE + r * TILE + column % TILE] += values[k]


cdef inline void gather(Program* p, index start, index first, index last) noexcept nogil:
    # Rows first … last of the batch that begins at `start` of the order.
    if p.data_starts != NULL and p.data_wide:
        gather_sparse[int64_t](p, <const real*>p.data, <const int64_t*>p.data_columns, <const int64_t*>p.data_starts,
                               start, first, last)
    elif p.data_starts != NULL:
        gather_sparse[int32_t](p, <const real*>p.data, <const int32_t*>p.data_columns, <const int32_t*>p.data_starts,
                               start, first, last)
    elif p.data_column_step == 1 and p.data_element == (READ_F4 if REAL_IS_SINGLE else READ_F8):
        gather_copies(p, start, first, last)
    elif p.data_element == READ_F2:
        gather_elements[half](p, <const half*>p.data, start, first, last)
    elif p.data_element == READ_F4:
        gather_elements[float](p, <const float*>p.data, start, first, last)
    elif p.data_element == READ_F8:
        gather_elements[double](p, <const double*>p.data, start, first, last)
    elif p.data_element == READ_I1:
        gather_elements[int8_t](p, <const int8_t*>p.data, start, first, last)
    elif p.data_element == READ_I2:
        gather_elements[int16_t](p, <const int16_t*>p.data, start, first, last)
    elif p.data_element == READ_I4:
        gather_elements[int32_t](p, <const int32_t*>p.data, start, first, last)
    elif p.data_element == READ_I8:
        gather_elements[int64_t](p, <const int64_t*>p.data, start, first, last)
    elif p.data_element == READ_U1:
        gather_elements[uint8_t](p, <const uint8_t*>p.data, start, first, last)
    elif p.data_element == READ_U2:
        gather_elements[uint16_t](p, <const uint16_t*>p.data, start, first, last)
    elif p.data_element == READ_U4:
        gather_elements[uint32_t](p, <const uint32_t*>p.data, start, first, last)
    else:
        gather_elements[uint64_t](p, <const uint64_t*>p.data, start, first, last)
