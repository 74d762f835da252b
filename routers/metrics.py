"""How good is the pair of student and teacher, for a router that sends rows from one to the other?

Rows appeal in ascending order of score. Ties are in no order: every figure is the expectation
over their permutations, so a router cannot gain by coarse scores.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.floating[Any]]
Right = NDArray[np.integer[Any]] | NDArray[np.bool_]
Floats = NDArray[np.float64]


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


def bootstrap_areas(
    score: Scores, student_right: Right, teacher_right: Right, counts: NDArray[np.integer[Any]]
) -> Floats:
    """The area under the deferral curve of each resample of the rows.

    ``counts``: int B×N, how often each resample drew each row; the same counts for two scores
    make their differences *paired*. Returns B areas. All ones gives the area itself.

    A row of gain g that appeals at position p of N adds g to the accuracy from there on, which
    is g·(1 − (p − ½)/N)/N of area; rows of equal score share the middle of their positions.
    """
    gain = _gain(student_right, teacher_right)
    order = np.argsort(score, kind="stable")
    ascending = score[order]
    starts = np.flatnonzero(np.r_[True, ascending[1:] != ascending[:-1]])
    weight = counts[:, order].astype(np.float64)
    rows = weight.sum(axis=1, keepdims=True)
    drawn = np.add.reduceat(weight, starts, axis=1)
    gained = np.add.reduceat(weight * gain[order], starts, axis=1)
    middle = np.cumsum(drawn, axis=1) - drawn / 2
    won = np.sum(gained * (1 - middle / rows), axis=1) / rows[:, 0]
    student = weight @ np.asarray(student_right, dtype=np.float64)[order] / rows[:, 0]
    areas: Floats = student + won
    return areas


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


def skipping_rate(appealed: NDArray[np.bool_]) -> float:
    """The share of rows kept on the edge, SR = 1 − AR (AppealNet Eq. 11 and 12)."""
    return 1.0 - float(np.mean(appealed))


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
