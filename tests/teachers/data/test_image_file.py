"""Images beyond memory: decoded once, into a file that other processes find by its place."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edge.errors import BadInput
from edge.preprocess import Preprocess
from teachers.data import image_file, row_file
from teachers.data.datasets import Dataset, check_dataset, load_dataset, map_dataset, open_dataset
from teachers.data.image_file import ImageFile, write_images
from teachers.data.source import Images, Table

GREY = Preprocess(1, 4, 5, mean=(0.5,), std=(0.5,))
ROWS = 10
PIXELS = np.random.default_rng(0).integers(0, 256, (ROWS, 4, 5, 1), dtype=np.uint8)


@pytest.fixture(autouse=True)
def _three_images_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_file, "BLOCK_BYTES", 3 * 20)


class Counting:
    """A source in memory that counts what it decodes, and may break at a row."""

    def __init__(self, broken: int = ROWS) -> None:
        self.decoded: list[int] = []
        self.broken = broken

    def table(self) -> Table:
        labels = np.arange(ROWS) % 2
        return Table("counting", labels, ("even", "odd"), 8, self._read, lambda: "always")

    def _read(self, preprocess: Preprocess, start: int) -> Iterator[Images]:
        for row in range(start, ROWS):
            if row == self.broken:
                raise KeyboardInterrupt
            self.decoded.append(row)
            yield PIXELS[row]


def _mapped(table: Table, folder: Path) -> Dataset:
    steps = map_dataset(table, GREY, (), folder)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            found: Dataset = end.value
            return found


def test_a_map_holds_what_memory_would(grey8: Preprocess, tmp_path: Path) -> None:
    steps = map_dataset(open_dataset("digits"), grey8, (), tmp_path)
    done = []
    try:
        while True:
            done.append(next(steps))
    except StopIteration as end:
        mapped: Dataset = end.value
    held = load_dataset("digits", grey8)
    np.testing.assert_array_equal(mapped.images, held.images)
    assert not mapped.images.flags.writeable
    # The same job on a machine with more memory goes on with it.
    assert mapped.digest == held.digest
    assert replace(mapped, file=None).digest == held.digest
    assert done == [*range(1, 1797), 1797]  # an image of 64 bytes at a time


def test_it_is_decoded_once(tmp_path: Path) -> None:
    source = Counting()
    first, again = _mapped(source.table(), tmp_path), _mapped(source.table(), tmp_path)
    assert source.decoded == list(range(ROWS))
    assert first.file == again.file
    np.testing.assert_array_equal(again.images, PIXELS)


def test_who_was_stopped_goes_on(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        _mapped(Counting(broken=7).table(), tmp_path)
    assert not list(tmp_path.glob("images-*"))
    source = Counting()
    # two blocks of three had been written
    np.testing.assert_array_equal(_mapped(source.table(), tmp_path).images, PIXELS)
    assert source.decoded == [6, 7, 8, 9]


def test_a_stop_before_the_digest_loses_nothing(tmp_path: Path) -> None:
    first = _mapped(Counting().table(), tmp_path)
    next(tmp_path.glob("images-*.json")).unlink()
    source = Counting()
    assert _mapped(source.table(), tmp_path).file == first.file
    assert source.decoded == []


def test_another_preprocessing_or_source_is_another_file(tmp_path: Path) -> None:
    table = Counting().table()
    steps = [
        (table, GREY),
        (table, replace(GREY, resize=True)),
        (replace(table, stamp=lambda: "changed"), GREY),
    ]
    for each, preprocess in steps:
        list(write_images(each, preprocess, tmp_path))
    # what happens to pixels afterwards does not matter
    list(write_images(table, replace(GREY, mean=(0.1,)), tmp_path))
    assert len(list(tmp_path.glob("images-*.npy"))) == 3


def test_another_process_is_sent_a_place_and_no_pixels(tmp_path: Path) -> None:
    file = _mapped(Counting().table(), tmp_path).file
    assert file is not None
    sent = pickle.dumps(file)
    assert len(sent) < 500
    received: ImageFile = pickle.loads(sent)  # noqa: S301
    assert received.missing() is None
    np.testing.assert_array_equal(received.open(), PIXELS)


def test_a_machine_without_the_file_says_so(tmp_path: Path) -> None:
    file = _mapped(Counting().table(), tmp_path).file
    assert file is not None
    assert "has other images" in str(replace(file, digest="0" * 64).missing())
    os.truncate(file.path, 200)
    assert "cannot read the images" in str(file.missing())
    Path(file.path).unlink()
    reason = str(file.missing())
    assert os.uname().nodename in reason
    assert file.path in reason


class TestRoom:
    """What the disk cannot hold is refused before anything is decoded."""

    @pytest.fixture(autouse=True)
    def _small_disk(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(row_file, "SPARE_BYTES", 0)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=100))

    def test_by_the_job(self, tmp_path: Path) -> None:
        source = Counting()
        with pytest.raises(BadInput, match="decoded images of counting: got 200 bytes needed"):
            _mapped(source.table(), tmp_path / "cache")
        assert source.decoded == []
        assert not (tmp_path / "cache").exists()

    def test_by_the_check(self, grey8: Preprocess, tmp_path: Path) -> None:
        # 1,797 images of 64 bytes
        with pytest.raises(BadInput, match=r"got 115,008 bytes needed.*at most the 100 bytes"):
            check_dataset("digits", grey8, 10, max_bytes=115_007, folder=tmp_path / "cache")
        check_dataset("digits", grey8, 10, max_bytes=115_008, folder=tmp_path / "cache")

    def test_what_is_decoded_already_needs_no_more(self, tmp_path: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
            with pytest.raises(KeyboardInterrupt):
                _mapped(Counting(broken=7).table(), tmp_path)
        # 6 of 10 rows are there; 4 of 20 bytes fit into 100
        np.testing.assert_array_equal(_mapped(Counting().table(), tmp_path).images, PIXELS)
