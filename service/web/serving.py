"""The service's process: application, scheduler and HTTP server, from start to stop."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import typer
import uvicorn
from fastapi import APIRouter

from edge.errors import BadInput
from service.api.app import Working, create_app
from service.api.context import Context
from service.api.settings import Settings
from service.jobs.local import LocalRunner
from service.jobs.ray_jobs import RayRunner
from service.jobs.runner import Runner
from service.jobs.scheduler import Scheduler
from service.web import account, assets, submission, thresholds
from service.web import pages as job_pages

#: seconds that open connections, such as event streams, have to end
GRACE = 3


def run(settings: Settings) -> None:
    """Serve until Ctrl-C or SIGTERM; jobs that run go on, and are found again.

    Raises:
        BadInput: settings that cannot be used, or an address that cannot be listened on.
    """
    runner = _runner(settings.runner)
    with _listen(settings) as listener:
        working = working_with(settings, runner) if settings.jobs else None
        app = create_app(settings, working, pages())
        host, port = listener.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        typer.echo(f"understudy serves http://{shown}:{port}  (folder {settings.folder})", err=True)
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=GRACE,
            server_header=False,
            date_header=False,
        )
        uvicorn.Server(config).run(sockets=[listener])


def pages() -> APIRouter:
    """All pages and what they are made of."""
    router = APIRouter(include_in_schema=False)
    for one in (assets, account, submission, thresholds, job_pages):
        router.include_router(one.router)
    return router


def working_with(settings: Settings, runner: Runner) -> Working:
    """What runs the jobs of an application for as long as it lives."""

    @contextmanager
    def working(shared: Context) -> Iterator[object]:
        # jobs that were begun on this machine end here, whatever runs new ones
        others = () if isinstance(runner, LocalRunner) else (LocalRunner(),)
        scheduler = Scheduler(
            shared.store, settings.folder, runner, others=others, jobs=settings.jobs
        )
        scheduler.start()
        try:
            yield scheduler
        finally:
            scheduler.stop()
            for one in (runner, *others):
                one.close()

    return working


def _runner(name: str) -> Runner:
    """The runner of a setting.

    Raises:
        BadInput: there is none of that name, or no cluster answers at that address.
    """
    if name == "local":
        return LocalRunner()
    if name.startswith(("http://", "https://")):
        cluster = RayRunner(name)
        cluster.check()
        return cluster
    raise BadInput(
        "there is no such runner",
        value=name,
        bound="local, or http://HEAD:8265",
        remedy="Leave --runner out, or name a cluster's dashboard.",
        field="runner",
    )


def _listen(settings: Settings) -> socket.socket:
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, proto)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
            listener.listen(512)
        except BaseException:
            listener.close()
            raise
    except OSError as error:
        raise BadInput(
            "the service cannot listen there",
            value=f"{settings.host}:{settings.port} ({error.strerror})",
            bound="a free address of this machine",
            remedy="Choose another --port; 0 takes any free one.",
            field="port",
        ) from None
    return listener
