"""A latency kit: small ONNX graphs of the layers that students are made of, and a manifest.

It is made where the teacher is and timed on the device. A kit is a folder with ``kit.json``, which
names every graph with its checksum and says what work it does, so that whoever predicts latencies
from the times needs the kit no more.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edge import strict
from edge.errors import BadInput
from edge.files import new_folder

FORMAT = 1
MANIFEST = "kit.json"
REMEDY = "The kit is damaged or was edited: copy it again, or make a new one with --make."
#: no graph of a kit is larger: weights are not in the files, but are filled in when they load
MOST_BYTES = 1_000_000
MOST_MANIFEST = 64_000_000

_PLAIN_NAME = re.compile(r"[a-z0-9_]{1,64}\.onnx")


@dataclass(frozen=True)
class Work:
    """What one operator does, as far as its time may depend on it, for one input.

    Attributes:
        op: key of the operator table.
        inputs, outputs: channels read and written.
        area: weights per pair of channels, the kernel's height times its width.
        stride: product over the axes.
        groups: of a convolution; else 1.
        read, wrote: numbers in the tensors that it reads and writes.
        fused: it follows a convolution directly, so that the runtime may do both in one go.
    """

    op: str
    inputs: int
    outputs: int
    area: int
    stride: int
    groups: int
    read: int
    wrote: int
    fused: bool

    def check(self) -> None:
        """BadInput where it is work that no operator does; for what was read from a file."""
        for name in ("inputs", "outputs", "area", "stride", "groups"):
            _check_count(name, getattr(self, name), 1, 10**9)
        for name in ("read", "wrote"):
            _check_count(name, getattr(self, name), 0, 10**12)


@dataclass(frozen=True)
class Graph:
    """One graph of a kit.

    Attributes:
        file: name in the folder.
        sha256: of the file, in hex.
        shape: of its one input without the batch axis.
        alone: a single layer; otherwise a whole student.
        held: bytes of weights once it is loaded.
        works: its operators.
    """

    file: str
    sha256: str
    shape: tuple[int, ...]
    alone: bool
    held: int
    works: tuple[Work, ...]

    def __post_init__(self) -> None:
        if not _PLAIN_NAME.fullmatch(self.file):
            raise _bad("file", self.file, "a plain name that ends in .onnx")
        for work in self.works:
            work.check()
        size = 1
        for extent in self.shape:
            size *= extent
            if extent < 1 or size > 100_000_000:
                raise _bad("shape", self.shape, "an input of at most 100 million numbers")


@dataclass(frozen=True)
class Kit:
    """The manifest of a kit.

    Attributes:
        format: :data:`FORMAT`.
        teacher: its name.
        fingerprint: SHA-256, in hex, of its weights.
        graphs: all of them.
    """

    format: int
    teacher: str
    fingerprint: str
    graphs: tuple[Graph, ...]

    def __post_init__(self) -> None:
        if self.format != FORMAT:
            raise _bad("format", self.format, str(FORMAT))
        if not self.graphs:
            raise _bad("graphs", "none", "at least one graph")

    @property
    def digest(self) -> str:
        """SHA-256, in hex, of the manifest, and so of everything in the kit."""
        return strict.digest(strict.dump(self))


def check_free(folder: Path) -> None:
    """BadInput where a kit would go into a folder that exists."""
    if folder.exists() or folder.is_symlink():
        raise BadInput(
            "the folder for the kit exists",
            value=str(folder),
            bound="a folder that does not exist yet",
            remedy="Choose another one.",
        )


def write_kit(folder: Path, kit: Kit, files: Mapping[str, bytes]) -> None:
    """Write a kit.

    Raises:
        BadInput: the folder exists, or cannot be made.
    """
    check_free(folder)
    try:
        with new_folder(folder) as draft:
            for name, content in files.items():
                (draft / name).write_bytes(content)
            (draft / MANIFEST).write_bytes(strict.canonical(strict.dump(kit)))
    except OSError as error:
        raise BadInput(
            "the kit cannot be written",
            value=str(folder),
            bound="a path where folders can be made",
            remedy=f"Choose another one ({error.strerror}).",
        ) from None


def read_kit(folder: Path) -> Kit:
    """The manifest of a kit.

    Raises:
        BadInput: no kit, or one that is damaged.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise BadInput(
            "there is no latency kit",
            value=str(folder),
            bound=f"a folder with {MANIFEST}",
            remedy="Make one with `understudy profile --make KIT --teacher TEACHER`.",
        )
    text = read_at_most(path, MOST_MANIFEST)
    return strict.parse(Kit, strict.loads(text, str(path), REMEDY), str(path), REMEDY)


def read_graph(folder: Path, graph: Graph) -> bytes:
    """The file of a graph.

    Raises:
        BadInput: it is missing, or not what the manifest says.
    """
    content = read_at_most(folder / graph.file, MOST_BYTES)
    found = hashlib.sha256(content).hexdigest()
    if found != graph.sha256:
        raise _bad(graph.file, f"SHA-256 {found}", graph.sha256)
    return content


def read_at_most(path: Path, limit: int) -> bytes:
    """A regular file; BadInput where there is none, or it is larger than ``limit`` bytes."""
    try:
        if path.is_symlink() or not path.is_file():
            raise _bad(str(path), "no regular file", "a file")
        size = path.stat().st_size
        if size > limit:
            raise _bad(str(path), f"{size:,} bytes", f"at most {limit:,} bytes")
        return path.read_bytes()
    except OSError as error:
        raise _bad(str(path), error.strerror, "a file that can be read") from None


def _check_count(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise _bad(f"an operator's {name}", value, f"a count from {low} to {high:,}")


def _bad(where: str, value: object, bound: str) -> BadInput:
    return BadInput(f"the kit: {where}", value=value, bound=bound, remedy=REMEDY)
