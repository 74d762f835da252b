"""What a user may ask of the threshold: the goals, each a small class and one line in a registry.

A goal turns calibration rows into a threshold, says in words what it asks, and tells whether the
pair keeps it at some operating point, which may be that of other rows. Exactly one is chosen:
:mod:`routers.calibration.goal_options`. All but :class:`Risk` speak of what is *expected*: they are
kept on the calibration rows, and elsewhere up to the luck of the draw. Risk is a promise with a
confidence.

What cannot be reached raises :class:`Unreachable`, which is a BadInput, names the nearest that can
and brings its threshold: a job that has searched for hours ships that one, with the warning.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edge.errors import BadInput
from routers.calibration.calibrate import (
    APPEAL_ALWAYS,
    APPEAL_NEVER,
    CalibrationRows,
    Choice,
    appeals_that_win,
)
from routers.calibration.risk import boldest_promise, nearest_promise
from routers.evaluation.metrics import OperatingPoint

# Shares are quotients of whole numbers: a difference below this is rounding, never a row.
_ROUNDING = 1e-9


class Unreachable(BadInput):
    """No threshold does what is asked on these rows; ``nearest`` comes nearest to it."""

    def __init__(
        self, problem: str, *, value: object, bound: str, remedy: str, nearest: float
    ) -> None:
        super().__init__(problem, value=value, bound=bound, remedy=remedy)
        self.nearest = nearest


@dataclass(frozen=True)
class Goal(ABC):
    """A frozen dataclass whose first field bears its ``name``; further fields have defaults."""

    name: ClassVar[str]

    @abstractmethod
    def choose(self, rows: CalibrationRows) -> Choice:
        """The threshold that does what is asked on ``rows``; Unreachable where none does."""

    @abstractmethod
    def met(self, point: OperatingPoint) -> bool:
        """Whether the pair does what is asked at this operating point."""

    @abstractmethod
    def words(self) -> str:
        """What is asked, to follow "goal: "."""

    def _check(self, name: str, holds: bool, bound: str, remedy: str) -> None:
        if not holds:
            raise BadInput(
                f"{name.replace('_', ' ')} is out of range",
                value=getattr(self, name),
                bound=bound,
                remedy=remedy,
            )


@dataclass(frozen=True)
class Calibrated:
    """A threshold and what to expect of it.

    ``threshold``: a float32 value, finite, so that JSON keeps it; ``expected``: the pair on the
    calibration rows; ``met``: whether it does what ``goal`` asks there; ``warning``: "" or what
    the user should know; ``doubt``: "" or why no figure of the pair is to be relied on.
    """

    goal: Goal
    threshold: float
    expected: OperatingPoint
    met: bool
    warning: str = ""
    doubt: str = ""

    @property
    def name(self) -> str:
        """Of the warning, where it stands for a goal that is missed; "" where it is a caveat."""
        if not self.warning:
            return ""
        if not self.met:
            return "goal-not-reached"
        unspent = self.threshold > APPEAL_NEVER and not self.expected.appeals
        return "budget-unspent" if unspent else ""

    @property
    def verdict(self) -> str:
        """Whether the goal is met; a figure that makes no sense meets nothing."""
        if self.doubt:
            return f"but {self.doubt}"
        if not self.met:
            return "not met"
        return "nothing is spent" if self.name else "met"

    def words(self) -> str:
        """One sentence for people: goal, threshold and expectation."""
        point = self.expected
        won = "no gap to win back" if point.acc_i is None else f"AccI {point.acc_i:.1%}"
        return (
            f"goal: {self.goal.words()}; {_threshold(self.threshold)}; on {point.rows:,} "
            f"calibration rows {point.appeals:.1%} appeals, pair accuracy {point.accuracy:.2%}, "
            f"{won}, {point.risk or 0:.2%} of trusted answers wrong: {self.verdict}"
        )


def calibrate(goal: Goal, rows: CalibrationRows, *, nearest: bool = False) -> Calibrated:
    """The threshold for ``goal`` on ``rows``.

    Where it cannot be reached: Unreachable or, if ``nearest``, what comes nearest to it, which is
    not ``met`` and has the refusal as its warning.
    """
    try:
        choice = goal.choose(rows)
    except Unreachable as refusal:
        if not nearest:
            raise
        point = rows.at(refusal.nearest)
        return Calibrated(goal, refusal.nearest, point, False, f"{refusal}")
    point = rows.at(choice.threshold)
    return Calibrated(goal, choice.threshold, point, goal.met(point), choice.warning)


@dataclass(frozen=True)
class Appeals(Goal):
    """A budget: at most this share of inputs is appealed (AppealNet Eq. 12)."""

    appeals: float
    name: ClassVar[str] = "appeals"

    def __post_init__(self) -> None:
        self._check("appeals", 0 <= self.appeals <= 1, "a share between 0 and 1", "20 % is 0.2.")

    def choose(self, rows: CalibrationRows) -> Choice:
        return appeals_that_win(rows.score, rows.student_right, rows.teacher_right, self.appeals)

    def met(self, point: OperatingPoint) -> bool:
        return point.appeals <= self.appeals + _ROUNDING

    def words(self) -> str:
        return f"at most {_percent(self.appeals)} of the inputs appealed"


@dataclass(frozen=True)
class Accuracy(Goal):
    """The pair's accuracy (AppealNet Eq. 13) reaches this, with the fewest appeals."""

    accuracy: float
    name: ClassVar[str] = "accuracy"

    def __post_init__(self) -> None:
        self._check("accuracy", 0 <= self.accuracy <= 1, "a share between 0 and 1", "99 % is .99.")

    def choose(self, rows: CalibrationRows) -> Choice:
        decisions = rows.decisions
        accuracy = decisions.right / len(rows)
        reached = accuracy >= self.accuracy - _ROUNDING
        if reached.any():
            return Choice(float(decisions.threshold[np.argmax(reached)]))
        best = int(np.argmax(accuracy))
        # Rounded down, so that what the message names can be asked for.
        reachable = math.floor(accuracy[best] * 1e4 + _ROUNDING) / 1e4
        raise Unreachable(
            f"the pair does not reach the accuracy on {len(rows):,} calibration rows",
            value=self.accuracy,
            bound=f"at most {reachable:.4f}, which takes "
            f"{decisions.appealed[best] / len(rows):.1%} appeals",
            remedy="Ask for no more than that, or let a better student or teacher take part.",
            nearest=float(decisions.threshold[best]),
        )

    def met(self, point: OperatingPoint) -> bool:
        return point.accuracy >= self.accuracy - _ROUNDING

    def words(self) -> str:
        return f"a pair accuracy of {_percent(self.accuracy)} with the fewest appeals"


@dataclass(frozen=True)
class AccI(Goal):
    """The pair wins this share of the accuracy gap back (AppealNet Eq. 14), fewest appeals."""

    acci: float
    name: ClassVar[str] = "acci"

    def __post_init__(self) -> None:
        self._check("acci", 0 <= self.acci <= 1, "a share between 0 and 1", "90 % is 0.9.")

    def choose(self, rows: CalibrationRows) -> Choice:
        decisions = rows.decisions
        student, teacher = decisions.right[0], decisions.right[-1]
        if teacher <= student:
            raise Unreachable(
                "there is no accuracy gap to win back: the teacher is no better than the student",
                value=f"teacher {teacher / len(rows):.2%}, student {student / len(rows):.2%} "
                f"on {len(rows):,} calibration rows",
                bound="a teacher that is better there",
                remedy="AccI means nothing here: ask for --appeals, --cost-per-appeal or --risk.",
                nearest=float(decisions.threshold[0]),
            )
        # Appealing everything wins the whole gap back, so some threshold does.
        wanted = student + self.acci * (teacher - student)
        reached = decisions.right >= wanted - _ROUNDING * len(rows)
        return Choice(float(decisions.threshold[np.argmax(reached)]))

    def met(self, point: OperatingPoint) -> bool:
        if point.acc_i is None:
            return False
        gap = point.teacher_accuracy - point.student_accuracy
        return (point.acc_i - self.acci) * gap >= -_ROUNDING

    def words(self) -> str:
        return f"{_percent(self.acci)} of the accuracy gap won back with the fewest appeals"


@dataclass(frozen=True)
class CostPerAppeal(Goal):
    """The least price: ``cost_per_error`` · wrong answers + ``cost_per_appeal`` · appeals.

    Both are in one unit of the user's choice; only their ratio counts. By default a wrong answer
    costs 100, so that ``cost_per_appeal`` is a percentage of it: at 3 an appeal has to raise the
    chance of a right answer by 3 points to pay, and 33 appeals may be spent to mend one answer.
    Of equally cheap thresholds the one with the fewest appeals is taken.
    """

    cost_per_appeal: float
    cost_per_error: float = 100.0
    name: ClassVar[str] = "cost_per_appeal"

    def __post_init__(self) -> None:
        self._check(
            "cost_per_appeal",
            0 <= self.cost_per_appeal < math.inf,
            "a finite number, 0 or more",
            "It is in the unit of cost_per_error, which is 100 where it is not given.",
        )
        self._check(
            "cost_per_error",
            0 < self.cost_per_error < math.inf,
            "a finite number above 0",
            "A wrong answer that costs nothing is never worth an appeal.",
        )

    def choose(self, rows: CalibrationRows) -> Choice:
        decisions = rows.decisions
        price = (
            self.cost_per_appeal / self.cost_per_error * decisions.appealed
            + len(rows)
            - decisions.right
        )
        cheapest = price <= price.min() * (1 + _ROUNDING) + _ROUNDING
        return Choice(float(decisions.threshold[np.argmax(cheapest)]))

    def price(self, point: OperatingPoint) -> float:
        """The mean price of an input, in the unit of the two costs."""
        return self.cost_per_error * (1 - point.accuracy) + self.cost_per_appeal * point.appeals

    def met(self, point: OperatingPoint) -> bool:
        """Whether the pair is no dearer than the student alone."""
        alone = self.cost_per_error * (1 - point.student_accuracy)
        return self.price(point) <= alone + _ROUNDING * self.cost_per_error

    def words(self) -> str:
        return (
            f"the least price, where an appeal costs {self.cost_per_appeal:g} and a wrong answer "
            f"{self.cost_per_error:g}"
        )


@dataclass(frozen=True)
class Risk(Goal):
    """Of trusted answers at most this share is wrong, with ``confidence``:
    :mod:`routers.calibration.risk`."""

    risk: float
    confidence: float = 0.95
    name: ClassVar[str] = "risk"

    def __post_init__(self) -> None:
        bound = "a share between 0 and 1, neither of them"
        self._check("risk", 0 < self.risk < 1, bound, "1 wrong in 100 trusted answers is 0.01.")
        self._check("confidence", 0 < self.confidence < 1, bound, "95 % is 0.95.")

    def choose(self, rows: CalibrationRows) -> Choice:
        asked = rows.score, rows.student_right, self.risk, self.confidence
        promise = boldest_promise(*asked)
        if promise is not None:
            return Choice(promise.threshold)
        other = nearest_promise(*asked)
        if other is None:
            threshold = APPEAL_ALWAYS
            bound = "a student that is right more often: no risk below 1 can be promised here"
            remedy = "Appeal everything (--appeals 1), or keep more rows for calibration."
        else:
            risk, promise = other
            threshold, appealed = promise.threshold, 1 - promise.trusted / len(rows)
            bound = f"a risk of {risk:.2g} or more, which takes {appealed:.1%} appeals"
            remedy = "Allow more risk or less confidence, or keep more rows for calibration."
        raise Unreachable(
            f"{len(rows):,} calibration rows are no ground for this promise",
            value=f"a risk of {self.risk:g} with confidence {self.confidence:g}",
            bound=bound,
            remedy=remedy,
            nearest=threshold,
        )

    def met(self, point: OperatingPoint) -> bool:
        """Whether the share seen keeps the bound; on few rows luck has its part in that."""
        return point.risk is None or point.risk <= self.risk + _ROUNDING

    def words(self) -> str:
        return (
            f"at most {_percent(self.risk)} of the trusted answers wrong, with "
            f"{_percent(self.confidence)} confidence and the fewest appeals"
        )


GOALS: dict[str, type[Goal]] = {
    goal.name: goal for goal in (Appeals, Accuracy, AccI, CostPerAppeal, Risk)
}


def _threshold(value: float) -> str:
    if abs(value) >= APPEAL_ALWAYS:
        return "no threshold, nothing appeals" if value < 0 else "no threshold, everything appeals"
    return f"threshold {value:.6g}"


def _percent(share: float) -> str:
    return f"{100 * share:.4g}%"
