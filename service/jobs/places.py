"""Where a job finds what it names: its teacher, its data, the run that it goes out from."""

from __future__ import annotations

from pathlib import Path

from edge.errors import BadInput, MissingExtra
from service.jobs.content import Content, job_folder, make_job_folder
from service.jobs.engines import EMBEDDED, Work
from service.jobs.model import ENDED, Job, Json
from service.jobs.store import Store


def work_of(job: Job, store: Store, folder: Path) -> Work:
    """A job with its places; its folder is made.

    Raises:
        BadInput: something that it names is not there any more.
        OSError: its folder cannot be made.
    """
    own = make_job_folder(folder, job)
    if job.kind == "null":
        return Work(job, own)
    content = Content(folder)
    above, parent = job, None
    if job.parent_id is not None:
        origin = _parent(job, store)
        if job.kind == "route" and origin.state not in ENDED:
            raise BadInput(
                "the job that this one goes out from is at work",
                value=f"{origin.id}, {origin.state}",
                bound="a job that has ended",
                remedy="Wait until it is done, and submit this one again.",
                field="parent_id",
            )
        parent = job_folder(folder, origin) / "run"
    while above.teacher_id is None and above.parent_id is not None:
        above = _parent(above, store)
    teacher = above.teacher_id and store.get_teacher(job.tenant, above.teacher_id)
    if not teacher:
        raise _gone("teacher", above.teacher_id)
    weights = content.teacher(teacher.sha256).absolute()
    return Work(job, own, weights, _data(above, store, content), parent)


def _parent(job: Job, store: Store) -> Job:
    found = store.get_job(job.tenant, str(job.parent_id))
    if found is None:
        raise _gone("parent, the job that it goes out from,", job.parent_id)
    return found


def _data(job: Job, store: Store, content: Content) -> str:
    if job.dataset_id is None:
        named = str(job.spec.get("data", EMBEDDED[0]))
        if named not in EMBEDDED:
            raise _gone("data", named)
        return EMBEDDED[1]  # whatever lies in the folder where the engine is started
    dataset = store.get_dataset(job.tenant, job.dataset_id)
    if dataset is None or not content.has(dataset.sha256):
        raise _gone("data", job.dataset_id)
    return str(content.path(dataset.sha256).absolute())


def _gone(what: str, value: object) -> BadInput:
    return BadInput(
        f"the job's {what} cannot be found",
        value=value,
        bound="one that is there",
        remedy="Submit the job again with another one.",
    )


def parts_of(error: BadInput | MissingExtra) -> Json:
    """An error in its parts, as a job's ``problem`` keeps it."""
    if isinstance(error, MissingExtra):
        return {
            "problem": f"{error.what} needs packages that are not installed",
            "value": None,
            "bound": f"the packages of the extra {error.extra!r}",
            "remedy": error.remedy,
            "field": None,
            "message": str(error),
        }
    value = error.value
    plain = value is None or isinstance(value, bool | int | float | str)
    return {
        "problem": error.problem,
        "value": value if plain else str(value),
        "bound": error.bound,
        "remedy": error.remedy,
        "field": error.field,
        "message": str(error),
    }
