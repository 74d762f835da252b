"""Sets to learn from: their parts hold nothing of the rows that were left out."""

from __future__ import annotations

import numpy as np
import pytest

from edge.preprocess import Preprocess
from teachers.distillation.cutmix import draw_patches
from teachers.distillation.training_sets import DistillationSet

SHAPE = (6, 6, 1)
PREPROCESS = Preprocess(height=6, width=6, channels=1, mean=(0.0,), std=(1.0,))


def patched_set(views: int = 5, rows: int = 40) -> DistillationSet:
    rng = np.random.default_rng(0)
    numbers = np.arange(100, 100 + rows)
    labels = rng.integers(0, 3, rows)
    patches = np.stack([draw_patches(numbers, labels, SHAPE, rng) for _ in range(views)])
    patches[0, :, 4:] = 0
    # every answer names its view and row, so that what stands for what can be read
    logits = np.zeros((views, rows, 3), np.float32)
    logits[..., 0], logits[..., 1] = np.arange(views)[:, None], numbers
    draws = np.zeros((views, rows, 2), np.int16)
    draws[..., 0] = np.arange(views)[:, None]
    images = rng.integers(0, 255, (200, *SHAPE), dtype=np.uint8)
    return DistillationSet(images, numbers, labels, logits, None, PREPROCESS, draws, patches)


def test_a_part_has_no_patch_of_a_row_that_was_left_out() -> None:
    whole = patched_set()
    chosen = np.arange(0, 40, 3)
    part = whole.part(chosen)
    assert part.patches is not None
    assert part.draws is not None
    seen = part.patches[..., 4] > 0
    assert seen.any()
    assert np.isin(part.patches[..., 0][seen], part.rows).all()
    # an answer is about the view that stands there, and the row
    assert (part.logits[..., 0] == part.draws[..., 0]).all()
    assert (part.logits[..., 1] == part.rows).all()
    assert (part.labels == whole.labels[chosen]).all()


def test_views_with_patches_of_its_own_rows_stay() -> None:
    whole = patched_set()
    same = whole.part(np.arange(40))
    assert whole.patches is not None
    assert same.patches is not None
    assert (same.patches == whole.patches).all()
    assert (same.logits == whole.logits).all()


def test_arrays_of_other_lengths_are_refused() -> None:
    whole = patched_set()
    with pytest.raises(ValueError, match="same rows and views"):
        DistillationSet(
            whole.images, whole.rows, whole.labels, whole.logits[:2], None, PREPROCESS, whole.draws
        )
