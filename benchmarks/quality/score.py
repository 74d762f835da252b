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
from scipy import stats

from benchmarks.quality.play import MARKS, Search
from benchmarks.quality.task import Standard, Task
from envs.reward import compression
from search.space.space import Actions

FLOOR = "random"
#: seeds of a task below which nothing is said: two that agree by chance are no evidence
LEAST_SEEDS = 3
Values = NDArray[np.float64]


class Judge:
    """What candidates of one task are worth under one reward.

    Attributes:
        missing: candidates that nobody trained again; what the search saw stands in for them.
    """

    def __init__(self, task: Task, reward: str) -> None:
        self.task, self.truth, self.reward = task, task.truth, reward
        self._space = task.space(reward)
        self.missing: set[Actions] = set()
        self._known: dict[str, float] = {}

    def worth(self, actions: Actions) -> float:
        """Log-reward of a candidate, the mean over the trainings that judge it."""
        key = self.truth.key(actions)
        if key not in self._known:
            # other rows, on which the teacher has another accuracy
            accuracies, standard = self.truth.judged(actions), self.task.judged
            if not accuracies:
                self.missing.add(actions)
                accuracies, standard = (self.truth.searched(actions) or 0.0,), self.task.searched
            self._known[key] = self._mean_log(actions, accuracies, standard)
        return self._known[key]

    def _mean_log(self, actions: Actions, accuracies: Sequence[float], standard: Standard) -> float:
        spent, whole = self._space.cost(actions).bytes, self._space.teacher_cost.bytes
        ratio = np.full(len(accuracies), compression(spent, whole))
        return float(standard.log(self.reward, np.array(accuracies), ratio).mean())

    @property
    def best(self) -> float:
        """The highest worth that was ever asked about."""
        return max(self._known.values())


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


def interval(per_task: Sequence[Values]) -> tuple[float, float, float]:
    """Mean over tasks of means over seeds, and its 95 % interval; see :func:`intervals`."""
    mean, low, high = intervals(per_task)
    return float(mean), float(low), float(high)


def intervals(per_task: Sequence[Values]) -> tuple[Values, Values, Values]:
    """Mean over tasks of means over seeds, and Student's 95 % interval of it, many at a time.

    Tasks have their own spread and number of seeds, so the degrees of freedom are
    Welch–Satterthwaite's. Resampling the seeds instead gives intervals that are far too short for
    five of them. With fewer than :data:`LEAST_SEEDS` in a task the interval is infinite.

    Args:
        per_task: for every task one value per seed, shape (…, seeds).
    """
    tasks, seeds = len(per_task), [values.shape[-1] for values in per_task]
    mean: Values = np.mean([values.mean(-1) for values in per_task], 0)
    if min(seeds) < LEAST_SEEDS:
        endless = np.full_like(mean, np.inf)
        return mean, -endless, endless
    # variance that each task brings into the mean
    parts = np.array(
        [values.var(-1, ddof=1) / count for values, count in zip(per_task, seeds, strict=True)]
    )
    parts = np.moveaxis(parts, 0, -1) / tasks**2
    total = parts.sum(-1)
    with np.errstate(invalid="ignore"):
        freedom = total**2 / (parts**2 / (np.array(seeds) - 1)).sum(-1)
        half = stats.t.ppf(0.975, freedom) * np.sqrt(total)
    # seeds that agree to the digit
    half = np.where(total > 0, half, 0.0)
    return mean, mean - half, mean + half


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
