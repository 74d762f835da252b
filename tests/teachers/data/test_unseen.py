"""Which rows the teacher was not trained on: by number, by class, by split, by files."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from edge.errors import BadInput
from teachers.data.datasets import open_dataset, open_for
from teachers.data.unseen import Unseen, find_unseen
from teachers.formats.manifest import TeacherManifest
from tests.teachers.pictures import SMALL, fill, pixels, png


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Rows 0–3 are ants, 4–7 bees."""
    return fill(tmp_path / "data", {"ant": 4, "bee": 4})


@pytest.fixture
def split(tmp_path: Path) -> Path:
    """Rows 0–7 are for training, 8–11 for validation, 12–13 for test."""
    tree = {
        "train/ant": 4,
        "train/bee": 4,
        "val/ant": 2,
        "val/bee": 2,
        "test/ant": 1,
        "test/bee": 1,
    }
    return fill(tmp_path / "split", tree)


def unseen(data: Path, text: str | None, beside: Path | None = None) -> Unseen:
    return find_unseen(open_dataset(str(data)), text, open_dataset, beside=beside)


def rows(data: Path, text: str | None, beside: Path | None = None) -> list[int] | None:
    found = unseen(data, text, beside).rows
    return None if found is None else found.tolist()


def table_of(path: Path, seeds: list[int], labels: list[int]) -> Path:
    images = [{"bytes": png(seed), "path": None} for seed in seeds]
    pq.write_table(pa.table({"image": images, "label": pa.array(labels, pa.int64())}), path)
    return path


class TestWords:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("last 3", [5, 6, 7]),
            ("1 per class", [3, 7]),
            ("last 2 per class", [2, 3, 6, 7]),
            ("First 1 rows per class", [0, 4]),
            ("the last 50% of every class", [2, 3, 6, 7]),
            ("last 25%", [6, 7]),
            ("all", list(range(8))),
            ("none", None),
            (None, None),
        ],
    )
    def test_rows_of_the_training_table(
        self, text: str | None, expected: list[int] | None, root: Path
    ) -> None:
        assert rows(root, text) == expected

    def test_more_than_a_class_has_is_refused(self, root: Path) -> None:
        with pytest.raises(BadInput, match="too few rows.*class 0 with 4 training rows"):
            rows(root, "5 per class")

    @pytest.mark.parametrize("text", ["some", "validation", "nowhere/list.txt", "x" * 5000])
    def test_what_is_not_understood_is_refused_with_the_forms(self, text: str, root: Path) -> None:
        with pytest.raises(BadInput, match="'N per class'.*a folder, a Parquet file, or a text"):
            rows(root, text)


class TestSplits:
    def test_a_validation_split_serves_by_itself_and_that_is_told(self, split: Path) -> None:
        found = unseen(split, None)
        assert found.rows is not None
        assert found.rows.tolist() == [8, 9, 10, 11]
        (remark,) = found.table.remarks
        assert "validation split of split (4 rows)" in remark.text
        assert not remark.name

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("validation", [8, 9, 10, 11]),
            ("val", [8, 9, 10, 11]),
            ("test", [8, 9, 10, 11, 12, 13]),
            ("last 2", [6, 7, 8, 9, 10, 11]),  # of the training split
            ("1 per class", [3, 7, 8, 9, 10, 11]),
            ("all", list(range(12))),
            ("none", None),
        ],
    )
    def test_with_other_rows(self, text: str, expected: list[int] | None, split: Path) -> None:
        assert rows(split, text) == expected


class TestFolders:
    def test_within_the_data(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        fill(root, {"bee/later": 2}, start=50)
        # the path may start from the data's folder, or from where the command was given
        assert rows(root, "bee/later") == [8, 9]
        monkeypatch.chdir(root.parent)
        assert rows(Path("data"), "data/bee/later") == [8, 9]

    def test_beside_the_data_its_rows_join_them(self, split: Path, tmp_path: Path) -> None:
        more = fill(tmp_path / "more", {"Bee": 2, "Ant": 1}, start=70)
        found = unseen(split, str(more))
        assert found.rows is not None
        assert found.claimed
        # behind the validation split, before the test table
        assert found.rows.tolist() == [8, 9, 10, 11, 12, 13, 14]
        assert found.table.labels[12:15].tolist() == [0, 1, 1]
        assert len(found.table.labels) - found.table.train_rows == 2
        images = list(found.table.read(SMALL, 0))
        # "Ant" sorts before "Bee", which was filled first
        assert [np.array_equal(images[12 + i], pixels(70 + s)) for i, s in enumerate((2, 0, 1))]
        assert len(images) == 17
        for start in (3, 13, 16):
            rest = list(found.table.read(SMALL, start))
            assert all(np.array_equal(a, b) for a, b in zip(rest, images[start:], strict=True))

    def test_of_pictures_by_their_names(self, root: Path, tmp_path: Path) -> None:
        fill(root, {"bee/new": 1}, start=50)
        (root / "bee/new/000.png").rename(root / "bee/new/only.png")
        loose = fill(tmp_path, {"held": 1}) / "held"
        (loose / "000.png").rename(loose / "only.png")
        assert rows(root, str(loose)) == [8]

    def test_of_a_class_that_the_data_lack_is_refused(self, root: Path, tmp_path: Path) -> None:
        more = fill(tmp_path / "more", {"ant": 1, "cow": 1})
        with pytest.raises(BadInput, match="classes that the data lack: got 'cow'"):
            rows(root, str(more))

    def test_beside_the_teacher(self, root: Path, tmp_path: Path) -> None:
        fill(tmp_path / "teacher" / "held", {"ant": 1, "bee": 1}, start=30)
        assert rows(root, "held", beside=tmp_path / "teacher") == [8, 9]


class TestLists:
    @pytest.mark.parametrize(
        "lines",
        [
            ["ant/001.png", "bee/003.png"],
            ["./ant/001.png", "data/bee/003.png"],
            ["/home/somebody/data/ant/001.png", "/home/somebody/data/bee/003.png"],
            ["ant\\001.png", '"bee\\003.png"'],
            ["ant/001.png 0", "bee/003.png 1"],
            ["ant/001.png,ant", "bee/003.png,bee"],
            ["# held out", "ant/001.png", "bee/003.png", "ant/.DS_Store"],
            ["1", "7"],
        ],
    )
    def test_a_path_or_a_number_a_line(self, lines: list[str], root: Path, tmp_path: Path) -> None:
        path = tmp_path / "held.txt"
        path.write_text("\ufeff" + "\r\n".join(lines) + "\n", encoding="utf-8")
        assert rows(root, str(path)) == [1, 7]

    def test_as_json_and_as_csv_with_a_header(self, root: Path, tmp_path: Path) -> None:
        (tmp_path / "held.json").write_text(json.dumps(["ant/001.png", "bee"]))
        assert rows(root, str(tmp_path / "held.json")) == [1, 4, 5, 6, 7]
        (tmp_path / "held.csv").write_text("path,label\nant/001.png,0\n")
        assert rows(root, str(tmp_path / "held.csv")) == [1]

    def test_names_in_another_unicode_form(self, tmp_path: Path) -> None:
        root = fill(tmp_path / "data", {unicodedata.normalize("NFD", "été"): 2, "hiver": 2})
        (tmp_path / "held.txt").write_text("été/001.png\n", encoding="utf-8")
        assert rows(root, str(tmp_path / "held.txt")) == [1]

    @pytest.mark.parametrize(
        ("lines", "message"),
        [
            ("ant/001.png\nant/009.png", r"1 of 2 lines.*ant/009\.png"),
            ("001.png", "several pictures"),
            ("8", "row 8.*expected 0 to 7"),
            ("", "not in the data"),
        ],
    )
    def test_lines_that_name_no_row_are_refused(
        self, lines: str, message: str, root: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "held.txt").write_text(lines)
        with pytest.raises(BadInput, match=message):
            rows(root, str(tmp_path / "held.txt"))

    def test_a_file_of_another_kind_is_refused(self, root: Path, tmp_path: Path) -> None:
        (tmp_path / "held.npy").write_bytes(b"\x93NUMPY")
        with pytest.raises(BadInput, match="one path a line"):
            rows(root, str(tmp_path / "held.npy"))


class TestParquet:
    def test_a_shard_of_the_data(self, tmp_path: Path) -> None:
        for shard in range(2):
            table_of(tmp_path / f"train-0000{shard}-of-00002.parquet", [shard, 9 + shard], [0, 1])
        assert rows(tmp_path, "train-00001-of-00002.parquet") == [2, 3]

    def test_a_table_beside_the_data_joins_them(self, tmp_path: Path) -> None:
        (tmp_path / "data").mkdir()
        table_of(tmp_path / "data" / "train.parquet", [0, 1, 2], [0, 1, 0])
        held = table_of(tmp_path / "held.parquet", [3, 4], [1, 0])
        found = unseen(tmp_path / "data", str(held))
        assert found.rows is not None
        assert found.rows.tolist() == [3, 4]
        assert found.table.labels.tolist() == [0, 1, 0, 1, 0]


def manifest(unseen: str | None, names: tuple[str, ...] = ("ant", "bee")) -> TeacherManifest:
    return TeacherManifest("x", SMALL, names, unseen)


def test_the_command_line_overrides_the_teachers_json(root: Path) -> None:
    found = open_for(str(root), manifest("last 1000"), unseen="1 per class")
    assert found.rows is not None
    assert found.rows.tolist() == [3, 7]


def test_the_last_rows_of_a_folder_are_of_the_last_class_and_are_refused(tmp_path: Path) -> None:
    root = fill(tmp_path, {"ant": 20, "bee": 20, "cow": 20})
    names = ("ant", "bee", "cow")
    with pytest.raises(BadInput, match="rows of 'cow', none of 'ant', 'bee'.*class by class"):
        open_for(str(root), manifest("last 15", names))
    with pytest.raises(BadInput, match="lack most classes"):
        open_for(str(root), manifest("cow", names))
    open_for(str(root), manifest("5 per class", names))


def test_a_few_rows_may_lack_a_class_by_chance(root: Path) -> None:
    # 2 of 8 rows, both bees: chance does that to every second such pair
    open_for(str(root), manifest("last 2"))
