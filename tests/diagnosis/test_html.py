"""The page and the fragment: valid, self-contained, safe, small, readable, and right in what they show."""

import math
import re
from dataclasses import replace
from types import SimpleNamespace

import html5lib
import numpy as np
import pytest

import gradcore
from gradcore import Dense, Network, mlp
from gradcore.datasets import load_digits
from gradcore.diagnosis import words
from gradcore.diagnosis.diagnose import diagnose
from gradcore.diagnosis.drawing.course import heat_map
from gradcore.diagnosis.html import fragment, page, percent, reproduce
from gradcore.diagnosis.proof import prove
from gradcore.diagnosis.recipe import Data
from gradcore.health.evidence import Trace
from gradcore.health.faults import KINDS
from gradcore.health.loss_curve import SIGNS

DIGITS = load_digits()
X, Y = DIGITS.X_train[:300], DIGITS.y_train[:300]
NASTY = "<script>alert('“ärger”')</script> & 桁"


def altered(diagnosis, **attributes):
    """A copy with other results of what is found out late, or of the evidence."""
    late = {name: attributes.pop(name) for name in ("faults", "prediction") if name in attributes}
    other = replace(diagnosis, evidence=replace(diagnosis.evidence, **attributes))
    vars(other).update(late)
    return other


def deep(depth, width=64, activation="relu", **arguments):
    return mlp([64, *depth * [width], 10], activation=activation, seed=0, **arguments)


CASES = {
    "vanishing": (lambda: deep(20, 64, "sigmoid", init="normal(0.01)"), {"seeds": 2}),
    "exploding": (lambda: deep(12, init="normal(2)"), {}),
    "overflow": (lambda: deep(9, activation="exponential"), {}),
    "dead": (lambda: Network([Dense(8, bias_init="constant(-99)"), "relu", Dense(10)], input_size=64, seed=0), {}),
    "residual and norm": (lambda: deep(6, norm="batch", residual=True, init="normal(1e-4)"), {}),
    "wild rate": (lambda: deep(2), {"optimizer": "sgd(1e4)", "steps": 5}),
    "stalled": (lambda: deep(10, 16, "sigmoid", init="normal(0.01)"), {"steps": 80}),
    "200 layers": (lambda: deep(200, 4, "sigmoid"), {}),
    "healthy": (lambda: deep(2), {}),
    "healthy with steps": (lambda: deep(2), {"steps": 300}),
    "one layer": (lambda: Network([Dense(10)], input_size=64, seed=0), {}),
}  # fmt: skip


@pytest.fixture(scope="module")
def diagnoses():
    return {name: diagnose(make(), X, Y, **arguments) for name, (make, arguments) in CASES.items()}


@pytest.fixture(scope="module")
def pages(diagnoses):
    """The page of every case and its tree."""
    written = {name: page(diagnosis) for name, diagnosis in diagnoses.items()}
    return {name: (text, parsed(text)) for name, text in written.items()}


@pytest.fixture(scope="module")
def sick(diagnoses):
    return diagnoses["vanishing"]


@pytest.fixture(scope="module")
def proof(sick):
    return list(prove(sick, Data(*DIGITS), seeds=2, epochs=1))[-1]


def parsed(text):
    """The tree of a page; whatever a strict parser of HTML complains about fails the test."""
    return html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(text)


def texts(tree, path):
    return [" ".join("".join(node.itertext()).split()) for node in tree.iterfind(path)]


@pytest.mark.parametrize("name", CASES)
def test_every_page_is_valid_and_stands_alone(pages, diagnoses, name):
    text, tree = pages[name]
    parsed(f"<!DOCTYPE html><title>notebook</title>{fragment(diagnoses[name])}")
    assert len(text.encode()) < 300_000
    assert "\r" not in text
    for outside in ("http:", "https:", "url(", "@import", "src="):
        assert outside not in text.replace("http-equiv", ""), outside
    assert not tree.findall(".//link")
    assert not tree.findall(".//img")
    identifiers = [node.get("id") for node in tree.iter() if node.get("id")]
    assert len(identifiers) == len(set(identifiers))


@pytest.mark.parametrize("name", CASES)
def test_every_page_can_be_heard(pages, name):
    _, tree = pages[name]
    assert tree.get("lang") == "en"
    assert len(tree.findall(".//h1")) == 1
    assert all(node.get("scope") in ("row", "col") for node in tree.iter("th"))
    drawings = [node for node in tree.iter() if str(node.tag).endswith("svg")]
    assert drawings
    for node in drawings:
        assert node.get("aria-hidden") == "true" or (
            node.get("role") == "img" and len(node.get("aria-label")) > 20
        )


@pytest.mark.parametrize("name", CASES)
def test_coordinates_are_numbers_inside_the_drawing(pages, name):
    _, tree = pages[name]
    for drawing in (node for node in tree.iter() if str(node.tag).endswith("svg")):
        _, _, width, height = map(float, drawing.get("viewBox", drawing.get("viewbox")).split())
        for node in drawing.iter():
            for attribute, most in (("x", width), ("cx", width), ("y", height), ("cy", height)):
                if node.get(attribute) is not None:
                    assert -6 <= float(node.get(attribute)) <= most + 6, node.attrib
            for attribute in ("d", "points"):
                assert not re.search("nan|inf", node.get(attribute, "")), node.attrib


def test_first_screen(sick, proof):
    tree = parsed(page(sick, proof, example="image"))
    assert texts(tree, ".//title")[0] == "Vanishing gradient: This network cannot learn"
    assert texts(tree, ".//h1") == ["This network cannot learn 2 of 2 seeds"]
    lead = texts(tree, ".//p[@class='lead']")[0]
    assert lead.startswith("Layers 1–17 receive no usable update; from layer 4 on all images look the same. ")
    assert lead.endswith(words.MEANING["vanishing_gradient"])
    diff = [*texts(tree, ".//pre/del"), *texts(tree, ".//pre/ins")]
    assert diff == [
        " ".join(line.split()) for line in words.change_lines(sick.network, sick.optimizer, sick.best.change)
    ]
    drawing = "\n".join(texts(tree, ".//*[@class='wide']"))
    for said in ("initial weights ×0.08 per layer: −2", "sigmoid slope ×0.25 per layer: −12.0 decades"):
        assert said in drawing
    for said in (
        "below Adam’s eps 1e-8",
        "float32 underflow",
        "signal lost from here on",
        "gradient, predicted",
    ):
        assert said in drawing
    dots = [node.get("class") for node in tree.iter() if node.get("class") in ("dot now", "dot changed")]
    assert dots == ["dot now", "dot now", "dot changed", "dot changed"]


def test_alternatives_show_what_training_said(sick, proof):
    tree = parsed(page(sick, proof))
    rows = {
        row[0]: row
        for row in ([*texts(node, "th"), *texts(node, "td")] for node in tree.iterfind(".//tbody/tr"))
    }
    assert rows.keys() >= {outcome.name for outcome in sick.what_if}
    for trial in proof.trials:
        mark = " ← best" if trial is proof.best else " ← advised" if trial is proof.changed else ""
        assert rows[trial.name][1] == ("yes" if trial.trains else "no") + mark
        assert rows[trial.name][2] == words.scores(trial.scores)
    trained = {trial.name for trial in proof.trials}
    for outcome in sick.what_if:
        assert rows[outcome.name][3] == percent(outcome.chance)
        if outcome.name not in trained:
            assert rows[outcome.name][1:3] == ["yes" if outcome.trains else "no", ""]


def test_curves_are_the_books(sick):
    from gradcore.diagnosis.curves import curves

    found = {curve.name: curve.log10 for curve in curves(sick)}
    layers = sick.books.layers
    np.testing.assert_allclose(found["gradient, now"], np.log10(layers.gradient))
    assert np.isnan(found["signal, now"][3:]).all()
    assert np.isfinite(found["signal, now"][:3]).all()
    # where theory holds and layers are wide it says what is measured
    np.testing.assert_allclose(found["gradient, predicted"], found["gradient, now"], atol=0.6)


def test_another_depth_is_said(diagnoses, pages):
    said = {name: "over the same width" in text for name, (text, _) in pages.items()}
    for name, diagnosis in diagnoses.items():
        other = diagnosis.changed is not None and len(diagnosis.changed.layers) != len(diagnosis.books.layers)
        assert said[name] == other, name
    assert len(set(said.values())) == 2


def test_a_gradient_of_zero_is_drawn_and_named(pages):
    text, _ = pages["dead"]
    assert ">gradient, now: zero<" in text
    assert "</svg> gradient now</span>" in text


def test_names_cannot_break_out(sick):
    fault = replace(
        sick.faults[0],
        ops=(NASTY,),
        evidence={**sick.faults[0].evidence, "classes": [NASTY], "column": NASTY},
    )
    text = page(
        altered(sick, faults=(fault, *sick.faults[1:])),
        command=f"gradcore diagnose {NASTY}.csv",
        example=NASTY,
    )
    tree = parsed(text)
    assert len(tree.findall(".//script")) == 1  # the button that copies
    assert "alert('" not in text
    said = texts(tree, ".//dd")
    assert said.count(NASTY) == 3
    assert f"gradcore diagnose {NASTY}.csv" in texts(tree, ".//pre")


@pytest.mark.parametrize(
    "losses",
    [
        [],
        [1.0],
        [math.nan, 1.0],
        [1.0, math.inf, math.nan],
        [0.0, 0.0, 0.0],
        [-1.0, 2.0],
        [1e300, 1e-300],
        [1e-300],
    ],
)
def test_any_course_of_the_loss(diagnoses, losses):
    trace = Trace(np.array(losses), np.array(losses), steps_per_epoch=1, constant_loss=2.3)
    parsed(page(altered(diagnoses["healthy"], trace=trace)))


def test_the_course_of_the_loss_is_said(pages):
    assert "Stalled: large and unchanging." in pages["stalled"][0]
    assert words.LOSS_SIGNS.keys() == set(SIGNS)


@pytest.mark.parametrize("worst", [1.0, 0.0, math.inf, math.nan])
def test_heat_map(worst):
    rng = np.random.default_rng(0)
    ledgers = [(step, rng.random(150), 10 ** -rng.random(150)) for step in range(500)]
    ledgers[7][2][:] = worst
    tree = html5lib.parseFragment(heat_map(SimpleNamespace(ledgers=ledgers)), namespaceHTMLElements=False)
    text = html5lib.serialize(tree)
    assert len(text) < 80_000
    classes = {node.get("class") for node in tree.iter()}
    assert {"h0", "h8"} <= classes
    assert ("broken" in classes) == (not math.isfinite(worst))
    assert "Weight gradient of 150 layers at 500 steps" in text


def test_many_layers_are_aggregated(pages):
    text, tree = pages["200 layers"]
    rows = tree.findall(".//table[@class='ledger']/tbody/tr")
    assert len(rows) == 100
    assert texts(rows[0], "th") == ["layers 1–3"]
    assert len(text) < 2 * len(pages["vanishing"][0])


def test_ten_thousand_layers(diagnoses):
    diagnosis = diagnoses["healthy"]
    few = diagnosis.books.layers
    many = replace(few, **{name: np.resize(values, 10_000) for name, values in vars(few).items()})
    books = SimpleNamespace(
        ledger=diagnosis.ledger, layers=many, usable=diagnosis.books.usable, finite=True, end_to_end_log10=0.0
    )
    flat = np.zeros(10_000)
    prediction = SimpleNamespace(delta_log10=flat, signal_log10=flat, valid_layers=flat == 0)
    many_layers = altered(diagnosis, books=books, prediction=prediction)
    vars(many_layers.evidence)["chance"] = diagnosis.chance
    text = page(many_layers)
    assert len(text) < 100_000
    parsed(text)


def test_a_healthy_page_is_short(pages):
    text, tree = pages["healthy"]
    assert texts(tree, ".//h1") == ["Nothing keeps this network from learning 1 of 1 seed"]
    assert texts(tree, ".//section/h2") == ["Where the gradient goes", "Reproduce"]
    assert not tree.findall(".//script")
    assert len(text) < 25_000


def test_evidence_says_why_the_bound_is_what_it_is(pages):
    article = texts(pages["vanishing"][1], ".//article")[0]
    assert re.search(r"starved layers\s*1–17", article)
    assert "Kingma & Ba 2015" in article
    assert "``" not in article


def test_every_kind_is_explained():
    assert words.MEANING.keys() == set(KINDS)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("colour", ["ink", "soft", "now", "changed"])
@pytest.mark.parametrize("ground", ["paper", "card"])
def test_contrast(pages, scheme, colour, ground):
    # WCAG 2.2, 1.4.3: at least 4.5 to 1 for text
    blocks = re.findall(r":root \{(.*?)\}", pages["healthy"][0], re.DOTALL)
    colours = dict(re.findall(r"--(\w+): (#\w{6})", blocks[scheme == "dark"]))
    lighter, darker = sorted((_luminance(colours[colour]), _luminance(colours[ground])), reverse=True)
    assert (lighter + 0.05) / (darker + 0.05) >= 4.5


def _luminance(colour):
    channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_percent_is_never_certain():
    assert [percent(p) for p in (0.0, 0.004, 0.5, 0.999, 1.0, math.nan)] == [
        "< 1 %",
        "< 1 %",
        "50 %",
        "> 99 %",
        "> 99 %",
        "–",
    ]


@pytest.mark.parametrize(
    "arguments", [{}, {"steps": 5, "batch_size": 16, "seed": 3, "optimizer": "sgd(0.1)"}]
)
def test_the_lines_that_reproduce_it(arguments):
    first = diagnose(mlp([64, 32, 32, 32, 10], activation="tanh", dtype="float64", seed=4), X, Y, **arguments)
    assert "[64, *3 * [32], 10]" in reproduce(first)
    names = {"gradcore": gradcore, "X": X, "y": Y, "print": lambda again: names.update(again=again)}
    exec(reproduce(first), names)
    assert str(names["again"]) == str(first)
    assert names["again"].ledger.loss == first.ledger.loss
    assert names["again"].setting.batch_size == first.setting.batch_size


def test_a_network_without_a_short_call_is_written_out(diagnoses):
    assert reproduce(diagnoses["one layer"]).startswith(
        "net = gradcore.Network([gradcore.Dense(10)], input_size=64"
    )
    drawn = gradcore.Network(
        [gradcore.Dense(10, init=lambda shape, rng, dtype: np.zeros(shape, dtype))], input_size=64
    )
    assert reproduce(diagnose(drawn, X, Y)).startswith("net = ...  # Network(64 → 10")


def test_seeds_begin_where_they_began_and_other_parameters_are_mentioned():
    # the first of these is sound, so that the report shows another
    net = mlp([64, *8 * [4], 10], seed=1)
    several = diagnose(net, X, Y, seeds=4)
    assert several.network.seed > net.seed == 1
    assert "seed=1)" in reproduce(several).split("\n")[0]
    assert "parameters" not in reproduce(several)
    net.fit(X, Y, epochs=1, progress=False, seed=0)
    assert "and then the parameters it had" in reproduce(diagnose(net, X, Y))
