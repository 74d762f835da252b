"""The file of pairs: what students and their teacher say of rows that no student has learnt from.

One Parquet file with everything that the study needs in it: no data and no teacher are read. A row
of the table is a row of a data set; its students, which were withheld the same rows, are columns.
Logits are whole multiples of 1/1024: as fine as float16 is at 1, and finer beyond.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from benchmarks.quality import packing
from benchmarks.routing import making
from envs.graph.check import parse_netspec
from envs.graph.netspec import NetSpec
from routers.selection.labels import student_right

FILE = Path(__file__).resolve().parents[1] / "data" / "router_pairs.parquet"
COMMAND = "python benchmarks/routers.py pairs"
#: the teacher was trained on rows of the first; nobody in the pair on those of the others
WITHHELD, UNSEEN = "withheld", ("validation", "calibration", "test")
PARTS = (WITHHELD, *UNSEEN)
GRID = 1024
#: columns of a data set's students, the smallest first
STUDENTS = ("small", "large")

Logits = NDArray[np.float32]
Rows = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Pair:
    """One student and its teacher on N rows.

    Attributes:
        name: data set and KB.
        part: N names of :data:`PARTS`.
        rows: N numbers of rows in the data set.
        labels: N.
        logits: of the student, float32 N×K.
        teacher_right: N of 0 and 1.
        flipped: of the student about the mirrored images, N×K; None where those mean nothing.
        teacher: logits of the teacher, N×K; nan on withheld rows, where it was trained.
        about: how the pair was made, and ``netspec``.
    """

    name: str
    part: NDArray[np.str_]
    rows: Rows
    labels: Rows
    logits: Logits
    teacher_right: Rows
    flipped: Logits | None
    teacher: Logits
    about: dict[str, Any]

    @property
    def student_right(self) -> Rows:
        """N of 0 and 1."""
        return student_right(self.logits, self.labels)

    @property
    def network(self) -> NetSpec:
        """The student's description."""
        return parse_netspec(json.dumps(self.about["netspec"]))

    def of(self, *parts: str) -> Rows:
        """Places (0 to N − 1) of the rows of some parts."""
        return np.flatnonzero(np.isin(self.part, parts))


def pack(out: Path = making.OUT, file: Path = FILE) -> dict[str, dict[str, float]]:
    """Write the file from all pairs that are finished.

    Returns:
        for each pair, the largest error of a logit and how many answers the rounding changes.
    """
    tables, about, lost = [], {}, {}
    for data in making.DATA:
        names = [
            task.name
            for task in sorted(making.TASKS, key=lambda task: task.kb)
            if task.data == data and (out / task.name / "about.json").exists()
        ]
        if not names:
            continue
        found = [making.answers(name, out) for name in names]
        tables.append(_table(data, found))
        for name, column, said in zip(names, STUDENTS, found, strict=False):
            about[name] = making.about(name, out) | {"column": column}
            lost[name] = _lost(said)
    if not tables:
        raise FileNotFoundError(f"no pair is finished in {out}; make them: {COMMAND}")
    columns = {
        name: pa.concat_arrays([table[name] for table in tables]).dictionary_encode()
        if name in ("data", "part")
        else pa.concat_arrays([table[name] for table in tables])
        for name in tables[0]
    }
    meta = {"command": COMMAND, "grid": GRID, "pairs": about}
    packing.write(file, columns, {b"understudy": json.dumps(meta).encode()})
    return lost


def _table(data: str, found: list[dict[str, NDArray[Any]]]) -> dict[str, pa.Array]:
    """The columns of one data set."""
    rows = np.concatenate([found[0][f"{part}.rows"] for part in PARTS])
    for said in found[1:]:
        if not np.array_equal(rows, np.concatenate([said[f"{part}.rows"] for part in PARTS])):
            raise ValueError(f"the students of {data} were withheld different rows")
    labels = np.concatenate([found[0][f"{part}.labels"] for part in PARTS])
    teacher = np.concatenate([found[0][f"{part}.teacher"] for part in PARTS])
    part = np.repeat(PARTS, [len(found[0][f"{part}.rows"]) for part in PARTS])
    table = {
        "data": pa.array([data] * len(rows)),
        "part": pa.array(part),
        "row": pa.array(rows.astype(np.int32)),
        "label": pa.array(labels.astype(np.int8)),
        "teacher_right": pa.array(student_right(teacher, labels).astype(bool)),
        "teacher": _on_grid(teacher, part != WITHHELD),
    }
    for place, column in enumerate(STUDENTS):
        for kind, suffix in (("student", ""), ("flipped", "_flipped")):
            keys = [f"{part}.{kind}" for part in PARTS]
            there = place < len(found) and keys[0] in found[place]
            logits = np.concatenate([found[place][key] for key in keys]) if there else 0 * teacher
            table[column + suffix] = _on_grid(logits, np.full(len(rows), there))
    return table


def _on_grid(logits: Logits, there: NDArray[np.bool_]) -> pa.Array:
    """Lists of K int16, null where nothing is kept. ValueError where a logit is too large."""
    steps = np.rint(np.where(there[:, None], logits, 0) * GRID)
    if not np.abs(steps).max(initial=0) < 2**15:
        raise ValueError(f"a logit lies beyond ±{2**15 // GRID}, the largest that is kept")
    flat = pa.array(steps.astype(np.int16).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, logits.shape[1], mask=pa.array(~there))


def _lost(said: dict[str, NDArray[Any]]) -> dict[str, float]:
    logits = np.concatenate([said[f"{part}.student"] for part in PARTS])
    kept = (np.rint(logits * GRID) / GRID).astype(np.float32)
    changed = np.sum(kept.argmax(axis=1) != logits.argmax(axis=1))
    return {"error": float(np.abs(kept - logits).max()), "answers": float(changed)}


def read(file: Path = FILE) -> list[Pair]:
    """All pairs of the file."""
    table = pq.read_table(file)
    meta = json.loads(table.schema.metadata[b"understudy"])
    sets = table["data"].to_numpy()
    pairs = []
    for name, about in meta["pairs"].items():
        mine = np.flatnonzero(sets == about["data"])
        part = table.take(pa.array(mine))
        column = about["column"]
        logits = _off_grid(part[column], meta["grid"])
        flipped = _off_grid(part[f"{column}_flipped"], meta["grid"])
        pairs.append(
            Pair(
                name,
                part["part"].to_numpy().astype(np.str_),
                part["row"].to_numpy().astype(np.int64),
                part["label"].to_numpy().astype(np.int64),
                logits,
                part["teacher_right"].to_numpy().astype(np.int64),
                None if np.isnan(flipped).any() else flipped,
                _off_grid(part["teacher"], meta["grid"]),
                about,
            )
        )
    return pairs


def _off_grid(column: pa.ChunkedArray, grid: int) -> Logits:
    """float32 N×K; nan where nothing was kept."""
    lists = column.combine_chunks()
    width = lists.type.list_size
    # the values of a null list are there, and mean nothing
    values = np.asarray(lists.values, dtype=np.float32).reshape(-1, width)
    values = values[lists.offset : lists.offset + len(lists)] / np.float32(grid)
    found: Logits = np.where(np.asarray(lists.is_null())[:, None], np.float32(np.nan), values)
    return found
