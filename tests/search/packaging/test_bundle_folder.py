"""A new bundle in the place of an old one takes along what is not the old one's."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from edge.bundle import load_bundle
from edge.errors import BadInput
from search.packaging.bundle_folder import put_bundle
from tests.edge.models import bundle_at, contents, manifest

NEW = replace(manifest(), name="the new one")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return bundle_at(tmp_path / "bundle").path


def test_where_there_is_none_it_is_written(tmp_path: Path) -> None:
    put_bundle(tmp_path / "run" / "bundle", NEW, contents())
    assert load_bundle(tmp_path / "run" / "bundle").manifest.name == "the new one"


def test_files_and_folders_of_others_move_along(folder: Path) -> None:
    (folder / "notes.txt").write_text("mine")
    (folder / "plots").mkdir()
    (folder / "plots" / "a.png").write_text("mine too")
    (folder / "link").symlink_to("notes.txt")
    put_bundle(folder, NEW, contents())
    assert load_bundle(folder).manifest.name == "the new one"
    assert (folder / "notes.txt").read_text() == (folder / "link").read_text() == "mine"
    assert (folder / "plots" / "a.png").read_text() == "mine too"
    assert [path.name for path in folder.parent.iterdir()] == ["bundle"]


def test_a_file_of_the_bundle_that_was_edited_is_kept_under_another_name(folder: Path) -> None:
    (folder / "MODEL_CARD.md").write_text("what I found out about it")
    put_bundle(folder, NEW, contents())
    assert (folder / "MODEL_CARD.md.before").read_text() == "what I found out about it"
    load_bundle(folder)


def test_a_file_that_the_new_bundle_no_longer_has_goes(folder: Path) -> None:
    put_bundle(folder, NEW, contents() | {"student-int8.onnx": b"small"})
    assert (folder / "student-int8.onnx").exists()
    put_bundle(folder, NEW, contents())
    assert not (folder / "student-int8.onnx").exists()


@pytest.mark.parametrize("text", ["", "{}", '{"files": 3}', '{"files": {"../keep": {}}}'])
def test_a_folder_whose_manifest_says_nothing_loses_nothing(text: str, tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "manifest.json").write_text(text)
    (tmp_path / "keep").write_text("mine")
    put_bundle(tmp_path / "bundle", NEW, contents())
    load_bundle(tmp_path / "bundle")
    assert (tmp_path / "bundle" / "manifest.json.before").read_text() == text
    assert (tmp_path / "keep").read_text() == "mine"


def test_no_manifest_reaches_out_of_its_folder(folder: Path) -> None:
    outside = folder.parent / "keep"
    outside.write_bytes(b"")
    about = json.loads((folder / "manifest.json").read_text())
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    about["files"]["../keep"] = {"sha256": empty, "bytes": 0}
    (folder / "manifest.json").write_text(json.dumps(about))
    put_bundle(folder, NEW, contents())
    assert outside.exists()


def test_what_cannot_be_replaced_is_as_it_was(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "notes.txt").write_text("mine")
    real = Path.rename

    def stuck(path: Path, target: Path) -> Path:
        if path.name.endswith(".new"):
            raise OSError(28, "No space left on device")
        return real(path, target)

    monkeypatch.setattr(Path, "rename", stuck)
    with pytest.raises(BadInput, match="cannot be replaced: got No space left"):
        put_bundle(folder, NEW, contents())
    assert load_bundle(folder).manifest.name != "the new one"
    assert (folder / "notes.txt").exists()
    assert [path.name for path in folder.parent.iterdir()] == ["bundle"]
