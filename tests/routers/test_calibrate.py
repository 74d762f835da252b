from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edge.errors import BadInput
from routers.calibrate import APPEAL_ALWAYS, appeals, threshold_for_appeals

SCORES = np.array([0.9, 0.1, 0.5, 0.7, 0.3], dtype=np.float32)


@pytest.mark.parametrize(
    ("budget", "threshold", "rows"),
    [
        (0.0, 0.1, 0),  # nothing lies below the lowest score
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
    if threshold < APPEAL_ALWAYS:
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
