"""From a budget of appeals to a threshold, on rows kept for that alone.

The router appeals where **score < threshold**. Scores are float32, as the device computes them,
and the threshold is a float32 value, so that no rounding can move a row across it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import BadInput

# The largest threshold that a JSON file can hold: everything appeals.
APPEAL_ALWAYS = float(np.finfo(np.float32).max)


def appeals(score: NDArray[np.floating[Any]], threshold: float) -> NDArray[np.bool_]:
    """True where a row goes to the teacher (AppealNet Eq. 12), in the device's arithmetic."""
    decision: NDArray[np.bool_] = score.astype(np.float32).astype(np.float64) < threshold
    return decision


def threshold_for_appeals(score: NDArray[np.floating[Any]], budget: float) -> float:
    """The largest threshold at which at most ``budget`` of the rows appeal.

    ``score``: N finite scores of the calibration part, higher = trust; ``budget``: a share in
    [0, 1]. Rows of equal score appeal together or not at all, so ties can leave part of the
    budget unspent, never overspend it. Budget 0 gives the lowest score (no calibration row
    appeals), budget 1 gives :data:`APPEAL_ALWAYS`. The result is a float32 value, and so
    survives a round trip through float32 or JSON. BadInput for a budget out of range.
    """
    if not 0 <= budget <= 1:
        raise BadInput(
            "the appeal budget is out of range",
            value=budget,
            bound="a share between 0 and 1",
            remedy="Write 20 % as 0.2.",
        )
    ascending = np.sort(score.astype(np.float32))
    if len(ascending) == 0 or not np.isfinite(ascending).all():
        raise ValueError("calibration needs at least one row, and finite scores only")
    # .29·100 is 28.999…: the little added keeps the 29 appeals that were asked for.
    allowed = math.floor(budget * len(ascending) + 1e-9)
    if allowed >= len(ascending):
        return APPEAL_ALWAYS
    # Exactly `allowed` rows come before this one, and no more than that lie strictly below it;
    # any larger threshold would let this row appeal as well.
    return float(ascending[allowed])
