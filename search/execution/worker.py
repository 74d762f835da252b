"""The actor: one slot of the search, in a process of its own, trains a candidate epoch by epoch.

A call answers after every epoch, so the driver hears of a candidate while it is under way, and a
message is never more than a tuple of indices, a reference or a handful of numbers. How a candidate
is trained is the business of the :class:`Trainer` that a worker is given; nothing here needs torch.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import resource
import socket
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from ray.exceptions import RayError

#: libraries say it in their own words when memory is at an end
_NO_MEMORY = ("allocate memory", "unable to allocate", "out of memory", "bad_alloc")
#: how the reason of a candidate begins for which memory did not suffice
OUT_OF_MEMORY = "out of memory"


@dataclass(frozen=True)
class Step:
    """What a worker says after an epoch of a candidate.

    Attributes:
        epoch, epochs: done, and of the whole recipe.
        loss: mean over the epoch.
        accuracy: on the validation part; None where it was not measured.
        samples_per_second: of the training steps.
        seconds: that this worker has spent on the candidate so far.
        done: nothing is left to train; ``accuracy`` is that of the finished student.
        mode: how the steps run, such as "bf16 channels_last".
        reason: why the candidate failed; empty where it did not.
    """

    epoch: int
    epochs: int
    loss: float
    accuracy: float | None
    samples_per_second: float
    seconds: float = 0.0
    done: bool = False
    mode: str = ""
    reason: str = ""


class Training(Protocol):
    """One candidate under way."""

    def epoch(self, examine: bool) -> Step:
        """Train an epoch more; ``examine`` measures the accuracy after it."""

    def save(self) -> bytes:
        """All that is needed to go on from here in another process."""

    def weights(self) -> dict[str, Any]:
        """Of the finished student, as numpy arrays."""

    def close(self) -> None:
        """Give up whatever it holds."""


class Trainer(Protocol):
    """Begins trainings; made once in every worker from what all candidates share."""

    def begin(self, actions: tuple[int, ...], state: bytes | None) -> Training:
        """A candidate from its start, or from what :meth:`Training.save` gave."""


#: from what all candidates share, as it comes from shared memory, to the trainer
Opener = Callable[[Any], Trainer]


@dataclass(frozen=True)
class Place:
    """Where a worker is: host, process, and the bytes of memory that it shares with nobody."""

    host: str
    pid: int
    private: int


class Worker:
    """Trains one candidate after the other."""

    def __init__(self, opener: Opener, memory_mb: int | None = None) -> None:
        # what the opener imports is in memory from here on, before any data is attached
        self.opener, self.memory_mb = opener, memory_mb
        self.trainer: Trainer | None = None
        self.training: Training | None = None
        self.started = 0.0

    def enter(self, room: Any) -> Place:
        """Attach to what all candidates share. It comes as a reference to shared memory, and not
        with the constructor: Ray could not restart an actor that was made with it."""
        if self.trainer is None:
            self.trainer = self.opener(room)
            give_back()
            if self.memory_mb is not None:
                limit_memory(self.memory_mb)
        return self.place()

    def place(self) -> Place:
        """Where this is."""
        return Place(socket.gethostname(), os.getpid(), private_bytes())

    def begin(self, actions: tuple[int, ...], state: list[Any], examine: bool) -> Step | None:
        """The first epoch of a candidate, or the first after a pause.

        Args:
            actions: of the candidate.
            state: empty, or one reference to what :meth:`pause` gave.
            examine: whether to measure the accuracy after the epoch.

        Returns:
            None where nobody has entered: Ray has put a new process in the place of one that died
            unnoticed.
        """
        self._leave()
        self.started = time.perf_counter()
        trainer = self.trainer
        if trainer is None:
            return None
        return self._guarded(lambda: trainer.begin(tuple(actions), _fetched(state)), examine)

    def epoch(self, examine: bool) -> Step | None:
        """The next epoch of the candidate under way; as :meth:`begin`."""
        training = self.training
        if training is None:
            return None
        return self._guarded(lambda: training, examine)

    def save(self) -> bytes:
        """The state of the candidate under way."""
        assert self.training is not None
        return self.training.save()

    def pause(self) -> bytes:
        """The state of the candidate under way, which is let go."""
        state = self.save()
        self._leave()
        return state

    def weights(self) -> dict[str, Any]:
        """Of the candidate that is finished."""
        assert self.training is not None
        return self.training.weights()

    def _guarded(self, training: Callable[[], Training], examine: bool) -> Step:
        """An epoch; whatever a candidate raises is its own failure, with a reason."""
        try:
            self.training = training()
            step = self.training.epoch(examine)
        except Exception as error:
            logging.getLogger(__name__).warning("candidate failed\n%s", traceback.format_exc())
            step = Step(0, 0, 0.0, None, 0.0, done=True, reason=reason_of(error))
            self._leave()
        return replace(step, seconds=time.perf_counter() - self.started)

    def _leave(self) -> None:
        if self.training is not None:
            with suppress(Exception):
                self.training.close()
            self.training = None


def _fetched(state: list[Any]) -> bytes | None:
    """A paused candidate's state; None where it is lost with its node: it then begins again."""
    if not state:
        return None
    import ray

    try:
        content: bytes = ray.get(state[0])
    except RayError:
        return None
    return content


def reason_of(error: BaseException) -> str:
    """What a user reads about a candidate that failed; one line."""
    name = type(error).__name__
    text = str(error).strip()
    line = text.splitlines()[0] if text else ""
    if isinstance(error, MemoryError) or any(sign in text.lower() for sign in _NO_MEMORY):
        return f"{OUT_OF_MEMORY}: {name}: {line}"[:300].rstrip(": ")
    return f"{name}: {line}"[:300].rstrip(": ")


def give_back() -> None:
    """Return memory that was freed to the system, where the C library keeps it for later."""
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def limit_memory(megabytes: int) -> None:
    """Let this process have so much memory of its own beyond what it has now.

    What is shared or mapped from files does not count. An allocation beyond it fails, which is a
    candidate's failure and not the machine's.
    """
    limit = _status("VmData") + (megabytes << 20)
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


def private_bytes() -> int:
    """Memory that belongs to this process alone; 0 where the system does not say."""
    try:
        lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Private_"))


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) << 10
    raise OSError(f"/proc/self/status has no {field}")
