"""Watching a run that another process works on."""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edge.errors import BadInput
from search.job.event_log import written
from search.job.events import Event, Note, Stage
from search.job.run_folder import RunFolder
from service.cli.main import app


def told(run: Path, *events: Event, error: BaseException | None = None) -> None:
    """A run that tells so much, and ends so."""

    def job() -> Generator[Event, None, None]:
        yield from events
        if error is not None:
            raise error

    run.mkdir(exist_ok=True)
    with suppress(KeyboardInterrupt, RuntimeError):
        list(written(job(), RunFolder(run).events))


def test_what_the_last_process_told_is_shown(tmp_path: Path) -> None:
    told(tmp_path / "run", Note("the first process"), error=KeyboardInterrupt())
    told(tmp_path / "run", Stage("search", "12 candidates"), Note("the second process"))
    result = CliRunner().invoke(app, ["watch", str(tmp_path / "run"), "--json"])
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["kind"] for line in lines] == ["started", "stage", "note"]
    assert lines[2]["text"] == "the second process"
    assert all(line["time"] > 1e9 for line in lines)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (KeyboardInterrupt(), "the run was stopped: got by its user"),
        (RuntimeError("no room"), "the run was stopped: got no room"),
        (None, "nobody works on the run"),
    ],
)
def test_a_run_that_ended_early_says_how_to_go_on(
    tmp_path: Path, error: BaseException | None, said: str
) -> None:
    told(tmp_path / "run", Note("a candidate"), error=error)
    result = CliRunner().invoke(app, ["watch", str(tmp_path / "run")])
    assert isinstance(result.exception, BadInput)
    assert said in str(result.exception)
    assert "--resume" in str(result.exception)
    assert "a candidate" in result.output


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["watch", str(tmp_path)])
    assert isinstance(result.exception, BadInput)
    assert "there is nothing to watch" in str(result.exception)
