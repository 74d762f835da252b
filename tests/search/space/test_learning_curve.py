"""What a short training says of a full one."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.graph.netspec import NetSpec
from envs.reward import ThresholdReward
from search.space.learning_curve import Expectation
from search.space.space import Space
from tests.search.conftest import HALVES

# the full training sees 4 times the images of 4 epochs of the proxy, 16 times those of one
HALF = Expectation(teacher=0.99, images=100, full=1600, gain=0.5, rows=1000)


def test_worked_by_hand() -> None:
    # b = 4^-½ = ½: an error of 16 %, 16 times the teacher's, is expected to come down to 4 times
    assert HALF.gap(0.84) == pytest.approx(math.log(16))
    assert HALF(0.84, 4) == pytest.approx(0.96)
    # after one epoch b = 16^-½ = ¼, and the 16 comes down to 2
    assert HALF(0.84, 1) == pytest.approx(0.98)
    # as good as the teacher: stays there; and no training at all is left: nothing is added
    assert HALF(0.99, 1) == pytest.approx(0.99)
    assert HALF(0.84, 16) == HALF(0.84, 99) == pytest.approx(0.84)


def test_without_gain_a_proxy_is_taken_at_its_word() -> None:
    literal = replace(HALF, gain=0.0)
    assert [literal(accuracy, 1) for accuracy in (0.1, 0.5, 0.9)] == [
        pytest.approx(accuracy) for accuracy in (0.1, 0.5, 0.9)
    ]


SHARE = st.floats(0, 0.999)  # an error of half a row is the least that there is


@given(SHARE, SHARE, st.integers(1, 20), SHARE, st.floats(0, 2))
def test_order_is_kept_and_the_weak_gain_more(
    one: float, other: float, epochs: int, teacher: float, gain: float
) -> None:
    expect = replace(HALF, teacher=teacher, gain=gain)
    low, high = sorted((one, other))
    assert 0 <= expect(low, epochs) <= expect(high, epochs) + 1e-12 <= 1 + 1e-12
    if high <= teacher:
        assert expect(low, epochs) >= low - 1e-9


def test_a_teacher_without_error_is_no_division_by_nothing() -> None:
    expect = replace(HALF, teacher=1.0)
    assert 0.9 < expect(0.9, 4) < 1
    assert expect(1.0, 4) == pytest.approx(1 - 0.5 / 1000)


def test_many_at_once_are_the_same() -> None:
    accuracies = np.linspace(0, 1, 7)
    many = HALF.many(accuracies, 2)
    assert many.tolist() == [HALF(float(accuracy), 2) for accuracy in accuracies]


def test_a_space_rewards_what_is_expected(toy: NetSpec) -> None:
    plain = Space(toy, HALVES, ThresholdReward())
    space = Space(toy, HALVES, ThresholdReward(), expectation=HALF)
    assert plain.expected(0.84, 4) == 0.84
    assert space.expected(0.84, 4) == pytest.approx(0.96)
    # what was measured after the full training needs no expectation
    keep = tuple(int(np.flatnonzero(mask)[-1]) for mask in space.masks)
    assert space.reward_of(keep, 0.9) == plain.reward_of(keep, 0.9)


# one in two is right by chance; 100 rows, so that .6 is two standard deviations above it
LUCK = replace(HALF, teacher=0.9, rows=100, chance=0.5)


def test_at_chance_nothing_is_believed_and_half_way_to_the_teacher_everything() -> None:
    assert LUCK.above_chance == pytest.approx(0.6)
    sure = replace(LUCK, chance=None)
    for accuracy in (0.3, 0.5, 0.6):
        assert LUCK(accuracy, 4) == pytest.approx(accuracy)
        assert sure(accuracy, 4) > accuracy + 0.1
    for accuracy in (0.75, 0.8, 0.9):
        assert LUCK(accuracy, 4) == pytest.approx(sure(accuracy, 4))
    # a quarter of the way is half of the way to where all is believed
    middle = (0.675 + sure(0.675, 4)) / 2
    assert LUCK(0.675, 4) == pytest.approx(middle)


def test_without_a_word_of_chance_it_is_as_it_was() -> None:
    assert HALF.chance is None
    assert HALF.above_chance == 0
    assert replace(HALF, chance=0.0)(0.84, 4) == HALF(0.84, 4)


@given(SHARE, SHARE, st.integers(1, 20), SHARE, st.floats(0, 2), st.floats(0, 1))
def test_with_chance_as_well_more_is_never_worth_less(
    one: float, other: float, epochs: int, teacher: float, gain: float, chance: float
) -> None:
    expect = replace(HALF, teacher=teacher, gain=gain, chance=chance)
    low, high = sorted((one, other))
    assert 0 <= expect(low, epochs) <= expect(high, epochs) + 1e-9 <= 1 + 1e-8
    if high <= teacher:
        assert expect(high, epochs) >= high - 1e-9


def test_the_interval_worked_by_hand() -> None:
    # .96 is expected, and luck on 1,000 rows is twice √(.96 · .04 / 1,000)
    luck = 2 * math.sqrt(0.96 * 0.04 / 1000)
    assert HALF.interval(0.84, 4) == pytest.approx((0.96 - luck, 0.96 + luck))
    # with a deviation of ¼ g may be 0 or 1: from the 16 of the proxy to 16^¼ = 2 times the error
    low, high = replace(HALF, spread=0.25).interval(0.84, 4)
    assert low == pytest.approx(0.84 - luck)
    assert high == pytest.approx(0.98 + luck)


@given(SHARE, st.integers(1, 20), SHARE, st.floats(0, 2), st.floats(0, 1))
def test_the_interval_holds_what_is_expected(
    accuracy: float, epochs: int, teacher: float, gain: float, spread: float
) -> None:
    expect = replace(LUCK, teacher=teacher, gain=gain, spread=spread)
    low, high = expect.interval(accuracy, epochs)
    assert 0 <= low <= expect(accuracy, epochs) + 1e-9
    assert expect(accuracy, epochs) <= high + 1e-9 <= 1 + 1e-8
    wider = replace(expect, spread=spread + 0.1).interval(accuracy, epochs)
    assert wider[0] <= low + 1e-9
    assert wider[1] >= high - 1e-9


def test_who_was_trained_in_full_counts_with_what_it_reached(toy: NetSpec) -> None:
    space = Space(toy, HALVES, ThresholdReward(), expectation=HALF)
    space.reached["known"] = 0.7
    assert space.expected(0.84, 4, "known") == 0.7
    assert space.expected(0.84, 4, "other") == pytest.approx(0.96)
    space.expect(0.0, 0.1)
    assert space.expectation == replace(HALF, gain=0.0, spread=0.1)
    assert space.expected(0.84, 4) == pytest.approx(0.84)
