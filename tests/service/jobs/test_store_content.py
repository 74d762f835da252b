"""Teachers, data sets and uploads in the store, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from service.jobs.model import Conflict, Limits, QuotaExceeded, Teacher
from service.jobs.store import ContentFilters, Store

A, B = "a" * 64, "b" * 64


def teacher(store: Store, tenant: str = "t", sha256: str = A, **values: object) -> Teacher:
    known = {"name": "net", "bytes": 10, "files": [{"name": "model.onnx"}], "created_by": "key_1"}
    return store.create_teacher(tenant=tenant, sha256=sha256, **(known | values))  # type: ignore[arg-type]


class TestTeachersAndDatasets:
    def test_come_back_as_they_were_put(self, store: Store) -> None:
        made = teacher(store)
        data = store.create_dataset(
            tenant="t", name="rows", sha256=B, bytes=5, format="parquet", created_by="key_1",
            facts={"rows": 3},
        )  # fmt: skip
        assert store.get_teacher("t", made.id) == made
        assert store.get_dataset("t", data.id) == data
        assert {one.id for one in store.unchecked()} == {made.id, data.id}
        assert store.digests() == {A, B}

    def test_are_their_tenants_own(self, store: Store) -> None:
        made = teacher(store)
        assert store.get_teacher("other", made.id) is None
        assert store.find_teacher("other", A) is None
        assert store.list_teachers("other").items == []
        assert not store.delete_teacher("other", made.id)

    def test_the_same_content_is_found_again_unless_it_was_refused(self, store: Store) -> None:
        made = teacher(store)
        found = store.find_teacher("t", A)
        assert found is not None
        assert found.id == made.id
        store.set_teacher(made.id, state="refused", problem={"problem": "no"})
        assert store.find_teacher("t", A) is None

    def test_lists_are_filtered_and_sorted(self, store: Store) -> None:
        small, large = teacher(store, name="small"), teacher(store, name="Large", bytes=99)
        store.set_teacher(small.id, state="ready", inspection={"layers": 2})
        assert [one.name for one in store.list_teachers("t", sort="bytes").items] == [
            "small", "Large",
        ]  # fmt: skip
        ready = store.list_teachers("t", ContentFilters(state="ready")).items
        assert [one.inspection for one in ready] == [{"layers": 2}]
        named = store.list_teachers("t", ContentFilters(name="lar")).items
        assert [one.id for one in named] == [large.id]

    def test_stay_while_a_job_names_them(self, store: Store, submit: Callable[..., str]) -> None:
        made = teacher(store)
        job = submit(store, teacher_id=made.id)
        with pytest.raises(Conflict, match="1 job name"):
            store.delete_teacher("t", made.id)
        store.want("t", job, "delete", "me")
        assert store.delete_teacher("t", made.id)
        assert store.digests() == set()


class TestUploads:
    def test_bytes_are_counted_once_by_one_request(self, store: Store) -> None:
        made = store.create_upload(
            tenant="t", kind="teacher", name="net.onnx", bytes=10, created_by="key_1"
        )
        assert store.advance_upload(made.id, 0, 6)
        assert not store.advance_upload(made.id, 0, 4)  # another request of the same part
        found = store.get_upload("t", made.id)
        assert found is not None
        assert found.received == 6
        assert store.get_upload("other", made.id) is None

    def test_a_key_keeps_no_more_bytes_than_it_may(self, store: Store) -> None:
        teacher(store, bytes=60)
        limits = Limits(bytes=100)
        values = {"tenant": "t", "kind": "dataset", "name": "d", "limits": limits}
        store.create_upload(bytes=40, created_by="key_1", **values)  # type: ignore[arg-type]
        with pytest.raises(QuotaExceeded) as error:
            store.create_upload(bytes=1, created_by="key_1", **values)  # type: ignore[arg-type]
        assert (error.value.what, error.value.value) == ("bytes", 101)
        store.create_upload(bytes=100, created_by="key_2", **values)  # type: ignore[arg-type]
        assert store.used_bytes("t") == 200
        assert store.used_bytes("t", "key_1") == 100

    def test_those_that_nobody_goes_on_with_expire(self, store: Store) -> None:
        made = store.create_upload(
            tenant="t", kind="teacher", name="n", bytes=1, created_by="k", seconds=10.0, now=100.0
        )
        assert store.expired_uploads(109.0) == []
        assert [one.id for one in store.expired_uploads(111.0)] == [made.id]
        store.delete_upload(made.id)
        assert store.list_uploads("t") == []
