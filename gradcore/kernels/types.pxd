# The vocabulary of the compiled half that does not depend on the dtype: the op table, the books, the switches.
# Everything above (compiler.py, plan.py, ledger.py) reads these names through door.pyx, so they cannot drift.
from libc.stdint cimport int64_t

ctypedef Py_ssize_t index

cdef enum OpKind:
    DENSE = 0
    ACTIVATION = 1
    BATCH_NORM = 2
    DROPOUT = 3
    FORK = 4           # where a residual block begins: its input feeds both the branch and the join
    JOIN = 5           # where it ends: output = input of the block + scale * end of the branch
    LAYER_NORM = 6

cdef enum ActivationCode:
    IDENTITY = 0
    SIGMOID = 1
    TANH = 2
    RELU = 3
    LEAKY_RELU = 4
    SELU = 5
    ELU = 6
    GELU = 7
    EXPONENTIAL = 8
    GELU_TANH = 9
    SILU = 10
    MISH = 11
    SOFTPLUS = 12
    LOG_SIGMOID = 13
    SOFTSIGN = 14
    RELU6 = 15
    HARD_TANH = 16
    HARD_SIGMOID = 17
    HARD_SILU = 18
    CELU = 19
    SOFTMAX = 20       # the last: over a row, not element by element; only as a layer

cdef enum LossCode:
    CROSS_ENTROPY = 0          # softmax with cross-entropy, from logits; class indices, or a row of probabilities
    BINARY_CROSS_ENTROPY = 1   # from logits; targets in [0, 1]
    MEAN_SQUARED_ERROR = 2
    NO_LOSS = 3                # the caller hands dL/d(output) in (the stepper's two-part form)
    MEAN_ABSOLUTE_ERROR = 4
    HUBER = 5                  # parameter: delta
    POISSON = 6                # outputs are logarithms of rates
    QUANTILE = 7               # parameter: q
    GAUSSIAN_NLL = 8           # outputs are means, then as many logarithms of variances

cdef enum OptimizerCode:
    SGD = 0
    ADAM = 1
    ADAMW = 2
    RMSPROP = 3
    ADAGRAD = 4
    LION = 5

# Parameters that weight decay and l1 leave alone (a sum of powers of two)
cdef enum Exempt:
    BIASES = 1
    NORMS = 2                  # gamma and beta

# Switches of one run (a sum of powers of two)
cdef enum Mode:
    BATCH_STATISTICS = 1       # batch norm normalises by this batch, not by the running statistics
    DROP = 2                   # dropout drops
    UPDATE = 4                 # clip, optimizer, running statistics
    LIGHT = 8                  # fill the light ledger
    FULL = 16                  # fill the full ledger
    INPUT_GRADIENT = 32        # also dL/d(input of the network)

# What one value of the data is: float, signed or unsigned integer (bool among them), and its bytes.
cdef enum Element:
    READ_F2 = 0
    READ_F4 = 1
    READ_F8 = 2
    READ_I1 = 3
    READ_I2 = 4
    READ_I4 = 5
    READ_I8 = 6
    READ_U1 = 7
    READ_U2 = 8
    READ_U4 = 9
    READ_U8 = 10

cdef enum Status:
    DONE = 0
    NONFINITE = 1              # loss, gradient or update of this step is not finite; the step was not applied

# A matrix (rows, columns) is stored in panels of TILE columns; a panel is its rows one after the other, TILE
# reals each.  The pad columns of the last panel hold zeros, always: whoever writes the last panel clears them.
# Activations and deltas: a slot is named by the panel columns before it, so its first real lies at
# slot * capacity and its panels are capacity * TILE reals apart, whatever the size of this batch.
# Parameters and gradients: a slot is an offset in reals; a weight matrix has rows = inputs, columns = units.
cdef struct Op:
    int64_t kind
    int64_t code               # ActivationCode
    int64_t columns_in         # true columns, without pads
    int64_t columns_out
    int64_t input              # slots of activations: where this op reads …
    int64_t output             # … and writes (an activation after a dense op works in place: output == input)
    int64_t d_input            # slots of deltas: dL/d(input) … (activation and dropout keep their slope here until
    int64_t d_output           # … and dL/d(output)              backward multiplies it by dL/d(output))
    int64_t weight             # parameters: weight matrix; gamma of a norm; -1: none
    int64_t bias               # bias; beta; -1: none
    int64_t transposed         # the same weights transposed (rows = units), for the delta; -1: not needed
    int64_t state              # batch norm: running mean, then running variance
    int64_t saved              # batch norm: batch mean, batch variance, inverse, shift (normalization.pxd); layer norm: a slot
                               # of activations with mean, inverse and shift of every row, `capacity` reals each
    int64_t partner            # FORK: index of its JOIN; JOIN: of its FORK; a dense op right after a FORK: of that, when
                               # it makes the skip (instead of the block's input; the op after it reads that); else -1
    int64_t fused              # dense: 1 when the next op is an activation to be applied panel by panel
    double parameter           # activation's parameter; rate of dropout; scale of a join
    double momentum            # batch norm
    double eps                 # of a norm

# What one pass over a matrix finds (DESIGN: signal, scale, headroom, underflow). Pads are not counted.
cdef struct Fold:
    double norm                # Frobenius norm
    double signal              # rms after subtracting each column's mean over the rows; NaN for one row
    double max_abs
    double min_abs             # smallest non-zero magnitude; 0 when there is none
    double zeros               # counts, always exact; NaN when nothing was folded
    double subnormals
    double infs
    double nans

cdef struct Record:            # the books of one op
    Fold output                # of the forward pass
    Fold d_output              # dL/d(output)
    Fold d_input               # dL/d(input)
    Fold weight_gradient
    double bias_gradient       # norm of the bias gradient
    double weight              # norm of the weights before the step
    double update              # norm of the weight update of this step; NaN when nothing was applied
    double usable              # dense with bias: norm of the centred weight gradient, Σ (a - mean a) δ; else NaN
    double flat                # elements whose abs(slope) is below 1 % of the function's largest; NaN when not counted
    double skip                # JOIN: norms of dL/d(block input) by the skip and by the branch …
    double branch
    double cosine              # … and their cosine

cdef struct Hyper:
    int64_t optimizer          # OptimizerCode
    double lr
    double momentum
    double nesterov            # 0 or 1
    double beta1
    double beta2
    double eps
    double lr_decay            # Adagrad
    double weight_decay
    double l1
    int64_t exempt             # Exempt
    double clip_norm           # inf: off
    double clip_value          # inf: off
    double clip_adaptive       # factor of adaptive clipping; inf: off
