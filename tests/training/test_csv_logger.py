import csv
import math

import numpy as np
import pytest

from gradcore import Dense, Network, mlp
from gradcore.callbacks import Callback, Checkpoint, CSVLogger, ReduceOnPlateau


def rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def data(rng):
    return rng.standard_normal((40, 5)), rng.integers(0, 3, 40)


def test_what_is_read_back_has_the_bits_of_the_history(tmp_path, data):
    path = tmp_path / "log.csv"
    history = mlp([5, 8, 3], seed=0).fit(
        *data,
        epochs=4,
        validation_fraction=0.2,
        callbacks=[CSVLogger(path), ReduceOnPlateau(patience=1)],
        seed=0,
    )
    read = rows(path)
    assert [int(row["epoch"]) for row in read] == history.epochs
    for name, values in history.history.items():
        assert [float(row[name]) for row in read] == values
    assert list(read[0]) == ["epoch", *history.history]


def test_what_is_not_finite_is_written_as_such(tmp_path):
    path = tmp_path / "log.csv"
    net = Network([Dense(2), "exponential", Dense(2)], input_size=2, seed=0)
    net.set_parameters({"0.bias": [200.0, 0.0]})
    net.fit(
        np.ones((4, 2)), np.zeros((4, 2)), epochs=1, on_fault="ignore", callbacks=[CSVLogger(path)],
    )  # fmt: skip
    assert rows(path)[0]["loss"] == "nan"
    assert math.isnan(np.genfromtxt(path, delimiter=",", names=True)["loss"])


def test_every_row_is_there_at_once_and_the_header_once(tmp_path, data):
    path = tmp_path / "log.csv"

    class Reads(CSVLogger):
        def on_epoch_end(self, epoch, logs):
            super().on_epoch_end(epoch, logs)
            text = path.read_text()
            assert text.endswith("\n")
            assert text.count("epoch") == 1
            assert [int(row["epoch"]) for row in rows(path)] == list(range(epoch + 1))

    mlp([5, 3], seed=0).fit(*data, epochs=3, callbacks=[Reads(path)])


def test_the_file_is_emptied_or_kept(tmp_path, data):
    path = tmp_path / "log.csv"
    for append, expected in ((False, 2), (False, 2), (True, 4), (True, 6)):
        mlp([5, 3], seed=0).fit(*data, epochs=2, callbacks=[CSVLogger(path, append=append)])
        assert [int(row["epoch"]) for row in rows(path)] == [0, 1] * (expected // 2)


def test_append_to_a_new_file_and_behind_half_a_row(tmp_path, data):
    path = tmp_path / "log.csv"
    mlp([5, 3], seed=0).fit(*data, epochs=1, callbacks=[CSVLogger(path, append=True)])
    with path.open("a") as file:
        file.write("1,0.3")  # killed here
    mlp([5, 3], seed=0).fit(*data, epochs=1, callbacks=[CSVLogger(path, append=True)])
    assert [row["epoch"] for row in rows(path)] == ["0", "0"]


def test_append_needs_the_same_columns(tmp_path, data):
    path = tmp_path / "log.csv"
    mlp([5, 3], seed=0).fit(*data, epochs=1, callbacks=[CSVLogger(path)])
    with pytest.raises(ValueError, match="val_loss"):
        mlp([5, 3], seed=0).fit(
            *data, epochs=1, validation_fraction=0.2, callbacks=[CSVLogger(path, append=True)]
        )


def test_a_file_that_cannot_be_written_stops_before_the_training(tmp_path, data):
    net = mlp([5, 3], seed=0)
    before = net.parameters.copy()
    with pytest.raises(FileNotFoundError):
        net.fit(*data, callbacks=[CSVLogger(tmp_path / "nowhere" / "log.csv")])
    assert np.array_equal(net.parameters, before)
    with pytest.raises(TypeError, match="append"):
        CSVLogger(tmp_path, append=1)
    with pytest.raises(TypeError, match="path must be the path of a file"):
        CSVLogger(3)


def test_the_file_is_closed_where_the_training_fails(tmp_path, data):
    logger = CSVLogger(tmp_path / "log.csv")

    class Fails(ReduceOnPlateau):
        def on_epoch_end(self, epoch, logs):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        mlp([5, 3], seed=0).fit(*data, callbacks=[logger, Fails("loss")])
    assert logger._file is None
    assert len(rows(logger.path)) == 1


def test_the_order_of_callbacks_does_not_matter_when_a_log_goes_on(tmp_path, data):
    path = tmp_path / "log.csv"
    for _ in range(2):
        callbacks = [CSVLogger(path, append=True), ReduceOnPlateau("loss", patience=1)]
        mlp([5, 8, 3], seed=0).fit(*data, epochs=2, callbacks=callbacks, progress=False)
    assert [row["epoch"] for row in rows(path)] == ["0", "1", "0", "1"]
    assert all(row["lr"] for row in rows(path))


def test_no_row_is_doubled_after_a_stop_within_the_first_epoch(tmp_path, data):
    class Stop(Callback):
        def on_train_batch_end(self, batch, logs):
            if self.history.steps == 7:
                raise KeyboardInterrupt

    def train(*others, **settings):
        callbacks = [
            CSVLogger(tmp_path / "log.csv", append=True),
            Checkpoint(tmp_path / "checkpoint", every=100, every_steps=4),
        ]
        net = mlp([5, 8, 3], seed=1)
        return net.fit(*data, epochs=3, batch_size=8, seed=0, callbacks=[*callbacks, *others], **settings)

    with pytest.raises(KeyboardInterrupt):
        train(Stop())
    train(resume=tmp_path / "checkpoint")
    assert [row["epoch"] for row in rows(tmp_path / "log.csv")] == ["0", "1", "2"]


def test_a_file_that_is_no_such_log_is_named_and_kept(tmp_path, data):
    path = tmp_path / "notes.txt"
    path.write_text("hello world\n")
    with pytest.raises(ValueError, match=r"notes.txt is not a log of this kind"):
        mlp([5, 8, 3], seed=0).fit(*data, callbacks=[CSVLogger(path, append=True)])
    assert path.read_text() == "hello world\n"
