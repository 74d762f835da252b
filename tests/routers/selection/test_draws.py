from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routers.selection.draws import at_most


def labels(wrong: int, right: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.random.default_rng(0).permutation(np.repeat([0, 1], [wrong, right]))


@pytest.mark.parametrize(
    ("wrong", "right", "limit", "drawn"),
    [
        (30, 70, 10, 3),
        (25, 75, 10, 3),  # 2.5 rounds up
        (1, 999, 10, 1),  # .01 would round to none
        (999, 1, 10, 9),  # 9.99 would leave no right row
        (0, 100, 10, 0),  # what does not occur is not drawn
        (100, 0, 10, 10),
        (4, 6, 10, 4),  # all of them
        (4, 6, 50, 4),
    ],
)
def test_each_kind_keeps_its_share(wrong: int, right: int, limit: int, drawn: int) -> None:
    kinds = labels(wrong, right)
    rows = at_most(limit, kinds, seed=0)
    assert len(rows) == min(limit, len(kinds))
    assert np.sum(kinds[rows] == 0) == drawn


@settings(max_examples=60, deadline=None)
@given(
    wrong=st.integers(0, 60),
    right=st.integers(0, 60),
    limit=st.integers(2, 80),
    seed=st.integers(0, 99),
)
def test_rows_are_sorted_distinct_and_of_every_kind(
    wrong: int, right: int, limit: int, seed: int
) -> None:
    kinds = labels(wrong, right)
    rows = at_most(limit, kinds, seed)
    assert np.all(np.diff(rows) > 0)
    assert set(kinds[rows].tolist()) == set(kinds.tolist())
    assert rows.tolist() == at_most(limit, kinds, seed).tolist()


def test_another_seed_draws_other_rows() -> None:
    kinds = labels(50, 50)
    assert at_most(10, kinds, 0).tolist() != at_most(10, kinds, 1).tolist()
