"""An array that is written by rows: whole or not there, and gone on with after a stop."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.errors import BadInput
from teachers.data.row_file import RowFile, check_room, read_map

ROWS = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


def _written(path: Path, rows: NDArray[np.float32]) -> None:
    """A draft with so many rows, left by somebody who was stopped."""
    with RowFile(path, (2, 3), np.float32) as file:
        file.append(rows)


def test_it_has_its_name_once_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "answers.npy"
    with RowFile(path, (2, 3), np.float32) as file:
        file.append(ROWS.reshape(6, 4)[:5])
        with pytest.raises(ValueError, match="5 of 6 rows"):
            file.finish()
        assert not path.exists()
        file.append(ROWS.reshape(6, 4)[5:])
        file.finish()
    assert [found.name for found in path.parent.iterdir()] == ["answers.npy"]
    np.testing.assert_array_equal(read_map(path), ROWS)
    with pytest.raises(ValueError, match="read-only"):
        read_map(path)[0] = 0


@pytest.mark.parametrize("back_to", [4, 2, 0])
def test_who_was_stopped_goes_on(back_to: int, tmp_path: Path) -> None:
    path = tmp_path / "answers.npy"
    _written(path, np.full((4, 4), 7, np.float32))
    with (tmp_path / ".answers.npy.part").open("ab") as draft:
        draft.write(b"half a row")
    with RowFile(path, (2, 3), np.float32) as file:
        assert file.rows == 4
        file.go_on_after(back_to)
        file.append(ROWS.reshape(6, 4)[back_to:])
        file.finish()
    expected = ROWS.reshape(6, 4).copy()
    expected[:back_to] = 7
    np.testing.assert_array_equal(read_map(path).reshape(6, 4), expected)


@pytest.mark.parametrize("draft", [b"", b"\x93NUMPY\x01\x00", b"something else entirely"])
def test_a_damaged_draft_counts_for_nothing(draft: bytes, tmp_path: Path) -> None:
    path = tmp_path / "answers.npy"
    (tmp_path / ".answers.npy.part").write_bytes(draft)
    with RowFile(path, (2, 3), np.float32) as file:
        assert file.rows == 0
        file.append(ROWS.reshape(6, 4))
        file.finish()
    np.testing.assert_array_equal(read_map(path), ROWS)


def test_a_draft_of_other_rows_counts_for_nothing(tmp_path: Path) -> None:
    path = tmp_path / "answers.npy"
    _written(path, ROWS.reshape(6, 4))
    assert RowFile(path, (3, 2), np.float32).rows == 0
    assert RowFile(path, (2, 3), np.uint8).rows == 0
    # as many rows as before, but wider ones
    with RowFile(path, (2, 3), np.float32) as file:
        file.go_on_after(0)
        file.append(np.ones((6, 5), np.float32))
        file.finish()
    assert read_map(path).shape == (2, 3, 5)


def test_what_has_no_room_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=70 * 1024**2))
    folder = tmp_path / "not" / "yet"
    # 64 MiB are spared for others, so 6 MiB are left of 70
    check_room(folder, 6 * 1024**2, "images")
    with pytest.raises(BadInput, match=r"no room for images.*73,400,320 bytes that are free"):
        check_room(folder, 6 * 1024**2 + 1, "images")
    assert not (tmp_path / "not").exists()


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    with (
        RowFile(Path("/dev/full/answers.npy"), (1,), np.uint8) as file,
        pytest.raises(BadInput, match="room on the disk"),
    ):
        file.append(np.zeros((1, 4), np.uint8))
