"""The reward of N2N learning (Ashok et al., 2018), which has no weights and no thresholds."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from envs.reward.base import Margin, Reward, Values, within

#: below these the logarithm goes on along its tangent: R stays positive, and stays in order
LOW = 0.01


@dataclass(frozen=True)
class N2NReward(Reward):
    """R = C(2 − C) · A / A_teacher.

    As printed for C and A of .01 or more. Below, where the printed R reaches 0 and then changes
    its sign (a student larger than the teacher), log R goes on along its tangent.

    Attributes:
        teacher: A_teacher, accuracy of the teacher on the rows that A is measured on.
    """

    teacher: float = 1.0

    def __post_init__(self) -> None:
        within("teacher", self.teacher, 0, 1)

    def log(self, accuracy: Margin, compressed: Margin, ms: Margin | None = None) -> Margin:
        # a teacher that is never right must not divide by 0; it scales every reward alike
        scale = math.log(max(self.teacher, LOW))
        if isinstance(accuracy, np.ndarray):
            return _log_size(np.asarray(compressed)) + _log_above(accuracy) - scale
        parts = _log_size(np.array(compressed)) + _log_above(np.array(accuracy)) - scale
        return float(parts)


def _log_above(share: Values) -> Values:
    """log x, along its tangent below :data:`LOW`."""
    return np.log(np.maximum(share, LOW)) + np.minimum(share - LOW, 0) / LOW


def _log_size(compressed: Values) -> Values:
    """log C(2 − C), along its tangent below :data:`LOW`."""
    high = np.maximum(compressed, LOW)
    slope = (2 - 2 * LOW) / (LOW * (2 - LOW))
    found: Values = np.log(high * (2 - high)) + slope * np.minimum(compressed - LOW, 0)
    return found
