"""What a fitted router looks at.

A member computes features from the student's logits twice: in numpy, for fitting, and as ONNX
nodes that go in front of the converted classifier, so that every router file takes raw logits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from edge.errors import check_member


@dataclass(frozen=True)
class Feature:
    """One way to describe a row to a router.

    ``compute`` maps logits (float N×K) to features (float32 N×F). ``nodes`` is given the name
    of a float32 tensor N×K and returns the ONNX nodes that compute the same, with the name of
    their result.
    """

    compute: Callable[[NDArray[np.floating[Any]]], NDArray[np.float32]]
    nodes: Callable[[str], tuple[list[NodeProto], str]]


def _as_they_are(logits: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    return np.ascontiguousarray(logits, dtype=np.float32)


FEATURES: dict[str, Feature] = {
    # The paper's own choice (Zhang V-B).
    "logits": Feature(compute=_as_they_are, nodes=lambda source: ([], source)),
}


def feature(name: str) -> Feature:
    """The registered feature ``name``; BadInput where there is none."""
    check_member("router feature", name, FEATURES)
    return FEATURES[name]
