"""The scheduler: takes jobs from the queue, starts them, looks after them, and says what came of
it. One works on a store at a time; it may be killed at any moment, and another goes on."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from edge.errors import BadInput, MissingExtra
from service.jobs import content, processes
from service.jobs.content import Content
from service.jobs.engines import ENGINES, Outcome, outcome
from service.jobs.model import ENDED, RUNNING, Job, Json, State, StoreUnavailable, Wanted
from service.jobs.places import parts_of, work_of
from service.jobs.reconcile import RunView
from service.jobs.runner import GRACE, Exit, Immediate, Order, Runner
from service.jobs.store import Store

log = logging.getLogger("understudy.jobs")
#: seconds that the right to schedule lasts when it is not renewed, and after which it is
LEASE, RENEW = 8.0, 2.5
#: seconds between two looks at what other processes have written to the store
LOOK = 1.0
#: seconds between two looks at the files of runs
READ = 0.4
#: seconds between two notes of a job's figures
NOTE = 1.0
#: seconds between two rounds of cleaning up
CLEAN = 3600.0
#: seconds that a job waits for room on a full disk
FULL = 15.0
#: seconds beyond its grace after which an engine that was stopped is killed
OVERDUE = 0.5
#: who moves jobs, in their histories
BY = "service"


@dataclass
class _Active:
    """A job whose engine is ours to look after."""

    job: Job
    view: RunView
    runner: Runner
    read_at: float = 0.0
    noted_at: float = 0.0
    noted: Json = field(default_factory=dict)
    fresh: bool = True
    stopped_at: float | None = None
    killed_at: float = 0.0


class Scheduler:
    """The loop.

    Args:
        store: of the jobs.
        folder: of the service.
        runner: that new jobs are started by.
        others: runners of jobs that were started before under another setting.
        jobs: how many run at a time.
        grace: seconds that an engine has to end by itself when its job is cancelled.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        store: Store,
        folder: Path,
        runner: Runner,
        *,
        others: tuple[Runner, ...] = (),
        jobs: int = 1,
        grace: float = GRACE,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.store, self.folder, self.jobs, self.grace = store, folder, jobs, grace
        self.clock = clock
        self.content = Content(folder)
        self.runner = runner
        self.runners: dict[str, Runner] = {one.name: one for one in (Immediate(), *others, runner)}
        self.holder = holder_name()
        self._active: dict[str, _Active] = {}
        self._holds = False
        self._renew_at = self._look_at = self._clean_at = 0.0
        self._dirty = True
        self._wake = threading.Event()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        for one in self.runners.values():
            one.on_exit(self._wake.set)
        store.subscribe(self._changed)

    # --- the thread -------------------------------------------------------------------------

    def start(self) -> None:
        """Work in a thread of its own."""
        self._thread = threading.Thread(target=self.run, name="scheduler", daemon=True)
        self._thread.start()

    def stop(self, seconds: float = 10.0) -> None:
        """End the thread; jobs go on, and another scheduler may take them over at once."""
        self._over.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(seconds)
        self.store.unsubscribe(self._changed)

    def run(self) -> None:
        """Work until :meth:`stop`."""
        self._thread = threading.current_thread()
        away = 0.0
        while not self._over.is_set():
            self._wake.clear()
            try:
                pause, away = self.step(), 0.0
            except StoreUnavailable as error:
                away = min(5.0, away * 2 or 0.2)
                pause = away
                log.warning("the store is away, again in %.1f s: %s", away, error)
                self._forget()
            except Exception:  # one job's trouble must not stop the others' work
                log.exception("a round of the scheduler failed")
                pause = 1.0
                self._forget()
            self._wake.wait(pause)
        if self._holds:
            try:
                self.store.release_lease("scheduler", self.holder)
            except StoreUnavailable:
                log.warning("the store is away; its lease runs out by itself")

    def wake(self) -> None:
        """Look again at once."""
        self._dirty = True
        self._wake.set()

    def _changed(self) -> None:
        if threading.current_thread() is not self._thread:
            self.wake()

    def _forget(self) -> None:
        """Believe nothing that was remembered: it is read from the store again."""
        self._active.clear()
        self._holds, self._renew_at, self._dirty = False, 0.0, True

    @property
    def active(self) -> int:
        """Jobs that are looked after now."""
        return len(self._active)

    # --- one round --------------------------------------------------------------------------

    def step(self) -> float:
        """One round; seconds until the next one is due.

        Raises:
            StoreUnavailable: the store is away; nothing is lost.
        """
        now = self.clock()
        if not self._hold(now):
            return LOOK
        for _ in range(200):  # jobs that end at once make room for the next ones
            if self._dirty or now >= self._look_at:
                self._look(now)
            ended = [one for one in list(self._active.values()) if self._tend(one, self.clock())]
            if not self._claim(self.clock()) and not ended:
                break
        else:
            return 0.0
        if now >= self._clean_at:
            self._clean(now)
        return READ if self._active else LOOK

    def _hold(self, now: float) -> bool:
        if now < self._renew_at and self._holds:
            return True
        had = self._holds
        self._holds = self.store.acquire_lease("scheduler", self.holder, now, LEASE, is_gone)
        self._renew_at = now + RENEW
        if self._holds and not had:
            content.clear_removed(self.folder)
            self._active.clear()
            self._dirty = True
        if had and not self._holds:
            log.warning("another scheduler has taken over")
            self._forget()
        return self._holds

    def _look(self, now: float) -> None:
        """What the store says by now: whom users want cancelled or deleted, who is to be taken
        over from a scheduler that is no more."""
        self._dirty, self._look_at = False, now + LOOK
        there = {job.id: job for job in self.store.jobs_in(RUNNING)}
        self._active = {own: one for own, one in self._active.items() if own in there}
        for own, job in there.items():
            if own in self._active:
                self._active[own].job = job
            else:
                self._take_over(job)
        for job in self.store.jobs_in(ENDED, [Wanted.DELETE]):
            self._delete(job)

    def _take_over(self, job: Job) -> None:
        if job.handle is None:  # its scheduler died before it could say that it had started it
            self._begin(job)
            return
        runner = self.runners.get(job.runner)
        if runner is None:
            log.error(
                "job %s runs by %r, which is not set up; it is left alone", job.id, job.runner
            )
            return
        view = RunView(content.job_folder(self.folder, job) / "run")
        self._active[job.id] = _Active(job, view, runner)

    def _claim(self, now: float) -> int:
        """Start queued jobs as far as there is room; how many."""
        started = 0
        while len(self._active) < self.jobs:
            if not self.store.has_queued(now):
                break
            job = self.store.claim_next(now, self.holder[:64], self.jobs - len(self._active))
            if job is None:
                break
            self._begin(job)
            started += 1
        return started

    # --- one job ----------------------------------------------------------------------------

    def _begin(self, job: Job) -> None:
        """Start the engine of a job that is claimed."""
        at_once = job.kind == "null" and job.spec.get("process") is False
        runner = self.runners["immediate"] if at_once else self.runner
        view = RunView(content.job_folder(self.folder, job) / "run")
        try:
            handle: Json = {}
            if at_once:
                handle = runner.start(Order(job.id, job.attempt, self.folder, ()))
            else:
                work = work_of(job, self.store, self.folder)
                argv = ENGINES[job.kind](work)
                view.begin()
                handle = runner.start(
                    Order(job.id, job.attempt, work.folder, tuple(argv), grace=self.grace)
                )
        except (BadInput, MissingExtra) as error:
            self._close(job, Outcome(State.FAILED, str(error), parts_of(error), job.losses))
        except OSError as error:
            log.error("job %s cannot be started now: %s", job.id, error)
            reason = _not_now(error.strerror or error)
            self._close(job, Outcome(State.QUEUED, reason, None, job.losses), FULL)
        else:
            self.store.update_job(job.id, handle=handle, runner=runner.name)
            job = replace(job, handle=handle, runner=runner.name)
            self._active[job.id] = _Active(job, view, runner)

    def _tend(self, one: _Active, now: float) -> bool:
        """Look after a job whose engine was started; whether it has ended."""
        assert one.job.handle is not None
        found = one.runner.poll(one.job.handle)
        if found is not None:
            one.view.read()
            self._finish(one, found)
            return True
        if one.job.wanted is not Wanted.RUN:
            self._stop(one, now)
        if now - one.read_at >= READ:
            one.read_at = now
            self._note(one, now)
        return False

    def _stop(self, one: _Active, now: float) -> None:
        """Ask the engine to end, and kill it when it does not."""
        assert one.job.handle is not None
        if one.stopped_at is None:
            one.stopped_at = one.killed_at = now
            one.runner.stop(one.job.handle, self.grace)
        elif now - one.stopped_at > self.grace + OVERDUE and now - one.killed_at >= OVERDUE:
            one.killed_at = now
            one.runner.stop(one.job.handle, 0)

    def _note(self, one: _Active, now: float) -> None:
        """Write down how far the run is, where that is news."""
        job, view = one.job, one.view
        one.fresh |= view.read() or now - one.noted_at > 10 * NOTE  # the time left runs down
        further = RUNNING.index(view.state) > RUNNING.index(job.state)
        if not further and not (one.fresh and now - one.noted_at >= NOTE):
            return
        summary = job.summary | view.summary(now, job.spec.get("max_kb"))
        news = {"summary": summary, "stage": view.stage}
        if further:
            moved = self.store.transition(
                job.id, job.state, view.state, view.stage, BY, now=now, **news
            )
            if moved is None:  # somebody else has moved it: the next look tells
                self._dirty = True
                return
            one.job = moved
        elif news != one.noted:
            self.store.update_job(job.id, now=now, **news)
            one.job = replace(job, summary=summary, stage=view.stage)
        one.noted, one.noted_at, one.fresh = news, now, False

    def _finish(self, one: _Active, found: Exit) -> None:
        job = self.store.any_job(one.job.id)
        self._active.pop(one.job.id, None)
        if job is None or job.state not in RUNNING:
            return
        if not found.begun:
            self._close(job, Outcome(State.QUEUED, _not_now(found.reason), None, job.losses), FULL)
            return
        what = outcome(job, found, one.view.finished, one.view.progressed)
        summary = job.summary | one.view.summary(self.clock(), job.spec.get("max_kb"))
        if job.kind == "null":
            summary = job.summary
        self._close(job, what, summary=summary)

    def _close(
        self, job: Job, what: Outcome, wait: float | None = None, summary: Json | None = None
    ) -> None:
        """Write down what became of a job whose engine is no more."""
        now = self.clock()
        columns: Json = {"problem": what.problem, "losses": what.losses, "stage": ""}
        if summary is not None:
            columns["summary"] = summary | {"eta_seconds": None}
        if what.state is State.QUEUED:
            if wait is None:
                wait = 0.0 if not what.losses else min(60.0, 0.5 * 2**what.losses)
            columns["not_before"] = now + wait
            if job.wanted is not Wanted.RUN:
                what = replace(what, state=State.CANCELLED, reason=f"{job.wanted} asked")
        self.store.transition(job.id, job.state, what.state, what.reason, BY, now=now, **columns)
        log.info("job %s: %s %s", job.id, what.state, what.reason)
        if job.wanted is Wanted.DELETE:
            self._dirty = True

    def _delete(self, job: Job) -> None:
        """Remove the files of a job that nothing works for any more, and then its row."""
        try:
            gone = content.remove_job_folder(self.folder, job)
        except (OSError, BadInput) as error:
            log.error("files of job %s cannot be removed: %s", job.id, error)
            gone = False
        if not gone:
            log.warning("job %s is forgotten; its folder is not the service's, and stays", job.id)
        self.store.forget_job(job.id)

    def _clean(self, now: float) -> None:
        self._clean_at = now + CLEAN
        self.store.forget_answers(now)
        self.content.remove_unused(self.store.digests, now)
        self.content.clear_drafts(now)


def _not_now(why: object) -> str:
    return f"it cannot be started now: {why}"


def holder_name() -> str:
    """Who this scheduler is: machine, process, its start, and a word of its own."""
    host = socket.gethostname().replace(" ", "-")[:60] or "here"
    return f"{host} {os.getpid()} {processes.began(os.getpid())} {secrets.token_hex(4)}"


def is_gone(holder: str) -> bool:
    """Whether a scheduler of this machine is dead, so that nobody has to wait for its lease."""
    words = holder.split()
    if len(words) != 4 or words[0] != holder_name().split()[0]:
        return False
    return processes.began(int(words[1])) != words[2]


__all__ = ["Scheduler", "holder_name", "is_gone"]
