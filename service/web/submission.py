"""The page of a new job: teacher, data, limits; with or without scripts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.datastructures import FormData, UploadFile

from edge.errors import BadInput
from search.job.choices import CHOICES
from search.job.spec import fields as spec_fields
from service.api.context import Context, context
from service.api.problems import Problem
from service.api.routes.content import awaited, take
from service.api.routes.jobs import submit_search
from service.api.schemas import JobRequest
from service.jobs.engines import CONFINED, OWN
from service.jobs.model import Scope
from service.jobs.store import ContentFilters
from service.web.rendering import form_values, page, problem_of_form, render, to

router = APIRouter(include_in_schema=False)
BASIC = ("max_kb", "max_drop", "max_ms", "budget", "minutes", "appeals")
LABELS = {
    "max_kb": "Largest student, KB",
    "max_drop": "Accuracy it may lose (.01 is one point)",
    "max_ms": "Slowest student, ms",
    "budget": "Candidates",
    "minutes": "Minutes",
    "appeals": "Share of inputs that may be appealed",
}
#: seconds that a form waits for its uploads to be checked
WAIT = 60.0
#: no longer than this is chosen from in a list
LISTED = 200


@dataclass(frozen=True)
class Field:
    """A field of the job as a form shows it."""

    name: str
    label: str
    help: str
    default: str
    choices: tuple[str, ...]


def _fields() -> dict[str, Field]:
    found = {}
    for _, name, help_, default in spec_fields():
        shown = "" if default is None or default is ... else _shown(default)
        label = LABELS.get(name, name)
        choices = () if isinstance(default, tuple) else CHOICES.get(name, ())
        found[name] = Field(name, label, help_, shown, choices)
    return found


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _expert() -> list[tuple[str, list[str]]]:
    hidden = {*OWN, *CONFINED, *BASIC, "target", "ray"}
    groups: dict[str, list[str]] = {}
    for group, name, *_ in spec_fields():
        if name not in hidden:
            groups.setdefault(group, []).append(name)
    return list(groups.items())


def _page(request: Request, given: Mapping[str, Any], **values: Any) -> Response:
    shared, tenant = context(request), request.state.principal.tenant
    ready = ContentFilters(state="ready")
    teachers = shared.store.list_teachers(tenant, ready, limit=LISTED).items
    inspected = next((one for one in teachers if one.id == given.get("teacher")), None)
    known = _fields()
    return render(
        request,
        "new.html",
        here="new",
        teachers=teachers,
        datasets=shared.store.list_datasets(tenant, ready, limit=LISTED).items,
        inspection=None if inspected is None else inspected.inspection,
        fields=known,
        basic=BASIC,
        expert=_expert(),
        given=dict.fromkeys((*known, "name")) | dict(given),
        **values,
    )


@router.get("/new")
@page(Scope.SUBMIT)
def new(request: Request) -> Response:
    """An empty form, or one for a teacher that is there."""
    return _page(request, dict(request.query_params))


@router.post("/new")
@page(Scope.SUBMIT)
def submit(request: Request) -> Response:
    """Upload what was sent, wait for its check, and submit the job."""
    shared, given = context(request), form_values(request)
    form: FormData = request.state.form
    do = given.pop("do", "submit")
    try:
        for kind, name in (("teacher", "teacher"), ("dataset", "data")):
            uploaded = _uploaded(shared, request, form, kind, name)
            if uploaded is not None:
                given[name] = uploaded
        if do == "inspect":
            return to(f"/new?teacher={given.get('teacher', '')}&data={given.get('data', '')}")
        _need(given)
        protect = [str(value) for value in form.getlist("protect") if isinstance(value, str)]
        request_ = JobRequest.model_validate(given | ({"protect": protect} if protect else {}))
        job = submit_search(request_, request.state.principal, shared)
    except Exception as error:
        problem = problem_of_form(error)
        if problem is None:
            raise
        return _page(request, given, problem=problem)
    return to(f"/jobs/{job.id}")


def _uploaded(
    shared: Context, request: Request, form: FormData, kind: str, name: str
) -> str | None:
    files = [
        one
        for one in form.getlist(f"{name}_files")
        if isinstance(one, UploadFile) and one.filename and one.size
    ]
    if not files:
        return None
    who = request.state.principal
    row = take(shared, kind, who, files, None)  # type: ignore[arg-type]
    view = awaited(shared, kind, who, row, WAIT)
    if view.state != "ready":
        told = (view.problem or {}).get("message") or f"It is {view.state}; try again soon."
        raise Problem(422, str(told))
    return view.id


def _need(given: Mapping[str, str]) -> None:
    for name, what in (("teacher", "a teacher"), ("data", "data")):
        if not given.get(name):
            raise BadInput(
                f"the job lacks {what}",
                value=None,
                bound=f"{what} that is here, or files",
                remedy="Choose or upload.",
                field=name,
            )
