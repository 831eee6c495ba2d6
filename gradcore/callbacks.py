"""Hooks into a fit: `Callback` to write your own, and the ready ones."""

from gradcore.tensorboard import TensorBoard
from gradcore.training.callbacks import Callback, EarlyStopping
from gradcore.training.checkpoint import Checkpoint
from gradcore.training.csv_logger import CSVLogger
from gradcore.training.json_logger import JSONLogger
from gradcore.training.reduce_on_plateau import ReduceOnPlateau

ReduceLROnPlateau = ReduceOnPlateau

__all__ = [
    "CSVLogger", "Callback", "Checkpoint", "EarlyStopping", "JSONLogger", "ReduceLROnPlateau", "ReduceOnPlateau",
    "TensorBoard",
]  # fmt: skip
