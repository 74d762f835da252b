"""Rendering of pages: templates, the session behind them, and answers without JavaScript."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import cache, wraps
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fastapi import Request, Response
from fastapi.responses import RedirectResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData

from edge.errors import BadInput
from service.api.auth import Authenticator, Principal, check_token
from service.api.problems import Problem, of_validation, problem_of
from service.jobs.model import Scope

HERE = Path(__file__).parent


@cache
def templates() -> Environment:
    """The pages' templates."""
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["short"] = _short
    environment.filters["iso"] = lambda at: datetime.fromtimestamp(at, UTC).isoformat()
    environment.globals["version"] = _digest(HERE / "static")
    environment.globals["plotly"] = plotly_version()
    return environment


@cache
def plotly_version() -> str:
    """Of the installed plotting library, in the address of its script."""
    from importlib.metadata import version

    return version("plotly")


def _short(at: float) -> str:
    then = datetime.fromtimestamp(at).astimezone()
    today = time.time() - at < 86_400
    return then.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M")


def _digest(folder: Path) -> str:
    content = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        content.update(path.read_bytes())
    return content.hexdigest()[:12]


def authenticator(request: Request) -> Authenticator:
    """Of the application that answers."""
    found: Authenticator = request.app.state.authenticator
    return found


def render(request: Request, name: str, status: int = 200, **values: Any) -> Response:
    """A page, with a session where the browser has none and needs no key for one."""
    auth = authenticator(request)
    who: Principal | None = getattr(request.state, "principal", None)
    response = Response(media_type="text/html", status_code=status)
    csrf = "" if who is None else who.csrf
    if csrf is None:
        csrf = auth.sessions.begin(response, None)
    common = {"csrf": csrf, "who": who, "problem": None, "here": "", "signed_in": False}
    session = auth.sessions.read(request)
    common["signed_in"] = session is not None and session[0] is not None
    page = templates().get_template(name).render(common | values)
    response.body = page.encode()
    response.headers["content-length"] = str(len(response.body))
    response.headers["cache-control"] = "no-store"
    return response


def to(path: str) -> Response:
    """Go there: the answer to a form."""
    return RedirectResponse(path, 303)


Handler = Callable[..., Awaitable[Response]]


def page(scope: Scope) -> Callable[[Callable[..., Any]], Handler]:
    """A page that somebody with a scope may see; others are asked for their key.

    What the API would answer as a problem is shown as a page.
    """

    def wrap(function: Callable[..., Any]) -> Handler:
        @wraps(function)
        async def handler(request: Request, **values: Any) -> Response:
            who = await run_in_threadpool(authenticator(request).principal, request)
            if who is None:
                return to(f"/login?next={quote(request.url.path)}")
            request.state.principal = who
            try:
                if not who.scope.includes(scope):
                    raise Problem(
                        403, f"The key has the scope {who.scope}; this page needs {scope}."
                    )
                if request.method == "POST":
                    form = await request.form(max_files=1000, max_fields=5000)
                    check_token(str(form.get("csrf") or request.query_params.get("csrf")), who.csrf)
                    request.state.form = form
                found: Response = await run_in_threadpool(function, request, **values)
                return found
            except Exception as error:
                told = problem_of_form(error)
                if told is None:
                    raise
                return await run_in_threadpool(
                    render, request, "problem.html", told.status, problem=told, title="Not done"
                )

        handler.scope = scope  # type: ignore[attr-defined]
        return handler

    return wrap


def problem_of_form(error: Exception) -> Problem | None:
    """As the API tells it; a form's texts are checked by the models of the API's requests."""
    return of_validation(error) if isinstance(error, ValidationError) else problem_of(error)


def form_values(request: Request) -> dict[str, str]:
    """Texts of the form that were filled in."""
    form: FormData = request.state.form
    return {
        name: value.strip()
        for name, value in form.items()
        if isinstance(value, str) and value.strip() and name != "csrf"
    }


def number(name: str, text: str) -> float:
    """The number that a field of a form holds.

    Raises:
        BadInput: it holds none.
    """
    try:
        return float(text)
    except ValueError:
        raise BadInput(
            f"{name} is no number",
            value=text,
            bound="a number",
            remedy="Write it with digits.",
            field=name,
        ) from None
