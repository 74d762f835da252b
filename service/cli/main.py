"""The command line: ``understudy demo | search | rerank | …``.

Exit codes: 0 done, 1 stopped at an error that says how to go on, 2 bad input (one line says what
and how to mend it), 3 done but a warning stands and ``--strict`` was given, 130 stopped with
Ctrl-C. With ``--json`` the last line of stdout is one JSON object, of an error too; everything else
goes to stderr.
"""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer

from edge.errors import BadInput, MissingExtra, Unfinished
from service.cli import remote, serving, thresholds
from service.cli.environment import needs_search, own_code
from service.cli.evaluation import evaluate
from service.cli.options import STRICT_HELP, job_values, takes_job
from service.cli.profiling import profile
from service.cli.routing import route
from service.cli.streams import console, print_error, print_failure, print_json, spare_no_letter
from service.cli.watching import watch

app = typer.Typer(
    name="understudy",
    help="A small student for the edge, and a router that knows when to ask the teacher.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Strict = Annotated[bool, typer.Option("--strict", help=STRICT_HELP)]


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import PackageNotFoundError, version

        try:
            typer.echo(f"understudy {version('understudy')}")
        except PackageNotFoundError:
            typer.echo("understudy, not installed")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """A small student for the edge, and a router that knows when to ask the teacher."""


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the results; must not exist yet.")] = Path(
        "runs/demo"
    ),
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything that is drawn.")] = 0,
    as_json: AsJson = False,
    strict: Strict = False,
) -> None:
    """Run the main job on scikit-learn's digits, from teacher to bundle, in a minute or two."""
    needs_search("The demo")
    from search.demo import run_demo
    from service.cli.progress import show

    show(run_demo(out, seed), resume=str(out), as_json=as_json, strict=strict)


@app.command()
@takes_job
def search(
    job: Annotated[
        Path | None, typer.Argument(help="YAML file with a job; options override its keys.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    as_json: AsJson = False,
    strict: Strict = False,
    **options: Any,
) -> None:
    """Search a student and a router for a teacher, and pack them into a bundle."""
    needs_search("A search")
    spec = job_values(job, resume, options)
    own_code(spec.teacher)
    from search.preparation.validate import check_inputs
    from search.space.limits import with_room

    spec = with_room(spec)
    check_inputs(spec, resume, trusted=True)  # at once: what follows takes seconds to import
    from search.job.run_folder import RunFolder

    with RunFolder(spec.out).claimed(spec, new=not resume) as claim:
        from search.pipeline import run
        from service.cli.progress import show

        # the command line is its user's own: a teacher may be a function of theirs
        job_events = run(spec, resume=resume, claim=claim, trusted=True)
        show(job_events, resume=spec.out, as_json=as_json, strict=strict)


@app.command()
def inspect(
    teacher: Annotated[
        str, typer.Argument(help="A .safetensors or .onnx file, or package.module:function.")
    ],
    preset: Annotated[str, typer.Option(help="Pool and scaled fields: default or paper.")] = (
        "default"
    ),
    protect: Annotated[
        str, typer.Option(help="Layers that stay, by name or pattern. Comma-separated.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Show a teacher's layers, what each costs, and what may be done with it."""
    needs_search("Inspecting a teacher")
    own_code(teacher)
    from teachers.formats.formats import check_teacher, lacks_json

    if not lacks_json(teacher):
        check_teacher(teacher, trusted=True)  # at once: what follows takes seconds to import
    from search.preparation.inspection import inspect_teacher
    from service.cli.inspection import print_inspection

    patterns = [pattern.strip() for pattern in protect.split(",") if pattern.strip()]
    found = inspect_teacher(teacher, preset, patterns, trusted=True)
    if as_json:
        print_json(found)
    else:
        print_inspection(found)


@app.command()
def predict(
    bundle: Annotated[Path, typer.Argument(help="Folder of a bundle, or of a run that has one.")],
    images: Annotated[
        list[Path], typer.Argument(help="Image files, and folders with images in or below them.")
    ],
    teacher: Annotated[
        Path | None, typer.Option(help="ONNX teacher that answers the appeals.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Classify images on the edge: class, probability, and trust or appeal."""
    from service.cli.prediction import predict_images, print_predictions

    found = predict_images(bundle, images, teacher)
    if as_json:
        print_json(found)
    else:
        print_predictions(found)


@app.command()
def config() -> None:
    """Print a job as commented YAML, with every default."""
    from search.job.spec_file import to_yaml

    typer.echo(to_yaml(), nl=False)


app.command()(profile)
app.command()(route)
app.command()(evaluate)
app.command()(watch)
thresholds.register(app)
serving.register(app)
remote.register(app)


def main() -> None:
    """Entry point of the console script."""
    spare_no_letter()
    as_json = "--json" in sys.argv[1:]
    try:
        code = app(standalone_mode=not as_json)
        sys.exit(code if isinstance(code, int) else 0)
    except (BadInput, MissingExtra) as error:
        print_error(error, as_json)
        sys.exit(2)
    except Unfinished as error:
        typer.echo(f"Error: {error}", err=True)
        if as_json:
            print_failure("the job stopped at an error", error.said, f"Go on: {error.command}")
        sys.exit(1)
    except KeyboardInterrupt:
        console(stderr=True).print("Stopped.")
        if as_json:
            print_failure("stopped", "", "Start it again.")
        sys.exit(130)
    except Exception as error:
        if not as_json:
            raise
        said = getattr(error, "format_message", None)  # of an option, or an argument
        if said is None:
            traceback.print_exc()
            print_failure("a fault of understudy's own", repr(error), "Report the traceback above.")
            sys.exit(1)
        typer.echo(f"Error: {said()}", err=True)
        print_failure("the command line cannot be used", said(), "See --help.")
        sys.exit(2)
