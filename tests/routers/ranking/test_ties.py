"""Rows of one score are told apart in the router's own file, and nothing else changes places."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from routers.calibration.calibrate import appeals, threshold_for_appeals
from routers.models.families import FAMILIES
from routers.models.scores import SCORES
from routers.onnx import export
from routers.onnx.features import FEATURES
from routers.onnx.pair import merge
from routers.ranking.ranking import RouterData, fit_and_rank
from routers.ranking.ties import broken, second_score, ties
from routers.selection.labels import student_right
from tests.routers.rows import student, teacher_right

#: a student that is always wrong about one class of eight: its neighbours are all wrong, too
ROWS = student(1200, 8, 1)


def blind_to_a_class(seed: int, rows: int = 600) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Logits that never name class 0, whose rows look like others, and the labels."""
    made = student(rows, 8, seed, lead=7.0)
    logits = made.logits.copy()
    blind = made.labels == 0
    # certain of class 1 in a way of its own, which neighbours learn to know
    logits[blind] = np.random.default_rng(seed).normal(0, 0.05, (int(blind.sum()), 8))
    logits[blind, 1] = 4
    return logits.astype(np.float32), made.labels


def family(name: str, **more: int) -> bytes:
    logits, labels = blind_to_a_class(1)
    make: Any = FAMILIES[name]
    look = FEATURES["logits"]
    fitted = make(look.compute(logits), student_right(logits, labels), 0, **more)
    return bytes(fitted.to_onnx(8, look).SerializeToString(deterministic=True))


def in_order(before: NDArray[np.float32], after: NDArray[np.float32]) -> bool:
    order = np.argsort(before, kind="stable")
    apart = np.diff(before[order]) > 0
    return bool((np.diff(after[order])[apart] > 0).all())


@pytest.mark.parametrize("name", ["knn", "rf", "et", "xgb", "gbdt"])
def test_a_budget_below_the_share_of_a_tie_is_spent(name: str) -> None:
    shallow = {} if name == "knn" else {"trees": 3, "depth": 2}
    model = family(name, **shallow)
    logits, _ = blind_to_a_class(2)
    before = export.run(model, logits)
    assert (before == before.min()).mean() > 0.05  # the case that this is about
    threshold = threshold_for_appeals(before, 0.02)
    assert not appeals(before, threshold).any()

    after = export.run(broken(model, logits, "margin"), logits)

    assert in_order(before, after)
    spent = appeals(after, threshold_for_appeals(after, 0.02)).sum()
    assert 10 <= spent <= 0.02 * len(logits)  # equal to float32's last step, one or two may stay


def test_rows_that_nobody_looked_at_keep_their_order_as_well() -> None:
    model = family("knn")
    made = broken(model, blind_to_a_class(2)[0], "margin")
    fresh = blind_to_a_class(3, 3000)[0]
    before, after = export.run(model, fresh), export.run(made, fresh)
    assert in_order(before, after)
    # what does not tie is what it was, to the bit
    values, counts = np.unique(before, return_counts=True)
    alone = np.isin(before, values[counts == 1])
    assert alone.sum() > 100
    assert (before[alone] == after[alone]).all()
    assert np.abs(after - before).max() < 1e-4


def test_of_equals_the_second_score_decides() -> None:
    model, logits = family("knn"), blind_to_a_class(2)[0]
    before, after = (export.run(m, logits) for m in (model, broken(model, logits, "margin")))
    lowest = before == before.min()
    margin = SCORES["margin"].score(logits)[lowest]
    by_margin = after[lowest][np.argsort(margin)]
    assert (np.diff(by_margin) >= 0).all()
    assert by_margin[-1] > by_margin[0]
    assert by_margin[-1] <= before.min()  # lowered, never raised


def test_the_grid_of_an_int8_student_is_broken_up_too() -> None:
    # logits on a grid of 16 steps: max_logit takes a handful of values
    logits = np.round(ROWS.logits).astype(np.float32)
    model = SCORES["max_logit"].to_onnx(8).SerializeToString()
    before = export.run(model, logits)
    after = export.run(broken(model, logits, "margin", top=False), logits)
    assert len(np.unique(before)) < 20
    assert len(np.unique(after)) > 100
    assert in_order(before, after)


@pytest.mark.parametrize("name", sorted(SCORES))
def test_scores_that_do_not_tie_are_left_as_they_are(name: str) -> None:
    model = SCORES[name].to_onnx(8).SerializeToString()
    assert broken(model, ROWS.logits, second_score({}, but=name), top=False) is model


def test_a_student_that_says_one_thing_leaves_nothing_to_break() -> None:
    logits = np.ones((50, 4), np.float32)
    model = SCORES["max_softmax"].to_onnx(4).SerializeToString()
    assert broken(model, logits, "margin") is model


def test_ties_of_nine_rows_by_hand() -> None:
    score = np.array([0.0, 0.0, 0.0, 0.25, 0.5, 0.5, 0.5 + 2**-22, 1.0, 1.0], np.float32)
    second = np.array([0.1, 0.3, 0.6, 0.0, 0.5, 0.7, 0.0, 0.9, 0.9])
    found = ties(score, second)
    # the rows that share 1 have one second score as well
    assert found.value.tolist() == [0.0, 0.5]
    # 0 counts as 2⁻¹⁰, and half of the way down to .25 is more than 2⁻¹⁴ of .5
    assert found.span.tolist() == [2.0**-24, 2.0**-15]
    # a quarter of the way to the next row, where that is less than 2⁻²¹ of the score
    assert found.same.tolist() == [2.0**-31, 2.0**-24]
    assert found.low == pytest.approx([0.05, 0.48])
    assert found.high == pytest.approx([0.65, 0.72])
    # the highest score is left alone where that is asked, and one without room below it always
    assert ties(score[:6], second[:6], top=False).value.tolist() == [0.0]
    close = np.array([0.5, 0.5, 0.5 + 2**-22, 0.5 + 2**-22], np.float32)
    assert ties(close, second[:4]).value.tolist() == [0.5]


def test_no_number_stays_none_and_the_pair_agrees_with_the_router() -> None:
    model, logits = family("knn"), blind_to_a_class(2)[0]
    made = broken(model, logits, "margin")
    rows = logits[:4].copy()
    rows[1] = np.nan
    assert np.isnan(export.run(made, rows)).tolist() == [False, True, False, False]
    assert {opset.domain for opset in onnx.load_model_from_string(made).opset_import} == {""}


def test_the_ranking_ships_what_breaks_ties_and_ranks_as_before() -> None:
    logits, labels = blind_to_a_class(1)
    other, truth = blind_to_a_class(2)
    data = RouterData(logits, labels, other, truth, teacher_right(len(truth), 0))
    ranking = fit_and_rank(data, families=["knn"], seed=0, resamples=50)
    knn = next(row for row in ranking.rows if row.name == "knn")
    assert not knn.reason
    assert knn.bytes == len(knn.model)
    lowest = export.run(knn.model, other)
    assert (lowest == lowest.min()).sum() < 10


def test_the_second_score_is_the_best_bounded_one() -> None:
    areas = {"energy": 0.99, "gini": 0.95, "margin": 0.96, "max_softmax": 0.9}
    assert second_score(areas) == "margin"
    assert second_score(areas, but="margin") == "gini"
    assert second_score({}) == "margin"


def test_a_pair_decides_by_the_broken_ties() -> None:
    model, logits = family("knn"), blind_to_a_class(2)[0]
    made = broken(model, logits, "margin")
    scores = export.run(made, logits)
    threshold = threshold_for_appeals(scores, 0.02)
    pair = onnxruntime.InferenceSession(merge(passes_logits_on(8), made, threshold))
    score, trusted = pair.run(["score", "trusted"], {"image": logits[:, :, None, None]})
    assert (score == scores).all()
    assert (~trusted).sum() == 12
    assert (trusted == ~appeals(scores, threshold)).all()


def passes_logits_on(classes: int) -> bytes:
    """A student whose image, [N, K, 1, 1], is its logits."""
    port = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["image"], ["logits"])],
        "student",
        [port("image", TensorProto.FLOAT, ["N", classes, 1, 1])],
        [port("logits", TensorProto.FLOAT, ["N", classes])],
    )
    opset = [helper.make_opsetid("", export.OPSET)]
    return bytes(helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString())
