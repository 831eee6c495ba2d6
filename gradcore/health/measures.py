"""The measures: what the chance of training is read from, as plain numbers by name.

All are of one batch, before any training, and most are logarithms of ratios that have no unit.  Two of them are first
orders of what training will do (``progress``, ``promise``): a gradient step of rate lr lowers the loss by lr ‖g‖², and
one of Adam, which moves every weight by about lr, by lr ‖g‖₁ as far as its epsilon does not swallow the gradient
(Kingma & Ba 2015, algorithm 1).  The *usable* gradient is the centred one of `gradcore.health.evidence.Books`: what
moves all examples alike does not count.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from gradcore import kernels
from gradcore.activations import REGISTRY
from gradcore.optimizers import SGD

if TYPE_CHECKING:
    from gradcore.health.evidence import Evidence, Trace

Array = npt.NDArray[np.float64]

# Logarithms end here: beyond, a number is as good as zero or infinity.
END = 30.0

_ACTIVATION, _BATCH_NORM, _LAYER_NORM, _JOIN, _DROPOUT = (
    kernels.OP_KINDS[name] for name in ("activation", "batch_norm", "layer_norm", "join", "dropout")
)
_CODES = max(kernels.ACTIVATION_CODES.values()) + 1
# by code of the activation
_KINKED, _BOUNDED = np.zeros(_CODES), np.zeros(_CODES)
for _info in REGISTRY.values():
    _KINKED[_info.code], _BOUNDED[_info.code] = (
        _info.rectifier,
        _info.bounded,
    )


def log(x: float) -> float:
    """log10 between -`END` and `END`; what is not a number counts as infinite.

    Examples
    --------
    >>> log(100.0), log(0.0), log(math.nan)
    (2.0, -30.0, 30.0)
    """
    if not x > 0:
        return -END if x <= 0 else END
    return max(-END, min(END, math.log10(x))) if x < math.inf else END


def measures(evidence: Evidence) -> dict[str, float]:
    """Return the measures of one network on one batch."""
    books, optimizer, facts = evidence.books, evidence.optimizer, evidence.facts
    layers, ledger = books.layers, books.ledger
    table, records, rows = ledger.plan.table, ledger.records, ledger.rows
    usable, gradient, weight = books.usable, layers.gradient, layers.weight
    count = layers.fan_in * layers.units
    hidden = slice(None, -1) if len(layers) > 1 else slice(None)
    # where all targets are alike, the loss itself is the scale
    loss = evidence.loss
    constant, plain = evidence.constant_loss or abs(loss) or 1.0, isinstance(optimizer, SGD)
    step = evidence.step_size
    eps: float = getattr(optimizer, "eps", 0.0)
    with np.errstate(all="ignore"):
        over = np.where(weight > 0, weight, np.inf)
        if plain:
            progress, total = step * _sum(count * usable**2), step * _sum(count * gradient**2)
            relative = step * usable / over
        else:
            kept, kept_all = usable / (usable + eps), gradient / (gradient + eps)
            progress, total = step * _sum(count * usable * kept), step * _sum(count * gradient * kept_all)
            relative = step * kept / over
        clear = layers.output_signal / np.where(layers.output_scale > 0, layers.output_scale, np.inf)
        norms, weights = gradient * np.sqrt(count), layers.weight_norm
        usable_norm = _norm(usable * np.sqrt(count))
        ratio = _largest(optimizer.lr * norms / np.where(weights > 0, weights, np.inf))
    kinds = table["kind"]
    ops = np.flatnonzero(kinds[:-1] == _ACTIVATION)
    flat = np.nan_to_num(records["flat"][ops] / (rows * table["columns_out"][ops]), nan=0.0)
    codes = table["code"][ops]
    last = int(table["code"][-1]) if kinds[-1] == _ACTIVATION else 0
    delta = layers.delta
    return {
        "adam": float(not plain),
        "rate": log(optimizer.lr),
        "step": log(step),
        "loss": log(loss / constant),
        "constant_loss": log(constant),
        "usable": log(_largest(usable)),
        "usable_median": log(_median(usable)),
        "usable_first": log(float(usable[0])),
        "usable_last": log(float(usable[-1])),
        "usable_hidden": log(_largest(usable[hidden])),
        "gradient": log(_largest(gradient)),
        "gradient_first": log(float(gradient[0])),
        "usable_share": log(_largest(usable) / _largest(gradient)) if _largest(gradient) > 0 else -END,
        "progress": log(progress / constant),
        "promise": log(total / loss) if loss else 0.0,
        "relative": log(_largest(relative)),
        "relative_median": log(_median(relative)),
        "ratio": log(ratio),
        "dead_zone": float(np.mean(usable < 10 * eps)),
        "gain": _finite(ledger.end_to_end_log10, -END if delta[0] == 0 else END),
        "largest_gain": _finite(books.largest_gain, 0.0),
        "delta": log(float(delta[-1]) / math.sqrt(rows)),
        "signal": log(float(clear[hidden][-1])),
        "signal_least": log(float(np.nanmin(clear[hidden], initial=math.inf))),
        "signal_hidden": log(float(layers.output_signal[hidden][-1])),
        "signal_output": log(float(layers.output_signal[-1])),
        "scale_output": log(float(layers.output_scale[-1])),
        "scale_hidden": log(float(layers.output_scale[hidden][-1])),
        "scale_largest": log(_largest(layers.output_scale)),
        "input_signal": log(float(layers.input_signal[0])),
        "input_scale": log(float(layers.input_scale[0])),
        "pre_activation": log(float(layers.z_scale[0])),
        "flat": float(flat.max(initial=0.0)),
        "flat_mean": float(flat.mean()) if len(flat) else 0.0,
        "kinked": float(_KINKED[codes].mean()) if len(ops) else 0.0,
        "bounded": float(_BOUNDED[codes].mean()) if len(ops) else 0.0,
        "narrowness": float(np.sum(1 / layers.units[:-1])),
        "depth": float(len(layers)),
        "width": math.log10(float(layers.units[hidden].min())),
        "spread": min(END, books.spread),
        "parameters": math.log10(float(count.sum())),
        "finite": float(books.finite),
        "decay": log(optimizer.weight_decay * step),
        "decay_share": log(optimizer.weight_decay * _norm(weights) / usable_norm) if usable_norm > 0 else END,
        "momentum": optimizer.momentum if isinstance(optimizer, SGD) else 0.9,
        "batch": math.log10(evidence.batch_size),
        "rows": math.log10(facts.rows),
        "dropout": float(table["parameter"][kinds == _DROPOUT].max(initial=0.0)),
        "norm": float(np.isin(kinds, (_BATCH_NORM, _LAYER_NORM)).any()),
        "residual": float((kinds == _JOIN).any()),
        "output_activation": float(last != 0),
        "reach": log(evidence.reachable_loss / constant),
        "twins": float(evidence.twins),
        "linear": facts.linear,
        "smooth": facts.smooth,
        "regression": float(evidence.regression),
        "outputs": math.log10(float(layers.units[-1])),
    }


def trace_measures(trace: Trace, after: dict[str, float]) -> dict[str, float]:
    """Return the measures of some real steps: the losses over that of the constant predictor, and the books after.

    Parameters
    ----------
    trace : Trace
    after : dict
        The measures of the network that the steps made.
    """
    # where all targets are alike, the loss at the start is the scale
    counted, constant = trace.counted
    scale = constant or abs(float(counted[0])) or 1.0
    losses = counted[np.isfinite(counted)] / scale
    quarter = max(1, len(losses) // 4)
    late, early = losses[-quarter:], losses[:quarter]
    if not len(losses):
        late = early = np.array([math.inf])
    with np.errstate(all="ignore"):
        found = {
            "seen_steps": math.log10(len(trace.losses)),
            "seen_skipped": trace.skipped / len(trace.losses),
            "seen_early": log(float(early.mean())),
            "seen_late": log(float(late.mean())),
            "seen_least": log(float(late.min())),
            "seen_most": log(float(late.max())),
            "seen_noise": log(float(late.std() / math.sqrt(len(late)))) if np.isfinite(late).all() else END,
        }
    kept = (
        "loss",
        "usable",
        "usable_first",
        "gain",
        "signal",
        "signal_output",
        "scale_output",
        "flat",
        "finite",
    )
    return found | {f"after_{name}": after[name] for name in kept}


def _sum(values: Array) -> float:
    return float(np.nansum(values))


def _largest(values: Array) -> float:
    known = values[~np.isnan(values)]
    return float(known.max()) if len(known) else math.nan


def _median(values: Array) -> float:
    # np.median takes ten times as long for so few
    ordered, middle = np.sort(values), len(values) // 2
    return float(ordered[middle] if len(values) % 2 else (ordered[middle - 1] + ordered[middle]) / 2)


def _norm(values: Array) -> float:
    return math.hypot(*values[np.isfinite(values)])


def _finite(x: float, otherwise: float) -> float:
    return max(-END, min(END, x)) if math.isfinite(x) else otherwise
