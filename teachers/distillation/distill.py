"""One student, start to finish: the teacher's cached answers in, a trained student out.

No Ray and no teacher here: a :class:`~teachers.distillation.training_sets.DistillationSet` holds
what the teacher said, once, about every row.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from teachers.acceleration.modes import Mode, Trial, modes
from teachers.distillation import metrics
from teachers.distillation.augment import AUGMENTS
from teachers.distillation.checkpoint import Checkpoint
from teachers.distillation.cutmix import mixed_labels, paste
from teachers.distillation.recipe import Recipe
from teachers.distillation.trainer import Descent, Diverged, Trainer
from teachers.distillation.training import Tap, normalise, predict
from teachers.distillation.training_sets import DistillationSet, Rows, ValidationSet

#: share of its epochs in which a training that no longer gains comes to its end
DESCENT = 0.2

__all__ = ["Distillation", "Diverged", "EpochReport", "Outcome", "Recipe", "distil"]


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
    mode: Mode


class Distillation:
    """One student's training, an epoch at a time.

    It can be saved after any epoch and gone on with in another process: the same seed, mode and
    number of threads give the same weights to the bit, whether it was interrupted or not. Use it as
    a context manager, or call :meth:`finish` or :meth:`close`, so that the student is left as it
    was found: hooks off, weights in the usual order of memory.

    Args:
        student: trained in place; on ``device``.
        tap: dotted name of the submodule whose input is the student's features; only losses that
            need features read it.
        lesson: rows and the teacher's answers.
        recipe: how to train.
        seed: of everything that is drawn.
        exam: what accuracy is measured on.
        device: as torch names it.
        should_stop: asked after every batch; True ends the training there.

    Raises:
        ValueError: the loss needs features that nobody gives.
    """

    def __init__(
        self,
        student: nn.Module,
        tap: str | None,
        distillation_set: DistillationSet,
        recipe: Recipe,
        *,
        seed: int,
        validation_set: ValidationSet | None = None,
        device: str = "cpu",
        should_stop: Callable[[], bool] | None = None,
    ) -> None:
        self.student, self.distillation_set, self.recipe = student, distillation_set, recipe
        self.validation_set, self.device = validation_set, device
        self.reports: list[EpochReport] = []
        self.done = False
        self._should_stop = should_stop or (lambda: False)
        self._started = time.perf_counter()
        self._earlier = 0.0
        self._training_seconds, self._seen = 0.0, 0
        self._total = recipe.build_loss()
        self._needs_features = self._total.knowledge.needs_features and self._total.kd_weight > 0
        if self._needs_features and (tap is None or distillation_set.features is None):
            raise ValueError(f"loss {recipe.loss!r} needs a tap and the teacher's features")
        self._augment = AUGMENTS[recipe.augment]
        self._drawn = np.zeros(0, np.int64)
        self._best = _Best()
        shape = distillation_set.preprocess.input_shape
        tapped = tap if self._needs_features else None
        self._adapter = self._adapted(tapped, seed)
        self._trainer = Trainer(
            student,
            len(distillation_set),
            recipe.schedule(),
            Trial(modes(recipe.precision, recipe.layout, student, shape, device)),
            seed=seed,
            device=device,
            beside=self._adapter,
            ema=recipe.ema,
        )
        self._tap = Tap(student, tapped).__enter__()

    def __enter__(self) -> Distillation:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return len(self.reports)

    @property
    def mode(self) -> Mode:
        """Number format and layout, as far as they are chosen."""
        return self._trainer.trial.mode

    def run_epoch(self, examine: bool = True) -> EpochReport:
        """The next epoch; examined where asked, where ``keep_best`` needs it, and the last one.

        Raises:
            Diverged: a loss or a validation logit is not finite.
        """
        if self.done:
            raise ValueError(f"the training ended after {self.epoch} epochs")
        epoch = self._trainer.epoch(self.epoch + 1, self._feed, self._objective, self._should_stop)
        looked_at = examine or self._judged or epoch.last
        accuracy = self._examine(epoch.number) if looked_at else None
        self._seen += epoch.rows
        self._training_seconds += epoch.seconds
        report = EpochReport(
            epoch.number, self.recipe.epochs, epoch.loss, accuracy, epoch.rows / epoch.seconds
        )
        self.reports.append(report)
        self.done = epoch.last
        if accuracy is not None and self._judged:
            self._best.offer(accuracy, epoch.number, self._shown)
            stale = epoch.number - self._best.epoch
            if 0 < self.recipe.patience <= stale:
                self._descend(epoch.number)
        return report

    def _descend(self, number: int) -> None:
        """Let the rate fall from here on: what it has learnt is worth little before that."""
        epochs = math.ceil(DESCENT * self.recipe.epochs)
        if self._trainer.descent is None and number + epochs < self.recipe.epochs:
            self._trainer.descent = Descent(number, epochs)

    def save(self) -> Checkpoint:
        """Everything that the rest of the training depends on."""
        state = self._trainer.save()
        best = {f"best.{name}": value for name, value in self._best.arrays().items()}
        meta = {
            "reports": [asdict(report) for report in self.reports],
            "done": self.done,
            "best": [self._best.epoch, self._best.accuracy] if self._best.epoch else None,
            "seconds": self._seconds,
            "training_seconds": self._training_seconds,
            "seen": self._seen,
        }
        return Checkpoint({**state.arrays, **best}, {**state.meta, **meta})

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from ``checkpoint``, in a fresh object of the same student, recipe and seed."""
        meta = checkpoint.meta
        self._trainer.restore(checkpoint)
        self.reports = [EpochReport(**report) for report in meta["reports"]]
        self.done = bool(meta["done"])
        if meta["best"] is not None:
            self._best.epoch, self._best.accuracy = meta["best"]
            best = checkpoint.part("best")
            self._best.weights = {name: torch.from_numpy(array) for name, array in best.items()}
        self._earlier, self._seen = meta["seconds"], meta["seen"]
        self._training_seconds = meta["training_seconds"]

    def finish(self) -> Outcome:
        """The best or the averaged weights in place, the student in eval mode and as it was."""
        accuracy = self.reports[-1].accuracy
        if self._best.weights is not None and self._best.accuracy > self._by_luck(accuracy):
            accuracy = self._best.accuracy
            self.student.load_state_dict(self._best.weights)
        elif self._trainer.averaged is not None:
            self.student.load_state_dict(self._trainer.averaged.module.state_dict())
        self.close()
        self.student.eval()
        return Outcome(
            accuracy=math.nan if accuracy is None else accuracy,
            epochs=list(self.reports),
            seconds=self._seconds,
            samples_per_second=self._seen / self._training_seconds,
            mode=self.mode,
        )

    def _by_luck(self, accuracy: float | None) -> float:
        """The accuracy that the best of many epochs may have by luck alone, where the last one has
        this.

        On few rows some epoch before the rate fell is nearly always right about a row or two more.
        """
        if accuracy is None or self.validation_set is None:
            return -math.inf
        rows = max(1, len(self.validation_set.rows))
        return accuracy + 2 * math.sqrt(max(accuracy * (1 - accuracy), 1 / rows) / rows)

    def close(self) -> None:
        """Leave the student as it is, hooks off and in the usual order of memory."""
        self._tap.__exit__()
        self._trainer.__exit__()

    @property
    def _seconds(self) -> float:
        return self._earlier + time.perf_counter() - self._started

    @property
    def _judged(self) -> bool:
        """Whether epochs compete with each other."""
        return self.validation_set is not None and (
            self.recipe.keep_best or self.recipe.patience > 0
        )

    @property
    def _shown(self) -> nn.Module:
        """The network that is examined: with averaged weights where there are any."""
        averaged = self._trainer.averaged
        return self.student if averaged is None else averaged.module

    def _feed(self, picked: Rows, rng: np.random.Generator) -> Tensor:
        """Inputs of a batch, each image in a view of its own."""
        distillation_set = self.distillation_set
        pixels = distillation_set.images[distillation_set.rows[picked]]
        if distillation_set.draws is not None:
            self._drawn = rng.integers(distillation_set.views, size=len(picked))
            pixels = self._augment.apply(pixels, distillation_set.draws[self._drawn, picked])
            if distillation_set.patches is not None:
                patches = distillation_set.patches[self._drawn, picked]
                pixels = paste(pixels, distillation_set.images, patches)
        elif self.recipe.augment != "none":
            shape = distillation_set.preprocess.pixel_shape
            pixels = self._augment.apply(pixels, self._augment.draw(len(picked), shape, rng))
        return normalise(pixels, distillation_set.preprocess, self.device)

    def _objective(self, logits: Tensor, picked: Rows) -> Tensor:
        features = teacher_features = None
        if self._needs_features:
            assert self._tap.value is not None
            assert self.distillation_set.features is not None
            features = self._tap.value.float()
            teacher_features = self._said(self.distillation_set.features, picked)
            if self._adapter is not None:
                features = self._adapter(features)
        labels = _on(self.device, self._targets(picked, logits.shape[1]))
        said = self._said(self.distillation_set.logits, picked)
        return self._total(logits, features, said, teacher_features, labels)

    def _targets(self, picked: Rows, classes: int) -> NDArray[Any]:
        """Class indices n; probabilities n×K where images have patches of other classes."""
        distillation_set = self.distillation_set
        labels = distillation_set.labels[picked]
        if distillation_set.patches is None:
            return labels
        shape = distillation_set.preprocess.pixel_shape
        return mixed_labels(labels, distillation_set.patches[self._drawn, picked], shape, classes)

    def _said(self, answers: NDArray[Any], picked: Rows) -> Tensor:
        """The teacher's answers about the views that :meth:`_feed` took."""
        views: Rows | int = 0 if self.distillation_set.draws is None else self._drawn
        return _on(self.device, answers[views, picked])

    def _adapted(self, tap: str | None, seed: int) -> nn.Module | None:
        """The loss's adapter from the student's features to the teacher's, if it has one."""
        features = self.distillation_set.features
        if tap is None or features is None:
            return None
        first = self.distillation_set.images[self.distillation_set.rows[:1]]
        seen = predict(
            self.student, first, self.distillation_set.preprocess, tap=tap, device=self.device
        )
        assert seen.features is not None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            adapter = self._total.knowledge.adapter(seen.features.shape[1], features.shape[2])
        return None if adapter is None else adapter.to(self.device)

    def _examine(self, number: int) -> float | None:
        validation_set = self.validation_set
        if validation_set is None:
            return None
        logits = predict(
            self._shown,
            validation_set.images,
            self.distillation_set.preprocess,
            rows=validation_set.rows,
            device=self.device,
        ).logits
        if not np.isfinite(logits).all():
            raise Diverged("a validation logit", number)
        return metrics.metric(validation_set.metric)(logits, validation_set.labels)


def distil(
    student: nn.Module,
    tap: str | None,
    distillation_set: DistillationSet,
    recipe: Recipe,
    *,
    seed: int,
    validation_set: ValidationSet | None = None,
    device: str = "cpu",
    on_epoch: Callable[[EpochReport], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Outcome:
    """Train ``student`` in place on ``lesson`` and leave it in eval mode.

    Arguments as of :class:`Distillation`. Every epoch is validated where someone looks
    (``on_epoch`` or ``keep_best``), else the last alone. Raises Diverged where a loss or a
    validation logit is not finite.
    """
    with Distillation(
        student,
        tap,
        distillation_set,
        recipe,
        seed=seed,
        validation_set=validation_set,
        device=device,
        should_stop=should_stop,
    ) as training:
        while not training.done:
            report = training.run_epoch(examine=on_epoch is not None)
            if on_epoch is not None:
                on_epoch(report)
        return training.finish()


class _Best:
    """The weights of the best epoch so far; the earlier of two equals."""

    def __init__(self) -> None:
        self.accuracy = -math.inf
        self.epoch = 0
        self.weights: dict[str, Tensor] | None = None

    def offer(self, accuracy: float, epoch: int, student: nn.Module) -> None:
        if accuracy > self.accuracy:
            self.accuracy, self.epoch = accuracy, epoch
            self.weights = {name: value.clone() for name, value in student.state_dict().items()}

    def arrays(self) -> dict[str, NDArray[Any]]:
        weights = self.weights or {}
        return {name: value.cpu().contiguous().numpy() for name, value in weights.items()}


def _on(device: str, array: NDArray[Any]) -> Tensor:
    tensor = torch.from_numpy(array)
    return tensor if device == "cpu" else tensor.pin_memory().to(device, non_blocking=True)
