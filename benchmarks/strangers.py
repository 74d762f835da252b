"""Strangers' first jobs, defaults only: is what ships ever worse than the plain thing to do?

    python benchmarks/strangers.py                 # all cases: some hours on two cores
    python benchmarks/strangers.py --quick         # eight of them, 20 minutes
    python benchmarks/strangers.py teachers        # data and teachers alone, kept for later
    python benchmarks/strangers.py --only-report   # the table of what is finished

Each case is somebody's data, network and exporter, and `understudy search` with nothing but a
teacher, data, a limit in KB and a budget of 12. The student that ships is compared on the same test
rows with two plain ones of at most as many KB: the teacher at one uniform width, by our own full
training, and the network's own class, trained on labels by a loop of the benchmark.

A benchmark that was stopped goes on where it was: what is finished stands in --out. Reads MNIST and
CIFAR-10 from $UNDERSTUDY_DATA (default ../shared). --keras names a Python that has Keras 3 (also
$UNDERSTUDY_KERAS); without one its cases are skipped. docs/strangers.md explains the figures. The
last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.strange import job, report
from benchmarks.strange.cases import BY_NAME, CASES, QUICK, Case
from benchmarks.strange.job import Plan, Row, train_by_hand
from benchmarks.strange.teachers import Skipped, ready


def main() -> None:
    """Make teachers, or run what is left of the cases, and report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="?", choices=("run", "teachers"), default="run")
    parser.add_argument("--quick", action="store_true", help="eight cases")
    parser.add_argument("--cases", nargs="+", choices=list(BY_NAME), metavar="NAME", default=None)
    parser.add_argument("--list", action="store_true", help="print the names of the cases")
    parser.add_argument("--only-report", action="store_true", help="run nothing")
    parser.add_argument("--seed", type=int, default=0, help="of jobs and rivals")
    parser.add_argument("--out", type=Path, default=Path("runs/strangers"), help="results")
    parser.add_argument(
        "--folder",
        type=Path,
        default=os.environ.get("UNDERSTUDY_STRANGERS"),
        help="data and teachers (also $UNDERSTUDY_STRANGERS; default OUT/made)",
    )
    parser.add_argument("--keras", default=os.environ.get("UNDERSTUDY_KERAS"), metavar="PYTHON")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="teachers trained at a time"
    )
    chosen = parser.parse_args()
    if chosen.list:
        sys.stdout.write("".join(f"{case.name}\n" for case in CASES))
        return
    names = chosen.cases or (QUICK if chosen.quick else list(BY_NAME))
    cases = [BY_NAME[name] for name in names]
    made = chosen.folder or chosen.out / "made"
    plan = Plan(chosen.out, Path(made), chosen.seed, chosen.keras, _say)
    # Ctrl-C also where a shell's background has it ignored, which jobs would inherit
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, signal.default_int_handler)
    rows = []
    try:
        if not chosen.only_report:
            make(cases, plan, chosen.workers, rivals=chosen.what == "run")
        if chosen.what == "teachers":
            return
        for case in cases:
            row = plan.row(case) if chosen.only_report else job.run(case, plan)
            rows += [row] if row else []
    except KeyboardInterrupt:
        _say("stopped; the same command goes on from here")
        sys.exit(130)
    tell(rows)


def make(cases: Sequence[Case], plan: Plan, workers: int, rivals: bool) -> None:
    """What needs no job, several cases at a time, the small ones first; no step is done twice.

    ``rivals``: the networks trained by hand as well as the teachers.
    """
    left = [case for case in cases if not rivals or plan.row(case) is None]
    ordered = sorted(left, key=lambda case: max(case.count, case.taught or 0))
    if not ordered:
        return
    workers = min(workers, len(ordered))
    work = [(case, replace(plan, say=None), rivals, workers) for case in ordered]
    with multiprocessing.get_context("spawn").Pool(workers, maxtasksperchild=1) as pool:
        for line in pool.imap_unordered(_make, work, chunksize=1):
            _say(line)


def _make(work: tuple[Case, Plan, bool, int]) -> str:
    import torch

    torch.set_num_threads(1)
    case, plan, rivals, workers = work
    try:
        if rivals:
            train_by_hand(case, plan, workers)
        else:
            ready(case, plan.made, plan.python)
    except Skipped as reason:
        return f"{case.name}: skipped: {reason}"
    return f"{case.name}: there is {'all that needs no job' if rivals else 'the teacher'}"


def tell(rows: Sequence[Row]) -> None:
    """Print the table and the JSON line."""
    for line in report.lines(rows):
        sys.stdout.write(line + "\n")
    sys.stdout.write(json.dumps(report.summary(rows)) + "\n")


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    main()
