"""Fetched bundles: whole and as they were written, or not there at all."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from edge.bundle import load_bundle
from edge.errors import BadInput
from service.client.client import Client
from tests.edge.models import bundle_at
from tests.service.client.scripted import Answer, Asked, answer, in_turn, problem, serving


@pytest.fixture
def files(tmp_path: Path) -> dict[str, bytes]:
    """The files of a small bundle."""
    bundle_at(tmp_path / "origin")
    return {path.name: path.read_bytes() for path in (tmp_path / "origin").iterdir()}


def zipped(files: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return content.getvalue()


def fetch(folder: Path, *answers: Answer | None) -> None:
    with serving(in_turn(*answers)) as server:
        Client(server.url, patience=0.5).bundle("job_1", folder)


def test_a_bundle_comes_as_it_is_there(files: dict[str, bytes], tmp_path: Path) -> None:
    fetch(tmp_path / "out", Answer(200, zipped(files)))
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == files
    load_bundle(tmp_path / "out")


def test_a_link_that_breaks_begins_again(files: dict[str, bytes], tmp_path: Path) -> None:
    whole = zipped(files)
    fetch(tmp_path / "out", Answer(200, whole, cut=len(whole) // 2), None, Answer(200, whole))
    load_bundle(tmp_path / "out")


Harm = Callable[[dict[str, bytes]], bytes]


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda f: zipped(f)[:-40], "damaged"),
        (lambda f: b"<html>", "damaged"),
        (lambda f: zipped(f | {"../outside.txt": b"x"}), "damaged: got a file called '../outside"),
        (lambda f: zipped(f | {"/etc/x": b"x"}), "damaged: got a file called"),
        (lambda f: zipped({n: d for n, d in f.items() if n != "pair.onnx"}), "pair.onnx"),
        (lambda f: zipped(f | {"pair.onnx": f["pair.onnx"][:-1] + b"!"}), "SHA-256 of .*pair.onnx"),
    ],
)
def test_what_is_damaged_is_refused_and_leaves_nothing(
    harm: Harm, said: str, files: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "place"
    out.mkdir()
    with pytest.raises(BadInput, match=said):
        fetch(out / "bundle", Answer(200, harm(files)))
    assert list(out.iterdir()) == []
    assert not (tmp_path / "outside.txt").exists()


def test_a_folder_that_is_there_stays(files: dict[str, bytes], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(BadInput, match="the folder exists"):
        fetch(tmp_path / "out", Answer(200, zipped(files)))


def test_all_that_was_shipped_comes_in_one_folder(files: dict[str, bytes], tmp_path: Path) -> None:
    def rule(asked: Asked) -> Answer | None:
        if asked.path.endswith("bundle.zip"):
            return Answer(200, zipped(files))
        if asked.path.endswith("report"):
            return problem(409, "The run has no report.")
        return answer({"path": asked.path})

    with serving(rule) as server:
        names = Client(server.url).download("job_1", tmp_path / "out")
    assert names == ["bundle", "candidates.csv", "job.yaml", "result.json"]
    load_bundle(tmp_path / "out" / "bundle")


def test_an_id_is_no_path(tmp_path: Path) -> None:
    with serving(in_turn(answer({}))) as server, pytest.raises(BadInput, match="no id of a job"):
        Client(server.url).bundle("../keys", tmp_path / "out")
    assert server.asked == []
