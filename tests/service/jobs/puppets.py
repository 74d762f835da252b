"""A runner whose engines do what a test says, and a clock that a test turns."""

from __future__ import annotations

import errno
from collections.abc import Callable

from service.jobs.runner import Exit, Handle, Order


class Clock:
    """Seconds since 1970, turned by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Puppets:
    """A runner without processes. It remembers what a machine would: the scheduler may be
    replaced, and finds the same engines again."""

    name = "puppets"

    def __init__(self) -> None:
        self.orders: dict[str, Order] = {}
        self.exits: dict[str, Exit] = {}
        self.stops: list[tuple[str, float]] = []
        self.full = False
        self.deaf = False
        self.starts: list[str] = []

    @staticmethod
    def key(job_id: str, attempt: int) -> str:
        return f"{job_id}#{attempt}"

    def start(self, order: Order) -> Handle:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        key = self.key(order.job_id, order.attempt)
        if key not in self.orders:
            self.orders[key] = order
            self.starts.append(key)
        return {"key": key}

    def poll(self, handle: Handle) -> Exit | None:
        return self.exits.get(handle["key"])

    def stop(self, handle: Handle, grace: float) -> None:
        self.stops.append((handle["key"], grace))
        if grace == 0 or not self.deaf:
            self.exits.setdefault(handle["key"], Exit(130 if grace else -9, "stopped"))

    def end(self, job_id: str, attempt: int, found: Exit) -> None:
        """The engine of an attempt ends."""
        self.exits[self.key(job_id, attempt)] = found

    @property
    def running(self) -> list[str]:
        """Attempts whose engines run."""
        return [key for key in self.orders if key not in self.exits]

    def on_exit(self, wake: Callable[[], None]) -> None:
        """Tests call the scheduler themselves."""

    def close(self) -> None:
        """Nothing is held."""
