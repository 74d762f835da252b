"""The contract of every router family: what ships says what was fitted."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from routers.evaluation import metrics
from routers.models.families import FAMILIES, KNN_ROWS, ConvertedRouter, FittedRouter
from routers.models.knn import Neighbours
from routers.onnx import export
from routers.selection.labels import student_right
from tests.routers.rows import Rows, crooked, student

CLASSES = (2, 10, 100)
TREES = ("rf", "et", "gbdt", "xgb")


class Case(NamedTuple):
    fitted_on: Rows
    router: FittedRouter
    model: bytes


@cache
def case(name: str, classes: int) -> Case:
    """Fitted on 400 rows; half of them on a grid, so that values repeat."""
    rows = student(400, classes, seed=1, lead=2.0 + 0.4 * np.log2(classes))
    rows.logits[200:] = np.round(rows.logits[200:])
    right = student_right(rows.logits, rows.labels)
    assert 40 < right.sum() < 360
    router = FAMILIES[name](rows.logits, right, 0)
    return Case(rows, router, router.to_onnx(classes).SerializeToString())


def fresh(rows: Rows, classes: int) -> NDArray[np.float32]:
    """New rows, rows on the same grid, the fitted rows themselves, and rows far outside."""
    new = student(1000, classes, seed=2).logits
    far = np.random.default_rng(3).choice([-50.0, 50.0, 0.0], (100, classes))
    return np.concatenate([new, np.round(new), rows.logits, far]).astype(np.float32)


@pytest.mark.parametrize("name", sorted(FAMILIES))
class TestEveryFamily:
    @pytest.mark.parametrize("classes", CLASSES)
    def test_the_file_gives_scikit_learns_probabilities(self, name: str, classes: int) -> None:
        rows, router, model = case(name, classes)
        logits = fresh(rows, classes)
        probability = router.score(logits)
        assert np.abs(export.run(model, logits) - probability).max() <= 1e-5
        assert probability.min() >= 0
        assert probability.max() <= 1

    @pytest.mark.parametrize("classes", CLASSES)
    def test_the_file_has_one_input_and_one_output(self, name: str, classes: int) -> None:
        graph = onnx.load_from_string(case(name, classes).model).graph
        (source,), (result,) = graph.input, graph.output
        assert (source.name, result.name) == ("logits", "score")
        assert [d.dim_value for d in source.type.tensor_type.shape.dim] == [0, classes]
        assert len(result.type.tensor_type.shape.dim) == 1
        for value in (source, result):
            assert value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT

    def test_no_rows_have_no_scores(self, name: str) -> None:
        assert export.run(case(name, 10).model, np.zeros((0, 10))).shape == (0,)

    def test_rows_one_at_a_time_score_as_they_do_together(self, name: str) -> None:
        rows, _, model = case(name, 10)
        together = export.run(model, rows.logits[:20])
        alone = [export.run(model, rows.logits[i : i + 1])[0] for i in range(20)]
        assert together == pytest.approx(alone, abs=1e-6)

    def test_it_learns_where_the_student_errs(self, name: str) -> None:
        old, new = crooked(500, seed=1), crooked(500, seed=2)
        router = FAMILIES[name](old.logits, student_right(old.logits, old.labels), 0)
        right = student_right(new.logits, new.labels)
        assert metrics.auroc(router.score(new.logits), right) > 0.95

    def test_the_same_seed_gives_the_same_file(self, name: str) -> None:
        rows, _, model = case(name, 10)
        again = FAMILIES[name](rows.logits, student_right(rows.logits, rows.labels), 0)
        assert again.to_onnx(10).SerializeToString() == model

    def test_a_handful_of_rows_is_enough(self, name: str) -> None:
        logits = student(6, 3, seed=8).logits
        router = FAMILIES[name](logits, np.array([0, 0, 1, 1, 1, 1]), 0)
        model = router.to_onnx(3).SerializeToString()
        assert np.abs(export.run(model, logits) - router.score(logits)).max() <= 1e-5

    @pytest.mark.parametrize("kind", [0, 1])
    def test_rows_of_one_kind_are_refused(self, name: str, kind: int) -> None:
        logits = student(6, 3, seed=8).logits
        with pytest.raises(ValueError, match=rf"the 6 given hold \[{kind}\]"):
            FAMILIES[name](logits, np.full(6, kind), 0)

    def test_the_file_is_no_larger_than_the_students_it_guards(self, name: str) -> None:
        assert len(case(name, 10).model) < 700 * 1024


@pytest.mark.parametrize("name", TREES)
def test_rows_on_a_threshold_take_the_same_branch(name: str) -> None:
    """scikit-learn compares a float32 value with a float64 threshold, the file with a float32."""
    rows, router, model = case(name, 10)
    (trees,) = [n for n in onnx.load_from_string(model).graph.node if "TreeEnsemble" in n.op_type]
    attributes = {a.name: a for a in trees.attribute}
    inner = [mode != b"LEAF" for mode in attributes["nodes_modes"].strings]
    feature = np.array(attributes["nodes_featureids"].ints)[inner]
    threshold = np.array(attributes["nodes_values"].floats, dtype=np.float32)[inner]
    assert len(threshold) > 100
    logits = np.repeat(rows.logits, 20, axis=0)[: len(threshold)]
    feature, threshold = feature[: len(logits)], threshold[: len(logits)]
    for near in (threshold, np.nextafter(threshold, np.inf), np.nextafter(threshold, -np.inf)):
        logits[np.arange(len(logits)), feature] = near
        assert np.abs(export.run(model, logits) - router.score(logits)).max() <= 1e-5


@pytest.mark.parametrize("name", TREES)
def test_trees_leave_out_what_the_standard_lets_them(name: str) -> None:
    nodes = onnx.load_from_string(case(name, 10).model).graph.node
    (trees,) = [n for n in nodes if "TreeEnsemble" in n.op_type]
    names = {a.name for a in trees.attribute}
    assert "nodes_values" in names
    assert not names & {"nodes_hitrates", "nodes_missing_value_tracks_true"}


def test_an_svm_needs_two_rows_of_each_kind() -> None:
    logits = student(6, 3, seed=8).logits
    with pytest.raises(ValueError, match="two rows of each kind"):
        FAMILIES["svm"](logits, np.array([0, 1, 1, 1, 1, 1]), 0)


def test_large_samples_are_cut_where_cost_grows_with_rows() -> None:
    rows = student(KNN_ROWS + 500, 3, seed=6)
    right = student_right(rows.logits, rows.labels)
    router = FAMILIES["knn"](rows.logits, right, 0)
    assert isinstance(router, Neighbours)
    assert len(router.features) == KNN_ROWS
    # Stratified: the share of errors is the whole sample's.
    assert router.right.mean() == pytest.approx(right.mean(), abs=1e-3)


def test_neighbours_by_hand() -> None:
    """k = 2, so the third neighbour is where weights fade out.

    Rows at 0 (right), 1 (wrong), 3 (right) and 9; the query at 0.5: squared distances .25, .25,
    6.25 give weights 6, 6, 0, so P(right) = 6/12 = ½. The query at 0: 0, 1, 9 give 9, 8, 0:
    P(right) = 9/17.
    """
    known = np.array([[0.0], [1.0], [3.0], [9.0]], dtype=np.float32)
    router = Neighbours(known, np.array([1, 0, 1, 0]), neighbours=2)
    query = np.array([[0.5], [0.0]], dtype=np.float32)
    assert router.score(query) == pytest.approx([0.5, 9 / 17], abs=1e-6)
    model = router.to_onnx(1).SerializeToString()
    assert export.run(model, query) == pytest.approx([0.5, 9 / 17], abs=1e-6)


def test_neighbours_at_one_place_vote_as_equals() -> None:
    # All four lie on the query: no distance to weigh by, so three of four is .75.
    known = np.ones((4, 2), dtype=np.float32)
    router = Neighbours(known, np.array([1, 0, 1, 1]), neighbours=3)
    model = router.to_onnx(2).SerializeToString()
    assert router.score(known[:1]) == pytest.approx([0.75])
    assert export.run(model, known[:1]) == pytest.approx([0.75])


def test_the_support_vectors_score_is_a_calibrated_probability() -> None:
    # Within each tenth of the scores, the share of right rows is near the score itself.
    rows = student(1500, 4, seed=11, lead=2.0)
    right = student_right(rows.logits, rows.labels)
    router = FAMILIES["svm"](rows.logits[:700], right[:700], 0)
    assert isinstance(router, ConvertedRouter)
    score = router.score(rows.logits[700:])
    order = np.array_split(np.argsort(score), 5)
    gaps = [abs(score[i].mean() - right[700:][i].mean()) for i in order]
    assert max(gaps) < 0.12
