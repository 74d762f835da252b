"""Names are their users': brackets, colons and letters of any script come out as they went in."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from edge.bundle import write_bundle
from edge.errors import BadInput
from search.job.events import CandidateRunning, Event, Note, Progress, Stage
from service.cli import main as cli
from service.cli import progress
from service.cli.inspection import print_inspection
from service.cli.streams import console, print_error
from service.cli.tables import print_table
from tests.edge.models import contents, manifest
from tests.search import jobs

#: what markup would swallow, what would end in a MarkupError, and what would become a picture
NAMES = ("[unk]", "poles [b]", "defect [/old]", "[/]", ":car:", "a\\[b]", "猫 größer é", "$x_1$")


@pytest.mark.parametrize("name", NAMES)
def test_a_file_a_class_and_a_folder_in_predict(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # or the table would break a long path
    from dataclasses import replace

    two = replace(manifest(), class_names=(name, "right"))
    folder = Path(name.replace("/", "∕"), *name.split("/")) if name != "[/]" else Path("[", "]")
    write_bundle(folder / "bundle", two, contents())
    file = folder / f"{name.replace('/', '∕')}.png"
    Image.fromarray(np.array([[255, 0]], np.uint8)).save(file)
    done = CliRunner().invoke(
        cli.app, ["predict", str(folder / "bundle"), str(file)], catch_exceptions=False
    )
    assert f" {name} " in done.stdout
    assert f" {file} " in done.stdout


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("terminal", [False, True])
def test_what_a_search_tells(name: str, terminal: bool) -> None:
    out = io.StringIO()
    shown = Console(file=out, width=150, force_terminal=terminal, emoji=False, highlight=False)
    told: list[Event] = [
        Stage("prepare", f"teacher {name}"),
        Note(f"class {name} is rare", warning=True, name="rare-class"),
        Progress(1, 2, f"part {name}"),
        CandidateRunning("k", 3, 12.0, 1, 4, 0.5, None, 12.0, f"node {name}"),
    ]
    view = progress._Bars(shown) if terminal else progress._Lines(shown)
    with view as open_view:
        for event in told:
            open_view.show(event)
        if isinstance(open_view, progress._Bars):
            shown.print(open_view._view())
    for words in (f"teacher {name}", f"class {name} is rare"):
        assert words in out.getvalue()
    assert (f"part {name}" if not terminal else f"node {name}") in out.getvalue()


@pytest.mark.parametrize("name", NAMES)
def test_tables_and_lines_on_stdout(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    from rich.table import Table

    table = Table(title=f"title {name}")
    table.add_column(f"column {name}")
    table.add_row(f"cell {name}")
    print_table(table)
    console().print(f"line {name}")
    said = capsys.readouterr().out
    for what in ("title", "column", "cell", "line"):
        assert f"{what} {name}" in said


def test_the_layers_of_a_teacher(capsys: pytest.CaptureFixture[str]) -> None:
    from search.preparation.inspection import inspect_teacher

    found = json.loads(json.dumps(inspect_teacher(str(jobs.digits_teacher()), "default")))
    for layer, name in zip(found["layers"], NAMES, strict=False):
        layer["name"] = name
    found["name"], found["notes"] = "net [b]", ["[/x] is left out"]
    print_inspection(found)
    said = capsys.readouterr().out
    for name in (*NAMES[: len(found["layers"])], "net [b]", "Note: [/x] is left out"):
        assert name in said


@pytest.mark.parametrize("name", NAMES)
def test_the_message_of_an_error(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_error(BadInput(f"bundle {name}", value=name, bound="a", remedy=name), as_json=True)
    said = capsys.readouterr()
    assert said.err == f"Error: bundle {name}: got {name}; expected a. {name}\n"
    assert json.loads(said.out)["error"]["value"] == name


@pytest.mark.parametrize("encoding", ["ascii", "iso-8859-1", "utf-8"])
def test_a_terminal_that_lacks_a_letter(encoding: str, tmp_path: Path) -> None:
    """Nor does a file name that is no text in any encoding end a command."""
    done = subprocess.run(
        [*map(os.fsencode, jobs.UNDERSTUDY), b"predict", "猫".encode(), b"caf\xe9.png"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(jobs.ROOT), "PYTHONIOENCODING": encoding},
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr
    assert ("猫".encode() if encoding == "utf-8" else rb"\u732b") in done.stderr
    code = (
        "from service.cli.streams import spare_no_letter as s; s(); print('caf\\udce9 \\ud800 猫')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(jobs.ROOT), "PYTHONIOENCODING": encoding},
        capture_output=True,
        timeout=60,
    )
    assert done.stdout.startswith(rb"caf" + b"\xe9" + rb" \ud800 "), done
