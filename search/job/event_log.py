"""The events of a run in a file, a line each, as they come: whoever reads along sees the run.

``events.ndjson`` holds one JSON object a line: the event (:func:`search.job.events.to_dict`) and
``time``, in seconds since 1970. It is only ever appended to, by the process that has claimed the
run; a run that is gone on with goes on in the same file.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from io import RawIOBase
from pathlib import Path

from edge import made
from search.job.events import (
    CandidateRunning,
    Event,
    Logged,
    Progress,
    Started,
    Stopped,
    from_dict,
    to_dict,
)

#: seconds in which one line about progress, or about candidates under way, is enough
EVERY = 0.2
#: seconds between two looks at a file that nothing is added to
LOOK = 0.3


@dataclass(frozen=True)
class Line:
    """One event of a file.

    Attributes:
        time: seconds since 1970.
        event: that was told then.
        end: byte of the file behind it; reading goes on from there.
    """

    time: float
    event: Logged
    end: int


def written(events: Generator[Event, None, None], path: Path) -> Generator[Event, None, None]:
    """The same events, each of them written down before it is passed on.

    A disk that is full costs lines of the file, and no run.
    """
    there = path.exists()
    with closing(events), path.open("ab", buffering=0) as file:
        if not there:
            made.note(path, grows=True)
        last = -EVERY
        _write(file, Started(os.getpid()))
        for event in _until_stopped(events, file):
            if isinstance(event, Progress | CandidateRunning) and not _ends(event):
                now = time.monotonic()
                if now - last < EVERY:
                    yield event
                    continue
                last = now
            _write(file, event)
            yield event


def _until_stopped(events: Iterator[Event], file: RawIOBase) -> Iterator[Event]:
    """The same events; how they ended before their end is written down."""
    try:
        yield from events
    except (KeyboardInterrupt, GeneratorExit):
        _write(file, Stopped())
        raise
    except BaseException as error:
        _write(file, Stopped(" ".join(str(error).split()) or type(error).__name__))
        raise


def _ends(event: Progress | CandidateRunning) -> bool:
    """Whether it is the last of its kind, which must not be missing."""
    if isinstance(event, Progress):
        return event.done >= event.total
    return event.epoch >= event.epochs


def _write(file: RawIOBase, event: Logged) -> None:
    line = {"time": round(time.time(), 3)} | to_dict(event)
    with suppress(OSError):
        file.write(json.dumps(line, allow_nan=False, default=str).encode() + b"\n")


def read_lines(path: Path, start: int = 0) -> Iterator[Line]:
    """What a file holds from a byte on; a line that is being written is left for the next time.

    Lines that cannot be understood, such as a torn one or one of a later version, are left out.
    """
    if not path.is_file():
        return
    with path.open("rb") as file:
        file.seek(start)
        end = start
        for line in file:
            if not line.endswith(b"\n"):
                return
            end += len(line)
            with suppress(ValueError, TypeError, KeyError, AttributeError):
                values = json.loads(line)
                yield Line(float(values["time"]), from_dict(values), end)


def followed(path: Path, over: Callable[[], bool], start: int = 0) -> Iterator[Line]:
    """What a file holds, and what is added to it, until ``over()`` and nothing is left to read."""
    end = start
    while True:
        last = over()
        for line in read_lines(path, end):
            end = line.end
            yield line
        if last:
            return
        time.sleep(LOOK)
