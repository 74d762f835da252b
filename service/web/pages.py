"""Pages about jobs: the list, one job and its tabs, and what its forms do."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response
from starlette.datastructures import UploadFile

from search.job.spec_file import command_of
from service.api.context import Context, context
from service.api.routes import jobs as api_jobs
from service.api.routes.results import answer_images, set_threshold, spec_at_home
from service.api.schemas import FieldsRequest, JobView, ResumeRequest
from service.jobs.model import RUNNING, Job, Scope, State
from service.jobs.reconcile import log_tail
from service.jobs.store import JobFilters
from service.web.rendering import form_values, number, page, render, to

router = APIRouter(include_in_schema=False)
STAGES = (State.QUEUED, *RUNNING, State.DONE)
SORTS = (
    ("-created_at", "newest first"),
    ("created_at", "oldest first"),
    ("student_kb", "smallest student"),
    ("-student_accuracy", "best student"),
    ("-pair_accuracy", "best pair"),
    ("-best_reward", "best reward"),
    ("name", "name"),
)
#: rows of a list, and bytes of a log
ROWS, LOG = 50, 1 << 15


def _job(request: Request, id_: str) -> tuple[Context, Job]:
    shared = context(request)
    return shared, shared.job(request.state.principal.tenant, id_)


@router.get("/")
@page(Scope.READ)
def jobs(request: Request) -> Response:
    """The list."""
    shared, asked = context(request), request.query_params
    state = asked.get("state")
    filters = {
        "name": asked.get("name") or None,
        "state": state if state in list(State) else None,
        "sort": asked.get("sort") or SORTS[0][0],
        "cursor": asked.get("cursor"),
    }
    wanted = JobFilters(
        name=filters["name"], states=(State(filters["state"]),) if filters["state"] else ()
    )
    found = shared.store.list_jobs(
        request.state.principal.tenant, wanted, str(filters["sort"]), filters["cursor"], ROWS
    )
    kept = {name: value for name, value in filters.items() if value}
    return render(
        request,
        "jobs.html",
        here="jobs",
        jobs=[view_of(job) for job in found.items],
        cursor=found.cursor,
        next=urlencode(kept | {"cursor": found.cursor or ""}),
        filters=filters,
        states=list(State),
        sorts=SORTS,
    )


_SUMMARY = (
    "candidates", "budget", "best_rewards", "student_kb", "student_accuracy", "pair_accuracy",
    "appeals", "teacher_accuracy", "verdict", "warnings",
)  # fmt: skip


def view_of(job: Job) -> dict[str, Any]:
    """A job as templates read it; figures that it lacks are None."""
    view = JobView.of(job).model_dump()
    return view | {"summary": dict.fromkeys(_SUMMARY) | job.summary}


@router.get("/jobs/{id}")
@page(Scope.READ)
def job(request: Request, id: str) -> Response:
    """One job as it stands."""
    shared, found = _job(request, id)
    events = shared.run_folder(found) / "events.ndjson"
    view = view_of(found) | api_jobs.detail(shared, found).model_dump(include={"history"})
    return render(
        request,
        "job.html",
        job=view,
        s=view["summary"],
        stages=STAGES,
        passed={one["after"] for one in view["history"]},
        offset=events.stat().st_size if events.exists() else 0,
        log=log_tail(shared.settings.folder / found.folder, LOG),
    )


@router.post("/jobs/{id}/cancel")
@page(Scope.SUBMIT)
def cancel(request: Request, id: str) -> Response:
    """Stop it."""
    api_jobs.cancel(id, request.state.principal, context(request))
    return to(f"/jobs/{id}")


@router.post("/jobs/{id}/delete")
@page(Scope.SUBMIT)
def delete(request: Request, id: str) -> Response:
    """Remove it."""
    api_jobs.delete(id, request.state.principal, context(request))
    return to("/")


@router.post("/jobs/{id}/resume")
@page(Scope.SUBMIT)
def resume(request: Request, id: str) -> Response:
    """Go on with it, further under a larger budget."""
    asked = ResumeRequest.model_validate(form_values(request))
    api_jobs.resume(id, asked, request.state.principal, context(request))
    return to(f"/jobs/{id}")


@router.get("/jobs/{id}/router")
@page(Scope.READ)
def routers(request: Request, id: str) -> Response:
    """The ranking, and the curve of what ships."""
    shared, found = _job(request, id)
    run, ready = shared.run_folder(found), shared.has_bundle(found)
    told = json.loads((run / "result.json").read_text()) if ready else {}
    return render(
        request,
        "router.html",
        job=view_of(found),
        ready=ready,
        ranking=told.get("ranking"),
        d=shared.runs.deferral(run) if ready else None,
    )


@router.post("/jobs/{id}/threshold")
@page(Scope.SUBMIT)
def threshold(request: Request, id: str) -> Response:
    """Save the bundle's threshold."""
    shared, found = _job(request, id)
    share = number("appeals", form_values(request).get("appeals", "0.1"))
    set_threshold(shared, request.state.principal, found, {"appeals": share})
    return to(f"/jobs/{id}/router")


@router.get("/jobs/{id}/try")
@page(Scope.READ)
def try_it(request: Request, id: str) -> Response:
    """Images that the pair answers."""
    shared, found = _job(request, id)
    ready = shared.has_bundle(found)
    return render(request, "try.html", job=view_of(found), ready=ready, answers=None)


@router.post("/jobs/{id}/try")
@page(Scope.READ)
def answers(request: Request, id: str) -> Response:
    """The same with answers, for browsers without scripts."""
    shared, found = _job(request, id)
    images = [one for one in request.state.form.getlist("images") if isinstance(one, UploadFile)]
    rows = answer_images(shared, shared.finished(found), images)
    return render(request, "try.html", job=view_of(found), ready=True, answers=rows)


@router.get("/jobs/{id}/download")
@page(Scope.READ)
def download(request: Request, id: str) -> Response:
    """What can be taken home."""
    shared, found = _job(request, id)
    ready = shared.has_bundle(found)
    command = command_of(spec_at_home(found))
    return render(request, "download.html", job=view_of(found), ready=ready, command=command)


@router.get("/compare")
@page(Scope.READ)
def compare(request: Request) -> Response:
    """Jobs side by side."""
    shared, tenant = context(request), request.state.principal.tenant
    found = [shared.job(tenant, id_) for id_ in request.query_params.getlist("id")[:8]]
    names = sorted({name for one in found for name in one.spec})
    return render(request, "compare.html", jobs=[view_of(one) for one in found], fields=names)


@router.post("/jobs/{id}/finalize")
@page(Scope.SUBMIT)
def finalize(request: Request, id: str) -> Response:
    """Train and ship the winner of a re-ranking."""
    asked = FieldsRequest.model_validate_json(form_values(request).get("fields", "{}"))
    made = api_jobs.finalize(id, asked, request.state.principal, context(request))
    return to(f"/jobs/{made.id}")
