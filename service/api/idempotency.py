"""Idempotency-Key on changes: a request that is sent twice is done once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute

from service.api.problems import Problem

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
    principal = request.app.state.authenticator.principal(request)
    if principal is None:
        return await handler(request)  # which refuses
    store, path = request.app.state.context.store, f"POST {request.url.path}"
    before = store.idempotent(principal.tenant, key, path, await _digest(request))
    if before is not None:
        if before.digest != await _digest(request):
            raise Problem(422, "This Idempotency-Key was used for another request.")
        if before.status is None:
            raise Problem(
                409, "The first request is still being answered.", headers={"Retry-After": "1"}
            )
        return JSONResponse(before.body, before.status, headers={"idempotent-replayed": "true"})
    try:
        response = await handler(request)
    except BaseException:
        store.unanswered(principal.tenant, key, path)
        raise
    told = response.headers.get("content-type", "").startswith("application/json")
    if told and response.status_code < 500:
        body = json.loads(bytes(response.body))
        store.answered(principal.tenant, key, path, response.status_code, body)
    else:
        store.unanswered(principal.tenant, key, path)
    return response


async def _digest(request: Request) -> str:
    """Of what is asked; of a file that is sent along, its length."""
    if request.headers.get("content-type", "").startswith("multipart/"):
        body = request.headers.get("content-length", "").encode()
    else:
        body = await request.body()
    return hashlib.sha256(request.url.query.encode() + b"\0" + body).hexdigest()
