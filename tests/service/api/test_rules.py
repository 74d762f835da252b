"""Who may do what: every route has a rule, and it holds."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from edge.errors import BadInput
from service.api.auth import Needs, check_exposure
from service.api.settings import make_settings
from service.jobs.model import Scope
from service.jobs.store import Store
from tests.service.api.conftest import Tenants

#: routes that anybody may ask
OPEN = {"/healthz", "/readyz", "/metrics", "/login", "/static/{name}"}


def _routes(app: FastAPI) -> list[APIRoute]:
    found: list[APIRoute] = []

    def collect(routes: Any) -> None:
        for route in routes:
            if isinstance(route, APIRoute):
                found.append(route)
            elif hasattr(route, "original_router"):
                collect(route.original_router.routes)
            elif hasattr(route, "routes"):
                collect(route.routes)

    collect(app.routes)
    return found


def _rule(route: APIRoute) -> Scope | None:
    for dependency in route.dependant.dependencies:
        if isinstance(dependency.call, Needs):
            return dependency.call.scope
    scope: Scope | None = getattr(route.endpoint, "scope", None)
    return scope


def _api(app: FastAPI) -> list[tuple[str, str, Scope]]:
    """Method, path and scope of every operation, as the application tells them."""
    found = []
    for route in _routes(app):
        rule = _rule(route)
        if rule is not None and not hasattr(route.endpoint, "scope"):
            found += [(method, route.path, rule) for method in sorted(route.methods or ())]
    return found


def test_every_route_has_a_rule(app: FastAPI) -> None:
    routes = _routes(app)
    assert len(routes) > 40
    assert [route.path for route in routes if _rule(route) is None and route.path not in OPEN] == []


def test_every_operation_asks_for_its_scope_and_hides_other_tenants(
    app: FastAPI, client: TestClient, tenants: Tenants, store: Store
) -> None:
    theirs = store.create_job(tenant="theirs", name="secret", spec={}, created_by="key_x")
    for method, path, rule in _api(app):
        url = "/api/v1" + path.removeprefix("/api/v1").replace("{id}", theirs.id)
        assert client.request(method, url).status_code == 401, (method, path)
        for scope in Scope:
            headers = tenants.headers("ours", scope)
            if "/events" in path:
                headers["accept"] = "application/json"
                if path.endswith("/events") and "{id}" not in path:
                    continue  # a stream that does not end
            status = client.request(method, url, headers=headers).status_code
            if not scope.includes(rule):
                assert status == 403, (method, path, scope)
            elif "{id}" in path:
                assert status in (404, 422), (method, path, scope, status)
            else:
                assert status < 500, (method, path, scope, status)
    assert store.get_job("theirs", theirs.id) == theirs
    listed = client.get("/api/v1/jobs", headers=tenants.headers("ours", "admin")).json()
    assert listed["items"] == []


def test_a_revoked_key_is_nobodys(client: TestClient, store: Store) -> None:
    store.create_key(tenant="ours", name="other", scope="admin")
    key, secret = store.create_key(tenant="ours", name="mine", scope="read")
    headers = {"Authorization": f"Bearer {secret}"}
    assert client.get("/api/v1/jobs", headers=headers).status_code == 200
    store.revoke_key("ours", key.id)
    answer = client.get("/api/v1/jobs", headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"


def test_a_service_for_other_machines_needs_a_key(store: Store, settings: Any) -> None:
    exposed = make_settings(folder=settings.folder, host="0.0.0.0")
    with pytest.raises(BadInput, match=r"got --host 0\.0\.0\.0, and no key.*keys create"):
        check_exposure(store, exposed)
    store.create_key(tenant="ours", name="mine", scope="admin")
    check_exposure(store, exposed)


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS"])
def test_other_hosts_and_other_sites_are_refused(client: TestClient, method: str) -> None:
    rebound = client.request(method, "/api/v1/jobs", headers={"Host": "evil.example:8700"})
    assert rebound.status_code == 421
    assert "evil.example" in rebound.json()["detail"]
    for origin in ("http://evil.example", "null", "http://127.0.0.1:9999"):
        answer = client.request(method, "/api/v1/jobs", headers={"Origin": origin})
        assert answer.status_code == 403, origin
    own = client.get("/api/v1/jobs", headers={"Origin": "http://127.0.0.1:8700"})
    assert own.status_code == 200
    assert "frame-ancestors 'none'" in own.headers["content-security-policy"]


def test_a_change_from_the_page_needs_its_token(client: TestClient, store: Store) -> None:
    job = store.create_job(tenant="local", name="job", spec={}, created_by="local")
    page = client.get("/").text  # begins a session
    token = page.partition('name="csrf" content="')[2].partition('"')[0]
    assert len(token) == 64
    cookie = client.cookies.jar
    assert all(one.has_nonstandard_attr("HttpOnly") for one in cookie)
    url = f"/api/v1/jobs/{job.id}/cancel"
    assert client.post(url).status_code == 403
    assert client.post(url, headers={"X-CSRF-Token": "0" * 64}).status_code == 403
    assert client.post(url, headers={"X-CSRF-Token": token}).status_code == 200
    assert client.post(f"/jobs/{job.id}/delete").status_code == 403
    assert store.get_job("local", job.id) is not None


def test_nobody_is_sent_elsewhere_after_signing_in(client: TestClient, store: Store) -> None:
    _, secret = store.create_key(tenant="ours", name="mine", scope="admin")
    for target in ("https://evil.example", "//evil.example", "/\\evil.example"):
        data = {"key": secret, "next": target}
        answer = client.post("/login", data=data, follow_redirects=False)
        assert answer.status_code == 303
        assert answer.headers["location"] == "/"
    assert "signed" not in client.post("/login", data={"key": "wrong"}).text
    assert client.get("/keys").status_code == 200
