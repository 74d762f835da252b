"""Jobs in the store, on SQLite and on PostgreSQL."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from edge.errors import BadInput
from service.jobs.local import surroundings
from service.jobs.model import (
    Conflict,
    IllegalTransition,
    Limits,
    QuotaExceeded,
    State,
    StoreUnavailable,
    Wanted,
)
from service.jobs.store import JobFilters, Store

Submit = Callable[..., str]


class TestQueue:
    def test_highest_priority_first_then_the_oldest(self, store: Store, submit: Submit) -> None:
        for name, priority, at in (("low", 0, 1.0), ("new", 5, 3.0), ("old", 5, 2.0)):
            submit(store, name, priority=priority, now=at)
        claimed = [store.claim_next(10.0, "me") for _ in range(4)]
        assert [job and job.name for job in claimed] == ["old", "new", "low", None]

    def test_a_claimed_job_is_ours_and_its_history_says_so(
        self, store: Store, submit: Submit
    ) -> None:
        submit(store)
        job = store.claim_next(10.0, "me")
        assert job is not None
        assert (job.state, job.attempt, job.started_at, job.lease_by) == (
            State.CHECKING, 1, 10.0, "me",
        )  # fmt: skip
        assert [(one.before, one.after) for one in store.transitions_of(job.id)] == [
            (None, State.QUEUED),
            (State.QUEUED, State.CHECKING),
        ]

    def test_without_a_free_slot_nothing_is_claimed(self, store: Store, submit: Submit) -> None:
        submit(store)
        assert store.claim_next(10.0, "me", free_slots=0) is None

    def test_a_job_waits_until_its_time(self, store: Store, submit: Submit) -> None:
        own = submit(store)
        store.update_job(own, not_before=50.0)
        assert not store.has_queued(49.0)
        assert store.claim_next(49.0, "me") is None
        assert store.has_queued(50.0)
        assert store.claim_next(50.0, "me") is not None

    def test_a_key_runs_no_more_at_a_time_than_it_may(self, store: Store, submit: Submit) -> None:
        key, _ = store.create_key(tenant="t", name="n", scope="submit", limits=Limits(running=1))
        for _ in range(2):
            submit(store, created_by=key.id, now=1.0)
        submit(store, "another's", now=2.0)
        first, second, third = (store.claim_next(3.0, "me") for _ in range(3))
        assert first is not None
        assert second is not None
        assert second.name == "another's"
        assert third is None
        store.transition(first.id, State.CHECKING, State.DONE)
        assert store.claim_next(4.0, "me") is not None

    def test_a_key_queues_no_more_than_it_may(self, store: Store, submit: Submit) -> None:
        key, _ = store.create_key(tenant="t", name="n", scope="submit")
        limits = Limits(queued=2)
        for _ in range(2):
            submit(store, created_by=key.id, limits=limits)
        with pytest.raises(QuotaExceeded) as error:
            submit(store, created_by=key.id, limits=limits)
        assert (error.value.what, error.value.value, error.value.bound) == ("queued", 3, 2)
        assert store.count_jobs("t")[State.QUEUED] == 2

    def test_place_in_queue(self, store: Store, submit: Submit) -> None:
        old, new, urgent = (
            submit(store, now=1.0), submit(store, now=2.0), submit(store, now=3.0, priority=1),
        )  # fmt: skip
        assert [store.place_in_queue(one) for one in (urgent, old, new)] == [1, 2, 3]
        store.claim_next(4.0, "me")
        assert store.place_in_queue(urgent) is None

    @pytest.mark.parametrize("processes", [4])
    def test_of_many_processes_each_job_is_claimed_by_one(
        self, store_url: str, submit: Submit, processes: int
    ) -> None:
        store = Store.open(store_url)
        jobs = {submit(store) for _ in range(200)}
        program = (
            "import sys, time\n"
            "from service.jobs.store import Store\n"
            "store = Store.open(sys.argv[1])\n"
            "while (job := store.claim_next(time.time() + 9, 'me')) is not None:\n"
            "    print(job.id)\n"
        )
        import os

        running = [
            subprocess.Popen(
                [sys.executable, "-c", program, store_url],
                stdout=subprocess.PIPE,
                env=os.environ | surroundings(),
                text=True,
            )
            for _ in range(processes)
        ]
        claimed = [line for one in running for line in one.communicate()[0].split()]
        store.close()
        assert all(one.returncode == 0 for one in running)
        assert len(claimed) == 200
        assert set(claimed) == jobs


class TestTransitions:
    def test_an_illegal_one_raises_and_changes_nothing(self, store: Store, submit: Submit) -> None:
        own = submit(store)
        with pytest.raises(IllegalTransition, match=r"queued cannot become done; .*cancelled"):
            store.transition(own, State.QUEUED, State.DONE)
        job = store.get_job("t", own)
        assert job is not None
        assert job.state is State.QUEUED

    def test_one_from_elsewhere_changes_nothing(self, store: Store, submit: Submit) -> None:
        own = submit(store)
        assert store.transition(own, State.SEARCHING, State.DONE) is None
        assert store.transition("job_none", State.SEARCHING, State.DONE) is None
        assert len(store.transitions_of(own)) == 1

    def test_columns_are_set_with_it(self, store: Store, submit: Submit) -> None:
        own = submit(store)
        store.claim_next(1.0, "me")
        job = store.transition(
            own, [State.CHECKING], State.SEARCHING, "told", now=7.0, summary={"candidates": 3}
        )
        assert job is not None
        assert (job.reason, job.summary, job.updated_at) == ("told", {"candidates": 3}, 7.0)
        done = store.transition(own, State.SEARCHING, State.DONE, now=9.0)
        assert done is not None
        assert done.finished_at == 9.0


class TestWhatUsersAsk:
    def test_a_queued_job_is_cancelled_at_once(self, store: Store, submit: Submit) -> None:
        own = submit(store)
        job = store.want("t", own, "cancel", "key_1")
        assert job is not None
        assert job.state is State.CANCELLED
        assert store.transitions_of(own)[-1].by == "key_1"
        assert store.claim_next(10.0, "me") is None

    def test_one_that_runs_is_left_to_the_scheduler(self, store: Store, submit: Submit) -> None:
        own = submit(store)
        store.claim_next(1.0, "me")
        job = store.want("t", own, "cancel", "key_1")
        assert job is not None
        assert (job.state, job.wanted) == (State.CHECKING, Wanted.CANCEL)

    def test_one_that_has_ended_stays_as_it_is(self, store: Store, submit: Submit) -> None:
        own = submit(store)
        store.want("t", own, "cancel", "key_1")
        job = store.want("t", own, "cancel", "key_2")
        assert job is not None
        assert (job.state, len(store.transitions_of(own))) == (State.CANCELLED, 2)

    def test_a_deleted_one_is_hidden_until_it_is_gone(self, store: Store, submit: Submit) -> None:
        own = submit(store)
        store.want("t", own, "delete", "key_1")
        assert store.get_job("t", own) is None
        assert store.list_jobs("t").items == []
        assert [job.id for job in store.jobs_in([State.CANCELLED], [Wanted.DELETE])] == [own]
        store.forget_job(own)
        assert store.any_job(own) is None
        assert store.transitions_of(own) == []

    def test_a_job_is_not_deleted_under_another_that_needs_it(
        self, store: Store, submit: Submit
    ) -> None:
        parent = submit(store)
        child = submit(store, parent_id=parent)
        with pytest.raises(Conflict, match="other jobs work on the run"):
            store.want("t", parent, "delete", "key_1")
        store.want("t", child, "cancel", "key_1")
        assert store.want("t", parent, "delete", "key_1") is not None

    def test_resuming_keeps_what_is_not_changed(self, store: Store, submit: Submit) -> None:
        own = submit(store, spec={"budget": 8, "seed": 3})
        store.want("t", own, "cancel", "me")
        job = store.resume_job("t", own, "me", changes={"budget": 16})
        assert job is not None
        assert (job.state, job.wanted, job.spec) == (
            State.QUEUED, Wanted.RUN, {"budget": 16, "seed": 3},
        )  # fmt: skip

    def test_a_job_that_is_done_is_resumed_only_to_more(self, store: Store, submit: Submit) -> None:
        own = submit(store, spec={"budget": 8})
        store.claim_next(1.0, "me")
        with pytest.raises(Conflict, match="only one that has ended"):
            store.resume_job("t", own, "me")
        store.transition(own, State.CHECKING, State.DONE)
        with pytest.raises(Conflict, match="raise its budget"):
            store.resume_job("t", own, "me")
        assert store.resume_job("t", own, "me", changes={"budget": 9}) is not None

    def test_a_job_of_content_that_is_gone_or_refused_is_not_taken(
        self, store: Store, submit: Submit
    ) -> None:
        teacher = store.create_teacher(
            tenant="t", name="n", sha256="0" * 64, bytes=1, files=[], created_by="me"
        )
        store.set_teacher(teacher.id, state="refused")
        for own in ("teacher_none", teacher.id):
            with pytest.raises(Conflict, match=own):
                submit(store, teacher_id=own)


class TestLists:
    def test_parts_follow_each_other_whatever_is_added(self, store: Store, submit: Submit) -> None:
        names = [f"job {number}" for number in range(7)]
        for number, name in enumerate(names):
            submit(store, name, now=float(number))
        first = store.list_jobs("t", limit=3)
        submit(store, "late", now=99.0)
        second = store.list_jobs("t", limit=3, cursor=first.cursor)
        third = store.list_jobs("t", limit=3, cursor=second.cursor)
        assert [job.name for page in (first, second, third) for job in page.items] == names[::-1]
        assert third.cursor is None

    @pytest.mark.parametrize("sort", ["student_kb", "-student_kb", "name", "-finished_at"])
    def test_every_row_comes_once_whatever_it_lacks(
        self, store: Store, submit: Submit, sort: str
    ) -> None:
        for number in range(6):
            summary = {"student_kb": number / 3} if number % 2 else {}
            submit(store, f"{number // 2}", summary=summary)
        found, cursor = [], None
        while True:
            page = store.list_jobs("t", sort=sort, cursor=cursor, limit=2)
            found += page.items
            cursor = page.cursor
            if cursor is None:
                break
        assert len({job.id for job in found}) == len(found) == 6
        if "kb" in sort:  # what has no figure comes last, whichever the direction
            known = [job.summary["student_kb"] for job in found[:3]]
            assert known == sorted(known, reverse=sort.startswith("-"))

    def test_filters(self, store: Store, submit: Submit) -> None:
        one = submit(store, "Résumé 50%_a", created_by="key_1", now=1.0)
        two = submit(store, "other", parent_id=one, now=2.0)
        store.want("t", one, "cancel", "me", now=3.0)
        for filters, expected in (
            (JobFilters(states=(State.CANCELLED,)), {one}),
            (JobFilters(name="50%_A"), {one}),
            (JobFilters(name="5_%"), set()),
            (JobFilters(parent_id=one), {two}),
            (JobFilters(created_by="key_1"), {one}),
            (JobFilters(updated_after=2.5), {one}),
            (JobFilters(kinds=("search",)), set()),
            (JobFilters(ids=(two,)), {two}),
        ):
            assert {job.id for job in store.list_jobs("t", filters).items} == expected, filters

    def test_another_tenants_job_is_not_there(self, store: Store, submit: Submit) -> None:
        own = submit(store, tenant="theirs")
        assert store.get_job("t", own) is None
        assert store.list_jobs("t").items == []
        assert store.want("t", own, "cancel", "me") is None
        assert store.resume_job("t", own, "me") is None
        assert store.change_job("t", own, name="mine") is None
        assert store.count_jobs("t")[State.QUEUED] == 0
        with pytest.raises(Conflict):
            submit(store, parent_id=own)

    @pytest.mark.parametrize(
        ("values", "field"),
        [
            ({"limit": 0}, "limit"),
            ({"limit": 1001}, "limit"),
            ({"cursor": "nonsense"}, "cursor"),
            ({"cursor": "WyJuYW1lIiwgIngiLCAieSJd"}, "cursor"),  # of another sort
            ({"cursor": "WyItY3JlYXRlZF9hdCIsIHt9LCAieSJd"}, "cursor"),
            ({"sort": "secret"}, None),
        ],
    )
    def test_what_cannot_be_asked_is_said(
        self, store: Store, values: dict[str, object], field: str | None
    ) -> None:
        with pytest.raises(BadInput) as error:
            store.list_jobs("t", **values)  # type: ignore[arg-type]
        assert error.value.field == field


class TestDatabase:
    def test_a_later_version_is_refused_in_one_sentence(self, store_url: str) -> None:
        store = Store.open(store_url)
        with store.write() as connection:
            connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
        store.close()
        with pytest.raises(BadInput, match=r"later version of understudy: got schema 9999"):
            Store.open(store_url)

    def test_the_migrations_make_the_tables_as_they_are_declared(self, store: Store) -> None:
        from alembic.autogenerate import compare_metadata
        from alembic.runtime.migration import MigrationContext

        from service.jobs.tables import metadata

        with store.read() as connection:
            assert compare_metadata(MigrationContext.configure(connection), metadata) == []

    @pytest.mark.parametrize("url", ["mysql://x/y", "nonsense", "sqlite+x://", ""])
    def test_no_database_of_ours(self, url: str) -> None:
        with pytest.raises(BadInput, match="database cannot be used"):
            Store.open(url)

    def test_a_server_that_is_away_is_told_as_that(self) -> None:
        with pytest.raises(StoreUnavailable):
            Store.open("postgresql://nobody@127.0.0.1:9/none")

    def test_who_subscribes_hears_of_every_change(self, store: Store, submit: Submit) -> None:
        heard: list[None] = []

        def listener() -> None:
            heard.append(None)

        store.subscribe(listener)
        own = submit(store)
        store.want("t", own, "cancel", "me")
        store.unsubscribe(listener)
        store.resume_job("t", own, "me")
        assert len(heard) == 2

    def test_a_lease_has_one_holder(self, store: Store) -> None:
        assert store.acquire_lease("scheduler", "a", 0.0, 8.0)
        assert store.acquire_lease("scheduler", "a", 5.0, 8.0)
        assert not store.acquire_lease("scheduler", "b", 12.0, 8.0)
        assert store.acquire_lease("scheduler", "b", 14.0, 8.0)
        assert store.acquire_lease("scheduler", "c", 15.0, 8.0, lambda holder: holder == "b")
        store.release_lease("scheduler", "a")
        assert not store.acquire_lease("scheduler", "a", 16.0, 8.0)
        store.release_lease("scheduler", "c")
        assert store.acquire_lease("scheduler", "a", 16.0, 8.0)


def test_a_write_that_finds_no_room_loses_nothing(
    sqlite_store: Store, submit: Submit, tmp_path: Path
) -> None:
    first = submit(sqlite_store)
    with sqlite_store.engine.connect() as connection:
        pages = connection.execute(sa.text("PRAGMA page_count")).scalar_one()
        # SQLite's own word for a disk that is full from here on
        connection.execute(sa.text(f"PRAGMA max_page_count = {pages + 1}"))
        sqlite_store.engine.dispose()
    full = [False]

    def limit(connection: sa.engine.Connection) -> None:
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 1}")

    sa.event.listen(sqlite_store.engine, "begin", limit)
    try:
        for _ in range(200):
            submit(sqlite_store, spec={"text": "x" * 2000})
    except StoreUnavailable as error:
        full = ["full" in str(error)]
    sa.event.remove(sqlite_store.engine, "begin", limit)
    assert full == [True]
    before = sqlite_store.count_jobs()[State.QUEUED]
    assert sqlite_store.get_job("t", first) is not None
    sqlite_store.engine.dispose()
    submit(sqlite_store)
    assert sqlite_store.count_jobs()[State.QUEUED] == before + 1
