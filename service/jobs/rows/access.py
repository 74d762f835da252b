"""Who may ask, what was answered before, and who did what: keys, idempotency, audit."""

from __future__ import annotations

import secrets
import time
from dataclasses import asdict
from hashlib import sha256
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import RowMapping
from sqlalchemy.exc import IntegrityError

from service.jobs.database import Database
from service.jobs.model import AuditEntry, Json, Key, Limits, Page, Replay, Scope, new_id
from service.jobs.rows.paging import page
from service.jobs.tables import audit, idempotency, keys

#: seconds within which a key's last use is not written down again
USE = 60.0
#: seconds after which an answer that was never given is given up: its process is gone
PENDING = 120.0
#: seconds for which answers are kept
REPLAY = 86_400.0
_LETTERS = 8


def _digest(secret: str) -> str:
    # The secret is 256 random bits, which nobody tries out: a slow, salted hash such as argon2
    # guards words that people choose, and would cost every request tens of milliseconds.
    return sha256(secret.encode()).hexdigest()


class AccessRows(Database):
    """Keys, idempotency and audit."""

    def create_key(
        self,
        *,
        tenant: str,
        name: str,
        scope: Scope | str,
        limits: Limits | None = None,
        now: float | None = None,
    ) -> tuple[Key, str]:
        """A new key and its secret, which can never be read again."""
        at = time.time() if now is None else now
        secret = "us_" + secrets.token_urlsafe(32)
        key = Key(
            id=new_id("key", at), tenant=tenant, name=name, scope=Scope(scope),
            prefix=secret[:_LETTERS], created_at=at, limits=limits or Limits(),
        )  # fmt: skip
        values = asdict(key) | {"hash": _digest(secret)}
        with self.write() as connection:
            connection.execute(keys.insert(), values)
        return key, secret

    def find_key(self, secret: str, now: float | None = None) -> Key | None:
        """The key of a secret, if there is one that was not revoked; its use is noted."""
        at = time.time() if now is None else now
        query = sa.select(keys).where(keys.c.hash == _digest(secret), keys.c.revoked_at.is_(None))
        with self.read() as connection:
            row = connection.execute(query).mappings().first()
        if row is None:
            return None
        if row["last_used_at"] is None or at - row["last_used_at"] >= USE:
            with self.write() as connection:
                connection.execute(
                    keys.update().where(keys.c.id == row["id"]).values(last_used_at=at)
                )
        return _key(row)

    def get_key(self, tenant: str, id: str) -> Key | None:
        """A tenant's key."""
        query = sa.select(keys).where(keys.c.id == id, keys.c.tenant == tenant)
        with self.read() as connection:
            row = connection.execute(query).mappings().first()
            return None if row is None else _key(row)

    def list_keys(self, tenant: str | None = None) -> list[Key]:
        """Keys of a tenant, or of all, the oldest first; revoked ones too."""
        query = sa.select(keys).order_by(keys.c.created_at, keys.c.id)
        if tenant is not None:
            query = query.where(keys.c.tenant == tenant)
        with self.read() as connection:
            return [_key(row) for row in connection.execute(query).mappings().all()]

    def has_keys(self) -> bool:
        """Whether anybody has a key that is good."""
        query = sa.select(keys.c.id).where(keys.c.revoked_at.is_(None)).limit(1)
        with self.read() as connection:
            return connection.execute(query).first() is not None

    def revoke_key(self, tenant: str | None, id: str, now: float | None = None) -> bool:
        """Make a key useless for ever; False where there is none that is good."""
        at = time.time() if now is None else now
        there = sa.and_(keys.c.id == id, keys.c.revoked_at.is_(None))
        if tenant is not None:
            there = sa.and_(there, keys.c.tenant == tenant)
        with self.write() as connection:
            changed = connection.execute(keys.update().where(there).values(revoked_at=at))
            return changed.rowcount == 1

    def idempotent(
        self, tenant: str, key: str, method_path: str, digest: str, now: float | None = None
    ) -> Replay | None:
        """What was answered under an Idempotency-Key; None where this request is the first.

        The first one has to :meth:`answered` or :meth:`unanswered`. Whether a later one is the
        same request is told by comparing ``digest``.
        """
        at = time.time() if now is None else now
        there = _asked(tenant, key, method_path)
        row = {
            "tenant": tenant, "key": key, "method_path": method_path, "digest": digest,
            "created_at": at,
        }  # fmt: skip
        for _ in range(2):
            with self.write() as connection:
                found = connection.execute(sa.select(idempotency).where(there)).mappings().first()
                if found is not None:
                    old = REPLAY if found["status"] is not None else PENDING
                    if at - found["created_at"] < old:
                        return Replay(found["digest"], found["status"], found["body"])
                    connection.execute(idempotency.delete().where(there))
                try:
                    with connection.begin_nested():
                        connection.execute(idempotency.insert(), row)
                    return None
                except IntegrityError:  # another process was first
                    continue
        return Replay(digest, None, None)

    def answered(self, tenant: str, key: str, method_path: str, status: int, body: Any) -> None:
        """Keep an answer for whoever asks the same again."""
        with self.write() as connection:
            connection.execute(
                idempotency.update()
                .where(_asked(tenant, key, method_path))
                .values(status=status, body=body)
            )

    def unanswered(self, tenant: str, key: str, method_path: str) -> None:
        """Forget a request that failed through no fault of its own: it may be tried again."""
        with self.write() as connection:
            connection.execute(idempotency.delete().where(_asked(tenant, key, method_path)))

    def forget_answers(self, now: float) -> None:
        """Drop answers that are too old to be asked for."""
        with self.write() as connection:
            connection.execute(idempotency.delete().where(idempotency.c.created_at < now - REPLAY))

    def audit(
        self,
        *,
        tenant: str,
        who: str,
        action: str,
        target: str,
        detail: Json | None = None,
        now: float | None = None,
    ) -> None:
        """Write down who did what; ``detail`` must hold no secret."""
        at = time.time() if now is None else now
        entry = {
            "at": at, "tenant": tenant, "who": who, "action": action, "target": target,
            "detail": detail or {},
        }  # fmt: skip
        with self.write() as connection:
            connection.execute(audit.insert(), entry)

    def list_audit(
        self,
        tenant: str,
        *,
        target: str | None = None,
        cursor: str | None = None,
        limit: int = 100,
    ) -> Page[AuditEntry]:
        """What was done, the latest first."""
        query = sa.select(audit).where(audit.c.tenant == tenant)
        if target is not None:
            query = query.where(audit.c.target == target)
        with self.read() as connection:
            return page(
                connection, query, {"at": audit.c.at}, audit.c.id,
                lambda row: AuditEntry(*tuple(row)[: len(audit.c)]),
                sort="-at", cursor=cursor, limit=limit,
            )  # fmt: skip


def _asked(tenant: str, key: str, method_path: str) -> sa.ColumnElement[bool]:
    return sa.and_(
        idempotency.c.tenant == tenant,
        idempotency.c.key == key,
        idempotency.c.method_path == method_path,
    )


def _key(row: RowMapping) -> Key:
    values = {name: value for name, value in row.items() if name != "hash"}
    return Key(**{**values, "scope": Scope(row["scope"]), "limits": Limits(**row["limits"])})
