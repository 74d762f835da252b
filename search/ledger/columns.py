"""The ledger in columns: what re-ranking, plots and exports read, without Optuna and in no time.

The journal is the truth; a Parquet file beside it holds the same candidates as columns, and knows
up to which byte of the journal it goes. Who reads gets the columns with the journal's lines since
then, and the file is renewed. Nothing here takes the ledger's lock: lines of a journal are only
ever appended, and the columns are replaced as a whole, so that a run may go on meanwhile.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import BadInput
from edge.files import write_bytes

if TYPE_CHECKING:
    import pyarrow as pa

    from search.ledger.trial import Record

#: what the codes of :attr:`Columns.status` mean
STATUSES = ("done", "stopped", "failed")
DONE, STOPPED, FAILED = range(3)

_VERSION = 1
#: bytes before the end of what was read by which a journal is known again
_SEAL = 4096
# of Optuna's journal: operations, and the state of a trial that was pruned
_CREATE_STUDY, _DELETE_STUDY, _CREATE_TRIAL = 0, 1, 4
_PRUNED = 2

_NUMBERS: dict[str, Any] = {
    "accuracy": np.float64,
    "reward": np.float64,
    "parameters": np.int64,
    "bytes": np.int64,
    "macs": np.int64,
    "seconds": np.float64,
    "status": np.int8,
    "epochs": np.int64,
    "proposed": np.int64,
}
_TEXTS = ("key", "reason", "mode")


@dataclass(frozen=True)
class Columns:
    """All finished candidates of a run, in the order in which they finished.

    Attributes:
        layers: names of the weight layers.
        pool: coefficients that the actions index.
        actions: of shape (candidates, layers).
        accuracy, reward, parameters, bytes, macs, seconds, epochs, proposed: as in
            :class:`search.ledger.trial.Record`, each of shape (candidates,).
        status: codes of :data:`STATUSES`.
        key, reason, mode: texts.
    """

    layers: tuple[str, ...]
    pool: tuple[float, ...]
    actions: NDArray[np.int16]
    accuracy: NDArray[np.float64]
    reward: NDArray[np.float64]
    parameters: NDArray[np.int64]
    bytes: NDArray[np.int64]
    macs: NDArray[np.int64]
    seconds: NDArray[np.float64]
    status: NDArray[np.int8]
    epochs: NDArray[np.int64]
    proposed: NDArray[np.int64]
    key: tuple[str, ...]
    reason: tuple[str, ...]
    mode: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.key)

    @property
    def kb(self) -> NDArray[np.float64]:
        """Kilobytes of 1,024 bytes."""
        return self.bytes / 1024

    @property
    def whole(self) -> NDArray[np.bool_]:
        """Which were trained to the end: only they may win."""
        found: NDArray[np.bool_] = self.status == DONE
        return found

    @property
    def failed(self) -> NDArray[np.bool_]:
        """Which have no accuracy at all."""
        found: NDArray[np.bool_] = self.status == FAILED
        return found

    @property
    def coefficients(self) -> NDArray[np.float64]:
        """Of shape (candidates, layers)."""
        return np.array(self.pool)[self.actions]

    @classmethod
    def of(
        cls, rows: Iterable[Mapping[str, Any]], layers: Sequence[str], pool: Sequence[float]
    ) -> Columns:
        """From one mapping a candidate."""
        found = list(rows)
        actions = np.array([row["actions"] for row in found], np.int16)
        values: dict[str, Any] = {"actions": actions.reshape(len(found), len(layers))}
        values |= {n: np.array([row[n] for row in found], kind) for n, kind in _NUMBERS.items()}
        values |= {name: tuple(row[name] for row in found) for name in _TEXTS}
        return cls(layers=tuple(layers), pool=tuple(pool), **values)

    @classmethod
    def of_records(
        cls, records: Iterable[Record], layers: Sequence[str], pool: Sequence[float]
    ) -> Columns:
        """From the records of an open ledger."""
        rows = (
            vars(r) | {"status": FAILED if r.failed else STOPPED if r.pruned else DONE}
            for r in records
        )
        return cls.of(rows, layers, pool)

    def followed_by(self, later: Columns) -> Columns:
        """These, and then those."""
        if not len(self):
            return later
        fields = ("actions", *_NUMBERS)
        values: dict[str, Any] = {
            name: np.concatenate([getattr(self, name), getattr(later, name)]) for name in fields
        }
        values |= {name: getattr(self, name) + getattr(later, name) for name in _TEXTS}
        return replace(self, **values)


def place(journal: Path) -> Path:
    """Where the columns of a journal lie."""
    return journal.with_suffix(".parquet")


def read_columns(journal: Path) -> Columns:
    """All finished candidates of a journal; columns that lag behind it are renewed.

    Raises:
        BadInput: there is no journal, no candidate in it, or it is damaged.
    """
    if not journal.is_file():
        raise no_candidates(journal)
    stored = load(place(journal))
    with journal.open("rb") as file:
        if stored is not None and stored[1].get("seal") != _seal(file, stored[1].get("end", 0)):
            stored = None  # another journal, or one that was cut
        columns, end = (None, 0) if stored is None else (stored[0], int(stored[1]["end"]))
        file.seek(end)
        tail = file.read()
        tail = tail[: tail.rfind(b"\n") + 1]  # a line that is being written comes next time
        news = _parse(tail, first=end == 0, where=journal)
        if news is not None:
            columns = news if columns is None else columns.followed_by(news)
        if columns is None or not len(columns):
            raise no_candidates(journal)
        if tail:
            end += len(tail)
            save(place(journal), columns, {"end": end, "seal": _seal(file, end)})
    return columns


def no_candidates(where: Path) -> BadInput:
    """What is said of a run that has not finished a candidate."""
    return BadInput(
        "there are no candidates yet",
        value=str(where.parent),
        bound="a run with at least one finished candidate",
        remedy="Name the folder of a run, or let `understudy search` go on for longer.",
    )


def load(path: Path) -> tuple[Columns, dict[str, Any]] | None:
    """Columns and what was noted beside them; None where there are none that can be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, use_threads=False)
        notes = json.loads(table.schema.metadata[b"understudy"])
        if notes["version"] != _VERSION:
            return None
        return _columns(table, notes), notes
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError):
        return None  # missing or damaged: the ledger itself has everything


def save(path: Path, columns: Columns, notes: Mapping[str, Any]) -> None:
    """Write columns, at once or not at all. A full disk is no error: the ledger has them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    width = len(columns.layers)
    arrays: dict[str, Any] = {name: getattr(columns, name) for name in _NUMBERS}
    arrays |= {name: list(getattr(columns, name)) for name in _TEXTS}
    flat = pa.array(columns.actions.ravel())
    arrays["actions"] = pa.FixedSizeListArray.from_arrays(flat, width)
    head = {"version": _VERSION, "layers": columns.layers, "pool": columns.pool} | dict(notes)
    table = pa.table(arrays).replace_schema_metadata({"understudy": json.dumps(head)})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    try:
        write_bytes(path, sink.getvalue().to_pybytes())
    except OSError:
        return


def _columns(table: pa.Table, notes: Mapping[str, Any]) -> Columns:
    flat = table["actions"].combine_chunks().flatten().to_numpy()
    shape = table.num_rows, len(notes["layers"])
    values: dict[str, Any] = {"actions": flat.reshape(shape).astype(np.int16, copy=False)}
    for name, kind in _NUMBERS.items():
        values[name] = table[name].to_numpy().astype(kind, copy=False)
    values |= {name: tuple(table[name].to_pylist()) for name in _TEXTS}
    return Columns(layers=tuple(notes["layers"]), pool=tuple(notes["pool"]), **values)


def _seal(file: Any, end: int) -> str:
    """Tells whether a journal begins with what was read: of the bytes just before ``end``."""
    start = max(0, end - _SEAL)
    file.seek(start)
    return sha256(file.read(end - start)).hexdigest() + f"-{end}"


def _parse(tail: bytes, first: bool, where: Path) -> Columns | None:
    """The candidates in whole lines of a journal; None where there are none."""
    rows: list[dict[str, Any]] = []
    names: list[str] = []
    pool: list[float] = []
    try:
        for line in tail.splitlines():
            entry = json.loads(line)
            _only_ours(entry, first)
            first = False
            # others, such as notes from a dashboard, are about candidates that are here already
            if entry["op_code"] == _CREATE_TRIAL and entry["study_id"] == 0:
                rows.append(_row(entry))
                if not names:
                    names = sorted(entry["distributions"])
                    choices = json.loads(entry["distributions"][names[0]])
                    pool = choices["attributes"]["choices"]
        layers = [name.partition("_")[2] for name in names]
        return Columns.of(rows, layers, pool) if rows else None
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise BadInput(
            "the ledger is damaged",
            value=f"{where} ({type(error).__name__}: {error})",
            bound="a journal that only `understudy` and Optuna have written to",
            remedy="Bring back a copy, or start a new run.",
        ) from None


def _only_ours(entry: Mapping[str, Any], first: bool) -> None:
    """The study with number 0 is ours, because it is made first; a dashboard can delete it."""
    if first and entry["op_code"] != _CREATE_STUDY:
        raise ValueError("it does not begin with a study")
    if entry["op_code"] == _DELETE_STUDY and entry["study_id"] == 0:
        raise ValueError("the study was deleted")


def _row(entry: Mapping[str, Any]) -> dict[str, Any]:
    attrs = entry["user_attrs"]
    status = FAILED if attrs["reason"] else STOPPED if entry["state"] == _PRUNED else DONE
    defaults = {"epochs": 0, "mode": "", "proposed": 0}  # what earlier versions did not write
    row: dict[str, Any] = defaults | attrs | {"reward": entry["value"], "status": status}
    return row
