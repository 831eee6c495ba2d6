# One engine: the loop that walks a plan, for one dtype and one instruction set.  setup.py compiles this file once per
# pair; the door opens one of the results and calls it through the table at the end.  Nothing here is seen from Python.
#
# Every thread of a team runs these functions; `member` of `size` says which it is.
#   gather -> forward -> loss -> backward        split by rows of the batch, batch statistics by panels
#   gradients of the parameters, their norm      split by units (a panel of a weight matrix, a bias …)
#   clip, optimizer, transposed weights          split by units
#
# Work is split by outputs, never inside a sum, so the bits do not depend on the number of threads.  Threads meet
# only where the split changes.  In a probed step (LIGHT, FULL) they meet after every op and fold what it wrote.
from cpython.pycapsule cimport PyCapsule_New
from libc.math cimport INFINITY, NAN, isfinite, ldexp, sqrt
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from .activations cimport activation_forward, largest_slope
from .answers cimport plain_above_zero, plain_all_finite, plain_largest
from .arrays cimport (
    plain_activation, plain_batch_norm_backward, plain_batch_norm_forward, plain_batch_norm_statistics,
    plain_clip_by_value, plain_count_flat, plain_dot, plain_dropout, plain_fold, plain_layer_norm_backward,
    plain_layer_norm_forward, plain_loss, plain_matmul, plain_safe_norm, plain_scale_by, plain_softmax,
    plain_softmax_backward, plain_sum_squares, plain_update, plain_update_running, tile_matrix, untile_matrix,
)
from .clipping cimport adaptive_factor, column_norms, scale_columns
from .dense cimport (
    bias_gradient, centred_squares, clear_pads, dense_backward, dense_forward, fetch_transposed_tile, panels_of,
    refresh_transposed, slope_in_output, used_columns, weight_gradient,
)
from .dropout cimport dropout_forward_panel
from .gather cimport batch_row, gather
from .losses cimport loss_rows, softmax_backward_rows, softmax_rows
from .normalization cimport (
    Rows, batch_norm_backward_panel, batch_norm_forward_panel, batch_norm_inverse, batch_norm_statistics,
    layer_norm_backward_rows, layer_norm_forward_rows, layer_norm_gamma_gradient, update_running,
)
from .optimizers cimport Coefficients, bound_step, coefficients_of, update
from .program cimport (
    BACKWARD_BATCH, COURSE, FORWARD, FORWARD_BATCH, INPUT_DELTAS, OBSERVE, TRAIN, TRANSPOSE, Engine, Program, Unit,
)
from .shuffle cimport shuffle_rows
from .simd cimport LANES, REAL_IS_SINGLE, TILE, real
from .statistics cimport FoldPart, count_flat, dot, extremes, fold_finish, fold_panel, safe_norm, safe_squares, sum_squares
from .threads cimport Team, counter_add, meet, team_run, team_start, team_stop
from .types cimport (
    ACTIVATION, BATCH_NORM, BATCH_STATISTICS, BIASES, CROSS_ENTROPY, DENSE, DONE, DROP, DROPOUT, FORK, FULL,
    INPUT_GRADIENT, JOIN, LAYER_NORM, LIGHT, NO_LOSS, NONFINITE, NORMS, SOFTMAX, UPDATE,
    Fold, Hyper, Op, Record, index,
)

# ------------------------------------------------------------------ who does what


cdef index share(index n, int member, int size) noexcept nogil:
    # Where the share of this member begins when n things are dealt out evenly, in order.
    return n * member // size


# ------------------------------------------------------------------ the books


cdef bint is_projection(const Op* op) noexcept nogil:
    # the dense op on the skip of a residual block, right after the fork
    return op.kind == DENSE and op.partner >= 0


cdef const real* skip_output(const Program* p, const Op* join) noexcept nogil:
    cdef const Op* fork = &p.ops[join.partner]
    cdef index slot = fork[1].output if is_projection(fork + 1) else fork.input
    return <const real*>p.activations + slot * p.capacity


cdef const real* skip_delta(const Program* p, const Op* fork) noexcept nogil:
    cdef index slot = fork[1].d_input if is_projection(fork + 1) else p.ops[fork.partner].d_output
    return <const real*>p.deltas + slot * p.capacity


cdef bint probing(const Program* p) noexcept nogil:
    return (p.mode & (LIGHT | FULL)) != 0


cdef void forget_records(Program* p) noexcept nogil:
    # What this step does not book stays NaN.
    cdef double* value = <double*>p.records
    cdef index i
    for i in range((p.n_ops + 1) * <index>(sizeof(Record) // sizeof(double))):
        value[i] = NAN


cdef void fold_matrix(Program* p, Team* team, int member, Fold* fold, const real* matrix, index columns,
                      index rows, bint with_signal) noexcept nogil:
    # Each panel is folded by one thread, and the panels are added up in order by the first.
    cdef FoldPart* parts = <FoldPart*>p.parts
    cdef index panels = panels_of(columns), panel
    meet(team)
    for panel in range(share(panels, member, team.size), share(panels, member + 1, team.size)):
        if with_signal:                            # a constant at each call, so that the loop inside is free of it
            parts[panel] = fold_panel(matrix + panel * p.capacity * TILE, rows, used_columns(columns, panel), True,
                                      (p.mode & FULL) != 0)
        else:
            parts[panel] = fold_panel(matrix + panel * p.capacity * TILE, rows, used_columns(columns, panel), False,
                                      (p.mode & FULL) != 0)
    meet(team)
    if member == 0:
        fold[0] = fold_finish(parts, panels, rows, columns, with_signal)


cdef void fold_forward(Program* p, Team* team, int member, index i, index rows) noexcept nogil:
    cdef const Op* op = &p.ops[i]
    cdef index before
    if op.kind == FORK:
        if member == 0:
            before = i - 2 if i > 0 and is_projection(op - 1) else i - 1
            p.records[i].output = p.records[before if before >= 0 else p.n_ops].output
        return
    fold_matrix(p, team, member, &p.records[i].output, <const real*>p.activations + op.output * p.capacity,
                op.columns_out, rows, True)


cdef void fold_delta(Program* p, Team* team, int member, index i, index rows) noexcept nogil:
    # dL/d(input) of op i is also dL/d(output) of the op before it.
    cdef const Op* op = &p.ops[i]
    fold_matrix(p, team, member, &p.records[i].d_input, <const real*>p.deltas + op.d_input * p.capacity,
                op.columns_in, rows, False)
    if member == 0 and is_projection(op):
        p.records[i].d_output = p.records[p.ops[op.partner].partner].d_output
    elif member == 0 and i > 0:
        p.records[i - 2 if is_projection(op - 1) else i - 1].d_output = p.records[i].d_input


cdef void count_flat_elements(Program* p, index i, index rows) noexcept nogil:
    # Saturated or inactive: abs(slope) below 1 % of the function's largest.
    cdef const Op* op = &p.ops[i]
    cdef const real* slope = <const real*>p.deltas + op.d_input * p.capacity
    cdef real bound = <real>0.01 * largest_slope(<int>op.code, <real>op.parameter)
    cdef index panel, used, r, count = 0
    for panel in range(panels_of(op.columns_out)):
        used = used_columns(op.columns_out, panel)
        if used == TILE:
            count += count_flat(slope + panel * p.capacity * TILE, rows * TILE, bound)
        else:
            for r in range(rows):
                count += count_flat(slope + panel * p.capacity * TILE + r * TILE, used, bound)
    p.records[i].flat = <double>count


cdef void fold_fork(Program* p, index i, index rows) noexcept nogil:
    # The gradient reaches a block's input by two ways: their norms and the cosine between them.
    cdef const Op* op = &p.ops[i]
    cdef const real* branch = <const real*>p.deltas + op.d_input * p.capacity
    cdef const real* skip = skip_delta(p, op)
    cdef bint projects = is_projection(op + 1)
    cdef double product = 0.0
    cdef index panel
    for panel in range(panels_of(op.columns_in)):
        product += dot(branch + panel * p.capacity * TILE, skip + panel * p.capacity * TILE, rows * TILE)
    p.records[op.partner].skip = p.records[i + 1].d_input.norm if projects else p.records[op.partner].d_output.norm
    p.records[op.partner].branch = p.records[i + 2 if projects else i + 1].d_input.norm
    p.records[op.partner].cosine = product / p.records[op.partner].skip / p.records[op.partner].branch


# ------------------------------------------------------------------ data


cdef void gather_targets(Program* p, index start, index first, index last) noexcept nogil:
    cdef const real* values = <const real*>p.data_values
    cdef real* to = <real*>p.targets
    cdef index r, panel, row
    for r in range(first, last):
        row = batch_row(p, start, r)
        if p.data_labels != NULL:
            p.labels[r] = p.data_labels[row]
        if values != NULL:
            for panel in range(panels_of(p.target_columns)):
                memcpy(to + panel * p.capacity * TILE + r * TILE, values + row * p.target_columns + panel * TILE,
                       used_columns(p.target_columns, panel) * sizeof(real))
        if p.data_weights != NULL:
            p.weights[r] = p.data_weights[row]
    if smooths(p):
        smooth_targets(p, first, last)


cdef bint smooths(const Program* p) noexcept nogil:
    return p.loss == CROSS_ENTROPY and p.loss_parameter > 0.0


cdef void smooth_targets(Program* p, index first, index last) noexcept nogil:
    # Label smoothing (Szegedy et al., CVPR 2016): 1 - smoothing of what the target says, the rest in equal shares.
    cdef real rest = <real>(p.loss_parameter / p.target_columns), kept = <real>(1.0 - p.loss_parameter)
    cdef real* row
    cdef index r, panel, c, label
    for r in range(first, last):
        for panel in range(panels_of(p.target_columns)):
            row = <real*>p.targets + panel * p.capacity * TILE + r * TILE
            if p.data_labels == NULL:
                for c in range(used_columns(p.target_columns, panel)):
                    row[c] = kept * row[c] + rest
            else:
                for c in range(used_columns(p.target_columns, panel)):
                    row[c] = rest
        if p.data_labels != NULL:
            label = p.labels[r]
            row = <real*>p.targets + label // TILE * p.capacity * TILE + r * TILE
            row[label % TILE] = kept + rest


cdef void scatter(const Program* p, const real* source, index columns, index start, index first,
                  index last) noexcept nogil:
    # Rows of a slot into `result`.
    cdef real* result = <real*>p.result
    cdef index r, panel
    for r in range(first, last):
        for panel in range(panels_of(columns)):
            memcpy(result + (start + r) * columns + panel * TILE, source + panel * p.capacity * TILE + r * TILE,
                   used_columns(columns, panel) * sizeof(real))


cdef void scatter_result(Program* p, index start, index first, index last) noexcept nogil:
    scatter(p, <const real*>p.activations + p.ops[p.n_ops - 1].output * p.capacity, p.columns_out, start, first, last)


cdef void gather_output_deltas(Program* p, index start, index first, index last) noexcept nogil:
    # dL/d(output), which the caller handed in as data_values, rows in order.
    cdef real* d = <real*>p.deltas + p.ops[p.n_ops - 1].d_output * p.capacity
    cdef const real* values = <const real*>p.data_values
    cdef index r, panel
    for r in range(first, last):
        for panel in range(panels_of(p.columns_out)):
            memcpy(d + panel * p.capacity * TILE + r * TILE, values + (start + r) * p.columns_out + panel * TILE,
                   used_columns(p.columns_out, panel) * sizeof(real))


# ------------------------------------------------------------------ one op, forward and backward


cdef void activation_op_forward(Program* p, const Op* op, bint keep_slope, index first, index last) noexcept nogil:
    cdef index panel, used, at
    cdef const real* z = <const real*>p.activations + op.input * p.capacity
    cdef real* a = <real*>p.activations + op.output * p.capacity
    cdef real* slope = <real*>p.deltas + op.d_input * p.capacity
    if op.code == SOFTMAX:
        softmax_rows(a, z, p.capacity * TILE, first, last, op.columns_out)
        return
    for panel in range(panels_of(op.columns_out)):
        at = panel * p.capacity * TILE + first * TILE
        activation_forward(<int>op.code, <real>op.parameter, z + at, a + at, slope + at if keep_slope else NULL,
                           (last - first) * TILE)
        used = used_columns(op.columns_out, panel)
        if used < TILE:
            clear_pads(a + at, last - first, used)


cdef void slope_op_backward(Program* p, const Op* op, index first, index last) noexcept nogil:
    # Activation and dropout left their slope where dL/d(input) belongs.
    cdef index panel, at, i
    cdef real* d_input
    cdef const real* d_output
    cdef const real* a
    if op.kind == ACTIVATION and op.code == SOFTMAX:
        softmax_backward_rows(<real*>p.deltas + op.d_input * p.capacity,
                              <const real*>p.activations + op.output * p.capacity,
                              <const real*>p.deltas + op.d_output * p.capacity,
                              p.capacity * TILE, first, last, op.columns_out)
        return
    for panel in range(panels_of(op.columns_out)):
        at = panel * p.capacity * TILE
        d_input = <real*>p.deltas + op.d_input * p.capacity + at
        d_output = <const real*>p.deltas + op.d_output * p.capacity + at
        if op.kind == ACTIVATION and slope_in_output(p, op):
            a = <const real*>p.activations + op.output * p.capacity + at
            for i in range(first * TILE, last * TILE):
                d_input[i] = d_output[i] * (<real>0 if a[i] <= 0 else <real>1)
            continue
        for i in range(first * TILE, last * TILE):
            d_input[i] = d_input[i] * d_output[i]


cdef void dropout_op_forward(Program* p, index i, uint32_t step, index first, index last) noexcept nogil:
    cdef const Op* op = &p.ops[i]
    cdef index panel, at
    for panel in range(panels_of(op.columns_out)):
        at = panel * p.capacity * TILE
        dropout_forward_panel(<real*>p.activations + op.output * p.capacity + at,
                              <real*>p.deltas + op.d_input * p.capacity + at,
                              <const real*>p.activations + op.input * p.capacity + at,
                              first, last, panel * TILE, op.columns_out,
                              op.parameter if p.mode & DROP else 0.0, p.seed, step, <uint32_t>i)


cdef real* saved_row(const Program* p, const Op* op, index which) noexcept nogil:
    # batch norm: 0 batch mean, 1 batch variance, 2 inverse, 3 shift
    return <real*>p.saved + op.saved + which * panels_of(op.columns_out) * TILE


cdef void batch_norm_op_forward(Program* p, const Op* op, int member, int size, index rows) noexcept nogil:
    # Split by panels: a column's statistics need every row.
    cdef index panels = panels_of(op.columns_out), panel, at, used
    cdef const real* mean
    cdef const real* running = <const real*>p.state + op.state
    cdef const real* x = <const real*>p.activations + op.input * p.capacity
    cdef real* y = <real*>p.activations + op.output * p.capacity
    for panel in range(share(panels, member, size), share(panels, member + 1, size)):
        at = panel * TILE
        if p.mode & BATCH_STATISTICS:
            mean = saved_row(p, op, 0) + at
            batch_norm_statistics(saved_row(p, op, 0) + at, saved_row(p, op, 1) + at, saved_row(p, op, 2) + at,
                                  saved_row(p, op, 3) + at, x + panel * p.capacity * TILE, rows, op.eps)
        else:
            mean = running + at
            batch_norm_inverse(saved_row(p, op, 2) + at, running + panels * TILE + at, op.eps)
            memset(saved_row(p, op, 3) + at, 0, TILE * sizeof(real))
        batch_norm_forward_panel(y + panel * p.capacity * TILE, x + panel * p.capacity * TILE, mean,
                                 saved_row(p, op, 2) + at, saved_row(p, op, 3) + at,
                                 <const real*>p.parameters + op.weight + at,
                                 <const real*>p.parameters + op.bias + at, rows)
        used = used_columns(op.columns_out, panel)
        if used < TILE:
            clear_pads(y + panel * p.capacity * TILE, rows, used)


cdef void batch_norm_op_backward(Program* p, const Op* op, int member, int size, index rows) noexcept nogil:
    cdef index panels = panels_of(op.columns_out), panel, at, used
    cdef const real* mean = <const real*>p.state + op.state
    if p.mode & BATCH_STATISTICS:
        mean = saved_row(p, op, 0)
    for panel in range(share(panels, member, size), share(panels, member + 1, size)):
        at = panel * p.capacity * TILE
        batch_norm_backward_panel(
            <real*>p.deltas + op.d_input * p.capacity + at,
            <real*>p.gradients + op.weight + panel * TILE, <real*>p.gradients + op.bias + panel * TILE,
            <const real*>p.deltas + op.d_output * p.capacity + at,
            <const real*>p.activations + op.input * p.capacity + at,
            mean + panel * TILE, saved_row(p, op, 2) + panel * TILE, saved_row(p, op, 3) + panel * TILE,
            <const real*>p.parameters + op.weight + panel * TILE, rows, (p.mode & BATCH_STATISTICS) != 0)
        used = used_columns(op.columns_out, panel)
        if used < TILE:
            clear_pads(<real*>p.deltas + op.d_input * p.capacity + at, rows, used)


cdef Rows rows_of(const Program* p, const Op* op) noexcept nogil:
    cdef Rows rows
    rows.step = p.capacity * TILE
    rows.columns = op.columns_out
    rows.mean = <real*>p.activations + op.saved * p.capacity
    rows.inverse = rows.mean + p.capacity
    rows.shift = rows.inverse + p.capacity
    return rows


cdef void layer_norm_op_forward(Program* p, const Op* op, index first, index last) noexcept nogil:
    cdef Rows rows = rows_of(p, op)
    layer_norm_forward_rows(&rows, <real*>p.activations + op.output * p.capacity,
                            <const real*>p.activations + op.input * p.capacity, <const real*>p.parameters + op.weight,
                            <const real*>p.parameters + op.bias, first, last, op.eps)


cdef void layer_norm_op_backward(Program* p, const Op* op, index first, index last) noexcept nogil:
    # (gamma and beta need every row: the pass of the gradients)
    cdef Rows rows = rows_of(p, op)
    layer_norm_backward_rows(&rows, <real*>p.deltas + op.d_input * p.capacity,
                             <const real*>p.deltas + op.d_output * p.capacity,
                             <const real*>p.activations + op.input * p.capacity, <const real*>p.parameters + op.weight,
                             first, last)


cdef void gamma_gradient(Program* p, const Op* op, index count) noexcept nogil:
    # of a layer norm
    cdef Rows rows = rows_of(p, op)
    cdef index panel, at
    for panel in range(panels_of(op.columns_out)):
        at = panel * p.capacity * TILE
        layer_norm_gamma_gradient(&rows, <real*>p.gradients + op.weight + panel * TILE,
                                  <const real*>p.deltas + op.d_output * p.capacity + at,
                                  <const real*>p.activations + op.input * p.capacity + at, count,
                                  used_columns(op.columns_out, panel))


cdef void add_scaled(Program* p, real* to, const real* a, real scale, const real* b, index columns,
                     index first, index last) noexcept nogil:
    # to = a + scale * b; a may be NULL (then to = scale * b); to may be a
    cdef index panel, at, i
    for panel in range(panels_of(columns)):
        at = panel * p.capacity * TILE
        if a == NULL:
            for i in range(at + first * TILE, at + last * TILE):
                to[i] = scale * b[i]
        else:
            for i in range(at + first * TILE, at + last * TILE):
                to[i] = a[i] + scale * b[i]


# ------------------------------------------------------------------ the passes


cdef void forward_pass(Program* p, Team* team, int member, index rows, index first, index last,
                       index n_ops, bint keep_slope, uint32_t step) noexcept nogil:
    # ops[0:n_ops]; `keep_slope`: for a backward pass that follows.  Without batch statistics rows are independent
    # and nobody waits.
    cdef index i = 0
    cdef const Op* op
    cdef const Op* activation
    cdef bint probed = probing(p)
    if probed:
        if member == 0:
            forget_records(p)
        fold_matrix(p, team, member, &p.records[p.n_ops].output, <const real*>p.activations, p.columns_in, rows, True)
    while i < n_ops:
        op = &p.ops[i]
        if op.kind == DENSE:
            activation = NULL
            if op.fused and not probed and i + 1 < n_ops:
                activation = &p.ops[i + 1]
            dense_forward(p, op, activation, keep_slope, first, last)
            if activation != NULL:
                i += 1
        elif op.kind == ACTIVATION:
            activation_op_forward(p, op, keep_slope, first, last)
        elif op.kind == BATCH_NORM:
            if p.mode & BATCH_STATISTICS or keep_slope or probed:
                meet(team)
                batch_norm_op_forward(p, op, member, team.size, rows)
                meet(team)
            else:
                batch_norm_rows(p, op, first, last)
        elif op.kind == LAYER_NORM:
            layer_norm_op_forward(p, op, first, last)
        elif op.kind == DROPOUT:
            dropout_op_forward(p, i, step, first, last)
        elif op.kind == JOIN:
            add_scaled(p, <real*>p.activations + op.output * p.capacity, skip_output(p, op), <real>op.parameter,
                       <const real*>p.activations + op.input * p.capacity, op.columns_out, first, last)
        if probed:
            fold_forward(p, team, member, i, rows)
            if op.kind == ACTIVATION and p.mode & FULL and member == 0 and op.code != SOFTMAX and keep_slope:
                count_flat_elements(p, i, rows)
            meet(team)
        i += 1


cdef void batch_norm_rows(Program* p, const Op* op, index first, index last) noexcept nogil:
    # Inference: the statistics are constants, so that a thread needs nobody else's rows.
    cdef index panels = panels_of(op.columns_out), panel, at, used
    cdef const real* running = <const real*>p.state + op.state
    cdef real inverse[32]
    cdef real shift[32]
    memset(shift, 0, sizeof(shift))
    for panel in range(panels):
        at = panel * p.capacity * TILE + first * TILE
        batch_norm_inverse(inverse, running + (panels + panel) * TILE, op.eps)
        batch_norm_forward_panel(<real*>p.activations + op.output * p.capacity + at,
                                 <const real*>p.activations + op.input * p.capacity + at, running + panel * TILE,
                                 inverse, shift, <const real*>p.parameters + op.weight + panel * TILE,
                                 <const real*>p.parameters + op.bias + panel * TILE, last - first)
        used = used_columns(op.columns_out, panel)
        if used < TILE:
            clear_pads(<real*>p.activations + op.output * p.capacity + at, last - first, used)


cdef void loss_pass(Program* p, index start, index rows, index first, index last) noexcept nogil:
    # The loss of each row, and dL/d(output) where the last op expects it.
    cdef const Op* op = &p.ops[p.n_ops - 1]
    cdef double scale = 1.0
    if not has_targets(p):
        return
    if not p.loss_sum:
        scale = weight_of(p, start, rows) * (1 if p.loss == CROSS_ENTROPY else p.target_columns)
        scale = 1.0 / scale if scale > 0.0 else 0.0
    loss_rows(<int>p.loss, p.loss_parameter, <real*>p.deltas + op.d_output * p.capacity, p.row_losses,
              <const real*>p.activations + op.output * p.capacity,
              p.labels if p.data_labels != NULL and not smooths(p) else NULL, <const real*>p.targets,
              p.weights if p.data_weights != NULL else NULL, p.capacity * TILE, first, last, op.columns_out, scale)


cdef double weight_of(const Program* p, index start, index rows) noexcept nogil:
    # How many rows these count for; read from the data, so that no thread waits for another's share.
    cdef double total = 0.0
    cdef index r
    if p.data_weights == NULL:
        return <double>rows
    for r in range(rows):
        total += p.data_weights[batch_row(p, start, r)]
    return total


cdef bint has_targets(const Program* p) noexcept nogil:
    # without them dL/d(output) is what the caller left in its slot, or leaves in data_values
    if p.job == BACKWARD_BATCH:
        return False
    return p.loss != NO_LOSS and (p.data_labels != NULL or p.data_values != NULL)


cdef double total_loss(const Program* p, index rows) noexcept nogil:
    cdef double total = 0.0, weight = rows
    cdef index r
    if not has_targets(p):
        return NAN
    for r in range(rows):
        total += p.row_losses[r]
    if p.loss_sum:
        return total
    if p.data_weights != NULL:
        weight = 0.0
        for r in range(rows):
            weight += p.weights[r]
        if weight == 0.0:
            return 0.0
    if p.loss == CROSS_ENTROPY:
        return total / weight
    return total / weight / p.target_columns


cdef void backward_pass(Program* p, Team* team, int member, index rows, index first, index last) noexcept nogil:
    # Alone and unobserved, the gradients of an op's parameters are computed as soon as its delta is there, which is then
    # still in the first-level cache; a team computes them afterwards, when everybody's rows are there (gradient_pass).
    cdef index i
    cdef const Op* op
    cdef const Op* activation
    cdef bint probed = probing(p), at_once = gradients_at_once(p, team), reads_data
    cdef index units_end = p.n_units
    if probed:
        op = &p.ops[p.n_ops - 1]
        fold_matrix(p, team, member, &p.records[p.n_ops - 1].d_output,
                    <const real*>p.deltas + op.d_output * p.capacity, op.columns_out, rows, False)
    i = p.n_ops
    while i > p.until:
        i -= 1
        op = &p.ops[i]
        reads_data = starts_at_data(p, op)
        if at_once and op.kind != BATCH_NORM:
            units_end = op_gradients(p, i, units_end, rows)
        if reads_data and probed and is_projection(op) and member == 0:
            p.records[i].d_output = p.records[p.ops[op.partner].partner].d_output
        if reads_data and op.kind != BATCH_NORM:   # (which has parameters' gradients to give)
            continue
        if op.kind == DENSE:
            activation = NULL
            if not probed and i > p.until and sheds_slope(p, i - 1):
                activation = &p.ops[i - 1]
            dense_backward(p, op, activation, first, last)
            if activation != NULL:
                i -= 1
        elif op.kind == BATCH_NORM:
            meet(team)
            batch_norm_op_backward(p, op, member, team.size, rows)
            meet(team)
        elif op.kind == LAYER_NORM:
            layer_norm_op_backward(p, op, first, last)
        elif op.kind == JOIN:
            add_scaled(p, <real*>p.deltas + op.d_input * p.capacity, NULL, <real>op.parameter,
                       <const real*>p.deltas + op.d_output * p.capacity, op.columns_out, first, last)
        elif op.kind == FORK:
            if probed:
                meet(team)
                if member == 0:
                    fold_fork(p, i, rows)
                meet(team)
            add_scaled(p, <real*>p.deltas + op.d_input * p.capacity, <const real*>p.deltas + op.d_input * p.capacity,
                       1, skip_delta(p, op), op.columns_in, first, last)
        else:
            slope_op_backward(p, op, first, last)
        if at_once and op.kind == BATCH_NORM:      # (computed with its delta)
            units_end = op_gradients(p, i, units_end, rows)
        if probed and not reads_data:
            fold_delta(p, team, member, i, rows)
            meet(team)


cdef bint starts_at_data(const Program* p, const Op* op) noexcept nogil:
    # whether dL/d(input) of this op would be that of the data, which nobody asked for
    if op.d_input != 0 and not (is_projection(op) and op.input == 0):
        return False
    return not p.mode & INPUT_GRADIENT or (op.kind == DENSE and op.transposed < 0)


cdef bint sheds_slope(const Program* p, index i) noexcept nogil:
    # whether op i is an activation whose slope the dense op behind it can multiply its own dL/d(input) by
    cdef const Op* op = &p.ops[i]
    return op.kind == ACTIVATION and op.code != SOFTMAX and not starts_at_data(p, op)


cdef bint gradients_at_once(const Program* p, const Team* team) noexcept nogil:
    return team.size == 1 and not probing(p) and p.until == 0 and p.job != INPUT_DELTAS


cdef index unit_share(const Program* p, int member, int size) noexcept nogil:
    # where the units of this member begin (a forked child is alone, whatever its parent was: threads.pxd)
    if size == 1:
        return 0 if member == 0 else p.n_units
    return p.shares[member]


cdef index op_gradients(Program* p, index i, index end, index rows) noexcept nogil:
    # Gradients of the parameters of op i, whose units are the last ones before `end`; where its units begin.
    cdef index first = end
    while first > 0 and p.units[first - 1].op == i:
        first -= 1
    units_gradients(p, first, end, rows)
    return first


cdef void gradient_pass(Program* p, int member, int size, index rows) noexcept nogil:
    # Gradients of the parameters, op by op
    cdef index u = unit_share(p, member, size), last = unit_share(p, member + 1, size), end
    while u < last:
        end = u + 1
        while end < last and p.units[end].op == p.units[u].op:
            end += 1
        units_gradients(p, u, end, rows)
        u = end


cdef void units_gradients(Program* p, index first, index end, index rows) noexcept nogil:
    # Of some units of one op.  Those of tall panels are visited row block by row block, across the panels: the same
    # activations then come from the second-level cache.
    cdef index u, row = 0, next_row
    while row >= 0:
        next_row = -1
        for u in range(first, end):
            if p.units[u].row == row:
                unit_gradient(p, u, rows)
            elif p.units[u].row > row and (next_row < 0 or p.units[u].row < next_row):
                next_row = p.units[u].row
        row = next_row


cdef void unit_gradient(Program* p, index u, index rows) noexcept nogil:
    # Batch norm's was written by its backward.
    cdef const Unit* unit = &p.units[u]
    cdef const Op* op = &p.ops[unit.op]
    cdef const real* gradient = <const real*>p.gradients + unit.offset
    cdef double unused
    if unit.rows:
        p.unit_squares[u] = weight_gradient(p, op, unit, rows)
    else:
        if op.kind == LAYER_NORM and unit.offset == op.weight:
            gamma_gradient(p, op, rows)
        elif op.kind == DENSE or op.kind == LAYER_NORM:
            bias_gradient(p, op, rows)
        p.unit_squares[u] = sum_squares(gradient, unit.size, &unused, NULL)
    if p.mode & LIGHT:
        p.unit_books[u] = p.unit_squares[u]
        extremes(gradient, unit.size, &p.unit_peaks[u], &p.unit_bottoms[u])
        if unit.rows and not squares_are_safe(p.unit_squares[u], unit.size):
            p.unit_books[u] = sum_squares(gradient, unit.size, &unused, NULL)


cdef bint squares_are_safe(double squares, index n) noexcept nogil:
    # Whether the squares of n elements lost nothing at either end of their own precision's range: so few elements have
    # squares that underflow in float32 that they do not show in such a sum.
    return (1e-30 * n <= squares < 1e36) if REAL_IS_SINGLE else (1e-270 <= squares < 1e300)


cdef double gradient_norm(const Program* p) noexcept nogil:
    # Global norm; the same bits in every thread.
    cdef double squares = 0.0
    cdef index u
    for u in range(p.n_units):
        squares += p.unit_squares[u]
    if squares != squares or squares_are_safe(squares, p.parameter_size):
        return sqrt(squares)
    return safe_norm(<const real*>p.gradients, p.parameter_size)


# ------------------------------------------------------------------ the update


cdef enum:
    SECOND_CACHE = 1 << 14     # reals of parameters, up to which all arenas together are in the second-level cache
    CHUNK = 1024               # room for TILE x TILE reals: what an update works on at a time, while it is in the first cache


cdef struct Pace:              # of one step
    double scale               # clipping by norm
    Coefficients all
    Coefficients exempt        # of parameters that decay and l1 leave alone


cdef Pace pace_of(const Hyper* h, double norm, uint64_t step) noexcept nogil:
    cdef Pace pace
    pace.scale = h.clip_norm / norm if norm > h.clip_norm else 1.0
    pace.all = coefficients_of(h, pace.scale, step, False)
    if h.exempt:
        pace.exempt = coefficients_of(h, pace.scale, step, True)
    return pace


cdef const Coefficients* coefficients(const Program* p, const Pace* pace, const Unit* unit) noexcept nogil:
    cdef int64_t kind = 0
    if not unit.rows:
        kind = BIASES if p.ops[unit.op].kind == DENSE else NORMS
    return &pace.exempt if p.hyper.exempt & kind else &pace.all


# Finite gradients can make infinite weights or moments: a large rate, Adam's squares.  Bounds of what the arenas hold
# after the step follow from bounds of what they hold before it, cost nothing, and nearly always suffice.  Where they do
# not, the update is tried on copies, which tells, and gives new bounds.


cdef double magnitude(const real* x, index n) noexcept nogil:
    # The largest; inf where something is not finite
    cdef double peak, squares = sum_squares(x, n, &peak, NULL)
    return peak if squares == squares else <double>INFINITY


# Adaptive clipping leaves the gradient as it is, for the books; the update takes a clipped copy of each chunk.


cdef void norms_pass(Program* p, int member, int size) noexcept nogil:
    # Norms of the columns of every unit's weights and gradient; a vector's own norm stands in each column.
    cdef index u
    cdef const Unit* unit
    cdef const real* w
    cdef const real* g
    cdef double* norms
    cdef int c
    for u in range(unit_share(p, member, size), unit_share(p, member + 1, size)):
        unit = &p.units[u]
        w = <const real*>p.parameters + unit.offset
        g = <const real*>p.gradients + unit.offset
        norms = p.unit_norms + 2 * TILE * u
        if unit.rows:
            column_norms(norms, w, unit.rows)
            column_norms(norms + TILE, g, unit.rows)
        else:
            norms[0] = safe_norm(w, unit.size)
            norms[TILE] = safe_norm(g, unit.size)
            for c in range(1, TILE):
                norms[c] = norms[0]
                norms[TILE + c] = norms[TILE]


cdef double whole_norm(const Program* p, index first, int place) noexcept nogil:
    # Of a column, from its parts in the units of one panel, always in the same order.
    cdef double norm = p.unit_norms[2 * TILE * first + place], squares = norm * norm, peak = norm
    cdef index u = first + 1, k
    while u < p.n_units and p.units[u].row > 0:
        norm = p.unit_norms[2 * TILE * u + place]
        squares += norm * norm
        peak = norm if norm > peak else peak
        u += 1
    if u == first + 1:
        return norm
    if squares < 1e300:
        return sqrt(squares)
    squares = 0.0
    for k in range(first, u):
        norm = p.unit_norms[2 * TILE * k + place] / peak
        squares += norm * norm
    return peak * sqrt(squares)


cdef bint adaptive_factors(const Program* p, index u, double* factors) noexcept nogil:
    # Of the columns that this unit is a part of; whether any of them is clipped.  The output layer never is: its
    # gradient is the loss's own, and the paper's networks train better when it is left alone.
    cdef index first = u, output = p.n_ops - 1
    cdef bint clipped = False
    cdef int c
    while output >= 0 and p.ops[output].kind != DENSE:
        output -= 1
    if p.units[u].op == output:
        return False
    while p.units[first].row > 0:
        first -= 1
    for c in range(TILE):
        factors[c] = adaptive_factor(whole_norm(p, first, c), whole_norm(p, first, TILE + c), p.hyper.clip_adaptive)
        clipped = clipped or factors[c] < 1.0
    return clipped


cdef void update_slice(const Hyper* h, const Coefficients* c, const double* columns, real* w, const real* g, real* first,
                       real* second, index n) noexcept nogil:
    # At most CHUNK elements.  `columns`: factors of adaptive clipping; NULL: nothing to clip.
    cdef real clipped[CHUNK]
    if columns != NULL:
        scale_columns(clipped, g, n, columns)
        g = clipped
    update(w, g, first, second, n, h, c)


cdef index chunk_size(index start, index n) noexcept nogil:
    return n - start if n - start < TILE * TILE else TILE * TILE


cdef void try_update(Program* p, int member, int size, const Pace* pace) noexcept nogil:
    # The update on copies, chunk by chunk as it is made: the same bits.
    cdef real copies[3 * CHUNK]
    cdef real* arenas[3]
    cdef double factors[32]
    cdef double peak
    cdef const Coefficients* c
    cdef index u, i, k, start, n, first = unit_share(p, member, size)
    cdef bint clipped = False
    arenas[0] = <real*>p.parameters
    arenas[1] = <real*>p.moment1
    arenas[2] = <real*>p.moment2
    for u in range(first, unit_share(p, member + 1, size)):
        if p.hyper.clip_adaptive < INFINITY and (u == first or p.units[u].row == 0):
            clipped = adaptive_factors(p, u, factors)
        c = coefficients(p, pace, &p.units[u])
        for k in range(3):
            p.unit_reach[3 * u + k] = 0.0
        for i in range((p.units[u].size + TILE * TILE - 1) // (TILE * TILE)):
            start = p.units[u].offset + i * TILE * TILE
            n = chunk_size(i * TILE * TILE, p.units[u].size)
            for k in range(3):
                if arenas[k] != NULL:
                    memcpy(copies + k * CHUNK, arenas[k] + start, n * sizeof(real))
            update_slice(&p.hyper, c, factors if clipped else NULL, copies, <const real*>p.gradients + start,
                         copies + CHUNK, copies + 2 * CHUNK, n)
            for k in range(3):
                if arenas[k] != NULL:
                    peak = magnitude(copies + k * CHUNK, n)
                    p.unit_reach[3 * u + k] = peak if peak > p.unit_reach[3 * u + k] else p.unit_reach[3 * u + k]


cdef bint running_fits(const Program* p, index rows) noexcept nogil:
    # Whether the running statistics stay finite; a batch's variance may not fit the dtype.
    cdef real mean[32]
    cdef real variance[32]
    cdef const real* running
    cdef const Op* op
    cdef index i, panel, panels, c
    for i in range(p.n_ops):
        op = &p.ops[i]
        if op.kind == BATCH_NORM:
            panels = panels_of(op.columns_out)
            for panel in range(panels):
                running = <const real*>p.state + op.state + panel * TILE
                memcpy(mean, running, TILE * sizeof(real))
                memcpy(variance, running + panels * TILE, TILE * sizeof(real))
                update_running(mean, variance, saved_row(p, op, 0) + panel * TILE, saved_row(p, op, 1) + panel * TILE,
                               TILE, rows, op.momentum)
                for c in range(TILE):
                    if not (isfinite(mean[c]) and isfinite(variance[c])):
                        return False
    return True


cdef bint update_fits(Program* p, Team* team, int member, index rows, double norm, const Pace* pace,
                      double* reach) noexcept nogil:
    # The same answer, and the same new bounds, in every thread.  No element of the gradient is larger than its norm.
    cdef index u, k
    for k in range(3):
        reach[k] = p.reach[k]
    if p.mode & BATCH_STATISTICS and not running_fits(p, rows):
        return False
    if bound_step(reach, norm, &p.hyper, &pace.all) < (3.4e38 / 4 if REAL_IS_SINGLE else 1.79e308 / 4):
        return True
    try_update(p, member, team.size, pace)
    meet(team)
    for k in range(3):
        reach[k] = 0.0
        for u in range(p.n_units):
            reach[k] = p.unit_reach[3 * u + k] if p.unit_reach[3 * u + k] > reach[k] else reach[k]
    return isfinite(reach[0] + reach[1] + reach[2])


cdef void update_pass(Program* p, int member, int size, const Pace* pace) noexcept nogil:
    cdef index u
    cdef const Unit* unit
    cdef bint clipped = False
    cdef double factors[32]
    cdef index first = unit_share(p, member, size)
    for u in range(first, unit_share(p, member + 1, size)):
        unit = &p.units[u]
        if p.hyper.clip_adaptive < INFINITY and (u == first or unit.row == 0):
            clipped = adaptive_factors(p, u, factors)
        update_unit(p, u, coefficients(p, pace, unit), factors if clipped else NULL)


cdef void update_unit(Program* p, index u, const Coefficients* c, const double* columns) noexcept nogil:
    # Tile by tile, each with its transposed copy
    cdef const Unit* unit = &p.units[u]
    cdef const Op* op = &p.ops[unit.op]
    cdef real* w = <real*>p.parameters + unit.offset
    cdef const real* g = <const real*>p.gradients + unit.offset
    cdef real* first = <real*>p.moment1 + unit.offset if p.moment1 != NULL else NULL
    cdef real* second = <real*>p.moment2 + unit.offset if p.moment2 != NULL else NULL
    cdef bint measure = (p.mode & FULL) != 0, transposed = unit.rows > 0 and op.transposed >= 0
    cdef real old[CHUNK]
    cdef double unused
    cdef index start = 0, n, i
    if measure:
        p.weight_squares[u] = sum_squares(w, unit.size, &unused, NULL)
        p.update_squares[u] = 0.0
    while start < unit.size:
        n = chunk_size(start, unit.size)
        if transposed and p.parameter_size > SECOND_CACHE:
            fetch_transposed_tile(p, op, unit, unit.row + start // TILE)
        if measure:
            memcpy(old, w + start, n * sizeof(real))
        update_slice(&p.hyper, c, columns, w + start, g + start, first + start if first != NULL else NULL,
                     second + start if second != NULL else NULL, n)
        if transposed:
            refresh_transposed(p, op, unit, unit.row + start // TILE, n // TILE)
        if measure:
            for i in range(n):
                old[i] = w[start + i] - old[i]
            p.update_squares[u] += sum_squares(old, n, &unused, NULL)
        start += n


cdef void running_statistics(Program* p, index rows) noexcept nogil:
    cdef index i, n
    cdef const Op* op
    for i in range(p.n_ops):
        op = &p.ops[i]
        if op.kind == BATCH_NORM:
            n = panels_of(op.columns_out) * TILE
            update_running(<real*>p.state + op.state, <real*>p.state + op.state + n,
                           saved_row(p, op, 0), saved_row(p, op, 1), n, rows, op.momentum)


cdef void book_gradients(Program* p, bint applied, index rows) noexcept nogil:
    # The ledger's entries about parameters.
    cdef index i
    for i in range(p.n_ops):
        if p.ops[i].weight >= 0:
            if p.mode & FULL:
                book_full(p, i, applied)
                book_usable(p, i, rows)
            else:
                book_light(p, i)


cdef bint weight_unit(const Program* p, index u, index i) noexcept nogil:
    # whether unit u is of the weights (or gamma) of op i
    return p.units[u].op == i and (p.ops[i].bias < 0 or p.units[u].offset != p.ops[i].bias)


cdef void book_light(Program* p, index i) noexcept nogil:
    # Norm and extreme from what the units left behind; nothing is read again unless that is not finite.
    cdef Record* record = &p.records[i]
    cdef double squares = 0.0, peak = 0.0, bottom = INFINITY
    cdef index u = first_unit(p, i)
    while u < p.n_units and p.units[u].op == i:
        if weight_unit(p, u, i):
            squares += p.unit_books[u]
            peak = p.unit_peaks[u] if p.unit_peaks[u] > peak else peak
            bottom = p.unit_bottoms[u] if p.unit_bottoms[u] < bottom else bottom
        else:
            record.bias_gradient = sqrt(p.unit_books[u])
        u += 1
    if not (peak == 0.0 or 1e-200 < squares < 1e200):
        fold_gradient(p, i)
        return
    record.weight_gradient.norm = sqrt(squares)
    record.weight_gradient.max_abs = peak
    record.weight_gradient.min_abs = bottom if peak > 0.0 else 0.0
    record.weight_gradient.signal = record.weight_gradient.zeros = record.weight_gradient.subnormals = NAN
    record.weight_gradient.infs = record.weight_gradient.nans = 0.0


cdef index first_unit(const Program* p, index i) noexcept nogil:
    # units are in the order of the ops
    cdef index low = 0, high = p.n_units, middle
    while low < high:
        middle = (low + high) // 2
        if p.units[middle].op < i:
            low = middle + 1
        else:
            high = middle
    return low


cdef void fold_gradient(Program* p, index i) noexcept nogil:
    cdef const Op* op = &p.ops[i]
    cdef FoldPart* parts = <FoldPart*>p.parts
    cdef index rows = op.columns_in if op.kind == DENSE else 1, panel
    for panel in range(panels_of(op.columns_out)):
        parts[panel] = fold_panel(<const real*>p.gradients + op.weight + panel * rows * TILE, rows,
                                  used_columns(op.columns_out, panel), False, False)
    p.records[i].weight_gradient = fold_finish(parts, panels_of(op.columns_out), rows, op.columns_out, False)
    if op.bias >= 0:
        p.records[i].bias_gradient = safe_norm(<const real*>p.gradients + op.bias, panels_of(op.columns_out) * TILE)


cdef void book_usable(Program* p, index i, index rows) noexcept nogil:
    # Norm of the centred weight gradient, also where its squares leave the range of double.
    cdef const Op* op = &p.ops[i]
    cdef double squares, factor = 1.0
    if op.kind != DENSE or op.bias < 0:
        return
    squares = centred_squares(p, op, rows, 1)
    if not safe_squares(squares) and squares == squares and not REAL_IS_SINGLE:
        factor = ldexp(1.0, -600 if squares > 1.0 else 600)
        squares = centred_squares(p, op, rows, <real>factor)
    p.records[i].usable = sqrt(squares) / factor


cdef void book_full(Program* p, index i, bint applied) noexcept nogil:
    cdef const Op* op = &p.ops[i]
    cdef index rows = op.columns_in if op.kind == DENSE else 1, u = first_unit(p, i)
    cdef double moved = 0.0
    fold_gradient(p, i)
    p.records[i].update = NAN
    if not applied:
        p.records[i].weight = safe_norm(<const real*>p.parameters + op.weight,
                                        panels_of(op.columns_out) * rows * TILE)
        return
    p.records[i].weight = 0.0
    while u < p.n_units and p.units[u].op == i:
        if weight_unit(p, u, i):
            moved += p.update_squares[u]
            p.records[i].weight += p.weight_squares[u]
        u += 1
    p.records[i].update = sqrt(moved)
    p.records[i].weight = sqrt(p.records[i].weight)


# ------------------------------------------------------------------ the jobs


cdef void finish_step(Program* p, Team* team, int member, index rows, uint64_t step, double* norm_out,
                      double* loss_out) noexcept nogil:
    # From deltas to new weights: gradients, their norm, and the update where all of that is finite.
    cdef double norm, loss
    cdef double reach[3]
    cdef bint finite, applied
    cdef Pace pace
    cdef index k
    meet(team)                                     # deltas are complete
    if not gradients_at_once(p, team):
        gradient_pass(p, member, team.size, rows)
    meet(team)                                     # gradients are complete
    norm = gradient_norm(p)
    loss = total_loss(p, rows)
    finite = isfinite(norm) and (isfinite(loss) or not has_targets(p))
    applied = False
    if finite and p.mode & UPDATE:
        pace = pace_of(&p.hyper, norm, step)
        if p.hyper.clip_adaptive < INFINITY:
            norms_pass(p, member, team.size)
            meet(team)
        finite = applied = update_fits(p, team, member, rows, norm, &pace, reach)
        if applied:
            update_pass(p, member, team.size, &pace)
    meet(team)                                     # weights are complete
    if member == 0:
        if applied:
            for k in range(3):
                p.reach[k] = reach[k]
            if p.mode & BATCH_STATISTICS:
                running_statistics(p, rows)
        if probing(p):
            book_gradients(p, applied, rows)
        norm_out[0] = norm
        loss_out[0] = loss
        p.status = DONE if finite else NONFINITE
    meet(team)


cdef void begin_job(Program* p) noexcept nogil:
    if p.job in (TRAIN, COURSE) and p.ring != NULL:
        aim_probe(p, 0)
    p.lean = p.job in (TRAIN, COURSE, FORWARD_BATCH, BACKWARD_BATCH, INPUT_DELTAS) and not probing(p)


cdef void aim_probe(Program* p, index done) noexcept nogil:
    # Where the step after `done` of this run is booked, if at all.
    cdef int64_t number = p.seen + done + 1
    p.mode = p.mode & ~<int64_t>(LIGHT | FULL)
    if number % p.every == 0:
        p.mode = p.mode | p.probe_mode
        p.records = p.ring + (number // p.every - 1) % p.slots * (p.n_ops + 1)
    p.lean = not probing(p)


cdef void step(Program* p, Team* team, int member, index start, index rows, index done) noexcept nogil:
    # One training step over order[start:start + rows], the one after `done` of this run.
    cdef index first = share(rows, member, team.size), last = share(rows, member + 1, team.size)
    gather(p, start, first, last)
    gather_targets(p, start, first, last)
    forward_pass(p, team, member, rows, first, last, p.n_ops, True, <uint32_t>(p.step + done))
    loss_pass(p, start, rows, first, last)
    if member == 0 and p.step_weights != NULL:
        p.step_weights[done] = weight_of(p, start, rows)
    backward_pass(p, team, member, rows, first, last)
    finish_step(p, team, member, rows, p.step + done, &p.norms[done], &p.losses[done])
    if member == 0:
        p.steps_done = done + 1


cdef void aim_next(Program* p, Team* team, int member, index done) noexcept nogil:
    if p.ring != NULL:
        if member == 0:
            aim_probe(p, done)
        meet(team)


cdef void train(Program* p, Team* team, int member) noexcept nogil:
    cdef index start = p.first, rows, done = 0
    while start < p.end:
        rows = p.end - start if p.end - start < p.batch else p.batch
        step(p, team, member, start, rows, done)
        done += 1
        start += rows
        if p.status != DONE:
            break
        aim_next(p, team, member, done)
    meet(team)


cdef void begin_epoch(Program* p, Team* team, int member) noexcept nogil:
    if p.shuffle:
        if member == 0:
            shuffle_rows(p.shuffled, p.rows, p.n_rows, p.order_seed, p.order_number + <uint64_t>p.epoch)
        meet(team)


cdef void train_course(Program* p, Team* team, int member) noexcept nogil:
    cdef index at = p.at, last_at = p.last_at, rows, done = 0
    cdef double rate = p.hyper.lr
    meet(team)                                     # everybody has read where it stands
    p.order = p.shuffled
    while done < p.limit:
        if at == 0:
            begin_epoch(p, team, member)
        rows = p.n_rows - at if p.n_rows - at < p.batch else p.batch
        if p.merge_single and p.n_rows - at == rows + 1:
            rows += 1
        if p.rates != NULL and member == 0:        # (read after the deltas are complete)
            p.hyper.lr = rate * p.rates[done]
        step(p, team, member, at, rows, done)
        last_at = at
        at += rows
        done += 1
        if at == p.n_rows:
            at = 0
            if member == 0:
                p.epoch += 1
        if p.status != DONE:
            break
        aim_next(p, team, member, done)
    meet(team)
    if member == 0:
        p.at = at
        p.last_at = last_at


cdef void observe(Program* p, Team* team, int member) noexcept nogil:
    cdef index rows = p.end - p.first
    cdef index first = share(rows, member, team.size), last = share(rows, member + 1, team.size)
    gather(p, p.first, first, last)
    if p.stop >= 0:
        forward_pass(p, team, member, rows, first, last, p.stop + 1, True, <uint32_t>p.step)
        meet(team)
        return
    gather_targets(p, p.first, first, last)
    forward_pass(p, team, member, rows, first, last, p.n_ops, True, <uint32_t>p.step)
    loss_pass(p, p.first, rows, first, last)
    if p.backward:
        backward_pass(p, team, member, rows, first, last)
        if p.until > 0:
            meet(team)
            return
        finish_step(p, team, member, rows, p.step, p.norms, &p.loss_value)
        return
    meet(team)
    if member == 0:
        p.loss_value = total_loss(p, rows)


cdef void infer(Program* p, Team* team, int member) noexcept nogil:
    cdef index start = p.first, rows, first, last
    while start < p.end:
        rows = p.end - start if p.end - start < p.capacity else p.capacity
        first = share(rows, member, team.size)
        last = share(rows, member + 1, team.size)
        gather(p, start, first, last)
        forward_pass(p, team, member, rows, first, last, p.n_ops, False, <uint32_t>p.step)
        scatter_result(p, start, first, last)
        start += rows
        if p.mode & BATCH_STATISTICS or p.end - start < p.capacity:
            meet(team)                             # a shorter chunk is dealt out differently


cdef void forward_batch(Program* p, Team* team, int member) noexcept nogil:
    cdef index rows = p.end - p.first
    cdef index first = share(rows, member, team.size), last = share(rows, member + 1, team.size)
    gather(p, p.first, first, last)
    forward_pass(p, team, member, rows, first, last, p.n_ops, True, <uint32_t>p.step)
    scatter_result(p, 0, first, last)


cdef void backward_batch(Program* p, Team* team, int member) noexcept nogil:
    cdef index rows = p.end - p.first
    cdef index first = share(rows, member, team.size), last = share(rows, member + 1, team.size)
    gather_output_deltas(p, 0, first, last)
    backward_pass(p, team, member, rows, first, last)
    finish_step(p, team, member, rows, p.step, p.norms, &p.loss_value)


cdef void input_deltas(Program* p, Team* team, int member) noexcept nogil:
    cdef index start = p.first, rows, first, last
    while start < p.end:
        rows = p.end - start if p.end - start < p.capacity else p.capacity
        first = share(rows, member, team.size)
        last = share(rows, member + 1, team.size)
        gather(p, start, first, last)
        forward_pass(p, team, member, rows, first, last, p.n_ops, True, <uint32_t>p.step)
        gather_output_deltas(p, start, first, last)
        backward_pass(p, team, member, rows, first, last)
        scatter(p, <const real*>p.deltas, p.columns_in, start, first, last)
        start += rows
        meet(team)                                 # a shorter chunk is dealt out differently


cdef void transpose_all(Program* p, int member, int size) noexcept nogil:
    cdef const Unit* unit
    cdef index u, start
    for u in range(unit_share(p, member, size), unit_share(p, member + 1, size)):
        unit = &p.units[u]
        if unit.rows and p.ops[unit.op].transposed >= 0:
            start = 0
            while start < unit.size:
                refresh_transposed(p, &p.ops[unit.op], unit, unit.row + start // TILE, chunk_size(start, unit.size) // TILE)
                start += TILE * TILE


cdef struct Task:
    Program* program
    Team* team


cdef void work(void* argument, int member, int size) noexcept nogil:
    cdef Program* p = (<Task*>argument).program
    cdef Team* team = (<Task*>argument).team
    if p.job == TRAIN:
        train(p, team, member)
    elif p.job == COURSE:
        train_course(p, team, member)
    elif p.job == FORWARD:
        infer(p, team, member)
    elif p.job == OBSERVE:
        observe(p, team, member)
    elif p.job == FORWARD_BATCH:
        forward_batch(p, team, member)
    elif p.job == BACKWARD_BATCH:
        backward_batch(p, team, member)
    elif p.job == TRANSPOSE:
        transpose_all(p, member, size)
    elif p.job == INPUT_DELTAS:
        input_deltas(p, team, member)


cdef void run(Program* program, void* team) noexcept nogil:
    cdef Task task
    begin_job(program)
    task.program = program
    task.team = <Team*>team
    team_run(task.team, work, &task)


cdef struct Courses:
    Program** programs
    index count
    long taken


cdef void work_courses(void* argument, int member, int size) noexcept nogil:
    # Each takes the next course and runs it alone.
    cdef Courses* courses = <Courses*>argument
    cdef Program* p
    cdef Team alone
    cdef long next
    alone.size = 1
    while True:
        next = counter_add(&courses.taken, 1) - 1
        if next >= courses.count:
            return
        p = courses.programs[next]
        begin_job(p)
        train_course(p, &alone, 0)


cdef void run_courses(Program** programs, index count, void* team) noexcept nogil:
    cdef Courses courses
    courses.programs = programs
    courses.count = count
    courses.taken = 0
    team_run(<Team*>team, work_courses, &courses)


cdef void* start(int size) noexcept nogil:
    return team_start(size)


cdef void stop(void* team) noexcept nogil:
    team_stop(<Team*>team)


# ------------------------------------------------------------------ the table

cdef Engine engine
engine.bits = 8 * sizeof(real)
engine.vector_bytes = LANES * sizeof(real)
engine.tile = TILE
engine.part_size = sizeof(FoldPart)
engine.run = run
engine.run_courses = run_courses
engine.team_start = start
engine.team_stop = stop
engine.tile_matrix = tile_matrix
engine.untile_matrix = untile_matrix
engine.matmul = plain_matmul
engine.activation = plain_activation
engine.softmax = plain_softmax
engine.softmax_backward = plain_softmax_backward
engine.loss = plain_loss
engine.fold = plain_fold
engine.sum_squares = plain_sum_squares
engine.safe_norm = plain_safe_norm
engine.dot = plain_dot
engine.count_flat = plain_count_flat
engine.batch_norm_statistics = plain_batch_norm_statistics
engine.batch_norm_forward = plain_batch_norm_forward
engine.batch_norm_backward = plain_batch_norm_backward
engine.layer_norm_forward = plain_layer_norm_forward
engine.layer_norm_backward = plain_layer_norm_backward
engine.update_running = plain_update_running
engine.dropout = plain_dropout
engine.update = plain_update
engine.clip_by_value = plain_clip_by_value
engine.scale_by = plain_scale_by
engine.all_finite = plain_all_finite
engine.largest = plain_largest
engine.above_zero = plain_above_zero
TABLE = PyCapsule_New(&engine, "gradcore.kernels.engine", NULL)
