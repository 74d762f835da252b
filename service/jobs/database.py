"""The connection to the store's database: SQLite or PostgreSQL, migrated when it is opened."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from pydantic_core import from_json
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, OperationalError

from edge.errors import BadInput
from service.jobs.model import StoreUnavailable

#: seconds that a writer waits for another one of SQLite's
BUSY = 20.0
#: any number, the same for all: PostgreSQL's lock for whoever migrates
_MIGRATION_LOCK = 7_283_114


class Database:
    """Transactions on one database, and who is told in this process when something changed."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.is_sqlite = engine.dialect.name == "sqlite"
        self._listeners: list[Callable[[], None]] = []

    @property
    def url(self) -> URL:
        """Of the database, its password included."""
        return self.engine.url

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only reads.

        Raises:
            StoreUnavailable: the database does not answer.
        """
        with _told(), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that writes; SQLite has one writer at a time, so the lock comes first.

        Raises:
            StoreUnavailable: the database does not answer, or is locked for too long.
        """
        with _told(), self.engine.connect() as plain:
            connection = plain.execution_options(write=True)
            with connection.begin():
                yield connection

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Call it after each change of a job that this process makes; it must return at once."""
        self._listeners.append(listener)

    def unsubscribe(self, listener: Callable[[], None]) -> None:
        """Call it no more."""
        with suppress(ValueError):
            self._listeners.remove(listener)

    def changed(self) -> None:
        """Tell the listeners."""
        for listener in list(self._listeners):
            listener()

    def ping(self) -> None:
        """Raises StoreUnavailable where the database does not answer."""
        with self.read() as connection:
            connection.execute(sa.text("SELECT 1"))

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()


@contextmanager
def _told() -> Iterator[None]:
    """What a driver says of a database that is away, as one error of ours."""
    try:
        yield
    except (OperationalError, sa.exc.InterfaceError, sa.exc.TimeoutError) as error:
        said = getattr(error, "orig", None) or error
        raise StoreUnavailable(" ".join(str(said).split())[:300]) from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise StoreUnavailable(" ".join(str(error.orig).split())[:300]) from error
        raise


def connect(url: str | URL) -> Engine:
    """An engine for a database; nothing is connected yet.

    Raises:
        BadInput: no URL of a database that we keep jobs in.
    """
    try:
        parsed = make_url(url)
        if parsed.drivername in ("postgres", "postgresql"):
            parsed = parsed.set(drivername="postgresql+psycopg")
        if parsed.get_backend_name() not in ("sqlite", "postgresql"):
            raise ArgumentError(parsed.drivername)
        if parsed.get_backend_name() == "sqlite":
            return _sqlite(parsed)
        return sa.create_engine(
            parsed,
            pool_pre_ping=True,  # a server that was restarted costs a look, and no request
            pool_size=8,
            max_overflow=24,
            pool_timeout=20,
            connect_args={"connect_timeout": 5},
            json_deserializer=from_json,
        )
    except (ArgumentError, NoSuchModuleError, ImportError) as error:
        raise BadInput(
            "the database cannot be used",
            value=_without_password(url),
            bound="sqlite:///PATH or postgresql://USER@HOST/NAME",
            remedy=f"Name one with --database ({' '.join(str(error).split())[:120]}).",
        ) from None


def _sqlite(url: URL) -> Engine:
    if url.database and url.database != ":memory:":
        Path(url.database).absolute().parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(
        url,
        connect_args={"timeout": BUSY, "check_same_thread": False},
        json_deserializer=from_json,  # lists of a thousand jobs are mostly this
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # transactions begin where we say so
        cursor = connection.cursor()
        for pragma in (
            "journal_mode=WAL",  # readers do not wait for the writer
            "synchronous=NORMAL",  # with WAL a power cut costs no consistency
            "foreign_keys=ON",
            "temp_store=MEMORY",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # a reader that turns into a writer can fail at once whatever the timeout is
        writes = connection.get_execution_options().get("write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def migrate(database: Database, to: str = "head") -> None:
    """Bring the schema to this version's, or an earlier one's; one process at a time does it.

    Raises:
        BadInput: a later version has changed the schema already.
        StoreUnavailable: the database does not answer.
    """
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    scripts = ScriptDirectory.from_config(config)
    known = {script.revision for script in scripts.walk_revisions()}
    with database.write() as connection:
        if not database.is_sqlite:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
        present = revision_of(connection)
        if not {present, to} <= {None, "head", *known}:
            later = present if to == "head" else to
            raise BadInput(
                "the database belongs to a later version of understudy",
                value=f"schema {later} in {_without_password(database.url)}",
                bound=f"a schema up to {scripts.get_current_head()}",
                remedy="Update understudy, or name another --database.",
            )
        if present != (scripts.get_current_head() if to == "head" else to):
            config.attributes["connection"] = connection
            command.upgrade(config, to)


def revision_of(connection: Connection) -> str | None:
    """Of the schema; None where there is none yet."""
    from alembic.runtime.migration import MigrationContext

    return MigrationContext.configure(connection).get_current_revision()


def _without_password(url: str | URL) -> str:
    with suppress(ArgumentError):
        return make_url(url).render_as_string(hide_password=True)
    return str(url)
