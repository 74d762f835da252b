"""Teachers and data sets: uploaded once, checked, then named by jobs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Body, Form, Query, Response, UploadFile
from fastapi.responses import JSONResponse

from service.api.auth import Principal, Reader, Submitter
from service.api.context import Context, Shared
from service.api.idempotency import IdempotentRoute
from service.api.intake import pieces_of
from service.api.problems import Problem, documented, not_found
from service.api.schemas import ContentView, Json, Listing, listing
from service.jobs.model import Dataset, Teacher
from service.jobs.store import ContentFilters

REFUSALS = documented(401, 403, 404, 409, 413, 421, 422, 429, 503, 507)
#: kinds of content, as people call them
NAMES = {"teacher": "teacher", "dataset": "data set"}
#: seconds between two looks at a row that is being checked
LOOK = 0.1
Wait = Annotated[float, Query(ge=0, le=60, description="Seconds to wait for the check.")]


def get_content(shared: Context, kind: str, who: Principal, id_: str) -> Teacher | Dataset:
    """A tenant's teacher or data set.

    Raises:
        Problem: 404.
    """
    get = shared.store.get_teacher if kind == "teacher" else shared.store.get_dataset
    found = get(who.tenant, id_)
    if found is None:
        raise not_found(NAMES[kind], id_)
    return found


def delete_content(shared: Context, kind: str, who: Principal, id_: str) -> None:
    """Remove a tenant's teacher or data set.

    Raises:
        Problem: 404 where there is none.
        Conflict: jobs name it.
    """
    remove = shared.store.delete_teacher if kind == "teacher" else shared.store.delete_dataset
    if not remove(who.tenant, id_):
        raise not_found(NAMES[kind], id_)
    shared.store.audit(tenant=who.tenant, who=who.who, action=f"delete-{kind}", target=id_)


def awaited(
    shared: Context, kind: str, who: Principal, row: Teacher | Dataset, wait: float
) -> ContentView:
    """The view of content once it is checked, or after so many seconds."""
    deadline = time.monotonic() + wait
    while row.state == "checking" and time.monotonic() < deadline:
        time.sleep(LOOK)
        row = get_content(shared, kind, who, row.id)
    return ContentView.of(row)


def take(
    shared: Context, kind: str, who: Principal, files: list[UploadFile], name: str | None
) -> Teacher | Dataset:
    """Receive the files of a form."""
    named = {file.filename or "file": pieces_of(file.file) for file in files}
    if len(named) != len(files) or not files:
        raise Problem(422, "Each file needs a name of its own.")
    id_ = shared.intake.receive(kind, who, named)
    title = name or next(iter(named)).rpartition(".")[0] or kind
    return shared.intake.admit(kind, id_, title[:200], who)


def _router(kind: str, prefix: str) -> APIRouter:
    """The routes that teachers and data sets have in common."""
    router = APIRouter(prefix=prefix, tags=[prefix.strip("/")], route_class=IdempotentRoute)
    what = NAMES[kind]

    def upload(
        files: list[UploadFile],
        who: Submitter,
        shared: Shared,
        response: Response,
        name: Annotated[str | None, Form(max_length=200)] = None,
        wait: Wait = 0,
    ) -> ContentView:
        row = take(shared, kind, who, files, name)
        response.headers["location"] = f"/api/v1{prefix}/{row.id}"
        return awaited(shared, kind, who, row, wait)

    def list_content(
        who: Reader,
        shared: Shared,
        name: Annotated[str | None, Query(max_length=200)] = None,
        state: Annotated[str | None, Query(max_length=20)] = None,
        sha256: Annotated[str | None, Query(pattern="^[0-9a-f]{64}$")] = None,
        sort: Annotated[str, Query(max_length=50)] = "-created_at",
        cursor: Annotated[str | None, Query(max_length=1000)] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 50,
    ) -> Listing[ContentView]:
        filters = ContentFilters(name=name, state=state, sha256=sha256)
        lister: Callable[..., Any] = (
            shared.store.list_teachers if kind == "teacher" else shared.store.list_datasets
        )
        page = lister(who.tenant, filters, sort, cursor, limit)
        return Listing[ContentView].model_validate(listing(page, ContentView))

    def get(id: str, who: Reader, shared: Shared, wait: Wait = 0) -> ContentView:
        return awaited(shared, kind, who, get_content(shared, kind, who, id), wait)

    def delete(id: str, who: Submitter, shared: Shared) -> Response:
        delete_content(shared, kind, who, id)
        return Response(status_code=204)

    for function, method, path, status, text in (
        (upload, "POST", "", 201, f"Upload a {what}; it is checked before a job may use it."),
        (list_content, "GET", "", 200, f"Part of the {what}s."),
        (get, "GET", "/{id}", 200, f"One {what} with what is known of it."),
        (delete, "DELETE", "/{id}", 204, f"Remove a {what}."),
    ):
        function.__doc__ = text
        router.add_api_route(
            path,
            function,
            methods=[method],
            status_code=status,
            responses=REFUSALS,
            name=f"{function.__name__}_{kind}",
            response_class=Response if status == 204 else JSONResponse,
        )
    return router


teachers = _router("teacher", "/teachers")
datasets = _router("dataset", "/datasets")


@teachers.get("/{id}/inspection", responses=REFUSALS)
def inspection(id: str, who: Reader, shared: Shared, wait: Wait = 0) -> Json:
    """A teacher's layers, what each costs, and what may be removed."""
    row = get_content(shared, "teacher", who, id)
    view = awaited(shared, "teacher", who, row, wait)
    if view.facts is None:
        raise Problem(409, f"The teacher {id} is {view.state}: there is no inspection.")
    return view.facts


@teachers.post("/{id}/description", status_code=201, responses=REFUSALS)
def describe(
    id: str,
    description: Annotated[Json, Body(description="Input, mean, std, classes: a teacher's JSON.")],
    who: Submitter,
    shared: Shared,
    wait: Wait = 0,
) -> ContentView:
    """The same weights with another description: a teacher of its own."""
    row = get_content(shared, "teacher", who, id)
    weights = shared.intake.content.teacher(row.sha256)
    told = json.dumps(description, indent=2).encode()
    with weights.open("rb") as file:
        files = {weights.name: pieces_of(file), "teacher.json": iter([told])}
        id_ = shared.intake.receive("teacher", who, files)
    new = shared.intake.admit("teacher", id_, row.name, who)
    return awaited(shared, "teacher", who, new, wait)
