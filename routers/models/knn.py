"""Nearest neighbours whose ONNX file says the same as scikit-learn.

A plain vote of k neighbours jumps when two of them swap places, and float32 distances swap often
(skl2onnx's `cdist` computes |x|² + |y|² − 2xy, which cancels). Two remedies: weights that fade to
nothing at the (k+1)-th neighbour, so that a swap changes nothing (Hechenbichler & Schliep, 2004),
and distances in float64 on both sides. The graph is written here, since no converter does that.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper
from sklearn.neighbors import KNeighborsClassifier

from routers.onnx import export
from routers.onnx.features import FEATURES, Feature

Features = NDArray[np.float32]

# Keeps a weight above zero where all k+1 neighbours lie at one distance (duplicates, say); in
# squared units of the features, far below any distance that means something between logits.
_LEAST = 1e-6


def _fading(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights of N×(k+1) neighbours: d₊² − d² for the furthest at d₊ (Epanechnikov's kernel)."""
    squared = distance**2
    weight: NDArray[np.float64] = squared.max(axis=1, keepdims=True) - squared + _LEAST
    return weight


class Neighbours:
    """P(student right) among the nearest rows of the fit: a :class:`families.FittedRouter`.

    ``features``: float32 N×F with N ≥ 2; ``right``: int N of 0 and 1; fewer rows than
    ``neighbours`` + 1 are all used.
    """

    def __init__(self, features: Features, right: NDArray[np.int64], *, neighbours: int) -> None:
        self.features, self.right = features, right
        self.count = min(neighbours + 1, len(features))
        self.model = KNeighborsClassifier(
            self.count, weights=_fading, algorithm="brute", n_jobs=1
        ).fit(features.astype(np.float64), right)

    def score(self, features: Features, /) -> NDArray[np.float64]:
        """P(student right), N values in [0, 1], for features N×F."""
        probability = self.model.predict_proba(features.astype(np.float64))
        return np.asarray(probability[:, 1], dtype=np.float64)

    def to_onnx(self, classes: int, feature: Feature = FEATURES["logits"]) -> onnx.ModelProto:
        """The router file: ``logits`` float32 [N, classes] in, ``score`` float32 [N] out."""
        front, features = feature.nodes(export.INPUT)
        node, double = helper.make_node, TensorProto.DOUBLE
        known = self.features.astype(np.float64)
        constants: dict[str, NDArray[Any]] = {
            # float32 in the file, half the size, and exactly what was fitted.
            "known_t": np.ascontiguousarray(self.features.T),
            "known_squared": np.sum(known**2, axis=1),
            "right": self.right.astype(np.float64),
            "two": np.array(2.0),
            "zero": np.array(0.0),
            "least": np.array(_LEAST),
            "count": np.array([self.count], dtype=np.int64),
            "axis_one": np.array([1], dtype=np.int64),
        }
        nodes = [
            *front,
            node("Cast", [features], ["x"], to=double),
            node("Cast", ["known_t"], ["known_t_double"], to=double),
            node("MatMul", ["x", "known_t_double"], ["product"]),
            node("Mul", ["product", "two"], ["cross"]),
            node("Mul", ["x", "x"], ["x_squared"]),
            node("ReduceSum", ["x_squared", "axis_one"], ["x_norm"], keepdims=1),
            node("Add", ["x_norm", "known_squared"], ["norms"]),
            node("Sub", ["norms", "cross"], ["difference"]),
            node("Max", ["difference", "zero"], ["squared"]),
            node("TopK", ["squared", "count"], ["near", "which"], axis=1, largest=0),
            node("ReduceMax", ["near", "axis_one"], ["furthest"], keepdims=1),
            node("Sub", ["furthest", "near"], ["fading"]),
            node("Add", ["fading", "least"], ["weight"]),
            node("Gather", ["right", "which"], ["vote"]),
            node("Mul", ["weight", "vote"], ["weighted"]),
            node("ReduceSum", ["weighted", "axis_one"], ["for"], keepdims=0),
            node("ReduceSum", ["weight", "axis_one"], ["all"], keepdims=0),
            node("Div", ["for", "all"], ["share"]),
            node("Cast", ["share"], [export.OUTPUT], to=TensorProto.FLOAT),
        ]
        return export.build(nodes, classes, constants)
