"""Answer or appeal, worked by hand on the two-pixel pair of tests/edge/models.py."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from edge import runtime
from edge.errors import BadInput
from edge.runtime import Cloud, EdgeRuntime, OnnxTeacher
from routers.onnx.pair import merge
from tests.edge.models import (
    PREPROCESS,
    bundle_at,
    linear,
    max_softmax,
    pixels,
)

LEFT, TIE, RIGHT = (255, 0), (255, 255), (0, 255)

# Logits (4, 0): softmax e⁴/(e⁴ + 1) = .98201...
SURE = math.exp(4) / (math.exp(4) + 1)


@pytest.fixture
def edge(tmp_path: Path) -> EdgeRuntime:
    return EdgeRuntime(bundle_at(tmp_path / "bundle", threshold=0.75))


@pytest.fixture
def teacher(tmp_path: Path) -> OnnxTeacher:
    path = tmp_path / "teacher.onnx"
    path.write_bytes(linear((0.0, 2.0), names=("x", "y")))
    return OnnxTeacher(path, PREPROCESS, classes=2)


def test_sure_images_are_trusted_and_a_tie_is_appealed(edge: EdgeRuntime) -> None:
    left, tie, right = edge.decide(pixels(LEFT, TIE, RIGHT))
    assert (left.label, left.class_name, left.trusted) == (0, "left", True)
    assert (right.label, right.class_name, right.trusted) == (1, "right", True)
    assert left.probability == pytest.approx(SURE, abs=1e-6)
    assert left.score == pytest.approx(SURE, abs=1e-6)
    # Logits (4, 4): both classes at one half; the first one stands, below the threshold of .75.
    assert (tie.label, tie.probability, tie.score, tie.trusted) == (0, 0.5, 0.5, False)


@pytest.mark.parametrize(
    ("threshold", "trusted"),
    [(0.5, True), (math.nextafter(0.5, 1), False), (math.nextafter(0.5, 0), True)],
)
def test_a_score_at_the_threshold_is_trusted(
    tmp_path: Path, threshold: float, trusted: bool
) -> None:
    # The thresholds next to .5 exist in float64 only: rounding to float32 would blur them.
    edge = EdgeRuntime(bundle_at(tmp_path / "bundle", threshold=threshold))
    assert [d.trusted for d in edge.decide(pixels(TIE))] == [trusted]


def test_without_a_cloud_the_student_answers_everything(edge: EdgeRuntime) -> None:
    answers = edge.answer(pixels(LEFT, TIE))
    assert [a.answered_by for a in answers] == ["student", "student"]
    assert [a.decision.trusted for a in answers] == [True, False]
    assert not any(a.appeal_failed for a in answers)


def test_only_appeals_go_to_the_teacher_and_its_answer_stands(
    edge: EdgeRuntime, teacher: OnnxTeacher
) -> None:
    asked: list[NDArray[np.float32]] = []

    def cloud(inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        asked.append(inputs)
        return teacher(inputs)

    left, tie, right, again = edge.answer(pixels(LEFT, TIE, RIGHT, TIE), cloud)
    # One call with the two ties, as the student's own inputs: 255/255 = 1.
    assert len(asked) == 1
    assert asked[0].dtype == np.float32
    np.testing.assert_array_equal(asked[0], np.ones((2, 1, 1, 2)))
    assert (left.answered_by, left.label) == ("student", 0)
    assert (right.answered_by, right.label) == ("student", 1)
    # The teacher's logits (4, 6): the second class, at e²/(e² + 1).
    assert (tie.answered_by, tie.label, tie.class_name) == ("teacher", 1, "right")
    assert tie.probability == pytest.approx(math.exp(2) / (math.exp(2) + 1), abs=1e-6)
    assert tie.decision.label == 0
    assert again == tie


def test_a_cloud_is_not_called_when_all_is_trusted(edge: EdgeRuntime) -> None:
    def cloud(inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        raise AssertionError("nothing was to be asked")

    assert [a.appeal_failed for a in edge.answer(pixels(LEFT, RIGHT), cloud)] == [False, False]


def timeout(inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    raise TimeoutError("no reply in 5 s")


def too_few(inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.zeros((len(inputs) - 1, 2), np.float32)


def no_numbers(inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.full((len(inputs), 2), np.nan, np.float32)


@pytest.mark.parametrize(
    ("cloud", "reason"),
    [(timeout, "no reply in 5 s"), (too_few, "(1, 2)"), (no_numbers, "no numbers")],
)
def test_the_edge_answers_even_when_the_cloud_does_not(
    edge: EdgeRuntime, cloud: Cloud, reason: str
) -> None:
    left, *ties = edge.answer(pixels(LEFT, TIE, TIE), cloud)
    assert not left.appeal_failed
    for tie in ties:
        assert (tie.label, tie.answered_by, tie.appeal_failed) == (0, "student", True)
        assert tie.probability == 0.5
        assert tie.reason is not None
        assert reason in tie.reason


def test_ctrl_c_is_not_mistaken_for_a_failing_cloud(edge: EdgeRuntime) -> None:
    def cloud(inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        edge.answer(pixels(TIE), cloud)


def test_appeals_go_out_in_chunks_and_one_lost_chunk_costs_only_its_own_rows(
    edge: EdgeRuntime, teacher: OnnxTeacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "CHUNK", 2)
    sizes: list[int] = []

    def cloud(inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        sizes.append(len(inputs))
        if len(sizes) == 2:
            raise ConnectionError("lost")
        return teacher(inputs)

    answers = edge.answer(pixels(TIE, TIE, LEFT, TIE, TIE, TIE), cloud)
    assert sizes == [2, 2, 1]
    by = [(a.answered_by, a.appeal_failed) for a in answers]
    assert by == [
        ("teacher", False),
        ("teacher", False),
        ("student", False),
        ("student", True),
        ("student", True),
        ("teacher", False),
    ]


def test_no_images_give_no_answers(edge: EdgeRuntime, teacher: OnnxTeacher) -> None:
    assert edge.logits(pixels()).shape == (0, 2)
    assert edge.decide(pixels()) == []
    assert edge.answer(pixels(), teacher) == []


def test_a_large_batch_gives_what_single_images_give(
    edge: EdgeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (700, 1, 2, 1), dtype=np.uint8)
    together = edge.logits(images)
    np.testing.assert_allclose(together, images.reshape(700, 2) * (4 / 255), rtol=1e-6)
    for row in (0, 255, 256, 511, 512, 699):
        np.testing.assert_array_equal(edge.logits(images[row : row + 1])[0], together[row])


def test_logits_that_are_no_numbers_are_never_trusted(tmp_path: Path) -> None:
    # A router that is always sure: its score is 1 even for NaN, as a tree's may be.
    one = helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])
    graph = helper.make_graph(
        [
            helper.make_node("Shape", ["logits"], ["rows"], start=0, end=1),
            helper.make_node("ConstantOfShape", ["rows"], ["score"], value=one),
        ],
        "sure",
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n"])],
    )
    sure = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    bundle = bundle_at(
        tmp_path / "bundle",
        student=linear((math.nan, 0.0)),
        router=sure.SerializeToString(),
    )
    (decision,) = EdgeRuntime(bundle).decide(pixels(LEFT))
    assert decision.score == 1.0
    assert not decision.trusted
    assert decision.probability == 0.0


def test_images_of_another_shape_are_refused(edge: EdgeRuntime) -> None:
    with pytest.raises(BadInput, match=r"images: got uint8 \(1, 2, 1, 1\)"):
        edge.decide(np.zeros((1, 2, 1, 1), np.uint8))


def test_an_answer_can_be_written_as_json(edge: EdgeRuntime, teacher: OnnxTeacher) -> None:
    (answer,) = edge.answer(pixels(TIE), teacher)
    values = {**vars(answer), "decision": vars(answer.decision)}
    assert json.loads(json.dumps(values, allow_nan=False))["answered_by"] == "teacher"


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (merge(linear(width=3), max_softmax(), 0.75), "has another input"),
        (merge(linear(names=("x", "logits")), max_softmax(), 0.75), "has another input"),
        (merge(linear((0.0, 0.0, 0.0)), max_softmax(3), 0.75), "gives an output logits that"),
        (
            merge(linear(), max_softmax(keepdims=True), 0.75),
            "gives an output score that does not fit",
        ),
        (linear(), "cannot be run"),
        (b"no model", "cannot be loaded"),
    ],
)
def test_a_graph_that_does_not_fit_the_manifest_is_refused_at_once(
    tmp_path: Path, pair: bytes, message: str
) -> None:
    bundle = bundle_at(tmp_path / "bundle", pair=pair)
    with pytest.raises(BadInput, match=rf"pair\.onnx {message}"):
        EdgeRuntime(bundle)


def test_a_file_changed_after_loading_is_not_run(tmp_path: Path) -> None:
    bundle = bundle_at(tmp_path / "bundle")
    other = merge(linear((0.0, 9.0)), max_softmax(), 0.75)
    assert len(other) == bundle.manifest.pair.bytes
    (bundle.path / "pair.onnx").write_bytes(other)
    with pytest.raises(BadInput, match=r"SHA-256 of .*pair\.onnx"):
        EdgeRuntime(bundle)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "no such file"),
        (b"", "cannot be loaded"),
        (b"PK\x03\x04 a zip", "cannot be loaded"),
        (linear((0.0, 0.0, 0.0)), r"got float32 \(1, 3\); expected float32 \(1, 2\)"),
        (linear(width=3), "has another input than it should"),
        (max_softmax(), "has another input than it should"),
    ],
)
def test_a_file_that_is_not_this_teacher_is_refused_by_name(
    tmp_path: Path, data: bytes | None, message: str
) -> None:
    path = tmp_path / "t.onnx"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(BadInput, match=message) as caught:
        OnnxTeacher(path, PREPROCESS, classes=2)
    assert str(path) in str(caught.value)


def test_a_teacher_exported_for_single_images_answers_batches(tmp_path: Path) -> None:
    path = tmp_path / "t.onnx"
    path.write_bytes(linear((0.0, 2.0), batch=1))
    logits = OnnxTeacher(path, PREPROCESS, 2)(PREPROCESS.to_input(pixels(LEFT, TIE, RIGHT)))
    np.testing.assert_allclose(logits, [[4, 2], [4, 6], [0, 6]], rtol=1e-6)
