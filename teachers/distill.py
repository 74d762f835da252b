"""One student, start to finish: the teacher's cached answers in, a trained student out.

No Ray and no teacher here: a :class:`Lesson` holds what the teacher said, once, about every row.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edge.errors import check_member
from edge.preprocess import Preprocess
from teachers import metrics
from teachers import precision as precisions
from teachers.augment import AUGMENTS
from teachers.losses import Total, build_loss, out_of_range
from teachers.training import Diverged, Epoch, Rows, Schedule, Tap, predict, run_epochs, seeded

__all__ = ["Diverged", "EpochReport", "Lesson", "Outcome", "Recipe", "distil", "distilling"]


@dataclass(frozen=True)
class Recipe:
    """How a student is trained; BadInput where a value is out of range.

    The default suits a short proxy and a full training alike: the rate's rise and fall stretches
    over ``epochs``. ``kd_weight`` and ``ce_weight`` of None are those of the loss (see
    :mod:`teachers.losses`). ``precision`` is "auto", "fp32" or "bf16" (:mod:`teachers.precision`).
    ``augment`` is one of :data:`teachers.augment.AUGMENTS`.
    ``keep_best`` keeps the weights of the best validation epoch, else those of the last.
    """

    epochs: int
    batch_size: int = 128
    learning_rate: float = 5e-3
    weight_decay: float = 1e-4
    loss: str = "soft"
    kd_weight: float | None = None
    ce_weight: float | None = None
    temperature: float = 4.0
    precision: str = "auto"
    augment: str = "none"
    keep_best: bool = False

    def __post_init__(self) -> None:
        _at_least("epochs", self.epochs, 1)
        _at_least("batch_size", self.batch_size, 2)
        _at_least("weight_decay", self.weight_decay, 0)
        if not 0 < self.learning_rate < math.inf:
            raise out_of_range("learning_rate", self.learning_rate, "a number above 0")
        precisions.check(self.precision)
        check_member("augmentation", self.augment, AUGMENTS)
        self.build_loss()

    def schedule(self) -> Schedule:
        """How the weights are updated."""
        return Schedule(self.epochs, self.batch_size, self.learning_rate, self.weight_decay)

    def build_loss(self) -> Total:
        """The loss that this recipe names."""
        return build_loss(
            self.loss,
            kd_weight=self.kd_weight,
            ce_weight=self.ce_weight,
            temperature=self.temperature,
        )


@dataclass(frozen=True)
class Lesson:
    """Rows to learn from, and what the teacher says about each.

    ``images`` uint8 N×H×W×C, ``labels`` int64 N, ``teacher_logits`` float32 N×K,
    ``teacher_features`` float32 N×F or None. Arrays may be read-only memory maps: they are only
    ever read, a batch at a time.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    teacher_logits: NDArray[np.float32]
    teacher_features: NDArray[np.float32] | None
    preprocess: Preprocess

    def __post_init__(self) -> None:
        rows = {len(self.images), len(self.labels), len(self.teacher_logits)}
        if self.teacher_features is not None:
            rows.add(len(self.teacher_features))
        if len(rows) != 1:
            raise ValueError(f"a lesson's arrays must have the same rows, got {sorted(rows)}")


@dataclass(frozen=True)
class EpochReport:
    """One epoch of ``epochs``: mean training loss, and the metric on the validation rows.

    ``accuracy`` is None where this epoch was not validated.
    """

    epoch: int
    epochs: int
    loss: float
    accuracy: float | None
    samples_per_second: float


@dataclass(frozen=True)
class Outcome:
    """What came of a training.

    ``accuracy`` is the metric on the validation rows for the weights that the student now has (NaN
    without validation rows); ``seconds`` counts everything, ``samples_per_second`` training alone.
    """

    accuracy: float
    epochs: list[EpochReport]
    seconds: float
    samples_per_second: float


def distil(
    student: nn.Module,
    tap: str | None,
    lesson: Lesson,
    recipe: Recipe,
    *,
    seed: int,
    validation: tuple[NDArray[np.uint8], NDArray[np.int64]] | None = None,
    metric: str = "accuracy",
    device: str = "cpu",
    on_epoch: Callable[[EpochReport], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Outcome:
    """Train ``student`` in place on ``lesson`` and leave it in eval mode.

    ``tap`` is the dotted name of the submodule whose input is the student's features; only losses
    that need features read it. ``validation`` is (images, labels); every epoch is validated where
    someone looks (``on_epoch`` or ``keep_best``), else the last alone. ``should_stop`` is asked
    after every batch, and ends training there. The same seed and number of threads give the same
    weights to the bit. Raises Diverged where a loss or a validation logit is not finite.
    """
    steps = distilling(
        student,
        tap,
        lesson,
        recipe,
        seed=seed,
        validation=validation,
        metric=metric,
        device=device,
        every_epoch=on_epoch is not None,
        should_stop=should_stop,
    )
    while True:
        try:
            report = next(steps)
        except StopIteration as end:
            outcome: Outcome = end.value
            return outcome
        if on_epoch is not None:
            on_epoch(report)


def distilling(
    student: nn.Module,
    tap: str | None,
    lesson: Lesson,
    recipe: Recipe,
    *,
    seed: int,
    validation: tuple[NDArray[np.uint8], NDArray[np.int64]] | None = None,
    metric: str = "accuracy",
    device: str = "cpu",
    every_epoch: bool = True,
    should_stop: Callable[[], bool] | None = None,
) -> Generator[EpochReport, None, Outcome]:
    """:func:`distil` an epoch at a time: yields its reports and returns its outcome.

    ``every_epoch`` validates after each; else only where ``keep_best`` or the end asks for it.
    """
    started = time.perf_counter()
    reports: list[EpochReport] = []
    best = _Best()
    seen, training_seconds = 0, 0.0
    examine = _examiner(student, lesson.preprocess, validation, metric, device)
    with seeded(student, seed, device), _batches(student, tap, lesson, recipe, device) as loss_of:
        epochs = run_epochs(
            student,
            lesson.images,
            lesson.preprocess,
            loss_of,
            recipe.schedule(),
            seed=seed,
            device=device,
            augment=AUGMENTS[recipe.augment],
            should_stop=should_stop or (lambda: False),
        )
        for epoch in epochs:
            looked_at = every_epoch or recipe.keep_best or epoch.last
            accuracy = examine(epoch) if looked_at else None
            if recipe.keep_best and accuracy is not None:
                best.offer(accuracy, student)
            report = EpochReport(
                epoch.number, recipe.epochs, epoch.loss, accuracy, epoch.rows / epoch.seconds
            )
            reports.append(report)
            seen, training_seconds = seen + epoch.rows, training_seconds + epoch.seconds
            yield report
        best.restore(student)
    student.eval()
    final = best.accuracy if best.weights is not None else reports[-1].accuracy
    return Outcome(
        accuracy=math.nan if final is None else final,
        epochs=reports,
        seconds=time.perf_counter() - started,
        samples_per_second=seen / training_seconds,
    )


@contextmanager
def _batches(
    student: nn.Module, tap: str | None, lesson: Lesson, recipe: Recipe, device: str
) -> Iterator[Callable[[Tensor, Rows], Tensor]]:
    """The loss of a batch as a function; the tap is in place for the time of the ``with``."""
    total = recipe.build_loss()
    needs_features = total.knowledge.needs_features and total.kd_weight > 0
    if needs_features and (tap is None or lesson.teacher_features is None):
        raise ValueError(f"loss {recipe.loss!r} needs a tap and the teacher's features")
    mode = precisions.resolve(recipe.precision, student, lesson.preprocess.input_shape, device)

    def taught(array: NDArray[Any], rows: Rows) -> Tensor:
        return torch.from_numpy(array[rows]).to(device)

    with Tap(student, tap if needs_features else None) as tapped:

        def loss_of(x: Tensor, rows: Rows) -> Tensor:
            with precisions.autocast(mode, device):
                logits = student(x)
            features = teacher_features = None
            if needs_features:
                assert tapped.value is not None
                assert lesson.teacher_features is not None
                features = tapped.value.float()
                teacher_features = taught(lesson.teacher_features, rows)
            teacher_logits = taught(lesson.teacher_logits, rows)
            labels = taught(lesson.labels, rows)
            return total(logits.float(), features, teacher_logits, teacher_features, labels)

        yield loss_of


def _examiner(
    student: nn.Module,
    preprocess: Preprocess,
    validation: tuple[NDArray[np.uint8], Rows] | None,
    metric: str,
    device: str,
) -> Callable[[Epoch], float | None]:
    score = metrics.metric(metric)

    def examine(epoch: Epoch) -> float | None:
        if validation is None:
            return None
        images, labels = validation
        logits = predict(student, images, preprocess, device=device).logits
        if not np.isfinite(logits).all():
            raise Diverged("a validation logit", epoch.number)
        return score(logits, labels)

    return examine


class _Best:
    """The weights of the best epoch so far; the earlier of two equals."""

    def __init__(self) -> None:
        self.accuracy = -math.inf
        self.weights: dict[str, Tensor] | None = None

    def offer(self, accuracy: float, student: nn.Module) -> None:
        if accuracy > self.accuracy:
            self.accuracy = accuracy
            self.weights = {name: value.clone() for name, value in student.state_dict().items()}

    def restore(self, student: nn.Module) -> None:
        if self.weights is not None:
            student.load_state_dict(self.weights)


def _at_least(what: str, value: float, least: float) -> None:
    if not least <= value < math.inf:
        raise out_of_range(what, value, f"at least {least}")
