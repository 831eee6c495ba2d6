# The matrix product on tiled operands (layout: types.pxd, above Op).
#
# A register tile is TILE_ROWS x TILE accumulators: as many as the register file holds beside one row of B and one
# broadcast of A, and enough independent sums to fill two FMA pipes (latency 4 x 2 pipes = 8).  Every operand is
# stored in panels already, so nothing is packed.  Each element of C is one chain of multiply-adds in the order of
# the inner index, whatever the tile it falls into, so the bits depend neither on the number of threads nor on
# which rows a thread gets.
from .simd cimport (
    LANES, TILE, TILE_ROWS, mnot, real, vbits, vec, vfma, vless_equal, vload, vreal, vsplat, vstore, wide,
)
from .statistics cimport widen
from .types cimport index

cdef enum:
    DEPTH_BLOCK = 256          # rows of a panel of B that stay in the first-level cache between register tiles

# What is done to a finished tile while it is in registers; `other` is a matrix laid out as C is.
cdef enum Finish:
    AS_IT_IS
    RELU_OF_IT                 # max(C, 0)
    TIMES_OTHER                # C * other (may be C's own place: it is read first)
    TIMES_STEP_OF_OTHER        # C * (other > 0): the slope of ReLU from its output
    SUM_SQUARES                # the sum of the squares of C joins the two registers `squares`


cdef inline vec finished(vec sum, int finish, const real* other, index at) noexcept nogil:
    if finish == RELU_OF_IT:                       # (a NaN stays: activations.pxd, relu)
        return vreal(vbits(sum) & mnot(vless_equal(sum, vsplat(0))))
    if finish == TIMES_OTHER:
        return sum * vload(other + at)
    if finish == TIMES_STEP_OF_OTHER:
        return sum * vreal(vbits(vsplat(1)) & mnot(vless_equal(vload(other + at), vsplat(0))))
    return sum


cdef inline void register_tile(
    int rows, int row_step, int depth_step,    # element (i, k) of A lies at i*row_step + k*depth_step …
    index segment, index jump,                 # … within a segment; `jump` reals lead to the next segment
    real* c,                                   # rows x TILE, one row after the other
    const real* start, index start_step,       # C begins at start[i*start_step]: 0 repeats one row (the bias); NULL: zeros
    const real* a, const real* b, index depth,
    int finish, const real* other, vec* squares,
) noexcept nogil:
    # `rows`, the steps and `finish` are constants at every call, so that the compiler unrolls the loops into registers.
    cdef vec sums[12][2]
    cdef vec b0, b1, factor
    cdef const real* a_segment = a
    cdef index done = 0, k, end
    cdef int i
    for i in range(rows):
        if start == NULL:
            sums[i][0] = vsplat(0)
            sums[i][1] = vsplat(0)
        else:
            sums[i][0] = vload(start + i * start_step)
            sums[i][1] = vload(start + i * start_step + LANES)
    while done < depth:
        end = depth - done if depth - done < segment else segment
        for k in range(end):
            b0 = vload(b)
            b1 = vload(b + LANES)
            b += TILE
            for i in range(rows):
                factor = vsplat(a_segment[i * row_step + k * depth_step])
                sums[i][0] = vfma(factor, b0, sums[i][0])
                sums[i][1] = vfma(factor, b1, sums[i][1])
        a_segment += jump
        done += end
    for i in range(rows):
        sums[i][0] = finished(sums[i][0], finish, other, i * TILE)
        sums[i][1] = finished(sums[i][1], finish, other, i * TILE + LANES)
        vstore(c + i * TILE, sums[i][0])
        vstore(c + i * TILE + LANES, sums[i][1])
    if finish == SUM_SQUARES:
        for i in range(rows):
            squares[0] = vfma(sums[i][0], sums[i][0], squares[0])
            squares[1] = vfma(sums[i][1], sums[i][1], squares[1])


cdef inline void any_rows(
    index rows, int row_step, int depth_step, index segment, index jump,
    real* c, const real* start, index start_step, const real* a, const real* b, index depth,
    int finish, const real* other, vec* squares,
) noexcept nogil:
    if rows == 6:
        register_tile(6, row_step, depth_step, segment, jump, c, start, start_step, a, b, depth, finish, other, squares)
    elif rows == 5:
        register_tile(5, row_step, depth_step, segment, jump, c, start, start_step, a, b, depth, finish, other, squares)
    elif rows == 4:
        register_tile(4, row_step, depth_step, segment, jump, c, start, start_step, a, b, depth, finish, other, squares)
    elif rows == 3:
        register_tile(3, row_step, depth_step, segment, jump, c, start, start_step, a, b, depth, finish, other, squares)
    elif rows == 2:
        register_tile(2, row_step, depth_step, segment, jump, c, start, start_step, a, b, depth, finish, other, squares)
    elif rows == 1:
        register_tile(1, row_step, depth_step, segment, jump, c, start, start_step, a, b, depth, finish, other, squares)
    elif TILE_ROWS >= 7 and rows == 7:
        register_tile(7, row_step, depth_step, segment, jump, c, start, start_step, a, b, depth, finish, other, squares)
    elif TILE_ROWS >= 8 and rows == 8:
        register_tile(8, row_step, depth_step, segment, jump, c, start, start_step, a, b, depth, finish, other, squares)
    elif TILE_ROWS >= 9 and rows == 9:
        register_tile(9, row_step, depth_step, segment, jump, c, start, start_step, a, b, depth, finish, other, squares)
    elif TILE_ROWS >= 10 and rows == 10:
        register_tile(10, row_step, depth_step, segment, jump, c, start, start_step, a, b, depth, finish, other, squares)
    elif TILE_ROWS >= 11 and rows == 11:
        register_tile(11, row_step, depth_step, segment, jump, c, start, start_step, a, b, depth, finish, other, squares)
    elif TILE_ROWS >= 12 and rows == 12:
        register_tile(12, row_step, depth_step, segment, jump, c, start, start_step, a, b, depth, finish, other, squares)


# Rows are dealt into tiles of nearly equal height: 32 = 6+6+5+5+5+5, because a tile of two rows has too few sums to hide
# the latency of a multiply-add.


cdef inline void product_block(
    real* c,                   # one panel of C, first row
    const real* start, index start_step,       # what C begins with, see register_tile
    const real* a,             # A (rows, depth), first row of the panel with column `k`; panels a_panel reals apart
    const real* b,             # the matching panel of B (depth, TILE), at row `k`
    index rows, index depth, index a_panel,
    int finish, const real* other,
) noexcept nogil:
    # One panel of C = start + A B over at most DEPTH_BLOCK of the inner index
    cdef index tiles = (rows + TILE_ROWS - 1) // TILE_ROWS
    cdef index low, taller, t, row = 0, height
    if rows <= 0:
        return
    low = rows // tiles
    taller = rows % tiles
    for t in range(tiles):
        height = low + 1 if t < taller else low
        any_rows(height, TILE, 1, TILE, a_panel, c + row * TILE,
                 start + row * start_step if start != NULL else NULL, start_step, a + row * TILE, b,
                 depth, finish, other + row * TILE if other != NULL else NULL, NULL)
        row += height


cdef inline void transposed_product_rows(
    real* c,                   # rows of C (columns of A) inside one panel of A, one panel of C
    const real* a,             # one panel of A, (depth, TILE), at its first of these columns
    const real* b,             # one panel of B, (depth, TILE)
    index rows, index depth,
    wide* squares,             # the sum of the squares of C joins it, these rows' own taken in the precision of C
) noexcept nogil:
    # Part of C = A' B: the weight gradient, summed over the rows of the batch.
    cdef vec its[2]
    cdef index tiles = (rows + TILE_ROWS - 1) // TILE_ROWS
    cdef index low = rows // tiles, taller = rows % tiles
    cdef index t, row = 0, height
    its[0] = its[1] = vsplat(0)
    for t in range(tiles):
        height = low + 1 if t < taller else low
        any_rows(height, 1, TILE, depth, 0, c + row * TILE, NULL, 0, a + row, b, depth, SUM_SQUARES, NULL, its)
        row += height
    squares[0] = squares[0] + widen(its[0] + its[1])
