"""AppealNet's joint training (Algorithm 1): a distillation with another loss."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from teachers.distillation.distill import Distillation
from teachers.distillation.recipe import Recipe
from teachers.distillation.training_sets import DistillationSet, Rows
from teachers.two_head.joint_loss import joint_loss, row_losses
from teachers.two_head.two_head import TwoHead, split


class JointTraining(Distillation):
    """Both heads of a student and what they share, an epoch at a time.

    Everything that a distillation has is here too: its optimiser and schedule, augmentation and
    views, averaged weights, checkpoints after any epoch. The recipe's ``loss``, ``keep_best`` and
    ``patience`` mean nothing: the loss is Eq. 9, or Eq. 10 with ``black_box``, and the epoch that
    counts is the last. f₀ is what the lesson says that the teacher said.

    Args:
        network: trained in place; on ``device``.
        lesson: rows and the teacher's answers.
        recipe: how to train.
        beta: β of the loss.
        black_box: take the teacher to be right everywhere.
        seed: of everything that is drawn.
        device: as torch names it.
    """

    def __init__(
        self,
        network: TwoHead,
        distillation_set: DistillationSet,
        recipe: Recipe,
        *,
        beta: float,
        black_box: bool = False,
        seed: int,
        device: str = "cpu",
    ) -> None:
        self.beta, self.black_box = beta, black_box
        recipe = replace(recipe, loss="none", kd_weight=None, keep_best=False, patience=0)
        super().__init__(network, None, distillation_set, recipe, seed=seed, device=device)

    def _objective(self, output: Tensor, picked: Rows) -> Tensor:
        logits, trust = split(output)
        labels = torch.from_numpy(self.distillation_set.labels[picked]).to(logits.device)
        teacher = None
        if not self.black_box:
            teacher = row_losses(self._said(self.distillation_set.logits, picked), labels)
        return joint_loss(row_losses(logits, labels), teacher, trust, self.beta)
