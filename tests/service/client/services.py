"""A real service in a thread: the application on uvicorn, a store, and jobs that are laid there."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn

from search.job.event_log import written
from search.job.events import Finished, Stage
from service.api.app import create_app
from service.api.settings import make_settings
from service.jobs.content import make_job_folder
from service.jobs.model import Job, State
from service.jobs.store import Store
from teachers.formats import zoo
from teachers.formats.formats import save_teacher
from teachers.formats.manifest import TeacherManifest
from tests.edge.models import bundle_at
from tests.search.jobs import GREY8
from tests.search.runs import invented_run

#: of a run of four candidates, as far as it is shown
RESULT: dict[str, Any] = {
    "verdict": "A student of 20.0 KB is right on 90.00% of 10 test rows.",
    "candidates": 4,
    "teacher": {"kb": 1000.0, "ms": 1.0, "accuracy": 0.95},
    "student": {"kb": 20.0, "ms": 0.1, "accuracy": 0.9},
    "router": {"name": "max_softmax", "kb": 0.5},
    "pair": {"kb": 20.5, "accuracy": 0.93, "appeals": 0.1, "threshold": 0.75},
    "warnings": [{"name": "few-rows", "text": "There are <few> rows."}],
    "finalists": [{"key": "key2", "accuracy": 0.9}],
}


def finished_run(folder: Path, **job: Any) -> Path:
    """A run's folder as a job leaves it, of candidates that nobody has trained."""
    invented_run(folder, [(40, 0.91), (20, 0.9), (10, 0.85), (5, 0.6)], **job)
    bundle_at(folder / "bundle")
    (folder / "result.json").write_text(json.dumps(RESULT))
    (folder / "report.html").write_text("<h1>report</h1>")
    events = (event for event in (Stage("search", "4 candidates"), Finished(RESULT)))
    list(written(events, folder / "events.ndjson"))
    return folder


def untrained_teacher(folder: Path) -> Path:
    """A teacher that knows nothing, in a moment."""
    path = folder / "digits.safetensors"
    module = zoo.build("small_cnn", input_shape=GREY8.input_shape, classes=10)
    names = tuple(map(str, range(10)))
    save_teacher(module, TeacherManifest("small_cnn", GREY8, names, unseen="last 900 rows"), path)
    return path


@dataclass(frozen=True)
class Running:
    """A service that is up."""

    url: str
    folder: Path
    store: Store

    def job(self, state: State = State.DONE, finished: bool = True) -> Job:
        """A job of its, with a finished run or none."""
        job = self.store.create_job(
            tenant="local",
            created_by="local",
            kind="search",
            name="digits",
            spec={"data": "digits"},
        )
        made = make_job_folder(self.folder, job)
        if finished:
            finished_run(made / "run", max_kb=30)
        before = State.QUEUED
        for after in (State.CHECKING, state):
            if after is not before:
                self.store.transition(job.id, before, after, "", "test")
                before = after
        found = self.store.get_job("local", job.id)
        assert found is not None
        return found


@contextmanager
def running(folder: Path, **settings: Any) -> Iterator[Running]:
    """A service on a free port, which runs no jobs."""
    made = make_settings(folder=folder, jobs=0, **settings)
    app = create_app(made)
    server = uvicorn.Server(
        uvicorn.Config(app, port=0, log_level="error", timeout_graceful_shutdown=1)
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield Running(f"http://127.0.0.1:{port}", folder, app.state.context.store)
    finally:
        server.should_exit = True
        thread.join()
