"""What pre-training, unit variance and residual scaling do on the digits: the tables of docs/initialising.md.

``python bench/initialising.py`` prints them (two minutes), ``--update`` writes them into the page.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np

from gradcore import Dense, Network, Residual, datasets, mlp, pretrain_autoencoder
from gradcore.initializers import lsuv_

PAGE = Path(__file__).resolve().parent.parent / "docs" / "initialising.md"
DIGITS = datasets.load_digits()
X, Y = DIGITS.X_train, DIGITS.y_train
SEEDS, EPOCHS = range(5), 20


def accuracy(net: Network, seed: int, epochs: int = EPOCHS) -> float:
    net.fit(X, Y, epochs=epochs, seed=seed, threads=1, on_fault="ignore")
    return net.evaluate(DIGITS.X_test, DIGITS.y_test)["accuracy"]


def classical(net: Network, seed: int) -> None:
    """Autoencoders on the numbers as they are, as in 2007: for dense layers with an activation."""
    below = X
    for k in range(0, len(net.layers) - 1, 2):
        group = net.layers[k : k + 2]
        coder = Network([*group, Dense(below.shape[1])], input_size=below.shape[1], seed=seed + k)
        present = net.get_parameters()
        coder.set_parameters({f"0.{part}": present[f"{k}.{part}"] for part in ("weight", "bias")})
        coder.fit(below, below, epochs=10, seed=seed, threads=1)
        learnt = coder.get_parameters()
        net.set_parameters({f"{k}.{part}": learnt[f"0.{part}"] for part in ("weight", "bias")})
        encoder = Network(group, input_size=below.shape[1], seed=0)
        encoder.set_parameters({f"0.{part}": learnt[f"0.{part}"] for part in ("weight", "bias")})
        below = encoder.forward(below)


STARTS: dict[str, tuple[Callable[[Network, int], object], int]] = {
    "control": (lambda net, seed: None, EPOCHS),
    "control, 40 epochs": (lambda net, seed: None, 2 * EPOCHS),
    "`lsuv_`": (lambda net, seed: lsuv_(net, X, seed=seed), EPOCHS),
    "autoencoders, raw": (classical, EPOCHS),
    "scaling alone": (lambda net, seed: pretrain_autoencoder(net, X, epochs=0, seed=seed), EPOCHS),
    "pre-trained": (lambda net, seed: pretrain_autoencoder(net, X, seed=seed), EPOCHS),
}
NETWORKS = [
    *((depth, "sigmoid", "auto") for depth in (4, 7, 10, 20, 40)), (10, "sigmoid", "normal(0.05)"),
    (10, "tanh", "auto"), (30, "tanh", "auto"),
    (10, "relu", "auto"), (30, "relu", "auto"), (10, "relu", "normal(0.05)"),
]  # fmt: skip


def table_of_starts() -> str:
    lines = [
        f"| hidden layers | initial weights | {' | '.join(STARTS)} |",
        f"| --- | --- |{' ---: |' * len(STARTS)}",
    ]
    for depth, activation, init in NETWORKS:
        cells = []
        for start, epochs in STARTS.values():
            found = []
            for seed in SEEDS:
                net = mlp([64] * (depth + 1) + [10], activation=activation, init=init, seed=seed)
                start(net, seed)
                found.append(100 * accuracy(net, seed, epochs))
            cells.append(f"{np.median(found):.1f} ({min(found):.1f}–{max(found):.1f})")
            print(depth, activation, init, np.round(found, 1).tolist(), flush=True)
        lines.append(f"| {depth} × 64 {activation} | `{init}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def table_of_scales() -> str:
    lines = [
        "| blocks | each | s | scale | gradient | test accuracy |",
        "| ---: | --- | --- | ---: | ---: | ---: |",
    ]
    for blocks in (10, 50, 200):
        for inside in (["relu"], ["relu", Dense(64)]):
            for name, scale in (("1", 1.0), ("1/√n", blocks**-0.5), ("1/n", 1 / blocks)):
                found = []
                for seed in SEEDS:
                    block = Residual([Dense(64), *inside], scale=scale)
                    layers = [Dense(64), "relu", *[block] * blocks, Dense(10)]
                    net = Network(layers, input_size=64, dtype="float64", seed=seed)
                    books = net.ledger(X[:256], Y[:256])
                    first, last = books["residual 1"], books[f"residual {blocks}"]
                    grown = last.output.norm / first.output.norm, first.d_input.norm / last.d_output.norm
                    found.append((*grown, 100 * accuracy(Network(layers, input_size=64, seed=seed), seed, 5)))
                growth, gradient, score = np.median(found, axis=0)
                shown = "dense, relu" if len(inside) == 1 else "dense, relu, dense"
                lines.append(
                    f"| {blocks} | {shown} | {name} | × {growth:.2g} | × {gradient:.2g} | {score:.1f} |"
                )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--update", action="store_true", help="write the tables into docs/initialising.md")
    update = parser.parse_args().update
    for name, table in (("starts", table_of_starts()), ("scales", table_of_scales())):
        print(table)
        if update:
            page = PAGE.read_text(encoding="utf-8")
            head, _, rest = page.partition(f"<!-- {name}:begin -->\n")
            _, _, tail = rest.partition(f"<!-- {name}:end -->")
            PAGE.write_text(
                f"{head}<!-- {name}:begin -->\n{table}\n<!-- {name}:end -->{tail}", encoding="utf-8"
            )


if __name__ == "__main__":
    main()
