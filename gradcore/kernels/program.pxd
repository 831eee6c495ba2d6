# A program: a plan bound to its arenas, its data and the switches of one run.  The door fills it, the engine runs it.
# Nothing here depends on the dtype, so that the door (compiled once) and every engine agree on it.
from libc.stdint cimport int64_t, uint32_t, uint64_t

from .types cimport Fold, Hyper, Op, Record, index

# A share of the parameters that one thread computes the gradient of and updates: some rows of one panel of a
# weight matrix, or a whole bias, gamma or beta.
cdef struct Unit:
    int64_t op
    int64_t offset             # first real in the parameter arenas
    int64_t size               # reals
    int64_t panel              # dense weights: which panel …
    int64_t row                # … first row of it (an input of the layer) …
    int64_t rows               # … and how many; 0: not a weight matrix

cdef enum Job:
    FORWARD = 0                # inference over data[first:end], in chunks of capacity, into `result`
    TRAIN = 1                  # whole training steps over order[first:end]
    OBSERVE = 2                # forward, loss and backward of one batch; no update
    FORWARD_BATCH = 3          # the two-part step: forward of one batch …
    BACKWARD_BATCH = 4         # … then backward from a given dL/d(output), gradients, update
    TRANSPOSE = 5              # refresh the transposed weights
    COURSE = 6                 # the next steps of a course of epochs
    INPUT_DELTAS = 7           # dL/d(input) of data[first:end] from dL/d(output), in chunks, into `result`

cdef struct Program:
    # the plan
    const Op* ops
    index n_ops
    index capacity             # rows of the workspace
    index columns_in
    index columns_out
    index parameter_size
    int64_t loss               # LossCode
    bint loss_sum              # sum instead of mean
    double loss_parameter      # delta, q; of cross-entropy the label smoothing
    index target_columns       # elements of a target: columns_out, half of that for GAUSSIAN_NLL
    # the arenas
    void* parameters
    void* gradients
    void* moment1
    void* moment2
    void* transposed
    void* state
    void* saved
    void* activations
    void* deltas
    void* targets              # targets of the batch, tiled
    int64_t* labels            # labels of the batch
    double* weights            # of the rows of the batch
    double* row_losses
    # the shares
    Unit* units
    index n_units
    const int64_t* shares      # where each thread's units begin, one more than there are threads
    double* unit_squares       # sum of squares of each unit's gradient
    double* unit_books         # ledger: the same, in double throughout
    double* unit_peaks         # ledger: its largest magnitude
    double* unit_bottoms       # ledger: its smallest one that is not zero
    double* update_squares     # ledger: of each unit's update …
    double* weight_squares     # … and of its weights
    double* unit_norms         # adaptive clipping: norms of each unit's columns, TILE of the weights, TILE of the gradient
    double* unit_reach         # the largest magnitudes a tried update gave its parameters, moment1, moment2
    void* parts                # ledger: one FoldPart per panel
    # the data
    const void* data           # elements; of sparse rows the values that are stored, reals
    int64_t data_element       # Element
    index data_row_step        # elements
    index data_column_step
    const void* data_starts    # sparse rows: where each begins among the values; NULL: not sparse …
    const void* data_columns   # … and the column of each value,
    bint data_wide             # both int64_t, else int32_t
    const int64_t* data_labels
    const void* data_values    # reals, rows * target_columns (BACKWARD_BATCH: dL/d(output), rows * columns_out)
    const double* data_weights # how often each row counts; NULL: once
    const int64_t* order       # which rows, in which order; NULL: as they come
    index first
    index end
    index batch
    void* result               # FORWARD: rows * columns_out reals; INPUT_DELTAS: rows * columns_in
    # the course: epochs over the same rows, in an order of its own each
    const int64_t* rows
    int64_t* shuffled          # … in the order of the present epoch; without shuffle the same
    index n_rows
    bint shuffle               # else as they come
    bint merge_single          # a single last row joins the batch before it
    uint64_t order_seed
    uint64_t order_number      # of the generator of epoch 0
    int64_t epoch
    index at                   # rows of the present epoch that are done
    index last_at              # where the last batch began
    index limit                # steps wanted
    const double* rates        # factor on the learning rate of each step; NULL: 1
    # the switches
    int64_t job
    int64_t mode               # Mode
    int64_t stop               # OBSERVE: last op to run forward; -1: all, and backward
    bint backward              # OBSERVE: also the gradients
    int64_t until              # OBSERVE: last op to run backward, without gradients of parameters; 0: all, with them
    bint lean                  # nobody looks at the slopes of this step
    Hyper hyper
    uint64_t seed
    uint64_t step              # number of the first step, from 1
    # what comes back
    double* losses
    double* norms
    double* step_weights       # COURSE: the sum of the weights of each step's rows; NULL: not wanted
    index steps_done
    int64_t status             # Status
    double loss_value
    Record* records            # n_ops + 1; the last one's output folds the input
    Record* ring               # TRAIN: `slots` of those, one for each probed step; NULL: every step writes `records` …
    index slots
    int64_t every              # … else the steps whose number, counted on from `seen`, this divides …
    int64_t seen
    int64_t probe_mode         # … are booked at this level
    double reach[3]            # upper bounds of abs(parameters), abs(moment1), abs(moment2); inf: not known

# What an engine offers to the door: the runner of programs, and each kernel on plain arrays.  `reals` are float or
# double, as the engine is; matrices are (rows, columns), C-contiguous; an int result is 0, or -1 without memory.
cdef struct Engine:
    int bits
    int vector_bytes
    int tile
    size_t part_size           # of a FoldPart
    void (*run)(Program* program, void* team) noexcept nogil
    void (*run_courses)(Program** programs, index count, void* team) noexcept nogil
    void* (*team_start)(int size) noexcept nogil
    void (*team_stop)(void* team) noexcept nogil
    void (*tile_matrix)(void* to, const void* source, index row_step, index column_step, index rows, index columns) noexcept nogil
    void (*untile_matrix)(void* to, const void* source, index rows, index columns) noexcept nogil
    int (*matmul)(void* c, const void* a, const void* b, index rows, index depth, index columns, bint transpose_a) noexcept nogil
    void (*activation)(int code, double parameter, const void* z, void* a, void* slope, index n) noexcept nogil
    int (*softmax)(void* y, const void* x, index rows, index columns) noexcept nogil
    int (*softmax_backward)(void* d_x, const void* y, const void* d_y, index rows, index columns) noexcept nogil
    int (*loss)(int code, double parameter, void* gradient, double* losses, const void* output, const int64_t* labels,
                const void* targets, const double* weights, index rows, index columns, double scale) noexcept nogil
    int (*fold)(Fold* result, const void* x, index rows, index columns, bint with_signal, bint full) noexcept nogil
    double (*sum_squares)(const void* x, index n, double* peak) noexcept nogil
    double (*safe_norm)(const void* x, index n) noexcept nogil
    double (*dot)(const void* a, const void* b, index n) noexcept nogil
    index (*count_flat)(const void* slope, index n, double bound) noexcept nogil
    int (*batch_norm_statistics)(void* mean, void* variance, void* inverse, void* shift, const void* x, index rows,
                                 index columns, double eps) noexcept nogil
    int (*batch_norm_forward)(void* y, const void* x, const void* mean, const void* inverse, const void* shift,
                              const void* gamma, const void* beta, index rows, index columns) noexcept nogil
    int (*batch_norm_backward)(void* d_x, void* d_gamma, void* d_beta, const void* d_y, const void* x, const void* mean,
                               const void* inverse, const void* shift, const void* gamma, index rows, index columns,
                               bint batch_statistics) noexcept nogil
    int (*layer_norm_forward)(void* y, void* mean, void* inverse, void* shift, const void* x, const void* gamma,
                              const void* beta, index rows, index columns, double eps) noexcept nogil
    int (*layer_norm_backward)(void* d_x, void* d_gamma, void* d_beta, const void* d_y, const void* x, const void* mean,
                               const void* inverse, const void* shift, const void* gamma, index rows,
                               index columns) noexcept nogil
    void (*update_running)(void* running_mean, void* running_variance, const void* mean, const void* variance, index n,
                           index rows, double momentum) noexcept nogil
    int (*dropout)(void* y, void* slope, const void* x, index rows, index columns, double rate, uint64_t seed,
                   uint64_t step, uint32_t op) noexcept nogil
    void (*update)(void* p, const void* g, void* first, void* second, index n, const Hyper* h, double scale,
                   uint64_t step) noexcept nogil
    void (*clip_by_value)(void* x, index n, double bound) noexcept nogil
    void (*scale_by)(void* x, index n, double factor) noexcept nogil
    bint (*all_finite)(const void* x, index n) noexcept nogil
    void (*largest)(int64_t* codes, const void* outputs, index rows, index columns) noexcept nogil
    void (*above_zero)(int64_t* codes, const void* outputs, index n) noexcept nogil
