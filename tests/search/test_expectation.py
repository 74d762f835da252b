"""What a short training says of a full one."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.netspec import NetSpec
from envs.reward import ThresholdReward
from search.expectation import Expectation
from search.space import Space
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
