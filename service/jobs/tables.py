"""The tables of the store, as SQLAlchemy Core: one metadata for SQLite and PostgreSQL."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)

#: constraints have names, so that migrations can change them
metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)
_Json = JSON(none_as_null=True)
#: SQLite counts rows of its own only where the type is INTEGER
_Count = BigInteger().with_variant(Integer(), "sqlite")


def _id() -> Column[str]:
    return Column("id", String(40), primary_key=True)


def _tenant() -> Column[str]:
    return Column("tenant", String(64), nullable=False, index=True)


def _made() -> list[Column[float] | Column[str]]:
    return [
        Column("created_at", Float(53), nullable=False),
        Column("created_by", String(64), nullable=False),
    ]


teachers = Table(
    "teachers",
    metadata,
    _id(),
    _tenant(),
    Column("name", Text, nullable=False),
    Column("sha256", String(64), nullable=False, index=True),
    Column("bytes", BigInteger, nullable=False),
    Column("files", _Json, nullable=False),
    Column("inspection", _Json),
    *_made(),
    Column("state", String(16), nullable=False),
    Column("problem", _Json),
)

datasets = Table(
    "datasets",
    metadata,
    _id(),
    _tenant(),
    Column("name", Text, nullable=False),
    Column("sha256", String(64), nullable=False, index=True),
    Column("bytes", BigInteger, nullable=False),
    Column("format", String(32), nullable=False),
    Column("facts", _Json),
    *_made(),
    Column("state", String(16), nullable=False),
    Column("problem", _Json),
)

jobs = Table(
    "jobs",
    metadata,
    _id(),
    Column("tenant", String(64), nullable=False),
    Column("name", Text, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("parent_id", String(40), index=True),
    Column("teacher_id", String(40), index=True),
    Column("dataset_id", String(40), index=True),
    Column("spec", _Json, nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("problem", _Json),
    Column("priority", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("losses", Integer, nullable=False),
    Column("max_attempts", Integer, nullable=False),
    *_made(),
    Column("updated_at", Float(53), nullable=False),
    Column("started_at", Float(53)),
    Column("finished_at", Float(53)),
    Column("stage", Text, nullable=False),
    Column("runner", String(32), nullable=False),
    Column("handle", _Json),
    Column("folder", Text, nullable=False),
    Column("summary", _Json, nullable=False),
    Column("wanted", String(16), nullable=False),
    Column("not_before", Float(53), nullable=False),
    Column("lease_by", String(64)),
    Column("lease_until", Float(53)),
)
Index("ix_jobs_queue", jobs.c.state, jobs.c.priority.desc(), jobs.c.created_at, jobs.c.id)
Index("ix_jobs_list", jobs.c.tenant, jobs.c.created_at, jobs.c.id)
Index("ix_jobs_changed", jobs.c.tenant, jobs.c.updated_at)
Index("ix_jobs_wanted", jobs.c.wanted, jobs.c.state)

transitions = Table(
    "transitions",
    metadata,
    Column("id", _Count, primary_key=True, autoincrement=True),
    Column("job_id", String(40), nullable=False, index=True),
    Column("at", Float(53), nullable=False),
    Column("before", String(16)),
    Column("after", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("by", String(64), nullable=False),
)

keys = Table(
    "keys",
    metadata,
    _id(),
    _tenant(),
    Column("name", Text, nullable=False),
    Column("scope", String(16), nullable=False),
    Column("hash", String(64), nullable=False, unique=True),
    Column("prefix", String(16), nullable=False),
    Column("created_at", Float(53), nullable=False),
    Column("last_used_at", Float(53)),
    Column("revoked_at", Float(53)),
    Column("limits", _Json, nullable=False),
)

uploads = Table(
    "uploads",
    metadata,
    _id(),
    _tenant(),
    Column("kind", String(16), nullable=False),
    Column("name", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("received", BigInteger, nullable=False),
    Column("sha256", String(64)),
    *_made(),
    Column("expires_at", Float(53), nullable=False, index=True),
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("tenant", String(64), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("method_path", Text, primary_key=True),
    Column("digest", String(64), nullable=False),
    Column("status", Integer),
    Column("body", _Json),
    Column("created_at", Float(53), nullable=False, index=True),
)

audit = Table(
    "audit",
    metadata,
    Column("id", _Count, primary_key=True, autoincrement=True),
    Column("at", Float(53), nullable=False),
    Column("tenant", String(64), nullable=False),
    Column("who", String(64), nullable=False),
    Column("action", String(64), nullable=False),
    Column("target", Text, nullable=False),
    Column("detail", _Json, nullable=False),
)
Index("ix_audit_tenant", audit.c.tenant, audit.c.id)

leases = Table(
    "leases",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("holder", String(128), nullable=False),
    Column("until", Float(53), nullable=False),
)
