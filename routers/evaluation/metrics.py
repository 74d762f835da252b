"""How good is the pair of student and teacher, for a router that sends rows from one to the other?

Rows appeal in ascending order of score. Ties are in no order: every figure is the expectation
over their permutations, so a router cannot gain by coarse scores. Figures of one threshold
(AppealNet Eq. 11 to 15) stand first, then those of all appealing rates, then those of the router
alone, which ask how well it finds the student's errors and leave the teacher aside.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge.errors import BadInput

Scores = NDArray[np.floating[Any]]
Right = NDArray[np.integer[Any]] | NDArray[np.bool_]
Floats = NDArray[np.float64]

# Accuracies are sums over rows: a difference below this is rounding, never a row.
_ROUNDING = 1e-9


def defined(value: float) -> float | None:
    """The same, with None for nan: a figure as JSON can hold it."""
    return None if math.isnan(value) else value


def skipping_rate(appealed: NDArray[np.bool_]) -> float:
    """The share of rows kept on the edge, SR = 1 − AR (AppealNet Eq. 11)."""
    return 1.0 - appealing_rate(appealed)


def appealing_rate(appealed: NDArray[np.bool_]) -> float:
    """The share of rows sent to the teacher, AR (AppealNet Eq. 12)."""
    return float(np.mean(appealed))


def pair_accuracy(appealed: NDArray[np.bool_], student_right: Right, teacher_right: Right) -> float:
    """The accuracy of student and teacher together (AppealNet Eq. 13)."""
    return float(np.mean(np.where(appealed, teacher_right, student_right)))


def acc_i(pair: float, student: float, teacher: float) -> float | None:
    """The share of the accuracy gap that the pair wins back (AppealNet Eq. 14).

    Above 1 where the pair beats its teacher, below 0 where it falls behind its student. None
    where the teacher is no better than the student: there is no gap to win back.
    """
    if teacher <= student:
        return None
    return (pair - student) / (teacher - student)


@dataclass(frozen=True)
class Prices:
    """What one input costs, in any one unit: MACs, bytes sent, milliseconds, money.

    ``edge``: student and router, paid for every input, AppealNet's c₁; ``cloud``: what an appeal
    costs on top, which is teacher and transfer, so that its c₀ is ``edge + cloud``.
    """

    edge: float
    cloud: float

    def __post_init__(self) -> None:
        for name in ("edge", "cloud"):
            price = getattr(self, name)
            if not (math.isfinite(price) and price >= 0):
                raise BadInput(
                    f"the price `{name}` of an input is out of range",
                    value=price,
                    bound="a finite number, 0 or more",
                    remedy="Give both prices in one unit, such as MACs or bytes.",
                )


def overall_cost(appealed: NDArray[np.bool_], prices: Prices) -> float:
    """The mean cost of an input, SR·c₁ + (1 − SR)·c₀ (AppealNet Eq. 15), in the prices' unit."""
    kept = skipping_rate(appealed)
    return kept * prices.edge + (1 - kept) * (prices.edge + prices.cloud)


@dataclass(frozen=True)
class OperatingPoint:
    """The pair at one threshold, on some rows.

    ``appeals``: AR (Eq. 12); ``accuracy``: of the pair (Eq. 13); ``acc_i``: Eq. 14, None where
    the teacher is no better; ``risk``: the share of wrong answers among *trusted* rows, None
    where nothing is trusted; ``rows``: how many there are. Shares lie in [0, 1], AccI need not.
    """

    rows: int
    appeals: float
    accuracy: float
    student_accuracy: float
    teacher_accuracy: float
    acc_i: float | None
    risk: float | None


def operating_point(
    appealed: NDArray[np.bool_], student_right: Right, teacher_right: Right
) -> OperatingPoint:
    """Everything about one decision; ``appealed``: N of bool, the others N of 0 and 1."""
    student, teacher = float(np.mean(student_right)), float(np.mean(teacher_right))
    pair = pair_accuracy(appealed, student_right, teacher_right)
    trusted = np.asarray(student_right)[~appealed]
    return OperatingPoint(
        rows=len(appealed),
        appeals=appealing_rate(appealed),
        accuracy=pair,
        student_accuracy=student,
        teacher_accuracy=teacher,
        acc_i=acc_i(pair, student, teacher),
        risk=float(np.mean(trusted == 0)) if len(trusted) else None,
    )


class Curve(NamedTuple):
    """Accuracy of the pair over appealing rate; both N+1 long, the first from 0 to 1."""

    rate: Floats
    accuracy: Floats


def deferral_curve(score: Scores, student_right: Right, teacher_right: Right) -> Curve:
    """The pair's accuracy (AppealNet Eq. 13) at every appealing rate (Eq. 12) 0, 1/N, …, 1.

    ``score``: N, higher = trust; ``student_right``, ``teacher_right``: N of 0 and 1.
    """
    gain = _gain(student_right, teacher_right)
    if len(score) != len(gain):
        raise ValueError(f"one score a row: got {len(score)} scores for {len(gain)} rows")
    _, group, size = np.unique(score, return_inverse=True, return_counts=True)
    mean_gain = np.bincount(group, weights=gain) / size
    return _curve(np.repeat(mean_gain, size), student_right)


def oracle_curve(student_right: Right, teacher_right: Right) -> Curve:
    """The best any router can do: helpful appeals first, useless ones next, harmful ones last."""
    return _curve(-np.sort(-_gain(student_right, teacher_right)), student_right)


def random_curve(student_right: Right, teacher_right: Right) -> Curve:
    """Appeals at random: a straight line from the student's accuracy to the teacher's."""
    rows = len(student_right)
    return deferral_curve(np.zeros(rows), student_right, teacher_right)


def area_under(curve: Curve) -> float:
    """The mean accuracy over all appealing rates (trapezoids); in [0, 1]."""
    return float(np.trapezoid(curve.accuracy, curve.rate))


def accuracy_at(curve: Curve, rate: float) -> float:
    """The pair's accuracy at an appealing rate in [0, 1]; linear between two rows."""
    if not 0 <= rate <= 1:
        raise ValueError(f"an appealing rate lies in [0, 1]: got {rate}")
    return float(np.interp(rate, curve.rate, curve.accuracy))


def appeals_for_acc_i(curve: Curve, share: float) -> float | None:
    """The least appealing rate k/N that wins ``share`` of the gap back (AppealNet Table I and II).

    None where the teacher is no better than the student, or where no rate wins that much, which
    takes a share above 1.
    """
    student, teacher = curve.accuracy[0], curve.accuracy[-1]
    if teacher - student < _ROUNDING:
        return None
    return appeals_for(curve, student + share * (teacher - student))


def appeals_for(curve: Curve, accuracy: float) -> float | None:
    """The least appealing rate k/N that makes the pair so accurate; None where none does."""
    reached = curve.accuracy >= accuracy - _ROUNDING
    return float(curve.rate[np.argmax(reached)]) if reached.any() else None


def auroc(score: Scores, student_right: Right) -> float:
    """How often a row the student gets right outscores one it gets wrong; ties count one half.

    nan where the student is right everywhere or nowhere.
    """
    right = np.asarray(student_right, dtype=bool)
    positives, negatives = int(right.sum()), int((~right).sum())
    if positives == 0 or negatives == 0:
        return float("nan")
    _, group, size = np.unique(score, return_inverse=True, return_counts=True)
    rank = (np.cumsum(size) - (size - 1) / 2)[group]
    wins = rank[right].sum() - positives * (positives + 1) / 2
    return float(wins / (positives * negatives))


class RiskCoverage(NamedTuple):
    """Error rate of the k most trusted rows over coverage k/N; both N long, k = 1, …, N."""

    coverage: Floats
    risk: Floats


def risk_coverage(score: Scores, student_right: Right) -> RiskCoverage:
    """How often the student errs among the rows of highest score.

    ``score``: N, higher = trust; ``student_right``: N of 0 and 1. Had every appeal an answer that
    is right, the errors left would be these.
    """
    wrong = _gain(student_right, np.ones(len(student_right), dtype=np.int64))
    if len(score) != len(wrong):
        raise ValueError(f"one score a row: got {len(score)} scores for {len(wrong)} rows")
    _, group, size = np.unique(-score, return_inverse=True, return_counts=True)
    errors = np.cumsum(np.repeat(np.bincount(group, weights=wrong) / size, size))
    rows = np.arange(1, len(wrong) + 1)
    return RiskCoverage(rows / len(wrong), errors / rows)


def aurc(score: Scores, student_right: Right) -> float:
    """The area under the risk-coverage curve: the mean risk over the coverages 1/N, 2/N, …, 1.

    That is 1/N · Σₖ (errors among the k most trusted rows) / k, in [0, 1]; lower is better.
    """
    return float(risk_coverage(score, student_right).risk.mean())


def excess_aurc(score: Scores, student_right: Right) -> float:
    """E-AURC: AURC less that of the oracle, which trusts every right row before any wrong one.

    0 is perfect. Unlike AURC it does not hold the student's own accuracy against the router.
    """
    oracle = np.asarray(student_right, dtype=np.float64)
    return aurc(score, student_right) - aurc(oracle, student_right)


def _gain(student_right: Right, teacher_right: Right) -> Floats:
    """What an appeal of each row adds to the number of right answers: −1, 0 or 1."""
    if len(student_right) == 0 or len(student_right) != len(teacher_right):
        raise ValueError(
            "student and teacher must be judged on the same rows, at least one: got "
            f"{len(student_right)} and {len(teacher_right)}"
        )
    return np.asarray(teacher_right, dtype=np.float64) - np.asarray(student_right, np.float64)


def _curve(gain_in_order: Floats, student_right: Right) -> Curve:
    rows = len(gain_in_order)
    right = np.sum(student_right) + np.r_[0.0, np.cumsum(gain_in_order)]
    return Curve(np.arange(rows + 1) / rows, right / rows)
