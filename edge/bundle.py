"""A bundle on disk: written whole or not at all, and read only when every byte is as written.

A bundle is a folder:

    manifest.json        figures, threshold, preprocessing, checksums of everything else
    pair.onnx            what the device runs: both of the following and the threshold, "image"
                         [N, C, H, W] → "logits" [N, K], "score" [N], "trusted" [N]
    student.onnx         the compressed model: "image" [N, C, H, W] → "logits" [N, K]
    router.onnx          who to trust: "logits" [N, K] → "score" [N]; not where the student's own
                         graph gives the score
    student.safetensors  the student's weights
    netspec.json         the student's layers: with the weights, enough to train it further
    MODEL_CARD.md        the same for human readers

The checksums protect against damage and careless edits, not against a forger: whoever can write
the folder can write matching checksums.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from edge import strict
from edge.errors import BadInput
from edge.files import new_folder
from edge.manifest import (
    REMEDY,
    Calibration,
    Figure,
    FileRecord,
    Manifest,
    PairInfo,
    RouterInfo,
    StudentInfo,
    TeacherInfo,
)

__all__ = [
    "REQUIRED_FILES",
    "Bundle",
    "Calibration",
    "Figure",
    "FileRecord",
    "Manifest",
    "PairInfo",
    "RouterInfo",
    "StudentInfo",
    "TeacherInfo",
    "load_bundle",
    "write_bundle",
]

MANIFEST = "manifest.json"
REQUIRED_FILES = (
    "pair.onnx",
    "student.onnx",
    "student.safetensors",
    "netspec.json",
    "MODEL_CARD.md",
)

# Some 500,000 calibration rows; a bound keeps a wrong file from filling a small device's memory.
MAX_MANIFEST_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Bundle:
    """A verified bundle: its folder and what its manifest says."""

    path: Path
    manifest: Manifest

    def read(self, name: str) -> bytes:
        """The bytes of one of its files, verified once more: the folder may have changed since
        it was loaded. Raises BadInput."""
        record = self.manifest.files.get(name)
        if record is None:
            raise _bad(f"bundle {self.path} has no file of this name", name, _list(self.manifest))
        return _read_verified(self.path / name, record)


def write_bundle(folder: str | Path, manifest: Manifest, contents: Mapping[str, bytes]) -> Manifest:
    """Write a bundle; ``contents`` are its files by name, the manifest excepted.

    Fills in the manifest's checksums and sizes and returns it as written. The files go into a
    temporary folder beside the target, are read back and verified, and only then renamed, so no
    reader sees half a bundle and nothing stays behind after an error. Raises BadInput when the
    target exists or cannot be written, or when ``contents`` and manifest do not fit together.
    """
    folder = Path(folder)
    complete = _with_records(manifest, contents)
    _refuse_existing(folder)
    text = json.dumps(complete.to_json(), indent=1, ensure_ascii=False, allow_nan=False)
    try:
        with new_folder(folder) as draft:
            for name, data in contents.items():
                (draft / name).write_bytes(data)
            (draft / MANIFEST).write_text(text + "\n", encoding="utf-8")
            load_bundle(draft)
            _refuse_existing(folder)
    except OSError as error:
        raise _unwritable(folder, error) from error
    return complete


def load_bundle(folder: str | Path) -> Bundle:
    """Read and verify a bundle: manifest, presence, size and checksum of every file.

    Files that the manifest does not name are left alone and never opened. Raises BadInput for
    the first thing that is wrong, naming the file.
    """
    folder = Path(folder)
    if not folder.is_dir():
        kind = "a file" if folder.exists() else "nothing"
        raise BadInput(
            f"bundle {folder} cannot be opened",
            value=f"{kind} at that path",
            bound=f"a folder with {MANIFEST}",
            remedy="Give the folder named bundle in the output of a finished job.",
        )
    text = _read_regular(folder / MANIFEST, MAX_MANIFEST_BYTES)
    manifest = Manifest.from_json(strict.loads(text, str(folder / MANIFEST), REMEDY))
    _check_records(manifest)
    for name, record in manifest.files.items():
        _read_verified(folder / name, record)
    return Bundle(folder, manifest)


def _with_records(manifest: Manifest, contents: Mapping[str, bytes]) -> Manifest:
    records = {
        name: FileRecord(hashlib.sha256(data).hexdigest(), len(data))
        for name, data in sorted(contents.items())
    }
    student, router, pair = manifest.student, manifest.router, manifest.pair
    for name in (student.file, router.file, pair.file):
        if name not in records:
            raise _bad("bundle: a file named in the manifest is not given", name, "its contents")
    complete = replace(
        manifest,
        files=records,
        student=replace(student, bytes=records[student.file].bytes),
        router=replace(router, bytes=records[router.file].bytes),
        pair=replace(pair, bytes=records[pair.file].bytes),
    )
    _check_records(complete)
    return complete


def _check_records(manifest: Manifest) -> None:
    """What the manifest says of its files must be complete and agree with itself."""
    for name in REQUIRED_FILES:
        if name not in manifest.files:
            raise _bad("bundle: a file is missing from the manifest", name, _list(manifest))
    for role, file, size in (
        ("student", manifest.student.file, manifest.student.bytes),
        ("router", manifest.router.file, manifest.router.bytes),
        ("pair", manifest.pair.file, manifest.pair.bytes),
    ):
        record = manifest.files.get(file)
        if record is None:
            raise _bad(f"manifest.json: {role}.file", file, _list(manifest))
        if record.bytes != size:
            raise _bad(f"manifest.json: {role}.bytes", size, f"{record.bytes}, as under files")


def _read_verified(path: Path, record: FileRecord) -> bytes:
    # One byte more than expected is read at most, however large the file has grown.
    data = _read_regular(path, record.bytes)
    if len(data) != record.bytes:
        raise _bad(f"size of {path}", f"{len(data)} bytes", f"{record.bytes} bytes")
    found = hashlib.sha256(data).hexdigest()
    if found != record.sha256:
        raise _bad(f"SHA-256 of {path}", found, record.sha256)
    return data


def _read_regular(path: Path, limit: int) -> bytes:
    """The bytes of a regular file, at most ``limit``; a link could lead out of the folder."""
    if path.is_symlink() or not path.is_file():
        kind = "a link" if path.is_symlink() else "a folder" if path.is_dir() else "no such file"
        raise _bad(f"bundle: {path} cannot be read", kind, "a regular file")
    try:
        with path.open("rb") as stream:
            data = stream.read(limit + 1)
    except OSError as error:
        raise _bad(
            f"bundle: {path} cannot be read", error.strerror or error, "a readable file"
        ) from error
    if len(data) > limit:
        raise _bad(f"size of {path}", f"more than {limit} bytes", f"at most {limit} bytes")
    return data


def _refuse_existing(folder: Path) -> None:
    if folder.is_symlink() or folder.exists():
        raise BadInput(
            "output folder of the bundle",
            value=f"{folder}, which exists",
            bound="a path that is free",
            remedy="Choose another folder, or remove this one.",
        )


def _unwritable(folder: Path, error: OSError) -> BadInput:
    return BadInput(
        f"bundle {folder} cannot be written",
        value=error.strerror or error,
        bound="a folder that can be made, with room for the files",
        remedy="Choose another folder or free some space.",
    )


def _list(manifest: Manifest) -> str:
    return "one of " + (", ".join(sorted(manifest.files)) or "no files")


def _bad(where: str, value: object, bound: str) -> BadInput:
    return BadInput(where, value=value, bound=bound, remedy=REMEDY)
