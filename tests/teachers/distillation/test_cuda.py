"""Distillation on a graphics processor; runs where there is one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from edge.preprocess import Preprocess
from teachers.data.datasets import Dataset
from teachers.distillation.checkpoint import Checkpoint
from teachers.distillation.distill import Distillation, Recipe, distil
from teachers.distillation.training import predict
from teachers.distillation.training_sets import DistillationSet, ValidationSet
from teachers.networks.small_cnn import SmallCNN

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no graphics processor")

LEARNT, UNSEEN = np.arange(1200), np.arange(1200, 1797)


@pytest.fixture(scope="module")
def distillation_set(
    digits_teacher: nn.Module, digits: Dataset, grey8: Preprocess
) -> DistillationSet:
    teacher = digits_teacher.to("cuda")
    said = predict(teacher, digits.images, grey8, rows=LEARNT, device="cuda")
    digits_teacher.to("cpu")
    return DistillationSet(
        digits.images, LEARNT, digits.labels[LEARNT], said.logits[None], None, grey8
    )


@pytest.fixture(scope="module")
def validation_set(digits: Dataset) -> ValidationSet:
    return ValidationSet(digits.images, UNSEEN, digits.labels[UNSEEN])


def _student() -> SmallCNN:
    torch.manual_seed(0)
    return SmallCNN(channels=1, classes=10, widths=(8, 16, 16, 24)).to("cuda")


def test_answers_are_those_of_the_processor(
    digits_teacher: nn.Module, distillation_set: DistillationSet, digits: Dataset, grey8: Preprocess
) -> None:
    said = predict(digits_teacher, digits.images, grey8, rows=LEARNT)
    assert np.abs(said.logits - distillation_set.logits[0]).max() < 0.1
    assert (said.logits.argmax(1) == distillation_set.logits[0].argmax(1)).mean() > 0.995


@pytest.mark.parametrize("settings", [{}, {"augment": "shift", "keep_best": True, "ema": 0.9}])
def test_a_student_learns(
    settings: dict[str, object], distillation_set: DistillationSet, validation_set: ValidationSet
) -> None:
    recipe = Recipe(epochs=12, batch_size=64, **settings)  # type: ignore[arg-type]
    assert (
        distil(
            _student(),
            None,
            distillation_set,
            recipe,
            seed=0,
            validation_set=validation_set,
            device="cuda",
        ).accuracy
        > 0.9
    )


def test_an_interrupted_training_goes_on_where_it_was(
    distillation_set: DistillationSet, validation_set: ValidationSet
) -> None:
    recipe = Recipe(epochs=4, batch_size=64, precision="fp32", layout="contiguous", ema=0.9)
    whole = Distillation(
        _student(),
        None,
        distillation_set,
        recipe,
        seed=3,
        validation_set=validation_set,
        device="cuda",
    )
    for _ in range(2):
        whole.run_epoch()
    content = whole.save().to_bytes()
    other = Distillation(
        _student(),
        None,
        distillation_set,
        recipe,
        seed=3,
        validation_set=validation_set,
        device="cuda",
    )
    other.restore(Checkpoint.from_bytes(content))
    expected, found = whole.run_epoch(), other.run_epoch()
    # kernels of a graphics processor add up in no fixed order
    assert found.loss == pytest.approx(expected.loss, rel=1e-2)
    assert found.accuracy == pytest.approx(expected.accuracy, abs=0.02)
