"""What a job makes of data as people have them: parts, notes, and warnings that have names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge.errors import BadInput
from search.job.events import Note
from search.job.run_folder import RunFolder
from search.job.spec import JobSpec
from search.preparation.prepare import prepare
from search.preparation.prepared import Prepared
from search.preparation.validate import check_inputs
from teachers.data.datasets import load_dataset
from tests.search import jobs

#: sorted as texts, so that every label would move: "eight" comes first
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

#: these are sorted as the teacher counts
GREEK = tuple(f"{letter} {word}" for letter, word in zip("αβγδεζηθικ", WORDS, strict=True))


def prepared(spec: JobSpec) -> tuple[Prepared, list[Note]]:
    told: list[Note] = []
    check_inputs(spec)
    steps = prepare(spec, RunFolder(spec.out))
    while True:
        try:
            event = next(steps)
        except StopIteration as end:
            found: Prepared = end.value
            return found, told
        if isinstance(event, Note):
            told.append(event)


def write(folder: Path, rows: range, names: tuple[str, ...] = tuple("0123456789")) -> Path:
    """Digits as pictures in class folders."""
    data = load_dataset("digits", jobs.GREY8)
    for row in rows:
        path = folder / names[data.labels[row]] / f"{row:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(data.images[row, ..., 0]).save(path)
    return folder


def teacher(folder: Path, **changes: object) -> str:
    """The teacher of digits with another JSON; a value of None takes its key out."""
    path = folder / "teacher.safetensors"
    path.write_bytes(jobs.digits_teacher().read_bytes())
    about = json.loads(jobs.digits_teacher().with_suffix(".json").read_text()) | changes
    about = {key: value for key, value in about.items() if value is not None}
    path.with_suffix(".json").write_text(json.dumps(about))
    return str(path)


def warnings(told: list[Note]) -> Mapping[str, str]:
    return {note.name: note.text for note in told if note.name}


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Training, validation and test as they are unzipped, spelled in words, with leavings."""
    root = tmp_path_factory.mktemp("data") / "Digits"
    for split, rows in (
        ("Train", range(600)),
        ("Valid", range(900, 1200)),
        ("Test", range(1200, 1500)),
    ):
        write(root / split, rows, WORDS)
    (root / "Train" / "one" / ".ipynb_checkpoints").mkdir()
    return root


def test_a_folder_with_splits_and_names_in_another_order(splits: Path, tmp_path: Path) -> None:
    named = teacher(tmp_path, class_names=[word.capitalize() for word in WORDS], unseen=None)
    job, told = prepared(jobs.small_job(tmp_path / "run", teacher=named, data=str(splits)))
    # by places in the folder it would be right about 6 % of the rows
    assert job.teacher_accuracy > 0.85
    assert job.parts.counts() == {
        "distillation": 400, "router": 200, "validation": 150, "calibration": 150, "test": 300,
    }  # fmt: skip
    assert job.parts.teacher_unseen
    assert job.data.class_names == tuple(word.capitalize() for word in WORDS)
    texts = "\n".join(note.text for note in told)
    assert "the validation split of Digits (300 rows) serves" in texts
    assert "Train/one/.ipynb_checkpoints (hidden or system entries)" in texts
    assert not warnings(told)
    assert not any(note.warning for note in told)


def test_names_of_folders_fill_in_what_the_json_omits(tmp_path: Path) -> None:
    data = write(tmp_path / "data", range(900, 1400), GREEK)
    unnamed = teacher(tmp_path, class_names=None, unseen="all")
    job, told = prepared(jobs.small_job(tmp_path / "run", teacher=unnamed, data=str(data)))
    assert job.teacher.manifest.class_names == GREEK
    assert not warnings(told)


def test_another_language_is_a_warning(tmp_path: Path) -> None:
    data = write(tmp_path / "data", range(900, 1400), GREEK)
    named = teacher(tmp_path, class_names=list(WORDS), unseen="all")
    job, told = prepared(jobs.small_job(tmp_path / "run", teacher=named, data=str(data)))
    assert set(warnings(told)) == {"class-names-differ"}
    assert "'α zero', 'β one'" in warnings(told)["class-names-differ"]
    # the order happens to be right
    assert job.teacher_accuracy > 0.85


def test_another_language_in_another_order_is_refused_with_the_json_to_write(
    splits: Path, tmp_path: Path
) -> None:
    german = ["null", "eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun"]
    named = teacher(tmp_path, class_names=german, unseen=None)
    spec = jobs.small_job(tmp_path / "run", teacher=named, data=str(splits))
    # output by output, in the spelling of the data, so that they are matched by name from then on
    with pytest.raises(BadInput, match='Write "class_names": \\["zero", "one", "two", .*"nine"'):
        prepared(spec)


def test_sorted_rows_and_the_last_of_them_are_refused_before_anything_is_made(
    tmp_path: Path,
) -> None:
    data = write(tmp_path / "data", range(1000))
    spec = jobs.small_job(tmp_path / "run", data=str(data), teacher_unseen="last 150")
    with pytest.raises(BadInput, match="lack most classes.*class by class.*'N per class'"):
        check_inputs(spec)
    job, told = prepared(spec.model_copy(update={"teacher_unseen": "20 per class"}))
    for part in ("validation", "calibration", "test"):
        counts = np.bincount(job.labels(part), minlength=10)
        assert counts.min() >= counts.max() - 1 >= 5
    assert not warnings(told)


def test_copies_of_training_pictures_do_not_judge_anybody(tmp_path: Path) -> None:
    data = write(tmp_path / "data" / "train", range(500)).parent
    write(data / "test", range(1000, 1200))
    write(data / "test", range(60))  # the same pictures once more
    spec = jobs.small_job(tmp_path / "run", data=str(data), teacher_unseen="none")
    job, told = prepared(spec)
    assert job.parts.counts()["test"] == 200
    assert "60 of the 260 rows of the test table are left out" in warnings(told)["duplicates"]
    pixels = {
        part: {job.data.images[row].tobytes() for row in getattr(job.parts, part)}
        for part in job.parts.counts()
    }
    assert sum(map(len, pixels.values())) == len(set().union(*pixels.values())) == 700


def test_few_rows_and_dark_pictures_are_warnings(tmp_path: Path) -> None:
    data = write(tmp_path / "data" / "train", range(300)).parent
    write(data / "test", range(1000, 1030))
    for path in (data / "test").rglob("*.png"):
        with Image.open(path) as image:
            dark = image.point(lambda level: level // 3)
        dark.save(path)
    spec = jobs.small_job(tmp_path / "run", data=str(data), teacher_unseen="none")
    _, told = prepared(spec)
    assert set(warnings(told)) == {"few-rows-per-class", "brightness-differs"}
    assert "validation has 3.0 rows a class" in warnings(told)["few-rows-per-class"]
    assert "test has 3.0 rows a class" in warnings(told)["few-rows-per-class"]


def test_a_run_that_began_before_copies_were_looked_for_keeps_its_parts(tmp_path: Path) -> None:
    data = write(tmp_path / "data", range(200))
    for name in ("a", "b"):
        (data / "0" / f"{name}.png").write_bytes((data / "0" / "0000.png").read_bytes())
    spec = jobs.small_job(tmp_path / "run", data=str(data), teacher_unseen="none")
    now, told = prepared(spec)
    assert any("2 of 202 images" in note.text for note in told)
    folder = RunFolder(spec.out)
    inputs = json.loads(folder.inputs.read_text())
    assert inputs.pop("cut")
    folder.inputs.write_text(json.dumps(inputs))
    # a tenth each, and a fifth for the test
    before = resumed(spec, folder)
    assert len(before.parts.validation) == len(before.parts.calibration) == 20
    # three of a class, with copies in one part
    assert 30 <= len(now.parts.validation) < 40
    assert "cut" not in json.loads(folder.inputs.read_text())


def test_a_run_that_began_with_five_rows_of_a_class_keeps_them(tmp_path: Path) -> None:
    data = write(tmp_path / "data", range(200))
    spec = jobs.small_job(tmp_path / "run", data=str(data), teacher_unseen="none")
    now, _ = prepared(spec)
    folder = RunFolder(spec.out)
    inputs = json.loads(folder.inputs.read_text())
    folder.inputs.write_text(json.dumps(inputs | {"cut": "2"}))
    before = resumed(spec, folder)
    assert len(now.parts.validation) == 30
    assert len(before.parts.validation) == 40
    assert json.loads(folder.inputs.read_text())["cut"] == "2"


def resumed(spec: JobSpec, folder: RunFolder) -> Prepared:
    """The job as a run that goes on has it."""
    steps = prepare(spec, folder)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            found: Prepared = end.value
            return found
