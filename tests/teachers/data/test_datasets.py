from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image

from edge.errors import BadInput
from edge.preprocess import Preprocess
from teachers.data.datasets import DATASETS, check_dataset, load_dataset, open_dataset
from teachers.data.source import Table

SMALL = Preprocess(channels=3, height=4, width=5, mean=(0.5,) * 3, std=(0.25,) * 3)
Pixels = NDArray[np.uint8]


def _pixels(rows: int, seed: int = 0) -> Pixels:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, size=(rows, 4, 5, 3), dtype=np.uint8)


def _png(pixels: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _write_parquet(
    path: Path,
    pixels: Pixels,
    labels: list[int],
    *,
    column: str = "image",
    names: list[str] | None = None,
) -> None:
    images = [{"bytes": _png(image), "path": f"{row}.png"} for row, image in enumerate(pixels)]
    table = pa.table({column: images, "label": pa.array(labels, pa.int64())})
    if names is not None:
        info = {"info": {"features": {"label": {"_type": "ClassLabel", "names": names}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=3)


def _write_folder(root: Path, pixels: Pixels, labels: list[int], names: list[str]) -> None:
    for row, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        folder = root / names[label]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{row:03}.png").write_bytes(_png(image))


@dataclass(frozen=True)
class Example:
    """A source of each kind, and what it holds."""

    source: str
    preprocess: Preprocess
    classes: int
    rows: int
    train_rows: int


def _digits(folder: Path) -> Example:
    grey = Preprocess(channels=1, height=8, width=8, mean=(0.5,), std=(0.5,))
    return Example("digits", grey, 10, 1797, 1797)


def _parquet(folder: Path) -> Example:
    _write_parquet(folder / "train.parquet", _pixels(7), [0, 1, 2, 0, 1, 2, 0])
    _write_parquet(folder / "test.parquet", _pixels(3, seed=1), [2, 1, 0])
    return Example(str(folder), SMALL, 3, 10, 7)


def _folder(folder: Path) -> Example:
    _write_folder(folder / "train", _pixels(7), [0, 0, 1, 1, 1, 2, 2], ["ant", "bee", "cow"])
    _write_folder(folder / "test", _pixels(2, seed=1), [0, 2], ["ant", "bee", "cow"])
    return Example(str(folder), SMALL, 3, 9, 7)


EXAMPLES: dict[str, Callable[[Path], Example]] = {
    "digits": _digits,
    "parquet": _parquet,
    "image-folder": _folder,
}


def test_every_member_has_an_example() -> None:
    assert list(EXAMPLES) == list(DATASETS)


@pytest.mark.parametrize("kind", DATASETS)
class TestEverySource:
    """The contract of a member of the registry."""

    def test_is_accepted_by_its_member_first(self, kind: str, tmp_path: Path) -> None:
        source = EXAMPLES[kind](tmp_path).source
        assert next(name for name, m in DATASETS.items() if m.accepts(source)) == kind

    def test_passes_its_own_check(self, kind: str, tmp_path: Path) -> None:
        example = EXAMPLES[kind](tmp_path)
        check_dataset(example.source, example.preprocess, example.classes)

    def test_loads_uint8_images_and_labels(self, kind: str, tmp_path: Path) -> None:
        example = EXAMPLES[kind](tmp_path)
        data = load_dataset(example.source, example.preprocess)
        assert data.images.shape == (example.rows, *example.preprocess.pixel_shape)
        assert data.images.dtype == np.uint8
        assert data.labels.shape == (example.rows,)
        assert data.labels.dtype == np.int64
        assert set(data.labels.tolist()) == set(range(example.classes))
        assert len(data.class_names) == example.classes
        assert data.train_rows == example.train_rows

    def test_loads_the_same_rows_twice(self, kind: str, tmp_path: Path) -> None:
        example = EXAMPLES[kind](tmp_path)
        one, two = (load_dataset(example.source, example.preprocess) for _ in range(2))
        assert np.array_equal(one.images, two.images)
        assert np.array_equal(one.labels, two.labels)

    def test_reads_on_from_any_row(self, kind: str, tmp_path: Path) -> None:
        # what a job does that was stopped while it decoded
        example = EXAMPLES[kind](tmp_path)
        whole = load_dataset(example.source, example.preprocess).images
        table = open_dataset(example.source)
        for start in (1, example.train_rows - 1, example.rows - 2, example.rows):
            rest = list(table.read(example.preprocess, start))
            assert len(rest) == example.rows - start
            assert all((one == two).all() for one, two in zip(rest, whole[start:], strict=True))

    def test_has_the_same_stamp_twice(self, kind: str, tmp_path: Path) -> None:
        example = EXAMPLES[kind](tmp_path)
        assert open_dataset(example.source).stamp() == open_dataset(example.source).stamp()

    def test_refuses_a_teacher_with_more_classes(self, kind: str, tmp_path: Path) -> None:
        example = EXAMPLES[kind](tmp_path)
        more = example.classes + 1
        with pytest.raises(BadInput, match=f"not the teacher's.*expected {more} classes"):
            check_dataset(example.source, example.preprocess, more)

    def test_refuses_images_of_another_size(self, kind: str, tmp_path: Path) -> None:
        example = EXAMPLES[kind](tmp_path)
        other = Preprocess(1, 28, 28, mean=(0.5,), std=(0.5,))
        with pytest.raises(BadInput, match="28×28"):
            check_dataset(example.source, other, example.classes)
        with pytest.raises(BadInput, match="28×28"):
            load_dataset(example.source, other)

    def test_resizes_on_request(self, kind: str, tmp_path: Path) -> None:
        example = EXAMPLES[kind](tmp_path)
        other = Preprocess(3, 6, 7, mean=(0.5,) * 3, std=(0.5,) * 3, resize=True)
        assert load_dataset(example.source, other).images.shape == (example.rows, 6, 7, 3)

    def test_refuses_more_than_the_memory_bound(self, kind: str, tmp_path: Path) -> None:
        example = EXAMPLES[kind](tmp_path)
        needed = example.rows * int(np.prod(example.preprocess.input_shape))
        load_dataset(example.source, example.preprocess, max_bytes=needed)
        for read in (
            lambda bound: load_dataset(example.source, example.preprocess, max_bytes=bound),
            lambda bound: check_dataset(
                example.source, example.preprocess, example.classes, max_bytes=bound
            ),
        ):
            with pytest.raises(BadInput, match="too large for memory"):
                read(needed - 1)


@pytest.mark.parametrize(("write", "name"), [(_parquet, "test.parquet"), (_folder, "train/ant")])
def test_a_changed_file_has_another_stamp(
    write: Callable[[Path], Example], name: str, tmp_path: Path
) -> None:
    before = open_dataset(write(tmp_path).source).stamp()
    changed = tmp_path / name
    changed = next(changed.iterdir()) if changed.is_dir() else changed
    os.utime(changed, (1, 1))
    assert open_dataset(str(tmp_path)).stamp() != before


def test_a_digest_tells_images_labels_and_tables_apart(tmp_path: Path) -> None:
    data = load_dataset(_parquet(tmp_path).source, SMALL)
    pixels = data.images.copy()
    pixels[3, 0, 0, 0] ^= 1
    others = [
        replace(data, images=pixels),
        replace(data, labels=data.labels[::-1]),
        replace(data, train_rows=6),
    ]
    assert replace(data, images=data.images.copy()).digest == data.digest
    assert len({data.digest, *(other.digest for other in others)}) == 4


def test_digits_fill_the_range_of_a_byte(grey8: Preprocess) -> None:
    images = load_dataset("digits", grey8).images
    # 0..16 in scikit-learn, so 0, 16, ..., 255 here: 17 values.
    assert (images.min(), images.max(), len(np.unique(images))) == (0, 255, 17)


def test_a_parquet_keeps_the_order_and_the_pixels_of_its_tables(tmp_path: Path) -> None:
    _parquet(tmp_path)
    data = load_dataset(str(tmp_path), SMALL)
    assert np.array_equal(data.images, np.concatenate([_pixels(7), _pixels(3, seed=1)]))
    assert data.labels.tolist() == [0, 1, 2, 0, 1, 2, 0, 2, 1, 0]
    assert data.class_names == ("0", "1", "2")


def test_shards_in_a_data_folder_under_the_hubs_names(tmp_path: Path) -> None:
    pixels = _pixels(6)
    for shard in range(2):
        _write_parquet(
            tmp_path / "data" / f"train-0000{shard}-of-00002.parquet",
            pixels[3 * shard : 3 * shard + 3],
            [0, 1, 0],
            column="img",
            names=["cat", "dog"],
        )
    data = load_dataset(str(tmp_path), SMALL)
    assert np.array_equal(data.images, pixels)
    assert data.class_names == ("cat", "dog")
    assert data.train_rows == 6


def test_the_teachers_names_serve_where_the_data_have_none(tmp_path: Path) -> None:
    _write_parquet(tmp_path / "train.parquet", _pixels(2), [0, 1])
    assert load_dataset(str(tmp_path), SMALL, ("cat", "dog")).class_names == ("cat", "dog")


def test_names_in_another_order_than_the_teachers_are_renumbered(tmp_path: Path) -> None:
    _write_parquet(tmp_path / "train.parquet", _pixels(3), [0, 1, 1], names=["dog", "cat"])
    check_dataset(str(tmp_path), SMALL, 2, ("cat", "dog"))
    data = load_dataset(str(tmp_path), SMALL, ("cat", "dog"))
    assert data.labels.tolist() == [1, 0, 0]
    assert data.class_names == ("cat", "dog")
    # names that the teacher does not know are taken in their order
    check_dataset(str(tmp_path), SMALL, 2, ("Hund", "Katze"))
    assert load_dataset(str(tmp_path), SMALL, ("Hund", "Katze")).labels.tolist() == [0, 1, 1]
    with pytest.raises(BadInput, match="the teacher lacks 'dog'; expected 2 classes, with 'cow'"):
        check_dataset(str(tmp_path), SMALL, 2, ("cat", "cow"))


def test_labels_beyond_the_names_are_another_teachers(tmp_path: Path) -> None:
    _write_parquet(tmp_path / "train.parquet", _pixels(3), [0, 1, 2], names=["cat", "dog"])
    with pytest.raises(BadInput, match="3 classes, labels 0 to 2; expected 2 classes"):
        check_dataset(str(tmp_path), SMALL, 2, ("cat", "dog"))


def test_negative_labels_are_refused(tmp_path: Path) -> None:
    _write_parquet(tmp_path / "train.parquet", _pixels(3), [0, 1, -1])
    with pytest.raises(BadInput, match="labels -1 to 1"):
        check_dataset(str(tmp_path), SMALL, 2)


def test_an_empty_class_is_named(tmp_path: Path) -> None:
    _write_parquet(tmp_path / "train.parquet", _pixels(3), [0, 2, 2])
    _write_parquet(tmp_path / "test.parquet", _pixels(1), [1])
    with pytest.raises(BadInput, match="class 'bee'.*is empty"):
        check_dataset(str(tmp_path), SMALL, 3, ("ant", "bee", "cow"))


def test_a_class_folder_without_images_is_an_empty_class(tmp_path: Path) -> None:
    _write_folder(tmp_path, _pixels(2), [0, 1], ["ant", "cow"])
    (tmp_path / "bee").mkdir()
    (tmp_path / "bee" / "notes.txt").write_text("no image")
    with pytest.raises(BadInput, match="class 'bee'.*is empty"):
        check_dataset(str(tmp_path), SMALL, 3)


def test_a_plain_folder_is_a_training_table_in_sorted_order(tmp_path: Path) -> None:
    pixels = _pixels(4)
    _write_folder(tmp_path, pixels, [1, 0, 1, 0], ["ant", "bee"])
    (tmp_path / ".cache").mkdir()
    data = load_dataset(str(tmp_path), SMALL)
    assert data.class_names == ("ant", "bee")
    assert data.labels.tolist() == [0, 0, 1, 1]
    # Rows 1 and 3 are ants, 0 and 2 are bees.
    assert np.array_equal(data.images, pixels[[1, 3, 0, 2]])
    assert data.train_rows == 4


def test_a_test_folder_of_an_unknown_class_is_refused(tmp_path: Path) -> None:
    _write_folder(tmp_path / "train", _pixels(2), [0, 1], ["ant", "bee"])
    _write_folder(tmp_path / "test", _pixels(1), [0], ["cow"])
    with pytest.raises(BadInput, match="cow"):
        check_dataset(str(tmp_path), SMALL, 2)


def test_a_missing_path_lists_every_accepted_form(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"nowhere.*digits.*train\.parquet.*folder of images"):
        check_dataset(str(tmp_path / "nowhere"), SMALL, 2)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(BadInput, match="neither Parquet tables nor class folders"):
        check_dataset(str(tmp_path), SMALL, 2)


def test_a_broken_image_names_its_row(tmp_path: Path) -> None:
    images = [{"bytes": _png(_pixels(1)[0]), "path": "a"}, {"bytes": b"\x89PNG", "path": "b"}]
    table = pa.table({"image": images, "label": pa.array([0, 1], pa.int64())})
    pq.write_table(table, tmp_path / "train.parquet")
    with pytest.raises(BadInput, match=r"row 1 of .*train\.parquet"):
        check_dataset(str(tmp_path), SMALL, 2)


def test_a_row_without_bytes_names_its_row(tmp_path: Path) -> None:
    images = [{"bytes": _png(_pixels(1)[0]), "path": "a"}, {"bytes": None, "path": "b"}]
    table = pa.table({"image": images, "label": pa.array([0, 1], pa.int64())})
    pq.write_table(table, tmp_path / "train.parquet")
    with pytest.raises(BadInput, match="row 1 of "):
        load_dataset(str(tmp_path), SMALL)


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    _write_folder(tmp_path, _pixels(2), [0, 1], ["ant", "bee"])
    (tmp_path / "ant" / "000.png").write_bytes(b"not an image")
    with pytest.raises(BadInput, match=r"000\.png"):
        check_dataset(str(tmp_path), SMALL, 2)


def test_a_truncated_table_is_named(tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    _write_parquet(path, _pixels(3), [0, 1, 0])
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(BadInput, match=r"cannot be read.*train\.parquet.*truncated"):
        check_dataset(str(tmp_path), SMALL, 2)


@pytest.mark.parametrize(
    "columns",
    [
        {"image": [{"bytes": b"", "path": ""}], "label": ["cat"]},
        {"image": [{"bytes": b"", "path": ""}], "class": [0]},
        {"image": [b""], "label": [0]},
        {"picture": [{"bytes": b"", "path": ""}], "label": [0]},
    ],
)
def test_other_columns_are_listed(tmp_path: Path, columns: dict[str, list[object]]) -> None:
    pq.write_table(pa.table(columns), tmp_path / "train.parquet")
    with pytest.raises(BadInput, match=f"other columns.*{next(iter(columns))}"):
        check_dataset(str(tmp_path), SMALL, 2)


def test_missing_labels_are_refused(tmp_path: Path) -> None:
    images = [{"bytes": _png(_pixels(1)[0]), "path": "a"}] * 2
    table = pa.table({"image": images, "label": pa.array([0, None], pa.int64())})
    pq.write_table(table, tmp_path / "train.parquet")
    with pytest.raises(BadInput, match="1 rows have no label"):
        check_dataset(str(tmp_path), SMALL, 2)


def test_two_versions_of_a_table_are_refused(tmp_path: Path) -> None:
    _write_parquet(tmp_path / "train.parquet", _pixels(2), [0, 1])
    _write_parquet(tmp_path / "train-00000-of-00001.parquet", _pixels(2), [0, 1])
    with pytest.raises(BadInput, match="two versions"):
        check_dataset(str(tmp_path), SMALL, 2)


def _split_sizes(table: Table) -> tuple[int, int, int]:
    return table.own_rows, table.validation_rows, len(table.labels) - table.train_rows


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [
        ("data/train-00000-of-00001", "data/validation-00000-of-00001", "data/test-00000-of-00001"),
        ("train", "valid", "test"),
        ("Training", "VAL", "Testing"),
        ("train-00000-of-00001-0123456789abcdef", "dev-00000-of-00001", "eval-00000-of-00001"),
        ("data/train/0000", "data/validation/0000", "data/test/0000"),
        ("train/part-0", "val/part-0", "test/part-0"),
        ("cifar_train", "cifar_val", "cifar_test"),
    ],
)
def test_tables_of_splits_in_any_spelling(
    train: str, validation: str, test: str, tmp_path: Path
) -> None:
    for name, rows in ((train, 6), (validation, 4), (test, 2)):
        labels = [row % 2 for row in range(rows)]
        _write_parquet(tmp_path / f"{name}.parquet", _pixels(rows, seed=rows), labels)
    table = open_dataset(str(tmp_path))
    assert _split_sizes(table) == (6, 4, 2)
    images = list(table.read(SMALL, 0))
    assert np.array_equal(images, np.concatenate([_pixels(n, seed=n) for n in (6, 4, 2)]))
    assert not table.remarks


@pytest.mark.parametrize("secret", [[-1, -1], [None, None], None])
def test_a_split_without_labels_is_left_out_and_told(
    secret: list[int | None] | None, tmp_path: Path
) -> None:
    _write_parquet(tmp_path / "train.parquet", _pixels(4), [0, 1, 0, 1])
    table = pa.table({"image": [{"bytes": _png(image), "path": ""} for image in _pixels(2)]})
    if secret is not None:
        table = table.append_column("label", pa.array(secret, pa.int64()))
    pq.write_table(table, tmp_path / "test.parquet")
    check_dataset(str(tmp_path), SMALL, 2)
    found = open_dataset(str(tmp_path))
    assert _split_sizes(found) == (4, 0, 0)
    (remark,) = found.remarks
    assert "the test split has no labels (test.parquet)" in remark.text


def test_training_rows_without_labels_are_refused_with_what_they_mean(tmp_path: Path) -> None:
    _write_parquet(tmp_path / "train.parquet", _pixels(3), [-1, -1, -1])
    with pytest.raises(BadInput, match="label of -1 means that there is none: remove these 3"):
        check_dataset(str(tmp_path), SMALL, 2)


def test_tables_of_no_split_are_told(tmp_path: Path) -> None:
    for name in ("train", "extra", "unsupervised"):
        _write_parquet(tmp_path / f"{name}.parquet", _pixels(2), [0, 1])
    (remark,) = open_dataset(str(tmp_path)).remarks
    assert "2 tables that are no split (extra.parquet" in remark.text


def test_a_split_with_its_own_order_of_names_is_renumbered(tmp_path: Path) -> None:
    _write_parquet(tmp_path / "train.parquet", _pixels(2), [0, 1], names=["cat", "dog"])
    _write_parquet(tmp_path / "test.parquet", _pixels(3), [0, 1, 1], names=["Dog", "Cat"])
    assert open_dataset(str(tmp_path)).labels.tolist() == [0, 1, 1, 0, 0]
    _write_parquet(tmp_path / "test.parquet", _pixels(1), [0], names=["cow"])
    with pytest.raises(BadInput, match="class that the training table lacks: got test.parquet"):
        open_dataset(str(tmp_path))


def test_one_file_is_a_training_table(tmp_path: Path) -> None:
    _write_parquet(tmp_path / "some.parquet", _pixels(4), [0, 1, 0, 1])
    for source in (tmp_path / "some.parquet", tmp_path):
        assert _split_sizes(open_dataset(str(source))) == (4, 0, 0)
