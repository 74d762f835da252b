"""The threshold that ships: as many appeals as the budget allows, and none that win nothing."""

from __future__ import annotations

import numpy as np

from routers.calibrate import appeals
from search.measure import PairRows
from search.package import calibrate


def rows(student: list[int], teacher: list[int]) -> PairRows:
    """Ten rows with scores 0, .1, … .9, and who is right on each."""
    labels = np.zeros(10, np.int64)
    logits = np.zeros((10, 2), np.float32)
    score = (np.arange(10) / 10).astype(np.float32)
    return PairRows(logits, labels, logits, score, np.array(student), np.array(teacher))


def test_the_budget_is_spent_where_appeals_win() -> None:
    # A budget of .3 lets the three lowest scores appeal; the teacher mends two of them.
    pair = rows([0, 0, 1, 1, 1, 1, 1, 1, 1, 1], [1] * 10)
    threshold, warning = calibrate(pair, 0.3)
    assert appeals(pair.score, threshold).tolist() == [True] * 3 + [False] * 7
    assert warning == ""


def test_nothing_is_appealed_where_appeals_win_nothing() -> None:
    # The three lowest scores would appeal: one won, one lost, one alike, so .0 in all.
    pair = rows([0, 1, 1, 1, 1, 1, 1, 1, 1, 1], [1, 0, 1, 1, 1, 1, 1, 1, 1, 1])
    threshold, warning = calibrate(pair, 0.3)
    assert not appeals(pair.score, threshold).any()
    assert "30.0%" in warning
    assert "nothing is appealed" in warning


def test_a_budget_of_nothing_is_no_reason_to_warn() -> None:
    pair = rows([0, 1, 1, 1, 1, 1, 1, 1, 1, 1], [1] * 10)
    threshold, warning = calibrate(pair, 0.0)
    assert not appeals(pair.score, threshold).any()
    assert warning == ""
