"""How a diagnosis leaves for a file: strict JSON, and text in UTF-8."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from gradcore.errors import check_path


def plain(value: Any) -> Any:
    """Make a value fit for strict JSON: what is no finite number becomes null.

    Examples
    --------
    >>> plain({"loss": np.float64("nan"), "layers": (1, 2)})
    {'loss': None, 'layers': [1, 2]}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def written(text: str, path: str | os.PathLike[str] | None) -> str:
    """Write a text to `path` if one is given, and return it."""
    if path is not None:
        with check_path("path", path).open("w", encoding="utf-8") as file:
            file.write(text if text.endswith("\n") else text + "\n")
    return text
