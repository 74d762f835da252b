"""Streaming mode: no slot waits for another candidate.

As many candidates are pending as there are slots, and rewards reach the sampler as they arrive,
in groups of a batch. What it proposes depends on that order, so the ledger keeps it: every record
says how many proposals had been made when it arrived. A resumed search walks through the ledger
with a fresh sampler, proposal by proposal and arrival by arrival, from where
:mod:`search.scheduling.search_checkpoint` ends if there is one; what was pending when the search
was stopped is proposed again on that walk, or remembered, and handed out first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from search.execution.evaluation import Evaluation, Evaluator, Job, Running, next_of
from search.job.events import Event, Note
from search.ledger.ledger import Record
from search.samplers import Sampler
from search.scheduling.halving import Halving, Rung
from search.scheduling.search_checkpoint import SearchCheckpoint, State
from search.scheduling.trial_state import MAX_REPEATS, Candidates, observation_of
from search.space.space import Actions

#: seconds between two looks at how many slots there are, where nothing else happens
LOOK = 1.0


class Streaming:
    """One search in streaming mode."""

    def __init__(
        self,
        candidates: Candidates,
        sampler: Sampler,
        evaluator: Evaluator,
        halving: Halving,
        memory: SearchCheckpoint | None,
    ) -> None:
        self.candidates, self.sampler, self.memory = candidates, sampler, memory
        self.evaluator, self.halving = evaluator, halving
        self.rungs = {epoch: Rung(halving.factor) for epoch in halving.rungs}
        # proposed and not arrived, in the order of proposal; a duplicate waits with its twin
        self.pending: dict[str, list[Actions]] = {}
        self.submitted: set[str] = set()
        # arrived and not told
        self.arrived: list[tuple[Actions, Record]] = []
        self.proposed = self.repeats = 0
        self.late = False
        # proposals and arrivals that the memory holds
        self.kept = (0, 0)

    def run(self, batch: int, deadline: Callable[[], bool]) -> Iterator[Event]:
        """Fill the ledger, from where it stands."""
        self.batch = batch
        yield from self._recall()
        yield from self._replay()
        while True:
            self._keep()
            yield from self._hand_out(deadline)
            if not self.submitted:
                break
            news = next_of(self.evaluator, LOOK)
            if isinstance(news, Running):
                yield self.candidates.news(news)
            elif news is not None:
                yield from self._take(news)
        if self.late:
            yield self.candidates.time_is_up()
        elif self.repeats >= MAX_REPEATS:
            yield self.candidates.nothing_new(self.repeats)

    def _keep(self) -> None:
        stands = (self.proposed, len(self.candidates.seen))
        if self.memory and stands != self.kept and self.memory.keep(self.sampler, self._state):
            self.kept = stands

    def _state(self) -> State:
        loop = {
            "proposed": self.proposed,
            "repeats": self.repeats,
            "pending": list(self.pending.items()),
            "arrived": [(actions, record.key) for actions, record in self.arrived],
        }
        return State(tuple(self.candidates.seen), loop)

    def _recall(self) -> Iterator[Event]:
        ledger = self.candidates.ledger
        state = self.memory and self.memory.recall(self.sampler, ledger, in_order=True)
        if not state:
            return
        for event in self.candidates.meet_again(state.keys):
            self._enter(self.candidates.seen[event.key])
            yield event
        self.proposed, self.repeats = state.loop["proposed"], state.loop["repeats"]
        self.pending = {key: list(map(tuple, twins)) for key, twins in state.loop["pending"]}
        self.arrived = [
            (tuple(actions), self.candidates.seen[key]) for actions, key in state.loop["arrived"]
        ]

    def _replay(self) -> Iterator[Event]:
        """Take the sampler through the ledger, in the order in which its records arrived."""
        for record in self.candidates.ledger.records[len(self.candidates.seen) :]:
            while self.proposed < record.proposed:
                self._propose()
            if self.proposed != record.proposed or record.key not in self.pending:
                yield Note(
                    f"the ledger cannot be walked through from candidate "
                    f"{len(self.candidates.seen) + 1} on, as an earlier version of the sampler "
                    "wrote it: what it holds counts as soon as it is proposed again",
                    warning=True,
                )
                return
            yield self._meet(record)

    def _hand_out(self, deadline: Callable[[], bool]) -> Iterator[Event]:
        """Give every free slot a candidate, as long as any are wanted."""
        while len(self.submitted) < max(1, self.evaluator.slots):
            key = next((key for key in self.pending if key not in self.submitted), None)
            if key is None and not self._wants_more():
                return
            self.late = self.late or deadline()
            if self.late:
                return
            if key is None:
                self._propose()
                continue
            record = self.candidates.ledger.get(key)
            if record is not None:
                yield self._meet(record)
                continue
            self.submitted.add(key)
            self.candidates.hand_out(key)
            self.evaluator.submit(Job(self.pending[key][0], self.halving.stops[0]))

    def _wants_more(self) -> bool:
        known = len(self.candidates.seen) + len(self.pending)
        return known < self.candidates.budget and self.repeats < MAX_REPEATS

    def _propose(self) -> None:
        """One more proposal: pending, or answered at once where it is known."""
        (actions,) = self.sampler.propose(1)
        self.proposed += 1
        key = self.candidates.key(actions)
        record = self.candidates.seen.get(key)
        if record is None and key not in self.pending:
            self.pending[key] = [actions]
            self.repeats = 0
            return
        self.repeats += 1
        if record is None:
            self.pending[key].append(actions)
        else:
            self._tell(actions, record)

    def _take(self, evaluation: Evaluation) -> Iterator[Event]:
        """Send a candidate that paused and is good enough on; write every other one."""
        key = self.candidates.hear(evaluation)
        weak = False
        if evaluation.state is not None:
            reward = self.candidates.worth(
                evaluation.actions, evaluation.accuracy, evaluation.epochs
            )
            weak = not self.rungs[evaluation.epochs].enter(reward)
            if not weak:
                stop = self.halving.after(evaluation.epochs)
                self.evaluator.submit(Job(evaluation.actions, stop, evaluation.state))
                return
        event = self.candidates.write(evaluation, self.proposed, pruned=weak)
        self._arrive(self.candidates.seen[key])
        yield event

    def _meet(self, record: Record) -> Event:
        """A record of an earlier process arrives."""
        event = self.candidates.meet(record)
        self._enter(record)
        self._arrive(record)
        return event

    def _enter(self, record: Record) -> None:
        """At the rungs that it has reached it counts for those that come after it."""
        for epoch, rung in self.rungs.items():
            reward = self.candidates.merit(record.key, record.actions, epoch)
            if reward is not None:
                rung.enter(reward)

    def _arrive(self, record: Record) -> None:
        self.submitted.discard(record.key)
        for actions in self.pending.pop(record.key):
            self._tell(actions, record)

    def _tell(self, actions: Actions, record: Record) -> None:
        self.arrived.append((actions, record))
        if len(self.arrived) == self.batch:
            self.sampler.tell(
                [
                    observation_of(self.candidates.space, actions, record)
                    for actions, record in self.arrived
                ]
            )
            self.arrived = []
