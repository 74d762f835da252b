"""Results: what a run has found, told and shipped."""

from __future__ import annotations

import asyncio
import functools
import io
import json
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Request, Response, UploadFile
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile as StarletteUpload

from edge.errors import BadInput
from search.job.spec import JobSpec, make_spec
from search.job.spec_file import to_yaml
from service.api.auth import Principal, Reader, Submitter
from service.api.context import Context, Shared
from service.api.idempotency import IdempotentRoute
from service.api.problems import Problem, documented
from service.api.schemas import FieldsRequest, Json
from service.api.streams import LOOK, whole_lines
from service.jobs.model import ENDED, Job
from service.jobs.reconcile import log_tail

router = APIRouter(prefix="/jobs/{id}", tags=["results"], route_class=IdempotentRoute)
REFUSALS = documented(401, 403, 404, 409, 421, 422, 503)
#: images of one question, and bytes of each
MOST_IMAGES, MOST_BYTES = 64, 32 << 20
#: the report is a page of its own: it may hold styles and pictures, and do nothing
REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox"


@router.get(
    "/events",
    responses=REFUSALS
    | {200: {"content": {"text/event-stream": {}, "application/json": {}}, "description": "OK"}},
)
async def events(
    id: str,
    request: Request,
    who: Reader,
    shared: Shared,
    start: Annotated[int, Query(alias="from", ge=0, description="Byte to go on from.")] = 0,
    wait: Annotated[float, Query(ge=0, le=30, description="Seconds to wait for more.")] = 0,
    last_event_id: Annotated[str | None, Header()] = None,
    accept: Annotated[str, Header()] = "",
) -> Response:
    """A run's events as they come: Server-Sent Events, or a JSON part of them.

    With ``Accept: text/event-stream`` a stream until the job has ended, gone on with after
    ``Last-Event-ID``; else what there is from ``from`` on, after at most ``wait`` seconds.
    """
    job = await run_in_threadpool(shared.job, who.tenant, id)
    path = shared.run_folder(job) / "events.ndjson"
    if last_event_id is not None and last_event_id.isascii() and last_event_id.isdigit():
        start = min(int(last_event_id), 1 << 62)
    get = functools.partial(shared.store.get_job, who.tenant, id)
    if "text/event-stream" in accept:
        stream = shared.streams.follow(id, path, get, start)
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return StreamingResponse(stream, media_type="text/event-stream", headers=headers)
    return JSONResponse(await _part(path, get, start, wait))


async def _part(path: Path, get: Callable[[], Job | None], start: int, wait: float) -> Json:
    deadline = asyncio.get_running_loop().time() + wait
    while True:
        job = await run_in_threadpool(get)
        data = await run_in_threadpool(whole_lines, path, start)
        ended = job is None or job.state in ENDED
        if data or ended or asyncio.get_running_loop().time() >= deadline:
            lines = [json.loads(line) for line in data.splitlines()]
            state = None if job is None else job.state
            over = ended and not data
            return {"events": lines, "next": start + len(data), "state": state, "ended": over}
        await asyncio.sleep(LOOK)


@router.get("/candidates", responses=REFUSALS)
def candidates(
    id: str,
    who: Reader,
    shared: Shared,
    format: Annotated[Literal["json", "csv", "parquet"] | None, Query()] = None,
    accept: Annotated[str, Header()] = "",
) -> Response:
    """Every candidate: JSON by column, CSV or Parquet, by ``format`` or ``Accept``."""
    run = shared.begun(shared.job(who.tenant, id))
    kind = format or ("csv" if "text/csv" in accept else "json")
    if format is None and "parquet" in accept:
        kind = "parquet"
    if kind == "csv":
        name = {"content-disposition": f'attachment; filename="{id}.csv"'}
        return Response(shared.runs.csv(run), media_type="text/csv", headers=name)
    if kind == "parquet":
        name = {"content-disposition": f'attachment; filename="{id}.parquet"'}
        return Response(
            shared.runs.parquet(run), media_type="application/vnd.apache.parquet", headers=name
        )
    return JSONResponse(shared.runs.candidates(run))


@router.post("/rerank", responses=REFUSALS)
def rerank(
    id: str,
    request: FieldsRequest,
    who: Reader,
    shared: Shared,
    top: Annotated[int, Query(ge=1, le=1000)] = 10,
) -> Response:
    """The candidates under other weights, thresholds and limits; nothing is trained or kept."""
    run = shared.begun(shared.job(who.tenant, id))
    return JSONResponse(shared.runs.rerank(run, request.fields, top))


@router.get("/result", responses=REFUSALS)
def result(id: str, who: Reader, shared: Shared) -> Response:
    """The finished run's figures, verdict and warnings: ``result.json``."""
    run = shared.finished(shared.job(who.tenant, id))
    return FileResponse(run / "result.json", media_type="application/json")


@router.get("/report", responses=REFUSALS)
def report(id: str, who: Reader, shared: Shared) -> Response:
    """The finished run's report, a page of its own."""
    path = shared.finished(shared.job(who.tenant, id)) / "report.html"
    if not path.is_file():
        raise Problem(409, "The run has no report; its result.json has the figures.")
    headers = {"content-security-policy": REPORT_POLICY}
    return FileResponse(path, media_type="text/html", headers=headers)


@router.get("/log", responses=REFUSALS)
def log(
    id: str,
    who: Reader,
    shared: Shared,
    last: Annotated[int, Query(ge=1, le=1 << 20, description="Bytes from its end.")] = 1 << 16,
) -> Response:
    """The end of what the job's process wrote."""
    job = shared.job(who.tenant, id)
    return PlainTextResponse(log_tail(shared.settings.folder / job.folder, last))


@router.get("/job.yaml", responses=REFUSALS)
def job_yaml(id: str, who: Reader, shared: Shared) -> Response:
    """The job as a YAML file for the command line."""
    text = to_yaml(spec_at_home(shared.job(who.tenant, id)))
    headers = {"content-disposition": f'attachment; filename="{id}.yaml"'}
    return Response(text, media_type="application/yaml", headers=headers)


def spec_at_home(job: Job) -> JobSpec:
    """A job as its user would start it, with teacher and data in their own folder."""
    places = {"teacher": "teacher.onnx", "data": str(job.spec.get("data", "data")), "out": "run"}
    return make_spec(dict(job.spec) | places)


@router.get("/bundle.zip", responses=REFUSALS)
def bundle(id: str, who: Reader, shared: Shared) -> Response:
    """Student, router, threshold and manifest, as they ship."""
    run = shared.finished(shared.job(who.tenant, id))
    files = shared.runs.bundle(run)  # verified
    headers = {"content-disposition": f'attachment; filename="{id}-bundle.zip"'}
    names = ["manifest.json", *sorted(files.manifest.files)]
    content = _zipped(run / "bundle", names)
    return Response(content, media_type="application/zip", headers=headers)


def _zipped(folder: Path, names: list[str]) -> bytes:
    """A zip file of some files, in memory as the bundle is when it is verified; no time in it."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(
                zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)),
                (folder / name).read_bytes(),
                zipfile.ZIP_DEFLATED,
            )
    return sink.getvalue()


@router.get("/routers", responses=REFUSALS)
def routers(id: str, who: Reader, shared: Shared) -> Response:
    """The ranking of routers, and the shipped one's curve over appeals with its bounds."""
    run = shared.finished(shared.job(who.tenant, id))
    told = json.loads((run / "result.json").read_text())
    return JSONResponse(
        {"ranking": told.get("ranking"), "pair": told.get("pair")}
        | {"deferral": shared.runs.deferral(run)}
    )


@router.post("/threshold", responses=REFUSALS)
def threshold(id: str, request: FieldsRequest, who: Submitter, shared: Shared) -> Response:
    """Set the bundle's threshold for another goal: appeals, accuracy, acci, cost or risk."""
    found = set_threshold(shared, who, shared.job(who.tenant, id), request.fields)
    point = found.expected
    return JSONResponse(
        {
            "threshold": found.threshold,
            "met": found.verdict == "met",
            "appeals": point.appeals,
            "accuracy": point.accuracy,
            "rows": point.rows,
            "warning": found.warning,
            "doubt": found.doubt,
        }
    )


def set_threshold(shared: Context, who: Principal, job: Job, fields: Json) -> Any:
    """Turn a finished job's bundle to another goal; what was calibrated."""
    from routers.calibration.goal_options import chosen_goal
    from search.packaging.recalibrate import turn

    run = shared.finished(job)
    found = turn(run / "bundle", chosen_goal(fields))
    shared.runs.forget(run)
    shared.store.audit(
        tenant=who.tenant, who=who.who, action="threshold", target=job.id, detail=fields
    )
    return found


@router.post("/predict", responses=documented(401, 403, 404, 409, 413, 421, 422, 503))
def predict(id: str, images: list[UploadFile], who: Reader, shared: Shared) -> Response:
    """What student, router and teacher say of some images."""
    run = shared.finished(shared.job(who.tenant, id))
    return JSONResponse({"answers": answer_images(shared, run, images)})


def answer_images(shared: Context, run: Path, images: Sequence[StarletteUpload]) -> list[Json]:
    """What the pair of a run says of images that were sent.

    Raises:
        BadInput: too many of them, or one that cannot be read.
    """
    if not 1 <= len(images) <= MOST_IMAGES:
        raise BadInput(
            "so many images at a time are not answered",
            value=len(images),
            bound=f"1 to {MOST_IMAGES}",
            remedy="Send them in parts.",
            field="images",
        )
    given: dict[str, bytes] = {}
    for number, image in enumerate(images, 1):
        data = image.file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise Problem(413, f"The image {image.filename!r} has more than {MOST_BYTES:,} bytes.")
        name = image.filename or "image"
        given[name if name not in given else f"{number}: {name}"] = data
    return shared.runs.answers(run, given)


@router.get("/graph", responses=REFUSALS)
def graph(id: str, who: Reader, shared: Shared) -> Response:
    """The student's layers, as the bundle describes them."""
    run = shared.finished(shared.job(who.tenant, id))
    return FileResponse(run / "bundle" / "netspec.json", media_type="application/json")
