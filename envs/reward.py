"""Rewards: small callables of a student's accuracy and compression.

The ledger keeps accuracy and cost, never only the reward, so a change of thresholds re-ranks every
candidate that was ever paid for.

Two facts, both property tests. Under Zhang's Eq. 7, R = e^{αC + βA} · const: C0 and A0 scale every
reward alike and **cannot change which candidate wins**. Under the default the exponents bend at
the thresholds, so they can.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from edge.errors import BadInput

Values = NDArray[np.float64]
Margin = TypeVar("Margin", float, Values)


def compression(student_bytes: int, teacher_bytes: int) -> float:
    """Zhang, Eq. 5: C = 1 − size(student) / size(teacher)."""
    return 1 - student_bytes / teacher_bytes


@dataclass(frozen=True)
class Reward(ABC):
    """Weights and thresholds that every reward knows.

    Attributes:
        alpha: weight of compression, Zhang's α.
        beta: weight of accuracy, Zhang's β.
        c0: compression threshold C0.
        a0: accuracy threshold A0.
    """

    alpha: float = 20.0
    beta: float = 15.0
    c0: float = 0.95
    a0: float = 0.9

    def __post_init__(self) -> None:
        for name in ("alpha", "beta"):
            # both at their bound still give a reward that a float holds: e⁶⁰⁰ ≈ 10²⁶⁰
            _within(name, getattr(self, name), 0, 300)
        for name in ("c0", "a0"):
            _within(name, getattr(self, name), 0, 1)

    def __call__(self, accuracy: float, compressed: float) -> float:
        """R > 0; 0 only for a candidate that failed, which no caller asks this about.

        Args:
            accuracy: A, of the validation part, in [0, 1].
            compressed: C of Eq. 5; negative where the student is larger than the teacher.
        """
        return math.exp(self.log(accuracy, compressed))

    def many(self, accuracies: Values, compressed: Values) -> Values:
        """R of many candidates, each argument of shape (batch,)."""
        return np.exp(self.log(accuracies, compressed))

    @abstractmethod
    def log(self, accuracy: Margin, compressed: Margin) -> Margin:
        """The exponent of the reward; it orders candidates as the reward does.

        Numbers, or arrays of one shape.
        """


@dataclass(frozen=True)
class PaperReward(Reward):
    """Zhang, Eq. 6 and 7 as printed: R = e^{α(C − C0)} · e^{β(A − A0)}."""

    def log(self, accuracy: Margin, compressed: Margin) -> Margin:
        return self.alpha * (compressed - self.c0) + self.beta * (accuracy - self.a0)


@dataclass(frozen=True)
class ThresholdReward(Reward):
    """The same two factors with exponents that bend: steep below a threshold, gentle above it.

    Attributes:
        rho: slope above a threshold over the slope below it, in [0, 1]; 1 gives Eq. 7 back.
    """

    rho: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        _within("rho", self.rho, 0, 1)

    def log(self, accuracy: Margin, compressed: Margin) -> Margin:
        return self.alpha * self._bent(compressed - self.c0) + self.beta * self._bent(
            accuracy - self.a0
        )

    def _bent(self, margin: Margin) -> Margin:
        # ρ ≤ 1, so below 0 the first is the smaller one, above it the second
        if isinstance(margin, np.ndarray):
            return np.minimum(margin, self.rho * margin)
        return min(margin, self.rho * margin)


REWARDS: dict[str, Callable[..., Reward]] = {"threshold": ThresholdReward, "paper": PaperReward}


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise BadInput(
            f"`{name}` of the reward is out of range",
            value=value,
            bound=f"a number from {low:g} to {high:g}",
            remedy=f"Set --{name} within it.",
        )
