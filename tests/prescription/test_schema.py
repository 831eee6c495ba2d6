"""The schema describes what is written, and nothing else."""

import copy
import json
from importlib.resources import files

import pytest
from jsonschema import Draft202012Validator

SCHEMA = json.loads((files("gradcore.prescription") / "schema.json").read_text())
NAMES = ("cured", "healthy", "harmed", "hopeless", "regression", "budget")


def strict(schema):
    """The same schema without room for what it does not name."""
    closed = {key: strict(value) if isinstance(value, dict) else value for key, value in schema.items()}
    return closed | ({"additionalProperties": False} if "required" in schema else {})


VALIDATOR = Draft202012Validator(strict(SCHEMA))


def test_the_schema_is_one():
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("name", NAMES)
def test_every_prescription_is_described(prescriptions, name):
    VALIDATOR.validate(json.loads(prescriptions[name].to_json()))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["version"], 2),
        (["trials", 1, "verdict"], "cured"),
        (["trials", 1, "scores"], "high"),
        (["trials", 1, "interval"], [1.0]),
        (["score"], "f1"),
        (["what_is_this"], 1),
    ],
)
def test_a_wrong_one_is_refused(prescriptions, path, value):
    spoilt = copy.deepcopy(json.loads(prescriptions["cured"].to_json()))
    part = spoilt
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    assert not VALIDATOR.is_valid(spoilt)
