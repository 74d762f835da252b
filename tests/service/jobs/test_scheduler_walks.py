"""Whatever users ask and machines do, in whatever order: no job is lost, none runs twice."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from service.jobs.model import ENDED, LEGAL, RUNNING, Conflict, State, Wanted
from service.jobs.runner import Exit
from service.jobs.scheduler import LEASE
from service.jobs.store import Store
from tests.service.jobs.test_scheduler import Bench

CODES = st.sampled_from([0, 1, 2, 3, 130, -9, None])


class Walk(RuleBasedStateMachine):
    """A store, a scheduler and engines, and all that can happen to them."""

    jobs = Bundle("jobs")

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        root = Path(self.folder.name)
        self.store = Store.open(f"sqlite:///{root}/understudy.db")
        self.bench = Bench(self.store, root)
        self.ids: set[str] = set()
        self.deleted: set[str] = set()

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()

    @rule(target=jobs, priority=st.integers(-1, 1))
    def submit(self, priority: int) -> str:
        job = self.store.create_job(
            tenant="t", name="n", kind="null", spec={"budget": 1}, created_by="local",
            priority=priority, max_attempts=3, now=self.bench.clock.now,
        )  # fmt: skip
        self.ids.add(job.id)
        return job.id

    @rule(seconds=st.sampled_from([0.0, 0.5, 3.0, 30.0]))
    def turn(self, seconds: float) -> None:
        self.bench.turn(seconds)

    @rule(code=CODES, place=st.integers(0, 5))
    def an_engine_ends(self, code: int | None, place: int) -> None:
        running = self.bench.runner.running
        if running:
            own, attempt = running[place % len(running)].split("#")
            self.bench.runner.end(own, int(attempt), Exit(code, "ended"))

    @rule(job=jobs)
    def cancel(self, job: str) -> None:
        self.store.want("t", job, "cancel", "me", now=self.bench.clock.now)

    @rule(job=jobs, budget=st.integers(1, 3))
    def resume(self, job: str, budget: int) -> None:
        try:
            self.store.resume_job("t", job, "me", changes={"budget": budget})
        except Conflict:
            found = self.store.get_job("t", job)
            assert found is not None
            assert found.state not in ENDED or found.spec == {"budget": budget}

    @rule(job=consumes(jobs))
    def delete(self, job: str) -> None:
        self.store.want("t", job, "delete", "me", now=self.bench.clock.now)
        self.deleted.add(job)

    @rule()
    def the_service_is_killed_and_started_again(self) -> None:
        self.bench.clock.now += LEASE + 1
        self.bench.scheduler = self.bench.another()

    @invariant()
    def nothing_is_lost_and_nothing_runs_twice(self) -> None:
        running = [key.split("#")[0] for key in self.bench.runner.running]
        assert len(running) == len(set(running)) <= 2
        for own in self.ids:
            job = self.store.any_job(own)
            if job is None:
                assert own in self.deleted
                assert own not in running
                continue
            history = self.store.transitions_of(own)
            assert history[-1].after is job.state
            for one in history[1:]:
                assert one.before is not None
                asked = one.before is one.after and one.reason.endswith("asked")
                assert asked or one.after in LEGAL[one.before]
            if own in running:
                assert job.state in RUNNING
            assert job.wanted is not Wanted.DELETE or own in self.deleted

    @invariant()
    def whoever_waits_comes_to_an_end(self) -> None:
        """Checked from time to time: with engines that end well every queue runs empty."""
        if len(self.ids) < 6 or self.store.count_jobs()[State.QUEUED] == 0:
            return
        for _ in range(20):
            for key in self.bench.runner.running:
                own, attempt = key.split("#")
                self.bench.runner.end(own, int(attempt), Exit(0))
            self.bench.turn(60)
        counted = self.store.count_jobs()
        assert sum(counted[state] for state in (State.QUEUED, *RUNNING)) == 0


TestWalk = Walk.TestCase
TestWalk.settings = settings(
    max_examples=8,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


class LongWalk(Walk):
    """Many more of them."""


TestLongWalk = pytest.mark.long(LongWalk.TestCase)
TestLongWalk.settings = settings(
    max_examples=80,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
