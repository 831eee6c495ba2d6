"""The compiled kernels, for one instruction set chosen at import.

`door` is the only compiled module with Python functions; the engines behind it hold the kernels, one copy per
instruction set and dtype. ``GRADCORE_ISA=baseline`` (or ``avx2``, …) forces one, for tests and comparisons.
"""

from .door import (
    ACTIVATION_CODES as ACTIVATION_CODES,
    ANSWERS as ANSWERS,
    EXEMPT as EXEMPT,
    FOLD_DTYPE as FOLD_DTYPE,
    LOSS_CODES as LOSS_CODES,
    MODES as MODES,
    OP_DTYPE as OP_DTYPE,
    OP_KINDS as OP_KINDS,
    OPTIMIZER_CODES as OPTIMIZER_CODES,
    RECORD_DTYPE as RECORD_DTYPE,
    Executor as Executor,
    Workers as Workers,
    activation as activation,
    aligned_zeros as aligned_zeros,
    batch_norm_backward as batch_norm_backward,
    batch_norm_forward as batch_norm_forward,
    batch_norm_statistics as batch_norm_statistics,
    clip_by_value as clip_by_value,
    count_flat as count_flat,
    dot as dot,
    dropout as dropout,
    fold as fold,
    info as info,
    layer_norm_backward as layer_norm_backward,
    layer_norm_forward as layer_norm_forward,
    matmul as matmul,
    optimizer_step as optimizer_step,
    row_losses as row_losses,
    safe_norm as safe_norm,
    scale_by as scale_by,
    softmax as softmax,
    softmax_backward as softmax_backward,
    sum_squares as sum_squares,
    tile as tile,
    tile_width as tile_width,
    untile as untile,
    untile_slot as untile_slot,
    update_running as update_running,
)

# Of every code its activation, softmax included.
ACTIVATION_NAMES = {code: name for name, code in ACTIVATION_CODES.items()}
