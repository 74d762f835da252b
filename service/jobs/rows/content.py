"""Teachers, data sets and uploads under way: what of the content store is whose."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Generic, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Row

from service.jobs.database import Database
from service.jobs.model import (
    Conflict,
    Dataset,
    Json,
    Limits,
    Page,
    QuotaExceeded,
    Teacher,
    Upload,
    Wanted,
    new_id,
)
from service.jobs.rows.paging import contains, page
from service.jobs.tables import datasets, jobs, teachers, uploads

C = TypeVar("C", Teacher, Dataset)


@dataclass(frozen=True)
class ContentFilters:
    """Which teachers or data sets a list holds."""

    name: str | None = None
    state: str | None = None
    sha256: str | None = None


class _Kind(Generic[C]):
    """One of the two tables, which differ in a column or two."""

    def __init__(self, table: sa.Table, value: type[C], used_as: str) -> None:
        self.table = table
        self.value: Callable[..., C] = value
        self.names = [field.name for field in fields(value)]
        self.columns = [table.c[name] for name in self.names]
        self.used = jobs.c[used_as]
        self.sorts = {name: table.c[name] for name in ("created_at", "name", "bytes", "state")}

    def make(self, row: Row[Any]) -> C:
        """A row as a value."""
        return self.value(**dict(zip(self.names, row, strict=False)))


_TEACHERS = _Kind(teachers, Teacher, "teacher_id")
_DATASETS = _Kind(datasets, Dataset, "dataset_id")
_UPLOADS = [uploads.c[field.name] for field in fields(Upload)]


class ContentRows(Database):
    """Teachers, data sets and uploads."""

    def create_teacher(
        self,
        *,
        tenant: str,
        name: str,
        sha256: str,
        bytes: int,
        files: list[Json],
        created_by: str,
        state: str = "checking",
        inspection: Json | None = None,
        id: str | None = None,
        now: float | None = None,
    ) -> Teacher:
        """Enter a teacher whose files lie in the content store."""
        at = time.time() if now is None else now
        teacher = Teacher(
            id=id or new_id("teacher", at), tenant=tenant, name=name, sha256=sha256, bytes=bytes,
            files=files, created_at=at, created_by=created_by, state=state, inspection=inspection,
        )  # fmt: skip
        return self._insert(_TEACHERS, teacher)

    def create_dataset(
        self,
        *,
        tenant: str,
        name: str,
        sha256: str,
        bytes: int,
        format: str,
        created_by: str,
        state: str = "checking",
        facts: Json | None = None,
        id: str | None = None,
        now: float | None = None,
    ) -> Dataset:
        """Enter data whose folder lies in the content store."""
        at = time.time() if now is None else now
        dataset = Dataset(
            id=id or new_id("dataset", at), tenant=tenant, name=name, sha256=sha256, bytes=bytes,
            format=format, created_at=at, created_by=created_by, state=state, facts=facts,
        )  # fmt: skip
        return self._insert(_DATASETS, dataset)

    def get_teacher(self, tenant: str, id: str) -> Teacher | None:
        """A tenant's teacher."""
        return self._get(_TEACHERS, tenant, id)

    def get_dataset(self, tenant: str, id: str) -> Dataset | None:
        """A tenant's data set."""
        return self._get(_DATASETS, tenant, id)

    def find_teacher(self, tenant: str, sha256: str) -> Teacher | None:
        """The tenant's teacher of this content that was not refused, if it has one already."""
        return self._find(_TEACHERS, tenant, sha256)

    def find_dataset(self, tenant: str, sha256: str) -> Dataset | None:
        """The tenant's data set of this content that was not refused, if it has one already."""
        return self._find(_DATASETS, tenant, sha256)

    def list_teachers(
        self,
        tenant: str,
        filters: ContentFilters | None = None,
        sort: str = "-created_at",
        cursor: str | None = None,
        limit: int = 50,
    ) -> Page[Teacher]:
        """A part of a tenant's teachers.

        Raises:
            BadInput: an unknown sort, a bad cursor, or too many at a time.
        """
        return self._list(_TEACHERS, tenant, filters, sort, cursor, limit)

    def list_datasets(
        self,
        tenant: str,
        filters: ContentFilters | None = None,
        sort: str = "-created_at",
        cursor: str | None = None,
        limit: int = 50,
    ) -> Page[Dataset]:
        """A part of a tenant's data sets.

        Raises:
            BadInput: an unknown sort, a bad cursor, or too many at a time.
        """
        return self._list(_DATASETS, tenant, filters, sort, cursor, limit)

    def set_teacher(self, id: str, **columns: Any) -> None:
        """Set columns of a teacher, such as state, inspection, problem or name."""
        self._set(_TEACHERS, id, columns)

    def set_dataset(self, id: str, **columns: Any) -> None:
        """Set columns of a data set, such as state, facts, problem or name."""
        self._set(_DATASETS, id, columns)

    def delete_teacher(self, tenant: str, id: str) -> bool:
        """Remove a teacher; False where there is none.

        Raises:
            Conflict: jobs name it, and could not be resumed without it.
        """
        return self._delete(_TEACHERS, tenant, id)

    def delete_dataset(self, tenant: str, id: str) -> bool:
        """Remove a data set; False where there is none.

        Raises:
            Conflict: jobs name it, and could not be resumed without it.
        """
        return self._delete(_DATASETS, tenant, id)

    def unchecked(self) -> list[Teacher | Dataset]:
        """What is still to be checked, for a service that was stopped in between."""
        with self.read() as connection:
            return [
                kind.make(row)
                for kind in (_TEACHERS, _DATASETS)
                for row in connection.execute(
                    sa.select(*kind.columns).where(kind.table.c.state == "checking")
                ).all()
            ]

    def digests(self) -> set[str]:
        """Every content that a teacher or a data set of any tenant needs."""
        with self.read() as connection:
            return {
                digest
                for table in (teachers, datasets)
                for digest in connection.execute(sa.select(table.c.sha256).distinct()).scalars()
            }

    def used_bytes(self, tenant: str, created_by: str | None = None) -> int:
        """Bytes of teachers, data sets and uploads under way, of a tenant or one of its keys."""
        with self.read() as connection:
            return self._used(connection, tenant, created_by)

    def create_upload(
        self,
        *,
        tenant: str,
        kind: str,
        name: str,
        bytes: int,
        created_by: str,
        sha256: str | None = None,
        limits: Limits | None = None,
        seconds: float = 86_400.0,
        id: str | None = None,
        now: float | None = None,
    ) -> Upload:
        """Begin an upload of so many bytes.

        Raises:
            QuotaExceeded: the key may not keep so many.
        """
        at = time.time() if now is None else now
        upload = Upload(
            id=id or new_id("upload", at), tenant=tenant, kind=kind, name=name, bytes=bytes,
            received=0, created_at=at, created_by=created_by, expires_at=at + seconds,
            sha256=sha256,
        )  # fmt: skip
        with self.write() as connection:
            if limits is not None and limits.bytes is not None:
                total = self._used(connection, tenant, created_by) + bytes
                if total > limits.bytes:
                    raise QuotaExceeded("bytes", total, limits.bytes)
            values = {column.name: getattr(upload, column.name) for column in _UPLOADS}
            connection.execute(uploads.insert(), values)
        return upload

    def get_upload(self, tenant: str, id: str) -> Upload | None:
        """A tenant's upload under way."""
        query = sa.select(*_UPLOADS).where(uploads.c.id == id, uploads.c.tenant == tenant)
        with self.read() as connection:
            row = connection.execute(query).mappings().first()
            return None if row is None else Upload(**row)

    def list_uploads(self, tenant: str) -> list[Upload]:
        """A tenant's uploads under way, the newest first."""
        query = sa.select(*_UPLOADS).where(uploads.c.tenant == tenant)
        with self.read() as connection:
            rows = connection.execute(query.order_by(uploads.c.created_at.desc())).mappings()
            return [Upload(**row) for row in rows.all()]

    def advance_upload(
        self, id: str, before: int, after: int, expires_at: float | None = None
    ) -> bool:
        """Count bytes that are on the disk; False where another request has counted meanwhile."""
        values: Json = {"received": after}
        if expires_at is not None:
            values["expires_at"] = expires_at
        there = sa.and_(uploads.c.id == id, uploads.c.received == before)
        with self.write() as connection:
            changed = connection.execute(uploads.update().where(there).values(**values))
            return changed.rowcount == 1

    def delete_upload(self, id: str) -> None:
        """Forget an upload that is complete, given up or too old."""
        with self.write() as connection:
            connection.execute(uploads.delete().where(uploads.c.id == id))

    def expired_uploads(self, now: float) -> list[Upload]:
        """Uploads of any tenant that nobody has gone on with in time."""
        query = sa.select(*_UPLOADS).where(uploads.c.expires_at < now)
        with self.read() as connection:
            return [Upload(**row) for row in connection.execute(query).mappings().all()]

    def all_uploads(self) -> list[Upload]:
        """Uploads under way of every tenant."""
        with self.read() as connection:
            return [Upload(**row) for row in connection.execute(sa.select(*_UPLOADS)).mappings()]

    def _used(self, connection: sa.engine.Connection, tenant: str, created_by: str | None) -> int:
        total = 0
        for table in (teachers, datasets, uploads):
            query = sa.select(sa.func.coalesce(sa.func.sum(table.c.bytes), 0))
            query = query.where(table.c.tenant == tenant)
            if created_by is not None:
                query = query.where(table.c.created_by == created_by)
            total += int(connection.execute(query).scalar_one())
        return total

    def _insert(self, kind: _Kind[C], value: C) -> C:
        with self.write() as connection:
            values = {name: getattr(value, name) for name in kind.names}
            connection.execute(kind.table.insert(), values)
        return value

    def _get(self, kind: _Kind[C], tenant: str, id: str) -> C | None:
        there = sa.and_(kind.table.c.id == id, kind.table.c.tenant == tenant)
        with self.read() as connection:
            row = connection.execute(sa.select(*kind.columns).where(there)).first()
            return None if row is None else kind.make(row)

    def _find(self, kind: _Kind[C], tenant: str, sha256: str) -> C | None:
        table = kind.table
        query = sa.select(*kind.columns).where(
            table.c.tenant == tenant, table.c.sha256 == sha256, table.c.state != "refused"
        )
        with self.read() as connection:
            row = connection.execute(query.order_by(table.c.created_at)).first()
            return None if row is None else kind.make(row)

    def _list(
        self, kind: _Kind[C], tenant: str, filters: ContentFilters | None, sort: str,
        cursor: str | None, limit: int,
    ) -> Page[C]:  # fmt: skip
        table, asked = kind.table, filters or ContentFilters()
        query = sa.select(*kind.columns).where(table.c.tenant == tenant)
        if asked.name:
            query = query.where(contains(table.c.name, asked.name))
        for name in ("state", "sha256"):
            if getattr(asked, name) is not None:
                query = query.where(table.c[name] == getattr(asked, name))
        with self.read() as connection:
            return page(
                connection, query, kind.sorts, table.c.id, kind.make, sort=sort, cursor=cursor,
                limit=limit,
            )  # fmt: skip

    def _set(self, kind: _Kind[C], id: str, columns: Json) -> None:
        with self.write() as connection:
            connection.execute(kind.table.update().where(kind.table.c.id == id).values(**columns))

    def _delete(self, kind: _Kind[C], tenant: str, id: str) -> bool:
        there = sa.and_(kind.table.c.id == id, kind.table.c.tenant == tenant)
        with self.write() as connection:
            # the row first, so that a job which is submitted meanwhile waits, and finds none
            found = sa.select(kind.table.c.id).where(there).with_for_update()
            if connection.execute(found).first() is None:
                return False
            using = sa.select(sa.func.count()).where(
                kind.used == id, jobs.c.wanted != Wanted.DELETE
            )
            count = int(connection.execute(using).scalar_one())
            if count:
                raise Conflict(f"{count:,} job{'s' * (count > 1)} name {id}; delete them first")
            connection.execute(kind.table.delete().where(there))
            return True
