"""The page and the fragment: valid, self-contained, safe, small, readable, and right in what they show."""

import math
import re
from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import html5lib
import numpy as np
import pytest

from gradcore import Dense, Network, mlp
from gradcore.datasets import load_digits
from gradcore.diagnosis import words
from gradcore.diagnosis.diagnose import Diagnosis, diagnose
from gradcore.diagnosis.html import fragment, page, percent, reproduce
from gradcore.diagnosis.proof import Data, prove
from gradcore.diagnosis.what_if import Outcome
from gradcore.health.evidence import Trace
from gradcore.health.faults import KINDS
from gradcore.health.theory.prediction import predict

DIGITS = load_digits()
X, Y = DIGITS.X_train[:300], DIGITS.y_train[:300]
NASTY = "<script>alert('“ärger”')</script> & 桁"


_predicted = cache(predict)


@pytest.fixture(scope="module", autouse=True)
def standins():
    patch = pytest.MonkeyPatch()
    patch.setattr(Diagnosis, "prediction", property(lambda d: _predicted(d.network)), raising=False)
    patch.setattr(Diagnosis, "chance", 0.03, raising=False)
    patch.setattr(Outcome, "chance", property(lambda o: 0.97 if o.trains else 0.04), raising=False)
    patch.setattr(Trace, "ledgers", (), raising=False)
    yield
    patch.undo()


def deep(depth, width=64, activation="relu", **arguments):
    return mlp([64, *depth * [width], 10], activation=activation, seed=0, **arguments)


CASES = {
    "vanishing": (lambda: deep(20, 64, "sigmoid", init="normal(0.01)"), {"seeds": 2}),
    "exploding": (lambda: deep(12, init="normal(2)"), {}),
    "overflow": (lambda: deep(9, activation="exponential"), {}),
    "dead": (lambda: Network([Dense(8, bias_init="constant(-99)"), "relu", Dense(10)], input_size=64, seed=0), {}),
    "residual and norm": (lambda: deep(6, norm="batch", residual=True, init="normal(1e-4)"), {}),
    "wild rate": (lambda: deep(2), {"optimizer": "sgd(1e4)", "steps": 60}),
    "stalled": (lambda: deep(20, activation="sigmoid", init="normal(0.01)"), {"steps": 300}),
    "200 layers": (lambda: deep(200, 8, "sigmoid"), {}),
    "healthy": (lambda: deep(2), {}),
    "healthy with steps": (lambda: deep(2), {"steps": 50}),
    "one layer": (lambda: Network([Dense(10)], input_size=64, seed=0), {}),
}  # fmt: skip


@pytest.fixture(scope="module")
def diagnoses():
    return {name: diagnose(make(), X, Y, **arguments) for name, (make, arguments) in CASES.items()}


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
def test_every_page_is_valid_and_stands_alone(diagnoses, name):
    text = page(diagnoses[name])
    tree = parsed(text)
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
def test_every_page_can_be_heard(diagnoses, name):
    tree = parsed(page(diagnoses[name]))
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
def test_coordinates_are_numbers_inside_the_drawing(diagnoses, name):
    tree = parsed(page(diagnoses[name]))
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
    assert texts(tree, ".//pre/del") == ['- mlp(sizes, activation="sigmoid", init="normal(0.01)")']
    assert texts(tree, ".//pre/ins") == ['+ mlp(sizes, activation="tanh", init="glorot_normal")']
    drawing = "\n".join(texts(tree, ".//*[@class='wide']"))
    for words_ in ("initial weights ×0.08 per layer: −2", "sigmoid slope ×0.25 per layer: −12.0 decades"):
        assert words_ in drawing
    for words_ in (
        "below Adam’s eps 1e-8",
        "float32 underflow",
        "signal lost from here on",
        "gradient, predicted",
    ):
        assert words_ in drawing
    dots = [node for node in tree.iter() if node.get("class") in ("dot now", "dot changed")]
    assert len(dots) == 4


def test_trained_alternatives_show_what_training_said(sick, proof):
    tree = parsed(page(sick, proof))
    rows = {
        row[0]: row
        for row in ([*texts(node, "th"), *texts(node, "td")] for node in tree.iterfind(".//tbody/tr"))
    }
    best = proof.best
    assert rows[best.name][1] == "yes ← best"
    assert rows[best.name][2] == words.scores(best.scores)
    assert rows["tanh only"][2] == ""
    assert rows["tanh only"][3] == "4 %"


def test_curves_are_the_books(sick):
    from gradcore.diagnosis.curves import curves

    found = {curve.name: curve.log10 for curve in curves(sick)}
    layers = sick.books.layers
    np.testing.assert_allclose(found["gradient, now"], np.log10(layers.gradient))
    assert np.isnan(found["signal, now"][3:]).all()
    assert np.isfinite(found["signal, now"][:3]).all()
    # where theory holds and layers are wide it says what is measured
    np.testing.assert_allclose(found["gradient, predicted"], found["gradient, now"], atol=0.6)


def test_names_cannot_break_out(sick):
    fault = replace(
        sick.faults[0],
        ops=(NASTY,),
        evidence={**sick.faults[0].evidence, "classes": [NASTY], "column": NASTY},
    )
    text = page(
        replace(sick, faults=(fault, *sick.faults[1:])),
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
    trace = Trace(np.array(losses), np.array(losses), steps_per_epoch=1)
    parsed(page(replace(diagnoses["healthy"], trace=trace)))


@pytest.mark.parametrize("worst", [1.0, 0.0, math.inf, math.nan])
def test_heat_map(diagnoses, worst):
    rng = np.random.default_rng(0)
    ledgers = [(step, rng.random(150), 10 ** -rng.random(150)) for step in range(500)]
    ledgers[7][2][:] = worst
    trace = SimpleNamespace(losses=np.ones(500), ledgers=ledgers)
    text = page(replace(diagnoses["healthy"], trace=trace))
    assert len(text) < 300_000
    assert "The gradient while it trains" in texts(parsed(text), ".//h2")


def test_many_layers_are_aggregated(diagnoses):
    tree = parsed(page(diagnoses["200 layers"]))
    rows = tree.findall(".//table[@class='ledger']/tbody/tr")
    assert len(rows) == 100
    assert texts(rows[0], "th") == ["layers 1–3"]
    assert len(page(diagnoses["200 layers"])) < 2 * len(page(diagnoses["vanishing"]))


def test_ten_thousand_layers(diagnoses, monkeypatch):
    diagnosis = diagnoses["healthy"]
    few = diagnosis.books.layers
    many = replace(few, **{name: np.resize(values, 10_000) for name, values in vars(few).items()})
    books = SimpleNamespace(ledger=diagnosis.ledger, layers=many, usable=diagnosis.books.usable, finite=True)
    monkeypatch.setattr(Diagnosis, "prediction", None)
    text = page(replace(diagnosis, books=books))
    assert len(text) < 100_000
    parsed(text)


def test_a_healthy_page_is_short(diagnoses):
    text = page(diagnoses["healthy"])
    tree = parsed(text)
    assert texts(tree, ".//h1") == ["Nothing keeps this network from learning 1 of 1 seed"]
    assert texts(tree, ".//section/h2") == ["Where the gradient goes", "Reproduce"]
    assert not tree.findall(".//script")
    assert len(text) < 25_000


def test_evidence_says_why_the_bound_is_what_it_is(sick):
    tree = parsed(page(sick))
    article = texts(tree, ".//article")[0]
    assert re.search(r"starved layers\s*1–17", article)
    assert "Kingma & Ba 2015" in article
    assert "``" not in article


def test_every_kind_is_explained():
    assert words.MEANING.keys() == set(KINDS)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("colour", ["ink", "soft", "now", "changed"])
@pytest.mark.parametrize("ground", ["paper", "card"])
def test_contrast(diagnoses, scheme, colour, ground):
    # WCAG 2.2, 1.4.3: at least 4.5 to 1 for text
    blocks = re.findall(r":root \{(.*?)\}", page(diagnoses["healthy"]), re.DOTALL)
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


def test_the_line_that_reproduces_it(sick):
    import gradcore

    names = {"gradcore": gradcore, "X": X, "Y": Y, "y": Y, "print": lambda again: names.update(again=again)}
    exec(reproduce(sick), names)
    assert str(names["again"]) == str(sick)
