import itertools
import json
import math
import subprocess
import sys

import killed_training
import numpy as np
import pytest
from failing_files import failing
from reference_network import twin

from gradcore import BatchNorm, Dense, Dropout, LayerNorm, Network, Probe, Residual, optimizers, schedules
from gradcore.callbacks import Callback, Checkpoint, CSVLogger, EarlyStopping, JSONLogger, ReduceOnPlateau
from gradcore.files import read_arrays, write_arrays
from gradcore.training.checkpoint import FORM

LAYERS = [Dense(16), BatchNorm(), "tanh", Residual([Dense(16), "relu"]), Dropout(0.3), Dense(3)]
OPTIMIZERS = [*optimizers.REGISTRY, "sgd(0.1, momentum=0.9)", "sgd(0.1, momentum=0.9, nesterov=True, l1=1e-4)",
              "adamw(0.01, weight_decay=0.1)"]  # fmt: skip
EPOCHS = 7


@pytest.fixture
def data(rng):
    return rng.standard_normal((50, 5)), rng.integers(0, 3, 50)


def network(dtype="float32", seed=0):
    return Network(LAYERS, input_size=5, dtype=dtype, seed=seed)


class Ends(Callback):
    """Ends a training after so many steps, by Ctrl-C, or after so many epochs as if it had been asked for no more."""

    def __init__(self, steps):
        self.left = steps

    def on_train_batch_end(self, batch, logs):
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


def fit(net, data, path, *, callbacks=(), every=1, every_steps=None, **settings):
    """A training with a checkpoint; six steps an epoch."""
    settings = {"epochs": EPOCHS, "batch_size": 8, "validation_fraction": 0.1, "seed": 4} | settings
    check = Checkpoint(path, every=every, every_steps=every_steps)
    return net.fit(*data, callbacks=[check, *callbacks], **settings)


def contents(path):
    """All that a checkpoint holds, but for the time."""
    _, values, arrays = read_arrays(path, FORM)
    del values["seconds"]
    return values, {name: (array.dtype, array.shape, array.tobytes()) for name, array in arrays.items()}


def stopped_and_resumed(tmp_path, data, *, dtype="float32", steps, make=tuple, threads=1, **settings):
    """The checkpoints at the ends of a training that ran through and of one that did not, and both histories."""
    whole, first, later = (network(dtype) for _ in range(3))
    ran = fit(whole, data, tmp_path / "whole", callbacks=make(), threads=threads, **settings)
    with pytest.raises(KeyboardInterrupt):
        fit(first, data, tmp_path / "part", callbacks=[*make(), Ends(steps)], threads=threads, **settings)
    resumed = fit(
        later, data, tmp_path / "part", resume=tmp_path / "part", callbacks=make(), threads=3 - threads,
        **settings | {"seed": None},
    )  # fmt: skip
    assert np.array_equal(whole.parameters, later.parameters)
    assert np.array_equal(whole.state, later.state)
    assert contents(tmp_path / "whole") == contents(tmp_path / "part")
    for name in ("epochs", "steps", "stopped", "seed", "constant_loss", "loss_name", "optimizer"):
        assert getattr(resumed, name) == getattr(ran, name), name
    np.testing.assert_array_equal(resumed.curve.values, ran.curve.values)
    assert {k: np.array(v).tobytes() for k, v in resumed.history.items()} == {
        k: np.array(v).tobytes() for k, v in ran.history.items()
    }
    return ran, resumed


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_goes_on_to_the_same_bits(tmp_path, data, dtype, optimizer, threads):
    stopped_and_resumed(tmp_path, data, dtype=dtype, steps=20, optimizer=optimizer, threads=threads)


@pytest.mark.parametrize("steps", [1, 5, 6, 7, 17, 41])
@pytest.mark.parametrize("every_steps", [1, 4])
def test_from_within_an_epoch(tmp_path, data, steps, every_steps):
    if steps < every_steps:
        steps = every_steps
    stopped_and_resumed(tmp_path, data, steps=steps + 1, every_steps=every_steps, every=3)


@pytest.mark.parametrize(
    "settings",
    [
        {"schedule": "one_cycle"},
        {"schedule": "cosine(warmup=5)"},
        {"clip_norm": 0.5},
        {"clip_value": 0.01},
        {"clip_adaptive": 0.01},
        {"shuffle": False},
        {"batch_size": 44},
        {"loss": "cross_entropy(reduction='sum')", "optimizer": "sgd(0.001)"},
        {"probe": Probe(3), "on_fault": "ignore"},
        {"validation_fraction": 0.02, "batch_size": 16},
    ],
)
def test_with_every_setting(tmp_path, data, settings):
    steps = EPOCHS if settings.get("batch_size") == 44 else 15
    stopped_and_resumed(tmp_path, data, steps=steps - 1, **settings)


@pytest.mark.parametrize("steps", [7, 13, 20])
def test_callbacks_go_on_where_they_were(tmp_path, data, steps):
    def make():
        return [
            EarlyStopping(patience=4),
            ReduceOnPlateau("loss", factor=0.5, patience=1, min_delta=1.0, cooldown=1),
            Checkpoint(tmp_path / "best", save_best_only=True),
        ]

    ran, _ = stopped_and_resumed(
        tmp_path, data, steps=steps, make=make, optimizer="adam(0.05)", epochs=20, threads=2
    )
    assert len(set(ran.history["lr"])) > 2
    assert ran.stopped is not None


def test_an_early_stopped_training_is_at_its_end(tmp_path, data):
    stopping = EarlyStopping("val_accuracy", patience=1)
    net = network()
    ran = fit(net, data, tmp_path / "a", callbacks=[stopping], epochs=30)
    assert len(ran.epochs) < 30
    again = network(seed=1)
    stopping = EarlyStopping("val_accuracy", patience=1)
    resumed = fit(again, data, tmp_path / "a", callbacks=[stopping], epochs=30, resume=tmp_path / "a")
    assert resumed.history == ran.history
    assert resumed.stopped == ran.stopped
    assert stopping.best == max(ran.history["val_accuracy"])
    assert np.array_equal(again.parameters, net.parameters)  # the best ones


def test_a_training_may_be_made_longer(tmp_path, data):
    whole, part, later = network(), network(), network(seed=3)
    fit(whole, data, tmp_path / "whole")
    fit(part, data, tmp_path / "part", epochs=3)
    history = fit(later, data, tmp_path / "part", resume=tmp_path / "part")
    assert contents(tmp_path / "whole") == contents(tmp_path / "part")
    assert np.array_equal(whole.parameters, later.parameters)
    assert len(history.epochs) == EPOCHS


def test_a_complete_training_has_nothing_left_to_do(tmp_path, data):
    net, again = network(), network(seed=5)
    ran = fit(net, data, tmp_path / "a")
    resumed = fit(again, data, tmp_path / "b", resume=tmp_path / "a")
    assert np.array_equal(net.parameters, again.parameters)
    assert resumed.history == ran.history
    assert resumed.stopped is None


def test_a_resumed_fit_needs_no_callback_and_may_run_epochs_in_one_stretch(tmp_path, data):
    whole, part, later = network(), network(), network(seed=3)
    plain = {"epochs": 40, "batch_size": 8, "seed": 4}
    ran = whole.fit(*data, **plain)
    with pytest.raises(KeyboardInterrupt):
        part.fit(*data, callbacks=[Checkpoint(tmp_path / "a", every_steps=5), Ends(51)], **plain)
    resumed = later.fit(*data, resume=tmp_path / "a", **plain)
    assert np.array_equal(whole.parameters, later.parameters)
    assert resumed.history == ran.history
    assert resumed.seconds > 0


def test_the_readable_twin_goes_on_as_well(tmp_path, data):
    whole, part, later = (twin(network("float64")) for _ in range(3))
    fit(whole, data, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        fit(part, data, tmp_path / "part", callbacks=[Ends(18)], every_steps=5)
    fit(later, data, tmp_path / "part", resume=tmp_path / "part", every_steps=5)
    assert np.array_equal(whole.parameters, later.parameters)
    assert contents(tmp_path / "whole") == contents(tmp_path / "part")


def test_steps_that_were_not_applied(tmp_path):
    """They count as steps of the order, not as steps of Adam; their faults count too."""
    X, y = np.ones((20, 2)), np.zeros((20, 1))
    X[3] = 200

    def net():
        made = Network([Dense(2), "exponential", Dense(1)], input_size=2, seed=0)
        made.set_parameters({"0.weight": np.ones((2, 2))})
        return made

    settings = {"validation_fraction": 0.0, "batch_size": 4, "on_fault": "ignore"}
    fit(net(), (X, y), tmp_path / "whole", epochs=14, **settings)
    with pytest.raises(KeyboardInterrupt):
        fit(net(), (X, y), tmp_path / "part", epochs=14, callbacks=[Ends(23)], every_steps=2, **settings)
    later = net()
    history = fit(later, (X, y), tmp_path / "part", epochs=14, resume=tmp_path / "part", **settings)
    assert contents(tmp_path / "whole") == contents(tmp_path / "part")
    assert sum(history.history["skipped_steps"]) == 14
    assert len(history.faults) <= 10 - 4  # those of the first part are counted


def test_ledgers_are_numbered_on(tmp_path, data):
    with pytest.raises(KeyboardInterrupt):
        fit(network(), data, tmp_path / "a", callbacks=[Ends(20)])
    net, seen = network(), []

    class Sees(Callback):
        def on_probe(self, step, ledger):
            seen.append((step, ledger.step, ledger.loss))

    history = fit(net, data, tmp_path / "a", resume=tmp_path / "a", probe=Probe(5), callbacks=[Sees()])
    steps = [ledger.step for ledger in history.ledgers]
    assert steps == [20, 25, 30, 35, 40]
    assert [s[:2] for s in seen] == [(step, step) for step in steps]
    assert [s[2] for s in seen] == pytest.approx(history.curve.values[np.array(steps) - 1])


@pytest.mark.parametrize("logger", [CSVLogger, JSONLogger])
@pytest.mark.parametrize("append", [False, True])
def test_logs_have_every_epoch_once(tmp_path, data, logger, append):
    """Also where the log went on after the last checkpoint, and where half a line was written."""
    fit(network(), data, tmp_path / "x", callbacks=[logger(tmp_path / "whole")], probe=Probe(9))
    log = tmp_path / "log"
    with pytest.raises(KeyboardInterrupt):
        fit(network(), data, tmp_path / "a", callbacks=[logger(log), Ends(34)], every=2, probe=Probe(9))
    with log.open("a") as file:
        file.write('{"event": "epoch", "epo')
    resumed = [logger(log, append=append)]
    fit(network(), data, tmp_path / "a", callbacks=resumed, every=2, resume=tmp_path / "a", probe=Probe(9))
    assert log.read_text() == (tmp_path / "whole").read_text()


def test_a_log_that_is_not_there_any_more(tmp_path, data):
    with pytest.raises(KeyboardInterrupt):
        fit(network(), data, tmp_path / "a", callbacks=[Ends(20)])
    logs = [CSVLogger(tmp_path / "csv"), JSONLogger(tmp_path / "json")]
    fit(network(), data, tmp_path / "a", callbacks=logs, resume=tmp_path / "a")
    assert len((tmp_path / "csv").read_text().splitlines()) == 1 + EPOCHS
    lines = (tmp_path / "json").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [3, 4, 5, 6]


# -- what is refused


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 9}, "batch_size is 8 there, 9 here"),
        ({"optimizer": "sgd"}, r"optimizer is 'Adam\(.*' there, 'SGD\(.*' here"),
        ({"optimizer": "adam(0.01)"}, "optimizer is"),
        ({"loss": "mse"}, "loss is 'cross_entropy' there, 'mse' here"),
        ({"clip_norm": 1.0}, "clip_norm is inf there, 1.0 here"),
        ({"clip_adaptive": 1.0}, "clip_adaptive is inf there, 1.0 here"),
        ({"seed": 5}, "seed is 4 there, 5 here"),
        ({"shuffle": False}, "shuffle is True there, False here"),
        ({"schedule": "cosine"}, r"schedule is 'None' there, 'Cosine\("),
        ({"validation_fraction": 0.2}, "rows is 45 there, 40 here"),
        ({"epochs": 2}, r"is after 3 epochs: epochs=2 must be as many at least"),
        ({"resume": "nowhere"}, "there is no checkpoint nowhere"),
        ({"resume": 3}, "resume must be the path of a file"),
    ],
)
def test_another_setting_is_named(tmp_path, data, change, message):
    path = tmp_path / "a"
    fit(network(), data, path, epochs=3)
    net = network(seed=1)
    if "loss" in change:
        data = data[0], np.eye(3)[data[1]]
    before = net.parameters.copy(), net.state.copy()
    with pytest.raises((ValueError, TypeError, FileNotFoundError), match=message):
        fit(net, data, tmp_path / "b", **{"resume": path} | change)
    assert np.array_equal(net.parameters, before[0])
    assert np.array_equal(net.state, before[1])
    assert net.history is None
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([Dense(16), "tanh", Dense(3)], "the network has 9 ops there, 3 here"),
        ([*LAYERS[:2], "relu", *LAYERS[3:]], "op 2 is 'tanh 1.*' there, 'relu 1.*' here"),
        ([*LAYERS[:4], Dropout(0.2), Dense(3)], "op 7 is .*0.3.* there, .*0.2.* here"),
        ([*LAYERS[:1], BatchNorm(eps=1e-3), *LAYERS[2:]], "op 1 is"),
        ([Dense(16, use_bias=False), *LAYERS[1:]], "op 0 is .* there, .* without bias' here"),
        ([Dense(15), *LAYERS[1:3], Residual([Dense(15), "relu"]), *LAYERS[4:]], "5 → 16.* there, .*5 → 15"),
    ],
)
def test_another_network_is_named(tmp_path, data, layers, message):
    fit(network(), data, tmp_path / "a", epochs=3)
    with pytest.raises(ValueError, match=message):
        fit(Network(layers, input_size=5), data, tmp_path / "a", resume=tmp_path / "a")


def test_another_dtype_other_data_and_other_validation_data_are_named(tmp_path, data):
    X, y = data
    fit(network(), data, tmp_path / "a", epochs=3)
    resume = {"resume": tmp_path / "a"}
    with pytest.raises(ValueError, match="dtype is 'float32' there, 'float64' here"):
        fit(network("float64"), data, tmp_path / "a", **resume)
    other = X.copy()
    other[17, 3] = np.nextafter(np.float32(other[17, 3]), np.float32(9))
    with pytest.raises(ValueError, match=r"(X|validation_data) has other values"):
        fit(network(), (other, y), tmp_path / "a", **resume)
    with pytest.raises(ValueError, match="X has other values"):
        fit(network(), (X[::-1], y), tmp_path / "a", **resume)
    with pytest.raises(ValueError, match="y has other values"):
        fit(network(), (X, (y + 1) % 3), tmp_path / "a", **resume)
    pairs = {"validation_fraction": 0.0, "validation_data": (X[:10], y[:10])}
    fit(network(), data, tmp_path / "b", epochs=3, **pairs)
    pairs["validation_data"] = X[1:11], y[1:11]
    with pytest.raises(ValueError, match="validation_data has other values"):
        fit(network(), data, tmp_path / "b", resume=tmp_path / "b", **pairs)


def test_with_a_schedule_of_shares_the_number_of_epochs_must_stay(tmp_path, data):
    fit(network(), data, tmp_path / "a", epochs=3, schedule="cosine")
    with pytest.raises(ValueError, match=r"epochs is 3 there, 5 here, and with this schedule"):
        fit(network(), data, tmp_path / "a", epochs=5, schedule="cosine", resume=tmp_path / "a")
    steps = {"schedule": "exponential(0.9, step_size=5)"}
    fit(network(), data, tmp_path / "b", epochs=3, **steps)
    fit(network(), data, tmp_path / "b", epochs=5, **steps, resume=tmp_path / "b")
    fit(network(), data, tmp_path / "c", epochs=5, **steps)
    assert contents(tmp_path / "b") == contents(tmp_path / "c")


def test_a_schedule_of_ones_own(tmp_path, data):
    class Own(schedules.Schedule):
        def _at(self, step, total):
            return 1 / step

    with pytest.raises(KeyboardInterrupt):
        fit(network(), data, tmp_path / "a", schedule=Own(), callbacks=[Ends(20)])
    fit(network(), data, tmp_path / "a", schedule=Own(), resume=tmp_path / "a")
    fit(network(), data, tmp_path / "b", schedule=Own())
    assert contents(tmp_path / "b") == contents(tmp_path / "a")


def test_missing_and_other_callbacks_are_named(tmp_path, data):
    fit(network(), data, tmp_path / "a", epochs=3, callbacks=[EarlyStopping()])
    net = network(seed=1)
    before = net.parameters.copy()
    with pytest.raises(ValueError, match=r"state of callback EarlyStopping\[0\], which this fit lacks"):
        fit(net, data, tmp_path / "a", resume=tmp_path / "a")
    with pytest.raises(
        ValueError, match="EarlyStopping of the checkpoint watches 'val_loss', this one 'loss'"
    ):
        fit(net, data, tmp_path / "a", resume=tmp_path / "a", callbacks=[EarlyStopping("loss")])
    assert np.array_equal(net.parameters, before)
    assert net.history is None


def test_a_callback_of_ones_own_keeps_its_state(tmp_path, data):
    class Counts(Callback):
        def on_train_begin(self, logs):
            self.state = {"count": 0, "worst": -math.inf, "sums": np.zeros(3), "words": ["a", None]}

        def on_epoch_end(self, epoch, logs):
            self.state["count"] += 1
            self.state["sums"] += logs["loss"]

        def get_state(self):
            return self.state

        def set_state(self, state):
            self.state = dict(state)

    whole, part, later = Counts(), Counts(), Counts()
    fit(network(), data, tmp_path / "whole", callbacks=[whole])
    with pytest.raises(KeyboardInterrupt):
        fit(network(), data, tmp_path / "part", callbacks=[part, Ends(20)])
    fit(network(), data, tmp_path / "part", callbacks=[later], resume=tmp_path / "part")
    assert later.state["count"] == EPOCHS
    assert later.state["worst"] == -math.inf
    assert later.state["words"] == ["a", None]
    assert np.array_equal(later.state["sums"], whole.state["sums"])


def test_a_file_with_contents_that_cannot_be_is_refused(tmp_path, data):
    path = tmp_path / "a"
    fit(network(), data, path, epochs=3, callbacks=[EarlyStopping()])
    _, values, arrays = read_arrays(path, FORM)
    wrong = [
        (values | {"seen": 22}, arrays),
        (values | {"seen": -7}, arrays),
        (values | {"seen": 2.5}, arrays),
        (values | {"steps": 10**9}, arrays),
        (values | {"curve_block": 3}, arrays),
        (values | {"callbacks": []}, arrays),
        (values | {"learning_rate": "fast"}, arrays),
        ({k: v for k, v in values.items() if k != "settings"}, arrays),
        (values, {k: v for k, v in arrays.items() if k != "parameters/0.weight"}),
        (values, {k: v for k, v in arrays.items() if k != "moment2/0.weight"}),
        (values, arrays | {"moment1/0.weight": np.zeros((2, 2), np.float32)}),
        (values, arrays | {"parameters/0.weight": np.zeros((2, 2), np.float32)}),
        (values, arrays | {"history/loss": np.zeros(2)}),
        (values, arrays | {"losses": np.zeros(2)}),
        (values, {k: v for k, v in arrays.items() if k != "curve"}),
    ]
    for other_values, other_arrays in wrong:
        write_arrays(path, FORM, other_values, other_arrays)
        net = network(seed=1)
        before = net.parameters.copy()
        with pytest.raises(ValueError, match=r"no checkpoint that a training wrote|epochs=7 must be"):
            fit(net, data, path, resume=path, callbacks=[EarlyStopping()])
        assert np.array_equal(net.parameters, before)
        assert net.history is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"every": 0}, "every"),
        ({"every_steps": 0}, "every_steps"),
        ({"monitor": "loss"}, "save_best_only=True"),
        ({"save_best_only": 1}, "save_best_only"),
        ({"save_best_only": True, "every_steps": 3}, "every_steps or save_best_only"),
        ({"path": 3}, "path must be the path of a file"),
    ],
)
def test_settings_are_checked(tmp_path, settings, message):
    with pytest.raises((ValueError, TypeError), match=message):
        Checkpoint(**{"path": tmp_path / "a"} | settings)


def test_there_must_be_a_directory_and_a_value_to_watch(tmp_path, data):
    net = network()
    before = net.parameters.copy()
    with pytest.raises(FileNotFoundError, match="nowhere is no directory"):
        net.fit(*data, callbacks=[Checkpoint(tmp_path / "nowhere" / "a")])
    with pytest.raises(ValueError, match="Checkpoint watches 'val_loss'"):
        net.fit(*data, callbacks=[Checkpoint(tmp_path / "a", save_best_only=True)])
    assert np.array_equal(net.parameters, before)


# -- when it is written


def test_files_are_written_every_so_many_epochs_and_at_the_end(tmp_path, data):
    written = []

    class Looks(Callback):
        def on_epoch_begin(self, epoch, logs):
            written.append(read_arrays(tmp_path / "a", FORM).values["epochs"] if epoch >= 3 else None)

    fit(network(), data, tmp_path / "a", callbacks=[Looks()], every=3)
    assert written == [None, None, None, 3, 3, 3, 6]
    assert read_arrays(tmp_path / "a", FORM).values["epochs"] == 7


def test_only_the_best_epoch_is_kept(tmp_path, data):
    path = tmp_path / "best"
    best = Checkpoint(path, monitor="val_accuracy", save_best_only=True)
    history = network().fit(*data, epochs=12, validation_fraction=0.3, callbacks=[best], seed=0)
    accuracy = history.history["val_accuracy"]
    assert read_arrays(path, FORM).values["epochs"] == 1 + int(np.argmax(accuracy)) == best.best_epoch + 1


# -- what may happen to the file and the process


def test_whichever_call_of_the_file_system_fails_there_is_a_whole_checkpoint(tmp_path, data):
    """The Nth call fails, for every N: the error comes out of fit, the file is that of the epoch before."""
    whole = network()
    fit(whole, data, tmp_path / "whole", epochs=4)
    for nth in itertools.count(1):
        path = tmp_path / f"{nth}"
        net = network()
        fit(net, data, path, epochs=2)
        errors = []
        with failing(nth) as state:
            try:
                fit(net, data, path, epochs=4, resume=path)
            except OSError as error:
                errors.append(error.filename)
        if state.failed is None:
            break
        assert errors == [str(path)], (nth, state.failed)
        assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []
        later = network()
        fit(later, data, path, epochs=4, resume=path)
        assert np.array_equal(later.parameters, whole.parameters), (nth, state.failed)
    assert nth > 8


def test_a_training_that_is_killed_again_and_again_ends_at_the_same_bits(tmp_path, seed):
    """kill -9 at random times: the file always loads, and going on from it leads to the same end."""
    killed = subprocess.run(
        [sys.executable, killed_training.__file__, tmp_path / "a", tmp_path / "a.csv", "8", str(seed)],
        stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    killed_training.train(tmp_path / "b", tmp_path / "b.csv")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert (tmp_path / "a.csv").read_text() == (tmp_path / "b.csv").read_text()
    seen = [int(line) for line in killed.stdout.split()]
    assert seen == sorted(seen)
    assert len(set(seen)) > 3  # it was killed at different places


@pytest.mark.parametrize("form", ["weighted", "balanced", "sparse", "bytes", "layer norm"])
def test_data_in_other_forms_and_weights_are_resumed(tmp_path, data, form):
    X, y = data
    layers, settings = LAYERS, {}
    if form == "weighted":
        settings["sample_weight"] = np.linspace(0, 2, len(X))
    elif form == "balanced":
        settings["class_weight"] = "balanced"
    elif form == "sparse":
        X = pytest.importorskip("scipy.sparse").csr_array(np.where(np.abs(X) > 1, X, 0))
    elif form == "bytes":
        X = (10 * np.abs(X)).astype(np.uint8)
    else:
        layers = [Residual([Dense(9), "silu"], projection=True), LayerNorm(), "mish", Dense(3)]

    def network():
        return Network(layers, input_size=5, seed=0)

    def train(net, epochs, **resume):
        return net.fit(
            X, y, epochs=epochs, batch_size=8, seed=4, callbacks=[Checkpoint(path)], **settings, **resume
        )

    path = tmp_path / "checkpoint"
    whole, part, resumed = network(), network(), network()
    through = train(whole, 4)
    train(part, 2)
    after = train(resumed, 4, resume=path)
    assert after.history == through.history
    np.testing.assert_array_equal(resumed.parameters, whole.parameters)
    if form == "weighted":
        settings["sample_weight"] = settings["sample_weight"][::-1]
        with pytest.raises(ValueError, match="sample_weight or class_weight"):
            train(network(), 5, resume=path)


def test_within_an_epoch_the_weights_of_its_steps_are_kept(tmp_path, data):
    weights = np.r_[np.full(25, 9.0), np.full(25, 0.1)]
    settings = {"sample_weight": weights, "batch_size": 8, "seed": 4, "epochs": 3}
    through = network().fit(*data, **settings)
    path = tmp_path / "checkpoint"
    with pytest.raises(KeyboardInterrupt):
        network().fit(*data, callbacks=[Checkpoint(path, every_steps=2), Ends(5)], **settings)
    after = network().fit(*data, resume=path, **settings)
    assert after.history == through.history


def test_a_plateau_that_is_watched_from_a_checkpoint_on(tmp_path, data):
    path = tmp_path / "checkpoint"
    network().fit(*data, epochs=2, seed=0, callbacks=[Checkpoint(path)])
    for epochs in (5, 7):
        callbacks = [ReduceOnPlateau("loss"), Checkpoint(path)]
        told = network().fit(*data, epochs=epochs, seed=0, callbacks=callbacks, resume=path).history
        assert {len(column) for column in told.values()} == {epochs}


def test_weights_of_the_rows_to_validate_on_are_compared(tmp_path, data):
    path = tmp_path / "checkpoint"
    first = (*data, np.ones(50))
    network().fit(*data, epochs=2, seed=0, validation_data=first, callbacks=[Checkpoint(path)])
    other = (*data, np.arange(50.0))
    with pytest.raises(ValueError, match="validation_data"):
        network().fit(*data, epochs=3, seed=0, validation_data=other, resume=path)
