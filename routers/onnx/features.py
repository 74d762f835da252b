"""What a fitted router looks at.

A member computes features from the student's logits twice: in numpy, for fitting, and as ONNX
nodes that go in front of the converted classifier, so that every router file takes raw logits.
Trees decide by exact float32 values, so both must give the same ones: see
:mod:`routers.onnx.confidence`, which most members are made of.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from edge.errors import check_member
from routers.onnx import confidence
from routers.onnx.confidence import Quantity
from routers.onnx.nodes import Writer

# Sorted columns beyond these hardly differ from zero, and a router must stay small.
MOST_SORTED = 10
# The predicted class tells a router which classes the student gets wrong. It costs a column a
# class, and needs errors of every class: 100 errors, the number aimed at, are five for each of
# 20. Above that the columns would mostly be noise and weight.
MOST_CLASSES = 20
NORM = 4.0


@dataclass(frozen=True)
class Feature:
    """One way to describe a row to a router.

    ``compute`` maps logits (float N×K) to features (float32 N×F). ``nodes`` is given the name
    of a float32 tensor N×K and returns the ONNX nodes that compute the same, with the name of
    their result.
    """

    compute: Callable[[NDArray[np.floating[Any]]], NDArray[np.float32]]
    nodes: Callable[[str], tuple[list[NodeProto], str]]

    def width(self, classes: int) -> int:
        """F, the number of columns, for K = ``classes``."""
        return int(self.compute(np.zeros((1, classes), dtype=np.float32)).shape[1])


def _as_they_are(logits: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    return np.ascontiguousarray(logits, dtype=np.float32)


def _of(*quantities: Quantity) -> Feature:
    columns = confidence.side_by_side(quantities)

    def nodes(source: str) -> tuple[list[NodeProto], str]:
        write = Writer("feature_")
        result = columns.write(write, source)
        return write.nodes, result

    return Feature(columns.of, nodes)


FEATURES: dict[str, Feature] = {
    # F = K. The paper's own choice (Zhang V-B).
    "logits": Feature(compute=_as_they_are, nodes=lambda source: ([], source)),
    # F = min(K, 10): how the probability is spread, whichever the classes.
    "sorted_probabilities": _of(confidence.largest(confidence.probabilities(), MOST_SORTED)),
    # F = min(K, 10) + 5, and K more where K ≤ 20: the shape of the row, the scores that trees
    # would have to piece together from single columns, and the predicted class.
    "derived": _of(
        confidence.largest(confidence.centred_logits(), MOST_SORTED),
        confidence.max_softmax(),
        confidence.margin(),
        confidence.entropy(),
        confidence.energy(),
        confidence.max_logit_pnorm(NORM),
        confidence.predicted_class(MOST_CLASSES),
    ),
}


def feature(name: str) -> Feature:
    """The registered feature ``name``; BadInput where there is none."""
    check_member("router feature", name, FEATURES)
    return FEATURES[name]
