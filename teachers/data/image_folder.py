"""A folder of images per class: ``DIR/class/…``, or ``DIR/train/class/…`` with splits beside it.

Classes are the folders' names in sorted order, as torchvision and Keras have them, and rows are
files sorted by path within a class, so the same folder gives the same rows on every machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edge.errors import BadInput
from edge.preprocess import Preprocess
from teachers.data.class_names import matched
from teachers.data.folder_layout import layout_of
from teachers.data.listing import LeftOut, pictures, subfolders
from teachers.data.source import Images, Remark, Source, Table, stamp_of
from teachers.data.split_names import SPLITS, TRAIN, VALIDATION


def open_folder(source: str) -> Table:
    """List the files; a folder without images is a class without rows."""
    root = Path(source)
    left = LeftOut(root)
    splits = layout_of(root, left)
    names = tuple(name for name, _ in splits[TRAIN])
    files: list[Path] = []
    labels: list[int] = []
    counts = dict.fromkeys(SPLITS, 0)
    for split in SPLITS:
        theirs = [name for name, _ in splits.get(split, [])]
        places = matched(theirs, names)
        for (name, folder), place in zip(splits.get(split, []), places, strict=True):
            if place is None:
                raise BadInput(
                    f"the {split} folder has a class that the training folder lacks",
                    value=str(folder),
                    bound=f"one of the {len(names)} classes in {splits[TRAIN][0][1].parent}",
                    remedy=f"Rename or remove {name}.",
                )
            found = pictures(folder, left)
            files += found
            labels += [place] * len(found)
            counts[split] += len(found)

    def read(preprocess: Preprocess, start: int) -> Iterator[Images]:
        return (preprocess.decode(path) for path in files[start:])

    remarks = [Remark(left.line())] if left.line() else []
    return Table(
        root.resolve().name,
        np.array(labels, dtype=np.int64),
        names,
        counts[TRAIN] + counts[VALIDATION],
        read,
        lambda: stamp_of(files),
        validation_rows=counts[VALIDATION],
        remarks=tuple(remarks),
        files=files,
        file_of=np.arange(len(files), dtype=np.int64),
        root=root,
    )


def accepts(source: str) -> bool:
    """Whether ``source`` is a folder whose classes are folders."""
    root = Path(source)
    return root.is_dir() and bool(subfolders(root, LeftOut(root)))


IMAGE_FOLDER = Source(
    form="a folder with one folder of images per class", accepts=accepts, open=open_folder
)
