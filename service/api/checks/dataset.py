"""Uploaded data: a folder as ``--data`` takes it, made of what was sent."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from edge.errors import BadInput
from edge.preprocess import Preprocess
from service.api.checks.archive import unpack
from service.api.checks.arrays import write_arrays
from service.jobs.content import link

#: images that are decoded to see whether they can be
LOOKED_AT = 16
#: as which they are
ANY_SIZE = Preprocess(channels=3, height=16, width=16, mean=(0.5,) * 3, std=(0.5,) * 3, resize=True)
#: classes that are listed by name
MOST_TOLD = 1000


def check_dataset_upload(incoming: Path, content: Path) -> dict[str, Any]:
    """Fill ``content`` with the data of ``incoming``; rows, classes and splits.

    Raises:
        BadInput: data that cannot be used.
    """
    files = [path for path in incoming.iterdir() if path.is_file()]
    kinds = {path.suffix.lower() for path in files}
    if kinds == {".zip"} and len(files) == 1:
        unpack(files[0], content)
    elif kinds == {".npz"} and len(files) == 1:
        write_arrays(files[0], content)
    elif kinds == {".parquet"}:
        for path in files:
            link(path, content / _table_name(path, len(files)))
    else:
        raise BadInput(
            "this is no data set",
            value=", ".join(sorted(path.name for path in files)[:6]) or "no file",
            bound="one .zip of an image folder, one .npz, or .parquet files",
            remedy="Pack the folder as a zip file.",
            field="file",
        )
    return facts(content)


def _table_name(path: Path, count: int) -> str:
    """A lone table of any name is the training table."""
    named = any(word in path.stem.lower() for word in ("train", "test", "val"))
    return path.name if named or count > 1 else "train.parquet"


def facts(folder: Path) -> dict[str, Any]:
    """What is told of data; some images are decoded, so that nonsense is refused now.

    Raises:
        BadInput: data that cannot be used.
    """
    from teachers.data.datasets import open_dataset

    table = open_dataset(str(folder))
    list(islice(table.read(ANY_SIZE, 0), LOOKED_AT))  # refuses what cannot be decoded
    labels = np.asarray(table.labels)
    counts = np.bincount(labels).tolist()
    return {
        "rows": len(labels),
        "training_rows": table.own_rows,
        "validation_rows": table.validation_rows,
        "test_rows": len(labels) - table.train_rows,
        "classes": len(counts),
        "class_names": list(table.given_names or table.class_names)[:MOST_TOLD],
        "class_counts": counts[:MOST_TOLD],
        "remarks": [remark.text for remark in table.remarks],
    }
