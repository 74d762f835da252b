"""Jobs as they are read: one, many, filtered, sorted, counted, and their histories."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Row

from service.jobs.database import Database
from service.jobs.model import ENDED, RUNNING, Job, Page, State, Transition, Wanted
from service.jobs.rows.paging import contains, page
from service.jobs.tables import jobs, transitions

_NAMES = [field.name for field in fields(Job)]
_STATE, _WANTED = _NAMES.index("state"), _NAMES.index("wanted")
#: the columns of a job, in the order of its fields
JOB_COLUMNS = [jobs.c[name] for name in _NAMES]
#: figures of the summary that lists are sorted by
FIGURES = (
    "student_kb", "student_accuracy", "pair_accuracy", "appeals", "best_reward", "candidates",
)  # fmt: skip
SORTS: dict[str, sa.ColumnElement[Any]] = {
    **{
        name: jobs.c[name]
        for name in (
            "created_at", "updated_at", "started_at", "finished_at", "priority", "name", "state",
            "kind",
        )
    },
    **{name: jobs.c.summary[name].as_float() for name in FIGURES},
}  # fmt: skip


@dataclass(frozen=True)
class JobFilters:
    """Which jobs a list holds; what is None, or empty, filters nothing."""

    states: tuple[State, ...] = ()
    kinds: tuple[str, ...] = ()
    name: str | None = None
    teacher_id: str | None = None
    dataset_id: str | None = None
    parent_id: str | None = None
    created_by: str | None = None
    updated_after: float | None = None
    ids: tuple[str, ...] = ()

    def conditions(self) -> list[sa.ColumnElement[bool]]:
        """Of a query."""
        found: list[sa.ColumnElement[bool]] = []
        if self.states:
            found.append(jobs.c.state.in_([str(state) for state in self.states]))
        if self.kinds:
            found.append(jobs.c.kind.in_(self.kinds))
        if self.ids:
            found.append(jobs.c.id.in_(self.ids))
        if self.name:
            found.append(contains(jobs.c.name, self.name))
        if self.updated_after is not None:
            found.append(jobs.c.updated_at > self.updated_after)
        for name in ("teacher_id", "dataset_id", "parent_id", "created_by"):
            value = getattr(self, name)
            if value is not None:
                found.append(jobs.c[name] == value)
        return found


def to_job(row: Row[Any]) -> Job:
    """A row as a value."""
    values = list(row)[: len(_NAMES)]  # a list's rows end with what sorts them
    values[_STATE], values[_WANTED] = State(values[_STATE]), Wanted(values[_WANTED])
    return Job(*values)


def mine(tenant: str, id_: str | None = None) -> sa.ColumnElement[bool]:
    """Of a tenant, and not about to be deleted; what is another's is not there."""
    there = sa.and_(jobs.c.tenant == tenant, jobs.c.wanted != Wanted.DELETE)
    return there if id_ is None else sa.and_(jobs.c.id == id_, there)


class JobListing(Database):
    """Reading jobs."""

    def get_job(self, tenant: str, id: str) -> Job | None:
        """A tenant's job; None where there is none, it is another's, or it is being deleted."""
        with self.read() as connection:
            row = connection.execute(sa.select(*JOB_COLUMNS).where(mine(tenant, id))).first()
            return None if row is None else to_job(row)

    def any_job(self, id: str) -> Job | None:
        """Any tenant's job, for the service itself."""
        with self.read() as connection:
            row = connection.execute(sa.select(*JOB_COLUMNS).where(jobs.c.id == id)).first()
            return None if row is None else to_job(row)

    def list_jobs(
        self,
        tenant: str,
        filters: JobFilters | None = None,
        sort: str = "-created_at",
        cursor: str | None = None,
        limit: int = 50,
    ) -> Page[Job]:
        """A part of a tenant's jobs.

        Raises:
            BadInput: an unknown sort (of ``SORTS``), a bad cursor, or too many at a time.
        """
        conditions = (filters or JobFilters()).conditions()
        query = sa.select(*JOB_COLUMNS).where(mine(tenant), *conditions)
        with self.read() as connection:
            return page(
                connection, query, SORTS, jobs.c.id, to_job, sort=sort, cursor=cursor, limit=limit
            )

    def count_jobs(self, tenant: str | None = None) -> dict[State, int]:
        """How many jobs are in each state; of all tenants where None is given."""
        query = sa.select(jobs.c.state, sa.func.count()).group_by(jobs.c.state)
        if tenant is not None:
            query = query.where(mine(tenant))
        with self.read() as connection:
            counted = {State(state): count for state, count in connection.execute(query)}
        return {state: counted.get(state, 0) for state in State}

    def jobs_in(
        self, states: Collection[State] = RUNNING, wanted: Collection[Wanted] = tuple(Wanted)
    ) -> list[Job]:
        """Every tenant's jobs in these states, the oldest first, for the service itself."""
        query = sa.select(*JOB_COLUMNS).where(
            jobs.c.state.in_([str(state) for state in states]),
            jobs.c.wanted.in_([str(what) for what in wanted]),
        )
        with self.read() as connection:
            rows = connection.execute(query.order_by(jobs.c.created_at, jobs.c.id)).all()
            return [to_job(row) for row in rows]

    def has_queued(self, now: float) -> bool:
        """Whether any job waits that may be started by now."""
        query = sa.select(jobs.c.id).where(
            jobs.c.state == State.QUEUED, jobs.c.wanted == Wanted.RUN, jobs.c.not_before <= now
        )
        with self.read() as connection:
            return connection.execute(query.limit(1)).first() is not None

    def place_in_queue(self, id: str) -> int | None:
        """1 for who comes next; None for a job that is not queued."""
        other = jobs.alias()
        before = sa.or_(
            other.c.priority > jobs.c.priority,
            sa.and_(
                other.c.priority == jobs.c.priority,
                sa.tuple_(other.c.created_at, other.c.id) < sa.tuple_(jobs.c.created_at, jobs.c.id),
            ),
        )
        ahead = (
            sa.select(sa.func.count())
            .select_from(other)
            .where(other.c.state == State.QUEUED, before)
            .scalar_subquery()
        )
        query = sa.select(ahead).where(jobs.c.id == id, jobs.c.state == State.QUEUED)
        with self.read() as connection:
            found = connection.execute(query).scalar()
            return None if found is None else int(found) + 1

    def transitions_of(self, id: str) -> list[Transition]:
        """A job's history, from its submission."""
        query = sa.select(transitions).where(transitions.c.job_id == id)
        with self.read() as connection:
            rows = connection.execute(query.order_by(transitions.c.id)).mappings().all()
        return [
            Transition(
                **{
                    **row,
                    "before": State(row["before"]) if row["before"] else None,
                    "after": State(row["after"]),
                }
            )
            for row in rows
        ]

    def running_children(self, id: str) -> int:
        """Jobs that work on this one's run and have not ended."""
        query = sa.select(sa.func.count()).where(
            jobs.c.parent_id == id, jobs.c.state.not_in([str(state) for state in ENDED])
        )
        with self.read() as connection:
            return int(connection.execute(query).scalar_one())
