"""Student and router as one graph: the same decisions as the parts and the edge's rule."""

from __future__ import annotations

import math

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from routers import export
from routers.families import FAMILIES
from routers.features import FEATURES
from routers.labels import student_right
from routers.pair import TRUSTED, merge, with_threshold
from routers.scores import SCORES
from tests.edge.models import linear, max_softmax
from tests.routers.rows import student

CLASSES = 10


def run(model: bytes, images: NDArray[np.float32]) -> list[NDArray[np.generic]]:
    """Logits, scores and decisions, on one thread: more of them add up trees in another order."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    found: list[NDArray[np.generic]] = session.run(
        ["logits", "score", "trusted"], {"image": images}
    )
    return found


def as_student() -> bytes:
    """A student that gives its image of ten pixels back as logits, times four."""
    return linear((0.0,) * CLASSES, width=CLASSES)


def images_of(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    return (logits / np.float32(4)).reshape(-1, 1, 1, CLASSES).astype(np.float32)


@pytest.mark.parametrize("name", [*SCORES, *FAMILIES])
def test_the_graph_decides_as_its_parts_do(name: str) -> None:
    rows = student(1_500, CLASSES, seed=0)
    if name in SCORES:
        router = SCORES[name].to_onnx(CLASSES)
    else:
        right = student_right(rows.logits[:500], rows.labels[:500])
        router = FAMILIES[name](rows.logits[:500], right, 0).to_onnx(CLASSES, FEATURES["logits"])
    model = router.SerializeToString()
    expected = export.run(model, rows.logits)
    threshold = float(np.median(expected))

    opset = onnx.load_model_from_string(as_student())
    opset.opset_import[0].version = export.OPSET
    logits, score, trusted = run(
        merge(opset.SerializeToString(), model, threshold), images_of(rows.logits)
    )

    np.testing.assert_array_equal(logits, rows.logits)  # a quarter and four times are exact
    np.testing.assert_array_equal(score, expected)
    np.testing.assert_array_equal(trusted, expected >= threshold)


@given(st.floats(0.4, 0.6))
def test_a_threshold_between_two_float32_values_decides_as_it_says(threshold: float) -> None:
    # equal logits: a score of exactly one half
    model = merge(linear(), max_softmax(), threshold)
    _, score, trusted = run(model, np.zeros((1, 1, 1, 2), np.float32))
    assert trusted[0] == (float(score[0]) >= threshold)


@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
def test_logits_that_are_no_numbers_are_appealed_whatever_the_score(poison: float) -> None:
    model = merge(linear(), always_sure(), 0.5)
    images = np.array([[1.0, 0.0], [poison, 0.0]], np.float32).reshape(2, 1, 1, 2)
    _, score, trusted = run(model, images)
    assert score.tolist() == [1.0, 1.0]
    assert trusted.tolist() == [True, False]


def test_a_threshold_is_turned_and_nothing_else() -> None:
    at_once = merge(linear(), max_softmax(), 0.9)
    assert with_threshold(merge(linear(), max_softmax(), 0.1), 0.9) == at_once
    with pytest.raises(ValueError, match="holds no understudy"):
        with_threshold(linear(), 0.9)


def test_a_student_with_a_router_built_in_needs_no_other() -> None:
    both = onnx.load_model_from_string(merge(linear(), max_softmax(), 0.5))
    kept = [port for port in both.graph.output if port.name != TRUSTED]
    both.graph.ClearField("output")
    both.graph.output.extend(kept)
    for node in [node for node in both.graph.node if "understudy" in "".join(node.input)]:
        both.graph.node.remove(node)
    for tensor in [tensor for tensor in both.graph.initializer if "understudy" in tensor.name]:
        both.graph.initializer.remove(tensor)

    assert merge(both.SerializeToString(), None, 0.75) == merge(linear(), max_softmax(), 0.75)


@pytest.mark.parametrize(
    ("first", "second"), [(max_softmax(), max_softmax()), (linear(), linear()), (linear(), None)]
)
def test_files_that_are_no_pair_are_refused(first: bytes, second: bytes | None) -> None:
    with pytest.raises(ValueError, match="must"):
        merge(first, second, 0.5)


def always_sure() -> bytes:
    """A router that scores 1 whatever it is shown."""
    helper = onnx.helper
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMax", ["logits"], ["m"], axes=[1], keepdims=0),
            helper.make_node("IsNaN", ["m"], ["nan"]),
            helper.make_node("Cast", ["nan"], ["c"], to=onnx.TensorProto.FLOAT),
            helper.make_node("Mul", ["c", "nothing"], ["z"]),
            helper.make_node("Add", ["z", "one"], ["score"]),
        ],
        "sure",
        [helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor_value_info("score", onnx.TensorProto.FLOAT, ["n"])],
        [
            onnx.numpy_helper.from_array(np.array(1, np.float32), "one"),
            onnx.numpy_helper.from_array(np.array(0, np.float32), "nothing"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())
