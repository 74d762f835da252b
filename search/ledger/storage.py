"""Where an Optuna study lies: a journal file of the run's own, or a database by its URL."""

from __future__ import annotations

import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from edge.errors import BadInput
from edge.files import write_bytes

#: name of the study in a journal file, which holds no other
STUDY = "understudy"
#: seconds to wait for a database that does not answer
CONNECT_SECONDS = 5
#: attribute of a study in a database: the run that writes to it
_OWNER = "understudy_run"

#: databases that Optuna is tested with, and their usual drivers' option for the time to connect
_WAIT = {"sqlite": "timeout", "postgresql": "connect_timeout", "mysql": "connect_timeout"}
#: drivers that name it otherwise
_WAIT_OF_DRIVER = {"pg8000": "timeout", "mysqlconnector": "connection_timeout"}
#: options of a URL that hold a secret, in the words of one driver or another
_SECRETS = {"password", "passwd", "pwd", "sslpassword", "ssl_key_password"}


def journal(path: Path) -> BaseStorage:
    """The storage of a journal file; it is made with its first line."""
    return JournalStorage(JournalFileBackend(str(path)))


def database(url: str) -> BaseStorage:
    """The storage of a database; Optuna's tables are made where there are none.

    Raises:
        BadInput: it cannot be reached or used.
    """
    place = _parse(url)
    with talking_to(url):
        return RDBStorage(url, engine_kwargs={"connect_args": _patience(place)})


def is_there(url: str) -> bool:
    """False for a database file that does not exist; a server may always be there."""
    place = _parse(url)
    return place.get_backend_name() != "sqlite" or Path(str(place.database)).exists()


def check_storage(url: str) -> None:
    """Knock at a database, and write nothing.

    Raises:
        BadInput: no URL that can be used, its driver is not installed, or nobody answers.
    """
    place = _parse(url)
    question = "select 1"
    if place.get_backend_name() == "sqlite":
        _check_file(place)
        if not is_there(url):
            return  # to connect would make it
        question = "select count(*) from sqlite_master"  # reads the file, unlike `select 1`
    with talking_to(url):
        engine = create_engine(place, connect_args=_patience(place))
        try:
            with engine.connect() as connection:
                connection.execute(text(question))
        finally:
            engine.dispose()


@contextmanager
def talking_to(url: str) -> Iterator[None]:
    """Whatever goes wrong with a database becomes one clear error."""
    try:
        yield
    # TypeError: what a PostgreSQL in SQL_ASCII comes to, whose answers are bytes
    except (SQLAlchemyError, StorageInternalError, ImportError, RuntimeError, TypeError) as error:
        cause = error.__cause__ or error
        raise BadInput(
            "the database cannot be used",
            value=f"--storage {shown(url)} ({' '.join(str(cause).split())[:200]})",
            bound="a database that answers, takes writes, and whose Python driver is installed",
            remedy="Check the URL and the database; what is finished is kept, and --resume goes "
            "on. Without --storage the ledger is a file in the run's folder.",
        ) from None


def study_name(path: Path) -> str:
    """The name of a run's study in a database: unique, and kept beside the ledger's place."""
    file = path.with_suffix(".study")
    if not file.exists():
        name = f"{STUDY}-{path.parent.name}-{uuid.uuid4().hex[:8]}"
        write_bytes(file, f"{name}\n".encode())
    return file.read_text(encoding="utf-8").strip()


def own(study: optuna.Study, path: Path) -> None:
    """Note whose study this is, and refuse one that a copied run shares with its original.

    Raises:
        BadInput: the run that wrote it last is still there, in another folder.
    """
    mine = [socket.gethostname(), str(path.parent.resolve())]
    theirs = study.user_attrs.get(_OWNER, mine)
    if theirs == mine:
        if _OWNER not in study.user_attrs:
            study.set_user_attr(_OWNER, mine)
        return
    other = Path(theirs[1]) / path.with_suffix(".study").name
    if theirs[0] == mine[0] and other.is_file() and other.read_text().strip() == study.study_name:
        raise BadInput(
            "two runs would write to one study",
            value=f"{study.study_name}, of {theirs[1]} too",
            bound="a study of this run alone",
            remedy="Go on with that run; or remove it, if this folder is to take its place.",
        )
    study.set_user_attr(_OWNER, mine)  # the folder was moved


def _parse(url: str) -> URL:
    try:
        place = make_url(url)
        backend = place.get_backend_name()
        if backend not in _WAIT:
            raise ValueError(f"{backend!r} is no database that Optuna knows")
    except (SQLAlchemyError, ValueError) as error:
        raise BadInput(
            "the storage is no database's URL",
            value=f"{shown(url)} ({error})" if "://" in url else url,
            bound=" or ".join(f"{name}://…" for name in _WAIT),
            remedy="Write e.g. --storage sqlite:///candidates.db, or leave it out for a file in "
            "the run's folder.",
        ) from None
    if place.password is not None or _secrets(place):
        raise BadInput(
            "a password in the storage's URL would end up in the run's files",
            value=shown(url),
            bound="a URL without a password",
            remedy="Give it to the driver: PGPASSWORD or ~/.pgpass for PostgreSQL, an option file "
            "(?read_default_file=…) for MySQL.",
        )
    return place


def _secrets(place: URL) -> list[str]:
    return [name for name in place.query if name.lower() in _SECRETS]


def shown(url: str) -> str:
    """A URL as it may be printed: without a password."""
    try:
        place = make_url(url)
        hidden = place.update_query_dict(dict.fromkeys(_secrets(place), "***"))
        return hidden.render_as_string(hide_password=True)
    except (SQLAlchemyError, ValueError):
        return "(no URL)"


def _check_file(place: URL) -> None:
    name = place.database
    if name in (None, "", ":memory:"):
        raise BadInput(
            "candidates in memory would be gone with the process",
            value=shown(str(place)),
            bound="a file",
            remedy="Write e.g. --storage sqlite:///candidates.db.",
        )
    folder = Path(str(name)).absolute().parent
    if not folder.is_dir():
        raise BadInput(
            "the database has no place to be in",
            value=f"--storage {shown(str(place))}",
            bound=f"a folder that exists; {folder} does not",
            remedy="Make the folder, or mend the path: sqlite:///relative or sqlite:////absolute.",
        )


def _patience(place: URL) -> dict[str, Any]:
    usual = _WAIT[place.get_backend_name()]
    return {_WAIT_OF_DRIVER.get(place.get_driver_name(), usual): CONNECT_SECONDS}
