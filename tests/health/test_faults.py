"""Faults: the words are fixed, the order is by severity."""

import pytest

from gradcore.health.faults import CAUSES, KINDS, Fault


@pytest.mark.parametrize(
    "arguments",
    [{"kind": "sick"}, {"severity": "bad"}, {"causes": ("bad_luck",)}],
    ids=["kind", "severity", "cause"],
)
def test_unknown_words_are_refused(arguments):
    with pytest.raises(ValueError, match="unknown"):
        Fault(**{"kind": "overflow", "severity": "fatal"} | arguments)


def test_most_severe_first():
    faults = [
        Fault("saturated_activations", "serious"),
        Fault("dead_units", "fatal", evidence={"after_steps": 5}),
        Fault("overflow", "fatal"),
        Fault("vanishing_gradient", "fatal"),
    ]
    assert [f.kind for f in sorted(faults, key=lambda f: f.rank)] == [
        "vanishing_gradient", "overflow", "dead_units", "saturated_activations",
    ]  # fmt: skip


def test_no_word_twice():
    assert len(set(KINDS)) == len(KINDS)
    assert len(set(CAUSES)) == len(CAUSES)


def test_fault_as_a_dictionary():
    fault = Fault("dead_units", "fatal", ops=("relu 1",), causes=("narrow_layers",), seeds=(2, 3))
    assert fault.title == "DEAD UNITS"
    assert fault.to_dict()["seeds"] == [2, 3]
