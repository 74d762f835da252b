"""Which rows the teacher was not trained on, as its owner names them.

Rows of the training table by number ("last 5000 rows"), by class ("50 per class"), by the split
that they are ("validation"), or by files: a folder, a list of files, or a Parquet table, of the
data or beside them.
"""

from __future__ import annotations

import json
import os
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path, PurePosixPath

import numpy as np

from edge.errors import BadInput
from edge.preprocess import Preprocess
from teachers.data.class_names import matched
from teachers.data.listing import LeftOut, is_picture, is_system, own_pictures
from teachers.data.source import NO_ROWS, Images, Remark, Rows, Table
from teachers.data.split_names import TEST, VALIDATION, split_of
from teachers.data.splits import UNSEEN_FORMS, is_spelled, parse_unseen

PATH_FORMS = "a folder, a Parquet file, or a text file with one path a line"
LIST_SUFFIXES = ("", ".txt", ".lst", ".list", ".csv", ".tsv", ".json")
MOST_LIST_BYTES = 256 * 1024**2


@dataclass(frozen=True)
class Unseen:
    """Rows that the teacher was not trained on.

    Attributes:
        table: of the data, with what lies beside them as the end of its training table.
        rows: sorted row numbers of ``table``, or None where nobody names any.
        claimed: whether they were brought as pictures of their own, so that a training row with
            the same pixels is one of them, not a reason to doubt them.
    """

    table: Table
    rows: Rows | None
    claimed: bool = False


def find_unseen(
    table: Table,
    text: str | None,
    opened: Callable[[str], Table],
    *,
    names: Sequence[str] = (),
    beside: Path | None = None,
) -> Unseen:
    """The rows that ``text`` names, and those of a validation split.

    Args:
        table: of the data, with its labels as they are there.
        text: as on the command line or in the teacher's JSON; None where nobody says.
        opened: opens another source of data.
        names: of classes, where ``table`` has none.
        beside: another folder that paths may start from, such as the teacher's.

    Raises:
        BadInput: the text is not understood, or names no row.
    """
    split = np.arange(table.own_rows, table.train_rows, dtype=np.int64)
    words = (text or "").strip()
    if words.lower() == "none":
        return Unseen(table, None)
    if not words:
        if not len(split):
            return Unseen(table, None)
        told = (
            f"the validation split of {table.name} ({len(split):,} rows) serves as rows that the "
            "teacher was not trained on: validation and calibration come from it"
        )
        return Unseen(_with(table, told), split)
    if words.lower() == "all":
        return Unseen(table, np.arange(table.train_rows, dtype=np.int64))
    if is_spelled(words):
        rows = parse_unseen(words, table.own_rows, table.labels)
        assert rows is not None
        return Unseen(table, np.union1d(rows, split))
    for path in _places(words, table.root, beside):
        if path.is_dir() or path.suffix.lower() == ".parquet":
            return _of_path(table, path, split, opened, names)
        return Unseen(table, np.union1d(_listed(table, path), split))
    if (rows := _of_split(table, split_of(words))) is not None:
        return Unseen(table, np.union1d(rows, split))
    raise BadInput(
        "rows unseen by the teacher are not understood",
        value=repr(text),
        bound=f"{UNSEEN_FORMS}; 'N per class'; 'validation' or 'test'; or {PATH_FORMS} that exists",
        remedy="Correct it in the teacher's JSON or on the command line.",
    )


def _places(words: str, root: Path | None, beside: Path | None) -> Iterator[Path]:
    """Where a path may be meant to start, as far as something is there."""
    for start in (Path(), root, beside):
        if start is not None:
            path = start / Path(words).expanduser()
            try:
                if path.exists():
                    yield path
            except OSError:
                continue  # a text too long for a path


def _of_split(table: Table, split: str | None) -> Rows | None:
    if split == VALIDATION and table.validation_rows:
        return np.arange(table.own_rows, table.train_rows, dtype=np.int64)
    if split == TEST and len(table.labels) > table.train_rows:
        return np.arange(table.train_rows, len(table.labels), dtype=np.int64)
    return None


def _of_path(
    table: Table, path: Path, split: Rows, opened: Callable[[str], Table], names: Sequence[str]
) -> Unseen:
    """Rows in a folder or a Parquet file: those of the data that lie there, or further ones."""
    rows = _below(table, path)
    if len(rows):
        return Unseen(table, np.union1d(rows, split))
    flat = own_pictures(path, LeftOut(path)) if path.is_dir() else []
    if flat:
        found = _by_path([str(PurePosixPath(file.name)) for file in flat], table, path)
        return Unseen(table, np.union1d(found, split))
    further = opened(str(path))
    joined = _joined(table, _numbered_as(further, table, names))
    told = (
        f"{len(further.labels):,} rows of {path} join {table.name} as rows that the teacher was "
        "not trained on"
    )
    rows = np.arange(joined.own_rows, joined.train_rows, dtype=np.int64)
    return Unseen(_with(joined, told), rows, claimed=True)


def _below(table: Table, path: Path) -> Rows:
    """Rows that lie in ``path`` or below it, by the places of their files."""
    for place in (os.path.abspath, os.path.realpath):
        wanted = place(path)
        inside = [
            number
            for number, file in enumerate(table.files)
            if (here := place(file)) == wanted or here.startswith(wanted + os.sep)
        ]
        if inside:
            return np.flatnonzero(np.isin(table.file_of, inside)).astype(np.int64)
    return NO_ROWS


def _numbered_as(further: Table, table: Table, names: Sequence[str]) -> Table:
    """Further rows with the labels that their classes have in ``table``."""
    known = table.class_names or tuple(names)
    if not further.class_names or not known:
        return further
    places = matched(further.class_names, known)
    strangers = [
        name for name, place in zip(further.class_names, places, strict=True) if place is None
    ]
    if strangers:
        raise BadInput(
            f"{further.name}, which the teacher has not seen, has classes that the data lack",
            value=", ".join(map(repr, strangers[:8])),
            bound=", ".join(map(repr, known[:8])),
            remedy="Call its folders as those of the data, or leave these classes out.",
        )
    labels = np.array(places, dtype=np.int64)[further.labels]
    return replace(further, labels=labels, class_names=tuple(known))


def _joined(table: Table, further: Table) -> Table:
    """``further`` as the end of the training table of ``table``."""
    at, more = table.train_rows, len(further.labels)
    segments = [(table, 0, at), (further, 0, more), (table, at, len(table.labels))]

    def read(preprocess: Preprocess, start: int) -> Iterator[Images]:
        for source, first, last in segments:
            if start < last - first:
                rows = source.read(preprocess, first + start)
                yield from islice(rows, last - first - start)
            start = max(0, start - (last - first))

    files = [*table.files, *further.files]
    file_of = further.file_of + len(table.files)
    in_files = len(table.file_of) == len(table.labels) and len(further.file_of) == more
    return replace(
        table,
        labels=np.concatenate([table.labels[:at], further.labels, table.labels[at:]]),
        train_rows=at + more,
        read=read,
        stamp=lambda: f"{table.stamp()} {further.stamp()}",
        validation_rows=table.validation_rows + more,
        remarks=(*table.remarks, *further.remarks),
        files=files if in_files else (),
        file_of=np.concatenate([table.file_of[:at], file_of, table.file_of[at:]])
        if in_files
        else NO_ROWS,
    )


def _listed(table: Table, path: Path) -> Rows:
    """The rows that a list names: by paths of pictures or of folders, or by row numbers."""
    lines = _lines(path)
    if lines and all(line.isdecimal() for line in lines) and not _named_so(table, lines):
        rows = np.unique(np.array(lines, dtype=np.int64))
        if rows[-1] >= table.own_rows:
            raise BadInput(
                "rows unseen by the teacher lie outside the training table",
                value=f"row {rows[-1]} in {path}",
                bound=f"0 to {table.own_rows - 1}",
                remedy="Correct the list: the first row is 0.",
            )
        return rows
    return _by_path(lines, table, path)


def _lines(path: Path) -> list[str]:
    if path.suffix.lower() not in LIST_SUFFIXES or path.stat().st_size > MOST_LIST_BYTES:
        raise _bad_list(path, f"a file that ends in {path.suffix!r}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise _bad_list(path, "a file that is no UTF-8 text") from None
    if path.suffix.lower() == ".json":
        try:
            values = json.loads(text)
        except ValueError:
            raise _bad_list(path, "no JSON") from None
        if not isinstance(values, list):
            raise _bad_list(path, "JSON of another form than a list")
        return [str(value).strip() for value in values]
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line]


def _bad_list(path: Path, value: str) -> BadInput:
    return BadInput(
        "rows unseen by the teacher cannot be read from the file",
        value=f"{path}, {value}",
        bound=PATH_FORMS,
        remedy="Write one path a line, as they stand in the data's folder.",
    )


def _named_so(table: Table, lines: Sequence[str]) -> bool:
    names = {file.name for file in table.files}
    return any(line in names for line in lines)


class _Paths:
    """The rows of a table by the ends of their files' paths."""

    def __init__(self, table: Table) -> None:
        self._named: dict[str, list[tuple[tuple[str, ...], int]]] = defaultdict(list)
        self._folders: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for number, file in enumerate(table.files):
            parts = PurePosixPath(_normal(str(file.absolute()))).parts
            self._named[parts[-1]].append((parts, number))
            root = 0 if table.root is None else len(table.root.absolute().parts)
            for end in range(root + 1, len(parts)):
                self._folders[parts[root:end]].append(number)

    def find(self, line: str) -> list[int]:
        """The files that a line means: all those that end in as much of it as any file does."""
        parts = [part for part in PurePosixPath(_normal(line)).parts if part not in (".", "/")]
        if not parts:
            return []
        candidates = self._named.get(parts[-1], [])
        for start in range(len(parts)):
            end = tuple(parts[start:])
            found = [number for whole, number in candidates if whole[-len(end) :] == end]
            if found:
                return found
        return self._folders.get(tuple(parts), [])


def _by_path(lines: Sequence[str], table: Table, source: Path) -> Rows:
    """Rows by lines that end in their files' paths.

    Raises:
        BadInput: a line names no row, or several pictures.
    """
    paths = _Paths(table)
    found: set[int] = set()
    missing: list[str] = []
    for place, line in enumerate(lines):
        text = line.strip("\"'")
        # as in "cat/001.png 3" and "cat/001.png,3": a label may stand behind
        shorter = [text.split(",")[0], text.split("\t")[0], text.rsplit(maxsplit=1)[0]]
        numbers = next((hit for one in (text, *shorter) if (hit := paths.find(one))), [])
        if len(numbers) > 1 and len({table.files[n].name for n in numbers}) == 1:
            raise BadInput(
                "a name in the list of unseen rows is that of several pictures",
                value=f"{line!r} in {source}: {table.files[numbers[0]]}, {table.files[numbers[1]]}",
                bound="enough of the path to tell them apart",
                remedy="Write paths from the data's folder on, such as train/cat/001.png.",
            )
        found.update(numbers)
        if not numbers and not _is_no_row(text, header=place == 0, source=source):
            missing.append(line)
    if missing or not found:
        raise BadInput(
            "rows unseen by the teacher are not in the data",
            value=f"{len(missing):,} of {len(lines):,} lines of {source}, such as {missing[:1]}",
            bound=f"pictures of {table.name}" if table.files else "data in files",
            remedy="Write paths as they stand in the data's folder, or take the list of this data.",
        )
    return np.flatnonzero(np.isin(table.file_of, sorted(found))).astype(np.int64)


def _is_no_row(line: str, *, header: bool, source: Path) -> bool:
    """Whether a line may name no row: a comment, a header, or what is left out of the data."""
    path = PurePosixPath(_normal(line))
    if line.startswith("#") or any(is_system(part) for part in path.parts if part not in "."):
        return True
    if header and source.suffix.lower() in (".csv", ".tsv"):
        return True
    return (source.parent / line).is_file() and not is_picture(source.parent / line)


def _normal(path: str) -> str:
    return unicodedata.normalize("NFC", path.replace("\\", "/"))


def _with(table: Table, text: str) -> Table:
    return replace(table, remarks=(*table.remarks, Remark(text)))
