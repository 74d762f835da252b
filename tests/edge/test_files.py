"""Files and folders that are there whole or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge.errors import BadInput
from edge.files import new_folder, write_array, write_asked, write_bytes


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_written_into_folders_that_are_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "x.bin"
    write_bytes(path, b"one")
    write_bytes(path, b"two")
    assert path.read_bytes() == b"two"
    assert names(path.parent) == ["x.bin"]
    write_array(tmp_path / "x.npy", np.arange(3))
    assert np.load(tmp_path / "x.npy").tolist() == [0, 1, 2]


def test_what_stood_there_stays_where_writing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.bin"
    write_bytes(path, b"before")

    def full(self: Path, content: bytes) -> int:
        self.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        write_bytes(path, b"after")
    with pytest.raises(BadInput, match="the page cannot be written: .*another --page .No space"):
        write_asked(path, b"after", "the page", "--page")
    assert path.read_bytes() == b"before"
    assert names(tmp_path) == ["x.bin"]


def test_a_folder_is_there_when_it_is_filled(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "new"
    with new_folder(folder) as draft:
        (draft / "x").write_bytes(b"1")
        assert not folder.exists()
    assert names(folder) == ["x"]
    assert names(folder.parent) == ["new"]


def test_nothing_of_a_folder_is_left_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), new_folder(tmp_path / "new") as draft:  # noqa: PT012
        (draft / "x").write_bytes(b"1")
        raise KeyboardInterrupt
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "theirs").touch()
    with pytest.raises(OSError), new_folder(tmp_path / "taken") as draft:
        (draft / "x").write_bytes(b"1")
    assert names(tmp_path) == ["taken"]
    assert names(tmp_path / "taken") == ["theirs"]
