from __future__ import annotations

import json
import re
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import BadInput
from routers.calibration.calibrate import APPEAL_ALWAYS, CalibrationRows
from routers.calibration.goal_options import chosen_goal, options_of
from routers.calibration.goals import (
    GOALS,
    AccI,
    Accuracy,
    Appeals,
    Calibrated,
    CostPerAppeal,
    Goal,
    Risk,
    Unreachable,
    calibrate,
)

# Ten rows in order of score; appeals win +1, +1, −1, +1, 0, +1, then nothing. So after
# 0, 1, 2, … appeals the pair is right on 6, 7, 8, 7, 8, 8, 9, 9, 9, 9, 9 rows.
TEN = CalibrationRows(
    (np.arange(1, 11) / 10).astype(np.float32),
    np.array([0, 0, 1, 0, 1, 0, 1, 1, 1, 1]),
    np.array([1, 1, 0, 1, 1, 1, 1, 1, 1, 1]),
)


def some_rows(rows: int, seed: int, levels: int = 10**6) -> CalibrationRows:
    """A student that errs the more the lower its score, and a teacher right on 95 %."""
    rng = np.random.default_rng(seed)
    u = rng.random(rows)
    return CalibrationRows(
        (np.floor(u * levels) / levels).astype(np.float32),
        (rng.random(rows) >= 0.5 * (1 - u) ** 2).astype(np.int64),
        (rng.random(rows) < 0.95).astype(np.int64),
    )


@pytest.mark.parametrize(
    ("goal", "appealed"),
    [
        (Appeals(0.25), 2),
        (Appeals(1.0), 10),
        (Accuracy(0.6), 0),  # the student alone does it
        (Accuracy(0.61), 1),
        (Accuracy(0.8), 2),  # 8 of 10; three appeals would fall back to 7
        (Accuracy(0.9), 6),
        # The gap is 9 − 6 = 3 rows: .3 of it needs 6.9, so 7; a half 7.5, so 8; .9 needs 8.7.
        (AccI(0.0), 0),
        (AccI(0.3), 1),
        (AccI(0.5), 2),
        (AccI(0.9), 6),
        (AccI(1.0), 6),
        # Prices in wrong answers: at 3 of 100, 4, 3.03, 2.06, …, 1.18 after six appeals.
        (CostPerAppeal(3), 6),
        # At 30, 2.6 after two and 1 + 6·.3 = 2.8 after six.
        (CostPerAppeal(30), 2),
        (CostPerAppeal(3, cost_per_error=10), 2),
        # At 100 an appeal that mends an answer is worth just its price: the fewest appeals.
        (CostPerAppeal(100), 0),
        (CostPerAppeal(0), 6),  # for nothing: the fewest that make 9 right
        # At r = .5 and 90 %: four rows without an error pass, .5^4 = .0625. Five with one do not,
        # (1 + 5)·.5^5 = .19.
        (Risk(0.5, 0.9), 6),
        # At r = .7: two, .3² = .09. Then 5 rows with 1 error, .3^5 + 5·.7·.3^4 = .031, and 6 with 1
        # pass; 7 with 2, .3^7 + 7·.7·.3^6 + 21·.49·.3^5 = .029; 9 with 3 .025; all with 4 .047.
        (Risk(0.7, 0.9), 0),
    ],
)
def test_ten_rows_by_hand(goal: Goal, appealed: int) -> None:
    result = calibrate(goal, TEN)
    assert result.expected.appeals == appealed / 10
    assert result.expected == TEN.at(result.threshold)
    assert result.met
    assert result.warning == ""


def test_what_to_expect_is_said_in_words() -> None:
    assert calibrate(Accuracy(0.8), TEN).words() == (
        "goal: a pair accuracy of 80% with the fewest appeals; threshold 0.3; on 10 calibration "
        "rows 20.0% appeals, pair accuracy 80.00%, AccI 66.7%, 25.00% of trusted answers wrong: met"
    )


EXAMPLES: dict[str, Goal] = {
    "appeals": Appeals(0.2),
    "accuracy": Accuracy(0.85),
    "acci": AccI(0.5),
    "cost_per_appeal": CostPerAppeal(3, 50),
    "risk": Risk(0.2, 0.9),
}


@pytest.mark.parametrize("name", GOALS)
class TestEveryGoal:
    def test_is_called_by_its_first_field(self, name: str) -> None:
        first, *others = fields(GOALS[name])
        assert GOALS[name].name == first.name == name
        assert all(other.default is not None for other in others)

    def test_comes_back_from_its_options_through_json(self, name: str) -> None:
        goal = EXAMPLES[name]
        assert type(goal) is GOALS[name]
        assert chosen_goal(json.loads(json.dumps(options_of(goal)))) == goal

    @given(rows=st.integers(60, 200), seed=st.integers(0, 9999), levels=st.sampled_from([9, 10**6]))
    @settings(max_examples=25, deadline=None)
    def test_is_met_where_it_was_chosen_and_its_threshold_survives(
        self, name: str, rows: int, seed: int, levels: int
    ) -> None:
        kept = some_rows(rows, seed, levels)
        result = calibrate(EXAMPLES[name], kept, nearest=True)
        assert result.met is (result.warning == "" or name == "appeals")
        assert result.expected == kept.at(json.loads(json.dumps(result.threshold)))
        assert float(np.float32(result.threshold)) == result.threshold

    def test_a_single_row_is_enough_or_the_refusal_says_why(self, name: str) -> None:
        row = CalibrationRows(np.array([0.5], np.float32), np.array([0]), np.array([1]))
        result = calibrate(EXAMPLES[name], row, nearest=True)
        assert result.met is (name != "risk")

    @pytest.mark.parametrize("right", [0, 1])
    def test_one_kind_of_row_is_no_trap(self, name: str, right: int) -> None:
        rows = CalibrationRows(
            np.linspace(0, 1, 80, dtype=np.float32), np.full(80, right), np.ones(80, dtype=int)
        )
        result = calibrate(EXAMPLES[name], rows, nearest=True)
        if right:
            # Student and teacher are right everywhere: nothing is worth an appeal.
            assert result.expected.appeals == 0
        assert result.met is not (name == ("acci" if right else "risk"))

    def test_says_what_it_asks(self, name: str) -> None:
        assert re.search(r"\d", EXAMPLES[name].words())

    @pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf")])
    def test_out_of_range_is_refused(self, name: str, value: float) -> None:
        with pytest.raises(BadInput, match=f"{name.replace('_', ' ')} is out of range: got"):
            GOALS[name](**{name: value})


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Appeals(20), "between 0 and 1. 20 % is 0.2"),
        (lambda: Accuracy(99), "got 99; .*99 % is .99"),
        (lambda: AccI(1.1), "got 1.1"),
        (lambda: Risk(0), "risk is out of range: got 0"),
        (lambda: Risk(1), "risk is out of range: got 1"),
        (lambda: Risk(0.1, 1), "confidence is out of range: got 1"),
        (lambda: Risk(0.1, 95), "95 % is 0.95"),
        (lambda: CostPerAppeal(3, 0), "cost per error is out of range: got 0"),
    ],
)
def test_bounds_are_named(make: Any, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        make()


class TestUnreachable:
    def test_accuracy_names_the_best_and_what_it_takes(self) -> None:
        with pytest.raises(Unreachable, match=r"got 0.95; .* at most 0.9000.* 60.0% appeals") as e:
            calibrate(Accuracy(0.95), TEN)
        # The fewest of the appeals that are right on 9 of 10.
        assert TEN.at(e.value.nearest).appeals == 0.6

    def test_acci_without_a_gap_says_so(self) -> None:
        exchanged = CalibrationRows(TEN.score, TEN.teacher_right, TEN.student_right)
        with pytest.raises(Unreachable, match=r"no accuracy gap.*teacher 60.00%, student 90.00%"):
            calibrate(AccI(0.5), exchanged)
        alike = CalibrationRows(TEN.score, TEN.student_right, TEN.student_right)
        result = calibrate(AccI(0.5), alike, nearest=True)
        assert (result.met, result.expected.appeals, result.expected.acc_i) == (False, 0, None)
        assert "teacher 60.00%, student 60.00%" in result.warning
        assert "no gap to win back" in result.words()
        assert result.words().endswith("not met")

    def test_risk_names_the_least_that_could_be_promised(self) -> None:
        # Four rows without an error: (1 − r)^4 ≤ .05 from r = .5271 on, in two digits .53.
        with pytest.raises(Unreachable, match=r"risk of 0.01 .* 0.53 or more, .* 60.0% appeals"):
            calibrate(Risk(0.01), TEN)

    def test_risk_of_a_student_that_is_always_wrong_appeals_everything(self) -> None:
        rows = CalibrationRows(TEN.score, np.zeros(10, int), TEN.teacher_right)
        result = calibrate(Risk(0.01), rows, nearest=True)
        assert result.threshold == APPEAL_ALWAYS
        assert not result.met
        assert "no risk below 1 can be promised" in result.warning

    def test_a_job_may_take_the_nearest_which_is_not_met(self) -> None:
        result = calibrate(Accuracy(0.95), TEN, nearest=True)
        assert result == Calibrated(
            Accuracy(0.95), result.threshold, TEN.at(result.threshold), False, result.warning
        )
        assert result.expected.accuracy == 0.9
        assert result.warning.startswith("the pair does not reach the accuracy on 10 calibration")

    @given(rows=st.integers(1, 150), seed=st.integers(0, 9999), levels=st.sampled_from([5, 10**6]))
    @settings(max_examples=40, deadline=None)
    def test_what_the_refusal_names_can_be_asked_for(
        self, rows: int, seed: int, levels: int
    ) -> None:
        kept = some_rows(rows, seed, levels)
        for goal, named in (
            (Accuracy(1), r"at most ([\d.]+),"),
            (Risk(1e-4), r"risk of ([\d.]+) "),
        ):
            warning = calibrate(goal, kept, nearest=True).warning
            found = re.search(f"expected .*{named}", warning)
            if found:
                reached = calibrate(type(goal)(float(found[1])), kept)
                assert reached.met
                assert f"{reached.expected.appeals:.1%} appeals" in warning


def test_appeals_that_win_nothing_are_not_made() -> None:
    exchanged = CalibrationRows(TEN.score, TEN.teacher_right, TEN.student_right)
    result = calibrate(Appeals(0.2), exchanged)
    assert result.expected.appeals == 0
    assert result.met
    assert "nothing is appealed" in result.warning


def test_rows_of_equal_score_appeal_together() -> None:
    # Three rows tie at .2; the first of them would do, but it takes all three.
    rows = CalibrationRows(
        np.array([0.2, 0.2, 0.2, 0.8], np.float32), np.array([0, 1, 1, 1]), np.ones(4, int)
    )
    for goal in (Accuracy(1), AccI(0.1), CostPerAppeal(3)):
        assert calibrate(goal, rows).expected.appeals == 0.75
    # At 40 of 100 the three cost more than the one answer that they mend.
    assert calibrate(CostPerAppeal(40), rows).expected.appeals == 0


two_targets = given(
    rows=st.integers(1, 120),
    seed=st.integers(0, 9999),
    levels=st.sampled_from([1, 6, 10**6]),
    low=st.floats(0, 1),
    high=st.floats(0, 1),
)


@two_targets
@settings(max_examples=60, deadline=None)
def test_the_higher_target_never_appeals_less(
    rows: int, seed: int, levels: int, low: float, high: float
) -> None:
    kept, (low, high) = some_rows(rows, seed, levels), sorted((low, high))
    for kind in (Accuracy, AccI):
        reached = [calibrate(kind(target), kept, nearest=True) for target in (low, high)]
        if all(result.met for result in reached):
            assert reached[0].expected.appeals <= reached[1].expected.appeals


@two_targets
@settings(max_examples=60, deadline=None)
def test_the_cheaper_appeal_is_made_no_less_often(
    rows: int, seed: int, levels: int, low: float, high: float
) -> None:
    kept, (low, high) = some_rows(rows, seed, levels), sorted((low, high))
    cheap, dear = (calibrate(CostPerAppeal(price, 1.0), kept) for price in (low, high))
    assert cheap.expected.appeals >= dear.expected.appeals


@two_targets
@settings(max_examples=60, deadline=None)
def test_a_budget_is_never_overspent(
    rows: int, seed: int, levels: int, low: float, high: float
) -> None:
    kept = some_rows(rows, seed, levels)
    for budget in (low, high):
        assert calibrate(Appeals(budget), kept).expected.appeals <= budget + 1e-9


@two_targets
@settings(max_examples=60, deadline=None)
def test_no_threshold_with_fewer_appeals_or_a_lower_price_does_it(
    rows: int, seed: int, levels: int, low: float, high: float
) -> None:
    kept = some_rows(rows, seed, levels)
    points = [kept.at(float(threshold)) for threshold in kept.decisions.threshold]
    for goal in (Accuracy(low), AccI(high)):
        result = calibrate(goal, kept, nearest=True)
        enough = [point.appeals for point in points if goal.met(point)]
        assert result.met is bool(enough)
        if enough:
            assert result.expected.appeals == min(enough)
    cost = CostPerAppeal(low, 1.0)
    price = cost.price(calibrate(cost, kept).expected)
    assert price == pytest.approx(min(map(cost.price, points)))


def test_whether_a_goal_is_kept_can_be_asked_of_other_rows() -> None:
    # On these rows the teacher is wrong where it was right: two appeals lose what they won.
    other = CalibrationRows(TEN.score, TEN.teacher_right, TEN.student_right)
    threshold = calibrate(Accuracy(0.8), TEN).threshold
    point = other.at(threshold)
    assert (point.appeals, point.accuracy) == (0.2, 0.7)
    assert not Accuracy(0.8).met(point)
    assert not AccI(0.1).met(point)
    assert not CostPerAppeal(3).met(point)  # dearer than the student alone
    assert Appeals(0.2).met(point)
    # Of the eight trusted rows the student errs on one, .125.
    assert Risk(0.125).met(point)
    assert not Risk(0.12).met(point)
