"""Pages about who may do what, and about what was uploaded."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from service.api.context import context
from service.api.problems import Problem, not_found
from service.api.routes import keys as api_keys
from service.api.routes.content import delete_content
from service.api.schemas import ContentView, KeyRequest, KeyView
from service.jobs.model import Scope
from service.web.rendering import authenticator, form_values, page, render, to

router = APIRouter(include_in_schema=False)
#: what a path of the page names → a kind of content
KINDS = {"teachers": "teacher", "datasets": "dataset"}


@router.get("/login")
def login(request: Request, next: str = "/") -> Response:
    """Ask for a key."""
    return render(request, "login.html", next=_own(next))


@router.post("/login")
async def sign_in(request: Request) -> Response:
    """Begin a session of a key."""
    form = await request.form()
    auth = authenticator(request)
    key = auth.store.find_key(str(form.get("key", "")).strip())
    if key is None:
        problem = Problem(401, "There is no such key, or it was revoked.")
        return render(request, "login.html", 401, next="/", problem=problem)
    response = to(_own(str(form.get("next", "/"))))
    auth.sessions.begin(response, key)
    auth.store.audit(tenant=key.tenant, who=key.id, action="sign-in", target=key.id)
    return response


def _own(path: str) -> str:
    """A path of this service: nobody is sent elsewhere."""
    return path if path.startswith("/") and not path.startswith(("//", "/\\")) else "/"


@router.post("/logout")
@page(Scope.READ)
def logout(request: Request) -> Response:
    """End the session."""
    from service.api.auth import COOKIE

    response = to("/login")
    response.delete_cookie(COOKIE, path="/")
    return response


@router.get("/content")
@page(Scope.READ)
def content(request: Request) -> Response:
    """Teachers and data."""
    store, tenant = context(request).store, request.state.principal.tenant
    return render(
        request,
        "content.html",
        here="content",
        teachers=[ContentView.of(one) for one in store.list_teachers(tenant, limit=200).items],
        datasets=[ContentView.of(one) for one in store.list_datasets(tenant, limit=200).items],
    )


@router.post("/content/{kind}/{id}/delete")
@page(Scope.SUBMIT)
def delete(request: Request, kind: str, id: str) -> Response:
    """Remove a teacher or data."""
    if kind not in KINDS:
        raise not_found("kind of content", kind)
    delete_content(context(request), KINDS[kind], request.state.principal, id)
    return to("/content")


@router.get("/keys")
@page(Scope.ADMIN)
def keys(request: Request) -> Response:
    """Keys of the tenant."""
    return _keys(request, None)


@router.post("/keys")
@page(Scope.ADMIN)
def create(request: Request) -> Response:
    """Make a key and show it this once."""
    asked = KeyRequest.model_validate(form_values(request))
    made = api_keys.create(asked, request.state.principal, context(request))
    return _keys(request, made.secret)


@router.post("/keys/{id}/revoke")
@page(Scope.ADMIN)
def revoke(request: Request, id: str) -> Response:
    """Make a key useless."""
    api_keys.revoke(id, request.state.principal, context(request))
    return to("/keys")


def _keys(request: Request, secret: str | None) -> Response:
    found = context(request).store.list_keys(request.state.principal.tenant)
    return render(
        request, "keys.html", here="keys", keys=[KeyView.of(key) for key in found], secret=secret
    )
