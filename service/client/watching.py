"""A job of a service as a run's own events, so that it is shown as one that runs here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from edge.errors import BadInput, Unfinished
from search.job.events import (
    Event,
    Finished,
    Logged,
    Note,
    Stage,
    Started,
    Stopped,
    from_dict,
)
from service.client.client import Client
from service.client.events import follow, history
from service.client.refusals import Refusal, refusal_of_content
from service.client.transport import Json

ENDED = ("done", "failed", "cancelled")


def lines(client: Client, id_: str) -> Iterator[Json]:
    """The lines of a job's events, as they stand in its file, from its last start on."""
    past, at = history(client.transport, id_)
    starts = [place for place, line in enumerate(past) if line.get("kind") == Started.kind]
    yield from past[starts[-1] if starts else 0 :]
    for update in follow(client.transport, id_, at):
        if update.kind == "event":
            yield update.data


def told(client: Client, id_: str) -> Iterator[Event]:
    """A job's events from its last start on, until its end; the last is its result.

    Raises:
        BadInput: it was cancelled, or failed at something that its user can mend.
        Unfinished: it failed otherwise.
    """
    job = client.job(id_)
    if job["state"] not in ENDED:
        yield from _waiting(job)
        past, at = history(client.transport, id_)
        starts = [place for place, line in enumerate(past) if line.get("kind") == Started.kind]
        for line in past[starts[-1] if starts else 0 :]:
            yield from _event(line)
        state = job["state"]
        for update in follow(client.transport, id_, at):
            if update.kind == "event":
                yield from _event(update.data)
                continue
            if update.data["state"] != state and update.data["state"] == "queued":
                reason = update.data.get("reason") or "its engine was lost"
                yield Note(f"queued again: {reason}", warning=True)
            state = update.data["state"]
    yield from _end(client, client.job(id_))


def _waiting(job: Mapping[str, Any]) -> Iterator[Event]:
    if job["state"] == "queued":
        place = job.get("place_in_queue")
        yield Stage("queued", "" if place is None else f"place {place}")


def _event(line: Mapping[str, Any]) -> Iterator[Event]:
    """The event of a line, if it is one that is shown; how a run ended is told by the job."""
    with suppress(ValueError, TypeError, KeyError):
        event: Logged = from_dict(line)
        if not isinstance(event, Started | Stopped | Finished):
            yield event


def _end(client: Client, job: Mapping[str, Any]) -> Iterator[Event]:
    id_ = str(job["id"])
    if job["state"] == "done":
        try:
            yield Finished(client.result(id_))
        except Refusal as refusal:
            if refusal.status != 409:  # a job that only measures the service has none
                raise
        return
    if job["state"] == "cancelled":
        raise BadInput(
            "the job was cancelled",
            value=id_,
            bound="a job that goes on",
            remedy=f"Go on with it: understudy resume {id_}",
        )
    if job.get("problem"):
        raise refusal_of_content(job["problem"])
    raise Unfinished(
        str(job["reason"] or "it failed"),
        kept=f"the service at {client.url}",
        command=f"understudy resume {id_}",
        details=f"{client.url}/api/v1/jobs/{id_}/log",
    )
