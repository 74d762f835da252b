"""Uploads in pieces: for large files and bad links, gone on with where they broke off."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from edge.files import draft_of
from service.api.auth import Principal, Submitter
from service.api.context import Context, Shared
from service.api.idempotency import IdempotentRoute
from service.api.problems import Problem, documented, not_found
from service.api.routes.content import awaited
from service.api.schemas import ContentView, UploadRequest, UploadView
from service.jobs.content import file_digest, safe_name
from service.jobs.model import Upload

router = APIRouter(prefix="/uploads", tags=["uploads"], route_class=IdempotentRoute)
REFUSALS = documented(401, 403, 404, 409, 413, 421, 422, 429, 503, 507)
#: seconds for which an upload waits for its next piece
EXPIRES = 86_400.0
#: bytes between two notes of how much is on the disk
NOTED = 8 << 20


def _file(shared: Context, upload: Upload) -> Path:
    return shared.intake.folder / upload.id / safe_name(upload.name)


def _upload(shared: Context, who: Principal, id_: str) -> Upload:
    found = shared.store.get_upload(who.tenant, id_)
    if found is None:
        raise not_found("upload", id_)
    return found


@router.post("", status_code=201, responses=REFUSALS)
def begin(request: UploadRequest, who: Submitter, shared: Shared, response: Response) -> UploadView:
    """Begin an upload of so many bytes; its pieces follow as PATCH requests."""
    if request.bytes > shared.intake.room(who):
        raise shared.intake.too_large()
    upload = shared.store.create_upload(
        tenant=who.tenant,
        kind=request.kind,
        name=request.name,
        bytes=request.bytes,
        created_by=who.who,
        sha256=request.sha256,
        limits=who.limits,
        seconds=EXPIRES,
    )
    path = _file(shared, upload)
    draft = draft_of(path.parent)
    draft.mkdir(parents=True)
    (draft / path.name).touch()
    draft.rename(path.parent)
    response.headers["location"] = f"/api/v1/uploads/{upload.id}"
    return UploadView.of(upload)


@router.get("/{id}", responses=REFUSALS)
def get(id: str, who: Submitter, shared: Shared, response: Response) -> UploadView:
    """How much of an upload is there."""
    upload = _upload(shared, who, id)
    response.headers["upload-offset"] = str(upload.received)
    return UploadView.of(upload)


@router.patch(
    "/{id}",
    responses=REFUSALS,
    openapi_extra={
        "requestBody": {
            "content": {
                "application/octet-stream": {"schema": {"type": "string", "format": "binary"}}
            }
        }
    },
)
async def send(
    id: str,
    request: Request,
    who: Submitter,
    shared: Shared,
    response: Response,
    upload_offset: Annotated[int, Header(ge=0, description="Byte at which this piece begins.")],
) -> UploadView:
    """Send a piece; what arrives before the link breaks is kept."""
    upload = await run_in_threadpool(_upload, shared, who, id)
    if upload_offset != upload.received:
        raise Problem(
            409,
            f"The piece begins at {upload_offset:,}; the upload stands at {upload.received:,}.",
            headers={"Upload-Offset": str(upload.received)},
        )
    received = await _append(request, shared, upload)
    response.headers["upload-offset"] = str(received)
    view = UploadView.of(upload)
    view.received = received
    return view


async def _append(request: Request, shared: Context, upload: Upload) -> int:
    path, at = _file(shared, upload), upload.received
    noted = at

    async def note() -> None:
        nonlocal noted
        expires = time.time() + EXPIRES
        good = await run_in_threadpool(shared.store.advance_upload, upload.id, noted, at, expires)
        if not good:
            raise Problem(409, "Another request sends pieces of this upload.")
        noted = at

    try:
        with path.open("r+b") as file:
            file.seek(at)
            file.truncate()
            try:
                async for piece in request.stream():
                    if at + len(piece) > upload.bytes:
                        raise Problem(
                            413, f"The upload was announced with {upload.bytes:,} bytes, no more."
                        )
                    await run_in_threadpool(file.write, piece)
                    at += len(piece)
                    if at - noted >= NOTED:
                        file.flush()
                        await note()
            finally:  # a link that broke: what came is kept
                file.flush()
                if at > noted:
                    await note()
    except FileNotFoundError:
        raise not_found("upload", upload.id) from None
    except OSError as error:
        raise Problem(507, f"The service cannot store this: {error.strerror}.") from None
    return at


@router.post("/{id}/complete", status_code=201, responses=REFUSALS)
def complete(
    id: str,
    who: Submitter,
    shared: Shared,
    wait: Annotated[float, Query(ge=0, le=60)] = 0,
    name: Annotated[str | None, Query(max_length=200)] = None,
) -> ContentView:
    """Make a whole upload a teacher or a data set; it is checked before a job may use it."""
    upload = _upload(shared, who, id)
    if upload.received != upload.bytes:
        raise Problem(
            409,
            f"The upload is not whole: {upload.received:,} of {upload.bytes:,} bytes.",
            headers={"Upload-Offset": str(upload.received)},
        )
    path = _file(shared, upload)
    if upload.sha256 is not None and upload.sha256 != file_digest(path):
        _forget(shared, upload)
        raise Problem(422, "The upload arrived damaged: its SHA-256 is another. Send it again.")
    id_ = shared.intake.adopt(upload.kind, path)
    _forget(shared, upload)
    title = name or upload.name.rpartition(".")[0] or upload.name
    row = shared.intake.admit(upload.kind, id_, title[:200], who)
    return awaited(shared, upload.kind, who, row, wait)


@router.delete("/{id}", status_code=204, responses=REFUSALS)
def give_up(id: str, who: Submitter, shared: Shared) -> Response:
    """Give an upload up: nothing is left of it."""
    _forget(shared, _upload(shared, who, id))
    return Response(status_code=204)


def _forget(shared: Context, upload: Upload) -> None:
    shared.store.delete_upload(upload.id)
    shutil.rmtree(_file(shared, upload).parent, ignore_errors=True)
