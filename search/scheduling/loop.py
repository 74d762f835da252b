"""The search: propose, distil, record, learn, until the budget is spent.

Synchronous mode, here: the rewards of a batch reach the sampler in the order of proposal,
whatever the order in which they finished. So the proposals follow from the seed and the rewards
alone, and a resumed search replays the ledger through a fresh sampler, from where
:mod:`search.scheduling.search_checkpoint` ends if there is one: what is finished is not distilled
again, and what follows is what would have followed. The price is that a slot waits where a batch
has no more for it. Streaming mode is in :mod:`search.scheduling.streaming`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from search.execution.evaluation import Evaluation as Evaluation
from search.execution.evaluation import Evaluator as Evaluator
from search.execution.evaluation import Job as Job
from search.execution.evaluation import Running as Running
from search.execution.evaluation import next_of
from search.job.events import Event
from search.ledger.ledger import Ledger
from search.samplers import Sampler
from search.scheduling.halving import Halving
from search.scheduling.search_checkpoint import SearchCheckpoint, State
from search.scheduling.streaming import Streaming
from search.scheduling.trial_state import MAX_REPEATS, Candidates, observation_of
from search.scheduling.trial_state import best as best
from search.space.space import Actions, Space

MODES = ("synchronous", "streaming")


def search(
    space: Space,
    sampler: Sampler,
    evaluator: Evaluator,
    ledger: Ledger,
    *,
    budget: int,
    batch: int,
    halving: Halving,
    mode: str = "synchronous",
    first: int = 0,
    deadline: Callable[[], bool] = lambda: False,
    memory: SearchCheckpoint | None = None,
) -> Iterator[Event]:
    """Fill the ledger up to ``budget`` candidates.

    Args:
        space: of candidates.
        sampler: fresh; it is taken through what the ledger already holds.
        evaluator: distils.
        ledger: where finished candidates are written.
        budget: candidates, not counting duplicates.
        batch: proposals per update of the sampler.
        halving: epochs of a candidate, and the rungs at which the weak are stopped.
        mode: one of :data:`MODES`.
        first: proposals in the first batch of synchronous mode, where it is not ``batch``: what the
            sampler was given to begin with is learnt from before it proposes any of its own.
        deadline: asked before every batch, in streaming mode before every proposal; True ends
            the search with what is under way.
        memory: where the search's state is kept, so that resuming is quick.
    """
    candidates = Candidates(space, ledger, budget)
    if mode == "streaming":
        return Streaming(candidates, sampler, evaluator, halving, memory).run(batch, deadline)
    loop = _Synchronous(candidates, sampler, evaluator, halving, memory)
    return loop.run(batch, deadline, first)


class _Synchronous:
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
        self.proposed = self.repeats = 0

    def run(self, batch: int, deadline: Callable[[], bool], first: int = 0) -> Iterator[Event]:
        seen, budget = self.candidates.seen, self.candidates.budget
        yield from self._recall()
        while len(seen) < budget:
            if self.repeats >= MAX_REPEATS:
                yield self.candidates.nothing_new(self.repeats)
                return
            if deadline():
                yield self.candidates.time_is_up()
                return
            wanted = batch if self.proposed or not first else first
            proposals = self.sampler.propose(min(wanted, budget - len(seen)))
            self.proposed += len(proposals)
            keys = [self.candidates.key(actions) for actions in proposals]
            fresh: dict[str, Actions] = {}
            for key, actions in zip(keys, proposals, strict=True):
                if key not in seen:
                    fresh.setdefault(key, actions)
            yield from self._settle(fresh)
            self.sampler.tell(
                [
                    observation_of(self.candidates.space, actions, seen[key])
                    for actions, key in zip(proposals, keys, strict=True)
                ]
            )
            self.repeats = 0 if fresh else self.repeats + len(proposals)
            # a batch that the budget cut short would be a whole one under a larger budget
            if self.memory and len(proposals) == wanted:
                self.memory.keep(self.sampler, self._state)

    def _state(self) -> State:
        loop = {"proposed": self.proposed, "repeats": self.repeats}
        return State(tuple(self.candidates.seen), loop)

    def _recall(self) -> Iterator[Event]:
        ledger = self.candidates.ledger
        state = self.memory and self.memory.recall(self.sampler, ledger, in_order=False)
        if state:
            self.proposed, self.repeats = state.loop["proposed"], state.loop["repeats"]
            yield from self.candidates.meet_again(state.keys)

    def _settle(self, fresh: Mapping[str, Actions]) -> Iterator[Event]:
        """Answer candidates from the ledger, or distil them, from rung to rung."""
        alive: dict[str, object | None] = {}
        for key in fresh:
            record = self.candidates.ledger.get(key)
            if record is None:
                alive[key] = None
            else:
                yield self.candidates.meet(record)
        for stop in self.halving.stops:
            for key, state in alive.items():
                self.candidates.hand_out(key)
                self.evaluator.submit(Job(fresh[key], stop, state))
            paused: dict[str, Evaluation] = {}
            yield from self._collect(len(alive), paused)
            if not paused:
                return
            # who is in the ledger competes too: a resumed search stops whom it would have stopped
            there = {key: self.candidates.merit(key, fresh[key], stop) for key in fresh}
            passed = self.halving.survivors({k: v for k, v in there.items() if v is not None})
            for key in fresh:
                if key in paused and key not in passed:
                    yield self._write(paused[key], pruned=True)
            alive = {key: paused[key].state for key in alive if key in paused and key in passed}

    def _collect(self, count: int, paused: dict[str, Evaluation]) -> Iterator[Event]:
        """Write candidates that are finished as they come; those that pause go to ``paused``."""
        while count:
            news = next_of(self.evaluator)
            if isinstance(news, Running):
                yield self.candidates.news(news)
                continue
            assert news is not None
            count -= 1
            if news.state is None:
                yield self._write(news)
            else:
                paused[self.candidates.hear(news)] = news

    def _write(self, evaluation: Evaluation, pruned: bool = False) -> Event:
        return self.candidates.write(evaluation, self.proposed, pruned)
