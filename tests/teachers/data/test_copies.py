"""The same pixels twice: in one part, counted, and a warning where they are many."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.errors import BadInput
from teachers.data.copies import Copies, find_copies
from teachers.data.splits import HeldOut, hold_out, withhold_router


def images_of(marks: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Images 2×2×1 that are alike where marks are."""
    values = np.stack([marks % 256, marks // 256, marks * 0, marks * 0 + 7], axis=1)
    return values.astype(np.uint8).reshape(-1, 2, 2, 1)


def held(
    marks: NDArray[np.int64], train: int, unseen: slice | None, claimed: bool = False
) -> HeldOut:
    labels = marks % 2
    rows = None if unseen is None else np.arange(len(marks))[unseen]
    copies = find_copies(images_of(marks), claimed=claimed)
    return hold_out(labels, train, unseen=rows, seed=0, copies=copies)


def parts(found: HeldOut) -> dict[str, NDArray[np.int64]]:
    names = ("validation", "calibration", "test", "rest")
    return {name: getattr(found, name) for name in names}


def assert_apart(found: HeldOut, marks: NDArray[np.int64]) -> None:
    for one, other in itertools.combinations(parts(found).values(), 2):
        assert not set(marks[one]) & set(marks[other])


def test_copies_are_found_whatever_lies_between() -> None:
    marks = np.array([5, 3, 5, 4, 3, 5, 6])
    copies = find_copies(images_of(marks))
    assert copies.first.tolist() == [0, 1, 0, 3, 1, 0, 6]
    assert copies.surplus == 3


def test_images_that_differ_by_one_pixel_are_no_copies() -> None:
    images = images_of(np.zeros(2, dtype=np.int64))
    images[1, 1, 1, 0] ^= 1
    assert find_copies(images).surplus == 0


@pytest.mark.parametrize("seed", range(5))
def test_of_one_table_copies_stay_together_and_none_is_lost(seed: int) -> None:
    marks = np.random.default_rng(seed).permutation(np.repeat(np.arange(150), 3))
    found = held(marks, 450, None)
    assert_apart(found, marks)
    assert sum(map(len, parts(found).values())) == 450
    share = withhold_router(
        found, marks % 2, error_rate=0.1, seed=0, copies=find_copies(images_of(marks))
    )
    assert not set(marks[share.router]) & set(marks[share.distillation])


def test_test_rows_that_were_trained_on_are_left_out() -> None:
    # 10 of 50 test rows repeat training rows
    marks = np.concatenate([np.arange(200), np.arange(10), np.arange(300, 340)])
    found = held(marks, 200, None)
    assert_apart(found, marks)
    assert found.test.tolist() == list(range(210, 250))
    found = held(marks, 200, slice(150, 200))
    assert found.test.tolist() == list(range(210, 250))


def test_unseen_rows_that_were_trained_on_are_left_out() -> None:
    marks = np.concatenate([np.arange(150), np.arange(10), np.arange(300, 340)])
    found = held(marks, 200, slice(150, 200))
    assert_apart(found, marks)
    assert not set(range(150, 160)) & set(np.concatenate([found.validation, found.calibration]))
    assert len(found.rest) == 150


def test_pictures_that_are_claimed_to_be_unseen_take_their_copies_out_of_training() -> None:
    # somebody copied 40 training pictures into a folder and says that these were held out
    marks = np.concatenate([np.arange(160), np.arange(40)])
    found = held(marks, 200, slice(160, 200), claimed=True)
    assert_apart(found, marks)
    assert found.rest.tolist() == list(range(40, 160))


@pytest.mark.parametrize(
    ("marks", "train", "unseen", "message"),
    [
        (np.tile(np.arange(50), 2), 50, None, "the test table is a copy"),
        (np.tile(np.arange(50), 2), 100, slice(50, 100), "not seen are copies"),
    ],
)
def test_a_split_that_is_a_copy_of_another_is_refused(
    marks: NDArray[np.int64], train: int, unseen: slice | None, message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        held(marks, train, unseen)


def test_without_copies_the_parts_are_as_ever() -> None:
    marks = np.arange(300)
    plain = hold_out(marks % 2, 300, unseen=None, seed=3)
    looked = hold_out(marks % 2, 300, unseen=None, seed=3, copies=find_copies(images_of(marks)))
    for one, other in zip(parts(plain).values(), parts(looked).values(), strict=True):
        np.testing.assert_array_equal(one, other)


def remark(marks: NDArray[np.int64], test_rows: int, left_out: list[int]) -> tuple[str, str]:
    copies = Copies(find_copies(images_of(marks)).first)
    labels = np.arange(len(marks)) % 2
    found = copies.remark(labels, test_rows, 0, np.array(left_out, dtype=np.int64))
    return (found.name, found.text) if found else ("", "")


def test_they_are_counted() -> None:
    marks = np.concatenate([np.arange(900), np.arange(96, 100), np.arange(1000, 1096)])
    name, text = remark(marks, 100, [900, 901, 902, 903])
    assert not name
    assert "4 of 1,000 images (0.4%) repeat another one exactly" in text
    assert "4 of the 100 rows of the test table are left out" in text


def test_no_copies_nothing_told() -> None:
    assert remark(np.arange(100), 20, []) == ("", "")


def test_many_are_a_warning() -> None:
    # every image twice, as where classes were balanced by repetition
    assert remark(np.tile(np.arange(50), 2), 0, [])[0] == "duplicates"
    # of few rows in all, but of a fifth of the test table
    marks = np.concatenate([np.arange(1000), np.arange(20), np.arange(2000, 2080)])
    assert remark(marks, 100, list(range(1000, 1020)))[0] == "duplicates"


def test_an_image_under_two_labels_is_told() -> None:
    marks = np.arange(100)
    marks[51] = 0  # row 0 has label 0, row 51 label 1
    assert "1 images stand under two labels" in remark(marks, 0, [])[1]
