"""Distillation on Ray: the only file that knows actors.

What all candidates share (teacher, rows, recipe) goes to the object store once; a message to a
worker is a tuple of indices. An actor that dies is restarted and its candidate tried again; one
that fails by itself, by diverging say, is an evaluation with a reason.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
import torch
from numpy.typing import NDArray
from ray import ObjectRef
from ray.exceptions import RayActorError, RayTaskError

from edge.errors import BadInput
from envs.moves import Moves
from envs.netspec import NetSpec
from envs.resolve import compress
from envs.surgery import Inheritance
from search.loop import Evaluation
from search.space import Actions
from search.watchdog import scratch_folder
from teachers.distill import Diverged, EpochReport, Lesson, Recipe, distil, distilling

#: times that a candidate is tried again after its worker died
RETRIES = 2


@dataclass(frozen=True)
class Classroom:
    """All that the candidates of a job share.

    Attributes:
        teacher: JSON of its netspec.
        weights: its state dict as numpy arrays.
        moves: pool and scaled fields.
        tap: module whose input counts as the features of a student.
        lesson: rows to learn from, with the teacher's answers.
        validation: images and labels that accuracy is measured on.
        metric: name of it.
        seed: of every candidate's training.
        threads: of torch in one worker.
        criterion: which channels of the teacher a student keeps.
    """

    teacher: str
    weights: Mapping[str, NDArray[Any]]
    moves: Moves
    tap: str
    lesson: Lesson
    validation: tuple[NDArray[np.uint8], NDArray[np.int64]]
    metric: str
    seed: int
    threads: int
    criterion: str = "l1"

    def inheritance(self) -> Inheritance:
        """The teacher's side of every surgery."""
        weights = {name: torch.from_numpy(np.array(value)) for name, value in self.weights.items()}
        return Inheritance.of(NetSpec.from_json(self.teacher), weights, self.criterion)


@dataclass(frozen=True)
class Trained:
    """A student after its full training."""

    accuracy: float
    weights: Mapping[str, NDArray[Any]]


class Worker:
    """Distils one candidate after the other, in a process of its own."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.room: Classroom | None = None

    def _enter(self, classroom: Classroom) -> None:
        """Once: the same classroom comes with every candidate, as a reference to shared memory,
        because Ray could not restart an actor that was made with it."""
        if self.room is None:
            torch.set_num_threads(classroom.threads)
            self.room, self.inheritance = classroom, classroom.inheritance()

    def evaluate(self, room: Classroom, actions: Actions) -> Evaluation:
        """Accuracy of a candidate under the proxy recipe."""
        start, reason, accuracy = time.perf_counter(), "", 0.0
        try:
            self._enter(room)
            student = compress(self.inheritance.spec, room.moves, actions)
            module = self.inheritance.student(student, room.seed)
            accuracy = distil(
                module,
                room.tap,
                room.lesson,
                self.recipe,
                seed=room.seed,
                validation=room.validation,
                metric=room.metric,
            ).accuracy
        except (Diverged, MemoryError) as error:
            reason = f"{type(error).__name__}: {error}"
        except RuntimeError as error:
            reason = f"{type(error).__name__}: {str(error).splitlines()[0]}"
            logging.getLogger(__name__).warning("candidate failed\n%s", traceback.format_exc())
        return Evaluation(actions, accuracy, time.perf_counter() - start, reason)


def train_fully(
    classroom: Classroom, recipe: Recipe, actions: Actions, threads: int
) -> Iterator[EpochReport | Trained]:
    """The winner's whole training: a report per epoch, then the student."""
    torch.set_num_threads(threads)
    inheritance = classroom.inheritance()
    student = compress(inheritance.spec, classroom.moves, actions)
    module = inheritance.student(student, classroom.seed)
    outcome = yield from distilling(
        module,
        classroom.tap,
        classroom.lesson,
        recipe,
        seed=classroom.seed,
        validation=classroom.validation,
        metric=classroom.metric,
    )
    weights = {name: value.numpy() for name, value in module.state_dict().items()}
    yield Trained(outcome.accuracy, weights)


class RayEvaluator:
    """A fixed crew of actors; implements :class:`search.loop.Evaluator`."""

    def __init__(
        self, classroom: ObjectRef[Classroom], recipe: Recipe, workers: int, threads: int
    ) -> None:
        actor: Any = ray.remote(
            num_cpus=threads,
            max_restarts=-1,
            max_task_retries=RETRIES,
            runtime_env={"env_vars": {"OMP_NUM_THREADS": str(threads)}},
        )(Worker)
        self.classroom = classroom
        self.actors: list[Any] = [actor.remote(recipe) for _ in range(workers)]

    def evaluate(self, candidates: Sequence[Actions]) -> Iterator[Evaluation]:
        """One evaluation per candidate, in the order in which they finish."""
        waiting = list(reversed(candidates))
        idle = list(self.actors)
        running: dict[Any, tuple[Any, Actions]] = {}
        while waiting or running:
            while waiting and idle:
                actor, actions = idle.pop(), waiting.pop()
                running[actor.evaluate.remote(self.classroom, actions)] = (actor, actions)
            (done,), _ = ray.wait(list(running), num_returns=1)
            actor, actions = running.pop(done)
            idle.append(actor)
            yield self._result(done, actions)

    def _result(self, reference: Any, actions: Actions) -> Evaluation:
        try:
            evaluation: Evaluation = ray.get(reference)
            return evaluation
        except RayActorError as error:
            return Evaluation(actions, 0.0, 0.0, f"its worker died {RETRIES + 1} times: {error}")
        except RayTaskError as error:
            return Evaluation(actions, 0.0, 0.0, f"{type(error.cause).__name__}: {error.cause}")

    def close(self) -> None:
        """Give the processors back."""
        for actor in self.actors:
            ray.kill(actor)
        self.actors = []


def train_on_ray(
    classroom: ObjectRef[Classroom], recipe: Recipe, actions: Actions, threads: int
) -> Iterator[EpochReport | Trained]:
    """:func:`train_fully` wherever Ray has ``threads`` processors free.

    Raises:
        WorkerCrashedError: its process died again and again.
    """
    task: Any = ray.remote(num_cpus=threads, max_retries=RETRIES)(train_fully)
    generator = task.options(num_returns="streaming").remote(classroom, recipe, actions, threads)
    for reference in generator:
        try:
            yield ray.get(reference)
        except RayTaskError as error:
            # Ray's own wrapper prints the worker's stack, which is for the log and not for a user
            raise error.cause from None


@contextmanager
def cluster(address: str, workers: int, threads: int, data_bytes: int) -> Iterator[None]:
    """A Ray to work on; whatever was started here is gone afterwards, even after a kill.

    Args:
        address: ``local`` starts one in this process; ``auto`` or ``ray://HOST:PORT`` joins one.
        workers, threads: candidates at a time and threads of each.
        data_bytes: what will be shared through the object store.

    Raises:
        BadInput: there is no cluster at the address.
    """
    if ray.is_initialized():
        # a caller who has connected already decides which cluster is used
        yield
        return
    quiet: dict[str, Any] = {
        "log_to_driver": False,
        "logging_level": logging.ERROR,
        "configure_logging": False,
    }
    if address != "local":
        with _connected(address, quiet):
            yield
        return
    # what it says at every start (that it protects itself by a token) is no news
    logging.getLogger("ray").setLevel(logging.ERROR)
    with scratch_folder() as scratch:
        own = quiet | {
            "num_cpus": workers * threads,
            "include_dashboard": False,
            "object_store_memory": max(128 << 20, 2 * data_bytes + (64 << 20)),
            "_temp_dir": scratch,
        }
        with _connected(address, own):
            yield


@contextmanager
def _connected(address: str, options: dict[str, Any]) -> Iterator[None]:
    ours = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address, **options)
        if threading.current_thread() is threading.main_thread():
            # Ray puts its own in place, which would end a job without a word on how to go on
            signal.signal(signal.SIGTERM, ours)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise BadInput(
            "no Ray cluster answers",
            value=address,
            bound="local, auto (a cluster on this machine) or ray://HOST:PORT",
            remedy="Start one with `ray start --head`, or use --ray local. "
            f"({str(error).splitlines()[0]})",
        ) from None
    try:
        yield
    finally:
        ray.shutdown()
