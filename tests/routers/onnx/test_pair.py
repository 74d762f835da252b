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

from routers.models.families import FAMILIES
from routers.models.scores import SCORES
from routers.onnx import export
from routers.onnx.features import FEATURES
from routers.onnx.pair import TRUSTED, merge, with_threshold
from routers.selection.labels import student_right
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


@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, 4, CLASSES - 1])
def test_images_that_are_no_numbers_are_appealed_by_a_student_that_hides_them(
    poison: float, place: int
) -> None:
    """Quantised, every pixel becomes a finite number: logits and score look sound."""
    model = merge(quantised(as_student()), always_sure(CLASSES), 0.5)
    images = np.zeros((3, 1, 1, CLASSES), np.float32)
    images[1, ..., place] = poison
    images[2] = poison
    logits, score, trusted = run(model, images)
    assert np.isfinite(logits).all()
    assert score.tolist() == [1.0, 1.0, 1.0]
    assert trusted.tolist() == [True, False, False]


def test_a_score_that_is_no_number_is_appealed() -> None:
    model = merge(as_student(), never_a_number(CLASSES), -1.0)
    _, score, trusted = run(model, np.ones((2, 1, 1, CLASSES), np.float32))
    assert np.isnan(score.astype(np.float32)).all()
    assert trusted.tolist() == [False, False]


def test_what_ships_declares_what_it_uses_and_names_its_batch_alike_everywhere() -> None:
    router = SCORES["margin"].to_onnx(CLASSES).SerializeToString()
    student = onnx.load_model_from_string(as_student())
    for domain in ("ai.onnx.ml", "com.microsoft", "ai.onnx.preview.training"):
        student.opset_import.append(onnx.helper.make_opsetid(domain, 5))
    model = onnx.load_model_from_string(merge(student.SerializeToString(), router, 0.5))
    assert [item.domain for item in model.opset_import] == [""]
    ports = [*model.graph.input, *model.graph.output]
    assert [port.name for port in ports] == ["image", "logits", "score", "trusted"]
    assert {port.type.tensor_type.shape.dim[0].dim_param for port in ports} == {"batch"}


def test_the_file_says_what_it_is() -> None:
    facts = {"class_names": '["left", "right"]', "router": "max_softmax"}
    pair = merge(linear(), max_softmax(), 0.1, facts, "Two pixels.")
    model = onnx.load_model_from_string(with_threshold(pair, 0.9))
    assert model.doc_string == "Two pixels."
    said = {item.key: item.value for item in model.metadata_props}
    assert {name: said[name] for name in facts} == facts
    assert np.float32(said["threshold"]) >= 0.9


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
    for node in [n for n in both.graph.node if "understudy" in "".join([*n.input, *n.output])]:
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


def quantised(model: bytes) -> bytes:
    """The same student behind a quantisation of its image, as int8 students begin."""
    found = onnx.load_model_from_string(model)
    helper = onnx.helper
    for node in found.graph.node:
        node.input[:] = ["dequantised" if name == "image" else name for name in node.input]
    before = [
        helper.make_node("QuantizeLinear", ["image", "q_scale", "q_zero"], ["quantised"]),
        helper.make_node("DequantizeLinear", ["quantised", "q_scale", "q_zero"], ["dequantised"]),
    ]
    after = list(found.graph.node)
    del found.graph.node[:]
    found.graph.node.extend([*before, *after])
    found.graph.initializer.extend(
        [
            onnx.numpy_helper.from_array(np.array(0.1, np.float32), "q_scale"),
            onnx.numpy_helper.from_array(np.array(128, np.uint8), "q_zero"),
        ]
    )
    return bytes(found.SerializeToString())


def never_a_number(classes: int) -> bytes:
    """A router whose every score is 0/0."""
    helper = onnx.helper
    nodes = [
        helper.make_node("ReduceMax", ["logits"], ["m"], axes=[1], keepdims=0),
        helper.make_node("Sub", ["m", "m"], ["z"]),
        helper.make_node("Div", ["z", "z"], ["score"]),
    ]
    graph = helper.make_graph(
        nodes,
        "never",
        [helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["n", classes])],
        [helper.make_tensor_value_info("score", onnx.TensorProto.FLOAT, ["n"])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def always_sure(classes: int = 2) -> bytes:
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
        [helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["n", classes])],
        [helper.make_tensor_value_info("score", onnx.TensorProto.FLOAT, ["n"])],
        [
            onnx.numpy_helper.from_array(np.array(1, np.float32), "one"),
            onnx.numpy_helper.from_array(np.array(0, np.float32), "nothing"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())
