"""The runner on a cluster: by our own files, whatever Ray says."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge.errors import BadInput
from service.jobs import processes, ray_jobs
from service.jobs.model import State
from service.jobs.ray_jobs import RayRunner
from service.jobs.runner import Exit, Handle, Order
from service.jobs.scheduler import Scheduler
from service.jobs.store import Store
from tests.service.jobs import heads


@pytest.fixture
def head() -> Iterator[heads.StandIn]:
    with heads.stand_in() as found:
        yield found


@pytest.fixture
def runner(head: heads.StandIn, monkeypatch: pytest.MonkeyPatch) -> Iterator[RayRunner]:
    monkeypatch.setattr(ray_jobs, "BEATS", 0.1)
    monkeypatch.setattr(ray_jobs, "STALE", 0.6)
    monkeypatch.setattr(ray_jobs, "ASK", 0.2)
    found = RayRunner(head.address)
    yield found
    found.close()


def order(folder: Path, script: str, attempt: int = 1, grace: float = 1.0) -> Order:
    folder.mkdir(exist_ok=True)
    return Order("job_1", attempt, folder, ("sh", "-c", script), grace=grace)


def until(true: Callable[[], object], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def ended(runner: RayRunner, handle: Handle, seconds: float = 10.0) -> Exit:
    end = time.monotonic() + seconds
    while (found := runner.poll(handle)) is None:
        assert time.monotonic() < end, "it did not end in time"
        time.sleep(0.02)
    return found


def begun(folder: Path) -> Callable[[], bool]:
    return lambda: (folder / "log.txt").exists()


def test_an_attempt_is_submitted_once_and_its_end_is_read_from_its_folder(
    runner: RayRunner, head: heads.StandIn, tmp_path: Path
) -> None:
    script = """echo ran >> ran; echo '{"error": {"message": "no"}}'; exit 2"""
    first, again = (runner.start(order(tmp_path / "j", script)) for _ in range(2))
    assert first == again == json.loads(json.dumps(first))
    assert ended(runner, first) == Exit(2, "exit code 2", {"error": {"message": "no"}})
    assert list(head.jobs) == ["job_1-1"]
    assert (tmp_path / "j" / "ran").read_text() == "ran\n"


def test_a_status_that_lies_is_not_believed(
    runner: RayRunner, head: heads.StandIn, tmp_path: Path
) -> None:
    folder = tmp_path / "j"
    handle = runner.start(order(folder, "echo; sleep 2"))
    until(begun(folder))
    head.lie = "FAILED"
    end = time.monotonic() + 1.0
    while time.monotonic() < end:
        assert runner.poll(handle) is None  # it beats
        time.sleep(0.05)
    head.lie = "RUNNING"  # for ever, as after a head's death
    assert ended(runner, handle).code == 0


def test_an_engine_is_stopped_by_a_file_and_has_time_to_end(
    runner: RayRunner, head: heads.StandIn, tmp_path: Path
) -> None:
    folder = tmp_path / "j"
    program = (
        "import time\ntry:\n    print('ready', flush=True); time.sleep(60)\n"
        "except KeyboardInterrupt:\n    raise SystemExit(130)"
    )
    script = f'exec {sys.executable} -c "{program}"'
    handle = runner.start(order(folder, script))
    until(begun(folder))
    runner.stop(handle, 1.0)
    assert ended(runner, handle, 4.0) == Exit(130, "stopped")
    assert head.stopped == []


def test_a_deaf_engine_is_killed(runner: RayRunner, tmp_path: Path) -> None:
    folder = tmp_path / "j"
    handle = runner.start(order(folder, "trap '' INT; echo; sleep 60; sleep 60", grace=30))
    until(begun(folder))
    runner.stop(handle, 30)
    time.sleep(0.3)
    assert runner.poll(handle) is None
    runner.stop(handle, 0)
    assert ended(runner, handle, 4.0).code == -signal.SIGKILL
    until(lambda: processes.marked(str(folder)) == [], 1.0)


def test_a_head_that_dies_takes_its_jobs_and_that_is_seen(
    runner: RayRunner, head: heads.StandIn, tmp_path: Path
) -> None:
    folder = tmp_path / "j"
    handle = runner.start(order(folder, "echo; sleep 60"))
    until(begun(folder))
    head.die()
    found = ended(runner, handle, 10.0)
    assert found.code in (None, -signal.SIGKILL)
    until(lambda: processes.marked(str(folder)) == [])
    # and no attempt is counted while there is no head
    again = ended(runner, runner.start(order(folder, "true", attempt=2)))
    assert not again.begun
    assert again.reason.startswith("the cluster does not answer")


def test_no_cluster_is_told_before_any_job(tmp_path: Path) -> None:
    runner = RayRunner("http://127.0.0.1:9")
    with pytest.raises(BadInput, match="no Ray cluster takes jobs there"):
        runner.check()
    runner.close()


@pytest.mark.long
@pytest.mark.skipif(
    importlib.util.find_spec("aiohttp_cors") is None, reason="ray[default] is not installed"
)
def test_a_real_head_that_dies_costs_no_job(
    sqlite_store: Store, tmp_path: Path, submit: Callable[..., str]
) -> None:
    token, root = "a-token-of-this-test-0123456789", Path(f"/tmp/ray-{os.getpid()}")
    port = 20_000 + os.getpid() % 20_000
    runner = RayRunner(f"http://127.0.0.1:{port + 1}", token=token)
    scheduler = Scheduler(sqlite_store, tmp_path, runner, jobs=2)
    jobs = [submit(sqlite_store, spec={"seconds": 8}) for _ in range(2)]
    try:
        with heads.real(root, port, token) as address:
            assert address == runner.address
            assert runner.check()
            scheduler.start()
            until(lambda: len(processes.marked(str(tmp_path))) >= 6, 90)
        # the head is gone; supervisors that live on are seen to, those that do not are lost
        time.sleep(3)
        with heads.real(root, port, token):
            until(lambda: sqlite_store.count_jobs()[State.DONE] == 2, 150)
        assert processes.marked(str(tmp_path)) == []
        assert all(sqlite_store.any_job(own) for own in jobs)
    finally:
        scheduler.stop()
        runner.close()
