"""What every source of data gives: a table of labelled images that has been opened, not yet read.

Labels are read at once, because they are small and tell most of what can be wrong; pixels only on
request, some rows at a time. The members stand in :data:`teachers.data.datasets.DATASETS`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.preprocess import Preprocess

Images = NDArray[np.uint8]
Rows = NDArray[np.int64]

NO_ROWS: Rows = np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class Remark:
    """Something that users should know of their data.

    ``name``: of a warning about sense, such as "duplicates"; empty for what is merely told.
    """

    text: str
    name: str = ""


@dataclass(frozen=True)
class Table:
    """An opened source.

    Attributes:
        name: of the data.
        labels: int64 N in [0, number of classes).
        class_names: empty where the source names none.
        train_rows: rows [0, train_rows) are the training table in its own order, the others the
            test table, which may be empty.
        read: ``read(preprocess, start)`` decodes row after row from ``start`` on, each uint8 H×W×C;
            it raises BadInput for an image that cannot be read or has another size, and names it.
        stamp: a text that differs once the source has been changed; reads no pixel.
        validation_rows: so many rows at the end of the training table are a validation split: the
            teacher was not trained on them.
        remarks: what was left out, and what was made of the rest.
        files: the files that rows lie in, a picture each or a shard of many; row i lies in
            ``files[file_of[i]]``. Empty where rows are in no file.
        root: the folder that the files belong to.
        given_names: the classes' names as the source itself spells them, in the order of the
            labels, where ``class_names`` are a teacher's; empty where it names none.
    """

    name: str
    labels: Rows
    class_names: tuple[str, ...]
    train_rows: int
    read: Callable[[Preprocess, int], Iterator[Images]]
    stamp: Callable[[], str]
    validation_rows: int = 0
    remarks: tuple[Remark, ...] = ()
    files: Sequence[Path] = ()
    file_of: Rows = field(default_factory=NO_ROWS.copy)
    root: Path | None = None
    given_names: tuple[str, ...] = ()

    @property
    def own_rows(self) -> int:
        """Rows of the training table before its validation split."""
        return self.train_rows - self.validation_rows


@dataclass(frozen=True)
class Source:
    """One kind of source: which texts it ``accepts``, how it is told to users, how it opens."""

    form: str
    accepts: Callable[[str], bool]
    open: Callable[[str], Table]


def decoded(table: Table, preprocess: Preprocess, *, start: int, step: int) -> Iterator[Images]:
    """The rows of ``table`` from ``start`` on as uint8 n×H×W×C, n = ``step`` or, at the end, less.

    Raises:
        BadInput: an image cannot be read or has another size.
    """
    rows = iter(table.read(preprocess, start))
    while block := list(islice(rows, step)):
        yield np.stack(block)


def stamp_of(files: Iterable[Path]) -> str:
    """SHA-256 of the files' places, sizes and times of change."""
    content = hashlib.sha256()
    for path in files:
        about = path.stat()
        content.update(f"{path.absolute()}\0{about.st_size}\0{about.st_mtime_ns}\0".encode())
    return content.hexdigest()
