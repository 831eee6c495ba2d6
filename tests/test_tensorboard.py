import struct

import numpy as np
import pytest

from gradcore import Probe, mlp
from gradcore.callbacks import Callback, Checkpoint, TensorBoard


@pytest.fixture
def data(rng):
    return rng.standard_normal((40, 5)), rng.integers(0, 3, 40)


def scalars(directory):
    """What TensorBoard shows: by name the values of each step, without what a later session makes again."""
    events = pytest.importorskip("tensorboardX.proto.event_pb2")
    found = {}
    for path in sorted(directory.iterdir(), key=lambda path: path.stat().st_mtime_ns):
        raw, at = path.read_bytes(), 0
        while at < len(raw):  # length, its checksum, the event, its checksum
            (length,) = struct.unpack_from("<Q", raw, at)
            event = events.Event.FromString(raw[at + 12 : at + 12 + length])
            at += 16 + length
            if event.HasField("session_log") and event.step:
                found = {n: {s: v for s, v in c.items() if s < event.step} for n, c in found.items()}
            for value in event.summary.value:
                found.setdefault(value.tag, {})[event.step] = value.simple_value
    return found


def test_epochs_and_ledgers_are_written(tmp_path, data):
    pytest.importorskip("tensorboardX")
    board = TensorBoard(tmp_path)
    history = mlp([5, 8, 3], activation="tanh", seed=0).fit(
        *data, epochs=3, batch_size=10, validation_fraction=0.25, callbacks=[board], probe=Probe(2), seed=0
    )
    found = scalars(tmp_path)
    for name, values in history.history.items():
        assert found[f"epoch/{name}"] == {3 * (k + 1): np.float32(v) for k, v in enumerate(values)}
    steps = {ledger.step: ledger for ledger in history.ledgers}
    assert list(steps) == [2, 4, 6, 8]
    assert found["step/loss"] == {step: np.float32(ledger.loss) for step, ledger in steps.items()}
    for number, name in enumerate(("dense_1", "tanh_1", "dense_2")):
        place = f"{number:02d}_{name}"
        assert found[f"signal/{place}"] == {
            s: np.float32(x.entries[number].output.signal) for s, x in steps.items()
        }
        assert found[f"delta/{place}"] == {
            s: np.float32(x.entries[number].d_output.norm) for s, x in steps.items()
        }
    assert found["backward_gain/01_tanh_1"] == {
        s: np.float32(x.entries[1].backward_gain) for s, x in steps.items()
    }


def test_a_resumed_training_hides_what_it_makes_again(tmp_path, data):
    pytest.importorskip("tensorboardX")
    pytest.importorskip("safetensors")

    class Ends(Callback):
        def on_epoch_end(self, epoch, logs):
            if epoch == 3:
                raise KeyboardInterrupt

    settings = {"epochs": 6, "batch_size": 10, "seed": 0, "probe": Probe(3)}
    whole = mlp([5, 8, 3], seed=0).fit(*data, callbacks=[TensorBoard(tmp_path / "whole")], **settings)
    check = Checkpoint(tmp_path / "a", every=2)
    net = mlp([5, 8, 3], seed=0)
    with pytest.raises(KeyboardInterrupt):
        net.fit(*data, callbacks=[check, TensorBoard(tmp_path / "b"), Ends()], **settings)
    net.fit(*data, callbacks=[check, TensorBoard(tmp_path / "b")], resume=tmp_path / "a", **settings)
    found = scalars(tmp_path / "b")
    assert found == scalars(tmp_path / "whole")
    assert len(found["epoch/loss"]) == len(whole.epochs) == 6


def test_without_the_writer_it_says_what_to_install(tmp_path, data, without):
    without("tensorboardX")
    net = mlp([5, 3], seed=0)
    before = net.parameters.copy()
    with pytest.raises(ImportError, match=r"pip install 'gradcore\[tensorboard\]'"):
        net.fit(*data, callbacks=[TensorBoard(tmp_path)])
    assert np.array_equal(net.parameters, before)


def test_the_file_is_closed_where_the_training_fails(tmp_path, data):
    pytest.importorskip("tensorboardX")
    board = TensorBoard(tmp_path)

    class Fails(Callback):
        def on_epoch_end(self, epoch, logs):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        mlp([5, 3], seed=0).fit(*data, callbacks=[board, Fails()])
    assert board._writer is None
    assert len(scalars(tmp_path)["epoch/loss"]) == 1


def test_the_directory_is_checked():
    with pytest.raises(TypeError, match="log_dir must be the path"):
        TensorBoard(3)
