"""A bundle is written whole or not at all, and read only when every byte is as written."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge import bundle, strict
from edge.bundle import Calibration, load_bundle, write_bundle
from edge.errors import BadInput
from edge.manifest import CHECKSUM_KEY, Manifest
from edge.strict import digest
from tests.edge.models import bundle_at, contents, manifest

#: of the bundle that is looked at here
FILES = tuple(contents())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return bundle_at(tmp_path / "bundle").path


def edit(folder: Path, change: Callable[[dict[str, Any]], object], *, sign: bool = True) -> None:
    """Change the manifest on disk; ``sign`` as a forger would, with a fitting checksum."""
    path = folder / "manifest.json"
    value = json.loads(path.read_text(encoding="utf-8"))
    change(value)
    if sign:
        del value[CHECKSUM_KEY]
        value[CHECKSUM_KEY] = strict.digest(value)
    path.write_text(json.dumps(value), encoding="utf-8")


def test_what_was_written_is_what_is_read(tmp_path: Path) -> None:
    files = contents()
    written = write_bundle(tmp_path / "deep" / "bundle", manifest(), files)
    loaded = load_bundle(tmp_path / "deep" / "bundle")
    assert loaded.manifest == written
    assert {name: loaded.read(name) for name in loaded.manifest.files} == files
    # What the writer filled in, and nothing else.
    assert written.student.bytes == len(files["student.onnx"])
    assert written.router.bytes == len(files["router.onnx"])
    assert written.pair.bytes == len(files["pair.onnx"])
    plain = manifest()
    same = replace(written, files={}, student=plain.student, router=plain.router, pair=plain.pair)
    assert same == plain


def test_only_the_bundle_is_left_behind(folder: Path) -> None:
    assert [entry.name for entry in folder.parent.iterdir()] == ["bundle"]
    assert {entry.name for entry in folder.iterdir()} == {"manifest.json", *FILES}


def test_the_manifest_can_be_read_by_any_json_parser(folder: Path) -> None:
    value = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert value["version"] == 3
    assert value["figures"]["pair.accuracy"] == {"value": 0.9, "part": "test", "rows": 10}
    assert value["figures"]["pair.acc_i"]["value"] is None
    assert value["warnings"] == ["A tiny example — nothing was measured."]


def test_a_bundle_of_the_version_before_is_read_and_written_anew(folder: Path) -> None:
    """Version 2 knew neither the pair's operators nor a licence."""
    before = load_bundle(folder).manifest
    path = folder / "manifest.json"
    value = json.loads(path.read_text(encoding="utf-8"))
    del value["manifest_sha256"], value["licence"], value["pair"]["operators"]
    value["version"] = 2
    path.write_text(json.dumps({**value, "manifest_sha256": digest(value)}), encoding="utf-8")

    found = load_bundle(folder).manifest
    assert found == before
    assert found.to_json()["version"] == 3
    # what is missing for another reason is damage still
    del value["class_names"]
    path.write_text(json.dumps({**value, "manifest_sha256": digest(value)}), encoding="utf-8")
    with pytest.raises(BadInput, match="missing key: got no class_names"):
        load_bundle(folder)


@pytest.mark.parametrize("taken", ["folder", "empty folder", "file", "dangling link"])
def test_an_existing_target_is_never_touched(tmp_path: Path, taken: str) -> None:
    target = tmp_path / "bundle"
    if taken == "file":
        target.write_text("mine")
    elif taken == "dangling link":
        target.symlink_to(tmp_path / "nowhere")
    else:
        target.mkdir()
        if taken == "folder":
            (target / "mine").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(BadInput, match="which exists; expected a path that is free"):
        write_bundle(target, manifest(), contents())
    assert sorted(tmp_path.rglob("*")) == before


def test_a_failure_half_way_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = Path.write_bytes, []

    def full_disk(path: Path, data: bytes) -> int:
        calls.append(path.name)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        return real(path, data)

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(BadInput, match="got No space left on device"):
        write_bundle(tmp_path / "bundle", manifest(), contents())
    assert len(calls) == 3
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_half_way_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(bundle, "load_bundle", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_bundle(tmp_path / "bundle", manifest(), contents())
    assert list(tmp_path.iterdir()) == []


def test_a_parent_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="cannot be written"):
        write_bundle(tmp_path / "file" / "bundle", manifest(), contents())


@pytest.mark.parametrize("name", FILES)
def test_a_bundle_is_not_written_without_a_required_file(tmp_path: Path, name: str) -> None:
    files = contents()
    del files[name]
    with pytest.raises(BadInput, match=name):
        write_bundle(tmp_path / "bundle", manifest(), files)
    assert list(tmp_path.iterdir()) == []


UNSAFE_NAMES = ["../up", "/etc/x", "a/b", "..", ".hidden", "", "a\\b", "a\nb", "manifest.json"]


@pytest.mark.parametrize("name", UNSAFE_NAMES)
def test_a_name_that_is_not_plain_is_never_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInput, match="expected a plain name"):
        write_bundle(tmp_path / "bundle", manifest(), {**contents(), name: b""})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", UNSAFE_NAMES)
def test_a_name_that_is_not_plain_is_never_read(folder: Path, name: str) -> None:
    # The target exists with the right checksum, so that only the name can be the reason.
    (folder.parent / "up").write_bytes(b"weights")
    edit(folder, lambda m: m["files"].update({name: m["files"]["student.safetensors"]}))
    with pytest.raises(BadInput, match="expected a plain name"):
        load_bundle(folder)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["flipped bit", "cut", "longer", "missing", "folder", "link"])
def test_any_damaged_file_is_refused_by_name(folder: Path, name: str, damage: str) -> None:
    path = folder / name
    data = path.read_bytes()
    if damage == "flipped bit":
        middle = len(data) // 2
        path.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
    elif damage == "cut":
        path.write_bytes(data[:-1])
    elif damage == "longer":
        path.write_bytes(data + b"\n")
    else:
        path.unlink()
        if damage == "folder":
            path.mkdir()
        elif damage == "link":
            (folder.parent / "outside").write_bytes(data)
            path.symlink_to(folder.parent / "outside")
    reason = {
        "flipped bit": "SHA-256",
        "cut": "size",
        "longer": "size",
        "missing": "no such file",
        "folder": "a folder",
        "link": "a link",
    }[damage]
    with pytest.raises(BadInput, match=f"{reason}|{name}") as caught:
        load_bundle(folder)
    assert reason in str(caught.value)
    assert name in str(caught.value)


def test_two_files_that_changed_places_are_refused(folder: Path) -> None:
    student, router = folder / "student.onnx", folder / "router.onnx"
    student.rename(folder / "x")
    router.rename(student)
    (folder / "x").rename(router)
    with pytest.raises(BadInput, match=r"size of .*\.onnx"):
        load_bundle(folder)


def test_a_file_is_verified_again_when_it_is_read(folder: Path) -> None:
    loaded = load_bundle(folder)
    (folder / "netspec.json").write_bytes(b"[]")
    with pytest.raises(BadInput, match=r"SHA-256 of .*netspec\.json"):
        loaded.read("netspec.json")
    with pytest.raises(BadInput, match="no file of this name"):
        loaded.read("manifest.json")


def test_files_that_the_manifest_does_not_name_are_left_alone(folder: Path) -> None:
    (folder / "notes.txt").write_text("mine")
    assert "notes.txt" not in load_bundle(folder).manifest.files


def test_an_edited_manifest_is_refused(folder: Path) -> None:
    edit(folder, lambda m: m.update(threshold=0.1), sign=False)
    with pytest.raises(BadInput, match="its own checksum"):
        load_bundle(folder)


def test_a_manifest_laid_out_otherwise_is_the_same_manifest(folder: Path) -> None:
    before = load_bundle(folder).manifest
    path = folder / "manifest.json"
    value = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(dict(reversed(value.items())), indent=4), encoding="utf-8")
    assert load_bundle(folder).manifest == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(version=1), "version of the format: got 1; expected 2 or 3"),
        (lambda m: m.update(version="2"), "version of the format: got 2; expected 2 or 3"),
        (lambda m: m.update(version=3.0), "version of the format: got 3.0; expected 2 or 3"),
        (lambda m: m.update(version=4), "version of the format: got 4; expected 2 or 3"),
        (lambda m: m["pair"].pop("operators"), "manifest.json.pair: missing key: got no operators"),
        (lambda m: m["pair"]["operators"].update(x=0), "operators.x: got 0; expected at least 1"),
        (lambda m: m.pop("licence"), "missing key: got no licence"),
        (lambda m: m.update(version=True), "version of the format: got True"),
        (lambda m: m.pop("version"), "version of the format: got none"),
        (lambda m: m.update(author="me"), "unknown key: got author"),
        (lambda m: m.pop("threshold"), "missing key: got no threshold"),
        (lambda m: m["student"].pop("macs"), "manifest.json.student: missing key: got no macs"),
        (lambda m: m.update(threshold="0.5"), "threshold: got .*; expected a number"),
        (lambda m: m.update(threshold=None), "threshold: got null; expected a number"),
        (lambda m: m.update(threshold=True), "threshold: got true; expected a number"),
        (lambda m: m.update(goal={"appeals": "few"}), "goal.*appeals: got .*; expected a number"),
        (lambda m: m["parts"].update(test=-1), "parts.test: got -1; expected at least 0"),
        (lambda m: m.update(created="yesterday"), "created: got yesterday; expected a date"),
        (lambda m: m.update(name=" "), "name: .*expected some text"),
        (lambda m: m.update(class_names=["a"]), "class_names: .*at least two names"),
        (lambda m: m.update(class_names=["a", "a"]), "class_names: .*each once"),
        (lambda m: m["preprocess"].update(std=[0]), "std: got .*; expected numbers above 0"),
        (lambda m: m["router"].update(kind="oracle"), "kind: .*one of family, score"),
        (lambda m: m["router"].update(input="pixels"), "input: .*one of logits, builtin"),
        (lambda m: m["student"].update(parameters=0), "parameters: got 0; expected at least 1"),
        (lambda m: m["student"].update(kb=-1), "student.kb: got -1.0; expected at least 0"),
        (lambda m: m["student"].update(bytes=5), r"student\.bytes: got 5; expected \d+"),
        (lambda m: m["student"].update(file="other.onnx"), r"student\.file: got other\.onnx"),
        (lambda m: m["router"].update(file="../r.onnx"), "expected a plain name"),
        (lambda m: m["teacher"].update(fingerprint="abc"), "fingerprint: .*64 hexadecimal"),
        (lambda m: m["figures"]["pair.accuracy"].pop("part"), "missing key: got no part"),
        (lambda m: m["figures"]["pair.accuracy"].update(part=""), "figure.part"),
        (lambda m: m["figures"]["pair.accuracy"].update(rows=-1), "figure.rows: got -1"),
        (lambda m: m["calibration"]["score"].pop(), "got 1 scores, 2 student_right"),
        (lambda m: m["calibration"].update(teacher_right=[1]), "1 teacher_right; .*one length"),
        (lambda m: m["calibration"].update(student_right=[0, 2]), r"student_right\[1\]: got 2"),
        (lambda m: m["calibration"].update(student_right=[0, True]), r"student_right\[1\]"),
        (lambda m: m["files"].pop("netspec.json"), r"missing from the manifest: got netspec\.json"),
        (lambda m: m["files"]["netspec.json"].update(sha256="0"), "64 hexadecimal digits"),
        (lambda m: m["files"]["netspec.json"].update(bytes=-2), "bytes: got -2"),
    ],
)
def test_a_forged_manifest_out_of_range_is_refused(
    folder: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    edit(folder, change)
    with pytest.raises(BadInput, match=message):
        load_bundle(folder)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '"\\ud800"', '{"version": 2, "x": NaN}', '{"version": 1e999}']
)
def test_a_manifest_that_is_no_manifest_is_refused(folder: Path, text: str) -> None:
    (folder / "manifest.json").write_text(text, encoding="utf-8")
    with pytest.raises(BadInput, match="damaged or was edited"):
        load_bundle(folder)


def test_text_that_is_no_text_is_refused(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_text(path.read_text(encoding="utf-8").replace("two pixels", "\\ud800"))
    with pytest.raises(BadInput, match="its own checksum"):
        load_bundle(folder)


@pytest.mark.parametrize("depth", [900, *range(970, 1000), 100_000])
def test_nesting_without_end_is_refused_at_any_depth(folder: Path, depth: int) -> None:
    # Around the interpreter's limit one of reading and writing again can fail alone.
    text = '{"version": 2, "x": ' + "[" * depth + "]" * depth + "}"
    (folder / "manifest.json").write_text(text)
    with pytest.raises(BadInput, match="damaged or was edited"):
        load_bundle(folder)


def test_a_manifest_without_end_is_not_read_into_memory(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle, "MAX_MANIFEST_BYTES", 1000)
    with pytest.raises(BadInput, match="got more than 1000 bytes"):
        load_bundle(folder)


@pytest.mark.parametrize("what", ["nothing", "file", "empty folder"])
def test_a_path_that_is_no_bundle_is_refused(tmp_path: Path, what: str) -> None:
    path = tmp_path / "bundle"
    if what == "file":
        path.write_text("")
    elif what == "empty folder":
        path.mkdir()
    with pytest.raises(BadInput, match=r"manifest\.json"):
        load_bundle(path)


def test_nan_cannot_be_written() -> None:
    with pytest.raises(BadInput, match="threshold: got nan; expected a finite number"):
        manifest(float("nan"))
    with pytest.raises(BadInput, match=r"calibration.score\[0\]: got inf"):
        Calibration((float("inf"),), (1,), (1,))


def test_the_checksum_covers_every_key() -> None:
    value = manifest().to_json()
    body = {key: item for key, item in value.items() if key != CHECKSUM_KEY}
    assert value[CHECKSUM_KEY] == strict.digest(body)
    for key in body:
        with pytest.raises(BadInput, match="its own checksum|version of the format"):
            Manifest.from_json({**value, key: "changed"})
