"""One case from nothing to its row: data, teacher, the product's job, the rivals, the figures.

Whatever is finished lies in the case's folder and is not done again.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.strange.cases import Case
from benchmarks.strange.data import Labels
from benchmarks.strange.exports import ROOT
from benchmarks.strange.rebuild import predictions, shipped, teacher_answers
from benchmarks.strange.rivals import by_hand, by_uniform_width, keep, kept
from benchmarks.strange.teachers import Ready, Skipped, ready
from edge.files import write_bytes

#: candidates of every job
BUDGET = 12
#: file of the answers of the network that was trained by hand
HAND = "hand.json"
#: seconds for a job to end after Ctrl-C, before it is asked again
PATIENCE = 20
Row = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """What all cases of a benchmark have in common.

    Attributes:
        out: folder of results.
        made: folder of data and teachers.
        seed: of jobs and rivals.
        python: interpreter with Keras; None for this one.
        say: told of every step; None where nobody listens.
    """

    out: Path
    made: Path
    seed: int = 0
    python: str | None = None
    say: Callable[[str], object] | None = None

    def tell(self, line: str) -> None:
        """Tell whoever listens."""
        if self.say is not None:
            self.say(line)

    def case_folder(self, case: Case) -> Path:
        """Where everything of a case lies but its data and its teacher."""
        return self.out.resolve() / "cases" / f"{case.name}-{self.seed}"

    def row_file(self, case: Case) -> Path:
        """Where a finished case's row lies."""
        return self.out / "rows" / f"{case.name}-{self.seed}.json"

    def row(self, case: Case) -> Row | None:
        """The row of a case that is finished."""
        path = self.row_file(case)
        return json.loads(path.read_text()) if path.exists() else None


def run(case: Case, plan: Plan) -> Row:
    """The row of a case; what an earlier call has finished of it is kept.

    A case that failed, or that was skipped, is tried again.
    """
    row = plan.row(case)
    if row is None or "failed" in row:
        row = _run(case, plan)
        if "skipped" not in row:
            write_bytes(plan.row_file(case), (json.dumps(row, indent=1) + "\n").encode())
    return row


def train_by_hand(case: Case, plan: Plan, beside: int = 1) -> None:
    """Everything of a case that needs no job: data, teacher, and the network trained by hand.

    ``beside``: so many cases are at it at a time.

    Raises:
        Skipped: as :func:`~benchmarks.strange.teachers.ready` says.
    """
    folder = plan.case_folder(case)
    clock, out = Clock(folder / "seconds.json"), folder / HAND
    with clock.step("teacher", beside):
        start = ready(case, plan.made, plan.python)
    if not out.exists():
        with clock.step("hand", beside):
            by_hand(case, start.data.parent, plan.seed, out)


def _run(case: Case, plan: Plan) -> Row:
    about: Row = {
        "case": case.name,
        "data": case.data,
        "rows": case.count,
        "network": case.network,
        "export": case.export,
        "limit_kb": case.max_kb,
        "seed": plan.seed,
        "sound": case.sound,
        "commit": commit(),
    }
    folder = plan.case_folder(case)
    clock = Clock(folder / "seconds.json")
    plan.tell(f"{case.name}: data and teacher")
    try:
        train_by_hand(case, plan)
        start = ready(case, plan.made, plan.python)
    except Skipped as reason:
        return about | {"skipped": str(reason)}
    plan.tell(f"{case.name}: the job")
    with clock.step("job"):
        refused = _job(case, plan, start, folder)
    if refused:
        return about | {"failed": refused, "seconds": clock.seconds()}
    plan.tell(f"{case.name}: the rivals")
    with clock.step("rivals"):
        answers = _answers(start, folder)
    result = json.loads((folder / "run" / "result.json").read_text())
    figures = _figures(answers, start.images.test_labels, result)
    return about | figures | {"seconds": clock.seconds()}


class Clock:
    """Seconds of every step of a case, over all attempts; kept in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def seconds(self) -> dict[str, float]:
        """Step → seconds, and their sum under ``all``."""
        steps: dict[str, float] = {}
        if self.path.exists():
            steps = json.loads(self.path.read_text())
        return steps | {"all": round(sum(steps.values()), 1)}

    @contextmanager
    def step(self, name: str, beside: int = 1) -> Iterator[None]:
        """Time a step; what it took counts, however it ends.

        ``beside``: so many steps share the time, one of which is this.
        """
        began = time.monotonic()
        try:
            yield
        finally:
            steps = self.seconds()
            del steps["all"]
            steps[name] = round(steps.get(name, 0.0) + (time.monotonic() - began) / beside, 1)
            write_bytes(self.path, json.dumps(steps).encode())


def _job(case: Case, plan: Plan, start: Ready, folder: Path) -> str:
    """Run the command line, or go on with it; why it failed, empty where it did not."""
    run = folder / "run"
    if (run / "result.json").exists():
        return ""
    if run.exists() and not (run / "job.yaml").exists():
        shutil.rmtree(run)  # ours, stopped before there was anything to go on with
    command = [
        *(sys.executable, "-c", "from service.cli.main import main; main()", "search"),
        *("--teacher", start.teacher, "--data", str(start.data), "--max-kb", f"{case.max_kb:g}"),
        *("--budget", str(BUDGET), "--seed", str(plan.seed), "--out", str(run), "--json"),
        *(["--resume"] if run.exists() else []),
    ]
    # this checkout is what is tried, wherever another one is installed
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    with (folder / "job.log").open("a") as log:
        process = subprocess.Popen(
            command,
            cwd=start.folder,
            env=os.environ | {"PYTHONPATH": path},
            stdout=subprocess.DEVNULL,
            stderr=log,
            start_new_session=True,  # a Ctrl-C reaches it once, from below
        )
        try:
            code = process.wait()
        except BaseException:
            _interrupt(process)
            raise
    if code in (130, -signal.SIGINT):
        raise KeyboardInterrupt
    if code or not (run / "result.json").exists():
        lines = (folder / "job.log").read_text(errors="replace").strip().splitlines()
        return f"exit code {code}: {lines[-1] if lines else ''}"
    return ""


def _interrupt(process: subprocess.Popen[bytes]) -> None:
    """End a job so that it can be gone on with; asked again where a library has swallowed it."""
    while process.poll() is None:
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE)


@cache
def commit() -> str:
    """The commit that is tried, with a plus where files differ from it; empty outside of git."""
    told = [
        subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True)
        for words in (("rev-parse", "--short", "HEAD"), ("status", "--porcelain", "-uno"))
    ]
    if any(one.returncode for one in told):
        return ""
    return told[0].stdout.strip() + ("+" if told[1].stdout.strip() else "")


#: a contender's answers about the test rows, and its KB
Answers = Mapping[str, tuple[Labels, float]]


def _answers(start: Ready, folder: Path) -> Answers:
    """Of the teacher, of what ships, of both rivals, and of what the search alone found."""
    run, place = folder / "run", start.data.parent
    result = json.loads((run / "result.json").read_text())
    finalists = sorted(result["finalists"], key=lambda one: -one["accuracy"])
    by_origin: dict[str, Any] = {}
    for one in finalists:
        by_origin.setdefault(one.get("origin", "search"), one)
    plain, search = folder / "plain.json", folder / "search.json"
    if "uniform" not in by_origin and not plain.exists():
        by_uniform_width(run, start.folder, place, plain)
    test = start.images.test
    for origin, path in (("uniform", plain), ("search", search)):
        if origin in by_origin and not path.exists():
            one = by_origin[origin]
            keep(path, predictions(run, one["key"], test, start.folder), one["kb"])
    found = {
        "teacher": (teacher_answers(run, test), result["teacher"]["kb"]),
        "student": (shipped(run, test), result["student"]["kb"]),
        "plain": kept(plain),
        "hand": kept(folder / HAND),
    }
    if search.exists():
        found["search"] = kept(search)
    return found


def _figures(answers: Answers, labels: Labels, result: Row) -> Row:
    """A row's figures: accuracies, and on how many rows one is right where the other is not."""
    right = {name: said == labels for name, (said, _) in answers.items()}
    pairs = [("student", "plain"), ("student", "hand"), ("search", "plain")]
    return {
        "test_rows": len(labels),
        "accuracy": {name: float(one.mean()) for name, one in right.items()},
        "kb": {name: kb for name, (_, kb) in answers.items()},
        # one → other → rows that only the first, and only the second, has right
        "only": {
            f"{one}/{other}": [
                int((right[one] & ~right[other]).sum()),
                int((right[other] & ~right[one]).sum()),
            ]
            for one, other in pairs
            if one in right
        },
        "stated": {who: result[who]["accuracy"] for who in ("teacher", "student", "pair")},
        "warnings": [warning["name"] for warning in result.get("warnings", [])],
        "verdict": result.get("verdict"),
        "finalists": [
            {name: one.get(name) for name in ("origin", "kb", "expected", "accuracy")}
            for one in result["finalists"]
        ],
    }
