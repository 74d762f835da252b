"""The scheduler, with a clock that is turned by hand and engines that do as they are told."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from search.job.events import CandidateDone, Logged, Stage, Started, to_dict
from service.jobs import content
from service.jobs.model import Job, State, StoreUnavailable
from service.jobs.runner import Exit
from service.jobs.scheduler import LEASE, Scheduler, holder_name, is_gone
from service.jobs.store import Store
from tests.service.jobs.puppets import Clock, Puppets

Submit = Callable[..., str]


class Bench:
    """A service without its HTTP."""

    def __init__(self, store: Store, folder: Path, jobs: int = 2) -> None:
        self.store, self.folder, self.jobs = store, folder, jobs
        self.clock, self.runner = Clock(), Puppets()
        self.scheduler = self.another()

    def another(self) -> Scheduler:
        """A scheduler of the same store, as after a restart."""
        return Scheduler(
            self.store, self.folder, self.runner, jobs=self.jobs, grace=3.0, clock=self.clock
        )

    def turn(self, seconds: float = 0.0) -> None:
        """Time passes, and then the scheduler has a round."""
        self.clock.now += seconds
        self.scheduler.wake()
        self.scheduler.step()

    def job(self, own: str) -> Job:
        found = self.store.any_job(own)
        assert found is not None
        return found


@pytest.fixture
def bench(sqlite_store: Store, tmp_path: Path) -> Bench:
    return Bench(sqlite_store, tmp_path)


class TestQueue:
    def test_so_many_run_at_a_time_and_the_next_follow(self, bench: Bench, submit: Submit) -> None:
        jobs = [submit(bench.store, now=float(number)) for number in range(4)]
        bench.turn()
        assert [bench.job(own).state for own in jobs] == [
            State.CHECKING, State.CHECKING, State.QUEUED, State.QUEUED,
        ]  # fmt: skip
        bench.runner.end(jobs[1], 1, Exit(0))
        bench.turn()
        assert bench.job(jobs[1]).state is State.DONE
        assert bench.job(jobs[2]).state is State.CHECKING
        assert len(bench.runner.running) == 2

    def test_jobs_of_a_null_engine_go_through_in_one_round(
        self, bench: Bench, submit: Submit
    ) -> None:
        for _ in range(20):
            submit(bench.store, spec={"process": False})
        bench.turn()
        assert bench.store.count_jobs()[State.DONE] == 20

    def test_a_job_that_cannot_be_done_fails_and_is_not_tried_again(
        self, bench: Bench, submit: Submit
    ) -> None:
        own = submit(bench.store, kind="search", spec={"budget": 4})
        bench.turn()
        job = bench.job(own)
        assert job.state is State.FAILED
        assert job.reason.startswith("the job's teacher cannot be found")
        assert job.problem is not None
        assert job.problem["remedy"] == "Submit the job again with another one."
        bench.turn(100)
        assert bench.job(own).attempt == 1


class TestLosses:
    def test_a_lost_engine_is_gone_on_with_after_a_while(
        self, bench: Bench, submit: Submit
    ) -> None:
        own = submit(bench.store)
        bench.turn()
        bench.runner.end(own, 1, Exit(None, "its process was killed"))
        bench.turn()
        job = bench.job(own)
        assert (job.state, job.reason) == (
            State.QUEUED, "its engine was lost: its process was killed",
        )  # fmt: skip
        bench.turn(1.1)
        assert (bench.job(own).state, bench.job(own).attempt) == (State.CHECKING, 2)

    def test_one_that_never_gets_on_is_given_up(self, bench: Bench, submit: Submit) -> None:
        own = submit(bench.store, max_attempts=3)
        for attempt in (1, 2, 3):
            bench.turn(60)
            bench.runner.end(own, attempt, Exit(-9, "killed by SIGKILL"))
            bench.turn()
        job = bench.job(own)
        assert job.state is State.FAILED
        assert "3 times without getting on" in job.reason
        assert bench.store.resume_job("t", own, "me") is not None
        bench.turn()
        assert bench.job(own).attempt == 4

    def test_a_full_disk_costs_time_and_no_attempts(self, bench: Bench, submit: Submit) -> None:
        own = submit(bench.store, max_attempts=1)
        bench.runner.full = True
        for _ in range(3):
            bench.turn(20)
            job = bench.job(own)
            assert (job.state, job.losses) == (State.QUEUED, 0)
            assert job.reason == "it cannot be started now: No space left on device"
        bench.runner.full = False
        bench.turn(20)
        assert bench.job(own).attempt == 4


class TestCancelling:
    def test_an_engine_is_asked_and_then_killed(self, bench: Bench, submit: Submit) -> None:
        own = submit(bench.store)
        bench.turn()
        bench.runner.deaf = True
        bench.store.want("t", own, "cancel", "me")
        asked = bench.clock.now

        def graces() -> list[float]:
            return [grace for _, grace in bench.runner.stops]

        bench.turn()
        assert graces() == [3.0]
        bench.turn(3.2)
        assert graces() == [3.0]
        bench.turn(0.4)
        assert graces() == [3.0, 0.0]
        bench.turn(0.4)
        assert bench.job(own).state is State.CANCELLED
        assert bench.clock.now - asked < 5

    def test_a_job_that_waits_to_be_gone_on_with_is_cancelled_too(
        self, bench: Bench, submit: Submit
    ) -> None:
        own = submit(bench.store)
        bench.turn()
        bench.store.want("t", own, "cancel", "me")
        bench.runner.end(own, 1, Exit(None, "the machine went down"))
        bench.turn()
        assert bench.job(own).state is State.CANCELLED

    def test_a_deleted_job_goes_with_its_folder_once_nothing_runs(
        self, bench: Bench, submit: Submit
    ) -> None:
        own = submit(bench.store)
        bench.turn()
        folder = content.job_folder(bench.folder, bench.job(own))
        assert folder.is_dir()
        bench.runner.deaf = True
        bench.store.want("t", own, "delete", "me")
        bench.turn()
        assert folder.is_dir()  # it still runs
        bench.turn(4)
        bench.turn(1)
        bench.turn(1)
        assert not folder.exists()
        assert bench.store.any_job(own) is None


class TestRuns:
    def test_state_stage_and_figures_come_from_the_runs_own_files(
        self, bench: Bench, submit: Submit
    ) -> None:
        import json

        own = submit(bench.store)
        bench.turn()
        run = content.job_folder(bench.folder, bench.job(own)) / "run"
        run.mkdir()
        done = CandidateDone(1, 8, 0.5, 0.9, 20.0, 0.5, 0.9, 20.0, False, "")
        events: list[Logged] = [Started(1), Stage("search", "8 candidates"), done]
        (run / "events.ndjson").write_text(
            "".join(json.dumps({"time": 1.0} | to_dict(event)) + "\n" for event in events)
        )
        bench.turn(1)
        job = bench.job(own)
        assert (job.state, job.stage) == (State.SEARCHING, "search: 8 candidates")
        assert job.summary["best_rewards"] == [0.5]
        # it has got on: what is lost from now on costs no attempt
        bench.runner.end(own, 1, Exit(None, "killed"))
        bench.turn()
        assert (bench.job(own).state, bench.job(own).losses) == (State.CHECKING, 0)


class TestOneAtATime:
    def test_a_second_scheduler_waits_until_the_first_is_gone(
        self, bench: Bench, submit: Submit
    ) -> None:
        bench.turn()
        first, second = bench.scheduler, bench.another()
        own = submit(bench.store)
        second.step()
        assert bench.job(own).state is State.QUEUED
        bench.clock.now += LEASE + 1
        second.step()
        assert bench.job(own).state is State.CHECKING
        first.step()  # it has slept, and sees that another one is at work
        assert first.active == 0
        assert bench.runner.starts == [f"{own}#1"]

    def test_whoever_comes_after_goes_on_with_what_runs(self, bench: Bench, submit: Submit) -> None:
        jobs = [submit(bench.store) for _ in range(2)]
        bench.turn()
        bench.clock.now += LEASE + 1
        bench.scheduler = bench.another()
        bench.turn()
        assert bench.scheduler.active == 2
        for own in jobs:
            bench.runner.end(own, 1, Exit(0))
        bench.turn()
        assert bench.store.count_jobs()[State.DONE] == 2
        assert len(bench.runner.starts) == 2

    @pytest.mark.parametrize("started", [False, True])
    def test_one_that_dies_between_claim_and_note_loses_nothing(
        self, bench: Bench, submit: Submit, monkeypatch: pytest.MonkeyPatch, started: bool
    ) -> None:
        own = submit(bench.store)

        def die(*_: object, **__: object) -> None:
            raise StoreUnavailable("the server is gone")

        with monkeypatch.context() as patch:
            if started:
                patch.setattr(bench.store, "update_job", die)
            else:
                patch.setattr(bench.runner, "start", die)
            with pytest.raises(StoreUnavailable):
                bench.turn()
        assert (bench.job(own).state, bench.job(own).handle) == (State.CHECKING, None)
        bench.clock.now += LEASE + 1
        bench.scheduler = bench.another()
        bench.turn()
        assert bench.job(own).handle == {"key": f"{own}#1"}
        assert bench.runner.starts == [f"{own}#1"]

    def test_the_lease_of_a_dead_process_is_taken_at_once(self) -> None:
        mine = holder_name()
        host, pid, began, _ = mine.split()
        assert not is_gone(mine)
        assert is_gone(f"{host} {pid} 1 ffffffff")  # its number was given again
        assert not is_gone(f"elsewhere {pid} {began} ffffffff")
        assert not is_gone("nonsense")


def test_the_thread_wakes_for_a_new_job_and_survives_a_store_that_is_away(
    sqlite_store: Store, tmp_path: Path, submit: Submit, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = Scheduler(sqlite_store, tmp_path, Puppets())
    claimed, failures = threading.Event(), [2]
    true_claim = sqlite_store.claim_next

    def claim(*arguments: object) -> Job | None:
        if failures[0]:
            failures[0] -= 1
            raise StoreUnavailable("no")
        job = true_claim(*arguments)  # type: ignore[arg-type]
        if job is not None:
            claimed.set()
        return job

    monkeypatch.setattr(sqlite_store, "claim_next", claim)
    scheduler.start()
    try:
        submit(sqlite_store)
        assert claimed.wait(5)
    finally:
        scheduler.stop()
    assert sqlite_store.acquire_lease("scheduler", "another", 0.0, 1.0)  # it was given back
