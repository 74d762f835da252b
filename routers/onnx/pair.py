"""Student and router as one ONNX graph: an image in; logits, score and decision out.

The decision is the edge's own rule, in the graph: *trusted* where the score is at the threshold or
above it. What is no number is never trusted, be it a pixel, one of the logits, or the score. The
pixels are looked at themselves: quantisation makes a finite number of NaN, and so does a ReLU in
some runtimes, and there are those in which NaN is at least as large as a threshold.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from envs.export.opsets import agreed
from envs.export.tidy import BATCH, set_facts, tidy

IMAGE, LOGITS, SCORE, TRUSTED = "image", "logits", "score", "trusted"
#: name of the threshold in the graph; and in the facts that the file states
THRESHOLD, STATED = "understudy.threshold", "threshold"
#: before every name of the router's graph, which the student's may hold as well
PREFIX = "router."


def merge(
    student: bytes,
    router: bytes | None,
    threshold: float,
    facts: Mapping[str, str] | None = None,
    words: str = "",
) -> bytes:
    """One graph of the two files.

    Args:
        student: ``image`` [N, C, H, W] → ``logits`` [N, K]; with a router built in, ``score`` too.
        router: ``logits`` [N, K] → ``score`` [N]; None where the student's graph gives the score.
        threshold: of the score; one that float32 cannot hold is rounded up, which decides alike.
        facts: what the file says of itself in ``metadata_props``, beside the threshold.
        words: its doc string.

    Returns:
        ``image`` → ``logits`` float32 [N, K], ``score`` float32 [N], ``trusted`` bool [N].

    Raises:
        ValueError: a file does not have the inputs and outputs named above, or they use operators
            that cannot stand in one file.
    """
    model = onnx.load_model_from_string(student)
    needed = {LOGITS} if router is not None else {LOGITS, SCORE}
    missing = needed - {output.name for output in model.graph.output}
    if missing or len(model.graph.input) != 1:
        raise ValueError(f"the student must have one input and give {sorted(needed)}")
    if router is not None:
        model, behind = agreed(model, onnx.load_model_from_string(router))
        _append(model, behind)
    _decide(model.graph, threshold)
    tidy(model, "pair")
    model.doc_string = words
    set_facts(model, {**(facts or {}), STATED: _stated(threshold)})
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
            facts = {item.key: item.value for item in model.metadata_props}
            set_facts(model, {**facts, STATED: _stated(threshold)})
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


def _decide(graph: GraphProto, threshold: float) -> None:
    one, half = f"{THRESHOLD}.axis", f"{THRESHOLD}.half"
    graph.initializer.extend(
        [
            _constant(threshold),
            numpy_helper.from_array(np.array([1], np.int64), one),
            numpy_helper.from_array(np.array(0.5, np.float32), half),
        ]
    )
    flat, many, high, sound = (f"{THRESHOLD}.{step}" for step in ("flat", "bad", "high", "sound"))
    graph.node.append(helper.make_node("Flatten", [graph.input[0].name], [flat], axis=1))
    pixels = _unsound(graph, flat, one)
    logits = _unsound(graph, LOGITS, one)
    graph.node.extend(
        [
            # counts of what is no number: 0 decides alike in every precision
            helper.make_node("Add", [pixels, logits], [many]),
            helper.make_node("Less", [many, half], [sound]),
            helper.make_node("IsNaN", [SCORE], [f"{THRESHOLD}.nan"]),
            helper.make_node("Not", [f"{THRESHOLD}.nan"], [f"{THRESHOLD}.number"]),
            helper.make_node("GreaterOrEqual", [SCORE, THRESHOLD], [high]),
            helper.make_node("And", [high, f"{THRESHOLD}.number"], [f"{THRESHOLD}.sure"]),
            helper.make_node("And", [f"{THRESHOLD}.sure", sound], [TRUSTED]),
        ]
    )
    batch = next(port for port in graph.output if port.name == LOGITS).type.tensor_type.shape.dim[0]
    rows = batch.dim_value or BATCH
    graph.output.append(helper.make_tensor_value_info(TRUSTED, TensorProto.BOOL, [rows]))


def _unsound(graph: GraphProto, source: str, axis: str) -> str:
    """Write how many numbers of each row of ``source`` [N, F] are NaN or infinite, [N]."""
    at = f"{THRESHOLD}.{source.removeprefix(f'{THRESHOLD}.')}"
    nan, inf, either, number, count = (
        f"{at}.{step}" for step in ("nan", "inf", "either", "number", "count")
    )
    nodes: list[NodeProto] = [
        helper.make_node("IsNaN", [source], [nan]),
        helper.make_node("IsInf", [source], [inf]),
        helper.make_node("Or", [nan, inf], [either]),
        helper.make_node("Cast", [either], [number], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", [number, axis], [count], keepdims=0),
    ]
    graph.node.extend(nodes)
    return count


def _stated(threshold: float) -> str:
    """As the decision knows it: the float32 value, in the fewest digits that give it back."""
    return repr(float(numpy_helper.to_array(_constant(threshold))))


def _constant(threshold: float) -> TensorProto:
    """The least float32 that is no smaller: scores are float32, and none lies in between."""
    value = np.float32(threshold)
    if float(value) < threshold:
        value = np.nextafter(value, np.float32(np.inf))
    return numpy_helper.from_array(np.array(value), THRESHOLD)


def _names(ports: Iterable[onnx.ValueInfoProto]) -> set[str]:
    return {port.name for port in ports}
