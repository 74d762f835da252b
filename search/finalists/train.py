"""A finalist's full training, on a worker of its own: kept after every epoch, whoever dies."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray
from ray import ObjectRef
from ray.exceptions import RayError, RayTaskError, WorkerCrashedError

from edge.errors import BadInput
from edge.files import write_bytes
from search.execution.worker import Opener, Step
from search.execution.worker_pool import Resources
from search.job.events import Note

#: deaths of its worker in a row, without an epoch between them, after which it is given up
DEATHS = 3


@dataclass(frozen=True)
class Trained:
    """A student after its full training."""

    accuracy: float
    weights: dict[str, NDArray[Any]]
    epochs: int = 0
    cross_entropy: float = math.nan


#: what a training tells, or what it waits for
Course = Iterator[Step | Trained | Note | ObjectRef[Any]]


def train_fully(
    room: ObjectRef[Any],
    opener: Opener,
    actions: tuple[int, ...],
    checkpoint: Path,
    resources: Resources,
) -> Course:
    """A report per epoch, then the student; and, before each wait, the reference to wait for.

    Whatever ends the worker, its node or this process, the training goes on after the last epoch
    whose checkpoint is on disk. Who gets the student removes the file once he has put it away.

    Args:
        room: what the training needs, in the object store.
        opener: how a worker makes a trainer of it.
        actions: of the finalist.
        checkpoint: file that is written after every epoch.
        resources: of the worker.

    Raises:
        WorkerCrashedError: its process died again and again without getting an epoch further.
        BadInput: the training failed by itself.
    """
    deaths = 0
    while True:
        worker = resources.actor(opener, restarts=0)
        try:
            for news in _attempt(worker, room, actions, checkpoint):
                if isinstance(news, Step):
                    deaths = 0
                yield news
            return
        except RayTaskError as error:
            raise RuntimeError(f"a full training: {error.cause}") from None
        except RayError as error:
            deaths += 1
            if deaths >= DEATHS:
                raise WorkerCrashedError from error
        finally:
            with suppress(RayError, ConnectionError):
                ray.kill(worker)


def _attempt(
    worker: Any, room: ObjectRef[Any], actions: tuple[int, ...], checkpoint: Path
) -> Course:
    state = [ray.put(checkpoint.read_bytes())] if checkpoint.exists() else []
    call = worker.enter.remote(room)
    yield call
    ray.get(call)
    call = worker.begin.remote(actions, state, True)
    while True:
        yield call
        step: Step = ray.get(call)
        if step.reason:
            raise BadInput(
                "a candidate's full training failed",
                value=step.reason,
                bound="a loss and outputs that are finite, in the memory that there is",
                remedy="Lower --learning-rate or --batch-size in a new run.",
            )
        if step.done:
            yield step
            assert step.accuracy is not None
            weights = ray.get(worker.weights.remote())
            arrays = {name: np.array(w) for name, w in weights.items()}
            yield Trained(step.accuracy, arrays, step.epoch)
            return
        saved = worker.save.remote()
        # it goes on while we write
        call = worker.epoch.remote(True)
        write_bytes(checkpoint, ray.get(saved))
        yield step


def together(
    trainings: Mapping[str, Course],
) -> Generator[tuple[str, Step | Trained | Note], None, None]:
    """What several trainings tell, each under its name, as it comes.

    Closing it closes them all. What one of them raises ends all.
    """
    waits: dict[ObjectRef[Any], str] = {}
    ready = list(trainings)
    try:
        while ready or waits:
            for name in ready:
                for news in trainings[name]:
                    if isinstance(news, ObjectRef):
                        waits[news] = name
                        break
                    yield name, news
            done, _ = ray.wait(list(waits), num_returns=1) if waits else ([], [])
            ready = [waits.pop(reference) for reference in done]
    finally:
        for training in trainings.values():
            if isinstance(training, Generator):
                training.close()
