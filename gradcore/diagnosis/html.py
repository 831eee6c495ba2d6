"""The report as one HTML page, and as a fragment for notebooks: what is shown, in which order, in which words."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import jinja2
import numpy as np
from markupsafe import Markup, escape

from gradcore import __version__, kernels
from gradcore.diagnosis import words
from gradcore.diagnosis.changes import dense_layers, hidden_activations
from gradcore.diagnosis.code import reproduce
from gradcore.diagnosis.curves import changed_books, curves, grouped, together
from gradcore.diagnosis.drawing.course import heat_map, loss_curve
from gradcore.diagnosis.drawing.layers import LAYERS, affected, layer_curves
from gradcore.diagnosis.drawing.scores import decade_bar, dot_strip
from gradcore.diagnosis.drawing.svg import power_of_ten
from gradcore.health.evidence import Books
from gradcore.health.faults import Fault
from gradcore.health.ledger import LedgerEntry, count
from gradcore.health.rules import all_rules

if TYPE_CHECKING:
    from gradcore.diagnosis.diagnose import Diagnosis
    from gradcore.diagnosis.proof import Proof, Trial
    from gradcore.diagnosis.what_if import Outcome

# Items of a list before "and … more".
_SHOWN = 12

# View boxes of the drawings: text keeps its size on a wide page and on a telephone.
_WIDE, _NARROW = 720, 350


def page(
    diagnosis: Diagnosis, proof: Proof | None = None, *, command: str | None = None, example: str = "example"
) -> str:
    """Return the report as one HTML file without any external part.

    Parameters
    ----------
    diagnosis : Diagnosis
    proof : Proof, optional
        What real training made of the network and of the changes.
    command : str, optional
        The command line that made the report.
    example : str
        What one row of the data is called.
    """
    trace = diagnosis.trace
    return _template("report.html.jinja").render(
        _verdict(diagnosis, example),
        proof=proof,
        chance=percent(diagnosis.chance),
        changed_chance=percent(diagnosis.best.chance) if diagnosis.best else None,
        shown=_shown(diagnosis),
        stretched=_stretched(diagnosis),
        affected=bool(diagnosis.faults and affected(diagnosis.faults[0])),
        curves=Both(layer_curves(diagnosis), layer_curves(diagnosis, _NARROW, 320)),
        dots=dot_strip(proof) if proof is not None else None,
        alternatives=_alternatives(diagnosis, proof),
        groups=_groups(diagnosis),
        rows=count(diagnosis.ledger.rows, "row"),
        heat=Both(heat_map(trace), heat_map(trace, _NARROW)) if trace and trace.ledgers else None,
        loss=_loss(diagnosis),
        ledger=list(_ledger(diagnosis.books)),
        aggregated=len(diagnosis.books.layers) > LAYERS,
        findings=[_Finding.of(fault, diagnosis, example) for fault in diagnosis.faults],
        command=command,
        code=reproduce(diagnosis),
        version=__version__,
        level=kernels.info()["level"],
    )


def fragment(diagnosis: Diagnosis) -> str:
    """Return the verdict, the change and the curves for a notebook, light or dark."""
    return _template("fragment.html.jinja").render(
        _verdict(diagnosis, "example"), shown=_shown(diagnosis), curves=layer_curves(diagnosis, 640, 320)
    )


@cache
def environment(*packages: str) -> jinja2.Environment:
    """Return the templates of some packages; each may include those of the others."""
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(package) for package in packages]), autoescape=True,
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"scores": words.scores, "score_label": words.score_label}
    return environment


def _template(name: str) -> jinja2.Template:
    return environment("gradcore.diagnosis").get_template(name)


class Both(NamedTuple):
    """A drawing for wide pages and the same for narrow ones; the style sheet shows one of them."""

    wide: Markup
    narrow: Markup


def _shown(diagnosis: Diagnosis) -> list[tuple[str, str]]:
    """Return what and whose the curves are that have anything to show."""
    return [(curve.what, curve.of) for curve in curves(diagnosis) if not np.isnan(curve.log10).all()]


def _stretched(diagnosis: Diagnosis) -> int:
    """Return how many layers the changed network has when that is another number; 0 when it is not."""
    changed = changed_books(diagnosis)
    return 0 if changed is None or len(changed.layers) == len(diagnosis.books.layers) else len(changed.layers)


# -- the verdict -----------------------------------------------------------------------------------------------------


def _verdict(diagnosis: Diagnosis, example: str) -> dict[str, Any]:
    """Return what page and fragment both begin with."""
    common = {"healthy": diagnosis.healthy, "subject": _subject(diagnosis), "diagnosis": diagnosis}
    if diagnosis.healthy:
        return {
            **common,
            "kind": "Healthy" if diagnosis.chance is not None else "No certain fault",
            "headline": words.capital(words.healthy_headline(diagnosis)),
            "seeds": words.seeds((diagnosis.seeds, diagnosis.seeds)),
            "figures": [
                words.capital(said)
                for said in (*words.healthy_figures(diagnosis, example), *words.notes(diagnosis))
            ],
            "change": [],
            "also": [],
        }
    first, *others = diagnosis.faults
    net, best = diagnosis.network, diagnosis.best
    return {
        **common,
        "kind": _title(first),
        "headline": words.capital(words.headline(first)),
        "seeds": words.seeds(first.seeds),
        "meaning": words.MEANING[first.kind],
        "where": _sentence(words.where(first, diagnosis, example)),
        "why": [
            (True, " ".join(said.split())) if said.startswith(" ") else (False, words.capital(said))
            for said in (*words.why(first, diagnosis), *words.notes(diagnosis))
        ],
        "change": words.change_lines(net, diagnosis.optimizer, best.change) if best else [],
        "advice": words.capital(words.words_of_advice(first)) if first.advice else "",
        "also": [
            (_title(fault), words.seeds(fault.seeds), _sentence(words.where(fault, diagnosis, example)))
            for fault in others
        ],
    }


def _title(fault: Fault) -> str:
    return fault.title.capitalize().replace("nan", "NaN")


def _sentence(lines: Sequence[str]) -> str:
    text = words.capital(" ".join(line.strip() for line in lines)) + "."
    return re.sub(r"10\^(\d+)", lambda power: power_of_ten(int(power[1])), text)


def _subject(diagnosis: Diagnosis) -> str:
    """Say what was looked at, in one line."""
    net = diagnosis.network
    units = [layer.units for layer in dense_layers(net.layers)]
    hidden = units[:-1]
    activations = set(hidden_activations(net.layers))
    kind = f"{activations.pop()} units" if len(activations) == 1 else "units"
    size = str(hidden[0]) if len(set(hidden)) == 1 else f"{min(hidden)} to {max(hidden)}" if hidden else ""
    shape = (
        f"{len(hidden)} hidden layer{words.plural(hidden)} of {size} {kind}" if hidden else "no hidden layer"
    )
    ends = f"{count(net.input_size, 'input')}, {shape}, {count(units[-1], 'output')}"
    optimizer = f"{type(diagnosis.optimizer).__name__} {diagnosis.optimizer.lr:g}"
    return " · ".join((ends, diagnosis.loss, optimizer, net.dtype.name))


# -- alternatives ----------------------------------------------------------------------------------------------------


def _alternatives(diagnosis: Diagnosis, proof: Proof | None) -> tuple[list[_Row], list[_Row]]:
    """Return what is worth a look, that is trained or telling, and the rest; the most promising first."""
    if diagnosis.healthy:
        return [], []
    table = diagnosis.what_if
    rows = [_Row.of(outcome, diagnosis, proof) for outcome in table.ranked()]
    telling = [row for row in rows if row.trial is not None or row.outcome in table.telling]
    return telling, [row for row in rows if row not in telling]


class _Row(NamedTuple):
    """One alternative: what one batch says, and what training said where it was trained."""

    outcome: Outcome
    trial: Trial | None
    mark: str
    gradient: str
    signal: str
    chance: str

    @classmethod
    def of(cls, outcome: Outcome, diagnosis: Diagnosis, proof: Proof | None) -> _Row:
        trial = (
            next((t for t in proof.trials if t.change == outcome.change), None) if proof is not None else None
        )
        # measured training outranks one batch, and may prefer another change than the one advised before it
        advised = outcome is diagnosis.best
        best = trial is not None and trial is proof.best if proof is not None else advised
        return cls(
            outcome,
            trial,
            "best" if best else "advised" if advised else "",
            words.signed(outcome.gradient),
            words.signed(outcome.signal),
            percent(outcome.chance),
        )

    @property
    def faults(self) -> str:
        return ", ".join(kind.replace("_", " ") for kind in self.outcome.faults) or "none"

    @property
    def scores(self) -> str:
        return words.scores(self.trial.scores) if self.trial is not None else ""

    @property
    def trains(self) -> bool:
        return self.trial.trains if self.trial is not None else self.outcome.trains


def percent(share: float | None) -> str:
    """Write a chance; never a certainty, which no chance is.

    Examples
    --------
    >>> percent(0.973), percent(0.9999)
    ('97 %', '> 99 %')
    """
    if share is None or math.isnan(share):
        return "–"
    return "< 1 %" if share < 0.01 else "> 99 %" if share > 0.99 else f"{share:.0%}".replace("%", " %")


def _groups(diagnosis: Diagnosis) -> list[tuple[str, str, list[tuple[str, str, str, Markup]]]]:
    """Return by network the decades of its groups, each with its bar."""
    net, best, changed = diagnosis.network, diagnosis.best, changed_books(diagnosis)
    all_books = [("now", diagnosis.books, net.layers)]
    if changed is not None and best is not None:
        all_books.append(("changed", changed, best.change.layers(net.layers, net.input_size)))
    sizes = [abs(d) for _, books, _ in all_books for d in books.ledger.split().values() if math.isfinite(d)]
    largest = max(1.0, *sizes) if sizes else 1.0
    result = []
    for of, books, layers in all_books:
        rows = [
            (name, f"×{words.factor(each)}" if math.isfinite(decades) else "–",
             words.signed(-math.inf if math.isnan(decades) and books.finite else decades),
             decade_bar(decades, largest, of))
            for name, each, decades in words.group_shares(books.ledger, books.ledger.split(), layers)
        ]  # fmt: skip
        if rows:
            result.append((of, words.signed(books.end_to_end_log10), rows))
    return result


# -- the loss --------------------------------------------------------------------------------------------------------


def _loss(diagnosis: Diagnosis) -> tuple[str, Both] | None:
    """Return what the course of the loss looks like, and its drawing."""
    trace = diagnosis.trace
    if trace is None or not len(trace.losses):
        return None
    first, last = (words.short(float(loss)) for loss in trace.losses[[0, -1]])
    sign = words.capital(words.LOSS_SIGNS[diagnosis.evidence.loss_sign])
    said = f"{sign}. From {first} at the first of {count(len(trace.losses), 'step')} to {last} at the last."
    constant = trace.constant_loss
    return said, Both(loss_curve(trace, constant), loss_curve(trace, constant, _NARROW, 220))


# -- the ledger ------------------------------------------------------------------------------------------------------


class _Entry(NamedTuple):
    name: str
    depth: int
    units: str
    scale: str
    signal: str
    forward: str
    delta: str
    backward: str
    gradient: str
    flat: str
    notes: str


def _ledger(books: Books) -> Iterator[_Entry]:
    if len(books.layers) <= LAYERS:
        yield from _ops(books, books.ledger.entries, 0)
    else:
        yield from _neighbourhoods(books)


def _ops(books: Books, entries: Sequence[LedgerEntry], depth: int) -> Iterator[_Entry]:
    ledger = books.ledger
    for entry in entries:
        columns = int(ledger.plan.table[entry.op]["columns_out"])
        yield _Entry(
            entry.name, depth, str(columns),
            _number(entry.output.norm / math.sqrt(ledger.rows * columns)),
            "lost" if entry.lost else _number(entry.output.signal),
            "–" if entry.lost else _number(entry.forward_gain),
            _number(entry.d_output.norm), _number(entry.backward_gain),
            _number(entry.weight_gradient.norm) if entry.kind == "dense" else "–",
            "–" if math.isnan(entry.flat_fraction) else f"{entry.flat_fraction:.0%}",
            _notes(entry),
        )  # fmt: skip
        if entry.projection is not None:
            yield from _ops(books, (entry.projection,), depth + 1)
        if entry.branch is not None:
            yield from _ops(books, entry.branch.entries, depth + 1)


def _notes(entry: LedgerEntry) -> str:
    """Name what was counted and should not be there."""
    counts: dict[str, float] = {}
    for fold in (entry.output, entry.d_output, entry.weight_gradient):
        for name in ("infs", "nans", "subnormals"):
            value = getattr(fold, name)
            counts[name] = counts.get(name, 0.0) + (0.0 if math.isnan(value) else value)
    return ", ".join(f"{count:.0f} {name}" for name, count in counts.items() if count)


def _neighbourhoods(books: Books) -> Iterator[_Entry]:
    """Return one entry for each few layers: geometric means, of which a ledger of thousands is made readable."""
    layers = books.layers
    lost = layers.lost(books.ledger.dtype)
    with np.errstate(divide="ignore"):
        columns = [
            np.log10(values)
            for values in (layers.output_scale, layers.output_signal, layers.delta, layers.gradient)
        ]
    for group in grouped(len(layers), LAYERS):
        first, last = int(group[0]) + 1, int(group[-1]) + 1
        with np.errstate(over="ignore"):
            scale, signal, delta, gradient = (10 ** float(together(c, [group])[0]) for c in columns)
        widths = sorted({int(n) for n in layers.units[group]})
        units = str(widths[0]) if len(widths) == 1 else f"{widths[0]}–{widths[-1]}"
        yield _Entry(
            f"layers {first}–{last}" if last > first else f"layer {first}", 0, units, _number(scale),
            "lost" if lost[group].all() else _number(signal), "–", _number(delta), "–", _number(gradient), "–", "",
        )  # fmt: skip


def _number(x: float) -> str:
    return "–" if math.isnan(x) else words.short(x).replace("-", "−")


# -- evidence --------------------------------------------------------------------------------------------------------


class _Finding(NamedTuple):
    title: str
    severity: str
    seeds: str
    where: str
    causes: str
    advice: str
    avoid: str
    ops: str
    evidence: list[tuple[str, str]]
    rule: list[Markup]

    @classmethod
    def of(cls, fault: Fault, diagnosis: Diagnosis, example: str) -> _Finding:
        return cls(
            _title(fault), fault.severity, words.seeds(fault.seeds), _sentence(words.where(fault, diagnosis, example)),
            " and ".join(cause.replace("_", " ") for cause in fault.causes), fault.advice, fault.avoid,
            _several(fault.ops),
            [(key.replace("_", " "), _said(value)) for key, value in fault.evidence.items()],
            _reasons(fault.kind),
        )  # fmt: skip


def _said(value: object) -> str:
    """Write a piece of evidence."""
    match value:
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case float() | np.floating():
            return _number(float(value))
        case Mapping():
            return _several([f"{key}: {_said(item)}" for key, item in value.items()], "; ")
        case list() | tuple() if value and all(isinstance(item, int) for item in value):
            rising = all(a < b for a, b in pairwise(value))
            return words.ranges(value) if rising else _several([str(item) for item in value])
        case list() | tuple():
            return _several([_said(item) for item in value]) if value else "none"
    return str(value)


def _several(items: Sequence[str], between: str = ", ") -> str:
    more = len(items) - _SHOWN
    return between.join(items[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _reasons(kind: str) -> list[Markup]:
    """Return the paragraphs in which a rule says why its bound is what it is."""
    for rule in all_rules():
        if rule.__module__.rpartition(".")[2] == kind:
            text = inspect.cleandoc(rule.__doc__ or "")
            paragraphs = [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]
            return [_marked(paragraph) for paragraph in paragraphs]
    return []


def _marked(text: str) -> Markup:
    """Turn the marks of a docstring (code, emphasis) into elements."""
    safe = re.sub(r"``(.+?)``|`(.+?)`", lambda m: f"<code>{m[1] or m[2]}</code>", str(escape(text)))
    return Markup(re.sub(r"\*(\w[^*]*)\*", r"<em>\1</em>", safe))
