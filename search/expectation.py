"""What a short training says of a full one.

Students that train longer come closer to their teacher, the weak ones by more. So the accuracies of
short trainings exaggerate the differences between candidates, and held against a threshold that is
meant for the student that ships they are all too low. What was found to hold: the gap between the
logarithms of a student's error and its teacher's shrinks as a power of the images seen,

    ln(e / e_T)  ∝  images^(−g),

so that the error after the full training is expected to be e_T · (e / e_T)^b, with
b = (images of the full training / images so far)^(−g). g is a matter of the data and measured by
:mod:`search.pilots`; docs/results.md has how candidates rank with and without it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Expectation:
    """From an accuracy after some epochs of the proxy to the one after the full training.

    Attributes:
        teacher: accuracy of the teacher on the same rows.
        images: that a candidate sees in an epoch of its proxy.
        full: images of the whole full training.
        gain: g above; 0 takes the proxy at its word.
        rows: on which accuracies are measured: an error of less than half of one is not told apart.
    """

    teacher: float
    images: int
    full: int
    gain: float
    rows: int

    def gap(self, accuracy: float) -> float:
        """ln(e / e_T) of a student."""
        return math.log(max(1 - accuracy, self._least) / self._teacher)

    @property
    def _least(self) -> float:
        return 0.5 / self.rows

    @property
    def _teacher(self) -> float:
        return max(1 - self.teacher, self._least)

    def _exponents(self, epochs: NDArray[np.int64]) -> Values:
        more = self.full / (self.images * np.maximum(1, epochs))
        found: Values = np.maximum(1.0, more) ** -self.gain
        return found

    def __call__(self, accuracy: float, epochs: int) -> float:
        """The accuracy that is expected; rises with ``accuracy``, in [0, 1]."""
        return float(self.many(np.array([accuracy]), epochs)[0])

    def many(self, accuracies: Values, epochs: int | NDArray[np.int64]) -> Values:
        """The same of many candidates, after equally many epochs or each after its own."""
        ratio = np.maximum(1 - accuracies, self._least) / self._teacher
        expected = self._teacher * ratio ** self._exponents(np.asarray(epochs))
        found: Values = 1 - np.minimum(1.0, expected)
        return found
