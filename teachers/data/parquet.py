"""Parquet files in the hub's layout: an image column (struct of bytes and path) and a label column.

A folder with ``train.parquet``, or shards such as ``train-00000-of-00002.parquet``, and perhaps the
same for validation and test, in the folder itself, in its ``data`` subfolder, or in a folder per
split. One file by itself is a training table.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge.errors import BadInput
from edge.preprocess import Preprocess
from teachers.data.class_names import matched
from teachers.data.listing import LeftOut, is_system
from teachers.data.source import Images, Remark, Rows, Source, Table, stamp_of
from teachers.data.split_names import SPLITS, TRAIN, VALIDATION, is_bare, split_of

IMAGE_COLUMNS = ("image", "img")
LABEL_COLUMN = "label"
BATCH_ROWS = 256
SUFFIX = ".parquet"
#: what the hub gives a row whose label is secret, as in a test split
NO_LABEL = -1

NO_SPLIT = "tables that are no split"

_SHARD = re.compile(r"(.*?)[-_.]?\d+(?:[-_]of[-_]\d+)?(?:-[0-9a-f]{8,})?", re.IGNORECASE)


def open_parquet(source: str) -> Table:
    """Read labels and class names; images stay in the files until they are asked for."""
    root = Path(source)
    left = LeftOut(root)
    tables = _tables(root, left)
    remarks: list[Remark] = []
    names = _class_names(tables[TRAIN][0])
    shards: list[tuple[Path, NDArray[np.int64]]] = []
    counts = dict.fromkeys(SPLITS, 0)
    for split in SPLITS:
        parts = _labelled(tables.get(split, []), split, root.name, remarks)
        if parts and split != TRAIN:
            parts = _as_named(parts, names)
        shards += parts
        counts[split] = sum(len(part) for _, part in parts)
    labels = np.concatenate([part for _, part in shards])

    def read(preprocess: Preprocess, start: int) -> Iterator[Images]:
        for shard, part in shards:
            if start < len(part):
                for name, data in _image_bytes(shard, start):
                    yield preprocess.decode(data, name)
            start = max(0, start - len(part))

    def stamp() -> str:
        return stamp_of(shard for shard, _ in shards)

    if left.line():
        remarks.append(Remark(left.line()))
    return Table(
        root.resolve().name,
        labels,
        names,
        counts[TRAIN] + counts[VALIDATION],
        read,
        stamp,
        validation_rows=counts[VALIDATION],
        remarks=tuple(remarks),
        files=[shard for shard, _ in shards],
        file_of=np.repeat(np.arange(len(shards)), [len(part) for _, part in shards]),
        root=root if root.is_dir() else root.parent,
    )


def accepts(source: str) -> bool:
    """Whether ``source`` is a Parquet file, or a folder of such with a training table."""
    return TRAIN in _tables(Path(source), LeftOut(Path(source)))


def _tables(root: Path, left: LeftOut) -> dict[str, list[Path]]:
    """The files of every split; none where there is no training table.

    Raises:
        BadInput: two versions of a split.
    """
    if root.suffix.lower() == SUFFIX and root.is_file():
        return {TRAIN: [root]}
    for place in (root, root / "data"):
        found = _splits(place, left)
        if TRAIN in found:
            return found
    for place in (root, root / "data"):
        # the tables of one split, which nobody named
        unnamed = _files(place)
        if (
            unnamed
            and len({_base(path) for path in unnamed}) == 1
            and not split_of(_base(unnamed[0]))
        ):
            return {TRAIN: unnamed}
    return {}


def _splits(place: Path, left: LeftOut) -> dict[str, list[Path]]:
    """The files of every split in a folder, by the names of files and of folders."""
    versions: dict[str, dict[str, list[Path]]] = {}
    others = []
    for path in _files(place):
        split = split_of(_base(path))
        if split is None:
            others.append(path)
        else:
            # a whole table and a set of shards are two versions, whatever they are called
            kind = _base(path) + ("" if path.stem == _base(path) else "-*")
            versions.setdefault(split, {}).setdefault(kind, []).append(path)
    for folder in _folders(place):
        inner, split = _files(folder), split_of(folder.name)
        if inner and split:
            versions.setdefault(split, {})[folder.name] = inner
    found = {}
    for split, kinds in versions.items():
        bare = {kind: paths for kind, paths in kinds.items() if is_bare(kind.removesuffix("-*"))}
        chosen = bare or kinds
        if len(chosen) > 1:
            one, other = list(chosen.values())[:2]
            raise BadInput(
                f"two versions of the {split} table",
                value=f"{one[0]} and {other[0].relative_to(place)}",
                bound="one file or one set of shards",
                remedy="Remove one of them.",
            )
        found[split] = next(iter(chosen.values()))
        others += [path for kind, paths in kinds.items() if kind not in chosen for path in paths]
    if TRAIN in found:
        for path in others:
            left.add(NO_SPLIT, path)
    return found


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() == SUFFIX and path.is_file() and not is_system(path.name)
    )


def _folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and not is_system(path.name))


def _base(path: Path) -> str:
    """The name of a file without the number of its shard: "train" of train-00000-of-00002."""
    found = _SHARD.fullmatch(path.stem)
    return found[1] if found else path.stem


def _labelled(
    shards: Sequence[Path], split: str, name: str, remarks: list[Remark]
) -> list[tuple[Path, NDArray[np.int64]]]:
    """Shards with their labels; none of a split that has none, which is told."""
    if split == TRAIN:
        return [(shard, _labels(shard)) for shard in shards]
    if all(_lacks_labels(shard) for shard in shards):
        if shards:
            text = f"the {split} split has no labels ({shards[0].name})"
            remarks.append(Remark(f"left out of {name}: {text}"))
        return []
    return [(shard, _labels(shard)) for shard in shards]


def _as_named(
    parts: list[tuple[Path, NDArray[np.int64]]], names: tuple[str, ...]
) -> list[tuple[Path, NDArray[np.int64]]]:
    """The labels of a split as the training split's names number them."""
    own = _class_names(parts[0][0])
    if not own or not names or own == names:
        return parts
    places = [place for place in matched(own, names) if place is not None]
    if len(places) != len(own):
        raise BadInput(
            "a split has a class that the training table lacks",
            value=f"{parts[0][0].name}: {', '.join(own)}",
            bound=", ".join(names),
            remedy="Write both with the same names.",
        )
    number = np.array(places, dtype=np.int64)
    return [(shard, number[labels]) for shard, labels in parts]


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


def _lacks_labels(shard: Path) -> bool:
    """Whether a shard has no label column, or nothing in it but -1 and nothing."""
    with _open(shard) as file:
        if LABEL_COLUMN not in file.schema_arrow.names:
            return True
        column = file.read(columns=[LABEL_COLUMN]).column(LABEL_COLUMN)
    return all(value in (None, NO_LABEL) for value in column.unique().to_pylist())


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
    accepts=accepts,
    open=open_parquet,
)


def write_parquet(
    path: Path, blocks: Iterable[tuple[Images, Rows]], class_names: Sequence[str] = ()
) -> None:
    """Write a table as :func:`open_parquet` reads it, with images as PNG, in the hub's layout.

    Args:
        path: of the file; its folder is made.
        blocks: pixels n×H×W×C, C 1 or 3, and labels n, some rows at a time.
        class_names: of the labels 0, 1, …; empty where they have none.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    label: dict[str, Any] = {"_type": "Value", "dtype": "int64"}
    if class_names:
        label = {"_type": "ClassLabel", "names": list(class_names)}
    about = {"info": {"features": {"image": {"_type": "Image"}, "label": label}}}
    columns = [("image", kind), ("label", pa.int64())]
    schema = pa.schema(columns, metadata={"huggingface": json.dumps(about)})
    path.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(path, schema) as writer:
        for images, labels in blocks:
            pictures = [{"bytes": _png(image), "path": None} for image in images]
            arrays = [pa.array(pictures, kind), pa.array(labels, pa.int64())]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


def _png(image: Images) -> bytes:
    content = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(content, "PNG")
    return content.getvalue()
