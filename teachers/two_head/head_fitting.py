"""Fitting a predictor head alone, the rest of the student frozen.

All that the head reads is computed once for all rows, so that a value of β costs a second or two.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from teachers.distillation.augment import AUGMENTS
from teachers.distillation.training_sets import DistillationSet, Images, Rows
from teachers.two_head.joint_loss import joint_loss, row_losses
from teachers.two_head.two_head import TwoHead, answer

Floats = NDArray[np.float32]

#: most steps of the solver
STEPS = 200
#: weight decay of the head, on features of deviation 1
DECAY = 1e-3
#: what counts as no β at all, and the surest that a head is before it has seen anything
LEAST_BETA, SUREST = 1e-4, 0.95
#: of the largest deviation of a feature: one that hardly moves is not made louder than this
LEAST_SCALE = 1e-3
#: rows whose views are made at a time
CHUNK = 1024


@dataclass(frozen=True)
class Study:
    """What a head learns from.

    ``features`` float32 N×F; ``student_loss`` and ``teacher_loss``, float32 N: ℓ₁ and ℓ₀ of each
    row, the latter None where the teacher is a black box.
    """

    features: Floats
    student_loss: Tensor
    teacher_loss: Tensor | None

    @property
    def excess(self) -> float:
        """The mean of ℓ₁ − ℓ₀: what it costs, in nats, to trust the student everywhere."""
        teacher = 0.0 if self.teacher_loss is None else self.teacher_loss.mean().item()
        return self.student_loss.mean().item() - teacher


def study(
    network: TwoHead,
    distillation_set: DistillationSet,
    augment: str,
    black_box: bool,
    device: str = "cpu",
) -> Study:
    """Ask ``network``, on ``device``, about a lesson's rows.

    Where the teacher's answers are about views drawn beforehand by ``augment``, each of them counts
    as a row.
    """
    said = [
        answer(network, images, distillation_set.preprocess, rows=rows, device=device)
        for images, rows in _views(distillation_set, augment)
    ]
    labels = torch.from_numpy(np.tile(distillation_set.labels, distillation_set.views))
    logits = torch.from_numpy(np.concatenate([part.logits for part in said]))
    teacher = None if black_box else torch.from_numpy(np.concatenate(distillation_set.logits))
    return Study(
        np.concatenate([part.features for part in said]),
        row_losses(logits, labels),
        None if teacher is None else row_losses(teacher, labels),
    )


def fit_head(head: nn.Linear, on: Study, beta: float) -> None:
    """Set ``head``'s weights to what Eq. 9 or 10 asks for, with a little weight decay.

    By L-BFGS over all rows at once, from the best q that does not look at the features; nothing is
    drawn. It works on features of mean 0 and deviation 1, which the weights then undo, and decay
    counts in units of β, as all of the loss does around its least: so one decay suits every student
    and every β.
    """
    mean, scale = _standard(on.features)
    features = torch.from_numpy((on.features - mean) / scale)
    start = _blind(on, beta)
    weight = torch.zeros(features.shape[1], requires_grad=True)
    shift = torch.zeros((), requires_grad=True)
    solver = torch.optim.LBFGS([weight, shift], max_iter=STEPS, line_search_fn="strong_wolfe")
    decay = DECAY / 2 * max(beta, LEAST_BETA)

    def closure() -> float:
        solver.zero_grad()
        trust = features @ weight + (start + shift)
        loss = joint_loss(on.student_loss, on.teacher_loss, trust, beta)
        # the bias decays too: where q is 1 for every row, nothing else would lead back
        loss = loss + decay * (weight.square().sum() + shift.square())
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.item()

    solver.step(closure)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        weight = weight / torch.from_numpy(scale)
        head.weight.copy_(weight)
        head.bias.copy_(start + shift - weight @ torch.from_numpy(mean))


def _blind(on: Study, beta: float) -> float:
    """The logit of the best q that is the same for every row, β over the mean excess loss."""
    q = min(max(beta, LEAST_BETA) / max(on.excess, LEAST_BETA), SUREST)
    return math.log(q / (1 - q))


def _views(distillation_set: DistillationSet, augment: str) -> Iterator[tuple[Images, Rows]]:
    """The images that the teacher's answers are about, in their order, and which of them."""
    if distillation_set.draws is None:
        yield distillation_set.images, distillation_set.rows
        return
    for draws in distillation_set.draws:
        for start in range(0, len(distillation_set), CHUNK):
            part = slice(start, start + CHUNK)
            images = AUGMENTS[augment].apply(
                distillation_set.images[distillation_set.rows[part]], draws[part]
            )
            yield images, np.arange(len(images))


def _standard(features: Floats) -> tuple[Floats, Floats]:
    """Mean and deviation of each feature; 1 for all where none of them moves."""
    mean, scale = features.mean(0), features.std(0)
    scale = np.maximum(scale, LEAST_SCALE * scale.max())
    return mean, np.where(scale > 0, scale, np.float32(1))
