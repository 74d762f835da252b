"""CutMix: a patch of another image of the set pasted into each, for sets of few rows.

Yun et al. 2019 (arXiv:1905.04899), with the teacher's own answer about the patched image beside
their mixture of labels: a few hundred rows so become thousands of questions to the teacher. Patches
are drawn beforehand, a view at a time, as the changes of :mod:`teachers.distillation.augment` are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]
Rows = NDArray[np.int64]
Patches = NDArray[np.int32]

#: share of images that get a patch; the others show the student what it will meet
SHARE = 0.5


def draw_patches(
    rows: Rows, labels: Rows, pixel_shape: tuple[int, int, int], rng: np.random.Generator
) -> Patches:
    """Draw the patches of one view: int32 N×6 of (row, label, top, left, height, width).

    Row and label are those of the image that a patch is of; its area's share of an image of shape
    H×W×C is uniform in [0, 1]. A patch of no height changes nothing.
    """
    height, width, _ = pixel_shape
    count = len(rows)
    side = np.sqrt(rng.random(count)) * (rng.random(count) < SHARE)
    tall, wide = (side * height).astype(np.int32), (side * width).astype(np.int32)
    top, left = rng.integers(0, height - tall + 1), rng.integers(0, width - wide + 1)
    partner = rng.permutation(count)
    columns: list[NDArray[Any]] = [rows[partner], labels[partner], top, left, tall, wide]
    return np.stack(columns, axis=1).astype(np.int32)


def paste(images: Images, source: Images, patches: Patches) -> Images:
    """Images uint8 N×H×W×C with their patches N×6 in place, which are cut from ``source``."""
    y, x = (np.arange(side, dtype=np.int32) for side in images.shape[1:3])
    top, left, tall, wide = patches[:, 2:].T[..., None]
    inside = ((y >= top) & (y < top + tall))[..., None] & ((x >= left) & (x < left + wide))[:, None]
    return np.where(inside[..., None], source[patches[:, 0]], images)


def mixed_labels(
    labels: Rows, patches: Patches, pixel_shape: tuple[int, int, int], classes: int
) -> NDArray[np.float32]:
    """Probabilities N×K: an image's own class and its patch's, by the area of each."""
    height, width, _ = pixel_shape
    share = patches[:, 4] * patches[:, 5] / (height * width)
    mixed = np.zeros((len(labels), classes), np.float32)
    each = np.arange(len(labels))
    mixed[each, labels] = 1 - share
    mixed[each, patches[:, 1]] += share
    return mixed
