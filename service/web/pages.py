"""Pages about jobs: the list, one job and its tabs, and what its forms do."""

from __future__ import annotations

import json
import shlex
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response
from starlette.datastructures import UploadFile

from edge.errors import BadInput
from service.api.context import Context, context
from service.api.routes.jobs import detail, follow_up
from service.api.schemas import JobView
from service.jobs.model import RUNNING, Job, Scope, State, Wanted
from service.jobs.store import JobFilters
from service.web.rendering import form_values, page, render, to

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
    view = view_of(found) | detail(shared, found).model_dump(include={"history"})
    log = shared.settings.folder / found.folder / "log.txt"
    return render(
        request,
        "job.html",
        job=view,
        s=view["summary"],
        stages=STAGES,
        passed={one["after"] for one in view["history"]},
        offset=events.stat().st_size if events.exists() else 0,
        log=log.read_bytes()[-LOG:].decode(errors="replace") if log.exists() else "",
    )


@router.post("/jobs/{id}/cancel")
@page(Scope.SUBMIT)
def cancel(request: Request, id: str) -> Response:
    """Stop it."""
    _want(request, id, Wanted.CANCEL)
    return to(f"/jobs/{id}")


@router.post("/jobs/{id}/delete")
@page(Scope.SUBMIT)
def delete(request: Request, id: str) -> Response:
    """Remove it."""
    _want(request, id, Wanted.DELETE)
    return to("/")


def _want(request: Request, id_: str, what: Wanted) -> None:
    shared, found = _job(request, id_)
    who = request.state.principal
    shared.store.want(who.tenant, found.id, what, who.who)
    shared.store.audit(tenant=who.tenant, who=who.who, action=str(what), target=id_)


@router.post("/jobs/{id}/resume")
@page(Scope.SUBMIT)
def resume(request: Request, id: str) -> Response:
    """Go on with it, further under a larger budget."""
    shared, found = _job(request, id)
    who, given = request.state.principal, form_values(request)
    changes = {"budget": _whole(given["budget"])} if "budget" in given else None
    shared.store.resume_job(who.tenant, found.id, who.who, changes=changes, limits=who.limits)
    shared.store.audit(
        tenant=who.tenant, who=who.who, action="resume", target=id, detail=changes or {}
    )
    return to(f"/jobs/{id}")


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise BadInput(
            "the budget is no number",
            value=text,
            bound="a whole number",
            remedy="Write digits alone.",
            field="budget",
        ) from None


@router.get("/jobs/{id}/router")
@page(Scope.READ)
def routers(request: Request, id: str) -> Response:
    """The ranking, and the curve of what ships."""
    shared, found = _job(request, id)
    run = shared.run_folder(found)
    ready = (run / "bundle" / "manifest.json").is_file()
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
    from service.api.routes.results import set_threshold

    shared, found = _job(request, id)
    share = float(form_values(request).get("appeals", "0.1"))
    set_threshold(shared, request.state.principal, found, {"appeals": share})
    return to(f"/jobs/{id}/router")


@router.get("/jobs/{id}/try")
@page(Scope.READ)
def try_it(request: Request, id: str) -> Response:
    """Images that the pair answers."""
    shared, found = _job(request, id)
    ready = (shared.run_folder(found) / "bundle" / "manifest.json").is_file()
    return render(request, "try.html", job=view_of(found), ready=ready, answers=None)


@router.post("/jobs/{id}/try")
@page(Scope.READ)
def answers(request: Request, id: str) -> Response:
    """The same with answers, for browsers without scripts."""
    from service.api.routes.results import answer_images

    shared, found = _job(request, id)
    images = [one for one in request.state.form.getlist("images") if isinstance(one, UploadFile)]
    rows = answer_images(shared, shared.finished(found), images)
    return render(request, "try.html", job=view_of(found), ready=True, answers=rows)


@router.get("/jobs/{id}/download")
@page(Scope.READ)
def download(request: Request, id: str) -> Response:
    """What can be taken home."""
    shared, found = _job(request, id)
    ready = (shared.run_folder(found) / "bundle" / "manifest.json").is_file()
    words = ["understudy", "search", "--teacher", "teacher.onnx", "--data"]
    words += [str(found.spec.get("data", "data")), "--out", "run"]
    for name, value in found.spec.items():
        if name != "data":
            words += ["--" + name.replace("_", "-"), str(value)]
    return render(
        request, "download.html", job=view_of(found), ready=ready, command=shlex.join(words)
    )


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
    fields = json.loads(form_values(request).get("fields", "{}"))
    job_ = follow_up(context(request), request.state.principal, id, "finalize", fields)
    return to(f"/jobs/{job_.id}")
