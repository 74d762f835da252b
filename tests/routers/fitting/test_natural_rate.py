"""P(right) is meant at the rate of errors in nature, whatever rows the fit saw."""

from __future__ import annotations

from functools import cache
from math import log
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from routers.evaluation import metrics
from routers.fitting import crossfit
from routers.fitting.natural_rate import (
    HALF_VOTE,
    LEAST_SLOPE,
    NEXT_TO_NOTHING,
    Line,
    NaturalRouter,
    calibrated,
    expected_calibration_error,
    logit,
    platt,
    prior_shift,
)
from routers.models.families import FAMILIES
from routers.onnx import export


class Known(NamedTuple):
    """Rows whose P(right) is known: σ(5.5 + 2x₀ − 2|x₁|)."""

    features: NDArray[np.float32]
    probability: NDArray[np.float64]
    right: NDArray[np.int64]


def known(rows: int, seed: int, width: int = 4) -> Known:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(rows, width)).astype(np.float32)
    probability = 1 / (1 + np.exp(-(5.5 + 2 * features[:, 0] - 2 * np.abs(features[:, 1]))))
    right = (rng.random(rows) < probability).astype(np.int64)
    return Known(features, probability.astype(np.float64), right)


def test_a_shift_by_hand() -> None:
    # A fit on halves, nature 9 : 1. Odds of 1 become 9: .9. Odds of ⅓ become 3: .75.
    line = prior_shift(0.9, 0.5)
    assert line(np.array([0.5, 0.25])) == pytest.approx([0.9, 0.75], abs=1e-3)
    assert (line.slope, line.intercept) == pytest.approx((1.0, log(9)))
    # A fit at the natural rate needs none.
    assert prior_shift(0.8, 0.8)(np.array([0.3])) == pytest.approx([0.3], abs=1e-3)


@pytest.mark.parametrize(("natural", "fitted"), [(1.0, 0.5), (0.9, 0.0), (float("nan"), 0.5)])
def test_a_share_that_has_no_odds_is_refused(natural: float, fitted: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        prior_shift(natural, fitted)


def test_platt_by_hand() -> None:
    """All scores are ½, so logit 0, and the intercept alone can move.

    6 right rows aim at 7/8 and 2 wrong ones at 1/4: the mean is 5.75/8 = .71875, and the best
    intercept is its logit, ln(.71875/.28125).
    """
    line = platt(np.full(8, 0.5), np.array([1, 1, 1, 1, 1, 1, 0, 0]))
    assert line.intercept == pytest.approx(log(0.71875 / 0.28125), abs=1e-5)
    assert line(np.array([0.5])) == pytest.approx([0.71875], abs=1e-5)


def test_platt_finds_the_line_that_made_the_outcomes() -> None:
    rng = np.random.default_rng(0)
    score = rng.random(40_000)
    truth = Line(2.0, -1.0, HALF_VOTE, "")(score)
    line = platt(score, (rng.random(40_000) < truth).astype(np.int64))
    assert (line.slope, line.intercept) == pytest.approx((2.0, -1.0), abs=0.06)


def test_scores_that_tell_all_rows_apart_give_a_finite_line() -> None:
    score, right = np.repeat([0.0, 1.0], 10), np.repeat([0, 1], 10)
    line = platt(score, right)
    # Platt's targets of ten rows: 1/12 and 11/12.
    assert line(np.array([0.0, 1.0])) == pytest.approx([1 / 12, 11 / 12], abs=1e-3)


def test_scores_that_are_worse_than_chance_are_flattened_and_never_turned_round() -> None:
    score, right = np.repeat([0.1, 0.9], 50), np.repeat([1, 0], 50)
    line = platt(score, right)
    assert line.slope == LEAST_SLOPE
    low, high = line(np.array([0.1, 0.9]))
    assert low < high
    assert low == pytest.approx(0.5, abs=0.01)


def test_platt_needs_both_kinds() -> None:
    with pytest.raises(ValueError, match="got 3 right and 0 wrong"):
        platt(np.array([0.1, 0.2, 0.3]), np.ones(3, dtype=np.int64))


@settings(max_examples=100, deadline=None)
@given(
    p=st.lists(st.floats(0, 1), min_size=2, max_size=20),
    slope=st.floats(LEAST_SLOPE, 20),
    intercept=st.floats(-20, 20),
    drawn=st.sampled_from([HALF_VOTE, NEXT_TO_NOTHING]),
)
def test_a_line_keeps_the_order_and_stays_a_probability(
    p: list[float], slope: float, intercept: float, drawn: float
) -> None:
    ascending = Line(slope, intercept, drawn, "")(np.sort(np.array(p)))
    assert np.all(np.diff(ascending) >= 0)
    assert np.all((ascending >= 0) & (ascending <= 1))


def test_certain_scores_have_a_finite_logit() -> None:
    # Half a vote of sixteen: 0 becomes 1/32, odds of 1 : 31; ½ stays; ¼ becomes 17/64, 17 : 47.
    found = logit(np.array([0.0, 0.25, 0.5, 1.0]), HALF_VOTE)
    assert found == pytest.approx([-log(31), log(17 / 47), 0.0, log(31)])


def test_the_error_of_a_calibration_by_hand() -> None:
    """Two bins of two rows and one of one, of five rows.

    .1 and .1 (bin 0 of 2), one of them right: |.2 − 1| = .8. .6, .8 and 1.0 (bin 1), two right:
    |2.4 − 2| = .4. The sum over five rows is 1.2/5 = .24; in ten bins .6 right is .4, .8 right
    is .2, and 1.0 wrong is 1: (.8 + .4 + .2 + 1)/5 = .48.
    """
    probability = np.array([0.1, 0.1, 0.6, 0.8, 1.0])
    right = np.array([1, 0, 1, 1, 0])
    assert expected_calibration_error(probability, right, bins=2) == pytest.approx(0.24)
    assert expected_calibration_error(probability, right) == pytest.approx(0.48)


ROUTER, FRESH = known(1500, seed=1), known(4000, seed=2)


@cache
def case(name: str) -> NaturalRouter:
    made = crossfit.plan(ROUTER.features, ROUTER.right, 0, committee="linear", count=2)
    return calibrated(FAMILIES[name], ROUTER.features, ROUTER.right, made, 0)


@pytest.mark.parametrize("name", sorted(FAMILIES))
class TestEveryFamilyAtTheNaturalRate:
    def test_its_probabilities_are_those_of_nature(self, name: str) -> None:
        """9 of 100 rows are wrong; the fit saw 50 of 100."""
        assert 0.08 < np.mean(FRESH.right == 0) < 0.10
        router = case(name)
        assert router.line.method == "platt"
        balanced, natural = (fit.score(FRESH.features) for fit in (router.router, router))
        assert expected_calibration_error(balanced, FRESH.right) > 0.15
        assert expected_calibration_error(natural, FRESH.right) < 0.03
        # Not only the mean: row by row it is nearer to what is known than the mean alone.
        off = np.abs(natural - FRESH.probability).mean()
        assert off < 0.8 * np.abs(FRESH.probability.mean() - FRESH.probability).mean()
        # And the order is the fit's.
        assert metrics.auroc(natural, FRESH.right) == pytest.approx(
            metrics.auroc(balanced, FRESH.right), abs=1e-6
        )

    def test_the_file_gives_the_same_probabilities(self, name: str) -> None:
        steep = Line(3.0, -4.0, NEXT_TO_NOTHING, "")
        far = np.random.default_rng(3).choice([-50.0, 50.0, 0.0], (50, 4)).astype(np.float32)
        features = np.concatenate([FRESH.features[:2000], ROUTER.features[:300], far])
        for router in (case(name), NaturalRouter(case(name).router, steep)):
            found = export.run(router.to_onnx(4).SerializeToString(), features)
            expected = router.score(features)
            assert np.abs(found - expected).max() <= 1e-5
            # A threshold between scores; one on the score of many rows is decided by a last bit.
            above = found[found > np.quantile(found, 0.3) + 1e-5].min()
            threshold = (above + found[found < above].max()) / 2
            assert np.mean((expected < threshold) == (found < threshold)) >= 0.999


def test_few_errors_shift_the_prior() -> None:
    few = known(500, seed=4)
    assert np.sum(few.right == 0) < 50
    made = crossfit.plan(few.features, few.right, 0, sampling="random", count=2)
    router = calibrated(FAMILIES["et"], few.features, few.right, made, 0)
    assert router.line == prior_shift(few.right.mean(), 0.5)
    found = expected_calibration_error(router.score(FRESH.features), FRESH.right)
    assert found < 0.04
    assert expected_calibration_error(router.router.score(FRESH.features), FRESH.right) > 0.2


def test_a_handful_of_rows_is_enough() -> None:
    few = known(8, seed=0)
    right = np.array([0, 0, 1, 1, 1, 1, 1, 1])
    made = crossfit.plan(few.features, right, 0)
    router = calibrated(FAMILIES["svm"], few.features, right, made, 0)
    assert router.line == prior_shift(0.75, 0.5)
