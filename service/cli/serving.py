"""``understudy serve | keys``: the service, and who may use it."""

from __future__ import annotations

import importlib.util
import json
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge.errors import BadInput, MissingExtra, check_member
from service.api.settings import Settings, make_settings
from service.cli.options import as_values, takes_fields

if TYPE_CHECKING:
    from service.jobs.store import Store

Folder = Annotated[Path, typer.Option(help="Folder of everything that the service keeps.")]
Database = Annotated[
    str | None, typer.Option(help="SQLAlchemy URL of the store; else SQLite in the folder.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
DEFAULT_FOLDER = Settings.model_fields["folder"].default


@takes_fields(Settings.model_fields, defaults=True, model=Settings)
def serve(**options: Any) -> None:
    """Serve jobs over HTTP, with a page: submit a teacher, watch, tune, download."""
    _needs_service()
    settings = make_settings(**as_values(options))
    from service.web.serving import run

    run(settings)


keys = typer.Typer(help="Keys to the service: made, listed, revoked.", no_args_is_help=True)


@keys.command("create")
def create(
    name: Annotated[str, typer.Option(help="Whose key it is, for people.")],
    scope: Annotated[
        str, typer.Option(help="What it may do.", metavar="[read|submit|admin]")
    ] = "submit",
    tenant: Annotated[
        str, typer.Option(help="Whose jobs and teachers it sees; others cannot.")
    ] = "local",
    max_gb: Annotated[float | None, typer.Option(help="Most its uploads may take, GB.")] = None,
    max_queued: Annotated[int | None, typer.Option(help="Most jobs that wait or run.")] = None,
    max_running: Annotated[int | None, typer.Option(help="Most jobs at a time.")] = None,
    folder: Folder = DEFAULT_FOLDER,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Make a key; its secret is shown this once."""
    check_member("scope", scope, ("read", "submit", "admin"))
    _needs_service()
    from service.jobs.model import Limits

    limits = Limits(None if max_gb is None else int(max_gb * 1e9), max_queued, max_running)
    with _store(folder, database) as store:
        key, secret = store.create_key(tenant=tenant, name=name, scope=scope, limits=limits)
    if as_json:
        typer.echo(json.dumps({"id": key.id, "tenant": tenant, "scope": scope, "key": secret}))
        return
    typer.echo(f"id      {key.id}\ntenant  {tenant}\nscope   {scope}\nkey     {secret}")
    typer.echo("Keep the key: it is not shown again.", err=True)


@keys.command("list")
def list_keys(
    folder: Folder = DEFAULT_FOLDER, database: Database = None, as_json: AsJson = False
) -> None:
    """Show the keys, without their secrets."""
    _needs_service()
    with _store(folder, database) as store:
        found = store.list_keys()
    rows = [
        {
            "id": key.id,
            "name": key.name,
            "tenant": key.tenant,
            "scope": str(key.scope),
            "prefix": key.prefix,
            "last_used_at": key.last_used_at,
            "revoked": key.revoked_at is not None,
        }
        for key in found
    ]
    if as_json:
        typer.echo(json.dumps({"keys": rows}))
        return
    for row in rows:
        typer.echo("  ".join(str(row[name]) for name in ("id", "tenant", "scope", "prefix", "name"))
                   + ("  revoked" if row["revoked"] else ""))  # fmt: skip
    if not rows:
        typer.echo("no keys: whoever reaches the service on this machine may use it")


@keys.command("revoke")
def revoke(id: str, folder: Folder = DEFAULT_FOLDER, database: Database = None) -> None:
    """Make a key useless for ever."""
    _needs_service()
    with _store(folder, database) as store:
        if not store.revoke_key(None, id):
            raise BadInput(
                "there is no such key",
                value=id,
                bound="the id of a key that is good",
                remedy="`understudy keys list` shows them.",
            )
    typer.echo(f"{id} is revoked")


def _needs_service() -> None:
    wanted = ("fastapi", "uvicorn", "sqlalchemy", "alembic", "multipart", "prometheus_client")
    if any(importlib.util.find_spec(package) is None for package in wanted):
        raise MissingExtra("The service", "service")


def _store(folder: Path, database: str | None) -> closing[Store]:
    from service.jobs.store import Store

    settings = make_settings(folder=folder, database=database)
    settings.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return closing(Store.open(settings.url))


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(serve)
    app.add_typer(keys, name="keys")
