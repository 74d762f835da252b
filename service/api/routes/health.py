"""Health of the service, for supervisors and Prometheus."""

from __future__ import annotations

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from service.api.context import Shared
from service.api.problems import documented
from service.jobs.model import State

router = APIRouter(tags=["health"])


@router.get("/healthz", response_class=PlainTextResponse)
def healthz() -> str:
    """Whether the process answers."""
    return "ok\n"


@router.get("/readyz", response_class=PlainTextResponse, responses=documented(503))
def readyz(shared: Shared) -> str:
    """Whether it can work: the store answers."""
    shared.store.ping()
    return "ready\n"


@router.get("/metrics", responses=documented(503))
def metrics(shared: Shared) -> Response:
    """Jobs by state, and what is watched, in Prometheus's text format; no names, no tenants."""
    registry = CollectorRegistry()
    jobs = Gauge("understudy_jobs", "Jobs by state.", ["state"], registry=registry)
    counts = shared.store.count_jobs()
    for state in State:
        jobs.labels(state.value).set(counts.get(state, 0))
    streams = Gauge("understudy_event_streams", "Jobs that are followed.", registry=registry)
    streams.set(shared.streams.count)
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
