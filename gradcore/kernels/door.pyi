from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict

import numpy as np
from numpy.typing import DTypeLike, NDArray

Array = NDArray[Any]

OP_KINDS: dict[str, int]
ACTIVATION_CODES: dict[str, int]
LOSS_CODES: dict[str, int]
OPTIMIZER_CODES: dict[str, int]
EXEMPT: dict[str, int]
MODES: dict[str, int]
ANSWERS: dict[str, int]
OP_DTYPE: np.dtype[np.void]
FOLD_DTYPE: np.dtype[np.void]
RECORD_DTYPE: np.dtype[np.void]
LEVELS_BUILT: tuple[str, ...]
LEVELS_SUPPORTED: tuple[str, ...]
LEVEL: str

class Info(TypedDict):
    level: str
    levels_built: tuple[str, ...]
    levels_supported: tuple[str, ...]
    compiler: str
    build: str
    stable_abi: bool
    vector_bytes: int
    tile: dict[str, int]

def info() -> Info: ...
def tile_width(dtype: DTypeLike) -> int: ...
def aligned_zeros(n: int, dtype: DTypeLike) -> Array: ...
def tile(matrix: Array, arena: Array, offset: int) -> None: ...
def untile(arena: Array, offset: int, rows: int, columns: int) -> Array: ...
def untile_slot(arena: Array, slot: int, capacity: int, rows: int, columns: int) -> Array: ...
def matmul(a: Array, b: Array, *, transpose_a: bool = False) -> Array: ...
def activation(code: int, parameter: float, z: Array, a: Array, slope: Array | None = None) -> Array: ...
def softmax(x: Array, out: Array) -> Array: ...
def softmax_backward(y: Array, d_y: Array, out: Array) -> Array: ...
def row_losses(
    loss: int,
    output: Array,
    targets: Array,
    losses: Array,
    grad: Array | None,
    scale: float,
    *,
    parameter: float = 0.0,
    weights: Array | None = None,
) -> None: ...
def fold(x: Array, *, full: bool = True, signal: bool = True) -> np.void: ...
def sum_squares(x: Array) -> tuple[float, float]: ...
def safe_norm(x: Array) -> float: ...
def dot(a: Array, b: Array) -> float: ...
def count_flat(slope: Array, bound: float) -> int: ...
def batch_norm_statistics(x: Array, eps: float) -> tuple[Array, Array, Array, Array]: ...
def batch_norm_forward(
    x: Array, mean: Array, inverse: Array, shift: Array, gamma: Array, beta: Array, out: Array
) -> Array: ...
def batch_norm_backward(
    d_y: Array,
    x: Array,
    mean: Array,
    inverse: Array,
    shift: Array,
    gamma: Array,
    d_x: Array,
    d_gamma: Array,
    d_beta: Array,
    batch_statistics: bool,
) -> None: ...
def layer_norm_forward(
    x: Array, gamma: Array, beta: Array, out: Array, eps: float
) -> tuple[Array, Array, Array]: ...
def layer_norm_backward(
    d_y: Array,
    x: Array,
    mean: Array,
    inverse: Array,
    shift: Array,
    gamma: Array,
    d_x: Array,
    d_gamma: Array,
    d_beta: Array,
) -> None: ...
def update_running(
    running_mean: Array, running_variance: Array, mean: Array, variance: Array, rows: int, momentum: float
) -> None: ...
def dropout(x: Array, out: Array, slope: Array, rate: float, seed: int, step: int, op: int) -> Array: ...
def optimizer_step(
    p: Array, g: Array, slots: Sequence[Array], hyper: Mapping[str, float], scale: float, step: int
) -> None: ...
def clip_by_value(x: Array, bound: float) -> None: ...
def scale_by(x: Array, factor: float) -> None: ...

class Executor:
    activations: Array
    deltas: Array
    records: Array
    gradients: Array | None
    slots: tuple[Array, ...]
    capacity: int
    outcome: tuple[int, int] | None
    applied: int
    def __init__(
        self,
        table: Array,
        *,
        dtype: DTypeLike,
        capacity: int,
        columns_in: int,
        columns_out: int,
        parameters: Array,
        state: Array | None,
        gradients: Array | None,
        slots: tuple[Array, ...],
        transposed: Array | None,
        saved: Array | None,
        activation_columns: int,
        delta_columns: int,
        loss: int,
        loss_scale: int,
        loss_parameter: float = 0.0,
        threads: int = 1,
    ) -> None: ...
    def transpose_weights(self) -> None: ...
    def bind(self, X: Array, targets: Array | None, weights: Array | None = None) -> None: ...
    def train(
        self,
        order: Array,
        first_row: int,
        rows_end: int,
        batch_size: int,
        *,
        mode: int,
        hyper: Mapping[str, float],
        seed: int,
        step: int,
        losses: Array,
        norms: Array,
        seen: int = 0,
    ) -> tuple[int, int]: ...
    def arm(self, *, mode: int, hyper: Mapping[str, float], seed: int) -> None: ...
    def step(self, X: Array, y: Array, number: int, seen: int = 0) -> float | None: ...
    @property
    def last_rows(self) -> Array: ...
    def begin(
        self,
        rows: Array,
        batch_size: int,
        *,
        merge_single: bool,
        shuffle: bool,
        seed: int,
        number: int,
        epoch: int = 0,
        at: int = 0,
    ) -> None: ...
    def prepare(
        self,
        steps: int,
        *,
        mode: int,
        hyper: Mapping[str, float],
        seed: int,
        step: int,
        losses: Array,
        norms: Array,
        seen: int = 0,
        rates: Array | None = None,
        weights: Array | None = None,
    ) -> None: ...
    def run(self, *, alone: bool = False) -> tuple[int, int]: ...
    def book_into(self, ring: Array, every: int) -> None: ...
    def observe(
        self,
        rows: Array,
        *,
        mode: int,
        seed: int,
        step: int,
        stop: int = -1,
        backward: bool = True,
        until: int = 0,
    ) -> float: ...
    def forward(self, X: Array, out: Array, *, mode: int = 0) -> None: ...
    def quick(self, X: object, answer: int) -> Array | None: ...
    def quick_input_gradients(self, X: object, d_output: object) -> Array | None: ...
    def input_gradients(self, X: Array, d_output: Array, out: Array) -> None: ...
    def forward_batch(self, X: Array, out: Array, *, mode: int, seed: int, step: int) -> None: ...
    def backward_batch(
        self, d_output: Array, *, mode: int, hyper: Mapping[str, float], seed: int, step: int
    ) -> tuple[float, int]: ...

class Workers:
    size: int
    def __init__(self, size: int) -> None: ...
    def run(self, executors: Iterable[Executor]) -> None: ...
