"""A real search under the scheduler, whose processes are killed: it ends in a bundle, with every
candidate evaluated once, and nothing runs on."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from search.job.event_log import read_lines
from search.job.events import CandidateDone
from service.jobs import processes
from service.jobs.content import Content, digest_of, file_digest
from service.jobs.local import LocalRunner
from service.jobs.model import ENDED, Job, State
from service.jobs.scheduler import Scheduler
from service.jobs.store import Store


def names(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


@pytest.mark.long
@pytest.mark.timeout(600)
def test_whatever_is_killed_a_search_ends_in_a_bundle(sqlite_store: Store, tmp_path: Path) -> None:
    from search.demo import digits_teacher

    store = sqlite_store
    content = Content(tmp_path)
    trained = digits_teacher(tmp_path / "teacher" / "digits.safetensors", 0)
    with content.adding(), content.draft() as draft:
        for path in Path(trained).parent.iterdir():
            shutil.copy(path, draft)
        digest = digest_of([(path.name, file_digest(path)) for path in draft.iterdir()])
        content.put(draft, digest)
        teacher = store.create_teacher(
            tenant="t", name="digits", sha256=digest, bytes=1, files=[], created_by="local",
            state="ready",
        )  # fmt: skip
    runner = LocalRunner()
    scheduler = Scheduler(store, tmp_path, runner)
    scheduler.start()
    spec = {
        "data": "digits", "max_kb": 22, "budget": 10, "proxy_epochs": 2, "final_epochs": 2,
        "finalists": 1,
    }  # fmt: skip
    own = store.create_job(
        tenant="t", name="real", spec=spec, teacher_id=teacher.id, created_by="local"
    ).id

    def job() -> Job:
        found = store.any_job(own)
        assert found is not None
        return found

    try:
        for attempt, victim in enumerate(("supervise", "understudy search", "raylet"), start=1):
            until_it(lambda now=attempt: job().attempt == now and job().state is State.SEARCHING)
            time.sleep(3)
            handle = job().handle
            assert handle is not None
            family = [handle["pid"], *processes.below(handle["pid"])]
            pid = next(pid for pid in family if victim in names(pid))
            os.kill(pid, signal.SIGKILL)
            if victim != "raylet":  # which the search itself sees to, or ends
                until_it(lambda those=family: not any(map(processes.began, those)), 10)
        until_it(lambda: job().state in ENDED, 300)
        assert job().state is State.DONE
        run = tmp_path / job().folder / "run"
        assert (run / "bundle" / "manifest.json").is_file()
        assert job().summary["candidates"] == 10
        told = [line.event for line in read_lines(run / "events.ndjson")]
        evaluated = Counter(
            event.key for event in told if isinstance(event, CandidateDone) and not event.replayed
        )
        assert set(evaluated.values()) == {1}
        assert processes.marked(str(tmp_path)) == []
    finally:
        scheduler.stop()
        runner.close()
        processes.kill_marked(str(tmp_path))


def until_it(true: object, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not true():  # type: ignore[operator]
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.1)
