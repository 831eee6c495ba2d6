"""Fit the forests of ``gradcore/health/chance.npz`` to rows of `blind.look`, and say how good they are on others.

``python -m blind.calibrate ROWS...`` (from the folder bench; needs scikit-learn).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

from .truth import read

TARGET = Path(__file__).parents[2] / "gradcore" / "health" / "chance.npz"
TREES, DEPTH = 200, 5


def matrix(rows: list[dict[str, Any]], names: list[str]) -> np.ndarray:
    """Return the measures of the rows."""
    return np.clip([[row["measures"][name] for name in names] for row in rows], -1e6, 1e6)


def model() -> GradientBoostingClassifier:
    """Return the model that is fitted."""
    return GradientBoostingClassifier(
        n_estimators=TREES, max_depth=DEPTH, learning_rate=0.06, subsample=0.5, min_samples_leaf=20,
        max_features=0.2, random_state=0,
    )  # fmt: skip


def weights(rows: list[dict[str, Any]]) -> np.ndarray:
    """Changes of one case are many and alike: all together count about as much as the case itself, twice."""
    counts: dict[tuple[int, str], int] = {}
    for row in rows:
        key = row["number"], "base" if row["cause"] == "base" else "change"
        counts[key] = counts.get(key, 0) + 1
    return np.array(
        [
            (1.0 if row["cause"] == "base" else 3.0)
            / counts[row["number"], "base" if row["cause"] == "base" else "change"]
            for row in rows
        ]
    )


def fit(
    rows: list[dict[str, Any]], names: list[str]
) -> tuple[GradientBoostingClassifier, float, float, np.ndarray]:
    """Return the model, slope and offset of its calibration, and the chances that it gives to cases it has not seen."""
    X, y, w = matrix(rows, names), np.array([row["trains"] for row in rows]), weights(rows)
    groups = np.array([row["number"] for row in rows])
    scores = np.zeros(len(rows))
    for seen, unseen in GroupKFold(5).split(X, y, groups):
        scores[unseen] = model().fit(X[seen], y[seen], sample_weight=w[seen]).decision_function(X[unseen])
    platt = LogisticRegression(C=1e6).fit(scores[:, None], y, sample_weight=w)
    chances = platt.predict_proba(scores[:, None])[:, 1]
    fitted = model().fit(X, y, sample_weight=w)
    return fitted, float(platt.coef_[0, 0]), float(platt.intercept_[0]), chances


def arrays(
    fitted: GradientBoostingClassifier, slope: float, offset: float, names: list[str]
) -> dict[str, Any]:
    """Return the forest as plain arrays."""
    trees = [estimator.tree_ for estimator in fitted.estimators_[:, 0]]
    nodes = max(tree.node_count for tree in trees)
    parts = {name: np.zeros((len(trees), nodes), kind) for name, kind in (
        ("feature", np.uint8), ("threshold", np.float32), ("left", np.uint8), ("right", np.uint8), ("value", np.float32)
    )}  # fmt: skip
    for i, tree in enumerate(trees):
        n, leaf = tree.node_count, tree.children_left < 0
        itself = np.arange(n)
        parts["feature"][i, :n] = np.where(leaf, 0, tree.feature)
        parts["threshold"][i, :n] = tree.threshold
        parts["left"][i, :n] = np.where(leaf, itself, tree.children_left)
        parts["right"][i, :n] = np.where(leaf, itself, tree.children_right)
        parts["value"][i, :n] = np.where(leaf, fitted.learning_rate * tree.value[:, 0, 0], 0.0)
    prior = float(fitted.decision_function(np.zeros((1, len(names))))[0])
    zero = fitted._raw_predict_init(np.zeros((1, len(names))))[0, 0]
    assert np.isfinite(prior)
    return parts | {
        "names": np.array(names),
        "depth": DEPTH,
        "slope": slope,
        "offset": offset + slope * float(zero),
    }


def report(title: str, chances: np.ndarray, rows: list[dict[str, Any]]) -> None:
    """Print accuracy, area under the curve and error of calibration."""
    y = np.array([row["trains"] for row in rows])
    order = np.argsort(chances)
    bins = [b for b in np.array_split(order, 10) if len(b)]
    error = sum(abs(chances[b].mean() - y[b].mean()) * len(b) for b in bins) / len(y)
    ranks = np.empty(len(y))
    ranks[order] = np.arange(len(y))
    area = (ranks[y].sum() - y.sum() * (y.sum() - 1) / 2) / max(1, y.sum() * (~y).sum())
    right = ((chances > 0.5) == y).mean()
    print(f"{title:<28} {len(y):>6} rows  right {right:.3f}  area {area:.4f}  calibration {error:.3f}")


def main() -> None:
    """Fit, report, write."""
    train = [row for path in sys.argv[1:] for row in read(Path(path))]
    stored: dict[str, Any] = {}
    for name, chosen in (("before", lambda row: row["steps"] == 0), ("after", lambda row: row["steps"] > 0)):
        rows = [row for row in train if chosen(row)]
        names = sorted(rows[0]["measures"])
        fitted, slope, offset, chances = fit(rows, names)
        report(f"{name}, cross-validated", chances, rows)
        base = np.array([row["cause"] == "base" for row in rows])
        report("  the cases themselves", chances[base], [row for row in rows if row["cause"] == "base"])
        for steps in sorted({row["steps"] for row in rows if row["steps"]}):
            at = np.array([row["cause"] == "base" and row["steps"] == steps for row in rows])
            report(
                f"  after {steps} steps",
                chances[at],
                [row for row, is_at in zip(rows, at, strict=True) if is_at],
            )
        top = np.argsort(fitted.feature_importances_)[::-1][:14]
        print("  " + ", ".join(f"{names[i]} {fitted.feature_importances_[i]:.2f}" for i in top))
        stored |= {f"{name}.{key}": value for key, value in arrays(fitted, slope, offset, names).items()}
    np.savez_compressed(TARGET, **stored)
    print(f"wrote {TARGET.name}: {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main()
