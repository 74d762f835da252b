"""How long students train, and on how much: a plan in steps, whatever the rows.

An epoch of 1,000 rows at a batch of 128 is eight steps, and nothing is learnt in eight steps. So
what a plan fixes is the number of *steps* of a proxy and of a full training; batch, epochs and rate
follow from the rows and classes that there are. Numbers that the job names stand as they are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from search.job.spec import JobSpec

#: steps of a proxy and of a full training, with up to :data:`USUAL_CLASSES` classes; more classes
#: take more of them, by the square root
PROXY_STEPS, FULL_STEPS, USUAL_CLASSES = 300, 2500, 10
#: a full training sees every row so often, however many rows there are
LEAST_EPOCHS, LEAST_PROXY_EPOCHS = 12, 3
#: rows a proxy learns from, and per class
PROXY_ROWS, ROWS_PER_CLASS, MOST_PROXY_ROWS = 3000, 100, 20_000
#: below so many rows a batch of so many; small batches give few rows more steps
BATCHES = ((2_500, 32), (15_000, 64))
USUAL_BATCH, PROXY_BATCH = 128, 32
#: peak learning rate
RATE = 5e-3
#: a full training ends after this share of its epochs without a better one, and at least so many
PATIENCE, LEAST_PATIENCE = 1 / 3, 8
#: temperature of soft targets, and where rows are so few that the teacher's errors are most of what
#: a soft target adds
SOFT, SHARP, FEW_ROWS = 4.0, 2.0, 2_500
#: about so many patched views of few rows are answered by the teacher, in at most so many of a row
PATCHED, MOST_VIEWS = 16_000, 64


@dataclass(frozen=True)
class TrainingPlan:
    """Rows, epochs, batches and rates of a job's trainings.

    Attributes:
        rows: of the distillation part.
        proxy_rows, proxy_epochs, proxy_batch_size: of a candidate's proxy.
        final_epochs, batch_size: of a finalist's full training.
        learning_rate: at its peak.
        patience: epochs without a better one after which a full training ends; 0 for never.
        augment: change of a finalist's images (:data:`teachers.distillation.augment.AUGMENTS`).
        views: changed views of an image that the teacher answers beforehand; 0 for none.
        temperature: of soft targets.
        cutmix: whether half of the views have a patch of another image.
    """

    rows: int
    proxy_rows: int
    proxy_epochs: int
    proxy_batch_size: int
    final_epochs: int
    batch_size: int
    learning_rate: float
    patience: int
    augment: str = "shift"
    views: int = 0
    temperature: float = 4.0
    cutmix: bool = False

    @property
    def proxy_steps(self) -> int:
        """Updates of the weights in a proxy."""
        return self.proxy_epochs * math.ceil(self.proxy_rows / self.proxy_batch_size)

    @property
    def full_steps(self) -> int:
        """Updates of the weights in a full training that does not end early."""
        return self.final_epochs * math.ceil(self.rows / self.batch_size)

    def lengthened(self, factor: int) -> TrainingPlan:
        """The same with proxies so many times as long, but no longer than a full training."""
        epochs = self.proxy_epochs * factor
        full = self.final_epochs * self.rows // self.proxy_rows
        return replace(self, proxy_epochs=min(epochs, max(full, self.proxy_epochs)))

    def __str__(self) -> str:
        """What was chosen, in words."""
        return (
            f"proxies: {self.proxy_steps:,} steps ({self.proxy_epochs} epochs of "
            f"{self.proxy_rows:,} rows, batch {self.proxy_batch_size}); full trainings: up to "
            f"{self.full_steps:,} steps ({self.final_epochs} epochs of {self.rows:,} rows, batch "
            f"{self.batch_size}); rate {self.learning_rate:.2g}, augmentation {self.augment}"
            f"{' with cutmix' if self.cutmix else ''}"
            f"{f' in {self.views} views' if self.views else ''}"
        )


def training_plan(spec: JobSpec, rows: int, classes: int, mirrored: bool = False) -> TrainingPlan:
    """The plan of a job on so many rows of the distillation part and so many classes.

    ``mirrored`` says whether the teacher is as right about mirrored images.
    """
    more = math.sqrt(max(1.0, classes / USUAL_CLASSES))
    batch = spec.batch_size or next((size for most, size in BATCHES if rows < most), USUAL_BATCH)
    proxy_batch = spec.batch_size or min(batch, PROXY_BATCH)
    wanted = min(MOST_PROXY_ROWS, max(PROXY_ROWS, ROWS_PER_CLASS * classes))
    proxy_rows = min(rows, spec.proxy_rows or wanted)
    epochs = math.ceil(FULL_STEPS * more * batch / rows)
    proxy_epochs = math.ceil(PROXY_STEPS * more * proxy_batch / proxy_rows)
    final_epochs = spec.final_epochs or max(LEAST_EPOCHS, epochs)
    augment = spec.augment
    if augment == "auto":
        augment = "flip_shift" if mirrored else "shift"
    cutmix = _cutmix(spec, rows)
    patience = spec.patience
    if patience is None:
        patience = max(LEAST_PATIENCE, math.ceil(PATIENCE * final_epochs))
    return TrainingPlan(
        rows=rows,
        proxy_rows=proxy_rows,
        proxy_epochs=spec.proxy_epochs or max(LEAST_PROXY_EPOCHS, proxy_epochs),
        proxy_batch_size=proxy_batch,
        final_epochs=final_epochs,
        batch_size=batch,
        learning_rate=spec.learning_rate or RATE,
        patience=patience,
        augment=augment,
        views=spec.views or (_patched_views(rows) if cutmix else 0),
        temperature=spec.temperature or (SHARP if rows < FEW_ROWS else SOFT),
        cutmix=cutmix,
    )


def _cutmix(spec: JobSpec, rows: int) -> bool:
    """Whether images are patched; of itself only where the student imitates answers about them."""
    if spec.mix != "auto":
        return spec.mix == "cutmix"
    return rows < FEW_ROWS and spec.loss == "soft" and spec.augment != "none"


def _patched_views(rows: int) -> int:
    return min(MOST_VIEWS, math.ceil(PATCHED / rows))
