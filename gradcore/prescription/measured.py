"""What is measured of one training: how it ended, and what it does to gradient and signal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradcore.diagnosis.observe import Batch, observe
from gradcore.network import Network


@dataclass(frozen=True)
class Result:
    """What one training ended with.

    Attributes
    ----------
    score : float
        Accuracy or coefficient of determination on the rows to test with; that of no use at all where it is no number.
    loss, test_loss : float
        On the rows to train on and to test with, over those of the constant predictor: 1 is no better.
    seconds : float
    rows : tuple of float
        Score of single rows to test with (of some, where they are many), in the same order for all trainings.
    """

    score: float
    loss: float
    test_loss: float
    seconds: float
    rows: tuple[float, ...] = ()


@dataclass(frozen=True)
class Profile:
    """Gradient and signal by layer, on one batch.

    Attributes
    ----------
    gradient, signal : tuple of float
        log10 of the norm of delta at the pre-activations of each dense layer, and of the signal that leaves the layer.
    end_to_end : float
        log10 of the gain from the outputs to the first pre-activations.
    """

    gradient: tuple[float, ...]
    signal: tuple[float, ...]
    end_to_end: float

    @classmethod
    def of(cls, net: Network, batch: Batch, *, seed: int = 0) -> Profile:
        """Look at a network as it is."""
        books = observe(net, batch, seed=seed)
        with np.errstate(divide="ignore"):
            return cls(
                tuple(np.log10(books.layers.delta).tolist()),
                tuple(np.log10(books.layers.output_signal).tolist()),
                books.ledger.end_to_end_log10,
            )
