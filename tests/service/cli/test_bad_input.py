"""Whatever is wrong with a job is said in one message, at once, and nothing stays behind."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from edge.preprocess import Preprocess
from teachers.formats import zoo
from teachers.formats.formats import save_teacher
from teachers.formats.manifest import TeacherManifest
from tests.service.cli.conftest import Understudy

SECONDS = 5.0
CLASSES = ("cat", "dog")


class Workshop:
    """A folder with a teacher of two classes and data that fit it, to be spoilt by a test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.teacher = folder / "teacher.safetensors"
        self.data = folder / "images"
        self.manifest = TeacherManifest(
            "small_cnn", Preprocess(1, 8, 8, mean=(0.5,), std=(0.5,)), CLASSES
        )
        torch.manual_seed(0)
        self.module = zoo.build("small_cnn", input_shape=(1, 8, 8), classes=2)
        save_teacher(self.module, self.manifest, self.teacher)
        for name in CLASSES:
            self.draw(name, 3)

    def draw(self, name: str, count: int, side: int = 8) -> None:
        (self.data / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            pixels = np.full((side, side), 40 * number, np.uint8)
            Image.fromarray(pixels).save(self.data / name / f"{number}.png")

    def files(self) -> dict[str, bytes]:
        """Everything there is, by path."""
        found = sorted(path for path in self.folder.rglob("*") if path.is_file())
        return {str(path.relative_to(self.folder)): path.read_bytes() for path in found}


@dataclass(frozen=True)
class Case:
    """One mistake: how to make it, what the message must say, and arguments to make it with."""

    spoil: Callable[[Workshop], object]
    value: str
    bound: str
    remedy: str
    arguments: tuple[str, ...] = ()


def nothing(workshop: Workshop) -> None:
    pass


def text_for_weights(workshop: Workshop) -> None:
    workshop.teacher.write_text("these are no weights, whatever the name says")


def cut(workshop: Workshop) -> None:
    workshop.teacher.write_bytes(workshop.teacher.read_bytes()[:-1000])


def third_class(workshop: Workshop) -> None:
    workshop.draw("eel", 3)


def larger_images(workshop: Workshop) -> None:
    for name in CLASSES:
        workshop.draw(name, 3, side=12)


def no_dogs(workshop: Workshop) -> None:
    for path in (workshop.data / "dog").iterdir():
        path.unlink()


def not_a_number(workshop: Workshop) -> None:
    with torch.no_grad():
        workshop.module.get_parameter("conv3.weight")[0] = float("nan")
    save_teacher(workshop.module, workshop.manifest, workshop.teacher)


def taken_folder(workshop: Workshop) -> None:
    (workshop.folder / "out").mkdir()
    (workshop.folder / "out" / "diary.txt").write_text("mine")


def another_head(workshop: Workshop) -> None:
    three = replace(workshop.manifest, class_names=("cat", "dog", "eel"))
    workshop.teacher.with_suffix(".json").write_text(json.dumps(three.to_json()))
    workshop.draw("eel", 3)


CASES = {
    "missing file": Case(
        lambda w: w.teacher.unlink(), "teacher.safetensors", "an existing file", "Check the path"
    ),
    "missing data": Case(
        lambda w: w.data.rename(w.folder / "elsewhere"), "images", "train.parquet", "Check the path"
    ),
    "not a model": Case(
        text_for_weights, "44 bytes", "a safetensors file", "copy or export it again"
    ),
    "truncated file": Case(cut, "bytes", "header covers all of it", "copy or export it again"),
    "teacher's classes are not the data's": Case(
        third_class, "3 classes", "2 classes", "data that this teacher was trained for"
    ),
    "teacher's classes are not its head's": Case(
        another_head, "2 outputs", "3, the classes", "Correct classes"
    ),
    "image size mismatch": Case(larger_images, "12×12", "8×8", "set resize to true"),
    "empty class": Case(no_dogs, "0 training rows", "at least one row", "Add images"),
    "weights that are no numbers": Case(not_a_number, "576 NaN", "finite", "Train or export"),
    "budget 0": Case(nothing, "0", "greater than or equal to 1", "--budget", ("--budget", "0")),
    "coefficient outside [0, 1]": Case(
        nothing, "1.5", "from 0 (remove the layer) to 1", "pool", ("--pool", "0,0.5,1,1.5")
    ),
    "threshold outside its range": Case(
        nothing, "1.2", "less than or equal to 1", "--c0", ("--c0", "1.2")
    ),
    "appeals outside [0, 1]": Case(
        nothing, "-0.1", "greater than or equal to 0", "--appeals", ("--appeals", "-0.1")
    ),
    "existing output folder": Case(
        taken_folder, "out", "a folder that does not exist yet", "--resume"
    ),
    "unknown key in the YAML": Case(
        lambda w: (w.folder / "job.yaml").write_text("bugdet: 3\n"),
        "bugdet",
        "budget",
        "Did you mean 'budget'?",
        ("job.yaml",),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_one_message_and_nothing_left(name: str, tmp_path: Path, understudy: Understudy) -> None:
    case, workshop = CASES[name], Workshop(tmp_path)
    case.spoil(workshop)
    before = workshop.files()

    start = time.monotonic()
    done = understudy(
        "search", "--teacher", workshop.teacher, "--data", workshop.data, "--out", "out",
        *case.arguments,
    )  # fmt: skip
    seconds = time.monotonic() - start

    assert done.returncode == 2
    assert done.stdout == ""
    (message,) = done.stderr.splitlines()
    assert message.startswith("Error: ")
    problem, _, rest = message.partition(": got ")
    value, _, rest = rest.partition("; expected ")
    assert problem
    assert value
    assert case.value in value
    assert case.bound in rest
    assert case.remedy in rest
    assert rest.rstrip().endswith((".", "?", ")"))
    # a remedy is a sentence of its own after the bound
    assert ". " in rest
    assert workshop.files() == before
    assert (tmp_path / "out").exists() is (name == "existing output folder")
    assert seconds < SECONDS


@pytest.mark.parametrize(
    ("arguments", "value", "bound", "remedy"),
    [
        (("--criterion", "luck"), "'luck'", "bn_scale, l1, l2, random", "--criterion"),
        (
            ("--protect", "conv1,layer4.*"),
            "'layer4.*'",
            "conv1, conv2, conv3",
            "understudy inspect",
        ),
    ],
)
def test_what_only_the_network_can_refuse(
    arguments: tuple[str, ...],
    value: str,
    bound: str,
    remedy: str,
    tmp_path: Path,
    understudy: Understudy,
) -> None:
    """These need torch in memory, and are still said before the data are read and Ray starts."""
    workshop = Workshop(tmp_path)
    before = workshop.files()
    done = understudy(
        "search", "--teacher", workshop.teacher, "--data", workshop.data, "--out", "out",
        *arguments,
    )  # fmt: skip
    assert done.returncode == 2
    (message,) = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert f": got {value}; expected " in message
    assert bound in message
    assert remedy in message
    assert workshop.files() == before
    assert not (tmp_path / "out").exists()


def test_a_function_is_no_teacher_for_callers_who_do_not_trust_it(tmp_path: Path) -> None:
    from edge.errors import BadInput
    from search.job.spec import make_spec
    from search.pipeline import run

    values = {"teacher": "tests.search.factories:digits", "data": "digits"}
    with pytest.raises(BadInput, match="runs that code"):
        list(run(make_spec(values | {"out": str(tmp_path / "o")})))
    assert not (tmp_path / "o").exists()


def test_the_workshop_itself_is_a_job_that_works(tmp_path: Path) -> None:
    """So that every case above is refused for what it spoils, and for nothing else."""
    from search.job.spec import make_spec
    from search.preparation.prepare import check_names
    from search.preparation.validate import check_inputs

    workshop = Workshop(tmp_path)
    values = {"teacher": str(workshop.teacher), "data": str(workshop.data)}
    spec = make_spec(values | {"out": str(tmp_path / "o")})
    check_inputs(spec)
    check_names(spec)
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("metric", "f1"),
        ("sampler", "luck"),
        ("preset", "mine"),
        ("reward", "gold"),
        ("loss", "hinge"),
        ("criterion", "luck"),
        ("precision", "fp8"),
        ("sampling", "some"),
        ("families", ("svm", "oracle")),
    ],
)
def test_names_that_no_open_set_knows(field: str, value: object) -> None:
    from edge.errors import BadInput
    from search.job.spec import make_spec
    from search.preparation.prepare import check_names
    from search.preparation.validate import check_inputs

    spec = make_spec({"teacher": "t.safetensors", "data": "digits", "out": "o", field: value})
    with pytest.raises(BadInput, match=f"unknown {field}") as caught:
        check_inputs(spec) if field in ("metric", "preset") else check_names(spec)
    assert "," in caught.value.bound
    assert f"--{field}" in caught.value.remedy


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--resume", "--out", "nowhere"), "there is no run"),
        (("--resume",), "--resume does not know which run"),
        (("nowhere.yaml",), "no such job file"),
    ],
)
def test_resuming_nothing(arguments: tuple[str, ...], said: str, understudy: Understudy) -> None:
    done = understudy("search", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
