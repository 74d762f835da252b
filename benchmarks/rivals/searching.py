"""A job's search in one process, for a study that runs several of them side by side."""

from __future__ import annotations

import json
import time
from collections import deque
from dataclasses import dataclass
from typing import TypeVar

from edge.files import write_bytes
from search.execution.evaluation import Evaluation, Job
from search.execution.training_context import Distiller
from search.execution.worker import Trainer, reason_of
from search.finalists.select import choose
from search.job.run_folder import RunFolder
from search.ledger.ledger import Ledger
from search.opening.pilots import USUAL_GAIN
from search.pipeline import sampler_of
from search.preparation.prepared import Prepared
from search.preparation.teacher_outputs import Telling
from search.scheduling.halving import Halving
from search.scheduling.loop import search
from search.space.space import Actions
from search.space.teacher_stats import known_gain, write_facts

T = TypeVar("T")


def found(job: Prepared, folder: RunFolder) -> Actions:
    """What the search of a job chooses, by validation alone; made where nobody has made it yet.

    A search that was stopped goes on from its ledger.
    """
    chosen = folder.root / "chosen.json"
    if not chosen.exists():
        folder.root.mkdir(parents=True, exist_ok=True)
        write_bytes(chosen, json.dumps(_search(job, folder)).encode())
    return tuple(json.loads(chosen.read_text()))


def _search(job: Prepared, folder: RunFolder) -> Actions:
    spec, space = job.spec, job.space
    evaluator = Alone(
        Distiller(job.training_context(proxy=True), job.recipe(proxy=True), spec.device)
    )
    gain = known_gain(spec, folder)
    space.expect(USUAL_GAIN if gain is None else gain)
    write_facts(folder, job.facts())
    layers = [layer.node for layer in space.layers]
    with Ledger(folder.ledger, layers, job.moves.pool) as ledger:
        for _ in search(
            space,
            sampler_of(spec, space, job.training_context(proxy=True)),
            evaluator,
            ledger,
            budget=spec.budget,
            batch=spec.batch,
            halving=Halving(job.plan.proxy_epochs, spec.halving),
        ):
            pass
        return settled(choose(space, ledger.records))[0].actions


@dataclass(frozen=True)
class Paused:
    """A candidate after some epochs; from nothing where there are none."""

    epochs: int
    content: bytes | None


class Alone:
    """Distils in this process, one candidate at a time, as a
    :class:`search.execution.evaluation.Evaluator`.

    Searches side by side keep the processors busy, so none of them needs a cluster.
    """

    slots = 1

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.jobs: deque[Job] = deque()

    def submit(self, job: Job) -> None:
        """Wait for its turn."""
        self.jobs.append(job)

    def wait(self, timeout: float | None = None) -> Evaluation | None:
        """Distil the next one, as far as it is to go."""
        if not self.jobs:
            return None
        job = self.jobs.popleft()
        began = time.perf_counter()
        try:
            return self._distil(job, began)
        except Exception as error:  # as in a job: whatever a candidate raises is its own failure
            return Evaluation(job.actions, 0.0, time.perf_counter() - began, reason_of(error))

    def _distil(self, job: Job, began: float) -> Evaluation:
        before = job.state if isinstance(job.state, Paused) else Paused(0, None)
        trainable = self.trainer.begin(job.actions, before.content)
        try:
            step = trainable.epoch(examine=before.epochs + 1 >= job.epochs)
            while not step.done and step.epoch < job.epochs:
                step = trainable.epoch(examine=step.epoch + 1 >= job.epochs)
            return Evaluation(
                job.actions,
                step.accuracy or 0.0,
                time.perf_counter() - began,
                epochs=step.epoch,
                mode=step.mode,
                state=None if step.done else Paused(step.epoch, trainable.save()),
            )
        finally:
            trainable.close()

    def close(self) -> None:
        """Give up what waits."""
        self.jobs.clear()


def settled(steps: Telling[T]) -> T:
    """What a step of a job gives; nobody hears what it tells."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            value: T = end.value
            return value
