"""Folders of pictures as they are unzipped, and what computers leave in them."""

from __future__ import annotations

import os
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge.errors import BadInput
from edge.preprocess import Preprocess
from teachers.data.datasets import load_dataset, open_dataset
from teachers.data.source import Table
from tests.teachers.pictures import SMALL, fill, pixels, png


def opened(root: Path) -> Table:
    """The table, once every row of it has been decoded."""
    table = open_dataset(str(root))
    assert sum(1 for _ in table.read(SMALL, 0)) == len(table.labels)
    return table


def sizes(table: Table) -> tuple[int, int, int]:
    """Rows of the training, validation and test split."""
    return table.own_rows, table.validation_rows, len(table.labels) - table.train_rows


def told(table: Table) -> str:
    return "\n".join(remark.text for remark in table.remarks)


class TestSplits:
    """Splits are never taken for classes, whatever they are called and wherever they stand."""

    @pytest.mark.parametrize(
        ("train", "validation", "test"),
        [
            ("Train", "Val", "Test"),
            ("training", "valid", "testing"),
            ("TRAIN", "Validation", "eval"),
            ("train_set", "val_set", "test_set"),
            ("seg_train/seg_train", "seg_dev/seg_dev", "seg_test/seg_test"),
            ("archive/data/train", "archive/data/val", "archive/data/test"),
        ],
    )
    def test_above_the_classes(
        self, train: str, validation: str, test: str, tmp_path: Path
    ) -> None:
        # as many splits as classes, so that a count of classes would not tell
        for split, count in ((train, 5), (validation, 2), (test, 3)):
            fill(tmp_path / split, {"ant": count, "bee": count, "cow": count}, start=count * 100)
        table = opened(tmp_path)
        assert table.class_names == ("ant", "bee", "cow")
        assert sizes(table) == (15, 6, 9)
        assert table.labels[:15].tolist() == [0] * 5 + [1] * 5 + [2] * 5
        assert not table.remarks

    def test_below_the_classes(self, tmp_path: Path) -> None:
        fill(tmp_path, {"ant/Train": 4, "ant/Test": 2, "bee/Train": 3, "bee/Test": 1})
        table = opened(tmp_path)
        assert table.class_names == ("ant", "bee")
        assert sizes(table) == (7, 0, 3)

    def test_training_and_validation_alone(self, tmp_path: Path) -> None:
        fill(tmp_path, {"train/ant": 4, "train/bee": 4, "valid/ant": 2, "valid/bee": 2})
        assert sizes(opened(tmp_path)) == (8, 4, 0)

    def test_a_class_may_be_called_train(self, tmp_path: Path) -> None:
        fill(tmp_path, {"bus": 2, "car": 2, "train": 2})
        assert opened(tmp_path).class_names == ("bus", "car", "train")

    def test_a_class_called_train_may_have_folders_of_its_own(self, tmp_path: Path) -> None:
        fill(tmp_path, {"bus": 2, "car": 2, "train/steam": 2, "train/diesel": 2})
        assert opened(tmp_path).class_names == ("bus", "car", "train")

    def test_a_test_split_without_class_folders_has_no_labels(self, tmp_path: Path) -> None:
        fill(tmp_path, {"train/ant": 3, "train/bee": 3, "test": 5})
        table = opened(tmp_path)
        assert sizes(table) == (6, 0, 0)
        assert "left out" in told(table)
        assert "test (splits without class folders, so without labels)" in told(table)

    def test_splits_without_any_class_folder_are_refused(self, tmp_path: Path) -> None:
        # "cat.1.jpg": labels in the names of files
        fill(tmp_path, {"train": 3, "test": 3})
        with pytest.raises(BadInput, match="no class folders: got test, train with pictures"):
            open_dataset(str(tmp_path))

    def test_two_training_splits_are_refused(self, tmp_path: Path) -> None:
        fill(tmp_path, {"train/ant": 1, "train/bee": 1, "Training/ant": 1, "Training/bee": 1})
        with pytest.raises(BadInput, match="two folders are the train split: got Training, train"):
            open_dataset(str(tmp_path))

    def test_the_plain_name_wins_and_the_other_is_told(self, tmp_path: Path) -> None:
        fill(tmp_path, {"train/ant": 2, "train/bee": 2, "train_extra/ant": 1, "train_extra/bee": 1})
        table = opened(tmp_path)
        assert sizes(table) == (4, 0, 0)
        assert "train_extra (folders that are no split)" in told(table)

    def test_classes_of_a_split_may_be_spelled_otherwise(self, tmp_path: Path) -> None:
        fill(tmp_path, {"train/Ant": 2, "train/Été": 2, "test/ant": 1})
        fill(tmp_path, {f"test/{unicodedata.normalize('NFD', 'été')}": 1}, start=50)
        table = opened(tmp_path)
        assert table.labels.tolist() == [0, 0, 1, 1, 0, 1]


class TestLeavings:
    """What computers leave among pictures is no row, and is told in one line."""

    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        return fill(tmp_path / "data", {"ant": 3, "bee": 3})

    @pytest.mark.parametrize(
        "name",
        [
            "ant/.ipynb_checkpoints/000-checkpoint.png",
            "ant/.Trash-1000/files/000.png",
            "ant/._000.png",
            ".git/objects/logo.png",
            "__MACOSX/ant/._000.png",
            "ant/@eaDir/000.png/SYNOPHOTO_THUMB_M.png",
            "ant/#recycle/000.png",
            "ant/$RECYCLE.BIN/000.png",
            "System Volume Information/x.png",
            "bee/old.png/000.png",
            "bee/deep/.cache/000.png",
            "bee/Thumbs.db",
            "bee/Desktop.ini",
            "ant/.DS_Store",
            "bee/notes.txt",
            "bee/labels.xml",
            "index.html",
        ],
    )
    def test_it_is_left_out_and_told(self, name: str, root: Path) -> None:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        # a picture of the other class, or no picture at all
        path.write_bytes(b"\0\5\x16\7" if path.name.startswith("._") else png(999))
        table = opened(root)
        assert table.class_names == ("ant", "bee")
        assert np.bincount(table.labels).tolist() == [3, 3]
        (remark,) = table.remarks
        assert remark.text.startswith("left out of data: ")
        assert not remark.name
        assert "\n" not in remark.text

    def test_one_line_tells_of_all_with_reasons(self, root: Path) -> None:
        for name in ("ant/.a.png", "ant/.b.png", "bee/c.txt"):
            (root / name).write_bytes(png(0))
        (root / "bee" / "old.png").mkdir()
        assert told(opened(root)) == (
            "left out of data: 2 hidden or system entries (ant/.a.png, …); bee/c.txt (files that "
            "are no pictures); bee/old.png (folders named like pictures)"
        )

    def test_nothing_left_out_nothing_told(self, root: Path) -> None:
        assert not opened(root).remarks

    def test_a_hidden_folder_above_the_data_hides_nothing(self, tmp_path: Path) -> None:
        root = fill(tmp_path / ".cache" / "data", {"ant": 2, "bee": 2})
        assert sizes(opened(root)) == (4, 0, 0)

    def test_what_looks_like_a_picture_and_is_none_is_still_refused(self, root: Path) -> None:
        (root / "ant" / "001.png").write_bytes(b"no picture")
        with pytest.raises(BadInput, match=r"ant/001\.png"):
            opened(root)


class TestFormats:
    """Every format that is decoded here is found, by its suffix or without one."""

    @pytest.mark.parametrize(
        "suffix",
        [
            ".jpg", ".JPEG", ".jfif", ".jpe", ".png", ".ppm", ".pgm", ".pnm", ".bmp", ".dib",
            ".gif", ".tif", ".TIFF", ".webp", ".jp2", ".tga", ".pcx", ".sgi", ".qoi",
        ],
    )  # fmt: skip
    def test_by_its_suffix(self, suffix: str, tmp_path: Path) -> None:
        fill(tmp_path, {"ant": 1, "bee": 1})
        image = Image.fromarray(pixels(7))
        image = image.convert("L") if suffix == ".pgm" else image
        image.save(tmp_path / "bee" / f"other{suffix}")
        assert np.bincount(opened(tmp_path).labels).tolist() == [1, 2]

    @pytest.mark.parametrize("name", ["JPEG", "PNG", "PPM", "BMP", "GIF", "TIFF", "WEBP"])
    def test_without_a_suffix_by_its_first_bytes(self, name: str, tmp_path: Path) -> None:
        fill(tmp_path, {"ant": 1, "bee": 1})
        with (tmp_path / "bee" / "img_0001").open("wb") as file:
            Image.fromarray(pixels(7)).save(file, name)
        assert np.bincount(opened(tmp_path).labels).tolist() == [1, 2]

    @pytest.mark.parametrize("text", ["", "BM stands for bitmap", "P2P networks\n", "GIF89a"])
    def test_a_text_without_a_suffix_is_no_picture(self, text: str, tmp_path: Path) -> None:
        fill(tmp_path, {"ant": 1, "bee": 1})
        (tmp_path / "bee" / "README").write_text(text)
        table = opened(tmp_path)
        assert len(table.labels) == 2
        assert "bee/README (files that are no pictures)" in told(table)


class TestLinks:
    def test_linked_folders_and_files_are_followed(self, tmp_path: Path) -> None:
        fill(tmp_path / "elsewhere", {"wasp": 2, "more": 3})
        root = fill(tmp_path / "data", {"ant": 1})
        (root / "bee").symlink_to(tmp_path / "elsewhere" / "wasp")
        (root / "ant" / "more").symlink_to(tmp_path / "elsewhere" / "more")
        (root / "ant" / "one.png").symlink_to(tmp_path / "elsewhere" / "wasp" / "000.png")
        table = opened(root)
        assert table.class_names == ("ant", "bee")
        assert np.bincount(table.labels).tolist() == [5, 2]

    @pytest.mark.parametrize("target", [".", "..", "../ant", "../.."])
    def test_circles_end(self, target: str, tmp_path: Path) -> None:
        root = fill(tmp_path / "data", {"ant": 2, "bee": 2})
        (root / "ant" / "loop").symlink_to(target)
        table = opened(root)
        assert np.bincount(table.labels).tolist() == [2, 2]
        assert "ant/loop (links that lead nowhere or in circles)" in told(table)

    def test_a_link_that_leads_nowhere_is_told(self, tmp_path: Path) -> None:
        root = fill(tmp_path, {"ant": 2, "bee": 2})
        (root / "ant" / "gone.png").symlink_to(tmp_path / "nowhere.png")
        table = opened(root)
        assert sizes(table) == (4, 0, 0)
        assert "ant/gone.png (links that lead nowhere" in told(table)


def test_rows_stand_in_the_same_order_as_ever(tmp_path: Path) -> None:
    """A file before the folder that sorts behind it: runs that began earlier go on."""
    fill(tmp_path, {"ant/b": 1, "ant": 1, "bee": 1})
    shutil.move(tmp_path / "ant" / "000.png", tmp_path / "ant" / "a.png")
    (tmp_path / "ant" / "c.png").write_bytes(png(90))
    names = [path.relative_to(tmp_path).as_posix() for path in opened(tmp_path).files]
    assert names == ["ant/a.png", "ant/b/000.png", "ant/c.png", "bee/000.png"]


class TestDigits:
    """A word that is a data set, and a folder of that name."""

    @pytest.fixture(autouse=True)
    def _beside(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)

    def test_a_folder_of_data_beside_it_is_asked_for(self) -> None:
        fill(Path("digits"), {"0": 1, "1": 1})
        with pytest.raises(BadInput, match=r"two data sets.*'\./digits' for the folder"):
            open_dataset("digits")
        assert len(open_dataset("./digits").labels) == 2
        assert len(open_dataset("sklearn.digits").labels) == 1797

    def test_an_empty_folder_or_a_run_of_that_name_is_no_data(self, grey8: Preprocess) -> None:
        Path("digits").mkdir()
        assert len(load_dataset("digits", grey8).labels) == 1797
        fill(Path("digits"), {"samples": 1})
        Path("digits/job.yaml").write_text("")
        assert len(open_dataset("digits").labels) == 1797


def test_a_folder_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    fill(tmp_path, {"ant": 2, "bee": 2, "bee/closed": 1})
    closed = tmp_path / "bee" / "closed"
    closed.chmod(0)
    try:
        if os.access(closed, os.R_OK):
            pytest.skip("root reads everything")
        assert "closed (folders that cannot be read)" in told(open_dataset(str(tmp_path)))
    finally:
        closed.chmod(0o700)
