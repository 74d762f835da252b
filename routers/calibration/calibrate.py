"""From calibration rows to a threshold: rows that were kept for that alone.

The router appeals where **score < threshold**. Scores are float32, as the device computes them,
and the threshold is a float32 value, so that no rounding can move a row across it. What a user may
ask for is in :mod:`routers.calibration.goals`; this module knows the rows, every decision they
allow, and the oldest goal, a budget of appeals.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge.errors import BadInput
from edge.manifest import Calibration
from routers.evaluation.metrics import OperatingPoint, Right, operating_point

# The largest threshold that a JSON file can hold: everything appeals.
APPEAL_ALWAYS = float(np.finfo(np.float32).max)
# And the smallest: every input that has a score is trusted.
APPEAL_NEVER = -APPEAL_ALWAYS


class Choice(NamedTuple):
    """A threshold, and "" or what the user should be warned of."""

    threshold: float
    warning: str = ""


class Decisions(NamedTuple):
    """All that a threshold can do on the calibration rows, the fewest appeals first.

    With G different scores each is G+1 long: ``threshold``, float32 values; ``appealed``, rows;
    ``right``, rows that the pair answers right. Rows of equal score appeal together.
    """

    threshold: NDArray[np.float64]
    appealed: NDArray[np.int64]
    right: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class CalibrationRows:
    """What is known of each calibration row, and all that a goal may look at.

    ``score``: N finite scores, N ≥ 1, higher = trust, kept as float32; ``student_right`` and
    ``teacher_right``: N of 0 and 1. They must share no row with what the router was fitted or
    chosen on, nor be balanced: natural data only. ValueError for anything else.
    """

    score: NDArray[np.float32]
    student_right: NDArray[np.int64]
    teacher_right: NDArray[np.int64]

    def __post_init__(self) -> None:
        score = _finite(self.score)
        object.__setattr__(self, "score", score)
        for name in ("student_right", "teacher_right"):
            right = np.asarray(getattr(self, name))
            if right.shape != score.shape or not np.isin(right, (0, 1)).all():
                raise ValueError(f"{name} must be {len(score)} values of 0 and 1")
            object.__setattr__(self, name, right.astype(np.int64))

    @staticmethod
    def of(kept: Calibration) -> CalibrationRows:
        """The rows that a bundle's manifest keeps."""
        return CalibrationRows(
            np.array(kept.score), np.array(kept.student_right), np.array(kept.teacher_right)
        )

    def __len__(self) -> int:
        return len(self.score)

    def at(self, threshold: float) -> OperatingPoint:
        """The pair at this threshold, on these rows."""
        return operating_point(
            appeals(self.score, threshold), self.student_right, self.teacher_right
        )

    @cached_property
    def decisions(self) -> Decisions:
        """Every decision that some threshold takes, from no appeal to nothing but appeals."""
        order = np.argsort(self.score, kind="stable")
        ascending = self.score[order]
        starts = np.flatnonzero(np.r_[True, ascending[1:] != ascending[:-1]])
        gain = np.r_[0, np.cumsum((self.teacher_right - self.student_right)[order])]
        appealed = np.r_[starts, len(self)]
        return Decisions(
            threshold=np.r_[ascending[starts].astype(np.float64), APPEAL_ALWAYS],
            appealed=appealed,
            right=self.student_right.sum() + gain[appealed],
        )


def appeals(score: NDArray[np.floating[Any]], threshold: float) -> NDArray[np.bool_]:
    """True where a row goes to the teacher (AppealNet Eq. 12), in the device's arithmetic."""
    decision: NDArray[np.bool_] = score.astype(np.float32).astype(np.float64) < threshold
    return decision


def threshold_for_appeals(score: NDArray[np.floating[Any]], budget: float) -> float:
    """The largest threshold at which at most ``budget`` of the rows appeal.

    ``score``: N finite scores of the calibration part, higher = trust; ``budget``: a share in
    [0, 1]. Rows of equal score appeal together or not at all, so ties can leave part of the
    budget unspent, never overspend it. Budget 0 gives :data:`APPEAL_NEVER`, at which no input
    appeals whatever its score, budget 1 gives :data:`APPEAL_ALWAYS`. The result is a float32
    value, and so survives a round trip through float32 or JSON. BadInput for a budget out of
    range.
    """
    if not 0 <= budget <= 1:
        raise BadInput(
            "the appeal budget is out of range",
            value=budget,
            bound="a share between 0 and 1",
            remedy="Write 20 % as 0.2.",
        )
    ascending = np.sort(_finite(score))
    if budget == 0:
        return APPEAL_NEVER
    # .29·100 is 28.999…: the little added keeps the 29 appeals that were asked for.
    allowed = math.floor(budget * len(ascending) + 1e-9)
    if allowed >= len(ascending):
        return APPEAL_ALWAYS
    # Exactly `allowed` rows come before this one, and no more than that lie strictly below it;
    # any larger threshold would let this row appeal as well.
    return float(ascending[allowed])


def appeals_that_win(
    score: NDArray[np.floating[Any]], student_right: Right, teacher_right: Right, budget: float
) -> Choice:
    """The threshold for an appeal budget; where its appeals win nothing, :data:`APPEAL_NEVER`.

    A budget says what may be spent. A teacher that mends no more answers than it breaks is not
    worth it, and the warning says so; it also says where a budget buys nothing because the rows
    that would appeal first share one score, and which one would. Arguments as in
    :class:`CalibrationRows`, the budget as in :func:`threshold_for_appeals`.
    """
    threshold = threshold_for_appeals(score, budget)
    appealed = appeals(score, threshold)
    gain = np.asarray(teacher_right, np.int64) - np.asarray(student_right, np.int64)
    if not appealed.any():
        return Choice(threshold, _unspent(score, gain) if budget else "")
    won = int(gain[appealed].sum())
    if won > 0:
        return Choice(threshold)
    return Choice(
        APPEAL_NEVER,
        f"appealing {appealed.mean():.1%} of the calibration part would win "
        f"{won / len(score):+.2%} accuracy, "
        "because the teacher is no better there: as it stands, nothing is appealed",
    )


def threshold_words(threshold: float) -> str:
    """What a threshold lets happen, to follow "an input is appealed"."""
    if threshold >= APPEAL_ALWAYS:
        return "whatever its score"
    if threshold <= APPEAL_NEVER:
        return "never, whatever its score"
    return f"where its score is below {threshold:.6g}"


def _unspent(score: NDArray[np.floating[Any]], gain: NDArray[np.int64]) -> str:
    """Why a budget above 0 buys nothing; "" where its first appeals would win nothing."""
    kept = _finite(score)
    lowest = kept == kept.min()
    if gain[lowest].sum() <= 0:
        return ""
    together, rows = int(lowest.sum()), len(kept)
    # rounded up, so that it is enough when it is typed in
    least = math.ceil(together / rows * 1e4 - 1e-9) / 1e4
    why = (
        f"{together / rows:.1%} of the {rows:,} calibration rows share the lowest score, and "
        "appeal together or not at all"
        if together > 1
        else f"there are only {rows:,} calibration rows"
    )
    return f"nothing is appealed: {why}; the smallest budget that appeals is {least * 100:.4g}%"


def _finite(score: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        kept = np.asarray(score).astype(np.float32)
    if kept.ndim != 1 or len(kept) == 0 or not np.isfinite(kept).all():
        raise ValueError("calibration needs at least one row, and finite scores only")
    return kept
