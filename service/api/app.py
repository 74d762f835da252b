"""The application: routes, refusals, guard, and what lives as long as it does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from importlib.metadata import PackageNotFoundError, version

from fastapi import APIRouter, FastAPI

from service.api import problems
from service.api.auth import Authenticator, Sessions, check_exposure
from service.api.changes import JobChanges
from service.api.context import Context
from service.api.guard import LOOPBACK, Guard
from service.api.intake import Intake
from service.api.routes import content, health, jobs, keys, results, uploads
from service.api.runs import RunReader
from service.api.settings import Settings
from service.api.streams import EventStreams
from service.jobs.store import Store

PREFIX = "/api/v1"
#: what runs jobs for as long as the application lives
Working = Callable[[Context], AbstractContextManager[object]]


def create_app(
    settings: Settings, working: Working | None = None, pages: APIRouter | None = None
) -> FastAPI:
    """The application of a service.

    Args:
        settings: where it keeps what.
        working: what runs its jobs, begun with it and ended with it; None where another process
            does.
        pages: routes beside the API's.

    Raises:
        BadInput: settings that cannot be used.
    """
    settings.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    store = Store.open(settings.url)
    try:
        check_exposure(store, settings)
    except BaseException:
        store.close()
        raise
    shared = Context(
        settings, store, RunReader(), EventStreams(), Intake(store, settings), JobChanges(store)
    )

    @asynccontextmanager
    async def alive(_: FastAPI) -> AsyncIterator[None]:
        shared.intake.start()
        with nullcontext() if working is None else working(shared):
            yield
        shared.streams.close()
        shared.changes.close()
        shared.intake.stop()
        store.close()

    app = FastAPI(
        title="understudy",
        version=_version(),
        description="Submit a teacher and data, get a student and its router back.",
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None,  # its page comes from another origin
        redoc_url=None,
        lifespan=alive,
    )
    app.state.context = shared
    app.state.authenticator = Authenticator(
        store, settings, Sessions(settings.folder, settings.secure_cookies)
    )
    problems.install(app)
    for router in (
        jobs.router,
        jobs.stream,
        results.router,
        content.teachers,
        content.datasets,
        uploads.router,
        keys.router,
    ):
        app.include_router(router, prefix=PREFIX)
    app.include_router(health.router)
    if pages is not None:
        app.include_router(pages)
    hosts = {*LOOPBACK, settings.host, *settings.allowed_hosts}
    app.add_middleware(Guard, hosts=hosts)
    return app


def _version() -> str:
    try:
        return version("understudy")
    except PackageNotFoundError:
        return "unknown"
