"""From a fitted classifier of scikit-learn or XGBoost to ONNX: two converters, and what both omit.

A converter takes a fitted two-class model and the width F of its features, and gives a graph from
float32 N×F to labels and probabilities N×2, as :func:`routers.onnx.export.from_classifier` reads
it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import onnx
import onnxmltools
import skl2onnx
from onnxmltools.convert.common.data_types import FloatTensorType as XgbFloatTensorType
from skl2onnx.common.data_types import FloatTensorType

from routers.onnx import export

Converter = Callable[[Any, int], onnx.ModelProto]
_XGB_OPSET = 15  # the newest that onnxmltools writes


def by_skl2onnx(model: Any, width: int) -> onnx.ModelProto:
    """skl2onnx rounds thresholds down to float32, so that x ≤ t says the same in both."""
    with warnings.catch_warnings():
        # skl2onnx 1.20 asks every SVC for what only SVC(probability=True) would have.
        warnings.filterwarnings("ignore", "Attribute `prob[AB]_` was deprecated", FutureWarning)
        converted: onnx.ModelProto = skl2onnx.convert_sklearn(
            model,
            initial_types=[("features", FloatTensorType([None, width]))],
            target_opset={"": export.OPSET, "ai.onnx.ml": export.ML_OPSET},
            # By identity: by name, the converter lists every tree of a forest to find out whose.
            options={id(model): {"zipmap": False}},
        )
    return _slim(converted)


def by_onnxmltools(model: Any, width: int) -> onnx.ModelProto:
    converted: onnx.ModelProto = onnxmltools.convert_xgboost(
        model,
        initial_types=[("features", XgbFloatTensorType([None, width]))],
        target_opset=_XGB_OPSET,
    )
    return _slim(converted)


def _slim(model: onnx.ModelProto) -> onnx.ModelProto:
    """``model`` without what the standard lets trees omit: a sixth of their file, all defaults."""
    for node in model.graph.node:
        kept = [attribute for attribute in node.attribute if not _idle(attribute)]
        del node.attribute[:]
        node.attribute.extend(kept)
    return model


def _idle(attribute: onnx.AttributeProto) -> bool:
    """Popularity of tree nodes, which nothing reads, and "missing goes right" everywhere."""
    if attribute.name == "nodes_missing_value_tracks_true":
        return not any(attribute.ints)
    return attribute.name == "nodes_hitrates"
