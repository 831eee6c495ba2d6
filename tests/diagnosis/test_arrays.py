"""The rules on arrays from anywhere: same ledger and verdicts as for a network, and what is missing is said."""

import json

import html5lib
import numpy as np
import pytest

from gradcore import mlp
from gradcore.datasets import load_digits
from gradcore.diagnosis.arrays import LayerArrays, diagnose_arrays
from gradcore.diagnosis.words import group_shares
from gradcore.health.evidence import Books

DIGITS = load_digits()
X, Y = DIGITS.X_train[:128].astype(float), DIGITS.y_train[:128]


def arrays_of(net):
    """Forward and backward through an mlp of sigmoids, in NumPy."""
    p = net.get_parameters()
    weights = [p[n] for n in p if n.endswith("weight")]
    biases = [p[n] for n in p if n.endswith("bias")]
    loss, gradients = net.loss_and_gradients(X, Y)
    dw = [gradients[n] for n in gradients if n.endswith("weight")]
    db = [gradients[n] for n in gradients if n.endswith("bias")]
    a, z = [X], []
    for i, (w, b) in enumerate(zip(weights, biases, strict=True)):
        z.append(a[-1] @ w.T + b)
        a.append(1 / (1 + np.exp(-z[-1])) if i < len(weights) - 1 else z[-1])
    probabilities = np.exp(z[-1] - z[-1].max(axis=1, keepdims=True))
    d = (probabilities / probabilities.sum(axis=1, keepdims=True) - np.eye(10)[Y]) / len(X)
    parts = []
    for i in range(len(weights) - 1, -1, -1):
        parts.append(LayerArrays(f"dense {i + 1}", "dense", a[i], z[i], d, weights[i], dw[i], db[i]))
        if i:
            d = d @ weights[i]
            parts.append(LayerArrays(f"sigmoid {i}", "sigmoid", z[i - 1], a[i], d))
            d = d * a[i] * (1 - a[i])
    return parts[::-1], loss


@pytest.fixture(scope="module")
def sick():
    return mlp([64, *20 * [64], 10], activation="sigmoid", init="normal(0.01)", seed=0, dtype="float64")


def test_same_ledger_as_the_network(sick):
    parts, loss = arrays_of(sick)
    theirs, ours = diagnose_arrays(parts, loss=loss, targets=Y).ledger, sick.ledger(X, Y)
    assert theirs.end_to_end_log10 == pytest.approx(ours.end_to_end_log10, abs=1e-9)
    assert theirs.split() == pytest.approx(ours.split(), abs=1e-9)
    for name in ("weight", "bias_gradient", "flat"):
        np.testing.assert_allclose(theirs.records[name], ours.records[name], rtol=1e-8)
    # where the signal is lost both are rounding, and count as nothing
    np.testing.assert_allclose(Books(theirs).usable[:4], Books(ours).usable[:4], rtol=1e-6)
    assert not Books(theirs).usable[16:-1].any()


def test_same_verdict_as_the_network(sick):
    parts, loss = arrays_of(sick)
    diagnosis = diagnose_arrays(parts, loss=loss, targets=Y)
    assert diagnosis.faults[0].kind == "vanishing_gradient"
    assert diagnosis.faults[0].evidence["starved_layers"] == list(range(1, 18))
    assert diagnosis.chance < 0.1
    assert not diagnosis.missing
    text = str(diagnosis)
    assert "VANISHING GRADIENT" in text
    assert max(map(len, text.split("\n"))) <= 90
    healthy = mlp([64, 32, 10], activation="sigmoid", seed=0, dtype="float64")
    parts, loss = arrays_of(healthy)
    assert diagnose_arrays([vars(part) for part in parts], loss=loss, targets=Y).healthy
    json.dumps(diagnosis.to_dict(), default=str)


def test_what_is_missing_is_said_and_not_guessed(sick):
    parts, _ = arrays_of(sick)
    diagnosis = diagnose_arrays([LayerArrays(p.name, p.kind, output=p.output) for p in parts])
    assert diagnosis.healthy
    assert diagnosis.chance is None
    assert set(diagnosis.missing) == {"deltas", "weights", "weight gradients", "loss", "targets"}
    assert "not known: deltas" in str(diagnosis)
    assert "HEALTHY" not in str(diagnosis), "nobody knows"


def test_labels_and_loss_are_read_off_the_delta(sick):
    parts, loss = arrays_of(sick)
    told, read = diagnose_arrays(parts, loss=loss, targets=Y), diagnose_arrays(parts)
    assert read.loss == "cross_entropy"
    assert read.ledger.loss == pytest.approx(loss)
    assert read.chance == pytest.approx(told.chance)
    assert [fault.kind for fault in read.faults] == [fault.kind for fault in told.faults]


def test_certain_faults_need_little():
    output = np.ones((4, 3), np.float32)
    output[2, 1] = np.inf
    diagnosis = diagnose_arrays(
        [{"name": "encoder.0", "output": output}, {"name": "encoder.1", "kind": "relu"}]
    )
    assert (diagnosis.faults[0].kind, diagnosis.faults[0].ops) == ("overflow", ("encoder.0",))
    off = [LayerArrays("a", output=np.full((20, 3), -1.0)), LayerArrays("r", "relu"), LayerArrays("b")]
    assert diagnose_arrays(off).faults[0].kind == "dead_units"
    off[0] = LayerArrays("a", output=np.full((19, 3), -1.0))
    assert diagnose_arrays(off).healthy, "a batch of so few rows is no proof"
    first, last = LayerArrays("a", weight=np.ones((4, 3))), LayerArrays("b", weight=np.ones((2, 4)))
    twins = [first, LayerArrays("t", "tanh"), last]
    assert diagnose_arrays(twins).faults[0].kind == "symmetric_weights"


def test_axes_before_the_last_are_rows():
    diagnosis = diagnose_arrays(
        [LayerArrays("attention.out", output=np.ones((2, 5, 3)), weight=np.ones((3, 4)))]
    )
    assert diagnosis.ledger.rows == 10
    assert diagnosis.ledger.plan.table["columns_in"][0] == 4


@pytest.mark.parametrize(
    ("layers", "error", "message"),
    [
        ([], ValueError, "dense"),
        ([LayerArrays("r", "relu")], ValueError, "dense"),
        ([LayerArrays("a"), LayerArrays("b", "rellu")], ValueError, "relu"),
        ([LayerArrays("a", output=np.ones((3, 2)), weight=np.ones((4, 2)))], ValueError, "'a'"),
        ([LayerArrays("a", output=np.array(["x"]))], TypeError, "numbers"),
        ([LayerArrays("a", output=3.0)], ValueError, "'a'"),
    ],
)
def test_bad_arrays_are_named(layers, error, message):
    with pytest.raises(error, match=message):
        diagnose_arrays(layers)


def test_targets_must_have_the_rows():
    with pytest.raises(ValueError, match="3 rows"):
        diagnose_arrays([LayerArrays("a", output=np.ones((4, 2)))], targets=[0, 1, 0])


def test_the_report_as_a_page_and_as_json(sick, tmp_path):
    parts, loss = arrays_of(sick)
    diagnosis = diagnose_arrays(parts, loss=loss, targets=Y)
    page = diagnosis.to_html(tmp_path / "report.html")
    html5lib.HTMLParser(strict=True).parse(page)
    assert (tmp_path / "report.html").read_text(encoding="utf-8").strip() == page.strip()
    assert "Vanishing gradient" in page
    assert "20 hidden layers of 64 sigmoid units" in page
    assert "changes cannot be tried on arrays" in page.replace("Changes", "changes")
    assert "sigmoid slope" in str(diagnosis), "where the gradient goes"
    assert diagnosis._repr_html_().startswith('<div class="gradcore-report">')
    read = json.loads(diagnosis.to_json(tmp_path / "report.json"))
    assert read["faults"][0]["kind"] == "vanishing_gradient"
    assert read["ledger"]["step"] is None
    unknown = diagnose_arrays([LayerArrays("a", output=np.ones((4, 2)))]).to_html()
    assert "No certain fault" in unknown
    assert "Not known: " in unknown
    assert "Healthy" not in unknown


def test_a_norm_of_any_kind_is_called_norm(rng):
    x = rng.normal(size=(20, 4))
    w = rng.normal(size=(4, 4))
    d = rng.normal(size=(20, 4))
    parts = [
        LayerArrays("dense", "dense", x, x @ w.T, d, w, d.T @ x),
        LayerArrays("LayerNorm", "norm", x @ w.T, x, d),
        LayerArrays("out", "dense", x, x @ w.T, d, w, d.T @ x),
    ]
    diagnosis = diagnose_arrays(parts, loss=2.0, targets=np.arange(20) % 4)
    names = [
        name
        for name, _, _ in group_shares(diagnosis.ledger, diagnosis.ledger.split(), diagnosis.network.layers)
    ]
    assert names == ["initial weights", "norm"]
    assert "batch norm" not in str(diagnosis)
