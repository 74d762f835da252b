"""Of many jobs with one folder one runs; the others, and what is refused later, touch nothing."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import BadInput
from edge.files import write_bytes
from search.demo import run_demo
from search.job import lock
from search.job.claim import LOCK, claimed
from search.job.events import Event, Stage
from search.job.run_folder import RunFolder
from search.job.spec import JobSpec
from search.pipeline import run
from teachers.data.row_file import RowFile
from tests.search import jobs
from tests.search.processes import wait_until

JOB = JobSpec(teacher="t.safetensors", data="digits", out="x")

CLAIMER = """
import sys, time
from pathlib import Path
from edge.errors import BadInput
from search.job.claim import claimed

root, go = Path(sys.argv[1]), Path(sys.argv[2])
print("ready", flush=True)
while not go.exists():
    time.sleep(.001)
try:
    with claimed(root, lambda error: False, new=sys.argv[3] == "new"):
        print("ours", flush=True)
        sys.stdin.read()
except BadInput as error:
    print(error, flush=True)
"""


@pytest.mark.parametrize("kind", ["new", "there"])
def test_of_ten_at_once_one_has_it_and_the_others_touch_nothing(kind: str, tmp_path: Path) -> None:
    root, go = tmp_path / "runs" / "mine", tmp_path / "go"
    if kind == "there":
        root.mkdir(parents=True)
    claimers = [
        subprocess.Popen(
            [sys.executable, "-c", CLAIMER, str(root), str(go), kind],
            env=os.environ | {"PYTHONPATH": str(jobs.ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(10)
    ]
    outputs = [claimer.stdout for claimer in claimers]
    assert all(output is not None and output.readline() == "ready\n" for output in outputs)
    go.touch()
    said = [output.readline() for output in outputs if output is not None]
    assert said.count("ours\n") == 1, said
    refused = "the output folder exists" if kind == "new" else "the run is in use"
    assert sum(line.startswith(refused) for line in said) == 9, said
    # the nine are gone, and what the one has is whole
    winner = claimers[said.index("ours\n")]
    for claimer in claimers:
        if claimer is not winner:
            claimer.communicate()
    assert [path.name for path in root.iterdir()] == [LOCK]
    assert f"process {winner.pid} on" in str(lock.holder(root / LOCK))
    winner.communicate()
    assert winner.returncode == 0
    assert lock.holder(root / LOCK) is None


def test_who_comes_while_a_job_is_at_work_is_told_so(tmp_path: Path) -> None:
    with claimed(tmp_path / "run", lambda error: True):
        with pytest.raises(BadInput, match="a job is at work in it: got .*process"):
            RunFolder(tmp_path / "run").check(JOB, resume=False)
        with pytest.raises(BadInput, match=r"in use: got .*, by process .*run\.lock"):
            lock.take(tmp_path / "run" / LOCK)
    with pytest.raises(BadInput, match="go on with that run: --resume"):
        RunFolder(tmp_path / "run").check(JOB, resume=False)


def test_a_process_that_is_killed_lets_go(tmp_path: Path) -> None:
    root, go = tmp_path / "run", tmp_path / "go"
    go.touch()
    claimer = subprocess.Popen(
        [sys.executable, "-c", CLAIMER, str(root), str(go), "new"],
        env=os.environ | {"PYTHONPATH": str(jobs.ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert wait_until(lambda: lock.holder(root / LOCK) is not None, 10)
    claimer.kill()
    claimer.communicate()
    with claimed(root, lambda error: True, new=False) as claim:
        assert not claim.new


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system over a network whose server does no locking."""

    def flock(descriptor: int, way: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", flock)


@pytest.mark.usefixtures("no_locks")
def test_without_locks_the_line_in_the_file_says_who_is_at_work(tmp_path: Path) -> None:
    with (
        claimed(tmp_path / "run", lambda error: True),
        pytest.raises(BadInput, match="in use"),
        claimed(tmp_path / "run", lambda error: True, new=False),
    ):
        pass
    with claimed(tmp_path / "run", lambda error: True, new=False):
        pass


@pytest.mark.usefixtures("no_locks")
@pytest.mark.parametrize(
    ("line", "free"),
    [
        ("", True),
        ("half a li", True),
        ("{here} 4194305 77", True),  # no process has this number
        ("{here} {own} 77", True),  # the number was given again to a stranger
        ("elsewhere 1 77", False),  # nobody here can tell
    ],
)
def test_without_locks_the_dead_hold_nothing(line: str, free: bool, tmp_path: Path) -> None:
    here = lock._me().split()[0]
    (tmp_path / LOCK).write_text(line.format(here=here, own=os.getpid()))
    if free:
        os.close(lock.take(tmp_path / LOCK))
    else:
        with pytest.raises(BadInput, match="remove run.lock there"):
            lock.take(tmp_path / LOCK)


def test_a_place_where_no_folder_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file" / "run", Path("/proc/nowhere/run")):
        with (
            pytest.raises(BadInput, match="cannot be made: got .*; expected a path"),
            claimed(out, lambda error: False),
        ):
            pass
    assert (tmp_path / "file").read_text() == "mine"


def test_a_job_is_there_as_soon_as_its_folder_is(tmp_path: Path) -> None:
    """So that whoever is killed in the middle of preparing can go on."""
    folder = RunFolder(tmp_path / "run")
    with folder.claimed(JOB):
        assert folder.stored_job().data == "digits"
        assert not folder.begun


# --- refusals

names = st.sampled_from(["a.txt", "job.yaml", "cache", "note", "run.lock", "teacher", "ä ö"])
places = st.lists(names, min_size=1, max_size=3).map("/".join)
steps = st.lists(st.tuples(st.sampled_from(["ours", "rows", "theirs", "over"]), places), max_size=8)
Refusal = st.sampled_from([BadInput("x", value=1, bound="2", remedy="3"), KeyboardInterrupt()])


def contents(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


@settings(deadline=None, max_examples=60)
@given(steps=steps, before=st.dictionaries(places, st.binary(max_size=3), max_size=3), why=Refusal)
def test_no_path_outside_what_the_process_made_is_ever_removed(
    steps: list[tuple[str, str]],
    before: dict[str, bytes],
    why: BaseException,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """A job writes, its user writes into the same folder, and then the job is refused."""
    home = tmp_path_factory.mktemp("home")
    theirs: dict[str, bytes] = {}

    def user(place: str, content: bytes, over: bool) -> None:
        path = home / place
        with suppress(OSError):  # a file stands where a folder should be
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.is_dir() and (over or not path.exists()):
                draft = home / "draft"
                draft.write_bytes(content)  # as editors save
                draft.replace(path)
                theirs[place] = content

    for place, content in before.items():
        user(f"beside/{place}", content, over=True)
    root = home / "runs" / "run"
    with suppress(BadInput, KeyboardInterrupt), RunFolder(root).claimed(JOB):
        for number, (who, place) in enumerate(steps):
            path = root / place
            with suppress(OSError, BadInput):
                if who in ("theirs", "over"):
                    user(f"runs/run/{place}", b"%d" % number, over=who == "over")
                elif f"runs/run/{place}" in theirs:
                    continue  # a name of ours that somebody else has taken
                elif who == "ours":
                    write_bytes(path, b"ours")
                else:
                    with RowFile(path.with_suffix(".npy"), (2,), np.uint8) as file:
                        file.append(np.zeros((1, 2), np.uint8))  # and never finished
        raise why
    assert contents(home) == theirs
    assert root.exists() == any(place.startswith("runs/run/") for place in theirs)


def stopped_at(stage: str, events: Any, meanwhile: Callable[[], None]) -> list[Event]:
    """A job's events; when it begins a stage, something happens."""
    told = []
    for event in events:
        told.append(event)
        if isinstance(event, Stage) and event.name == stage:
            meanwhile()
    return told


@pytest.mark.parametrize(
    "changes",
    [{"max_kb": 0.01}, {"protect": ("conv9",)}, {"max_macs": 1}],
    ids=["no student is that small", "no such layer", "no student does with so little"],
)
def test_a_job_that_is_refused_while_a_user_puts_something_there(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    out = tmp_path / "run"

    def put() -> None:
        assert out.is_dir()  # it is ours before anything is prepared
        (out / "keep.txt").write_text("three weeks of work")

    with pytest.raises(BadInput):
        stopped_at("prepare", run(jobs.small_job(out, **changes)), put)
    assert contents(tmp_path) == {"run/keep.txt": b"three weeks of work"}


def test_a_second_job_is_refused_and_the_first_one_does_not_notice(tmp_path: Path) -> None:
    spec = jobs.small_job(tmp_path / "run")
    first = run(spec)
    next(first)
    before = contents(tmp_path)
    assert "run/job.yaml" in before
    for again in (run(spec), run(spec, resume=True), run_demo(spec.out)):
        with pytest.raises(BadInput, match="a job is at work in it|the run is in use"):
            next(again)
    assert contents(tmp_path) == before
    first.close()  # type: ignore[attr-defined]
    assert contents(tmp_path) == {}  # nothing had been done yet


def test_a_demo_that_is_stopped_at_once_leaves_what_is_not_its_own(tmp_path: Path) -> None:
    out = tmp_path / "runs" / "demo"
    demo = run_demo(out)
    next(demo)
    (out / "note.txt").write_text("mine")
    demo.close()  # type: ignore[attr-defined]
    assert contents(tmp_path) == {"runs/demo/note.txt": b"mine"}
