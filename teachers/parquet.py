"""Parquet files in the hub's layout: an image column (struct of bytes and path) and a label column.

A folder with ``train.parquet``, or shards such as ``train-00000-of-00002.parquet``, and optionally
the same for ``test``, in the folder itself or in its ``data`` subfolder.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import BadInput
from edge.preprocess import Preprocess
from teachers.source import Images, Source, Table, stamp_of

IMAGE_COLUMNS = ("image", "img")
LABEL_COLUMN = "label"
BATCH_ROWS = 256


def open_parquet(source: str) -> Table:
    """Read labels and class names; images stay in the files until they are asked for."""
    train, test = _shards(Path(source), "train"), _shards(Path(source), "test")
    shards = [(shard, _labels(shard)) for shard in (*train, *test)]
    labels = np.concatenate([part for _, part in shards])
    train_rows = sum(len(part) for _, part in shards[: len(train)])

    def read(preprocess: Preprocess, start: int) -> Iterator[Images]:
        for shard, part in shards:
            if start < len(part):
                for name, data in _image_bytes(shard, start):
                    yield preprocess.decode(data, name)
            start = max(0, start - len(part))

    def stamp() -> str:
        return stamp_of(shard for shard, _ in shards)

    name = Path(source).resolve().name
    return Table(name, labels, _class_names(train[0]), train_rows, read, stamp)


def _shards(folder: Path, split: str) -> list[Path]:
    for place in (folder, folder / "data"):
        found = sorted(place.glob(f"{split}-*.parquet"))
        whole = place / f"{split}.parquet"
        if whole.is_file() and found:
            raise BadInput(
                f"two versions of the {split} table",
                value=f"{whole} and {found[0].name}",
                bound="one file or one set of shards",
                remedy="Remove one of them.",
            )
        if whole.is_file() or found:
            return [whole] if whole.is_file() else found
    return []


def _open(shard: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(shard)
    except (OSError, pa.ArrowException) as error:
        raise BadInput(
            "data file cannot be read",
            value=f"{shard} ({error})",
            bound="a whole Parquet file",
            remedy="It may be truncated: copy it again.",
        ) from None


def _labels(shard: Path) -> NDArray[np.int64]:
    import pyarrow as pa

    with _open(shard) as file:
        schema = file.schema_arrow
        if LABEL_COLUMN not in schema.names or not pa.types.is_integer(
            schema.field(LABEL_COLUMN).type
        ):
            raise _bad_columns(shard, schema, f"an integer column {LABEL_COLUMN!r}")
        _image_column(shard, schema)
        column = file.read(columns=[LABEL_COLUMN]).column(LABEL_COLUMN)
    if column.null_count:
        raise BadInput(
            f"{column.null_count} rows have no label",
            value=str(shard),
            bound="a label in every row",
            remedy="Remove these rows.",
        )
    labels: NDArray[np.int64] = column.to_numpy().astype(np.int64)
    return labels


def _image_column(shard: Path, schema: Any) -> str:
    import pyarrow as pa

    for name in IMAGE_COLUMNS:
        if name in schema.names:
            kind = schema.field(name).type
            if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
                return name
    raise _bad_columns(shard, schema, "a column 'image' or 'img' of struct{bytes, path}")


def _bad_columns(shard: Path, schema: Any, bound: str) -> BadInput:
    columns = ", ".join(f"{field.name}: {field.type}" for field in schema)
    return BadInput(
        "data file has other columns",
        value=f"{shard} with {columns}",
        bound=bound,
        remedy="Write it in the hub's layout, image: {bytes, path} and label: int64.",
    )


def _image_bytes(shard: Path, start: int) -> Iterator[tuple[str, bytes]]:
    with _open(shard) as file:
        column = _image_column(shard, file.schema_arrow)
        row = 0
        for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=[f"{column}.bytes"]):
            images = batch.column(0).field("bytes")
            for at in range(max(0, start - row), len(images)):
                # A row without bytes fails to decode like any other broken image.
                yield f"row {row + at} of {shard}", images[at].as_py() or b""
            row += len(images)


def _class_names(shard: Path) -> tuple[str, ...]:
    """The names that the hub keeps in the schema's metadata; empty where there are none."""
    with _open(shard) as file:
        metadata = file.schema_arrow.metadata or {}
    try:
        info = json.loads(metadata.get(b"huggingface", b"{}"))["info"]
        names = info["features"][LABEL_COLUMN]["names"]
    except (ValueError, KeyError, TypeError):
        return ()
    if isinstance(names, list) and all(isinstance(name, str) for name in names):
        return tuple(names)
    return ()


PARQUET = Source(
    form="a folder with train.parquet (and test.parquet)",
    accepts=lambda source: bool(_shards(Path(source), "train")),
    open=open_parquet,
)
