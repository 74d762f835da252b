"""The search: propose, distil, record, learn, until the budget is spent.

Synchronous mode: the rewards of a batch reach the sampler in the order of proposal, whatever the
order in which they finished. So the proposals follow from the seed and the rewards alone, and a
resumed search replays the ledger through a fresh sampler: what is finished is not distilled
again, and what follows is what would have followed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

from search.events import CandidateDone, Event, Note
from search.ledger import Ledger, Record
from search.samplers import Sampler
from search.space import Actions, Space

#: answers from the ledger in a row after which a sampler has nothing new to say
MAX_REPEATS = 50


@dataclass(frozen=True)
class Evaluation:
    """What a worker sends back; ``reason`` says why there is no accuracy."""

    actions: Actions
    accuracy: float
    seconds: float
    reason: str = ""


class Evaluator(Protocol):
    """Distils candidates, several at a time where it can."""

    def evaluate(self, candidates: Sequence[Actions]) -> Iterator[Evaluation]:
        """One evaluation per candidate, in the order in which they finish."""


def search(
    space: Space,
    sampler: Sampler,
    evaluator: Evaluator,
    ledger: Ledger,
    *,
    budget: int,
    batch: int,
    deadline: Callable[[], bool] = lambda: False,
) -> Iterator[Event]:
    """Fill the ledger up to ``budget`` candidates.

    Args:
        space: of candidates.
        sampler: fresh; it is taken through what the ledger already holds.
        evaluator: distils.
        ledger: where finished candidates are written.
        budget: candidates, not counting duplicates.
        batch: proposals per update of the sampler.
        deadline: asked before every batch; True ends the search.
    """
    return _Search(space, sampler, evaluator, ledger, budget).run(batch, deadline)


def best(records: Sequence[Record]) -> Record | None:
    """The record of highest reward, the first of equals; None where all failed."""
    return max((r for r in records if not r.failed), key=lambda r: r.reward, default=None)


class _Search:
    def __init__(
        self, space: Space, sampler: Sampler, evaluator: Evaluator, ledger: Ledger, budget: int
    ) -> None:
        self.space, self.sampler, self.evaluator = space, sampler, evaluator
        self.ledger, self.budget = ledger, budget
        # in the order of this process: what is replayed counts as it is met again
        self.seen: dict[str, Record] = {}

    def run(self, batch: int, deadline: Callable[[], bool]) -> Iterator[Event]:
        repeats = 0
        while len(self.seen) < self.budget:
            if deadline():
                yield Note(
                    f"the time is up after {len(self.seen)} of {self.budget} candidates",
                    warning=True,
                )
                return
            proposals = self.sampler.propose(min(batch, self.budget - len(self.seen)))
            keys = [self._key(actions) for actions in proposals]
            fresh: dict[str, Actions] = {}
            for key, actions in zip(keys, proposals, strict=True):
                if key not in self.seen:
                    fresh.setdefault(key, actions)
            yield from self._settle(fresh)
            self.sampler.tell(proposals, [self.seen[key].reward for key in keys])
            repeats = 0 if fresh else repeats + len(proposals)
            if repeats >= MAX_REPEATS:
                yield Note(
                    f"no new candidate in {repeats} proposals: the search ends at {len(self.seen)}",
                    warning=True,
                )
                return

    def _settle(self, fresh: dict[str, Actions]) -> Iterator[Event]:
        """Answer candidates from the ledger, or distil them and write them to it."""
        missing = []
        for key, actions in fresh.items():
            record = self.ledger.get(key)
            if record is None:
                missing.append(actions)
            else:
                self.seen[key] = record
                yield self._event(record, replayed=True)
        if not missing:
            return
        for evaluation in self.evaluator.evaluate(missing):
            record = self._record(evaluation)
            self.ledger.add(record)
            self.seen[record.key] = record
            yield self._event(record, replayed=False)

    def _key(self, actions: Actions) -> str:
        return sha256(self.space.key(actions).encode()).hexdigest()[:24]

    def _record(self, evaluation: Evaluation) -> Record:
        spent = self.space.cost(evaluation.actions)
        failed = bool(evaluation.reason)
        return Record(
            key=self._key(evaluation.actions),
            actions=evaluation.actions,
            accuracy=0.0 if failed else evaluation.accuracy,
            reward=0.0 if failed else self.space.reward_of(evaluation.actions, evaluation.accuracy),
            parameters=spent.parameters,
            bytes=spent.bytes,
            macs=spent.macs,
            seconds=evaluation.seconds,
            reason=evaluation.reason,
        )

    def _event(self, record: Record, replayed: bool) -> CandidateDone:
        top = best(list(self.seen.values())) or record
        return CandidateDone(
            number=len(self.seen),
            budget=self.budget,
            reward=record.reward,
            accuracy=record.accuracy,
            kb=record.kb,
            best_reward=top.reward,
            best_accuracy=top.accuracy,
            best_kb=top.kb,
            replayed=replayed,
            reason=record.reason,
        )


def stopwatch(
    minutes: float | None, reserve: Callable[[], float], start: float
) -> Callable[[], bool]:
    """A deadline: True once ``minutes`` less the seconds that ``reserve()`` asks for are over.

    Args:
        minutes: from ``start``; None for no limit.
        reserve: seconds to keep for what follows the search.
        start: of the clock, as ``time.monotonic()`` gave it.
    """
    if minutes is None:
        return lambda: False
    return lambda: time.monotonic() - start + reserve() > 60 * minutes
