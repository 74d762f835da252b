"""Facts about the rewards: what the thresholds C0 and A0 can do, and what they cannot."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from edge.errors import BadInput
from envs.reward import (
    REWARDS,
    N2NReward,
    PaperReward,
    Reward,
    ThresholdReward,
    TimedReward,
    compression,
    make_reward,
)

shares = st.floats(0, 1)
#: a candidate: its accuracy, and its C, which is negative where the student outgrew the teacher
candidates = st.tuples(shares, st.floats(-1, 1))
weights = st.floats(0.5, 40)
#: per member; there are six of them
FEW = settings(max_examples=30)
#: milliseconds
times = st.floats(0.01, 20)


def sign(number: float) -> int:
    return (number > 1e-9) - (number < -1e-9)


def sign_of(first: float, second: float) -> int:
    return (first > second) - (first < second)


@given(candidates, candidates, weights, weights, shares, shares, shares, shares)
def test_under_equation_7_the_thresholds_never_change_an_order(
    one: tuple[float, float],
    other: tuple[float, float],
    alpha: float,
    beta: float,
    c0: float,
    a0: float,
    new_c0: float,
    new_a0: float,
) -> None:
    """R = e^(αC + βA) · e^(−αC0 − βA0): the second factor is the same for every candidate."""
    before = PaperReward(alpha, beta, c0, a0)
    after = PaperReward(alpha, beta, new_c0, new_a0)
    gap = before.log(*one) - before.log(*other)
    assert after.log(*one) - after.log(*other) == pytest.approx(gap, abs=1e-9)
    if sign(gap):
        assert (before(*one) > before(*other)) == (after(*one) > after(*other)) == (gap > 0)


@given(
    st.floats(0.05, 0.95),
    st.floats(0.05, 0.95),
    st.floats(0.01, 0.9),
    st.floats(0.01, 0.9),
    weights,
    weights,
    st.floats(0, 0.9),
)
def test_under_the_default_thresholds_swap_every_real_trade_off(
    accuracy: float,
    compressed: float,
    gain: float,
    loss: float,
    alpha: float,
    beta: float,
    rho: float,
) -> None:
    """Of two candidates one is more accurate and the other smaller, and neither is far ahead.

    Thresholds below both in accuracy and above both in compression make what is lost in
    compression count in full and what is won in accuracy count ρ-fold, so the smaller one wins;
    thresholds the other way round make the more accurate one win. This works wherever the ratio
    of what the two are ahead, αΔC / βΔA, lies between ρ and 1/ρ.
    """
    precise = (min(1.0, accuracy + gain), compressed)
    small = (accuracy, min(1.0, compressed + loss))
    ahead = beta * (precise[0] - small[0])
    saved = alpha * (small[1] - precise[1])
    assume(ahead > 1.001 * rho * saved + 1e-6)
    assume(saved > 1.001 * rho * ahead + 1e-6)
    size_matters = ThresholdReward(alpha, beta, c0=small[1], a0=small[0], rho=rho)
    accuracy_matters = ThresholdReward(alpha, beta, c0=precise[1], a0=precise[0], rho=rho)
    assert size_matters.log(*small) > size_matters.log(*precise)
    assert accuracy_matters.log(*small) < accuracy_matters.log(*precise)


def test_one_such_swap() -> None:
    # 99.2 % at C = .93 against 98.8 % at C = .94, α = 20, β = 15, ρ = .1.
    # A0 = .99, C0 = .93: 15 · .1 · .002 + 0 = .003  against  15 · −.002 + 2 · .01 = −.01
    strict_on_accuracy = ThresholdReward(c0=0.93, a0=0.99)
    assert strict_on_accuracy.log(0.992, 0.93) == pytest.approx(0.003)
    assert strict_on_accuracy.log(0.988, 0.94) == pytest.approx(-0.01)
    # A0 = .98, C0 = .94: 1.5 · .012 + 20 · −.01 = −.182  against  1.5 · .008 + 0 = .012
    strict_on_size = ThresholdReward(c0=0.94, a0=0.98)
    assert strict_on_size.log(0.992, 0.93) == pytest.approx(-0.182)
    assert strict_on_size.log(0.988, 0.94) == pytest.approx(0.012)


@given(candidates, weights, weights, shares, shares)
def test_rho_of_1_gives_equation_7_back(
    candidate: tuple[float, float], alpha: float, beta: float, c0: float, a0: float
) -> None:
    bent = ThresholdReward(alpha, beta, c0, a0, rho=1)
    assert bent.log(*candidate) == PaperReward(alpha, beta, c0, a0).log(*candidate)


#: of every setting that any member knows, one that is not its default
SETTINGS = {"alpha": 12.0, "beta": 9.0, "c0": 0.8, "a0": 0.7, "rho": 0.3, "teacher": 0.9}
TIMED = SETTINGS | {"gamma": 2.0, "l0": 5.0}
#: every member as a job makes it, without and with a latency factor
MEMBERS = {
    f"{name}{suffix}": make_reward(name, chosen)
    for name in REWARDS
    for suffix, chosen in (("", SETTINGS), (" x latency", TIMED))
}


@pytest.mark.parametrize("reward", MEMBERS.values(), ids=MEMBERS)
class TestEveryReward:
    @FEW
    @given(candidate=candidates, more=st.floats(0.001, 0.5), ms=times)
    def test_more_accuracy_and_more_compression_are_worth_more(
        self, reward: Reward, candidate: tuple[float, float], more: float, ms: float
    ) -> None:
        accuracy, compressed = candidate
        assert reward(accuracy + more, compressed, ms) > reward(accuracy, compressed, ms)
        smaller = min(1.0, compressed + more)
        assume(smaller - compressed > 0.0005)
        assert reward(accuracy, smaller, ms) > reward(accuracy, compressed, ms)

    @FEW
    @given(one=candidates, other=candidates, ms=times)
    def test_it_is_positive_and_its_exponent_orders_alike(
        self, reward: Reward, one: tuple[float, float], other: tuple[float, float], ms: float
    ) -> None:
        first, second = reward(*one, ms), reward(*other, ms)
        assert 0 < first < math.inf
        assert first == pytest.approx(math.exp(reward.log(*one, ms)), rel=1e-12)
        assert sign(reward.log(*one, ms) - reward.log(*other, ms)) in (0, sign_of(first, second))

    @FEW
    @given(rows=st.lists(st.tuples(candidates, times), min_size=1, max_size=5))
    def test_many_are_what_each_is(
        self, reward: Reward, rows: list[tuple[tuple[float, float], float]]
    ) -> None:
        accuracies, compressed, ms = (
            np.array(column) for column in zip(*((a, c, t) for (a, c), t in rows), strict=True)
        )
        singly = [reward(*candidate, t) for candidate, t in rows]
        found = reward.many(accuracies, compressed, ms)
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, singly, rtol=1e-12)

    def test_a_hopeless_candidate_is_still_above_one_that_failed(self, reward: Reward) -> None:
        assert reward(0.0, -1000.0, 1e9) > 0

    def test_its_settings_make_it_again(self, reward: Reward) -> None:
        name = next(
            name
            for name, kind in REWARDS.items()
            if isinstance(getattr(reward, "reward", reward), kind)
        )
        assert make_reward(name, reward.settings) == reward


@pytest.mark.parametrize("make", [PaperReward, ThresholdReward])
class TestEveryRewardWithThresholds:
    def test_it_is_1_at_the_thresholds(self, make: Callable[..., Reward]) -> None:
        assert make(c0=0.8, a0=0.7)(0.7, 0.8) == 1

    def test_the_largest_weights_still_give_a_number(self, make: Callable[..., Reward]) -> None:
        largest = make(alpha=300, beta=300, c0=0, a0=0)
        assert math.isfinite(largest(1, 1))
        assert math.isfinite(TimedReward(largest, 100, 1)(1, 1, 0))

    @pytest.mark.parametrize(
        ("name", "value", "bound"),
        [
            ("alpha", -1, "0 to 300"),
            ("beta", 301, "0 to 300"),
            ("c0", 1.5, "0 to 1"),
            ("a0", -0.1, "0 to 1"),
            ("a0", math.nan, "0 to 1"),
            ("alpha", math.inf, "0 to 300"),
        ],
    )
    def test_a_value_out_of_range_is_refused(
        self, make: Callable[..., Reward], name: str, value: float, bound: str
    ) -> None:
        message = f"`{name}` .* got {value}; expected a number from {bound}. Set --{name} within"
        with pytest.raises(BadInput, match=message):
            make(**{name: value})


def test_n2n_worked_by_hand() -> None:
    # C = .8, A = .72, a teacher at 90 %: .8 · 1.2 · .72/.9 = .768
    assert N2NReward(0.9)(0.72, 0.8) == pytest.approx(0.768)
    # at C = .01 the tangent begins: log R goes on with slope 1.98/.0199
    edge, below = N2NReward(0.9).log(0.72, 0.01), N2NReward(0.9).log(0.72, -0.09)
    assert edge == pytest.approx(math.log(0.0199 * 0.8))
    assert edge - below == pytest.approx(0.1 * 1.98 / 0.0199)


def test_the_latency_factor_worked_by_hand() -> None:
    # L = 6 ms of L0 = 5, γ = 2: e^{2·(5 − 6)/5} = e^{−.4}
    plain = PaperReward()
    timed = TimedReward(plain, gamma=2, l0=5)
    assert timed(0.8, 0.9, 6.0) == pytest.approx(plain(0.8, 0.9) * math.exp(-0.4))
    assert timed(0.8, 0.9, 5.0) == plain(0.8, 0.9)
    with pytest.raises(ValueError, match="needs the latency"):
        timed(0.8, 0.9)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"gamma": 101, "l0": 5}, "`gamma` .* got 101; expected a number from 0 to 100"),
        ({"gamma": 1, "l0": 0}, "`l0` .* got 0; .* above 0. Set --l0 or --max-ms"),
        ({"gamma": 1, "l0": math.nan}, "`l0` .* got nan"),
        ({"rho": 2}, "`rho` .* got 2"),
    ],
)
def test_settings_of_a_job_out_of_range_are_refused(chosen: dict[str, float], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        make_reward("threshold", chosen)


@pytest.mark.parametrize("teacher", [-0.1, 1.1, math.nan])
def test_a_teacher_out_of_range_is_refused(teacher: float) -> None:
    with pytest.raises(BadInput, match=f"`teacher` .* got {teacher}; expected a number from 0 to"):
        N2NReward(teacher)


@pytest.mark.parametrize("rho", [-0.1, 1.1, math.nan])
def test_a_slope_out_of_range_is_refused(rho: float) -> None:
    with pytest.raises(BadInput, match=f"`rho` .* got {rho}; expected a number from 0 to 1"):
        ThresholdReward(rho=rho)


@given(st.integers(0, 10**12), st.integers(1, 10**12))
def test_compression_is_equation_5(student: int, teacher: int) -> None:
    exact = 1 - Fraction(student, teacher)
    assert compression(student, teacher) == pytest.approx(float(exact), rel=1e-12, abs=1e-12)
