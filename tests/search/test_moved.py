"""Teacher and data of a run may lie elsewhere when it goes on, as long as they are the same."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge.errors import BadInput
from search.job.events import Event, Progress
from search.job.run_folder import RunFolder, whole_paths
from search.job.spec import JobSpec, make_spec
from search.preparation.prepare import prepare
from search.preparation.validate import _check_there, check_inputs
from teachers.data.datasets import load_dataset
from tests.search import jobs


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that we are in, with a teacher and a few digits as files."""
    monkeypatch.chdir(tmp_path)
    for suffix in (".safetensors", ".json"):
        shutil.copy(jobs.digits_teacher().with_suffix(suffix), f"t{suffix}")
    digits = load_dataset("digits", jobs.GREY8)
    for row in range(300):
        path = Path("d") / digits.class_names[digits.labels[row]] / f"{row}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.squeeze(digits.images[row], -1)).save(path)
    return tmp_path


def job(out: str = "run", teacher: str = "t.safetensors", data: str = "d") -> JobSpec:
    return jobs.small_job(Path(out), teacher=teacher, data=data, teacher_unseen="last 150 rows")


def begun(spec: JobSpec) -> list[Event]:
    """What a job tells before its search; its folder is ours from before on, or made now."""
    folder = RunFolder(spec.out)
    with folder.claimed(spec, new=not folder.root.exists()):
        return list(prepare(spec, folder))


def test_a_run_goes_on_from_any_folder(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun(job())
    stored = RunFolder(place / "run").stored_job()
    assert (stored.teacher, stored.data) == (str(place / "t.safetensors"), str(place / "d"))
    (place / "elsewhere").mkdir()
    monkeypatch.chdir(place / "elsewhere")
    stored = RunFolder("../run").stored_job()
    check_inputs(stored, resume=True)
    RunFolder("../run").check(stored, resume=True)


def test_what_was_moved_and_renamed_is_the_same(place: Path) -> None:
    begun(job())
    (place / "other").mkdir()
    for suffix in (".safetensors", ".json"):
        Path(f"t{suffix}").rename(place / "other" / f"best{suffix}")
    Path("d").rename("images")
    with pytest.raises(
        BadInput, match=r"teacher is not where it was: got .*t\.safetensors.*--teach"
    ):
        check_inputs(RunFolder("run").stored_job(), resume=True)
    moved = job(teacher="other/best.safetensors")
    with pytest.raises(BadInput, match=r"data is not where it was: got .*/d;.*--data"):
        check_inputs(moved.model_copy(update={"data": str(place / "d")}), resume=True)
    moved = job(teacher="other/best.safetensors", data="images")
    check_inputs(moved, resume=True)
    told = begun(moved)
    # it is not asked again
    assert not any(isinstance(event, Progress) for event in told)
    stored = RunFolder("run").stored_job()
    assert (stored.teacher, stored.data) == (
        str(place / "other" / "best.safetensors"), str(place / "images"),
    )  # fmt: skip


@pytest.mark.parametrize("what", ["data", "teacher"])
def test_others_under_a_new_name_are_refused_and_change_nothing(what: str, place: Path) -> None:
    begun(job())
    before = RunFolder("run").job.read_bytes()
    if what == "data":
        shutil.copytree("d", "d2")
        shutil.copy("d2/3/3.png", "d2/3/13.png")  # one image is another one now
        other = job(data="d2")
    else:
        from safetensors.numpy import load_file, save_file

        weights = load_file("t.safetensors")
        weights["fc.bias"][0] += 0.1
        save_file(weights, "u.safetensors", {"arch": "small_cnn"})
        shutil.copy("t.json", "u.json")
        other = job(teacher="u.safetensors")
    with pytest.raises(BadInput, match=f"the {what} changed since the run began.*--{what}"):
        begun(other)
    assert RunFolder("run").job.read_bytes() == before


def test_what_is_no_path_stays_as_it_is(place: Path) -> None:
    spec = job(teacher="package.module:function", data="digits", out="run")
    assert whole_paths(spec) == spec
    Path("digits").mkdir()
    assert whole_paths(spec).data == "digits"


def test_a_stopped_demo_finds_the_digits_that_install_with_the_package(tmp_path: Path) -> None:
    teacher = tmp_path / "t.safetensors"
    teacher.write_bytes(b"")
    values = {"teacher": str(teacher), "out": str(tmp_path / "run")}
    for name in ("digits", "sklearn.digits"):
        _check_there(make_spec(values | {"data": name}))
    with pytest.raises(BadInput, match="the run's data is not where it was"):
        _check_there(make_spec(values | {"data": "other.digits"}))
