"""The JSON of a diagnosis is what its schema says, and the schema says everything that is in it."""

import copy
import json
import math
from importlib.resources import files

import pytest
from jsonschema import Draft202012Validator

from gradcore import Dense, Network, mlp
from gradcore.datasets import load_digits
from gradcore.diagnosis.diagnose import SCHEMA, SCHEMA_VERSION, diagnose
from gradcore.diagnosis.proof import prove
from gradcore.diagnosis.recipe import Data
from gradcore.health.faults import CAUSES, KINDS, SEVERITIES

DIGITS = load_digits()
X, Y = DIGITS.X_train[:200], DIGITS.y_train[:200]
DESCRIBED = json.loads(files("gradcore.diagnosis").joinpath("schema.json").read_text(encoding="utf-8"))


def strict(schema):
    """The schema that allows nothing which it does not describe."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: strict(value) for key, value in schema.items()}
    return closed | ({"additionalProperties": False} if isinstance(closed.get("properties"), dict) else {})


STRICT = Draft202012Validator(strict(DESCRIBED))


def deep(depth, activation="relu", **arguments):
    return mlp([64, *depth * [32], 10], activation=activation, seed=0, **arguments)


CASES = {
    "vanishing": (lambda: deep(20, "sigmoid", init="normal(0.01)"), {"seeds": 2}),
    "overflow": (lambda: deep(9, "exponential"), {}),
    "residual and norm": (lambda: deep(4, norm="batch", residual=True, dropout=0.2), {}),
    "wild rate": (lambda: deep(2), {"optimizer": "sgd(1e4)", "steps": 60}),
    "dead": (lambda: Network([Dense(8, bias_init="constant(-99)"), "relu", Dense(10)], input_size=64, seed=0), {}),
    "healthy": (lambda: deep(1), {"steps": 5}),
}  # fmt: skip


def test_the_schema_is_one():
    Draft202012Validator.check_schema(DESCRIBED)
    assert DESCRIBED["properties"]["schema"]["const"] == SCHEMA
    assert DESCRIBED["properties"]["version"]["const"] == SCHEMA_VERSION


def test_it_names_what_there_is():
    named = {name: tuple(DESCRIBED["$defs"][name]["enum"]) for name in ("kind", "cause")}
    assert named == {"kind": KINDS, "cause": CAUSES}
    assert tuple(DESCRIBED["$defs"]["fault"]["properties"]["severity"]["enum"]) == SEVERITIES


@pytest.mark.parametrize("name", CASES)
def test_every_diagnosis_is_described(name):
    make, arguments = CASES[name]
    STRICT.validate(json.loads(diagnose(make(), X, Y, **arguments).to_json()))


def test_a_proof_is_described():
    diagnosis = diagnose(deep(20, "sigmoid", init="normal(0.01)"), X, Y)
    proof = list(prove(diagnosis, Data(X, Y, X, Y), seeds=1, epochs=1))[-1]
    STRICT.validate(json.loads(diagnosis.to_json(proof=proof)))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["version"], 2),
        (["faults", 0, "kind"], "tired_gradient"),
        (["faults", 0, "seeds"], [1]),
        (["ledger", "entries", 0, "output", "norm"], "large"),
        (["what_if", "outcomes", 0, "trains"], None),
        (["what_is_this"], 1),
    ],
)
def test_a_wrong_one_is_refused(path, value):
    content = json.loads(diagnose(deep(20, "sigmoid", init="normal(0.01)"), X, Y).to_json())
    assert STRICT.is_valid(content)
    spoilt = copy.deepcopy(content)
    *way, last = path
    part = spoilt
    for key in way:
        part = part[key]
    part[last] = value
    assert not STRICT.is_valid(spoilt)


def test_readers_may_meet_new_keys():
    content = json.loads(diagnose(deep(1), X, Y).to_json())
    Draft202012Validator(DESCRIBED).validate(content | {"something_new": math.pi})
