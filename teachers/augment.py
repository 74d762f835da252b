"""Small changes that leave an image's class alone, so that a student sees more than its rows.

A member of :data:`AUGMENTS` turns a whole batch of uint8 images N×H×W×C into another, with a draw
for every image of its own. The teacher's cached answer about the unchanged image stands for the
changed one, so a member must be mild.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]
Augment = Callable[[Images, np.random.Generator], Images]

#: a shift moves an image by at most this share of its side, and by a pixel at least
SHARE = 1 / 14


def keep(images: Images, rng: np.random.Generator) -> Images:
    """No change."""
    return images


def shift(images: Images, rng: np.random.Generator) -> Images:
    """Every image moved by a whole number of pixels in each direction; its border is repeated."""
    rows, height, width, _ = images.shape
    down, right = (max(1, round(SHARE * side)) for side in (height, width))
    padded = np.pad(images, ((0, 0), (down, down), (right, right), (0, 0)), mode="edge")
    top = rng.integers(0, 2 * down, rows, endpoint=True)
    left = rng.integers(0, 2 * right, rows, endpoint=True)
    y = (top[:, None] + np.arange(height))[:, :, None]
    x = (left[:, None] + np.arange(width))[:, None, :]
    moved: Images = padded[np.arange(rows)[:, None, None], y, x]
    return moved


AUGMENTS: dict[str, Augment] = {"none": keep, "shift": shift}
