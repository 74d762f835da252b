"""From searches to scores: what the choice of a search is worth, and who is ahead of whom.

A search's choice after n candidates is its incumbent. Its worth is the log-reward of that candidate
trained again with other seeds and examined on other rows, the mean over the seeds, so nobody is
paid for luck. Worth is rescaled for every task: 0 is random search after 25 candidates, the mean
over its seeds, and 1 the best candidate that was ever judged.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality.play import MARKS, Search
from benchmarks.quality.task import Task
from search.space import Actions, Space

FLOOR = "random"
#: draws of a bootstrap
DRAWS = 10_000
Values = NDArray[np.float64]


class Judge:
    """What candidates of one task are worth under one reward.

    Attributes:
        missing: candidates that nobody trained again; what the search saw stands in for them.
    """

    def __init__(self, task: Task, reward: str) -> None:
        self.truth, self.space = task.truth, task.space(reward)
        self.missing: set[Actions] = set()
        self._known: dict[str, float] = {}

    def worth(self, actions: Actions) -> float:
        """Log-reward of a candidate, the mean over the trainings that judge it."""
        key = self.truth.key(actions)
        if key not in self._known:
            accuracies = self.truth.judged(actions)
            if not accuracies:
                self.missing.add(actions)
                accuracies = (self.truth.searched(actions) or 0.0,)
            self._known[key] = mean_log(self.space, actions, accuracies)
        return self._known[key]

    @property
    def best(self) -> float:
        """The highest worth that was ever asked about."""
        return max(self._known.values())


def mean_log(space: Space, actions: Actions, accuracies: Sequence[float]) -> float:
    """Mean log-reward of a candidate over several accuracies."""
    return float(space.log_rewards([actions] * len(accuracies), np.array(accuracies)).mean())


@dataclass(frozen=True, eq=False)
class Scores:
    """Rescaled worths of one task under one reward.

    Attributes:
        of: sampler → (seeds, marks); the seeds are the same for all, in the same order.
        floor, optimum: log-rewards that became 0 and 1.
    """

    of: Mapping[str, Values]
    floor: float
    optimum: float


def scores(searches: Sequence[Search], judge: Judge, optimum: float | None = None) -> Scores:
    """Score searches of one task under one reward, over the seeds that every sampler played.

    Args:
        searches: of several samplers and seeds; random is among the samplers.
        judge: of that task and reward.
        optimum: log-reward of the best candidate there is; None for the best that is judged here.
    """
    played: dict[str, dict[int, Search]] = defaultdict(dict)
    for search in searches:
        played[search.sampler][search.seed] = search
    shared = sorted(set.intersection(*(set(of) for of in played.values())))
    worths = {
        name: np.array(
            [[judge.worth(of[seed].incumbent(mark)) for mark in MARKS] for seed in shared]
        )
        for name, of in played.items()
    }
    floor = float(worths[FLOOR][:, 0].mean())
    top = judge.best if optimum is None else optimum
    # where random search has found the best there is, there is nothing to be won
    unit = (top - floor) or 1.0
    rescaled = {name: (worth - floor) / unit for name, worth in worths.items()}
    return Scores(rescaled, floor, top)


def interval(per_task: Sequence[Values], seed: int = 0) -> tuple[float, float, float]:
    """Mean over tasks of means over seeds, and its 95 % interval by bootstrap over seeds.

    Args:
        per_task: for every task one value per seed; the seeds of a task are drawn by themselves.
    """
    rng = np.random.default_rng(seed)
    drawn = [
        values[rng.integers(0, len(values), (DRAWS, len(values)))].mean(1) for values in per_task
    ]
    low, high = np.quantile(np.mean(drawn, 0), (0.025, 0.975))
    return float(np.mean([values.mean() for values in per_task])), float(low), float(high)


def lead(
    tasks: Sequence[Scores], one: str, other: str, mark: int, other_mark: int | None = None
) -> tuple[float, float, float]:
    """How far one sampler is ahead of another, paired by seed: mean and 95 % interval."""
    place = MARKS.index(mark)
    against = MARKS.index(mark if other_mark is None else other_mark)
    return interval([task.of[one][:, place] - task.of[other][:, against] for task in tasks])


def ahead(tasks: Sequence[Scores], one: str, other: str, mark: int) -> bool:
    """Whether the paired interval of the difference is above 0."""
    return lead(tasks, one, other, mark)[1] > 0
