"""``understudy evaluate`` on a folder of images: the table, the JSON, the picture, refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from edge.errors import BadInput
from service.cli import main as cli
from tests.edge.models import bundle_at, linear, pixels


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A bundle, an ONNX teacher and three images: left, right, and a tie that is right."""
    bundle_at(tmp_path / "bundle")
    (tmp_path / "teacher.onnx").write_bytes(linear((0.0, 2.0)))
    images = pixels((255, 0), (0, 255), (255, 255))[..., 0]
    for place, (name, image) in enumerate(zip(("left", "right", "right"), images, strict=True)):
        target = tmp_path / "data" / name
        target.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(target / f"{place}.png")
    return tmp_path


def evaluate(folder: Path, *arguments: str, teacher: str = "teacher.onnx") -> str:
    paths = [str(folder / name) for name in ("bundle", teacher, "data")]
    done = CliRunner().invoke(
        cli.app, ["evaluate", paths[0], "--teacher", paths[1], "--data", paths[2], *arguments]
    )
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.stdout


def test_a_table_for_people(folder: Path) -> None:
    said = evaluate(folder, "--rows", "all")
    total = next(line for line in said.splitlines() if " all " in line and "%" in line)
    # the student errs on the tie, which is appealed and which the teacher gets right
    assert [cell.strip() for cell in total.split("│")[2:-1]] == [
        "3", "66.67%", "100.00%", "100.00%", "100.00%", "33.33%",
    ]  # fmt: skip
    assert "AccI 100.0%" in said
    # one of three images of two bytes is sent
    assert "bytes   0.667 an input; edge alone 0, cloud alone 2" in said


def test_a_price_of_ones_own(folder: Path) -> None:
    said = json.loads(evaluate(folder, "--rows", "all", "--json", "--cost-per-appeal", "3"))
    costs = said["costs"]["price"]
    assert costs == {"edge_only": 0, "cloud_only": 3, "cooperation": pytest.approx(1)}
    with pytest.raises(BadInput, match="--cost-per-appeal: got -1"):
        evaluate(folder, "--cost-per-appeal", "-1")


def test_json_and_a_picture(folder: Path, tmp_path: Path) -> None:
    plot = tmp_path / "curve.svg"
    said = json.loads(evaluate(folder, "--rows", "all", "--json", "--plot", str(plot)))
    assert (said["edge_only"], said["cloud_only"], said["cooperation"]) == (2 / 3, 1.0, 1.0)
    assert [row["name"] for row in said["classes"]] == ["left", "right"]
    assert "<svg" in plot.read_text()


@pytest.mark.parametrize(
    ("arguments", "teacher", "message"),
    [
        (("--rows", "some"), "teacher.onnx", "--rows: got some; expected test or all"),
        (("--rows", "test"), "teacher.onnx", "without a test table"),
        (("--rows", "all"), "nowhere.onnx", "no such file"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(
    folder: Path, arguments: tuple[str, ...], teacher: str, message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        evaluate(folder, *arguments, teacher=teacher)


def test_a_folder_without_a_test_table_is_measured_whole_and_that_is_said(folder: Path) -> None:
    paths = [str(folder / name) for name in ("bundle", "teacher.onnx", "data")]
    done = CliRunner().invoke(
        cli.app, ["evaluate", paths[0], "--teacher", paths[1], "--data", paths[2], "--json"]
    )
    assert json.loads(done.stdout)["rows"] == 3
    assert "has no test table: all rows are taken" in done.stderr


def test_classes_are_matched_by_name_as_in_a_search(folder: Path) -> None:
    # "Right" sorts before "left": by their places in the folder every answer would be wrong
    data = folder / "data"
    (data / "right").rename(data / "Right")
    said = json.loads(evaluate(folder, "--rows", "all", "--json"))
    assert said["cloud_only"] == 1.0
    assert [row["name"] for row in said["classes"]] == ["left", "right"]


def test_names_that_the_bundle_does_not_know_are_taken_in_order(folder: Path) -> None:
    for old, new in (("left", "gauche"), ("right", "droite")):
        (folder / "data" / old).rename(folder / "data" / new)
    # d sorts before g, so that the classes are exchanged: one of three is right, by chance
    said = json.loads(evaluate(folder, "--rows", "all", "--json"))
    assert said["cloud_only"] == 0.0
