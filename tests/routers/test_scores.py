from __future__ import annotations

from math import exp, log

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from routers import export, metrics
from routers.labels import student_right
from routers.scores import SCORES
from tests.routers.rows import student

# Odds of 1 : 2 : 5, so probabilities of 1/8, 2/8, 5/8.
ODDS = np.log(np.array([[1.0, 2.0, 5.0]]))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("max_softmax", 5 / 8),
        ("margin", 3 / 8),
        # ⅛·ln ⅛ + ¼·ln ¼ + ⅝·ln ⅝ = −.25993 − .34657 − .29375 = −.90026
        ("entropy", -0.9002561),
    ],
)
def test_a_row_by_hand(name: str, expected: float) -> None:
    assert SCORES[name].score(ODDS) == pytest.approx([expected], abs=1e-6)


def fresh(classes: int) -> NDArray[np.float32]:
    new = student(1000, classes, seed=2).logits
    far = np.random.default_rng(3).choice([-50.0, 50.0, 0.0], (200, classes))
    return np.concatenate([new, np.round(new), 10 * new, far]).astype(np.float32)


@pytest.mark.parametrize("name", sorted(SCORES))
class TestEveryScore:
    @pytest.mark.parametrize("classes", [2, 10, 100])
    def test_the_file_gives_the_scores_of_numpy(self, name: str, classes: int) -> None:
        logits = fresh(classes)
        model = SCORES[name].to_onnx(classes).SerializeToString()
        assert np.abs(export.run(model, logits) - SCORES[name].score(logits)).max() <= 1e-5

    @pytest.mark.parametrize("classes", [2, 100])
    def test_the_file_has_one_input_and_one_output(self, name: str, classes: int) -> None:
        graph = SCORES[name].to_onnx(classes).graph
        (source,), (result,) = graph.input, graph.output
        assert (source.name, result.name) == ("logits", "score")
        assert [d.dim_value for d in source.type.tensor_type.shape.dim] == [0, classes]
        assert result.type.tensor_type.elem_type == onnx.TensorProto.FLOAT

    def test_no_rows_have_no_scores(self, name: str) -> None:
        model = SCORES[name].to_onnx(10).SerializeToString()
        assert export.run(model, np.zeros((0, 10))).shape == (0,)

    def test_a_sure_row_scores_higher_than_an_even_one(self, name: str) -> None:
        sure, even = SCORES[name].score(np.array([[9.0, 0.0, 0.0], [1.0, 1.0, 1.0]]))
        assert sure > even

    def test_a_shift_of_all_logits_changes_nothing(self, name: str) -> None:
        logits = student(50, 5, seed=0).logits.astype(np.float64)
        shifted = SCORES[name].score(logits + 700)  # exp(700) alone would be 1e304
        assert shifted == pytest.approx(SCORES[name].score(logits))

    def test_it_tells_right_from_wrong(self, name: str) -> None:
        rows = student(2000, 10, seed=1)
        right = student_right(rows.logits, rows.labels)
        assert metrics.auroc(SCORES[name].score(rows.logits), right) > 0.75

    def test_an_even_row_of_two_classes(self, name: str) -> None:
        expected = {"max_softmax": 0.5, "margin": 0.0, "entropy": -log(2)}
        assert SCORES[name].score(np.zeros((1, 2))) == pytest.approx([expected[name]])


def test_the_largest_probability_is_the_softmaxs() -> None:
    logits = np.array([[2.0, 0.0]])
    assert SCORES["max_softmax"].score(logits) == pytest.approx([exp(2) / (exp(2) + 1)])
