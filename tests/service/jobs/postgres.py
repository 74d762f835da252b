"""A PostgreSQL server of a test session's own, from Debian's package."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
from psycopg import sql

from service.jobs.tables import metadata

USER = "understudy"
#: of the schema
HEAD = "0001"


def programs() -> Path | None:
    """The folder of initdb and postgres; None where they are not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if found:
        return found[-1].parent
    there = shutil.which("initdb")
    return Path(there).resolve().parent if there else None


class Server:
    """A server in a folder of its own, which may be killed and started again."""

    def __init__(self, root: Path, bin: Path) -> None:
        self.root, self.bin = root, bin
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        # postgres refuses to run as root
        self.as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []

    def run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [*self.as_user, str(self.bin / program), *arguments],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self.root,
        )

    def init(self) -> None:
        if self.as_user:
            shutil.chown(self.root, "postgres")
        self.run("initdb", "-D", str(self.root / "data"), "-A", "trust", "-U", USER, "--no-sync")
        self.start()
        self.run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", USER, USER)

    def start(self) -> None:
        options = f"-p {self.port} -k {self.root} -c listen_addresses=127.0.0.1"
        self.run(
            "pg_ctl", "-D", str(self.root / "data"), "-l", str(self.root / "log"), "-w", "-t", "60",
            "-o", options + " -c max_connections=200", "start",
        )  # fmt: skip

    def stop(self, mode: str = "fast") -> None:
        """``immediate`` is a crash: nothing is written down first."""
        self.run("pg_ctl", "-D", str(self.root / "data"), "-w", "-m", mode, "stop")

    @property
    def url(self) -> str:
        """Of its database."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{USER}"

    def emptied(self) -> str:
        """Drop all rows of the database, or all of it where its schema is not the latest."""
        with (
            suppress(psycopg.errors.UndefinedTable),
            psycopg.connect(self.url, autocommit=True) as connection,
        ):
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
            if row == (HEAD,):
                names = ", ".join(metadata.tables)
                connection.execute(sql.SQL("TRUNCATE {} RESTART IDENTITY").format(sql.SQL(names)))
                return self.url
        return self.dropped()

    def dropped(self) -> str:
        """Drop all that is in the database; its URL."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("DROP SCHEMA public CASCADE")
            connection.execute("CREATE SCHEMA public")
        return self.url


@contextmanager
def server() -> Iterator[Server]:
    """One for a while."""
    found = programs()
    assert found is not None
    root = Path(tempfile.mkdtemp(prefix="pg-"))
    one = Server(root, found)
    try:
        one.init()
        yield one
    finally:
        subprocess.run(
            [*one.as_user, str(found / "pg_ctl"), "-D", str(root / "data"), "-m", "immediate",
             "stop"],
            check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=root,
        )  # fmt: skip
        shutil.rmtree(root, ignore_errors=True)
