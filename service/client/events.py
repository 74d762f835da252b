"""A job's events as they come, over Server-Sent Events, gone on with where the link broke.

Where such a stream does not come through, as behind a proxy that holds it back, the same events are
asked for again and again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from service.client.refusals import Refusal
from service.client.transport import Json, Transport, is_passing, load_httpx, pauses, unreachable

#: seconds of silence after which a stream is dead: the service sends a sign of life every 15
SILENCE = 40.0
#: seconds of one question for more events
ASK = 20.0
#: streams that may fail without a word before events are asked for instead
FAILURES = 2
STREAM = "text/event-stream"


@dataclass(frozen=True)
class Update:
    """Something new about a job.

    Attributes:
        kind: ``event``, a line of the run's events; ``job``, its state, stage and summary.
        data: as JSON values.
        end: where to go on after it.
    """

    kind: Literal["event", "job"]
    data: Json
    end: int


class _Broken(Exception):
    """A stream that ended before the job did."""


def follow(transport: Transport, id_: str, start: int = 0) -> Iterator[Update]:
    """A job's updates from a place on, until it has ended.

    Raises:
        Refusal: there is no such job, or it may not be read.
        BadInput: the service does not answer any more.
    """
    at, failures, known = start, 0, None
    tries, last = iter(pauses()), time.monotonic()
    while True:
        try:
            source = _streamed if failures < FAILURES else _asked
            for update in source(transport, id_, at):
                last = time.monotonic()  # the service lives
                if (update.end, update.data) == known:
                    continue
                at, known = update.end, (update.end, update.data)
                tries, failures = iter(pauses()), 0
                yield update
            return
        except (load_httpx().TransportError, Refusal, _Broken) as error:
            if isinstance(error, Refusal) and not is_passing(error):
                raise
            failures += source is _streamed
            if time.monotonic() - last > transport.patience:
                if isinstance(error, Refusal):
                    raise
                raise unreachable(transport.url, error) from None
            time.sleep(next(tries))


def history(transport: Transport, id_: str) -> tuple[list[Json], int]:
    """What a job has told so far, and the place behind it."""
    lines: list[Json] = []
    at = 0
    while True:
        part = transport.get(f"/jobs/{id_}/events", **{"from": at})
        lines += part["events"]
        if not part["events"]:
            return lines, int(part["next"])
        at = int(part["next"])


def _streamed(transport: Transport, id_: str, at: int) -> Iterator[Update]:
    headers = {"accept": STREAM, "last-event-id": str(at), "cache-control": "no-store"}
    path = f"/jobs/{id_}/events"
    with transport.stream(path, headers=headers, silence=SILENCE) as response:
        if STREAM not in response.headers.get("content-type", ""):
            raise _Broken("no stream came")
        for kind, data, place in _messages(response.iter_lines()):
            at = int(place) if place.isdigit() else at
            if kind == "end":
                return
            if kind in ("message", "job"):
                yield Update("event" if kind == "message" else "job", json.loads(data), at)
    raise _Broken("the stream broke off")


def _messages(lines: Iterator[str]) -> Iterator[tuple[str, str, str]]:
    """(type, data, id) of each message; a half one at the end is none."""
    kind, place = "message", ""
    data: list[str] = []
    for line in lines:
        if not line:
            if data:
                yield kind, "\n".join(data), place
            kind, data = "message", []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            kind = value
        elif field == "data":
            data.append(value)
        elif field == "id":
            place = value


def _asked(transport: Transport, id_: str, at: int) -> Iterator[Update]:
    state: Any = None
    while True:
        part = transport.get(f"/jobs/{id_}/events", **{"from": at, "wait": ASK})
        for line in part["events"][:-1]:
            yield Update("event", line, at)  # a place is known behind the last alone
        at = int(part["next"])
        for line in part["events"][-1:]:
            yield Update("event", line, at)
        if part["state"] != state:
            state = part["state"]
            yield Update("job", {"state": state}, at)
        if part["ended"]:
            return
