"""Augmentation: whole batches, one draw per image, the same shape and type."""

import numpy as np
import pytest

from teachers.augment import AUGMENTS, shift


@pytest.mark.parametrize("name", AUGMENTS)
class TestEveryMember:
    def test_keeps_shape_and_type_and_leaves_the_rows_it_was_given(self, name: str) -> None:
        images = np.random.default_rng(0).integers(0, 256, (7, 9, 5, 3), dtype=np.uint8)
        before = images.copy()
        changed = AUGMENTS[name](images, np.random.default_rng(1))
        assert changed.shape == images.shape
        assert changed.dtype == np.uint8
        assert np.array_equal(images, before)

    def test_depends_on_the_generator_alone(self, name: str) -> None:
        images = np.random.default_rng(0).integers(0, 256, (7, 9, 5, 1), dtype=np.uint8)
        one, two = (AUGMENTS[name](images, np.random.default_rng(3)) for _ in range(2))
        assert np.array_equal(one, two)


def test_a_shift_moves_every_image_by_a_draw_of_its_own() -> None:
    # One bright pixel in the middle of 28×28: 28/14 = 2, so it lands at most 2 pixels away, and
    # among 500 images at each of the 5×5 places.
    images = np.zeros((500, 28, 28, 1), np.uint8)
    images[:, 14, 14] = 255
    moved = shift(images, np.random.default_rng(0))
    assert (moved.reshape(500, -1).max(axis=1) == 255).all()
    _, rows, columns, _ = np.nonzero(moved)
    assert set(zip(rows.tolist(), columns.tolist(), strict=True)) == {
        (row, column) for row in range(12, 17) for column in range(12, 17)
    }


def test_a_shift_repeats_the_border() -> None:
    # A grey picture stays grey wherever it moves: nothing black comes in from outside.
    images = np.full((20, 8, 8, 3), 77, np.uint8)
    assert (shift(images, np.random.default_rng(0)) == 77).all()
