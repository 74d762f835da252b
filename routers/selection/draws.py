"""Fewer rows with the same share of errors, where cost grows with rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


def at_most(limit: int, right: Rows, seed: int) -> Rows:
    """Sorted numbers of at most ``limit`` ≥ 2 rows of ``right`` (N of 0 and 1).

    All rows where that is enough. Else wrong and right rows are drawn apart, each kind in its own
    share rounded to the nearest row, and at least one of a kind that occurs.
    """
    rows = len(right)
    if rows <= limit:
        return np.arange(rows, dtype=np.int64)
    wrong = int(np.sum(right == 0))
    share = (limit * wrong + rows // 2) // rows
    wanted = {0: min(max(share, min(wrong, 1)), limit - min(rows - wrong, 1))}
    wanted[1] = limit - wanted[0]
    rng = np.random.default_rng(seed)
    drawn = [
        rng.choice(np.flatnonzero(right == kind), size=size, replace=False)
        for kind, size in wanted.items()
    ]
    return np.sort(np.concatenate(drawn))
