from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from routers.metrics import (
    acc_i,
    area_under,
    auroc,
    bootstrap_areas,
    deferral_curve,
    oracle_curve,
    pair_accuracy,
    random_curve,
    skipping_rate,
)

# Four rows: the student is right on the first two, the teacher on all but the second.
STUDENT = np.array([1, 1, 0, 0])
TEACHER = np.array([1, 0, 1, 1])


def test_a_curve_by_hand() -> None:
    # Appeals in the order of score: row 2 (+1), row 1 (−1), row 0 (0), row 3 (+1).
    # Right answers: 2, 3, 2, 2, 3 of 4.
    curve = deferral_curve(np.array([0.6, 0.5, 0.1, 0.9]), STUDENT, TEACHER)
    assert curve.rate.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert curve.accuracy.tolist() == [0.5, 0.75, 0.5, 0.5, 0.75]
    # Trapezoids: ¼·(.625 + .625 + .5 + .625) = .59375.
    assert area_under(curve) == pytest.approx(0.59375)


def test_oracle_and_random_by_hand() -> None:
    # Gains sorted: +1, +1, 0, −1 over 2 right answers: 2, 3, 4, 4, 3 of 4.
    assert oracle_curve(STUDENT, TEACHER).accuracy.tolist() == [0.5, 0.75, 1, 1, 0.75]
    # A line from the student's 2/4 to the teacher's 3/4.
    line = random_curve(STUDENT, TEACHER)
    assert line.accuracy == pytest.approx(np.linspace(0.5, 0.75, 5))
    assert area_under(line) == pytest.approx(0.625)


def test_ties_count_by_expectation() -> None:
    # Rows 1, 2 (−1, +1) tie first: whichever goes first, on average nothing is gained by one.
    curve = deferral_curve(np.array([0.5, 0.2, 0.2, 0.9]), STUDENT, TEACHER)
    assert curve.accuracy.tolist() == [0.5, 0.5, 0.5, 0.5, 0.75]


@given(data=st.data(), rows=st.integers(1, 5))
@settings(max_examples=40, deadline=None)
def test_a_curve_is_the_mean_over_all_orders_that_the_scores_allow(
    data: st.DataObject, rows: int
) -> None:
    bits = st.lists(st.integers(0, 1), min_size=rows, max_size=rows)
    student, teacher = np.array(data.draw(bits)), np.array(data.draw(bits))
    coarse = st.lists(st.integers(0, 2), min_size=rows, max_size=rows)
    score = np.array(data.draw(coarse), dtype=np.float64)
    curves = []
    for order in itertools.permutations(range(rows)):
        if np.all(np.diff(score[list(order)]) >= 0):
            gains = (teacher - student)[list(order)]
            curves.append((student.sum() + np.r_[0, np.cumsum(gains)]) / rows)
    expected = np.mean(curves, axis=0)
    assert deferral_curve(score, student, teacher).accuracy == pytest.approx(expected)


def some_rows(rows: int, seed: int, levels: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    rng = np.random.default_rng(seed)
    return (
        rng.integers(0, levels, rows) / levels,
        rng.integers(0, 2, rows),
        rng.integers(0, 2, rows),
    )


@given(rows=st.integers(1, 30), seed=st.integers(0, 10_000), levels=st.sampled_from([2, 5, 1000]))
@settings(max_examples=60, deadline=None)
def test_nothing_beats_the_oracle_and_ends_are_student_and_teacher(
    rows: int, seed: int, levels: int
) -> None:
    score, student, teacher = some_rows(rows, seed, levels)
    curve, oracle = deferral_curve(score, student, teacher), oracle_curve(student, teacher)
    assert np.all(curve.accuracy <= oracle.accuracy + 1e-12)
    assert curve.accuracy[0] == pytest.approx(student.mean())
    assert curve.accuracy[-1] == pytest.approx(teacher.mean())


@given(rows=st.integers(1, 30), seed=st.integers(0, 10_000), levels=st.sampled_from([2, 5, 1000]))
@settings(max_examples=60, deadline=None)
def test_a_resample_has_the_area_of_the_rows_it_repeats(rows: int, seed: int, levels: int) -> None:
    score, student, teacher = some_rows(rows, seed, levels)
    counts = np.random.default_rng(seed).multinomial(rows, np.full(rows, 1 / rows), size=3)
    counts[0] = 1
    repeated = [np.repeat(np.arange(rows), count) for count in counts]
    expected = [area_under(deferral_curve(score[i], student[i], teacher[i])) for i in repeated]
    assert bootstrap_areas(score, student, teacher, counts) == pytest.approx(expected)


@given(rows=st.integers(2, 40), seed=st.integers(0, 10_000), levels=st.sampled_from([2, 5, 1000]))
@settings(max_examples=40, deadline=None)
def test_auroc_is_scikit_learns(rows: int, seed: int, levels: int) -> None:
    score, student, _ = some_rows(rows, seed, levels)
    student[:2] = 0, 1
    assert auroc(score, student) == pytest.approx(roc_auc_score(student, score))


def test_auroc_needs_both_kinds_of_row() -> None:
    assert np.isnan(auroc(np.array([0.1, 0.2]), np.array([1, 1])))
    assert np.isnan(auroc(np.array([0.1, 0.2]), np.array([0, 0])))


def test_an_operating_point_by_hand() -> None:
    # Rows 1 and 2 appeal: student, teacher, teacher, student answer: 1, 0, 1, 0 → ½.
    appealed = np.array([False, True, True, False])
    assert pair_accuracy(appealed, STUDENT, TEACHER) == 0.5
    assert skipping_rate(appealed) == 0.5


def test_acc_i_by_hand_and_where_there_is_no_gap() -> None:
    assert acc_i(0.95, 0.90, 0.98) == pytest.approx(0.625)  # .05/.08
    assert acc_i(0.99, 0.90, 0.98) == pytest.approx(1.125)  # a pair may beat its teacher
    assert acc_i(0.89, 0.90, 0.98) == pytest.approx(-0.125)
    assert acc_i(0.95, 0.98, 0.98) is None
    assert acc_i(0.95, 0.99, 0.98) is None


@pytest.mark.parametrize(("score", "teacher"), [(3, 4), (4, 3), (0, 0)])
def test_rows_must_match(score: int, teacher: int) -> None:
    with pytest.raises(ValueError, match=r"same rows|one score a row"):
        deferral_curve(np.zeros(score), STUDENT if score else STUDENT[:0], TEACHER[:teacher])
