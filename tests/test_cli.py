"""The command line: exit codes, one-line errors, and terminals of all kinds."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from gradcore.cli import DEMONSTRATION, PAGE, main, needed_memory, parse_sizes

SICK = ["--layers", "16x30", "--activation", "sigmoid"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Where commands run: the demonstration leaves its report there."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "points.csv"
    rows = [f"{i % 7},{i % 5},{i % 2}" for i in range(70)]
    path.write_text("a,b,kind\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return str(path)


def shell(*arguments, **options):
    environment = {**os.environ, **options.pop("env", {})}
    return subprocess.Popen(
        [sys.executable, "-m", "gradcore", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        **options,
    )


def test_demonstration(capsys, folder):
    assert main(["diagnose", "--seeds", "1", "--epochs", "1"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("✗ VANISHING GRADIENT: this network cannot learn (1 of 1 seed)")
    assert "proof   test accuracy" in text
    assert text.endswith(
        f"\n  report   ./{PAGE}    details  --ledger\n  try all  gradcore prescribe\n"
        "  on yours gradcore diagnose data.csv --target y\n"
    )
    page = (folder / PAGE).read_text(encoding="utf-8")
    assert "one dot for each seed" in page
    assert "<pre>gradcore diagnose --seeds 1 --epochs 1</pre>" in page
    assert max(map(len, text.split("\n"))) <= 80
    assert "\x1b" not in text
    assert DEMONSTRATION["layers"] == "64x20"


def test_text_is_that_of_the_library(table, capsys):
    from gradcore.datasets import load_table
    from gradcore.diagnosis.diagnose import diagnose
    from gradcore.network import mlp

    assert main(["diagnose", table, "--target", "kind", *SICK]) == 0
    data = load_table(table, "kind")
    net = mlp([2, *30 * [16], 2], activation="sigmoid", seed=0)
    text, _, offer = capsys.readouterr().out.rpartition("\n\n")
    assert text.strip() == str(diagnose(net, data.X, data.y, optimizer="adam(0.001)")).strip()
    assert offer == f"  try all  gradcore prescribe {table} --target kind {' '.join(SICK)}\n"


def test_healthy_data_and_fail_on(table, capsys):
    assert main(["diagnose", table, "--target", "kind", "--fail-on", "fault"]) == 0
    assert len(capsys.readouterr().out.strip().split("\n")) == 3
    assert main(["diagnose", table, "--target", "kind", *SICK, "--fail-on", "fault"]) == 1
    assert main(["diagnose", table, "--target", "kind", *SICK]) == 0


def test_json(table, capsys):
    assert (
        main(["diagnose", table, "--target", "kind", *SICK, "--json", "--epochs", "1", "--fail-on", "fault"])
        == 1
    )
    content = json.loads(capsys.readouterr().out)
    assert content["healthy"] is False
    assert content["proof"]["control"]["trains"] is False


def test_page(table, capsys, folder):
    path = folder / "a page.html"
    assert main(["diagnose", table, "--target", "kind", *SICK, "--html", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["healthy"] is False
    assert "This network cannot learn" in path.read_text(encoding="utf-8")
    assert main(["diagnose", table, "--target", "kind", "--html", "healthy.html"]) == 0
    assert capsys.readouterr().out.endswith("\n  report   ./healthy.html\n")
    assert "a page.html&#39;" not in (folder / "healthy.html").read_text(encoding="utf-8")


def test_no_page_but_where_it_is_asked_for(table, capsys, folder):
    assert main(["diagnose", table, "--target", "kind"]) == 0
    assert main(["diagnose", "--epochs", "0", "--seeds", "1", "--json"]) == 0
    assert not list(folder.glob("*.html"))


def test_a_folder_that_cannot_be_written(capsys, folder):
    (folder / PAGE).mkdir()
    assert main(["diagnose", "--epochs", "0", "--seeds", "1"]) == 0
    assert f"none: ./{PAGE} cannot be written" in capsys.readouterr().out
    assert main(["diagnose", "--epochs", "0", "--seeds", "1", "--html", PAGE]) == 2


def test_ledger(capsys):
    assert main(["diagnose", "--seeds", "1", "--epochs", "0", "--ledger"]) == 0
    assert "end to end, log10: −34" in capsys.readouterr().out.replace("-34", "−34")


def test_every_option(table, capsys):
    options = (
        "--layers 8,8 --norm batch --residual --dropout 0.1 --init he_normal --optimizer sgd(0.1,momentum=0.9) "
        "--loss cross_entropy --steps 40 --seeds 2 --seed 3"
    ).split()
    assert main(["diagnose", table, "--target", "kind", *options]) == 0
    assert main(["diagnose", table, "--target", "b", "--loss", "mse", "--epochs", "1"]) == 0
    assert main(["diagnose", table, "--target", "kind", "--loss", "binary_cross_entropy"]) == 0


def test_info(capsys):
    assert main(["info"]) == 0
    assert "instruction set" in capsys.readouterr().out
    assert main(["info", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["cores"] >= 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required"),
        (["diagnoze"], "invalid choice"),
        (["diagnose", "--bogus"], "--bogus"),
        (["diagnose", "missing.csv", "--target", "y"], "missing.csv"),
        (["diagnose", "TABLE", "--target", "kinds"], "kind"),
        (["diagnose", "TABLE"], "target"),
        (["diagnose", "--target", "y"], "DATA"),
        (["diagnose", "--layers", "64y3"], "64x20"),
        (["diagnose", "--layers", "0x3"], "64x20"),
        (["diagnose", "--activation", "rleu"], "relu"),
        (["diagnose", "--init", "normal("], "normal"),
        (["diagnose", "--optimizer", "adam(-1)"], "lr"),
        (["diagnose", "--dropout", "2"], "dropout"),
        (["diagnose", "--seeds", "0"], "seeds"),
        (["diagnose", "--steps", "many"], "steps"),
        (["diagnose", "--fail-on", "never"], "fault"),
        (["diagnose", "--html", "nowhere/page.html"], "nowhere"),
        (["diagnose", "--html", ""], "--html"),
        (["diagnose", "--layers", "1000000000x2"], "1000000000x2"),
        (["diagnose", "--layers", "99999999999999999999x2"], "GiB of memory needed"),
        (["diagnose", "--layers", "64x1000000000"], "1,000,000 layers"),
        (["diagnose", "--steps", "1000000000000000"], "memory"),
    ],
)
def test_errors_are_one_line_on_stderr(arguments, message, table, capsys):
    assert main([table if argument == "TABLE" else argument for argument in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("gradcore: error: ")
    assert captured.err.count("\n") == 1
    assert message in captured.err


def test_what_is_said_to_fit_does(monkeypatch, capsys):
    monkeypatch.setattr("gradcore.cli._memory", lambda: 50e6)
    assert main(["diagnose", "--layers", "5000x2"]) == 2
    (fits,) = re.findall(r"(\d+x\d+) fit$", capsys.readouterr().err.strip())
    assert needed_memory([64, *parse_sizes(fits), 10]) <= 50e6
    assert main(["diagnose", "--layers", fits, "--epochs", "0", "--seeds", "1", "--json"]) == 0


def test_sizes():
    assert parse_sizes("64x3,10") == [64, 64, 64, 10]
    assert parse_sizes("16×2") == [16, 16]


def test_ascii_terminal_without_home(table):
    env = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    process = shell("diagnose", table, "--target", "kind", *SICK, env=env)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert out.decode("ascii").startswith("x VANISHING GRADIENT")
    environment = {name: value for name, value in os.environ.items() if name != "HOME"}
    done = subprocess.run(
        [sys.executable, "-m", "gradcore", "info"], env=environment, capture_output=True, check=False
    )
    assert done.returncode == 0


def test_closed_pipe_and_closed_stdout():
    process = shell("diagnose", "--seeds", "1", "--epochs", "2")
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=60) == 141
    assert process.stderr.read() == b""
    process.stderr.close()
    command = f"{sys.executable} -m gradcore info >&-"
    done = subprocess.run(command, shell=True, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_interrupted():
    process = shell("diagnose", "--epochs", "5000")
    process.stdout.readline()
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    start = time.monotonic()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.decode().strip() == "gradcore: interrupted"
    assert time.monotonic() - start < 5


def test_names_that_the_terminal_cannot_show(tmp_path):
    path = tmp_path / "dätä.csv"
    path.write_text("ä,<script>,z\n1,2,3\n", encoding="utf-8")
    process = shell(
        "diagnose", str(path), "--target", "ж", env={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    )
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert err.startswith(b"gradcore: error: unknown column")


# -- prescribe


PRESCRIBE = ["--layers", "16x6", "--activation", "sigmoid", "--init", "normal(0.01)", "--epochs", "20"]


def test_prescribe_on_a_table(table, capsys, folder):
    command = ["prescribe", table, "--target", "kind", *PRESCRIBE, "--treatments", "activation,dropout"]
    assert main([*command, "--html", "page.html", "--log", "trials.jsonl"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(("✓ ", "✗ "))
    assert "tanh + Glorot" in text
    assert max(map(len, text.splitlines())) <= 80
    assert "gradcore prescribe" in (folder / "page.html").read_text(encoding="utf-8")
    assert (folder / "trials.jsonl").read_text().count("\n") > 10


def test_prescribe_as_json(table, capsys):
    assert (
        main(["prescribe", table, "--target", "kind", *PRESCRIBE, "--treatments", "dropout", "--json"]) == 0
    )
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == "gradcore-prescription"
    assert [trial["treatment"] for trial in found["trials"]] == ["control", "dropout"]


def test_prescribe_for_the_demonstration(capsys):
    command = [
        "prescribe",
        "--layers",
        "16x3",
        "--treatments",
        "learning_rate",
        "--epochs",
        "1",
        "--seeds",
        "2",
    ]
    assert main([*command, "--jobs", "1", "--batch-size", "64", "--seed", "3"]) == 0
    assert "as it is" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--budget", "soon"], "budget must be"),
        (["--treatments", "magic"], "unknown treatment 'magic'"),
        (["--seeds", "1"], "seeds must be at least 2"),
        (["--html", "nowhere/page.html"], "no such folder"),
        (["--log", "nowhere/trials.jsonl"], "trials.jsonl"),
        (["--target", "nosuch"], "nosuch"),
    ],
)
def test_prescribe_says_what_is_wrong_in_one_line(arguments, message, table, capsys):
    target = [] if "--target" in arguments else ["--target", "kind"]
    assert main(["prescribe", table, *target, *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_the_offer_is_the_same_network(table, capsys):
    command = [
        "diagnose",
        table,
        "--target",
        "kind",
        *SICK,
        "--optimizer",
        "sgd(0.1)",
        "--residual",
        "--seed",
        "4",
    ]
    main(command)
    offer = capsys.readouterr().out.rpartition("try all  ")[2]
    assert offer == (
        f"gradcore prescribe {table} --target kind {' '.join(SICK)} --optimizer 'sgd(0.1)' --seed 4 --residual\n"
    )
