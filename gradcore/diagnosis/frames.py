"""The layers of a diagnosis as a table: what was measured, what theory predicts, what the change makes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradcore.diagnosis.curves import curves

if TYPE_CHECKING:
    import pandas

    from gradcore.diagnosis.diagnose import Diagnosis


def layer_columns(diagnosis: Diagnosis) -> dict[str, Any]:
    """Return one array per column, one element per layer.

    ``gradient`` and ``weight`` are the rms of the elements, ``delta`` is the norm of the loss's derivative by the
    pre-activation, ``scale`` and ``signal`` are of the layer's output, ``usable`` is the gradient that tells examples
    apart.  ``gradient_predicted`` and ``signal_predicted`` are NaN where theory cannot be relied on;
    ``gradient_changed`` and ``signal_changed`` are there when a change is advised that keeps the number of layers.
    """
    books = diagnosis.books
    layers, ledger = books.layers, books.ledger
    others = {
        f"{curve.what}_{curve.of}": 10.0**curve.log10
        for curve in curves(diagnosis)
        if curve.of != "now" and len(curve.log10) == len(layers)
    }
    return {
        "op": [ledger.plan.names[op] for op in layers.op],
        "fan_in": layers.fan_in,
        "units": layers.units,
        "scale": layers.output_scale,
        "signal": layers.output_signal,
        "lost": layers.lost(ledger.dtype),
        "delta": layers.delta,
        "gradient": layers.gradient,
        "usable": books.usable,
        "starved": diagnosis.evidence.starved(),
        "weight": layers.weight,
        **others,
    }


def layer_frame(diagnosis: Diagnosis) -> pandas.DataFrame:
    """Return the columns as a pandas DataFrame whose index counts the layers from 1."""
    try:
        import pandas
    except ImportError as error:
        raise ImportError("to_frame needs pandas: pip install 'gradcore[frames]'") from error
    columns = layer_columns(diagnosis)
    index = pandas.RangeIndex(1, len(columns["op"]) + 1, name="layer")
    return pandas.DataFrame({name: np.asarray(values) for name, values in columns.items()}, index=index)
