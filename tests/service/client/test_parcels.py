"""What is sent of a teacher and of data, and how it is known again."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from edge.errors import BadInput
from service.client import parcels
from service.client.parcels import data_parcel, teacher_parcel
from service.jobs.content import digest_of


def pictures(folder: Path) -> Path:
    for name in ("cat/1.png", "cat/2.jpg", "dog/1.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4), len(name)).save(folder / name)
    return folder


def test_a_teacher_goes_with_its_json_and_is_known_as_the_service_knows_it(tmp_path: Path) -> None:
    (tmp_path / "mine.onnx").write_bytes(b"weights")
    (tmp_path / "mine.json").write_bytes(b"{}")
    with teacher_parcel(str(tmp_path / "mine.onnx")) as parcel:
        names = [name for name, _ in parcel.files]
        sha = [hashlib.sha256(data).hexdigest() for data in (b"weights", b"{}")]
    assert names == ["teacher.onnx", "teacher.json"]
    assert parcel.name == "mine"
    assert parcel.digest == digest_of(zip(names, sha, strict=True))
    assert parcel.bytes == 9


def test_weights_that_an_exporter_put_beside_the_file_go_along(tmp_path: Path) -> None:
    for name in ("mine.onnx", "mine.onnx.data", "mine.data", "other.onnx.data"):
        (tmp_path / name).write_bytes(b"weights")
    with teacher_parcel(str(tmp_path / "mine.onnx")) as parcel:
        assert [name for name, _ in parcel.files] == ["teacher.onnx", "mine.onnx.data"]


def test_a_large_teacher_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parcels, "LARGE", 5)
    (tmp_path / "mine.onnx").write_bytes(b"weights")
    (tmp_path / "mine.json").write_bytes(b"{}")
    digests = set()
    for _ in range(2):
        with teacher_parcel(str(tmp_path / "mine.onnx")) as parcel:
            ((name, path),) = parcel.files
            assert name == "teacher.zip"
            with zipfile.ZipFile(path) as archive:
                assert archive.read("teacher.onnx") == b"weights"
        digests.add(parcel.digest)
    assert len(digests) == 1
    assert not path.exists()


def test_a_folder_of_images_is_one_file_with_the_images_alone(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "data")
    (folder / "passwords.txt").write_text("secret")
    (folder / ".git").mkdir()
    Image.new("L", (4, 4)).save(folder / ".git" / "hidden.png")
    with data_parcel(str(folder)) as parcel:
        ((_, path),) = parcel.files
        with zipfile.ZipFile(path) as archive:
            assert archive.namelist() == ["cat/1.png", "cat/2.jpg", "dog/1.png"]
        first = parcel.digest
    assert not path.exists()
    for image in folder.rglob("*.png"):
        image.touch()  # another time is no other data
    with data_parcel(str(folder)) as parcel:
        assert parcel.digest == first
    (folder / "dog" / "1.png").write_bytes((folder / "cat" / "1.png").read_bytes() + b" ")
    with data_parcel(str(folder)) as parcel:
        assert parcel.digest != first


@pytest.mark.parametrize("name", ["own.module:teacher", "missing.onnx", "weights.pt"])
def test_what_is_no_teachers_file_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "weights.pt").write_bytes(b"")
    with pytest.raises(BadInput, match="this teacher cannot be sent"), teacher_parcel(name):
        pass


def test_data_without_images_are_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("")
    for place in (tmp_path, tmp_path / "missing", tmp_path / "notes.txt"):
        with pytest.raises(BadInput, match="these data cannot be sent"), data_parcel(str(place)):
            pass
