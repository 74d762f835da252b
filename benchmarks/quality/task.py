"""What a task is to the harness: a teacher's description, moves, rewards, and the truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from envs.moves import Moves
from envs.netspec import NetSpec
from envs.reward import PaperReward, Reward, ThresholdReward
from search.limits import Limits
from search.space import Actions, Space

#: the drop that sets A0 where a job's user says nothing
MAX_DROP = 0.01


def rewards_of(teacher_accuracy: float, c0: float) -> dict[str, Reward]:
    """The job's default reward with its default drop, and Zhang's Eq. 7."""
    thresholds = {"c0": c0, "a0": max(0.0, teacher_accuracy - MAX_DROP)}
    return {"threshold": ThresholdReward(**thresholds), "paper": PaperReward(**thresholds)}


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


@dataclass(frozen=True, eq=False)
class Task:
    """One problem that samplers are compared on.

    Attributes:
        name: in tables and files.
        network: the teacher's description.
        moves: pool and scaled fields.
        rewards: by name; the first one is the job's default.
        max_kb: the size limit, if there is one.
        truth: of its candidates.
    """

    name: str
    network: NetSpec
    moves: Moves
    rewards: Mapping[str, Reward]
    max_kb: float | None
    truth: Truth

    def space(self, reward: str) -> Space:
        """What a sampler is given; a fresh one, so that nobody profits from another's costs."""
        return Space(self.network, self.moves, self.rewards[reward], Limits(self.max_kb))
