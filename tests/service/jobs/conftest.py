"""Stores on both databases, and a service's folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from service.jobs.local import LocalRunner
from service.jobs.store import Store
from tests.service.jobs import postgres


@pytest.fixture(scope="session")
def pg_server() -> Iterator[postgres.Server]:
    """PostgreSQL, or a skip that says why."""
    if postgres.programs() is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    with postgres.server() as server:
        yield server


@pytest.fixture
def pg_url(pg_server: postgres.Server) -> str:
    """URL of PostgreSQL's database, emptied."""
    return pg_server.emptied()


@pytest.fixture(scope="session")
def _migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty store, to copy: migrations take a while each time."""
    path = tmp_path_factory.mktemp("store") / "understudy.db"
    Store.open(f"sqlite:///{path}").close()
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path, _migrated: Path) -> str:
    """URL of an empty store, of either kind."""
    if request.param == "sqlite":
        shutil.copy(_migrated, tmp_path / "understudy.db")
        return f"sqlite:///{tmp_path}/understudy.db"
    return str(request.getfixturevalue("pg_url"))


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    """A store on either database."""
    found = Store.open(store_url)
    yield found
    found.close()


@pytest.fixture
def sqlite_store(tmp_path: Path, _migrated: Path) -> Iterator[Store]:
    """A store on SQLite, where the database does not matter."""
    shutil.copy(_migrated, tmp_path / "understudy.db")
    found = Store.open(f"sqlite:///{tmp_path}/understudy.db")
    yield found
    found.close()


@pytest.fixture
def local_runner() -> Iterator[LocalRunner]:
    """Real processes."""
    found = LocalRunner()
    yield found
    found.close()


@pytest.fixture
def submit() -> Callable[..., str]:
    """Submit a job of the null engine; its id."""

    def one(store: Store, name: str = "job", **values: object) -> str:
        known: dict[str, object] = {
            "tenant": "t", "name": name, "kind": "null", "spec": {}, "created_by": "local",
        }  # fmt: skip
        return store.create_job(**(known | values)).id  # type: ignore[arg-type]

    return one
