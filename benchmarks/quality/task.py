"""What a task is to the harness: a teacher's description, moves, standards, the truth."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from envs.compression.moves import Moves
from envs.graph.netspec import NetSpec
from envs.reward import PaperReward, Reward, ThresholdReward
from search.space.learning_curve import Expectation
from search.space.limits import Limits
from search.space.space import Actions, Space

Values = NDArray[np.float64]

#: the drop that sets A0 where a job's user says nothing
MAX_DROP = 0.01
#: ``--proxy-gain`` of the job, and images of its full training over those of its proxy. Only
#: 16^-.38 = .35 counts, the share of a gap's logarithm that is left: docs/search_quality.md has why
GAIN = 0.38
FULL_TRAINING = 16


@dataclass(frozen=True, eq=False)
class Standard:
    """What accuracies on one set of rows are held against: the teacher's accuracy on the same rows.

    A job's reward is of the accuracy that is expected after the full training, and so it is here.

    Attributes:
        rewards: by name, the first one is the job's default.
        expectation: from the accuracies of proxies to those after the full training.
        epochs: of a proxy.
    """

    rewards: Mapping[str, Reward]
    expectation: Expectation
    epochs: int

    @classmethod
    def of(cls, teacher: float, c0: float, learnt: int, epochs: int, rows: int) -> Standard:
        """The job's default reward with its default drop, and Zhang's Eq. 7.

        Args:
            teacher: its accuracy on the rows.
            c0: compression threshold.
            learnt: rows that a proxy learns from.
            epochs: of a proxy.
            rows: how many accuracies are measured on.
        """
        thresholds = {"c0": c0, "a0": max(0.0, teacher - MAX_DROP)}
        full = FULL_TRAINING * epochs * learnt
        return cls(
            {"threshold": ThresholdReward(**thresholds), "paper": PaperReward(**thresholds)},
            Expectation(teacher, learnt, full, GAIN, rows),
            epochs,
        )

    def expected(self, accuracies: Values) -> Values:
        """Accuracies after the full training; 0 for 0 or nan, which stand for a failed proxy."""
        # as in a job, where nothing is expected of a failed candidate; the formula would
        found = np.nan_to_num(accuracies)
        return np.where(found > 0, self.expectation.many(found, self.epochs), 0.0)

    def log(self, reward: str, accuracies: Values, compressed: Values) -> Values:
        """Log-rewards of candidates for the accuracies of their proxies, all of shape (batch,)."""
        return self.rewards[reward].log(self.expected(accuracies), compressed)


class Truth(Protocol):
    """What real distillation says of candidates."""

    def key(self, actions: Actions) -> str:
        """Equal for two candidates that round to the same network."""

    def searched(self, actions: Actions) -> float | None:
        """The accuracy that a search is told; None where the training diverged."""

    def judged(self, actions: Actions) -> tuple[float, ...]:
        """Accuracies with other seeds on other rows, 0 where a training diverged.

        Empty where nobody trained this candidate again.
        """

    def promise(self, actions: NDArray[np.int64]) -> Values:
        """What candidates, shape (batch, layers), promise untrained:
        :mod:`search.scheduling.probe`."""


@dataclass(frozen=True, eq=False)
class Task:
    """One problem that samplers are compared on.

    Attributes:
        name: in tables and files.
        network: the teacher's description.
        moves: pool and scaled fields.
        searched: what the accuracies that searches are told are held against.
        judged: the same of those that their choices are judged by.
        max_kb: the size limit, if there is one.
        truth: of its candidates.
    """

    name: str
    network: NetSpec
    moves: Moves
    searched: Standard
    judged: Standard
    max_kb: float | None
    truth: Truth

    def space(self, reward: str) -> Space:
        """What a sampler is given; a fresh one, so that nobody profits from another's costs."""
        return Space(
            self.network,
            self.moves,
            self.searched.rewards[reward],
            Limits(self.max_kb),
            expectation=self.searched.expectation,
            probe=self.truth.promise,
        )

    def digest(self, reward: str) -> str:
        """Of what searches are rewarded by: those under other thresholds are other searches."""
        standard = self.searched
        said = repr((standard.rewards[reward], standard.expectation, standard.epochs))
        return hashlib.sha256(said.encode()).hexdigest()[:8]
