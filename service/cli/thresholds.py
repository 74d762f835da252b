"""``understudy rerank | tune | export``: what a run's candidates say, without a new search."""

from __future__ import annotations

import json
import shlex
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.environment import needs_search, own_code
from service.cli.options import REWARD_FIELDS, takes_fields

if TYPE_CHECKING:
    from search.analysis.rerank import Reranking
    from search.job.spec import JobSpec

RunPath = Annotated[Path, typer.Argument(help="Folder of a run, finished or not.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]


@takes_fields((*REWARD_FIELDS, "teacher", "data"))
def rerank(
    run: RunPath,
    top: Annotated[int, typer.Option(min=1, help="Candidates to show.")] = 10,
    picture: Annotated[
        Path | None, typer.Option(help="Draw candidates and winners as .svg or .png.")
    ] = None,
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
    _check("Re-ranking")
    from search.analysis.rerank import rerank as ranked
    from search.analysis.scored_trials import read_run

    given = {name: value for name, value in options.items() if value is not None}
    found = ranked(read_run(str(run)), given)
    if picture is not None:
        from search.analysis.rerank_plot import (
            write_picture,  # a third of a second that others save
        )

        write_picture(found, picture)
    if not as_json:
        _print_reranking(found, top)
        if picture is not None:
            typer.echo(f"picture   {picture}")
    elif not finalize:
        typer.echo(json.dumps(found.result(top)))
    if finalize:
        _finalize(found, run, given, out, as_json)


def _finalize(
    found: Reranking, run: Path, given: dict[str, Any], out: Path | None, as_json: bool
) -> None:
    from search.analysis.adopt_run import adopt, free_name

    target = str(out or free_name(run))
    words = ["understudy", "rerank", str(run)]
    for name, value in given.items():
        words += ["--" + name.replace("_", "-"), str(value)]
    own_code(found.after.spec.teacher)
    spec = adopt(found, target, shlex.join([*words, "--finalize", "--out", target]))
    from search.pipeline import run as work  # what can be refused was: this takes seconds
    from service.cli.progress import show

    show(work(spec, resume=True, trusted=True), resume=target, as_json=as_json)


def _print_reranking(found: Reranking, top: int) -> None:
    from rich.table import Table

    from service.cli.tables import print_table

    said = found.result(top)
    table = Table(title=f"{said['candidates']:,} candidates of {said['run']}", title_justify="left")
    table.add_column("")
    table.add_column("before", justify="right")
    table.add_column("after", justify="right")
    for name in said["after"]:
        if name != "winner":
            table.add_row(name, *(_value(said[side].get(name)) for side in ("before", "after")))
    table.add_section()
    shown = [said["before"]["winner"], said["after"]["winner"], *said["table"]]
    heads = [name for name in _HEADS if any(row[name] is not None for row in shown)]
    for name in heads:
        winners = [said[side]["winner"][name] for side in ("before", "after")]
        table.add_row(_HEADS[name], *(_shown(name, value) for value in winners))
    print_table(table)
    for line in said["why"]:
        typer.echo(f"- {line}")
    best = Table(title="Best now", title_justify="left")
    for name in heads:
        best.add_column(_HEADS[name].removeprefix("winner's "), justify="right")
    for row in said["table"]:
        best.add_row(*(_shown(name, row[name]) for name in heads))
    print_table(best)


_HEADS = {
    "number": "winner's number",
    "kb": "winner's KB",
    "compression": "winner's C",
    "accuracy": "winner's accuracy, proxy",
    "expected": "winner's expected",
    "measured": "winner's measured",
    "drop": "winner's drop, points",
    "reward": "winner's reward",
}


def _shown(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    if name in ("accuracy", "expected", "measured"):
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
    _check("An export")
    from search.analysis.csv_export import write_csv
    from search.analysis.scored_trials import read_run

    found = read_run(str(run))
    if csv is None:
        write_csv(found, sys.stdout)
        return
    write_csv(found, csv)
    typer.echo(f"{len(found.columns):,} candidates: {csv}", err=True)


@takes_fields((*REWARD_FIELDS, "teacher", "data", "budget", "sampler", "batch", "workers", "ray"))
def tune(
    run: Annotated[Path, typer.Argument(help="Folder of a run, or the YAML file of its job.")],
    target: Annotated[
        str,
        typer.Option(
            help="smallest (within --max-drop), accurate (within --max-kb) or hypervolume."
        ),
    ] = "smallest",
    page: Annotated[
        Path | None, typer.Option(help="HTML page to write; else tune.html in the run.")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(help="Write the map over C0 and A0 as .svg or .png too.")
    ] = None,
    train: Annotated[
        bool, typer.Option("--train", help="Search anew under many thresholds, with Ray Tune.")
    ] = False,
    trials: Annotated[int, typer.Option(min=1, help="Searches of --train.")] = 16,
    as_json: AsJson = False,
    **options: Any,
) -> None:
    """Find the weights and thresholds under which the reward chooses what you are after.

    Over the candidates of a run nothing is trained; with --train every trial is a search.
    """
    _check("Tuning")
    from edge.errors import check_member
    from search.analysis.scored_trials import read_run
    from search.analysis.tune import TARGETS
    from search.analysis.tune import tune as tuned

    check_member("target", target, TARGETS, "Choose one of these for --target.")
    spec = _job_of(run, options)
    if train:
        _train(spec, target, trials, as_json)
        return
    found_run = read_run(spec.out)
    found = tuned(found_run, spec, target)
    from search.analysis.tune_page import write_page
    from search.analysis.tune_plots import write_picture

    page = page or found_run.folder.root / "tune.html"
    if picture is not None:
        write_picture(found, picture)
    write_page(found, page)
    said = found.result() | {"page": str(page)}
    if as_json:
        typer.echo(json.dumps(said))
    else:
        _print_tuning(said)


def _job_of(path: Path, options: dict[str, Any]) -> JobSpec:
    """The job of a run, named by its folder or by the job's file, under the options given."""
    from search.job.run_folder import RunFolder
    from search.job.spec import make_spec
    from search.job.spec_file import read_yaml

    given = {name: value for name, value in options.items() if value is not None}
    values = read_yaml(path) if path.is_file() else RunFolder(path).stored_job().model_dump()
    return make_spec(values | given)


def _train(spec: JobSpec, target: str, trials: int, as_json: bool) -> None:
    from edge.errors import BadInput
    from search.analysis.scored_trials import read_run
    from search.analysis.tune import check_limits
    from search.analysis.tune_study import train_thresholds
    from search.job.events import Event
    from search.job.run_folder import RunFolder
    from service.cli.progress import event_text
    from service.cli.streams import console

    check_limits(target, spec)
    own_code(spec.teacher)
    err = console(stderr=True, markup=True)
    known = None
    if RunFolder(spec.out).facts.exists():
        with suppress(BadInput):  # a run without a candidate has nothing to tell
            known = read_run(spec.out)

    def tell(event: Event) -> None:
        if text := event_text(event):
            err.print(text)

    said = train_thresholds(spec, target, trials, known, tell, trusted=True)
    if as_json:
        typer.echo(json.dumps(said))
        return
    best, own = said["best"], said["own"]
    typer.echo(f"searches  {len(said['trials'])}, of {said['candidates']:,} candidates in all; "
               f"{said['distilled']:,} had to be distilled")  # fmt: skip
    if own is not None:
        typer.echo(f"job's own {own['text']}")
    typer.echo(f"best      {best['text']}")
    typer.echo(f"options   {said['options']}")


def _print_tuning(said: dict[str, Any]) -> None:
    def short(row: dict[str, Any]) -> str:
        return f"candidate {row['number']}, {row['kb']:,.1f} KB, expected {row['expected']:.2%}"

    typer.echo(f"target    {said['target']}")
    typer.echo(f"best      {short(said['best'])}")
    typer.echo(f"now       {short(said['now'])}")
    if said["selected"]:
        typer.echo(f"select it {said['options']}")
        typer.echo(f"room      {said['share']:.0%} of the map over C0 and A0 select it too")
    else:
        typer.echo("no setting that was tried selects it: it is no best compromise of the reward")
        typer.echo(f"nearest   {short(said['chosen'])}: {said['options']}")
    typer.echo(f"picture   {said['page']}")


def _check(what: str) -> None:
    needs_search(what)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (rerank, tune, export):
        app.command()(command)
