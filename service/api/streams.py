"""Streams of a run's events: one reader of a job's file for however many viewers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

from service.jobs.model import ENDED, Job

#: seconds between two looks at a file that somebody follows
LOOK = 0.2
#: bytes of a file that are sent at a time
CHUNK = 1 << 18
#: seconds after which a comment keeps a silent connection alive
ALIVE = 15.0
#: what is to be sent to somebody who follows; None ends it
Viewer = asyncio.Queue[bytes | None]


def as_sse(lines: bytes, start: int) -> bytes:
    """Lines of an events file as Server-Sent Events, whose id is the byte behind each."""
    parts, end = [], start
    for line in lines.splitlines(keepends=True):
        end += len(line)
        parts.append(b"id: %d\ndata: %s\n\n" % (end, line.rstrip(b"\r\n")))
    return b"".join(parts)


def whole_lines(path: Path, start: int, most: int = CHUNK) -> bytes:
    """What a file holds from a byte on, up to its last whole line; at least one line."""
    try:
        with path.open("rb") as file:
            file.seek(start)
            data = file.read(most)
            while data and b"\n" not in data:
                more = file.read(most)
                if not more:
                    return b""
                data += more
    except OSError:
        return b""
    return data[: data.rfind(b"\n") + 1]


async def sent_to(viewer: Viewer) -> AsyncIterator[bytes]:
    """What a viewer is sent, with a sign of life in every long silence, until it is over."""
    while True:
        try:
            some = await asyncio.wait_for(viewer.get(), ALIVE)
        except TimeoutError:
            some = b": alive\n\n"
        if some is None:
            return
        yield some


class _Tail:
    """The end of one job's file, passed on to its viewers as it grows."""

    def __init__(self, path: Path, job: Callable[[], Job | None]) -> None:
        self.path, self.job = path, job
        self.end = path.stat().st_size if path.exists() else 0
        self.end -= self._half_line()
        self.viewers: set[Viewer] = set()
        self._seen: float | None = None

    def _half_line(self) -> int:
        """Bytes behind the last whole line."""
        if not self.end:
            return 0
        with self.path.open("rb") as file:
            start = max(0, self.end - CHUNK)
            file.seek(start)
            data = file.read(self.end - start)
        return len(data) - (data.rfind(b"\n") + 1)

    async def run(self) -> None:
        """Read on until the job has ended or nobody looks any more."""
        while self.viewers:
            job = await asyncio.to_thread(self.job)
            # the state first: what a run wrote before it ended is then read for certain
            while data := whole_lines(self.path, self.end):
                self._send(as_sse(data, self.end))
                self.end += len(data)
            if job is not None and job.updated_at != self._seen:
                self._seen = job.updated_at
                self._send(_state(job))
            if job is None or job.state in ENDED:
                self._send(b"event: end\ndata: {}\n\n")
                return
            await asyncio.sleep(LOOK)

    def _send(self, data: bytes) -> None:
        for viewer in self.viewers:
            viewer.put_nowait(data)


def _state(job: Job) -> bytes:
    about = {"state": job.state, "stage": job.stage, "reason": job.reason, "summary": job.summary}
    return b"event: job\ndata: %s\n\n" % json.dumps(about, default=str).encode()


class EventStreams:
    """The streams of all jobs that somebody follows."""

    def __init__(self) -> None:
        self._tails: dict[str, _Tail] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def count(self) -> int:
        """How many jobs are followed now."""
        return len(self._tails)

    async def follow(
        self, id_: str, path: Path, job: Callable[[], Job | None], start: int = 0
    ) -> AsyncIterator[bytes]:
        """A job's events from a byte of its file on, as Server-Sent Events, until it has ended.

        Args:
            id_: of the job.
            path: its file of events, which need not be there yet.
            job: the job as it stands.
            start: byte after the last event that the viewer has.
        """
        viewer: Viewer = asyncio.Queue()
        tail = self._join(id_, path, job, viewer)
        end, at = tail.end, start  # before anything is awaited: what comes later is queued
        try:
            yield b"retry: 1000\n\n"
            while at < end and (data := whole_lines(path, at, min(CHUNK, end - at))):
                yield as_sse(data, at)
                at += len(data)
            async for some in sent_to(viewer):
                yield some
        finally:
            tail.viewers.discard(viewer)

    def _join(
        self,
        id_: str,
        path: Path,
        job: Callable[[], Job | None],
        viewer: Viewer,
    ) -> _Tail:
        tail = self._tails.get(id_)
        if tail is None:
            tail = self._tails[id_] = _Tail(path, job)
            tail.viewers.add(viewer)
            task = asyncio.create_task(tail.run())
            self._tasks.add(task)
            task.add_done_callback(lambda done: self._over(id_, tail, done))
        tail.viewers.add(viewer)
        return tail

    def _over(self, id_: str, tail: _Tail, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self._tails.get(id_) is tail:
            del self._tails[id_]
        for viewer in tail.viewers:
            viewer.put_nowait(None)
        with suppress(asyncio.CancelledError):
            task.exception()

    def close(self) -> None:
        """End every stream: the service stops."""
        for task in list(self._tasks):
            task.cancel()
