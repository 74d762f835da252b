"""What a reward is: a callable of a student's accuracy, compression and latency."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from edge.errors import BadInput

Values = NDArray[np.float64]
#: a number, or one per candidate
Margin = TypeVar("Margin", float, Values)

#: e^LEAST ≈ 10⁻³⁰⁴ is still a float above 0; the exponent itself goes on ordering what lies below
LEAST = -700.0


def compression(student_bytes: int, teacher_bytes: int) -> float:
    """Zhang, Eq. 5: C = 1 − size(student) / size(teacher)."""
    return 1 - student_bytes / teacher_bytes


@dataclass(frozen=True)
class Reward(ABC):
    """A member of the open set: its settings are its fields, checked when it is made.

    Raises:
        BadInput: a setting is out of range; names the option, the value and the bound.
    """

    def __call__(self, accuracy: float, compressed: float, ms: float | None = None) -> float:
        """R > 0; 0 only for a candidate that failed, which no caller asks this about.

        Args:
            accuracy: A, of the validation part, in [0, 1].
            compressed: C of Eq. 5, at most 1; negative where the student outgrew the teacher.
            ms: latency of one input in milliseconds; only a reward with a latency factor reads it.
        """
        return math.exp(max(LEAST, self.log(accuracy, compressed, ms)))

    def many(self, accuracies: Values, compressed: Values, ms: Values | None = None) -> Values:
        """R of many candidates, each argument of shape (batch,)."""
        return np.exp(np.maximum(LEAST, self.log(accuracies, compressed, ms)))

    @abstractmethod
    def log(self, accuracy: Margin, compressed: Margin, ms: Margin | None = None) -> Margin:
        """The exponent of the reward; it orders candidates as the reward does.

        Numbers, or arrays of one shape.
        """

    @property
    def settings(self) -> dict[str, float]:
        """Its weights and thresholds by name, those of what it wraps among them."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True)
class WeightedReward(Reward):
    """A reward with Zhang's weights and thresholds.

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
            within(name, getattr(self, name), 0, 300)
        for name in ("c0", "a0"):
            within(name, getattr(self, name), 0, 1)


def within(name: str, value: float, low: float, high: float) -> None:
    """BadInput where a setting is not in [low, high]; nan is not."""
    if not low <= value <= high:
        raise BadInput(
            f"`{name}` of the reward is out of range",
            value=value,
            bound=f"a number from {low:g} to {high:g}",
            remedy=f"Set --{name.replace('_', '-')} within it.",
        )
