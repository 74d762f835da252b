"""``understudy rerank | tune | export``: what a run's candidates say, without a new search."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.options import REWARD_FIELDS, takes_fields

if TYPE_CHECKING:
    from search.rerank import Reranking

RunPath = Annotated[Path, typer.Argument(help="Folder of a run, finished or not.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]


@takes_fields(REWARD_FIELDS)
def rerank(
    run: RunPath,
    top: Annotated[int, typer.Option(min=1, help="Candidates to show.")] = 10,
    finalize: Annotated[
        bool, typer.Option("--finalize", help="Train and ship the winner, in a new run.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder of that new run; else RUN-2 and so on.")
    ] = None,
    as_json: AsJson = False,
    **options: Any,
) -> None:
    """Rank a run's candidates anew under other weights, thresholds and limits: nothing is trained.

    What is not given stays as the run had it.
    """
    from search.rerank import rerank as ranked
    from search.standings import read_run

    given = {name: value for name, value in options.items() if value is not None}
    found = ranked(read_run(str(run)), given)
    if not as_json:
        _print_reranking(found, top)
    elif not finalize:
        typer.echo(json.dumps(found.result(top)))
    if finalize:
        _finalize(found, run, given, out, as_json)


def _finalize(
    found: Reranking, run: Path, given: dict[str, Any], out: Path | None, as_json: bool
) -> None:
    from service.cli import need

    need("search", "Training the winner")
    from search.finalize import adopt, free_name
    from search.pipeline import run as work
    from service.progress import show

    target = str(out or free_name(run))
    words = ["understudy", "rerank", str(run)]
    for name, value in given.items():
        words += ["--" + name.replace("_", "-"), str(value)]
    spec = adopt(found, target, shlex.join([*words, "--finalize", "--out", target]))
    show(work(spec, resume=True, trusted=True), resume=target, as_json=as_json)


def _print_reranking(found: Reranking, top: int) -> None:
    from rich.table import Table

    from service.tables import print_table

    said = found.result(top)
    table = Table(title=f"{said['candidates']:,} candidates of {said['run']}", title_justify="left")
    table.add_column("")
    table.add_column("before", justify="right")
    table.add_column("after", justify="right")
    for name in said["after"]:
        if name != "winner":
            table.add_row(name, *(_value(said[side].get(name)) for side in ("before", "after")))
    table.add_section()
    for name in ("number", "kb", "compression", "accuracy", "drop", "reward"):
        winners = [said[side]["winner"][name] for side in ("before", "after")]
        table.add_row(_HEADS[name], *(_shown(name, value) for value in winners))
    print_table(table)
    for line in said["why"]:
        typer.echo(f"- {line}")
    best = Table(title="Best now", title_justify="left")
    for name in ("number", "kb", "accuracy", "drop", "reward"):
        best.add_column(_HEADS[name].removeprefix("winner's "), justify="right")
    best.add_column("coefficients")
    for row in said["table"]:
        cells = [_shown(name, row[name]) for name in ("number", "kb", "accuracy", "drop", "reward")]
        best.add_row(*cells, " ".join(f"{value:g}" for value in row["coefficients"]))
    print_table(best)


_HEADS = {
    "number": "winner's number",
    "kb": "winner's KB",
    "compression": "winner's C",
    "accuracy": "winner's accuracy",
    "drop": "winner's drop, points",
    "reward": "winner's reward",
}


def _shown(name: str, value: float) -> str:
    if name == "accuracy":
        return f"{value:.2%}"
    if name == "drop":
        return f"{value * 100:+.2f}"
    return f"{value:,.1f}" if name == "kb" else f"{value:.4g}"


def _value(value: Any) -> str:
    return "not set" if value is None else f"{value:.4g}" if isinstance(value, float) else value


def export(
    run: RunPath,
    csv: Annotated[
        Path | None, typer.Option(help="CSV file to write; else it goes to stdout.")
    ] = None,
) -> None:
    """Write a run's candidates as CSV: one row each, a column for every layer's coefficient."""
    from search.standings import read_run
    from search.table import write_csv

    found = read_run(str(run))
    if csv is None:
        write_csv(found, sys.stdout)
        return
    write_csv(found, csv)
    typer.echo(f"{len(found.columns):,} candidates: {csv}", err=True)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (rerank, export):
        app.command()(command)
