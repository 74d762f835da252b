"""What a student learns from its teacher: one loss per member, each added to cross-entropy.

A member of :data:`LOSSES` is a frozen dataclass, called with a batch of float32 tensors: logits
b×K and features b×F of student and teacher (F may differ between the two), labels b. It gives the
scalar knowledge loss alone; :class:`Total` adds cross-entropy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edge.errors import BadInput, check_member


class KnowledgeLoss(Protocol):
    """One way to compare a student with its teacher.

    ``needs_features`` says whether features are read at all. ``kd_weight`` and ``ce_weight`` are
    the weights that suit this loss where the user names none.
    """

    needs_features: ClassVar[bool]
    kd_weight: ClassVar[float]
    ce_weight: ClassVar[float]

    def __call__(
        self,
        student_logits: Tensor,
        student_features: Tensor | None,
        teacher_logits: Tensor,
        teacher_features: Tensor | None,
        labels: Tensor,
    ) -> Tensor: ...

    def adapter(self, student: int, teacher: int) -> nn.Module | None:
        """What turns features of width ``student`` into the teacher's, trained along; or None."""


class _NoAdapter:
    def adapter(self, student: int, teacher: int) -> nn.Module | None:
        """None: features are compared as they are."""
        return None


@dataclass(frozen=True)
class SoftTargets(_NoAdapter):
    """KL(teacher ‖ student) of softmax(logits / T), times T² (Hinton et al., 2015), mean per row.

    T² keeps the gradient's size independent of the temperature.
    """

    needs_features: ClassVar[bool] = False
    kd_weight: ClassVar[float] = 0.7
    ce_weight: ClassVar[float] = 0.3

    temperature: float = 4.0

    def __call__(
        self,
        student_logits: Tensor,
        student_features: Tensor | None,
        teacher_logits: Tensor,
        teacher_features: Tensor | None,
        labels: Tensor,
    ) -> Tensor:
        """Scalar ≥ 0; 0 where the two give the same probabilities."""
        student = F.log_softmax(student_logits / self.temperature, dim=1)
        teacher = F.log_softmax(teacher_logits / self.temperature, dim=1)
        divergence = F.kl_div(student, teacher, reduction="batchmean", log_target=True)
        return divergence * self.temperature**2


@dataclass(frozen=True)
class Similarity(_NoAdapter):
    """Similarity-preserving distillation (Tung & Mori, 2019): ‖G_T − G_S‖²_F / b².

    G = A·Aᵀ with each row divided by its L2 norm, where A (b×F) are the features: which rows of a
    batch resemble each other, whatever the width of the network. The paper's weight γ is 3,000 for
    long trainings; in the short ones here a tenth of it learns faster and ends no worse.
    """

    needs_features: ClassVar[bool] = True
    kd_weight: ClassVar[float] = 300.0
    ce_weight: ClassVar[float] = 1.0

    def __call__(
        self,
        student_logits: Tensor,
        student_features: Tensor | None,
        teacher_logits: Tensor,
        teacher_features: Tensor | None,
        labels: Tensor,
    ) -> Tensor:
        """Scalar ≥ 0; ValueError without features of both."""
        if student_features is None or teacher_features is None:
            raise ValueError("the similarity loss needs features of student and teacher, got None")
        difference = _similarities(teacher_features) - _similarities(student_features)
        return difference.square().mean()


@dataclass(frozen=True)
class Features:
    """‖A·f_S − f_T‖² / ‖f_T‖², sums over a batch: features through a linear adapter A.

    FitNets' hint (Romero et al., 2015) at the layer before the classifier. Divided by the size of
    the teacher's features, so that 1 is what an adapter of zeros gives, whatever their scale.
    """

    needs_features: ClassVar[bool] = True
    kd_weight: ClassVar[float] = 1.0
    ce_weight: ClassVar[float] = 1.0

    def __call__(
        self,
        student_logits: Tensor,
        student_features: Tensor | None,
        teacher_logits: Tensor,
        teacher_features: Tensor | None,
        labels: Tensor,
    ) -> Tensor:
        """Scalar ≥ 0; ValueError without features of both, of one width."""
        if student_features is None or teacher_features is None:
            raise ValueError("the features loss needs features of student and teacher, got None")
        if student_features.shape != teacher_features.shape:
            raise ValueError(
                f"features of {tuple(student_features.shape)} are compared with "
                f"{tuple(teacher_features.shape)}: pass them through the adapter first"
            )
        difference = (student_features - teacher_features).square().sum()
        return difference / teacher_features.square().sum().clamp_min(1e-12)

    def adapter(self, student: int, teacher: int) -> nn.Module | None:
        """A linear layer without bias."""
        return nn.Linear(student, teacher, bias=False)


@dataclass(frozen=True)
class NoKnowledge(_NoAdapter):
    """Nothing: the student learns from the labels alone."""

    needs_features: ClassVar[bool] = False
    kd_weight: ClassVar[float] = 0.0
    ce_weight: ClassVar[float] = 1.0

    def __call__(
        self,
        student_logits: Tensor,
        student_features: Tensor | None,
        teacher_logits: Tensor,
        teacher_features: Tensor | None,
        labels: Tensor,
    ) -> Tensor:
        """The scalar 0."""
        return student_logits.new_zeros(())


LOSSES: dict[str, type[SoftTargets] | type[Similarity] | type[Features] | type[NoKnowledge]] = {
    "features": Features,
    "none": NoKnowledge,
    "similarity": Similarity,
    "soft": SoftTargets,
}


@dataclass(frozen=True)
class Total:
    """ce_weight · cross-entropy + kd_weight · knowledge loss."""

    knowledge: KnowledgeLoss
    kd_weight: float
    ce_weight: float

    def __call__(
        self,
        student_logits: Tensor,
        student_features: Tensor | None,
        teacher_logits: Tensor,
        teacher_features: Tensor | None,
        labels: Tensor,
    ) -> Tensor:
        """The scalar that a student is trained on."""
        knowledge = self.knowledge(
            student_logits, student_features, teacher_logits, teacher_features, labels
        )
        total = self.kd_weight * knowledge
        return total + self.ce_weight * F.cross_entropy(student_logits, labels)


def build_loss(
    name: str,
    *,
    kd_weight: float | None = None,
    ce_weight: float | None = None,
    temperature: float = 4.0,
) -> Total:
    """The registered loss ``name`` with its weights; None takes those that suit it.

    BadInput for an unknown name, a negative weight or a temperature that is not above 0.
    """
    check_member("distillation loss", name, LOSSES)
    if not temperature > 0:
        raise out_of_range("temperature", temperature, "a number above 0")
    member = LOSSES[name]
    knowledge = member(temperature) if member is SoftTargets else member()
    kd_weight = knowledge.kd_weight if kd_weight is None else kd_weight
    ce_weight = knowledge.ce_weight if ce_weight is None else ce_weight
    for what, weight in (("kd_weight", kd_weight), ("ce_weight", ce_weight)):
        if not weight >= 0:
            raise out_of_range(what, weight, "a number of at least 0")
    return Total(knowledge, kd_weight, ce_weight)


def _similarities(features: Tensor) -> Tensor:
    rows = torch.flatten(features, 1)
    return F.normalize(rows @ rows.T, dim=1)


def out_of_range(what: str, value: float, bound: str) -> BadInput:
    """The error for a number of a recipe that is out of its range."""
    return BadInput(
        f"distillation's {what} is out of range", value=value, bound=bound, remedy="Change it."
    )
