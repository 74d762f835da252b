"""What the routes share: the store, the content, readers of runs, and streams of events."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Request

from service.api.changes import JobChanges
from service.api.intake import Intake
from service.api.problems import Problem, not_found
from service.api.runs import RunReader
from service.api.settings import Settings
from service.api.streams import EventStreams
from service.jobs.model import Job
from service.jobs.store import Store


@dataclass(frozen=True)
class Context:
    """Everything that a route may need.

    Attributes:
        settings: of the service.
        store: the truth about jobs and content.
        runs: readers of the runs' folders.
        streams: of the runs' events.
        intake: of uploads.
        changes: streams of what changes in the list of jobs.
    """

    settings: Settings
    store: Store
    runs: RunReader
    streams: EventStreams
    intake: Intake
    changes: JobChanges

    def job(self, tenant: str, id_: str) -> Job:
        """A tenant's job.

        Raises:
            Problem: 404 where there is none, or it is another's.
        """
        job = self.store.get_job(tenant, id_)
        if job is None:
            raise not_found("job", id_)
        return job

    def run_folder(self, job: Job) -> Path:
        """The folder of a job's run."""
        return self.settings.folder / job.folder / "run"

    def begun(self, job: Job) -> Path:
        """The folder of a run that has begun.

        Raises:
            Problem: 409 where it has not.
        """
        run = self.run_folder(job)
        if not run.is_dir():
            raise Problem(409, f"The job {job.id} has not begun: it is {job.state}.")
        return run

    def has_bundle(self, job: Job) -> bool:
        """Whether a job has shipped something."""
        return (self.run_folder(job) / "bundle" / "manifest.json").is_file()

    def finished(self, job: Job) -> Path:
        """The folder of a run that has a bundle.

        Raises:
            Problem: 409 where it has none.
        """
        if not self.has_bundle(job):
            raise Problem(409, f"The job {job.id} has no bundle: it is {job.state}.")
        return self.run_folder(job)


def context(request: Request) -> Context:
    """The context of the application that answers."""
    found: Context = request.app.state.context
    return found


Shared = Annotated[Context, Depends(context)]
