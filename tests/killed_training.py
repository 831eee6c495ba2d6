"""A training that is killed again and again, each time at a random moment, and goes on from its checkpoint.

Run as a program, it prints the steps that each checkpoint held; a process of its own, because it forks.
"""

import os
import signal
import sys
import time

import numpy as np

from gradcore import BatchNorm, Dense, Dropout, Network
from gradcore.callbacks import Checkpoint, CSVLogger, EarlyStopping, ReduceOnPlateau
from gradcore.training.checkpoint import read_checkpoint


def train(path, log, *, epochs=60, **settings):
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((60, 5)), rng.integers(0, 3, 60)
    net = Network([Dense(16), BatchNorm(), "tanh", Dropout(0.3), Dense(3)], input_size=5, seed=0)
    callbacks = [
        Checkpoint(path, every_steps=3), EarlyStopping(patience=100), CSVLogger(log),
        ReduceOnPlateau("loss", patience=2, factor=0.7),
    ]  # fmt: skip
    return net.fit(
        X,
        y,
        epochs=epochs,
        batch_size=8,
        validation_fraction=0.2,
        seed=7,
        progress=False,
        callbacks=callbacks,
        **settings,
    )


def written(path):
    """When the file was written; None: there is none."""
    return os.stat(path).st_mtime_ns if os.path.exists(path) else None


def main(path, log, kills, seed):
    rng = np.random.default_rng(seed)
    train(f"{path}.first", f"{log}.first", epochs=1)  # what is imported on use is, from here on
    for _ in range(kills):
        before = written(path)
        child = os.fork()
        if not child:
            train(path, log, **({"resume": path} if before else {}))
            os._exit(0)
        give_up = time.monotonic() + 10
        while written(path) == before and time.monotonic() < give_up:
            time.sleep(0.0005)
        time.sleep(rng.uniform(0, 0.1))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        seen = read_checkpoint(path).values["seen"]
        print(seen)
        if seen > 300:  # of 360 steps: a child might end before it is killed
            break
    train(path, log, resume=path)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
