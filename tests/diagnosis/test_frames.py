"""The table of layers: every column is what it says."""

import numpy as np
import pandas
import pytest

from gradcore import mlp
from gradcore.datasets import load_digits
from gradcore.diagnosis.curves import curves
from gradcore.diagnosis.diagnose import diagnose

DIGITS = load_digits()
X, Y = DIGITS.X_train[:300], DIGITS.y_train[:300]


@pytest.fixture(scope="module")
def sick():
    return diagnose(mlp([64, *20 * [64], 10], activation="sigmoid", init="normal(0.01)", seed=0), X, Y)


def test_one_row_per_layer(sick):
    frame = sick.to_frame()
    assert isinstance(frame, pandas.DataFrame)
    assert frame.index.name == "layer"
    assert frame.index.tolist() == list(range(1, 22))
    assert frame["op"].tolist() == [f"dense {i}" for i in range(1, 22)]
    assert frame["units"].tolist() == [*20 * [64], 10]
    assert frame["fan_in"].tolist() == 21 * [64]
    assert {"float64", "bool", "int64"} >= {str(kind) for name, kind in frame.dtypes.items() if name != "op"}


def test_measured_columns_are_the_books(sick):
    frame, layers = sick.to_frame(), sick.books.layers
    for name, values in {
        "signal": layers.output_signal, "scale": layers.output_scale, "delta": layers.delta,
        "gradient": layers.gradient, "weight": layers.weight, "usable": sick.books.usable,
    }.items():  # fmt: skip
        np.testing.assert_array_equal(frame[name], values)
    assert frame.index[frame["starved"]].tolist() == sick.faults[0].evidence["starved_layers"]
    assert frame.index[frame["lost"]][0] == sick.faults[0].evidence["first_lost_layer"]


def test_other_columns_are_the_curves(sick):
    frame = sick.to_frame()
    names = [f"{what}_{of}" for of in ("predicted", "changed") for what in ("gradient", "signal")]
    expected = {f"{curve.what}_{curve.of}": curve.log10 for curve in curves(sick)}
    for name in names:
        # another depth has no row to stand in
        if len(expected[name]) == len(frame):
            np.testing.assert_allclose(np.log10(frame[name]), expected[name])
        else:
            assert name not in frame


def test_a_change_that_keeps_the_layers_has_its_columns():
    diagnosis = diagnose(mlp([64, *12 * [64], 10], init="normal(2)", seed=0), X, Y)

    frame = diagnosis.to_frame()
    assert len(diagnosis.changed.layers) == len(frame)
    assert (frame["gradient_changed"] < 1e-3 * frame["gradient"]).all()


def test_a_healthy_network_has_no_changed_columns():
    frame = diagnose(mlp([64, 32, 10], seed=0), X, Y).to_frame()
    assert not [name for name in frame if name.endswith("_changed")]
    assert not frame["lost"].any()


def test_without_pandas(sick, without):
    without("pandas")
    with pytest.raises(ImportError, match=r"pip install 'gradcore\[frames\]'"):
        sick.to_frame()
