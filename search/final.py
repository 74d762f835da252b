"""The winner's full training, on a worker of its own: kept after every epoch, whoever dies."""

from __future__ import annotations

from collections.abc import Iterator
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
from search.crew import Resources
from search.evaluator import DEATHS
from search.run_folder import write_bytes
from search.workers import Opener, Step


@dataclass(frozen=True)
class Trained:
    """A student after its full training."""

    accuracy: float
    weights: dict[str, NDArray[Any]]


def train_fully(
    room: ObjectRef[Any],
    opener: Opener,
    actions: tuple[int, ...],
    checkpoint: Path,
    resources: Resources,
) -> Iterator[Step | Trained]:
    """A report per epoch, then the student.

    Whatever ends the worker, its node or this process, the training goes on after the last epoch
    whose checkpoint is on disk. Who gets the student removes the file once he has put it away.

    Args:
        room: what the training needs, in the object store.
        opener: how a worker makes a trainer of it.
        actions: of the winner.
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
                deaths = 0
                yield news
            return
        except RayTaskError as error:
            raise RuntimeError(f"the winner's training: {error.cause}") from None
        except RayError as error:
            deaths += 1
            if deaths >= DEATHS:
                raise WorkerCrashedError from error
        finally:
            with suppress(RayError, ConnectionError):
                ray.kill(worker)


def _attempt(
    worker: Any, room: ObjectRef[Any], actions: tuple[int, ...], checkpoint: Path
) -> Iterator[Step | Trained]:
    state = [ray.put(checkpoint.read_bytes())] if checkpoint.exists() else []
    ray.get(worker.enter.remote(room))
    call = worker.begin.remote(actions, state, True)
    while True:
        step: Step = ray.get(call)
        if step.reason:
            raise BadInput(
                "the winner's full training failed",
                value=step.reason,
                bound="a loss and outputs that are finite, in the memory that there is",
                remedy="Lower --learning-rate or --batch-size in a new run.",
            )
        if step.done:
            yield step
            assert step.accuracy is not None
            weights = ray.get(worker.weights.remote())
            yield Trained(step.accuracy, {name: np.array(w) for name, w in weights.items()})
            return
        saved = worker.save.remote()
        # it goes on while we write
        call = worker.epoch.remote(True)
        write_bytes(checkpoint, ray.get(saved))
        yield step
