"""Backup and restore of the store and the service's folder, while the service runs.

A backup is a folder: ``store.ndjson`` with the rows of every table as one transaction saw them,
``content/`` and ``jobs/`` as in the service's folder, and ``backup.json``, which is written last:
without it a backup is not whole. Rows are written down in words of no database, so what was kept on
SQLite is restored to PostgreSQL as well, and neither needs programs beside us.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection

from edge.errors import BadInput
from edge.files import new_folder, write_bytes
from service.jobs.content import Content
from service.jobs.database import connect, migrate, revision_of
from service.jobs.model import RUNNING, Json, State
from service.jobs.store import Store

_HEAD, _ROWS = "backup.json", "store.ndjson"
#: the schema's own, and who schedules now
_NOT_KEPT = ("alembic_version", "leases")
_FOLDERS = ("content", "jobs")
#: rows that are inserted at a time
_MANY = 500


def backup(store: Store, folder: Path, to: Path) -> Json:
    """Write a backup into a new folder; what it says about itself.

    Raises:
        BadInput: ``to`` exists, lies in the service's folder, or there is no room for it.
    """
    if to.exists() or to.absolute().is_relative_to(folder.absolute()):
        raise BadInput(
            "the backup cannot be written there",
            value=str(to),
            bound="a folder that does not exist yet, outside the service's",
            remedy="Choose another place.",
        )
    try:
        with new_folder(to) as draft, Content(folder).adding():  # nothing is removed meanwhile
            # rows first: what they name is on the disk before them
            counted = _write_rows(store, draft / _ROWS)
            for name in _FOLDERS:
                if (folder / name).is_dir():
                    shutil.copytree(
                        folder / name, draft / name, symlinks=True, ignore=_left_out,
                        copy_function=_copied,
                    )  # fmt: skip
            head: Json = {
                "format": 1,
                "schema": _revision(store),
                "at": time.time(),
                "rows": counted,
            }
            write_bytes(draft / _HEAD, (json.dumps(head, indent=1) + "\n").encode())
    except OSError as error:
        raise BadInput(
            "the backup cannot be written",
            value=str(to),
            bound="a disk with room for store and folder",
            remedy=f"Choose another place ({error.strerror or error}).",
        ) from None
    return head


def restore(source: Path, url: str | URL, folder: Path) -> Json:
    """Put a backup back, into a new folder and an empty database; what the backup says of itself.

    Jobs that were at work are queued: they go on from their ledgers.

    Raises:
        BadInput: no whole backup, or something is there already.
        StoreUnavailable: the database does not answer.
    """
    head = _head(source)
    if folder.exists() and any(folder.iterdir()):
        raise _occupied(str(folder), "a folder that is empty or does not exist")
    store = Store(connect(url))
    try:
        with store.read() as connection:
            if sa.inspect(connection).get_table_names():
                shown = store.url.render_as_string(hide_password=True)
                raise _occupied(shown, "an empty database")
        with new_folder(folder) as draft:
            for name in _FOLDERS:
                if (source / name).is_dir():
                    shutil.copytree(source / name, draft / name, symlinks=True)
            migrate(store, to=head["schema"])  # the tables as they were, and then as they are
            with store.write() as connection:
                _read_rows(connection, source / _ROWS, head["rows"])
            migrate(store)
            _queue_again(store)
    except OSError as error:
        raise BadInput(
            "the backup cannot be put back",
            value=str(folder),
            bound="a disk with room for it",
            remedy=f"Choose another place ({error.strerror or error}).",
        ) from None
    finally:
        store.close()
    return head


def _write_rows(store: Store, path: Path) -> dict[str, int]:
    counted: dict[str, int] = {}
    with path.open("w", encoding="utf-8") as file, store.read() as connection:
        if not store.is_sqlite:  # one moment for all tables, as SQLite's readers have it anyway
            connection.execute(sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
        for table in _tables(connection):
            counted[table.name] = 0
            for row in connection.execute(sa.select(table)).mappings():
                line = {"table": table.name, "row": dict(row)}
                file.write(json.dumps(line, separators=(",", ":")) + "\n")
                counted[table.name] += 1
    return counted


def _read_rows(connection: Connection, path: Path, expected: dict[str, int]) -> None:
    tables = {table.name: table for table in _tables(connection)}
    counted = dict.fromkeys(expected, 0)
    for name, rows in _by_table(path):
        connection.execute(tables[name].insert(), rows)
        counted[name] += len(rows)
    if counted != expected:
        raise _not_whole(path, f"{sum(counted.values()):,} of {sum(expected.values()):,} rows")
    for table in tables.values() if connection.dialect.name == "postgresql" else ():
        if "id" in table.c and isinstance(table.c["id"].type, sa.BigInteger):
            connection.execute(  # the next row of its own is counted on from here
                sa.text(
                    f"SELECT setval(pg_get_serial_sequence('{table.name}', 'id'), "
                    f"COALESCE((SELECT MAX(id) FROM {table.name}), 0) + 1, false)"
                )
            )


def _by_table(path: Path) -> Iterator[tuple[str, list[Json]]]:
    """Rows in portions of one table each."""
    name = ""
    rows: list[Json] = []
    with path.open(encoding="utf-8") as file:
        for line in file:
            found = json.loads(line)
            if rows and (found["table"] != name or len(rows) >= _MANY):
                yield name, rows
                rows = []
            name = found["table"]
            rows.append(found["row"])
    if rows:
        yield name, rows


def _tables(connection: Connection) -> list[sa.Table]:
    """The tables as the database has them, which need not be this version's."""
    there = sa.MetaData()
    there.reflect(connection)
    return [table for table in there.sorted_tables if table.name not in _NOT_KEPT]


def _queue_again(store: Store) -> None:
    for job in store.jobs_in(RUNNING):
        store.transition(job.id, job.state, State.QUEUED, "restored from a backup")


def _head(source: Path) -> Json:
    try:
        found = json.loads((source / _HEAD).read_text())
        if found["format"] == 1 and (source / _ROWS).is_file():
            return dict(found)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise _not_whole(source, f"no {_HEAD} of ours")


def _not_whole(path: Path, what: str) -> BadInput:
    return BadInput(
        "this is no whole backup",
        value=f"{path}: {what}",
        bound="a folder that `understudy backup` has finished",
        remedy="Name another one.",
    )


def _occupied(value: str, bound: str) -> BadInput:
    return BadInput(
        "nothing is restored over what is there",
        value=value,
        bound=bound,
        remedy="Name a new folder with --folder and a new database with --database.",
    )


def _revision(store: Store) -> str | None:
    with store.read() as connection:
        return revision_of(connection)


def _left_out(_folder: str, names: list[str]) -> list[str]:
    """Locks, and what is half written or half removed."""
    return [
        name
        for name in names
        if name.endswith((".lock", ".part")) or name == ".lock" or name.startswith(".gone-")
    ]


def _copied(source: str, target: str) -> Any:
    """A file of a run that is at work may be gone by now."""
    try:
        return shutil.copy2(source, target)
    except FileNotFoundError:
        return target


__all__ = ["backup", "restore"]
