"""``understudy watch``: a run that another process works on, as that process shows it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge.errors import BadInput

if TYPE_CHECKING:
    from search.job.event_log import Line
    from search.job.events import Event
    from search.job.run_folder import RunFolder


def watch(
    run: Annotated[
        Path, typer.Argument(help="Folder of a run, finished or not; or a job's id on a service.")
    ],
    url: Annotated[
        str | None, typer.Option(help="URL of the service; else the one logged in to.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print every event as a line of JSON, as in the file.")
    ] = False,
) -> None:
    """Show how a run goes that another process, or a service, works on; Ctrl-C ends the watching
    alone."""
    if url is not None or (str(run).startswith("job_") and not run.exists()):
        from service.cli.remote import watch_remote

        watch_remote(str(run), url, as_json)
        return
    from search.job.events import to_dict
    from search.job.run_folder import RunFolder

    folder = RunFolder(run)
    if not folder.events.is_file():
        raise BadInput(
            "there is nothing to watch",
            value=str(run),
            bound="a folder with events.ndjson, which a job writes from its start",
            remedy="Name the folder of a run that has begun.",
        )
    lines = _of_last_process(folder)
    if as_json:
        for line in lines:
            typer.echo(json.dumps({"time": line.time} | to_dict(line.event)))
        return
    from service.cli.progress import watched

    watched(_told(lines, run), str(run))


def _of_last_process(folder: RunFolder) -> Iterator[Line]:
    """What the process tells that took up the run last."""
    from search.job import lock
    from search.job.claim import LOCK
    from search.job.event_log import followed, read_lines
    from search.job.events import Started

    start = before = 0
    for line in read_lines(folder.events):
        if isinstance(line.event, Started):
            start = before
        before = line.end
    return followed(folder.events, lambda: lock.holder(folder.root / LOCK) is None, start)


def _told(lines: Iterator[Line], run: Path) -> Iterator[Event]:
    """Events as the job itself gives them.

    Raises:
        BadInput: the job was stopped, or died.
    """
    from search.job.events import Finished, Started, Stopped

    for line in lines:
        if isinstance(line.event, Stopped):
            raise _ended("the run was stopped", line.event.reason or "by its user", run)
        if not isinstance(line.event, Started):
            yield line.event
        if isinstance(line.event, Finished):
            return
    raise _ended("nobody works on the run", "its process is gone without a word", run)


def _ended(problem: str, how: str, run: Path) -> BadInput:
    return BadInput(
        problem,
        value=how,
        bound="a run that goes on",
        remedy=f"Go on with it: understudy search --resume --out {shlex.quote(str(run))}",
    )
