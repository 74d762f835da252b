from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import NodeProto, helper, numpy_helper

from routers.models.families import FAMILIES
from routers.models.scores import SCORES
from routers.onnx import export
from routers.onnx.features import FEATURES, Feature, feature
from routers.selection.labels import student_right
from tests.routers.rows import student


def test_an_export_that_agrees_gives_its_scores() -> None:
    logits = student(50, 4, seed=0).logits
    score = SCORES["margin"]
    model = score.to_onnx(4).SerializeToString()
    found = export.check_export(score.score(logits), model, logits)
    assert found.dtype == np.float32
    assert found == pytest.approx(score.score(logits), abs=1e-6)


def test_an_export_that_disagrees_is_refused_with_the_difference() -> None:
    logits = np.log(np.array([[1.0, 2.0, 5.0]]))
    model = SCORES["margin"].to_onnx(3).SerializeToString()
    # 5/8 is the largest probability, and 5/8 − 2/8 the margin: .25 apart.
    with pytest.raises(export.ExportMismatch, match=r"up to 0\.25 .*1e-05"):
        export.check_export(SCORES["max_softmax"].score(logits), model, logits)


def test_not_a_number_is_no_agreement() -> None:
    model = SCORES["margin"].to_onnx(3).SerializeToString()
    with pytest.raises(export.ExportMismatch, match="nan"):
        export.check_export(np.array([0.5]), model, np.full((1, 3), np.nan))


def test_what_leads_to_the_label_alone_is_dropped() -> None:
    # The support vectors' conversion ends in an ArgMax for the label; a device needs none.
    rows = student(60, 3, seed=0)
    router = FAMILIES["svm"](rows.logits, student_right(rows.logits, rows.labels), 0)
    kinds = [node.op_type for node in router.to_onnx(3).graph.node]
    assert "SVMClassifier" in kinds
    assert "ArgMax" not in kinds


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_a_derived_feature_travels_in_the_file(name: str) -> None:
    """A router fitted on differences to the first logit takes plain logits all the same."""

    def nodes(source: str) -> tuple[list[NodeProto], str]:
        first = numpy_helper.from_array(np.array([0], dtype=np.int64))
        return [
            helper.make_node("Constant", [], ["only_first"], value=first),
            helper.make_node("Gather", [source, "only_first"], ["reference"], axis=1),
            helper.make_node("Sub", [source, "reference"], ["differences"]),
        ], "differences"

    differences = Feature(compute=lambda z: (z - z[:, :1]).astype(np.float32), nodes=nodes)
    rows = student(200, 4, seed=3)
    right = student_right(rows.logits, rows.labels)
    router = FAMILIES[name](differences.compute(rows.logits), right, 0)
    model = router.to_onnx(4, differences).SerializeToString()
    expected = router.score(differences.compute(rows.logits))
    export.check_export(expected, model, rows.logits)
    assert [i.name for i in onnx.load_from_string(model).graph.input] == ["logits"]


@pytest.mark.parametrize("name", sorted(FEATURES))
def test_every_feature_is_the_same_in_numpy_and_onnx(name: str) -> None:
    member = feature(name)
    logits = student(20, 5, seed=1).logits
    described = member.compute(logits)
    nodes, result = member.nodes("logits")
    column = numpy_helper.from_array(np.array(1, dtype=np.int64))
    model = export.build(
        [
            *nodes,
            helper.make_node("Constant", [], ["column"], value=column),
            helper.make_node("Gather", [result, "column"], ["score"], axis=1),
        ],
        5,
    )
    assert export.run(model.SerializeToString(), logits) == pytest.approx(described[:, 1])


def test_the_time_of_a_row_is_measured_in_microseconds() -> None:
    logits = student(3, 10, seed=0).logits
    time = export.microseconds(SCORES["margin"].to_onnx(10).SerializeToString(), logits, runs=20)
    assert 0.1 < time < 100_000
