"""The report: the shape of the first screen, 80 columns, three lines for a healthy network."""

import math
import re

import numpy as np
import pytest

from gradcore import Dense, Network, mlp
from gradcore.datasets import load_digits
from gradcore.diagnosis.diagnose import diagnose
from gradcore.diagnosis.proof import held_out, prove
from gradcore.diagnosis.recipe import Data
from gradcore.diagnosis.report import Style, render

DIGITS = load_digits()
X, Y = DIGITS.X_train[:400], DIGITS.y_train[:400]
ESCAPES = re.compile(r"\x1b\[\d+m")


@pytest.fixture(scope="module")
def sick():
    return diagnose(
        mlp([64, *20 * [64], 10], activation="sigmoid", init="normal(0.01)", seed=0), X, Y, seeds=2
    )


@pytest.fixture(scope="module")
def proof(sick):
    return list(prove(sick, Data(*DIGITS), seeds=2, epochs=2))[-1]


def test_first_screen(sick, proof):
    text = render(sick, proof, Style(example="image"))
    for line in (
        "✗ VANISHING GRADIENT: this network cannot learn (2 of 2 seeds)",
        "  where   layers 1–17 receive no usable update;",
        "          from layer 4 on all images look the same",
        "  why     two causes, and fixing only one is not enough",
        "          Adam cannot help: gradients there are below its eps 1e-8",
        '  change  - mlp(sizes, activation="sigmoid", init="normal(0.01)")',
        '          + mlp(sizes, activation="tanh",    init="glorot_normal")',
    ):
        assert line in text.split("\n")
    assert re.search(r"initial weights  ×0\.08 per layer   −2[12]\.\d decades", text)
    assert re.search(r"sigmoid slope    ×0\.25 per layer   −12\.\d decades", text)
    assert re.search(r"proof   test accuracy   now 0\.\d\d 0\.\d\d   changed 0\.\d\d 0\.\d\d", text)
    assert re.search(r"image signal .* lost  lost  lost  lost  lost", text)
    assert "yes ← best" in text


def deep(depth, width=64, activation="relu", **arguments):
    return mlp([64, *depth * [width], 10], activation=activation, seed=0, **arguments)


def stack(*layers):
    return Network(layers, input_size=64, seed=0)


TINY = Dense(8, init="normal(1e-5)")

# network, factor on X, factor on y (None: labels), arguments of diagnose
SICK = {
    "vanishing": (deep(30, 16, "sigmoid"), 1, None, {"optimizer": "sgd(0.1)"}),
    "underflow": (deep(40, 64, "sigmoid", init="normal(0.01)"), 1, None, {}),
    "exploding": (deep(12, init="normal(2)"), 1, None, {}),
    "overflow": (deep(9, activation="exponential"), 1, None, {}),
    "saturated": (deep(30, 8, "tanh", init="normal(3)"), 255, None, {}),
    "dead": (stack(Dense(8, bias_init="constant(-99)"), "relu", Dense(10)), 1, None, {}),
    "symmetric": (deep(1, 8, init="constant(0.1)"), 1, None, {}),
    "mixed": (stack(*4 * [TINY, "sigmoid", TINY, "tanh", TINY, "relu"], Dense(10)), 1, None, {}),
    "steps": (deep(1), 1, None, {"optimizer": "sgd(1e4)", "steps": 50}),
    "stalled": (deep(20, activation="sigmoid", init="normal(0.01)"), 1, None, {"steps": 100}),
    "softmax": (stack(Dense(8), "tanh", Dense(1), "softmax"), 1, 1 / 9, {}),
    "shallow": (stack(Dense(10)), 1e-30, None, {}),
}  # fmt: skip


@pytest.mark.parametrize("name", SICK)
def test_every_report_fits_80_columns_in_every_style(name):
    net, scale, target_scale, arguments = SICK[name]
    y = Y[:200] if target_scale is None else target_scale * Y[:200]
    diagnosis = diagnose(net, scale * X[:200], y, **arguments)
    plain = str(diagnosis)
    assert max(map(len, plain.split("\n"))) <= 80, plain
    assert render(diagnosis, style=Style(symbols=False)).isascii()
    coloured = render(diagnosis, style=Style(colours=True))
    assert ESCAPES.sub("", coloured) == plain
    assert not diagnosis.healthy
    assert "where" in plain
    assert "why" in plain


def test_healthy_gets_three_lines():
    diagnosis = diagnose(mlp([64, 32, 10], seed=0), X, Y)
    lines = str(diagnosis).split("\n")
    assert len(lines) == 3
    assert lines[0].startswith("✓ HEALTHY")
    assert max(map(len, lines)) <= 80


def test_proof_is_measured(sick, proof):
    names = [trial.name for trial in proof.trials]
    assert names[-1] == proof.changed.name == sick.best.name == "tanh + Glorot"
    assert {"tanh only", "batch norm", "residual blocks"} < set(names)
    assert not proof.control.trains
    assert proof.changed.trains
    assert not next(trial for trial in proof.trials if trial.name == "tanh only").trains
    assert np.mean(proof.changed.scores) > np.mean(proof.control.scores) + 0.3
    assert proof.to_dict()["best"] == proof.best.name


def test_proof_grows(sick):
    sizes = [len(part.trials) for part in prove(sick, Data(*DIGITS), seeds=1, epochs=1)]
    assert sizes == list(range(1, 9))


def test_proof_of_a_regression_with_wild_targets():
    x = np.linspace(0, 5, 60)[:, None]
    data = held_out(x, 5 * x[:, 0] ** 2)
    diagnosis = diagnose(mlp([1, 50, 30, 1], seed=0), data.X, data.y, optimizer="sgd(0.1)")
    last = list(prove(diagnosis, data, seeds=1, epochs=3))[-1]
    assert last.score == "r2"
    assert not last.control.trains


def test_held_out_rows():
    data = held_out(np.arange(10)[:, None], np.arange(10))
    assert sorted([*data.y, *data.y_test]) == list(range(10))
    assert len(data.y_test) == 2
    with pytest.raises(ValueError, match="2 rows"):
        held_out(np.zeros((1, 2)), np.zeros(1))


@pytest.mark.parametrize(
    "arguments",
    [
        {"init": "normal(1e10)"},
        {"init": "normal(1e8)", "residual": True},
        {"activation": "exponential", "init": "normal(3)"},
    ],
    ids=str,
)
def test_what_is_no_number_is_a_dash(arguments, rng):
    inputs = rng.normal(size=(64, 4))
    diagnosis = diagnose(mlp([4, *6 * [8], 2], seed=0, **arguments), inputs, inputs[:, 0] > 0)
    assert diagnosis.faults[0].kind == "overflow"
    text = str(diagnosis)
    assert not re.search(r"\bnan\b", text)
    (gradient,) = (line.split()[2:] for line in text.split("\n") if line.startswith("  gradient, log10"))
    (blocks,) = (line.split()[1:] for line in text.split("\n") if line.startswith("  now "))
    assert gradient == blocks == 7 * ["–"]
    spoilt = [o for o in diagnosis.what_if.telling if "overflow" in o.faults]
    assert spoilt
    for outcome in spoilt:
        row = next(line for line in text.split("\n") if line.startswith(f"  {outcome.name} "))
        assert " – " in row
        assert "zero" not in row
    page = re.sub(r"<style.*?</style>", "", diagnosis.to_html(), flags=re.DOTALL)
    assert not re.search(r"\bnan\b", re.sub(r"<[^>]+>", " ", page))


def test_a_gradient_of_zero_is_still_called_zero(rng):
    inputs = rng.normal(size=(64, 4))
    diagnosis = diagnose(mlp([4, 8, 8, 2], init="zeros", seed=0), inputs, inputs[:, 0] > 0)
    assert diagnosis.books.end_to_end_log10 == -math.inf
    assert diagnosis.books.finite
    rows = str(diagnosis).split("  what if")[1].split("\n")
    assert any(" zero " in row for row in rows)
    assert not any(" – " in row for row in rows)


def test_one_of_a_kind(rng):
    inputs = rng.normal(size=(64, 4))
    diagnosis = diagnose(mlp([4, 1, 2], init="zeros", seed=0), inputs, inputs[:, 0] > 0)
    assert "the only unit of relu 1 is off on every row" in str(diagnosis)
    net = mlp([4, 1, 2], seed=0)
    assert ", 1 row, " in str(net.ledger(inputs[:1], [0]))
    assert "1 unit, " in str(net.unit_ledger(inputs[:1], [0], "relu 1"))
    assert "One batch of 1 row," in diagnose(net, inputs[:1], [0]).to_html()
