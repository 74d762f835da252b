"""The six families of supervised routers (Zhang VI-A): SVM, RF, KNN, GBDT, XGB, ET.

A member is a function of features (float32 N×F), right (int N, 1 = the student is right, both
values present) and a seed, and one line in :data:`FAMILIES`. Sizes are modest and depth is
capped: a router guards a small student and must not outweigh it (the paper's forests reached
44 MB). Everything runs on one thread; the caller parallelises.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import onnx
import onnxmltools
import skl2onnx
from numpy.typing import NDArray
from onnxmltools.convert.common.data_types import FloatTensorType as XgbFloatTensorType
from skl2onnx.common.data_types import FloatTensorType
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.model_selection import StratifiedKFold, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from xgboost import XGBClassifier

from routers import export
from routers.features import FEATURES, Feature
from routers.knn import Neighbours

Features = NDArray[np.float32]
Rows = NDArray[np.int64]

TREES, DEPTH = 100, 8
BOOSTED_DEPTH = 3
NEIGHBOURS = 15
# The SVM's kernel matrix grows with the square of the rows, the size of KNN with the rows.
SVM_ROWS, KNN_ROWS = 3000, 2000
_XGB_OPSET = 15  # the newest that onnxmltools writes


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
Converter = Callable[[Any, int], onnx.ModelProto]


def _by_skl2onnx(model: Any, width: int) -> onnx.ModelProto:
    """skl2onnx rounds thresholds down to float32, so that x ≤ t says the same in both."""
    with warnings.catch_warnings():
        # skl2onnx 1.20 asks every SVC for what only SVC(probability=True) would have.
        warnings.filterwarnings("ignore", "Attribute `prob[AB]_` was deprecated", FutureWarning)
        converted: onnx.ModelProto = skl2onnx.convert_sklearn(
            model,
            initial_types=[("features", FloatTensorType([None, width]))],
            target_opset={"": export.OPSET, "ai.onnx.ml": export.ML_OPSET},
            options={"zipmap": False},
        )
    return converted


def _by_onnxmltools(model: Any, width: int) -> onnx.ModelProto:
    converted: onnx.ModelProto = onnxmltools.convert_xgboost(
        model,
        initial_types=[("features", XgbFloatTensorType([None, width]))],
        target_opset=_XGB_OPSET,
    )
    return converted


@dataclass(frozen=True)
class ConvertedRouter:
    """A router whose model has scikit-learn's interface and a converter to ONNX."""

    model: Any
    width: int
    convert: Converter = _by_skl2onnx

    def score(self, features: Features, /) -> NDArray[np.float64]:
        return np.asarray(self.model.predict_proba(features)[:, 1], dtype=np.float64)

    def to_onnx(self, classes: int, feature: Feature = FEATURES["logits"]) -> onnx.ModelProto:
        return export.from_classifier(self.convert(self.model, self.width), feature, classes)


def svm(features: Features, right: Rows, seed: int) -> FittedRouter:
    """RBF support vectors, calibrated by Platt's sigmoid over folds; the paper's own advice."""
    features, right = _at_most(SVM_ROWS, features, right, seed)
    folds = StratifiedKFold(
        max(2, min(5, int(np.bincount(right, minlength=2).min()))), shuffle=True, random_state=seed
    )
    return _fitted(
        make_pipeline(
            StandardScaler(), CalibratedClassifierCV(SVC(), cv=folds, ensemble=False, n_jobs=1)
        ),
        features,
        right,
    )


def rf(features: Features, right: Rows, seed: int) -> FittedRouter:
    """A random forest."""
    forest = RandomForestClassifier(TREES, max_depth=DEPTH, random_state=seed, n_jobs=1)
    return _fitted(forest, features, right)


def et(features: Features, right: Rows, seed: int) -> FittedRouter:
    """Extremely randomised trees."""
    forest = ExtraTreesClassifier(TREES, max_depth=DEPTH, random_state=seed, n_jobs=1)
    return _fitted(forest, features, right)


def gbdt(features: Features, right: Rows, seed: int) -> FittedRouter:
    """Gradient-boosted trees."""
    boosted = GradientBoostingClassifier(
        n_estimators=TREES, max_depth=BOOSTED_DEPTH, random_state=seed
    )
    return _fitted(boosted, features, right)


def xgb(features: Features, right: Rows, seed: int) -> FittedRouter:
    """Extreme gradient boosting."""
    boosted = XGBClassifier(
        n_estimators=TREES, max_depth=BOOSTED_DEPTH, random_state=seed, n_jobs=1
    )
    return _fitted(boosted, features, right, _by_onnxmltools)


def knn(features: Features, right: Rows, seed: int) -> FittedRouter:
    """Weighted nearest neighbours."""
    features, right = _at_most(KNN_ROWS, features, right, seed)
    return Neighbours(features, right, neighbours=NEIGHBOURS)


FAMILIES: dict[str, Family] = {
    "svm": svm,
    "rf": rf,
    "knn": knn,
    "gbdt": gbdt,
    "xgb": xgb,
    "et": et,
}


def _fitted(
    model: Any, features: Features, right: Rows, convert: Converter = _by_skl2onnx
) -> ConvertedRouter:
    model.fit(features, right)
    return ConvertedRouter(model, features.shape[1], convert)


def _at_most(rows: int, features: Features, right: Rows, seed: int) -> tuple[Features, Rows]:
    """A stratified draw of ``rows`` rows where there are more."""
    if len(right) <= rows:
        return features, right
    kept, _ = train_test_split(
        np.arange(len(right)), train_size=rows, stratify=right, random_state=seed
    )
    kept.sort()
    return features[kept], right[kept]
