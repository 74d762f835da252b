"""Small changes that leave an image's class alone, so that a student sees more than its rows.

A member of :data:`AUGMENTS` works in two steps, each on a whole batch: :meth:`Augment.draw` says
what will happen to every image, and :meth:`Augment.apply` does it. A view that is drawn beforehand
is so kept as a few numbers, and the teacher and the students see the same pixels. A draw of zeros
changes nothing. Without views the teacher's answer about the unchanged image stands for the changed
one, so a member must be mild.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

Images = NDArray[np.uint8]
Draws = NDArray[np.int16]

#: a shift moves an image by at most this share of its side, and by a pixel at least
SHARE = 1 / 14


class Augment(Protocol):
    """A change of images, drawn for each of its own."""

    def draw(self, rows: int, pixel_shape: tuple[int, int, int], rng: np.random.Generator) -> Draws:
        """What happens to each of ``rows`` images of shape H×W×C: int16 rows×D."""

    def apply(self, images: Images, draws: Draws) -> Images:
        """The changed images; ``images`` are uint8 N×H×W×C, ``draws`` N×D, one row for each.

        The result has the same shape, and may be ``images`` itself where nothing changes.
        """


class Keep:
    """No change."""

    def draw(self, rows: int, pixel_shape: tuple[int, int, int], rng: np.random.Generator) -> Draws:
        """Nothing: int16 rows×0."""
        return np.zeros((rows, 0), dtype=np.int16)

    def apply(self, images: Images, draws: Draws) -> Images:
        """The images themselves."""
        return images


class Shift:
    """Every image moved by a whole number of pixels in each direction; its border is repeated.

    A draw is (down, right): pixel (y, x) of the result is (y + down, x + right) of the image.
    """

    def draw(self, rows: int, pixel_shape: tuple[int, int, int], rng: np.random.Generator) -> Draws:
        """Whole pixels within the bound on both axes, all alike probable: int16 rows×2."""
        down, right = _most(pixel_shape)
        moves = [rng.integers(-most, most, rows, endpoint=True) for most in (down, right)]
        return np.stack(moves, axis=1).astype(np.int16)

    def apply(self, images: Images, draws: Draws) -> Images:
        """The moved images, one copy of a line of pixels at a time."""
        rows, height, width, channels = images.shape
        down, right = draws[:, 0].astype(np.intp), draws[:, 1].astype(np.intp)
        margin = int(np.abs(right).max(initial=0))
        lines = np.empty((rows, height, width + 2 * margin, channels), dtype=np.uint8)
        lines[:, :, margin : margin + width] = images
        lines[:, :, :margin] = images[:, :, :1]
        lines[:, :, margin + width :] = images[:, :, -1:]
        # every line once for each start it may have, as a view: an index then names whole lines
        starts = as_strided(
            lines,
            (rows, height, 2 * margin + 1, width * channels),
            (*lines.strides[:3], 1),
            writeable=False,
        )
        y = np.clip(down[:, None] + np.arange(height), 0, height - 1)
        moved: Images = starts[np.arange(rows)[:, None], y, right[:, None] + margin]
        return moved.reshape(images.shape)


class FlipShift:
    """Left and right exchanged in every other image, then a :class:`Shift`: for natural images.

    A draw is (down, right, mirrored), the last 0 or 1.
    """

    _shift = Shift()

    def draw(self, rows: int, pixel_shape: tuple[int, int, int], rng: np.random.Generator) -> Draws:
        """A shift, and the toss of a coin: int16 rows×3."""
        moves = self._shift.draw(rows, pixel_shape, rng)
        mirrored = rng.integers(0, 1, rows, endpoint=True).astype(np.int16)
        return np.concatenate([moves, mirrored[:, None]], axis=1)

    def apply(self, images: Images, draws: Draws) -> Images:
        """The mirrored and moved images."""
        mirrored = np.flatnonzero(draws[:, 2])
        chosen = images[mirrored]
        opposite = np.empty_like(chosen)
        for channel in range(images.shape[3]):  # all at a time take four times as long
            opposite[..., channel] = chosen[:, :, ::-1, channel]
        turned = np.array(images)
        turned[mirrored] = opposite
        return self._shift.apply(turned, draws[:, :2])


def _most(pixel_shape: tuple[int, int, int]) -> tuple[int, int]:
    height, width, _ = pixel_shape
    return max(1, round(SHARE * height)), max(1, round(SHARE * width))


AUGMENTS: dict[str, Augment] = {"none": Keep(), "shift": Shift(), "flip_shift": FlipShift()}
