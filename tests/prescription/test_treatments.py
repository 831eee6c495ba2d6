"""The registry of cures: each applies somewhere, makes a network that trains, and says what it does."""

import numpy as np
import pytest

from gradcore.diagnosis.changes import Change
from gradcore.diagnosis.recipe import Data, Job, Recipe, train
from gradcore.layers import Activation
from gradcore.network import Network, mlp
from gradcore.optimizers import SGD, Adam
from gradcore.prescription.treatments import TREATMENTS, Subject, caution, resolve

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4)).astype("f4")
LABELS = (X[:, 0] > 0).astype(np.int64)


def subject(net: Network, *, rows: int = 1000, regression: bool = False, **settings) -> Subject:
    given = {"loss": "cross_entropy", "optimizer": SGD(0.01, momentum=0.9), "batch_size": 32} | settings
    return Subject(Recipe(net.layers, net.input_size, net.dtype, **given), rows, regression)


DEEP = mlp([4, *[6] * 8, 2], activation="sigmoid", init="normal(0.01)")
PLAIN = subject(DEEP)
# where those apply that the deep network has no use for
OTHERS = {
    "standardised_targets": subject(DEEP, regression=True),
    "layer_norm": subject(DEEP, batch_size=4),
    "no_norm": subject(mlp([4, 6, 2], norm="batch")),
    "output_and_loss": subject(
        Network([*DEEP.layers, Activation("sigmoid")], input_size=4), loss="mse(reduction='sum')"
    ),
    "batch_size": subject(DEEP, batch_size=1),
}


@pytest.mark.parametrize("kind", TREATMENTS)
def test_each_says_what_it_does_and_applies_somewhere(kind):
    treatment = TREATMENTS[kind]
    assert len(treatment.effect) > 30
    assert list(treatment.doses(OTHERS.get(kind, PLAIN)))


@pytest.mark.parametrize("kind", [kind for kind in TREATMENTS if kind != "standardised_targets"])
def test_each_dose_changes_the_recipe_and_makes_a_network_that_trains(kind):
    some = OTHERS.get(kind, PLAIN)
    data = Data(X[:40], LABELS[:40], X[40:], LABELS[40:])
    if "mse" in some.recipe.loss:
        data = Data(X[:40], X[:40, :2], X[40:], X[40:, :2])
    for change in TREATMENTS[kind].doses(some):
        changed = some.recipe.changed(change)
        assert changed != some.recipe
        (made,) = train([Job(changed, 1, 0, 0)], data)
        assert made.network.history.steps > 0
        assert np.isfinite(made.network.parameters).all()


def test_what_does_not_apply_offers_nothing():
    shallow = subject(mlp([4, 2]), optimizer=Adam())
    for kind in ("fewer_layers", "activation", "lsuv", "batch_norm", "residual", "autoencoder", "dropout"):
        assert not list(TREATMENTS[kind].doses(shallow)), kind
    assert not list(TREATMENTS["batch_norm"].doses(subject(DEEP, batch_size=1)))
    assert [change.name for change in TREATMENTS["layer_norm"].doses(subject(DEEP, batch_size=1))] == [
        "layer norm"
    ]
    assert not list(TREATMENTS["layer_norm"].doses(subject(DEEP, batch_size=32)))
    assert not list(TREATMENTS["learning_rate"].doses(subject(DEEP, optimizer=SGD(0.0))))
    assert not list(TREATMENTS["clipping"].doses(subject(DEEP, clip_norm=1.0)))
    assert not list(TREATMENTS["warm_up"].doses(subject(DEEP, schedule="cosine")))


def test_all_cures_of_the_subject_are_there():
    wanted = {
        "fewer_layers", "activation", "initial_weights", "lsuv", "batch_norm", "residual", "autoencoder", "dropout",
        "weight_decay", "l1", "clipping", "learning_rate", "warm_up", "optimizer", "batch_size",
        "standardised_inputs", "standardised_targets", "output_and_loss", "wider_layers",
    }  # fmt: skip
    assert wanted <= set(TREATMENTS)
    clips = {change.made for change in TREATMENTS["clipping"].doses(PLAIN)}
    assert clips == {("clip_norm",), ("clip_value",), ("clip_adaptive",)}
    activations = {change.activation for change in TREATMENTS["activation"].doses(PLAIN)}
    assert activations == {"tanh", "selu", "relu", "leaky_relu", "gelu", "elu"}


def test_relu_is_warned_of_where_a_layer_will_be_dead():
    narrow = subject(mlp([2, *[5] * 12, 1], activation="sigmoid"))
    assert "relu will likely fail here: width 5, depth 12" in caution(
        narrow, Change(activation="relu", init="he_normal")
    )
    assert caution(narrow, Change(activation="tanh", init="glorot_normal")) == ""
    wide = subject(mlp([2, *[64] * 12, 1], activation="sigmoid"))
    assert caution(wide, Change(activation="relu", init="he_normal")) == ""
    assert caution(narrow, Change(activation="relu", norm=True)) == ""
    assert caution(narrow, Change(activation="relu", width=8)) == ""


def test_what_takes_signal_away_is_warned_of_in_deep_networks():
    deep = subject(mlp([4, *[64] * 12, 2], activation="tanh"))
    for change in (Change(dropout=0.2), Change(weight_decay=0.1), Change(l1=0.1)):
        assert "takes away signal" in caution(deep, change)
        assert caution(subject(mlp([4, 64, 2])), change) == ""


def test_noisy_statistics_are_warned_of():
    assert "statistics of 2 rows are noisy" in caution(subject(DEEP, batch_size=2), Change(norm=True))


def test_kinds_are_found_by_name_and_changes_stand_for_themselves():
    own = Change(rate=2.0)
    assert resolve(["dropout", own]) == [TREATMENTS["dropout"], own]
    assert resolve("dropout") == [TREATMENTS["dropout"]]
    assert resolve(own) == [own]
    assert resolve("auto") == list(TREATMENTS.values())
    with pytest.raises(ValueError, match=r"batch_nrm.*batch_norm"):
        resolve(["batch_nrm"])
    with pytest.raises((ValueError, TypeError)):
        resolve([3])
