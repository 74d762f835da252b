"""Keys, idempotency and audit in the store, on SQLite and on PostgreSQL."""

from __future__ import annotations

import re

import sqlalchemy as sa

from service.jobs.model import Limits, Replay, Scope
from service.jobs.store import Store
from service.jobs.tables import keys


class TestKeys:
    def test_the_secret_is_shown_once_and_kept_nowhere(self, store: Store) -> None:
        key, secret = store.create_key(
            tenant="t", name="ci", scope="submit", limits=Limits(queued=3)
        )
        assert re.fullmatch(r"us_[\w-]{43}", secret)  # 256 random bits
        assert key.prefix == secret[:8]
        with store.read() as connection:
            row = str(connection.execute(sa.select(keys)).one())
        assert secret not in row
        assert secret[8:] not in row
        assert store.find_key(secret) == key
        assert store.find_key(secret + "x") is None

    def test_scopes_include_those_below_them(self) -> None:
        assert Scope.ADMIN.includes(Scope.READ)
        assert Scope.SUBMIT.includes(Scope.SUBMIT)
        assert not Scope.READ.includes(Scope.SUBMIT)

    def test_a_revoked_key_is_good_for_nothing(self, store: Store) -> None:
        key, secret = store.create_key(tenant="t", name="n", scope="read")
        assert store.has_keys()
        assert not store.revoke_key("other", key.id)
        assert store.revoke_key("t", key.id, now=5.0)
        assert store.find_key(secret) is None
        assert not store.revoke_key("t", key.id)
        assert not store.has_keys()
        assert [one.revoked_at for one in store.list_keys("t")] == [5.0]

    def test_the_last_use_is_written_down_once_a_minute_at_most(self, store: Store) -> None:
        key, secret = store.create_key(tenant="t", name="n", scope="read")
        for at in (1000.0, 1030.0, 1059.0):
            store.find_key(secret, now=at)
        assert store.get_key("t", key.id).last_used_at == 1000.0  # type: ignore[union-attr]
        store.find_key(secret, now=1061.0)
        assert store.get_key("t", key.id).last_used_at == 1061.0  # type: ignore[union-attr]


class TestIdempotency:
    def test_the_second_request_gets_the_first_ones_answer(self, store: Store) -> None:
        assert store.idempotent("t", "k", "POST /jobs", "d1") is None
        assert store.idempotent("t", "k", "POST /jobs", "d1") == Replay("d1", None, None)
        store.answered("t", "k", "POST /jobs", 201, {"id": "job_1"})
        assert store.idempotent("t", "k", "POST /jobs", "d2") == Replay("d1", 201, {"id": "job_1"})

    def test_keys_are_of_a_tenant_and_a_route(self, store: Store) -> None:
        store.idempotent("t", "k", "POST /jobs", "d")
        assert store.idempotent("other", "k", "POST /jobs", "d") is None
        assert store.idempotent("t", "k", "POST /teachers", "d") is None

    def test_what_failed_may_be_tried_again(self, store: Store) -> None:
        store.idempotent("t", "k", "POST /jobs", "d")
        store.unanswered("t", "k", "POST /jobs")
        assert store.idempotent("t", "k", "POST /jobs", "d") is None

    def test_an_answer_that_never_came_and_an_old_one_are_given_up(self, store: Store) -> None:
        assert store.idempotent("t", "k", "POST /jobs", "d", now=0.0) is None
        assert store.idempotent("t", "k", "POST /jobs", "d", now=60.0) is not None
        assert store.idempotent("t", "k", "POST /jobs", "d", now=200.0) is None
        store.answered("t", "k", "POST /jobs", 200, None)
        assert store.idempotent("t", "k", "POST /jobs", "d", now=80_000.0) is not None
        store.forget_answers(200_000.0)
        assert store.idempotent("t", "k", "POST /jobs", "d", now=80_001.0) is None


def test_the_audit_tells_who_did_what_the_latest_first(store: Store) -> None:
    for number in range(5):
        store.audit(
            tenant="t", who="key_1", action="job.cancel", target=f"job_{number}",
            detail={"number": number}, now=float(number),
        )  # fmt: skip
    store.audit(tenant="other", who="key_2", action="job.cancel", target="job_9")
    first = store.list_audit("t", limit=3)
    rest = store.list_audit("t", limit=3, cursor=first.cursor)
    assert [one.detail["number"] for one in first.items + rest.items] == [4, 3, 2, 1, 0]
    assert [one.at for one in store.list_audit("t", target="job_2").items] == [2.0]
