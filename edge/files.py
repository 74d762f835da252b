"""Files and folders that are there whole or not at all."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge import made
from edge.errors import BadInput


def draft_of(path: Path) -> Path:
    """A free name beside a file or folder, under which it is made."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file; its folder is made where it is missing.

    Raises:
        OSError: it cannot be written; what stood there before still does.
    """
    made.make_folder(path.parent)
    draft = draft_of(path)
    try:
        draft.write_bytes(content)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    made.note(path)


def write_asked(path: Path, content: bytes, what: str, other: str) -> None:
    """Write a file whose place the user chose.

    Args:
        path: where.
        content: what.
        what: it is, as in "the page".
        other: what to choose another of, as in "place with --page".

    Raises:
        BadInput: it cannot be written there.
    """
    try:
        write_bytes(path, content)
    except OSError as error:
        raise BadInput(
            f"{what} cannot be written",
            value=str(path),
            bound="a path where files can be made",
            remedy=f"Choose another {other} ({error.strerror}).",
        ) from None


def write_array(path: Path, array: NDArray[Any]) -> None:
    """Write an ``.npy`` file."""
    content = BytesIO()
    np.save(content, array)
    write_bytes(path, content.getvalue())


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A draft to fill, which becomes the folder at the end, or is gone after an error.

    Raises:
        OSError: it cannot be made, or the folder is there by then and not empty.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = draft_of(folder)
    draft.mkdir()
    try:
        yield draft
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
