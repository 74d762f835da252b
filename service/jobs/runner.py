"""The contract of runners: who starts a job's engine, looks whether it lives, and stops it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

#: what a runner needs to find an engine again after the service was restarted; JSON values
Handle = dict[str, Any]
#: seconds that an engine has to end by itself when it is stopped
GRACE = 3.0


@dataclass(frozen=True)
class Order:
    """One attempt at a job.

    Attributes:
        job_id: of the job.
        attempt: 1, 2, …; an attempt is started once, however often it is asked for.
        folder: of the job, which is there.
        argv: of the engine; it says as its last line on stdout what came of it, as JSON.
        env: variables beside those of the service.
        grace: seconds that the engine has to end by itself when it is stopped.
    """

    job_id: str
    attempt: int
    folder: Path
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    grace: float = GRACE


@dataclass(frozen=True)
class Exit:
    """How an attempt ended, when nothing of it runs any more.

    Attributes:
        code: of the engine; negative where a signal ended it, None where nobody saw it end.
        reason: in a sentence.
        said: the last line of its stdout, where that was a JSON object of moderate length.
        begun: False where it could not be started: that is nobody's fault, and no attempt.
    """

    code: int | None
    reason: str = ""
    said: dict[str, Any] | None = None
    begun: bool = True


class Runner(Protocol):
    """A way of running engines. None of its methods waits."""

    @property
    def name(self) -> str:
        """By which jobs remember it."""

    def start(self, order: Order) -> Handle:
        """Start an attempt. Asked twice for the same one, as after a crash, it runs it once.

        Raises:
            OSError: it cannot be started now, as where the disk is full.
        """

    def poll(self, handle: Handle) -> Exit | None:
        """How it ended; None while anything of it runs."""

    def stop(self, handle: Handle, grace: float) -> None:
        """Ask it to end; with a grace of 0 kill it, and all that it started. May be repeated."""

    def on_exit(self, wake: Callable[[], None]) -> None:
        """Call this, from any thread, soon after an engine has ended, where that can be told."""

    def close(self) -> None:
        """Give back what the runner itself holds; engines go on."""


class Immediate:
    """A runner without an engine: every attempt has ended when it is started. For benchmarks."""

    name = "immediate"

    def __init__(self, code: int = 0) -> None:
        self.code = code
        self._started: set[tuple[str, int]] = set()
        self._wake: list[Callable[[], None]] = []
        self._lock = threading.Lock()

    def start(self, order: Order) -> Handle:
        """Count it."""
        with self._lock:
            self._started.add((order.job_id, order.attempt))
        for wake in self._wake:
            wake()
        return {"job": order.job_id, "attempt": order.attempt}

    def poll(self, handle: Handle) -> Exit | None:
        """It has ended."""
        return Exit(self.code)

    def stop(self, handle: Handle, grace: float) -> None:
        """Nothing runs."""

    def on_exit(self, wake: Callable[[], None]) -> None:
        """At the start already."""
        self._wake.append(wake)

    def close(self) -> None:
        """Nothing is held."""
