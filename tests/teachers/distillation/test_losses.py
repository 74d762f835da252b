from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from edge.errors import BadInput
from teachers.distillation.losses import LOSSES, Features, Similarity, SoftTargets, build_loss

NONE = torch.zeros(1, dtype=torch.int64)


def test_soft_targets_by_hand() -> None:
    # T = 2. Teacher logits (2 ln 3, 0) → softmax(ln 3, 0) = (3/4, 1/4);
    # student logits (0, 0) → (1/2, 1/2).
    # KL = 3/4 ln(3/2) + 1/4 ln(1/2) = .130812; times T² = .523248.
    teacher = torch.tensor([[2 * math.log(3), 0.0]])
    student = torch.zeros(1, 2)
    loss = SoftTargets(temperature=2.0)(student, None, teacher, None, NONE)
    assert loss.item() == pytest.approx(4 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5)))
    # The mean over rows: a second row that agrees halves it.
    both = SoftTargets(2.0)(torch.zeros(2, 2), None, torch.cat([teacher, student]), None, NONE)
    assert both.item() == pytest.approx(loss.item() / 2)


def test_similarity_by_hand() -> None:
    # b = 2. Teacher A = [[1, 0], [0, 2]]: A·Aᵀ = [[1, 0], [0, 4]], rows normalised: [[1,0],[0,1]].
    # Student A = [[3], [4]]: A·Aᵀ = [[9, 12], [12, 16]], both rows normalised: (3/5, 4/5).
    # Differences: (2/5, -4/5), (-3/5, 1/5); squares .16 + .64 + .36 + .04 = 1.2; / b² = .3.
    teacher, student = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([[3.0], [4.0]])
    logits = torch.zeros(2, 3)
    loss = Similarity()(logits, student, logits, teacher, NONE)
    assert loss.item() == pytest.approx(0.3)


def test_similarity_sees_neither_width_nor_scale() -> None:
    torch.manual_seed(0)
    features = torch.randn(6, 4)
    wide = torch.cat([features, features], dim=1) * 7
    assert Similarity()(NONE, features, NONE, wide, NONE).item() == pytest.approx(0, abs=1e-12)


def test_similarity_needs_features() -> None:
    with pytest.raises(ValueError, match="needs features"):
        Similarity()(NONE, None, NONE, None, NONE)


def test_features_by_hand() -> None:
    # Teacher rows (3, 0) and (0, 4); student rows, adapted, (1, 0) and (0, 4).
    # ‖difference‖² = 2² = 4, ‖teacher‖² = 9 + 16 = 25; 4 / 25 = .16.
    teacher = torch.tensor([[3.0, 0.0], [0.0, 4.0]])
    student = torch.tensor([[1.0, 0.0], [0.0, 4.0]])
    logits = torch.zeros(2, 3)
    assert Features()(logits, student, logits, teacher, NONE).item() == pytest.approx(0.16)
    # Nothing learnt yet costs 1, whatever the scale of the teacher's features.
    nothing = torch.zeros(2, 2)
    assert Features()(logits, nothing, logits, 100 * teacher, NONE).item() == pytest.approx(1.0)


def test_features_of_another_width_need_the_adapter() -> None:
    student, teacher, logits = torch.randn(4, 3), torch.randn(4, 7), torch.zeros(4, 2)
    with pytest.raises(ValueError, match="through the adapter"):
        Features()(logits, student, logits, teacher, NONE)
    adapter = Features().adapter(3, 7)
    assert adapter is not None
    assert Features()(logits, adapter(student), logits, teacher, NONE).item() > 0
    # The adapter alone can bring the loss down: it is trained along.
    before = Features()(logits, adapter(student), logits, teacher, NONE)
    before.backward()  # type: ignore[no-untyped-call]
    with torch.no_grad():
        for weight in adapter.parameters():
            assert weight.grad is not None
            weight.sub_(0.1 * weight.grad)
    assert Features()(logits, adapter(student), logits, teacher, NONE).item() < before.item()


def test_features_are_needed() -> None:
    with pytest.raises(ValueError, match="needs features"):
        Features()(NONE, None, NONE, None, NONE)


def test_a_total_adds_cross_entropy() -> None:
    # Student logits 0 over 4 classes: cross-entropy ln 4, whatever the label.
    student, teacher = torch.zeros(3, 4), torch.zeros(3, 4)
    labels = torch.tensor([0, 1, 3])
    total = build_loss("soft", kd_weight=0.9, ce_weight=0.5)
    assert total(student, None, teacher, None, labels).item() == pytest.approx(0.5 * math.log(4))
    teacher[:, 0] = 5.0
    knowledge = total.knowledge(student, None, teacher, None, labels).item()
    assert knowledge > 0.1
    assert total(student, None, teacher, None, labels).item() == pytest.approx(
        0.9 * knowledge + 0.5 * math.log(4)
    )


@pytest.mark.parametrize("name", LOSSES)
class TestEveryLoss:
    """The contract of a member of the registry."""

    def _batch(self, name: str) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        generator = torch.Generator().manual_seed(4)
        adapter = LOSSES[name]().adapter(5, 9)

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator)

        features = draw(8, 5) if adapter is None else adapter(draw(8, 5)).detach()
        return draw(8, 3), features, draw(8, 3), draw(8, 9), torch.arange(8) % 3

    def test_is_a_scalar_that_is_not_negative(self, name: str) -> None:
        loss = build_loss(name).knowledge(*self._batch(name))
        assert loss.shape == ()
        assert loss.item() >= 0

    def test_is_zero_for_a_student_that_agrees(self, name: str) -> None:
        _, _, logits, features, labels = self._batch(name)
        loss = build_loss(name).knowledge(logits, features, logits, features, labels)
        assert loss.item() == pytest.approx(0, abs=1e-6)

    def test_the_total_has_a_finite_gradient(self, name: str) -> None:
        student, features, *rest = self._batch(name)
        weight = torch.ones(1, requires_grad=True)
        build_loss(name)(student * weight, features * weight, *rest).backward()  # type: ignore[no-untyped-call]
        assert weight.grad is not None
        assert torch.isfinite(weight.grad).all()

    def test_needs_no_features_unless_it_says_so(self, name: str) -> None:
        student, _, teacher, _, labels = self._batch(name)
        total = build_loss(name)
        if not total.knowledge.needs_features:
            assert torch.isfinite(total(student, None, teacher, None, labels))

    def test_own_weights_apply_where_none_are_given(self, name: str) -> None:
        total = build_loss(name)
        assert (total.kd_weight, total.ce_weight) == (
            LOSSES[name].kd_weight,
            LOSSES[name].ce_weight,
        )
        assert build_loss(name, kd_weight=0.0, ce_weight=2.0).ce_weight == 2.0


def test_bad_settings_are_named() -> None:
    with pytest.raises(BadInput, match="features, none, similarity, soft"):
        build_loss("hard")
    with pytest.raises(BadInput, match="temperature"):
        build_loss("soft", temperature=0)
    with pytest.raises(BadInput, match="kd_weight"):
        build_loss("soft", kd_weight=-1)
    with pytest.raises(BadInput, match="ce_weight"):
        build_loss("soft", ce_weight=math.nan)
