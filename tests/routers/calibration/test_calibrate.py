from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edge.errors import BadInput
from edge.manifest import Calibration
from routers.calibration.calibrate import (
    APPEAL_ALWAYS,
    APPEAL_NEVER,
    CalibrationRows,
    appeals,
    appeals_that_win,
    threshold_for_appeals,
    threshold_words,
)

SCORES = np.array([0.9, 0.1, 0.5, 0.7, 0.3], dtype=np.float32)


@pytest.mark.parametrize(
    ("budget", "threshold", "rows"),
    [
        (0.0, APPEAL_NEVER, 0),
        (0.1, 0.1, 0),  # half a row: nothing lies below the lowest score
        (0.2, 0.3, 1),  # one of five may appeal: .1 lies below .3, and .3 itself is trusted
        (0.39, 0.3, 1),  # 1.95 rows: one
        (0.4, 0.5, 2),
        (0.8, 0.9, 4),
        (1.0, APPEAL_ALWAYS, 5),
    ],
)
def test_five_rows_by_hand(budget: float, threshold: float, rows: int) -> None:
    found = threshold_for_appeals(SCORES, budget)
    assert found == pytest.approx(threshold, rel=1e-7)
    assert appeals(SCORES, found).sum() == rows


def test_a_tie_that_does_not_fit_the_budget_is_trusted_as_a_whole() -> None:
    # Three rows share .2; two appeals are allowed; .2 < .2 is false, so none of them goes.
    score = np.array([0.2, 0.2, 0.2, 0.8, 0.9], dtype=np.float32)
    threshold = threshold_for_appeals(score, 0.4)
    assert threshold == np.float32(0.2)
    assert appeals(score, threshold).sum() == 0
    # One appeal more, and they all go.
    assert appeals(score, threshold_for_appeals(score, 0.6)).sum() == 3


def test_a_budget_that_binary_fractions_spoil() -> None:
    # .29·100 = 28.999999999999996 in float64; 29 appeals were asked for.
    score = np.arange(100, dtype=np.float32)
    assert appeals(score, threshold_for_appeals(score, 0.29)).sum() == 29


@settings(max_examples=200, deadline=None)
@given(
    score=arrays(np.float32, st.integers(1, 40), elements=st.floats(-8, 8, width=16)),
    budget=st.floats(0, 1),
)
def test_the_budget_is_kept_and_no_larger_threshold_keeps_it(
    score: np.ndarray[tuple[int], np.dtype[np.float32]], budget: float
) -> None:
    threshold = threshold_for_appeals(score, budget)
    allowed = budget * len(score) + 1e-9
    assert appeals(score, threshold).sum() <= allowed
    if APPEAL_NEVER < threshold < APPEAL_ALWAYS:
        larger = float(np.nextafter(np.float32(threshold), np.float32(np.inf)))
        assert appeals(score, larger).sum() > allowed


@given(
    score=arrays(np.float64, st.integers(1, 20), elements=st.floats(-1e6, 1e6)),
    budget=st.floats(0, 1),
)
@settings(max_examples=100, deadline=None)
def test_the_threshold_survives_float32_and_json(
    score: np.ndarray[tuple[int], np.dtype[np.float64]], budget: float
) -> None:
    threshold = threshold_for_appeals(score, budget)
    assert float(np.float32(threshold)) == threshold
    assert json.loads(json.dumps(threshold)) == threshold


@pytest.mark.parametrize("budget", [-0.1, 1.1, 20, float("nan")])
def test_a_budget_out_of_range_is_refused(budget: float) -> None:
    with pytest.raises(BadInput, match=r"between 0 and 1.*20 % as 0\.2"):
        threshold_for_appeals(SCORES, budget)


@pytest.mark.parametrize("score", [[], [0.1, float("nan")], [float("inf")]])
def test_scores_that_cannot_be_ordered_are_refused(score: list[float]) -> None:
    with pytest.raises(ValueError, match="finite"):
        threshold_for_appeals(np.array(score), 0.5)


def test_always_and_never_survive_json_and_do_what_they_say() -> None:
    assert json.loads(json.dumps([APPEAL_ALWAYS, APPEAL_NEVER])) == [APPEAL_ALWAYS, APPEAL_NEVER]
    extreme = np.array([-1e38, 0, 1e38], dtype=np.float32)
    assert appeals(extreme, APPEAL_ALWAYS).all()
    assert not appeals(extreme, APPEAL_NEVER).any()


# Six rows. In order of score the appeals win +1, then +1 and −1 together, then 0, +1 and 0.
SCORE = np.array([0.2, 0.1, 0.2, 0.5, 0.9, 0.7], dtype=np.float32)
STUDENT = np.array([0, 0, 1, 1, 1, 0])
TEACHER = np.array([1, 1, 0, 1, 1, 1])


def test_every_decision_of_six_rows_by_hand() -> None:
    decisions = CalibrationRows(SCORE, STUDENT, TEACHER).decisions
    assert decisions.threshold.astype(np.float32).tolist() == [
        np.float32(score) for score in (0.1, 0.2, 0.5, 0.7, 0.9)
    ] + [np.float32(APPEAL_ALWAYS)]
    assert decisions.appealed.tolist() == [0, 1, 3, 4, 5, 6]
    assert decisions.right.tolist() == [3, 4, 4, 4, 5, 5]


@settings(max_examples=60, deadline=None)
@given(rows=st.integers(1, 30), seed=st.integers(0, 10_000), levels=st.sampled_from([1, 4, 1000]))
def test_decisions_are_what_their_thresholds_do(rows: int, seed: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    kept = CalibrationRows(
        (rng.integers(0, levels, rows) / levels).astype(np.float32),
        rng.integers(0, 2, rows),
        rng.integers(0, 2, rows),
    )
    for threshold, appealed, right in zip(*kept.decisions, strict=True):
        point = kept.at(float(threshold))
        assert point.appeals * rows == pytest.approx(appealed)
        assert point.accuracy * rows == pytest.approx(right)


def test_rows_come_from_a_bundle_as_they_were() -> None:
    kept = CalibrationRows.of(Calibration((0.5, 0.98), (0, 1), (1, 1)))
    assert kept.score.dtype == np.float32
    assert kept.at(0.6).accuracy == 1
    assert kept.at(0.4).accuracy == 0.5


@pytest.mark.parametrize(
    ("score", "student", "teacher", "words"),
    [
        ([], [], [], "at least one row"),
        ([0.1, 1e300], [0, 1], [0, 1], "finite"),
        ([0.1, 0.2], [0], [0, 1], "student_right must be 2 values"),
        ([0.1, 0.2], [0, 1], [0, 2], "teacher_right must be 2 values of 0 and 1"),
    ],
)
def test_rows_that_do_not_fit_are_refused(
    score: list[float], student: list[int], teacher: list[int], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        CalibrationRows(np.array(score), np.array(student), np.array(teacher))


def test_a_budget_is_spent_where_appeals_win_and_kept_where_they_do_not() -> None:
    # Budget ½ appeals .1, .2, .2: +1 +1 −1 wins one answer.
    assert appeals_that_win(SCORE, STUDENT, TEACHER, 0.5) == (float(np.float32(0.5)), "")
    # Teacher and student exchanged, the same appeals lose it.
    threshold, warning = appeals_that_win(SCORE, TEACHER, STUDENT, 0.5)
    assert not appeals(SCORE, threshold).any()
    assert "appealing 50.0% of the calibration part would win -16.67%" in warning
    assert "nothing is appealed" in warning
    # A teacher that answers alike wins nothing either; nothing to spend is no reason to warn.
    assert "+0.00%" in appeals_that_win(SCORE, STUDENT, STUDENT, 0.5).warning
    assert appeals_that_win(SCORE, TEACHER, STUDENT, 0.1).warning == ""
    # What shows no gain on these rows shows none for inputs of still lower scores.
    assert not appeals(np.array([-1e30], np.float32), threshold).any()


def test_a_budget_of_nothing_appeals_no_input_whatever_its_score() -> None:
    threshold, warning = appeals_that_win(SCORE, STUDENT, TEACHER, 0.0)
    lower_than_any_row = np.array([0.0999, -5, -1e38], np.float32)
    assert not appeals(lower_than_any_row, threshold).any()
    assert warning == ""


@pytest.mark.parametrize(
    ("tied", "rows", "budget", "words"),
    [
        # 12 rows of 100 share the lowest score: 11 appeals buy none of them
        (12, 100, 0.11, "12.0% of the 100 calibration rows share the lowest score"),
        (12, 100, 0.01, "the smallest budget that appeals is 12%"),
        # 1/3 is .3333…: the budget that is named has to be enough
        (10, 30, 0.3, "the smallest budget that appeals is 33.34%"),
        # all rows alike: a student that says the same of every input
        (50, 50, 0.9, "100.0% of the 50 calibration rows share the lowest score"),
        # no tie, but one row is more than the budget
        (1, 20, 0.04, "there are only 20 calibration rows; the smallest budget that appeals is 5%"),
    ],
)
def test_a_budget_that_buys_nothing_says_why_and_what_would(
    tied: int, rows: int, budget: float, words: str
) -> None:
    score = np.r_[np.zeros(tied), np.linspace(0.2, 1, rows - tied)].astype(np.float32)
    student, teacher = (score > 0).astype(int), np.ones(rows, int)
    choice = appeals_that_win(score, student, teacher, budget)
    assert not appeals(score, choice.threshold).any()
    assert words in choice.warning
    named = float(choice.warning.rsplit(" ", 1)[1].rstrip("%")) / 100
    better = appeals_that_win(score, student, teacher, named)
    assert appeals(score, better.threshold).sum() == tied
    assert better.warning == ""


def test_tied_rows_that_nothing_is_won_by_are_no_reason_to_warn() -> None:
    score = np.r_[np.zeros(12), np.linspace(0.2, 1, 88)].astype(np.float32)
    right = np.ones(100, int)
    assert appeals_that_win(score, right, right, 0.1).warning == ""


@pytest.mark.parametrize(
    ("threshold", "words"),
    [
        (APPEAL_NEVER, "never, whatever its score"),
        (APPEAL_ALWAYS, "whatever its score"),
        (0.25, "where its score is below 0.25"),
    ],
)
def test_a_threshold_in_words(threshold: float, words: str) -> None:
    assert threshold_words(threshold) == words
