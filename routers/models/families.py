"""The six families of supervised routers (Zhang VI-A): SVM, RF, KNN, GBDT, XGB, ET.

A member is a function of features (float32 N×F), right (int N, 1 = the student is right, both
values present, or ValueError) and a seed, and one line in :data:`FAMILIES`. Sizes are modest and
depth is capped: a router guards a small student and must not outweigh it (the paper's forests
reached 44 MB). Everything runs on one thread; the caller parallelises. The named parameters that
a member has beside these three are what :mod:`routers.fitting.tuning` searches.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import onnx
from numpy.typing import NDArray
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from xgboost import XGBClassifier

from routers.models.knn import Neighbours
from routers.onnx import export
from routers.onnx.convert import Converter, by_onnxmltools, by_skl2onnx
from routers.onnx.features import FEATURES, Feature
from routers.selection.draws import at_most

Features = NDArray[np.float32]
Rows = NDArray[np.int64]

TREES, DEPTH = 100, 8
BOOSTED_DEPTH = 3
NEIGHBOURS = 15
# The SVM's kernel matrix grows with the square of the rows, the size of KNN with the rows; trees
# of this size learn no more from more rows, and only take longer.
SVM_ROWS, KNN_ROWS, TREE_ROWS = 3000, 2000, 20_000


class FittedRouter(Protocol):
    """A fitted family: P(student right) in Python, and the same as an ONNX file."""

    def score(self, features: Features, /) -> NDArray[np.float64]:
        """P(student right), N values in [0, 1], for features N×F."""
        ...

    def to_onnx(self, classes: int, feature: Feature = FEATURES["logits"]) -> onnx.ModelProto:
        """The router file: ``logits`` float32 [N, classes] in, ``score`` float32 [N] out.

        ``feature`` is what turned the logits into the features of the fit.
        """
        ...


Family = Callable[[Features, Rows, int], FittedRouter]


@dataclass(frozen=True)
class ConvertedRouter:
    """A router whose model has scikit-learn's interface and a converter to ONNX."""

    model: Any
    width: int
    convert: Converter = by_skl2onnx

    def score(self, features: Features, /) -> NDArray[np.float64]:
        return np.asarray(self.model.predict_proba(features)[:, 1], dtype=np.float64)

    def to_onnx(self, classes: int, feature: Feature = FEATURES["logits"]) -> onnx.ModelProto:
        return export.from_classifier(self.convert(self.model, self.width), feature, classes)


def svm(
    features: Features,
    right: Rows,
    seed: int,
    *,
    C: float = 1.0,
    gamma: float = 1.0,
    rows: int = SVM_ROWS,
) -> FittedRouter:
    """RBF support vectors, calibrated by Platt's sigmoid over folds; the paper's own advice.

    ``gamma`` is in units of 1/F, for standardised features.
    """
    features, right = _at_most(rows, features, right, seed)
    least = int(np.bincount(right, minlength=2).min())
    if least < 2:
        raise ValueError("the folds of an SVM's probabilities need two rows of each kind")
    folds = StratifiedKFold(min(5, least), shuffle=True, random_state=seed)
    vectors = SVC(C=C, gamma=gamma / features.shape[1])
    probable = CalibratedClassifierCV(vectors, cv=folds, ensemble=False, n_jobs=1)
    return _fitted(make_pipeline(StandardScaler(), probable), features, right)


def rf(
    features: Features,
    right: Rows,
    seed: int,
    *,
    trees: int = TREES,
    depth: int = DEPTH,
    leaf: int = 1,
    leaves: int | None = None,
    tried: str | float = "sqrt",
) -> FittedRouter:
    """A random forest.

    ``leaf``: rows in a leaf, at least; ``leaves``: of a tree, at most; ``tried``: the features
    that a split chooses from, scikit-learn's ``max_features``.
    """
    shape = _forest_shape(trees, depth, leaf, leaves, tried)
    features, right = _at_most(TREE_ROWS, features, right, seed)
    return _fitted(RandomForestClassifier(**shape, random_state=seed, n_jobs=1), features, right)


def et(
    features: Features,
    right: Rows,
    seed: int,
    *,
    trees: int = TREES,
    depth: int = DEPTH,
    leaf: int = 1,
    leaves: int | None = None,
    tried: str | float = "sqrt",
) -> FittedRouter:
    """Extremely randomised trees; the parameters are those of :func:`rf`."""
    shape = _forest_shape(trees, depth, leaf, leaves, tried)
    features, right = _at_most(TREE_ROWS, features, right, seed)
    return _fitted(ExtraTreesClassifier(**shape, random_state=seed, n_jobs=1), features, right)


def gbdt(
    features: Features,
    right: Rows,
    seed: int,
    *,
    trees: int = TREES,
    depth: int = BOOSTED_DEPTH,
    rate: float = 0.1,
    leaf: int = 1,
    leaves: int | None = None,
    share: float = 1.0,
    tried: str | float = 1.0,
) -> FittedRouter:
    """Gradient-boosted trees; ``rate``: of learning; ``share``: of the rows that a tree sees.

    ``leaf``, ``leaves`` and ``tried`` are those of :func:`rf`.
    """
    features, right = _at_most(TREE_ROWS, features, right, seed)
    boosted = GradientBoostingClassifier(
        n_estimators=trees,
        max_depth=depth,
        learning_rate=rate,
        min_samples_leaf=leaf,
        max_leaf_nodes=leaves,
        subsample=share,
        max_features=tried,
        random_state=seed,
    )
    return _fitted(boosted, features, right)


def xgb(
    features: Features,
    right: Rows,
    seed: int,
    *,
    trees: int = TREES,
    depth: int = BOOSTED_DEPTH,
    rate: float = 0.3,
    weight: float = 1.0,
    leaves: int = 0,
    share: float = 1.0,
) -> FittedRouter:
    """Extreme gradient boosting; ``weight``: the least Hessian in a leaf; ``leaves`` 0: any."""
    features, right = _at_most(TREE_ROWS, features, right, seed)
    boosted = XGBClassifier(
        n_estimators=trees,
        max_depth=depth,
        learning_rate=rate,
        min_child_weight=weight,
        max_leaves=leaves,
        subsample=share,
        random_state=seed,
        n_jobs=1,
    )
    return _fitted(boosted, features, right, by_onnxmltools)


def knn(
    features: Features,
    right: Rows,
    seed: int,
    *,
    neighbours: int = NEIGHBOURS,
    rows: int = KNN_ROWS,
) -> FittedRouter:
    """Weighted nearest neighbours."""
    features, right = _at_most(rows, features, right, seed)
    return Neighbours(features, right, neighbours=neighbours)


FAMILIES: dict[str, Family] = {
    "svm": svm,
    "rf": rf,
    "knn": knn,
    "gbdt": gbdt,
    "xgb": xgb,
    "et": et,
}


def _forest_shape(
    trees: int, depth: int, leaf: int, leaves: int | None, tried: str | float
) -> dict[str, Any]:
    """The parameters of both kinds of forest, as scikit-learn calls them."""
    return {
        "n_estimators": trees,
        "max_depth": depth,
        "min_samples_leaf": leaf,
        "max_leaf_nodes": leaves,
        "max_features": tried,
    }


def _fitted(
    model: Any, features: Features, right: Rows, convert: Converter = by_skl2onnx
) -> ConvertedRouter:
    model.fit(features, right)
    return ConvertedRouter(model, features.shape[1], convert)


def _at_most(rows: int, features: Features, right: Rows, seed: int) -> tuple[Features, Rows]:
    """A stratified draw of ``rows`` rows where there are more; ValueError unless of both kinds."""
    if not np.array_equal(np.unique(right), [0, 1]):
        raise ValueError(
            "a router is fitted on rows that the student gets right (1) and rows that it gets "
            f"wrong (0); the {len(right)} given hold {np.unique(right).tolist()}"
        )
    kept = at_most(rows, right, seed)
    return features[kept], right[kept]
