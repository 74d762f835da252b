"""What a short training says of a full one.

Students that train longer come closer to their teacher, the weak ones by more. So the accuracies of
short trainings exaggerate the differences between candidates, and held against a threshold that is
meant for the student that ships they are all too low. What was found to hold: the gap between the
logarithms of a student's error and its teacher's shrinks as a power of the images seen,

    ln(e / e_T)  ∝  images^(−g),

so that the error after the full training is expected to be e_T · (e / e_T)^b, with
b = (images of the full training / images so far)^(−g). g is a matter of the data and measured on
the plain students of a job, which are trained in full before the search
(:mod:`search.opening.pilots`); docs/results.md has how candidates rank with and without it. A proxy
near chance shows nothing of how it would rise, so it is expected to stay there; in between, a share
of the rise is believed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

#: share of the way from chance to the teacher from which on a proxy's rise is believed in full
TRUSTED = 0.5


@dataclass(frozen=True)
class Expectation:
    """From an accuracy after some epochs of the proxy to the one after the full training.

    Attributes:
        teacher: accuracy of the teacher on the same rows.
        images: that a candidate sees in an epoch of its proxy.
        full: images of the whole full training.
        gain: g above; 0 takes the proxy at its word.
        rows: on which accuracies are measured: an error of less than half of one is not told apart.
        chance: accuracy of one who always names the most frequent class; None from an earlier
            version, which trusted a proxy at chance as any other.
        spread: standard deviation of g.
    """

    teacher: float
    images: int
    full: int
    gain: float
    rows: int
    chance: float | None = None
    spread: float = 0.0

    def gap(self, accuracy: float) -> float:
        """ln(e / e_T) of a student."""
        return math.log(max(1 - accuracy, self._least) / self._teacher)

    @property
    def _least(self) -> float:
        return 0.5 / self.rows

    @property
    def _teacher(self) -> float:
        return max(1 - self.teacher, self._least)

    def _exponents(self, epochs: NDArray[Any]) -> Values:
        # of none an earlier version says: it did not write them
        more = self.full / (self.images * np.where(epochs > 0, epochs, 1))
        found: Values = np.maximum(1.0, more) ** -self.gain
        return found

    def __call__(self, accuracy: float, epochs: float) -> float:
        """The accuracy that is expected; rises with ``accuracy``, in [0, 1]."""
        return float(self.many(np.array([accuracy]), epochs)[0])

    def many(self, accuracies: Values, epochs: float | NDArray[Any]) -> Values:
        """The same of many candidates, after equally many epochs or each after its own."""
        ratio = np.maximum(1 - accuracies, self._least) / self._teacher
        expected = self._teacher * ratio ** self._exponents(np.asarray(epochs))
        risen = 1 - np.minimum(1.0, expected)
        found: Values = accuracies + self._trust(accuracies) * (risen - accuracies)
        return found

    def _trust(self, accuracies: Values) -> Values:
        """The share of the rise that is believed: none of a candidate that has learnt nothing."""
        if self.chance is None or self.teacher <= self.above_chance:
            return np.ones_like(accuracies)
        skill = (accuracies - self.above_chance) / (self.teacher - self.above_chance)
        found: Values = np.clip(skill / TRUSTED, 0.0, 1.0)
        return found

    @property
    def above_chance(self) -> float:
        """The least accuracy that is more than luck: two standard deviations above chance."""
        chance = self.chance or 0.0
        return chance + 2 * math.sqrt(chance * (1 - chance) / self.rows)

    def interval(self, accuracy: float, epochs: float) -> tuple[float, float]:
        """Two standard deviations below and above what is expected: of g, and of the rows."""
        middle = self(accuracy, epochs)
        luck = 2 * math.sqrt(max(middle * (1 - middle), self._least) / self.rows)
        low, high = (
            replace(self, gain=max(0.0, self.gain + sign * 2 * self.spread))(accuracy, epochs)
            for sign in (-1, 1)
        )
        return max(0.0, min(low, middle) - luck), min(1.0, max(high, middle) + luck)
