"""The end of a job's time, and what still fits before it.

What follows a search takes time too: the search ends early enough for the full trainings of its
finalists, and where plain students alone take longer than there is, fewer of them are trained. One
student is always trained in full: without it there is nothing to ship.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from search.ledger.ledger import Record
from search.preparation.prepared import Prepared
from search.scheduling.trial_state import ranked
from search.space.baselines import BASELINES
from search.space.training_plan import TrainingPlan


@dataclass(frozen=True)
class Deadline:
    """Minutes from a start; None for no end."""

    minutes: float | None
    start: float
    clock: Callable[[], float] = time.monotonic

    @property
    def left(self) -> float:
        """Seconds; below 0 where the time is over."""
        if self.minutes is None:
            return math.inf
        return 60 * self.minutes - (self.clock() - self.start)

    def allows(self, seconds: float) -> bool:
        """Whether something that takes so long ends in time."""
        return seconds <= self.left


@dataclass(frozen=True)
class FullTrainings:
    """How long full trainings take, judged by proxies of the same students.

    Attributes:
        plan: of the job's trainings.
        together: how many run at a time.
    """

    plan: TrainingPlan
    together: int

    def seconds(self, proxies: Sequence[float]) -> float:
        """Of full trainings, each by the seconds of its proxy."""
        rounds = math.ceil(len(proxies) / max(1, self.together))
        return rounds * max(proxies, default=0.0) * self._ratio

    def in_time(
        self, finalists: Sequence[Record], trained: Collection[str], deadline: Deadline
    ) -> list[Record]:
        """Finalists of which the deadline allows the full training, and those that had it; the
        first one where that is none.

        Args:
            finalists: best first, at least one.
            trained: keys of those that were trained in full.
            deadline: of the job.
        """
        chosen: list[Record] = []
        for record in finalists:
            new = [one.seconds for one in (*chosen, record) if one.key not in trained]
            if record.key in trained or deadline.allows(self.seconds(new)):
                chosen.append(record)
        return chosen or list(finalists[:1])

    @property
    def _ratio(self) -> float:
        """Images of a full training over those of a proxy."""
        plan = self.plan
        return plan.final_epochs * plan.rows / (plan.proxy_epochs * plan.proxy_rows)


def proxies_of_finalists(
    records: Sequence[Record], prepared: Prepared, plain: Collection[str]
) -> list[float]:
    """Seconds of the proxies of those who would be trained in full if the search ended now.

    Args:
        records: of the ledger.
        prepared: the job, whose space knows who was trained in full.
        plain: keys of the plain students.
    """
    spec, whole = prepared.spec, ranked(records)
    searched = [record for record in whole if record.key not in plain][: spec.finalists]
    rivals = [record for record in whole if record.key in plain][: len(BASELINES) + 1]
    left = [one for one in (*searched, *rivals) if one.key not in prepared.space.reached]
    # with a limit on accuracy the most accurate candidate takes part as well
    surest = max(left, key=lambda record: record.accuracy, default=None)
    extra = [surest] if surest and spec.max_drop is not None else []
    return [record.seconds for record in (*left, *extra)]
