"""Where data comes from, and whether it fits a teacher.

A member of :data:`DATASETS` is one file that opens a source as a
:class:`~teachers.data.source.Table`, and one line here; the checks are the same for all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.errors import BadInput
from edge.preprocess import Preprocess
from teachers.data.class_names import fit_classes
from teachers.data.digits import DIGITS
from teachers.data.image_file import ImageFile, block_rows, digest_of, image_bytes, write_images
from teachers.data.image_folder import IMAGE_FOLDER
from teachers.data.parquet import PARQUET
from teachers.data.part_checks import check_unseen
from teachers.data.row_file import check_room
from teachers.data.source import Images, Source, Table, decoded
from teachers.data.unseen import Unseen, find_unseen
from teachers.formats.manifest import TeacherManifest

MAX_BYTES = 8 * 1024**3
PEEK_ROWS = 3

# The first member that accepts a source opens it, so the more particular stand first.
DATASETS: dict[str, Source] = {
    "digits": DIGITS,
    "parquet": PARQUET,
    "image-folder": IMAGE_FOLDER,
}


@dataclass(frozen=True)
class Dataset:
    """Labelled images, in memory or in a file that is mapped into it.

    ``images`` is uint8 N×H×W×C, ``labels`` int64 N in [0, len(class_names)). Rows [0, train_rows)
    are the training table in its own order, rows [train_rows, N) the test table, which may be
    empty. ``file`` is where the images lie if they are mapped: they are then to be read a batch at
    a time, and the file goes to other processes in their place.
    """

    name: str
    images: Images
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    train_rows: int
    file: ImageFile | None = None

    @cached_property
    def digest(self) -> str:
        """SHA-256 of images and labels."""
        pixels = self.file.digest if self.file else digest_of(self.images)
        about = f"{self.images.shape} {self.train_rows} {pixels}"
        content = hashlib.sha256(about.encode())
        content.update(np.ascontiguousarray(self.labels).data)
        return content.hexdigest()


def open_dataset(source: str) -> Table:
    """Open ``source`` with the member that accepts it; BadInput where none does."""
    for member in DATASETS.values():
        if member.accepts(source):
            return member.open(source)
    found = "nothing" if not Path(source).exists() else "neither Parquet tables nor class folders"
    forms = ", or ".join(member.form for member in DATASETS.values())
    raise BadInput(
        "data not found",
        value=f"{source!r}, where there is {found}",
        bound=forms,
        remedy="Check the path; train.parquet needs an image and a label column.",
    )


def open_for(
    source: str,
    manifest: TeacherManifest,
    *,
    unseen: str | None = None,
    beside: Path | None = None,
) -> Unseen:
    """Open ``source`` with the teacher's labels, and find the rows that it was not trained on.

    ``unseen`` overrides what the teacher's JSON says of them; ``beside`` is a folder from which
    paths may start. BadInput where the source is missing, its classes are not the teacher's, or
    such rows cannot be found or lack most classes.
    """
    names = manifest.class_names if manifest.named else ()
    text = unseen or manifest.unseen
    found = find_unseen(open_dataset(source), text, open_dataset, names=names, beside=beside)
    table = fit_classes(found.table, manifest.classes, names)
    check_unseen(table.labels, table.own_rows, found.rows, table.class_names)
    return replace(found, table=table)


def check_dataset(
    source: str,
    preprocess: Preprocess,
    classes: int,
    class_names: tuple[str, ...] = (),
    *,
    max_bytes: int = MAX_BYTES,
    folder: Path | None = None,
) -> None:
    """Refuse data that do not fit a teacher, reading no more than labels and a few images.

    ``classes`` and ``class_names`` are the teacher's. BadInput where the source is missing, its
    classes are not the teacher's, a class has no training row, an image cannot be read or has
    another size, or the images would need more than ``max_bytes`` of memory and, decoded into
    ``folder``, more room than its disk has.
    """
    table = fit_classes(open_dataset(source), classes, class_names)
    check_table(table, preprocess, classes, max_bytes=max_bytes, folder=folder)


def check_table(
    table: Table,
    preprocess: Preprocess,
    classes: int,
    *,
    max_bytes: int = MAX_BYTES,
    folder: Path | None = None,
) -> None:
    """:func:`check_dataset` of a source that has been opened, and whose classes fit."""
    _check_rows(table, classes)
    if folder is None:
        _check_memory(table, preprocess, max_bytes)
    elif image_bytes(table, preprocess) > max_bytes and not list(folder.glob("*images-*")):
        check_room(folder, image_bytes(table, preprocess), f"the decoded images of {table.name}")
    next(decoded(table, preprocess, start=0, step=PEEK_ROWS))


def load_dataset(
    source: str,
    preprocess: Preprocess,
    class_names: tuple[str, ...] = (),
    *,
    max_bytes: int = MAX_BYTES,
) -> Dataset:
    """Read all of ``source`` into memory as uint8 images.

    ``class_names`` (the teacher's) number and name the classes. BadInput for classes that are not
    those, an image that cannot be read or has another size, and for more than ``max_bytes`` of
    images.
    """
    table = open_dataset(source)
    if class_names:
        table = fit_classes(table, len(class_names), class_names)
    _check_memory(table, preprocess, max_bytes)
    return read_dataset(table, preprocess, class_names)


def read_dataset(
    table: Table, preprocess: Preprocess, class_names: tuple[str, ...] = ()
) -> Dataset:
    """:func:`load_dataset` of a source that has been opened, whatever its size."""
    images = np.empty((len(table.labels), *preprocess.pixel_shape), dtype=np.uint8)
    row, step = 0, block_rows(preprocess.pixel_shape)
    for block in decoded(table, preprocess, start=0, step=step):
        images[row : row + len(block)] = block
        row += len(block)
    return _dataset(table, images, class_names)


def map_dataset(
    table: Table, preprocess: Preprocess, class_names: tuple[str, ...], folder: Path
) -> Generator[int, None, Dataset]:
    """:func:`read_dataset` into a file in ``folder``, for data beyond memory.

    Yields the rows that are done. What an earlier call has decoded is not decoded again. BadInput
    as well where the disk lacks the room, before anything is decoded.
    """
    file = yield from write_images(table, preprocess, folder)
    return _dataset(table, file.open(), class_names, file)


def _dataset(
    table: Table, images: Images, class_names: tuple[str, ...], file: ImageFile | None = None
) -> Dataset:
    names = table.class_names or class_names
    if not names:
        names = tuple(str(label) for label in range(int(table.labels.max(initial=0)) + 1))
    return Dataset(table.name, images, table.labels, names, table.train_rows, file)


def _check_rows(table: Table, classes: int) -> None:
    rows = np.bincount(table.labels[: table.own_rows], minlength=classes)
    if not rows.all():
        empty = int(np.flatnonzero(rows == 0)[0])
        name = table.class_names[empty] if table.class_names else str(empty)
        raise BadInput(
            f"class {name!r} of data {table.name} is empty",
            value="0 training rows",
            bound="at least one row in every class",
            remedy="Add images of this class, or take a teacher without it.",
        )


def _check_memory(table: Table, preprocess: Preprocess, max_bytes: int) -> None:
    rows, needed = len(table.labels), image_bytes(table, preprocess)
    if needed > max_bytes:
        raise BadInput(
            f"data {table.name} is too large for memory",
            value=f"{rows} images of {preprocess.input_shape}, {needed / 1024**3:.1f} GiB as uint8",
            bound=f"at most {max_bytes / 1024**3:.1f} GiB",
            remedy="Take fewer rows or smaller images; a job maps them from its folder "
            "beyond --memory-gb.",
        )
