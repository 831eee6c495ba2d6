"""False alarms on networks as a careful person builds them: matching weights, usual rates, inputs of unit scale.

``python -m blind.sound [STEPS [SEEDS]]`` (from the folder bench) prints how many are called sick, and which; of these
every one is trained, to see whether the alarm was false.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import product

import gradcore

from . import tasks
from .family import Case
from .truth import reference, train

ACTIVATIONS = ("tanh", "relu", "selu", "elu", "gelu", "leaky_relu")
SIZES = ((16, 2), (32, 2), (32, 6), (64, 3), (64, 10), (128, 4))  # width, depth
OPTIMIZERS = ({"optimizer": "adam", "lr": 0.001}, {"optimizer": "sgd", "lr": 0.05, "momentum": 0.9})


def cases() -> Iterator[Case]:
    """Yield every combination."""
    for task, activation, (width, depth), optimizer in product(tasks.TASKS, ACTIVATIONS, SIZES, OPTIMIZERS):
        yield Case(task, depth, width, activation, "auto", **optimizer)


def main() -> None:
    """Diagnose them all."""
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    seeds = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    count = false = 0
    for case, seed in product(cases(), range(seeds)):
        X, y = case.data()
        count += 1
        diagnosis = gradcore.diagnose(case.network(seed), X, y, steps=steps, seed=seed, **case.training())
        if diagnosis.healthy:
            continue
        loss, bar = train(case, seed), 1 - 0.2 * (1 - min(1.0, reference(case.task)))
        false += loss <= bar
        print(
            f"{case.task} {case.depth}x{case.width} {case.activation} {case.optimizer} seed {seed}: "
            f"{diagnosis.symptoms[0].kind}, chance {diagnosis.chance:.2f}; trained to {loss:.2f}, the bar is {bar:.2f}"
        )
    print(f"{count} networks, steps={steps}: {false} false alarms ({false / count:.2%})")


if __name__ == "__main__":
    main()
