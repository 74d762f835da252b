"""Searches whose processes are killed, again and again, beside one that nobody disturbs.

All of them work through the same candidates, in single precision and a fixed layout, so that every
candidate must come out with the same accuracy to the bit.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from search.execution.watchdog import users
from search.job.spec import JobSpec
from search.job.spec_file import to_yaml
from search.ledger.ledger import Ledger, Record
from tests.search import jobs
from tests.search.nodes import OPEN, Cluster, Node, cluster_here
from tests.search.processes import Process, descendants, living, shared_memory, wait_until
from tests.search.trainers import NAMES, Mixed, fault_of

#: seconds that a whole search may take, and that its processes may take to end
STUCK, GRACE = 600.0, 30.0

Table = dict[str, tuple[tuple[int, ...], float]]


def job_of(out: Path, **changes: Any) -> JobSpec:
    """Candidates of about a second each, the same whatever happens."""
    values: dict[str, Any] = {
        "sampler": "random",
        "budget": 12,
        "batch": 4,
        "proxy_rows": 598,
        "proxy_epochs": 20,
        "final_epochs": 2,
        "precision": "fp32",
        "layout": "contiguous",
        "families": (),
    }
    return jobs.small_job(out, **(values | changes))


class Search:
    """One run in a folder of its own, by as many processes as it takes."""

    def __init__(self, folder: Path, environment: Mapping[str, str], **changes: Any) -> None:
        self.folder, self.environment = folder, dict(environment)
        folder.mkdir(parents=True)
        self.out = folder / "run"
        self.spec = job_of(self.out, **changes)
        (folder / "job.yaml").write_text(to_yaml(self.spec))
        self.log = folder / "stderr.txt"
        # its Ray finds room for its scratch folder here, where one can see what is left
        self.temp = Path(tempfile.mkdtemp(prefix="us-", dir="/tmp"))
        self.family: set[Process] = set()
        self.process: subprocess.Popen[bytes] | None = None
        # what was in the ledger when somebody was killed
        self.paid: Table = {}

    def start(self) -> None:
        """Begin, or go on."""
        begun = (self.out / "job.yaml").exists()
        arguments = (
            ["--resume", "--out", str(self.out)] if begun else [str(self.folder / "job.yaml")]
        )
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*jobs.UNDERSTUDY, "search", *arguments, "--json"],
                cwd=self.folder,
                env=os.environ
                | {"PYTHONPATH": str(jobs.ROOT), "TMPDIR": str(self.temp)}
                | self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def running(self) -> bool:
        """Whether its present process has not ended."""
        assert self.process is not None
        return self.process.poll() is None

    def candidates(self) -> int:
        """How many stand in the ledger."""
        journal = self.out / "ledger.journal"
        return journal.read_bytes().count(b'"key"') if journal.exists() else 0

    def wait_for(self, count: int) -> bool:
        """Whether so many candidates are finished before the process ends."""

        def reached() -> bool:
            self.family |= descendants(self.pid)
            return self.candidates() >= count or not self.running

        assert wait_until(reached, STUCK), self.log.read_text()[-3000:]
        return self.running

    @property
    def pid(self) -> int:
        """Of its present process."""
        assert self.process is not None
        return self.process.pid

    def kill(self) -> None:
        """SIGKILL to the driver."""
        assert self.process is not None
        self.family |= descendants(self.pid)
        self.process.kill()
        self.process.wait()

    def end_well(self) -> None:
        """Wait for its end; it must have succeeded."""
        assert self.process is not None
        self.wait_for(self.spec.budget)
        assert self.process.wait(STUCK) == 0, self.log.read_text()[-3000:]

    def records(self) -> list[Record]:
        """What the ledger holds; nobody may have it open."""
        with Ledger(self.out / "ledger.journal", *_columns(self.spec)) as ledger:
            return list(ledger.records)

    def left(self) -> list[str]:
        """Processes and scratch folders that outlive it."""
        wait_until(lambda: not living(self.family) and not self._scratch(), GRACE)
        return [*living(self.family).values(), *map(str, self._scratch())]

    def _scratch(self) -> list[Path]:
        return list(self.temp.glob("understudy-*"))

    def close(self) -> None:
        """End whatever a failed test has left."""
        if self.process is not None and self.running:
            self.kill()
        for pid in living(self.family):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.temp, ignore_errors=True)


def _columns(spec: JobSpec) -> tuple[list[str], tuple[float, ...]]:
    from envs.reward import ThresholdReward
    from search.preparation.validate import moves_of
    from search.space.space import Space
    from teachers.formats.description import understand
    from teachers.formats.formats import load_teacher

    moves = moves_of(spec)
    space = Space(understand(load_teacher(spec.teacher)).network, moves, ThresholdReward())
    return [layer.node for layer in space.layers], moves.pool


@contextmanager
def searching(
    folder: Path, environment: Mapping[str, str] | None = None, **changes: Any
) -> Iterator[Search]:
    """A search that is ended whatever happens."""
    search = Search(folder, environment or {}, **changes)
    try:
        yield search
    finally:
        search.close()


def table_of(records: list[Record]) -> Table:
    """Candidate → actions and accuracy."""
    return {record.key: (record.actions, record.accuracy) for record in records}


@dataclass
class Evidence:
    """What the kills of one kind have done.

    Attributes:
        kind: who was killed.
        kills, runs: how many, in how many searches.
        lost: candidates that were in the ledger before a kill and not after it.
        twice: candidates that stand in a ledger twice.
        differing: candidates whose accuracy is not that of the undisturbed search.
        left: processes, scratch folders and shared memory that outlived a search.
        seconds: that it all took.
    """

    kind: str
    kills: int = 0
    runs: int = 0
    lost: int = 0
    twice: int = 0
    differing: int = 0
    left: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def clean(self) -> bool:
        """Whether nothing went wrong."""
        return not (self.lost or self.twice or self.differing or self.left)

    def compare(self, records: list[Record], expected: Table) -> None:
        """Hold a finished search against the undisturbed one."""
        found = table_of(records)
        self.twice += len(records) - len(found)
        self.differing += sum(found.get(key) != row for key, row in expected.items())
        self.differing += len(set(found) - set(expected))


def undisturbed(folder: Path) -> Table:
    """The table that all others must give."""
    with searching(folder) as search:
        search.start()
        search.end_well()
        return table_of(search.records())


def kill_workers(folder: Path, expected: Table, kills: int, rng: random.Random) -> Evidence:
    """Some worker's process, while it trains."""
    evidence = Evidence("worker")

    def disturb(search: Search) -> None:
        seen = 0
        while search.wait_for(seen + 1) and evidence.kills < kills:
            seen = search.candidates()
            if seen >= search.spec.budget:
                return
            time.sleep(rng.uniform(0, 1))
            evidence.kills += _kill_one(search.pid, rng)

    _repeat(evidence, folder, expected, kills, disturb)
    return evidence


def _kill_one(root: int, rng: random.Random) -> int:
    workers = [
        pid
        for pid, command in living(descendants(root)).items()
        if re.match(r"ray::Worker", command)
    ]
    if not workers:
        return 0
    with suppress(ProcessLookupError):
        os.kill(rng.choice(workers), signal.SIGKILL)
    return 1


def kill_drivers(folder: Path, expected: Table, kills: int, rng: random.Random) -> Evidence:
    """The search itself, at some moment after a new candidate; then it goes on."""
    evidence = Evidence("driver")

    def kill(search: Search) -> None:
        search.kill()
        evidence.kills += 1
        evidence.left += search.left()
        if search.candidates():
            search.paid |= table_of(search.records())
        search.start()

    def disturb(search: Search) -> None:
        while evidence.kills < kills and search.wait_for(search.candidates() + 1):
            if search.candidates() >= search.spec.budget:
                break
            time.sleep(rng.uniform(0, 1.5))
            kill(search)
        if evidence.kills < kills and search.running:
            # the winner's training, or the packaging
            time.sleep(rng.uniform(0, 6))
            if search.running:
                kill(search)

    _repeat(evidence, folder, expected, kills, disturb)
    return evidence


def kill_nodes(folder: Path, expected: Table, kills: int, rng: random.Random) -> Evidence:
    """The second node of a cluster: its raylet, and with it everything on that machine."""
    evidence = Evidence("second node")
    shared = shared_memory()
    with cluster_here() as nodes:

        def disturb(search: Search) -> None:
            while evidence.kills < kills and search.candidates() < search.spec.budget:
                if nodes.second is None:
                    nodes.add_second()
                second = nodes.second
                assert second is not None
                busy = _wait_for_work(second, search)
                assert busy, search.log.read_text()[-3000:]
                if not search.running:
                    return
                time.sleep(rng.uniform(0.5, 2))
                second.kill()
                nodes.second = None
                evidence.kills += 1

        nodes.add_second()
        _repeat(evidence, folder, expected, kills, disturb, nodes=nodes)
        scratch = str(nodes.folder)
    evidence.left += [str(pid) for pid in users(scratch, spared=os.getpid())]
    # gone from the name space is what counts: Ray's own semaphores go a moment later
    wait_until(lambda: not shared_memory() - shared, GRACE)
    evidence.left += sorted(shared_memory() - shared)
    return evidence


def failures(folder: Path, budget: int = 24) -> dict[str, str]:
    """A search whose candidates fail in every way: what happened → the reason in the ledger."""
    import ray

    from envs.compression.moves import Moves
    from envs.gym.toy import toy_spec
    from envs.reward import ThresholdReward
    from search.execution.cluster import cluster
    from search.execution.evaluator import RayEvaluator
    from search.execution.timeouts import TrialTimeout
    from search.execution.worker_pool import Resources
    from search.samplers import RandomSampler
    from search.scheduling.halving import Halving
    from search.scheduling.loop import search
    from search.space.space import Space

    moves = Moves((0.0, 0.5, 1.0), "o")
    space = Space(toy_spec(), moves, ThresholdReward())
    layers = [layer.node for layer in space.layers]
    folder.mkdir(parents=True)
    with cluster("local", 2), Ledger(folder / "ledger.journal", layers, moves.pool) as ledger:
        room = ray.put({"epochs": 2, "seconds": 0.0, "folder": str(folder)})
        resources, patience = Resources(memory_mb=512), TrialTimeout(minutes=0.25)
        crew = RayEvaluator(room, Mixed, 2, resources, patience)
        assert crew.attend(GRACE)
        sampler = RandomSampler(space, 0)
        for _ in search(space, sampler, crew, ledger, budget=budget, batch=4, halving=Halving(2)):
            pass
        crew.close()
        assert len(ledger.records) == budget
        return {NAMES[fault_of(record.actions)]: record.reason for record in ledger.records}


def _wait_for_work(node: Node, search: Search) -> bool:
    return wait_until(lambda: _at_work(node.process.pid) or not search.running, STUCK)


def _wait_for_rest(node: Node) -> bool:
    return wait_until(lambda: not _at_work(node.process.pid), GRACE)


def _at_work(root: int) -> bool:
    return any(command.startswith("ray::Worker") for command in living(descendants(root)).values())


def _repeat(
    evidence: Evidence,
    folder: Path,
    expected: Table,
    kills: int,
    disturb: Callable[[Search], None],
    nodes: Cluster | None = None,
) -> None:
    """Search after search, until there were enough kills."""
    start = time.monotonic()
    environment: dict[str, str] = {}
    changes: dict[str, Any] = {}
    if nodes is not None:
        environment, changes = OPEN | {"RAY_ADDRESS": nodes.address}, {"ray": "auto"}
    while evidence.kills < kills:
        shared = shared_memory()
        place = folder / f"{evidence.kind.replace(' ', '-')}-{evidence.runs}"
        with searching(place, environment, **changes) as search:
            search.start()
            disturb(search)
            search.end_well()
            evidence.runs += 1
            records = search.records()
            evidence.compare(records, expected)
            table = table_of(records)
            evidence.lost += sum(table.get(key) != row for key, row in search.paid.items())
            evidence.left += search.left()
        if nodes is None:
            evidence.left += sorted(shared_memory() - shared)
        elif not _wait_for_rest(nodes.head):
            evidence.left.append("workers on the head")
    evidence.seconds = time.monotonic() - start
