"""A backup is put back as it was, on either database, and the restored service goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from edge.errors import BadInput
from service.jobs import content
from service.jobs.backup import backup, restore
from service.jobs.content import Content, digest_of, file_digest
from service.jobs.model import State
from service.jobs.runner import Exit
from service.jobs.scheduler import Scheduler
from service.jobs.store import Store
from tests.service.jobs import postgres
from tests.service.jobs.puppets import Puppets


@pytest.fixture
def filled(store: Store, tmp_path: Path, submit: Callable[..., str]) -> tuple[Store, Path]:
    """A service with a teacher, a job that is done, one at work, one queued, and a key."""
    folder = tmp_path / "service"
    files = Content(folder)
    with files.adding(), files.draft() as draft:
        (draft / "model.onnx").write_text("weights")
        digest = digest_of([("model.onnx", file_digest(draft / "model.onnx"))])
        files.put(draft, digest)
        store.create_teacher(
            tenant="t", name="Größe", sha256=digest, bytes=7, files=[{"name": "model.onnx"}],
            created_by="local", state="ready",
        )  # fmt: skip
    store.create_key(tenant="t", name="ci", scope="submit")
    store.audit(tenant="t", who="local", action="job.submit", target="job_1")
    runner = Puppets()
    scheduler = Scheduler(store, folder, runner, jobs=1)
    done, _at_work, _queued = (submit(store, name) for name in ("done", "at work", "queued"))
    scheduler.step()
    (content.job_folder(folder, store.any_job(done)) / "run").mkdir()  # type: ignore[arg-type]
    (folder / "jobs" / done / "run" / "result.json").write_text("{}")
    (folder / "jobs" / done / "run" / "run.lock").touch()
    runner.end(done, 1, Exit(0))
    scheduler.step()
    scheduler.stop()
    return store, folder


def test_what_was_kept_comes_back_and_goes_on(
    filled: tuple[Store, Path], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    store, folder = filled
    head = backup(store, folder, tmp_path / "kept")
    assert head["rows"]["jobs"] == 3
    before = {job.name: job for job in store.list_jobs("t").items}
    # to the other kind of database
    if store.is_sqlite and postgres.programs() is not None:
        url = request.getfixturevalue("pg_server").dropped()
    else:
        url = f"sqlite:///{tmp_path}/restored.db"
    restore(tmp_path / "kept", url, tmp_path / "restored")
    found = Store.open(url)
    try:
        after = {job.name: job for job in found.list_jobs("t").items}
        assert after["done"] == before["done"]
        assert after["queued"] == before["queued"]
        assert (before["at work"].state, after["at work"].state) == (State.CHECKING, State.QUEUED)
        teacher = found.list_teachers("t").items[0]
        assert teacher == store.list_teachers("t").items[0]
        weights = Content(tmp_path / "restored").teacher(teacher.sha256)
        assert weights.read_text() == "weights"
        assert found.list_keys("t") == store.list_keys("t")
        run = tmp_path / "restored" / after["done"].folder / "run"
        assert [path.name for path in run.iterdir()] == ["result.json"]
        # numbers are counted on, not given again
        found.audit(tenant="t", who="local", action="job.cancel", target="job_2")
        assert len(found.list_audit("t").items) == 2
        runner = Puppets()
        scheduler = Scheduler(found, tmp_path / "restored", runner, jobs=2)
        scheduler.step()
        scheduler.stop()
        assert len(runner.running) == 2
    finally:
        found.close()


def test_nothing_is_written_over(
    sqlite_store: Store, tmp_path: Path, submit: Callable[..., str]
) -> None:
    folder = tmp_path / "service"
    folder.mkdir()
    for place in (tmp_path, folder / "inside"):
        with pytest.raises(BadInput, match="cannot be written there"):
            backup(sqlite_store, folder, place)
    backup(sqlite_store, folder, tmp_path / "kept")
    with pytest.raises(BadInput, match="expected an empty database"):
        restore(tmp_path / "kept", sqlite_store.url, tmp_path / "new")
    (folder / "theirs").touch()
    with pytest.raises(BadInput, match="a folder that is empty"):
        restore(tmp_path / "kept", f"sqlite:///{tmp_path}/new.db", folder)


@pytest.mark.parametrize("harm", ["no head", "rows cut off", "a later version"])
def test_half_a_backup_is_refused(
    sqlite_store: Store, tmp_path: Path, submit: Callable[..., str], harm: str
) -> None:
    submit(sqlite_store)
    kept = tmp_path / "kept"
    backup(sqlite_store, tmp_path / "service", kept)
    if harm == "no head":
        (kept / "backup.json").unlink()
    elif harm == "rows cut off":
        lines = (kept / "store.ndjson").read_text().splitlines(keepends=True)
        (kept / "store.ndjson").write_text("".join(lines[:-1]))
    else:
        head = json.loads((kept / "backup.json").read_text())
        (kept / "backup.json").write_text(json.dumps(head | {"schema": "9999"}))
    with pytest.raises(BadInput, match=r"no whole backup|a later version of understudy"):
        restore(kept, f"sqlite:///{tmp_path}/new.db", tmp_path / "new")
