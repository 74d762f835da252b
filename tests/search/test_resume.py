"""Ctrl-C and kill -9 in mid-search, with real processes and a real Ray; then going on."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from envs.reward import ThresholdReward
from search.ledger import Ledger, Record
from search.loop import Evaluation, search
from search.preparation import describe, moves_of
from search.samplers import SAMPLERS, Sampler
from search.space import Actions, Space
from search.spec import JobSpec, to_yaml
from search.watchdog import scratch_folder, users
from teachers.formats import load_teacher
from tests.search import jobs
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
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*jobs.UNDERSTUDY, "search", *arguments],
                cwd=folder,
                env=os.environ | {"PYTHONPATH": str(jobs.ROOT), "TMPDIR": str(self.temp)},
                stdout=subprocess.DEVNULL,
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
        lines = [line for line in self.text().splitlines() if " candidate " in line]
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

    with started(tmp_path, "--resume", "--out", str(out)) as run:
        run.wait_for_candidates(len(more) + 1)
        assert run.process.wait(90) == 0, run.text()
        run.nothing_is_left()
        assert run.distilled() == whole.spec.budget - len(more)
    final = records_of(whole.spec, out)
    assert final[: len(more)] == more
    assert (out / "result.json").exists()
    assert (out / "bundle" / "manifest.json").exists()

    # no candidate twice, and each one as in the run that nothing disturbed
    assert len({record.key for record in final}) == len(final) == whole.spec.budget
    undisturbed = records_of(whole.spec, whole.out)
    assert outcomes(final) == outcomes(undisturbed)
    assert proposals(whole.spec, out) == proposals(whole.spec, whole.out)


def network_of(spec: JobSpec) -> Space:
    teacher = load_teacher(spec.teacher)
    return Space(describe(teacher), moves_of(spec), ThresholdReward(), spec.max_kb)


def opened(spec: JobSpec, out: Path) -> Ledger:
    space = network_of(spec)
    return Ledger(
        out / "ledger.journal", [layer.node for layer in space.layers], space.moves.pool
    )


def records_of(spec: JobSpec, out: Path) -> list[Record]:
    with opened(spec, out) as ledger:
        return list(ledger.records)


def outcomes(records: Sequence[Record]) -> dict[str, tuple[Actions, float, float]]:
    return {record.key: (record.actions, record.accuracy, record.reward) for record in records}


class Witness:
    """A sampler's batches, written down."""

    def __init__(self, sampler: Sampler) -> None:
        self.sampler = sampler
        self.batches: list[list[Actions]] = []

    def propose(self, count: int) -> list[Actions]:
        self.batches.append(self.sampler.propose(count))
        return self.batches[-1]

    def tell(self, proposals: Sequence[Actions], rewards: Sequence[float]) -> None:
        self.sampler.tell(proposals, rewards)


class NoOne:
    """All candidates are in the ledger already."""

    def evaluate(self, candidates: Sequence[Actions]) -> Iterator[Evaluation]:
        raise AssertionError(f"not in the ledger: {candidates}")


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
        for _ in search(
            space, witness, NoOne(), ledger, budget=spec.budget, batch=spec.batch
        ):
            pass
    return witness.batches


def test_the_watchdog_ends_who_has_files_open_and_removes_the_folder() -> None:
    code = "import sys, time; file = open(sys.argv[1], 'w'); print(1, flush=True); time.sleep(60)"
    with scratch_folder() as folder:
        with subprocess.Popen(
            [sys.executable, "-c", code, f"{folder}/log.txt"], stdout=subprocess.PIPE
        ) as inside:
            assert inside.stdout is not None
            inside.stdout.readline()
            assert users(folder, spared=0) == [inside.pid]
            assert users(folder, spared=inside.pid) == []
            mine = Path(folder, "mine.txt").open("w")  # the driver itself is spared
            driver = (
                "import os, sys; sys.path.insert(0, sys.argv[1])\n"
                "from search.watchdog import scratch_folder\n"
                "with scratch_folder() as folder:\n"
                "    file = open(folder + '/log.txt', 'w'); print(folder, flush=True)\n"
                "    os.kill(os.getpid(), 9)\n"
            )
            killed = subprocess.run(
                [sys.executable, "-c", driver, str(jobs.ROOT)], capture_output=True, text=True
            )
            assert killed.returncode == -signal.SIGKILL
            left = Path(killed.stdout.strip())
            assert left.name.startswith("understudy-")
            assert wait_until(lambda: not left.exists(), 10)
            assert inside.poll() is None  # another run's processes are none of its business
            start = time.monotonic()
            mine.close()
            Path(folder, "mine.txt").unlink()
            inside.kill()
    assert not Path(folder).exists()
    assert time.monotonic() - start < 10
