"""Idempotency-Key on changes: a request that is sent twice is done once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from fastapi import Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool

from service.api.problems import Problem
from service.jobs.model import Replay
from service.jobs.store import Store

HEADER = "idempotency-key"
#: characters of a key at most
LONGEST = 200


class IdempotentRoute(APIRoute):
    """A route whose POSTs may carry an Idempotency-Key: the same answer, without doing it again."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, with earlier answers looked up before it and kept after it."""
        handler = super().get_route_handler()

        async def once(request: Request) -> Response:
            key = request.headers.get(HEADER)
            if request.method != "POST" or not key:
                return await handler(request)
            return await _once(request, key, handler)

        return once


async def _once(
    request: Request, key: str, handler: Callable[[Request], Coroutine[Any, Any, Response]]
) -> Response:
    if len(key) > LONGEST:
        raise Problem(422, f"An Idempotency-Key has at most {LONGEST} characters.")
    principal = await run_in_threadpool(request.app.state.authenticator.principal, request)
    if principal is None:
        return await handler(request)  # which refuses
    store: Store = request.app.state.context.store
    asked = {"tenant": principal.tenant, "key": key, "method_path": f"POST {request.url.path}"}
    digest = await _digest(request)
    before = await run_in_threadpool(partial(store.idempotent, **asked, digest=digest))
    if before is not None:
        return _again(before, digest)
    try:
        response = await handler(request)
    except BaseException:
        await run_in_threadpool(partial(store.unanswered, **asked))
        raise
    told = response.headers.get("content-type", "").startswith("application/json")
    if told and response.status_code < 500:
        body = json.loads(bytes(response.body))
        status = response.status_code
        await run_in_threadpool(partial(store.answered, **asked, status=status, body=body))
    else:
        await run_in_threadpool(partial(store.unanswered, **asked))
    return response


def _again(before: Replay, digest: str) -> Response:
    """The answer that was given before.

    Raises:
        Problem: it was another request's, or is still to come.
    """
    if before.digest != digest:
        raise Problem(422, "This Idempotency-Key was used for another request.")
    if before.status is None:
        raise Problem(
            409, "The first request is still being answered.", headers={"Retry-After": "1"}
        )
    return JSONResponse(before.body, before.status, headers={"idempotent-replayed": "true"})


async def _digest(request: Request) -> str:
    """Of what is asked; of a file that is sent along, its length."""
    if request.headers.get("content-type", "").startswith("multipart/"):
        body = request.headers.get("content-length", "").encode()
    else:
        body = await request.body()
    return hashlib.sha256(request.url.query.encode() + b"\0" + body).hexdigest()
