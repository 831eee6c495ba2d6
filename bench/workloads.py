"""What is measured: the training steps and the kernels, with the bars they are held to."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

CLASSES = 10
LEARNING_RATE = 1e-3
MOMENTUM = 0.9
CLIP_NORM = 1.0


@dataclass(frozen=True)
class StepCase:
    """One training step in float32: forward, softmax cross-entropy, backward, global-norm clip, update."""

    name: str
    depth: int
    width: int
    batch: int
    bar: float  # how many times faster than the best peer we promise to be
    share_bar: float  # of the FMA peak of the same run
    ledger_bar: float  # how much slower the light ledger may make the step
    activation: str = "relu"
    optimizer: str = "sgd"

    def __str__(self) -> str:
        return (
            f"{self.name} {self.depth}×{self.width}, batch {self.batch}, {self.activation}, {self.optimizer}"
        )

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """One batch: X (batch, width) float32 and class indices (batch,) int64."""
        rng = np.random.default_rng(3)
        X = rng.standard_normal((self.batch, self.width), dtype=np.float32)
        return X, rng.integers(0, CLASSES, self.batch)

    def weights(self) -> list[np.ndarray]:
        """The same initial weights for every peer, (inputs, units) each; all biases begin at zero."""
        rng = np.random.default_rng(0)
        widths = [self.width] * (self.depth + 1) + [CLASSES]
        return [
            rng.standard_normal((inputs, units), dtype=np.float32) / np.float32(np.sqrt(inputs))
            for inputs, units in pairwise(widths)
        ]

    @property
    def flops(self) -> int:
        """Operations of the matrix products; the first layer needs no delta of its input."""
        square = self.batch * self.width * self.width
        return 6 * square * self.depth - 2 * square + 6 * self.batch * self.width * CLASSES


STEPS = (
    StepCase("i", 50, 64, 32, bar=4.5, share_bar=0.72, ledger_bar=0.06),
    StepCase("ii", 20, 128, 64, bar=2.2, share_bar=0.80, ledger_bar=0.04),
    StepCase("iii", 10, 256, 128, bar=1.55, share_bar=0.84, ledger_bar=0.025),
    StepCase("iv", 4, 1024, 256, bar=1.2, share_bar=0.84, ledger_bar=0.015),
    StepCase("v", 3, 32, 16, bar=18.0, share_bar=0.45, ledger_bar=0.12),
)
