"""Jobs: submitted, listed, changed, cancelled, resumed and deleted."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse

from search.job.choices import check_choices
from search.job.spec import make_spec
from service.api.auth import Principal, Reader, Submitter
from service.api.context import Context, Shared
from service.api.idempotency import IdempotentRoute
from service.api.problems import FieldError, Problem, documented, not_found
from service.api.schemas import (
    ChangeRequest,
    FieldsRequest,
    JobDetail,
    JobRequest,
    JobView,
    Json,
    Listing,
    ResumeRequest,
    TransitionView,
    listing,
)
from service.jobs.engines import EMBEDDED, check_spec
from service.jobs.model import Dataset, Job, State, Teacher, Wanted
from service.jobs.store import JobFilters

router = APIRouter(prefix="/jobs", tags=["jobs"], route_class=IdempotentRoute)
stream = APIRouter(tags=["jobs"])
REFUSALS = documented(401, 403, 404, 409, 421, 422, 429, 503)


@router.post("", status_code=201, responses=REFUSALS)
def submit(request: JobRequest, who: Submitter, shared: Shared, response: Response) -> JobDetail:
    """Submit a search: it is queued, and begins when its turn comes."""
    job = submit_search(request, who, shared)
    response.headers["location"] = f"/api/v1/jobs/{job.id}"
    return detail(shared, job)


def submit_search(request: JobRequest, who: Principal, shared: Context) -> Job:
    """Queue a search of a teacher and data that are there."""
    teacher = _ready(shared.store.get_teacher(who.tenant, request.teacher), "teacher", request)
    dataset = None
    spec = check_spec("search", request.fields)
    check_choices(make_spec({"teacher": "t.onnx", "data": "digits", "out": "run"} | spec))
    if request.data in EMBEDDED:
        spec["data"] = request.data
    else:
        dataset = _ready(shared.store.get_dataset(who.tenant, request.data), "data", request)
    data_name = request.data if dataset is None else dataset.name
    return _create(
        shared,
        who,
        kind="search",
        name=request.name or f"{teacher.name} on {data_name}",
        spec=spec,
        teacher_id=teacher.id,
        dataset_id=None if dataset is None else dataset.id,
        priority=request.priority,
    )


def _ready(found: Any, field: str, request: JobRequest) -> Any:
    """Content that a job may use: it is there, was checked, and is the tenant's.

    Raises:
        Problem: 422 otherwise.
    """
    value = getattr(request, field)
    if isinstance(found, Teacher | Dataset) and found.state == "ready":
        return found
    said = "is not there" if found is None else f"is {found.state}"
    bound = "the id of a teacher" if field == "teacher" else "the id of a data set, or 'digits'"
    remedy = "Wait until it is checked." if found is not None else "Upload it first."
    if found is not None and found.problem:
        remedy = str(found.problem.get("message") or found.problem.get("detail") or remedy)
    error = FieldError(pointer=f"/{field}", value=value, bound=bound, remedy=remedy)
    detail_ = f"the job's {field} {said}: got {value}; expected {bound}. {remedy}"
    raise Problem(422, detail_, kind="bad-input", errors=[error])


def _create(shared: Context, who: Principal, **values: Any) -> Job:
    job = shared.store.create_job(
        tenant=who.tenant, created_by=who.who, limits=who.limits, **values
    )
    shared.store.audit(
        tenant=who.tenant,
        who=who.who,
        action="submit",
        target=job.id,
        detail={"kind": job.kind, "parent": job.parent_id},
    )
    return job


@router.get("", responses=documented(401, 403, 421, 422, 503))
def list_jobs(
    who: Reader,
    shared: Shared,
    state: Annotated[list[State] | None, Query(description="Jobs in one of these.")] = None,
    kind: Annotated[list[str] | None, Query()] = None,
    name: Annotated[str | None, Query(max_length=200, description="Part of the name.")] = None,
    teacher: Annotated[str | None, Query(max_length=100)] = None,
    data: Annotated[str | None, Query(max_length=100)] = None,
    parent: Annotated[str | None, Query(max_length=100)] = None,
    updated_after: Annotated[float | None, Query(description="Seconds since 1970.")] = None,
    sort: Annotated[
        str, Query(max_length=50, description="Field, '-' before it for the last first.")
    ] = ("-created_at"),
    cursor: Annotated[str | None, Query(max_length=1000)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
) -> Listing[JobView]:
    """Part of the jobs."""
    filters = JobFilters(
        states=tuple(state or ()),
        kinds=tuple(kind or ()),
        name=name,
        teacher_id=teacher,
        dataset_id=data,
        parent_id=parent,
        updated_after=updated_after,
    )
    page = shared.store.list_jobs(who.tenant, filters, sort, cursor, limit)
    return Listing[JobView].model_validate(listing(page, JobView))


@stream.get(
    "/events",
    responses=documented(401, 403, 421, 503)
    | {200: {"content": {"text/event-stream": {}}, "description": "OK"}},
)
async def changes(who: Reader, shared: Shared) -> StreamingResponse:
    """Changes of this tenant's jobs as Server-Sent Events, for lists that stay true."""
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(
        shared.changes.follow(who.tenant), media_type="text/event-stream", headers=headers
    )


@router.get("/{id}", responses=documented(401, 403, 404, 421, 422, 503))
def get(id: str, who: Reader, shared: Shared) -> JobDetail:
    """One job with its history."""
    return detail(shared, shared.job(who.tenant, id))


def detail(shared: Context, job: Job) -> JobDetail:
    """A job with its history and its place in the queue."""
    history = [TransitionView.of(one) for one in shared.store.transitions_of(job.id)]
    place = shared.store.place_in_queue(job.id)
    view = JobView.of(job).model_dump()
    return JobDetail(**view, history=history, place_in_queue=place)


@router.patch("/{id}", responses=REFUSALS)
def change(id: str, request: ChangeRequest, who: Submitter, shared: Shared) -> JobDetail:
    """Rename a job, or let it come sooner or later."""
    job = shared.store.change_job(who.tenant, id, name=request.name, priority=request.priority)
    return _changed(shared, who, job, id, "change", request.model_dump(exclude_none=True))


@router.post("/{id}/cancel", responses=REFUSALS)
def cancel(id: str, who: Submitter, shared: Shared) -> JobDetail:
    """Stop a job within seconds; every finished candidate is kept, and it can be resumed."""
    job = shared.store.want(who.tenant, id, Wanted.CANCEL, who.who)
    return _changed(shared, who, job, id, "cancel")


@router.post("/{id}/resume", responses=REFUSALS)
def resume(id: str, request: ResumeRequest, who: Submitter, shared: Shared) -> JobDetail:
    """Go on with a job that has ended where it stopped, further under a larger budget."""
    changes = request.model_dump(exclude_none=True)
    shared.job(who.tenant, id)
    job = shared.store.resume_job(
        who.tenant, id, who.who, changes=changes or None, limits=who.limits
    )
    return _changed(shared, who, job, id, "resume", changes)


@router.delete("/{id}", status_code=202, responses=REFUSALS)
def delete(id: str, who: Submitter, shared: Shared) -> Json:
    """Stop a job and remove it with all its files, for good."""
    job = shared.store.want(who.tenant, id, Wanted.DELETE, who.who)
    _audited(shared, who, job, id, "delete")
    return {"id": id, "deleting": True}


@router.post("/{id}/route", status_code=201, responses=REFUSALS)
def route(id: str, request: FieldsRequest, who: Submitter, shared: Shared) -> JobDetail:
    """Choose router and threshold for another goal, in a job of its own; nothing is searched."""
    return detail(shared, follow_up(shared, who, id, "route", request.fields))


@router.post("/{id}/finalize", status_code=201, responses=REFUSALS)
def finalize(id: str, request: FieldsRequest, who: Submitter, shared: Shared) -> JobDetail:
    """Train and ship the winner of a re-ranking, in a job of its own."""
    return detail(shared, follow_up(shared, who, id, "finalize", request.fields))


def follow_up(shared: Context, who: Principal, id_: str, kind: str, fields: Json) -> Job:
    """A job that goes out from another's run."""
    parent = shared.job(who.tenant, id_)
    shared.begun(parent)
    spec = check_spec(kind, fields)
    if "data" in parent.spec:
        spec["data"] = parent.spec["data"]
    return _create(
        shared,
        who,
        kind=kind,
        name=f"{parent.name}, {kind}",
        spec=spec,
        teacher_id=parent.teacher_id,
        dataset_id=parent.dataset_id,
        parent_id=parent.id,
        priority=parent.priority,
    )


def _changed(
    shared: Context,
    who: Principal,
    job: Job | None,
    id_: str,
    action: str,
    about: Json | None = None,
) -> JobDetail:
    return detail(shared, _audited(shared, who, job, id_, action, about))


def _audited(
    shared: Context,
    who: Principal,
    job: Job | None,
    id_: str,
    action: str,
    about: Json | None = None,
) -> Job:
    """A job that was changed, which is written down.

    Raises:
        Problem: 404 where there is none.
    """
    if job is None:
        raise not_found("job", id_)
    shared.store.audit(tenant=who.tenant, who=who.who, action=action, target=id_, detail=about)
    return job
