"""Hooks into a fit: `Callback` to write your own, and the ready ones."""

from gradcore.training.callbacks import Callback, EarlyStopping
from gradcore.training.json_logger import JSONLogger

__all__ = ["Callback", "EarlyStopping", "JSONLogger"]
