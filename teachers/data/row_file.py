"""Arrays larger than memory: a ``.npy`` file that grows by rows and is then read as a memory map.

The file has its name only once it is whole. Until then a hidden draft lies beside it, and whoever
begins again goes on after the rows that are there.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from edge import made
from edge.errors import BadInput

# The disk serves others too, and a job writes a few files more.
SPARE_BYTES = 64 * 1024**2


class RowFile:
    """An array of shape (*leading, *trailing) that is written in order, some rows at a time.

    A row has the shape ``trailing``, which the first one tells; there are as many as ``leading``
    multiplies to. Use it as a context: leaving it early keeps the draft.

    Args:
        path: where the array will be; its folder is made.
        leading: the first sizes of the array.
        dtype: of a number.
    """

    def __init__(self, path: Path, leading: tuple[int, ...], dtype: Any) -> None:
        self.path = path
        self.draft = path.with_name(f".{path.name}.part")
        self.leading = leading
        self.dtype = np.dtype(dtype)
        self.total = math.prod(leading)
        self.rows = 0
        self._start = self._row_bytes = 0
        self._file: BinaryIO | None = None
        with contextlib.suppress(OSError, ValueError):
            self._look_at_draft()

    def __enter__(self) -> RowFile:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def go_on_after(self, rows: int) -> None:
        """Forget what lies behind the first ``rows`` of the draft."""
        self.rows = min(rows, self.rows)

    def append(self, block: NDArray[Any]) -> None:
        """Write the next rows, shape (n, *trailing).

        Raises:
            BadInput: the disk is full.
        """
        try:
            if self._file is None:
                self._file = self._open(block.shape[1:])
            self._file.write(np.ascontiguousarray(block, dtype=self.dtype).data)
            self._file.flush()
        except OSError as error:
            raise BadInput(
                "a file of the job cannot be written",
                value=f"{self.draft} ({error.strerror})",
                bound="room on the disk",
                remedy="Make room, or choose another --out.",
            ) from None
        self.rows += len(block)

    def finish(self) -> None:
        """Give the file its name. ValueError unless all rows are there."""
        if self.rows != self.total:
            raise ValueError(f"{self.path} has {self.rows} of {self.total} rows")
        self.__exit__()
        with self.draft.open("ab") as file:
            # or a machine that fails may keep the name and lose the rows
            os.fsync(file.fileno())
        self.draft.replace(self.path)
        made.note(self.path)

    def _look_at_draft(self) -> None:
        with self.draft.open("rb") as file:
            if npy.read_magic(file) != (1, 0):
                return
            shape, _, dtype = npy.read_array_header_1_0(file)
            if shape[: len(self.leading)] != self.leading or dtype != self.dtype:
                return
            self._start = file.tell()
            self._row_bytes = dtype.itemsize * math.prod(shape[len(self.leading) :])
            written = file.seek(0, os.SEEK_END) - self._start
        self.rows = min(written // max(1, self._row_bytes), self.total)

    def _open(self, trailing: tuple[int, ...]) -> BinaryIO:
        row_bytes = self.dtype.itemsize * math.prod(trailing)
        if self.rows and self._row_bytes == row_bytes:
            os.truncate(self.draft, self._start + self.rows * row_bytes)
            return self.draft.open("ab")
        made.make_folder(self.draft.parent)
        file = self.draft.open("wb")
        made.note(self.draft, grows=True)
        shape = (*self.leading, *trailing)
        head = {"descr": npy.dtype_to_descr(self.dtype), "fortran_order": False, "shape": shape}
        npy.write_array_header_1_0(file, head)
        return file


def read_map(path: Path) -> NDArray[Any]:
    """The array of a ``.npy`` file, read from the disk where and when it is looked at.

    Read-only. A plain array, because numpy's own kind of it is slower to index.
    """
    return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))


def check_room(folder: Path, needed: int, what: str) -> None:
    """Refuse what will not fit on the disk of ``folder``, which need not exist yet.

    Raises:
        BadInput: names the bytes needed and the bytes free.
    """
    place = folder.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    free = shutil.disk_usage(place).free
    if needed + SPARE_BYTES > free:
        raise BadInput(
            f"the disk has no room for {what}",
            value=f"{needed + SPARE_BYTES:,} bytes needed in {folder}",
            bound=f"at most the {free:,} bytes that are free",
            remedy="Make room, choose another --out, or take fewer rows or smaller images.",
        )
