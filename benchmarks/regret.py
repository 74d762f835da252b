"""Every candidate of a job trained in full: how far what ships is from the best of them on test.

    python benchmarks/regret.py                      # five seeds of the demo and of README's job
    python benchmarks/regret.py --seeds 1 --jobs demo

A job trains its finalists in full, and chooses one of them by validation. Here all that its ledger
holds are trained in full by the same recipe, plain students included, and all are held against
the test part, which no job sees before it ends. The best of them on test is a hindsight that
nobody has, and lucky by as much as the test part is small: the regret is an upper bound.

A benchmark that was stopped goes on where it was. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.rivals.searching import settled
from benchmarks.strange.rebuild import predictions
from edge.files import write_bytes
from search.demo import digits_teacher, run_demo
from search.execution.cluster import cluster
from search.finalists.finalists import LastRound, train_baselines
from search.job.events import Event
from search.job.run_folder import RunFolder
from search.job.spec import make_spec
from search.ledger.ledger import journal_records
from search.opening.opening import origins_of, reopened
from search.pipeline import run
from search.preparation.prepare import prepare

THREADS = 2


@dataclass(frozen=True)
class Regret:
    """Of one job; accuracies on its test part, of the fp32 students.

    Attributes:
        job, seed: which.
        candidates: trained in full.
        rows: of the test part.
        shipped, shipped_kb, origin: of the student that ships.
        best, best_kb, best_origin: of the best one in hindsight.
        by_validation: accuracy on test of the one that all their full trainings would have chosen.
        points: best less shipped, in points.
    """

    job: str
    seed: int
    candidates: int
    rows: int
    shipped: float
    shipped_kb: float
    origin: str
    best: float
    best_kb: float
    best_origin: str
    by_validation: float
    points: float


def _demo(out: Path, seed: int) -> Iterator[Event]:
    if RunFolder(out).begun:
        return run(RunFolder(out).stored_job(), resume=True)
    return run_demo(out, seed)


def _readme(out: Path, seed: int) -> Iterator[Event]:
    if RunFolder(out).begun:
        return run(RunFolder(out).stored_job(), resume=True)
    teacher = digits_teacher(out.with_name(f"{out.name}-teacher") / "digits.safetensors", seed)
    limits = {"max_kb": 44, "budget": 6}
    values = {"teacher": str(teacher), "data": "digits", "out": str(out), "seed": seed}
    return run(make_spec(values | limits))


JOBS: dict[str, Callable[[Path, int], Iterator[Event]]] = {"demo": _demo, "readme": _readme}


def regret(name: str, seed: int, place: Path) -> Regret:
    """Run a job, unless it has been run, and train in full what it left."""
    kept, out = place / f"{name}-{seed}.json", place / f"{name}-{seed}"
    if kept.exists():
        return Regret(**json.loads(kept.read_text()))
    folder = RunFolder(out)
    if not folder.result.exists():
        for _ in JOBS[name](out, seed):
            pass
    scratch = RunFolder(place / f"{name}-{seed}-again")
    spec = folder.stored_job()
    fresh = settled(prepare(make_spec(spec.model_dump() | {"out": str(scratch.root)}), scratch))
    origins = origins_of(fresh.space)
    job = reopened(fresh, folder, origins)
    assert job is not None
    records = [record for record in journal_records(folder.ledger) if record.whole]
    with cluster("local", THREADS, job.training_context(proxy=False).nbytes):
        reached = settled(train_baselines(job, records, folder, THREADS))
    test = job.parts.test
    images, labels = np.asarray(job.data.images[test]), np.asarray(job.data.labels[test])
    right = {
        record.key: float((predictions(out, record.key, images) == labels).mean())
        for record in records
        if record.key in reached
    }
    shipped = json.loads(folder.result.read_text())["finalists"][0]["key"]
    best = max(right, key=lambda key: right[key])
    by_key = {record.key: record for record in records}
    told = LastRound(by_key[shipped], {}, (), origins)
    found = Regret(
        name,
        seed,
        len(right),
        len(labels),
        right[shipped],
        by_key[shipped].kb,
        told.origin(by_key[shipped]),
        right[best],
        by_key[best].kb,
        told.origin(by_key[best]),
        right[max(reached, key=lambda key: reached[key])],
        100 * (right[best] - right[shipped]),
    )
    write_bytes(kept, json.dumps(asdict(found)).encode())
    return found


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    """Print a table and one JSON line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", nargs="+", choices=list(JOBS), default=list(JOBS))
    parser.add_argument("--out", type=Path, default=Path("runs/regret"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    _say("| job | seed | trained | ships | from | best on test | from | points behind |")
    _say("|---|---|---|---|---|---|---|---|")
    rows = []
    for name, seed in itertools.product(given.jobs, range(given.seeds)):
        one = regret(name, seed, given.out)
        rows.append(one)
        _say(
            f"| {name} | {seed} | {one.candidates} | {one.shipped:.2%}, {one.shipped_kb:.1f} KB | "
            f"{one.origin} | {one.best:.2%}, {one.best_kb:.1f} KB | {one.best_origin} | "
            f"{one.points:.2f} |"
        )
    means = {
        name: float(np.mean([one.points for one in rows if one.job == name])) for name in given.jobs
    }
    error = max(100 * math.sqrt(one.best * (1 - one.best) / one.rows) for one in rows)
    line = {"mean_points": means, "standard_error": error, "rows": [asdict(one) for one in rows]}
    _say(json.dumps(line))


if __name__ == "__main__":
    main()
