"""Files of the service: what is put there is whole, and only what is ours is removed."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest

from edge.errors import BadInput
from service.jobs import content
from service.jobs.content import Content, digest_of, file_digest
from service.jobs.model import Job, State


def job(number: int = 1, folder: str | None = None) -> Job:
    return Job(
        id=f"job_{number}", tenant="t", name="n", kind="null", state=State.DONE, spec={},
        created_at=0.0, created_by="local", updated_at=0.0, folder=folder or f"jobs/job_{number}",
    )  # fmt: skip


def put(store: Content, text: str) -> str:
    with store.adding(), store.draft() as draft:
        (draft / "model.onnx").write_text(text)
        digest = digest_of([("model.onnx", file_digest(draft / "model.onnx"))])
        store.put(draft, digest)
    return digest


class TestContent:
    def test_is_found_by_its_digest_and_put_once(self, tmp_path: Path) -> None:
        store = Content(tmp_path)
        digest = put(store, "weights")
        inode = store.teacher(digest).stat().st_ino
        assert put(store, "weights") == digest
        assert store.teacher(digest).stat().st_ino == inode
        assert list(store.drafts.iterdir()) == []
        assert put(store, "other") != digest

    def test_the_digest_is_of_names_too(self) -> None:
        assert digest_of([("a", "1"), ("b", "2")]) == digest_of([("b", "2"), ("a", "1")])
        assert digest_of([("a", "1"), ("b", "2")]) != digest_of([("a", "2"), ("b", "1")])

    @pytest.mark.parametrize("digest", ["..", "../../etc", "A" * 64, "", "a" * 63])
    def test_no_path_is_made_of_anything_else(self, tmp_path: Path, digest: str) -> None:
        with pytest.raises(BadInput, match="no digest"):
            Content(tmp_path).path(digest)

    def test_what_is_named_or_new_stays(self, tmp_path: Path) -> None:
        store = Content(tmp_path)
        used, old, new = (put(store, text) for text in ("used", "old", "new"))
        (store.root / "notes").mkdir()  # not ours
        for digest in (used, old):
            os.utime(store.path(digest), (1.0, 1.0))
        assert store.remove_unused(lambda: [used]) == [old]
        assert [store.has(digest) for digest in (used, old, new)] == [True, False, True]
        assert (store.root / "notes").is_dir()

    def test_nothing_is_removed_while_something_is_added(self, tmp_path: Path) -> None:
        """Between an upload's look whether content is there and the row that names it."""
        import threading

        store = Content(tmp_path)
        digest = put(store, "weights")
        os.utime(store.path(digest), (1.0, 1.0))
        needed: set[str] = set()
        cleaner = threading.Thread(target=lambda: store.remove_unused(lambda: needed))
        with store.adding():
            cleaner.start()
            time.sleep(0.1)
            assert store.has(digest)
            needed.add(digest)
        cleaner.join()
        assert store.has(digest)

    def test_a_full_disk_leaves_nothing_half_written(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = Content(tmp_path)

        def full(path: Path, target: Path) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(Path, "rename", full)
        with pytest.raises(OSError, match="No space left"):
            put(store, "weights")
        monkeypatch.undo()
        assert [path for path in store.root.rglob("*") if path.name == "model.onnx"] == []
        assert list(store.drafts.iterdir()) == []
        assert store.has(put(store, "weights"))


class TestJobFolders:
    def test_a_folder_that_we_made_goes_with_all_that_is_in_it(self, tmp_path: Path) -> None:
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        (elsewhere / "kept").touch()
        place = content.make_job_folder(tmp_path, job())
        (place / "run").mkdir()
        (place / "run" / "result.json").touch()
        (place / "link").symlink_to(elsewhere)
        assert content.make_job_folder(tmp_path, job()) == place
        assert content.remove_job_folder(tmp_path, job())
        assert list((tmp_path / "jobs").iterdir()) == []
        assert (elsewhere / "kept").exists()

    def test_one_that_we_did_not_make_stays(self, tmp_path: Path) -> None:
        place = tmp_path / "jobs" / "job_1"
        place.mkdir(parents=True)
        (place / "thesis.tex").touch()
        with pytest.raises(BadInput, match="something lies where"):
            content.make_job_folder(tmp_path, job())
        assert not content.remove_job_folder(tmp_path, job())
        assert (place / "thesis.tex").exists()

    def test_a_link_in_its_place_is_not_followed(self, tmp_path: Path) -> None:
        real = content.make_job_folder(tmp_path, job(1))
        (tmp_path / "jobs" / "job_2").symlink_to(real)
        assert not content.remove_job_folder(tmp_path, job(2))
        assert real.is_dir()

    @pytest.mark.parametrize("folder", ["../job_1", "jobs/job_2", "/etc", "jobs/job_1/../job_2"])
    def test_a_row_that_names_another_place_is_not_believed(
        self, tmp_path: Path, folder: str
    ) -> None:
        with pytest.raises(BadInput, match="no folder of the job"):
            content.remove_job_folder(tmp_path, job(1, folder))

    def test_a_removal_that_was_cut_short_is_finished(self, tmp_path: Path) -> None:
        gone = tmp_path / "jobs" / ".gone-job_1"
        gone.mkdir(parents=True)
        (gone / "half").touch()
        content.clear_removed(tmp_path)
        assert not gone.exists()
