"""Problem details (RFC 9457): every refusal of the service as one kind of JSON."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field, ValidationError
from starlette.exceptions import HTTPException

from edge.errors import BadInput, MissingExtra
from service.jobs.model import Conflict, IllegalTransition, QuotaExceeded, StoreUnavailable

MEDIA_TYPE = "application/problem+json"
#: characters of a value that a problem repeats
LONGEST_VALUE = 500

log = logging.getLogger("understudy.service")


class FieldError(BaseModel):
    """One field that cannot be used."""

    pointer: str = Field(description="JSON pointer to the field in the request.")
    value: str | None = Field(None, description="What was found.")
    bound: str | None = Field(None, description="What is expected.")
    remedy: str | None = Field(None, description="What to do.")


class ProblemDetails(BaseModel):
    """Body of every answer of 400 and above (RFC 9457)."""

    type: str = Field(description="Kind of problem.")
    title: str = Field(description="The kind in words.")
    status: int = Field(description="HTTP status.")
    detail: str = Field(description="This very problem, as the command line would tell it.")
    errors: list[FieldError] = Field(default_factory=list, description="Fields that it is about.")


class Problem(Exception):
    """A refusal with its status.

    Args:
        status: of HTTP.
        detail: the problem in a sentence.
        kind: of problem, such as "not-found"; else it follows from the status.
        errors: fields that it is about.
        headers: of the response, such as Retry-After.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        kind: str | None = None,
        errors: list[FieldError] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.kind = status, detail, kind
        self.errors, self.headers = errors or [], dict(headers or {})


def response(problem: Problem) -> JSONResponse:
    """The HTTP response of a problem."""
    phrase = HTTPStatus(problem.status).phrase
    kind = problem.kind or phrase.lower().replace(" ", "-")
    body = ProblemDetails(
        type=f"urn:understudy:problem:{kind}",
        title=kind.replace("-", " ").capitalize(),
        status=problem.status,
        detail=problem.detail,
        errors=problem.errors,
    )
    return JSONResponse(
        body.model_dump(), problem.status, headers=problem.headers, media_type=MEDIA_TYPE
    )


def of_bad_input(error: BadInput, status: int = 422) -> Problem:
    """The problem of an input that cannot be used, with the command line's own sentence."""
    field = FieldError(
        pointer="" if error.field is None else f"/{error.field}",
        value=str(error.value)[:LONGEST_VALUE],
        bound=error.bound,
        remedy=error.remedy,
    )
    return Problem(status, str(error), kind="bad-input", errors=[field])


def not_found(what: str, id_: str) -> Problem:
    """The answer about what is not there, or is another tenant's: nobody can tell which."""
    return Problem(404, f"There is no {what} {id_!r}.")


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For ``responses=`` of a route: statuses whose body is a problem."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": content}
        for status in statuses
    }


def of_validation(error: RequestValidationError | ValidationError) -> Problem:
    """The problem of fields that are not what they should be."""
    errors = []
    for one in error.errors():
        where = [str(part) for part in one["loc"] if part not in ("body", "query", "path")]
        value = one.get("input")
        errors.append(
            FieldError(
                pointer="".join(f"/{part.replace('~', '~0').replace('/', '~1')}" for part in where),
                value=None if value is None else str(value)[:LONGEST_VALUE],
                bound=str(one["msg"]).removeprefix("Input should be "),
                remedy="See the API's description at /api/v1/openapi.json.",
            )
        )
    first = errors[0]
    name = first.pointer.strip("/") or "the request"
    detail = f"{name!r} cannot be used: got {first.value}; expected {first.bound}."
    return Problem(422, detail, kind="bad-input", errors=errors)


def _of_http(error: HTTPException) -> Problem:
    return Problem(error.status_code, str(error.detail), headers=error.headers or {})


def _of_quota(error: QuotaExceeded) -> Problem:
    after = {"Retry-After": str(max(1, round(error.retry_after)))}
    return Problem(429, f"{error}.", kind="quota-exceeded", headers=after)


def _of_store(_: StoreUnavailable) -> Problem:
    return Problem(
        503, "The service's database does not answer; try again.", headers={"Retry-After": "2"}
    )


#: kind of error → the problem that is told of it
_KINDS: tuple[tuple[type[Exception], Callable[[Any], Problem]], ...] = (
    (Problem, lambda problem: problem),
    (BadInput, of_bad_input),
    (RequestValidationError, of_validation),
    (HTTPException, _of_http),
    (QuotaExceeded, _of_quota),
    (StoreUnavailable, _of_store),
    (Conflict, lambda error: Problem(409, f"{error}.")),
    (IllegalTransition, lambda error: Problem(409, f"{error}.")),
    (MissingExtra, lambda error: Problem(501, str(error))),
)


def problem_of(error: Exception) -> Problem | None:
    """What is told of an error; None of one that is a fault of the service's own."""
    return next((make(error) for kind, make in _KINDS if isinstance(error, kind)), None)


def install(app: FastAPI) -> None:
    """Answer every error of ``app`` with a problem."""

    def told(_: Request, error: Exception) -> JSONResponse:
        problem = problem_of(error)
        assert problem is not None
        return response(problem)

    for kind, _ in _KINDS:
        app.add_exception_handler(kind, told)

    def unexpected(_: Request, error: Exception) -> JSONResponse:
        log.error("an error of the service itself", exc_info=error)
        return response(Problem(500, "The service met an error of its own; its log tells more."))

    app.add_exception_handler(Exception, unexpected)
