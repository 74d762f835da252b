"""Facts about the rewards: what the thresholds C0 and A0 can do, and what they cannot."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from edge.errors import BadInput
from envs.reward import REWARDS, PaperReward, Reward, ThresholdReward, compression

shares = st.floats(0, 1)
#: a candidate: its accuracy, and its C, which is negative where the student outgrew the teacher
candidates = st.tuples(shares, st.floats(-1, 1))
weights = st.floats(0.5, 40)


def sign(number: float) -> int:
    return (number > 1e-9) - (number < -1e-9)


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


@pytest.mark.parametrize("make", REWARDS.values(), ids=REWARDS)
class TestEveryReward:
    @given(candidate=candidates, more=st.floats(0.001, 0.5), c0=shares, a0=shares)
    def test_more_accuracy_and_more_compression_are_worth_more(
        self,
        make: Callable[..., Reward],
        candidate: tuple[float, float],
        more: float,
        c0: float,
        a0: float,
    ) -> None:
        reward = make(c0=c0, a0=a0)
        accuracy, compressed = candidate
        assert reward(accuracy + more, compressed) > reward(accuracy, compressed)
        assert reward(accuracy, compressed + more) > reward(accuracy, compressed)

    def test_it_is_1_at_the_thresholds(self, make: Callable[..., Reward]) -> None:
        assert make(c0=0.8, a0=0.7)(0.7, 0.8) == 1

    @given(candidate=candidates)
    def test_it_is_the_exponential_of_its_exponent(
        self, make: Callable[..., Reward], candidate: tuple[float, float]
    ) -> None:
        assert make()(*candidate) == math.exp(make().log(*candidate))

    def test_the_largest_weights_still_give_a_number(self, make: Callable[..., Reward]) -> None:
        assert math.isfinite(make(alpha=300, beta=300, c0=0, a0=0)(1, 1))

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


@pytest.mark.parametrize("rho", [-0.1, 1.1, math.nan])
def test_a_slope_out_of_range_is_refused(rho: float) -> None:
    with pytest.raises(BadInput, match=f"`rho` .* got {rho}; expected a number from 0 to 1"):
        ThresholdReward(rho=rho)


@given(st.integers(0, 10**12), st.integers(1, 10**12))
def test_compression_is_equation_5(student: int, teacher: int) -> None:
    exact = 1 - Fraction(student, teacher)
    assert compression(student, teacher) == pytest.approx(float(exact), rel=1e-12, abs=1e-12)
