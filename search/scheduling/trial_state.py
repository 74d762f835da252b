"""What one search knows of its candidates: their keys, their records, what is told of them.

Both modes of the loop keep one of these. It writes the ledger and makes the events; when a
candidate is handed out, and what the sampler is told, is the mode's business.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from search.execution.evaluation import Evaluation, Running
from search.job.events import CandidateDone, CandidateRunning, Note
from search.ledger.ledger import Ledger, Record
from search.samplers import Observation
from search.samplers.dedup import network_digest
from search.space.space import Actions, Space

#: answers from the ledger in a row after which a sampler has nothing new to say
MAX_REPEATS = 50


def ranked(records: Sequence[Record]) -> list[Record]:
    """Those of them that may win, by reward, best first, the first of equals before the others.

    A candidate that failed, or that was stopped at a rung, is none of them.
    """
    whole = [record for record in records if record.whole]
    return sorted(whole, key=lambda record: -record.reward)


def best(records: Sequence[Record]) -> Record | None:
    """The first of :func:`ranked`; None where there is none."""
    return next(iter(ranked(records)), None)


def observation_of(space: Space, actions: Actions, record: Record) -> Observation:
    """What a sampler is told of a proposal: the record of the network that it rounds to."""
    expected = 0.0 if record.failed else space.expected(record.accuracy, record.epochs, record.key)
    return Observation(actions, expected, record.reward, record.failed, record.pruned, record.key)


class Candidates:
    """The candidates that this process has met.

    Attributes:
        seen: key → record, in the order in which they were met; what is replayed counts as it
            is met again.
    """

    def __init__(self, space: Space, ledger: Ledger, budget: int) -> None:
        self.space, self.ledger, self.budget = space, ledger, budget
        self.seen: dict[str, Record] = {}
        self._numbers: dict[str, int] = {}
        # epoch → accuracy of candidates under way, over all their jobs
        self._heard: dict[str, dict[int, float]] = {}
        self._top: Record | None = None

    def key(self, actions: Actions) -> str:
        """Digest of the network after rounding: equal for duplicates."""
        return network_digest(self.space, actions).hex()

    def hand_out(self, key: str) -> None:
        """A candidate begins, or goes on: it keeps the number it got first."""
        self._numbers.setdefault(key, len(self.seen) + len(self._numbers) + 1)

    def at(self, key: str, epoch: int) -> float | None:
        """Accuracy of a candidate after an epoch, if it was measured."""
        if key in self.seen:
            return self.seen[key].at(epoch)
        return self._heard.get(key, {}).get(epoch)

    def merit(self, key: str, actions: Actions, epoch: int) -> float | None:
        """Reward of a candidate for its accuracy after an epoch, if that was measured."""
        accuracy = self.at(key, epoch)
        return None if accuracy is None else self.worth(actions, accuracy, epoch, key)

    def worth(self, actions: Actions, accuracy: float, epochs: int, key: str = "") -> float:
        """Reward of what a candidate is expected to reach, after so many epochs of its proxy."""
        return self.space.reward_of(actions, self.space.expected(accuracy, epochs, key))

    def hear(self, evaluation: Evaluation) -> str:
        """Keep the accuracies that a job brought; gives the candidate's key."""
        key = self.key(evaluation.actions)
        heard = self._heard.setdefault(key, {})
        heard |= {
            epoch: accuracy
            for epoch, accuracy in enumerate(evaluation.curve, 1)
            if not math.isnan(accuracy)
        }
        if evaluation.epochs and not evaluation.reason:
            heard[evaluation.epochs] = evaluation.accuracy
        return key

    def news(self, running: Running) -> CandidateRunning:
        """What is told of a candidate under way."""
        key = self.key(running.actions)
        return CandidateRunning(
            key=key,
            number=self._numbers.get(key, 0),
            kb=self.space.cost(running.actions).kb,
            epoch=running.epoch,
            epochs=running.epochs,
            loss=running.loss,
            accuracy=running.accuracy,
            samples_per_second=running.samples_per_second,
            where=running.where,
        )

    def write(self, evaluation: Evaluation, proposed: int, pruned: bool = False) -> CandidateDone:
        """Write a candidate that nothing more is done for to the ledger."""
        record = self.record_of(evaluation, proposed, pruned)
        self.ledger.add(record)
        return self.meet(record, replayed=False)

    def record_of(self, evaluation: Evaluation, proposed: int, pruned: bool = False) -> Record:
        """What is written of a candidate that nothing more is done for."""
        key = self.hear(evaluation)
        heard = self._heard.pop(key)
        self._numbers.pop(key, None)
        spent = self.space.cost(evaluation.actions)
        failed = bool(evaluation.reason)
        epochs = max((evaluation.epochs, *heard))
        reward = self.worth(evaluation.actions, evaluation.accuracy, epochs, key)
        return Record(
            key=key,
            actions=evaluation.actions,
            accuracy=0.0 if failed else evaluation.accuracy,
            reward=0.0 if failed else reward,
            parameters=spent.parameters,
            bytes=spent.bytes,
            macs=spent.macs,
            seconds=evaluation.seconds,
            reason=evaluation.reason,
            pruned=pruned,
            epochs=epochs,
            curve=tuple(heard.get(epoch, math.nan) for epoch in range(1, epochs + 1)),
            mode=evaluation.mode,
            proposed=proposed,
        )

    def meet(self, record: Record, replayed: bool = True) -> CandidateDone:
        """A record of the ledger counts from now on."""
        self.seen[record.key] = record
        if record.whole and (self._top is None or record.reward > self._top.reward):
            self._top = record
        top = self._top or record
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
            key=record.key,
            pruned=record.pruned,
            epochs=record.epochs,
            seconds=record.seconds,
            mode=record.mode,
        )

    def meet_again(self, keys: Sequence[str]) -> Iterator[CandidateDone]:
        """Records of the ledger count from now on, in this order."""
        for key in keys:
            record = self.ledger.get(key)
            assert record is not None
            yield self.meet(record)

    def time_is_up(self) -> Note:
        """The search ends before its budget is spent."""
        return Note(
            f"the time is up after {len(self.seen)} of {self.budget} candidates", warning=True
        )

    def nothing_new(self, repeats: int) -> Note:
        """The search ends because the sampler only repeats itself."""
        return Note(
            f"no new candidate in {repeats} proposals: the search ends at {len(self.seen)}",
            warning=True,
        )
