"""What is uploaded: a teacher's files, or data, made ready to be sent and known by a digest.

The same files give the same digest, so that what a service has is not sent again.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Literal

from edge.errors import BadInput

#: bytes from which an upload goes in pieces, as one file
LARGE = 64 << 20
WEIGHTS = (".onnx", ".safetensors")
#: endings of the file beside an ONNX file in which exporters put its weights
OUTSIDE = (".data", "_data")
#: single files that are data
DATA_FILES = (".parquet", ".npz", ".zip")


@dataclass(frozen=True)
class Parcel:
    """Files of one upload.

    Attributes:
        kind: what they are.
        name: for people.
        files: name on the service → place here.
        digest: as the service keeps them.
        bytes: of all of them.
    """

    kind: Literal["teacher", "dataset"]
    name: str
    files: tuple[tuple[str, Path], ...]
    digest: str
    bytes: int

    @classmethod
    def of(cls, kind: Literal["teacher", "dataset"], name: str, files: Sequence[tuple[str, Path]]
           ) -> Parcel:  # fmt: skip
        """The parcel of some files, which are read for their digest."""
        size = sum(path.stat().st_size for _, path in files)
        return cls(kind, name[:200], tuple(files), _digest(files), size)


@contextmanager
def teacher_parcel(teacher: str) -> Iterator[Parcel]:
    """A teacher's file, the JSON and the weights beside it; a large one as one zip file.

    Raises:
        BadInput: no such file, or one that is no teacher.
    """
    path = Path(teacher)
    suffix = path.suffix.lower()
    if suffix not in WEIGHTS or not path.is_file():
        raise BadInput(
            "this teacher cannot be sent to a service",
            value=teacher,
            bound=f"a file ending in {' or '.join(WEIGHTS)}, or the id of one that was uploaded",
            remedy="Check the path; a Python function runs on this machine alone: export it.",
            field="teacher",
        )
    files = [(f"teacher{suffix}", path)]
    about = path.with_suffix(".json")
    if about.is_file():
        files.append(("teacher.json", about))
    for ending in OUTSIDE:
        outside = path.with_name(path.name + ending)
        if suffix == ".onnx" and outside.is_file():
            files.append((outside.name, outside))  # by its own name, which the model holds
    with _readable("teacher", teacher):
        if sum(file.stat().st_size for _, file in files) < LARGE or len(files) == 1:
            yield Parcel.of("teacher", path.stem, files)
            return
        with _zipped(files, "teacher.zip") as packed:
            yield Parcel.of("teacher", path.stem, [("teacher.zip", packed)])


@contextmanager
def data_parcel(data: str) -> Iterator[Parcel]:
    """Data as one file: a folder as a zip file of its images and tables.

    Raises:
        BadInput: no data.
    """
    path = Path(data)
    name = path.resolve().name
    with _readable("data", data):
        if path.is_file() and path.suffix.lower() in DATA_FILES:
            yield Parcel.of("dataset", path.stem, [(path.name, path)])
            return
        files = list(_data_files(path)) if path.is_dir() else []
        if not files:
            raise BadInput(
                "these data cannot be sent to a service",
                value=f"{data!r}, " + ("a folder without any" if path.is_dir() else "not there"),
                bound="a folder of images or of .parquet files, a .parquet, .npz or .zip file, "
                "'digits', or the id of data that were uploaded",
                remedy="Check the path.",
                field="data",
            )
        with _zipped(files, "data.zip") as packed:
            yield Parcel.of("dataset", name, [("data.zip", packed)])


def _data_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """The images and tables below a folder: nothing else in it is anybody's business."""
    from PIL import Image

    known = {".parquet"} | {
        suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN
    }
    for here, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__")))
        for name in sorted(names):
            path = Path(here, name)
            if not name.startswith(".") and path.suffix.lower() in known and path.is_file():
                yield path.relative_to(folder).as_posix(), path


@contextmanager
def _zipped(files: Sequence[tuple[str, Path]], name: str) -> Iterator[Path]:
    """A temporary zip file; images are compressed already, so it only holds them together."""
    with tempfile.TemporaryDirectory(prefix="understudy-") as folder:
        target = Path(folder, name)
        with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
            for inside, path in sorted(files):
                entry = zipfile.ZipInfo(inside, (1980, 1, 1, 0, 0, 0))
                entry.external_attr = 0o644 << 16
                entry.file_size = path.stat().st_size
                with path.open("rb") as source, archive.open(entry, "w") as sink:
                    shutil.copyfileobj(source, sink, 1 << 20)
        yield target


@contextmanager
def _readable(what: str, place: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BadInput(
            f"the {what} cannot be read, or packed",
            value=f"{place} ({error.strerror or error})",
            bound="files that can be read, and room in the temporary folder for a copy",
            remedy="Look at their permissions, or set TMPDIR to a disk with room.",
            field=what,
        ) from None


def _digest(files: Sequence[tuple[str, Path]]) -> str:
    """As the service computes it: of one file its own, of several that of their list."""
    found = []
    for name, path in files:
        with path.open("rb") as stream:
            found.append((name, file_digest(stream, "sha256").hexdigest()))
    if len(found) == 1:
        return found[0][1]
    lines = [f"{digest} {name}\n" for name, digest in sorted(found)]
    return sha256("".join(lines).encode()).hexdigest()
