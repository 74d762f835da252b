"""How sure a figure is: exact bounds for shares, and the paired bootstrap for everything else.

The bootstrap draws rows with replacement, one draw for all routers, so that the difference of two
routers' values is *paired*. A figure is a function of :class:`Tally` and one line in
:data:`FIGURES`; it works on all resamples at once, from counts alone, and equals the plain function
of :mod:`routers.evaluation.metrics` on the rows that were drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from edge.errors import check_member
from routers.evaluation.metrics import Right, Scores

Floats = NDArray[np.float64]
Counts = NDArray[np.int32]

# Resampled rows held at a time. Smaller would fit a cache, but costs more calls.
_BLOCK = 500_000


class Interval(NamedTuple):
    """The ends of a confidence interval."""

    low: float
    high: float


def share_upper_bound(errors: int, rows: int, confidence: float) -> float:
    """Clopper and Pearson's upper bound for a share, one-sided.

    ``errors`` of ``rows`` independent draws were hits; with probability ``confidence`` or more the
    true share lies at or below the bound. 1 where all of them were, or there was none.
    """
    if errors >= rows:
        return 1.0
    return float(betaincinv(errors + 1, rows - errors, confidence))


@dataclass(frozen=True)
class Tally:
    """One router on B resamples: what lies in its G groups of equal score, lowest first.

    int32 B×G: ``drawn`` rows, those on which the student is ``wrong``, and ``gain``, what appeals
    add to the right answers; ``position``, ``errors`` and ``won`` are the same, summed up to and
    including the group. ``rows``: N; ``right``: float B, the student's right answers.
    """

    drawn: Counts
    wrong: Counts
    gain: Counts
    position: Counts
    errors: Counts
    won: Counts
    rows: int
    right: Floats


Figure = Callable[[Tally], Floats]


class _Sorted:
    """The rows of one router in ascending order of score."""

    def __init__(self, score: Scores, student_right: Right, teacher_right: Right) -> None:
        rows = len(score)
        if rows == 0 or not rows == len(student_right) == len(teacher_right):
            raise ValueError("score, student and teacher must be about the same rows, at least one")
        self.order = np.argsort(score, kind="stable")
        ascending = score[self.order]
        # The last row of each group of equal score; without ties every row is one.
        self.ends = np.flatnonzero(np.r_[ascending[1:] != ascending[:-1], True])
        student = np.asarray(student_right, np.int32)[self.order]
        self.wrong = 1 - student
        self.gain = np.asarray(teacher_right, np.int32)[self.order] - student

    def tally(self, counts: Counts) -> Tally:
        """``counts``: int32 B×N, how often each resample drew each row; all of the same sum."""
        drawn = np.take(counts, self.order, axis=1)
        wrong, gain = drawn * self.wrong, drawn * self.gain
        position, errors, won = (
            np.cumsum(of, axis=1, dtype=np.int32) for of in (drawn, wrong, gain)
        )
        if len(self.ends) < len(self.order):
            # Differences of sums: adding up ragged groups takes five times as long.
            position, errors, won = (
                np.take(of, self.ends, axis=1) for of in (position, errors, won)
            )
            drawn, wrong, gain = (
                np.diff(of, axis=1, prepend=np.int32(0)) for of in (position, errors, won)
            )
        rows = int(position[0, -1])
        right = rows - errors[:, -1].astype(np.float64)
        return Tally(drawn, wrong, gain, position, errors, won, rows, right)


def bootstrap(
    scores: Sequence[Scores],
    student_right: Right,
    teacher_right: Right,
    figures: Sequence[str],
    *,
    resamples: int = 1000,
    seed: int,
) -> dict[str, Floats]:
    """Figure → its values, float routers × resamples; rows are drawn once for all routers.

    ``scores``: for each router N scores, higher = trust; ``student_right`` and ``teacher_right``:
    N of 0 and 1; ``figures``: names in :data:`FIGURES`. nan where a resample does not define the
    figure. About 35 MB are held whatever the numbers. BadInput for an unknown name.
    """
    for name in figures:
        check_member("figure of the pair", name, FIGURES)
    ordered = [_Sorted(np.asarray(score), student_right, teacher_right) for score in scores]
    rng, rows = np.random.default_rng(seed), len(student_right)
    found = {name: np.empty((len(scores), resamples)) for name in figures}
    step = max(1, _BLOCK // rows)
    for begin in range(0, resamples, step):
        block = slice(begin, min(begin + step, resamples))
        size = block.stop - block.start
        counts = rng.multinomial(rows, np.full(rows, 1 / rows), size=size).astype(np.int32)
        for router, one in enumerate(ordered):
            tally = one.tally(counts)
            for name in figures:
                found[name][router, block] = FIGURES[name](tally)
    return found


def figures_of(
    score: Scores, student_right: Right, teacher_right: Right, figures: Sequence[str]
) -> dict[str, float]:
    """The figures on the rows themselves, by name; arguments as in :func:`bootstrap`."""
    for name in figures:
        check_member("figure of the pair", name, FIGURES)
    once = np.ones((1, len(score)), dtype=np.int32)
    tally = _Sorted(np.asarray(score), student_right, teacher_right).tally(once)
    return {name: float(FIGURES[name](tally)[0]) for name in figures}


def interval(values: NDArray[np.floating[Any]], confidence: float = 0.95) -> Interval:
    """The percentile interval of one router's values, or of the difference of two routers'.

    ``values``: one a resample. Those that are nan (no gap to win back, say) are left out; where
    that is half of them or more the interval is nan, as it would speak of the lucky half.
    """
    defined = values[~np.isnan(values)]
    if 2 * len(defined) <= len(values):
        return Interval(np.nan, np.nan)
    low, high = np.quantile(defined, ((1 - confidence) / 2, (1 + confidence) / 2))
    return Interval(float(low), float(high))


def _area(tally: Tally) -> Floats:
    # A row of gain g that appeals at position p of N adds g to the accuracy from there on, which is
    # g·(1 − (p − ½)/N)/N of area; rows of equal score share the middle of their positions.
    middle = (tally.position - tally.drawn / 2) / tally.rows
    areas: Floats = (tally.right + np.sum(tally.gain * (1 - middle), axis=1)) / tally.rows
    return areas


def _auroc(tally: Tally) -> Floats:
    wrong = tally.rows - tally.right
    wins = np.sum((tally.drawn - tally.wrong) * (tally.errors - tally.wrong / 2), axis=1)
    pairs = tally.right * wrong
    areas: Floats = np.divide(wins, pairs, out=np.full(len(wins), np.nan), where=pairs > 0)
    return areas


def _aurc(tally: Tally) -> Floats:
    # Above a group lie P rows with Q errors. Its i-th row of D, E of them wrong, is the (P+i)-th
    # most trusted: Σᵢ (Q + E·i/D) / (P+i) = Q·h + E/D·(D − P·h), with h = Σᵢ 1/(P+i).
    harmonic = _harmonic(tally.rows)
    above = tally.rows - tally.position
    h = harmonic[above + tally.drawn] - harmonic[above]
    missed = tally.errors[:, -1:] - tally.errors
    share = tally.wrong / np.maximum(tally.drawn, 1)
    areas: Floats = np.sum(missed * h + tally.wrong - share * above * h, axis=1) / tally.rows
    return areas


def _excess_aurc(tally: Tally) -> Floats:
    # The oracle's W errors come last: Σⱼ j / (R+j) = W − R·(H(N) − H(R)), R = N − W.
    harmonic, right = _harmonic(tally.rows), tally.right.astype(np.int64)
    oracle = (tally.rows - right) - right * (harmonic[tally.rows] - harmonic[right])
    excess: Floats = _aurc(tally) - oracle / tally.rows
    return excess


def _accuracy_at(tally: Tally, rate: float) -> Floats:
    wanted = rate * tally.rows
    position, drawn, won, gain = _first_group(tally, tally.position >= wanted - 1e-9)
    beyond = (position - wanted) / np.maximum(drawn, 1)  # the part of the group not yet appealed
    accuracy: Floats = (tally.right + won - gain * beyond) / tally.rows
    return accuracy


def _appeals_for_acc_i(tally: Tally, share: float) -> Floats:
    gap = tally.won[:, -1].astype(np.float64)
    wanted = share * gap
    position, drawn, won, gain = _first_group(tally, tally.won >= wanted[:, None] - 1e-9)
    # Inside the group the expected gain grows evenly; rows are whole.
    spare = np.floor((won - wanted) * drawn / np.maximum(gain, 1) + 1e-9)
    rates: Floats = np.where(gap > 0, (position - spare) / tally.rows, np.nan)
    return rates


def _first_group(tally: Tally, reached: NDArray[np.bool_]) -> list[Floats]:
    """Position, drawn, won and gain of each resample's first group for which ``reached`` holds."""
    group = np.argmax(reached, axis=1)[:, None]
    parts = (tally.position, tally.drawn, tally.won, tally.gain)
    return [np.take_along_axis(part, group, axis=1)[:, 0].astype(np.float64) for part in parts]


def _harmonic(rows: int) -> Floats:
    """H(0), …, H(rows)."""
    sums: Floats = np.cumsum(1 / np.maximum(np.arange(rows + 1), 1))
    return sums - 1


# Rates and shares that tables report; AppealNet's Tables I and II have these four of AccI.
RATES = (5, 10, 20)
SHARES = (50, 75, 90, 95)

FIGURES: dict[str, Figure] = {
    "area": _area,
    "auroc": _auroc,
    "aurc": _aurc,
    "excess_aurc": _excess_aurc,
    **{f"accuracy_at_{rate}": partial(_accuracy_at, rate=rate / 100) for rate in RATES},
    **{f"appeals_for_acc_i_{share}": partial(_appeals_for_acc_i, share=share / 100)
       for share in SHARES},
}  # fmt: skip
