"""Keys and the audit log of a tenant."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from service.api.auth import Admin
from service.api.context import Shared
from service.api.problems import documented, not_found
from service.api.schemas import AuditView, KeyRequest, KeyView, Listing, NewKeyView, listing

router = APIRouter(tags=["keys"])
REFUSALS = documented(401, 403, 404, 421, 422, 503)


@router.post("/keys", status_code=201, responses=REFUSALS)
def create(request: KeyRequest, who: Admin, shared: Shared) -> NewKeyView:
    """Make a key of this tenant; its secret is shown this once."""
    key, secret = shared.store.create_key(tenant=who.tenant, name=request.name, scope=request.scope)
    shared.store.audit(
        tenant=who.tenant,
        who=who.who,
        action="create-key",
        target=key.id,
        detail={"scope": request.scope, "name": request.name},
    )
    return NewKeyView(**KeyView.of(key).model_dump(), secret=secret)


@router.get("/keys", responses=documented(401, 403, 421, 422, 503))
def list_keys(who: Admin, shared: Shared) -> list[KeyView]:
    """This tenant's keys, without their secrets."""
    return [KeyView.of(key) for key in shared.store.list_keys(who.tenant)]


@router.delete("/keys/{id}", status_code=204, responses=REFUSALS)
def revoke(id: str, who: Admin, shared: Shared) -> Response:
    """Make a key useless for ever."""
    if not shared.store.revoke_key(who.tenant, id):
        raise not_found("key", id)
    shared.store.audit(tenant=who.tenant, who=who.who, action="revoke-key", target=id)
    return Response(status_code=204)


@router.get("/audit", responses=documented(401, 403, 421, 422, 503))
def audit(
    who: Admin,
    shared: Shared,
    target: Annotated[str | None, Query(max_length=100)] = None,
    cursor: Annotated[str | None, Query(max_length=1000)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Listing[AuditView]:
    """Who did what, the latest first."""
    page = shared.store.list_audit(who.tenant, target=target, cursor=cursor, limit=limit)
    return Listing[AuditView].model_validate(listing(page, AuditView))
