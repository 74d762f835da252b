"""The store: the truth about jobs, content, keys and uploads, behind one class."""

from __future__ import annotations

from sqlalchemy.engine import URL

from service.jobs.database import connect, migrate
from service.jobs.rows.access import AccessRows
from service.jobs.rows.content import ContentFilters, ContentRows
from service.jobs.rows.leases import Leases
from service.jobs.rows.listing import JobFilters
from service.jobs.rows.queue import JobQueue


class Store(JobQueue, ContentRows, AccessRows, Leases):
    """Everything that the service remembers; plain values go in and come out.

    Every method is one transaction, may be called from any thread, and raises
    :class:`service.jobs.model.StoreUnavailable` where the database does not answer.
    """

    @classmethod
    def open(cls, url: str | URL) -> Store:
        """The store of a database, whose schema is brought up to date.

        Raises:
            BadInput: no URL of a database, or one of a later version.
            StoreUnavailable: the database does not answer.
        """
        store = cls(connect(url))
        try:
            migrate(store)
        except BaseException:
            store.close()
            raise
        return store


__all__ = ["ContentFilters", "JobFilters", "Store"]
