"""Routers as ONNX files: one input ``logits`` (float32 [N, K]), one output ``score`` (float32 [N]).

Whatever the router is inside, the device sees that and nothing else. Higher = trust.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from envs.export.tidy import BATCH, PRODUCER, tidy
from routers.onnx.features import Feature

INPUT, OUTPUT = "logits", "score"
# Old enough for any runtime the edge is likely to have, new enough for axes as an input.
OPSET, ML_OPSET, IR_VERSION = 18, 3, 8
TOLERANCE = 1e-5


class ExportMismatch(RuntimeError):
    """The ONNX file does not compute what the Python object computes."""


def build(
    nodes: Sequence[NodeProto],
    classes: int,
    constants: dict[str, NDArray[Any]] | None = None,
) -> onnx.ModelProto:
    """A checked model of ``nodes`` from ``logits`` [N, classes] to ``score`` [N]."""
    tensors = [numpy_helper.from_array(value, key) for key, value in (constants or {}).items()]
    return _model(nodes, tensors, classes)


def from_classifier(converted: onnx.ModelProto, feature: Feature, classes: int) -> onnx.ModelProto:
    """A converter's two-class classifier as a router.

    ``converted`` has one input, the features, and two outputs, labels and probabilities [N, 2]
    of (student wrong, student right), as skl2onnx (without ZipMap) and onnxmltools write them.
    The second probability becomes the score, what leads to the label alone is dropped, and the
    feature's own nodes are put in front.
    """
    graph = converted.graph
    front, features = feature.nodes(INPUT)
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in graph.node]
    for node in nodes:
        node.input[:] = [features if name == graph.input[0].name else name for name in node.input]
    second = numpy_helper.from_array(np.array(1, dtype=np.int64), "second_class")
    tail = helper.make_node("Gather", [graph.output[1].name, second.name], [OUTPUT], axis=1)
    return _model([*front, *nodes, tail], [*graph.initializer, second], classes)


def run(model: bytes, logits: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """The scores of ``model``, a serialised router, for logits N×K."""
    score: NDArray[np.float32] = _session(model).run(
        [OUTPUT], {INPUT: np.ascontiguousarray(logits, dtype=np.float32)}
    )[0]
    return score


def check_export(
    expected: NDArray[np.floating[Any]],
    model: bytes,
    logits: NDArray[np.floating[Any]],
    tol: float = TOLERANCE,
) -> NDArray[np.float32]:
    """The scores of ``model`` for ``logits`` N×K, once they agree with the Python object's.

    Raises ExportMismatch where one of them is further than ``tol`` from ``expected`` (N), or is
    not a number.
    """
    found = run(model, logits)
    if found.shape != expected.shape:
        raise ExportMismatch(f"the export's scores have shape {found.shape}, not {expected.shape}")
    worst = float(np.max(np.abs(expected - found), initial=0.0))
    if not worst <= tol:
        raise ExportMismatch(
            f"the export's scores differ by up to {worst:.2g} from the fitted router's "
            f"({tol:.0e} is allowed)"
        )
    return found


def microseconds(model: bytes, logits: NDArray[np.floating[Any]], *, runs: int = 200) -> float:
    """The median time of one row in ONNX Runtime on one thread, here and now."""
    session = _session(model)
    feed = {INPUT: np.ascontiguousarray(logits[:1], dtype=np.float32)}
    for _ in range(20):
        session.run([OUTPUT], feed)
    times = []
    for _ in range(runs):
        begun = time.perf_counter()
        session.run([OUTPUT], feed)
        times.append(time.perf_counter() - begun)
    return statistics.median(times) * 1e6


def _session(model: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _model(
    nodes: Sequence[NodeProto], tensors: Sequence[TensorProto], classes: int
) -> onnx.ModelProto:
    needed = _leading_to(nodes, OUTPUT)
    read = {name for node in needed for name in node.input}
    graph = helper.make_graph(
        needed,
        "router",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [BATCH, classes])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [BATCH])],
        [tensor for tensor in tensors if tensor.name in read],
    )
    versions = {"": OPSET, "ai.onnx.ml": ML_OPSET}
    domains = {""} | {node.domain for node in needed}
    model = helper.make_model(
        graph,
        producer_name=PRODUCER,
        opset_imports=[helper.make_opsetid(name, versions[name]) for name in sorted(domains)],
        ir_version=IR_VERSION,
    )
    onnx.checker.check_model(tidy(model), full_check=True)
    return model


def _leading_to(nodes: Sequence[NodeProto], output: str) -> list[NodeProto]:
    """Those of ``nodes``, in their order, that ``output`` depends on."""
    wanted, kept = {output}, []
    for node in reversed(nodes):
        if wanted & set(node.output):
            wanted.update(node.input)
            kept.append(node)
    return kept[::-1]
