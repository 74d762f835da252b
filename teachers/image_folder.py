"""A folder of images per class: ``DIR/class/…`` or ``DIR/train/class/…`` with ``DIR/test/class/…``.

Classes are the folders' names in sorted order, and rows are files sorted by path within a class,
so the same folder gives the same rows on every machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edge.errors import BadInput
from edge.preprocess import Preprocess
from teachers.source import Images, Source, Table, stamp_of

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})


def open_folder(source: str) -> Table:
    """List the files; a folder without images is a class without rows."""
    root = Path(source)
    train_root = _train_root(root)
    names = tuple(folder.name for folder in _folders(train_root))
    files = _files(train_root, names)
    train_rows = len(files)
    test_root = root / "test"
    if train_root != root and test_root.is_dir():
        unknown = sorted({folder.name for folder in _folders(test_root)} - set(names))
        if unknown:
            raise BadInput(
                "the test folder has a class that the training folder lacks",
                value=str(test_root / unknown[0]),
                bound=f"one of the {len(names)} classes in {train_root}",
                remedy="Rename or remove it.",
            )
        files += _files(test_root, names)

    def read(preprocess: Preprocess, start: int) -> Iterator[Images]:
        return (preprocess.decode(path) for path, _ in files[start:])

    def stamp() -> str:
        return stamp_of(path for path, _ in files)

    labels = np.array([label for _, label in files], dtype=np.int64)
    return Table(root.resolve().name, labels, names, train_rows, read, stamp)


def accepts(source: str) -> bool:
    """Whether ``source`` is a folder whose classes are folders."""
    root = Path(source)
    return root.is_dir() and bool(_folders(_train_root(root)))


def _train_root(root: Path) -> Path:
    train = root / "train"
    return train if train.is_dir() and _folders(train) else root


def _folders(root: Path) -> list[Path]:
    return sorted(
        path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")
    )


def _files(root: Path, names: tuple[str, ...]) -> list[tuple[Path, int]]:
    files = []
    for label, name in enumerate(names):
        folder = root / name
        found = folder.rglob("*") if folder.is_dir() else ()
        files += [(path, label) for path in sorted(found) if path.suffix.lower() in SUFFIXES]
    return files


IMAGE_FOLDER = Source(
    form="a folder with one folder of images per class", accepts=accepts, open=open_folder
)
