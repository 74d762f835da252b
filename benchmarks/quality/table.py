"""Task 1's table: every candidate there is, and what real distillation said of each.

One Parquet file, with everything that the harness needs in it: no data and no teacher are read.
"""

from __future__ import annotations

import json
import math
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from benchmarks.quality import packing, small
from benchmarks.quality.making import TRAINED, Networks, accuracies, finished
from benchmarks.quality.small import C0, JUDGE_SEEDS, MOVES, OUT, SEARCH_SEED, Lab
from benchmarks.quality.task import Standard, Task
from envs.graph.check import parse_netspec
from search.space.space import Actions

FILE = Path(__file__).resolve().parents[1] / "data" / "search_table.parquet"
COMMAND = "python benchmarks/search_quality.py table && python benchmarks/search_quality.py pack"
#: in a folder whose work began with the file: what the file said of itself then
UNPACKED = "unpacked.json"
JUDGED = [f"judged_{seed}" for seed in JUDGE_SEEDS]


@dataclass(frozen=True, eq=False)
class Table:
    """All candidates; implements :class:`benchmarks.quality.task.Truth`.

    Attributes:
        actions: int8 (candidates, layers).
        network: int64 (candidates,), the first candidate that rounds to the same network.
        bytes: int64 (candidates,).
        accuracy: float64 (candidates,), as searches see it; nan where the training diverged.
        promises: float64 (candidates,), what they promise untrained, by
            :mod:`search.scheduling.probe`.
        again: float64 (seeds, candidates), as choices are judged; nan where nobody trained them
            again, 0 where the training diverged.
        meta: how the table was made: ``network``, ``teacher``, ``command``, ``commit``, …
    """

    actions: NDArray[np.int8]
    network: NDArray[np.int64]
    bytes: NDArray[np.int64]
    accuracy: NDArray[np.float64]
    again: NDArray[np.float64]
    promises: NDArray[np.float64]
    meta: dict[str, Any]

    def __post_init__(self) -> None:
        rows = {tuple(map(int, row)): number for number, row in enumerate(self.actions)}
        object.__setattr__(self, "_rows", rows)

    def row(self, actions: Actions) -> int:
        """The network that an action vector rounds to."""
        rows: dict[Actions, int] = self.__dict__["_rows"]
        return int(self.network[rows[actions]])

    def candidate(self, row: int) -> Actions:
        """The action vector of a row."""
        return tuple(map(int, self.actions[row]))

    def key(self, actions: Actions) -> str:
        """The number of its network."""
        return str(self.row(actions))

    def searched(self, actions: Actions) -> float | None:
        """Training seed 0, rows V1."""
        found = float(self.accuracy[self.row(actions)])
        return None if math.isnan(found) else found

    def judged(self, actions: Actions) -> tuple[float, ...]:
        """Training seeds 1 and 2, rows V2."""
        found = self.again[:, self.row(actions)]
        return () if np.isnan(found).any() else tuple(map(float, found))

    def promise(self, actions: NDArray[np.int64]) -> NDArray[np.float64]:
        """By the first rows that are learnt from."""
        return self.promises[[self.row(tuple(map(int, row))) for row in actions]]


def pack(folder: Path = OUT, file: Path = FILE) -> None:
    """Write what is finished as the table.

    Raises:
        SystemExit: a network has not been trained at all, or what the folder had from a file was
            another teacher's.
    """
    lab = Lab.open(folder)
    before = _unpacked(folder)
    if before and before["teacher"] != _teacher(lab):
        raise SystemExit(
            f"{folder / TRAINED} goes on from a file of a teacher of {before['teacher']}, that of "
            f"{folder} has {_teacher(lab)}: this is no single table. Put that teacher back, or "
            f"move {folder} and {FILE} away for a table that is all new"
        )
    networks, done = Networks.of(lab.network), finished(folder)
    columns: dict[str, Any] = {
        f"action_{layer}": column for layer, column in enumerate(networks.actions.T)
    }
    columns |= {
        "network": networks.network.astype(np.int16),
        "bytes": networks.bytes.astype(np.int32),
        "macs": networks.macs.astype(np.int32),
        "promise": lab.promise(networks.actions.astype(np.int64)).astype(np.float32),
    }
    for name, seed in (("searched", SEARCH_SEED), *zip(JUDGED, JUDGE_SEEDS, strict=True)):
        columns[name] = _column(networks, accuracies(done, seed), seed)
    meta = _meta(lab) | _effort(list(done.values()), before)
    stored = {b"search_quality": json.dumps(meta).encode()}
    packing.write(file, columns, stored)


def _effort(rows: Sequence[Mapping[str, Any]], before: Mapping[str, Any]) -> dict[str, Any]:
    """How many trainings there are, their seconds, and the machines that made them.

    Args:
        rows: all of the folder's.
        before: the same of those that it had from a file; empty where there was none.
    """
    fresh = [row for row in rows if not row.get("packed")]
    where = Counter(row.get("where", "unknown") for row in fresh)
    where.update(before.get("machines", {}))
    seconds = sum(row["seconds"] for row in fresh) + before.get("seconds", 0)
    return {"trainings": len(rows), "seconds": round(seconds), "machines": dict(where)}


def _unpacked(folder: Path) -> dict[str, Any]:
    path = folder / UNPACKED
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


def unpack(folder: Path = OUT, file: Path = FILE) -> None:
    """Let work go on from the file, where a folder has nothing yet."""
    path = folder / TRAINED
    if path.exists() or not file.exists():
        return
    table = read(file)
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for seed, found in ((SEARCH_SEED, table.accuracy), *zip(JUDGE_SEEDS, table.again, strict=True)):
        for network in np.unique(table.network):
            accuracy = float(found[network])
            diverged = math.isnan(accuracy) if seed == SEARCH_SEED else accuracy == 0
            if seed == SEARCH_SEED or not math.isnan(accuracy):
                told = None if diverged else round(accuracy, 6)
                row = {"network": int(network), "seed": seed, "accuracy": told, "packed": True}
                rows.append(json.dumps(row))
    # the file may be written anew while work goes on, with this work in it
    (folder / UNPACKED).write_text(json.dumps(table.meta))
    path.write_text("\n".join(rows) + "\n")


def _column(networks: Networks, found: dict[int, float], seed: int) -> Any:
    if seed == SEARCH_SEED and len(found) < len(networks.distinct):
        missing = len(networks.distinct) - len(found)
        raise SystemExit(f"{missing} networks are not trained yet: run `table` first")
    # accuracies are whole counts of rows, so float32 brings back the number that was measured
    values = np.array([found.get(number, np.nan) for number in networks.network], np.float32)
    known = np.array([number in found for number in networks.network])
    if seed != SEARCH_SEED:
        values = np.where(known & np.isnan(values), np.float32(0), values)
    return pa.array(values, mask=~known)


def _meta(lab: Lab) -> dict[str, Any]:
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    return {
        "command": COMMAND,
        "commit": commit.stdout.strip(),
        "network": lab.network.to_json(),
        "teacher": _teacher(lab),
        "moves": asdict(MOVES),
        "recipe": asdict(small.RECIPE),
        "rows": {
            "learnt": len(small.LEARNT),
            "searched": len(small.SEARCHED),
            "judged": len(small.JUDGED),
        },
    }


def _teacher(lab: Lab) -> dict[str, float]:
    return dict(zip(("searched", "judged"), lab.accuracies, strict=True))


def read(file: Path = FILE) -> Table:
    """The table.

    Raises:
        SystemExit: it has not been made.
    """
    if not file.exists():
        raise SystemExit(f"{file} is not there: run `table`, which takes hours, and then `pack`")
    stored = pq.read_table(file)
    meta = json.loads(stored.schema.metadata[b"search_quality"])

    def column(name: str) -> NDArray[Any]:
        values: NDArray[Any] = stored[name].to_numpy()
        return values

    layers = sum(name.startswith("action_") for name in stored.column_names)
    return Table(
        actions=np.stack([column(f"action_{layer}") for layer in range(layers)], axis=1),
        network=column("network").astype(np.int64),
        bytes=column("bytes").astype(np.int64),
        accuracy=column("searched").astype(np.float64),
        promises=column("promise").astype(np.float64),
        again=np.stack([column(name).astype(np.float64) for name in JUDGED]),
        meta=meta,
    )


def task(table: Table) -> Task:
    """Task 1."""
    teacher, rows = table.meta["teacher"], table.meta["rows"]
    searched, judged = (
        Standard.of(teacher[part], C0, rows["learnt"], table.meta["recipe"]["epochs"], rows[part])
        for part in ("searched", "judged")
    )
    network = parse_netspec(table.meta["network"])
    return Task("table", network, MOVES, searched, judged, None, table)
