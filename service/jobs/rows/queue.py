"""Jobs as they are changed: submitted, claimed, moved from state to state, cancelled, resumed."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from service.jobs.model import (
    ENDED,
    LEGAL,
    RUNNING,
    Conflict,
    IllegalTransition,
    Job,
    Json,
    Limits,
    QuotaExceeded,
    State,
    Wanted,
    new_id,
)
from service.jobs.rows.listing import JOB_COLUMNS, JobListing, mine, to_job
from service.jobs.tables import datasets, jobs, keys, teachers, transitions

_RUNNING = [str(state) for state in RUNNING]


class JobQueue(JobListing):
    """Changing jobs."""

    def create_job(
        self,
        *,
        tenant: str,
        name: str,
        spec: Json,
        created_by: str,
        kind: str = "search",
        teacher_id: str | None = None,
        dataset_id: str | None = None,
        parent_id: str | None = None,
        priority: int = 0,
        max_attempts: int = 5,
        limits: Limits | None = None,
        summary: Json | None = None,
        id: str | None = None,
        now: float | None = None,
    ) -> Job:
        """Submit a job: it is queued.

        Raises:
            QuotaExceeded: the key has as many queued jobs as it may have.
            Conflict: its teacher, data set or parent is not there (any more), or was refused.
        """
        at = time.time() if now is None else now
        own = id or new_id("job", at)
        job = Job(
            id=own, tenant=tenant, name=name, kind=kind, state=State.QUEUED, spec=spec,
            created_at=at, created_by=created_by, updated_at=at, parent_id=parent_id,
            teacher_id=teacher_id, dataset_id=dataset_id, priority=priority,
            max_attempts=max_attempts, folder=f"jobs/{own}", summary=summary or {},
        )  # fmt: skip
        with self.write() as connection:
            _check_queue(connection, created_by, limits)
            _check_there(connection, job)
            connection.execute(jobs.insert(), {name: getattr(job, name) for name in _names()})
            _note(connection, own, at, None, State.QUEUED, "submitted", created_by)
        self.changed()
        return job

    def claim_next(self, now: float, lease_by: str, free_slots: int = 1) -> Job | None:
        """The queued job whose turn it is, which is ours from now on; None where there is none.

        The highest priority first, then the oldest. Whoever's key runs as many as it may is passed
        over.
        """
        if free_slots < 1:
            return None
        query = sa.select(*JOB_COLUMNS).where(
            jobs.c.state == State.QUEUED, jobs.c.wanted == Wanted.RUN, jobs.c.not_before <= now
        )
        with self.write() as connection:
            busy = _at_their_limit(connection)
            if busy:
                query = query.where(jobs.c.created_by.not_in(busy))
            row = connection.execute(
                query.order_by(jobs.c.priority.desc(), jobs.c.created_at, jobs.c.id)
                .limit(1)
                .with_for_update(skip_locked=True)
            ).first()
            if row is None:
                return None
            job = to_job(row)
            changed = connection.execute(
                jobs.update()
                .where(jobs.c.id == job.id)
                .values(
                    state=State.CHECKING, attempt=job.attempt + 1, handle=None, reason="",
                    started_at=job.started_at or now, updated_at=now, stage="",
                    lease_by=lease_by, lease_until=None,
                )
                .returning(*JOB_COLUMNS)
            ).one()  # fmt: skip
            _note(connection, job.id, now, State.QUEUED, State.CHECKING, "claimed", "service")
            claimed = to_job(changed)
        self.changed()
        return claimed

    def transition(
        self,
        id: str,
        before: State | Collection[State],
        after: State,
        reason: str = "",
        by: str = "service",
        *,
        now: float | None = None,
        **columns: Any,
    ) -> Job | None:
        """Move a job on if it still is where we think, and set other columns with it.

        Returns:
            The job as it is now; None where it was somewhere else, and nothing has changed.

        Raises:
            IllegalTransition: no rule allows that.
        """
        froms = [before] if isinstance(before, State) else list(before)
        for state in froms:
            if after not in LEGAL[state]:
                raise IllegalTransition(state, after)
        at = time.time() if now is None else now
        with self.write() as connection:
            there = jobs.c.id == id
            found = connection.execute(
                sa.select(jobs.c.state).where(there).with_for_update()
            ).scalar()
            if found is None or State(found) not in froms:
                return None
            job = _move(connection, id, State(found), after, reason, by, at, columns)
        self.changed()
        return job

    def update_job(self, id: str, *, now: float | None = None, **columns: Any) -> None:
        """Set columns that are no state, such as handle, stage or summary."""
        at = time.time() if now is None else now
        with self.write() as connection:
            connection.execute(
                jobs.update().where(jobs.c.id == id).values(updated_at=at, **columns)
            )
        self.changed()

    def set_summary(self, id: str, summary: Json, **columns: Any) -> None:
        """Replace a job's figures for lists and pages."""
        self.update_job(id, summary=summary, **columns)

    def change_job(
        self, tenant: str, id: str, *, name: str | None = None, priority: int | None = None
    ) -> Job | None:
        """Rename a tenant's job, or let it come sooner or later; None where there is none."""
        values: Json = {}
        if name is not None:
            values["name"] = name
        if priority is not None:
            values["priority"] = priority
        with self.write() as connection:
            row = connection.execute(
                jobs.update()
                .where(mine(tenant, id))
                .values(updated_at=time.time(), **values)
                .returning(*JOB_COLUMNS)
            ).first()
        self.changed()
        return None if row is None else to_job(row)

    def want(
        self, tenant: str, id: str, what: Wanted | str, by: str, *, now: float | None = None
    ) -> Job | None:
        """Ask that a job be cancelled or deleted; what has ended already stays as it is.

        A queued one is cancelled at once; one that runs is stopped by the scheduler. Files of a
        deleted one, and then its row, are removed by the scheduler too.

        Returns:
            The job; None where there is none.

        Raises:
            Conflict: other jobs work on the run of one that is to be deleted.
        """
        wanted = Wanted(what)
        at = time.time() if now is None else now
        with self.write() as connection:
            job = _held(connection, tenant, id)
            if job is None:
                return None
            if job.state in ENDED and wanted is not Wanted.DELETE:
                return job
            if wanted is Wanted.DELETE and _children(connection, id):
                raise Conflict(
                    f"other jobs work on the run of {id}; cancel them, or wait until they end"
                )
            if job.state is State.QUEUED and wanted is not Wanted.RUN:
                asked = {"wanted": str(wanted)}
                job = _move(
                    connection, id, job.state, State.CANCELLED, f"{wanted} asked", by, at, asked
                )
            else:
                changed = connection.execute(
                    jobs.update()
                    .where(jobs.c.id == id)
                    .values(wanted=str(wanted), updated_at=at)
                    .returning(*JOB_COLUMNS)
                ).one()
                _note(connection, id, at, job.state, job.state, f"{wanted} asked", by)
                job = to_job(changed)
        self.changed()
        return job

    def resume_job(
        self,
        tenant: str,
        id: str,
        by: str,
        *,
        changes: Json | None = None,
        limits: Limits | None = None,
        now: float | None = None,
    ) -> Job | None:
        """Queue a job again that has ended: it goes on where it stopped.

        Args:
            tenant, id: the job.
            by: who asks.
            changes: fields of the specification that are to be others now, such as a larger budget.
            limits: of the key that asks.
            now: seconds since 1970; else the present.

        Returns:
            The job; None where there is none.

        Raises:
            Conflict: it has not ended, or it is done and nothing is to change.
            QuotaExceeded: the key has as many queued jobs as it may have.
        """
        at = time.time() if now is None else now
        with self.write() as connection:
            job = _held(connection, tenant, id)
            if job is None:
                return None
            if job.state not in ENDED:
                raise Conflict(f"the job {id} is {job.state}: only one that has ended is resumed")
            spec = job.spec | (changes or {})
            if job.state is State.DONE and spec == job.spec:
                raise Conflict(f"the job {id} is done: raise its budget to go on with it")
            _check_queue(connection, by, limits)
            _check_there(connection, job)
            job = _move(
                connection, id, job.state, State.QUEUED, "resumed", by, at,
                {"spec": spec, "wanted": Wanted.RUN, "losses": 0, "not_before": 0.0},
            )  # fmt: skip
        self.changed()
        return job

    def forget_job(self, id: str) -> None:
        """Remove the row and the history of a job whose files are gone."""
        with self.write() as connection:
            connection.execute(transitions.delete().where(transitions.c.job_id == id))
            connection.execute(jobs.delete().where(jobs.c.id == id))
        self.changed()


def _names() -> list[str]:
    return [column.name for column in JOB_COLUMNS]


def _held(connection: Connection, tenant: str, id: str) -> Job | None:
    """A tenant's job, which nobody else changes until the transaction ends."""
    query = sa.select(*JOB_COLUMNS).where(mine(tenant, id)).with_for_update()
    row = connection.execute(query).first()
    return None if row is None else to_job(row)


def _move(
    connection: Connection, id: str, before: State, after: State, reason: str, by: str, at: float,
    columns: Json,
) -> Job:  # fmt: skip
    values: Json = {"state": after, "reason": reason, "updated_at": at}
    if after in ENDED:
        values |= {"finished_at": at, "lease_by": None, "lease_until": None}
    elif after is State.QUEUED:
        values |= {"finished_at": None, "problem": None, "handle": None, "lease_by": None}
    row = connection.execute(
        jobs.update().where(jobs.c.id == id).values(**values | columns).returning(*JOB_COLUMNS)
    ).one()
    _note(connection, id, at, before, after, reason, by)
    return to_job(row)


def _note(
    connection: Connection, id: str, at: float, before: State | None, after: State, reason: str,
    by: str,
) -> None:  # fmt: skip
    connection.execute(
        transitions.insert(),
        {"job_id": id, "at": at, "before": before, "after": after, "reason": reason, "by": by},
    )


def _children(connection: Connection, id: str) -> bool:
    query = sa.select(jobs.c.id).where(
        jobs.c.parent_id == id, jobs.c.state.not_in([str(state) for state in ENDED])
    )
    return connection.execute(query.limit(1)).first() is not None


def _check_queue(connection: Connection, created_by: str, limits: Limits | None) -> None:
    if limits is None or limits.queued is None:
        return
    if connection.dialect.name != "sqlite":  # two requests of one key must not both see room
        connection.execute(
            sa.select(keys.c.id).where(keys.c.id == created_by).with_for_update()
        ).all()
    query = sa.select(sa.func.count()).where(
        jobs.c.created_by == created_by, jobs.c.state == State.QUEUED
    )
    queued = int(connection.execute(query).scalar_one())
    if queued >= limits.queued:
        raise QuotaExceeded("queued", queued + 1, limits.queued)


def _check_there(connection: Connection, job: Job) -> None:
    """What a job names must not be deleted between the request's look at it and now."""
    for table, named in ((teachers, job.teacher_id), (datasets, job.dataset_id)):
        if named is None:
            continue
        query = sa.select(table.c.state).where(table.c.id == named, table.c.tenant == job.tenant)
        state = connection.execute(query.with_for_update(read=True)).scalar()
        if state is None or state == "refused":
            raise Conflict(f"{named} is {'not there' if state is None else 'refused'}")
    if job.parent_id is not None:
        query = sa.select(jobs.c.id).where(mine(job.tenant, job.parent_id))
        if connection.execute(query.with_for_update(read=True)).first() is None:
            raise Conflict(f"{job.parent_id} is not there")


def _at_their_limit(connection: Connection) -> list[str]:
    """Keys that run as many jobs as they may."""
    running = sa.select(jobs.c.created_by, sa.func.count()).where(jobs.c.state.in_(_RUNNING))
    counted = {
        who: int(count) for who, count in connection.execute(running.group_by(jobs.c.created_by))
    }
    if not counted:
        return []
    limited = sa.select(keys.c.id, keys.c.limits).where(keys.c.id.in_(list(counted)))
    return [
        who
        for who, limits in connection.execute(limited)
        if limits.get("running") is not None and counted[who] >= limits["running"]
    ]
