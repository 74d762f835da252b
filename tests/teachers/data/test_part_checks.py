"""What cannot be right about parts has a name; sound data, however small, have none."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from teachers.data.datasets import Dataset
from teachers.data.part_checks import part_remarks
from teachers.data.splits import hold_out

NAMES = tuple(f"class {label}" for label in range(10))


def images_of(labels: NDArray[np.int64], seed: int = 0) -> NDArray[np.uint8]:
    """Noise whose brightness varies from image to image, and with the class."""
    rng = np.random.default_rng(seed)
    levels = 90 + 5 * labels + rng.normal(0, 15, len(labels))
    noise = rng.normal(0, 30, (len(labels), 6, 6, 1))
    return np.clip(levels[:, None, None, None] + noise, 0, 255).astype(np.uint8)


def names(
    labels: NDArray[np.int64],
    train: int,
    unseen: NDArray[np.int64] | None = None,
    images: NDArray[np.uint8] | None = None,
) -> dict[str, str]:
    """Name → text of what is told."""
    pictures = images_of(labels) if images is None else images
    held = hold_out(labels, train, unseen=unseen, seed=0)
    return {found.name: found.text for found in part_remarks(pictures, labels, held, NAMES)}


class TestSoundData:
    @pytest.mark.parametrize("seed", range(4))
    @pytest.mark.parametrize(("train", "test"), [(500, 0), (500, 2000), (1000, 200), (1500, 0)])
    def test_random_rows_of_ten_classes(self, train: int, test: int, seed: int) -> None:
        labels = np.random.default_rng(seed).integers(0, 10, train + test)
        assert names(labels, train) == {}

    @pytest.mark.parametrize("seed", range(4))
    def test_unseen_rows_drawn_at_random(self, seed: int) -> None:
        labels = np.random.default_rng(seed).integers(0, 10, 600)
        assert names(labels, 600, np.arange(400, 600)) == {}
        assert names(labels, 500, np.arange(380, 500)) == {}

    def test_digits(self, digits: Dataset) -> None:
        for unseen in (None, np.arange(897, 1797)):
            held = hold_out(digits.labels, 1797, unseen=unseen, seed=0)
            assert not list(part_remarks(digits.images, digits.labels, held, NAMES))

    def test_a_slightly_darker_test_table(self) -> None:
        labels = np.arange(800) % 10
        images = images_of(labels)
        images[600:] = images[600:] * 0.9
        assert names(labels, 600, images=images) == {}

    def test_frequencies_that_chance_explains(self) -> None:
        # 10 test rows can lack half of the classes; that they are few is said instead
        labels = np.concatenate([np.arange(500) % 10, np.array([0, 0, 1, 2, 2, 3, 4, 5, 6, 7])])
        assert list(names(labels, 500)) == ["few-rows-per-class"]


class TestFewRows:
    def test_parts_below_five_rows_a_class(self) -> None:
        told = names(np.arange(80) % 10, 80)
        assert "validation has 1.6 rows a class" in told["few-rows-per-class"]

    def test_a_class_that_a_part_lacks_is_named(self) -> None:
        labels = np.concatenate([np.arange(450) % 9, [9, 9]])
        told = names(labels, 452)["few-rows-per-class"]
        assert "validation (45 rows) lacks 'class 9'" in told

    def test_a_rare_class_of_large_data_is_named(self) -> None:
        labels = np.concatenate([np.arange(2700) % 9, np.full(30, 9)])
        told = names(labels, 2730)["few-rows-per-class"]
        assert "validation has 4 rows or fewer of 'class 9'" in told

    def test_a_test_table_without_a_class(self) -> None:
        labels = np.concatenate([np.arange(1000) % 10, np.arange(180) % 9])
        assert "test (180 rows) lacks 'class 9'" in names(labels, 1000)["few-rows-per-class"]

    def test_a_validation_split_of_a_handful(self) -> None:
        # eight rows of two classes, as one known data set of X-rays has them
        labels = np.arange(1008) % 2
        held = hold_out(labels, 1008, unseen=np.arange(1000, 1008), seed=0)
        (told,) = part_remarks(images_of(labels), labels, held, ("ill", "well"))
        assert told.name == "few-rows-per-class"

    def test_small_data_are_spared_and_the_figures_are_told_to_mean_little(self) -> None:
        # a tenth of 300 rows is three a class; every further one would be the student's loss
        labels = np.arange(300) % 10
        held = hold_out(labels, 300, unseen=None, seed=0)
        assert len(held.validation) == len(held.calibration) == 30
        assert "validation has 3.0 rows a class" in names(labels, 300)["few-rows-per-class"]
        # a tenth of 200 would be two
        held = hold_out(np.arange(200) % 10, 200, unseen=None, seed=0)
        assert len(held.validation) == len(held.calibration) == 30
        # of 100 rows they take a fifth each, and leave the most to learn from
        held = hold_out(np.arange(100) % 10, 100, unseen=None, seed=0)
        assert (len(held.validation), len(held.calibration), len(held.rest)) == (20, 20, 40)
        # of unseen rows a third each at most, and the rest is the test part
        held = hold_out(np.arange(500) % 10, 500, unseen=np.arange(350, 500), seed=0)
        assert [len(held.validation), len(held.calibration), len(held.test)] == [50, 50, 50]


class TestOtherShares:
    def test_a_test_table_of_few_classes(self) -> None:
        labels = np.concatenate([np.arange(1000) % 10, np.repeat(np.arange(10), [91] + [10] * 9)])
        told = names(labels, 1000)["class-shares-differ"]
        assert "test rows ('class 0' 50% in place of 10%)" in told

    def test_training_rows_of_a_long_tail(self) -> None:
        train = np.repeat(np.arange(10), [500, 250, 120, 60, 50, 50, 50, 50, 50, 50])
        labels = np.concatenate([train, np.arange(1000) % 10])
        assert "class-shares-differ" in names(labels, len(train))

    def test_unseen_rows_of_sorted_data(self) -> None:
        labels = np.concatenate([np.repeat(np.arange(10), 100), np.arange(200) % 10])
        told = names(labels, 1000, np.arange(600, 1000))
        assert "validation and calibration" in told["class-shares-differ"]


class TestOtherLook:
    @pytest.mark.parametrize("change", ["inverted", "halved", "black", "of low contrast"])
    def test_test_images_stored_otherwise(self, change: str) -> None:
        labels = np.arange(900) % 10
        images = images_of(labels)
        changed = {
            "inverted": 255 - images,
            "halved": images // 2,
            "black": images * 0,
            "of low contrast": images // 4 + 85,
        }[change]
        images[600:] = changed[600:]
        told = names(labels, 600, images=images)["brightness-differs"]
        assert "test rows" in told

    def test_unseen_images_stored_otherwise(self) -> None:
        labels = np.arange(900) % 10
        images = images_of(labels)
        images[600:700] //= 2
        told = names(labels, 700, np.arange(600, 700), images)["brightness-differs"]
        assert "validation and calibration rows" in told
        assert "test rows" not in told

    def test_channels_in_another_order(self) -> None:
        labels = np.arange(900) % 10
        images = np.concatenate(
            [images_of(labels, seed) // (1 + seed) for seed in range(3)], axis=3
        )
        images[600:] = images[600:, :, :, ::-1]
        assert "brightness-differs" in names(labels, 600, images=images)
