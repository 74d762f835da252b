"""An evaluator whose order, faults and end the test decides, and a sampler that listens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from search.execution.evaluation import Evaluation, Job, Running
from search.job.events import Event
from search.ledger.ledger import Ledger, Record
from search.samplers import Observation, Sampler
from search.samplers.reinforce import Reinforce
from search.scheduling.halving import Halving
from search.scheduling.loop import search
from search.scheduling.search_checkpoint import SearchCheckpoint
from search.space.space import Actions, Space
from teachers.distillation.checkpoint import Checkpoint

EPOCHS = 4


class Stopped(Exception):
    """Stands in for whatever ends a process between two candidates."""


def accuracy(actions: Actions, epoch: int = EPOCHS) -> float:
    """Another for every candidate, and it grows with every epoch."""
    digits: int = sum(action * 3**place for place, action in enumerate(actions))
    return 0.5 + digits / 1000 - (EPOCHS - epoch) / 100


class FakeEvaluator:
    """Pretends to distil; implements :class:`search.execution.evaluation.Evaluator`.

    Attributes:
        jobs: what was handed out.
        finished: candidates that were trained to their end, or failed, in order.
        most: candidates that were ever out at once.
    """

    def __init__(
        self,
        pick: Callable[[int], int] = lambda count: 0,
        reasons: Callable[[Actions], str] = lambda actions: "",
        stop_after: int | None = None,
        slots: int = 4,
        talks: bool = False,
        fails_at: int | None = None,
    ) -> None:
        """Set up.

        Args:
            pick: of so many under way, which one comes next.
            reasons: why a candidate fails, "" where it does not.
            stop_after: raise :class:`Stopped` instead of one more evaluation than these.
            slots: candidates at a time.
            talks: give news of a candidate before its evaluation.
            fails_at: every job fails that is to go to this epoch.
        """
        self.pick, self.reasons, self.stop_after = pick, reasons, stop_after
        self.slots, self.talks, self.fails_at = slots, talks, fails_at
        self.out: list[Job] = []
        self.jobs: list[Job] = []
        self.finished: list[Actions] = []
        self.given = self.most = 0
        self._told: set[Actions] = set()

    @property
    def asked(self) -> list[Actions]:
        """Candidates that were begun."""
        return [job.actions for job in self.jobs if job.state is None]

    def submit(self, job: Job) -> None:
        assert job.actions not in [other.actions for other in self.out]
        # a candidate that pauses goes on from its own state, and nobody else's
        assert job.state is None or job.state == ("state of", job.actions)
        self.jobs.append(job)
        self.out.append(job)
        self.most = max(self.most, len(self.out))

    def wait(self, timeout: float | None = None) -> Evaluation | Running | None:
        if not self.out:
            return None
        job = self.out[self.pick(min(self.slots, len(self.out)))]
        reached = accuracy(job.actions, job.epochs)
        if self.talks and job.actions not in self._told:
            self._told.add(job.actions)
            return Running(job.actions, 1, EPOCHS, 0.7, None, 1000.0, "worker 1")
        if self.given == self.stop_after:
            raise Stopped
        self.given += 1
        self.out.remove(job)
        reason = "MemoryError: no" if job.epochs == self.fails_at else self.reasons(job.actions)
        if reason or job.epochs == EPOCHS:
            self.finished.append(job.actions)
        if reason:
            return Evaluation(job.actions, 0.0, 0.1, reason)
        curve = tuple(accuracy(job.actions, epoch) for epoch in range(1, job.epochs + 1))
        state = None if job.epochs == EPOCHS else ("state of", job.actions)
        return Evaluation(
            job.actions, reached, 0.1, epochs=job.epochs, curve=curve, mode="fp32", state=state
        )

    def close(self) -> None:
        self.out = []


class Forgetful:
    """The part of a sampler's contract that a fake has no use for."""

    def begin_with(self, candidates: Sequence[Actions]) -> None:
        pass

    def warm(self, evidence: Sequence[Observation]) -> int:
        return 0

    def save(self) -> Checkpoint:
        return Checkpoint({}, {})

    def restore(self, checkpoint: Checkpoint) -> None:
        raise ValueError("it keeps nothing")


class Listener(Forgetful):
    """A sampler that says a fixed list of proposals and remembers what it was told."""

    def __init__(self, proposals: Sequence[Actions]) -> None:
        self.proposals = list(proposals)
        self.told: list[tuple[list[Actions], list[float]]] = []

    def propose(self, count: int) -> list[Actions]:
        taken, self.proposals = self.proposals[:count], self.proposals[count:]
        return taken

    def tell(self, outcomes: Sequence[Observation]) -> None:
        self.told.append(
            ([outcome.actions for outcome in outcomes], [outcome.reward for outcome in outcomes])
        )


class Recorder:
    """A sampler that keeps what it proposed."""

    def __init__(self, sampler: Sampler) -> None:
        self.sampler = sampler
        self.proposals: list[Actions] = []

    def propose(self, count: int) -> list[Actions]:
        made = self.sampler.propose(count)
        self.proposals += made
        return made

    def begin_with(self, candidates: Sequence[Actions]) -> None:
        self.sampler.begin_with(candidates)

    def tell(self, outcomes: Sequence[Observation]) -> None:
        self.sampler.tell(outcomes)

    def warm(self, evidence: Sequence[Observation]) -> int:
        return self.sampler.warm(evidence)

    def save(self) -> Checkpoint:
        return self.sampler.save()

    def restore(self, checkpoint: Checkpoint) -> None:
        self.sampler.restore(checkpoint)


def learner(space: Space, seed: int = 0) -> Reinforce:
    """Quick to learn, so that one wrong reward changes what is proposed next."""
    return Reinforce(space, seed, units=4, learning_rate=1.0)


def play(
    space: Space,
    path: Path,
    evaluator: FakeEvaluator,
    sampler: Sampler | None = None,
    budget: int = 10,
    batch: int = 3,
    deadline: Callable[[], bool] = lambda: False,
    mode: str = "synchronous",
    factor: int = 1,
    memory: SearchCheckpoint | None = None,
) -> tuple[list[Event], list[Record]]:
    """A search until it ends or is stopped: what it told, and what stands in the ledger."""
    names = [layer.node for layer in space.layers]
    events: list[Event] = []
    with Ledger(path, names, space.moves.pool) as ledger:
        with suppress(Stopped):
            told = search(
                space,
                sampler or learner(space),
                evaluator,
                ledger,
                budget=budget,
                batch=batch,
                halving=Halving(EPOCHS, factor),
                mode=mode,
                deadline=deadline,
                memory=memory,
            )
            # one by one: what was told before a stop counts
            for event in told:
                events.append(event)  # noqa: PERF402
        return events, list(ledger.records)
