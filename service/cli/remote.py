"""``understudy login | submit | jobs | cancel | resume | download``: jobs of a service.

Each finds the service by ``--url``, by ``UNDERSTUDY_URL``, or as the last ``login`` kept it. A
job's file is that of a local run.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.options import takes_job
from service.cli.streams import console, print_json

if TYPE_CHECKING:
    from service.client.client import Client
    from service.client.uploads import Tell

Url = Annotated[str | None, typer.Option(help="URL of the service; else the one logged in to.")]
Id = Annotated[str, typer.Argument(help="Id of the job, as `understudy jobs` shows it.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]


def login(
    url: Annotated[str | None, typer.Argument(help="URL of the service.")] = None,
    no_key: Annotated[bool, typer.Option("--no-key", help="The service needs no key.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remember a service and the key to it, for the commands that follow.

    The key is asked for, or read from stdin, or taken from UNDERSTUDY_KEY; never from an option,
    which other users of the machine could read.
    """
    from service.client.client import Client
    from service.client.login import KEY, Secret, Service, find_service, is_loopback, keep

    found = find_service(url)
    key: Secret | None = None
    if not no_key:
        key = Secret(os.environ.get(KEY) or _asked(found.url))
    with Client(found.url, key or Secret("")) as client:
        client.check()
    path = keep(Service(found.url, key or None))
    if key and found.url.startswith("http:") and not is_loopback(found.url):
        console(stderr=True).print("Note: without https:// the key can be read on its way.")
    if as_json:
        print_json({"url": found.url, "key": bool(key), "file": str(path)})
    else:
        typer.echo(f"logged in to {found.url}; kept in {path}")


def _asked(url: str) -> str:
    if sys.stdin.isatty():
        from getpass import getpass

        return getpass(f"Key to {url} (empty for none): ")
    return sys.stdin.readline()


@takes_job
def submit(
    job: Annotated[
        Path | None, typer.Argument(help="YAML file with a job, as for `understudy search`.")
    ] = None,
    url: Url = None,
    name: Annotated[str, typer.Option(help="What the job is called.")] = "",
    priority: Annotated[int, typer.Option(help="Jobs with a higher one come first.")] = 0,
    watch: Annotated[bool, typer.Option("--watch", help="Show how it goes, to its end.")] = False,
    as_json: AsJson = False,
    **options: Any,
) -> None:
    """Submit a job to a service: teacher and data are uploaded unless they are there.

    The job is that of `understudy search`; --out is left out of account: `understudy download`
    fetches what came of it.
    """
    from search.job.spec import make_spec, overridden
    from search.job.spec_file import read_yaml
    from service.cli.options import as_values

    values = overridden({} if job is None else read_yaml(job), as_values(options))
    spec = make_spec(values | {"out": "run"})  # refused here as it would be there, and at once
    given = {field: getattr(spec, field) for field in values if field in type(spec).model_fields}
    given = {field: value for field, value in given.items() if value not in (None, ())}
    with _client(url) as client:
        with _uploading() as tell:
            found = client.submit(given, name=name, priority=priority, tell=tell)
        if watch:
            console(stderr=True).print(f"{found['id']} is submitted")
            show_remote(client, found["id"], as_json)
        elif as_json:
            print_json(found)
        else:
            place = found.get("place_in_queue")
            typer.echo(f"{found['id']}  {found['state']}" + (f", place {place}" if place else ""))
            typer.echo(f"watch it: understudy watch {found['id']}{_url_option(url)}")


def jobs(
    url: Url = None,
    state: Annotated[
        list[str] | None, typer.Option(help="Only jobs in this state; may be given again.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Only jobs with this in their name.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="So many, the newest first.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List the jobs of a service."""
    with _client(url) as client:
        found = list(client.jobs(limit, state=state, name=name))
    if as_json:
        print_json({"jobs": found})
        return
    from rich.table import Table

    from service.cli.tables import print_table

    table = Table()
    for column in ("job", "name", "state"):
        table.add_column(column, overflow="fold")
    for column in ("candidates", "student KB", "student", "pair", "appeals"):
        table.add_column(column, justify="right")
    for row in found:
        told = row["summary"]
        counted = told.get("candidates")
        table.add_row(
            row["id"],
            row["name"],
            row["state"],
            "" if counted is None else f"{counted}/{told.get('budget') or '?'}",
            _number(told.get("student_kb"), "{:,.1f}"),
            *(
                _number(told.get(figure), "{:.2%}")
                for figure in ("student_accuracy", "pair_accuracy", "appeals")
            ),
        )
    if found:
        print_table(table)
    else:
        typer.echo("no jobs")


def cancel(id: Id, url: Url = None, as_json: AsJson = False) -> None:
    """Stop a job within seconds; every finished candidate is kept, and it can be resumed."""
    with _client(url) as client:
        found = client.cancel(id)
    _tell(found, as_json, f"{id} is being cancelled; go on with it: understudy resume {id}")


def resume(
    id: Id,
    url: Url = None,
    budget: Annotated[int | None, typer.Option(help="Candidates in all, to go further.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Stop within about this time.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show how it goes, to its end.")] = False,
    as_json: AsJson = False,
) -> None:
    """Go on with a job where it stopped, or further under a larger budget."""
    with _client(url) as client:
        found = client.resume(id, budget=budget, minutes=minutes)
        if watch:
            show_remote(client, id, as_json)
            return
    _tell(found, as_json, f"{id} is {found['state']}; watch it: understudy watch {id}")


def download(
    id: Id,
    out: Annotated[Path | None, typer.Option(help="New folder for it; else the job's id.")] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Fetch what a finished job shipped: bundle, report, figures and candidates, verified."""
    folder = Path(id) if out is None else out
    with _client(url) as client:
        names = client.download(id, folder)
    if as_json:
        print_json({"job": id, "out": str(folder), "bundle": str(folder / "bundle"),
                    "files": names})  # fmt: skip
    else:
        typer.echo(f"bundle  {folder / 'bundle'}")
        typer.echo(f"try it: understudy predict {folder / 'bundle'} IMAGES")


def watch_remote(id: str, url: str | None, as_json: bool) -> None:
    """``understudy watch`` of a job of a service."""
    from service.client.watching import lines

    with _client(url) as client:
        if not as_json:
            show_remote(client, id)
            return
        client.job(id)
        for line in lines(client, id):
            typer.echo(json.dumps(line))


def show_remote(client: Client, id: str, as_json: bool = False) -> None:
    """Show a job to its end, as one that runs here; Ctrl-C ends the watching alone."""
    from service.cli.progress import watched
    from service.client.watching import told

    result = watched(told(client, id), f"{id} at {client.url}")
    if as_json and result is not None:
        print_json(result)


def _client(url: str | None) -> Client:
    from service.client.client import Client

    return Client(url)


class _uploading:  # noqa: N801 (used as a context manager, as contextlib spells its own)
    """A bar for uploads on a terminal, and a line for each elsewhere."""

    def __enter__(self) -> Tell:
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

        err = console(stderr=True)
        columns = TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn()
        self.bars = Progress(*columns, console=err, transient=True, disable=not err.is_terminal)
        self.task, self.said = self.bars.add_task("", total=None), ""
        self.bars.start()

        def tell(what: str, done: int, total: int) -> None:
            if not err.is_terminal and what != self.said:
                err.print(f"{what}, {total / 1e6:,.1f} MB" if total else what)
            self.said = what
            self.bars.update(self.task, description=what, completed=done, total=total or None)

        return tell

    def __exit__(self, *_: object) -> None:
        self.bars.stop()


def _tell(found: Any, as_json: bool, text: str) -> None:
    if as_json:
        print_json(found)
    else:
        typer.echo(text)


def _url_option(url: str | None) -> str:
    return "" if url is None else f" --url {url}"


def _number(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (login, submit, jobs, cancel, resume, download):
        app.command()(command)
