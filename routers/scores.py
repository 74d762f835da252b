"""Scores that need no fitting: the baselines that every ranking holds (AppealNet V).

A member is one function in numpy, one list of ONNX nodes and one line in :data:`SCORES`. All
are turned so that higher = trust. The softmax is stable: the largest logit is subtracted first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, helper

from routers import export

Logits = NDArray[np.floating[Any]]
Floats = NDArray[np.float64]
Constants = dict[str, NDArray[Any]]

_AXIS = {"axis_one": np.array([1], dtype=np.int64)}


@dataclass(frozen=True)
class Score:
    """A function of logits (float N×K, K ≥ 2) to N scores, and the same as ONNX nodes."""

    compute: Callable[[Logits], Floats]
    nodes: Callable[[], tuple[list[NodeProto], Constants]]

    def score(self, logits: Logits, /) -> Floats:
        """N scores, higher = trust, for logits N×K."""
        return self.compute(logits)

    def to_onnx(self, classes: int) -> onnx.ModelProto:
        """The router file: ``logits`` float32 [N, classes] in, ``score`` float32 [N] out."""
        nodes, constants = self.nodes()
        return export.build(nodes, classes, constants)


def _log_softmax(logits: Logits) -> Floats:
    z = np.asarray(logits, dtype=np.float64)
    z = z - z.max(axis=1, keepdims=True)
    result: Floats = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    return result


def _max_softmax(logits: Logits) -> Floats:
    """The largest probability."""
    result: Floats = np.exp(_log_softmax(logits).max(axis=1))
    return result


def _max_softmax_nodes() -> tuple[list[NodeProto], Constants]:
    return [
        helper.make_node("Softmax", [export.INPUT], ["p"], axis=1),
        helper.make_node("ReduceMax", ["p", "axis_one"], [export.OUTPUT], keepdims=0),
    ], _AXIS


def _margin(logits: Logits) -> Floats:
    """The largest probability minus the second largest."""
    two = np.sort(np.exp(_log_softmax(logits)), axis=1)[:, -2:]
    result: Floats = two[:, 1] - two[:, 0]
    return result


def _margin_nodes() -> tuple[list[NodeProto], Constants]:
    return [
        helper.make_node("Softmax", [export.INPUT], ["p"], axis=1),
        helper.make_node("TopK", ["p", "two"], ["top", "top_index"], axis=1),
        helper.make_node("Gather", ["top", "first"], ["largest"], axis=1),
        helper.make_node("Gather", ["top", "second"], ["runner_up"], axis=1),
        helper.make_node("Sub", ["largest", "runner_up"], [export.OUTPUT]),
    ], {
        "two": np.array([2], dtype=np.int64),
        "first": np.array(0, dtype=np.int64),
        "second": np.array(1, dtype=np.int64),
    }


def _entropy(logits: Logits) -> Floats:
    """Minus the entropy of the probabilities, in nats: −ln K to 0."""
    log_p = _log_softmax(logits)
    result: Floats = np.sum(np.exp(log_p) * log_p, axis=1)
    return result


def _entropy_nodes() -> tuple[list[NodeProto], Constants]:
    return [
        helper.make_node("LogSoftmax", [export.INPUT], ["log_p"], axis=1),
        helper.make_node("Exp", ["log_p"], ["p"]),
        helper.make_node("Mul", ["p", "log_p"], ["terms"]),
        helper.make_node("ReduceSum", ["terms", "axis_one"], [export.OUTPUT], keepdims=0),
    ], _AXIS


SCORES: dict[str, Score] = {
    "max_softmax": Score(_max_softmax, _max_softmax_nodes),
    "margin": Score(_margin, _margin_nodes),
    "entropy": Score(_entropy, _entropy_nodes),
}
