"""Patches of other images: where they lie, what is pasted, and whose labels count how much."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from teachers.distillation.cutmix import SHARE, draw_patches, mixed_labels, paste


def test_worked_by_hand() -> None:
    images = np.zeros((2, 4, 4, 1), np.uint8)
    source = np.arange(3 * 16, dtype=np.uint8).reshape(3, 4, 4, 1)
    patches = np.array([[2, 7, 1, 2, 2, 2], [1, 5, 0, 0, 0, 3]], np.int32)
    pasted = paste(images, source, patches)
    assert pasted[0, :, :, 0].tolist() == [
        [0, 0, 0, 0],
        [0, 0, 38, 39],
        [0, 0, 42, 43],
        [0, 0, 0, 0],
    ]
    assert not pasted[1].any()  # a patch of no height
    labels = mixed_labels(np.array([3, 4]), patches, (4, 4, 1), classes=8)
    assert labels[0].tolist() == [0, 0, 0, 0.75, 0, 0, 0, 0.25]
    assert labels[1].tolist() == [0, 0, 0, 0, 1, 0, 0, 0]


def test_a_patch_of_the_same_class_changes_no_label() -> None:
    patches = np.array([[0, 1, 0, 0, 2, 3]], np.int32)
    assert mixed_labels(np.array([1]), patches, (4, 4, 3), classes=3)[0].tolist() == [0, 1, 0]


@given(rows=st.integers(1, 60), side=st.integers(1, 9), wide=st.integers(1, 9), seed=st.integers(0))
def test_patches_lie_inside_and_are_of_rows_of_the_set(
    rows: int, side: int, wide: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    numbers, labels = rng.permutation(500)[:rows], rng.integers(0, 10, rows)
    patches = draw_patches(numbers, labels, (side, wide, 3), rng)
    row, label, top, left, height, width = patches.T
    assert patches.shape == (rows, 6)
    assert sorted(row) == sorted(numbers)
    named = dict(zip(numbers.tolist(), labels.tolist(), strict=True))
    assert [named[one] for one in row.tolist()] == label.tolist()
    assert (np.minimum.reduce([top, left, height, width]) >= 0).all()
    assert ((top + height <= side) & (left + width <= wide)).all()
    mixed = mixed_labels(labels, patches, (side, wide, 3), classes=10)
    assert (mixed >= 0).all()
    np.testing.assert_allclose(mixed.sum(1), 1, atol=1e-6)


def test_half_of_the_images_get_one_of_any_size() -> None:
    rows = np.arange(20_000)
    patches = draw_patches(rows, rows % 10, (100, 100, 1), np.random.default_rng(0))
    area = patches[:, 4] * patches[:, 5] / 10_000
    assert (patches[:, 4] > 0).mean() == pytest.approx(SHARE, abs=0.02)
    # uniform in [0, 1]: a mean of a half, a deviation of √(1/12)
    assert area[area > 0].mean() == pytest.approx(0.5, abs=0.02)
    assert area[area > 0].std() == pytest.approx(0.289, abs=0.01)
