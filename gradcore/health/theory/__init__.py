"""What theory expects of a network before any data: mean fields, gains of every op, the risk of finite widths."""

from gradcore.health.theory.finite_width import (
    dead_layer_chance as dead_layer_chance,
    gain_variance as gain_variance,
)
from gradcore.health.theory.mean_field import (
    MeanField as MeanField,
    chi as chi,
    correlation_map as correlation_map,
    mean_field as mean_field,
    variance_map as variance_map,
)
from gradcore.health.theory.prediction import (
    PredictedEntry as PredictedEntry,
    Prediction as Prediction,
    predict as predict,
)
