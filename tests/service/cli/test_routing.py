"""``understudy route`` on a bundle and on a run: what it says, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edge.bundle import load_bundle
from edge.errors import BadInput
from service.cli import main as cli
from tests.edge.models import bundle_at


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Two calibration rows, scores .5 and .98, of which the student errs on the first."""
    return bundle_at(tmp_path / "bundle").path


def route(*arguments: object) -> str:
    done = CliRunner().invoke(cli.app, ["route", *map(str, arguments)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0
    return done.output


def test_a_bundle_is_turned_in_its_place(bundle: Path) -> None:
    said = route(bundle, "--appeals", ".5")
    assert "at most 50% of the inputs appealed" in said
    assert "50.0% appeals, pair accuracy 100.00%, AccI 100.0%" in said
    found = load_bundle(bundle).manifest
    assert found.goal == {"appeals": 0.5}
    assert found.threshold == pytest.approx(0.98)


def test_it_answers_in_json_from_another_folder(bundle: Path, tmp_path: Path) -> None:
    said = json.loads(route(bundle, "--accuracy", "1", "--out", tmp_path / "new", "--json"))
    assert said["bundle"] == str(tmp_path / "new")
    assert (said["part"], said["rows"]) == ("calibration", 2)
    assert (said["appeals"], said["accuracy"], said["met"]) == (0.5, 1.0, True)
    assert load_bundle(bundle).manifest.goal == {"appeals": 0.2}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--families", "rf"), "--families cannot be changed in a bundle"),
        ((), "expected exactly one of --appeals"),
        (("--appeals", ".1", "--risk", ".1"), "got --appeals and --risk"),
        (("--appeals", "1.5"), "between 0 and 1"),
    ],
)
def test_a_bundle_alone_knows_nothing_but_goals(
    bundle: Path, arguments: tuple[str, ...], message: str
) -> None:
    before = load_bundle(bundle).manifest
    with pytest.raises(BadInput, match=message):
        route(bundle, *arguments)
    assert load_bundle(bundle).manifest == before


def test_a_folder_that_is_neither_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="neither a run nor a bundle"):
        route(tmp_path, "--appeals", ".1")
    with pytest.raises(BadInput, match="no such folder"):
        route(tmp_path / "nowhere", "--appeals", ".1")


def test_a_run_that_is_not_finished_is_refused(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("teacher: t.safetensors\ndata: digits\nout: x\n")
    with pytest.raises(BadInput, match="is not finished"):
        route(tmp_path, "--appeals", ".1")
    with pytest.raises(BadInput, match="--out goes with a bundle"):
        route(tmp_path, "--appeals", ".1", "--out", tmp_path / "other")
