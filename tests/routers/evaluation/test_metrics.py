from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from edge.errors import BadInput
from routers.evaluation.metrics import (
    OperatingPoint,
    Prices,
    acc_i,
    accuracy_at,
    appealing_rate,
    appeals_for_acc_i,
    area_under,
    aurc,
    auroc,
    deferral_curve,
    excess_aurc,
    operating_point,
    oracle_curve,
    overall_cost,
    pair_accuracy,
    random_curve,
    risk_coverage,
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
    # Rows 0 and 3 are trusted, and the student is wrong on one of them. Nothing of the gap from
    # 2/4 to 3/4 is won back.
    assert operating_point(appealed, STUDENT, TEACHER) == OperatingPoint(
        rows=4,
        appeals=0.5,
        accuracy=0.5,
        student_accuracy=0.5,
        teacher_accuracy=0.75,
        acc_i=0.0,
        risk=0.5,
    )


def test_rates_and_cost_by_hand() -> None:
    # One of four appeals: SR = .75, AR = .25. With 2 for the edge and 10 more for the cloud,
    # c₁ = 2 and c₀ = 12: .75·2 + .25·12 = 4.5.
    appealed = np.array([False, False, True, False])
    assert skipping_rate(appealed) == 0.75
    assert appealing_rate(appealed) == 0.25
    assert overall_cost(appealed, Prices(edge=2, cloud=10)) == pytest.approx(4.5)
    # A user who pays for appeals alone: 3 each.
    assert overall_cost(appealed, Prices(edge=0, cloud=3)) == pytest.approx(0.75)
    # Nothing appealed, everything appealed: c₁ and c₀.
    assert overall_cost(np.zeros(4, dtype=bool), Prices(2, 10)) == 2
    assert overall_cost(np.ones(4, dtype=bool), Prices(2, 10)) == 12


@pytest.mark.parametrize(
    ("edge", "cloud", "name"),
    [(-1, 0, "edge"), (0, float("nan"), "cloud"), (float("inf"), 0, "edge")],
)
def test_a_price_out_of_range_is_refused(edge: float, cloud: float, name: str) -> None:
    with pytest.raises(BadInput, match=rf"`{name}`.*0 or more"):
        Prices(edge, cloud)


def test_nothing_trusted_has_no_risk() -> None:
    point = operating_point(np.array([True]), np.array([0]), np.array([1]))
    assert point.risk is None
    assert (point.accuracy, point.acc_i) == (1.0, 1.0)


def test_acc_i_by_hand_and_where_there_is_no_gap() -> None:
    assert acc_i(0.95, 0.90, 0.98) == pytest.approx(0.625)  # .05/.08
    assert acc_i(0.99, 0.90, 0.98) == pytest.approx(1.125)  # a pair may beat its teacher
    assert acc_i(0.89, 0.90, 0.98) == pytest.approx(-0.125)
    assert acc_i(0.95, 0.98, 0.98) is None
    assert acc_i(0.95, 0.99, 0.98) is None


def test_readings_of_a_curve_by_hand() -> None:
    # The curve of the first test: ½, ¾, ½, ½, ¾ at rates 0, ¼, ½, ¾, 1.
    curve = deferral_curve(np.array([0.6, 0.5, 0.1, 0.9]), STUDENT, TEACHER)
    assert accuracy_at(curve, 0.25) == 0.75
    assert accuracy_at(curve, 0.1) == pytest.approx(0.6)  # .5 + .25·.1/.25
    # Half the gap from ½ to ¾ is won at .625, all of it at .75: one row does both. Half as much
    # again would take .875, which no rate has.
    assert appeals_for_acc_i(curve, 0.5) == 0.25
    assert appeals_for_acc_i(curve, 1.0) == 0.25
    assert appeals_for_acc_i(curve, 1.5) is None
    with pytest.raises(ValueError, match="1.1"):
        accuracy_at(curve, 1.1)


def test_ties_win_the_gap_back_evenly() -> None:
    # Four rows of equal score, three of them won by the teacher: each appeal wins ¾ of a row, and
    # .25, .4375, .625, .8125, 1 are right. Half the gap of .75 needs .625, 60 % of it .7.
    curve = deferral_curve(np.ones(4), np.array([0, 0, 0, 1]), np.ones(4, dtype=int))
    assert appeals_for_acc_i(curve, 0.5) == 0.5
    assert appeals_for_acc_i(curve, 0.6) == 0.75


@pytest.mark.parametrize("teacher", [[1, 1, 0, 0], [0, 1, 0, 0]])
def test_without_a_gap_no_appeals_win_it_back(teacher: list[int]) -> None:
    curve = deferral_curve(np.array([0.6, 0.5, 0.1, 0.9]), STUDENT, np.array(teacher))
    assert appeals_for_acc_i(curve, 0.5) is None


def test_aurc_by_hand() -> None:
    score, right = np.array([0.6, 0.9, 0.7, 0.8]), np.array([0, 1, 1, 0])
    # From the most trusted on: right, wrong, right, wrong. Risks 0, 1/2, 1/3, 2/4: mean 1/3.
    curve = risk_coverage(score, right)
    assert curve.coverage.tolist() == [0.25, 0.5, 0.75, 1]
    assert curve.risk == pytest.approx([0, 1 / 2, 1 / 3, 1 / 2])
    assert aurc(score, right) == pytest.approx(1 / 3)
    # The oracle: right, right, wrong, wrong: (0 + 0 + 1/3 + 2/4) / 4 = 5/24; 8/24 − 5/24 = 1/8.
    assert excess_aurc(score, right) == pytest.approx(1 / 8)


@given(data=st.data(), rows=st.integers(1, 5))
@settings(max_examples=40, deadline=None)
def test_aurc_is_the_mean_over_all_orders_that_the_scores_allow(
    data: st.DataObject, rows: int
) -> None:
    right = np.array(data.draw(st.lists(st.integers(0, 1), min_size=rows, max_size=rows)))
    coarse = st.lists(st.integers(0, 2), min_size=rows, max_size=rows)
    score = np.array(data.draw(coarse), dtype=np.float64)
    areas = []
    for order in itertools.permutations(range(rows)):
        if np.all(np.diff(score[list(order)]) <= 0):
            wrong = 1 - right[list(order)]
            areas.append(np.mean(np.cumsum(wrong) / np.arange(1, rows + 1)))
    assert aurc(score, right) == pytest.approx(np.mean(areas))
    assert excess_aurc(score, right) >= -1e-12


@pytest.mark.parametrize("right", [0, 1])
def test_with_one_kind_of_row_every_score_is_the_oracle(right: int) -> None:
    score, labels = np.array([0.3, 0.1, 0.2]), np.full(3, right)
    assert aurc(score, labels) == 1 - right
    assert excess_aurc(score, labels) == 0


@pytest.mark.parametrize(("score", "teacher"), [(3, 4), (4, 3), (0, 0)])
def test_rows_must_match(score: int, teacher: int) -> None:
    with pytest.raises(ValueError, match=r"same rows|one score a row"):
        deferral_curve(np.zeros(score), STUDENT if score else STUDENT[:0], TEACHER[:teacher])
    with pytest.raises(ValueError, match=r"same rows|one score a row"):
        risk_coverage(np.zeros(score), STUDENT[: (2 if score else 0)])
