import json

import numpy as np
import pytest

from gradcore import Dense, Network, Probe, mlp
from gradcore.callbacks import JSONLogger
from gradcore.training.json_logger import strict


def refuse(constant):
    raise AssertionError(f"{constant} is not JSON")


def lines(path):
    return [json.loads(line, parse_constant=refuse) for line in path.read_text("utf-8").splitlines()]


@pytest.fixture
def data(rng):
    return rng.standard_normal((40, 5)), rng.integers(0, 3, 40)


@pytest.mark.parametrize("level", ["light", "full"])
def test_what_is_read_back_is_what_happened(tmp_path, data, level):
    path = tmp_path / "log.jsonl"
    net = mlp([5, 8, 8, 3], residual=True, norm="batch", seed=0)
    history = net.fit(
        *data, epochs=2, batch_size=10, validation_fraction=0.2, probe=Probe(3, level),
        callbacks=[JSONLogger(path)], seed=0,
    )  # fmt: skip
    read = lines(path)
    assert [line["event"] for line in read] == ["ledger", "epoch", "ledger", "epoch"]
    for epoch, line in enumerate(line for line in read if line["event"] == "epoch"):
        assert (line["epoch"], line["step"]) == (epoch, 4 * (epoch + 1))
        assert {name: line[name] for name in history.history} == {
            n: v[epoch] for n, v in history.history.items()
        }
    for ledger, line in zip(
        history.ledgers, (line for line in read if line["event"] == "ledger"), strict=True
    ):
        assert (line["step"], line["loss"], line["level"]) == (ledger.step, ledger.loss, level)
        for entry, found in zip(ledger.entries, line["entries"], strict=True):
            assert found["name"] == entry.name
            assert found["output"]["norm"] == entry.output.norm
            assert found["d_output"]["norm"] == entry.d_output.norm


def test_what_is_not_finite_is_null_and_named(tmp_path):
    path = tmp_path / "log.jsonl"
    net = Network([Dense(2), "exponential", Dense(2)], input_size=2, seed=0)
    net.set_parameters({"0.bias": [200.0, 0.0]})
    net.fit(
        np.ones((4, 2)), np.zeros((4, 2)), epochs=1, probe=Probe(level="full"), on_fault="ignore",
        callbacks=[JSONLogger(path)],
    )  # fmt: skip
    ledger, epoch = lines(path)
    assert epoch["loss"] is None
    assert "loss" in epoch["nonfinite"]["nan"]
    output = ledger["entries"][1]["output"]
    assert (output["max_abs"], output["infs"]) == (None, 4)
    assert "entries.1.output.max_abs" in ledger["nonfinite"]["inf"]
    assert ledger["loss"] is None
    assert any("loss" in paths for paths in ledger["nonfinite"].values())


def test_an_unbooked_fold_is_null_without_a_mark():
    nothing = dict.fromkeys(("norm", "nans"), float("nan"))
    assert strict({"d_input": nothing, "step": np.int64(3)}) == {"d_input": None, "step": 3}
    assert strict({"a": -np.inf}) == {"a": None, "nonfinite": {"-inf": ["a"]}}


def test_the_file_is_emptied_or_kept(tmp_path, data):
    path = tmp_path / "log.jsonl"
    for append, expected in ((False, 1), (False, 1), (True, 2)):
        mlp([5, 3], seed=0).fit(*data, epochs=1, callbacks=[JSONLogger(path, append=append)])
        assert len(lines(path)) == expected


def test_every_line_is_there_at_once(tmp_path, data):
    path = tmp_path / "log.jsonl"

    class Reads(JSONLogger):
        def on_epoch_end(self, epoch, logs):
            super().on_epoch_end(epoch, logs)
            assert [line["epoch"] for line in lines(path)] == list(range(epoch + 1))

    mlp([5, 3], seed=0).fit(*data, epochs=3, callbacks=[Reads(path)])


def test_a_path_that_cannot_be_written_stops_before_the_training(tmp_path, data):
    net = mlp([5, 3], seed=0)
    before = net.parameters.copy()
    with pytest.raises(FileNotFoundError):
        net.fit(*data, callbacks=[JSONLogger(tmp_path / "nowhere" / "log.jsonl")])
    assert np.array_equal(net.parameters, before)
    with pytest.raises(TypeError, match="append"):
        JSONLogger(tmp_path, append=1)


@pytest.mark.parametrize("path", [3, None, b"log.jsonl"])
def test_the_path_is_checked_at_once(path):
    with pytest.raises(TypeError, match="path must be the path of a file"):
        JSONLogger(path)
