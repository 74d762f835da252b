"""How a command ends: for people a line, for programs one JSON object; and what -h tells."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import understudy as front
from edge import errors
from edge.errors import BadInput, MissingExtra
from service.cli import main as cli
from service.cli.streams import parts_of
from tests.edge.models import bundle_at


@dataclass(frozen=True)
class Ended:
    """A command that came to its end."""

    returncode: int
    stdout: str
    stderr: str


Command = Callable[..., Ended]


@pytest.fixture
def understudy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """The console script in this process, which has the heavy imports behind it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: str) -> Ended:
        monkeypatch.setattr("sys.argv", ["understudy", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return Ended(int(ended.value.code or 0), said.out, said.err)

    return call


def last_line(stdout: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize(
    ("arguments", "problem", "value"),
    [
        (("predict", "nowhere", "x.png"), "bundle nowhere cannot be opened", "nothing at that"),
        (("search", "--data", "digits", "--out", "o"), "the job lacks 'teacher'", None),
        (("search", "--teacher", "t.onnx", "--data", "digits", "--out", "o"), "teacher not found",
         "t.onnx"),
        (("search", "--max-drop", "1"), "'max_drop' of the job is a share", 1.0),
        (("route", "nowhere", "--appeals", ".1"), "neither a run nor a bundle", "no such folder"),
        (("rerank", "nowhere"), "there is no run", "nowhere"),
        (("search", "--resume"), "does not know which run", None),
    ],
)  # fmt: skip
def test_errors_for_programs(
    arguments: tuple[str, ...], problem: str, value: object, understudy: Command
) -> None:
    done = understudy(*arguments, "--json")
    assert done.returncode == 2
    error = last_line(done.stdout)["error"]
    assert set(error) == {"problem", "value", "bound", "remedy", "message"}
    assert problem in error["problem"]
    assert (value in error["value"]) if isinstance(value, str) else error["value"] == value
    assert error["message"] in done.stderr.replace("\n", " ")
    assert error["remedy"] in error["message"]
    # and without --json nothing stands on stdout
    assert understudy(*arguments).stdout == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("search", "--buget", "3"), "No such option"),
        (("predict",), "Missing argument"),
        (("search", "--budget", "many"), "valid integer"),
        (("nonsense",), "nonsense"),
    ],
)
def test_a_command_line_that_cannot_be_used(
    arguments: tuple[str, ...], said: str, understudy: Command
) -> None:
    done = understudy(*arguments, "--json")
    assert done.returncode == 2
    assert said in last_line(done.stdout)["error"]["message"]
    assert said in done.stderr
    plain = understudy(*arguments)
    assert (plain.returncode, plain.stdout) == (2, "")


def test_a_fault_of_our_own_is_json_too(
    understudy: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    from service.cli import prediction

    def broken(*_: object) -> None:
        raise ZeroDivisionError("by hand")

    monkeypatch.setattr(prediction, "predict_images", broken)
    done = understudy("predict", "b", "i", "--json")
    assert done.returncode == 1
    assert "by hand" in last_line(done.stdout)["error"]["value"]
    assert "Traceback" in done.stderr


def test_the_parts_of_an_error() -> None:
    parts = parts_of(BadInput("p", value=Path("x"), bound="b", remedy="R."))
    assert parts == {
        "problem": "p", "value": "x", "bound": "b", "remedy": "R.",
        "message": "p: got x; expected b. R.",
    }  # fmt: skip
    assert parts_of(MissingExtra("A search", "search"))["remedy"].startswith("Install them: ")


def test_what_installs_an_extra_can_be_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is on no index: the command names where it was installed from, if that is still there."""

    class Distribution:
        def __init__(self, text: str | None) -> None:
            self.text = text

        def read_text(self, name: str) -> str | None:
            assert name == "direct_url.json"
            return self.text

    clone = tmp_path / "my clone"
    clone.mkdir()
    cases = [(None, "'.[search]' in a clone"), ('{"url": "https://x/y.whl"}', "in a clone")]
    cases += [(json.dumps({"url": clone.as_uri()}), "in a clone")]  # nothing to install there
    for text, command in cases:
        monkeypatch.setattr(errors, "distribution", lambda _, text=text: Distribution(text))
        assert command in str(MissingExtra("A search", "search"))
    (clone / "pyproject.toml").touch()
    assert f"python -m pip install '{clone}[search]'" in str(MissingExtra("A search", "search"))


@pytest.mark.parametrize("command", [(), ("search",), ("predict",), ("route",), ("tune",)])
def test_h_is_help(command: tuple[str, ...], understudy: Command) -> None:
    done = understudy(*command, "-h")
    assert done.returncode == 0
    assert done.stdout == understudy(*command, "--help").stdout
    assert "Usage" in done.stdout


def test_choices_and_defaults_stand_in_the_help(understudy: Command) -> None:
    said = re.sub(r"[│╭╮╰╯─\s]", "", understudy("search", "-h").stdout)
    assert "[soft|similarity|features|none]" in said
    assert "svm,rf,knn,gbdt,xgb,et" in said
    assert "[default:(model-based)]" in said
    assert "[default:(24)]" in said


def test_the_version(understudy: Command) -> None:
    done = understudy("--version")
    assert done.returncode == 0
    assert done.stdout.strip() in (f"understudy {front.__version__}", "understudy, not installed")


# --- predict: a run, and folders


@pytest.fixture
def places(tmp_path: Path) -> Path:
    """A run with a bundle, and images in folders."""
    import numpy as np
    from PIL import Image

    bundle_at(tmp_path / "run" / "bundle")
    (tmp_path / "run" / "job.yaml").write_text("teacher: t\ndata: d\nout: o\n")
    for name in ("b.png", "a/c.bmp", "a/.hidden.png", ".trash/d.png", "__MACOSX/e.png", "f.JPG"):
        path = tmp_path / "shots" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.array([[255, 0]], np.uint8)).save(path)
    (tmp_path / "shots" / "notes.txt").write_text("where I was")
    return tmp_path


def test_predict_finds_the_bundle_of_a_run_and_the_images_in_folders(
    places: Path, understudy: Command
) -> None:
    said = last_line(understudy("predict", "run", "shots", "shots/b.png", "--json").stdout)
    assert said["bundle"] == "run/bundle"
    assert [row["image"] for row in said["images"]] == [
        "shots/a/c.bmp", "shots/b.png", "shots/f.JPG", "shots/b.png",
    ]  # fmt: skip
    assert said["left_out"] == 1
    table = understudy("predict", "run/bundle", "shots").stdout
    assert "1 other files in the folders are no images" in table


def test_predict_on_a_folder_without_images(places: Path, understudy: Command) -> None:
    (places / "empty").mkdir()
    done = understudy("predict", "run", "empty")
    assert done.returncode == 2
    assert "there are no images in empty: got 0 files" in done.stderr


def test_a_run_that_is_not_finished_says_how_to_go_on(places: Path, understudy: Command) -> None:
    (places / "run" / "bundle" / "manifest.json").unlink()
    for command in (("predict", "run", "shots"), ("evaluate", "run")):
        done = understudy(*command)
        assert done.returncode == 2
        assert "understudy search --resume --out run" in done.stderr


def test_evaluate_asks_for_what_a_bundle_does_not_know(places: Path, understudy: Command) -> None:
    done = understudy("evaluate", "run/bundle", "--data", "shots")
    assert done.returncode == 2
    assert "takes --teacher" in done.stderr
