"""Images beyond memory: decoded once into a file that every process maps, never read as a whole."""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge.files import write_bytes
from edge.preprocess import Preprocess
from teachers.data.row_file import RowFile, check_room, read_map
from teachers.data.source import Images, Table, decoded

#: bytes that are in hand at a time
BLOCK_BYTES = 8 * 1024**2


@dataclass(frozen=True)
class ImageFile:
    """Where images lie, and what must be there: sent to other processes in their place.

    Pickling a memory map would copy all of it.

    Attributes:
        path: absolute, of a ``.npy`` file.
        shape: N×H×W×C, of uint8.
        digest: SHA-256 of the pixels.
    """

    path: str
    shape: tuple[int, ...]
    digest: str

    def open(self) -> Images:
        """The images as a read-only memory map."""
        images: Images = read_map(Path(self.path))
        return images

    def missing(self) -> str | None:
        """Why these images cannot be had on this machine, or None; reads no pixel."""
        host = socket.gethostname()
        try:
            here = _stored(Path(self.path))
        except (OSError, ValueError, KeyError, TypeError) as error:
            return f"{host} cannot read the images {self.path} ({type(error).__name__})"
        if here != self:
            return f"{host} has other images in {self.path}"
        return None


def digest_of(images: Images) -> str:
    """SHA-256 of the pixels, looked at a few megabytes at a time."""
    content = hashlib.sha256()
    step = block_rows(images.shape[1:])
    for start in range(0, len(images), step):
        content.update(np.ascontiguousarray(images[start : start + step]).data)
    return content.hexdigest()


def block_rows(pixel_shape: tuple[int, ...]) -> int:
    """How many images of a shape (H, W, C) are handled at a time."""
    return max(1, BLOCK_BYTES // int(np.prod(pixel_shape)))


def image_bytes(table: Table, preprocess: Preprocess) -> int:
    """What all images of ``table`` take, decoded."""
    return len(table.labels) * int(np.prod(preprocess.pixel_shape))


def write_images(
    table: Table, preprocess: Preprocess, folder: Path
) -> Generator[int, None, ImageFile]:
    """Decode ``table`` into a file in ``folder``; yields the rows that are done.

    The file is named by what it was made of: a second call finds it, and one that was stopped goes
    on after the rows that it had written.

    Raises:
        BadInput: the disk lacks the room, before anything is decoded; or an image cannot be read.
    """
    path = folder.absolute() / f"images-{_key(table, preprocess)}.npy"
    if not _sidecar(path).exists():
        yield from _decode(table, preprocess, path)
        shape = [len(table.labels), *preprocess.pixel_shape]
        about = {"shape": shape, "digest": digest_of(read_map(path))}
        write_bytes(_sidecar(path), json.dumps(about).encode())
    return _stored(path)


def _decode(table: Table, preprocess: Preprocess, path: Path) -> Generator[int, None, None]:
    if path.exists():
        return
    rows, step = len(table.labels), block_rows(preprocess.pixel_shape)
    with RowFile(path, (rows,), np.uint8) as file:
        left = image_bytes(table, preprocess) // max(1, rows) * (rows - file.rows)
        check_room(path.parent, left, f"the decoded images of {table.name}")
        for block in decoded(table, preprocess, start=file.rows, step=step):
            file.append(block)
            yield file.rows
        file.finish()


def _sidecar(path: Path) -> Path:
    return path.with_suffix(".json")


def _stored(path: Path) -> ImageFile:
    """What lies at ``path``; OSError, ValueError, KeyError or TypeError where it is damaged."""
    about = json.loads(_sidecar(path).read_text(encoding="utf-8"))
    shape = tuple(about["shape"])
    images = read_map(path)
    if images.shape != shape or images.dtype != np.uint8:
        raise ValueError(f"{path} holds {images.dtype} {images.shape}, not uint8 {shape}")
    return ImageFile(str(path), shape, str(about["digest"]))


def _key(table: Table, preprocess: Preprocess) -> str:
    about = f"{preprocess.pixel_shape} {preprocess.resize} {len(table.labels)} {table.stamp()}"
    return hashlib.sha256(about.encode()).hexdigest()[:16]
