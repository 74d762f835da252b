"""Packing that does not lose what was paid for: it gives up extras first, and says how to go on.

After the last training a run holds its candidates and a trained student. Whatever goes wrong from
there on, in one of several libraries, must cost neither. Where a bundle cannot be made as asked
for, it is made without int8, then with scores alone for routers; each time a warning says so. What
is left ends in one message with the command that goes on.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from edge.errors import BadInput, MissingExtra, Unfinished
from edge.files import write_bytes
from search.job.events import Event, Note
from search.job.run_folder import RunFolder
from search.packaging.package import Shipped, Weights, ship
from search.preparation.prepared import Prepared
from search.preparation.teacher_outputs import Telling
from search.report.record import RunRecord
from search.report.report import write_report
from search.space.space import Actions

#: what is given up, one after the other: words for it, and the fields of the job
_SIMPLER: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("without int8", {"int8": False}),
    (
        "with scores alone for routers",
        {"int8": False, "families": (), "two_head": "none", "router_rows": "withheld"},
    ),
)


def packed(
    prepared: Prepared,
    actions: Actions,
    weights: Weights,
    folder: RunFolder,
    threads: int,
    warned: Mapping[str, Note] = MappingProxyType({}),
) -> Telling[Shipped]:
    """As :func:`search.packaging.package.ship`, with less where all cannot be had.

    Raises:
        BadInput: a bundle cannot be written, such as on a full disk.
        Exception: what a bundle of a student and a score alone ran into.
    """
    spec, simpler = prepared.spec, list(_SIMPLER)
    while True:
        try:
            return (yield from ship(prepared, actions, weights, folder, threads, warned))
        except (BadInput, MissingExtra):
            raise
        except Exception as error:
            _note_down(folder, error)
            values = spec.model_dump()
            while simpler and all(values[n] == v for n, v in simpler[0][1].items()):
                simpler.pop(0)
            if not simpler:
                raise
            words, changes = simpler.pop(0)
            yield Note(
                f"the bundle is made {words}: {_said(error)} (more in {folder.failure})",
                warning=True,
                name="packed-with-less",
            )
            spec = spec.model_copy(update=dict(changes))
            prepared = replace(prepared, spec=spec)


def reported(folder: RunFolder, record: RunRecord) -> Iterator[Event]:
    """Write the report; a page that cannot be drawn costs no job its result."""
    try:
        write_report(folder.report, record)
    except (BadInput, MissingExtra):
        raise
    except Exception as error:
        _note_down(folder, error)
        yield Note(
            f"no report could be drawn: {_said(error)} (more in {folder.failure}); bundle and "
            f"result are whole. Try again: understudy route {folder.root}",
            warning=True,
            name="no-report",
        )


@contextmanager
def nothing_lost(folder: RunFolder, again: bool = False) -> Iterator[None]:
    """An unexpected error, once there are candidates, ends in one message: how to go on.

    ``again``: what is done is to pack a finished run once more.

    Raises:
        Unfinished: in its place.
        BadInput: what can be mended says how to go on, too.
    """
    try:
        yield
    except MissingExtra:
        raise
    except Exception as error:
        if not folder.holds_candidates:
            raise
        begun = "route" if again else "search --resume --out"
        command = f"understudy {begun} {folder.root}"
        if isinstance(error, BadInput):
            remedy = error.remedy if command in error.remedy else f"{error.remedy} Then: {command}"
            raise BadInput(
                error.problem, value=error.value, bound=error.bound, remedy=remedy
            ) from error
        _note_down(folder, error)
        raise Unfinished(_said(error), kept=str(folder.root), command=command,
                         details=str(folder.failure)) from error  # fmt: skip


def _note_down(folder: RunFolder, error: Exception) -> None:
    """Keep the whole traceback, for a report of the fault; a full disk must not hide the error."""
    try:
        write_bytes(folder.failure, "".join(traceback.format_exception(error)).encode())
    except (OSError, BadInput):
        return


def _said(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__
