"""Prescriptions as a user meets them: a sick network, a healthy one, one that nothing can help."""

import json
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import gradcore
from gradcore.diagnosis.changes import Change
from gradcore.layers import Activation, Dense
from gradcore.network import Network, mlp
from gradcore.prescription import course as module, report, trials, words
from gradcore.prescription.comparison import HARMED, HELPED, NO_HELP
from gradcore.prescription.measured import Result
from gradcore.prescription.prescribe import prescribe

DIGITS = gradcore.datasets.load_digits()
X, Y = DIGITS.X_train, DIGITS.y_train
SICK = {"activation": "sigmoid", "init": "normal(0.01)"}


def sick(seed: int = 0) -> Network:
    return mlp([64, *[24] * 6, 10], **SICK, seed=seed)


@pytest.fixture(scope="module")
def cured():
    net = sick()
    before = net.parameters.copy()
    found = prescribe(
        net, X, Y, treatments=["activation", "learning_rate", "dropout"], epochs=6, seeds=5, progress=False
    )
    assert (net.parameters == before).all()
    assert net.history is None
    return found


def test_the_cure_is_found_and_proved_on_fresh_seeds(cured):
    assert not cured.healthy
    assert cured.control.trained == 0
    best = cured.best
    assert best.kind == "activation"
    assert best.verdict == HELPED
    assert best.fresh
    assert len(best.scores) >= 8
    assert min(best.seeds) > max(seed for seed in cured.control.seeds if seed < 1000)
    assert best.trained == len(best.scores)
    low, high = best.comparison.interval
    assert 0.3 < low < best.comparison.difference < high < 1
    assert best.mean == pytest.approx(np.mean(best.scores))


def test_what_does_not_help_is_said_not_to(cured):
    assert {trial.verdict for trial in cured.trials if trial.kind in ("learning_rate", "dropout")} == {
        NO_HELP
    }


def test_losers_have_fewer_seeds_and_say_so(cured):
    left = [trial for trial in cured.trials if trial.note]
    assert left
    assert all(len(trial.scores) == 2 and "left after 2 seeds" in trial.note for trial in left)


def test_pairs_start_alike_and_see_the_same_rows(cured):
    control = dict(zip(cured.control.seeds, cured.control.scores, strict=True))
    best = cured.best
    differences = [score - control[seed] for seed, score in zip(best.seeds, best.scores, strict=True)]
    assert np.mean(differences) == pytest.approx(best.comparison.difference)
    net = mlp([64, *[24] * 6, 10], **SICK, seed=3)
    train, test = module.split(len(X), 0.2, 0, labels=Y)
    net.fit(X[train], Y[train], epochs=6, seed=3, progress=False)
    assert net.evaluate(X[test], Y[test])["accuracy"] == pytest.approx(control[3])


def test_the_trained_network_is_handed_over(cured):
    accuracy = cured.network.evaluate(DIGITS.X_test, DIGITS.y_test)["accuracy"]
    assert accuracy > cured.best.mean - 0.1
    assert set(cured.network.predict(X[:50])) <= set(range(10))


def test_profiles_show_the_signal_before_and_after(cured):
    control, best = cured.control, cured.best
    assert control.before.end_to_end < -5 < best.before.end_to_end
    assert control.before.signal[-2] < best.before.signal[-2]
    assert len(best.after.gradient) == 7


def test_the_report_says_it_in_80_columns(cured):
    text = str(cured)
    assert text.startswith(f"✓ {cured.best.name} helps: accuracy 0.")
    assert "fresh seeds" in text
    assert '+ mlp(sizes, activation="' in text
    assert max(map(len, text.splitlines())) <= 80


def test_trials_are_found_by_name_and_kind(cured):
    assert cured["control"] is cured.trials[0]
    assert cured[cured.best.name] is cured.best
    with pytest.raises(KeyError, match="there are: as it is"):
        cured["nosuch"]


def test_json_is_strict(cured, tmp_path):
    path = tmp_path / "prescription.json"
    text = cured.to_json(path)
    found = json.loads(text, parse_constant=pytest.fail)
    assert json.loads(path.read_text()) == found
    assert found["best"] == cured.best.name
    assert found["trials"][0]["treatment"] == "control"


def test_the_same_call_gives_the_same_results(cured):
    again = prescribe(
        sick(),
        X,
        Y,
        treatments=["activation", "learning_rate", "dropout"],
        epochs=6,
        n_jobs=1,
        progress=False,
    )
    assert [trial.scores for trial in again.trials] == [trial.scores for trial in cured.trials]
    assert again.best.name == cured.best.name
    assert (again.network.parameters == cured.network.parameters).all()


def test_a_healthy_network_needs_nothing():
    net = mlp([64, 32, 10], seed=1)
    found = prescribe(
        net, X, Y, treatments=["learning_rate", "dropout", "clipping"], epochs=8, progress=False
    )
    assert found.healthy
    text = str(found)
    assert "needs nothing" in text or "still better" in text
    assert all(trial.verdict != HELPED or trial.comparison.difference > 0 for trial in found.trials)
    assert found.network.evaluate(DIGITS.X_test, DIGITS.y_test)["accuracy"] > 0.9


def test_harm_is_said():
    net = mlp([64, 32, 10], seed=1)
    found = prescribe(net, X, Y, treatments=[Change(rate=1e-4)], epochs=4, progress=False)
    assert found.best is None
    assert found.trials[1].verdict == HARMED
    assert "harmed: learning rate" in str(found)


def test_shuffled_labels_are_suspected_when_nothing_helps():
    rng = np.random.default_rng(0)
    found = prescribe(
        sick(), X, rng.permutation(Y), treatments=["activation", "learning_rate"], epochs=3, progress=False
    )
    assert found.best is None
    assert found.has_signal is False
    text = str(found)
    assert text.startswith("✗ nothing that was tried is proved to help")
    assert "look at the labels" in " ".join(text.split())


@pytest.mark.parametrize("epochs", [20, 60])
@pytest.mark.parametrize("seed", range(3))
def test_labels_learnt_by_heart_are_no_help(seed, epochs):
    # it trains in most seeds and the control in none, but what it learns is of use on no other row
    labels = np.random.default_rng(seed).permutation(Y)
    found = prescribe(
        sick(seed), X[:500], labels[:500], treatments=[Change(activation="gelu", init="he_normal")], epochs=epochs,
        seed=seed, progress=False,
    )  # fmt: skip
    assert found.control.trained == 0
    assert 2 * found.trials[1].trained > len(found.trials[1].results)
    assert found.trials[1].verdict == NO_HELP
    assert "look at the labels" in " ".join(str(found).split())


@pytest.mark.parametrize("fraction", [0.01, 0.04])
def test_a_row_or_two_to_test_with_prove_nothing(fraction):
    rng = np.random.default_rng(0)
    for seed in range(6):
        inputs, labels = rng.normal(size=(60, 4)), rng.permutation(np.arange(60) % 2)
        net = mlp([4, *[8] * 6, 2], **SICK, seed=seed)
        found = prescribe(
            net, inputs, labels, treatments=[Change(activation="tanh", init="glorot_normal")], epochs=20, seed=seed,
            optimizer="adam(0.003)", test_fraction=fraction, progress=False,
        )  # fmt: skip
        assert found.trials[1].verdict == NO_HELP


@pytest.mark.parametrize(("stuck", "by_heart"), [("useless", 0.0), ("of use", 1.0)])
def test_fitting_the_rows_harder_is_no_help_where_the_others_are_of_use_as_well(stuck, by_heart):
    constant = np.repeat([1.0, 0.0], 30)
    rows = tuple(constant if stuck == "useless" else np.repeat([1.0, 0.0], [50, 10]))
    right, wrong = Result(1.0, 0.1, 0.2, 1.0, (1.0,) * 60), Result(0.8, 0.9, 0.7, 1.0, rows)
    laboratory = SimpleNamespace(
        reached=0.1, results={}, _constant_rows=constant,
        _parted=lambda results: trials.Laboratory._parted(laboratory, results),
        useful=lambda results: trials.Laboratory.useful(laboratory, results),
    )  # fmt: skip
    for treated, control in ([right] * 8, [wrong] * 9), ([wrong] * 8, [right] * 9):
        counts = trials.Laboratory.counts(laboratory, treated, control)
        assert counts[:4] == (8 * (treated[0] is right), 8, 9 * (control[0] is right), 9)
        assert counts.by_heart == pytest.approx(by_heart, abs=1e-4)
    assert trials.Laboratory.counts(laboratory, [right], [right]).by_heart == 1


def test_what_is_less_bad_but_useless_is_said_to_be():
    rng = np.random.default_rng(0)
    found = prescribe(
        mlp([4, 8, 1], seed=0), rng.normal(size=(300, 4)), rng.normal(size=300), optimizer="sgd(1e30)",
        treatments=[Change(rate=1e-31)], epochs=5, progress=False,
    )  # fmt: skip
    assert found.best is not None
    assert not found.useful
    text = " ".join(str(found).split())
    assert "not proved to be better than a constant" in text
    assert "look at the labels" in text


@pytest.mark.parametrize(("outputs", "targets"), [(1, np.full(100, 3.5)), (3, np.full(100, 2))])
def test_constant_targets_are_said(outputs, targets):
    found = prescribe(
        mlp([64, 8, outputs], seed=0), X[:100], targets, treatments=["dropout"], epochs=1, progress=False
    )
    assert found.best is None
    assert "the targets are the same in every row to train on" in " ".join(str(found).split())


def test_a_proof_by_counts_says_that_it_is_none_by_scores(cured):
    comparison = replace(cured.best.comparison, interval=(-0.1, 1.0))
    doubtful = replace(cured, best=replace(cured.best, comparison=comparison))
    assert not any("not by the scores" in line for line in words.evidence(cured))
    assert any("not by the scores" in line for line in words.evidence(doubtful))
    assert not any("look at the labels" in line for line in words.evidence(doubtful))
    assert not any("not proved to be better than a constant" in line for line in words.evidence(doubtful))
    useless = replace(doubtful, useful=False)
    assert any("not proved to be better than a constant" in line for line in words.evidence(useless))
    shuffled = replace(doubtful, has_signal=False)
    assert any("look at the labels" in line for line in words.evidence(shuffled))


def test_a_network_that_learns_shuffled_labels_by_heart_does_not_need_nothing():
    rng = np.random.default_rng(0)
    found = prescribe(
        mlp([64, 64, 10], seed=0), X[:400], rng.permutation(Y[:400]), treatments=["clipping"], epochs=60, seeds=2,
        progress=False,
    )  # fmt: skip
    assert found.healthy
    text = " ".join(str(found).split())
    assert text.startswith("✗ this network trains as it is, but what it learns is of no use on other rows")
    assert "look at the labels" in text


def test_what_the_table_leaves_out_is_counted_by_verdict(cured):
    text = report.render(cured, shown=1)
    counts = Counter(trial.verdict for trial in cured.trials[2:])
    said = text.splitlines()[-1]
    assert f"and {sum(counts.values())} more" in said
    assert all(f"{count} {verdict}" in said for verdict, count in counts.items())


def test_regression_in_the_users_own_units():
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(300, 3)) * [1, 100, 0.01] + [0, 5000, 0]
    values = 1e4 + 3e3 * (inputs[:, 0] + (inputs[:, 1] - 5000) / 100)
    found = prescribe(
        mlp([3, 16, 1], activation="tanh", seed=0), inputs, values, epochs=40, progress=False,
        treatments=[Change(standardise=True, standardise_targets=True), "dropout"],
    )  # fmt: skip
    assert found.score == "r2"
    assert found.best.change.standardise
    assert found.network.evaluate(inputs, values)["r2"] > 0.8
    assert "y = (y - y.mean()) / y.std()" in found.code


def test_losses_are_over_those_of_the_constant_of_their_own_rows():
    rng = np.random.default_rng(0)
    inputs, others = rng.normal(size=(2, 100, 3))  # as many rows to test with as to train on
    found = prescribe(
        mlp([3, 4, 1], seed=0), inputs, inputs[:, 0], validation_data=(others, 100 * others[:, 0]),
        treatments=["dropout"], epochs=1, seeds=2, progress=False,
    )  # fmt: skip
    for result in found.control.results:
        assert result.test_loss == pytest.approx(1 - result.score, abs=1e-3)


def test_scores_of_rows_are_those_that_the_score_is_the_mean_of():
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(200, 3))
    values = inputs[:, 0] + rng.standard_t(2, 200)  # a few rows are far from all others
    found = prescribe(
        mlp([3, 8, 1], seed=0), inputs, values, treatments=["dropout"], epochs=20, seeds=2, progress=False
    )
    for result in found.control.results:
        assert min(result.rows) < -1
        assert np.mean(result.rows) == pytest.approx(result.score, abs=1e-3)


def test_labels_of_text_and_two_outputs_ways():
    labels = np.where(Y % 2, "odd", "even")
    for net in (mlp([64, 16, 2], seed=0), mlp([64, 16, 1], seed=0)):
        found = prescribe(net, X, labels, treatments=["learning_rate"], epochs=3, seeds=2, progress=False)
        assert set(found.network.predict(X[:20])) <= {"odd", "even"}
        assert found.score == "accuracy"


def test_a_wrong_output_is_put_right():
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(200, 2))
    net = Network([Dense(16), "tanh", Dense(1), Activation("relu")], input_size=2, seed=0)
    found = prescribe(
        net,
        inputs,
        inputs[:, 0] - 3.0,
        treatments=["output_and_loss", "clipping"],
        epochs=300,
        progress=False,
    )
    assert found.best.kind == "output_and_loss"
    assert found.network.layers[-1] == Dense(1)


def test_what_cannot_be_trained_is_not_tried_and_says_why():
    found = prescribe(
        mlp([64, 8, 10], seed=0),
        X[:60],
        Y[:60],
        treatments=[Change(norm=True)],
        batch_size=1,
        epochs=1,
        progress=False,
    )
    assert found.trials[1].verdict == "not tried"
    assert "batches of one row" in found.trials[1].note


def test_a_short_budget_leaves_the_least_promising_out():
    found = prescribe(sick(), X, Y, budget="8000 steps", epochs=8, progress=False)
    assert found.stopped == "budget"
    missing = [trial for trial in found.trials if trial.verdict == "not tried"]
    assert missing
    assert all("budget" in trial.note for trial in missing)
    tried = [trial.chance for trial in found.trials[1:] if trial.results]
    assert np.nanmean([trial.chance for trial in missing]) < np.nanmean(tried)
    assert "not tried" in str(found) or found.best is not None


def test_where_fresh_seeds_would_not_suffice_the_first_ones_are_finished():
    found = prescribe(sick(), X, Y, budget="3000 steps", epochs=5, progress=False)
    assert found.stopped == "budget"
    assert max(found.control.seeds) < 1000
    assert found.best is not None
    assert not found.best.fresh
    assert len(found.best.scores) == 5
    assert "not confirmed on fresh seeds: the budget was spent" in " ".join(str(found).split())


@pytest.mark.parametrize("budget", [1e-6, "1 step"])
def test_a_budget_that_is_too_short_for_anything_still_measures_the_control(budget):
    found = prescribe(sick(), X[:200], Y[:200], budget=budget, epochs=1, n_jobs=1, progress=False)
    assert found.stopped == "budget"
    assert len(found.control.results) == 1
    assert {trial.verdict for trial in found.trials[1:]} == {"not tried"}
    assert "the budget ended it" in str(found)
    json.loads(found.to_json())


def test_a_spent_budget_proposes_nothing_more(monkeypatch):
    # each look at a change takes longer than the whole budget (1000 layers do)
    looked = []
    monkeypatch.setattr(
        trials.Laboratory, "evidence", lambda self, change: looked.append(change) or pytest.fail("looked")
    )
    found = prescribe(sick(), X[:200], Y[:200], budget=1e-6, epochs=1, n_jobs=1, progress=False)
    assert looked == []
    assert not any(trial.note for trial in found.trials if trial.results)


@pytest.mark.parametrize("estimated", ["rightly", "too many"])
def test_a_budget_of_steps_leaves_room_for_fresh_seeds(estimated, monkeypatch):
    if estimated == "too many":
        monkeypatch.setattr(module, "FEW_SEEDS", 40)
        monkeypatch.setattr(module, "FRESH_SHARE", 1e9)
    found = prescribe(
        sick(), X, Y, budget="16000 steps", treatments=["activation", "dropout"], epochs=6, progress=False
    )
    assert found.best.fresh
    assert 8 <= len(found.best.seeds) < 40


def test_when_no_single_change_helps_joint_ones_are_tried(monkeypatch):
    # the diagnosis is kept from naming them
    monkeypatch.setattr(module, "JOINT", 0)
    net = mlp([64, *[16] * 12, 10], activation="sigmoid", init="normal(0.01)", seed=0)
    found = prescribe(
        net, X, Y, treatments=["activation_only", "initial_weights"], epochs=8, budget="60s", progress=False
    )
    assert any(trial.kind == "joint" for trial in found.trials)
    assert found.best.kind == "joint"


def test_ctrl_c_keeps_what_was_measured(monkeypatch):
    real = trials.Laboratory._train

    def interrupted(self, keys, work):
        if len(self.results) > 4:
            raise KeyboardInterrupt
        real(self, keys[:2], work)

    monkeypatch.setattr(trials.Laboratory, "_train", interrupted)
    monkeypatch.setattr(trials, "STRETCH", 1e-9)
    found = prescribe(sick(), X, Y, treatments=["activation", "dropout"], epochs=2, progress=False)
    assert found.stopped == "interrupted"
    assert any(trial.results for trial in found.trials[1:])
    assert "interrupted" in str(found)


def test_ctrl_c_before_anything_was_measured_is_ctrl_c(monkeypatch):
    def interrupted(*arguments, **names):
        raise KeyboardInterrupt

    monkeypatch.setattr(trials, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prescribe(sick(), X, Y, treatments=["activation"], epochs=2, progress=False)


def test_a_journal_is_gone_on_from(tmp_path, monkeypatch):
    path = tmp_path / "trials.jsonl"
    arguments = {"treatments": ["activation"], "epochs": 2, "progress": False, "log": path}
    first = prescribe(sick(), X, Y, **arguments)
    lines = path.read_text().splitlines()
    assert len(lines) == 1 + sum(len(set(trial.seeds)) for trial in first.trials) + sum(
        5 for trial in first.trials if trial.fresh
    )
    # a kill came after 12 trainings, in the middle of a line
    path.write_text("\n".join(lines[:13]) + "\n" + lines[13][:20])
    made = []
    real = trials.train
    monkeypatch.setattr(trials, "train", lambda jobs, *a, **n: made.extend(jobs) or real(jobs, *a, **n))
    second = prescribe(sick(), X, Y, **arguments)
    assert [trial.scores for trial in second.trials] == [trial.scores for trial in first.trials]
    assert sorted(json.loads(line)["score"] for line in path.read_text().splitlines()[1:]) == sorted(
        json.loads(line)["score"] for line in lines[1:]
    )
    made.clear()
    third = prescribe(sick(), X, Y, **arguments)
    assert third.best.name == first.best.name
    assert (third.network.parameters == first.network.parameters).all()
    assert len(made) < 16  # calibration, and the one network that is handed over


def test_a_call_that_goes_on_keeps_the_length_of_a_training(tmp_path):
    arguments = {"treatments": ["dropout"], "seeds": 2, "progress": False, "log": tmp_path / "trials.jsonl"}
    first = prescribe(sick(), X[:300], Y[:300], budget="8000 steps", **arguments)
    second = prescribe(sick(), X[:300], Y[:300], budget="16000 steps", **arguments)
    assert second.epochs == first.epochs
    for seed, score in zip(first.control.seeds, first.control.scores, strict=True):
        assert dict(zip(second.control.seeds, second.control.scores, strict=True))[seed] == score


def test_every_training_is_counted_once(tmp_path):
    path = tmp_path / "trials.jsonl"
    arguments = {"treatments": ["activation", "dropout"], "epochs": 3, "progress": False, "log": path}
    found = prescribe(sick(), X[:300], Y[:300], **arguments)
    made = sum("score" in line for line in path.read_text().splitlines())
    assert found.trainings == made > sum(len(trial.results) for trial in found.trials)
    assert f"{made} trainings" in words.how(found)


def test_a_journal_of_another_version_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "trials.jsonl"
    arguments = {"treatments": ["dropout"], "epochs": 1, "seeds": 2, "progress": False, "log": path}
    prescribe(sick(), X[:300], Y[:300], **arguments)
    monkeypatch.setattr(module, "__version__", "0.0.1")
    with pytest.raises(ValueError, match="another prescription: gradcore differ"):
        prescribe(sick(), X[:300], Y[:300], **arguments)


def test_a_journal_of_other_data_is_refused(tmp_path):
    path = tmp_path / "trials.jsonl"
    arguments = {"treatments": ["dropout"], "epochs": 1, "seeds": 2, "progress": False, "log": path}
    prescribe(sick(), X[:300], Y[:300], **arguments)
    with pytest.raises(ValueError, match="another prescription: data differ"):
        prescribe(sick(), X[:299], Y[:299], **arguments)


@pytest.mark.parametrize(
    "content",
    [
        b"no json\n",
        b"notes without an end of line",
        b"two\nlines",
        b"1\n2\n",
        b"null\n",
        b"[1]\n",
        b"\xff\xfe\n",
        b"\n",
        b'{"a": 1}\nrest',
    ],
)
def test_a_file_that_is_no_journal_is_refused_and_left_as_it_was(content, tmp_path):
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"notes\.txt is no journal of a prescription; give another path"):
        prescribe(sick(), X[:300], Y[:300], treatments=["dropout"], epochs=1, progress=False, log=path)
    assert path.read_bytes() == content


@pytest.mark.parametrize("line", ['{"recipe": 1}', "null", '{"score": "good"}'])
def test_a_journal_with_a_line_that_is_no_result_is_refused(line, tmp_path):
    path = tmp_path / "trials.jsonl"
    arguments = {"treatments": ["dropout"], "epochs": 1, "seeds": 2, "progress": False, "log": path}
    prescribe(sick(), X[:300], Y[:300], **arguments)
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(ValueError, match=r"line [0-9]+ of .*trials\.jsonl is no result of a training"):
        prescribe(sick(), X[:300], Y[:300], **arguments)


def test_a_journal_that_was_killed_in_its_first_line_begins_anew(tmp_path):
    path = tmp_path / "trials.jsonl"
    arguments = {"treatments": ["dropout"], "epochs": 1, "seeds": 2, "progress": False, "log": path}
    first = prescribe(sick(), X[:300], Y[:300], **arguments)
    head = path.read_text().splitlines()[0]
    for text in ("", head[:5], head[:60]):
        path.write_text(text)
        again = prescribe(sick(), X[:300], Y[:300], **arguments)
        assert [trial.scores for trial in again.trials] == [trial.scores for trial in first.trials]
        assert path.read_text().startswith(head + "\n")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"budget": "soon"}, ValueError, "budget must be"),
        ({"treatments": ["cure_all"]}, ValueError, "cure_all"),
        ({"seeds": 1}, ValueError, "seeds"),
        ({"n_jobs": 0}, ValueError, "n_jobs"),
        ({"epochs": 0}, ValueError, "epochs"),
        ({"batch_size": 0}, ValueError, "batch_size"),
        ({"test_fraction": 0.0}, ValueError, "test_fraction"),
        ({"X": X[:1], "y": Y[:1]}, ValueError, "test_fraction=0.2 of 1 rows leaves none to train on"),
        (
            {"treatments": None},
            TypeError,
            'treatments must be "auto" or a list of kinds and changes, got None',
        ),
        ({"treatments": 5}, TypeError, "treatments must be"),
        ({"clip_norm": -1.0}, ValueError, "clip_norm"),
        ({"X": X[:, :3]}, ValueError, "columns"),
        ({"y": Y[:-1]}, ValueError, "rows"),
        ({"X": np.where(X > 0.9, np.nan, X)}, ValueError, "nan at row"),
        ({"optimizer": "sgdd"}, ValueError, "sgdd"),
        ({"validation_data": (X, Y[:-1])}, ValueError, "validation_data"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_trained(change, error, message, monkeypatch):
    monkeypatch.setattr(trials, "train", lambda *_, **__: pytest.fail("trained"))
    arguments = {"X": X, "y": Y} | change
    with pytest.raises(error, match=message):
        prescribe(sick(), **arguments, progress=False)


def test_it_is_a_public_name():
    assert gradcore.prescribe is prescribe
