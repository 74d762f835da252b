"""Every score by hand, the contract of all of them, and the constants that are tuned."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from math import log

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from routers.evaluation import metrics
from routers.models.scores import NORMS, SCORES, TEMPERATURES, Score, max_logit_pnorm, temperature
from routers.onnx import export
from routers.selection.labels import student_right
from tests.routers.rows import student

FLOAT32_MAX = float(np.finfo(np.float32).max)

# Odds of 1 : 2 : 5, so probabilities of 1/8, 2/8, 5/8.
ODDS = np.log(np.array([[1.0, 2.0, 5.0]]))
# Centred, 2, −1, −1.
THREE = np.array([[3.0, 0.0, 0.0]])


@pytest.mark.parametrize(
    ("score", "row", "expected"),
    [
        (SCORES["max_softmax"], ODDS, 5 / 8),
        (SCORES["margin"], ODDS, 3 / 8),
        # ⅛·ln ⅛ + ¼·ln ¼ + ⅝·ln ⅝ = −.25993 − .34657 − .29375 = −.90026
        (SCORES["entropy"], ODDS, -0.9002561),
        # (1 + 4 + 25) / 64
        (SCORES["gini"], ODDS, 30 / 64),
        # ln (1 + 2 + 5)
        (SCORES["energy"], ODDS, log(8)),
        (SCORES["max_logit"], ODDS, log(5)),
        # Untuned, T = 1: the plain softmax.
        (SCORES["temperature"], ODDS, 5 / 8),
        # T = ½ squares the odds: 25 / (1 + 4 + 25).
        (temperature(0.5), ODDS, 25 / 30),
        # T = 2 takes their roots: 2.23607 / (1 + 1.41421 + 2.23607).
        (temperature(2.0), ODDS, 0.4808449),
        # Untuned, p = 4: 2 / (16 + 1 + 1)^¼ = 2 / 2.05977.
        (SCORES["max_logit_pnorm"], THREE, 0.9709836),
        # 2 / (2 + 1 + 1) and 2 / √(4 + 1 + 1).
        (max_logit_pnorm(1), THREE, 0.5),
        (max_logit_pnorm(2), THREE, 0.8164966),
    ],
)
def test_a_row_by_hand(score: Score, row: NDArray[np.float64], expected: float) -> None:
    assert score.score(row) == pytest.approx([expected], abs=1e-6)
    assert run(score, row) == pytest.approx([expected], abs=1e-6)


# The values of K equal logits, and of one logit far above K − 1 equal ones.
ENDS: dict[str, Callable[[int], tuple[float, float]]] = {
    "max_softmax": lambda K: (1 / K, 1),
    "margin": lambda K: (0, 1),
    "entropy": lambda K: (-log(K), 0),
    "gini": lambda K: (1 / K, 1),
    "temperature": lambda K: (1 / K, 1),
    # Centred, K − 1 against K − 1 times −1: to the power of 4, (1 + (K − 1)^−3)^−¼.
    "max_logit_pnorm": lambda K: (0, (1 + (K - 1.0) ** -3) ** -0.25),
}
# These move with the logits, by what is added to all of them; the others do not move.
SHIFTED = {"energy", "max_logit"}


def run(score: Score, logits: NDArray[np.floating]) -> NDArray[np.float32]:
    return export.run(score.to_onnx(logits.shape[1]).SerializeToString(), logits)


def fresh(classes: int) -> NDArray[np.float32]:
    rows = 1000 if classes < 1000 else 100
    new = student(rows, classes, seed=2).logits
    far = np.random.default_rng(3).choice([-50.0, 50.0, 0.0], (rows // 5, classes))
    return np.concatenate([new, np.round(new), 10 * new, far]).astype(np.float32)


def extreme(classes: int) -> NDArray[np.float32]:
    """All equal, one apart, ties, thousands, one unit among thousands, and float32's own limits."""
    rng = np.random.default_rng(4)
    rows = rng.choice([-1.0, 1.0], (12, classes))
    rows[0] = 1.0
    rows[1, 1:] = -1.0
    rows[2:6] = rng.normal(size=(4, classes))
    scale = np.array([0.0, 1e-38, 1.0, 1e4, FLOAT32_MAX])
    sizes = np.concatenate([rows / np.abs(rows).max() * size for size in scale])
    return np.concatenate([sizes, 1e4 + rows]).astype(np.float32)


@cache
def exported(name: str, classes: int) -> bytes:
    return bytes(SCORES[name].to_onnx(classes).SerializeToString())


@pytest.mark.parametrize("name", sorted(SCORES))
class TestEveryScore:
    @pytest.mark.parametrize("classes", [2, 10, 1000])
    def test_the_file_gives_the_scores_of_numpy(self, name: str, classes: int) -> None:
        logits = fresh(classes)
        score = SCORES[name].score(logits)
        assert np.abs(run(SCORES[name], logits) - score).max() <= 1e-5

    @pytest.mark.parametrize("classes", [2, 10, 1000])
    def test_no_logit_of_float32_is_too_large(self, name: str, classes: int) -> None:
        logits = extreme(classes)
        score = SCORES[name].score(logits)
        assert np.isfinite(score).all()
        assert run(SCORES[name], logits) == pytest.approx(score, rel=1e-6, abs=1e-6)

    @settings(max_examples=30, deadline=None)
    @given(rows=arrays(np.float32, (4, 3), elements=st.floats(-FLOAT32_MAX, FLOAT32_MAX, width=32)))
    def test_any_row_has_a_score_that_heeds_no_order_of_classes(
        self, name: str, rows: NDArray[np.float32]
    ) -> None:
        score = SCORES[name].score(rows)
        assert np.isfinite(score).all()
        assert export.run(exported(name, 3), rows) == pytest.approx(score, rel=1e-6, abs=1e-6)
        turned = SCORES[name].score(rows[:, [2, 0, 1]])
        assert turned == pytest.approx(score, rel=1e-6, abs=1e-6)

    @pytest.mark.parametrize("classes", [2, 100])
    def test_the_file_has_one_input_and_one_output(self, name: str, classes: int) -> None:
        graph = SCORES[name].to_onnx(classes).graph
        (source,), (result,) = graph.input, graph.output
        assert (source.name, result.name) == ("logits", "score")
        assert [d.dim_value for d in source.type.tensor_type.shape.dim] == [0, classes]
        assert result.type.tensor_type.elem_type == onnx.TensorProto.FLOAT

    def test_no_rows_have_no_scores(self, name: str) -> None:
        assert run(SCORES[name], np.zeros((0, 10))).shape == (0,)

    def test_rows_one_at_a_time_score_as_they_do_together(self, name: str) -> None:
        logits, model = fresh(10)[:20], exported(name, 10)
        alone = [export.run(model, logits[i : i + 1])[0] for i in range(20)]
        assert export.run(model, logits) == pytest.approx(alone, rel=1e-6)

    @pytest.mark.parametrize("classes", [3, 1000])
    def test_a_sure_row_scores_higher_than_an_even_one(self, name: str, classes: int) -> None:
        # Both have the mean 1, so that a score which moves with all logits is not told by that.
        even = np.ones((1, classes))
        sure = even - 9 / (classes - 1)
        sure[0, 0] = 10.0
        assert SCORES[name].score(sure) > SCORES[name].score(even)

    def test_a_shift_of_all_logits_moves_energy_and_the_largest_logit_alone(
        self, name: str
    ) -> None:
        # Multiples of 1/64 stay exact in float32; exp(700) alone would be 1e304.
        logits = np.round(student(50, 5, seed=0).logits * 64) / 64
        moved = 700 if name in SHIFTED else 0
        shifted = SCORES[name].score(logits + 700)
        assert shifted == pytest.approx(SCORES[name].score(logits) + moved, abs=1e-4)

    def test_it_tells_right_from_wrong(self, name: str) -> None:
        rows = student(2000, 10, seed=1)
        right = student_right(rows.logits, rows.labels)
        assert metrics.auroc(SCORES[name].score(rows.logits), right) > 0.68

    def test_it_is_tuned_to_a_score_of_the_same_kind(self, name: str) -> None:
        rows = student(1000, 10, seed=5)
        tuned = SCORES[name].tuned(3 * rows.logits, rows.labels)
        assert tuned.constants.keys() == SCORES[name].constants.keys()
        if not tuned.constants:
            assert tuned is SCORES[name]
        logits = fresh(10)
        assert np.abs(run(tuned, logits) - tuned.score(logits)).max() <= 1e-5

    @pytest.mark.parametrize("right", [True, False])
    def test_a_student_that_is_always_right_or_wrong_tunes_nothing(
        self, name: str, right: bool
    ) -> None:
        logits = student(50, 4, seed=6).logits
        best = logits.argmax(axis=1)
        tuned = SCORES[name].tuned(logits, best if right else (best + 1) % 4)
        assert tuned.constants == SCORES[name].constants
        assert tuned.score(logits) == pytest.approx(SCORES[name].score(logits))


@pytest.mark.parametrize("name", sorted(ENDS))
@pytest.mark.parametrize("classes", [2, 3, 1000])
def test_the_range_runs_from_an_even_row_to_a_sure_one(name: str, classes: int) -> None:
    low, high = ENDS[name](classes)
    ends = np.zeros((2, classes))
    ends[1, classes // 2] = 1e4
    assert SCORES[name].score(ends) == pytest.approx([low, high], abs=1e-6)
    score = SCORES[name].score(np.concatenate([fresh(classes), extreme(classes)]))
    assert score.min() >= low - 1e-6
    # Any other row has less to spare: more of its logits are away from the mean.
    assert score.max() <= high + 1e-6


def test_energy_and_the_largest_logit_keep_their_size() -> None:
    # ln 1000·e⁰ = ln 1000; ten thousand and 999 zeros: the zeros add e^−10000.
    rows = np.zeros((2, 1000))
    rows[1, 7] = 1e4
    assert SCORES["energy"].score(rows) == pytest.approx([log(1000), 1e4])
    assert SCORES["max_logit"].score(rows).tolist() == [0.0, 1e4]


def test_two_classes_leave_most_scores_one_order() -> None:
    logits = student(300, 2, seed=9).logits
    gap = np.abs(logits[:, 0] - logits[:, 1])
    order = np.argsort(gap)
    for name in ("max_softmax", "margin", "entropy", "gini", "temperature"):
        score = SCORES[name].score(logits)[order]
        assert (np.diff(score) >= 0).all(), name
        assert len(np.unique(score)) > 250
    # ±a over (2·aᵖ)^(1/p) is 2^(−1/4), whatever a.
    assert SCORES["max_logit_pnorm"].score(logits) == pytest.approx(np.full(300, 2**-0.25))


class TestTemperature:
    @pytest.mark.parametrize("T", [0.02, 2.0, 2000.0])
    def test_by_hand(self, T: float) -> None:
        # Four rows with T·ln 3 between their two logits, three of them right: the likelihood is
        # largest where each is given 3/4, so odds of 3 = exp(T·ln 3 / T).
        logits = np.tile([T * log(3), 0.0], (4, 1))
        tuned = SCORES["temperature"].tuned(logits, np.array([0, 0, 1, 0]))
        assert tuned.constants["T"] == pytest.approx(T, rel=1e-3)
        assert tuned.score(logits) == pytest.approx([0.75] * 4, abs=1e-3)

    def test_it_undoes_a_scale(self) -> None:
        # Noise of 2 and a lead of 4: class i is likelier than j by exp(4·(z_i − z_j) / 2²), so
        # the logits are calibrated as they are, and three times as large at T = 3.
        rows = student(5000, 10, seed=8)
        tuned = SCORES["temperature"].tuned(3 * rows.logits, rows.labels)
        assert tuned.constants["T"] == pytest.approx(3.0, rel=0.05)
        right = student_right(rows.logits, rows.labels)
        assert tuned.score(3 * rows.logits).mean() == pytest.approx(right.mean(), abs=0.015)

    def test_a_student_below_chance_meets_the_bound(self) -> None:
        # One of four right: no T > 0 gives the larger logit 1/4.
        logits = np.tile([5.0, 0.0], (4, 1)) * np.array([[1.0], [2.0], [3.0], [4.0]])
        tuned = SCORES["temperature"].tuned(logits, np.array([0, 1, 1, 1]))
        assert 0.5 * TEMPERATURES[1] < tuned.constants["T"] <= TEMPERATURES[1]
        assert (np.diff(run(tuned, logits)) > 0).all()


class TestMaxLogitPNorm:
    # Centred already. To the power of p, the ratio is 3^p over 3^p + 3^p for the first row and
    # over 3^p + 1 + 2·2^p for the second:
    #     p = 1:  3/6 = .500 and 3/8 = .375
    #     p = 2:  9/18 and 9/18, both √½
    #     p = 3:  27/54 and 27/44, and the second stays ahead
    ROWS = np.array([[3.0, -3.0, 0.0, 0.0], [3.0, 1.0, -2.0, -2.0]])

    def test_p_is_chosen_by_which_rows_are_right(self) -> None:
        score = SCORES["max_logit_pnorm"]
        # The first right, the second wrong: only p = 1 puts them in that order.
        assert score.tuned(self.ROWS, np.array([0, 1])).constants == {"p": 1}
        # The other way round every p from 3 does; the default is among them.
        assert score.tuned(self.ROWS, np.array([1, 0])).constants == {"p": 4}

    def test_no_other_p_would_have_been_better(self) -> None:
        rows = student(1500, 20, seed=3)
        right = student_right(rows.logits, rows.labels)
        found = SCORES["max_logit_pnorm"].tuned(rows.logits, rows.labels)
        aurocs = [metrics.auroc(max_logit_pnorm(p).score(rows.logits), right) for p in NORMS]
        assert metrics.auroc(found.score(rows.logits), right) == max(aurocs) > min(aurocs)

    def test_the_scale_of_a_row_does_not_matter(self) -> None:
        # That is what it mends: a student that is loudest where it is wrong.
        for scale in (1e-30, 1e4, 1e30):
            scaled = SCORES["max_logit_pnorm"].score(self.ROWS * scale)
            assert scaled == pytest.approx(SCORES["max_logit_pnorm"].score(self.ROWS))


@pytest.mark.parametrize("name", ["temperature", "max_logit_pnorm"])
def test_tuning_needs_a_label_a_row(name: str) -> None:
    with pytest.raises(ValueError, match="labels N"):
        SCORES[name].tuned(np.zeros((3, 2)), np.zeros(2, dtype=np.int64))
