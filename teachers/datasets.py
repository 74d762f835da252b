"""Where data comes from, and whether it fits a teacher.

A member of :data:`DATASETS` is one file that opens a source as a
:class:`~teachers.source.Table`, and one line here; the checks are the same for all.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edge.errors import BadInput
from edge.preprocess import Preprocess
from teachers.digits import DIGITS
from teachers.image_folder import IMAGE_FOLDER
from teachers.parquet import PARQUET
from teachers.source import Dataset, Source, Table

__all__ = ["DATASETS", "MAX_BYTES", "Dataset", "check_dataset", "load_dataset", "open_dataset"]

MAX_BYTES = 8 * 1024**3
PEEK_ROWS = 3

# The first member that accepts a source opens it, so the more particular stand first.
DATASETS: dict[str, Source] = {
    "digits": DIGITS,
    "parquet": PARQUET,
    "image-folder": IMAGE_FOLDER,
}


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


def check_dataset(
    source: str,
    preprocess: Preprocess,
    classes: int,
    class_names: tuple[str, ...] = (),
    *,
    max_bytes: int = MAX_BYTES,
) -> None:
    """Refuse data that do not fit a teacher, reading no more than labels and a few images.

    ``classes`` and ``class_names`` are the teacher's. BadInput where the source is missing, its
    classes are not the teacher's, a class has no training row, an image cannot be read or has
    another size, or the images would need more than ``max_bytes`` of memory.
    """
    table = open_dataset(source)
    _check_classes(table, classes, class_names)
    _check_memory(table, preprocess, max_bytes)
    table.read(preprocess, PEEK_ROWS)


def load_dataset(
    source: str,
    preprocess: Preprocess,
    class_names: tuple[str, ...] = (),
    *,
    max_bytes: int = MAX_BYTES,
) -> Dataset:
    """Read all of ``source`` into memory as uint8 images.

    ``class_names`` (the teacher's) name the classes where the source does not. BadInput for an
    image that cannot be read or has another size, and for more than ``max_bytes`` of images.
    """
    table = open_dataset(source)
    _check_memory(table, preprocess, max_bytes)
    names = table.class_names or class_names
    if not names:
        names = tuple(str(label) for label in range(int(table.labels.max(initial=0)) + 1))
    return Dataset(
        name=table.name,
        images=table.read(preprocess, None),
        labels=table.labels,
        class_names=names,
        train_rows=table.train_rows,
    )


def _check_classes(table: Table, classes: int, class_names: tuple[str, ...]) -> None:
    if len(table.labels) == 0 or table.train_rows == 0:
        raise BadInput(
            f"data {table.name} is empty",
            value="0 training rows",
            bound="at least one row in every class",
            remedy="Check the path.",
        )
    lowest, highest = int(table.labels.min()), int(table.labels.max())
    found = len(table.class_names) or highest + 1
    if lowest < 0 or max(found, highest + 1) != classes:
        raise BadInput(
            f"the classes of data {table.name} are not the teacher's",
            value=f"{max(found, highest + 1)} classes, labels {lowest} to {highest}",
            bound=f"{classes} classes, labels 0 to {classes - 1}",
            remedy="Take the data that this teacher was trained for.",
        )
    names = table.class_names or class_names
    if class_names and set(names) == set(class_names) and names != class_names:
        first = next(i for i, name in enumerate(names) if name != class_names[i])
        raise BadInput(
            f"the classes of data {table.name} stand in another order than the teacher's",
            value=f"label {first} = {names[first]!r}",
            bound=f"label {first} = {class_names[first]!r}, as in the teacher's JSON",
            remedy="Renumber the labels, or rename the class folders, in the teacher's order.",
        )
    rows = np.bincount(table.labels[: table.train_rows], minlength=classes)
    if not rows.all():
        empty = int(np.flatnonzero(rows == 0)[0])
        name = names[empty] if names else str(empty)
        raise BadInput(
            f"class {name!r} of data {table.name} is empty",
            value="0 training rows",
            bound="at least one row in every class",
            remedy="Add images of this class, or take a teacher without it.",
        )


def _check_memory(table: Table, preprocess: Preprocess, max_bytes: int) -> None:
    rows, needed = len(table.labels), len(table.labels) * int(np.prod(preprocess.input_shape))
    if needed > max_bytes:
        raise BadInput(
            f"data {table.name} is too large for memory",
            value=f"{rows} images of {preprocess.input_shape}, {needed / 1024**3:.1f} GiB as uint8",
            bound=f"at most {max_bytes / 1024**3:.1f} GiB",
            remedy="Take fewer rows or smaller images.",
        )
