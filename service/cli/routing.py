"""``understudy route``: another router, or another threshold, for a student that is trained."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from edge.errors import BadInput
from search.job.spec import GOAL, ROUTING, make_spec, overridden
from service.cli.environment import needs_search, own_code
from service.cli.options import STRICT_HELP, as_values, takes_fields

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]


@takes_fields(("teacher", "data", *ROUTING))
def route(
    path: Annotated[Path, typer.Argument(help="Folder of a finished run, or of a bundle.")],
    out: Annotated[
        Path | None, typer.Option(help="New folder for a bundle that is turned; else in place.")
    ] = None,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace", help="Of a run: put bundle and report in the place of the old ones."
        ),
    ] = False,
    as_json: AsJson = False,
    strict: Annotated[bool, typer.Option("--strict", help=STRICT_HELP)] = False,
    **options: Any,
) -> None:
    """Choose a router and its threshold anew; nothing is searched.

    In a RUN routers are fitted, ranked and calibrated again, and a new bundle and report are put
    beside the old ones, as bundle-2 and report-2.html, in seconds unless folds or a joint two-head
    student ask for trainings. Of a BUNDLE alone the threshold is turned, by the calibration rows
    that it keeps.
    """
    needs_search("Routing")
    chosen = as_values(options)
    if (path / "manifest.json").is_file():
        _turn(path, chosen, out, as_json, strict)
    elif (path / "job.yaml").is_file():
        _again(path, chosen, out, replace, as_json, strict)
    else:
        raise BadInput(
            f"{path} is neither a run nor a bundle",
            value="no job.yaml and no manifest.json in it" if path.is_dir() else "no such folder",
            bound="what `understudy search` left in --out, or its folder named bundle",
            remedy="Look for that folder; a run that is not finished has no bundle yet.",
        )


def _turn(
    bundle: Path, chosen: Mapping[str, Any], out: Path | None, as_json: bool, strict: bool
) -> None:
    from routers.calibration.goal_options import chosen_goal

    for name in set(chosen) - set(GOAL):
        raise BadInput(
            f"--{name} cannot be changed in a bundle",
            value=chosen[name],
            bound="the goal of the threshold: " + ", ".join(_flags(GOAL)),
            remedy="Name the folder of the run: a router is fitted on rows that a bundle lacks.",
        )
    goal = chosen_goal(chosen)
    from search.packaging.recalibrate import turn

    found = turn(bundle, goal, out)
    if as_json:
        point = found.expected
        typer.echo(
            json.dumps(
                {
                    "bundle": str(out or bundle),
                    "goal": dict(chosen),
                    "threshold": found.threshold,
                    "met": found.verdict == "met",
                    "part": "calibration",
                    "rows": point.rows,
                    "appeals": point.appeals,
                    "accuracy": point.accuracy,
                    "acc_i": point.acc_i,
                    "student_accuracy": point.student_accuracy,
                    "teacher_accuracy": point.teacher_accuracy,
                    "warning": found.warning,
                    "doubt": found.doubt,
                }
            )
        )
    else:
        typer.echo(found.words())
        if found.warning:
            typer.echo(f"Note: {found.warning}")
        typer.echo(f"bundle  {out or bundle}")
    if strict:
        from search.packaging.recalibrate import standing
        from service.cli.progress import end_strictly

        end_strictly(standing(out or bundle))


def _again(
    run: Path,
    chosen: Mapping[str, Any],
    out: Path | None,
    replace: bool,
    as_json: bool,
    strict: bool,
) -> None:
    from search.job.run_folder import RunFolder

    folder = RunFolder(run)
    if out is not None:
        raise BadInput(
            "--out goes with a bundle",
            value=str(out),
            bound="no --out for a run, whose new bundle lies in its folder",
            remedy="Leave it out: the new bundle goes beside the old one, or with --replace in its "
            "place.",
        )
    if not folder.result.is_file():
        raise BadInput(
            f"the run {run} is not finished",
            value="no result.json",
            bound="a run with a trained student",
            remedy=f"Go on with it: understudy search --resume --out {run}.",
        )
    spec = make_spec(overridden(folder.stored_job().model_dump(), chosen))
    own_code(spec.teacher)
    from search.preparation.validate import check_inputs

    check_inputs(spec, resume=True, trusted=True)
    with folder.claimed(new=False) as claim:
        from search.pipeline import run as work  # what can be refused was: this takes seconds
        from service.cli.progress import show

        events = work(spec, resume=True, again=True, beside=not replace, claim=claim, trusted=True)
        show(events, resume=spec.out, as_json=as_json, strict=strict)


def _flags(names: tuple[str, ...]) -> list[str]:
    return ["--" + name.replace("_", "-") for name in names]
