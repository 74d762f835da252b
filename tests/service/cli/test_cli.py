"""The command line as a user meets it: what stands on stdout, on stderr and in the exit code."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from edge.errors import BadInput
from search.job.spec import fields
from search.job.spec_file import to_yaml
from service.cli.main import app
from teachers.data.datasets import load_dataset
from tests.search import jobs
from tests.search.jobs import FinishedJob
from tests.service.cli.conftest import Understudy


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Six digits that no network has been trained on."""
    folder = tmp_path_factory.mktemp("images")
    data = load_dataset("digits", jobs.GREY8)
    paths = []
    for row in range(len(data.labels) - 6, len(data.labels)):
        paths.append(folder / f"{row}-is-{data.labels[row]}.png")
        Image.fromarray(np.squeeze(data.images[row], -1)).save(paths[-1])
    return paths


def test_config_prints_a_job(understudy: Understudy, tmp_path: Path) -> None:
    done = understudy("config")
    assert done.returncode == 0
    assert done.stderr == ""
    assert done.stdout == to_yaml()
    # and with its open fields filled in it is a job that is understood: what is missing is a file
    (tmp_path / "job.yaml").write_text(done.stdout)
    done = understudy("search", "job.yaml", "--teacher", "t.safetensors", "--data", "digits",
                      "--out", "x")  # fmt: skip
    assert done.returncode == 2
    assert "teacher not found: got t.safetensors" in done.stderr


def test_the_help_of_search_is_the_help_of_every_field(understudy: Understudy) -> None:
    done = understudy("search", "--help")
    assert done.returncode == 0
    # undo the boxes and the wrapping
    said = " ".join(re.sub(r"[│╭╮╰╯─]", " ", done.stdout).split())
    for _, name, help_, _ in fields():
        assert f"--{name.replace('_', '-')}" in said
        words = help_.split()
        assert " ".join(words[:4]) in said, help_
    for group in {group for group, *_ in fields()}:
        assert group in done.stdout


def test_without_arguments_it_tells_its_commands(understudy: Understudy) -> None:
    done = understudy()
    for command in ("demo", "search", "inspect", "predict", "config"):
        assert command in done.stdout + done.stderr


def inside(*arguments: str | Path) -> str:
    """The command line in this process, which has the heavy imports behind it; gives stdout."""
    done = CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


def test_inspect_as_a_table() -> None:
    table = inside("inspect", jobs.digits_teacher())
    for layer in ("conv1", "conv2", "conv3", "conv4", "fc"):
        assert layer in table
    assert "440.9 KB" in table
    assert "kept: gives the logits" in table


def test_inspect_shows_what_is_protected() -> None:
    found = json.loads(
        inside("inspect", jobs.digits_teacher(), "--protect", "conv1, conv3", "--json")
    )
    kept = [layer["name"] for layer in found["layers"] if layer["protected"]]
    assert kept == ["conv1", "conv3"]
    for layer in found["layers"]:
        assert (layer["coefficients"] == [1.0]) is (layer["name"] in ("conv1", "conv3", "fc"))


def test_inspect_protects_no_layer_that_is_not_there() -> None:
    with pytest.raises(BadInput, match="matches no layer: got 'layer4.*'; expected .*conv1, conv2"):
        inside("inspect", jobs.digits_teacher(), "--protect", "fc,layer4.*")


def test_a_function_may_stand_in_the_folder_that_its_user_is_in(
    understudy: Understudy, tmp_path: Path
) -> None:
    (tmp_path / "own.py").write_text("def make():\n    raise OSError('called')\n")
    done = understudy("inspect", "own:make")
    assert done.returncode == 2
    assert "the teacher's factory own:make failed: got OSError: called" in done.stderr


def test_inspect_runs_a_function_of_the_users_own() -> None:
    found = json.loads(inside("inspect", "tests.search.factories:residual", "--json"))
    assert [layer["name"] for layer in found["layers"]] == ["conv1", "conv2", "fc"]
    assert found["architecture"] == "residual"


def test_inspect_ends_in_one_error_for_an_operator_that_is_not_supported(
    understudy: Understudy,
) -> None:
    done = understudy("inspect", "tests.search.factories:unsupported", "--json")
    assert done.returncode == 2
    assert "cumsum" in json.loads(done.stdout)["error"]["problem"]
    (message,) = done.stderr.splitlines()
    assert message.startswith("Error: ")
    assert "cumsum" in message


def test_inspect_as_json() -> None:
    found = json.loads(inside("inspect", jobs.digits_teacher(), "--json", "--preset", "paper"))
    assert [layer["name"] for layer in found["layers"]] == [
        "conv1", "conv2", "conv3", "conv4", "fc",
    ]  # fmt: skip
    # l = 1 convolution, k = 3, d = 1, p = 1, o = 32
    assert found["layers"][0]["state"] == [1, 3, 1, 1, 32]
    assert found["layers"][0]["coefficients"] == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert found["layers"][-1]["coefficients"] == [1.0]
    assert found["scaled"] == "kdpo"
    assert sum(layer["kb"] for layer in found["layers"]) <= found["kb"]
    assert found["unseen"] == "last 900 rows"


def test_inspect_refuses_what_it_cannot_read(understudy: Understudy, tmp_path: Path) -> None:
    (tmp_path / "model.pkl").write_bytes(b"\x80\x04.")
    done = understudy("inspect", "model.pkl")
    assert done.returncode == 2
    assert done.stdout == ""
    (message,) = done.stderr.splitlines()
    assert "never opened" in message


def test_inspect_knows_its_presets() -> None:
    with pytest.raises(BadInput, match="unknown preset: got 'odd'; expected one of default, paper"):
        inside("inspect", jobs.digits_teacher(), "--preset", "odd")


def test_predict_for_people(job: FinishedJob, images: list[Path], understudy: Understudy) -> None:
    done = understudy("predict", job.out / "bundle", *images)
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if ".png" in line]
    assert len(rows) == len(images)
    assert all(("trust" in row) != ("appeal" in row) for row in rows)
    assert all("student" in row for row in rows)


def test_predict_for_programs(job: FinishedJob, images: list[Path], understudy: Understudy) -> None:
    done = understudy("predict", job.out / "bundle", *images, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["threshold"] == job.result["pair"]["threshold"]
    assert [row["image"] for row in found["images"]] == [str(path) for path in images]
    for row in found["images"]:
        assert 0 < row["probability"] <= 1
        assert row["class_name"] == str(row["label"])
        assert row["trusted"] is (row["decision"]["score"] >= found["threshold"])
        assert row["answered_by"] == "student"


def test_predict_lets_a_teacher_answer_the_appeals(
    job: FinishedJob, images: list[Path], understudy: Understudy
) -> None:
    teacher = job.out / "cloud" / "teacher.onnx"
    done = understudy("predict", job.out / "bundle", *images, "--teacher", teacher, "--json")
    for row in json.loads(done.stdout.splitlines()[-1])["images"]:
        assert row["answered_by"] == ("student" if row["trusted"] else "teacher")
        assert row["appeal_failed"] is False


@pytest.mark.parametrize("what", ["bundle", "image", "teacher"])
def test_predict_names_what_is_missing(
    what: str, job: FinishedJob, images: list[Path], understudy: Understudy
) -> None:
    arguments = {
        "bundle": ("nowhere", images[0]),
        "image": (job.out / "bundle", "nowhere.png"),
        "teacher": (job.out / "bundle", images[0], "--teacher", "nowhere.onnx"),
    }[what]
    done = understudy("predict", *arguments, "--json")
    assert done.returncode == 2
    assert "nowhere" in json.loads(done.stdout)["error"]["message"]
    (message,) = done.stderr.splitlines()
    assert "nowhere" in message


BLOCKED = """
import sys
from importlib.machinery import PathFinder

class BaseInstall(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "ray", "optuna", "gymnasium", "sklearn", "onnx"}:
            return None
        return super().find_spec(name, path, target)

sys.meta_path = [BaseInstall if finder is PathFinder else finder for finder in sys.meta_path]
from service.cli.main import main
main()
"""


def base_install(folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The command line where the extra `search` is not installed."""
    return subprocess.run(
        [sys.executable, "-c", BLOCKED, *map(str, arguments)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(jobs.ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    "command",
    [
        ("search", "--teacher", "t.safetensors", "--data", "digits", "--out", "x"),
        ("demo", "--out", "x"),
        ("inspect", "t.safetensors"),
        ("rerank", "x"),
        ("tune", "x"),
        ("export", "x"),
    ],
)
def test_a_missing_extra_is_named(command: tuple[str, ...], tmp_path: Path) -> None:
    done = base_install(tmp_path, *command)
    assert done.returncode == 2
    assert done.stdout == ""
    (message,) = done.stderr.splitlines()
    assert "[search]'" in message
    assert "python -m pip install" in message
    assert list(tmp_path.iterdir()) == []


def test_the_edge_needs_no_extra(job: FinishedJob, images: list[Path], tmp_path: Path) -> None:
    done = base_install(tmp_path, "predict", job.out / "bundle", images[0], "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["images"]
    assert base_install(tmp_path, "config").returncode == 0
