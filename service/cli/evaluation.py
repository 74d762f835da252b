"""``understudy evaluate``: edge, cloud and both together on data of the user's choice."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from edge.errors import BadInput
from service.cli.environment import needs_search
from service.cli.options import STRICT_HELP
from service.cli.places import bundle_of, is_run

if TYPE_CHECKING:
    from edge.preprocess import Preprocess
    from teachers.data.datasets import Dataset
    from teachers.data.source import Table


def evaluate(
    bundle: Annotated[Path, typer.Argument(help="Folder of a bundle, or of a run that has one.")],
    teacher: Annotated[
        str | None,
        typer.Option(
            help="Who answers the appeals: .onnx, as in cloud/, or .safetensors; of a run its own."
        ),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Labelled data, as for a search; of a run its own.")
    ] = None,
    rows: Annotated[
        str | None,
        typer.Option(help="test (the test table) or all; else the test table if there is one."),
    ] = None,
    cost_per_appeal: Annotated[
        float | None,
        typer.Option(help="What an appeal costs you, to be told beside MACs and bytes."),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="SVG picture to write: accuracy over appealing rate.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = (
        False
    ),
    strict: Annotated[bool, typer.Option("--strict", help=STRICT_HELP)] = False,
) -> None:
    """Measure a bundle: edge only, cloud only, cooperation and the oracle, for every class too."""
    needs_search("Evaluating a bundle")
    if rows not in (None, "test", "all"):
        raise BadInput("--rows", value=rows, bound="test or all", remedy="Choose one of them.")
    if cost_per_appeal is not None and not 0 <= cost_per_appeal < math.inf:
        raise BadInput(
            "--cost-per-appeal",
            value=cost_per_appeal,
            bound="a number of at least 0",
            remedy="Give the price of one appeal, in any unit.",
        )
    teacher, data = _named(bundle, teacher, data)
    bundle = bundle_of(bundle)
    from edge.bundle import load_bundle
    from teachers.data.class_names import fit_classes
    from teachers.data.datasets import open_dataset

    loaded = load_bundle(bundle)
    look, names = loaded.manifest.preprocess, loaded.manifest.class_names
    table = fit_classes(open_dataset(data), len(names), names)
    for remark in table.remarks:
        typer.echo(f"Note: {remark.text}", err=True)
    chosen = _rows(rows, table)
    with _as_onnx(teacher, look.input_shape) as file, _read(table, look) as images:
        from search.report.bundle_evaluation import evaluate as measured
        from service.cli.tables import counted

        with counted("rows", len(images.labels)) as on_rows:
            found = measured(loaded, file, images, chosen, on_rows, cost_per_appeal=cost_per_appeal)
    said = {"bundle": str(bundle), **found.result()}
    if plot is not None:
        plot.write_text(found.picture(), encoding="utf-8")
        said["plot"] = str(plot)
    if as_json:
        typer.echo(json.dumps(said))
    else:
        _print(said)
    if strict:
        from service.cli.progress import end_strictly

        end_strictly([warning.name for warning in found.warnings])


def _rows(asked: str | None, table: Table) -> Literal["test", "all"]:
    """Which rows to measure on; without a test table, and unless it is asked for, all of them."""
    if asked == "test" or (asked is None and len(table.labels) > table.train_rows):
        return "test"
    if asked is None:
        typer.echo(
            f"Note: {table.name} has no test table: all rows are taken, and student and teacher "
            "may have learnt from them",
            err=True,
        )
    return "all"


@contextmanager
def _read(table: Table, look: Preprocess) -> Iterator[Dataset]:
    """The data in memory or, beyond what a job would hold there, in a file for the time being."""
    from search.job.machine import image_budget
    from teachers.data.datasets import map_dataset, read_dataset
    from teachers.data.image_file import image_bytes

    if image_bytes(table, look) <= image_budget(None):
        yield read_dataset(table, look)
        return
    with tempfile.TemporaryDirectory() as folder:
        steps = map_dataset(table, look, (), Path(folder))
        while True:
            try:
                next(steps)
            except StopIteration as end:
                yield end.value
                return


def _named(path: Path, teacher: str | None, data: str | None) -> tuple[str, str]:
    """Teacher and data; what is not named is the run's own, where it is a run."""
    if is_run(path) and (teacher is None or data is None):
        from search.job.run_folder import RunFolder

        folder = RunFolder(path)
        return teacher or str(folder.cloud_teacher), data or folder.stored_job().data
    for name, value in (("teacher", teacher), ("data", data)):
        if value is None:
            raise BadInput(
                f"evaluating a bundle takes --{name}",
                value="none",
                bound="one, beside the folder of a bundle",
                remedy=f"Give --{name}, or name the folder of the run, which knows its own.",
            )
    assert teacher is not None
    assert data is not None
    return teacher, data


@contextmanager
def _as_onnx(teacher: str, shape: tuple[int, ...]) -> Iterator[Path]:
    """The teacher as an ONNX file; other forms are exported for the time being."""
    if teacher.endswith(".onnx"):
        yield Path(teacher)
        return
    from envs.export.export import to_onnx
    from teachers.formats.description import understand
    from teachers.formats.formats import check_teacher, load_teacher

    check_teacher(teacher)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "teacher.onnx"
        module = understand(load_teacher(teacher)).teacher.module
        file.write_bytes(to_onnx(module, (shape[0], shape[1], shape[2])))
        yield file


def _print(said: Mapping[str, Any]) -> None:
    from rich.table import Table

    from service.cli.tables import print_table

    table = Table(title=f"{said['rows']:,} rows, {said['part']}", title_justify="left")
    for head in ("", "rows", "edge only", "cloud only", "cooperation", "oracle", "appealed"):
        table.add_column(head, justify="left" if not head else "right")
    shares = ("edge_only", "cloud_only", "cooperation", "oracle", "appeals")
    table.add_row("all", f"{said['rows']:,}", *(f"{said[name]:.2%}" for name in shares))
    table.add_section()
    for row in said["classes"]:
        own = (row[name] for name in ("student", "teacher", "pair", "oracle", "appeals"))
        table.add_row(row["name"], f"{row['rows']:,}", *(f"{value:.2%}" for value in own))
    print_table(table)
    gap = "no gap to win back" if said["acc_i"] is None else f"AccI {said['acc_i']:.1%}"
    typer.echo(
        f"router {said['router']}: {gap}; an oracle with as many appeals reaches "
        f"{said['oracle_at']:.2%}; area {said['area']:.4f} of {said['oracle_area']:.4f}"
    )
    for unit, cost in said["costs"].items():
        pair, edge, cloud = (
            f"{cost[name]:,.0f}" if cost[name] >= 100 else f"{cost[name]:.3g}"
            for name in ("cooperation", "edge_only", "cloud_only")
        )
        typer.echo(f"{unit:<7} {pair} an input; edge alone {edge}, cloud alone {cloud}")
    for warning in said["warnings"]:
        typer.echo(f"Warning: {warning['text']}")
    if "plot" in said:
        typer.echo(f"plot    {said['plot']}")
