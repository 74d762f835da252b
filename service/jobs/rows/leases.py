"""Leases: names that one process alone holds for a while, such as that of the scheduler."""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy as sa

from service.jobs.database import Database
from service.jobs.tables import leases


class Leases(Database):
    """Taking and giving back."""

    def acquire_lease(
        self,
        name: str,
        holder: str,
        now: float,
        seconds: float,
        is_gone: Callable[[str], bool] = lambda holder: False,
    ) -> bool:
        """Whether a name, such as "scheduler", is this holder's until ``now + seconds``.

        ``is_gone``: asked about another holder, who loses it at once where that is known to be
        dead.
        """
        values = {"holder": holder, "until": now + seconds}
        there = leases.c.name == name
        query = sa.select(leases.c.holder, leases.c.until).where(there)
        with self.write() as connection:
            row = connection.execute(query.with_for_update()).first()
            if row is None:
                if not self.is_sqlite:  # of two that find no row the second waits, and finds one
                    connection.execute(sa.text("LOCK TABLE leases IN EXCLUSIVE MODE"))
                    if connection.execute(query).first() is not None:
                        return False
                connection.execute(leases.insert(), {"name": name, **values})
                return True
            if row.holder != holder and row.until >= now and not is_gone(row.holder):
                return False
            connection.execute(leases.update().where(there).values(**values))
            return True

    def release_lease(self, name: str, holder: str) -> None:
        """Let another have it at once."""
        with self.write() as connection:
            connection.execute(
                leases.delete().where(leases.c.name == name, leases.c.holder == holder)
            )
