"""A promise about trusted answers: at most a share r of them is wrong, with a stated confidence.

**The procedure** is fixed-sequence testing. Thresholds are tried from the most cautious to the
boldest; each asks whether its errors are so few that, were the risk above r, they would be seen
with probability δ = 1 − confidence at most (Clopper and Pearson's bound lies at or below r). The
first failure ends it and the last success is the answer. Nothing is split among the tests.

**Where it begins** is fixed by r, δ and the number of rows alone: at a quarter of the rows, or at
as many as pass without an error, (1 − r)^k ≤ δ, where that is more. Beginning with few rows, one
unlucky error would end the sequence before it has begun.

**Why thresholds taken from the same rows keep the promise.** A threshold trusts what scores above
the (k+1)-th highest score t. Given t, the k rows above it are independent draws from the inputs
above t, so their errors are Binomial(k, risk above t): one test is exact. The promise breaks only
if the *first* threshold that is too risky passes its test. Which one that is depends on scores
alone: let the risk first exceed r at a score a. Given how many rows lie above a, those err at rate
r, and those between a and that threshold at more than r; so its errors are, in distribution, no
fewer than Binomial(k, r) and pass with probability δ at most. Where the risk crosses r more than
once the same holds piece by piece. Ties are trusted or appealed together; with them the argument
needs that a tied score is not wrong less often than the scores above it.

The rows must be new to everything that made student, router and r itself: a risk that is chosen
after a look at these rows is no longer promised with this confidence.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr

from routers.calibration.calibrate import APPEAL_NEVER
from routers.evaluation.intervals import share_upper_bound
from routers.evaluation.metrics import Right

Scores = NDArray[np.floating[Any]]

_FIRST_SHARE = 0.25


class Promise(NamedTuple):
    """The boldest threshold that may be promised, with what the calibration rows say of it.

    ``threshold``: a float32 value; ``trusted``: rows at or above it; ``errors``: those of them
    that the student gets wrong; ``bound``: the upper confidence bound of their share.
    """

    threshold: float
    trusted: int
    errors: int
    bound: float


class _Sequence(NamedTuple):
    """Thresholds from cautious to bold, with the rows and errors above each."""

    threshold: NDArray[np.float64]
    trusted: NDArray[np.int64]
    errors: NDArray[np.int64]


def boldest_promise(
    score: Scores, student_right: Right, risk: float, confidence: float
) -> Promise | None:
    """The threshold that trusts most while P(student wrong | trusted) ≤ ``risk``.

    ``score``: N finite scores, higher = trust; ``student_right``: N of 0 and 1; ``risk`` and
    ``confidence`` in (0, 1), the latter over the draw of these rows. None where no threshold
    can be promised, which appeals everything or needs more rows.
    """
    return _boldest(_sequence(score, student_right), len(score), risk, confidence)


def nearest_promise(
    score: Scores, student_right: Right, risk: float, confidence: float
) -> tuple[float, Promise] | None:
    """The least risk above ``risk``, in two significant digits, that these rows could promise.

    None where not even 99 % can. It says what to ask of the *next* calibration rows: on these it
    was chosen after a look.
    """
    sequence = _sequence(score, student_right)
    for other in _two_digits_above(risk):
        promise = _boldest(sequence, len(score), other, confidence)
        if promise is not None:
            return other, promise
    return None


def first_step(rows: int, risk: float, confidence: float) -> int:
    """How many rows the most cautious threshold trusts at least, of ``rows``; can be more."""
    without_an_error = math.ceil(math.log1p(-confidence) / math.log1p(-risk) - 1e-9)
    return max(without_an_error, math.ceil(_FIRST_SHARE * rows))


def _sequence(score: Scores, student_right: Right) -> _Sequence:
    kept = np.asarray(score).astype(np.float32)
    order = np.argsort(-kept, kind="stable")
    descending = kept[order]
    # Every different score but the highest ends a group of trusted rows; all rows are the last.
    ends = np.flatnonzero(np.r_[descending[1:] != descending[:-1], True])
    just_above = np.nextafter(descending[ends[:-1] + 1], np.float32(np.inf))
    errors = np.cumsum(np.asarray(student_right)[order] == 0)
    return _Sequence(np.r_[just_above.astype(np.float64), APPEAL_NEVER], ends + 1, errors[ends])


def _boldest(sequence: _Sequence, rows: int, risk: float, confidence: float) -> Promise | None:
    begin = int(np.searchsorted(sequence.trusted, first_step(rows, risk, confidence)))
    trusted, errors = sequence.trusted[begin:], sequence.errors[begin:]
    # P(Binomial(k, r) ≤ errors) ≤ δ says the same as Clopper and Pearson's bound ≤ r.
    passed = bdtr(errors, trusted, risk) <= (1 - confidence) * (1 + 1e-9)
    last = int(np.argmin(passed)) - 1 if not passed.all() else len(passed) - 1
    if last < 0:
        return None
    kept, wrong = int(trusted[last]), int(errors[last])
    bound = share_upper_bound(wrong, kept, confidence)
    return Promise(float(sequence.threshold[begin + last]), kept, wrong, bound)


def _two_digits_above(risk: float) -> NDArray[np.float64]:
    exponent = math.floor(math.log10(risk))
    digits = [d * 10.0**e for e in range(exponent, 0) for d in range(10, 100)]
    ladder = np.round(np.array(digits) / 10, 1 - exponent)
    return ladder[(ladder > risk * (1 + 1e-9)) & (ladder < 1)]
