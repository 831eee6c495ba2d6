"""The command line: each command is one library call and printing.

Exit codes: 0 fine; 1 a fault was found and ``--fail-on fault`` was given; 2 wrong usage or data; 130 interrupted by
Ctrl-C; 141 the reader of the output went away.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import shlex
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

import numpy as np

if TYPE_CHECKING:
    from gradcore.diagnosis.diagnose import Diagnosis
    from gradcore.diagnosis.proof import Proof
    from gradcore.diagnosis.recipe import Data
    from gradcore.diagnosis.report import Style
    from gradcore.network import Network

FINE, FAULT, USAGE, INTERRUPTED, PIPE_CLOSED = 0, 1, 2, 130, 141

# The demonstration: a network that cannot learn, on the bundled digits.
DEMONSTRATION = {"layers": "64x20", "activation": "sigmoid", "init": "normal(0.01)"}
PROVED = {"seeds": 3, "epochs": 12}  # how it is proved
PAGE = "gradcore-report.html"  # where its report goes
OPTIMIZER = "adam(0.001)"
ON_DATA = {"layers": "64x2", "activation": "relu", "init": "auto"}
MOST_LAYERS = 1_000_000  # a longer list is a slip of the finger, and takes minutes to write down


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message} (see {self.prog} --help)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    try:
        arguments = _parser().parse_args(argv)
        arguments.line = shlex.join(["gradcore", *(sys.argv[1:] if argv is None else argv)])
        code: int = arguments.run(arguments)
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        # what is still in the buffer would be tried again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except KeyboardInterrupt:
        _complain("interrupted")
        return INTERRUPTED
    except (ValueError, TypeError, OverflowError, OSError) as error:
        _complain(f"error: {' '.join(str(error).split())}")
        return USAGE
    except MemoryError as error:
        _complain(f"error: not enough memory: {' '.join(str(error).split())}")
        return USAGE
    return code


def _complain(message: str) -> None:
    if sys.stderr is not None:
        line = f"gradcore: {message}\n"
        encoding = sys.stderr.encoding or "ascii"
        sys.stderr.write(line.encode(encoding, "replace").decode(encoding))


def _parser() -> argparse.ArgumentParser:
    from gradcore import __version__

    codes = (
        "exit codes: 0 fine; 1 a fault was found, with --fail-on fault; 2 wrong usage or data; 130 Ctrl-C; "
        "141 the reader of the output went away"
    )
    parser = _Parser(prog="gradcore", description="Where gradients vanish or explode, and why.", epilog=codes)
    parser.add_argument("--version", action="version", version=f"gradcore {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="diagnose | prescribe | info")

    diagnose = commands.add_parser(
        "diagnose",
        help="say what keeps a network from learning, where and why",
        description="Say what keeps a network from learning, where and why. Without DATA: a demonstration on bundled "
        "images of digits with 20 layers of 64 sigmoids and initial weights normal(0.01), really trained before and "
        "after the change.",
        epilog=codes,
    )
    _network_arguments(diagnose)
    add = diagnose.add_argument
    add("--steps", type=int, default=0, metavar="N", help="also watch N real training steps  (0)")
    add("--seeds", type=int, metavar="N", help="networks with different initial weights  (1)")
    add(
        "--epochs", type=int, metavar="N", help="train before and after the change, as a proof  (0: no proof)"
    )
    add("--ledger", action="store_true", help="show the books of every op as well")
    add("--html", metavar="PATH", help=f"write the report as a page as well  (the demonstration: {PAGE})")
    add("--json", action="store_true", help="machine-readable, instead of the report")
    add("--fail-on", choices=("fault",), metavar="fault", help="exit with 1 when a fault is found")
    diagnose.set_defaults(run=_diagnose)

    prescribe = commands.add_parser(
        "prescribe",
        help="try the known cures on a network, and prove which help",
        description="Try the known cures on a network, each really trained from several seeds against the network "
        "as it is, and prove which help. Without DATA: the demonstration of diagnose. Ctrl-C keeps what was measured.",
        epilog=codes,
    )
    _network_arguments(prescribe)
    add = prescribe.add_argument
    add("--budget", default="30s", metavar="TIME", help="30s, 2min, or '20000 steps'  (30s)")
    add(
        "--treatments",
        default="auto",
        metavar="KINDS",
        help="such as activation,batch_norm  (auto: all that apply)",
    )
    add("--seeds", type=int, default=5, metavar="N", help="of the second round  (5)")
    add("--batch-size", type=int, default=32, metavar="N", help="rows of a training step  (32)")
    add("--epochs", type=int, metavar="N", help="of one training  (about 1500 steps)")
    add("--jobs", type=int, metavar="N", help="trainings at the same time  (one per core)")
    add("--log", metavar="PATH", help="results as JSON lines; the same call goes on from them")
    add("--html", metavar="PATH", help="write the report as a page as well")
    add("--json", action="store_true", help="machine-readable, instead of the report")
    prescribe.set_defaults(run=_prescribe)

    info = commands.add_parser("info", help="versions, instruction set, threads and build")
    info.add_argument("--json", action="store_true", help="machine-readable")
    info.set_defaults(run=_info)
    return parser


def _network_arguments(command: argparse.ArgumentParser) -> None:
    """Add what says which network, which data and how it is trained."""
    add = command.add_argument
    add("data", nargs="?", metavar="DATA", help="CSV with a header, or NPZ with arrays X and y")
    add("--target", metavar="COLUMN", help="the column (array) to predict")
    add("--layers", metavar="SIZES", help="hidden layers: 64x20 (20 of 64 units) or 128,64,32  (64x2)")
    add("--activation", metavar="NAME", help="tanh, relu, selu, sigmoid, leaky_relu(0.2), …  (relu)")
    add("--init", metavar="NAME", help="initial weights: auto, he_normal, normal(0.01), …  (auto)")
    add("--norm", choices=("batch", "layer"), help="batch norm or layer norm in every hidden layer")
    add("--residual", action="store_true", help="hidden layers in residual blocks")
    add("--dropout", type=float, default=0.0, metavar="RATE", help="after every hidden layer")
    add(
        "--optimizer", default=OPTIMIZER, metavar="NAME", help=f"such as {OPTIMIZER} or sgd(0.1,momentum=0.9)"
    )
    add("--loss", default="auto", metavar="NAME", help="auto, cross_entropy, mse, huber(delta=2.0) …")
    add("--seed", type=int, default=0, metavar="N", help="of initial weights, rows and their order  (0)")


# -- diagnose --------------------------------------------------------------------------------------------------------


def _diagnose(arguments: argparse.Namespace) -> int:
    from gradcore.diagnosis.diagnose import diagnose
    from gradcore.diagnosis.proof import prove

    _fill(arguments, ON_DATA if arguments.data else DEMONSTRATION)
    _fill(arguments, {"seeds": 1, "epochs": 0} if arguments.data else PROVED)
    _check_folder(arguments.html)
    net, data = _subject(arguments, hold_out=arguments.epochs > 0)
    diagnosis = diagnose(
        net, data.X, data.y, loss=arguments.loss, optimizer=arguments.optimizer, steps=arguments.steps,
        seeds=arguments.seeds, seed=arguments.seed,
    )  # fmt: skip
    proofs = None
    if arguments.epochs and not diagnosis.healthy:
        proofs = prove(diagnosis, data, seeds=arguments.seeds, epochs=arguments.epochs, seed=arguments.seed)
    proof: Proof | None = None
    if arguments.json:
        for grown in proofs or ():
            proof = grown
        _write(diagnosis.to_json(proof=proof))
    else:
        proof = _report(arguments, diagnosis, proofs)
    _page(arguments, diagnosis, proof)
    return FAULT if arguments.fail_on and not diagnosis.healthy else FINE


def _check_folder(html: str | None) -> None:
    if html == "":
        raise ValueError("--html: the path is empty; write one such as --html report.html")
    if html is not None and not Path(html).absolute().parent.is_dir():
        raise ValueError(f"--html {html}: there is no such folder")


def _fill(arguments: argparse.Namespace, values: dict[str, Any]) -> None:
    """Give what was not said these values."""
    for name, value in values.items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)


def _offer(arguments: argparse.Namespace) -> str:
    """Return the command that tries the cures on the same network."""
    parts = ["gradcore", "prescribe", *([arguments.data] if arguments.data else [])]
    usual = {"optimizer": OPTIMIZER, "loss": "auto", "seed": 0, "dropout": 0.0, "norm": None, "target": None}
    usual |= ON_DATA if arguments.data else DEMONSTRATION
    for name in ("target", "layers", "activation", "init", "norm", "dropout", "optimizer", "loss", "seed"):
        value = getattr(arguments, name)
        parts += [f"--{name}", str(value)] if value != usual[name] else []
    return shlex.join(parts + ["--residual"] * arguments.residual)


def _report(arguments: argparse.Namespace, diagnosis: Diagnosis, proofs: Any) -> Proof | None:
    from gradcore.diagnosis import report

    style = _style(sys.stdout, _example(arguments))
    _write(style.finish(report.verdict(diagnosis, style)))
    proof: Proof | None = None
    for proof in proofs or ():
        if len(proof.trials) <= 1:
            _write(
                style.finish([*report.proof_lines(proof, style), "", *report.layer_table(diagnosis, style)])
            )
        _status(f"training: {len(proof.trials)} of {proof.planned} changes")
    _status("")
    if not diagnosis.healthy:
        if proof is None:
            _write(style.finish(["", *report.layer_table(diagnosis, style)]))
        table = report.what_if_table(diagnosis, proof, style)
        _write(style.finish(["", *table] if table else []))
    if arguments.ledger:
        _write(style.finish(["", *str(diagnosis.ledger).split("\n")]))
    return proof


def _page(arguments: argparse.Namespace, diagnosis: Diagnosis, proof: Proof | None) -> None:
    """Write the page where one is asked for, or to the demonstration's own place; say where it is, and what else."""
    from gradcore.diagnosis.html import page

    demonstration = arguments.data is None and not arguments.json and not diagnosis.healthy
    path = arguments.html or (PAGE if demonstration else None)
    if path is None:
        if not arguments.json and not diagnosis.healthy:
            style = _style(sys.stdout, _example(arguments))
            _write(style.finish(["", f"  {style.dim('try all')}  {_offer(arguments)}"]))
        return
    where = path if os.path.dirname(path) else os.path.join(os.curdir, path)
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(page(diagnosis, proof, command=arguments.line, example=_example(arguments)))
    except OSError as error:
        if arguments.html:
            raise
        where = f"none: {where} cannot be written ({error.strerror}); use --html PATH"
    if arguments.json:
        return
    style = _style(sys.stdout, _example(arguments))
    lines = ["", f"  {style.dim('report')}   {where}"]
    if not diagnosis.healthy:
        lines.append(f"  {style.dim('try all')}  {_offer(arguments)}")
    if demonstration:
        lines[1] += f"    {style.dim('details')}  --ledger"
        lines.append(f"  {style.dim('on yours')} gradcore diagnose data.csv --target y")
    _write(style.finish(lines))


def _example(arguments: argparse.Namespace) -> str:
    return "example" if arguments.data else "image"


def _subject(arguments: argparse.Namespace, *, hold_out: bool) -> tuple[Network, Data]:
    """Read the data and build the network."""
    from gradcore.datasets import load_digits, load_table
    from gradcore.diagnosis.proof import held_out
    from gradcore.diagnosis.recipe import Data
    from gradcore.losses import resolve
    from gradcore.network import mlp

    outputs = 1
    if arguments.data is None:
        if arguments.target is not None:
            raise ValueError("--target names a column of DATA; give the file as well")
        data = Data(*load_digits())
        outputs = 10
    else:
        table = load_table(arguments.data, arguments.target)
        X, y = table.X, table.y
        loss = resolve(arguments.loss, y, None)
        if loss.classification:
            # codes, so that a class which all falls into the held-out rows keeps its output
            classes, y = np.unique(y, return_inverse=True)
            y = y.astype(np.int64)
            if len(classes) < 2:
                raise ValueError(f"{arguments.data}: the target {table.target!r} is the same in every row")
            outputs = 1 if loss.name == "binary_cross_entropy" else len(classes)
        elif y.dtype.kind not in "if":
            raise ValueError(
                f"{arguments.data}: the target {table.target!r} is no number; use --loss cross_entropy"
            )
        else:
            y, outputs = y.astype(np.float64), loss.info.outputs
        data = held_out(X, y, seed=arguments.seed) if hold_out else Data(X, y, X[:0], y[:0])
    hidden = parse_sizes(arguments.layers)
    sizes = [data.X.shape[1], *hidden, outputs]
    if needed_memory(sizes) > (available := _memory()):
        raise ValueError(
            f"--layers {arguments.layers}: {_binary(needed_memory(sizes))} of memory needed, there are "
            f"{_binary(available)}; {_fitting(sizes, available)} fit"
        )
    net = mlp(
        sizes, activation=arguments.activation, init=arguments.init, norm=arguments.norm, residual=arguments.residual,
        dropout=arguments.dropout, seed=arguments.seed,
    )  # fmt: skip
    return net, data


def parse_sizes(text: str) -> list[int]:
    """Read hidden layers: ``64x20`` means 20 layers of 64 units, ``128,64,32`` three layers.

    Examples
    --------
    >>> parse_sizes("128,64x2")
    [128, 64, 64]
    """
    sizes: list[int] = []
    for part in text.split(","):
        width, _, count = part.strip().lower().replace("×", "x").partition("x")
        if (
            not width.isdecimal()
            or (count and not count.isdecimal())
            or int(width) < 1
            or (count and int(count) < 1)
        ):
            raise ValueError(f"--layers {text!r}: write 64x20 for 20 layers of 64 units, or 128,64,32")
        if len(sizes) + int(count or 1) > MOST_LAYERS:
            raise ValueError(f"--layers {text}: more than {MOST_LAYERS:,} layers, which is the most")
        sizes += [int(width)] * int(count or 1)
    return sizes


# -- prescribe -------------------------------------------------------------------------------------------------------


def _prescribe(arguments: argparse.Namespace) -> int:
    from gradcore.prescription import report
    from gradcore.prescription.prescribe import prescribe

    _fill(arguments, ON_DATA if arguments.data else DEMONSTRATION)
    _check_folder(arguments.html)
    net, data = _subject(arguments, hold_out=False)
    found = prescribe(
        net, data.X, data.y, budget=arguments.budget, seeds=arguments.seeds, n_jobs=arguments.jobs,
        seed=arguments.seed, loss=arguments.loss, optimizer=arguments.optimizer, batch_size=arguments.batch_size,
        treatments="auto" if arguments.treatments == "auto" else arguments.treatments.replace(" ", "").split(","),
        epochs=arguments.epochs, log=arguments.log,
        validation_data=(data.X_test, data.y_test) if len(data.X_test) else None,
    )  # fmt: skip
    if arguments.json:
        _write(found.to_json())
    else:
        _write(report.render(found, _style(sys.stdout, "example")))
    if arguments.html is not None:
        from gradcore.prescription.html import page

        with open(arguments.html, "w", encoding="utf-8") as file:
            file.write(page(found, command=arguments.line))
    return INTERRUPTED if found.stopped == "interrupted" else FINE


# -- memory ----------------------------------------------------------------------------------------------------------

# Measured, and rounded up: the arrays as large as the parameters that the alternatives keep, and the books and plans of
# a layer. (20 sick layers of 1000 units took 17 times their parameters, 3000 layers of 8 units 90 kB each.)
_COPIES, _LAYER = 20, 100_000


def needed_memory(sizes: Sequence[int]) -> int:
    """Estimate the bytes that a diagnosis of a network of these sizes takes at its peak.

    Examples
    --------
    >>> needed_memory([64, 1000, 10]) < 20e6 < needed_memory([64, 1000, 1000, 10])
    True
    """
    weights = sum((inputs + 1) * units for inputs, units in pairwise(sizes))
    return weights * np.dtype(np.float32).itemsize * _COPIES + (len(sizes) - 1) * _LAYER


def _fitting(sizes: Sequence[int], available: float) -> str:
    """Name a network that fits: as deep and narrower or, where it is too deep for that, as narrow and less deep."""
    (inputs, *hidden, outputs) = sizes
    narrow, depth = min(hidden), len(hidden)
    while needed_memory([inputs, *depth * [narrow], outputs]) > available and max(narrow, depth) > 1:
        if depth == 1 or narrow > max(16, depth):
            narrow //= 2
        else:
            depth //= 2
    return f"{narrow}x{depth}"


def _memory() -> float:
    """Return the bytes of memory of this machine; infinity where the system does not say."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):
        return math.inf


def _binary(size: float) -> str:
    return f"{size / 2**30:,.1f} GiB"


# -- info ------------------------------------------------------------------------------------------------------------


def _info(arguments: argparse.Namespace) -> int:
    from gradcore import __version__, kernels
    from gradcore.threads import cores

    kernel = kernels.info()
    facts: dict[str, Any] = {
        "gradcore": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "platform": platform.platform(),
        "instruction set": kernel["level"],
        "built for": list(kernel["levels_built"]),
        "supported here": list(kernel["levels_supported"]),
        "compiler": kernel["compiler"],
        "build": kernel["build"],
        "stable ABI": kernel["stable_abi"],
        "cores": cores(),
        "threads": os.environ.get("GRADCORE_THREADS", "auto"),
    }
    if arguments.json:
        _write(json.dumps(facts, indent=2))
    else:
        shown = {
            name: ", ".join(value) if isinstance(value, list) else value for name, value in facts.items()
        }
        _write("\n".join(f"{name:<16} {value}" for name, value in shown.items()))
    return FINE


# -- the terminal ----------------------------------------------------------------------------------------------------


def _style(stream: TextIO | None, example: str) -> Style:
    from gradcore.diagnosis.report import SYMBOLS, Style

    try:
        SYMBOLS.encode(getattr(stream, "encoding", None) or "ascii")
        symbols = True
    except (UnicodeEncodeError, LookupError):
        symbols = False
    colours = (
        stream is not None
        and (stream.isatty() or bool(os.environ.get("FORCE_COLOR")))
        and not os.environ.get("NO_COLOR")
        and os.environ.get("TERM") != "dumb"
    )
    return Style(symbols=symbols, colours=colours, example=example)


def _write(text: str) -> None:
    if sys.stdout is None:  # closed before we began
        return
    encoding = sys.stdout.encoding or "ascii"
    # names come from the user's file and may hold what the terminal cannot show
    sys.stdout.write(text.encode(encoding, "replace").decode(encoding) + "\n")
    sys.stdout.flush()


def _status(text: str) -> None:
    """Show a passing remark on a terminal; the next one, or an empty one, replaces it."""
    if sys.stderr is not None and sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
