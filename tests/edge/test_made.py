"""What is taken back is what this process made, whatever else lies beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge import made


def put(path: Path, text: str = "ours") -> Path:
    """A file of this process's own, with its folders."""
    made.make_folder(path.parent)
    path.write_text(text)
    made.note(path)
    return path


def test_files_and_folders_go_and_the_folders_above_that_were_made_for_them(tmp_path: Path) -> None:
    put(tmp_path / "runs" / "mine" / "cache" / "a.npy")
    put(tmp_path / "runs" / "mine" / "job.yaml")
    made.take_back(tmp_path / "runs" / "mine")
    assert list(tmp_path.iterdir()) == []


def test_what_others_put_there_stays_and_so_do_its_folders(tmp_path: Path) -> None:
    own = put(tmp_path / "run" / "cache" / "a.npy")
    note = tmp_path / "run" / "cache" / "deep" / "note.txt"
    note.parent.mkdir()
    note.write_text("theirs")
    made.take_back(tmp_path / "run")
    assert not own.exists()
    assert note.read_text() == "theirs"


@pytest.mark.parametrize("way", ["renamed over", "made anew", "a link", "a folder"])
def test_what_took_the_place_of_ours_is_not_ours(way: str, tmp_path: Path) -> None:
    own = put(tmp_path / "run" / "job.yaml")
    theirs = tmp_path / "theirs"
    theirs.write_text("theirs")
    if way == "renamed over":
        theirs.rename(own)
    else:
        own.unlink()  # so that whatever comes may be given its inode
        if way == "made anew":
            own.write_text("mine")
        elif way == "a link":
            own.symlink_to(theirs)
        else:
            own.mkdir()
            (own / "inside").write_text("theirs")
    assert not made.is_own(own)
    made.take_back(tmp_path / "run")
    assert own.exists()


def test_what_somebody_has_edited_is_theirs_and_what_we_go_on_writing_is_ours(
    tmp_path: Path,
) -> None:
    edited, grown = put(tmp_path / "run" / "job.yaml"), tmp_path / "run" / "ledger"
    grown.write_text("a line")
    made.note(grown, grows=True)
    for path in (edited, grown):
        with path.open("a") as file:
            file.write(", and another one")
    made.take_back(tmp_path / "run")
    assert list((tmp_path / "run").iterdir()) == [edited]


def test_a_link_to_elsewhere_is_removed_and_not_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "image.png").write_text("theirs")
    made.make_folder(tmp_path / "run")
    (tmp_path / "run" / "data").symlink_to(tmp_path / "data")
    made.note(tmp_path / "run" / "data")
    made.take_back(tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert (tmp_path / "data" / "image.png").exists()


def test_neighbours_are_no_business_of_ours(tmp_path: Path) -> None:
    other = put(tmp_path / "run-2" / "job.yaml")
    put(tmp_path / "run" / "job.yaml")
    made.take_back(tmp_path / "run")
    assert other.exists()
    made.take_back(other.parent)


def test_a_folder_that_was_there_is_never_ours(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    put(tmp_path / "there" / "job.yaml")
    made.take_back(tmp_path / "there")
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
    assert list((tmp_path / "there").iterdir()) == []


def test_what_moved_is_still_ours_under_its_new_name(tmp_path: Path) -> None:
    put(tmp_path / "draft" / "cache" / "a.npy")
    (tmp_path / "draft").rename(tmp_path / "run")
    made.moved(tmp_path / "draft", tmp_path / "run")
    (tmp_path / "draft").mkdir()  # somebody else's, under the old name
    made.take_back(tmp_path / "draft")
    assert (tmp_path / "draft").is_dir()
    made.take_back(tmp_path / "run")
    assert not (tmp_path / "run").exists()
