"""Rows that a student learns from and is validated on, with what the teacher said of them.

Images are those of the whole data set, named by row numbers, so that they exist once: in memory, in
a memory map, or in memory that processes share. Arrays may be read-only; they are only ever read,
a batch at a time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

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
    """

    images: Images
    rows: Rows
    labels: Rows
    logits: NDArray[np.float32]
    features: NDArray[np.float32] | None
    preprocess: Preprocess
    draws: NDArray[np.int16] | None = None

    def __post_init__(self) -> None:
        answers = [array for array in (self.logits, self.features, self.draws) if array is not None]
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
        """The set of some of its rows (numbers from 0 to N − 1); images are shared, not cut."""
        return replace(
            self,
            rows=self.rows[chosen],
            labels=self.labels[chosen],
            logits=self.logits[:, chosen],
            features=None if self.features is None else self.features[:, chosen],
            draws=None if self.draws is None else self.draws[:, chosen],
        )


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
