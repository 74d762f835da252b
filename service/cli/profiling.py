"""``understudy profile``: make a latency kit, time one on a device, or time a single network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import Progress

from edge.errors import BadInput
from service.cli.environment import needs_search, own_code
from service.cli.streams import console

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]


def profile(
    kit: Annotated[Path, typer.Argument(help="Folder of a kit, or an .onnx file.")],
    make: Annotated[bool, typer.Option("--make", help="Make the kit, for --teacher.")] = False,
    teacher: Annotated[
        str | None, typer.Option(help="With --make: a .safetensors or .onnx file.")
    ] = None,
    preset: Annotated[
        str, typer.Option(help="With --make: pool and scaled fields, default or paper.")
    ] = "default",
    out: Annotated[
        Path | None, typer.Option(help="File for the profile; else the kit's name and .json.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of one operator.")] = 1,
    rounds: Annotated[int, typer.Option(min=1, help="Turns that every graph gets.")] = 8,
    as_json: AsJson = False,
) -> None:
    """Time layers on this device, so that a search can predict how fast a student is there."""
    if make:
        said = _make(kit, teacher, preset)
    elif kit.suffix == ".onnx":
        said = _time_one(kit, threads, rounds)
    else:
        said = _time_kit(kit, out or _beside(kit), threads, rounds)
    if as_json:
        typer.echo(json.dumps(said))
    else:
        for name, value in said.items():
            text = f"{value:.4g}" if isinstance(value, float) else str(value)
            typer.echo(f"{name:<10} {text}")


def _beside(kit: Path) -> Path:
    kit = kit.resolve()
    return kit.with_name(f"{kit.name}.json")


def _make(folder: Path, teacher: str | None, preset: str) -> dict[str, Any]:
    """Needs what a search needs; the device that times the kit does not."""
    from edge.kit import check_free, write_kit

    check_free(folder)
    needs_search("Making a kit")
    if teacher is None:
        raise BadInput(
            "a kit is made for a teacher",
            value="no --teacher",
            bound="a .safetensors or .onnx file",
            remedy="Give --teacher.",
        )
    own_code(teacher)
    from edge.errors import check_member
    from envs.compression.moves import PRESETS
    from teachers.formats.formats import check_teacher, load_teacher

    check_teacher(teacher, trusted=True)
    check_member("preset", preset, PRESETS, "Choose one of these for --preset.")
    from envs.latency.kit import make_kit
    from teachers.formats.description import understand

    described = understand(load_teacher(teacher, trusted=True))
    found = described.teacher
    kit, files = make_kit(described.network, PRESETS[preset], found.name, found.fingerprint)
    write_kit(folder, kit, files)
    return {
        "kit": str(folder),
        "teacher": kit.teacher,
        "graphs": len(kit.graphs),
        "kb": sum(map(len, files.values())) / 1024,
    }


def _time_kit(folder: Path, out: Path, threads: int, rounds: int) -> dict[str, Any]:
    from edge.kit import read_kit
    from edge.profile import profile_of, write_profile
    from edge.timing import least_ms, timed_kit

    kit = read_kit(folder)
    if out.exists() or not out.absolute().parent.is_dir():
        raise BadInput(
            "the profile cannot be written there",
            value=str(out),
            bound="a file that does not exist yet, in a folder that does",
            remedy="Choose another --out.",
        )
    graphs, least = timed_kit(folder, kit, threads), [0.0]
    with Progress(console=console(stderr=True)) as bar:
        task = bar.add_task(f"{len(graphs)} graphs", total=rounds)
        for done, ms in least_ms(graphs, rounds, threads):
            least = ms
            bar.update(task, completed=done)
    found = profile_of(kit, least, threads)
    write_profile(out, found)
    return {
        "profile": str(out),
        "machine": found.machine,
        "threads": threads,
        "graphs": len(graphs),
    }


def _time_one(path: Path, threads: int, rounds: int) -> dict[str, Any]:
    from edge.profile import machine
    from edge.timing import time_file

    ms = time_file(path, threads, rounds)
    return {"file": str(path), "machine": machine(), "threads": threads, "ms": ms}
