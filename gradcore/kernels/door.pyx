# The door: the only module with Python functions, buffers and checks.  It is compiled once, opens the engine of the
# best instruction set this CPU has, checks what it is handed and calls through the engine's table with the GIL released.
#
# Buffers come through the buffer protocol, not through typed memoryviews: those cost seconds of compilation and, under
# the stable ABI, five times the time of a call.
from cpython.buffer cimport (
    PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBUF_STRIDES, PyBUF_WRITABLE, PyBuffer_Release, PyObject_CheckBuffer,
    PyObject_GetBuffer,
)
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.math cimport INFINITY, NAN
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t, uintptr_t

from .program cimport (
    BACKWARD_BATCH, COURSE, FORWARD, FORWARD_BATCH, INPUT_DELTAS, OBSERVE, TRAIN, TRANSPOSE, Engine, Program, Unit,
)
from .types cimport *

import importlib
import os

import numpy as np

cdef extern from *:
    """
    #include <string.h>
    #if defined(__x86_64__)
    static int cpu_runs(const char *level) {
        __builtin_cpu_init();
        if (!strcmp(level, "avx2")) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
        if (!strcmp(level, "avx512"))
            return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                   __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
        return 1;
    }
    #else
    static int cpu_runs(const char *level) { (void)level; return 1; }
    #endif
    #if defined(__clang__)
    #define COMPILER "clang " __clang_version__
    #else
    #define COMPILER "gcc " __VERSION__
    #endif
    #ifndef Py_LIMITED_API
    #define STABLE_ABI 0
    #else
    #define STABLE_ABI 1
    #endif
    """
    int cpu_runs(const char* level)
    const char* COMPILER
    const char* BUILT_LEVELS "GRADCORE_LEVELS"
    const char* BUILD "GRADCORE_BUILD"
    const bint STABLE_ABI

cdef extern from "<stdlib.h>" nogil:
    void* malloc(size_t size)
    void free(void* where)
    int posix_memalign(void** where, size_t alignment, size_t size)
cdef extern from "<string.h>" nogil:
    void* memset(void* where, int value, size_t size)

# ------------------------------------------------------------------ the vocabulary of types.pxd, for Python

OP_KINDS = {"dense": DENSE, "activation": ACTIVATION, "batch_norm": BATCH_NORM, "dropout": DROPOUT, "fork": FORK,
            "join": JOIN, "layer_norm": LAYER_NORM}
ACTIVATION_CODES = {"identity": IDENTITY, "sigmoid": SIGMOID, "tanh": TANH, "relu": RELU, "leaky_relu": LEAKY_RELU,
                    "selu": SELU, "elu": ELU, "gelu": GELU, "exponential": EXPONENTIAL, "gelu_tanh": GELU_TANH,
                    "silu": SILU, "mish": MISH, "softplus": SOFTPLUS, "log_sigmoid": LOG_SIGMOID,
                    "softsign": SOFTSIGN, "relu6": RELU6, "hard_tanh": HARD_TANH, "hard_sigmoid": HARD_SIGMOID,
                    "hard_silu": HARD_SILU, "celu": CELU, "softmax": SOFTMAX}
LOSS_CODES = {"cross_entropy": CROSS_ENTROPY, "binary_cross_entropy": BINARY_CROSS_ENTROPY,
              "mean_squared_error": MEAN_SQUARED_ERROR, "no_loss": NO_LOSS, "mean_absolute_error": MEAN_ABSOLUTE_ERROR,
              "huber": HUBER, "poisson": POISSON, "quantile": QUANTILE, "gaussian_nll": GAUSSIAN_NLL}
OPTIMIZER_CODES = {"sgd": SGD, "adam": ADAM, "adamw": ADAMW, "rmsprop": RMSPROP, "adagrad": ADAGRAD, "lion": LION}
EXEMPT = {"bias": BIASES, "norm": NORMS}
MODES = {"batch_statistics": BATCH_STATISTICS, "drop": DROP, "update": UPDATE, "light": LIGHT, "full": FULL,
         "input_gradient": INPUT_GRADIENT}

cdef enum Answer:              # of `Executor.quick`
    OUTPUTS = 0                # as they are; X may hold anything
    VALUES = 1                 # as they are
    LARGEST = 2                # of each row the column of the largest
    ABOVE_ZERO = 3             # of each output whether it is positive

ANSWERS = {"outputs": OUTPUTS, "values": VALUES, "largest": LARGEST, "above_zero": ABOVE_ZERO}


def _layout(total, fields):
    """A NumPy dtype from the offsets of a C struct, so that the two cannot drift."""
    return np.dtype({"names": [f[0] for f in fields], "formats": [f[1] for f in fields],
                     "offsets": [f[2] for f in fields], "itemsize": total})


cdef Op _op
cdef Fold _fold
cdef Record _record


cdef size_t _offset(void* start, void* field):
    return <size_t>(<char*>field - <char*>start)


FOLD_DTYPE = _layout(sizeof(Fold), [
    ("norm", "f8", _offset(&_fold, &_fold.norm)), ("signal", "f8", _offset(&_fold, &_fold.signal)),
    ("max_abs", "f8", _offset(&_fold, &_fold.max_abs)), ("min_abs", "f8", _offset(&_fold, &_fold.min_abs)),
    ("zeros", "f8", _offset(&_fold, &_fold.zeros)), ("subnormals", "f8", _offset(&_fold, &_fold.subnormals)),
    ("infs", "f8", _offset(&_fold, &_fold.infs)), ("nans", "f8", _offset(&_fold, &_fold.nans)),
])
RECORD_DTYPE = _layout(sizeof(Record), [
    ("output", FOLD_DTYPE, _offset(&_record, &_record.output)),
    ("d_output", FOLD_DTYPE, _offset(&_record, &_record.d_output)),
    ("d_input", FOLD_DTYPE, _offset(&_record, &_record.d_input)),
    ("weight_gradient", FOLD_DTYPE, _offset(&_record, &_record.weight_gradient)),
    ("bias_gradient", "f8", _offset(&_record, &_record.bias_gradient)),
    ("weight", "f8", _offset(&_record, &_record.weight)), ("update", "f8", _offset(&_record, &_record.update)),
    ("usable", "f8", _offset(&_record, &_record.usable)),
    ("flat", "f8", _offset(&_record, &_record.flat)), ("skip", "f8", _offset(&_record, &_record.skip)),
    ("branch", "f8", _offset(&_record, &_record.branch)), ("cosine", "f8", _offset(&_record, &_record.cosine)),
])
OP_DTYPE = _layout(sizeof(Op), [
    ("kind", "i8", _offset(&_op, &_op.kind)), ("code", "i8", _offset(&_op, &_op.code)),
    ("columns_in", "i8", _offset(&_op, &_op.columns_in)), ("columns_out", "i8", _offset(&_op, &_op.columns_out)),
    ("input", "i8", _offset(&_op, &_op.input)), ("output", "i8", _offset(&_op, &_op.output)),
    ("d_input", "i8", _offset(&_op, &_op.d_input)), ("d_output", "i8", _offset(&_op, &_op.d_output)),
    ("weight", "i8", _offset(&_op, &_op.weight)), ("bias", "i8", _offset(&_op, &_op.bias)),
    ("transposed", "i8", _offset(&_op, &_op.transposed)), ("state", "i8", _offset(&_op, &_op.state)),
    ("saved", "i8", _offset(&_op, &_op.saved)), ("partner", "i8", _offset(&_op, &_op.partner)),
    ("fused", "i8", _offset(&_op, &_op.fused)), ("parameter", "f8", _offset(&_op, &_op.parameter)),
    ("momentum", "f8", _offset(&_op, &_op.momentum)), ("eps", "f8", _offset(&_op, &_op.eps)),
])

# ------------------------------------------------------------------ engines

LEVELS_BUILT = tuple(BUILT_LEVELS.decode().split())
LEVELS_SUPPORTED = tuple(level for level in LEVELS_BUILT if cpu_runs(level.encode()))


def _choose_level():
    """The instruction set to use: GRADCORE_ISA, or the widest this CPU runs."""
    wanted = os.environ.get("GRADCORE_ISA", "")
    if not wanted:
        return LEVELS_SUPPORTED[len(LEVELS_SUPPORTED) - 1]
    if wanted not in LEVELS_BUILT:
        raise ImportError(f"GRADCORE_ISA={wanted!r} is not built; this build has {', '.join(LEVELS_BUILT)}")
    if wanted not in LEVELS_SUPPORTED:
        raise ImportError(f"GRADCORE_ISA={wanted!r} needs instructions this CPU does not have; "
                          f"it runs {', '.join(LEVELS_SUPPORTED)}")
    return wanted


cdef const Engine* _open(str level, str dtype) except NULL:
    module = importlib.import_module(f"gradcore.kernels.engine_{level}_{dtype}")
    return <const Engine*>PyCapsule_GetPointer(module.TABLE, "gradcore.kernels.engine")


LEVEL = _choose_level()
cdef const Engine* FLOAT = _open(LEVEL, "float32")
cdef const Engine* DOUBLE = _open(LEVEL, "float64")


cdef const Engine* _engine(char code) except NULL:
    if code == b"f":
        return FLOAT
    if code == b"d":
        return DOUBLE
    raise TypeError("kernels take float32 or float64 arrays")


def tile_width(dtype):
    """Columns of a panel, reals."""
    return _engine(ord(np.dtype(dtype).char)).tile


def info():
    """How the kernels were built and which are in use."""
    return {"level": LEVEL, "levels_built": LEVELS_BUILT, "levels_supported": LEVELS_SUPPORTED,
            "compiler": COMPILER.decode(), "build": BUILD.decode(), "stable_abi": bool(STABLE_ABI),
            "vector_bytes": FLOAT.vector_bytes, "tile": {"float32": FLOAT.tile, "float64": DOUBLE.tile}}


# ------------------------------------------------------------------ buffers


cdef class Buffers:
    """The buffers one call holds; released together."""

    cdef Py_buffer views[32]
    cdef int count

    def __dealloc__(self):
        self.release()

    cdef void release(self) noexcept:
        cdef int i
        for i in range(self.count):
            PyBuffer_Release(&self.views[i])
        self.count = 0

    cdef Py_buffer* take(self, object array, str name, bint write, bint strided=False) except NULL:
        cdef Py_buffer* view = &self.views[self.count]
        cdef int flags = PyBUF_FORMAT | (PyBUF_STRIDES if strided else PyBUF_C_CONTIGUOUS)
        if write:
            flags |= PyBUF_WRITABLE
        try:
            PyObject_GetBuffer(array, view, flags)
        except (BufferError, ValueError) as error:
            raise ValueError(f"{name}: {error}") from None
        self.count += 1
        return view

    cdef void* reals(self, object array, str name, char code, Py_ssize_t size, bint write) except? NULL:
        # Contiguous array of `size` reals (-1: any) of dtype `code`.
        cdef Py_buffer* view = self.take(array, name, write)
        if view.format[0] != code or view.format[1] != 0:
            raise TypeError(f"{name}: expected dtype {'float32' if code == b'f' else 'float64'}, "
                            f"got buffer format {view.format.decode()!r}")
        if size >= 0 and view.len != size * view.itemsize:
            raise ValueError(f"{name}: expected {size} elements, got {view.len // view.itemsize}")
        return view.buf

    cdef int64_t* integers(self, object array, str name, Py_ssize_t size) except? NULL:
        cdef Py_buffer* view = self.take(array, name, False)
        if view.itemsize != 8 or view.format[0] not in (b"l", b"q") or view.format[1] != 0:
            raise TypeError(f"{name}: expected dtype int64, got buffer format {view.format.decode()!r}")
        if size >= 0 and view.len != size * 8:
            raise ValueError(f"{name}: expected {size} elements, got {view.len // 8}")
        return <int64_t*>view.buf

    cdef Py_ssize_t size(self, int i) noexcept:
        return self.views[i].len // self.views[i].itemsize


_empty = np.empty
_ndarray = np.ndarray
_DTYPES = (np.dtype("f4"), np.dtype("f8"))
_INT64 = np.dtype("i8")


cdef bint _take_plain(object array, Py_buffer* view, char code, Py_ssize_t columns, Py_ssize_t most) except -1:
    # Whether this is a NumPy array of 1 to `most` rows that the kernels can take as it lies; only then `view` is held.
    if type(array) is not _ndarray:
        return False
    try:
        PyObject_GetBuffer(array, view, PyBUF_FORMAT | PyBUF_STRIDES)
    except (BufferError, ValueError):              # (dtypes without a buffer format)
        return False
    if (view.format[0] == code and view.format[1] == 0 and view.ndim == 2 and view.shape[1] == columns
            and 1 <= view.shape[0] <= most and <uintptr_t>view.buf % view.itemsize == 0
            and (view.strides[1] == view.itemsize or columns == 1)
            and (view.strides[0] == columns * view.itemsize or view.shape[0] == 1)):
        return True
    PyBuffer_Release(view)
    return False


cdef char _code(object array) except 0:
    cdef Buffers buffers = Buffers()
    cdef Py_buffer* view = buffers.take(array, "array", False, True)
    if view.format[0] not in (b"f", b"d") or view.format[1] != 0:
        raise TypeError(f"kernels take float32 or float64 arrays, got buffer format {view.format.decode()!r}")
    return view.format[0]


cdef int _element(const Py_buffer* view) noexcept:
    # Element of a buffer by kind and size; -1: none that can be read as it lies.
    cdef char code = view.format[0]
    cdef Py_ssize_t size = view.itemsize
    cdef int first
    if view.format[1] != 0:
        return -1
    if code in (b"e", b"f", b"d"):
        return READ_F2 if size == 2 else READ_F4 if size == 4 else READ_F8
    if code in (b"b", b"h", b"i", b"l", b"q"):
        first = READ_I1
    elif code in (b"B", b"H", b"I", b"L", b"Q", b"?"):
        first = READ_U1
    else:
        return -1
    return first + (0 if size == 1 else 1 if size == 2 else 2 if size == 4 else 3)


ctypedef fused place:
    int32_t
    int64_t


cdef int _check_sparse(const place* columns, const place* starts, Py_ssize_t rows, Py_ssize_t stored,
                       Py_ssize_t width) except -1:
    cdef Py_ssize_t i
    if starts[0] < 0 or starts[rows] > stored:
        raise ValueError("X: sparse rows that begin before or end after what is stored")
    for i in range(rows):
        if starts[i] > starts[i + 1]:
            raise ValueError(f"X: sparse row {i} ends before it begins")
    for i in range(<Py_ssize_t>starts[0], <Py_ssize_t>starts[rows]):
        if columns[i] < 0 or columns[i] >= width:
            raise ValueError(f"X: a sparse value lies in column {columns[i]} of {width}")
    return 0


cdef tuple _matrix_shape(object array, str name):
    shape = array.shape
    if len(shape) != 2:
        raise ValueError(f"{name}: expected two dimensions, got shape {tuple(shape)}")
    return shape[0], shape[1]


cdef Py_ssize_t _panels(Py_ssize_t columns, Py_ssize_t tile) noexcept:
    return (columns + tile - 1) // tile


cdef int _memory(int result) except -1:
    if result != 0:
        raise MemoryError("no memory for the workspace of this call")
    return 0


def aligned_zeros(Py_ssize_t n, dtype):
    """`n` zeros, the first one at a multiple of 64 bytes."""
    dtype = np.dtype(dtype)
    raw = np.zeros(n * dtype.itemsize + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + n * dtype.itemsize].view(dtype)


# ------------------------------------------------------------------ kernels on plain arrays


def tile(matrix, arena, Py_ssize_t offset):
    """Write a (rows, columns) array of any strides into panels at `offset` of the arena."""
    cdef Buffers buffers = Buffers()
    cdef char code = _code(arena)
    cdef const Engine* engine = _engine(code)
    cdef Py_ssize_t rows, columns, width
    rows, columns = _matrix_shape(matrix, "matrix")
    cdef Py_buffer* source = buffers.take(matrix, "matrix", False, True)
    cdef char* to = <char*>buffers.reals(arena, "arena", code, -1, True)
    if source.format[0] != code:
        raise TypeError(f"matrix: its dtype is not the arena's ({source.format.decode()!r})")
    width = _panels(columns, engine.tile) * engine.tile
    if offset < 0 or offset + rows * width > buffers.size(1):
        raise ValueError(f"arena: {rows} rows of {width} reals at {offset} do not fit into {buffers.size(1)}")
    engine.tile_matrix(to + offset * source.itemsize, source.buf, source.strides[0] // source.itemsize,
                       source.strides[1] // source.itemsize, rows, columns)


def untile(arena, Py_ssize_t offset, Py_ssize_t rows, Py_ssize_t columns):
    """A new (rows, columns) array from the panels at `offset` of the arena."""
    cdef Buffers buffers = Buffers()
    cdef char code = _code(arena)
    cdef const Engine* engine = _engine(code)
    cdef char* source = <char*>buffers.reals(arena, "arena", code, -1, False)
    cdef Py_ssize_t width = _panels(columns, engine.tile) * engine.tile
    if offset < 0 or rows < 0 or columns < 0 or offset + rows * width > buffers.size(0):
        raise ValueError(f"arena: {rows} rows of {width} reals at {offset} do not fit into {buffers.size(0)}")
    result = np.empty((rows, columns), "f4" if code == b"f" else "f8")
    engine.untile_matrix(buffers.reals(result, "result", code, -1, True),
                         source + offset * buffers.views[0].itemsize, rows, columns)
    return result


def untile_slot(arena, Py_ssize_t slot, Py_ssize_t capacity, Py_ssize_t rows, Py_ssize_t columns):
    """A new (rows, columns) array from a slot of activations or deltas, whose panels are `capacity` rows apart."""
    width = tile_width(arena.dtype)
    panels = _panels(columns, width)
    block = arena[slot * capacity : (slot + panels * width) * capacity].reshape(panels, capacity, width)
    return np.ascontiguousarray(block[:, :rows].transpose(1, 0, 2).reshape(rows, panels * width)[:, :columns])


def matmul(a, b, *, bint transpose_a=False):
    """A B, or A' B, through the tiled product."""
    cdef Buffers buffers = Buffers()
    cdef char code = _code(a)
    cdef const Engine* engine = _engine(code)
    cdef Py_ssize_t rows, depth, depth_b, columns
    rows, depth = _matrix_shape(a, "a")
    depth_b, columns = _matrix_shape(b, "b")
    if transpose_a:
        rows, depth = depth, rows
    if depth != depth_b:
        raise ValueError(f"a and b: inner sizes {depth} and {depth_b} differ")
    result = np.empty((rows, columns), "f4" if code == b"f" else "f8")
    cdef void* pa = buffers.reals(a, "a", code, -1, False)
    cdef void* pb = buffers.reals(b, "b", code, -1, False)
    cdef void* pc = buffers.reals(result, "result", code, -1, True)
    cdef int status
    with nogil:
        status = engine.matmul(pc, pa, pb, rows, depth, columns, transpose_a)
    _memory(status)
    return result


def activation(int code, double parameter, z, a, slope=None):
    """a = f(z) and, when asked, slope = f'(z), element by element; contiguous, `a` may be `z`."""
    cdef Buffers buffers = Buffers()
    cdef char dtype = _code(z)
    cdef const Engine* engine = _engine(dtype)
    cdef void* pz = buffers.reals(z, "z", dtype, -1, False)
    cdef Py_ssize_t n = buffers.size(0)
    cdef void* pa = buffers.reals(a, "a", dtype, n, True)
    cdef void* ps = NULL
    if slope is not None:
        ps = buffers.reals(slope, "slope", dtype, n, True)
    if code < 0 or code >= SOFTMAX:
        raise ValueError(f"code: {code} is not the code of an element-wise activation")
    with nogil:
        engine.activation(code, parameter, pz, pa, ps, n)
    return a


def softmax(x, out):
    """Softmax of every row."""
    cdef Buffers buffers = Buffers()
    cdef char code = _code(x)
    cdef const Engine* engine = _engine(code)
    cdef Py_ssize_t rows, columns
    rows, columns = _matrix_shape(x, "x")
    cdef void* px = buffers.reals(x, "x", code, -1, False)
    cdef void* py = buffers.reals(out, "out", code, rows * columns, True)
    cdef int status
    with nogil:
        status = engine.softmax(py, px, rows, columns)
    _memory(status)
    return out


def softmax_backward(y, d_y, out):
    """dL/dx of a softmax from its value y and dL/dy."""
    cdef Buffers buffers = Buffers()
    cdef char code = _code(y)
    cdef const Engine* engine = _engine(code)
    cdef Py_ssize_t rows, columns
    rows, columns = _matrix_shape(y, "y")
    cdef void* py = buffers.reals(y, "y", code, -1, False)
    cdef void* pd = buffers.reals(d_y, "d_y", code, rows * columns, False)
    cdef void* px = buffers.reals(out, "out", code, rows * columns, True)
    cdef int status
    with nogil:
        status = engine.softmax_backward(px, py, pd, rows, columns)
    _memory(status)
    return out


def row_losses(int loss, output, targets, losses, grad, double scale, *, double parameter=0.0, weights=None):
    """Loss of every row (summed over its columns); the gradient times `scale` where `grad` is given.

    `targets`: class indices (int64) or rows of probabilities for cross-entropy, numbers for the others.  `weights`
    (float64) multiply both; a row of weight 0 has neither, whatever it holds.
    """
    cdef Buffers buffers = Buffers()
    cdef char code = _code(output)
    cdef const Engine* engine = _engine(code)
    cdef Py_ssize_t rows, columns
    rows, columns = _matrix_shape(output, "output")
    cdef void* po = buffers.reals(output, "output", code, -1, False)
    cdef double* pl = <double*>buffers.reals(losses, "losses", b"d", rows, True)
    cdef int64_t* plabels = NULL
    cdef void* pt = NULL
    cdef void* pg = NULL
    cdef double* pw = NULL
    cdef int status
    if loss < 0 or loss > GAUSSIAN_NLL or loss == NO_LOSS:
        raise ValueError(f"loss: {loss} is not the code of a loss")
    if loss == CROSS_ENTROPY and targets.ndim == 1:
        plabels = _labels(buffers, targets, rows, columns)
    else:
        pt = buffers.reals(targets, "targets", code, rows * _target_columns(loss, columns), False)
    if grad is not None:
        pg = buffers.reals(grad, "grad", code, rows * columns, True)
    if weights is not None:
        pw = <double*>buffers.reals(weights, "weights", b"d", rows, False)
    with nogil:
        status = engine.loss(loss, parameter, pg, pl, po, plabels, pt, pw, rows, columns, scale)
    _memory(status)


cdef Py_ssize_t _target_columns(int loss, Py_ssize_t columns) except -1:
    if loss != GAUSSIAN_NLL:
        return columns
    if columns % 2:
        raise ValueError(f"output: {columns} columns are not as many means as logarithms of variances")
    return columns // 2


cdef int64_t* _labels(Buffers buffers, targets, Py_ssize_t rows, Py_ssize_t columns) except? NULL:
    cdef int64_t* labels = buffers.integers(targets, "targets", rows)
    cdef Py_ssize_t r
    for r in range(rows):
        if labels[r] < 0 or labels[r] >= columns:
            raise ValueError(f"targets: row {r} has class {labels[r]}, but there are {columns} outputs")
    return labels


def fold(x, *, bint full=True, bint signal=True):
    """What one pass over a (rows, columns) array finds: a record of FOLD_DTYPE."""
    cdef Buffers buffers = Buffers()
    cdef char code = _code(x)
    cdef const Engine* engine = _engine(code)
    cdef Py_ssize_t rows, columns
    rows, columns = _matrix_shape(x, "x")
    cdef void* px = buffers.reals(x, "x", code, -1, False)
    result = np.zeros(1, FOLD_DTYPE)
    cdef Fold found
    cdef int status
    with nogil:
        status = engine.fold(&found, px, rows, columns, signal, full)
    _memory(status)
    result[0] = (found.norm, found.signal, found.max_abs, found.min_abs, found.zeros, found.subnormals, found.infs,
                 found.nans)
    return result[0]


def sum_squares(x):
    """(sum of squares in double, largest magnitude)."""
    cdef Buffers buffers = Buffers()
    cdef char code = _code(x)
    cdef void* px = buffers.reals(x, "x", code, -1, False)
    cdef double peak = 0.0
    total = _engine(code).sum_squares(px, buffers.size(0), &peak)
    return total, peak


def safe_norm(x):
    """Euclidean norm that neither overflows nor underflows while it is representable."""
    cdef Buffers buffers = Buffers()
    cdef char code = _code(x)
    cdef const Engine* engine = _engine(code)
    cdef void* px = buffers.reals(x, "x", code, -1, False)
    cdef Py_ssize_t n = buffers.size(0)
    cdef double norm
    with nogil:
        norm = engine.safe_norm(px, n)
    return norm


def dot(a, b):
    """Inner product, summed in double."""
    cdef Buffers buffers = Buffers()
    cdef char code = _code(a)
    cdef void* pa = buffers.reals(a, "a", code, -1, False)
    return _engine(code).dot(pa, buffers.reals(b, "b", code, buffers.size(0), False), buffers.size(0))


def count_flat(slope, double bound):
    """How many elements have abs(slope) < bound."""
    cdef Buffers buffers = Buffers()
    cdef char code = _code(slope)
    cdef void* ps = buffers.reals(slope, "slope", code, -1, False)
    return _engine(code).count_flat(ps, buffers.size(0), bound)


def batch_norm_statistics(x, double eps):
    """Mean, biased variance, 1/sqrt(variance + eps) and shift = -(what rounding took from the mean) · inverse, by column."""
    cdef Buffers buffers = Buffers()
    cdef char code = _code(x)
    cdef Py_ssize_t rows, columns
    rows, columns = _matrix_shape(x, "x")
    mean, variance, inverse, shift = (np.empty(columns, "f4" if code == b"f" else "f8") for _ in range(4))
    _memory(_engine(code).batch_norm_statistics(
        buffers.reals(mean, "mean", code, -1, True), buffers.reals(variance, "variance", code, -1, True),
        buffers.reals(inverse, "inverse", code, -1, True), buffers.reals(shift, "shift", code, -1, True),
        buffers.reals(x, "x", code, -1, False), rows, columns, eps))
    return mean, variance, inverse, shift


def batch_norm_forward(x, mean, inverse, shift, gamma, beta, out):
    """gamma * ((x - mean) * inverse + shift) + beta."""
    cdef Buffers buffers = Buffers()
    cdef char code = _code(x)
    cdef Py_ssize_t rows, columns
    rows, columns = _matrix_shape(x, "x")
    _memory(_engine(code).batch_norm_forward(
        buffers.reals(out, "out", code, rows * columns, True), buffers.reals(x, "x", code, -1, False),
        buffers.reals(mean, "mean", code, columns, False), buffers.reals(inverse, "inverse", code, columns, False),
        buffers.reals(shift, "shift", code, columns, False), buffers.reals(gamma, "gamma", code, columns, False),
        buffers.reals(beta, "beta", code, columns, False), rows, columns))
    return out


def batch_norm_backward(d_y, x, mean, inverse, shift, gamma, d_x, d_gamma, d_beta, bint batch_statistics):
    """Gradients of a batch norm, written into d_x, d_gamma, d_beta."""
    cdef Buffers buffers = Buffers()
    cdef char code = _code(x)
    cdef Py_ssize_t rows, columns
    rows, columns = _matrix_shape(x, "x")
    _memory(_engine(code).batch_norm_backward(
        buffers.reals(d_x, "d_x", code, rows * columns, True), buffers.reals(d_gamma, "d_gamma", code, columns, True),
        buffers.reals(d_beta, "d_beta", code, columns, True),
        buffers.reals(d_y, "d_y", code, rows * columns, False), buffers.reals(x, "x", code, -1, False),
        buffers.reals(mean, "mean", code, columns, False), buffers.reals(inverse, "inverse", code, columns, False),
        buffers.reals(shift, "shift", code, columns, False), buffers.reals(gamma, "gamma", code, columns, False), rows, columns,
        batch_statistics))


def layer_norm_forward(x, gamma, beta, out, double eps):
    """gamma * x̂ + beta, x̂ normalised row by row; mean, inverse and shift of every row, x̂ = (x - mean) * inverse + shift."""
    cdef Buffers buffers = Buffers()
    cdef char code = _code(x)
    cdef Py_ssize_t rows, columns
    rows, columns = _matrix_shape(x, "x")
    mean, inverse, shift = (np.empty(rows, "f4" if code == b"f" else "f8") for _ in range(3))
    _memory(_engine(code).layer_norm_forward(
        buffers.reals(out, "out", code, rows * columns, True), buffers.reals(mean, "mean", code, -1, True),
        buffers.reals(inverse, "inverse", code, -1, True), buffers.reals(shift, "shift", code, -1, True),
        buffers.reals(x, "x", code, -1, False), buffers.reals(gamma, "gamma", code, columns, False),
        buffers.reals(beta, "beta", code, columns, False), rows, columns, eps))
    return mean, inverse, shift


def layer_norm_backward(d_y, x, mean, inverse, shift, gamma, d_x, d_gamma, d_beta):
    """Gradients of a layer norm, written into d_x, d_gamma, d_beta."""
    cdef Buffers buffers = Buffers()
    cdef char code = _code(x)
    cdef Py_ssize_t rows, columns
    rows, columns = _matrix_shape(x, "x")
    _memory(_engine(code).layer_norm_backward(
        buffers.reals(d_x, "d_x", code, rows * columns, True), buffers.reals(d_gamma, "d_gamma", code, columns, True),
        buffers.reals(d_beta, "d_beta", code, columns, True),
        buffers.reals(d_y, "d_y", code, rows * columns, False), buffers.reals(x, "x", code, -1, False),
        buffers.reals(mean, "mean", code, rows, False), buffers.reals(inverse, "inverse", code, rows, False),
        buffers.reals(shift, "shift", code, rows, False), buffers.reals(gamma, "gamma", code, columns, False), rows, columns))


def update_running(running_mean, running_variance, mean, variance, Py_ssize_t rows, double momentum):
    """Move the running statistics towards those of a batch of `rows` rows, in place."""
    cdef Buffers buffers = Buffers()
    cdef char code = _code(mean)
    cdef void* pm = buffers.reals(mean, "mean", code, -1, False)
    cdef Py_ssize_t n = buffers.size(0)
    _engine(code).update_running(
        buffers.reals(running_mean, "running_mean", code, n, True),
        buffers.reals(running_variance, "running_variance", code, n, True), pm,
        buffers.reals(variance, "variance", code, n, False), n, rows, momentum)


def dropout(x, out, slope, double rate, uint64_t seed, uint64_t step, uint32_t op):
    """out = x * slope, slope = 0 or 1/(1 - rate) by a counter-based generator."""
    cdef Buffers buffers = Buffers()
    cdef char code = _code(x)
    cdef Py_ssize_t rows, columns
    rows, columns = _matrix_shape(x, "x")
    _memory(_engine(code).dropout(
        buffers.reals(out, "out", code, rows * columns, True), buffers.reals(slope, "slope", code, rows * columns, True),
        buffers.reals(x, "x", code, -1, False), rows, columns, rate, seed, step, op))
    return out


cdef Hyper _hyper(object mapping) except *:
    cdef Hyper h
    get = mapping.get
    h.optimizer = get("optimizer", SGD)
    h.lr = get("lr", 0.0)
    h.momentum = get("momentum", 0.0)
    h.nesterov = get("nesterov", 0.0)
    h.beta1 = get("beta1", 0.0)
    h.beta2 = get("beta2", 0.0)
    h.eps = get("eps", 0.0)
    h.lr_decay = get("lr_decay", 0.0)
    h.exempt = get("exempt", 0)
    h.weight_decay = get("weight_decay", 0.0)
    h.l1 = get("l1", 0.0)
    h.clip_norm = get("clip_norm", INFINITY)
    h.clip_value = get("clip_value", INFINITY)
    h.clip_adaptive = get("clip_adaptive", INFINITY)
    return h


cdef int _slots_of(const Hyper* h) noexcept:
    if h.optimizer == SGD:
        return h.momentum != 0.0
    if h.optimizer == RMSPROP:
        return 2 if h.momentum != 0.0 else 1
    return 2 if h.optimizer == ADAM or h.optimizer == ADAMW else 1


def optimizer_step(p, g, slots, hyper, double scale, uint64_t step):
    """Step number `step` (from 1) of an optimizer on flat arrays, in place; `scale`: the factor of clipping by norm."""
    cdef Buffers buffers = Buffers()
    cdef char code = _code(p)
    cdef void* pp = buffers.reals(p, "p", code, -1, True)
    cdef Py_ssize_t n = buffers.size(0)
    cdef Hyper h = _hyper(hyper)
    cdef void* places[2]
    cdef int i
    places[0] = places[1] = NULL
    if len(slots) != _slots_of(&h):
        raise ValueError(f"slots: this optimizer keeps {_slots_of(&h)} arrays, got {len(slots)}")
    for i in range(len(slots)):
        places[i] = buffers.reals(slots[i], f"slots[{i}]", code, n, True)
    _engine(code).update(pp, buffers.reals(g, "g", code, n, False), places[0], places[1], n, &h, scale, step)


def clip_by_value(x, double bound):
    """Clamp to [-bound, bound] in place; NaN stays."""
    cdef Buffers buffers = Buffers()
    cdef char code = _code(x)
    cdef void* px = buffers.reals(x, "x", code, -1, True)
    _engine(code).clip_by_value(px, buffers.size(0), bound)


def scale_by(x, double factor):
    """Multiply in place, rounding once."""
    cdef Buffers buffers = Buffers()
    cdef char code = _code(x)
    cdef void* px = buffers.reals(x, "x", code, -1, True)
    _engine(code).scale_by(px, buffers.size(0), factor)


# ------------------------------------------------------------------ the executor

cdef enum:
    LITTLE_WORK = 1 << 15      # multiply-adds below which giving the GIL back costs more than it lets others do


cdef class Executor:
    """A plan bound to its arenas and a workspace of `capacity` rows.

    Not safe for two threads at once: a workspace is one network's scratch paper.
    """

    cdef Program program
    cdef const Engine* engine
    cdef void* team
    cdef void* alone           # the calling thread, a team of its own
    cdef char code
    cdef Buffers held          # the arenas, for as long as the executor lives
    cdef Buffers bound         # the data
    cdef Buffers books         # the ring
    cdef Buffers course        # rows and order of an epoch
    cdef Buffers results       # where a course writes; None as soon as anything else was asked for since `prepare`
    cdef object _order
    cdef Py_ssize_t reach      # rows of data that the course needs
    cdef object kept           # what owns the workspace and the tables
    cdef Py_ssize_t data_rows
    cdef Record* own_records
    cdef readonly object activations
    cdef readonly object deltas
    cdef readonly object records
    cdef readonly object gradients
    cdef readonly object slots
    cdef readonly Py_ssize_t capacity
    cdef readonly object outcome           # of the run that was prepared last: steps done, status; None before it
    cdef int64_t armed                     # mode of `step`; 0: it was not armed
    cdef readonly Py_ssize_t applied       # steps of the last call that were applied; 0 as soon as data are bound

    def __cinit__(self):
        self.team = self.alone = NULL
        self.armed = 0

    def __init__(self, table, *, dtype, Py_ssize_t capacity, Py_ssize_t columns_in, Py_ssize_t columns_out, parameters,
                 state, gradients, slots, transposed, saved, Py_ssize_t activation_columns, Py_ssize_t delta_columns,
                 int loss, int loss_scale, double loss_parameter=0.0, int threads=1):
        cdef Program* p = &self.program
        cdef Buffers held = Buffers()
        dtype = np.dtype(dtype)
        self.code = ord(dtype.char)
        self.engine = _engine(self.code)
        if table.dtype != OP_DTYPE or len(table) == 0:
            raise TypeError("table: expected a non-empty array of OP_DTYPE")
        if capacity < 1 or threads < 1:
            raise ValueError("capacity and threads must be at least 1")
        self.capacity = capacity
        self.held = held
        table = np.ascontiguousarray(table)
        p.ops = <const Op*>held.take(table.view(np.uint8), "table", False).buf
        p.n_ops = len(table)
        self._check_table(len(parameters), 0 if state is None else len(state),
                          0 if transposed is None else len(transposed), 0 if saved is None else len(saved),
                          activation_columns, delta_columns, gradients is not None)
        self.activations = aligned_zeros(activation_columns * capacity, dtype)
        self.deltas = aligned_zeros(delta_columns * capacity, dtype)
        self.records = np.zeros(len(table) + 1, RECORD_DTYPE)
        self.records.view(np.float64)[:] = NAN
        self.gradients = gradients
        self.slots = tuple(slots)
        targets = aligned_zeros(_panels(columns_out, self.engine.tile) * self.engine.tile * capacity, dtype)
        labels = np.zeros(capacity, np.int64)
        weights, row_losses = np.zeros((2, capacity))
        units = self._units()
        shares = self._shares(units, threads)
        squares = np.zeros((6, max(len(units), 1)))
        reach = np.zeros(3 * max(len(units), 1))
        norms = np.zeros(2 * self.engine.tile * max(len(units), 1))
        widest = max(int(table["columns_in"].max()), int(table["columns_out"].max()))
        parts = np.zeros((_panels(widest, self.engine.tile) + 1) * self.engine.part_size, np.uint8)
        self.kept = (table, targets, labels, weights, row_losses, units, shares, squares, reach, norms, parts)
        p.capacity = capacity
        p.columns_in = columns_in
        p.columns_out = columns_out
        p.loss = loss
        p.loss_sum = loss_scale
        p.loss_parameter = loss_parameter
        p.target_columns = _target_columns(loss, columns_out)
        p.activations = held.reals(self.activations, "activations", self.code, -1, True)
        p.deltas = held.reals(self.deltas, "deltas", self.code, -1, True)
        p.parameters = held.reals(parameters, "parameters", self.code, -1, True)
        p.parameter_size = len(parameters)
        p.state = self._optional(state, "state", -1)
        p.gradients = self._optional(gradients, "gradients", len(parameters))
        p.transposed = self._optional(transposed, "transposed", -1)
        p.saved = self._optional(saved, "saved", -1)
        p.moment1 = self._optional(slots[0] if len(slots) > 0 else None, "slots[0]", len(parameters))
        p.moment2 = self._optional(slots[1] if len(slots) > 1 else None, "slots[1]", len(parameters))
        p.targets = held.reals(targets, "targets", self.code, -1, True)
        p.labels = held.integers(labels, "labels", capacity)
        p.weights = <double*>held.reals(weights, "weights", b"d", -1, True)
        p.row_losses = <double*>held.reals(row_losses, "row_losses", b"d", -1, True)
        p.units = <Unit*>held.take(units.view(np.uint8) if len(units) else np.zeros(1, np.uint8), "units", False).buf
        p.n_units = len(units)
        p.shares = held.integers(shares, "shares", threads + 1)
        p.unit_books = <double*>held.reals(squares[5], "squares", b"d", -1, True)
        p.unit_squares = <double*>held.reals(squares[0], "squares", b"d", -1, True)
        p.unit_peaks = <double*>held.reals(squares[1], "squares", b"d", -1, True)
        p.update_squares = <double*>held.reals(squares[2], "squares", b"d", -1, True)
        p.weight_squares = <double*>held.reals(squares[3], "squares", b"d", -1, True)
        p.unit_bottoms = <double*>held.reals(squares[4], "squares", b"d", -1, True)
        p.unit_norms = <double*>held.reals(norms, "norms", b"d", -1, True)
        p.unit_reach = <double*>held.reals(reach, "reach", b"d", -1, True)
        p.parts = held.take(parts, "parts", True).buf
        self.own_records = <Record*>held.take(self.records.view(np.uint8), "records", True).buf
        p.records = self.own_records
        p.hyper = _hyper({})
        p.every = 1
        self._forget_reach()
        self.team = self.engine.team_start(threads)
        self.alone = self.engine.team_start(1)
        if self.team == NULL or self.alone == NULL:
            raise RuntimeError(f"threads: the system did not give {threads} threads")

    def __dealloc__(self):
        if self.team != NULL:
            self.engine.team_stop(self.team)
        if self.alone != NULL:
            self.engine.team_stop(self.alone)

    cdef int _inside(self, Py_ssize_t op, str what, int64_t start, Py_ssize_t size, Py_ssize_t room) except -1:
        if start < 0 or start + size > room:
            raise ValueError(f"table: op {op} needs {size} of {what} from {start}, but there are {room}")
        return 0

    cdef int _check_table(self, Py_ssize_t parameters, Py_ssize_t state, Py_ssize_t transposed, Py_ssize_t saved,
                          Py_ssize_t activations, Py_ssize_t deltas, bint backward) except -1:
        # Everything the engine will touch lies inside its arena: the last look before raw pointers.
        cdef Py_ssize_t tile = self.engine.tile, i, n = self.program.n_ops, width_in, width_out
        cdef const Op* op
        for i in range(n):
            op = &self.program.ops[i]
            if op.columns_in < 1 or op.columns_out < 1 or op.kind < DENSE or op.kind > LAYER_NORM:
                raise ValueError(f"table: op {i} of kind {op.kind} maps {op.columns_in} to {op.columns_out} columns")
            width_in = _panels(op.columns_in, tile) * tile
            width_out = _panels(op.columns_out, tile) * tile
            self._inside(i, "activations", op.input, width_in, activations)
            self._inside(i, "activations", op.output, width_out, activations)
            self._inside(i, "deltas", op.d_input, width_in, deltas)
            self._inside(i, "deltas", op.d_output, width_out, deltas)
            if op.kind == DENSE:
                self._inside(i, "parameters", op.weight, op.columns_in * width_out, parameters)
                if op.bias >= 0:
                    self._inside(i, "parameters", op.bias, width_out, parameters)
                if op.partner >= 0 and (i == 0 or op.partner != i - 1 or self.program.ops[i - 1].kind != FORK
                                        or op.input != self.program.ops[i - 1].input):
                    raise ValueError(f"table: op {i} makes the skip of op {op.partner}, but does not follow that fork")
                # a projection of the network's input has a slot for its delta, but no use for it
                if ((backward and op.d_input != 0 and not (op.partner >= 0 and op.input == 0))
                        or (transposed and op.transposed >= 0)):
                    self._inside(i, "transposed weights", op.transposed, op.columns_out * width_in, transposed)
            elif op.kind == BATCH_NORM:
                self._inside(i, "parameters", op.weight, width_out, parameters)
                self._inside(i, "parameters", op.bias, width_out, parameters)
                self._inside(i, "state", op.state, 2 * width_out, state)
                self._inside(i, "saved", op.saved, 4 * width_out, saved)
            elif op.kind == LAYER_NORM:
                self._inside(i, "parameters", op.weight, width_out, parameters)
                self._inside(i, "parameters", op.bias, width_out, parameters)
                self._inside(i, "activations", op.saved, 3, activations)
            elif op.kind == FORK or op.kind == JOIN:
                if (op.partner < 0 or op.partner >= n or self.program.ops[op.partner].partner != i
                        or (op.kind == FORK and (op.partner <= i or self.program.ops[op.partner].kind != JOIN))):
                    raise ValueError(f"table: op {i} has no partner")
        return 0

    cdef void* _optional(self, array, str name, Py_ssize_t size) except? NULL:
        if array is None or len(array) == 0:
            return NULL
        return self.held.reals(array, name, self.code, size, True)

    cdef object _units(self):
        # Shares of the parameters: up to 128 rows of a panel of weights, and each bias, gamma, beta.
        cdef Py_ssize_t tile = self.engine.tile, i, panel, panels, row, rows, height
        cdef Py_ssize_t rows_of_unit = tile if tile > 128 else 128 // tile * tile
        cdef const Op* op
        found = []
        for i in range(self.program.n_ops):
            op = &self.program.ops[i]
            panels = _panels(op.columns_out, tile)
            if op.kind == DENSE:
                rows = op.columns_in
                for panel in range(panels):
                    row = 0
                    while row < rows:
                        height = rows - row if rows - row < rows_of_unit else rows_of_unit
                        found.append((i, op.weight + (panel * rows + row) * tile, height * tile, panel, row, height))
                        row += height
            elif op.weight >= 0:
                found.append((i, op.weight, panels * tile, 0, 0, 0))
            if op.bias >= 0:
                found.append((i, op.bias, panels * tile, 0, 0, 0))
        return np.array(found, np.int64).reshape(-1, 6)

    cdef object _shares(self, units, int threads):
        # Units differ in size: they are cut where the running total of reals passes the fair share.
        done = np.concatenate([[0], np.cumsum(units[:, 2])])
        return np.searchsorted(done, done[len(done) - 1] * np.arange(threads + 1) / threads).astype(np.int64)

    cdef int _run(self, int64_t job, bint alone=False) except -1:
        cdef void* team = self.alone if alone else self.team
        if job != COURSE:
            self.results = None
        self.program.job = job
        with nogil:
            self.engine.run(&self.program, team)
        return 0

    cdef void _forget_reach(self) noexcept:
        cdef int k
        for k in range(3):
            self.program.reach[k] = INFINITY

    def transpose_weights(self):
        """Refresh the transposed weights; call it after the parameters were changed from outside."""
        self._forget_reach()
        if self.program.transposed != NULL:
            self._run(TRANSPOSE)

    cdef int _bind_rows(self, X, str name) except -1:
        # Points the program at a (rows, columns_in) array of any strides, or at sparse rows.
        cdef Program* p = &self.program
        cdef Py_buffer* view
        p.data_starts = NULL
        if not PyObject_CheckBuffer(X):
            return self._bind_sparse(X, name)
        view = self.bound.take(X, name, False, True)
        p.data_element = _element(view)
        if p.data_element < 0:
            raise TypeError(f"{name}: expected numbers in the byte order of this machine, "
                            f"got buffer format {view.format.decode()!r}")
        if view.ndim != 2 or view.shape[1] != p.columns_in:
            raise ValueError(f"{name}: expected shape (rows, {p.columns_in}), got {tuple(X.shape)}")
        if view.strides[0] % view.itemsize or view.strides[1] % view.itemsize or <uintptr_t>view.buf % view.itemsize:
            raise ValueError(f"{name}: misaligned array; pass a copy")
        p.data = view.buf
        p.data_row_step = view.strides[0] // view.itemsize
        p.data_column_step = view.strides[1] // view.itemsize
        p.data_weights = NULL
        self.data_rows = view.shape[0]
        return 0

    cdef int _bind_sparse(self, X, str name) except -1:
        # Compressed sparse rows: `values` in the network's dtype, `columns` and `starts` both int32 or both int64.
        cdef Program* p = &self.program
        cdef Py_ssize_t stored, rows
        cdef Py_buffer* columns
        cdef Py_buffer* starts
        cdef const void* values
        if not hasattr(X, "starts"):
            raise TypeError(f"{name}: expected an array or sparse rows, got {type(X).__name__}")
        if X.shape[1] != p.columns_in:
            raise ValueError(f"{name}: expected shape (rows, {p.columns_in}), got {tuple(X.shape)}")
        values = self.bound.reals(X.values, name, self.code, -1, False)
        stored = self.bound.size(self.bound.count - 1)
        columns = self.bound.take(X.columns, name, False)
        starts = self.bound.take(X.starts, name, False)
        rows = starts.len // starts.itemsize - 1
        if _element(columns) != _element(starts) or _element(starts) not in (READ_I4, READ_I8):
            raise TypeError(f"{name}: columns and starts must both be int32 or int64")
        if rows < 0 or columns.len // columns.itemsize != stored:
            raise ValueError(f"{name}: these are no compressed sparse rows")
        p.data_wide = _element(starts) == READ_I8
        # the last look before raw pointers
        if p.data_wide:
            _check_sparse[int64_t](<const int64_t*>columns.buf, <const int64_t*>starts.buf, rows, stored, p.columns_in)
        else:
            _check_sparse[int32_t](<const int32_t*>columns.buf, <const int32_t*>starts.buf, rows, stored, p.columns_in)
        p.data = values
        p.data_columns = columns.buf
        p.data_starts = starts.buf
        self.data_rows = rows
        return 0

    def bind(self, X, targets, weights=None):
        """Name the data that `train` and `observe` take their rows from; `weights` say how often each row counts."""
        cdef Program* p = &self.program
        self.bound = Buffers()
        self.results = None
        self.applied = 0
        p.data = NULL
        p.data_labels = NULL
        p.data_values = NULL
        p.data_weights = NULL
        self._bind_rows(X, "X")
        if targets is None:
            return
        if p.loss == CROSS_ENTROPY and targets.ndim == 1:
            p.data_labels = _labels(self.bound, targets, self.data_rows, p.columns_out)
        else:
            p.data_values = self.bound.reals(targets, "targets", self.code, self.data_rows * p.target_columns, False)
        if weights is not None:
            p.data_weights = <const double*>self.bound.reals(weights, "weights", b"d", self.data_rows, False)

    cdef int _check_mode(self, int mode) except -1:
        # dL/d(input) needs the transposed weights of the first layer, which a plan has only on request.
        cdef Py_ssize_t i
        if mode & INPUT_GRADIENT:
            for i in range(self.program.n_ops):
                if (self.program.ops[i].kind == DENSE and self.program.ops[i].transposed < 0
                        and (self.program.ops[i].d_input == 0 or self.program.ops[i].input == 0)):
                    raise ValueError("mode: this plan was compiled without input_gradient")
        return 0

    cdef int _ready(self, bint backward, bint targets) except -1:
        cdef Program* p = &self.program
        self.results = None
        if p.data == NULL or self.bound is None:
            raise ValueError("no data: call bind first")
        if backward and p.gradients == NULL:
            raise ValueError("this executor was built without gradients")
        if targets and p.loss != NO_LOSS and p.data_labels == NULL and p.data_values == NULL:
            raise ValueError("no targets: call bind with targets first")
        return 0

    cdef int _check_rows(self, const int64_t* rows, Py_ssize_t first, Py_ssize_t end) except -1:
        cdef Py_ssize_t i
        for i in range(first, end):
            if rows[i] < 0 or rows[i] >= self.data_rows:
                raise IndexError(f"order: row {rows[i]} is not in the data of {self.data_rows} rows")
        return 0

    cdef int _take_order(self, Buffers buffers, order, Py_ssize_t first, Py_ssize_t end) except -1:
        cdef Program* p = &self.program
        p.order = buffers.integers(order, "order", -1)
        if first < 0 or end > buffers.size(buffers.count - 1) or first > end:
            raise ValueError(f"order: rows {first} to {end} are not in it")
        self._check_rows(p.order, first, end)
        p.first = first
        p.end = end
        return 0

    cdef int _aim_steps(self, Buffers buffers, Py_ssize_t steps, int mode, hyper, uint64_t seed, uint64_t step, losses,
                        norms, int64_t seen) except -1:
        # Whole steps come next, whose losses and norms go there.
        cdef Program* p = &self.program
        cdef Py_ssize_t taken = buffers.count
        p.losses = <double*>buffers.reals(losses, "losses", b"d", -1, True)
        p.norms = <double*>buffers.reals(norms, "norms", b"d", -1, True)
        p.step_weights = NULL
        if buffers.size(taken) < steps or buffers.size(taken + 1) < steps:
            raise ValueError(f"losses and norms need room for {steps} steps")
        p.hyper = _hyper(hyper)
        self._check_moments()
        p.mode = mode | UPDATE
        p.probe_mode = mode & (LIGHT | FULL)
        p.seed = seed
        p.step = step
        p.seen = seen
        p.stop = -1
        p.until = 0
        p.steps_done = 0
        p.status = DONE
        return 0

    def train(self, order, Py_ssize_t first_row, Py_ssize_t rows_end, Py_ssize_t batch_size, *, int mode, hyper,
              uint64_t seed, uint64_t step, losses, norms, int64_t seen=0):
        """Whole steps over the batches of order[first_row:rows_end]; (steps done, status).

        A step whose loss, gradient or update is not finite is counted, not applied, and ends the call.

        Where `mode` has "light" or "full" the steps are booked as `book_into` says, numbered from `seen` + 1.
        """
        cdef Program* p = &self.program
        cdef Buffers buffers = Buffers()
        cdef Py_ssize_t steps
        self.applied = 0
        self._ready(True, True)
        self._check_mode(mode)
        self._take_order(buffers, order, first_row, rows_end)
        if batch_size < 1 or batch_size > p.capacity:
            raise ValueError(f"batch_size: {batch_size} is not between 1 and the capacity {p.capacity}")
        steps = (rows_end - first_row + batch_size - 1) // batch_size
        self._aim_steps(buffers, steps, mode, hyper, seed, step, losses, norms, seen)
        p.batch = batch_size
        if steps:
            self._run(TRAIN)
        p.records = self.own_records
        self.applied = p.steps_done - (p.status != DONE)
        return p.steps_done, p.status

    def arm(self, *, int mode, hyper, uint64_t seed):
        """Get ready for single calls of `step`: what all of them share."""
        cdef Program* p = &self.program
        if p.gradients == NULL or p.loss == NO_LOSS:
            raise ValueError("single steps need gradients and a loss")
        self._check_mode(mode)
        p.hyper = _hyper(hyper)
        self._check_moments()
        p.seed = seed
        self.armed = mode | UPDATE

    def step(self, X, y, uint64_t number, int64_t seen=0):
        """Make step `number` on one whole batch of plain arrays; its loss.  `armed`, it is `bind` and `train` in one.

        None where the arrays are not exactly what the kernels take: nothing has happened then.
        """
        cdef Program* p = &self.program
        cdef Buffers bound = self.bound
        cdef Py_buffer* x
        cdef Py_buffer* t
        cdef const int64_t* labels
        cdef double loss, norm
        cdef Py_ssize_t rows, r
        if self.armed == 0:
            return None
        if bound is None:
            bound = self.bound = Buffers()
        self.results = None
        self.applied = 0
        p.data = NULL
        bound.release()
        x = bound.take(X, "X", False, True)
        t = bound.take(y, "y", False, False)
        rows = x.shape[0] if x.ndim == 2 else 0
        if (x.format[0] != self.code or x.format[1] != 0 or rows < 1 or rows > p.capacity or x.shape[1] != p.columns_in
                or t.ndim < 1 or t.shape[0] != rows or x.strides[0] % x.itemsize or x.strides[1] % x.itemsize
                or <uintptr_t>x.buf % x.itemsize or <uintptr_t>t.buf % t.itemsize):
            return None
        p.data_labels = NULL
        p.data_values = NULL
        if p.loss == CROSS_ENTROPY:
            if t.ndim != 1 or t.itemsize != 8 or t.format[0] not in (b"l", b"q") or t.format[1] != 0:
                return None
            labels = <const int64_t*>t.buf
            for r in range(rows):
                if labels[r] < 0 or labels[r] >= p.columns_out:
                    return None
            p.data_labels = labels
        else:
            if t.ndim != 2 or t.shape[1] != p.target_columns or t.format[0] != self.code or t.format[1] != 0:
                return None
            p.data_values = t.buf
        p.data_weights = NULL
        p.step_weights = NULL
        p.data = x.buf
        p.data_starts = NULL
        p.data_element = _element(x)
        p.data_row_step = x.strides[0] // x.itemsize
        p.data_column_step = x.strides[1] // x.itemsize
        self.data_rows = rows
        p.order = NULL
        p.first = 0
        p.end = p.batch = rows
        p.losses = &loss
        p.norms = &norm
        p.mode = self.armed
        p.probe_mode = self.armed & (LIGHT | FULL)
        p.step = number
        p.seen = seen
        p.stop = -1
        p.until = 0
        p.steps_done = 0
        p.status = DONE
        p.job = TRAIN
        with nogil:
            self.engine.run(p, self.team)
        p.losses = p.norms = NULL
        p.records = self.own_records
        self.applied = p.status == DONE
        return loss

    def begin(self, rows, Py_ssize_t batch_size, *, bint merge_single, bint shuffle, uint64_t seed, uint64_t number,
              Py_ssize_t epoch=0, Py_ssize_t at=0):
        """Begin a course: epochs over these rows of the bound data, each in a new order unless `shuffle` is off.

        The order of epoch k is that of NumPy's Philox generator of key (seed, number + k).  With `merge_single` a
        single last row joins the batch before it.  The first step is that of row `at` of this epoch's order.
        """
        cdef Program* p = &self.program
        cdef Buffers course = Buffers()
        self.course = None                         # should this fail, what the program points to is not held
        self._ready(True, True)
        if batch_size < 1 or batch_size > p.capacity:
            raise ValueError(f"batch_size: {batch_size} is not between 1 and the capacity {p.capacity}")
        rows = np.array(rows, np.int64)            # a copy: nobody changes it later
        self._order = np.empty(len(rows), np.int64) if shuffle else rows
        p.n_rows = len(rows)
        if p.n_rows < 1 or p.n_rows >= 1 << 32:
            raise ValueError(f"rows: expected 1 to 2**32 - 1 of them, got {p.n_rows}")
        if merge_single and p.n_rows > batch_size and p.n_rows % batch_size == 1 and batch_size == p.capacity:
            raise ValueError(f"batch_size: a batch of {batch_size + 1} is beyond the capacity {p.capacity}")
        if epoch < 0 or at < 0 or at >= p.n_rows or at % batch_size:
            raise ValueError(f"epoch, at: no batch of {batch_size} begins at row {at} of epoch {epoch}")
        p.rows = course.integers(rows, "rows", -1)
        self._check_rows(p.rows, 0, p.n_rows)
        self.reach = 1 + int(rows.max())
        p.shuffled = course.integers(self._order, "order", -1)
        self.course = course
        p.batch = batch_size
        p.merge_single = merge_single
        p.shuffle = shuffle
        p.order_seed = seed
        p.order_number = number
        p.epoch = epoch
        p.at = p.last_at = at
        if at and shuffle:                         # the engine makes an order where an epoch begins
            key = np.array([seed, number + epoch], np.uint64)
            self._order[:] = rows[np.random.Generator(np.random.Philox(key=key)).permutation(len(rows))]

    def prepare(self, Py_ssize_t steps, *, int mode, hyper, uint64_t seed, uint64_t step, losses, norms,
                int64_t seen=0, rates=None, weights=None):
        """Get the next steps of the course ready for `run` or `run_courses`, which write their losses and norms.

        A step whose loss, gradient or update is not finite is counted, not applied, and ends the run.  `rates` are
        factors on the learning rate, one for each step; `weights` is told how many rows each step counted for.  The
        books are kept as in `train`.
        """
        cdef Program* p = &self.program
        cdef Buffers results = Buffers()
        self.applied = 0
        self.outcome = None
        self._ready(True, True)
        self._check_mode(mode)
        if self.course is None:
            raise ValueError("no course: call begin first")
        if self.reach > self.data_rows:            # the data may have been bound anew
            raise IndexError(f"rows: row {self.reach - 1} is not in the data of {self.data_rows} rows")
        if steps < 1:
            raise ValueError(f"steps: expected at least 1, got {steps}")
        self._aim_steps(results, steps, mode, hyper, seed, step, losses, norms, seen)
        p.rates = NULL
        if rates is not None:
            p.rates = <const double*>results.reals(rates, "rates", b"d", steps, False)
        if weights is not None:
            p.step_weights = <double*>results.reals(weights, "weights", b"d", -1, True)
            if results.size(results.count - 1) < steps:
                raise ValueError(f"weights need room for {steps} steps")
        p.limit = steps
        self.results = results

    def run(self, *, bint alone=False):
        """Run what was prepared, `alone`: in the calling thread only; (steps done, status)."""
        if self.results is None:
            raise ValueError("nothing is prepared: call prepare first")
        self._run(COURSE, alone)
        return self._finish_run()

    cdef object _finish_run(self):
        cdef Program* p = &self.program
        p.records = self.own_records
        self.results = None
        self.applied = p.steps_done - (p.status != DONE)
        self.outcome = p.steps_done, int(p.status)
        return self.outcome

    @property
    def last_rows(self):
        """Rows of the data that the last step of the course was made with."""
        cdef Program* p = &self.program
        return self._order[p.last_at:p.at if p.at else p.n_rows].copy()

    def book_into(self, ring, int64_t every):
        """Let `train` book only the steps whose number `every` divides, the j-th of them in ring[(j - 1) % slots].

        The ring is an array (slots, ops + 1) of RECORD_DTYPE.  Without one every step writes `records`.
        """
        cdef Program* p = &self.program
        cdef Buffers books = Buffers()
        if ring.dtype != RECORD_DTYPE or ring.ndim != 2 or ring.shape[0] < 1 or ring.shape[1] != p.n_ops + 1:
            raise ValueError(f"ring: expected RECORD_DTYPE of shape (slots, {p.n_ops + 1}), got {ring.shape}")
        if every < 1:
            raise ValueError(f"every must be at least 1, got {every}")
        p.ring = <Record*>books.take(ring.view(np.uint8), "ring", True).buf
        p.slots = ring.shape[0]
        p.every = every
        self.books = books

    cdef int _check_moments(self) except -1:
        cdef Program* p = &self.program
        if self.code == b"f":
            for name, value in (("lr", p.hyper.lr), ("weight_decay", p.hyper.weight_decay), ("l1", p.hyper.l1)):
                if value > 3.4028234663852886e38:
                    raise ValueError(f"{name}: {value:g} is beyond float32")
        if (p.moment1 != NULL) + (p.moment2 != NULL) < _slots_of(&p.hyper):
            raise ValueError(f"this optimizer needs {_slots_of(&p.hyper)} slots")
        return 0

    def observe(self, rows, *, int mode, uint64_t seed, uint64_t step, Py_ssize_t stop=-1, bint backward=True,
                Py_ssize_t until=0):
        """Forward, loss and backward of one batch without an update; its loss.

        Without targets the loss is NaN, and backward starts from the dL/d(output) of the last `backward_batch`.
        With `stop` only ops[0..stop] run, forward, one by one, and the result is NaN.  With `until` the deltas end with
        those of that op, no gradients of weights and biases are computed, and the result is NaN.
        """
        cdef Program* p = &self.program
        cdef Buffers buffers = Buffers()
        cdef double norm = NAN
        self._ready(backward and stop < 0, False)
        self._check_mode(mode)
        self._take_order(buffers, rows, 0, len(rows))
        if p.end < 1 or p.end > p.capacity:
            raise ValueError(f"rows: a batch of {p.end} is not between 1 and the capacity {p.capacity}")
        if stop >= p.n_ops:
            raise ValueError(f"stop: op {stop} is not in the plan of {p.n_ops} ops")
        if until < 0 or until >= p.n_ops:
            raise ValueError(f"until: op {until} is not in the plan of {p.n_ops} ops")
        p.mode = mode & ~UPDATE
        p.seed = seed
        p.step = step
        p.stop = stop
        p.backward = backward
        p.until = until
        p.norms = &norm
        p.loss_value = NAN
        p.status = DONE
        self._run(OBSERVE)
        p.norms = NULL
        p.until = 0
        return p.loss_value

    cdef int _bind_anew(self, X) except -1:
        # All rows of X come next, as they lie, and nothing else is bound.
        cdef Program* p = &self.program
        self.bound = Buffers()
        self.results = None
        self.applied = 0
        p.data = NULL
        p.data_labels = NULL
        p.data_values = NULL
        p.end = 0
        self._bind_rows(X, "X")
        p.order = NULL
        p.first = 0
        p.end = self.data_rows
        p.stop = -1
        return 0

    def forward(self, X, out, *, int mode=0):
        """Raw outputs of any number of rows into `out` (rows, outputs), in chunks of the capacity."""
        cdef Program* p = &self.program
        cdef Buffers buffers = Buffers()
        self._bind_anew(X)
        p.result = buffers.reals(out, "out", self.code, self.data_rows * p.columns_out, True)
        p.mode = mode & ~UPDATE
        p.step = 0
        if p.end:
            self._run(FORWARD)

    cdef int _run_plain(self, int64_t job, int mode, Py_buffer* x, Py_buffer* d_output, void* result) except -1:
        # Inference over C-contiguous rows, and what else is bound is forgotten.
        cdef Program* p = &self.program
        self.bound = None
        self.results = None
        self.applied = 0
        p.data = x.buf
        p.data_starts = NULL
        p.data_element = _element(x)
        p.data_row_step = p.columns_in
        p.data_column_step = 1
        p.data_labels = NULL
        p.data_values = NULL if d_output == NULL else d_output.buf
        p.result = result
        p.order = NULL
        p.first = 0
        p.end = x.shape[0]
        p.mode = mode
        p.step = 0
        p.stop = -1
        p.until = 0
        if p.end * p.parameter_size < LITTLE_WORK:
            p.job = job
            self.engine.run(p, self.team)
        else:
            self._run(job)
        p.data = p.data_values = p.result = NULL
        p.end = 0
        return 0

    def quick(self, X, int answer):
        """Answers for a few rows in a new array, of shape (rows,) where there is one for each row.

        None, and nothing was done, unless X is an array as the kernels take it, (rows, columns_in) of the network's
        dtype, C-contiguous, of at most `capacity` rows and (except for OUTPUTS) finite: the long way then says why not.
        """
        cdef Program* p = &self.program
        cdef Py_buffer x, to
        cdef void* outputs
        if not _take_plain(X, &x, self.code, p.columns_in, self.capacity):
            return None
        try:
            if answer != OUTPUTS and not self.engine.all_finite(x.buf, x.shape[0] * p.columns_in):
                return None
            shape = (x.shape[0], p.columns_out)
            if answer == LARGEST or (answer != OUTPUTS and p.columns_out == 1):
                shape = (x.shape[0],)
            result = _empty(shape, _DTYPES[self.code == b"d"] if answer <= VALUES else _INT64)
            PyObject_GetBuffer(result, &to, PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE)
            # (labels: the workspace of the targets is free, and has room for the outputs)
            outputs = to.buf if answer <= VALUES else p.targets
            self._run_plain(FORWARD, 0, &x, NULL, outputs)
            if answer == LARGEST:
                self.engine.largest(<int64_t*>to.buf, outputs, x.shape[0], p.columns_out)
            elif answer == ABOVE_ZERO:
                self.engine.above_zero(<int64_t*>to.buf, outputs, x.shape[0] * p.columns_out)
            if outputs == p.targets:               # whose pads are zeros, always
                memset(p.targets, 0, x.shape[0] * p.columns_out * x.itemsize)
            PyBuffer_Release(&to)
        finally:
            PyBuffer_Release(&x)
        return result

    def quick_input_gradients(self, X, d_output):
        """dL/dX of a few rows in a new array; None, and nothing was done, unless both arrays are as `quick` wants them."""
        cdef Program* p = &self.program
        cdef Py_buffer x, d, to
        if p.gradients == NULL or not _take_plain(X, &x, self.code, p.columns_in, self.capacity):
            return None
        try:
            if not _take_plain(d_output, &d, self.code, p.columns_out, self.capacity):
                return None
            try:
                if x.shape[0] != d.shape[0]:
                    return None
                self._check_mode(INPUT_GRADIENT)
                result = _empty((x.shape[0], p.columns_in), _DTYPES[self.code == b"d"])
                PyObject_GetBuffer(result, &to, PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE)
                self._run_plain(INPUT_DELTAS, INPUT_GRADIENT, &x, &d, to.buf)
                PyBuffer_Release(&to)
            finally:
                PyBuffer_Release(&d)
        finally:
            PyBuffer_Release(&x)
        return result

    def input_gradients(self, X, d_output, out):
        """dL/dX of any number of rows into `out` from dL/d(output), in inference mode, in chunks of the capacity.

        The gradients of the parameters are not computed.
        """
        cdef Program* p = &self.program
        cdef Buffers buffers = Buffers()
        if p.gradients == NULL:
            raise ValueError("this executor was built without gradients")
        self._check_mode(INPUT_GRADIENT)
        self._bind_anew(X)
        p.data_values = buffers.reals(d_output, "d_output", self.code, self.data_rows * p.columns_out, False)
        p.result = buffers.reals(out, "out", self.code, self.data_rows * p.columns_in, True)
        p.mode = INPUT_GRADIENT
        p.step = 0
        p.until = 0
        if p.end:
            self._run(INPUT_DELTAS)
        p.data_values = NULL
        p.end = 0                                  # no backward_batch after this

    def forward_batch(self, X, out, *, int mode, uint64_t seed, uint64_t step):
        """First half of a step with the caller's own loss: the outputs of one batch into `out`."""
        cdef Program* p = &self.program
        cdef Buffers buffers = Buffers()
        self._bind_anew(X)
        if self.data_rows < 1 or self.data_rows > p.capacity:
            raise ValueError(f"X: a batch of {self.data_rows} is not between 1 and the capacity {p.capacity}")
        p.result = buffers.reals(out, "out", self.code, self.data_rows * p.columns_out, True)
        p.mode = mode & ~UPDATE
        p.seed = seed
        p.step = step
        self._run(FORWARD_BATCH)

    def backward_batch(self, d_output, *, int mode, hyper, uint64_t seed, uint64_t step):
        """Second half: gradients from dL/d(output) and, when `mode` has it, the update; (norm, status)."""
        cdef Program* p = &self.program
        cdef Buffers buffers = Buffers()
        cdef double norm = NAN
        if p.gradients == NULL:
            raise ValueError("this executor was built without gradients")
        if p.end < 1 or p.end > p.capacity or p.order != NULL:
            raise ValueError("call forward_batch first")
        self._check_mode(mode)
        p.data_values = buffers.reals(d_output, "d_output", self.code, p.end * p.columns_out, False)
        p.hyper = _hyper(hyper)
        if mode & UPDATE:
            self._check_moments()
        p.mode = mode
        self.applied = 0
        p.seed = seed
        p.step = step
        p.norms = &norm
        p.status = DONE
        self._run(BACKWARD_BATCH)
        self.applied = mode & UPDATE != 0 and p.status == DONE
        p.data_values = NULL
        p.norms = NULL
        return norm, p.status


cdef class Workers:
    """A team of threads that runs the courses of many executors side by side, each on one thread."""

    cdef void* team
    cdef const Engine* engine
    cdef readonly int size

    def __cinit__(self):
        self.team = NULL

    def __init__(self, int size):
        if size < 1:
            raise ValueError(f"size must be at least 1, got {size}")
        self.size = size
        self.engine = _engine(b"f")
        self.team = self.engine.team_start(size)
        if self.team == NULL:
            raise RuntimeError(f"threads: the system did not give {size} threads")

    def __dealloc__(self):
        if self.team != NULL:
            self.engine.team_stop(self.team)

    def run(self, executors):
        """Run what was prepared in each, in the order of the list; results are in their `outcome` and `applied`."""
        cdef Executor executor
        cdef Py_ssize_t count = 0
        cdef Program** programs
        cdef const Engine* engine = NULL
        executors = list(executors)
        if len({id(executor) for executor in executors}) < len(executors):
            raise ValueError("executors: one of them is there twice")
        for executor in executors:
            if executor.results is None:
                raise ValueError("nothing is prepared in one of the executors: call prepare first")
            if engine != NULL and executor.engine != engine:
                raise TypeError("executors: expected one dtype")
            engine = executor.engine
        if not executors:
            return
        programs = <Program**>malloc(len(executors) * sizeof(Program*))
        if programs == NULL:
            raise MemoryError()
        for executor in executors:
            executor.program.job = COURSE
            programs[count] = &executor.program
            count += 1
        with nogil:
            engine.run_courses(programs, count, self.team)
        free(programs)
        for executor in executors:
            executor._finish_run()
