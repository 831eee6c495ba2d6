"""A network as one pair of C files without dependencies: C99 and its mathematics library, no allocation, no state.

The plan's ops become one call each, the parameters constants in hexadecimal (exact). What an op reads and writes is
taken from the plan's slots, which are then packed: a slot that is no longer read makes room for another.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gradcore import activations, kernels
from gradcore.c_activations import FUNCTIONS, in_single, scalar_function
from gradcore.compiler import compile_layers
from gradcore.errors import check_path
from gradcore.files import write_atomically
from gradcore.plan import Plan

if TYPE_CHECKING:
    from gradcore.network import Network

Array = NDArray[Any]

# what names of functions may begin with (a keyword may: int_forward is a name like any other)
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,49}")

_KINDS = {number: kind for kind, number in kernels.OP_KINDS.items()}


def export_c(net: Network, path: str | os.PathLike[str], *, name: str | None = None) -> tuple[Path, Path]:
    """Write a network as ``path.c`` and ``path.h``; see `gradcore.Network.export_c`."""
    given = check_path("path", path)
    stem = given.with_suffix("") if given.suffix in (".c", ".h") else given
    name = _checked_name(stem.name if name is None else name)
    source, header = c_source(net, name, header=f"{stem.name}.h"), c_header(net, name)
    written = stem.with_name(f"{stem.name}.c"), stem.with_name(f"{stem.name}.h")
    for file, text in zip(written, (source, header), strict=True):
        write_atomically(file, [text.encode()])
    return written


def c_header(net: Network, name: str) -> str:
    """Return the header of the exported network."""
    import gradcore

    real, upper, work = _real(net.dtype), name.upper(), _Work(net)
    predict = f"""
/* The class of one row, an index into {name}_labels; -1 where the outputs are NaN. */
extern const char *const {name}_labels[{upper}_LABELS];
int {name}_predict(const {real} *x, {real} *workspace);
"""
    labels = _labels(net)
    return f"""\
/* {name}: a network of {net.input_size} inputs and {net.output_size} outputs, {net.dtype},
   written by gradcore {gradcore.__version__}.

   The same operations in the same precision as in gradcore: the outputs are those of net.forward but for rounding
   (sums run in another order). Functions have no state: any number of threads may call them, each with its own
   workspace. Compile with -std=c99, link with -lm; -ffast-math would break what is said about NaN and infinities. */
#ifndef {upper}_H
#define {upper}_H

#define {upper}_INPUTS {net.input_size}
#define {upper}_OUTPUTS {net.output_size}
#define {upper}_WORKSPACE {work.size + (net.output_size if labels else 0) or 1}
{f"#define {upper}_LABELS {len(labels)}" if labels else ""}

#ifdef __cplusplus
extern "C" {{
#endif

/* The raw outputs y[{upper}_OUTPUTS] of one row x[{upper}_INPUTS], in inference mode.
   workspace[{upper}_WORKSPACE] may hold anything before; nothing of the three may overlap. */
void {name}_forward(const {real} *x, {real} *y, {real} *workspace);
{predict if labels else ""}
#ifdef __cplusplus
}}
#endif

#endif
""".replace("\n\n\n", "\n\n")


def c_source(net: Network, name: str, *, header: str) -> str:
    """Return the C of the exported network, which includes `header`."""
    real, work = _real(net.dtype), _Work(net)
    constants, calls = _Constants(name, net.dtype), _Calls()
    for number in range(len(work.plan.table)):
        call = _call(work, number, constants)
        if call is not None:
            calls.add(*call)
    helpers = calls.helpers(name, net.dtype)
    body = "\n".join(f"    {name}_{call}" for call in calls.lines)
    unused = "" if "workspace" in body else "    (void)workspace;\n"
    parts = [
        f"/* Written by gradcore; see {header}. */",
        f'#include "{header}"\n\n#include <math.h>\n#include <stddef.h>',
        *constants.lines,
        *helpers,
        f"void {name}_forward(const {real} *x, {real} *y, {real} *workspace)\n{{\n{unused}{body}\n}}",
    ]
    if labels := _labels(net):
        parts += [_labels_source(name, labels), _predict_source(net, name, work.size)]
    return "\n\n".join(parts) + "\n"


def _real(dtype: np.dtype[Any]) -> str:
    return "float" if dtype == np.float32 else "double"


def _checked_name(name: str) -> str:
    if not isinstance(name, str):
        raise TypeError(f"name must be text such as 'net', got {name!r}")
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} cannot begin the names of C functions: give name='net', or other letters, digits and _ "
            "(a letter first, 50 characters at most)"
        )
    return name


# --- where everything lies


class _Work:
    """The ops of a network with every slot's place in one small workspace of a single row."""

    def __init__(self, net: Network) -> None:
        self.plan: Plan = compile_layers(net.layers, net.input_size, net.dtype, tile=1)
        self.parameters = net.get_parameters()
        table = self.plan.table
        # what changes nothing at inference hands on the slot that it reads
        self._same: dict[int, int] = {}
        for op in table:
            if _is_nothing(op) and op["input"] != op["output"]:
                self._same[int(op["output"])] = self._first(int(op["input"]))
        self._width = {0: self.plan.columns_in}
        last_read: dict[int, int] = {}
        for number, op in enumerate(table):
            self._width.setdefault(int(op["output"]), int(op["columns_out"]))
            for slot in self._reads(number):
                last_read[slot] = number
        end = self._first(int(table[-1]["output"]))
        self.size = 0
        # (never the slot of the input: there is a dense layer, and every op but those of `_is_nothing` has its own)
        self._places = {0: "x", end: "y"}
        self._pack(last_read)

    def place(self, slot: int) -> str:
        """Return the C expression of what a slot of the plan became."""
        return self._places[self._first(slot)]

    def dotted(self, number: int) -> str:
        """Return the path of an op's layer, as in the names of parameters."""
        path = ".".join(map(str, self.plan.layer_index[number]))
        return f"{path}.projection" if _is_projection(self.plan.table[number]) else path

    def skip(self, number: int) -> str:
        """Return the place of what a join adds its branch to."""
        return self.place(self._skip_slot(number))

    def _skip_slot(self, number: int) -> int:
        """The input of the block, or what its projection, right behind the fork, makes of it."""
        table = self.plan.table
        fork = int(table[number]["partner"])
        projects = _is_projection(table[fork + 1])
        return int(table[fork + 1]["output"] if projects else table[fork]["input"])

    def _first(self, slot: int) -> int:
        return self._same.get(slot, slot)

    def _reads(self, number: int) -> Iterator[int]:
        op = self.plan.table[number]
        yield self._first(int(op["input"]))
        if _KINDS[int(op["kind"])] == "join":
            yield self._first(self._skip_slot(number))

    def _pack(self, last_read: Mapping[int, int]) -> None:
        """Give each slot the lowest place that is free from its first writing to its last reading."""
        live: list[tuple[int, int, int]] = []  # begin, end, number of the op that reads it last
        for number, op in enumerate(self.plan.table):
            slot = self._first(int(op["output"]))
            if slot in self._places:
                continue
            live = sorted(entry for entry in live if entry[2] >= number)
            begin = 0
            for taken, end, _ in live:
                if begin + self._width[slot] <= taken:
                    break
                begin = max(begin, end)
            live.append((begin, begin + self._width[slot], last_read.get(slot, number)))
            self.size = max(self.size, begin + self._width[slot])
            self._places[slot] = f"workspace + {begin}" if begin else "workspace"


def _is_projection(op: np.void) -> bool:
    return _KINDS[int(op["kind"])] == "dense" and int(op["partner"]) >= 0


def _is_nothing(op: np.void) -> bool:
    kind = _KINDS[int(op["kind"])]
    identity = kernels.ACTIVATION_CODES["identity"]
    return kind in ("dropout", "fork") or (kind == "activation" and int(op["code"]) == identity)


# --- one call for each op


def _dense(work: _Work, number: int, constants: _Constants) -> str:
    op, dotted = work.plan.table[number], work.dotted(number)
    weight = constants.add("weight", dotted, work.parameters[f"{dotted}.weight"].T)
    bias = constants.add("bias", dotted, work.parameters[f"{dotted}.bias"]) if op["bias"] >= 0 else "NULL"
    return f"{op['columns_in']}, {op['columns_out']}, {weight}, {bias}"


def _batch_norm(work: _Work, number: int, constants: _Constants) -> str:
    op, dotted = work.plan.table[number], work.dotted(number)
    mean, variance, gamma, beta = (
        work.parameters[f"{dotted}.{kind}"] for kind in ("running_mean", "running_var", "gamma", "beta")
    )
    with np.errstate(all="ignore"):
        spread = variance.astype(np.float64) + float(op["eps"])
        # as in kernels/normalization.pxd: a constant column gives beta
        inverse = np.where(spread != 0, 1 / np.sqrt(spread), 0)
        inverse = np.where(np.isinf(spread), np.nan, inverse).astype(mean.dtype)
    given = {"mean": mean, "inverse": inverse, "gamma": gamma, "beta": beta}
    names = [constants.add(kind, dotted, array) for kind, array in given.items()]
    return f"{op['columns_out']}, {', '.join(names)}"


def _layer_norm(work: _Work, number: int, constants: _Constants) -> str:
    op, dotted = work.plan.table[number], work.dotted(number)
    names = [constants.add(kind, dotted, work.parameters[f"{dotted}.{kind}"]) for kind in ("gamma", "beta")]
    return f"{op['columns_out']}, {float(op['eps']).hex()}, {', '.join(names)}"


def _activation(work: _Work, number: int, constants: _Constants) -> str:
    op = work.plan.table[number]
    parameter = f", {constants.literal(float(op['parameter']))}" if _has_parameter(_function(op)) else ""
    return f"{op['columns_out']}{parameter}"


def _join(work: _Work, number: int, constants: _Constants) -> str:
    op = work.plan.table[number]
    return f"{op['columns_out']}, {work.skip(number)}, {constants.literal(float(op['parameter']))}"


# Kind of op → the arguments of its helper behind input and output; None: nothing happens at inference.
EMITTERS: dict[str, Callable[[_Work, int, _Constants], str] | None] = {
    "dense": _dense,
    "activation": _activation,
    "batch_norm": _batch_norm,
    "layer_norm": _layer_norm,
    "dropout": None,
    "fork": None,
    "join": _join,
}


def _call(work: _Work, number: int, constants: _Constants) -> tuple[str, str] | None:
    """Return the helper that does an op, and its arguments."""
    op = work.plan.table[number]
    kind = _KINDS[int(op["kind"])]
    helper = _function(op) if kind == "activation" else kind
    known = kind in EMITTERS and (kind != "activation" or helper in FUNCTIONS or helper in _HELPERS)
    if not known or (op["weight"] >= 0 and kind not in ("dense", "batch_norm", "layer_norm")):
        raise ValueError(f"{work.plan.names[number]}: {helper} cannot be exported to C yet")
    emitter = EMITTERS[kind]
    if emitter is None or _is_nothing(op):
        return None
    arguments = emitter(work, number, constants)
    return helper, f"{work.place(int(op['input']))}, {work.place(int(op['output']))}, {arguments}"


def _function(op: np.void) -> str:
    """Return the name of an activation op's function."""
    return next(name for name, code in kernels.ACTIVATION_CODES.items() if code == int(op["code"]))


def _has_parameter(activation: str) -> bool:
    info = activations.REGISTRY.get(activation)
    return info is not None and info.parameter_name is not None


class _Constants:
    """Arrays as C constants, exact."""

    def __init__(self, name: str, dtype: np.dtype[Any]) -> None:
        self.name, self.dtype = name, dtype
        self.lines: list[str] = []

    def add(self, kind: str, dotted: str, array: Array) -> str:
        """Declare a parameter; return its name in C."""
        if not np.isfinite(array).all():
            raise ValueError(
                f"{kind} of layer {dotted} is not finite everywhere: such a network cannot be exported; "
                "load an older file, or train it anew"
            )
        values = [self.literal(float(value)) for value in array.reshape(-1)]
        rows = ",\n    ".join(", ".join(values[i : i + 6]) for i in range(0, len(values), 6))
        full = f"{self.name}_{kind}_{dotted.replace('.', '_')}"
        self.lines.append(f"static const {_real(self.dtype)} {full}[{array.size}] = {{\n    {rows}\n}};")
        return full

    def literal(self, value: float) -> str:
        """Return a number in hexadecimal, rounded to the dtype."""
        mantissa, exponent = float(self.dtype.type(value)).hex().split("p")
        short = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
        return f"{short}p{exponent}{'f' if self.dtype == np.float32 else ''}"


class _Calls:
    """The calls of the forward function, and the helpers that they need."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._needed: dict[str, None] = {}

    def add(self, helper: str, arguments: str) -> None:
        """Add a call."""
        self._needed[helper] = None
        self.lines.append(f"{helper}({arguments});")

    def helpers(self, name: str, dtype: np.dtype[Any]) -> Iterator[str]:
        """Return the C of every helper that is called, in the order of their first call."""
        for helper in self._needed:
            source = _HELPERS[helper].strip() if helper in _HELPERS else _elementwise(helper, dtype)
            if dtype == np.float32 and helper in _HELPERS:
                source = in_single(source)
            yield source.replace("NAME_", f"{name}_").replace("WIDE_SQRT", "sqrt").replace("WIDE", "double")


def _elementwise(activation: str, dtype: np.dtype[Any]) -> str:
    has_parameter = _has_parameter(activation)
    function = scalar_function(activation, f"NAME_one_{activation}", dtype, has_parameter=has_parameter)
    real = _real(dtype)
    parameter, given = (f", {real} p", ", p") if has_parameter else ("", "")
    return f"""{function}

static void NAME_{activation}(const {real} *x, {real} *y, size_t n{parameter})
{{
    for (size_t i = 0; i < n; i++)
        y[i] = ({real})NAME_one_{activation}(x[i]{given});
}}"""


# In double; float32 is made of it. WIDE is double in both.
_HELPERS = {
    "dense": """
/* y = W x + b; the weights lie input by input, so that the inner loop needs no sum */
static void NAME_dense(const double *x, double *restrict y, size_t inputs, size_t outputs,
                       const double *weight, const double *bias)
{
    for (size_t u = 0; u < outputs; u++)
        y[u] = 0;
    for (size_t i = 0; i < inputs; i++)
        for (size_t u = 0; u < outputs; u++)
            y[u] += x[i] * weight[i * outputs + u];
    for (size_t u = 0; bias != NULL && u < outputs; u++)
        y[u] += bias[u];
}
""",
    "batch_norm": """
static void NAME_batch_norm(const double *x, double *y, size_t n, const double *mean, const double *inverse,
                            const double *gamma, const double *beta)
{
    for (size_t i = 0; i < n; i++)
        y[i] = gamma[i] * ((x[i] - mean[i]) * inverse[i]) + beta[i];
}
""",
    "layer_norm": """
/* over one row, in two passes: the second about the mean of the first, whose rounding it finds */
static void NAME_layer_norm(const double *x, double *y, size_t n, WIDE eps, const double *gamma, const double *beta)
{
    WIDE centre = x[0], rest = 0, variance = 0;
    for (size_t i = 0; i < n; i++)
        rest += x[i] - centre;
    centre += rest / n;
    rest = 0;
    for (size_t i = 0; i < n; i++) {
        rest += x[i] - centre;
        variance += (x[i] - centre) * (x[i] - centre);
    }
    rest /= n;
    variance = variance / n - rest * rest + eps;
    const WIDE inverse = isinf(variance) ? NAN : variance > 0 ? 1 / WIDE_SQRT(variance) : variance * 0;
    for (size_t i = 0; i < n; i++)
        y[i] = (double)(gamma[i] * ((x[i] - centre - rest) * inverse) + beta[i]);
}
""",
    "join": """
static void NAME_join(const double *x, double *y, size_t n, const double *skip, double scale)
{
    for (size_t i = 0; i < n; i++)
        y[i] = skip[i] + scale * x[i];
}
""",
    "softmax": """
/* shifted by the maximum, which entries at +inf share; a row of -inf, or with a NaN, becomes NaN */
static void NAME_softmax(const double *x, double *y, size_t n)
{
    double largest = x[0];
    for (size_t i = 0; i < n; i++) {
        if (isnan(x[i])) {
            largest = x[i];
            break;
        }
        if (x[i] > largest)
            largest = x[i];
    }
    const int shared = isinf(largest) && largest > 0;
    WIDE sum = 0;
    for (size_t i = 0; i < n; i++) {
        y[i] = shared ? isinf(x[i]) && x[i] > 0 : exp(x[i] - largest);
        sum += y[i];
    }
    for (size_t i = 0; i < n; i++)
        y[i] = (double)(y[i] / sum);
}
""",
}


# --- labels


def _labels(net: Network) -> list[bytes]:
    """Return the labels that a row gets one of, as text; none where there is no such label."""
    loss = net.loss
    if loss is None or not loss.classification or (loss.name != "cross_entropy" and net.output_size > 1):
        return []
    classes = range(max(2, net.output_size)) if net.classes_ is None else net.classes_.tolist()
    return [c if isinstance(c, bytes) else str(c).encode("utf-8", "surrogateescape") for c in classes]


def _labels_source(name: str, labels: list[bytes]) -> str:
    def quoted(label: bytes) -> str:
        plain = (chr(b) if 32 <= b < 127 and chr(b) not in '"\\?' else f"\\{b:03o}" for b in label)
        return f'"{"".join(plain)}"'

    rows = ",\n    ".join(map(quoted, labels))
    return f"const char *const {name}_labels[{len(labels)}] = {{\n    {rows}\n}};"


def _predict_source(net: Network, name: str, outputs_at: int) -> str:
    real, outputs = _real(net.dtype), net.output_size
    if outputs == 1:
        choice = "    return isnan(y[0]) ? -1 : y[0] > 0;"
    else:
        choice = f"""\
    int best = 0;
    for (int i = 0; i < {outputs}; i++) {{
        if (isnan(y[i]))
            return -1;
        if (y[i] > y[best])
            best = i;
    }}
    return best;"""
    return f"""\
int {name}_predict(const {real} *x, {real} *workspace)
{{
    {real} *y = workspace + {outputs_at};
    {name}_forward(x, y, workspace);
{choice}
}}"""
