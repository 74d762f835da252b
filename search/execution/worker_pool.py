"""The crew of a search: what a worker takes, what it has in hand, and how Ray words its end."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import ray
from ray import ObjectRef
from ray.exceptions import ActorUnavailableError, OutOfMemoryError, RayError, RayTaskError

from search.execution.evaluation import Job
from search.execution.worker import Opener, Place, Worker, reason_of


@dataclass(frozen=True)
class Resources:
    """What one worker takes.

    Attributes:
        threads: processors, and threads of its libraries.
        gpus: graphics processors, or a part of one.
        memory_mb: of its own beyond what it has after attaching; None for no limit.
    """

    threads: int = 1
    gpus: float = 0.0
    memory_mb: int | None = None

    def actor(self, opener: Opener, *, restarts: int = -1) -> Any:
        """Start a worker somewhere in the cluster; it answers in the order of the calls."""
        kind: Any = ray.remote(Worker).options(
            num_cpus=self.threads,
            num_gpus=self.gpus,
            max_restarts=restarts,
            runtime_env={"env_vars": {"OMP_NUM_THREADS": str(self.threads)}},
        )
        return kind.remote(opener, self.memory_mb)


@dataclass(frozen=True)
class Paused:
    """A candidate's state in the cluster, and what it has cost and shown so far."""

    state: ObjectRef[bytes]
    seconds: float
    curve: tuple[float, ...]


@dataclass
class Task:
    """A job in the hands of the crew."""

    job: Job
    deaths: int = 0
    curve: list[float] = field(default_factory=list)

    @property
    def paused(self) -> Paused | None:
        """What an earlier job of the candidate left in the cluster."""
        state = self.job.state
        assert state is None or isinstance(state, Paused)
        return state

    def again(self) -> None:
        """Forget what a dead worker told."""
        self.curve = list(self.paused.curve) if self.paused else []


@dataclass
class Slot:
    """One worker, as the driver sees it.

    Attributes:
        name: for the user.
        actor: Ray's handle.
        task: what it works on; None while it is idle.
        place: where it is; None until it has entered, and again after its death.
        false_starts: deaths in a row before it had entered.
        called, began: when the present call, and the present candidate, began.
        sentence: why the driver ended it, if it did.
    """

    name: str
    actor: Any
    task: Task | None = None
    place: Place | None = None
    false_starts: int = 0
    called: float = 0.0
    began: float = 0.0
    sentence: str = ""


def on_its_way(error: RayError) -> bool:
    """Whether a worker that does not answer is merely being started again."""
    return isinstance(error, ActorUnavailableError) and "restart" in str(error).lower()


def inner(error: RayTaskError) -> str:
    """What the worker raised, in one line."""
    # Ray's own wrapper prints the worker's stack, which is for the log and not for a user
    return reason_of(error.cause)


def why(error: RayError) -> str:
    """What a user can do something with, in one line."""
    if isinstance(error, OutOfMemoryError):
        return "the machine ran out of memory"
    if isinstance(error, ActorUnavailableError):
        return "its process ended without a word"
    lines: Iterable[str] = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if line), type(error).__name__)[:200]
