"""Student and router as one ONNX graph: an image in; logits, score and decision out.

The decision is the edge's own rule, in the graph: *trusted* where the score is at the threshold or
above it. What is no number is never trusted, be it a score or one of the logits.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, TensorProto, helper, numpy_helper

LOGITS, SCORE, TRUSTED, THRESHOLD = "logits", "score", "trusted", "understudy.threshold"
#: before every name of the router's graph, which the student's may hold as well
PREFIX = "router."


def merge(student: bytes, router: bytes | None, threshold: float) -> bytes:
    """One graph of the two files.

    Args:
        student: ``image`` [N, C, H, W] → ``logits`` [N, K]; with a router built in, ``score`` too.
        router: ``logits`` [N, K] → ``score`` [N]; None where the student's graph gives the score.
        threshold: of the score; one that float32 cannot hold is rounded up, which decides alike.

    Returns:
        ``image`` → ``logits`` float32 [N, K], ``score`` float32 [N], ``trusted`` bool [N].

    Raises:
        ValueError: a file does not have the inputs and outputs named above.
    """
    model = onnx.load_model_from_string(student)
    needed = {LOGITS} if router is not None else {LOGITS, SCORE}
    missing = needed - {output.name for output in model.graph.output}
    if missing or len(model.graph.input) != 1:
        raise ValueError(f"the student must have one input and give {sorted(needed)}")
    if router is not None:
        _append(model, onnx.load_model_from_string(router))
    _decide(model.graph, threshold)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def with_threshold(pair: bytes, threshold: float) -> bytes:
    """The same graph with another threshold.

    Raises:
        ValueError: the graph was not made by :func:`merge`.
    """
    model = onnx.load_model_from_string(pair)
    for tensor in model.graph.initializer:
        if tensor.name == THRESHOLD:
            tensor.CopyFrom(_constant(threshold))
            return bytes(model.SerializeToString(deterministic=True))
    raise ValueError(f"the graph holds no {THRESHOLD}")


def _append(model: ModelProto, router: ModelProto) -> None:
    """Put the router's nodes behind the student's."""
    graph = router.graph
    if [port.name for port in graph.input] != [LOGITS] or SCORE not in _names(graph.output):
        raise ValueError(f"the router must turn {LOGITS} into {SCORE}")
    renamed = {LOGITS: LOGITS, SCORE: SCORE, "": ""}
    for node in graph.node:
        node.input[:] = [renamed.get(name, PREFIX + name) for name in node.input]
        node.output[:] = [renamed.get(name, PREFIX + name) for name in node.output]
        node.name = PREFIX + node.name if node.name else ""
    for tensor in graph.initializer:
        tensor.name = PREFIX + tensor.name
    model.graph.node.extend(graph.node)
    model.graph.initializer.extend(graph.initializer)
    model.graph.output.extend(port for port in graph.output if port.name == SCORE)
    model.ir_version = max(model.ir_version, router.ir_version)
    versions = {opset.domain: opset.version for opset in model.opset_import}
    for opset in router.opset_import:
        known = versions.setdefault(opset.domain, opset.version)
        if known != opset.version:
            raise ValueError(
                f"student and router use versions {known} and {opset.version} of the operators "
                f"{opset.domain or 'ai.onnx'}"
            )
    model.ClearField("opset_import")
    model.opset_import.extend(helper.make_opsetid(*item) for item in sorted(versions.items()))


def _decide(graph: GraphProto, threshold: float) -> None:
    nothing, last = f"{THRESHOLD}.nothing", f"{THRESHOLD}.axis"
    names = [f"{THRESHOLD}.{step}" for step in ("zeros", "zero", "checked")]
    graph.initializer.extend(
        [
            _constant(threshold),
            numpy_helper.from_array(np.array(0, np.float32), nothing),
            numpy_helper.from_array(np.array([1], np.int64), last),
        ]
    )
    graph.node.extend(
        [
            # 0 for finite logits; no number where one of them is none, or is infinite
            helper.make_node("Mul", [LOGITS, nothing], [names[0]]),
            helper.make_node("ReduceSum", [names[0], last], [names[1]], keepdims=0),
            helper.make_node("Add", [SCORE, names[1]], [names[2]]),
            helper.make_node("GreaterOrEqual", [names[2], THRESHOLD], [TRUSTED]),
        ]
    )
    batch = next(port for port in graph.output if port.name == LOGITS).type.tensor_type.shape.dim[0]
    rows = batch.dim_param or batch.dim_value or "N"
    graph.output.append(helper.make_tensor_value_info(TRUSTED, TensorProto.BOOL, [rows]))


def _constant(threshold: float) -> TensorProto:
    """The least float32 that is no smaller: scores are float32, and none lies in between."""
    value = np.float32(threshold)
    if float(value) < threshold:
        value = np.nextafter(value, np.float32(np.inf))
    return numpy_helper.from_array(np.array(value), THRESHOLD)


def _names(ports: Iterable[onnx.ValueInfoProto]) -> set[str]:
    return {port.name for port in ports}
