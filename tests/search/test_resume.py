"""Ctrl-C and kill -9 in mid-search, with real processes and a real Ray; then going on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from envs.reward import ThresholdReward
from search.execution.evaluation import Job
from search.execution.watchdog import scratch_folder, users
from search.job.events import Note
from search.job.run_folder import RunFolder
from search.job.spec import JobSpec
from search.job.spec_file import to_yaml
from search.ledger.ledger import Ledger, Record
from search.opening.opening import openers
from search.pipeline import run
from search.preparation.validate import moves_of
from search.samplers import SAMPLERS, Sampler
from search.samplers.dedup import INSURANCE
from search.scheduling.evidence import warm_up
from search.scheduling.halving import Halving
from search.scheduling.loop import search
from search.scheduling.warm import check_warm
from search.space.limits import Limits
from search.space.space import Actions, Space
from teachers.formats.description import understand
from teachers.formats.formats import load_teacher
from tests.search import jobs
from tests.search.evaluators import Recorder
from tests.search.processes import Process, descendants, living, shared_memory, wait_until

#: seconds that Ray's processes have to end after their driver
GRACE = 15.0


class Run:
    """`understudy search` in a process of its own, and all the processes that came from it."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.journal = folder / "run" / "ledger.journal"
        self.log = folder / "stderr.txt"
        self.family: set[Process] = set()
        # its Ray finds room for its scratch folder here, where a test can see what is left
        self.temp = Path(tempfile.mkdtemp(prefix="us-", dir="/tmp"))
        self.memory = shared_memory()
        self.output = folder / "stdout.txt"
        with self.log.open("wb") as log, self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [*jobs.UNDERSTUDY, "search", *arguments],
                cwd=folder,
                env=os.environ | {"PYTHONPATH": str(jobs.ROOT), "TMPDIR": str(self.temp)},
                stdout=output,
                stderr=log,
                start_new_session=True,
            )

    def wait_for_candidates(self, count: int) -> None:
        def reached() -> bool:
            self.family |= descendants(self.process.pid)
            return self.candidates() >= count or self.process.poll() is not None

        assert wait_until(reached, 60), self.text()
        assert self.process.poll() is None, self.text()

    def candidates(self) -> int:
        return self.journal.read_bytes().count(b'"key"') if self.journal.exists() else 0

    def text(self) -> str:
        return self.log.read_text()

    def distilled(self) -> int:
        """Candidates that it says it has distilled, not counting those from the ledger."""
        # news of those under way have no reward yet
        lines = [line for line in self.text().splitlines() if " reward " in line]
        return sum("from the ledger" not in line for line in lines)

    def scratch(self) -> list[Path]:
        return list(self.temp.glob("understudy-*"))

    def nothing_is_left(self) -> None:
        assert self.family
        assert wait_until(lambda: not living(self.family), GRACE), living(self.family)
        assert wait_until(lambda: not self.scratch(), GRACE), self.scratch()
        assert shared_memory() - self.memory == set()


@contextmanager
def started(folder: Path, *arguments: str) -> Iterator[Run]:
    run = Run(folder, *arguments)
    try:
        yield run
    finally:
        if run.process.poll() is None:
            run.process.kill()
        run.process.wait()
        for pid in living(run.family):
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(run.temp, ignore_errors=True)


@pytest.mark.long
@pytest.mark.timeout(240)
def test_killed_interrupted_and_gone_on_as_if_nothing_had_been(tmp_path: Path) -> None:
    whole = jobs.finished_job()
    out = tmp_path / "run"
    job = tmp_path / "job.yaml"
    job.write_text(to_yaml(whole.spec.model_copy(update={"out": str(out)})))

    with started(tmp_path, str(job)) as run:
        run.wait_for_candidates(2)
        run.process.kill()
        assert run.process.wait(30) == -signal.SIGKILL
        run.nothing_is_left()
    kept = records_of(whole.spec, out)
    assert 2 <= len(kept) < whole.spec.budget

    with started(tmp_path, "--resume", "--out", str(out)) as run:
        run.wait_for_candidates(len(kept) + 2)
        os.killpg(run.process.pid, signal.SIGINT)  # Ctrl-C reaches everyone at the terminal
        assert run.process.wait(30) == 130
        assert f"understudy search --resume --out {out}" in run.text()
        assert "Traceback" not in run.text()
        run.nothing_is_left()
    more = records_of(whole.spec, out)
    assert more[: len(kept)] == kept
    assert len(kept) + 2 <= len(more) < whole.spec.budget

    with started(tmp_path, "--resume", "--out", str(out), "--json") as run:
        run.wait_for_candidates(len(more) + 1)
        assert run.process.wait(90) == 0, run.text()
        run.nothing_is_left()
        # one JSON object on stdout, everything else on stderr
        (line,) = run.output.read_text().splitlines()
        assert json.loads(line) == json.loads((out / "result.json").read_text())
        assert "Traceback" not in run.text()
        assert run.distilled() == whole.spec.budget - len(more)
    final = records_of(whole.spec, out)
    assert final[: len(more)] == more
    assert (out / "bundle" / "manifest.json").exists()

    # no candidate twice, and each one as in the run that nothing disturbed
    assert len({record.key for record in final}) == len(final) == whole.spec.budget
    undisturbed = records_of(whole.spec, whole.out)
    assert outcomes(final) == outcomes(undisturbed)
    assert proposals(whole.spec, out) == proposals(whole.spec, whole.out)


def network_of(spec: JobSpec) -> Space:
    teacher = load_teacher(spec.teacher)
    return Space(
        understand(teacher).network, moves_of(spec), ThresholdReward(), Limits(spec.max_kb)
    )


def opened(spec: JobSpec, out: Path) -> Ledger:
    space = network_of(spec)
    return Ledger(out / "ledger.journal", [layer.node for layer in space.layers], space.moves.pool)


def records_of(spec: JobSpec, out: Path) -> list[Record]:
    with opened(spec, out) as ledger:
        return list(ledger.records)


def outcomes(records: Sequence[Record]) -> dict[str, tuple[Actions, float, float]]:
    return {record.key: (record.actions, record.accuracy, record.reward) for record in records}


class Witness(Recorder):
    """A sampler's batches, written down."""

    def __init__(self, sampler: Sampler) -> None:
        super().__init__(sampler)
        self.batches: list[list[Actions]] = []

    def propose(self, count: int) -> list[Actions]:
        self.batches.append(super().propose(count))
        return self.batches[-1]


class NoOne:
    """All candidates are in the ledger already."""

    slots = 1

    def submit(self, job: Job) -> None:
        raise AssertionError(f"not in the ledger: {job.actions}")

    def wait(self, timeout: float | None = None) -> None:
        raise AssertionError("nobody was asked")

    def close(self) -> None:
        pass


def proposals(spec: JobSpec, out: Path) -> list[list[Actions]]:
    """Every batch that a run's sampler proposed, in order, from its ledger."""
    space = network_of(spec)
    witness = Witness(
        SAMPLERS[spec.sampler](
            space,
            spec.seed,
            agent_rate=spec.agent_rate,
            agent_units=spec.agent_units,
            baseline_decay=spec.baseline_decay,
        )
    )
    with opened(spec, out) as ledger:
        assert spec.proxy_epochs is not None
        given = openers(ledger.records, RunFolder(out))
        witness.begin_with(given)
        for _ in search(
            space,
            witness,
            NoOne(),
            ledger,
            budget=spec.budget,
            batch=spec.batch,
            halving=Halving(spec.proxy_epochs, spec.halving),
            first=len(given),
        ):
            pass
    return witness.batches


BEGINS = "the search begins with what earlier runs say of {} candidates"


def test_a_finished_run_is_evidence_for_the_next(tmp_path: Path) -> None:
    whole = jobs.finished_job()
    # a tighter limit, and another sampler
    spec = jobs.small_job(tmp_path / "next", warm=(str(whole.out),), sampler="tpe", max_kb=60)
    check_warm(spec)
    space = network_of(spec)
    sampler = SAMPLERS[spec.sampler](space, spec.seed)
    teacher = load_teacher(spec.teacher).fingerprint
    folder = RunFolder(spec.out)
    (note,) = [
        e.text for e in warm_up(sampler, space, spec, teacher, folder) if isinstance(e, Note)
    ]
    assert f"of {whole.spec.budget} candidates" in note
    earlier = [record.actions for record in records_of(whole.spec, whole.out)]
    proposed = sampler.propose(len(earlier) + 1)
    assert all(space.fits(actions) for actions in proposed)
    # of the earlier ones the best that keep the limit, and no other
    again = [actions for actions in proposed if actions in earlier]
    assert again == proposed[: len(again)]
    assert len(again) == min(INSURANCE, sum(map(space.fits, earlier)))


@pytest.mark.long
def test_a_search_that_begins_with_evidence(tmp_path: Path) -> None:
    whole = jobs.finished_job()
    spec = jobs.small_job(tmp_path / "next", warm=(str(whole.out),), sampler="evolution", budget=4)
    notes = [event.text for event in run(spec) if isinstance(event, Note)]
    assert (
        f"the search begins with what earlier runs say of {whole.spec.budget} candidates" in notes
    )
    records = records_of(spec, tmp_path / "next")
    assert len(records) == 4
    report = (tmp_path / "next" / "report.html").read_text()
    assert f"{whole.spec.budget} candidates of earlier\nruns" in report
    # the recipe is the same, so the best of the earlier run comes out as it was
    best = max(records_of(whole.spec, whole.out), key=lambda record: record.reward)
    assert (best.key, best.accuracy) in {(record.key, record.accuracy) for record in records}


HOLDER = "import sys, time; file = open(sys.argv[1], 'w'); print(flush=True); time.sleep(60)"
KILLED = """
import os, sys
from search.execution.watchdog import scratch_folder

with scratch_folder() as folder:
    print(folder, flush=True)
    os.kill(os.getpid(), 9)
"""


def test_the_watchdog_ends_who_has_files_open_and_spares_its_driver() -> None:
    with scratch_folder() as folder, Path(folder, "driver.log").open("w"):
        holder = subprocess.Popen(
            [sys.executable, "-c", HOLDER, f"{folder}/log.txt"], stdout=subprocess.PIPE
        )
        assert holder.stdout is not None
        holder.stdout.readline()
        assert users(folder, spared=0) == [holder.pid]
        assert users(folder, spared=holder.pid) == []
    assert not Path(folder).exists()
    assert holder.wait(5) == -signal.SIGKILL
    holder.stdout.close()


def test_the_watchdog_works_when_its_driver_cannot() -> None:
    with scratch_folder() as other:
        killed = subprocess.run(
            [sys.executable, "-c", KILLED], cwd=jobs.ROOT, capture_output=True, text=True
        )
        assert killed.returncode == -signal.SIGKILL
        left = Path(killed.stdout.strip())
        assert left.name.startswith("understudy-")
        assert wait_until(lambda: not left.exists(), 10)
        assert Path(other).exists()  # another run's is none of its business
