"""The report for the terminal: the verdict first, then where, why and what to change; 80 columns."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gradcore.diagnosis.changes import Change, dense_layers, describe, hidden_activations
from gradcore.health.faults import Fault
from gradcore.layers import Layer

if TYPE_CHECKING:
    from gradcore.diagnosis.diagnose import Diagnosis
    from gradcore.diagnosis.proof import Proof

WIDTH = 80
BLOCKS = "·▁▂▃▄▅▆▇█"

# Decades between the shortest and the tallest block: what float32 resolves, twice over.
BLOCK_DECADES = 16.0

# One character for one, so that columns stay where they are; arrows and dots end a line.
_ASCII: dict[str, str | int | None] = {
    **dict(zip("✗✓–−×÷·▁▂▃▄▅▆▇█", "x+--x/._,-=+*%#", strict=True)),
    "←": "<-", "→": "->", "…": "...",
}  # fmt: skip
SYMBOLS = "".join(_ASCII)

_RED, _GREEN, _BOLD, _DIM, _RESET = "\x1b[31m", "\x1b[32m", "\x1b[1m", "\x1b[2m", "\x1b[0m"


@dataclass(frozen=True)
class Style:
    """What the terminal can show: symbols beyond ASCII, colours; and what an example is called."""

    symbols: bool = True
    colours: bool = False
    example: str = "example"

    def finish(self, lines: Iterable[str]) -> str:
        """Join lines, in ASCII where it must be."""
        text = "\n".join(lines)
        return (
            text
            if self.symbols
            else text.translate(str.maketrans(_ASCII)).encode("ascii", "replace").decode()
        )

    def _in(self, code: str, text: str) -> str:
        return f"{code}{text}{_RESET}" if self.colours else text

    def bad(self, text: str) -> str:
        """Red."""
        return self._in(_RED, text)

    def good(self, text: str) -> str:
        """Green."""
        return self._in(_GREEN, text)

    def strong(self, text: str) -> str:
        """Bold."""
        return self._in(_BOLD, text)

    def dim(self, text: str) -> str:
        """Faint."""
        return self._in(_DIM, text)


PLAIN = Style()


def render(diagnosis: Diagnosis, proof: Proof | None = None, style: Style = PLAIN) -> str:
    """Return the whole report."""
    if diagnosis.healthy:
        return style.finish(verdict(diagnosis, style))
    lines = [*verdict(diagnosis, style), *(proof_lines(proof, style) if proof is not None else [])]
    for part in (layer_table(diagnosis, style), what_if_table(diagnosis, proof, style)):
        lines += ["", *part] if part else []
    return style.finish(lines)


# -- the verdict -----------------------------------------------------------------------------------------------------


def verdict(diagnosis: Diagnosis, style: Style = PLAIN) -> list[str]:
    """Return the headline and where, why, change."""
    if diagnosis.healthy:
        return _healthy(diagnosis, style)
    first, *others = diagnosis.faults
    lines = [style.bad(style.strong(f"✗ {first.title}: {_headline(first)} ({_seeds(first)})")), ""]
    lines += _labelled("where", _where(first, diagnosis, style), style)
    lines += _labelled("why", _why(first, diagnosis), style)
    lines += _labelled("change", _change(diagnosis, style), style)
    for fault in others:
        where = _where(fault, diagnosis, style)
        lines += _labelled(
            "also", [f"{fault.title.lower()} ({_seeds(fault)}): {where[0].rstrip(';')}"], style
        )
    return lines


def _healthy(diagnosis: Diagnosis, style: Style) -> list[str]:
    layers = diagnosis.books.layers
    seeds = "" if diagnosis.seeds == 1 else f" in {diagnosis.seeds} of {diagnosis.seeds} seeds"
    head = style.good(style.strong(f"✓ HEALTHY: nothing keeps this network from learning{seeds}"))
    signal = _ratio(layers.output_signal[-2 if len(layers) > 1 else -1], layers.input_signal[0])
    return [
        head,
        f"  gradient end to end, log10: {_signed(diagnosis.ledger.end_to_end_log10)};"
        f" {style.example} signal, input to last layer: ×{signal}",
        f"  loss {diagnosis.ledger.loss:.3g} on one batch;"
        f" the best layer's usable gradient {diagnosis.books.usable.max():.1e}",
    ]


def _headline(fault: Fault) -> str:
    k, n = fault.seeds
    if fault.severity == "fatal":
        return (
            "this network cannot learn" if 2 * k > n or n == 1 else "this network may be born unable to learn"
        )
    return "this network learns badly"


def _seeds(fault: Fault) -> str:
    k, n = fault.seeds
    return f"{k} of {n} seed{'s' if n > 1 else ''}"


def _labelled(label: str, lines: Sequence[str], style: Style) -> list[str]:
    if not lines:
        return []
    # lines with colours are ours and short enough
    fitting = [part for line in lines for part in ([line] if "\x1b" in line else _wrapped(line))]
    return [f"  {style.dim(f'{label:<7}')} {fitting[0]}", *(" " * 10 + line for line in fitting[1:])]


def _where(fault: Fault, diagnosis: Diagnosis, style: Style) -> list[str]:
    lines = _WHERE[fault.kind](fault, diagnosis, style) if fault.kind in _WHERE else [", ".join(fault.ops)]
    steps = fault.evidence.get("after_steps")
    return [f"after {steps} steps:", *lines] if steps else lines


def _where_vanishing(fault: Fault, diagnosis: Diagnosis, style: Style) -> list[str]:
    evidence = fault.evidence
    starved, lost, count = evidence["starved_layers"], evidence["first_lost_layer"], evidence["layers"]
    if len(starved) == count or not starved:
        lines = ["no layer receives an update that tells examples apart"]
    else:
        verb = "receive" if len(starved) > 1 else "receives"
        lines = [f"layer{_plural(starved)} {_ranges(starved)} {verb} no usable update"]
    if lost is not None:
        lines = [lines[0] + ";", f"from layer {lost} on all {style.example}s look the same"]
    return lines


def _where_exploding(fault: Fault, diagnosis: Diagnosis, style: Style) -> list[str]:
    evidence = fault.evidence
    return [
        f"on its way back the gradient grows by {evidence['largest_gain_log10']:.1f} decades;",
        f"chance explains {evidence['chance_log10']:.1f}; one step of {diagnosis.optimizer.name}"
        f" overshoots {_power(evidence['overshoot'])} times",
    ]


def _where_overflow(fault: Fault, diagnosis: Diagnosis, style: Style) -> list[str]:
    evidence = fault.evidence
    what = {
        "output": "output",
        "loss": "loss",
        "d_output": "delta",
        "d_input": "delta",
        "weight_gradient": "weight gradient",
    }[evidence["what"]]
    return [
        f"layer {evidence['layer']}, {evidence['pass']} pass: the {what} of {fault.ops[0]} leaves {evidence['dtype']}",
        f"(largest operand {evidence['largest_operand']:.1e}, largest {evidence['dtype']} {evidence['limit']:.1e})",
    ]


def _where_underflow(fault: Fault, diagnosis: Diagnosis, style: Style) -> list[str]:
    layers, evidence = fault.evidence["layers_underflowed"], fault.evidence
    where = f"layer{_plural(layers)} {_ranges(layers)}"
    return [f"the deltas of {where} are below {evidence['limit']:.1e}, the smallest {evidence['dtype']}"]


def _where_saturated(fault: Fault, diagnosis: Diagnosis, style: Style) -> list[str]:
    layers, evidence = fault.evidence["saturated_layers"], fault.evidence
    return [
        f"up to {evidence['largest_share']:.0%} of layer{_plural(layers)} {_ranges(layers)} saturated"
        f" (pre-activations up to {evidence['largest_pre_activation']:.2g})"
    ]


def _where_dead(fault: Fault, diagnosis: Diagnosis, style: Style) -> list[str]:
    evidence = fault.evidence
    name, (dead, units) = next(iter(evidence["dead"].items()))
    layer = evidence["first_dead_layer"]
    if layer is not None:
        name = next(n for n, (d, u) in evidence["dead"].items() if d == u)
        units = evidence["dead"][name][1]
        below = "layer 1 receives" if layer == 1 else f"layers 1–{layer} receive"
        return [
            f"all {units} units of {name} are off on every row of the data;",
            f"{below} no gradient at all",
        ]
    return [
        f"{dead} of {units} units of {name} are off on every row of the data ({evidence['largest_share']:.0%})"
    ]


def _where_symmetric(fault: Fault, diagnosis: Diagnosis, style: Style) -> list[str]:
    layers = fault.evidence["symmetric_layers"]
    return [f"all units of layer{_plural(layers)} {_ranges(layers)} are copies of each other, and stay so"]


def _where_constant(fault: Fault, diagnosis: Diagnosis, style: Style) -> list[str]:
    return [f"the output {fault.evidence['output']} passes no gradient at all: it does not fit its loss"]


def _where_ratio(fault: Fault, diagnosis: Diagnosis, style: Style) -> list[str]:
    layers, ratio = fault.evidence["large_layers"], fault.evidence["largest_ratio"]
    return [
        f"one step changes layer{_plural(layers)} {_ranges(layers)} by up to {_power(ratio)} times their own size"
    ]


def _where_loss_nan(fault: Fault, diagnosis: Diagnosis, style: Style) -> list[str]:
    return [f"step {fault.evidence['first_step']}: loss or gradient is not a number"]


def _where_loss_diverging(fault: Fault, diagnosis: Diagnosis, style: Style) -> list[str]:
    e = fault.evidence
    grows = f"the loss grows from {e['first_loss']:.3g} to {e['last_loss']:.3g}"
    return [f"{grows}; knowing nothing costs {e['constant_loss']:.3g}"]


def _where_loss_oscillating(fault: Fault, diagnosis: Diagnosis, style: Style) -> list[str]:
    e = fault.evidence
    return [f"the loss climbs back by {e['largest_swing']:.3g}; batches explain {e['noise']:.3g}"]


def _where_loss_stalled(fault: Fault, diagnosis: Diagnosis, style: Style) -> list[str]:
    e = fault.evidence
    return [
        f"after {e['steps']} steps the loss is {e['last_loss']:.3g}, large and unchanging;",
        f"the healthy counterpart reaches {e['healthy_last_loss']:.3g} in the same steps",
    ]


_WHERE: dict[str, Callable[[Fault, Diagnosis, Style], list[str]]] = {
    "vanishing_gradient": _where_vanishing,
    "exploding_gradient": _where_exploding,
    "overflow": _where_overflow,
    "underflow": _where_underflow,
    "saturated_activations": _where_saturated,
    "dead_units": _where_dead,
    "symmetric_weights": _where_symmetric,
    "constant_output": _where_constant,
    "update_ratio_too_large": _where_ratio,
    "loss_nan": _where_loss_nan,
    "loss_diverging": _where_loss_diverging,
    "loss_oscillating": _where_loss_oscillating,
    "loss_stalled": _where_loss_stalled,
}

_NUMBERS = ("no", "one", "two", "three", "four")


def _why(fault: Fault, diagnosis: Diagnosis) -> list[str]:
    lines = []
    names = [cause.replace("_", " ") for cause in fault.causes]
    if len(names) > 1:
        lines.append(f"{_NUMBERS[len(names)]} causes, and fixing only one is not enough")
    elif names:
        lines.append(f"one cause: {names[0]}")
    else:
        lines.append("no change that was tried cures it")
    if fault.kind in ("vanishing_gradient", "exploding_gradient"):
        lines += _split_lines(fault, diagnosis)
    if fault.kind == "dead_units" and "narrow_layers" in fault.causes:
        lines.append(f"  the sum of 1/width is {fault.evidence['narrowness']:.1f}: some layer dies by chance")
    table, best = diagnosis.what_if, diagnosis.what_if.best(fault)
    cures = [o for o in table.cures(fault) if len(o.change.causes) == len(names)]
    same = [o.name.removesuffix(" only") for o in cures if o.change.causes == fault.causes and o is not best]
    other = [o.name.removesuffix(" only") for o in cures if o.change.causes != fault.causes]
    if fault.causes != table.causes(fault):
        return lines
    if len(names) == 1 and same:
        lines.append(_fitting("as good as the change below: ", same))
    if len(names) == 1 and other:
        lines.append(_fitting("enough, too: ", other))
    around = [outcome.name for outcome in table.around(fault)]
    if around and names:
        lines.append(f"{' or '.join(around)} would make up for {'it' if len(names) == 1 else 'them'}")
    if fault.kind == "vanishing_gradient" and fault.evidence["in_dead_zone"]:
        eps = fault.evidence["dead_zone"]
        name = type(diagnosis.optimizer).__name__
        lines.append(f"{name} cannot help: gradients there are below its eps {_short(eps)}")
    return lines


def _split_lines(fault: Fault, diagnosis: Diagnosis) -> list[str]:
    """Decades and factor per layer, by group: exact bookkeeping of where the gradient goes."""
    chain = diagnosis.ledger.chain_counts()
    activations = {spec.partition("(")[0] for spec in hidden_activations(diagnosis.network.layers)}
    slope = f"{next(iter(activations))} slope" if len(activations) == 1 else "slopes"
    names = {
        "dense": "initial weights",
        "activation": slope,
        "norm": "batch norm",
        "residual": "residual blocks",
    }
    lines = []
    for group, decades in fault.evidence["split"].items():
        if group not in names or abs(decades) < 0.5:
            continue
        if math.isfinite(decades):
            factor = _factor(10 ** (decades / chain[group]))
            lines.append(f"  {names[group]:<16} ×{factor:<4} per layer {_signed(decades):>7} decades")
        else:
            lines.append(f"  {names[group]:<16} down to zero: no decades to add up")
    return lines


def _change(diagnosis: Diagnosis, style: Style) -> list[str]:
    best = diagnosis.best
    if best is None:
        fault = diagnosis.faults[0]
        return [f"{fault.advice} lets one batch through"] if fault.advice else []
    return change_lines(diagnosis, best.change, style)


def change_lines(diagnosis: Diagnosis, change: Change, style: Style = PLAIN) -> list[str]:
    """Return the change as a diff."""
    net = diagnosis.network
    lines: list[tuple[str, str]] = []
    if change.linear_output:
        lines.append((f'output "{net.layers[-1].spec}"', "output linear: the loss takes logits or values"))  # type: ignore[union-attr]
    elif change.rebuilds:
        before, after = describe(net.layers), describe(change.layers(net.layers, net.input_size))
        if change.width != 1 or change.depth != 1:
            old, new = _sizes(net.layers), _sizes(change.layers(net.layers, net.input_size))
            lines.append((f"hidden layers {old}", f"hidden layers {new}"))
        elif before and after:
            lines.append(_aligned(before, after))
        else:
            lines.append(("", change.name))
    if change.rate != 1:
        old_rate = diagnosis.optimizer.lr
        lines.append((f"lr={old_rate:g}", f"lr={old_rate * change.rate:g}"))
    if change.optimizer:
        lines.append((f'optimizer="{diagnosis.optimizer.name}"', f'optimizer="{change.optimizer.name}"'))
    if change.standardise_targets:
        lines.append(("", "y = (y - y.mean()) / y.std()"))
    if change.standardise:
        lines.append(("", "X = (X - X.mean(axis=0)) / X.std(axis=0)"))
    result = []
    for old, new in lines:
        result += [style.bad(f"- {old}")] if old else []
        result.append(style.good(f"+ {new}"))
    return result


def _aligned(before: str, after: str) -> tuple[str, str]:
    """Pad the arguments that both calls have, so that what changed stands one above the other."""
    old, new = before.split(", "), after.split(", ")
    if len(old) == len(new):
        for i in range(len(old) - 1):
            width = max(len(old[i]), len(new[i])) + 1
            old[i], new[i] = f"{old[i]},".ljust(width), f"{new[i]},".ljust(width)
        return " ".join(old), " ".join(new)
    return before, after


def _sizes(layers: tuple[Layer, ...]) -> str:
    units = [layer.units for layer in dense_layers(layers)[:-1]]
    return f"{units[0]}x{len(units)}" if len(set(units)) == 1 else ",".join(map(str, units))


# -- tables ----------------------------------------------------------------------------------------------------------


def proof_lines(proof: Proof, style: Style = PLAIN) -> list[str]:
    """Return the scores of real training, before and after the change."""
    now, changed = proof.control, proof.changed
    text = f"test {proof.score}   now {_scores(now.scores)}"
    if changed is not None:
        text += (
            f"   changed {style.good(_scores(changed.scores)) if changed.trains else _scores(changed.scores)}"
        )
    return _labelled("proof", [text], style)


def layer_table(diagnosis: Diagnosis, style: Style = PLAIN) -> list[str]:
    """Return gradient and signal by layer, as numbers and as blocks, now and changed."""
    layers, changed = diagnosis.books.layers, diagnosis.changed
    count = len(layers)
    shown = _columns(count)
    header = "".join(f"{'out' if i == count - 1 else i + 1:>6}" for i in shown)
    with np.errstate(divide="ignore"):
        now = np.log10(layers.delta)
        other = (
            np.log10(changed.layers.delta) if changed is not None and len(changed.layers) == count else None
        )
    everything = now if other is None else np.concatenate([now, other])
    top = float(everything[np.isfinite(everything)].max(initial=-math.inf))
    lost = layers.lost(diagnosis.ledger.dtype)
    signal = "".join(_cell(bool(lost[i]), float(layers.output_signal[i])) for i in shown)
    lines = [
        f"  {style.dim('layer'.ljust(16) + header)}",
        f"  {'gradient, log10':<16}" + "".join(f"{_whole(float(now[i])):>6}" for i in shown),
        f"  {'now':<16}" + style.bad("".join(f"{_block(now[i], top):>6}" for i in shown)),
    ]
    if other is not None:
        lines.append(f"  {'changed':<16}" + style.good("".join(f"{_block(other[i], top):>6}" for i in shown)))
    # numbers of seven characters (5.3e-3 and a space) reach one to the left
    lines.append(f"  {style.example + ' signal':<16}" + signal)
    return lines


def what_if_table(diagnosis: Diagnosis, proof: Proof | None = None, style: Style = PLAIN) -> list[str]:
    """Return the alternatives: of one batch, or, with a proof, really trained."""
    if not len(diagnosis.what_if):
        return []
    if proof is None:
        best = diagnosis.best
        lines = [
            f"  {style.dim('what if'.ljust(25) + 'gradient'.rjust(9) + 'signal'.rjust(9) + '   verdict')}"
        ]
        for outcome in diagnosis.what_if:
            mark = " ← best" if outcome is best else ""
            word = style.good("yes" + mark) if outcome.trains else "no"
            lines.append(
                f"  {outcome.name:<25}{_signed(outcome.gradient):>9}{_signed(outcome.signal):>9}   {word}"
            )
        return lines
    width = max(len(_scores(trial.scores)) for trial in proof.trials)
    count = len(proof.control.scores)
    seeds = f"{count} seed{'s' if count > 1 else ''}"
    lines = [
        f"  {style.dim('what if'.ljust(25) + 'gradient'.rjust(9) + '   ' + seeds.ljust(width) + '   verdict')}"
    ]
    best_trial = proof.best
    for trial in proof.trials:
        mark = " ← best" if trial is best_trial else ""
        word = style.good("yes" + mark) if trial.trains else "no"
        lines.append(
            f"  {trial.name:<25}{_signed(trial.gradient):>9}   {_scores(trial.scores):<{width}}   {word}"
        )
    return lines


def _columns(count: int) -> list[int]:
    """Choose at most seven layers: the first, the last hidden one, the output, and round numbers between."""
    if count <= 7:
        return list(range(count))
    hidden = count - 1
    inner = [round(hidden * k / 4) - 1 for k in (1, 2, 3)]
    return sorted({0, *inner, hidden - 1, hidden})


def _block(value: float, top: float) -> str:
    if not math.isfinite(value):
        return BLOCKS[-1] if value > 0 else BLOCKS[0]
    level = round(8 * (1 + (value - top) / BLOCK_DECADES))
    return BLOCKS[max(0, min(8, level))]


def _cell(lost: bool, value: float) -> str:
    text = "lost" if lost else _tiny(value)
    return f"{text:>6}"


# -- numbers ---------------------------------------------------------------------------------------------------------


def _short(x: float) -> str:
    """Two digits in few characters: 5.2e-3, 0.31, 12."""
    if not math.isfinite(x):
        return "inf" if x > 0 else "nan"
    if x == 0 or 0.01 <= abs(x) < 1000:
        return f"{x:.2g}"
    mantissa, _, exponent = f"{x:.1e}".partition("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}"


def _tiny(x: float) -> str:
    """At most five characters: 0.31, 5e-3."""
    return (
        f"{x:.2g}" if 0.01 <= abs(x) < 1000 or x == 0 else f"{x:.0e}".replace("e-0", "e-").replace("e+0", "e")
    )


def _factor(x: float) -> str:
    return f"{x:.2f}" if 0.01 <= x < 10 else _short(x)


def _signed(x: float) -> str:
    if not math.isfinite(x):
        return "zero" if math.isnan(x) or x < 0 else "inf"
    return f"{x:.1f}".replace("-", "−")


def _whole(x: float) -> str:
    if not math.isfinite(x):
        return "zero" if x < 0 else "inf" if x > 0 else "nan"
    return f"{x:.0f}".replace("-", "−")


def _power(x: float) -> str:
    return f"{x:.2g}" if x < 1000 else f"10^{math.log10(x):.0f}" if math.isfinite(x) else "beyond counting"


def _ratio(a: float, b: float) -> str:
    return f"{a / b:.2g}" if b > 0 and math.isfinite(a / b) else "?"


def _scores(scores: Sequence[float]) -> str:
    return " ".join("nan " if math.isnan(s) else f"{s:.2f}" for s in scores)


def _plural(items: Sequence[int]) -> str:
    return "s" if len(items) > 1 else ""


def _ranges(numbers: Sequence[int]) -> str:
    """Write [1, 2, 3, 7] as 1–3, 7."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(f"{p[0]}–{p[-1]}" if len(p) > 1 else str(p[0]) for p in parts)


def _wrapped(line: str) -> list[str]:
    indent = " " * (len(line) - len(line.lstrip()))
    return textwrap.wrap(line, WIDTH - 10, subsequent_indent=indent + "  ", break_on_hyphens=False) or [""]


def _fitting(head: str, items: Sequence[str]) -> str:
    """Join as many items as fit on a line."""
    text = head + ", ".join(items)
    return text if len(text) <= WIDTH - 10 else text[: WIDTH - 11].rsplit(", ", 1)[0] + ", …"
