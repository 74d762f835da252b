"""Rows that a student learns from and is validated on, with what the teacher said of them.

Images are those of the whole data set, named by row numbers, so that they exist once: in memory, in
a memory map, or in memory that processes share. Arrays may be read-only; they are only ever read,
a batch at a time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.preprocess import Preprocess

Images = NDArray[np.uint8]
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class DistillationSet:
    """Rows to learn from, and what the teacher says about each.

    Attributes:
        images: uint8 M×H×W×C, the data set's.
        rows: int64 N, which of them.
        labels: int64 N.
        logits: float32 V×N×K, the teacher's, for each of V views (1 where none are drawn
            beforehand).
        features: float32 V×N×F, or None.
        preprocess: pixels → input.
        draws: int16 V×N×D, what augmentation drew for every view; None where the answers are about
            the unchanged images.
        patches: int32 V×N×6, pasted into all views but the first
            (:mod:`teachers.distillation.cutmix`), or None.
    """

    images: Images
    rows: Rows
    labels: Rows
    logits: NDArray[np.float32]
    features: NDArray[np.float32] | None
    preprocess: Preprocess
    draws: NDArray[np.int16] | None = None
    patches: NDArray[np.int32] | None = None

    def __post_init__(self) -> None:
        given = (self.logits, self.features, self.draws, self.patches)
        answers = [array for array in given if array is not None]
        views = {array.shape[0] for array in answers}
        rows = {len(self.rows), len(self.labels), *(array.shape[1] for array in answers)}
        if len(views) != 1 or len(rows) != 1:
            raise ValueError(
                "a distillation set's arrays must have the same rows and views, got "
                f"rows {sorted(rows)} and views {sorted(views)}"
            )

    @property
    def views(self) -> int:
        """Pre-drawn views of each image; 1 where there are none but the image itself."""
        return len(self.logits)

    def __len__(self) -> int:
        return len(self.rows)

    def part(self, chosen: Rows) -> DistillationSet:
        """The set of some of its rows (numbers from 0 to N − 1); images are shared, not cut.

        Nothing of the other rows is left in it: a view with a patch of one of them gives way to an
        earlier view.
        """
        rows = self.rows[chosen]
        views = self._views_of_their_own(rows, chosen)

        def cut(array: NDArray[Any] | None) -> Any:
            return None if array is None else array[views, chosen]

        return replace(
            self,
            rows=rows,
            labels=self.labels[chosen],
            logits=cut(self.logits),
            features=cut(self.features),
            draws=cut(self.draws),
            patches=cut(self.patches),
        )

    def _views_of_their_own(self, rows: Rows, chosen: Rows) -> Rows:
        """V×n, or V×1 where nothing is patched: the view that stands for each."""
        views = np.arange(self.views)[:, None]
        if self.patches is None:
            return views
        patches = self.patches[:, chosen]
        own = np.isin(patches[..., 0], rows) | (patches[..., 4] == 0)
        own[0] = True  # the first view has no patches
        return np.maximum.accumulate(np.where(own, views, 0), axis=0)


@dataclass(frozen=True)
class ValidationSet:
    """What a student's accuracy is measured on: never rows that it learns from.

    ``images`` uint8 M×H×W×C, ``rows`` int64 N, ``labels`` int64 N, ``metric`` one of
    :data:`teachers.distillation.metrics.METRICS`.
    """

    images: Images
    rows: Rows
    labels: Rows
    metric: str = "accuracy"

    def __post_init__(self) -> None:
        if len(self.rows) != len(self.labels):
            raise ValueError(
                f"{len(self.rows)} rows of a validation set have {len(self.labels)} labels"
            )
