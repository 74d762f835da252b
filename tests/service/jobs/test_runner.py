"""The contract of runners, and what a supervised process leaves behind: nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from service.jobs import processes, supervise
from service.jobs.local import LocalRunner
from service.jobs.runner import Exit, Handle, Immediate, Order, Runner

#: leaves a child in its own session, as Ray's processes are, and one that has lost its parent
FAMILY = "sleep 1001 & setsid sleep 1002 & (setsid sleep 1003 &) ; echo ready; wait"
DEAF = "import signal, time\nsignal.signal(2, lambda *_: None)\nprint('ready', flush=True)\n" + (
    "while True: time.sleep(1)"
)


def until(true: Callable[[], object], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


def ended(runner: Runner, handle: Handle, seconds: float = 15.0) -> Exit:
    until(lambda: runner.poll(handle), seconds)
    found = runner.poll(handle)
    assert found is not None
    return found


def order(folder: Path, *argv: str, attempt: int = 1, grace: float = 3.0) -> Order:
    folder.mkdir(exist_ok=True)
    return Order("job_1", attempt, folder, argv, grace=grace)


def log(folder: Path) -> str:
    path = folder / "log.txt"
    return path.read_text() if path.exists() else ""


@pytest.fixture(params=["local", "immediate"])
def runner(request: pytest.FixtureRequest) -> Iterator[Runner]:
    found: Runner = LocalRunner() if request.param == "local" else Immediate()
    yield found
    found.close()


class TestContract:
    def test_an_attempt_that_ends_well(self, runner: Runner, tmp_path: Path) -> None:
        assert ended(runner, runner.start(order(tmp_path / "j", "true"))).code == 0

    def test_the_handle_is_json_and_found_by_another_runner(
        self, runner: Runner, tmp_path: Path
    ) -> None:
        import json

        handle = json.loads(json.dumps(runner.start(order(tmp_path / "j", "true"))))
        another = type(runner)()
        assert ended(another, handle).code == 0
        another.close()

    def test_whoever_waits_is_woken(self, runner: Runner, tmp_path: Path) -> None:
        woken: list[float] = []
        runner.on_exit(lambda: woken.append(time.monotonic()))
        runner.start(order(tmp_path / "j", "true"))
        until(lambda: woken)

    def test_stopping_what_has_ended_does_nothing(self, runner: Runner, tmp_path: Path) -> None:
        handle = runner.start(order(tmp_path / "j", "true"))
        ended(runner, handle)
        for grace in (1.0, 0.0):
            runner.stop(handle, grace)
        assert ended(runner, handle).code == 0


class TestEngines:
    def test_what_it_says_is_kept_and_its_last_line_is_read(
        self, local_runner: LocalRunner, tmp_path: Path
    ) -> None:
        script = """echo working; echo aside >&2; echo '{"error": {"message": "no"}}'; exit 2"""
        handle = local_runner.start(order(tmp_path / "j", "sh", "-c", script))
        found = ended(local_runner, handle)
        assert (found.code, found.said) == (2, {"error": {"message": "no"}})
        assert "working\n" in log(tmp_path / "j")
        assert "aside\n" in log(tmp_path / "j")

    def test_one_that_cannot_be_started(self, local_runner: LocalRunner, tmp_path: Path) -> None:
        found = ended(local_runner, local_runner.start(order(tmp_path / "j", "no-such-engine")))
        assert found == Exit(127, "the engine cannot be started: No such file or directory")

    def test_one_that_a_signal_ends(self, local_runner: LocalRunner, tmp_path: Path) -> None:
        handle = local_runner.start(order(tmp_path / "j", "sh", "-c", "kill -9 $$"))
        assert ended(local_runner, handle) == Exit(-9, "killed by SIGKILL")

    def test_an_attempt_runs_once_however_often_it_is_started(self, tmp_path: Path) -> None:
        """The service dies between starting an engine and writing down that it has."""
        folder = tmp_path / "j"
        script = "echo ran >> ran; sleep .3"
        runners = [LocalRunner() for _ in range(3)]
        handles = [one.start(order(folder, "sh", "-c", script)) for one in runners]
        assert [ended(one, handle).code for one, handle in zip(runners, handles, strict=True)] == [
            0, 0, 0,
        ]  # fmt: skip
        late = runners[0].start(order(folder, "sh", "-c", script))
        assert ended(runners[0], late).code == 0
        assert (folder / "ran").read_text() == "ran\n"
        again = runners[0].start(order(folder, "sh", "-c", script, attempt=2))
        assert ended(runners[0], again).code == 0
        assert (folder / "ran").read_text() == "ran\nran\n"
        for one in runners:
            one.close()

    def test_a_log_that_grows_gives_up_what_is_old(self, tmp_path: Path) -> None:
        kept = supervise._Log(tmp_path / "log.txt")
        for number in range(12):
            kept.write(f"{number} ".encode() * (supervise.LOG_BYTES // 8))
        kept.close()
        sizes = [path.stat().st_size for path in tmp_path.iterdir()]
        assert sum(sizes) < 3 * supervise.LOG_BYTES
        assert (tmp_path / "log.txt").read_bytes().endswith(b"11 ")

    def test_the_end_is_noted_on_a_full_disk_too(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What was put aside at the start is written over: no new block is asked for."""
        supervise.reserve(tmp_path / ".exit.json.part")
        before = (tmp_path / ".exit.json.part").stat()
        supervise.note_exit(tmp_path, 1, 1, "no space left", {"error": "x" * 9000})
        after = (tmp_path / "exit.json").stat()
        assert (after.st_ino, after.st_size) == (before.st_ino, before.st_size)
        found = supervise.read_json(tmp_path / "exit.json")
        assert (found["code"], found["said"]) == (1, None)


class TestStopping:
    def test_a_polite_engine_ends_by_itself(
        self, local_runner: LocalRunner, tmp_path: Path
    ) -> None:
        program = (
            "import time\ntry:\n    print('ready', flush=True); time.sleep(60)\n"
            "except KeyboardInterrupt:\n    print('saved'); raise SystemExit(130)"
        )
        handle = local_runner.start(order(tmp_path / "j", sys.executable, "-c", program))
        until(lambda: "ready" in log(tmp_path / "j"))
        local_runner.stop(handle, 3.0)
        assert ended(local_runner, handle) == Exit(130, "stopped")
        assert "saved" in log(tmp_path / "j")

    def test_a_deaf_one_is_killed_when_its_grace_is_over(
        self, local_runner: LocalRunner, tmp_path: Path
    ) -> None:
        argv = (sys.executable, "-c", DEAF)
        handle = local_runner.start(order(tmp_path / "j", *argv, grace=0.2))
        until(lambda: "ready" in log(tmp_path / "j"))
        local_runner.stop(handle, 0.2)
        assert ended(local_runner, handle, 3.0).code == -signal.SIGKILL

    @pytest.mark.parametrize("victim", ["stop", "outer", "inner", "both", "engine"])
    def test_whoever_is_killed_nothing_of_it_runs_on(
        self, local_runner: LocalRunner, tmp_path: Path, victim: str
    ) -> None:
        handle = local_runner.start(order(tmp_path / "j", "sh", "-c", FAMILY))
        until(lambda: "ready" in log(tmp_path / "j"))
        outer = handle["pid"]
        inner = processes.below(outer)[0]
        engine = next(pid for pid in processes.below(inner) if children(inner, pid))
        family = [outer, *processes.below(outer)]
        until(lambda: len(processes.below(outer)) == 5)
        family = [outer, *processes.below(outer)]
        assert len(family) == 6  # outer, inner, sh and three sleeps
        if victim == "stop":
            local_runner.stop(handle, 0)
        victims = {"outer": [outer], "inner": [inner], "both": [inner, outer], "engine": [engine]}
        for pid in victims.get(victim, []):
            os.kill(pid, signal.SIGKILL)
        found = ended(local_runner, handle, 5.0)
        assert found.code in (None, -signal.SIGKILL)
        # a process gives back its lock an instant before it is gone
        until(lambda: not any(map(processes.began, family)), 1.0)


def children(inner: int, pid: int) -> bool:
    """Whether a process is a child of the inner supervisor."""
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(stat[1]) == inner


class TestNumbers:
    def test_a_number_that_was_given_again_is_neither_mistaken_nor_killed(self) -> None:
        stranger = subprocess.Popen(["sleep", "60"])
        try:
            who = processes.identity(stranger.pid)
            assert processes.lives(who)
            before = who | {"began": "1"}  # another process that had this number
            assert not processes.lives(before)
            processes.send(before, signal.SIGKILL)
            time.sleep(0.05)
            assert stranger.poll() is None
            assert not processes.lives(who | {"boot": "another"})
        finally:
            stranger.kill()
            stranger.wait()

    def test_the_service_may_die_and_finds_its_job_again(self, tmp_path: Path) -> None:
        folder = tmp_path / "j"
        folder.mkdir()
        program = (
            "import json, os, sys, signal\nfrom pathlib import Path\n"
            "from service.jobs.local import LocalRunner\nfrom service.jobs.runner import Order\n"
            "argv = ('sh', '-c', 'sleep .5; echo done; exit 3')\n"
            "handle = LocalRunner().start(Order('job_1', 1, Path(sys.argv[1]), argv))\n"
            "print(json.dumps(handle), flush=True)\nos.kill(os.getpid(), signal.SIGKILL)\n"
        )
        from service.jobs.local import surroundings

        service = subprocess.run(
            [sys.executable, "-c", program, str(folder)],
            capture_output=True,
            env=os.environ | surroundings(),
            check=False,
        )
        assert service.returncode == -signal.SIGKILL
        import json

        handle = json.loads(service.stdout)
        after = LocalRunner()
        assert after.poll(handle) is None
        assert ended(after, handle).code == 3
        after.close()
