from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from benchmarks.risk import CONFIDENCE, limit, measure, shapes
from routers.calibration.calibrate import APPEAL_NEVER, appeals
from routers.calibration.risk import boldest_promise, first_step, nearest_promise
from routers.evaluation.intervals import share_upper_bound

# 60 rows, the most trusted first. At r = .05 and 95 % confidence 59 rows without an error pass,
# .95^59 = .0485, and 58 do not, .95^58 = .0510.
SCORE = (np.arange(60, 0, -1) / 64).astype(np.float32)


def right_but(*wrong: int) -> NDArray[np.int64]:
    """Whether the student is right: on all but these rows, 0 being the most trusted."""
    right = np.ones(60, dtype=np.int64)
    right[list(wrong)] = 0
    return right


def test_sixty_right_answers_are_all_trusted() -> None:
    promise = boldest_promise(SCORE, right_but(), 0.05, 0.95)
    # The bound of 60 rows without an error: 1 − .05^(1/60) = .0487.
    assert promise is not None
    assert promise[:3] == (APPEAL_NEVER, 60, 0)
    assert promise.bound == pytest.approx(0.0487, abs=1e-4)


def test_one_error_at_the_bottom_is_appealed() -> None:
    # 60 rows with one error: .95^60 + 60·.05·.95^59 = .046 + .146 > .05. So 59 are trusted, which
    # are those above 1/64, and the threshold is the next float32.
    promise = boldest_promise(SCORE, right_but(59), 0.05, 0.95)
    assert promise is not None
    assert (promise.trusted, promise.errors) == (59, 0)
    assert promise.threshold == np.nextafter(np.float32(1 / 64), np.float32(1))
    assert appeals(SCORE, promise.threshold).tolist() == [False] * 59 + [True]


def test_one_error_above_it_leaves_nothing_to_promise() -> None:
    # The first step trusts 59 rows with one error. 58 without one pass where (1 − r)^58 ≤ .05,
    # r ≥ .0503: in two digits .051.
    right = right_but(58)
    assert boldest_promise(SCORE, right, 0.05, 0.95) is None
    nearest = nearest_promise(SCORE, right, 0.05, 0.95)
    assert nearest is not None
    risk, promise = nearest
    assert (risk, promise.trusted, promise.errors) == (0.051, 58, 0)


def test_the_sequence_ends_at_the_first_failure() -> None:
    # r = .3: 9 rows without an error pass (.7^9 = .040), but a quarter of the rows is 15. Two
    # errors there: P(Binomial(15, .3) ≤ 2) = .127, so that the 45 right ones below do not count.
    right = right_but(13, 14)
    assert boldest_promise(SCORE, right, 0.3, 0.95) is None
    # One error more than nothing is no failure: .7^15 + 15·.3·.7^14 = .035.
    assert boldest_promise(SCORE, right_but(14), 0.3, 0.95) is not None


def test_a_tie_is_trusted_or_appealed_as_a_whole() -> None:
    # 10 rows tie at the top, 50 below them. The first step wants 59 rows, so that it takes all.
    score = np.array([0.9] * 10 + [0.5] * 50, dtype=np.float32)
    whole = boldest_promise(score, right_but(), 0.05, 0.95)
    assert whole is not None
    assert whole.trusted == 60
    assert boldest_promise(score, right_but(59), 0.05, 0.95) is None
    # At r = .3 it wants 15: the ten alone are too few to begin with, all sixty do.
    lax = boldest_promise(score, right_but(59), 0.3, 0.95)
    assert lax is not None
    assert lax.trusted == 60


@pytest.mark.parametrize(
    ("rows", "risk", "confidence", "first"),
    [
        (1000, 0.01, 0.95, 299),  # .99^299 = .0495, .99^298 = .0500…
        (4000, 0.01, 0.95, 1000),  # a quarter is more
        (100, 0.01, 0.95, 299),  # more than there are: nothing can be promised
        (1, 0.5, 0.5, 1),  # .5^1 ≤ .5
        (2, 0.5, 0.75, 2),
    ],
)
def test_where_the_sequence_begins(rows: int, risk: float, confidence: float, first: int) -> None:
    assert first_step(rows, risk, confidence) == first


@pytest.mark.parametrize(("right", "trusted"), [(1, 1), (0, None)])
def test_a_single_row(right: int, trusted: int | None) -> None:
    promise = boldest_promise(np.array([0.5]), np.array([right]), 0.5, 0.5)
    assert (promise.trusted if promise else None) == trusted


def test_a_student_that_is_always_wrong_can_be_promised_nothing() -> None:
    wrong = np.zeros(60, dtype=np.int64)
    assert boldest_promise(SCORE, wrong, 0.05, 0.95) is None
    assert nearest_promise(SCORE, wrong, 0.05, 0.95) is None


Settings = st.tuples(st.sampled_from([0.05, 0.1, 0.3]), st.sampled_from([0.5, 0.9, 0.95]))


def some_rows(rows: int, seed: int, levels: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Scores, tied where ``levels`` are few, and a student that errs on 5 %, less above."""
    rng = np.random.default_rng(seed)
    u = rng.random(rows)
    right = (rng.random(rows) >= 0.15 * (1 - u) ** 2).astype(np.int64)
    return (np.floor(u * levels) / levels).astype(np.float32), right


@given(
    rows=st.integers(1, 150),
    seed=st.integers(0, 10_000),
    levels=st.sampled_from([1, 3, 12, 10**6]),
    asked=Settings,
)
@settings(max_examples=80, deadline=None)
def test_it_is_the_last_of_the_passed_tests_one_by_one(
    rows: int, seed: int, levels: int, asked: tuple[float, float]
) -> None:
    score, right = some_rows(rows, seed, levels)
    risk, confidence = asked
    expected = None
    for lowest in sorted(set(score.tolist()), reverse=True):
        trusted = score >= lowest
        if trusted.sum() < first_step(rows, risk, confidence):
            continue
        errors = int(np.sum(right[trusted] == 0))
        if share_upper_bound(errors, int(trusted.sum()), confidence) > risk:
            break
        expected = int(trusted.sum()), errors
    promise = boldest_promise(score, right, risk, confidence)
    assert (promise[1:3] if promise else None) == expected
    if promise is not None:
        trusted = ~appeals(score, promise.threshold)
        assert (trusted.sum(), np.sum(right[trusted] == 0)) == expected
        assert promise.bound <= risk + 1e-12
        assert float(np.float32(promise.threshold)) == promise.threshold


@given(rows=st.integers(20, 150), seed=st.integers(0, 10_000), asked=Settings)
@settings(max_examples=60, deadline=None)
def test_without_ties_a_laxer_promise_trusts_no_fewer(
    rows: int, seed: int, asked: tuple[float, float]
) -> None:
    score, right = some_rows(rows, seed, 10**6)
    score = np.argsort(np.argsort(score)).astype(np.float32)  # their ranks, which never tie
    risk, confidence = asked
    strict, laxer, surer = (
        boldest_promise(score, right, r, c)
        for r, c in ((risk, confidence), (1.5 * risk, confidence), (risk, (1 + confidence) / 2))
    )
    if strict is not None:
        assert laxer is not None
        assert laxer.trusted >= strict.trusted
    if surer is not None:
        assert strict is not None
        assert strict.trusted >= surer.trusted


@given(
    rows=st.integers(1, 150), seed=st.integers(0, 10_000), levels=st.sampled_from([3, 10**6]),
    asked=Settings,
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_what_is_named_as_nearest_can_be_asked_for(
    rows: int, seed: int, levels: int, asked: tuple[float, float]
) -> None:
    score, right = some_rows(rows, seed, levels)
    nearest = nearest_promise(score, right, *asked)
    if nearest is not None:
        assert nearest[0] > asked[0]
        assert boldest_promise(score, right, nearest[0], asked[1]) == nearest[1]


@pytest.mark.parametrize("name", shapes(0.05))
class TestEveryShapeOfTheBenchmark:
    def test_its_true_risk_is_what_many_rows_show(self, name: str) -> None:
        shape = shapes(0.05)[name]
        score, right = shape.draw(200_000, np.random.default_rng(0))
        for threshold in (0.0, 0.3, 0.5, 0.55, 0.6, 0.61, 0.875):
            trusted = ~appeals(score, threshold)
            share, risk = shape.truth(threshold)
            assert share == pytest.approx(trusted.mean(), abs=0.005)
            if trusted.any():
                assert risk == pytest.approx(np.mean(~right[trusted]), abs=0.005)

    @pytest.mark.parametrize("risk", [0.05, 0.2])
    def test_the_promise_is_broken_no_more_often_than_it_says(self, name: str, risk: float) -> None:
        assert measure(name, 250, risk, splits=200, seed=1).broken <= limit(200)


def test_without_the_sequence_the_promise_would_be_broken() -> None:
    # The test above can fail: the boldest threshold that looks right on the rows is too bold for
    # a score that says nothing in far more than 5 % of the draws.
    shape, rng, broken = shapes(0.05)["a hair over"], np.random.default_rng(0), 0
    for _ in range(200):
        score, right = shape.draw(250, rng)
        order = np.argsort(-score)
        seen = np.cumsum(~right[order]) / np.arange(1, 251)
        broken += bool((seen[60:] <= 0.05).any())
    assert broken / 200 > 2 * limit(200)


def test_where_scores_are_good_most_of_what_could_be_trusted_is() -> None:
    assert CONFIDENCE == 0.95
    sure = measure("near-perfect", 500, 0.02, splits=50, seed=0)
    assert sure.coverage > 0.97
    plain = measure("calibrated", 1000, 0.05, splits=50, seed=0)
    assert plain.coverage > 0.9 * plain.best
