"""An application on a store of its own, and a client that speaks to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from service.api.app import create_app
from service.api.settings import Settings, make_settings
from service.jobs.model import Scope
from service.jobs.store import Store
from service.web.serving import pages

BASE = "http://127.0.0.1:8700"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return make_settings(folder=tmp_path / "service", max_upload_mb=4, jobs=0)


@pytest.fixture
def app(settings: Settings) -> FastAPI:
    return create_app(settings, None, pages())


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    """Whoever is on the service's own machine; no key is needed."""
    with TestClient(app, base_url=BASE) as found:
        yield found


@pytest.fixture
def store(app: FastAPI) -> Store:
    found: Store = app.state.context.store
    return found


class Tenants:
    """Keys of two tenants, one of each scope."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._secrets = {
            (tenant, scope): store.create_key(tenant=tenant, name="key", scope=scope)[1]
            for tenant in ("ours", "theirs")
            for scope in Scope
        }

    def headers(self, tenant: str, scope: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._secrets[tenant, Scope(scope)]}"}


@pytest.fixture
def tenants(store: Store) -> Tenants:
    return Tenants(store)
