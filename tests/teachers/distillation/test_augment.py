"""Augmentation: whole batches, one draw per image, the same shape and type."""

import numpy as np
import pytest
from numpy.typing import NDArray

from teachers.distillation.augment import AUGMENTS


def _images(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("name", AUGMENTS)
class TestEveryMember:
    """The contract of a member of the registry."""

    def test_draws_for_every_image_from_the_generator_alone(self, name: str) -> None:
        augment = AUGMENTS[name]
        one, two = (augment.draw(7, (9, 5, 3), np.random.default_rng(3)) for _ in range(2))
        assert one.dtype == np.int16
        assert one.ndim == 2
        assert len(one) == 7
        np.testing.assert_array_equal(one, two)

    def test_keeps_shape_and_type_and_leaves_the_rows_it_was_given(self, name: str) -> None:
        images = _images(7, 9, 5, 3)
        before = images.copy()
        images.setflags(write=False)  # as in shared memory
        draws = AUGMENTS[name].draw(7, (9, 5, 3), np.random.default_rng(1))
        changed = AUGMENTS[name].apply(images, draws)
        assert changed.shape == images.shape
        assert changed.dtype == np.uint8
        np.testing.assert_array_equal(images, before)

    def test_a_draw_of_zeros_changes_nothing(self, name: str) -> None:
        images = _images(4, 6, 8, 1)
        draws = np.zeros_like(AUGMENTS[name].draw(4, (6, 8, 1), np.random.default_rng(0)))
        np.testing.assert_array_equal(AUGMENTS[name].apply(images, draws), images)

    def test_what_becomes_of_an_image_depends_on_its_own_draw_alone(self, name: str) -> None:
        # The teacher answers a view in one batch, and a student sees it in another.
        images, augment = _images(30, 28, 28, 1), AUGMENTS[name]
        draws = augment.draw(30, (28, 28, 1), np.random.default_rng(2))
        together = augment.apply(images, draws)
        alone = [augment.apply(images[i : i + 1], draws[i : i + 1])[0] for i in range(30)]
        np.testing.assert_array_equal(together, np.stack(alone))


def test_a_shift_worked_by_hand() -> None:
    # 3×3: one down and one to the left; what has no source takes the border's pixel.
    image = np.arange(1, 10, dtype=np.uint8).reshape(1, 3, 3, 1)
    moved = AUGMENTS["shift"].apply(image, np.array([[1, -1]], np.int16))
    assert moved[0, :, :, 0].tolist() == [[4, 4, 5], [7, 7, 8], [7, 7, 8]]


def test_a_mirrored_image_is_mirrored_before_it_moves() -> None:
    image = np.arange(1, 10, dtype=np.uint8).reshape(1, 3, 3, 1)
    draws = np.array([[0, 0, 1], [0, 1, 1], [0, 0, 0]], np.int16)
    turned = AUGMENTS["flip_shift"].apply(image.repeat(3, axis=0), draws)[:, 0, :, 0]
    assert turned.tolist() == [[3, 2, 1], [2, 1, 1], [1, 2, 3]]


def test_a_shift_moves_every_image_by_a_draw_of_its_own() -> None:
    # One bright pixel in the middle of 28×28: 28/14 = 2, so it lands at most 2 pixels away, and
    # among 500 images at each of the 5×5 places.
    images = np.zeros((500, 28, 28, 1), np.uint8)
    images[:, 14, 14] = 255
    draws = AUGMENTS["shift"].draw(500, (28, 28, 1), np.random.default_rng(0))
    moved = AUGMENTS["shift"].apply(images, draws)
    assert (moved.reshape(500, -1).max(axis=1) == 255).all()
    _, rows, columns, _ = np.nonzero(moved)
    assert set(zip(rows.tolist(), columns.tolist(), strict=True)) == {
        (row, column) for row in range(12, 17) for column in range(12, 17)
    }


def test_half_of_the_images_are_mirrored() -> None:
    draws = AUGMENTS["flip_shift"].draw(1000, (28, 28, 1), np.random.default_rng(0))
    assert set(draws[:, 2].tolist()) == {0, 1}
    assert 450 < draws[:, 2].sum() < 550
