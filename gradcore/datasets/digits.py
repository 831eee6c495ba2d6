"""The bundled data set: 1797 images of handwritten digits, 8x8 pixels."""

from __future__ import annotations

from os.path import dirname, join
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Digits(NamedTuple):
    """The images as rows of 64 numbers in [0, 1], and the digits they show."""

    X_train: NDArray[np.float32]
    y_train: NDArray[np.int64]
    X_test: NDArray[np.float32]
    y_test: NDArray[np.int64]


def load_digits() -> Digits:
    """Return the images with a fixed split: 1437 to train on, 360 to test with.

    The rows of the file are already in a random order that keeps the share of each digit (within one image)
    the same in both parts: the first 1437 are the training part.  Within a part the order is random too.  The
    split is by image; the file does not tell the writers apart.  Source and licence: ``digits.txt`` beside
    the data.

    Returns
    -------
    Digits
        X float32 of shape (n, 64), the pixel counts 0..16 divided by 16; y int64 of shape (n,), 0..9.  New
        arrays at each call.

    Examples
    --------
    >>> digits = load_digits()
    >>> digits.X_train.shape, digits.X_test.shape
    ((1437, 64), (360, 64))
    """
    with np.load(join(dirname(__file__), "digits.npz"), allow_pickle=False) as data:
        X = data["images"].astype(np.float32) / np.float32(16)
        y = data["digits"].astype(np.int64)
    n = 1437
    return Digits(X[:n].copy(), y[:n].copy(), X[n:].copy(), y[n:].copy())
