"""Hooks into a fit: `Callback` to write your own, and the ready ones."""

from gradcore.training.callbacks import Callback, EarlyStopping

__all__ = ["Callback", "EarlyStopping"]
