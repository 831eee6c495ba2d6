# The kernels on plain (rows, columns) arrays, C-contiguous: what the door offers to activations.py, softmax.py,
# clipping.py … and to the tests.  Matrices are tiled into a copy, worked on and tiled back.
# Functions that return int give 0, or -1 without memory.
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free

from .activations cimport activation_forward
from .clipping cimport clip_by_value, scale_by, usable_bound
from .dense cimport column_sums, panels_of, used_columns
from .dropout cimport dropout_forward_panel
from .losses cimport loss_rows, softmax_backward_rows, softmax_rows
from .matmul cimport AS_IT_IS, DEPTH_BLOCK, product_block, transposed_product_rows
from .normalization cimport (
    Rows, batch_norm_backward_panel, batch_norm_forward_panel, batch_norm_statistics, layer_norm_backward_rows,
    layer_norm_forward_rows, layer_norm_gamma_gradient, update_running,
)
from .optimizers cimport Coefficients, coefficients_of, update
from .simd cimport TILE, real, wide, wzero
from .statistics cimport FoldPart, count_flat, dot, fold_finish, fold_panel, safe_norm, sum_squares
from .types cimport GAUSSIAN_NLL, Fold, Hyper, index

cdef extern from "<stdlib.h>" nogil:
    int posix_memalign(void** where, size_t alignment, size_t size)



cdef inline void tile_matrix(void* to, const void* source, index row_step, index column_step, index rows,
                             index columns) noexcept nogil:
    # Any strided matrix into panels; pads become zero.
    cdef const real* x = <const real*>source
    cdef real* y = <real*>to
    cdef index panel, r, c, used
    for panel in range(panels_of(columns)):
        used = used_columns(columns, panel)
        for r in range(rows):
            for c in range(used):
                y[c] = x[r * row_step + (panel * TILE + c) * column_step]
            for c in range(used, TILE):
                y[c] = 0
            y += TILE


cdef inline void untile_matrix(void* to, const void* source, index rows, index columns) noexcept nogil:
    cdef const real* x = <const real*>source
    cdef real* y = <real*>to
    cdef index panel, r, c
    for panel in range(panels_of(columns)):
        for r in range(rows):
            for c in range(used_columns(columns, panel)):
                y[r * columns + panel * TILE + c] = x[c]
            x += TILE


cdef inline real* new_tiled(const void* source, index rows, index columns) noexcept nogil:
    # A tiled copy of a plain matrix (NULL: room for one); NULL without memory.
    cdef void* tiled = NULL
    cdef size_t size = <size_t>(rows if rows > 0 else 1) * panels_of(columns if columns > 0 else 1) * TILE * sizeof(real)
    if posix_memalign(&tiled, 64, size) != 0:
        return NULL
    if source != NULL:
        tile_matrix(tiled, source, columns, 1, rows, columns)
    return <real*>tiled


# ------------------------------------------------------------------ kernels on plain arrays


cdef inline int plain_matmul(void* c, const void* a, const void* b, index rows, index depth, index columns,
                             bint transpose_a) noexcept nogil:
    # C (rows, columns) = A B, or A' B with A (depth, rows).
    cdef real* a_tiled = new_tiled(a, depth if transpose_a else rows, rows if transpose_a else depth)
    cdef real* b_tiled = new_tiled(b, depth, columns)
    cdef real* c_tiled = new_tiled(NULL, rows, columns)
    cdef index panel, k
    cdef real* c_panel
    cdef const real* b_panel
    cdef wide squares = wzero()
    cdef int failed = a_tiled == NULL or b_tiled == NULL or c_tiled == NULL
    if not failed:
        for panel in range(panels_of(columns)):
            c_panel = c_tiled + panel * rows * TILE
            b_panel = b_tiled + panel * depth * TILE
            if transpose_a:
                for k in range(panels_of(rows)):
                    transposed_product_rows(c_panel + k * TILE * TILE, a_tiled + k * depth * TILE, b_panel,
                                            used_columns(rows, k), depth, &squares)
                continue
            k = 0
            while k == 0 or k < depth:
                product_block(c_panel, NULL if k == 0 else c_panel, 0 if k == 0 else TILE,
                              a_tiled + k // TILE * rows * TILE, b_panel + k * TILE, rows,
                              depth - k if depth - k < DEPTH_BLOCK else DEPTH_BLOCK, rows * TILE, AS_IT_IS, NULL)
                k += DEPTH_BLOCK
        untile_matrix(c, c_tiled, rows, columns)
    free(a_tiled)
    free(b_tiled)
    free(c_tiled)
    return -1 if failed else 0


cdef inline void plain_activation(int code, double parameter, const void* z, void* a, void* slope, index n) noexcept nogil:
    activation_forward(code, <real>parameter, <const real*>z, <real*>a, <real*>slope, n)


cdef inline int plain_softmax(void* y, const void* x, index rows, index columns) noexcept nogil:
    cdef real* tiled = new_tiled(x, rows, columns)
    if tiled == NULL:
        return -1
    softmax_rows(tiled, tiled, rows * TILE, 0, rows, columns)
    untile_matrix(y, tiled, rows, columns)
    free(tiled)
    return 0


cdef inline int plain_softmax_backward(void* d_x, const void* y, const void* d_y, index rows, index columns) noexcept nogil:
    cdef real* y_tiled = new_tiled(y, rows, columns)
    cdef real* d_tiled = new_tiled(d_y, rows, columns)
    cdef int failed = y_tiled == NULL or d_tiled == NULL
    if not failed:
        softmax_backward_rows(d_tiled, y_tiled, d_tiled, rows * TILE, 0, rows, columns)
        untile_matrix(d_x, d_tiled, rows, columns)
    free(y_tiled)
    free(d_tiled)
    return -1 if failed else 0


cdef inline int plain_loss(int code, double parameter, void* gradient, double* losses, const void* output,
                           const int64_t* labels, const void* targets, const double* weights, index rows,
                           index columns, double scale) noexcept nogil:
    cdef index target_columns = columns // 2 if code == GAUSSIAN_NLL else columns
    cdef real* z = new_tiled(output, rows, columns)
    cdef real* t = new_tiled(targets, rows, target_columns) if targets != NULL else NULL
    cdef real* d = new_tiled(NULL, rows, columns) if gradient != NULL else NULL
    cdef int failed = z == NULL or (targets != NULL and t == NULL) or (gradient != NULL and d == NULL)
    if not failed:
        loss_rows(code, parameter, d, losses, z, labels, t, weights, rows * TILE, 0, rows, columns, scale)
        if gradient != NULL:
            untile_matrix(gradient, d, rows, columns)
    free(z)
    free(t)
    free(d)
    return -1 if failed else 0


cdef inline int plain_fold(Fold* result, const void* x, index rows, index columns, bint with_signal, bint full) noexcept nogil:
    cdef real* tiled = new_tiled(x, rows, columns)
    cdef index panels = panels_of(columns), panel
    cdef void* parts = NULL
    cdef int failed = tiled == NULL or posix_memalign(&parts, 64, (panels + 1) * sizeof(FoldPart)) != 0
    if not failed:
        for panel in range(panels):
            (<FoldPart*>parts)[panel] = fold_panel(tiled + panel * rows * TILE, rows, used_columns(columns, panel),
                                                   with_signal, full)
        result[0] = fold_finish(<FoldPart*>parts, panels, rows, columns, with_signal)
    free(tiled)
    free(parts)
    return -1 if failed else 0


cdef inline double plain_sum_squares(const void* x, index n, double* peak) noexcept nogil:
    return sum_squares(<const real*>x, n, peak, NULL)


cdef inline double plain_safe_norm(const void* x, index n) noexcept nogil:
    return safe_norm(<const real*>x, n)


cdef inline double plain_dot(const void* a, const void* b, index n) noexcept nogil:
    return dot(<const real*>a, <const real*>b, n)


cdef inline index plain_count_flat(const void* slope, index n, double bound) noexcept nogil:
    return count_flat(<const real*>slope, n, <real>bound)


cdef inline int plain_batch_norm_statistics(void* mean, void* variance, void* inverse, void* shift, const void* x,
                                            index rows, index columns, double eps) noexcept nogil:
    cdef real* tiled = new_tiled(x, rows, columns)
    cdef real results[4][32]
    cdef index panel, c
    if tiled == NULL:
        return -1
    for panel in range(panels_of(columns)):
        batch_norm_statistics(results[0], results[1], results[2], results[3], tiled + panel * rows * TILE, rows, eps)
        for c in range(used_columns(columns, panel)):
            (<real*>mean)[panel * TILE + c] = results[0][c]
            (<real*>variance)[panel * TILE + c] = results[1][c]
            (<real*>inverse)[panel * TILE + c] = results[2][c]
            (<real*>shift)[panel * TILE + c] = results[3][c]
    free(tiled)
    return 0


cdef inline int plain_batch_norm_forward(void* y, const void* x, const void* mean, const void* inverse, const void* shift,
                                         const void* gamma, const void* beta, index rows, index columns) noexcept nogil:
    cdef real* tiled = new_tiled(x, rows, columns)
    cdef real* m = new_tiled(mean, 1, columns)
    cdef real* s = new_tiled(inverse, 1, columns)
    cdef real* t = new_tiled(shift, 1, columns)
    cdef real* g = new_tiled(gamma, 1, columns)
    cdef real* b = new_tiled(beta, 1, columns)
    cdef index panel, at
    cdef int failed = tiled == NULL or m == NULL or s == NULL or t == NULL or g == NULL or b == NULL
    if not failed:
        for panel in range(panels_of(columns)):
            at = panel * TILE
            batch_norm_forward_panel(tiled + at * rows, tiled + at * rows, m + at, s + at, t + at, g + at, b + at, rows)
        untile_matrix(y, tiled, rows, columns)
    free(tiled)
    free(m)
    free(s)
    free(t)
    free(g)
    free(b)
    return -1 if failed else 0


cdef inline int plain_batch_norm_backward(void* d_x, void* d_gamma, void* d_beta, const void* d_y, const void* x,
                                          const void* mean, const void* inverse, const void* shift, const void* gamma,
                                          index rows, index columns, bint batch_statistics) noexcept nogil:
    cdef real* d = new_tiled(d_y, rows, columns)
    cdef real* tiled = new_tiled(x, rows, columns)
    cdef real* m = new_tiled(mean, 1, columns)
    cdef real* s = new_tiled(inverse, 1, columns)
    cdef real* t = new_tiled(shift, 1, columns)
    cdef real* g = new_tiled(gamma, 1, columns)
    cdef real results[2][32]
    cdef index panel, at, c
    cdef int failed = d == NULL or tiled == NULL or m == NULL or s == NULL or t == NULL or g == NULL
    if not failed:
        for panel in range(panels_of(columns)):
            at = panel * TILE
            batch_norm_backward_panel(d + at * rows, results[0], results[1], d + at * rows, tiled + at * rows, m + at,
                                      s + at, t + at, g + at, rows, batch_statistics)
            for c in range(used_columns(columns, panel)):
                (<real*>d_gamma)[at + c] = results[0][c]
                (<real*>d_beta)[at + c] = results[1][c]
        untile_matrix(d_x, d, rows, columns)
    free(d)
    free(tiled)
    free(m)
    free(s)
    free(t)
    free(g)
    return -1 if failed else 0


cdef inline Rows plain_rows(index rows, index columns, const void* mean, const void* inverse, const void* shift) noexcept nogil:
    cdef Rows result
    result.step = rows * TILE
    result.columns = columns
    result.mean = <real*>mean
    result.inverse = <real*>inverse
    result.shift = <real*>shift
    return result


cdef inline int plain_layer_norm_forward(void* y, void* mean, void* inverse, void* shift, const void* x, const void* gamma,
                                         const void* beta, index rows, index columns, double eps) noexcept nogil:
    cdef Rows kept = plain_rows(rows, columns, mean, inverse, shift)
    cdef real* tiled = new_tiled(x, rows, columns)
    cdef real* g = new_tiled(gamma, 1, columns)
    cdef real* b = new_tiled(beta, 1, columns)
    cdef int failed = tiled == NULL or g == NULL or b == NULL
    if not failed:
        layer_norm_forward_rows(&kept, tiled, tiled, g, b, 0, rows, eps)
        untile_matrix(y, tiled, rows, columns)
    free(tiled)
    free(g)
    free(b)
    return -1 if failed else 0


cdef inline int plain_layer_norm_backward(void* d_x, void* d_gamma, void* d_beta, const void* d_y, const void* x,
                                          const void* mean, const void* inverse, const void* shift, const void* gamma,
                                          index rows, index columns) noexcept nogil:
    cdef Rows kept = plain_rows(rows, columns, mean, inverse, shift)
    cdef real* d = new_tiled(d_y, rows, columns)
    cdef real* tiled = new_tiled(x, rows, columns)
    cdef real* g = new_tiled(gamma, 1, columns)
    cdef real results[2][32]
    cdef index panel, at, c
    cdef int failed = d == NULL or tiled == NULL or g == NULL
    if not failed:
        for panel in range(panels_of(columns)):
            at = panel * TILE
            layer_norm_gamma_gradient(&kept, results[0], d + at * rows, tiled + at * rows, rows, used_columns(columns, panel))
            column_sums(results[1], d + at * rows, rows)
            for c in range(used_columns(columns, panel)):
                (<real*>d_gamma)[at + c] = results[0][c]
                (<real*>d_beta)[at + c] = results[1][c]
        layer_norm_backward_rows(&kept, d, d, tiled, g, 0, rows)
        untile_matrix(d_x, d, rows, columns)
    free(d)
    free(tiled)
    free(g)
    return -1 if failed else 0


cdef inline void plain_update_running(void* running_mean, void* running_variance, const void* mean, const void* variance,
                                      index n, index rows, double momentum) noexcept nogil:
    update_running(<real*>running_mean, <real*>running_variance, <const real*>mean, <const real*>variance, n, rows,
                   momentum)


cdef inline int plain_dropout(void* y, void* slope, const void* x, index rows, index columns, double rate, uint64_t seed,
                              uint64_t step, uint32_t op) noexcept nogil:
    cdef real* tiled = new_tiled(x, rows, columns)
    cdef real* kept = new_tiled(NULL, rows, columns)
    cdef index panel, at
    cdef int failed = tiled == NULL or kept == NULL
    if not failed:
        for panel in range(panels_of(columns)):
            at = panel * rows * TILE
            dropout_forward_panel(tiled + at, kept + at, tiled + at, 0, rows, panel * TILE, columns, rate, seed, step, op)
        untile_matrix(y, tiled, rows, columns)
        untile_matrix(slope, kept, rows, columns)
    free(tiled)
    free(kept)
    return -1 if failed else 0


cdef inline void plain_update(void* p, const void* g, void* first, void* second, index n, const Hyper* h, double scale,
                              uint64_t step) noexcept nogil:
    cdef Coefficients c = coefficients_of(h, scale, step, False)
    update(<real*>p, <const real*>g, <real*>first, <real*>second, n, h, &c)


cdef inline void plain_clip_by_value(void* x, index n, double bound) noexcept nogil:
    clip_by_value(<real*>x, n, usable_bound(bound))


cdef inline void plain_scale_by(void* x, index n, double factor) noexcept nogil:
    scale_by(<real*>x, n, factor)
