"""How a two-head student is trained: its options, checked once."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from edge.errors import BadInput, check_member
from teachers.distillation.recipe import Recipe

Way = Literal["frozen", "joint"]
WAYS: tuple[Way, ...] = ("frozen", "joint")
#: values of β, in units of the student's mean excess loss, and the least that this is taken to be
SHARES = (0.1, 0.3, 1.0, 3.0)
LEAST_EXCESS = 1e-3


@dataclass(frozen=True)
class TwoHeadRecipe:
    """How a two-head student is trained; BadInput where a value is out of range.

    Attributes:
        betas: values of β to try (:mod:`teachers.two_head.joint_loss` says what they ask for); None
            for :data:`SHARES` of the plain student's mean excess loss, which is what one value of q
            for all rows would weigh β against.
        ways: "frozen", "joint" or both, which then compete. A frozen head finds only what is linear
            in features that were learnt for the classes alone; joint training, the paper's way,
            makes room in them for how hard an input is, and takes as long as a distillation.
        joint: epochs, batches, rate, precision and augmentation of a joint trial. Its ``loss``,
            ``keep_best`` and ``patience`` mean nothing here: the loss is Eq. 9 or 10, and the
            epoch that counts is the last.
        black_box: Eq. 10, which takes the teacher to be right everywhere, in place of Eq. 9.
        most_drop: of the exam's metric, by which a joint trial may fall below the plain student
            (.003 are .3 points).
    """

    betas: tuple[float, ...] | None = None
    ways: tuple[Way, ...] = ("joint",)
    joint: Recipe = field(default_factory=lambda: Recipe(epochs=10, learning_rate=2e-3))
    black_box: bool = False
    most_drop: float = 0.003

    def __post_init__(self) -> None:
        for way in self.ways:
            check_member("way to train a two-head student", way, WAYS)
        if not self.ways:
            raise _out_of_range("ways", "none", "at least one of frozen and joint")
        betas = (0.0,) if self.betas is None else self.betas
        if not betas or not all(0 <= beta < math.inf for beta in betas):
            raise _out_of_range("betas", betas, "one or more numbers of at least 0")
        if not 0 <= self.most_drop <= 1:
            raise _out_of_range("most_drop", self.most_drop, "a share between 0 and 1")

    def keeps(self, accuracy: float, before: float) -> bool:
        """Whether a student that had ``before`` may end with ``accuracy``."""
        # a drop of just the bound is allowed, whatever floats make of it
        return accuracy >= before - self.most_drop - 1e-9


def _out_of_range(what: str, value: object, bound: str) -> BadInput:
    return BadInput(
        f"{what} of a two-head student's training", value=value, bound=bound, remedy="Change it."
    )
