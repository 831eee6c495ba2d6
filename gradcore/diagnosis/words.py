"""What the reports say in words: the verdict, where, why and what to change, and how their numbers are written.

Plain text without colours; the terminal, the page and the notebook dress it each in its own way.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from gradcore.diagnosis.changes import Change, dense_layers, describe, hidden_activations
from gradcore.health.faults import Fault
from gradcore.health.ledger import Ledger, count
from gradcore.layers import Layer

if TYPE_CHECKING:
    from gradcore.diagnosis.arrays import ArraysDiagnosis
    from gradcore.diagnosis.diagnose import Diagnosis
    from gradcore.network import Network
    from gradcore.optimizers import Optimizer

# A line of words: what 80 columns leave beside the label.
LINE = 70


# -- the verdict -----------------------------------------------------------------------------------------------------


def healthy_headline(diagnosis: Diagnosis | ArraysDiagnosis) -> str:
    """Say that no fault was found, and no more than that where training is in doubt all the same."""
    evidence = getattr(diagnosis, "evidence", None)  # arrays from elsewhere come without
    if evidence is not None and evidence.learned:
        return "it already knows more than a constant does"
    if diagnosis.chance is None:
        return "of others too little is known"
    if diagnosis.chance >= 0.5:
        return "nothing keeps this network from learning"
    return f"no fault was found, yet only {diagnosis.chance:.0%} of such networks train"


def healthy_figures(diagnosis: Diagnosis | ArraysDiagnosis, example: str) -> list[str]:
    """Give the figures that show a healthy network."""
    layers = diagnosis.books.layers
    chance = diagnosis.chance
    best = diagnosis.what_if.best if chance is not None and chance < 0.5 else None
    if best is not None and best.trains:
        hint = [f"most promising: {best.name.removesuffix(' only')} ({best.chance:.0%})"]
    else:
        hint = []
    signal = ratio(layers.output_signal[-2 if len(layers) > 1 else -1], layers.input_signal[0])
    said = "" if chance is None else f"; chance {chance:.0%}"
    return [
        f"gradient end to end, log10: {signed(diagnosis.books.end_to_end_log10)};"
        f" {example} signal, input to last layer ×{signal}",
        f"loss {diagnosis.ledger.loss:.3g} on one batch; the best layer's usable gradient"
        f" {diagnosis.books.usable.max():.1e}{said}",
        *hint,
    ]


def headline(fault: Fault) -> str:
    """Say what the fault means for the network."""
    k, n = fault.seeds
    if "chance" in fault.evidence:
        return "this network is unlikely to learn"
    if fault.severity == "fatal":
        return (
            "this network cannot learn" if 2 * k > n or n == 1 else "this network may be born unable to learn"
        )
    return "this network learns badly"


def notes(diagnosis: Diagnosis | ArraysDiagnosis) -> list[str]:
    """Say what is not known of arrays; of a network all is."""
    if diagnosis.setting is not None:
        return []
    said = [f"not known: {', '.join(diagnosis.missing)}"] if diagnosis.missing else []
    if diagnosis.loss_read:
        said.append(f"{diagnosis.loss.replace('_', '-')}, as the delta of the outputs tells")
    if diagnosis.unseen:
        more = len(diagnosis.unseen) - 3
        said.append(f"not seen: {', '.join(diagnosis.unseen[:3])}{f' and {more} more' if more > 0 else ''}")
    return said


def seeds(count: tuple[int, int]) -> str:
    """Say in how many of how many seeds something was found."""
    k, n = count
    return f"{k} of {n} seed{'s' if n > 1 else ''}"


def where(fault: Fault, diagnosis: Diagnosis, example: str) -> list[str]:
    """Say in which layers the fault shows, and how; `example` is what one row of the data is called."""
    lines = _WHERE[fault.kind](fault, diagnosis, example) if fault.kind in _WHERE else [", ".join(fault.ops)]
    steps = fault.evidence.get("after_steps")
    return [f"after {count(steps, 'step')}:", *lines] if steps else lines


def _where_vanishing(fault: Fault, diagnosis: Diagnosis, example: str) -> list[str]:
    evidence = fault.evidence
    starved, lost, count = evidence["starved_layers"], evidence["first_lost_layer"], evidence["layers"]
    if len(starved) == count or not starved:
        lines = ["no layer receives an update that tells examples apart"]
    else:
        verb = "receive" if len(starved) > 1 else "receives"
        lines = [f"layer{plural(starved)} {ranges(starved)} {verb} no usable update"]
    if lost is not None:
        lines = [lines[0] + ";", f"from layer {lost} on all {example}s look the same"]
    return lines


def _where_exploding(fault: Fault, diagnosis: Diagnosis, example: str) -> list[str]:
    evidence = fault.evidence
    return [
        f"on its way back the gradient grows by {evidence['largest_gain_log10']:.1f} decades;",
        f"chance explains {evidence['chance_log10']:.1f}; one step of {diagnosis.optimizer.name}"
        f" overshoots {power(evidence['overshoot'])} times",
    ]


def _where_overflow(fault: Fault, diagnosis: Diagnosis, example: str) -> list[str]:
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


def _where_underflow(fault: Fault, diagnosis: Diagnosis, example: str) -> list[str]:
    layers, evidence = fault.evidence["layers_underflowed"], fault.evidence
    where = f"layer{plural(layers)} {ranges(layers)}"
    return [f"the deltas of {where} are below {evidence['limit']:.1e}, the smallest {evidence['dtype']}"]


def _where_saturated(fault: Fault, diagnosis: Diagnosis, example: str) -> list[str]:
    layers, evidence = fault.evidence["saturated_layers"], fault.evidence
    return [
        f"up to {evidence['largest_share']:.0%} of layer{plural(layers)} {ranges(layers)} saturated"
        f" (pre-activations up to {evidence['largest_pre_activation']:.2g})"
    ]


def _where_dead(fault: Fault, diagnosis: Diagnosis, example: str) -> list[str]:
    evidence = fault.evidence
    name, (dead, units) = next(iter(evidence["dead"].items()))
    layer = evidence["first_dead_layer"]
    if layer is not None:
        name = next(n for n, (d, u) in evidence["dead"].items() if d == u)
        units = evidence["dead"][name][1]
        below = "layer 1 receives" if layer == 1 else f"layers 1–{layer} receive"
        return [
            (f"all {units} units of {name} are" if units > 1 else f"the only unit of {name} is")
            + " off on every row of the data;",
            f"{below} no gradient at all",
        ]
    return [
        f"{dead} of {units} units of {name} are off on every row of the data ({evidence['largest_share']:.0%})"
    ]


def _where_symmetric(fault: Fault, diagnosis: Diagnosis, example: str) -> list[str]:
    layers = fault.evidence["symmetric_layers"]
    return [f"all units of layer{plural(layers)} {ranges(layers)} are copies of each other, and stay so"]


def _where_constant(fault: Fault, diagnosis: Diagnosis, example: str) -> list[str]:
    return [f"the output {fault.evidence['output']} passes no gradient at all: it does not fit its loss"]


def _where_ratio(fault: Fault, diagnosis: Diagnosis, example: str) -> list[str]:
    layers, ratio = fault.evidence["large_layers"], fault.evidence["largest_ratio"]
    return [
        f"one step changes layer{plural(layers)} {ranges(layers)} by up to {power(ratio)} times their own size"
    ]


def _where_ratio_small(fault: Fault, diagnosis: Diagnosis, example: str) -> list[str]:
    e = fault.evidence
    if e["rate"] == 0:
        return ["the learning rate is 0: no step changes anything"]
    return [
        f"{e['steps']} steps at lr={e['rate']:g} move the weights by {100 * e['weights_move']:.1g}% of their size"
    ]


def _where_invalid(fault: Fault, diagnosis: Diagnosis, example: str) -> list[str]:
    e = fault.evidence
    if "spoilt_layers" in e:
        plurals = {"weight": "weights", "bias": "biases", "gamma": "gammas", "beta": "betas"}
        named = [
            f"the {plurals[kind]} of layer{plural(layers)} {ranges(layers)}"
            for kind, layers in e["by_kind"].items()
        ]
        exactly = f" ({e['spoilt_parameters'][0]})" if len(e["spoilt_parameters"]) == 1 else ""
        return [f"{' and '.join(named)} hold {e['says']}{exactly} before anything is computed"]
    if e["same_rows"]:
        return [f"all {e['rows']} {example}s are the same"]
    return ["nothing in the inputs tells the targets apart: neither a line nor neighbours do"]


def _where_loss_nan(fault: Fault, diagnosis: Diagnosis, example: str) -> list[str]:
    step, skipped = fault.evidence["first_step"], fault.evidence["skipped_steps"]
    if step is None:  # the loss and the gradient are numbers, and what they would make of the weights is not
        return [f"{count(skipped, 'step')} would have made weights that are not numbers"]
    return [f"step {step}: loss or gradient is not a number"]


def _where_loss_diverging(fault: Fault, diagnosis: Diagnosis, example: str) -> list[str]:
    e = fault.evidence
    grows = f"the loss grows from {e['first']:.3g} to {e['last']:.3g}"
    return [f"{grows}; knowing nothing costs {e['constant_loss']:.3g}"]


def _where_loss_oscillating(fault: Fault, diagnosis: Diagnosis, example: str) -> list[str]:
    e = fault.evidence
    return [f"the loss climbs back by {e['swing']:.3g}; batches explain {e['noise']:.3g}"]


def _where_loss_stalled(fault: Fault, diagnosis: Diagnosis, example: str) -> list[str]:
    e = fault.evidence
    if "chance" in e:  # foreseen, not seen
        return [f"no symptom stands out, but of networks with such books only {e['chance']:.0%} train"]
    return [
        f"after {e['steps']} steps the loss is {e['last']:.3g}, large and unchanging;",
        f"knowing nothing costs {e['constant_loss']:.3g}",
    ]


_WHERE: dict[str, Callable[[Fault, Diagnosis, str], list[str]]] = {
    "vanishing_gradient": _where_vanishing,
    "exploding_gradient": _where_exploding,
    "overflow": _where_overflow,
    "underflow": _where_underflow,
    "saturated_activations": _where_saturated,
    "dead_units": _where_dead,
    "symmetric_weights": _where_symmetric,
    "constant_output": _where_constant,
    "update_ratio_too_large": _where_ratio,
    "update_ratio_too_small": _where_ratio_small,
    "invalid_data": _where_invalid,
    "loss_nan": _where_loss_nan,
    "loss_diverging": _where_loss_diverging,
    "loss_oscillating": _where_loss_oscillating,
    "loss_stalled": _where_loss_stalled,
}

_NUMBERS = ("no", "one", "two", "three", "four")


def why(fault: Fault, diagnosis: Diagnosis) -> list[str]:
    """Say what causes the fault, and what else would have to hold."""
    lines = []
    names = [cause.replace("_", " ") for cause in fault.causes]
    likely = diagnosis.best is not None and diagnosis.best.trains
    if names and not likely and fault.causes == diagnosis.what_if.causes:
        chance = f"{diagnosis.best.chance:.0%}" if diagnosis.best is not None else "no"
        lines.append(f"several things at once, most likely {' and '.join(names)} among them:")
        lines.append(f"no change that was tried is enough (the best has {chance} chance)")
    elif len(names) > 1:
        lines.append(f"{_NUMBERS[len(names)]} causes, and fixing only one is not enough")
    elif names:
        lines.append(f"one cause: {names[0]}")
    elif len(diagnosis.what_if):
        lines.append("no change that was tried cures it")
    else:
        lines.append("changes cannot be tried on arrays: gradcore.diagnose finds the causes of networks")
    if fault.kind in ("vanishing_gradient", "exploding_gradient"):
        lines += _split_lines(fault, diagnosis)
    if fault.kind == "dead_units" and "narrow_layers" in fault.causes:
        lines.append(f"  the sum of 1/width is {fault.evidence['narrowness']:.1f}: some layer dies by chance")
    table, best = diagnosis.what_if, diagnosis.best
    cures = [o for o in table.cures if len(o.change.causes) == len(names)]
    same = [o.name.removesuffix(" only") for o in cures if o.change.causes == fault.causes and o is not best]
    other = [o.name.removesuffix(" only") for o in cures if o.change.causes != fault.causes]
    if fault.causes != table.causes:
        return lines
    if len(names) == 1 and same:
        lines.append(_fitting("would do as well: ", same))
    if len(names) == 1 and other:
        lines.append(_fitting("enough, too: ", other))
    if len(names) > 1:
        drastic = [o.name for o in table.cures if len(o.change.causes) == 1]
        lines += [_fitting("more drastic: ", drastic)] if drastic else []
    around = [outcome.name for outcome in table.around if len(outcome.change.made) == 1]
    if around and names:
        lines.append(f"{' or '.join(around)} would make up for {'it' if len(names) == 1 else 'them'}")
    if fault.kind == "vanishing_gradient" and fault.evidence["in_dead_zone"]:
        eps = fault.evidence["dead_zone"]
        name = type(diagnosis.optimizer).__name__
        lines.append(f"{name} cannot help: gradients there are below its eps {short(eps)}")
    return lines


def group_shares(
    ledger: Ledger, split: Mapping[str, float], layers: tuple[Layer, ...]
) -> list[tuple[str, float, float]]:
    """Return what each group of ops does to the gradient: its name, factor per layer, decades in all.

    Exact bookkeeping of where the gradient goes, not blame; a factor of zero has no decades to add up.
    """
    chain = ledger.chain_counts()
    activations = {spec.partition("(")[0] for spec in hidden_activations(layers)}
    slope = f"{next(iter(activations))} slope" if len(activations) == 1 else "slopes"
    names = {
        "dense": "initial weights",
        "activation": slope,
        "norm": "norm",  # of any kind: arrays do not say which
        "dropout": "dropout",
        "residual": "residual blocks",
    }
    return [
        (names[group], 10 ** (decades / chain[group]) if math.isfinite(decades) else 0.0, decades)
        for group, decades in split.items()
    ]


def _split_lines(fault: Fault, diagnosis: Diagnosis) -> list[str]:
    lines = []
    split, layers = fault.evidence["split"], diagnosis.network.layers
    for name, per_layer, decades in group_shares(diagnosis.ledger, split, layers):
        if name == "dropout" or abs(decades) < 0.5:
            continue
        if math.isfinite(decades):
            lines.append(f"  {name:<16} ×{factor(per_layer):<4} per layer {signed(decades):>7} decades")
        else:
            lines.append(f"  {name:<16} down to zero: no decades to add up")
    return lines


def words_of_advice(fault: Fault) -> str:
    """Say what to do where no change is to be made: a rule's own advice, or what at least gets around the fault."""
    return fault.advice if fault.causes else f"{fault.advice} lets one batch through, but is no cure"


# -- the change -----------------------------------------------------------------------------------------------------


def change_lines(net: Network, optimizer: Optimizer, change: Change) -> list[str]:
    """Return the change as a diff of the lines that make, prepare and train the network."""
    lines: list[tuple[str, str]] = []
    if change.standardise:
        lines.append(("", "X = (X - X.mean(axis=0)) / X.std(axis=0)"))
    if change.standardise_targets:
        lines.append(("", "y = (y - y.mean()) / y.std()"))
    if change.linear_output:
        lines.append((f'output "{net.layers[-1].spec}"', "output linear: the loss takes logits or values"))  # type: ignore[union-attr]
    if change.width != 1 or change.depth != 1:
        layers = change.layers(net.layers, net.input_size)
        lines.append((f"hidden layers {_sizes(net.layers)}", f"hidden layers {_sizes(layers)}"))
    rest = replace(change.structure, linear_output=False, width=1, depth=1.0)
    if rest.made:
        inputs = net.input_size
        before, after = describe(net.layers, inputs), describe(rest.layers(net.layers, inputs), inputs)
        whole = _aligned(before, after) if before and after and before != after else None
        lines.append(whole or ("", after or rest.name.removesuffix(" only")))
    if change.lsuv:
        lines.append(("", "gradcore.initializers.lsuv_(net, X)"))
    if change.pretrained is not None:
        noise = f", noise={change.pretrained:g}" if change.pretrained else ""
        lines.append(("", f"gradcore.pretrain_autoencoder(net, X, epochs=10{noise})"))
    lines += _fit_lines(optimizer, change)
    result = []
    for old, new in lines:
        result += [f"- {old}"] if old else []
        result.append(f"+ {new}")
    return result


def _fit_lines(optimizer: Optimizer, change: Change) -> list[tuple[str, str]]:
    lines: list[tuple[str, str]] = []
    if change.mean_loss:
        lines.append(("loss: sum over the batch", "loss: mean over the batch"))
    after = change.optimizer_for(optimizer)
    if change.optimizer or change.unregularised or change.weight_decay or change.l1:
        lines.append((f"optimizer={optimizer!r}", f"optimizer={after!r}"))
    elif change.rate != 1:
        lines.append((f"lr={optimizer.lr:g}", f"lr={after.lr:g}"))
    for name in ("batch_size", "clip_norm", "clip_value", "clip_adaptive"):
        value = getattr(change, name)
        lines += [("", f"{name}={value:g}")] if value is not None else []
    return lines + ([("", f'schedule="{change.schedule}"')] if change.schedule else [])


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


# -- numbers ---------------------------------------------------------------------------------------------------------


def short(x: float) -> str:
    """Two digits in few characters: 5.2e-3, 0.31, 12."""
    if not math.isfinite(x):
        return "inf" if x > 0 else "nan"
    if x == 0 or 0.01 <= abs(x) < 99.5:
        return f"{x:.2g}"
    if 1 < abs(x) < 1000:
        return f"{x:.0f}"
    mantissa, _, exponent = f"{x:.1e}".partition("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}"


def tiny(x: float) -> str:
    """At most five characters: 0.31, 120, 5e-3; a dash for what is no number."""
    if math.isnan(x):
        return "–"
    if x == 0 or 0.01 <= abs(x) < 99.5:
        return f"{x:.2g}"
    return f"{x:.0f}" if 1 < abs(x) < 1000 else f"{x:.0e}".replace("e-0", "e-").replace("e+0", "e")


def factor(x: float) -> str:
    """Write a factor per layer: 0.08, 3.1, 5.2e-3."""
    return f"{x:.2f}" if 0.01 <= x < 10 else short(x)


def signed(x: float) -> str:
    """Write decades with one digit: −22.0, zero, inf; a dash for what is no number."""
    if not math.isfinite(x):
        return _beyond(x)
    return f"{round(x, 1) + 0.0:.1f}".replace("-", "−")


def whole(x: float) -> str:
    """Write decades without digits: −22, zero, inf; a dash for what is no number."""
    if not math.isfinite(x):
        return _beyond(x)
    return f"{x:.0f}".replace("-", "−")


def _beyond(decades: float) -> str:
    return "zero" if decades < 0 else "inf" if decades > 0 else "–"


def power(x: float) -> str:
    """Write a number of times: 12, 10^5, beyond counting."""
    return f"{x:.2g}" if x < 1000 else f"10^{math.log10(x):.0f}" if math.isfinite(x) else "beyond counting"


def ratio(a: float, b: float) -> str:
    """Write a over b, or a question mark where there is none."""
    return f"{a / b:.2g}" if b > 0 and math.isfinite(a / b) else "?"


def scores(scores: Sequence[float]) -> str:
    """Write the scores of the seeds side by side."""
    return " ".join("nan " if math.isnan(s) else f"{s:.2f}" for s in scores)


def score_label(score: str) -> str:
    """Name a score."""
    return "R²" if score == "r2" else score


def capital(text: str) -> str:
    """Begin a text with a capital letter."""
    return text[:1].upper() + text[1:]


def plural(items: Sequence[int]) -> str:
    """Give the s of a plural."""
    return "s" if len(items) > 1 else ""


def ranges(numbers: Sequence[int]) -> str:
    """Write [1, 2, 3, 7] as 1–3, 7."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(f"{p[0]}–{p[-1]}" if len(p) > 1 else str(p[0]) for p in parts)


def _fitting(head: str, items: Sequence[str]) -> str:
    """Join as many items as fit on a line."""
    text = head + ", ".join(items)
    return text if len(text) <= LINE else text[: LINE - 1].rsplit(", ", 1)[0] + ", …"


# What a loss curve looks like, by its sign.
LOSS_SIGNS = {
    "nan": "no number any more",
    "diverging": "diverging: it grows, training makes the network worse",
    "oscillating": "oscillating: it keeps climbing back by more than its batches explain",
    "stalled": "stalled: large and unchanging",
    "converged": "converged: small and unchanging",
    "falling": "falling",
    "undecided": "undecided: too few steps, or too much noise between batches, to tell",
}


# -- for somebody who never heard of it --------------------------------------------------------------------------------

MEANING = {
    "vanishing_gradient": "The signal that tells each layer how to change shrinks on its way back through the"
    " network, until nothing usable is left of it.",
    "exploding_gradient": "The signal that tells each layer how to change grows on its way back through the network,"
    " until every step overshoots.",
    "overflow": "A number became too large for the computer’s number format; what is computed from it is no number.",
    "underflow": "Numbers became so small that the computer’s number format turns them into zero.",
    "saturated_activations": "The inputs of many activations are so large that their outputs stand at the limit and"
    " hardly react any more.",
    "dead_units": "Units that are off for every row of the data: nothing passes through them, so nothing ever"
    " changes them.",
    "symmetric_weights": "All units of a layer start as copies of each other, receive the same changes and stay"
    " copies: the layer works as if it had one unit.",
    "constant_output": "The last layer answers the same whatever happens before it, so that nothing can be learnt"
    " from its errors.",
    "loss_nan": "Training computed something that is no number, and everything after it is none either.",
    "loss_stalled": "The loss stays where it began: training makes no progress.",
    "loss_oscillating": "The loss keeps climbing back: each step goes too far.",
    "loss_diverging": "The loss grows: training makes the network worse.",
    "update_ratio_too_large": "One training step changes the weights by more than their own size: what was there"
    " before is overwritten.",
    "update_ratio_too_small": "Training steps are so small beside the weights that nothing changes in any reasonable"
    " time.",
    "invalid_data": "The data, or the weights, hold what no network can learn from.",
}
