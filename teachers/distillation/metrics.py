"""Figures of merit of a classifier's logits.

A member is a function of logits (float N×K) and labels (int N, in [0, K)) with values in [0, 1]
where more is better, and one line in :data:`METRICS`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import check_member

Metric = Callable[[NDArray[np.floating[Any]], NDArray[np.int64]], float]


def accuracy(logits: NDArray[np.floating[Any]], labels: NDArray[np.int64]) -> float:
    """The share of rows whose largest logit is the label's; the first wins among equal logits."""
    return float(np.mean(_right(logits, labels)))


def balanced_accuracy(logits: NDArray[np.floating[Any]], labels: NDArray[np.int64]) -> float:
    """The mean, over the classes present in ``labels``, of the accuracy within the class."""
    right = _right(logits, labels).astype(np.float64)
    _, position, rows = np.unique(labels, return_inverse=True, return_counts=True)
    return float(np.mean(np.bincount(position, weights=right) / rows))


METRICS: dict[str, Metric] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
}


def metric(name: str) -> Metric:
    """The registered metric ``name``; BadInput where there is none."""
    check_member("metric", name, METRICS)
    return METRICS[name]


def _right(logits: NDArray[np.floating[Any]], labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    if len(labels) == 0:
        raise ValueError("a metric needs at least one row, got 0")
    right: NDArray[np.bool_] = logits.argmax(axis=1) == labels
    return right
